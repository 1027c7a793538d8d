//! Used assertions, and the day on which each secret was last used.

use super::{Store, StoreFault, engine};
use crate::names::Timestamp;

impl Store {
    /// Records that an assertion was used; false if it had been used before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn use_assertion(
        &self,
        id: String,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<bool, StoreFault> {
        engine!(self, await use_assertion(id, now, expires))
    }

    /// Records the day on which a secret last proved its client.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn record_secret_use(
        &self,
        client: String,
        secret: String,
        day: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await record_secret_use(client, secret, day))
    }

    /// Records the group of networks that a secret was used from, in a time
    /// ([`NetworkSketch`](crate::tooling::usage::NetworkSketch)).
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn record_secret_network(
        &self,
        client: String,
        secret: String,
        period: i64,
        group: u8,
    ) -> Result<(), StoreFault> {
        engine!(self, await record_secret_network(client, secret, period, group))
    }

    /// Client, secret and each group of networks that it was used from since a time began.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn secret_networks(&self, period: i64) -> Result<Vec<(String, String, u8)>, StoreFault> {
        engine!(self, secret_networks(period))
    }

    /// Client, secret and the day on which it was last used.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn secret_uses(&self) -> Result<Vec<(String, String, Timestamp)>, StoreFault> {
        engine!(self, secret_uses())
    }
}
