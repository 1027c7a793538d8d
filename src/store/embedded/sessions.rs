//! Logins of users, and their consents.

use rusqlite::{OptionalExtension, params};

use super::Embedded;
use super::grants::scopes;
use crate::grant::opaque::ValueDigest;
use crate::names::Timestamp;
use crate::scope::ScopeSet;
use crate::store::StoreFault;
use crate::store::sessions::{Connected, Login};

impl Embedded {
    pub(in crate::store) async fn begin_session(
        &self,
        digest: ValueDigest,
        (user, proof): (String, String),
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            connection
                .prepare_cached("INSERT INTO session VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![digest, user, proof, now.0, expires.0])
                .map(drop)
        })
        .await
    }

    pub(in crate::store) async fn session(
        &self,
        digest: ValueDigest,
        now: Timestamp,
    ) -> Result<Option<(String, String, Timestamp)>, StoreFault> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT user, proof, created_at FROM session WHERE digest = ?1 AND expires_at \
                        > ?2",
                )?
                .query_row(params![digest, now.0], |row| {
                    Ok((row.get(0)?, row.get(1)?, Timestamp(row.get(2)?)))
                })
                .optional()
        })
        .await
    }

    pub(in crate::store) async fn end_session(
        &self,
        digest: ValueDigest,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            connection.execute("DELETE FROM session WHERE digest = ?1", [digest]).map(drop)
        })
        .await
    }

    pub(in crate::store) async fn keep_login(
        &self,
        digest: ValueDigest,
        login: Login,
        _now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            connection
                .execute(
                    "INSERT INTO login VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![digest, login.user, login.browser, login.back, expires.0],
                )
                .map(drop)
        })
        .await
    }

    pub(in crate::store) async fn take_login(
        &self,
        digest: ValueDigest,
        now: Timestamp,
    ) -> Result<Option<Login>, StoreFault> {
        self.write(move |connection| {
            connection
                .query_row(
                    "DELETE FROM login WHERE digest = ?1 AND expires_at > ?2 RETURNING user, \
                        browser, back",
                    params![digest, now.0],
                    |row| Ok(Login { user: row.get(0)?, browser: row.get(1)?, back: row.get(2)? }),
                )
                .optional()
        })
        .await
    }

    pub(in crate::store) async fn consent(
        &self,
        user: String,
        client: String,
        resource: String,
    ) -> Result<Option<ScopeSet>, StoreFault> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT scopes FROM consent WHERE user = ?1 AND client = ?2 AND resource = ?3",
                )?
                .query_row(params![user, client, resource], |row| scopes(row, 0))
                .optional()
        })
        .await
    }

    pub(in crate::store) async fn remember_consent(
        &self,
        user: String,
        client: String,
        resource: String,
        given: ScopeSet,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            let before = connection
                .query_row(
                    "SELECT scopes FROM consent WHERE user = ?1 AND client = ?2 AND resource = ?3",
                    params![user, client, resource],
                    |row| scopes(row, 0),
                )
                .optional()?
                .unwrap_or_default();
            let all: ScopeSet = before.as_slice().iter().chain(given.as_slice()).cloned().collect();
            connection
                .execute(
                    "INSERT INTO consent VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (user, client, resource) DO UPDATE SET scopes = excluded.scopes",
                    params![user, client, all.to_value(), resource, now.0],
                )
                .map(drop)
        })
        .await
    }

    pub(in crate::store) async fn connected(
        &self,
        user: String,
    ) -> Result<Vec<Connected>, StoreFault> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT client, scopes, given_at FROM consent WHERE user = ?1 ORDER BY client, \
                    given_at",
            )?;
            let rows = statement.query_map([user], |row| {
                Ok(Connected {
                    client: row.get(0)?,
                    scopes: scopes(row, 1)?,
                    since: Timestamp(row.get(2)?),
                })
            })?;
            let mut all: Vec<Connected> = Vec::new();
            for row in rows {
                let row = row?;
                match all.last_mut().filter(|last| last.client == row.client) {
                    Some(last) => {
                        last.scopes = last
                            .scopes
                            .as_slice()
                            .iter()
                            .chain(row.scopes.as_slice())
                            .cloned()
                            .collect();
                    }
                    None => all.push(row),
                }
            }
            Ok(all)
        })
        .await
    }
}
