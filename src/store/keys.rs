//! Signing keys. A key signs from a time on, until the next one does: the current key follows from
//! the clock, so that no process has to run at the moment of a change, and none can leave two or no
//! current keys.

use super::audit::AuditRecord;
use super::{Store, StoreFault, engine};
use crate::names::Timestamp;

/// The schedule of key rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Seconds from one key to the next.
    pub every: i64,
    /// Seconds that a key is published before it signs: longer than verifiers cache the key set.
    pub lead: i64,
    /// Seconds that a retired key's public half stays published.
    pub keep: i64,
}

/// A signing key as stored. Its `Debug` hides the key.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its number.
    pub number: i64,
    /// `ES256`, `RS256` or `EdDSA`.
    pub algorithm: String,
    /// The public key as a JWK.
    pub public_jwk: String,
    /// The private key; a retired key has none.
    pub private_key: Option<zeroize::Zeroizing<Vec<u8>>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it begins to sign.
    pub signs_from: Timestamp,
    /// When it was found to have a successor.
    pub retired_at: Option<Timestamp>,
}

/// A key pair to be stored.
#[derive(Clone)]
pub struct NewKey {
    /// The public key as a JWK.
    pub public_jwk: String,
    /// The private key.
    pub private_key: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("public_jwk", &self.public_jwk).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKey")
            .field("algorithm", &self.algorithm)
            .field("public_jwk", &self.public_jwk)
            .field("signs_from", &self.signs_from)
            .field("retired_at", &self.retired_at)
            .finish_non_exhaustive()
    }
}

/// The key that signs at a time; keys are in the order of [`Store::keys`].
#[must_use]
pub fn current(keys: &[StoredKey], now: Timestamp) -> Option<&StoredKey> {
    keys.iter().rev().find(|key| key.private_key.is_some() && key.signs_from <= now)
}

/// When a missing key has to begin to sign; `None` when none is missing.
#[must_use]
pub fn lacking(
    keys: &[StoredKey],
    algorithm: &str,
    schedule: Schedule,
    now: Timestamp,
) -> Option<Timestamp> {
    let Some(current) = current(keys, now).filter(|key| key.algorithm == algorithm) else {
        return Some(now);
    };
    if keys.iter().any(|key| key.signs_from > now) {
        return None;
    }
    let due = current.signs_from.plus(schedule.every);
    (now >= due.plus(-schedule.lead)).then(|| Timestamp(due.0.max(now.plus(schedule.lead).0)))
}

impl StoredKey {
    /// Its `kid`.
    #[must_use]
    pub fn kid(&self) -> String {
        let jwk: serde_json::Value = serde_json::from_str(&self.public_jwk).unwrap_or_default();
        jwk.get("kid").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }
}

impl Store {
    /// All keys, in the order in which they sign.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn keys(&self) -> Result<Vec<StoredKey>, StoreFault> {
        engine!(self, keys())
    }

    /// Rotates keys as scheduled: stores `fresh` if a key is still missing, retires keys with a
    /// successor, removes keys retired long ago. A retired key loses its private half at once.
    /// Atomic: of two processes one rotates.
    ///
    /// # Errors
    /// The store cannot be written; then nothing changes.
    pub fn turn_keys(
        &self,
        algorithm: &str,
        schedule: Schedule,
        now: Timestamp,
        fresh: Option<NewKey>,
    ) -> Result<(), StoreFault> {
        let algorithm = algorithm.to_owned();
        self.change_keys(
            move |keys| {
                // A waiting key of another algorithm must not undo a change of algorithm.
                keys.retain(|key| key.signs_from <= now || key.algorithm == algorithm);
                if let (Some(from), Some(fresh)) =
                    (lacking(keys, &algorithm, schedule, now), &fresh)
                {
                    insert(keys, &algorithm, fresh, now, from);
                }
                retire(keys, now);
                keys.retain(|key| key.retired_at.is_none_or(|at| at >= now.plus(-schedule.keep)));
            },
            None,
        )
    }

    /// Adds a key that signs from a time on, regardless of the schedule.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add_key(
        &self,
        algorithm: &str,
        key: NewKey,
        now: Timestamp,
        from: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        let algorithm = algorithm.to_owned();
        self.change_keys(
            move |keys| {
                // It replaces a waiting key: two waiting keys would follow each other at once.
                keys.retain(|key| key.signs_from <= now);
                insert(keys, &algorithm, &key, now, from);
                retire(keys, now);
            },
            record,
        )
    }

    /// Removes a key with its public half: its signatures are refused from then on. `instead` signs
    /// in its place.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn drop_key(
        &self,
        number: i64,
        algorithm: &str,
        instead: NewKey,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        let algorithm = algorithm.to_owned();
        self.change_keys(
            move |keys| {
                keys.retain(|key| key.number != number);
                if current(keys, now).is_none() {
                    insert(keys, &algorithm, &instead, now, now);
                }
            },
            record,
        )
    }

    /// Changes all keys atomically. `change` may be called more than once, if another process was
    /// faster.
    pub(super) fn change_keys(
        &self,
        change: impl Fn(&mut Vec<StoredKey>) + Send + Sync + 'static,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        engine!(self, change_keys(change, record))
    }
}

fn insert(
    keys: &mut Vec<StoredKey>,
    algorithm: &str,
    key: &NewKey,
    now: Timestamp,
    from: Timestamp,
) {
    let number = keys.iter().map(|key| key.number).max().unwrap_or(0) + 1;
    keys.push(StoredKey {
        number,
        algorithm: algorithm.to_owned(),
        public_jwk: key.public_jwk.clone(),
        private_key: Some(key.private_key.clone()),
        created_at: now,
        signs_from: from,
        retired_at: None,
    });
    keys.sort_by_key(|key| (key.signs_from, key.number));
}

/// Retires all keys before the current one.
fn retire(keys: &mut [StoredKey], now: Timestamp) {
    let Some(number) = current(keys, now).map(|key| key.number) else { return };
    for key in keys
        .iter_mut()
        .take_while(|key| key.number != number)
        .filter(|key| key.private_key.is_some())
    {
        key.private_key = None;
        key.retired_at = Some(now);
    }
}
