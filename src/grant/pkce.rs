//! Proof Key for Code Exchange (RFC 7636), only S256: with `plain`, seeing the request is enough.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// An S256 challenge: 43 base64url characters (RFC 7636 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge(String);

impl Challenge {
    /// Parses `code_challenge` with its method.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn parse(challenge: &str, method: Option<&str>) -> Result<Self, &'static str> {
        // The default method is `plain` (RFC 7636 §4.3).
        if method != Some("S256") {
            return Err("code_challenge_method must be S256");
        }
        match URL_SAFE_NO_PAD.decode(challenge) {
            Ok(bytes) if bytes.len() == 32 => Ok(Self(challenge.to_owned())),
            _ => Err("code_challenge is not a SHA-256 in base64url without padding, which has 43 \
                    characters"),
        }
    }

    /// The challenge of a verifier.
    #[must_use]
    pub fn of(verifier: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())))
    }

    /// A challenge from the store.
    #[must_use]
    pub const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The challenge as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the verifier matches the challenge (RFC 7636 §4.6).
    #[must_use]
    pub fn proven_by(&self, verifier: &str) -> bool {
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let form = (43..=128).contains(&verifier.len()) && verifier.bytes().all(valid);
        let same: bool = Self::of(verifier).as_str().as_bytes().ct_eq(self.0.as_bytes()).into();
        form && same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636 appendix B.
    #[test]
    fn the_rfcs_example_proves_itself_and_nothing_else_does() {
        let challenge =
            Challenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", Some("S256")).unwrap();
        assert!(challenge.proven_by("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        for wrong in [
            "",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjX",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ] {
            assert!(!challenge.proven_by(wrong), "{wrong}");
        }
        // A short verifier is not valid, even if its digest is right.
        let short = Challenge::stored(URL_SAFE_NO_PAD.encode(Sha256::digest(b"short")));
        assert!(!short.proven_by("short"));
    }

    #[test]
    fn plain_and_malformed_challenges_are_refused() {
        let good = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        for (challenge, method) in [
            (good, None),
            (good, Some("plain")),
            (good, Some("s256")),
            ("short", Some("S256")),
            ("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM=", Some("S256")),
            ("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM", Some("S256")),
        ] {
            assert!(Challenge::parse(challenge, method).is_err(), "{challenge} {method:?}");
        }
    }
}
