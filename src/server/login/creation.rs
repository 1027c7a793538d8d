//! Users that are made at their first login at the provider (`users: create`): what of an ID token
//! counts for them, and how they are kept.

use std::net::IpAddr;
use std::sync::Arc;

use super::Login;
use super::provider::Fault;
use crate::client::made::{Creation, MadeUser, display_name, name_of};
use crate::client::{ExternalIdentity, Registry, User};
use crate::names::Timestamp;
use crate::policy::principal::value_is;
use crate::store::audit::AuditRecord;
use crate::store::made_users::MadeLogin;
use crate::store::revocations::{Revocation, Subject};
use crate::token::claims::{find, list_of};
use crate::token::json::{Json, Object};

/// Claims with a name for people, the best first.
const NAME_CLAIMS: [&str; 2] = ["name", "preferred_username"];

/// What an ID token says of a user beside who it is.
#[derive(Debug)]
pub(super) struct Said {
    display_name: Option<String>,
    /// Values of the roles claim that have a role.
    groups: Vec<String>,
    /// The requirement that is not met.
    unmet: Option<String>,
    /// Why the groups could not be read.
    pub(super) unread: Option<String>,
}

impl Said {
    /// Reads what counts.
    pub(super) fn of(claims: &Object<'_>, creation: &Creation) -> Self {
        let unmet = creation.require.iter().find_map(|(name, values)| {
            let is_met =
                find(claims, name).is_some_and(|value| value_is(&value.to_value(), values));
            (!is_met).then(|| {
                elsewhere(claims, name).unwrap_or_else(|| {
                    format!(
                        "the claim `{name}` of the ID token has none of the values of `require`"
                    )
                })
            })
        });
        let (groups, unread) = match groups(claims, creation) {
            Ok(groups) => (groups, None),
            Err(unread) => (Vec::new(), Some(unread)),
        };
        let mut names = NAME_CLAIMS.iter().filter_map(|name| claims.present(name)?.as_str());
        Self { display_name: names.find_map(display_name), groups, unmet, unread }
    }
}

/// The groups that have a role, each once.
fn groups(claims: &Object<'_>, creation: &Creation) -> Result<Vec<String>, String> {
    let names = &creation.roles_claim;
    let found = names.iter().find_map(|name| Some((name, find(claims, name)?)));
    let Some((name, value)) = found else {
        return match names.iter().find_map(|name| elsewhere(claims, name)) {
            Some(unread) => Err(unread),
            None => Ok(Vec::new()),
        };
    };
    let Some(list) = list_of(value) else {
        let other =
            if matches!(value, Json::List(_)) { " with other items than texts" } else { "" };
        let kind = value.kind();
        return Err(format!("`{name}` is {kind}{other}, wants a text or a list of texts"));
    };
    let mut mapped: Vec<&str> =
        list.into_iter().filter(|group| creation.roles.contains_key(*group)).collect();
    mapped.sort_unstable();
    mapped.dedup();
    Ok(mapped.into_iter().map(str::to_owned).collect())
}

/// Says so of a claim that the token does not have, because it has to be fetched elsewhere (OpenID
/// Connect Core §5.6.2): Entra ID leaves out more than 200 groups.
fn elsewhere(claims: &Object<'_>, name: &str) -> Option<String> {
    let names = claims.present("_claim_names")?.as_object()?;
    names.has(name).then(|| {
        format!(
            "`{name}` is not in the ID token but to be fetched elsewhere (`_claim_names`): let the \
                provider send only groups that are assigned to this application, or app roles"
        )
    })
}

/// Signs in a user that is not of the YAML: makes it, or takes anew what the token says of it.
pub(super) async fn sign_in(
    with: &Login,
    registry: &Registry,
    identity: &ExternalIdentity,
    said: Said,
    (address, now): (Option<IpAddr>, Timestamp),
) -> Result<Arc<User>, Fault> {
    let (Some(creation), Some(users)) = (registry.creation(), registry.made_users()) else {
        return Err(Fault::Stranger(identity.clone()));
    };
    let name = name_of(identity);
    if let Some(unmet) = said.unmet {
        if users.user(name.as_str()).is_some() {
            // The provider lets it in no more: what was given for it ends here.
            let all = Revocation::now(Subject::User(name.to_string()), now);
            with.store.revoke(all, None).await.map_err(|fault| unavailable(&fault))?;
        }
        return Err(Fault::Unmet(unmet));
    }
    let user = MadeUser {
        name: name.clone(),
        identity: identity.clone(),
        display_name: said.display_name,
        groups: said.groups,
        locked: false,
        made: now,
        signed_in: now,
        removed: false,
    };
    let record = AuditRecord {
        at: now.0,
        who: name.to_string(),
        via: "login".to_owned(),
        from: address.map(|address| address.to_string()),
        act: "make-user".to_owned(),
        on: format!("user {name}"),
        before: None,
        after: None,
        outcome: "done".to_owned(),
    };
    let signed_in = with.store.sign_in_made(user, creation.max_users, record).await;
    match signed_in.map_err(|fault| unavailable(&fault))? {
        MadeLogin::Known(user) | MadeLogin::New(user) => users.put(user),
        MadeLogin::Locked => return Err(Fault::Unusable),
        MadeLogin::Full => return Err(Fault::Full(creation.max_users)),
    }
    // Judged like all others: a lock may have come in between.
    registry.account(name.as_str()).filter(|user| user.usable()).ok_or(Fault::Unusable)
}

fn unavailable(fault: &crate::store::StoreFault) -> Fault {
    Fault::Unavailable(format!("the store: {fault}"))
}
