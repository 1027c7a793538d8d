//! The lines of a head, wherever they are kept: as bytes that came, or in a map.

use http::HeaderMap;

/// The lines of a head, names in lower case (RFC 9110 §5.1).
pub trait Fields {
    /// Every line: its name and its value.
    fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// Every line, with its name as text.
    fn lines(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // No name is read that is no text.
        self.bytes().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// The values of all lines of a name, which is in lower case.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.bytes().filter(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// The value of the first line of a name.
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.bytes().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// Whether there is a line of a name.
    fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Whether a line of a name has this word in its list, in any case.
    fn names(&self, name: &str, word: &[u8]) -> bool {
        let mut named = self.all(name).flat_map(|line| line.split(|byte| *byte == b','));
        named.any(|found| found.trim_ascii().eq_ignore_ascii_case(word))
    }
}

impl Fields for HeaderMap {
    fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }

    fn first(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(http::HeaderValue::as_bytes)
    }
}

/// Where a line stands in the head it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    name: (u32, u32),
    value: (u32, u32),
}

impl Line {
    /// A line of a name and a value, each by where it begins and ends.
    #[must_use]
    pub fn new(name: (usize, usize), value: (usize, usize)) -> Self {
        // No head is read that is longer than can be counted so.
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { name: (short(name.0), short(name.1)), value: (short(value.0), short(value.1)) }
    }
}

/// A head as it came, and where its lines stand in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    lines: &'a [Line],
}

impl<'a> Text<'a> {
    /// The lines of a head, their names made lower case where they stand.
    pub(super) fn of(bytes: &'a mut [u8], lines: &'a [Line]) -> Self {
        for line in lines {
            if let Some(name) = bytes.get_mut(line.name.0 as usize..line.name.1 as usize) {
                name.make_ascii_lowercase();
            }
        }
        Self { bytes, lines }
    }

    pub(super) fn lines(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let Text { bytes, lines } = self;
        lines.iter().filter_map(move |line| {
            let name = bytes.get(line.name.0 as usize..line.name.1 as usize)?;
            Some((name, bytes.get(line.value.0 as usize..line.value.1 as usize)?))
        })
    }
}

/// The head of a request as it came. It is kept from one request of a connection to the next, so
/// that its room is made once.
#[derive(Debug, Default)]
pub struct HeadText {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

/// Room that is kept for the next head.
const KEPT: usize = 4 * 1024;

impl HeadText {
    /// Takes in a head that was read; what was here before is given back as room.
    pub fn put(&mut self, bytes: &mut Vec<u8>, lines: &mut Vec<Line>) {
        std::mem::swap(&mut self.bytes, bytes);
        std::mem::swap(&mut self.lines, lines);
        bytes.clear();
        lines.clear();
        if bytes.capacity() > KEPT {
            *bytes = Vec::new();
        }
        let _ = Text::of(&mut self.bytes, &self.lines);
    }

    /// The target of the request line, as it came.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let begin = line.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
        let end = line.iter().rposition(|byte| *byte == b' ').unwrap_or(begin);
        line.get(begin..end).unwrap_or_default()
    }
}

impl Fields for HeadText {
    fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        Text { bytes: &self.bytes, lines: &self.lines }.lines()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &impl Fields) {
        assert_eq!(fields.first("host"), Some(&b"a"[..]));
        assert_eq!(fields.all("connection").collect::<Vec<_>>(), [&b"x, Close"[..], b"y"]);
        assert!(fields.names("connection", b"close") && !fields.names("connection", b"z"));
        assert!(fields.has("host") && !fields.has("cookie"));
    }

    #[test]
    fn lines_are_found_by_name_in_text_and_map() {
        let text = b"GET / HTTP/1.1\r\nHOST: a\r\nConnection: x, Close\r\nconnection: y\r\n\r\n";
        let lines = vec![
            Line::new((16, 20), (22, 23)),
            Line::new((25, 35), (37, 45)),
            Line::new((47, 57), (59, 60)),
        ];
        let mut head = HeadText::default();
        head.put(&mut text.to_vec(), &mut lines.clone());
        let mut map = HeaderMap::new();
        for (name, value) in head.lines() {
            map.append(
                http::HeaderName::try_from(name).unwrap(),
                http::HeaderValue::from_bytes(value).unwrap(),
            );
        }
        assert_eq!(map.len(), 3);
        check(&head);
        check(&map);
    }
}
