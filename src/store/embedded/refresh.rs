//! Refresh tokens.

use rusqlite::{Connection, OptionalExtension, params};
use zeroize::Zeroizing;

use super::Embedded;
use super::grants::{authorization, give, revoke};
use crate::grant::GrantError;
use crate::grant::authorization::Authorization;
use crate::grant::opaque::{Kind, RANDOM, ValueDigest, seal};
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::grants::{Gift, NewRefresh};
use crate::store::refresh::{Rotation, Use};
use crate::store::revocations::Revocation;

impl Embedded {
    pub(in crate::store) async fn rotate<T: Send + 'static>(
        &self,
        used: Use,
        now: Timestamp,
        check: impl FnOnce(&Authorization) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Rotation<T>, StoreFault> {
        self.write(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT a.id, a.client, a.subject, a.scopes, a.resource, r.expires_at, \
                        r.used_at, r.successor
                     FROM refresh_token r JOIN authorization a ON a.id = r.authorization_id WHERE \
                     r.digest = ?1",
                )?
                .query_row([used.digest], |row| {
                    let known =
                        (Timestamp(row.get(5)?), row.get::<_, Option<i64>>(6)?, row.get(7)?);
                    Ok((authorization(row)?, known))
                })
                .optional()?;
            let Some((authorization, (expires, used_at, sealed))) = found else {
                return Ok(Rotation::Unknown);
            };
            if authorization.client != used.client || now >= expires {
                return Ok(Rotation::Unknown);
            }
            let again = match (used_at, sealed) {
                (None, _) => None,
                (Some(at), Some(sealed)) => {
                    match unused_successor(connection, &used, Timestamp(at), &sealed, now)? {
                        Some(successor) => Some(successor),
                        None => {
                            return revoke(connection, &authorization.id, now)
                                .map(Rotation::Reused);
                        }
                    }
                }
                (Some(_), None) => {
                    return revoke(connection, &authorization.id, now).map(Rotation::Reused);
                }
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
                .prepare_cached(
                    "UPDATE refresh_token SET used_at = ?2, successor = ?3 WHERE \
                    digest = ?1",
                )?
                .execute(params![used.digest, now.0, seal(&used.token, &used.successor)])?;
            let successor = Kind::Refresh.make(&used.successor);
            let refresh = Kind::Refresh
                .digest(&successor)
                .map(|digest| NewRefresh { digest, expires: used.expires });
            let gift = Gift { refresh, ..gift };
            give(connection, &authorization.id, &gift)?;
            Ok(Rotation::Done(gift.value))
        })
        .await
    }

    pub(in crate::store) async fn refresh(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<(Authorization, Timestamp)>, StoreFault> {
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

    pub(in crate::store) fn find_refresh(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<String>, StoreFault> {
        self.read_now(|connection| {
            connection
                .query_row(
                    "SELECT authorization_id FROM refresh_token WHERE digest = ?1",
                    [digest],
                    |row| row.get(0),
                )
                .optional()
        })
    }

    pub(in crate::store) async fn revoke_refresh(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
    ) -> Result<Option<Revocation>, StoreFault> {
        self.write(move |connection| {
            let id: Option<String> = connection
                .prepare_cached(
                    "SELECT a.id FROM refresh_token r JOIN authorization a ON a.id = \
                        r.authorization_id
                     WHERE r.digest = ?1 AND a.client = ?2",
                )?
                .query_row(params![digest, client], |row| row.get(0))
                .optional()?;
            id.map(|id| revoke(connection, &id, now)).transpose()
        })
        .await
    }
}

/// The successor of a token used within the grace period, if it has not been used itself.
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
        .prepare_cached(
            "SELECT expires_at FROM refresh_token WHERE digest = ?1 AND used_at IS NULL",
        )?
        .query_row([digest], |row| row.get(0))
        .optional()?;
    Ok(expires.map(|expires| (random, Timestamp(expires))))
}
