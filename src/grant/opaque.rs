//! Values that have meaning only to us: authorization codes, refresh tokens, opaque access tokens,
//! session cookies. 256 random bits after a prefix that names the kind; the store keeps a digest,
//! by kind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of randomness in a value (RFC 6749 §10.10 asks for at most one chance in 2^160).
pub const RANDOM: usize = 32;
/// Characters after the prefix.
const TEXT: usize = 43;

/// SHA-256 of a value, prefix included.
pub type ValueDigest = [u8; 32];

/// The purpose of a value. A value of one kind is never accepted as another: its prefix is part of
/// the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An authorization code (RFC 6749 §4.1.2).
    Code,
    /// A refresh token (RFC 6749 §1.5).
    Refresh,
    /// An access token of the opaque format.
    Access,
    /// The cookie of a login.
    Session,
    /// The value that returns a login at an external page to the browser.
    Login,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Code, Self::Refresh, Self::Access, Self::Session, Self::Login];

    /// The prefix of values of this kind.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Code => "sgc_",
            Self::Refresh => "sgr_",
            Self::Access => "sga_",
            Self::Session => "sgs_",
            Self::Login => "sgl_",
        }
    }

    /// Makes a value from random bytes.
    #[must_use]
    pub fn make(self, random: &[u8; RANDOM]) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.prefix().len() + TEXT));
        text.push_str(self.prefix());
        URL_SAFE_NO_PAD.encode_string(random, &mut text);
        text
    }

    /// The digest under which a presented value would be stored; `None` if the text is not of this
    /// kind.
    #[must_use]
    pub fn digest(self, presented: &str) -> Option<ValueDigest> {
        self.bytes(presented)?;
        Some(Sha256::digest(presented.as_bytes()).into())
    }

    /// The random bytes of a value.
    fn bytes(self, presented: &str) -> Option<[u8; RANDOM]> {
        let text = presented.strip_prefix(self.prefix()).filter(|text| text.len() == TEXT)?;
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
    }
}

/// Encrypts or decrypts the random bytes of a refresh token's successor with a pad derived from the
/// token: the store reveals neither. The pad is used once, because a token has one successor.
#[must_use]
pub fn seal(token: &str, successor: &[u8; RANDOM]) -> [u8; RANDOM] {
    let mut hash = Sha256::new();
    hash.update(b"successor of ");
    hash.update(token.as_bytes());
    let mut sealed: [u8; RANDOM] = hash.finalize().into();
    sealed.iter_mut().zip(successor).for_each(|(pad, byte)| *pad ^= byte);
    sealed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_one_kind_is_no_value_of_another() {
        let random = [7; RANDOM];
        for kind in [Kind::Code, Kind::Refresh, Kind::Access, Kind::Session] {
            let value = kind.make(&random);
            for other in [Kind::Code, Kind::Refresh, Kind::Access, Kind::Session] {
                assert_eq!(other.digest(&value).is_some(), other == kind, "{kind:?} as {other:?}");
            }
        }
        let digests: std::collections::HashSet<_> = [Kind::Code, Kind::Refresh, Kind::Access]
            .map(|kind| kind.digest(&kind.make(&random)).unwrap())
            .into();
        assert_eq!(
            digests.len(),
            3,
            "the same bytes of different kinds are stored under different digests"
        );
    }

    #[test]
    fn text_that_no_value_has_is_not_looked_up() {
        let value = Kind::Code.make(&[255; RANDOM]);
        for text in [
            "",
            "sgc_",
            &value[4..],
            &value[..value.len() - 1],
            &format!("{}A", &*value),
            "SGC_aaaa",
        ] {
            assert_eq!(Kind::Code.digest(text), None, "{text}");
        }
    }

    #[test]
    fn a_sealed_successor_is_uncovered_by_its_predecessor_alone() {
        let (successor, token) = ([9; RANDOM], "sgr_a");
        let sealed = seal(token, &successor);
        assert_ne!(sealed, successor);
        assert_eq!(seal(token, &sealed), successor);
        assert_ne!(seal("sgr_b", &sealed), successor);
    }
}
