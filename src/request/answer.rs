//! The head of an HTTP/1 answer, read as strictly as that of a request: what two readers could
//! frame differently is a fault.

use super::fields::{Fields, Line, Text};
use super::head::{Lines, has_control, is_token, trim_blanks};

/// A whole head.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'a> {
    /// The status: three digits.
    pub status: u16,
    /// Whether it is of HTTP/1.1, and not of 1.0.
    pub http_11: bool,
    /// The reason phrase.
    pub reason: &'a str,
    /// The fields, in their order.
    text: Text<'a>,
}

impl Fields for AnswerHead<'_> {
    fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.text.lines()
    }
}

/// Why a head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// A line ends without CRLF, or holds a CR or LF of its own (RFC 9112 §2.2).
    #[error("a line of the head does not end with CRLF")]
    LineEnd,
    /// Not `HTTP/1.x SP status SP reason` (RFC 9112 §4).
    #[error("the status line is not HTTP/1.x, a status and a reason")]
    StatusLine,
    /// Not `name: value`, or a folded line (RFC 9112 §5).
    #[error("a header line that is not name: value")]
    Field,
    /// More fields than are taken.
    #[error("more than {MAX_FIELDS} header lines")]
    TooMany,
}

/// Most fields of a head.
const MAX_FIELDS: usize = 256;

impl<'a> AnswerHead<'a> {
    /// Reads a whole head: status line, fields and the empty line. Names become lower case where
    /// they stand; `lines` is room for where they do.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a mut [u8], lines: &'a mut Vec<Line>) -> Result<Self, AnswerFault> {
        lines.clear();
        let head = bytes.strip_suffix(b"\r\n\r\n").ok_or(AnswerFault::LineEnd)?;
        let mut found = Lines::of(head);
        let status_line =
            found.next().ok_or(AnswerFault::StatusLine)?.map_err(|_| AnswerFault::LineEnd)?;
        parse_status_line(status_line).ok_or(AnswerFault::StatusLine)?;
        let status_end = status_line.len();
        let mut at = status_end + 2;
        for line in found {
            if lines.len() >= MAX_FIELDS {
                return Err(AnswerFault::TooMany);
            }
            let line = line.map_err(|_| AnswerFault::LineEnd)?;
            lines.push(parse_field(line, at).ok_or(AnswerFault::Field)?);
            at += line.len() + 2;
        }
        let text = Text::of(bytes, lines);
        let status_line = text.bytes.get(..status_end).unwrap_or_default();
        let (status, http_11, reason) =
            parse_status_line(status_line).ok_or(AnswerFault::StatusLine)?;
        Ok(Self { status, http_11, reason, text })
    }
}

/// Some servers leave the blank out where they give no reason.
fn parse_status_line(line: &[u8]) -> Option<(u16, bool, &str)> {
    let (version, rest) = line.split_at_checked(9)?;
    let http_11 = match version {
        b"HTTP/1.1 " => true,
        b"HTTP/1.0 " => false,
        _ => return None,
    };
    let (digits, reason) = rest.split_at_checked(3)?;
    let status = digits
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())??;
    let reason = match reason {
        [] => reason,
        [b' ', reason @ ..] => reason,
        _ => return None,
    };
    let reason = if has_control(reason) {
        return None;
    } else {
        std::str::from_utf8(reason).unwrap_or_default()
    };
    Some((status, http_11, reason))
}

fn parse_field(line: &[u8], at: usize) -> Option<Line> {
    let name = memchr::memchr(b':', line)?;
    let behind = line.get(name + 1..)?;
    let value = trim_blanks(behind);
    if !is_token(line.get(..name)?) || has_control(value) {
        return None;
    }
    let blanks = behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let value_at = at + name + 1 + blanks;
    Some(Line::new((at, at + name), (value_at, value_at + value.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = (u16, bool, String, Vec<(String, Vec<u8>)>);

    fn read(text: &str) -> Result<Seen, AnswerFault> {
        read_bytes(text.as_bytes())
    }

    fn read_bytes(text: &[u8]) -> Result<Seen, AnswerFault> {
        let (mut bytes, mut lines) = (text.to_vec(), Vec::new());
        let head = AnswerHead::parse(&mut bytes, &mut lines)?;
        let fields = head.lines().map(|(name, value)| (name.to_owned(), value.to_vec()));
        Ok((head.status, head.http_11, head.reason.to_owned(), fields.collect()))
    }

    #[test]
    fn a_head_is_read_whole() {
        let (status, http_11, reason, fields) =
            read_bytes(b"HTTP/1.1 200 All right\r\nA: b\r\na:  c\xe4\t \r\nempty: \r\n\r\n")
                .unwrap();
        assert_eq!((status, http_11, reason.as_str()), (200, true, "All right"));
        let expect = [("a", &b"b"[..]), ("a", b"c\xe4"), ("empty", b"")];
        assert_eq!(fields, expect.map(|(name, value)| (name.to_owned(), value.to_vec())));
        for (text, reason) in [
            ("HTTP/1.0 404\r\n\r\n", ""),
            ("HTTP/1.0 404 \r\n\r\n", ""),
            ("HTTP/1.0 404 N\r\n\r\n", "N"),
        ] {
            assert_eq!(read(text), Ok((404, false, reason.to_owned(), Vec::new())));
        }
    }

    #[test]
    fn what_two_readers_could_frame_differently_is_a_fault() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        for (text, fault) in [
            ("HTTP/1.1 200 OK\nA: b\r\n\r\n", AnswerFault::LineEnd),
            ("HTTP/1.1 200 OK\r\nA: b\n\r\n", AnswerFault::LineEnd),
            ("HTTP/1.1 200 OK\r\nA: b\n\n", AnswerFault::LineEnd),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\n", AnswerFault::LineEnd),
            ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", AnswerFault::LineEnd),
            ("HTTP/1.1 200 OK\rA: b\r\n\r\n", AnswerFault::LineEnd),
            ("HTTP/2 200 OK\r\n\r\n", AnswerFault::StatusLine),
            ("HTTP/1.1 20 OK\r\n\r\n", AnswerFault::StatusLine),
            ("HTTP/1.1 2000\r\n\r\n", AnswerFault::StatusLine),
            ("HTTP/1.1 +20 OK\r\n\r\n", AnswerFault::StatusLine),
            ("HTTP/1.1  200 OK\r\n\r\n", AnswerFault::StatusLine),
            ("http/1.1 200 OK\r\n\r\n", AnswerFault::StatusLine),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", AnswerFault::StatusLine),
            ("HTTP/1.1 200 O\0K\r\n\r\n", AnswerFault::StatusLine),
            ("ICY 200 OK\r\n\r\n", AnswerFault::StatusLine),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", AnswerFault::Field),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", AnswerFault::Field),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", AnswerFault::Field),
            ("HTTP/1.1 200 OK\r\nnone\r\n\r\n", AnswerFault::Field),
            ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", AnswerFault::Field),
            ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", AnswerFault::Field),
            (&many, AnswerFault::TooMany),
        ] {
            assert_eq!(read(text), Err(fault), "{text:?}");
        }
    }
}
