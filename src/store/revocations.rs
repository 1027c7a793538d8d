//! Revocations, for tokens that are valid without a row in the store.

use super::audit::AuditRecord;
use super::{Store, StoreFault, engine};
use crate::names::{IssuerName, Timestamp};

/// How long a revocation is kept, seconds: longer than any token lives.
const KEPT: i64 = 105 * 86_400;

/// The subject of a revocation, among the tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One token, by its `jti`.
    Token(String),
    /// All tokens of one authorization.
    Authorization(String),
    /// All tokens of a client until then; for another issuer, by its client claim.
    Client(String),
    /// All tokens that act for a user until then; for another issuer, by their subject.
    User(String),
    /// All of the issuer until then.
    Everything,
}

impl Subject {
    /// Its kind in the store, and its value.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Token(id) => ("token", id),
            Self::Authorization(id) => ("authorization", id),
            Self::Client(client) => ("client", client),
            Self::User(user) => ("user", user),
            Self::Everything => ("everything", ""),
        }
    }

    /// Parses kind and value. A kind of a later version counts as the widest: it must not be
    /// ignored.
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
    /// The issuer of the tokens.
    pub issuer: IssuerName,
    /// Its subject.
    pub subject: Subject,
    /// It covers tokens issued at or before this time; those named by id whenever issued.
    pub at: Timestamp,
    /// No token that it covers lives longer.
    pub expires: Timestamp,
}

impl Revocation {
    /// A revocation of our own tokens issued until now.
    #[must_use]
    pub fn now(subject: Subject, now: Timestamp) -> Self {
        Self::until(IssuerName::new(IssuerName::OWN), subject, now, now)
    }

    /// Revokes tokens issued and authorizations given until a time; a token named by id whenever
    /// issued.
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
    /// Revokes on all gateways of the store.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub async fn revoke(
        &self,
        revocation: Revocation,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        engine!(self, await revoke(revocation, record))
    }

    /// The same for a command.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub fn revoke_now(
        &self,
        revocation: Revocation,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        engine!(self, revoke_now(revocation, record))
    }
}
