//! Events for every gateway on the store: revocations, changed blocks and changed users. Each has a
//! number; a gateway reads on from the last number it has.

use std::collections::BTreeSet;
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

/// The users made at login that have to be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedUsers {
    /// These, by their names.
    Named(BTreeSet<String>),
    /// All.
    All,
}

impl Default for ChangedUsers {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl ChangedUsers {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(mut some), Self::Named(more)) => {
                some.extend(more);
                Self::Named(some)
            }
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }

    /// Whether it is nobody.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

/// Events since a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Revocations, in order.
    pub revocations: Vec<Revocation>,
    /// Whether blocks have to be read again.
    pub blocks: bool,
    /// Users made at login that have to be read again.
    pub users: ChangedUsers,
    /// How long each event took to arrive, by the store's own clock. None for events read at the
    /// start or again.
    pub delays: Vec<Duration>,
    /// The position after these events.
    pub position: Position,
}

impl News {
    /// Takes in an event that is no revocation: it names a changed user, or blocks have changed.
    pub(super) fn changed(&mut self, user: String) {
        if user.is_empty() {
            self.blocks = true;
        } else {
            let named = ChangedUsers::Named(BTreeSet::from([user]));
            self.users = std::mem::take(&mut self.users).and(named);
        }
    }
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
