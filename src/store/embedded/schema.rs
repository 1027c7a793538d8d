//! The tables, and the migration of older files.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::BUSY;
use crate::store::StoreFault;

/// The schema that this version writes; newer ones are refused, older ones migrated.
pub(super) const VERSION: i64 = 3;

/// The steps of each version: a file of version n gets all steps from index n on. Steps are never
/// edited, only appended.
const STEPS: [&str; 3] = [
    "
    CREATE TABLE signing_key (
        id          INTEGER PRIMARY KEY,
        algorithm   TEXT    NOT NULL,
        public_jwk  TEXT    NOT NULL,
        private_key BLOB,
        created_at  INTEGER NOT NULL,
        retired_at  INTEGER,
        CHECK ((private_key IS NULL) = (retired_at IS NOT NULL))
    ) STRICT;
    CREATE UNIQUE INDEX one_current_key ON signing_key (retired_at IS NULL) WHERE retired_at IS \
    NULL;
    ",
    "
    -- A key signs from a time on: which one is current needs no write at the moment it changes.
    ALTER TABLE signing_key ADD COLUMN signs_from INTEGER NOT NULL DEFAULT 0;
    UPDATE signing_key SET signs_from = created_at;
    DROP INDEX one_current_key;
    -- What a user allowed a client. Its codes and tokens go with it.
    CREATE TABLE authorization (
        id          TEXT    PRIMARY KEY,
        client      TEXT    NOT NULL,
        subject     TEXT    NOT NULL,
        scopes      TEXT    NOT NULL,
        resource    TEXT,
        created_at  INTEGER NOT NULL,
        expires_at  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX authorization_client  ON authorization (client);
    CREATE INDEX authorization_subject ON authorization (subject);
    CREATE INDEX authorization_expires ON authorization (expires_at);
    -- Used codes stay with their authorization: a second use must be known for what it is.
    CREATE TABLE code (
        digest           BLOB    PRIMARY KEY,
        authorization_id TEXT    NOT NULL REFERENCES authorization ON DELETE CASCADE,
        redirect_uri     TEXT,
        challenge        TEXT,
        expires_at       INTEGER NOT NULL,
        used_at          INTEGER
    ) STRICT;
    CREATE INDEX code_authorization ON code (authorization_id);
    -- `successor` is sealed with the token itself, which is not here.
    CREATE TABLE refresh_token (
        digest           BLOB    PRIMARY KEY,
        authorization_id TEXT    NOT NULL REFERENCES authorization ON DELETE CASCADE,
        expires_at       INTEGER NOT NULL,
        used_at          INTEGER,
        successor        BLOB
    ) STRICT;
    CREATE INDEX refresh_token_authorization ON refresh_token (authorization_id);
    CREATE TABLE access_token (
        digest           BLOB    PRIMARY KEY,
        id               TEXT    NOT NULL,
        authorization_id TEXT    REFERENCES authorization ON DELETE CASCADE,
        client           TEXT    NOT NULL,
        subject          TEXT    NOT NULL,
        scopes           TEXT    NOT NULL,
        audience         TEXT    NOT NULL,
        issued_at        INTEGER NOT NULL,
        expires_at       INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX access_token_authorization ON access_token (authorization_id);
    CREATE INDEX access_token_expires ON access_token (expires_at);
    -- Read on by every process from the last one it knows: the numbers only grow.
    CREATE TABLE revocation (
        number     INTEGER PRIMARY KEY AUTOINCREMENT,
        kind       TEXT    NOT NULL,
        value      TEXT    NOT NULL,
        at         INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX revocation_expires ON revocation (expires_at);
    -- `proof` is what the user has signed in with: another password ends the session.
    CREATE TABLE session (
        digest     BLOB    PRIMARY KEY,
        user       TEXT    NOT NULL,
        proof      TEXT    NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX session_expires ON session (expires_at);
    -- Logins at an external page, on their way back to the browser.
    CREATE TABLE login (
        digest     BLOB    PRIMARY KEY,
        user       TEXT    NOT NULL,
        browser    TEXT    NOT NULL,
        back       TEXT    NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX login_expires ON login (expires_at);
    CREATE TABLE consent (
        user     TEXT    NOT NULL,
        client   TEXT    NOT NULL,
        scopes   TEXT    NOT NULL,
        resource TEXT    NOT NULL,
        given_at INTEGER NOT NULL,
        PRIMARY KEY (user, client, resource)
    ) STRICT;
    CREATE TABLE failure (
        id         INTEGER PRIMARY KEY,
        subject    TEXT    NOT NULL,
        at         INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX failure_subject ON failure (subject);
    CREATE INDEX failure_expires ON failure (expires_at);
    -- Assertions of clients (RFC 7523) that have been used.
    CREATE TABLE assertion (
        id         TEXT    PRIMARY KEY,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX assertion_expires ON assertion (expires_at);
    -- When a secret last proved its client, to the day: so that an old one can be removed without \
    fear.
    CREATE TABLE secret_use (
        client TEXT    NOT NULL,
        secret TEXT    NOT NULL,
        day    INTEGER NOT NULL,
        PRIMARY KEY (client, secret)
    ) STRICT;
    ",
    "
    -- Tokens of other issuers can be revoked too; and how long word of it takes is measured.
    ALTER TABLE revocation ADD COLUMN issuer TEXT NOT NULL DEFAULT 'self';
    ALTER TABLE revocation ADD COLUMN noted_ms INTEGER NOT NULL DEFAULT 0;
    -- Blocks set by command.
    CREATE TABLE block (
        kind   TEXT    NOT NULL,
        value  TEXT    NOT NULL,
        reason TEXT,
        since  INTEGER NOT NULL,
        until  INTEGER,
        PRIMARY KEY (kind, value)
    ) STRICT;
    -- What has been used of quotas, by limit, subject and window.
    CREATE TABLE quota (
        key        TEXT    PRIMARY KEY,
        used       INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX quota_expires ON quota (expires_at);
    ",
];

/// Tables that older versions neither know nor need: made where they are missing, without another
/// version, so that a step back to an older gateway stays possible.
const ADDITIONS: &str = "
    -- Who did what, written with the act.
    CREATE TABLE IF NOT EXISTS audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at     INTEGER NOT NULL,
        record TEXT    NOT NULL
    ) STRICT;
    -- Requests by day, client, API and operation.
    CREATE TABLE IF NOT EXISTS usage (
        day            INTEGER NOT NULL,
        client         TEXT    NOT NULL,
        api            TEXT    NOT NULL,
        operation      TEXT    NOT NULL,
        permitted      INTEGER NOT NULL,
        refused        INTEGER NOT NULL,
        for_users      INTEGER NOT NULL,
        shadow_refused INTEGER NOT NULL,
        PRIMARY KEY (day, client, api, operation)
    ) STRICT, WITHOUT ROWID;
    -- Groups of networks that a secret was used from: no address can be read out of them.
    CREATE TABLE IF NOT EXISTS secret_network (
        client  TEXT    NOT NULL,
        secret  TEXT    NOT NULL,
        period  INTEGER NOT NULL,
        grouped INTEGER NOT NULL,
        PRIMARY KEY (client, secret, period, grouped)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS usage_client ON usage (client, day);
    -- Users made at login; of one that was removed while it was locked, the lock is left.
    CREATE TABLE IF NOT EXISTS made_user (
        name         TEXT    PRIMARY KEY,
        issuer       TEXT    NOT NULL,
        subject      TEXT    NOT NULL,
        display_name TEXT,
        role_values  TEXT    NOT NULL,
        locked       INTEGER NOT NULL,
        made_at      INTEGER NOT NULL,
        signed_in_at INTEGER NOT NULL,
        removed      INTEGER NOT NULL
    ) STRICT;
";

/// Rows removed by one sweep of one table: a long delete would delay writers.
pub(super) const SLICE: i64 = 1_000;
/// Removes expired rows (`?1` is now, `?2` the batch size).
pub(super) const SWEEPS: [&str; 10] = [
    "DELETE FROM authorization WHERE rowid IN (SELECT rowid FROM authorization WHERE expires_at < \
        ?1 LIMIT ?2)",
    "DELETE FROM access_token WHERE rowid IN (SELECT rowid FROM access_token WHERE expires_at < ?1 \
        LIMIT ?2)",
    "DELETE FROM refresh_token WHERE rowid IN (SELECT rowid FROM refresh_token WHERE expires_at < \
        ?1 LIMIT ?2)",
    "DELETE FROM revocation WHERE number IN (SELECT number FROM revocation WHERE expires_at < ?1 \
        LIMIT ?2)",
    "DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE expires_at < ?1 LIMIT ?2)",
    "DELETE FROM login WHERE rowid IN (SELECT rowid FROM login WHERE expires_at < ?1 LIMIT ?2)",
    "DELETE FROM assertion WHERE rowid IN (SELECT rowid FROM assertion WHERE expires_at < ?1 LIMIT \
        ?2)",
    "DELETE FROM quota WHERE rowid IN (SELECT rowid FROM quota WHERE expires_at < ?1 LIMIT ?2)",
    "DELETE FROM block WHERE rowid IN (SELECT rowid FROM block WHERE until < ?1 LIMIT ?2)",
    "DELETE FROM failure WHERE id IN (SELECT id FROM failure WHERE expires_at < ?1 LIMIT ?2)",
];

/// Creates the tables in a new file, and migrates an older one. An existing file without tables is
/// not ours, unless another process has just created it and is about to fill it.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    created: bool,
) -> Result<(), StoreFault> {
    let deadline = std::time::Instant::now() + BUSY;
    let foreign = |found| Err(StoreFault::Foreign { path: path.to_owned(), found });
    loop {
        let found = fill(connection, created);
        let (found, tables) =
            found.map_err(|source| StoreFault::Sqlite { path: path.to_owned(), source })?;
        match (found, tables) {
            (0, 0) if std::time::Instant::now() < deadline => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            (0, 0) => return foreign("the store is empty"),
            (0, _) => return foreign("the database of another program"),
            (VERSION, _) => return Ok(()),
            (found, _) => {
                return Err(StoreFault::Newer { path: path.to_owned(), found, known: VERSION });
            }
        }
    }
}

/// The schema of the file and its number of tables, after the missing steps.
fn fill(connection: &mut Connection, create: bool) -> rusqlite::Result<(i64, i64)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = |transaction: &rusqlite::Transaction<'_>| -> rusqlite::Result<i64> {
        transaction.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    let before = version(&transaction)?;
    if (create || before > 0) && before < VERSION {
        for step in STEPS.iter().skip(usize::try_from(before).unwrap_or(0)) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    if version(&transaction)? == VERSION {
        transaction.execute_batch(ADDITIONS)?;
    }
    let tables =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let found = version(&transaction)?;
    transaction.commit()?;
    Ok((found, tables))
}
