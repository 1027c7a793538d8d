//! Signing keys. A key signs from a time on, and until the next one does: which is current follows from the clock, so that no
//! process has to be there at the moment it changes, and none can leave two or none behind.

use rusqlite::{Connection, params};

use super::{Store, StoreFault};
use crate::names::Timestamp;

/// How keys follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Seconds from one key to the next.
    pub every: i64,
    /// Seconds that a key is published before it signs: longer than verifiers keep the set.
    pub lead: i64,
    /// Seconds that a retired key's public half stays published.
    pub keep: i64,
}

/// A signing key as stored. Its `Debug` shows no key.
pub struct StoredKey {
    /// Its number.
    pub number: i64,
    /// `ES256`, `RS256` or `EdDSA`.
    pub algorithm: String,
    /// The public key as a JWK.
    pub public_jwk: String,
    /// The private key; a retired key has none.
    pub private_key: Option<zeroize::Zeroizing<Vec<u8>>>,
    /// When it begins to sign.
    pub signs_from: Timestamp,
    /// When it was found to be followed by another.
    pub retired_at: Option<Timestamp>,
}

/// A key pair to be stored.
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

/// The key that signs at a time, among keys in the order of [`Store::keys`].
#[must_use]
pub fn current(keys: &[StoredKey], now: Timestamp) -> Option<&StoredKey> {
    keys.iter().rev().find(|key| key.private_key.is_some() && key.signs_from <= now)
}

/// When a key that is lacking now has to begin to sign; `None` when none is lacking.
#[must_use]
pub fn lacking(keys: &[StoredKey], algorithm: &str, schedule: Schedule, now: Timestamp) -> Option<Timestamp> {
    let Some(current) = current(keys, now).filter(|key| key.algorithm == algorithm) else { return Some(now) };
    if keys.iter().any(|key| key.signs_from > now) {
        return None;
    }
    let due = current.signs_from.plus(schedule.every);
    (now >= due.plus(-schedule.lead)).then(|| Timestamp(due.0.max(now.plus(schedule.lead).0)))
}

impl Store {
    /// All keys, in the order in which they sign.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn keys(&self) -> Result<Vec<StoredKey>, StoreFault> {
        self.read_now(all)
    }

    /// Does what is due: stores `fresh` if a key is still lacking, retires those that another follows, removes those retired for
    /// long. A retired key loses its private half at once. One transaction: of two processes one rotates.
    ///
    /// # Errors
    /// The store cannot be written; then all is as it was.
    pub fn turn_keys(
        &self,
        algorithm: &str,
        schedule: Schedule,
        now: Timestamp,
        fresh: Option<NewKey>,
    ) -> Result<(), StoreFault> {
        let algorithm = algorithm.to_owned();
        self.write_now(move |connection| {
            // A change of algorithm is not to be undone by a key that was to come.
            connection.execute(
                "DELETE FROM signing_key WHERE signs_from > ?1 AND algorithm <> ?2",
                params![now.0, algorithm],
            )?;
            if let (Some(from), Some(key)) = (lacking(&all(connection)?, &algorithm, schedule, now), fresh) {
                insert(connection, &algorithm, &key, now, from)?;
            }
            retire(connection, now)?;
            connection.execute("DELETE FROM signing_key WHERE retired_at < ?1", [now.plus(-schedule.keep).0])?;
            Ok(())
        })
    }

    /// Lets a new key sign from a time on, whatever the schedule says.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add_key(&self, algorithm: &str, key: NewKey, now: Timestamp, from: Timestamp) -> Result<(), StoreFault> {
        let algorithm = algorithm.to_owned();
        self.write_now(move |connection| {
            // Instead of one that was to come: two that wait would follow each other at once.
            connection.execute("DELETE FROM signing_key WHERE signs_from > ?1", [now.0])?;
            insert(connection, &algorithm, &key, now, from)?;
            retire(connection, now)
        })
    }

    /// Removes a key with its public half: what it signed is refused from then on. `instead` signs in its place.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn drop_key(&self, number: i64, algorithm: &str, instead: NewKey, now: Timestamp) -> Result<(), StoreFault> {
        let algorithm = algorithm.to_owned();
        self.write_now(move |connection| {
            connection.execute("DELETE FROM signing_key WHERE id = ?1", [number])?;
            if current(&all(connection)?, now).is_none() {
                insert(connection, &algorithm, &instead, now, now)?;
            }
            Ok(())
        })
    }
}

fn all(connection: &Connection) -> rusqlite::Result<Vec<StoredKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, algorithm, public_jwk, private_key, signs_from, retired_at FROM signing_key ORDER BY signs_from, id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(StoredKey {
            number: row.get(0)?,
            algorithm: row.get(1)?,
            public_jwk: row.get(2)?,
            private_key: row.get::<_, Option<Vec<u8>>>(3)?.map(zeroize::Zeroizing::new),
            signs_from: Timestamp(row.get(4)?),
            retired_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        })
    })?;
    rows.collect()
}

fn insert(
    connection: &Connection,
    algorithm: &str,
    key: &NewKey,
    now: Timestamp,
    from: Timestamp,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO signing_key (algorithm, public_jwk, private_key, created_at, signs_from) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![algorithm, key.public_jwk, key.private_key.as_slice(), now.0, from.0],
    )?;
    Ok(())
}

/// All before the current one.
fn retire(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let keys = all(connection)?;
    let Some(current) = current(&keys, now) else { return Ok(()) };
    for key in keys.iter().take_while(|key| key.number != current.number).filter(|key| key.private_key.is_some()) {
        connection.execute(
            "UPDATE signing_key SET private_key = NULL, retired_at = ?2 WHERE id = ?1",
            params![key.number, now.0],
        )?;
    }
    Ok(())
}
