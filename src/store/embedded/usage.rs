//! Counters of use.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Embedded, schema};
use crate::store::StoreFault;
use crate::store::usage::{MAX_SUBJECTS, without_room};
use crate::tooling::usage::{Counts, Day, Row, Subject};

impl Embedded {
    pub(in crate::store) async fn add_usage(&self, rows: Vec<Row>) -> Result<(), StoreFault> {
        self.write(move |connection| rows.into_iter().try_for_each(|row| add(connection, row)))
            .await
    }

    pub(in crate::store) async fn usage(
        &self,
        since: Day,
        client: Option<String>,
    ) -> Result<Vec<Row>, StoreFault> {
        self.read(move |connection| rows(connection, since, client.as_deref())).await
    }

    pub(in crate::store) fn each_usage(
        &self,
        since: Day,
        take: &mut dyn FnMut(Row),
    ) -> Result<(), StoreFault> {
        self.read_now(|connection| each(connection, since, None, take))
    }

    pub(in crate::store) fn first_usage(&self) -> Result<Option<Day>, StoreFault> {
        self.read_now(|connection| {
            let day: Option<i64> =
                connection.query_row("SELECT min(day) FROM usage", [], |row| row.get(0))?;
            Ok(day.map(Day))
        })
    }

    pub(in crate::store) async fn forget_usage(&self, before: Day) -> Result<bool, StoreFault> {
        self.write(move |connection| {
            let removed = connection
                .prepare_cached(
                    "DELETE FROM usage WHERE (day, client, api, operation) IN
                     (SELECT day, client, api, operation FROM usage WHERE day < ?1 LIMIT ?2)",
                )?
                .execute(params![before.0, schema::SLICE])?;
            Ok(i64::try_from(removed).is_ok_and(|removed| removed == schema::SLICE))
        })
        .await
    }
}

fn add(connection: &Connection, row: Row) -> rusqlite::Result<()> {
    if update(connection, &row)? {
        return Ok(());
    }
    let most = i64::try_from(MAX_SUBJECTS).unwrap_or(i64::MAX);
    // Only once for each new subject of a day.
    let is_full = connection
        .prepare_cached("SELECT 1 FROM usage WHERE day = ?1 LIMIT 1 OFFSET ?2")?
        .query_row([row.day.0, most], |_| Ok(()))
        .optional()?
        .is_some();
    let row = if is_full { without_room(row) } else { row };
    if update(connection, &row)? {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO usage (day, client, api, operation, permitted, refused, for_users,
                 shadow_refused) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            row.day.0,
            row.subject.client,
            row.subject.api,
            row.subject.operation,
            number(row.counts.permitted),
            number(row.counts.refused),
            number(row.counts.for_users),
            number(row.counts.shadow_refused),
        ])
        .map(drop)
}

/// Whether there were such counters.
fn update(connection: &Connection, row: &Row) -> rusqlite::Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE usage SET permitted = permitted + ?5, refused = refused + ?6,
                 for_users = for_users + ?7, shadow_refused = shadow_refused + ?8
             WHERE day = ?1 AND client = ?2 AND api = ?3 AND operation = ?4",
        )?
        .execute(params![
            row.day.0,
            row.subject.client,
            row.subject.api,
            row.subject.operation,
            number(row.counts.permitted),
            number(row.counts.refused),
            number(row.counts.for_users),
            number(row.counts.shadow_refused),
        ])?;
    Ok(changed > 0)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn rows(connection: &Connection, since: Day, client: Option<&str>) -> rusqlite::Result<Vec<Row>> {
    let mut rows = Vec::new();
    each(connection, since, client, &mut |row| rows.push(row))?;
    Ok(rows)
}

fn each(
    connection: &Connection,
    since: Day,
    client: Option<&str>,
    take: &mut dyn FnMut(Row),
) -> rusqlite::Result<()> {
    const COLUMNS: &str =
        "SELECT client, api, operation, day, permitted, refused, for_users, shadow_refused FROM";
    let read = |row: &rusqlite::Row<'_>| {
        let count = |at| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
        Ok::<_, rusqlite::Error>(Row {
            subject: Subject { client: row.get(0)?, api: row.get(1)?, operation: row.get(2)? },
            day: Day(row.get(3)?),
            counts: Counts {
                permitted: count(4)?,
                refused: count(5)?,
                for_users: count(6)?,
                shadow_refused: count(7)?,
            },
        })
    };
    let mut statement = connection.prepare_cached(&match client {
        Some(_) => format!("{COLUMNS} usage WHERE client = ?2 AND day >= ?1"),
        None => format!("{COLUMNS} usage WHERE day >= ?1"),
    })?;
    let mut rows = match client {
        Some(client) => statement.query(params![since.0, client])?,
        None => statement.query([since.0])?,
    };
    while let Some(row) = rows.next()? {
        take(read(row)?);
    }
    Ok(())
}
