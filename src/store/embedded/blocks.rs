//! Blocks set by command.

use rusqlite::params;

use super::Embedded;
use super::audit::note;
use super::events::note_blocks;
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::blocks::{Blocked, CommandedBlock};

impl Embedded {
    pub(in crate::store) fn block(
        &self,
        block: &CommandedBlock,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        let block = block.clone();
        self.write_now(move |connection| {
            note(connection, record.as_ref())?;
            connection.execute(
                "INSERT OR REPLACE INTO block (kind, value, reason, since, until) VALUES (?1, ?2, \
                    ?3, ?4, ?5)",
                params![
                    block.blocked.kind(),
                    block.blocked.value(),
                    block.reason,
                    block.since.0,
                    block.until.map(|until| until.0)
                ],
            )?;
            note_blocks(connection, block.since)
        })
    }

    pub(in crate::store) fn unblock(
        &self,
        blocked: &Blocked,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<bool, StoreFault> {
        let (kind, value) = (blocked.kind(), blocked.value());
        self.write_now(move |connection| {
            let removed = connection.execute(
                "DELETE FROM block WHERE kind = ?1 AND value = ?2",
                params![kind, value],
            )?;
            note_blocks(connection, now)?;
            if removed > 0 {
                note(connection, record.as_ref())?;
            }
            Ok(removed > 0)
        })
    }

    pub(in crate::store) fn blocks(
        &self,
        now: Timestamp,
    ) -> Result<Vec<CommandedBlock>, StoreFault> {
        self.read_now(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT kind, value, reason, since, until FROM block WHERE until IS NULL OR until \
                    > ?1 ORDER BY kind, value",
            )?;
            let rows = statement.query_map([now.0], |row| {
                let (kind, value): (String, String) = (row.get(0)?, row.get(1)?);
                let until: Option<i64> = row.get(4)?;
                // A kind from a later version is not known here.
                Ok(Blocked::parse(&kind, &value)
                    .map(|blocked| (blocked, row.get(2), row.get(3), until)))
            })?;
            let mut blocks = Vec::new();
            for row in rows {
                if let Some((blocked, reason, since, until)) = row? {
                    let since = Timestamp(since?);
                    blocks.push(CommandedBlock {
                        blocked,
                        reason: reason?,
                        since,
                        until: until.map(Timestamp),
                    });
                }
            }
            Ok(blocks)
        })
    }
}
