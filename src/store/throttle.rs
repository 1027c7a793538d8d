//! Attempts to authenticate: failed ones count across restarts, and of successful ones the day is kept.

use super::{Store, StoreFault, engine};
use crate::names::Timestamp;

impl Store {
    /// Notes that an assertion has been used; false if it had been before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn use_assertion(&self, id: String, now: Timestamp, expires: Timestamp) -> Result<bool, StoreFault> {
        engine!(self, await use_assertion(id, now, expires))
    }

    /// Keeps a failure of these subjects until it no longer counts.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn record_failures(
        &self,
        subjects: [String; 2],
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await record_failures(subjects, at, expires))
    }

    /// Notes the day on which a secret last proved its client.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn record_secret_use(&self, client: String, secret: String, day: Timestamp) -> Result<(), StoreFault> {
        engine!(self, await record_secret_use(client, secret, day))
    }

    /// Client, secret and the day on which it was last used.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn secret_uses(&self) -> Result<Vec<(String, String, Timestamp)>, StoreFault> {
        engine!(self, secret_uses())
    }

    /// The failures that still count, oldest first: at the start of a process.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn failures(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>, StoreFault> {
        engine!(self, failures(now))
    }
}
