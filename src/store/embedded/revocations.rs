//! What has been revoked before its time.

use rusqlite::{Connection, params};

use super::Embedded;
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::revocations::{Revocation, Subject};

impl Embedded {
    pub(in crate::store) async fn revoke(&self, revocation: Revocation) -> Result<(), StoreFault> {
        self.write(move |connection| revoke(connection, &revocation)).await
    }

    pub(in crate::store) fn revoke_now(&self, revocation: Revocation) -> Result<(), StoreFault> {
        self.write_now(move |connection| revoke(connection, &revocation))
    }

    pub(in crate::store) fn revocations_after(&self, number: i64) -> Result<Vec<(i64, Revocation)>, StoreFault> {
        self.read_now(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT number, kind, value, at, expires_at FROM revocation WHERE number > ?1 ORDER BY number",
            )?;
            let rows = statement.query_map([number], |row| {
                let (kind, value): (String, String) = (row.get(1)?, row.get(2)?);
                let subject = match kind.as_str() {
                    "token" => Subject::Token(value),
                    "authorization" => Subject::Authorization(value),
                    "client" => Subject::Client(value),
                    "user" => Subject::User(value),
                    // A kind of a later version is taken for the widest: it must not be overlooked.
                    _ => Subject::Everything,
                };
                let revocation = Revocation { subject, at: Timestamp(row.get(3)?), expires: Timestamp(row.get(4)?) };
                Ok((row.get(0)?, revocation))
            })?;
            rows.collect()
        })
    }
}

/// Deletes what has a row, and leaves word for what has none.
fn revoke(connection: &Connection, revocation: &Revocation) -> rusqlite::Result<()> {
    let at = revocation.at.0;
    let run = |statement: &str, value: &str| connection.execute(statement, params![value, at]).map(drop);
    match &revocation.subject {
        Subject::Token(id) => connection.execute("DELETE FROM access_token WHERE id = ?1", [id]).map(drop)?,
        Subject::Authorization(id) => connection.execute("DELETE FROM authorization WHERE id = ?1", [id]).map(drop)?,
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
    insert(connection, revocation)
}

pub(super) fn insert(connection: &Connection, revocation: &Revocation) -> rusqlite::Result<()> {
    let (kind, value) = match &revocation.subject {
        Subject::Token(id) => ("token", id.as_str()),
        Subject::Authorization(id) => ("authorization", id.as_str()),
        Subject::Client(client) => ("client", client.as_str()),
        Subject::User(user) => ("user", user.as_str()),
        Subject::Everything => ("everything", ""),
    };
    connection
        .prepare_cached("INSERT INTO revocation (kind, value, at, expires_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, value, revocation.at.0, revocation.expires.0])?;
    Ok(())
}
