//! What an upstream may answer: what readers behind us could frame otherwise is refused, as it is
//! of clients.

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

/// Largest head of an answer, in bytes.
pub const MOST: usize = 64 * 1024;

/// Checks the head of an answer.
///
/// # Errors
/// It is too large, or its body has no clear end (RFC 9112 §6).
pub fn check(head: &mut ResponseHeader) -> Result<()> {
    let size: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    let odd = codings.next().is_some()
        || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().is_none_or(|length| length_of(length).is_some());
    // Both a length and chunks: of two readers each may believe the other one (RFC 9112 §6.1).
    let both = coding.is_some() && head.headers.contains_key(CONTENT_LENGTH);
    // Readers of HTTP/1.0 know no chunks.
    let both = both || (coding.is_some() && head.version == http::Version::HTTP_10);
    let odd = odd || both || !length || lengths.next().is_some();
    if size > MOST || odd || head.status.as_u16() > 599 {
        return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
    }
    if head.status.is_informational() || head.status == http::StatusCode::NO_CONTENT {
        // They have no body, and no word of one (RFC 9112 §6.1, RFC 9110 §8.6).
        head.remove_header(&TRANSFER_ENCODING);
        head.remove_header(&CONTENT_LENGTH);
    } else if head.status == http::StatusCode::RESET_CONTENT {
        // Nor has this one (RFC 9110 §15.3.6), which browsers take for ended with its head: what
        // came behind it would be the next answer.
        head.remove_header(&TRANSFER_ENCODING);
        head.insert_header(CONTENT_LENGTH, "0")?;
    }
    Ok(())
}

/// The value of a `content-length`: digits alone, and no more than can be counted.
#[must_use]
pub fn length_of(value: &HeaderValue) -> Option<u64> {
    let digits =
        value.to_str().ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(status: u16, fields: &[(&'static str, &str)]) -> Option<usize> {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        check(&mut head).ok().map(|()| head.headers.len())
    }

    #[test]
    fn answers_whose_end_is_unclear_are_refused() {
        let large = "x".repeat(40_000);
        for (status, fields, expect) in [
            (200, &[("content-length", "5")][..], Some(1)),
            (200, &[("transfer-encoding", "Chunked")], Some(1)),
            (200, &[("transfer-encoding", "gzip, chunked")], None),
            (200, &[("transfer-encoding", "gzip")], None),
            (200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], None),
            (200, &[("content-length", "5"), ("content-length", "5")], None),
            (200, &[("content-length", "5, 5")], None),
            (200, &[("content-length", "5"), ("transfer-encoding", "chunked")], None),
            (200, &[("content-length", "")], None),
            (200, &[("content-length", "+5")], None),
            (200, &[("content-length", "18446744073709551616")], None),
            (204, &[("content-length", "5"), ("x", "y")], Some(1)),
            (205, &[("transfer-encoding", "chunked"), ("x", "y")], Some(2)),
            (103, &[("transfer-encoding", "chunked")], Some(0)),
            (200, &[("x", &large), ("y", &large)], None),
            (999, &[], None),
        ] {
            assert_eq!(checked(status, fields), expect, "{status} {fields:?}");
        }
    }
}
