//! Events for every gateway on the store: revocations, and changed blocks. Each has a number; a
//! gateway reads on from the last number it has.

use std::time::Duration;

use super::revocations::Revocation;
use super::{Store, StoreFault, engine};

/// How far a gateway has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last number.
    pub(super) number: i64,
    /// The connection that it belongs to: after a reconnect everything is read again, because the
    /// new server may have lost events.
    pub(super) generation: u64,
}

/// Events since a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Revocations, in order.
    pub revocations: Vec<Revocation>,
    /// Whether blocks have to be read again.
    pub blocks: bool,
    /// How long each event took to arrive, by the store's own clock. None for events read at the
    /// start or again.
    pub delays: Vec<Duration>,
    /// The position after these events.
    pub position: Position,
}

impl Store {
    /// Waits for events, for about half a second at most.
    ///
    /// # Errors
    /// The store cannot be read: revocations by other gateways since then are not known.
    pub async fn news(&self, after: Position) -> Result<News, StoreFault> {
        engine!(self, await news(after))
    }

    /// All events so far, blocking: before serving begins.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn news_now(&self) -> Result<News, StoreFault> {
        engine!(self, news_now())
    }
}
