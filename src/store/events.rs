//! What every gateway on the store has to hear of: revocations, and changed blocks. Each has a
//! number; a gateway reads on from the last that it knows.

use std::time::Duration;

use super::revocations::Revocation;
use super::{Store, StoreFault, engine};

/// How far a gateway has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last number.
    pub(super) number: i64,
    /// Which connection said so: after another one everything is read anew, for the server behind
    /// it may know less.
    pub(super) generation: u64,
}

/// What has happened since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Revocations, in their order.
    pub revocations: Vec<Revocation>,
    /// Whether blocks are to be read anew.
    pub blocks: bool,
    /// How long each event took to get here, by the store's own clock. Nothing of what is read at
    /// the start, or anew.
    pub delays: Vec<Duration>,
    /// How far this reaches.
    pub position: Position,
}

impl Store {
    /// Waits for news, for about half a second at most.
    ///
    /// # Errors
    /// The store cannot be read: what has been revoked elsewhere meanwhile is not known.
    pub async fn news(&self, after: Position) -> Result<News, StoreFault> {
        engine!(self, await news(after))
    }

    /// Everything so far, from a thread that may wait: before serving begins.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn news_now(&self) -> Result<News, StoreFault> {
        engine!(self, news_now())
    }
}
