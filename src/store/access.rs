//! Opaque access tokens.

use super::{Store, StoreFault, engine};
use crate::grant::opaque::ValueDigest;
use crate::names::{IssuerName, Timestamp};
use crate::scope::ScopeSet;
use crate::token::Facts;

/// An opaque access token as stored, with the content of a JWT's claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccess {
    /// Its digest.
    pub digest: ValueDigest,
    /// Its id: `jti`.
    pub id: String,
    /// The authorization it is issued for.
    pub authorization: Option<String>,
    /// The client.
    pub client: String,
    /// The user or client that it acts for.
    pub subject: String,
    /// Scopes.
    pub scopes: ScopeSet,
    /// `aud`.
    pub audience: String,
    /// `iat`.
    pub issued: Timestamp,
    /// `exp`.
    pub expires: Timestamp,
}

impl StoredAccess {
    /// The facts that a JWT of the same grant would have.
    #[must_use]
    pub fn into_facts(self) -> Facts {
        Facts {
            issuer: IssuerName::new(IssuerName::OWN),
            key: None,
            subject: self.subject,
            client: Some(self.client),
            audience: vec![self.audience],
            expires: self.expires,
            not_before: None,
            issued: Some(self.issued),
            id: Some(self.id),
            authorization: self.authorization,
            scopes: Some(self.scopes),
            roles: Vec::new(),
            bound: false,
            claims: serde_json::Map::new(),
            unread: Vec::new(),
        }
    }
}

impl Store {
    /// Stores an opaque token without a user's authorization.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn put_access(&self, access: StoredAccess) -> Result<(), StoreFault> {
        engine!(self, await put_access(access))
    }

    /// An opaque access token.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn access(&self, digest: ValueDigest) -> Result<Option<StoredAccess>, StoreFault> {
        engine!(self, await access(digest))
    }

    /// The same for a command.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find_access(&self, digest: ValueDigest) -> Result<Option<StoredAccess>, StoreFault> {
        engine!(self, find_access(digest))
    }
}
