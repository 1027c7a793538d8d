//! What has been revoked before its time, for tokens that need no row to be good.

use super::{Store, StoreFault, engine};
use crate::names::{IssuerName, Timestamp};

/// How long a revocation is kept, seconds: longer than any token lives.
const KEPT: i64 = 105 * 86_400;

/// What a revocation is about, among the tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One token, by its `jti`.
    Token(String),
    /// All tokens of one authorization.
    Authorization(String),
    /// All tokens of a client until then; of another issuer, by its client claim.
    Client(String),
    /// All tokens that act for a user until then; of another issuer, by their subject.
    User(String),
    /// All of the issuer until then.
    Everything,
}

impl Subject {
    /// How it is called in the store, and what stands for it.
    pub(super) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Token(id) => ("token", id),
            Self::Authorization(id) => ("authorization", id),
            Self::Client(client) => ("client", client),
            Self::User(user) => ("user", user),
            Self::Everything => ("everything", ""),
        }
    }

    /// What kind and value say. A kind of a later version is taken for the widest: it must not be
    /// overlooked.
    pub(super) fn of(kind: &str, value: String) -> Self {
        match kind {
            "token" => Self::Token(value),
            "authorization" => Self::Authorization(value),
            "client" => Self::Client(value),
            "user" => Self::User(value),
            _ => Self::Everything,
        }
    }
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens.
    pub issuer: IssuerName,
    /// What about.
    pub subject: Subject,
    /// Tokens issued at or before this are meant; those named by id whenever issued.
    pub at: Timestamp,
    /// Nothing that it is about lives longer.
    pub expires: Timestamp,
}

impl Revocation {
    /// A revocation of our own tokens now.
    #[must_use]
    pub fn now(subject: Subject, now: Timestamp) -> Self {
        Self::until(IssuerName::new(IssuerName::OWN), subject, now, now)
    }

    /// What was issued until a time, and what was allowed until then; a token that is named is
    /// meant whenever issued.
    #[must_use]
    pub const fn until(
        issuer: IssuerName,
        subject: Subject,
        at: Timestamp,
        now: Timestamp,
    ) -> Self {
        Self { issuer, subject, at, expires: now.plus(KEPT) }
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
}
