//! What has been revoked before its time, for tokens that need no row to be good.

use rusqlite::{Connection, params};

use super::{Store, StoreFault};
use crate::names::Timestamp;

/// How long a revocation is kept, seconds: longer than any token lives.
const KEPT: i64 = 105 * 86_400;

/// What a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One token, by its `jti`.
    Token(String),
    /// All tokens of one authorization.
    Authorization(String),
    /// All tokens of a client until then.
    Client(String),
    /// All tokens that act for a user until then.
    User(String),
    /// All of ours until then.
    Everything,
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What about.
    pub subject: Subject,
    /// Tokens issued at or before this are meant; those named by id whenever issued.
    pub at: Timestamp,
    /// Nothing that it is about lives longer.
    pub expires: Timestamp,
}

impl Revocation {
    /// A revocation now.
    #[must_use]
    pub const fn now(subject: Subject, now: Timestamp) -> Self {
        Self { subject, at: now, expires: now.plus(KEPT) }
    }

    /// What was issued until a time, and what was allowed until then; a token that is named is meant whenever issued.
    #[must_use]
    pub const fn until(subject: Subject, at: Timestamp, now: Timestamp) -> Self {
        Self { subject, at, expires: now.plus(KEPT) }
    }

    /// Ends an authorization.
    #[must_use]
    pub fn authorization(id: &str, now: Timestamp) -> Self {
        Self::now(Subject::Authorization(id.to_owned()), now)
    }
}

impl Store {
    /// Revokes; whoever shares the store learns of it.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), StoreFault> {
        self.write(move |connection| revoke(connection, &revocation)).await
    }

    /// The same for a command.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub fn revoke_now(&self, revocation: Revocation) -> Result<(), StoreFault> {
        self.write_now(move |connection| revoke(connection, &revocation))
    }

    /// Revocations after a number, each with its own: what this process has not heard of yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn revocations_after(&self, number: i64) -> Result<Vec<(i64, Revocation)>, StoreFault> {
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
