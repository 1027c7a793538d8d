//! Signing keys.

use rusqlite::{Connection, params};

use super::Embedded;
use super::audit::note;
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::keys::StoredKey;

impl Embedded {
    pub(in crate::store) fn keys(&self) -> Result<Vec<StoredKey>, StoreFault> {
        self.read_now(all)
    }

    /// One transaction: the written keys depend on those read.
    pub(in crate::store) fn change_keys(
        &self,
        change: impl Fn(&mut Vec<StoredKey>) + Send + 'static,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        self.write_now(move |connection| {
            note(connection, record.as_ref())?;
            let before = all(connection)?;
            let mut after = before.clone();
            change(&mut after);
            for key in before.iter().filter(|key| !after.contains(key)) {
                connection.execute("DELETE FROM signing_key WHERE id = ?1", [key.number])?;
            }
            for key in after.iter().filter(|key| !before.contains(key)) {
                insert(connection, key)?;
            }
            Ok(())
        })
    }
}

fn all(connection: &Connection) -> rusqlite::Result<Vec<StoredKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, algorithm, public_jwk, private_key, created_at, signs_from, retired_at
         FROM signing_key ORDER BY signs_from, id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(StoredKey {
            number: row.get(0)?,
            algorithm: row.get(1)?,
            public_jwk: row.get(2)?,
            private_key: row.get::<_, Option<Vec<u8>>>(3)?.map(zeroize::Zeroizing::new),
            created_at: Timestamp(row.get(4)?),
            signs_from: Timestamp(row.get(5)?),
            retired_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        })
    })?;
    rows.collect()
}

fn insert(connection: &Connection, key: &StoredKey) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO signing_key (id, algorithm, public_jwk, private_key, created_at, signs_from, \
            retired_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            key.number,
            key.algorithm,
            key.public_jwk,
            key.private_key.as_ref().map(|private| private.as_slice()),
            key.created_at.0,
            key.signs_from.0,
            key.retired_at.map(|at| at.0)
        ],
    )?;
    Ok(())
}
