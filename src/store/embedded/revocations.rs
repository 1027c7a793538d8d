//! Revocations of tokens.

use rusqlite::{Connection, params};

use super::Embedded;
use super::audit::note;
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::revocations::{Revocation, Subject};

impl Embedded {
    pub(in crate::store) async fn revoke(
        &self,
        revocation: Revocation,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| revoke(connection, &revocation, record.as_ref())).await
    }

    pub(in crate::store) fn revoke_now(
        &self,
        revocation: Revocation,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        self.write_now(move |connection| revoke(connection, &revocation, record.as_ref()))
    }
}

/// Deletes tokens that have a row, and stores an event for those that have none.
pub(super) fn revoke(
    connection: &Connection,
    revocation: &Revocation,
    record: Option<&AuditRecord>,
) -> rusqlite::Result<()> {
    note(connection, record)?;
    if revocation.issuer.is_own() {
        delete(connection, revocation)?;
    }
    insert(connection, revocation)
}

fn delete(connection: &Connection, revocation: &Revocation) -> rusqlite::Result<()> {
    let at = revocation.at.0;
    let run =
        |statement: &str, value: &str| connection.execute(statement, params![value, at]).map(drop);
    match &revocation.subject {
        Subject::Token(id) => {
            connection.execute("DELETE FROM access_token WHERE id = ?1", [id]).map(drop)?;
        }
        Subject::Authorization(id) => {
            connection.execute("DELETE FROM authorization WHERE id = ?1", [id]).map(drop)?;
        }
        Subject::Client(client) => {
            run("DELETE FROM authorization WHERE client = ?1 AND created_at <= ?2", client)?;
            run("DELETE FROM access_token WHERE client = ?1 AND issued_at <= ?2", client)?;
        }
        Subject::User(user) => {
            run("DELETE FROM session WHERE user = ?1 AND created_at <= ?2", user)?;
            run("DELETE FROM authorization WHERE subject = ?1 AND created_at <= ?2", user)?;
            run("DELETE FROM access_token WHERE subject = ?1 AND issued_at <= ?2", user)?;
        }
        Subject::Everything => {
            connection.execute("DELETE FROM session WHERE created_at <= ?1", [at])?;
            connection.execute("DELETE FROM authorization WHERE created_at <= ?1", [at])?;
            connection.execute("DELETE FROM access_token WHERE issued_at <= ?1", [at])?;
        }
    }
    Ok(())
}

pub(super) fn insert(connection: &Connection, revocation: &Revocation) -> rusqlite::Result<()> {
    let (kind, value) = revocation.subject.parts();
    super::events::note(
        connection,
        kind,
        value,
        revocation.at,
        revocation.expires,
        revocation.issuer.as_str(),
    )
}
