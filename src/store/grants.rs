//! Authorizations with their codes, refresh tokens and opaque access tokens. Each use of a single-use value is one write: of many
//! that come at once, one is first.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use zeroize::Zeroizing;

use super::revocations::{Revocation, insert as insert_revocation};
use super::{Store, StoreFault};
use crate::grant::GrantError;
use crate::grant::authorization::{Authorization, IssuedCode};
use crate::grant::opaque::{Kind, RANDOM, ValueDigest, seal};
use crate::grant::pkce::Challenge;
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

/// A refresh token to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewRefresh {
    /// Its digest.
    pub digest: ValueDigest,
    /// When it expires.
    pub expires: Timestamp,
}

/// How the redemption of a code ended.
#[derive(Debug)]
pub enum Redemption<T> {
    /// The first use: what the check gave.
    Done(T),
    /// No such code, or it has expired.
    Unknown,
    /// It had been used: everything that it gave has been revoked.
    Reused(Revocation),
    /// The check said no. The code is as it was.
    Refused(GrantError),
}

/// How a refresh ended.
#[derive(Debug)]
pub enum Rotation<T> {
    /// The first use: the new token is stored.
    Done(T),
    /// Used a moment ago, and its successor has not been used: the successor's random bytes, once more.
    Again(T, Zeroizing<[u8; RANDOM]>, Timestamp),
    /// No such token of this client, or it has expired.
    Unknown,
    /// It had been used: the whole family has been revoked.
    Reused(Revocation),
    /// The check said no. The token is as it was.
    Refused(GrantError),
}

/// One use of a refresh token.
pub struct Use {
    /// The token as presented.
    pub token: Zeroizing<String>,
    /// Its digest.
    pub digest: ValueDigest,
    /// Who presents it.
    pub client: String,
    /// Random bytes of the token that takes its place.
    pub successor: Zeroizing<[u8; RANDOM]>,
    /// When that one expires.
    pub expires: Timestamp,
    /// For how long a used one gives the same successor again, seconds.
    pub grace: u32,
}

impl std::fmt::Debug for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Use").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What a successful check leaves to be done in the same write.
#[derive(Debug)]
pub struct Gift<T> {
    /// For the caller.
    pub value: T,
    /// When the access token expires, whatever its format: for so long the authorization must be known, so that it can end it.
    pub expires: Timestamp,
    /// A refresh token.
    pub refresh: Option<NewRefresh>,
    /// An opaque access token.
    pub access: Option<StoredAccess>,
}

impl Store {
    /// Stores an authorization with the code for it.
    ///
    /// # Errors
    /// The store cannot be written; then neither is there.
    pub async fn issue_code(
        &self,
        digest: ValueDigest,
        code: IssuedCode,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            let authorization = &code.authorization;
            insert_authorization(connection, authorization, now, expires)?;
            connection.prepare_cached("INSERT INTO code VALUES (?1, ?2, ?3, ?4, ?5, NULL)")?.execute(params![
                digest,
                authorization.id,
                code.redirect_uri,
                code.challenge.as_ref().map(Challenge::as_str),
                expires.0
            ])?;
            Ok(())
        })
        .await
    }

    /// Uses a code, if `check` says yes to it.
    ///
    /// # Errors
    /// The store cannot be written; then the code is as it was.
    pub async fn redeem_code<T: Send + 'static>(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
        check: impl FnOnce(&IssuedCode) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Redemption<T>, StoreFault> {
        self.write(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT a.id, a.client, a.subject, a.scopes, a.resource, c.redirect_uri, c.challenge, c.expires_at, c.used_at
                     FROM code c JOIN authorization a ON a.id = c.authorization_id WHERE c.digest = ?1",
                )?
                .query_row([digest], |row| {
                    let challenge: Option<String> = row.get(6)?;
                    let code = IssuedCode {
                        authorization: authorization(row)?,
                        redirect_uri: row.get(5)?,
                        challenge: challenge.map(Challenge::stored),
                    };
                    Ok((code, Timestamp(row.get(7)?), row.get::<_, Option<i64>>(8)?))
                })
                .optional()?;
            let Some((code, expires, used)) = found else { return Ok(Redemption::Unknown) };
            // The code of another client is none at all to this one, which must not end what it gave.
            if code.authorization.client != client {
                return Ok(Redemption::Unknown);
            }
            if used.is_some() {
                return revoke(connection, &code.authorization.id, now).map(Redemption::Reused);
            }
            if now >= expires {
                return Ok(Redemption::Unknown);
            }
            let gift = match check(&code) {
                Ok(gift) => gift,
                Err(error) => return Ok(Redemption::Refused(error)),
            };
            connection.prepare_cached("UPDATE code SET used_at = ?2 WHERE digest = ?1")?.execute(params![digest, now.0])?;
            give(connection, &code.authorization.id, &gift)?;
            Ok(Redemption::Done(gift.value))
        })
        .await
    }

    /// Uses a refresh token, if `check` says yes to its authorization.
    ///
    /// # Errors
    /// The store cannot be written; then the token is as it was.
    pub async fn rotate<T: Send + 'static>(
        &self,
        used: Use,
        now: Timestamp,
        check: impl FnOnce(&Authorization) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Rotation<T>, StoreFault> {
        self.write(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT a.id, a.client, a.subject, a.scopes, a.resource, r.expires_at, r.used_at, r.successor
                     FROM refresh_token r JOIN authorization a ON a.id = r.authorization_id WHERE r.digest = ?1",
                )?
                .query_row([used.digest], |row| {
                    let known = (Timestamp(row.get(5)?), row.get::<_, Option<i64>>(6)?, row.get(7)?);
                    Ok((authorization(row)?, known))
                })
                .optional()?;
            let Some((authorization, (expires, used_at, sealed))) = found else { return Ok(Rotation::Unknown) };
            if authorization.client != used.client || now >= expires {
                return Ok(Rotation::Unknown);
            }
            let again = match (used_at, sealed) {
                (None, _) => None,
                (Some(at), Some(sealed)) => match unused_successor(connection, &used, Timestamp(at), &sealed, now)? {
                    Some(successor) => Some(successor),
                    None => return revoke(connection, &authorization.id, now).map(Rotation::Reused),
                },
                (Some(_), None) => return revoke(connection, &authorization.id, now).map(Rotation::Reused),
            };
            let gift = match check(&authorization) {
                Ok(gift) => gift,
                Err(error) => return Ok(Rotation::Refused(error)),
            };
            if let Some((successor, expires)) = again {
                give(connection, &authorization.id, &gift)?;
                return Ok(Rotation::Again(gift.value, successor, expires));
            }
            connection
                .prepare_cached("UPDATE refresh_token SET used_at = ?2, successor = ?3 WHERE digest = ?1")?
                .execute(params![used.digest, now.0, seal(&used.token, &used.successor)])?;
            let successor = Kind::Refresh.make(&used.successor);
            let refresh = Kind::Refresh.digest(&successor).map(|digest| NewRefresh { digest, expires: used.expires });
            let gift = Gift { refresh, ..gift };
            give(connection, &authorization.id, &gift)?;
            Ok(Rotation::Done(gift.value))
        })
        .await
    }

    /// Stores an authorization that needs no code, with what it gives.
    ///
    /// # Errors
    /// The store cannot be written; then nothing of it is there.
    pub async fn authorize(
        &self,
        authorization: Authorization,
        gift: Gift<()>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            insert_authorization(connection, &authorization, now, expires)?;
            give(connection, &authorization.id, &gift)
        })
        .await
    }

    /// Notes that an assertion has been used; false if it had been before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn use_assertion(&self, id: String, expires: Timestamp) -> Result<bool, StoreFault> {
        self.write(move |connection| {
            let added = connection
                .prepare_cached("INSERT INTO assertion VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![id, expires.0])?;
            Ok(added == 1)
        })
        .await
    }

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

    /// The authorization behind a refresh token, used or not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find_refresh(&self, digest: ValueDigest) -> Result<Option<String>, StoreFault> {
        self.read_now(|connection| {
            connection
                .query_row("SELECT authorization_id FROM refresh_token WHERE digest = ?1", [digest], |row| row.get(0))
                .optional()
        })
    }

    /// The authorization behind a refresh token that could be used now, with its expiry.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn refresh(&self, digest: ValueDigest) -> Result<Option<(Authorization, Timestamp)>, StoreFault> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT a.id, a.client, a.subject, a.scopes, a.resource, r.expires_at
                     FROM refresh_token r JOIN authorization a ON a.id = r.authorization_id
                     WHERE r.digest = ?1 AND r.used_at IS NULL",
                )?
                .query_row([digest], |row| Ok((authorization(row)?, Timestamp(row.get(5)?))))
                .optional()
        })
        .await
    }

    /// Ends an authorization of a client by one of its refresh tokens, used or not; nothing when there is none.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub async fn revoke_refresh(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
    ) -> Result<Option<Revocation>, StoreFault> {
        self.write(move |connection| {
            let id: Option<String> = connection
                .prepare_cached(
                    "SELECT a.id FROM refresh_token r JOIN authorization a ON a.id = r.authorization_id
                     WHERE r.digest = ?1 AND a.client = ?2",
                )?
                .query_row(params![digest, client], |row| row.get(0))
                .optional()?;
            id.map(|id| revoke(connection, &id, now)).transpose()
        })
        .await
    }

    /// Ends everything that a user allowed a client, the consent included.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub async fn disconnect(
        &self,
        user: String,
        client: String,
        now: Timestamp,
    ) -> Result<Vec<Revocation>, StoreFault> {
        self.write(move |connection| {
            connection.execute("DELETE FROM consent WHERE user = ?1 AND client = ?2", params![user, client])?;
            let mut statement =
                connection.prepare_cached("SELECT id FROM authorization WHERE subject = ?1 AND client = ?2")?;
            let ids = statement.query_map(params![user, client], |row| row.get(0))?;
            let ids = ids.collect::<rusqlite::Result<Vec<String>>>()?;
            ids.iter().map(|id| revoke(connection, id, now)).collect()
        })
        .await
    }
}

/// The successor of a token that was used a moment ago, if it has not been used itself.
fn unused_successor(
    connection: &Connection,
    used: &Use,
    at: Timestamp,
    sealed: &[u8; RANDOM],
    now: Timestamp,
) -> rusqlite::Result<Option<(Zeroizing<[u8; RANDOM]>, Timestamp)>> {
    if now >= at.plus(i64::from(used.grace)) {
        return Ok(None);
    }
    let random = Zeroizing::new(seal(&used.token, sealed));
    let Some(digest) = Kind::Refresh.digest(&Kind::Refresh.make(&random)) else { return Ok(None) };
    let expires = connection
        .prepare_cached("SELECT expires_at FROM refresh_token WHERE digest = ?1 AND used_at IS NULL")?
        .query_row([digest], |row| row.get(0))
        .optional()?;
    Ok(expires.map(|expires| (random, Timestamp(expires))))
}

/// Ends an authorization with all that hangs on it, and leaves word of it for JWTs.
fn revoke(connection: &Connection, id: &str, now: Timestamp) -> rusqlite::Result<Revocation> {
    connection.prepare_cached("DELETE FROM authorization WHERE id = ?1")?.execute([id])?;
    let revocation = Revocation::authorization(id, now);
    insert_revocation(connection, &revocation)?;
    Ok(revocation)
}

/// Stores what a use gives, and lets the authorization live as long as the last of it.
fn give<T>(connection: &Connection, id: &str, gift: &Gift<T>) -> rusqlite::Result<()> {
    let mut last = gift.expires;
    if let Some(refresh) = &gift.refresh {
        connection.prepare_cached("INSERT INTO refresh_token VALUES (?1, ?2, ?3, NULL, NULL)")?.execute(params![
            refresh.digest,
            id,
            refresh.expires.0
        ])?;
        last = Timestamp(last.0.max(refresh.expires.0));
    }
    if let Some(access) = &gift.access {
        insert_access(connection, access)?;
    }
    connection
        .prepare_cached("UPDATE authorization SET expires_at = max(expires_at, ?2) WHERE id = ?1")?
        .execute(params![id, last.0])?;
    Ok(())
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

fn insert_authorization(
    connection: &Connection,
    authorization: &Authorization,
    now: Timestamp,
    expires: Timestamp,
) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO authorization VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        authorization.id,
        authorization.client,
        authorization.subject,
        authorization.scopes.to_value(),
        authorization.resource,
        now.0,
        expires.0
    ])?;
    Ok(())
}

fn insert_access(connection: &Connection, access: &StoredAccess) -> rusqlite::Result<()> {
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

/// The first five columns.
fn authorization(row: &Row<'_>) -> rusqlite::Result<Authorization> {
    Ok(Authorization {
        id: row.get(0)?,
        client: row.get(1)?,
        subject: row.get(2)?,
        scopes: scopes(row, 3)?,
        resource: row.get(4)?,
    })
}

pub(super) fn scopes(row: &Row<'_>, column: usize) -> rusqlite::Result<ScopeSet> {
    let text: String = row.get(column)?;
    ScopeSet::parse_unbounded(&text).map_err(|fault| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(fault))
    })
}
