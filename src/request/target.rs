//! The request target in its one canonical form: what is matched is byte for byte what is
//! forwarded.
//!
//! Refuse, never repair (decisions.md, note 1). Only two things are rewritten: hex digits of
//! escapes become upper case, and escaped unreserved characters other than the dot are decoded (RFC
//! 3986 §6.2.2.1, §6.2.2.2).

mod segment;

use std::borrow::Cow;

use crate::reason::{Reason, Refusal};
use segment::Encoding;

/// Longest target taken by default, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;

/// What an API allows inside one of its path segments although readers differ on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Allowances {
    /// `;` is a plain character.
    pub semicolon: bool,
    /// `%2F` is a plain character.
    pub encoded_slash: bool,
    /// `%25` is a plain character.
    pub encoded_percent: bool,
    /// Escapes need not be UTF-8.
    pub non_utf8: bool,
}

impl Allowances {
    /// Everything that some API may allow: the first pass uses it, the API's own are held against
    /// what was seen.
    const ALL: Self =
        Self { semicolon: true, encoded_slash: true, encoded_percent: true, non_utf8: true };

    /// Whether everything used is allowed.
    #[must_use]
    pub const fn covers(self, used: Self) -> bool {
        (self.semicolon || !used.semicolon)
            && (self.encoded_slash || !used.encoded_slash)
            && (self.encoded_percent || !used.encoded_percent)
            && (self.non_utf8 || !used.non_utf8)
    }
}

/// What an API allows raw in a query although no URI holds it (RFC 3986 appendix A).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueryAllowances {
    /// `"`, `<` and `>`.
    pub quotes: bool,
    /// Non-ASCII characters as UTF-8.
    pub utf8: bool,
}

impl QueryAllowances {
    /// Whether everything used is allowed.
    #[must_use]
    pub const fn covers(self, used: Self) -> bool {
        (self.quotes || !used.quotes) && (self.utf8 || !used.utf8)
    }
}

/// Longest target that the libraries below us carry, in bytes.
const MOST_CARRIED: usize = 65_000;

/// A canonical path with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_len: usize,
    used: Allowances,
    in_query: QueryAllowances,
    reserved: bool,
}

impl Target {
    /// Parses an origin-form target, byte for byte as it came over the wire (RFC 9112 §3.2.1).
    ///
    /// # Errors
    /// `path.ambiguous` for a path that two readers could understand differently;
    /// `request.malformed` for bytes no target may hold; `request.target` for one over `max_bytes`.
    pub fn parse(raw: &[u8], max_bytes: usize) -> Result<Self, Refusal> {
        if raw.len() > max_bytes {
            return Err(Refusal::new(Reason::RequestTarget));
        }
        let (path, query) = match raw.iter().position(|b| *b == b'?') {
            Some(at) => raw.split_at(at),
            None => (raw, [].as_slice()),
        };
        if path.first() != Some(&b'/') {
            return Err(Refusal::because(
                Reason::RequestMalformed,
                "the target does not begin with a slash",
            ));
        }
        let mut text = String::with_capacity(raw.len());
        let (mut used, mut reserved) = (Allowances::default(), false);
        if let Some(path) = plain(path) {
            text.push_str(path);
        } else {
            used = canonicalise(path, &mut text)?;
            used.non_utf8 = check_segments(&text)? == Encoding::Other;
            reserved = has_escaped_reserved(&text);
        }
        let path_len = text.len();
        let in_query = push_query(query, &mut text)?;
        let target = Self { text, path_len, used, in_query, reserved };
        if in_query.quotes && target.carried().len() > MOST_CARRIED {
            return Err(Refusal::new(Reason::RequestTarget));
        }
        Ok(target)
    }

    /// Path and query as the libraries below us carry them: they take no `"`, `<` and `>`, which
    /// are escaped there. What is forwarded is never read from them.
    #[must_use]
    pub fn carried(&self) -> Cow<'_, str> {
        if !self.in_query.quotes {
            return Cow::Borrowed(&self.text);
        }
        Cow::Owned(self.text.replace('"', "%22").replace('<', "%3C").replace('>', "%3E"))
    }

    /// Whether its query has what [`Target::carried`] escapes.
    #[must_use]
    pub const fn has_quotes(&self) -> bool {
        self.in_query.quotes
    }

    /// Whether the query has only what is allowed there.
    ///
    /// # Errors
    /// `request.malformed`, which names the first byte that is not, and the key that lets it.
    pub fn check_query(&self, allow: QueryAllowances) -> Result<(), Refusal> {
        if allow.covers(self.in_query) {
            return Ok(());
        }
        let wrong =
            |byte: &u8| (!allow.utf8 && !byte.is_ascii()) || (!allow.quotes && is_quote(*byte));
        let byte = self.query().unwrap_or_default().bytes().find(wrong).unwrap_or_default();
        let key = if byte.is_ascii() { "quotes" } else { "utf8" };
        Err(Refusal::because(
            Reason::RequestMalformed,
            format!(
                "the byte {byte:#04X} in the query: it is sent as %{byte:02X}, or an API lets it \
                    with \
                    `query: {{ allow: [{key}] }}`"
            ),
        ))
    }

    /// The canonical path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.split_at_checked(self.path_len).map_or("", |(path, _)| path)
    }

    /// The query as it came, without the question mark; `None` when there was no question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.text.split_at_checked(self.path_len).and_then(|(_, query)| query.strip_prefix('?'))
    }

    /// Path and query: what is forwarded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The characters used that an API has to allow.
    #[must_use]
    pub const fn used(&self) -> Allowances {
        self.used
    }

    /// Whether the path has an escape of a character that templates may have plain: `: @ ! $ & ' (
    /// ) * + , =` (RFC 3986 §2.2). [`decode_reserved`] gives a segment as servers read it that do
    /// not tell the two apart.
    #[must_use]
    pub const fn has_escaped_reserved(&self) -> bool {
        self.reserved
    }

    /// Whether the query carries a token (RFC 6750 §2.3, which we refuse). Names are compared after
    /// decoding; fields end at `&`, and at `;` for readers that know both.
    #[must_use]
    pub fn has_token_in_query(&self) -> bool {
        // Most queries have neither an escape nor the word, and are not parsed.
        let suspect = self
            .query()
            .filter(|query| query.contains('%') || query.contains("_t") || query.contains("_T"));
        let named = |fields: &str| {
            url::form_urlencoded::parse(fields.as_bytes())
                .any(|(name, _)| name.eq_ignore_ascii_case("access_token"))
        };
        suspect.is_some_and(|query| named(query) || query.split(';').any(named))
    }
}

/// A segment with its escapes of `: @ ! $ & ' ( ) * + , =` decoded; others stay.
#[must_use]
pub fn decode_reserved(segment: &str) -> String {
    let mut decoded = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((before, escaped)) = rest.split_once('%') {
        decoded.push_str(before);
        let (digits, tail) = escaped.split_at_checked(2).unwrap_or((escaped, ""));
        if let Some(plain) = reserved(digits) {
            decoded.push(plain);
        } else {
            decoded.push('%');
            decoded.push_str(digits);
        }
        rest = tail;
    }
    decoded.push_str(rest);
    decoded
}

/// The reserved character that the digits of a canonical escape stand for, of those that a path may
/// have plain.
fn reserved(digits: &str) -> Option<char> {
    Some(match digits {
        "3A" => ':',
        "40" => '@',
        "21" => '!',
        "24" => '$',
        "26" => '&',
        "27" => '\'',
        "28" => '(',
        "29" => ')',
        "2A" => '*',
        "2B" => '+',
        "2C" => ',',
        "3D" => '=',
        _ => return None,
    })
}

fn has_escaped_reserved(path: &str) -> bool {
    path.split('%')
        .skip(1)
        .any(|escaped| escaped.get(..2).is_some_and(|digits| reserved(digits).is_some()))
}

const fn ambiguous(why: &'static str) -> Refusal {
    Refusal {
        reason: Reason::PathAmbiguous,
        fault: crate::reason::Fault::Text(Cow::Borrowed(why)),
        remedy: crate::reason::Remedy::None,
    }
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The path itself where it plainly is canonical, as nearly all are: only characters that stay as
/// they are, no segment that is empty or begins with a dot. What this does not say yes to is read
/// with care.
fn plain(path: &[u8]) -> Option<&str> {
    let mut before = 0;
    for byte in path {
        if before == b'/' && matches!(byte, b'/' | b'.')
            || !PLAIN.get(usize::from(*byte)).is_some_and(|plain| *plain)
        {
            return None;
        }
        before = *byte;
    }
    std::str::from_utf8(path).ok()
}

/// `pchar` and the slash, without `%` and `;` (RFC 3986 §3.3).
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "counted below 256")]
        let plain = matches!(byte as u8,
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@');
        #[expect(clippy::indexing_slicing, reason = "counted below 256, at compile time")]
        {
            table[byte] = plain;
        }
        byte += 1;
    }
    table
};

/// Writes the canonical path; segments are looked at afterwards, on the result.
fn canonicalise(path: &[u8], out: &mut String) -> Result<Allowances, Refusal> {
    let mut used = Allowances::default();
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let escaped = match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(ambiguous("an escape that is not two hex digits")),
                };
                push_escape(escaped, &mut used, out)?;
            }
            b';' => {
                used.semicolon = true;
                out.push(';');
            }
            b'/'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'0'..=b'9'
            | b'A'..=b'Z'
            | b'a'..=b'z'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b'='
            | b':'
            | b'@' => {
                out.push(char::from(byte));
            }
            b'\\' => return Err(ambiguous("a backslash in the path")),
            b'#' => return Err(ambiguous("a fragment in the target")),
            0..=0x20 | 0x7f.. => {
                return Err(ambiguous("a space, control or non-ASCII byte in the path"));
            }
            _ => return Err(ambiguous("a character that a path may hold only as an escape")),
        }
    }
    Ok(used)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn push_escape(escaped: u8, used: &mut Allowances, out: &mut String) -> Result<(), Refusal> {
    match escaped {
        b'-' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
            out.push(char::from(escaped));
            return Ok(());
        }
        b'.' => return Err(ambiguous("an encoded dot")),
        b'\\' => return Err(ambiguous("an encoded backslash")),
        0..=0x1f | 0x7f => return Err(ambiguous("an encoded control character")),
        b'/' => used.encoded_slash = true,
        b'%' => used.encoded_percent = true,
        // An encoded semicolon is a semicolon to readers that decode before they split off
        // parameters.
        b';' => used.semicolon = true,
        _ => {}
    }
    out.push('%');
    for nibble in [escaped >> 4, escaped & 15] {
        out.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0')));
    }
    Ok(())
}

/// Refuses dot segments and empty segments, in every reading. A trailing slash is kept: it is
/// another resource.
fn check_segments(path: &str) -> Result<Encoding, Refusal> {
    let mut encoding = Encoding::Utf8;
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        // What an API allows as plain characters, the server behind it may still split at: no piece
        // may be a dot segment.
        for piece in pieces(segment) {
            if segment::check(piece)? == Encoding::Other {
                encoding = Encoding::Other;
            }
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Err(ambiguous("an empty segment"));
        }
    }
    Ok(encoding)
}

/// The parts of a segment between semicolons and slashes, literal or encoded.
fn pieces(segment: &str) -> impl Iterator<Item = &str> {
    segment.split(';').flat_map(|part| part.split("%3B")).flat_map(|part| part.split("%2F"))
}

const fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>')
}

/// Appends the query as it came, and tells what of it an API has to allow.
fn push_query(query: &[u8], out: &mut String) -> Result<QueryAllowances, Refusal> {
    let mut used = QueryAllowances::default();
    let never = |byte: u8, why: &str| {
        let text = format!("the byte {byte:#04X} in the query: {why}, it is sent as %{byte:02X}");
        Refusal::because(Reason::RequestMalformed, text)
    };
    for byte in query {
        match byte {
            b'#' => return Err(ambiguous("a fragment in the target")),
            b'"' | b'<' | b'>' => used.quotes = true,
            0x21..=0x7e => {}
            0x80.. => used.utf8 = true,
            _ => return Err(never(*byte, "no API lets a space or control byte")),
        }
    }
    match std::str::from_utf8(query) {
        Ok(query) => out.push_str(query),
        Err(fault) => {
            let byte = query.get(fault.valid_up_to()).copied().unwrap_or_default();
            return Err(never(byte, "no API lets what is no UTF-8"));
        }
    }
    Ok(used)
}

/// Whether every character of a configured path is one that the canonical form keeps as it is.
#[must_use]
pub fn is_canonical_path(path: &str) -> bool {
    Target::parse(path.as_bytes(), usize::MAX).is_ok_and(|target| {
        !path.contains('?') && target.as_str() == path && Allowances::ALL.covers(target.used())
    })
}

#[cfg(test)]
mod tests;
