//! Events for other processes on the same file.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::Embedded;
use crate::names::{IssuerName, Timestamp};
use crate::store::StoreFault;
use crate::store::events::{News, Position};
use crate::store::revocations::{Revocation, Subject};

/// How often the file is polled: SQLite does not notify other processes.
const EVERY: Duration = Duration::from_millis(500);
/// The kind of an event for changed blocks, or a changed user that it names, not for a revocation.
/// Gateways of earlier versions take a kind that they do not know for a revocation of everything.
const BLOCKS: &str = "blocks";
/// The store's clock in milliseconds.
const CLOCK: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";

impl Embedded {
    pub(in crate::store) async fn news(&self, after: Position) -> Result<News, StoreFault> {
        tokio::time::sleep(EVERY).await;
        self.look()?;
        self.read(move |connection| read(connection, after)).await
    }

    pub(in crate::store) fn news_now(&self) -> Result<News, StoreFault> {
        let mut news = self.read_now(|connection| read(connection, Position::default()))?;
        news.delays.clear();
        Ok(news)
    }
}

fn read(connection: &Connection, after: Position) -> rusqlite::Result<News> {
    let mut news = News { position: after, ..News::default() };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT number, kind, value, at, expires_at, issuer, max(0, {CLOCK} - noted_ms)
         FROM revocation WHERE number > ?1 ORDER BY number"
    ))?;
    let mut rows = statement.query([after.number])?;
    while let Some(row) = rows.next()? {
        news.position.number = row.get(0)?;
        let (kind, value, issuer): (String, String, String) =
            (row.get(1)?, row.get(2)?, row.get(5)?);
        news.delays.push(Duration::from_millis(row.get::<_, i64>(6)?.unsigned_abs()));
        if kind == BLOCKS {
            news.changed(value);
            continue;
        }
        news.revocations.push(Revocation {
            issuer: IssuerName::new(&issuer),
            subject: Subject::of(&kind, value),
            at: Timestamp(row.get(3)?),
            expires: Timestamp(row.get(4)?),
        });
    }
    Ok(news)
}

/// Stores an event.
pub(super) fn note(
    connection: &Connection,
    kind: &str,
    value: &str,
    at: Timestamp,
    expires: Timestamp,
    issuer: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "INSERT INTO revocation (kind, value, at, expires_at, issuer, noted_ms) VALUES (?1, \
                ?2, ?3, ?4, ?5, {CLOCK})"
        ))?
        .execute(params![kind, value, at.0, expires.0, issuer])?;
    Ok(())
}

/// Stores an event for changed blocks, for a day: no reader is further behind.
pub(super) fn note_blocks(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    note(connection, BLOCKS, "", now, now.plus(86_400), IssuerName::OWN)
}

/// Stores an event for a changed user, for as long.
pub(super) fn note_user(
    connection: &Connection,
    name: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    note(connection, BLOCKS, name, now, now.plus(86_400), IssuerName::OWN)
}
