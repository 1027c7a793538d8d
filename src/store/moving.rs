//! From the embedded store to a shared one, while gateways serve from the first; and once more for
//! what they wrote meanwhile.

use super::{Engine, Store, StoreFault};
use crate::names::Timestamp;

/// What is moved, in this order: what hangs on something comes after it.
pub const TABLES: [&str; 12] = [
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
];
/// A row with its number: values by the names of their columns.
pub(super) type Row = (i64, serde_json::Map<String, serde_json::Value>);
/// Rows sent at once.
const SLICE: usize = 200;

impl Store {
    /// Copies everything that has not expired. What the target knows better stays: what was used or
    /// ended there is so for good. A second time brings what was written since. What was ended here
    /// between the two, and leaves no event (a sign-out, a consent taken back, an unblocking),
    /// stays there. `progress` hears of each table how many rows it had so far.
    ///
    /// # Errors
    /// Either store cannot be used, or this one is not an embedded or the target not a shared one.
    /// What was copied until then is there; the next time goes on.
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
        target.change_keys(move |known| {
            for key in &keys {
                if !known.iter().any(|other| other.public_jwk == key.public_jwk) {
                    let number = known.iter().map(|key| key.number).max().unwrap_or(0) + 1;
                    known.push(super::keys::StoredKey { number, ..key.clone() });
                }
            }
            known.sort_by_key(|key| (key.signs_from, key.number));
        })?;
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
