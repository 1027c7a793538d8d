//! Authorizations with their codes, and the tokens that their use gives.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Embedded;
use super::access::insert_access;
use super::revocations::insert as insert_revocation;
use crate::grant::GrantError;
use crate::grant::authorization::{Authorization, IssuedCode};
use crate::grant::opaque::ValueDigest;
use crate::grant::pkce::Challenge;
use crate::names::Timestamp;
use crate::scope::ScopeSet;
use crate::store::StoreFault;
use crate::store::grants::{Gift, Redemption};
use crate::store::revocations::Revocation;

impl Embedded {
    pub(in crate::store) async fn issue_code(
        &self,
        digest: ValueDigest,
        code: IssuedCode,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            let authorization = &code.authorization;
            insert_authorization(connection, authorization, now, expires)?;
            connection
                .prepare_cached("INSERT INTO code VALUES (?1, ?2, ?3, ?4, ?5, NULL)")?
                .execute(params![
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

    pub(in crate::store) async fn redeem_code<T: Send + 'static>(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
        check: impl FnOnce(&IssuedCode) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Redemption<T>, StoreFault> {
        self.write(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT a.id, a.client, a.subject, a.scopes, a.resource, c.redirect_uri, \
                        c.challenge, c.expires_at, c.used_at
                     FROM code c JOIN authorization a ON a.id = c.authorization_id WHERE c.digest \
                     = ?1",
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
            // Another client's code counts as unknown: this client must not end its authorization.
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
            connection
                .prepare_cached(
                    "UPDATE code SET used_at = ?2 WHERE digest = \
                ?1",
                )?
                .execute(params![digest, now.0])?;
            give(connection, &code.authorization.id, &gift)?;
            Ok(Redemption::Done(gift.value))
        })
        .await
    }

    pub(in crate::store) async fn authorize(
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

    pub(in crate::store) async fn disconnect(
        &self,
        user: String,
        client: String,
        now: Timestamp,
    ) -> Result<Vec<Revocation>, StoreFault> {
        self.write(move |connection| {
            connection.execute(
                "DELETE FROM consent WHERE user = ?1 AND client = ?2",
                params![user, client],
            )?;
            let mut statement = connection.prepare_cached(
                "SELECT id FROM authorization WHERE subject = ?1 AND client = ?2",
            )?;
            let ids = statement.query_map(params![user, client], |row| row.get(0))?;
            let ids = ids.collect::<rusqlite::Result<Vec<String>>>()?;
            ids.iter().map(|id| revoke(connection, id, now)).collect()
        })
        .await
    }
}

/// Ends an authorization with all its tokens, and stores an event for its JWTs.
pub(super) fn revoke(
    connection: &Connection,
    id: &str,
    now: Timestamp,
) -> rusqlite::Result<Revocation> {
    connection.prepare_cached("DELETE FROM authorization WHERE id = ?1")?.execute([id])?;
    let revocation = Revocation::authorization(id, now);
    insert_revocation(connection, &revocation)?;
    Ok(revocation)
}

/// Stores the tokens of a use, and extends the authorization to the expiry of the last one.
pub(super) fn give<T>(connection: &Connection, id: &str, gift: &Gift<T>) -> rusqlite::Result<()> {
    let mut last = gift.expires;
    if let Some(refresh) = &gift.refresh {
        connection
            .prepare_cached("INSERT INTO refresh_token VALUES (?1, ?2, ?3, NULL, NULL)")?
            .execute(params![refresh.digest, id, refresh.expires.0])?;
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

fn insert_authorization(
    connection: &Connection,
    authorization: &Authorization,
    now: Timestamp,
    expires: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO authorization VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
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

/// Reads the first five columns.
pub(super) fn authorization(row: &Row<'_>) -> rusqlite::Result<Authorization> {
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
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(fault),
        )
    })
}
