//! The credential of an API call: exactly one bearer token in the Authorization header (RFC 6750
//! §2.1).

use std::fmt;

use crate::reason::{Reason, Refusal};

/// Longest token that a setting may let through, in bytes.
pub const MAX_TOKEN: usize = 64 * 1024;

/// A bearer token as presented. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Box<str>);

impl BearerToken {
    /// Takes a `b64token` (RFC 6750 §2.1).
    ///
    /// # Errors
    /// `token.malformed` for other characters, an empty token, or one over [`MAX_TOKEN`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = |why| Err(Refusal::because(Reason::TokenMalformed, why));
        if text.len() > MAX_TOKEN {
            return malformed("the token is longer than 64 KiB");
        }
        let body = text.trim_end_matches('=');
        // Looked at without a way out in the middle, so that many bytes are looked at together.
        let valid = body.bytes().fold(true, |valid, byte| valid & is_token68(byte));
        if body.is_empty() || !valid {
            return malformed("the token has characters outside the b64token of RFC 6750");
        }
        Ok(Self(text.into()))
    }

    /// The token's text. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// `token68` without its padding (RFC 9110 §11.2), the same as `b64token`.
const fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || byte == b'-'
        || byte == b'.'
        || byte == b'_'
        || byte == b'~'
        || byte == b'+'
        || byte == b'/'
}

/// Reads the values of all Authorization lines of a request. The scheme is compared without case
/// (RFC 9110 §11.1).
///
/// # Errors
/// `token.missing` without a line or with another scheme, `token.several` with two,
/// `token.malformed` when the text after `Bearer` is no token, or one of more than `most` bytes.
pub fn bearer<'a>(
    mut values: impl Iterator<Item = &'a [u8]>,
    most: usize,
) -> Result<BearerToken, Refusal> {
    let Some(value) = values.next() else { return Err(Refusal::new(Reason::TokenMissing)) };
    if values.next().is_some() {
        return Err(Refusal::new(Reason::TokenSeveral));
    }
    let Ok(value) = std::str::from_utf8(value) else {
        return Err(Refusal::because(
            Reason::TokenMalformed,
            "the Authorization header is not ASCII",
        ));
    };
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::because(
            Reason::TokenMissing,
            "the Authorization scheme is not Bearer",
        ));
    }
    let token = rest.trim_start_matches(' ');
    if token.len() > most {
        let text = format!("{} bytes, over edge.max_token_size: {most}", token.len());
        return Err(Refusal::because(Reason::TokenMalformed, text));
    }
    BearerToken::parse(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1_000;

    fn read(values: &[&str]) -> Result<String, Reason> {
        bearer(values.iter().map(|value| value.as_bytes()), MOST)
            .map(|token| token.expose().to_owned())
            .map_err(|refusal| refusal.reason)
    }

    #[test]
    fn exactly_one_bearer_token_is_a_credential() {
        for (values, expect) in [
            (&["Bearer abc"][..], Ok("abc")),
            (&["bearer abc"], Ok("abc")),
            (&["BEARER  a.b-c_d~e+f/g=="], Ok("a.b-c_d~e+f/g==")),
            (&[], Err(Reason::TokenMissing)),
            (&["Basic abc"], Err(Reason::TokenMissing)),
            (&["Bearerabc"], Err(Reason::TokenMissing)),
            (&["Bearer a", "Bearer a"], Err(Reason::TokenSeveral)),
            (&["Bearer a", "Basic b"], Err(Reason::TokenSeveral)),
            (&["Bearer"], Err(Reason::TokenMalformed)),
            (&["Bearer "], Err(Reason::TokenMalformed)),
            (&["Bearer a b"], Err(Reason::TokenMalformed)),
            (&["Bearer a, Bearer b"], Err(Reason::TokenMalformed)),
            (&["Bearer a=b"], Err(Reason::TokenMalformed)),
            (&["Bearer \u{e4}"], Err(Reason::TokenMalformed)),
            (&["Bearer {}"], Err(Reason::TokenMalformed)),
        ] {
            assert_eq!(read(values).as_deref().map_err(|reason| *reason), expect, "{values:?}");
        }
        for (length, is_taken) in [(MOST, true), (MOST + 1, false)] {
            let value = format!("Bearer {}", "a".repeat(length));
            assert_eq!(read(&[&value]).is_ok(), is_taken, "{length}");
        }
        assert!(BearerToken::parse(&"a".repeat(MAX_TOKEN + 1)).is_err());
    }

    #[test]
    fn a_token_does_not_show_itself() {
        assert_eq!(format!("{:?}", BearerToken::parse("secret").unwrap()), "BearerToken(..)");
    }
}
