//! Users made at login: who has signed in at the login provider without a user of the YAML.

use super::audit::AuditRecord;
use super::{Store, StoreFault, engine};
use crate::client::made::MadeUser;
use crate::names::Timestamp;

/// How a login ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeLogin {
    /// A user that has signed in before.
    Known(MadeUser),
    /// The first login: the user was made by it.
    New(MadeUser),
    /// A user that is locked, or was when it was removed.
    Locked,
    /// There are as many as there may be, and this would be one more.
    Full,
}

/// What an act did to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// It was done.
    Done,
    /// The user is so already; nothing was done.
    Same,
    /// There is no such user.
    Unknown,
}

/// An act on a user made at login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserAct {
    /// Locks it out, and ends its sessions and all that was given for it.
    Lock,
    /// Lets it in again.
    Unlock,
    /// Forgets it, and ends the same. A lock stays.
    Remove,
}

impl UserAct {
    /// Its name in audit records and in the store.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lock => "lock-user",
            Self::Unlock => "unlock-user",
            Self::Remove => "remove-user",
        }
    }
}

impl Store {
    /// A login of a user that is, or is to be, made at login: keeps what is known of it now. The
    /// record is written if the user is new. All gateways of the store are notified.
    ///
    /// # Errors
    /// The store cannot be written: nobody was made or changed.
    pub async fn sign_in_made(
        &self,
        user: MadeUser,
        max_users: u32,
        record: AuditRecord,
    ) -> Result<MadeLogin, StoreFault> {
        engine!(self, await sign_in_made(user, max_users, record))
    }

    /// Does something to a user made at login, together with the record of it. All gateways of the
    /// store are notified.
    ///
    /// # Errors
    /// The store cannot be written: nothing was done.
    pub fn change_made(
        &self,
        act: UserAct,
        name: &str,
        now: Timestamp,
        record: AuditRecord,
    ) -> Result<UserChange, StoreFault> {
        engine!(self, change_made(act, name, now, record))
    }

    /// All of them, those that were removed while locked included, by their names.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn made_users(&self) -> Result<Vec<MadeUser>, StoreFault> {
        engine!(self, made_users())
    }

    /// One of them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn made_user(&self, name: &str) -> Result<Option<MadeUser>, StoreFault> {
        engine!(self, made_user(name))
    }
}

/// The groups of a user as one text.
pub(super) fn groups_text(groups: &[String]) -> String {
    serde_json::to_string(groups).unwrap_or_default()
}

/// The groups of such a text.
pub(super) fn groups_of(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}
