//! What has been revoked before its time, for tokens that need no row to be good.

use super::{Store, StoreFault, engine};
use crate::names::Timestamp;

/// How long a revocation is kept, seconds: longer than any token lives.
const KEPT: i64 = 105 * 86_400;

/// What a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One token, by its `jti`.
    Token(String),
    /// All tokens of one authorization.
    Authorization(String),
    /// All tokens of a client until then.
    Client(String),
    /// All tokens that act for a user until then.
    User(String),
    /// All of ours until then.
    Everything,
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What about.
    pub subject: Subject,
    /// Tokens issued at or before this are meant; those named by id whenever issued.
    pub at: Timestamp,
    /// Nothing that it is about lives longer.
    pub expires: Timestamp,
}

impl Revocation {
    /// A revocation now.
    #[must_use]
    pub const fn now(subject: Subject, now: Timestamp) -> Self {
        Self { subject, at: now, expires: now.plus(KEPT) }
    }

    /// What was issued until a time, and what was allowed until then; a token that is named is meant whenever issued.
    #[must_use]
    pub const fn until(subject: Subject, at: Timestamp, now: Timestamp) -> Self {
        Self { subject, at, expires: now.plus(KEPT) }
    }

    /// Ends an authorization.
    #[must_use]
    pub fn authorization(id: &str, now: Timestamp) -> Self {
        Self::now(Subject::Authorization(id.to_owned()), now)
    }
}

impl Store {
    /// Revokes; whoever shares the store learns of it.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), StoreFault> {
        engine!(self, await revoke(revocation))
    }

    /// The same for a command.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub fn revoke_now(&self, revocation: Revocation) -> Result<(), StoreFault> {
        engine!(self, revoke_now(revocation))
    }

    /// Revocations after a number, each with its own: what this process has not heard of yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn revocations_after(&self, number: i64) -> Result<Vec<(i64, Revocation)>, StoreFault> {
        engine!(self, revocations_after(number))
    }
}
