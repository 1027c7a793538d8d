//! Opaque access tokens.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::grants::scopes;
use super::{Store, StoreFault};
use crate::grant::opaque::ValueDigest;
use crate::names::{IssuerName, Timestamp};
use crate::scope::ScopeSet;
use crate::token::Facts;

/// An opaque access token as stored: what a JWT says in its claims.
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
    /// Who it acts for.
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
    /// What a JWT of the same grant would say.
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
        }
    }
}

impl Store {
    /// Stores an opaque token that no user's authorization stands behind.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn put_access(&self, access: StoredAccess) -> Result<(), StoreFault> {
        self.write(move |connection| insert_access(connection, &access)).await
    }

    /// An opaque access token.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn access(&self, digest: ValueDigest) -> Result<Option<StoredAccess>, StoreFault> {
        self.read(move |connection| select_access(connection, digest)).await
    }

    /// The same for a command.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find_access(&self, digest: ValueDigest) -> Result<Option<StoredAccess>, StoreFault> {
        self.read_now(|connection| select_access(connection, digest))
    }
}

fn select_access(connection: &Connection, digest: ValueDigest) -> rusqlite::Result<Option<StoredAccess>> {
    connection
        .prepare_cached(
            "SELECT id, authorization_id, client, subject, scopes, audience, issued_at, expires_at
             FROM access_token WHERE digest = ?1",
        )?
        .query_row([digest], |row| {
            Ok(StoredAccess {
                digest,
                id: row.get(0)?,
                authorization: row.get(1)?,
                client: row.get(2)?,
                subject: row.get(3)?,
                scopes: scopes(row, 4)?,
                audience: row.get(5)?,
                issued: Timestamp(row.get(6)?),
                expires: Timestamp(row.get(7)?),
            })
        })
        .optional()
}

pub(super) fn insert_access(connection: &Connection, access: &StoredAccess) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO access_token VALUES
             (:digest, :id, :authorization, :client, :subject, :scopes, :audience, :issued, :expires)",
        )?
        .execute(named_params! {
            ":digest": access.digest,
            ":id": access.id,
            ":authorization": access.authorization,
            ":client": access.client,
            ":subject": access.subject,
            ":scopes": access.scopes.to_value(),
            ":audience": access.audience,
            ":issued": access.issued.0,
            ":expires": access.expires.0,
        })?;
    Ok(())
}
