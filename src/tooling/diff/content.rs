//! The inputs of a verdict as text: where both sets have the same text, no comparison is needed.

use std::fmt::Write;

use crate::client::Client;
use crate::policy::Rules;
use crate::policy::decide::Opened;
use crate::policy::definition::{AccessPolicy, Profile, RoleRequirement};
use crate::policy::route::OperationId;

/// Inputs that are the same for all requests: issuers, the master scope, blocks.
pub(super) fn of_all(rules: &Rules) -> String {
    let definitions = rules.definitions();
    let mut issuers: Vec<String> = definitions
        .issuers
        .iter()
        .map(|issuer| {
            let mut roles: Vec<_> = issuer.roles.iter().collect();
            roles.sort_unstable();
            let rules = &issuer.rules;
            format!(
                "{} {} {:?} {:?} {:?} {roles:?}",
                rules.name, rules.issuer, rules.tenants, rules.audience, rules.claims
            )
        })
        .collect();
    issuers.sort_unstable();
    let blocks: Vec<String> = definitions
        .blocks
        .iter()
        .map(|block| {
            format!(
                "{:?} {:?} {:?} {:?} {:?}",
                block.from, block.clients, block.users, block.tokens, block.until
            )
        })
        .collect();
    format!("{issuers:?} {} {blocks:?}", definitions.master_scope)
}

/// Inputs of one set's verdicts, apart from the caller.
pub(super) struct Contents<'a> {
    rules: &'a Rules,
    policies: Vec<String>,
}

impl<'a> Contents<'a> {
    /// The contents of a set.
    pub(super) fn of(rules: &'a Rules) -> Self {
        Self { rules, policies: rules.definitions().policies.iter().map(of_policy).collect() }
    }

    /// The text for one request.
    pub(super) fn of_opened(&self, opened: &Opened<'_>) -> String {
        match opened {
            Opened::Decided(judgement) => match &judgement.outcome {
                Ok(_) => "permit".to_owned(),
                Err(refusal) => refusal.reason.label().to_owned(),
            },
            // Of the parameters, only which grants they make apply.
            Opened::Token(matched, _) => {
                format!(
                    "{} {:?}",
                    self.of_operation(matched.operation),
                    self.rules.granting(matched)
                )
            }
        }
    }

    fn of_operation(&self, id: OperationId) -> String {
        let rules = self.rules;
        let (Some(operation), Some(api)) = (rules.operation(id), rules.api_of(id)) else {
            return String::new();
        };
        let policy = operation
            .deciding_policy()
            .and_then(|at| self.policies.get(at))
            .map_or("-", String::as_str);
        let mut text = format!("{} {:?} {policy}", api.name, api.resource);
        for acl in rules.acls_of(id).iter().filter_map(|at| rules.definitions().acls.get(*at)) {
            let _ = write!(text, " acl {}", of_roles(&acl.roles));
        }
        text
    }
}

fn of_policy(policy: &AccessPolicy) -> String {
    let mut text = format!("policy {}", policy.selector.api.is_some());
    for profile in &policy.profiles {
        of_profile(profile, &mut text);
    }
    text
}

fn of_profile(profile: &Profile, text: &mut String) {
    let mut issuers: Vec<&str> =
        profile.issuers.iter().map(crate::names::IssuerName::as_str).collect();
    issuers.sort_unstable();
    let clients = profile.clients.as_ref().map(|clients| {
        let mut clients: Vec<&str> = clients.iter().map(crate::names::ClientId::as_str).collect();
        clients.sort_unstable();
        clients
    });
    let from = profile.from.as_ref().map(crate::request::address::Networks::networks);
    let roles = profile.roles.as_ref().map(of_roles);
    let _ = write!(
        text,
        " ({issuers:?} {clients:?} {} {from:?} {roles:?} {:?} {:?} {:?})",
        profile.restricted_clients, profile.claims, profile.between, profile.certificates
    );
}

fn of_roles(roles: &RoleRequirement) -> String {
    format!("{roles:?}")
}

/// Inputs that come from a client and the user that it acts as.
pub(super) fn of_client(rules: &Rules, client: &Client) -> String {
    let user =
        client.application_user.as_ref().map(|name| (name, rules.registry().user(name.as_str())));
    let user = user
        .map(|(name, user)| (name, user.map(|user| (user.usable(), sorted(user.roles.iter())))));
    format!(
        "{} {} {} {} {:?} {:?} {:?} {user:?}",
        client.id,
        client.active,
        client.allow_only_selected_scopes,
        client.enforce_token_restriction,
        sorted(client.roles.iter()),
        sorted(client.scopes.iter()),
        client.limit_authorization.as_ref().map(|apis| sorted(apis.iter())),
    )
}

fn sorted<T: ToString>(names: impl Iterator<Item = T>) -> Vec<String> {
    let mut names: Vec<String> = names.map(|name| name.to_string()).collect();
    names.sort_unstable();
    names
}
