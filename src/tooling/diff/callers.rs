//! Representative callers: every client with the tokens that it can have, and one for each way in
//! which users and other issuers' tokens differ to the rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Client, GrantType};
use crate::names::{ClientId, IssuerName, RoleName, UserName};
use crate::policy::Rules;

/// A caller with a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tooling) struct Caller {
    /// The client by its id here; the new set's where the sets differ.
    pub(in crate::tooling) client: ClientId,
    /// The issuer of the token.
    pub(in crate::tooling) issuer: IssuerName,
    /// The client claim.
    pub(in crate::tooling) claim: Option<String>,
    /// The user that the token acts for; none if it acts for the client.
    pub(in crate::tooling) user: Option<UserName>,
    /// How many more users the rules treat the same.
    pub(in crate::tooling) alike: usize,
    /// Whether everything that verdicts on it depend on is the same in both sets.
    pub(in crate::tooling) same: bool,
}

impl Caller {
    /// As text.
    #[must_use]
    pub(in crate::tooling) fn name(&self) -> String {
        let mut name = self.client.to_string();
        if !self.issuer.is_own() {
            name.push_str(&format!(" by {}", self.issuer));
        }
        if let Some(user) = &self.user {
            name.push_str(&format!(" for {user}"));
        }
        if self.alike > 0 {
            name.push_str(&format!(" and {} more", self.alike));
        }
        name
    }
}

/// All callers of two sets.
pub(in crate::tooling) fn callers(old: &Rules, new: &Rules) -> Vec<Caller> {
    let mut ids: BTreeSet<&ClientId> = BTreeSet::new();
    for rules in [old, new] {
        ids.extend(rules.registry().clients().into_iter().map(|client| &client.id));
    }
    let users = users(old, new);
    let mut callers = Vec::new();
    for id in ids {
        let sides = [old, new]
            .map(|rules| rules.registry().client(id.as_str()).map(|client| (rules, &**client)));
        let text = |side: &Option<(&Rules, &Client)>| {
            side.map(|(rules, client)| super::content::of_client(rules, client))
        };
        let same = text(&sides[0]) == text(&sides[1]);
        let may = |grants: &[GrantType]| {
            sides
                .iter()
                .flatten()
                .any(|(_, client)| grants.iter().any(|grant| client.grants.contains(grant)))
        };
        let own = |user: Option<UserName>, alike, same| Caller {
            client: id.clone(),
            issuer: IssuerName::new(IssuerName::OWN),
            claim: Some(id.to_string()),
            user,
            alike,
            same,
        };
        let for_users =
            may(&[GrantType::AuthorizationCode, GrantType::Password, GrantType::JwtBearer]);
        if may(&[GrantType::ClientCredentials]) {
            callers.push(own(None, 0, same));
        }
        if for_users {
            callers.extend(users.iter().map(|(user, alike, unchanged)| {
                own(Some(user.clone()), *alike, same && *unchanged)
            }));
        }
    }
    callers.extend(of_others(old, new));
    callers
}

/// One user for each way in which users differ to the rules, with the number of users like it, and
/// whether both sets treat it the same.
fn users(old: &Rules, new: &Rules) -> Vec<(UserName, usize, bool)> {
    let mut names: BTreeSet<&UserName> = BTreeSet::new();
    for rules in [old, new] {
        names.extend(rules.registry().users().into_iter().map(|user| &user.name));
    }
    let blocked = |rules: &Rules, name: &UserName| {
        rules
            .definitions()
            .blocks
            .iter()
            .filter(|block| block.users.contains(name))
            .map(|block| block.until)
            .collect::<Vec<_>>()
    };
    let look = |rules: &Rules, name: &UserName| {
        let user = rules.registry().user(name.as_str()).filter(|user| user.usable());
        let roles: Option<BTreeSet<RoleName>> =
            user.map(|user| user.roles.iter().cloned().collect());
        (roles, blocked(rules, name))
    };
    let mut kinds: BTreeMap<String, (UserName, usize)> = BTreeMap::new();
    for name in names {
        let kind = format!("{:?}", (look(old, name), look(new, name)));
        kinds.entry(kind).and_modify(|(_, alike)| *alike += 1).or_insert_with(|| (name.clone(), 0));
    }
    kinds
        .into_values()
        .map(|(name, alike)| (name.clone(), alike, look(old, &name) == look(new, &name)))
        .collect()
}

/// Tokens of other issuers: each client claim that is listed, and one that is not.
fn of_others(old: &Rules, new: &Rules) -> Vec<Caller> {
    let mut issuers: BTreeSet<&IssuerName> = BTreeSet::new();
    let mut claims: BTreeMap<&IssuerName, BTreeSet<&str>> = BTreeMap::new();
    for rules in [old, new] {
        issuers
            .extend(rules.issuers().map(|issuer| &issuer.rules.name).filter(|name| !name.is_own()));
        for client in rules.registry().clients() {
            for (issuer, claim) in &client.external {
                claims.entry(issuer).or_default().insert(claim);
            }
        }
    }
    // Tenants are issuers of their own where a client lists them.
    issuers.extend(claims.keys().copied());
    let mut callers = Vec::new();
    for issuer in issuers {
        let listed =
            claims.get(issuer).into_iter().flatten().map(|claim| Some((*claim).to_owned()));
        for claim in listed.chain([None]) {
            let sides = [old, new].map(|rules| {
                let client = rules.registry().external_client(issuer, claim.as_deref())?;
                Some((&client.id, super::content::of_client(rules, client)))
            });
            let Some((client, _)) = sides[1].as_ref().or(sides[0].as_ref()) else { continue };
            callers.push(Caller {
                client: (*client).clone(),
                issuer: issuer.clone(),
                claim,
                user: None,
                alike: 0,
                same: sides[0] == sides[1],
            });
        }
    }
    callers
}
