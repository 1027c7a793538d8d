//! Users made at login: what is known of each as JSON, in a hash by name.

use serde_json::{Value, json};

use super::{Shared, arguments, key};
use crate::client::ExternalIdentity;
use crate::client::made::MadeUser;
use crate::names::{Timestamp, UserName};
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::made_users::{MadeLogin, UserAct, UserChange, groups_of, groups_text};
use crate::store::revocations::{Revocation, Subject};
use crate::store::shared::events::event;

/// Those that were removed while they were locked.
const REMOVED: &str = "made:removed";
/// All others.
const MADE: &str = "made";

impl Shared {
    pub(in crate::store) async fn sign_in_made(
        &self,
        user: MadeUser,
        max_users: u32,
        record: AuditRecord,
    ) -> Result<MadeLogin, StoreFault> {
        let value = json!({
            "issuer": user.identity.issuer,
            "subject": user.identity.subject,
            "display": user.display_name,
            // As one text: the scripts would make an object of an empty list.
            "groups": groups_text(&user.groups),
            "locked": false,
            "made": user.made.0,
            "signed_in": user.signed_in.0,
        });
        let name = user.name.as_str();
        let arguments = arguments![name, value, max_users.to_string(), user.signed_in];
        let found: Vec<String> =
            self.change_recorded(Some(&record), "sign_in_made", arguments).await?;
        match found.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["locked"] => Ok(MadeLogin::Locked),
            ["full"] => Ok(MadeLogin::Full),
            [how @ ("known" | "new"), value] => {
                let user = self.made_user_of(user.name.as_str(), value, false)?;
                Ok(if *how == "new" { MadeLogin::New(user) } else { MadeLogin::Known(user) })
            }
            _ => Err(self.malformed("a login")),
        }
    }

    pub(in crate::store) fn change_made(
        &self,
        act: UserAct,
        name: &str,
        now: Timestamp,
        record: AuditRecord,
    ) -> Result<UserChange, StoreFault> {
        let operation = match act {
            UserAct::Lock => "lock_made",
            UserAct::Unlock => "unlock_made",
            UserAct::Remove => "remove_made",
        };
        let all = Revocation::now(Subject::User(name.to_owned()), now);
        let (store, arguments) = (self.clone(), arguments![name, now, event(&all, now)]);
        self.wait(async move {
            let done: String = store.change_recorded(Some(&record), operation, arguments).await?;
            match done.as_str() {
                "done" => Ok(UserChange::Done),
                "same" => Ok(UserChange::Same),
                "unknown" => Ok(UserChange::Unknown),
                _ => Err(store.malformed("what became of a user")),
            }
        })
    }

    pub(in crate::store) fn made_users(&self) -> Result<Vec<MadeUser>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let mut users = Vec::new();
            for (kept, removed) in [(MADE, false), (REMOVED, true)] {
                let all: Vec<(String, String)> = store
                    .run(move |mut link| async move {
                        link.ask(redis::cmd("HGETALL").arg(key(kept))).await
                    })
                    .await?;
                for (name, value) in all {
                    users.push(store.made_user_of(&name, &value, removed)?);
                }
            }
            users.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(users)
        })
    }

    pub(in crate::store) fn made_user(&self, name: &str) -> Result<Option<MadeUser>, StoreFault> {
        let (store, name) = (self.clone(), name.to_owned());
        self.wait(async move {
            let arguments = arguments![name];
            let found: Vec<String> = store.operate("made_user", arguments).await?;
            match found.as_slice() {
                [kept, value] => store.made_user_of(&name, value, kept == REMOVED).map(Some),
                _ => Ok(None),
            }
        })
    }

    fn made_user_of(&self, name: &str, value: &str, removed: bool) -> Result<MadeUser, StoreFault> {
        parse(name, value, removed).ok_or_else(|| self.malformed("a user"))
    }
}

fn parse(name: &str, value: &str, removed: bool) -> Option<MadeUser> {
    let value: Value = serde_json::from_str(value).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let time = |name: &str| value.get(name).and_then(Value::as_i64).map(Timestamp);
    Some(MadeUser {
        name: UserName::new(name),
        identity: ExternalIdentity { issuer: text("issuer")?, subject: text("subject")? },
        display_name: text("display"),
        groups: groups_of(&text("groups")?),
        locked: value.get("locked")?.as_bool()?,
        made: time("made")?,
        signed_in: time("signed_in")?,
        removed,
    })
}
