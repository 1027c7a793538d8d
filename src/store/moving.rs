//! Copies the embedded store to a shared one while gateways serve from it; a second run copies
//! later writes.

use super::{Engine, Store, StoreFault};
use crate::names::Timestamp;

/// The tables in copying order: rows come after those that they depend on.
pub const TABLES: [&str; 13] = [
    "revocation",
    "authorization",
    "code",
    "refresh_token",
    "access_token",
    "session",
    "consent",
    "assertion",
    "secret_use",
    "failure",
    "block",
    "quota",
    "made_user",
];
/// A row with its number: values by column name.
pub(super) type Row = (i64, serde_json::Map<String, serde_json::Value>);
/// Rows per batch.
const SLICE: usize = 200;

impl Store {
    /// Copies everything that has not expired. Newer state in the target is kept: what was used or
    /// ended there stays so. A second run copies what was written since. What ended here in between
    /// without an event (a sign-out, a withdrawn consent, an unblocking) stays in the target.
    /// `progress` receives each table and its rows so far.
    ///
    /// # Errors
    /// Either store cannot be used, this one is not embedded, or the target is not shared. Rows
    /// copied so far stay there; the next run continues.
    pub fn copy_to(
        &self,
        target: &Self,
        now: Timestamp,
        mut progress: impl FnMut(&'static str, usize),
    ) -> Result<(), StoreFault> {
        let (Engine::Embedded(from), Engine::Shared(to)) = (&self.0, &target.0) else {
            let cause = "only an embedded store is moved, and only into a shared one".to_owned();
            return Err(StoreFault::Shared { server: "store".to_owned(), cause });
        };
        let keys = self.keys()?;
        target.change_keys(
            move |known| {
                for key in &keys {
                    if !known.iter().any(|other| other.public_jwk == key.public_jwk) {
                        let number = known.iter().map(|key| key.number).max().unwrap_or(0) + 1;
                        known.push(super::keys::StoredKey { number, ..key.clone() });
                    }
                }
                known.sort_by_key(|key| (key.signs_from, key.number));
            },
            None,
        )?;
        for table in TABLES {
            let (mut last, mut count) = (0, 0);
            loop {
                let rows = from.rows(table, last, SLICE)?;
                let Some((row, _)) = rows.last() else { break };
                last = *row;
                count += rows.len();
                to.take_rows(table, rows, now)?;
                progress(table, count);
            }
            progress(table, count);
        }
        to.end_move()
    }
}
