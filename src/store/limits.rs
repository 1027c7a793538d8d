//! Stored or shared use of limits: the state of each rate, the count of each quota's window.

use super::{Store, StoreFault, engine};

/// Use of a limit since the last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Use of a rate (GCRA): the answer is how far its theoretical arrival time lies ahead,
    /// microseconds.
    Rate {
        /// The key that it is counted under.
        key: String,
        /// Number of requests.
        count: u64,
        /// Microseconds per request.
        each: u64,
        /// Microseconds since the first request.
        ago: u64,
    },
    /// Use of a quota's window: the answer is the total.
    Quota {
        /// The key that it is counted under, including the window.
        key: String,
        /// Number of requests.
        count: u64,
        /// Seconds left in the window.
        left: u64,
        /// The window.
        window: i64,
    },
}

impl Store {
    /// Whether rates are shared with other gateways. Quotas always are, and outlive the process.
    #[must_use]
    pub const fn shares_rates(&self) -> bool {
        matches!(self.0, super::Engine::Shared(_))
    }

    /// Reports use, and returns the state of each limit.
    ///
    /// # Errors
    /// The store cannot be reached: the use has to be reported again.
    pub async fn draw(&self, draws: Vec<Draw>) -> Result<Vec<u64>, StoreFault> {
        engine!(self, await draw(draws))
    }

    /// Reports that this gateway is running, and returns the number of gateways that did so within
    /// ten seconds.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn gateways(&self, id: String) -> Result<u64, StoreFault> {
        engine!(self, await gateways(id))
    }
}
