//! Blocks set by command: callers and networks refused before all policies, without an edit of the
//! YAML.

use super::audit::AuditRecord;
use super::{Store, StoreFault, engine};
use crate::names::Timestamp;

/// The subject of a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blocked {
    /// A client, by its id.
    Client(String),
    /// A user, by its name.
    User(String),
    /// A token, by its `jti`.
    Token(String),
    /// A network, in CIDR notation.
    Network(ipnet::IpNet),
}

impl Blocked {
    /// Its label in the store and in messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::User(_) => "user",
            Self::Token(_) => "token",
            Self::Network(_) => "network",
        }
    }

    /// Its value in the store.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::Client(value) | Self::User(value) | Self::Token(value) => value.clone(),
            Self::Network(network) => network.to_string(),
        }
    }

    /// Parses a kind and a value; `None` for a kind that this version does not write.
    #[must_use]
    pub fn parse(kind: &str, value: &str) -> Option<Self> {
        match kind {
            "client" => Some(Self::Client(value.to_owned())),
            "user" => Some(Self::User(value.to_owned())),
            "token" => Some(Self::Token(value.to_owned())),
            "network" => value.parse().ok().map(Self::Network),
            _ => None,
        }
    }
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandedBlock {
    /// Its subject.
    pub blocked: Blocked,
    /// The reason, for people who review it later.
    pub reason: Option<String>,
    /// Its start.
    pub since: Timestamp,
    /// Its end, if it has one.
    pub until: Option<Timestamp>,
}

impl Store {
    /// Sets a block, replacing one with the same subject; all gateways of the store are notified.
    ///
    /// # Errors
    /// The store cannot be written: nobody is blocked.
    pub fn block(
        &self,
        block: &CommandedBlock,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        engine!(self, block(block, record))
    }

    /// Ends a block; false if there is none.
    ///
    /// # Errors
    /// The store cannot be written: the block stays.
    pub fn unblock(
        &self,
        blocked: &Blocked,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<bool, StoreFault> {
        engine!(self, unblock(blocked, now, record))
    }

    /// All blocks that have not ended, ordered by subject.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn blocks(&self, now: Timestamp) -> Result<Vec<CommandedBlock>, StoreFault> {
        engine!(self, blocks(now))
    }
}
