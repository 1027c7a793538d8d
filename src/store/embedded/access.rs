//! Opaque access tokens.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::Embedded;
use super::grants::scopes;
use crate::grant::opaque::ValueDigest;
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::access::StoredAccess;

impl Embedded {
    pub(in crate::store) async fn put_access(
        &self,
        access: StoredAccess,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| insert_access(connection, &access)).await
    }

    pub(in crate::store) async fn access(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<StoredAccess>, StoreFault> {
        self.read(move |connection| select_access(connection, digest)).await
    }

    pub(in crate::store) fn find_access(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<StoredAccess>, StoreFault> {
        self.read_now(|connection| select_access(connection, digest))
    }
}

fn select_access(
    connection: &Connection,
    digest: ValueDigest,
) -> rusqlite::Result<Option<StoredAccess>> {
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

pub(super) fn insert_access(
    connection: &Connection,
    access: &StoredAccess,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO access_token VALUES
             (:digest, :id, :authorization, :client, :subject, :scopes, :audience, :issued, \
             :expires)",
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
