//! Audit records.

use rusqlite::{Connection, params};

use super::Embedded;
use crate::store::StoreFault;
use crate::store::audit::{AuditRecord, MAX_RECORDS, NumberedRecord, parse};

impl Embedded {
    pub(in crate::store) async fn note_audit(&self, record: AuditRecord) -> Result<(), StoreFault> {
        self.write(move |connection| note(connection, Some(&record))).await
    }

    pub(in crate::store) async fn audit(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<NumberedRecord>, StoreFault> {
        let statement =
            "SELECT number, record FROM audit WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
        self.read(move |connection| records(connection, statement, before, limit)).await
    }

    pub(in crate::store) async fn audit_after(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<NumberedRecord>, StoreFault> {
        let statement = "SELECT number, record FROM audit WHERE number > ?1 ORDER BY number LIMIT \
            ?2";
        self.read(move |connection| records(connection, statement, after, limit)).await
    }
}

fn records(
    connection: &Connection,
    statement: &str,
    from: i64,
    limit: usize,
) -> rusqlite::Result<Vec<NumberedRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(statement)?;
    let rows = statement
        .query_map([from, limit], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let rows: Vec<(i64, String)> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(rows.iter().filter_map(|(number, line)| parse(*number, line)).collect())
}

/// Writes the record of an act into its transaction, where there is one.
pub(super) fn note(connection: &Connection, record: Option<&AuditRecord>) -> rusqlite::Result<()> {
    let Some(record) = record else { return Ok(()) };
    connection
        .prepare_cached("INSERT INTO audit (at, record) VALUES (?1, ?2)")?
        .execute(params![record.at, record.line()])?;
    let oldest = connection.last_insert_rowid() - i64::try_from(MAX_RECORDS).unwrap_or(i64::MAX);
    connection.prepare_cached("DELETE FROM audit WHERE number <= ?1")?.execute([oldest])?;
    Ok(())
}
