//! Failed attempts to authenticate: they count across restarts.

use rusqlite::params;

use super::{Store, StoreFault};
use crate::names::Timestamp;

impl Store {
    /// Keeps a failure until it no longer counts.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn record_failure(&self, subject: String, at: Timestamp, expires: Timestamp) -> Result<(), StoreFault> {
        self.write(move |connection| {
            connection
                .prepare_cached("INSERT INTO failure (subject, at, expires_at) VALUES (?1, ?2, ?3)")?
                .execute(params![subject, at.0, expires.0])
                .map(drop)
        })
        .await
    }

    /// The failures that still count, oldest first: at the start of a process.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn failures(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>, StoreFault> {
        self.read_now(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT subject, at FROM failure WHERE expires_at > ?1 ORDER BY id")?;
            let rows = statement.query_map([now.0], |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))?;
            rows.collect()
        })
    }
}
