//! Private keys are encrypted in the shared store: a reader could otherwise sign in our name.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::system::random;

/// Encrypts with a key derived from a secret of the configuration (AES-256-GCM). The purpose is
/// authenticated, but not encrypted.
pub(super) struct Seal(Option<LessSafeKey>);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(super) fn new(secret: &str) -> Self {
        let key = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(format!(
            "scopegate store key {secret}"
        ))));
        Self(UnboundKey::new(&AES_256_GCM, key.as_slice()).ok().map(LessSafeKey::new))
    }

    /// Encrypts; the nonce comes first. `None` only without randomness.
    pub(super) fn close(&self, what: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0_u8; NONCE_LEN];
        random::fill(&mut nonce).ok()?;
        let mut text = Zeroizing::new(plain.to_vec());
        let tag = self.0.as_ref()?.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(what.as_bytes()),
            text.as_mut_slice(),
        );
        Some([nonce.as_slice(), text.as_slice(), tag.ok()?.as_ref()].concat())
    }

    /// Decrypts; `None` if it was not encrypted with this key for this purpose.
    pub(super) fn open(&self, what: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self
            .0
            .as_ref()?
            .open_in_place(nonce, Aad::from(what.as_bytes()), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_opens_it_and_only_for_what_it_was_closed_for() {
        let seal = Seal::new("one");
        let sealed = seal.close("key 1", b"private").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_ne!(seal.close("key 1", b"private").unwrap(), sealed);
        assert_eq!(seal.open("key 1", &sealed).unwrap().as_slice(), b"private");
        assert!(
            seal.open("key 2", &sealed).is_none()
                && Seal::new("two").open("key 1", &sealed).is_none()
        );
        for at in 0..sealed.len() {
            let mut wrong = sealed.clone();
            wrong[at] ^= 1;
            assert!(seal.open("key 1", &wrong).is_none(), "{at}");
            assert!(seal.open("key 1", &sealed[..at]).is_none(), "{at}");
        }
    }
}
