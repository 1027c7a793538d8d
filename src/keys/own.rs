//! Our own keys: one signs, all are published.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use zeroize::Zeroizing;

use crate::names::Timestamp;
use crate::store::keys::NewKey;
use crate::store::{Store, StoreFault};
use crate::token::jws::Algorithm;
use crate::token::keyset::{Key, KeySet};
use crate::token::mint::SigningKey;

/// The keys of our authorization server.
#[derive(Debug)]
pub struct OwnKeys {
    current: SigningKey,
    set: Arc<KeySet>,
    jwks: String,
}

/// Why there are no own keys.
#[derive(Debug, thiserror::Error)]
pub enum OwnKeysFault {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// A key could not be made.
    #[error("no {0} key could be made")]
    Generate(&'static str),
    /// A stored key cannot be read.
    #[error("the signing key in the store is not usable: {0}")]
    Unusable(String),
}

impl OwnKeys {
    /// Reads the keys from the store, and makes the current one if there is none of this algorithm.
    ///
    /// # Errors
    /// A store that cannot be used, or keys in it that cannot.
    pub fn load(store: &Store, algorithm: Algorithm, now: Timestamp) -> Result<Self, OwnKeysFault> {
        // Made before the transaction: an RSA key takes longer than another process should wait for the lock.
        let fresh = fresh(algorithm).ok_or(OwnKeysFault::Generate(algorithm.as_str()))?;
        let stored = store.signing_keys(algorithm.as_str(), now, || fresh)?;
        let unusable = |text: &str| OwnKeysFault::Unusable(text.to_owned());
        let private =
            stored.first().and_then(|key| key.private_key.as_ref()).ok_or_else(|| unusable("no private key"))?;
        let current = SigningKey::from_der(algorithm, private).map_err(|fault| unusable(&fault.to_string()))?;
        let (mut jwks, mut keys) = (Vec::new(), Vec::new());
        for key in &stored {
            let jwk: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&key.public_jwk).map_err(|fault| unusable(&fault.to_string()))?;
            keys.push(Key::parse(&jwk).map_err(|fault| unusable(&fault.to_string()))?);
            jwks.push(jwk);
        }
        Ok(Self { current, set: Arc::new(KeySet::new(keys)), jwks: crate::metadata::jwk_set(jwks.iter()) })
    }

    /// The key that signs.
    #[must_use]
    pub const fn current(&self) -> &SigningKey {
        &self.current
    }

    /// All keys, to verify with: the current one first, then those that no longer sign.
    #[must_use]
    pub const fn set(&self) -> &Arc<KeySet> {
        &self.set
    }

    /// The JWK Set that we publish.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }
}

/// A new key pair as the store keeps it.
fn fresh(algorithm: Algorithm) -> Option<NewKey> {
    let private_key = generate(algorithm)?;
    let public = SigningKey::from_der(algorithm, &private_key).ok()?;
    Some(NewKey { public_jwk: serde_json::to_string(public.jwk()).ok()?, private_key })
}

/// A new private key in the form that [`SigningKey::from_der`] reads.
fn generate(algorithm: Algorithm) -> Option<Zeroizing<Vec<u8>>> {
    let random = SystemRandom::new();
    let der = match algorithm {
        Algorithm::Es256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).ok()?.as_ref().to_vec()
        }
        Algorithm::EdDsa => Ed25519KeyPair::generate().ok()?.to_pkcs8v1().ok()?.as_ref().to_vec(),
        Algorithm::Rs256 => {
            let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).ok()?;
            let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().ok()?;
            pkcs1_of(pkcs8.as_ref())?.to_vec()
        }
        Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512
        | Algorithm::Es384 => return None,
    };
    Some(der.into())
}

/// The PKCS#1 key inside a PKCS#8 one of RSA: the contents of its last element, an OCTET STRING (RFC 5208 §5).
fn pkcs1_of(pkcs8: &[u8]) -> Option<&[u8]> {
    let (_, body, _) = element(pkcs8)?;
    let (_, _, rest) = element(body)?;
    let (_, _, rest) = element(rest)?;
    let (tag, key, _) = element(rest)?;
    (tag == 0x04).then_some(key)
}

/// Tag, contents and what follows, of one DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (bytes.iter().take(4).fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::jws::Unverified;
    use crate::token::mint::AccessClaims;

    #[test]
    fn what_each_algorithm_signs_verifies_and_survives_the_store() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let keys = OwnKeys::load(&store, algorithm, Timestamp(1)).unwrap();
            let claims = AccessClaims {
                iss: "i",
                sub: "s",
                aud: "a",
                exp: 2,
                iat: 1,
                jti: "j",
                client_id: "c",
                authorization_id: None,
                scope: "",
            };
            let token = keys.current().sign(&claims).unwrap();
            let parsed = Unverified::parse(&token).unwrap();
            let again = OwnKeys::load(&store, algorithm, Timestamp(2)).unwrap();
            assert_eq!(again.set().verify(&parsed), Ok(keys.current().id()), "{algorithm:?}");
            assert!(!again.jwks().contains("\"d\"") && again.jwks().contains(&keys.current().id().to_text()));
        }
    }

    #[test]
    fn a_change_of_algorithm_keeps_old_tokens_good() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let old = OwnKeys::load(&store, Algorithm::Es256, Timestamp(1)).unwrap();
        let new = OwnKeys::load(&store, Algorithm::EdDsa, Timestamp(2)).unwrap();
        assert!(new.set().has(&old.current().id()));
        assert_ne!(new.current().id(), old.current().id());
        assert_eq!(new.set().keys().len(), 2);
    }
}
