//! Users made at login.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Embedded;
use super::audit::note;
use super::events::note_user;
use super::revocations::revoke;
use crate::client::ExternalIdentity;
use crate::client::made::MadeUser;
use crate::names::{Timestamp, UserName};
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::made_users::{MadeLogin, UserAct, UserChange, groups_of, groups_text};
use crate::store::revocations::{Revocation, Subject};

const COLUMNS: &str = "name, issuer, subject, display_name, role_values, locked, made_at, \
    signed_in_at, removed";

impl Embedded {
    pub(in crate::store) async fn sign_in_made(
        &self,
        user: MadeUser,
        max_users: u32,
        record: AuditRecord,
    ) -> Result<MadeLogin, StoreFault> {
        self.write(move |connection| {
            let known = find(connection, user.name.as_str())?;
            if known.as_ref().is_some_and(|known| known.locked) {
                return Ok(MadeLogin::Locked);
            }
            if known.is_none() && count(connection)? >= i64::from(max_users) {
                return Ok(MadeLogin::Full);
            }
            let made = known.as_ref().map_or(user.made, |known| known.made);
            let user = MadeUser { made, ..user };
            put(connection, &user)?;
            note_user(connection, user.name.as_str(), user.signed_in)?;
            if known.is_some() {
                return Ok(MadeLogin::Known(user));
            }
            note(connection, Some(&record))?;
            Ok(MadeLogin::New(user))
        })
        .await
    }

    pub(in crate::store) fn change_made(
        &self,
        act: UserAct,
        name: &str,
        now: Timestamp,
        record: AuditRecord,
    ) -> Result<UserChange, StoreFault> {
        let name = name.to_owned();
        self.write_now(move |connection| {
            let Some(user) = find(connection, &name)? else { return Ok(UserChange::Unknown) };
            let changed = change(connection, act, user)?;
            if changed != UserChange::Done {
                return Ok(changed);
            }
            match act {
                UserAct::Unlock => note(connection, Some(&record))?,
                UserAct::Lock | UserAct::Remove => {
                    let all = Revocation::now(Subject::User(name.clone()), now);
                    revoke(connection, &all, Some(&record))?;
                }
            }
            note_user(connection, &name, now)?;
            Ok(UserChange::Done)
        })
    }

    pub(in crate::store) fn made_users(&self) -> Result<Vec<MadeUser>, StoreFault> {
        self.read_now(|connection| {
            let mut statement = connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM made_user ORDER BY name"))?;
            let rows = statement.query_map([], made_user)?;
            rows.collect()
        })
    }

    pub(in crate::store) fn made_user(&self, name: &str) -> Result<Option<MadeUser>, StoreFault> {
        self.read_now(|connection| find(connection, name))
    }
}

/// What an act makes of a user.
fn change(connection: &Connection, act: UserAct, user: MadeUser) -> rusqlite::Result<UserChange> {
    match act {
        UserAct::Lock if user.locked => return Ok(UserChange::Same),
        UserAct::Unlock if !user.locked => return Ok(UserChange::Same),
        UserAct::Remove if user.removed => return Ok(UserChange::Unknown),
        UserAct::Lock => put(connection, &MadeUser { locked: true, ..user })?,
        UserAct::Unlock if user.removed => delete(connection, user.name.as_str())?,
        UserAct::Unlock => put(connection, &MadeUser { locked: false, ..user })?,
        UserAct::Remove => {
            connection.execute("DELETE FROM consent WHERE user = ?1", [user.name.as_str()])?;
            if user.locked {
                let left =
                    MadeUser { removed: true, display_name: None, groups: Vec::new(), ..user };
                put(connection, &left)?;
            } else {
                delete(connection, user.name.as_str())?;
            }
        }
    }
    Ok(UserChange::Done)
}

fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<MadeUser>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM made_user WHERE name = ?1"))?
        .query_row([name], made_user)
        .optional()
}

fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT count(*) FROM made_user WHERE removed = 0")?
        .query_row([], |row| row.get(0))
}

fn put(connection: &Connection, user: &MadeUser) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO made_user ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, \
                ?9)"
        ))?
        .execute(params![
            user.name.as_str(),
            user.identity.issuer,
            user.identity.subject,
            user.display_name,
            groups_text(&user.groups),
            user.locked,
            user.made.0,
            user.signed_in.0,
            user.removed,
        ])
        .map(drop)
}

fn delete(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM made_user WHERE name = ?1", [name]).map(drop)
}

fn made_user(row: &Row<'_>) -> rusqlite::Result<MadeUser> {
    let (name, groups): (String, String) = (row.get(0)?, row.get(4)?);
    Ok(MadeUser {
        name: UserName::new(&name),
        identity: ExternalIdentity { issuer: row.get(1)?, subject: row.get(2)? },
        display_name: row.get(3)?,
        groups: groups_of(&groups),
        locked: row.get(5)?,
        made: Timestamp(row.get(6)?),
        signed_in: Timestamp(row.get(7)?),
        removed: row.get(8)?,
    })
}
