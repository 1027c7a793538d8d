//! The three gates of decisions.md over one operation's table.

use super::Rules;
use super::definition::Profile;
use super::findings::Part;
use super::principal::Principal;
use super::route::{GrantEntry, Matched, Operation};
use crate::client::Client;
use crate::names::{ClientId, ScopeName, Timestamp};
use crate::reason::{Reason, Refusal, Remedy};
use crate::request::certificate::CertificateFacts;
use std::collections::HashMap;
use std::net::IpAddr;

/// The rules for one operation: the selected policy, and the ACLs, all of which must pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gates {
    pub(super) policy: Option<usize>,
    pub(super) acls: Vec<usize>,
}

/// The rules that permitted, for the permit and the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// Policy and profile that cover the token, whether or not they name the API.
    pub profile: Option<(usize, usize)>,
    /// Whether that policy names the API.
    pub policy_names_api: bool,
    /// The scope that grants the operation.
    pub scope: Option<ScopeName>,
    /// The ACLs that the caller satisfies.
    pub acls: Vec<usize>,
    /// The operation is public: no gate was evaluated.
    pub public: bool,
}

/// The inputs of the gates, in addition to the rules.
pub(super) struct Inquiry<'a> {
    pub(super) rules: &'a Rules,
    pub(super) operation: &'a Operation,
    pub(super) matched: &'a Matched,
    pub(super) principal: &'a Principal,
    pub(super) address: Option<IpAddr>,
    pub(super) certificate: Option<&'a CertificateFacts>,
    pub(super) now: Timestamp,
}

impl Inquiry<'_> {
    /// Evaluates all three gates; stops at the first refusal.
    pub(super) fn pass(&self, gates: &Gates) -> Result<Grounds, Refusal> {
        let mut grounds = Grounds::default();
        self.policy(gates, &mut grounds)?;
        self.scope(&mut grounds)?;
        self.acl(gates, &mut grounds)?;
        Ok(grounds)
    }

    /// Gate 1.
    fn policy(&self, gates: &Gates, grounds: &mut Grounds) -> Result<(), Refusal> {
        let Some(index) = gates.policy else {
            let enforce = self.principal.client().enforce_token_restriction;
            return if enforce { Err(Refusal::new(Reason::PolicyNone)) } else { Ok(()) };
        };
        let mut profiles = self.rules.profiles(index, &self.principal.client().id);
        let profile = profiles.find(|(_, profile)| self.covers(profile) && self.names(profile));
        let Some((at, _)) = profile else { return Err(Refusal::new(Reason::PolicyProfile)) };
        grounds.profile = Some((index, at));
        grounds.policy_names_api = self
            .rules
            .definitions
            .policies
            .get(index)
            .is_some_and(|policy| policy.selector.api.is_some());
        Ok(())
    }

    /// Whether every part of the profile holds. Its clients are looked up before: see
    /// [`Rules::profiles`].
    fn covers(&self, profile: &Profile) -> bool {
        Part::NARROWING
            .into_iter()
            .all(|part| part == Part::Clients || self.holds_part(part, profile))
    }

    /// Whether one part of a profile holds.
    pub(super) fn holds_part(&self, part: Part, profile: &Profile) -> bool {
        match part {
            Part::Issuers => profile.issuers.contains(self.principal.facts().issuer.declared()),
            Part::Clients => profile
                .clients
                .as_ref()
                .is_none_or(|clients| clients.contains(&self.principal.client().id)),
            Part::From => profile
                .from
                .as_ref()
                .is_none_or(|from| self.address.is_some_and(|address| from.contains(address))),
            Part::Roles => profile.roles.as_ref().is_none_or(|roles| {
                roles.satisfied(|role| self.principal.has_role(role, self.rules))
            }),
            Part::Claims => {
                profile.claims.iter().all(|(name, values)| self.principal.claim_is(name, values))
            }
            Part::Schedule => {
                profile.between.as_ref().is_none_or(|between| between.holds(self.now))
            }
            Part::Certificates => {
                profile.certificates.as_ref().is_none_or(|names| self.has_certificate(names))
            }
            Part::RestrictedClients => self.names(profile),
        }
    }

    /// Whether the profile names the client, where that is required.
    pub(super) fn names(&self, profile: &Profile) -> bool {
        !self.principal.client().enforce_token_restriction
            || profile.restricted_clients
            || profile.clients.is_some()
    }

    fn has_certificate(&self, names: &[String]) -> bool {
        let valid = self.certificate.filter(|certificate| certificate.not_after > self.now);
        valid.is_some_and(|certificate| names.iter().any(|name| certificate.is(name)))
    }

    /// Gate 2.
    fn scope(&self, grounds: &mut Grounds) -> Result<(), Refusal> {
        let client = self.principal.client();
        if self.is_limited() {
            return Err(Refusal::new(Reason::ScopeLimited));
        }
        if let Some(scope) = self.granting_scope(client) {
            grounds.scope = Some(scope.clone());
            return Ok(());
        }
        if self.has_master() {
            return Ok(());
        }
        let mut missing: Vec<ScopeName> = self
            .operation
            .grants
            .iter()
            .filter(|grant| self.applies(grant))
            .map(|grant| grant.scope.clone())
            .collect();
        missing.dedup();
        if !missing.is_empty() {
            return Err(Refusal::new(Reason::ScopeMissing).with(Remedy::Scopes(missing)));
        }
        if client.allow_only_selected_scopes {
            Err(Refusal::new(Reason::ScopeUnscoped))
        } else {
            Ok(())
        }
    }

    /// Whether the API is not in `limit_authorization`.
    pub(super) fn is_limited(&self) -> bool {
        let api = self.rules.definitions.apis.get(self.operation.api);
        let limit = self.principal.client().limit_authorization.as_ref();
        limit.is_some_and(|limit| api.is_some_and(|api| !limit.contains(&api.name)))
    }

    /// Whether the master scope is in S.
    pub(super) fn has_master(&self) -> bool {
        self.holds(self.principal.client(), &self.rules.definitions.master_scope)
    }

    /// A scope of G ∩ S. Iterates over the smaller set, so the cost depends neither on the number
    /// of scopes nor of grants.
    fn granting_scope(&self, client: &Client) -> Option<&ScopeName> {
        let grants = &self.operation.grants;
        match &self.principal.facts().scopes {
            Some(scopes) if scopes.len() < grants.len() => {
                scopes.as_slice().iter().find_map(|scope| {
                    let start = grants.partition_point(|grant| grant.scope < *scope);
                    let mut named =
                        grants.iter().skip(start).take_while(|grant| grant.scope == *scope);
                    named
                        .find(|grant| client.scopes.contains(&grant.scope) && self.applies(grant))
                        .map(|grant| &grant.scope)
                })
            }
            _ => grants
                .iter()
                .find(|grant| self.holds(client, &grant.scope) && self.applies(grant))
                .map(|grant| &grant.scope),
        }
    }

    fn holds(&self, client: &Client, scope: &ScopeName) -> bool {
        holds(self.principal, client, scope)
    }

    fn applies(&self, grant: &GrantEntry) -> bool {
        applies(grant, self.matched)
    }

    /// Gate 3, and the invariant: a permit needs a rule that names the operation.
    fn acl(&self, gates: &Gates, grounds: &mut Grounds) -> Result<(), Refusal> {
        for index in &gates.acls {
            let Some(acl) = self.rules.definitions.acls.get(*index) else {
                return Err(Refusal::new(Reason::GatewayBroken));
            };
            if !acl.roles.satisfied(|role| self.principal.has_role(role, self.rules)) {
                return Err(Refusal::new(Reason::AclRole));
            }
            grounds.acls.push(*index);
        }
        let named = !grounds.acls.is_empty()
            || grounds.scope.is_some()
            || (grounds.profile.is_some() && grounds.policy_names_api);
        if named { Ok(()) } else { Err(Refusal::new(Reason::AclNone)) }
    }
}

/// Whether the scope is in S: in the token, and held by the client now.
fn holds(principal: &Principal, client: &Client, scope: &ScopeName) -> bool {
    let in_token = match &principal.facts().scopes {
        Some(scopes) => scopes.contains(scope.as_str()),
        None => true,
    };
    in_token && client.scopes.contains(scope)
}

pub(super) fn applies(grant: &GrantEntry, matched: &Matched) -> bool {
    grant.conditions.iter().all(|(name, values)| {
        let value = matched.parameters.iter().find(|(parameter, _)| parameter == name);
        value.is_some_and(|(_, value)| values.contains(value))
    })
}

impl Rules {
    /// G ∩ S: the scopes that a caller uses.
    pub(super) fn scopes_used(&self, matched: &Matched, principal: &Principal) -> Vec<&ScopeName> {
        let grants = self
            .operation(matched.operation)
            .map(|operation| operation.grants.as_slice())
            .unwrap_or_default();
        let used = grants.iter().filter(|grant| {
            applies(grant, matched) && holds(principal, principal.client(), &grant.scope)
        });
        let mut scopes: Vec<&ScopeName> = used.map(|grant| &grant.scope).collect();
        scopes.dedup();
        scopes
    }
}

/// The profiles of a policy, by client: a decision checks those that list the client and those that
/// list none.
#[derive(Debug, Default)]
pub(super) struct ProfileIndex {
    by_client: HashMap<ClientId, Vec<usize>>,
    any_client: Vec<usize>,
}

impl ProfileIndex {
    pub(super) fn new(profiles: &[Profile]) -> Self {
        let mut index = Self::default();
        for (at, profile) in profiles.iter().enumerate() {
            match &profile.clients {
                None => index.any_client.push(at),
                Some(clients) => {
                    for client in clients {
                        index.by_client.entry(client.clone()).or_default().push(at);
                    }
                }
            }
        }
        index
    }

    pub(super) fn of(&self, client: &ClientId) -> impl Iterator<Item = usize> {
        self.by_client.get(client).into_iter().flatten().chain(&self.any_client).copied()
    }
}
