//! Audit records: who did what. A record is a row of the store, written with the act itself.

use serde::{Deserialize, Serialize};

use super::{Store, StoreFault, engine};

/// Records that are kept; older ones go.
pub const MAX_RECORDS: usize = 100_000;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuditRecord {
    /// When, seconds since 1970.
    pub at: i64,
    /// Who: the name of an administrator, or of the user of the system who ran a command.
    pub who: String,
    /// How he came in: `session`, `token NAME`, `shared token`, `command`, or `login` of a user at
    /// the login provider.
    pub via: String,
    /// The address that it came from; none for commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The act: `block`, `unblock`, `revoke`, `rotate-key`, `revoke-key`, `clear-attempts`,
    /// `reload`, `create-client`, `sign-in`, `sign-out`, `make-user`, `lock-user`, `unlock-user`,
    /// `remove-user`.
    pub act: String,
    /// What it was done to.
    pub on: String,
    /// The state before, where the act changed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The state after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// `done`, or why it was not.
    pub outcome: String,
}

impl AuditRecord {
    /// As it is stored and exported: one line of JSON.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A record with its number, by which the export goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct NumberedRecord {
    /// Its number in the store: they only grow.
    pub number: i64,
    /// The record.
    #[serde(flatten)]
    pub record: AuditRecord,
}

impl Store {
    /// Writes a record of something that changed nothing in the store.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn note_audit(&self, record: AuditRecord) -> Result<(), StoreFault> {
        engine!(self, await note_audit(record))
    }

    /// The records with a number below `before`, newest first, at most so many.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn audit(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<NumberedRecord>, StoreFault> {
        engine!(self, await audit(before, limit))
    }

    /// The records with a number above `after`, oldest first, at most so many.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn audit_after(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<NumberedRecord>, StoreFault> {
        engine!(self, await audit_after(after, limit))
    }

    /// The number of the newest record; 0 without one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn last_audit(&self) -> Result<i64, StoreFault> {
        Ok(self.audit(i64::MAX, 1).await?.first().map_or(0, |record| record.number))
    }
}

/// Parses a stored line; one of a later version that cannot be read is left out.
pub(super) fn parse(number: i64, line: &str) -> Option<NumberedRecord> {
    Some(NumberedRecord { number, record: serde_json::from_str(line).ok()? })
}
