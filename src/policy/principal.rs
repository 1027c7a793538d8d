//! Step 5, the pure half: from verified facts to the caller.

use std::sync::Arc;

use super::Rules;
use crate::client::{Client, User};
use crate::names::{RoleName, Timestamp};
use crate::reason::{Reason, Refusal, TokenFault, quoted};
use crate::scope::ScopeSet;
use crate::token::{Facts, check_claims};

/// The caller: a verified token, its client, and the user it acts as. Created only by [`identify`].
#[derive(Clone, Debug)]
pub struct Principal {
    facts: Arc<Facts>,
    client: Arc<Client>,
    user: Option<Arc<User>>,
}

impl Principal {
    /// The token's facts.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The same, shared.
    #[must_use]
    pub fn shared_facts(&self) -> Arc<Facts> {
        self.facts.clone()
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The acting user, where it is one of ours.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        self.user.as_deref()
    }

    /// Whether the caller has a role now (decisions.md, "Roles").
    #[must_use]
    pub fn has_role(&self, role: &RoleName, rules: &Rules) -> bool {
        if !self.facts.issuer.is_own() {
            let Some(issuer) = rules.issuer(self.facts.issuer.as_str()) else { return false };
            return self.facts.roles.iter().any(|value| issuer.roles.get(value) == Some(role));
        }
        match &self.user {
            Some(user) => rules.registry().has_role(user, role),
            None => self.client.roles.contains(role),
        }
    }

    /// `S`: the token's scopes that the client holds now; all that it holds if the issuer declares
    /// none.
    #[must_use]
    pub fn scopes(&self) -> ScopeSet {
        let held = &self.client.scopes;
        match &self.facts.scopes {
            Some(scopes) => {
                scopes.as_slice().iter().filter(|scope| held.contains(*scope)).cloned().collect()
            }
            None => held.iter().cloned().collect(),
        }
    }

    /// The caller's roles, sorted, for the upstream and the record.
    #[must_use]
    pub fn roles(&self, rules: &Rules) -> Vec<RoleName> {
        let mut roles: Vec<RoleName> = if self.facts.issuer.is_own() {
            match &self.user {
                Some(user) => rules.registry().roles(user).into_iter().collect(),
                None => self.client.roles.iter().cloned().collect(),
            }
        } else {
            let map = rules.issuer(self.facts.issuer.as_str());
            self.facts.roles.iter().filter_map(|value| map?.roles.get(value).cloned()).collect()
        };
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Whether a claim has one of these values, as [`value_is`] says.
    #[must_use]
    pub fn claim_is(&self, name: &str, values: &[String]) -> bool {
        self.facts.claims.get(name).is_some_and(|value| value_is(value, values))
    }
}

/// Whether a claim has one of these values: a string, a number or boolean as JSON writes it, an
/// array that contains one, or an object with one among its names.
#[must_use]
pub fn value_is(value: &serde_json::Value, values: &[String]) -> bool {
    let is = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => values.contains(text),
        serde_json::Value::Number(number) => values.contains(&number.to_string()),
        serde_json::Value::Bool(truth) => values.iter().any(|value| *value == truth.to_string()),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            false
        }
    };
    match (value.as_array(), value.as_object()) {
        (Some(list), _) => list.iter().any(is),
        (None, Some(object)) => object.keys().any(|name| values.contains(name)),
        (None, None) => is(value),
    }
}

/// Finds the client and user of a token, and checks the token's facts against the current rules.
///
/// # Errors
/// Returns `token.invalid` with its fault, `client.unknown`, `client.inactive` or `user.inactive`.
pub fn identify(rules: &Rules, facts: Arc<Facts>, now: Timestamp) -> Result<Principal, Refusal> {
    let issuer = rules.issuer(facts.issuer.as_str()).ok_or(Refusal::token(TokenFault::Issuer))?;
    check_claims(&facts, &issuer.rules, now).map_err(Refusal::token)?;
    let registry = rules.registry();
    let client = if facts.issuer.is_own() {
        facts.client.as_deref().and_then(|id| registry.client(id))
    } else {
        registry.external_client(&facts.issuer, facts.client.as_deref())
    };
    let client = client.ok_or_else(|| unknown_client(&facts))?.clone();
    if !client.active {
        return Err(Refusal::new(Reason::ClientInactive));
    }
    let user = acting_user(rules, &facts, &client)?;
    Ok(Principal { facts, client, user })
}

/// The refusal of a token whose client nobody here is: what it says, and what is looked for.
fn unknown_client(facts: &Facts) -> Refusal {
    let claimed = facts.client.as_deref().map_or_else(|| "none".to_owned(), quoted);
    let wanted =
        if facts.issuer.is_own() { "a client of that name" } else { "it under `external`" };
    let text = format!("saw the client {claimed} of {}, wants {wanted}", facts.issuer);
    Refusal::because(Reason::ClientUnknown, text)
}

/// Our user that the token acts as; none for external issuers: their `sub` is never looked up here.
fn acting_user(
    rules: &Rules,
    facts: &Facts,
    client: &Client,
) -> Result<Option<Arc<User>>, Refusal> {
    if !facts.issuer.is_own() {
        return Ok(None);
    }
    let name = if facts.subject == client.id.as_str() {
        match &client.application_user {
            Some(name) => name.as_str(),
            None => return Ok(None),
        }
    } else {
        &facts.subject
    };
    match rules.registry().account(name) {
        Some(user) if user.usable() => Ok(Some(user)),
        _ => Err(Refusal::new(Reason::UserInactive)),
    }
}
