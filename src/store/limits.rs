//! What has been used of limits, where that is kept or shared: the state of each rate, the count of
//! each quota's window.

use super::{Store, StoreFault, engine};

/// Something used of a limit since it was last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Of a rate (GCRA): the answer is how far its theoretical arrival lies ahead, microseconds.
    Rate {
        /// What it is counted under.
        key: String,
        /// How many.
        count: u64,
        /// Microseconds that one stands for.
        each: u64,
        /// Microseconds since the first of them.
        ago: u64,
    },
    /// Of a quota's window: the answer is how many in all.
    Quota {
        /// What it is counted under, the window included.
        key: String,
        /// How many.
        count: u64,
        /// Seconds that the window still has.
        left: u64,
        /// Which window it is.
        window: i64,
    },
}

impl Store {
    /// Whether rates are shared with other gateways. Quotas always are, and outlive the process.
    #[must_use]
    pub const fn shares_rates(&self) -> bool {
        matches!(self.0, super::Engine::Shared(_))
    }

    /// Tells what was used, and hears how it stands: one answer for each.
    ///
    /// # Errors
    /// The store cannot be asked: what was used is still to be told.
    pub async fn draw(&self, draws: Vec<Draw>) -> Result<Vec<u64>, StoreFault> {
        engine!(self, await draw(draws))
    }

    /// Says that this gateway is there, and hears how many are: those that said so within ten
    /// seconds.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn gateways(&self, id: String) -> Result<u64, StoreFault> {
        engine!(self, await gateways(id))
    }
}
