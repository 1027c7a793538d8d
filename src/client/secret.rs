//! Client secrets: digests only, compared without a timing signal.

use argon2::Argon2;
use argon2::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::names::Timestamp;

/// Shortest secret accepted against a plain SHA-256: 43 base64url characters are 256 bits.
pub const MIN_RANDOM: usize = 43;
/// Longest secret accepted.
pub const MAX: usize = 512;

/// How a secret is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretDigest {
    /// SHA-256 of a secret we made.
    Sha256([u8; 32]),
    /// Argon2id of one a person chose, as a PHC string.
    Argon2id(String),
}

/// How a presented secret compares with one of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the secret.
    Same,
    /// It is the secret, and too short to be accepted against a plain SHA-256: who has the file
    /// with the digest could guess it.
    TooShort,
    /// It is another one.
    Other,
}

/// One secret of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSecret {
    /// The digest.
    pub digest: SecretDigest,
    /// When it expires.
    pub expires: Option<Timestamp>,
}

impl ClientSecret {
    /// Whether it has expired.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| now >= at)
    }

    /// Distinguishes it from the client's other secrets, without revealing it: the beginning of its
    /// digest.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.digest {
            SecretDigest::Sha256(digest) => crate::names::hex(digest.get(..4).unwrap_or_default()),
            SecretDigest::Argon2id(phc) => {
                crate::names::hex(Sha256::digest(phc.as_bytes()).get(..4).unwrap_or_default())
            }
        }
    }

    /// Whether checking it takes milliseconds, so that it must not run on request threads.
    #[must_use]
    pub const fn is_slow(&self) -> bool {
        matches!(self.digest, SecretDigest::Argon2id(_))
    }

    /// The approximate cost of checking it: blocks of memory times passes; 0 if negligible.
    #[must_use]
    pub fn cost(&self) -> u64 {
        match &self.digest {
            SecretDigest::Sha256(_) => 0,
            SecretDigest::Argon2id(phc) => cost_of(phc),
        }
    }

    /// Compares the presented secret with this one. The caller checks its expiry.
    #[must_use]
    pub fn compare(&self, presented: &str) -> Comparison {
        if presented.len() > MAX {
            return Comparison::Other;
        }
        let same = match &self.digest {
            SecretDigest::Sha256(digest) => {
                let computed: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
                let same: bool = computed.ct_eq(digest).into();
                if same && presented.len() < MIN_RANDOM {
                    return Comparison::TooShort;
                }
                same
            }
            SecretDigest::Argon2id(phc) => PasswordHash::new(phc).is_ok_and(|hash| {
                Argon2::default().verify_password(presented.as_bytes(), &hash).is_ok()
            }),
        };
        if same { Comparison::Same } else { Comparison::Other }
    }

    /// Whether the presented secret is this one. The caller checks its expiry.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.compare(presented) == Comparison::Same
    }
}

/// A hash without a known password, checked so that an unknown name takes as long as a wrong
/// password.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$Xv1AoLdwnLye1js6gD4Mow$f9qJVUMOEA+kVVifiwwJJGUrSZTsHEUdvBNTjcdbIu4";

/// Whether a password matches an Argon2id PHC string. Without one the answer is no and takes as
/// long as with `slowest`, the costliest of all users; so does a wrong password.
#[must_use]
pub fn check_password(phc: Option<&str>, password: &str, slowest: Option<&str>) -> bool {
    let password = if password.len() > MAX { "" } else { password };
    let verify = |phc: &str| {
        PasswordHash::new(phc)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    };
    let slowest = slowest.unwrap_or(NOBODY);
    let right = phc.is_some_and(verify);
    if !right && phc.is_none_or(|phc| cost_of(phc) < cost_of(slowest)) {
        let _ = verify(slowest);
    }
    right && !password.is_empty()
}

/// Blocks of memory times passes of a PHC string.
#[must_use]
pub fn cost_of(phc: &str) -> u64 {
    let params = PasswordHash::new(phc).ok().and_then(|hash| argon2::Params::try_from(&hash).ok());
    params.map_or(0, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()))
}

/// Parses the digest of a secret made by us: 64 hex digits.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn parse_sha256(text: &str) -> Result<[u8; 32], String> {
    let wrong = || {
        "not a SHA-256: write the 64 hex digits that `printf %s SECRET | sha256sum` prints; of a \
            secret shorter than 43 characters write `argon2id`: `scopegate client digest-secret` \
            reads a secret and prints the line"
            .to_owned()
    };
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

/// Checks that a PHC string is Argon2id with parameters that this gateway accepts: at most 64 MiB
/// and 8 passes.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn check_argon2id(text: &str) -> Result<(), String> {
    let hash = PasswordHash::new(text).map_err(|_| {
        "not a PHC string such as $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH".to_owned()
    })?;
    if hash.algorithm.as_str() != "argon2id" {
        return Err(format!("`{}` is not argon2id", hash.algorithm.as_str()));
    }
    let params = argon2::Params::try_from(&hash)
        .map_err(|_| "Argon2 parameters that make no sense".to_owned())?;
    if params.m_cost() > 64 * 1024 || params.t_cost() > 8 || params.p_cost() > 4 {
        return Err(
            "Argon2 parameters beyond m=65536, t=8, p=4 would let one token request stall others"
                .to_owned(),
        );
    }
    if hash.hash.is_none() {
        return Err("a PHC string without its hash".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_never_matches_a_plain_digest() {
        let short = ClientSecret {
            digest: SecretDigest::Sha256(Sha256::digest(b"hunter2").into()),
            expires: None,
        };
        assert!(!short.matches("hunter2"));
        assert_eq!(short.compare("hunter2"), Comparison::TooShort);
        assert_eq!(short.compare("hunter3"), Comparison::Other);
        let long = "a".repeat(MIN_RANDOM);
        let made = ClientSecret {
            digest: SecretDigest::Sha256(Sha256::digest(&long).into()),
            expires: None,
        };
        assert!(made.matches(&long));
        assert!(!made.matches(&format!("{long}b")));
    }

    #[test]
    fn a_human_secret_is_checked_by_argon2id() {
        // printf hunter2 | argon2 saltsaltsalt -id -k 1024 -t 1 -p 1 -e
        let phc = {
            use argon2::PasswordHasher;
            let params = argon2::Params::new(1024, 1, 1, None).unwrap();
            Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .hash_password_with_salt(b"hunter2", b"saltsaltsalt")
                .unwrap()
                .to_string()
        };
        check_argon2id(&phc).unwrap();
        let secret =
            ClientSecret { digest: SecretDigest::Argon2id(phc), expires: Some(Timestamp(10)) };
        assert!(secret.matches("hunter2") && !secret.matches("hunter3"));
        assert!(secret.expired(Timestamp(10)) && !secret.expired(Timestamp(9)));
    }

    #[test]
    fn digests_that_cannot_be_checked_are_refused_at_load() {
        assert!(parse_sha256("9c1f").unwrap_err().contains("scopegate client digest-secret"));
        assert!(parse_sha256(&"zz".repeat(32)).is_err());
        assert_eq!(parse_sha256(&"0f".repeat(32)).unwrap(), [15; 32]);
        assert!(check_argon2id("hunter2").is_err());
        assert!(
            check_argon2id("$argon2i$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
                .is_err()
        );
        assert!(
            check_argon2id(
                "$argon2id$v=19$m=1048576,t=1,p=1$c2FsdHNhbHRzYWx0$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA"
            )
            .is_err()
        );
    }
}
