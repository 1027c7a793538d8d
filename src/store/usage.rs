//! Counters of use by client, API, operation and day. Several gateways on one store add up.

use std::collections::HashMap;

use super::{Store, StoreFault, engine};
use crate::tooling::usage::{Day, NetworkSketch, OTHER, Observed, Row, SecretUse};

/// Subjects of one day with a counter of their own; further ones count as [`OTHER`] of their API.
pub const MAX_SUBJECTS: usize = 200_000;

impl Store {
    /// Adds to the counters; all of it or nothing.
    ///
    /// # Errors
    /// The store cannot be written: nothing was added.
    pub async fn add_usage(&self, rows: Vec<Row>) -> Result<(), StoreFault> {
        engine!(self, await add_usage(rows))
    }

    /// The counters from a day on: of one client, or of all.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn usage(&self, since: Day, client: Option<String>) -> Result<Vec<Row>, StoreFault> {
        engine!(self, await usage(since, client))
    }

    /// Hands each counter of all clients from a day on to `take`; blocking. There may be a million
    /// of them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn each_usage(&self, since: Day, take: &mut dyn FnMut(Row)) -> Result<(), StoreFault> {
        engine!(self, each_usage(since, take))
    }

    /// All that is known of the use of a configuration; blocking.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn observed(&self, today: Day) -> Result<Observed, StoreFault> {
        let since = self.first_usage()?;
        let mut observed = Observed::of(since, Vec::new(), self.used_secrets(today)?);
        self.each_usage(since.unwrap_or_default(), &mut |row| observed.add(&row))?;
        Ok(observed)
    }

    /// The secrets that were used, each with its last day, and about how many networks it was used
    /// from in the last 30 to 60 days; blocking.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn used_secrets(&self, today: Day) -> Result<Vec<SecretUse>, StoreFault> {
        let mut sketches: HashMap<(String, String), NetworkSketch> = HashMap::new();
        for (client, secret, group) in self.secret_networks(NetworkSketch::period(today) - 1)? {
            sketches.entry((client, secret)).or_default().add(group);
        }
        let used = |(client, secret, last)| {
            let sketch = sketches.get(&(String::clone(&client), String::clone(&secret)));
            let networks = sketch.map(|sketch| sketch.estimate());
            SecretUse { client, secret, last: Day::of(last), networks }
        };
        Ok(self.secret_uses()?.into_iter().map(used).collect())
    }

    /// The first day on which anything was counted and is kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn first_usage(&self) -> Result<Option<Day>, StoreFault> {
        engine!(self, first_usage())
    }

    /// Removes a batch of the counters before a day; true when there may be more.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn forget_usage(&self, before: Day) -> Result<bool, StoreFault> {
        engine!(self, await forget_usage(before))
    }
}

/// The row under which a subject counts for which there is no room.
pub(super) fn without_room(mut row: Row) -> Row {
    OTHER.clone_into(&mut row.subject.operation);
    row.subject.client.clear();
    row
}
