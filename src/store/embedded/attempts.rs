//! Attempts to authenticate.

use rusqlite::{Connection, params};

use super::Embedded;
use super::audit::note;
use super::events::note_blocks;
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::attempts::{Attempt, Cleared};
use crate::store::audit::AuditRecord;

impl Embedded {
    pub(in crate::store) async fn note_attempts(
        &self,
        subjects: Vec<String>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO failure (subject, at, expires_at) VALUES (?1, ?2, ?3)",
            )?;
            for subject in &subjects {
                statement.execute(params![subject, at.0, expires.0])?;
            }
            Ok(())
        })
        .await
    }

    pub(in crate::store) fn attempts(&self, now: Timestamp) -> Result<Vec<Attempt>, StoreFault> {
        self.read_now(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT subject, at FROM failure WHERE expires_at > ?1 ORDER BY id",
            )?;
            let rows = statement.query_map([now.0], |row| {
                Ok(Attempt { subject: row.get(0)?, at: Timestamp(row.get(1)?) })
            })?;
            rows.collect()
        })
    }

    pub(in crate::store) async fn clear_attempts(
        &self,
        cleared: &Cleared,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<usize, StoreFault> {
        let cleared = cleared.clone();
        self.write(move |connection| {
            note(connection, record.as_ref())?;
            clear(connection, &cleared, now)
        })
        .await
    }

    pub(in crate::store) fn clear_attempts_now(
        &self,
        cleared: &Cleared,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<usize, StoreFault> {
        let cleared = cleared.clone();
        self.write_now(move |connection| {
            note(connection, record.as_ref())?;
            clear(connection, &cleared, now)
        })
    }
}

fn clear(connection: &Connection, cleared: &Cleared, now: Timestamp) -> rusqlite::Result<usize> {
    let subjects: Vec<String> = connection
        .prepare_cached("SELECT DISTINCT subject FROM failure WHERE expires_at > ?1")?
        .query_map([now.0], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut removed = 0;
    for subject in subjects.iter().filter(|subject| cleared.covers(subject)) {
        removed += connection
            .prepare_cached("DELETE FROM failure WHERE subject = ?1")?
            .execute([subject])?;
    }
    // The event for changed blocks makes gateways reload attempts too.
    note_blocks(connection, now)?;
    Ok(removed)
}
