//! Our own keys: one signs, all are published.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use zeroize::Zeroizing;

use crate::names::Timestamp;
use crate::store::keys::{self, NewKey, Schedule, StoredKey};
use crate::store::{Store, StoreFault};
use crate::token::jws::Algorithm;
use crate::token::keyset::{Key, KeySet};
use crate::token::mint::{Signing, SigningKey};

/// The keys of our authorization server, as currently stored.
#[derive(Debug)]
pub struct OwnKeys {
    signing: Signing,
    now: ArcSwap<InForce>,
}

/// The keys at one time.
#[derive(Debug)]
pub struct InForce {
    current: SigningKey,
    set: Arc<KeySet>,
    jwks: String,
    /// The stored keys that this was made from.
    made_of: Vec<(i64, bool, String)>,
    current_number: i64,
}

/// A key is published for a day before it signs, or for half of its life where that is shorter.
fn schedule(signing: Signing) -> Schedule {
    let lead = LEAD.min(signing.rotate_every / 2);
    Schedule { every: signing.rotate_every, lead, keep: signing.keep_inactive }
}

/// How long a key is published before it signs, seconds.
const LEAD: i64 = 86_400;

/// Why our own keys are not available.
#[derive(Debug, thiserror::Error)]
pub enum OwnKeysFault {
    /// The store cannot be used.
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
    /// Reads the keys from the store, after rotation.
    ///
    /// # Errors
    /// The store cannot be used, or a key in it is unusable.
    pub fn load(store: &Store, signing: Signing, now: Timestamp) -> Result<Self, OwnKeysFault> {
        turn(store, signing, now, true)?;
        let keys = InForce::read(&store.keys()?, now)?;
        Ok(Self { signing, now: ArcSwap::from_pointee(keys) })
    }

    /// Rotates keys if due, and applies changes of this or another process. True when another key
    /// signs now.
    ///
    /// # Errors
    /// As for [`OwnKeys::load`]; the keys stay as they were.
    pub fn refresh(&self, store: &Store, now: Timestamp) -> Result<bool, OwnKeysFault> {
        turn(store, self.signing, now, false)?;
        let stored = store.keys()?;
        let before = self.now.load();
        let number = keys::current(&stored, now).map(|key| key.number);
        if before.made_of == made_of(&stored) && number == Some(before.current_number) {
            return Ok(false);
        }
        let keys = InForce::read(&stored, now)?;
        let changed = keys.current_number != before.current_number;
        self.now.store(Arc::new(keys));
        Ok(changed)
    }

    /// The current keys.
    #[must_use]
    pub fn now(&self) -> arc_swap::Guard<Arc<InForce>> {
        self.now.load()
    }
}

impl InForce {
    fn read(stored: &[StoredKey], now: Timestamp) -> Result<Self, OwnKeysFault> {
        let unusable = |text: &str| OwnKeysFault::Unusable(text.to_owned());
        let signs = keys::current(stored, now).ok_or_else(|| unusable("none signs now"))?;
        let private = signs.private_key.as_ref().ok_or_else(|| unusable("no private key"))?;
        let algorithm = Algorithm::parse(&signs.algorithm)
            .ok_or_else(|| unusable("its algorithm is unknown"))?;
        let current = SigningKey::from_der(algorithm, private)
            .map_err(|fault| unusable(&fault.to_string()))?;
        let (mut jwks, mut set) = (Vec::new(), Vec::new());
        // The current key first, then the others, newest first.
        let others = stored.iter().rev().filter(|key| key.number != signs.number);
        for key in std::iter::once(signs).chain(others) {
            let jwk: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&key.public_jwk)
                    .map_err(|fault| unusable(&fault.to_string()))?;
            set.push(Key::parse(&jwk).map_err(|fault| unusable(&fault.to_string()))?);
            jwks.push(jwk);
        }
        Ok(Self {
            current,
            set: Arc::new(KeySet::new(set)),
            jwks: crate::metadata::jwk_set(jwks.iter()),
            made_of: made_of(stored),
            current_number: signs.number,
        })
    }

    /// The key that signs.
    #[must_use]
    pub const fn current(&self) -> &SigningKey {
        &self.current
    }

    /// All keys, for verification: the current one first, then the next and the retired ones.
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

/// The stored keys, and whether each has a private half.
fn made_of(stored: &[StoredKey]) -> Vec<(i64, bool, String)> {
    stored
        .iter()
        .map(|key| (key.number, key.private_key.is_some(), key.public_jwk.clone()))
        .collect()
}

/// Rotates keys if due, and writes only then; a key is generated before the transaction, because an
/// RSA key takes longer than other writes should wait.
///
/// A new algorithm is used only from the start of a process: two gateways with different
/// configurations would otherwise replace each other's keys forever.
fn turn(store: &Store, signing: Signing, now: Timestamp, begins: bool) -> Result<(), OwnKeysFault> {
    let schedule = schedule(signing);
    let stored = store.keys()?;
    let in_use = keys::current(&stored, now).and_then(|key| Algorithm::parse(&key.algorithm));
    let algorithm = in_use.filter(|_| !begins).unwrap_or(signing.algorithm);
    let missing = keys::lacking(&stored, algorithm.as_str(), schedule, now).is_some();
    let current = keys::current(&stored, now).map(|key| key.number);
    let retires = stored
        .iter()
        .take_while(|key| Some(key.number) != current)
        .any(|key| current.is_some() && key.private_key.is_some());
    let removes =
        stored.iter().any(|key| key.retired_at.is_some_and(|at| at.plus(schedule.keep) < now));
    if !missing && !retires && !removes {
        return Ok(());
    }
    let made = if missing {
        Some(fresh(algorithm).ok_or(OwnKeysFault::Generate(algorithm.as_str()))?)
    } else {
        None
    };
    Ok(store.turn_keys(algorithm.as_str(), schedule, now, made)?)
}

/// A new key pair in stored form; `None` for an algorithm that we do not sign with.
#[must_use]
pub fn fresh(algorithm: Algorithm) -> Option<NewKey> {
    let private_key = generate(algorithm)?;
    let public = SigningKey::from_der(algorithm, &private_key).ok()?;
    Some(NewKey { public_jwk: serde_json::to_string(public.jwk()).ok()?, private_key })
}

/// A new private key in the format that [`SigningKey::from_der`] reads.
fn generate(algorithm: Algorithm) -> Option<Zeroizing<Vec<u8>>> {
    let random = SystemRandom::new();
    let der = match algorithm {
        Algorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .ok()?
            .as_ref()
            .to_vec(),
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

/// The PKCS#1 key inside a PKCS#8 RSA key: the contents of its last element, an OCTET STRING
/// (RFC 5208 §5).
fn pkcs1_of(pkcs8: &[u8]) -> Option<&[u8]> {
    let (_, body, _) = element(pkcs8)?;
    let (_, _, rest) = element(body)?;
    let (_, _, rest) = element(rest)?;
    let (tag, key, _) = element(rest)?;
    (tag == 0x04).then_some(key)
}

/// Tag, contents and remainder of one DER element.
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
    use crate::token::jws::Decoded;
    use crate::token::mint::AccessClaims;

    const fn signing(algorithm: Algorithm) -> Signing {
        Signing { algorithm, rotate_every: 1_000_000, keep_inactive: 3_000_000 }
    }

    fn kid(keys: &OwnKeys) -> String {
        keys.now().current().id().to_text()
    }

    #[test]
    fn what_each_algorithm_signs_verifies_and_survives_the_store() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let keys = OwnKeys::load(&store, signing(algorithm), Timestamp(1)).unwrap();
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
            let token = keys.now().current().sign(&claims).unwrap();
            let decoded = Decoded::of(&token).unwrap();
            let parsed = decoded.read().unwrap();
            let again = OwnKeys::load(&store, signing(algorithm), Timestamp(2)).unwrap();
            assert_eq!(
                again.now().set().verify(&parsed),
                Ok(keys.now().current().id()),
                "{algorithm:?}"
            );
            assert!(
                !again.now().jwks().contains("\"d\"") && again.now().jwks().contains(&kid(&keys))
            );
        }
    }

    #[test]
    fn a_change_of_algorithm_keeps_old_tokens_good() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let old = OwnKeys::load(&store, signing(Algorithm::Es256), Timestamp(1)).unwrap();
        let new = OwnKeys::load(&store, signing(Algorithm::EdDsa), Timestamp(2)).unwrap();
        assert!(new.now().set().has(&old.now().current().id()));
        assert_ne!(kid(&new), kid(&old));
        assert_eq!(new.now().set().keys().len(), 2);
    }

    #[test]
    fn the_next_key_is_published_a_day_before_it_signs_and_the_old_one_long_after() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let keys = OwnKeys::load(&store, signing(Algorithm::Es256), Timestamp(0)).unwrap();
        let first = kid(&keys);
        assert!(!keys.refresh(&store, Timestamp(1_000_000 - LEAD - 1)).unwrap());
        assert_eq!(keys.now().set().keys().len(), 1);
        assert!(
            !keys.refresh(&store, Timestamp(1_000_000 - LEAD)).unwrap(),
            "published, and not yet signing"
        );
        assert_eq!((keys.now().set().keys().len(), kid(&keys)), (2, first.clone()));
        assert!(!keys.refresh(&store, Timestamp(999_999)).unwrap());
        assert!(keys.refresh(&store, Timestamp(1_000_000)).unwrap());
        let second = kid(&keys);
        assert_ne!(second, first);
        let private = |store: &Store| {
            store.keys().unwrap().iter().filter(|key| key.private_key.is_some()).count()
        };
        assert_eq!(private(&store), 1, "the old one's private half is gone");
        keys.refresh(&store, Timestamp(1_900_000)).unwrap();
        assert!(keys.now().jwks().contains(&first), "and its public half is not");
        keys.refresh(&store, Timestamp(4_000_001)).unwrap();
        assert!(!keys.now().jwks().contains(&first));
    }

    #[test]
    fn two_processes_never_both_rotate() {
        let folder = tempfile::tempdir().unwrap();
        let stores = [Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap()];
        let keys = stores
            .each_ref()
            .map(|store| OwnKeys::load(store, signing(Algorithm::Es256), Timestamp(0)).unwrap());
        for now in [1_000_000 - LEAD, 1_000_000, 2_000_000 - LEAD, 2_000_000] {
            std::thread::scope(|scope| {
                for (keys, store) in keys.iter().zip(&stores) {
                    scope.spawn(|| keys.refresh(store, Timestamp(now)).unwrap());
                }
            });
            for (keys, store) in keys.iter().zip(&stores) {
                keys.refresh(store, Timestamp(now)).unwrap();
            }
            assert_eq!(kid(&keys[0]), kid(&keys[1]), "{now}");
        }
        assert_eq!(stores[0].keys().unwrap().len(), 3);
    }
}
