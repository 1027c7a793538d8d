//! Refresh tokens: each use gives a successor, and a second use ends the family.

use rusqlite::{Connection, OptionalExtension, params};
use zeroize::Zeroizing;

use super::grants::{Gift, NewRefresh, authorization, give, revoke};
use super::revocations::Revocation;
use super::{Store, StoreFault};
use crate::grant::GrantError;
use crate::grant::authorization::Authorization;
use crate::grant::opaque::{Kind, RANDOM, ValueDigest, seal};
use crate::names::Timestamp;

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

impl Store {
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
