//! The head of an HTTP/1 answer, read as strictly as that of a request: what two readers could
//! frame differently is a fault.

use super::head::{Lines, has_control, is_token, trim_blanks};

/// A whole head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerHead<'a> {
    /// The status: three digits.
    pub status: u16,
    /// Whether it is of HTTP/1.1, and not of 1.0.
    pub http_11: bool,
    /// The reason phrase.
    pub reason: &'a str,
    /// The fields, in their order.
    pub fields: Vec<(&'a str, &'a [u8])>,
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
    /// Reads a whole head: status line, fields and the empty line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, AnswerFault> {
        let head = bytes.strip_suffix(b"\r\n\r\n").ok_or(AnswerFault::LineEnd)?;
        let mut lines = Lines::of(head);
        let status_line =
            lines.next().ok_or(AnswerFault::StatusLine)?.map_err(|_| AnswerFault::LineEnd)?;
        let (status, http_11, reason) =
            parse_status_line(status_line).ok_or(AnswerFault::StatusLine)?;
        let mut fields = Vec::with_capacity(16);
        for line in lines {
            if fields.len() >= MAX_FIELDS {
                return Err(AnswerFault::TooMany);
            }
            fields.push(
                parse_field(line.map_err(|_| AnswerFault::LineEnd)?).ok_or(AnswerFault::Field)?,
            );
        }
        Ok(Self { status, http_11, reason, fields })
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

fn parse_field(line: &[u8]) -> Option<(&str, &[u8])> {
    let (name, value) = line.split_at(memchr::memchr(b':', line)?);
    let value = trim_blanks(value.get(1..)?);
    if !is_token(name) || has_control(value) {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_whole() {
        let head =
            AnswerHead::parse(b"HTTP/1.1 200 All right\r\nA: b\r\na:  c\xe4\t \r\nempty:\r\n\r\n")
                .unwrap();
        assert_eq!((head.status, head.http_11, head.reason), (200, true, "All right"));
        assert_eq!(head.fields, [("A", &b"b"[..]), ("a", b"c\xe4"), ("empty", b"")]);
        for (text, reason) in [
            ("HTTP/1.0 404\r\n\r\n", ""),
            ("HTTP/1.0 404 \r\n\r\n", ""),
            ("HTTP/1.0 404 N\r\n\r\n", "N"),
        ] {
            let head = AnswerHead::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (head.status, head.http_11, head.reason, head.fields.len()),
                (404, false, reason, 0)
            );
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
            assert_eq!(AnswerHead::parse(text.as_bytes()), Err(fault), "{text:?}");
        }
    }
}
