//! Findings about the policy files.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Finding, Rule};
use crate::names::{ApiName, RoleName};
use crate::policy::Rules;
use crate::policy::definition::{AccessPolicy, Mode, Profile, RoleRequirement, Selector};
use crate::policy::route::Operation;

pub(super) fn lint(rules: &Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    policies(rules, &mut findings);
    acls(rules, &mut findings);
    scopes(rules, &mut findings);
    operations(rules, &mut findings);
    findings
}

/// The operations that a selector matches.
pub(super) fn selected<'a>(
    rules: &'a Rules,
    selector: &'a Selector,
) -> impl Iterator<Item = &'a Operation> {
    rules.operations().iter().filter(|operation| {
        let api = rules.apis().get(operation.api).map(|api| &api.name);
        selector.api.as_ref().is_none_or(|name| Some(name) == api) && selector.narrows_to(operation)
    })
}

fn policies(rules: &Rules, findings: &mut Vec<Finding>) {
    let definitions = rules.definitions();
    let picked: HashSet<usize> = rules.operations().iter().flat_map(Operation::policies).collect();
    let held = held_roles(rules);
    for (at, policy) in definitions.policies.iter().enumerate().filter(|(_, policy)| policy.active)
    {
        let mut say = |rule, origin, text: String| {
            findings.push(Finding::new(rule, &policy.name, origin, text));
        };
        if !picked.contains(&at) {
            let text = format!(
                "policy `{}` decides about no operation: each has a more specific one, or there is \
                    none",
                policy.name
            );
            say(Rule::PolicyUnreachable, &policy.origin, text);
            continue;
        }
        if policy.profiles.is_empty() && policy.mode == Mode::Enforce {
            say(
                Rule::PolicyNobody,
                &policy.origin,
                format!("policy `{}` has `allow: []`", policy.name),
            );
        }
        for (number, profile) in policy.profiles.iter().enumerate() {
            let which = format!("profile {} of policy `{}`", number + 1, policy.name);
            if policy.selector.api.is_none()
                && profile.clients.is_none()
                && policy.mode == Mode::Enforce
            {
                say(
                    Rule::PolicyAnyone,
                    &profile.origin,
                    format!("{which}, which is about all APIs, lists no clients"),
                );
            }
            if let Some(why) = unmeetable(rules, policy, profile) {
                say(
                    Rule::ProfileUnreachable,
                    &profile.origin,
                    format!("{which} admits nobody: {why}"),
                );
            }
            for role in unheld(profile.roles.as_ref(), &held) {
                say(
                    Rule::RoleUnheld,
                    &profile.origin,
                    format!("{which} asks for the role `{role}`, which nobody has"),
                );
            }
            for client in profile.clients.iter().flatten() {
                if definitions.registry.client(client.as_str()).is_some_and(|client| !client.active)
                {
                    let text =
                        format!("{which} lists client `{client}`, which has `active: false`");
                    say(Rule::InactiveReliedOn, &profile.origin, text);
                }
            }
        }
    }
}

/// Why no token of the clients that a profile lists can meet it.
fn unmeetable(rules: &Rules, policy: &AccessPolicy, profile: &Profile) -> Option<String> {
    let registry = &rules.definitions().registry;
    let clients = profile.clients.as_ref()?;
    let mints = |client: &crate::client::Client| {
        let own = profile.issuers.iter().any(crate::names::IssuerName::is_own);
        let of_others =
            client.external.iter().any(|(issuer, _)| profile.issuers.contains(issuer.declared()));
        let default = profile.issuers.iter().any(|issuer| {
            !issuer.is_own()
                && registry
                    .external_client(issuer, None)
                    .is_some_and(|default| default.id == client.id)
        });
        own || of_others || default
    };
    let listed: Vec<_> = clients.iter().filter_map(|id| registry.client(id.as_str())).collect();
    if listed.iter().all(|client| !client.active) {
        return Some("all clients that it lists have `active: false`".to_owned());
    }
    if !listed.iter().any(|client| client.active && mints(client)) {
        return Some(
            "no client that it lists has tokens of its `issuers`: see `external` of the clients"
                .to_owned(),
        );
    }
    let limited = |client: &&std::sync::Arc<crate::client::Client>| {
        let api = policy.selector.api.as_ref();
        client.active
            && api.is_none_or(|api| {
                client.limit_authorization.as_ref().is_none_or(|limit| limit.contains(api))
            })
    };
    (!listed.iter().any(limited)).then(|| {
        "`limit_authorization` of every client that it lists leaves the API out".to_owned()
    })
}

/// Roles that some caller can have.
fn held_roles(rules: &Rules) -> HashSet<RoleName> {
    let definitions = rules.definitions();
    let clients =
        definitions.registry.clients().into_iter().flat_map(|client| client.roles.iter().cloned());
    let users =
        definitions.registry.users().into_iter().flat_map(|user| user.roles.iter().cloned());
    let mapped = definitions.issuers.iter().flat_map(|issuer| issuer.roles.values().cloned());
    let creation = definitions.registry.creation().into_iter();
    let at_login = creation.flat_map(|creation| creation.roles.values().cloned());
    clients.chain(users).chain(mapped).chain(at_login).collect()
}

/// Roles that the requirement needs and no caller has.
fn unheld<'a>(roles: Option<&'a RoleRequirement>, held: &HashSet<RoleName>) -> Vec<&'a RoleName> {
    match roles {
        None => Vec::new(),
        Some(RoleRequirement::All(roles)) => {
            roles.iter().filter(|role| !held.contains(*role)).collect()
        }
        Some(RoleRequirement::Any(roles)) if roles.iter().any(|role| held.contains(role)) => {
            Vec::new()
        }
        Some(RoleRequirement::Any(roles)) => roles.iter().collect(),
    }
}

fn acls(rules: &Rules, findings: &mut Vec<Finding>) {
    let held = held_roles(rules);
    for acl in rules.definitions().acls.iter().filter(|acl| acl.active) {
        let api = acl.selector.api.as_ref().map_or("", ApiName::as_str);
        let mut operations = selected(rules, &acl.selector).peekable();
        if operations.peek().is_none() {
            let text = format!("this ACL of API `{api}` is about no operation");
            findings.push(Finding::new(Rule::AclUnreachable, &api, &acl.origin, text));
        } else if operations.all(|operation| operation.public) {
            let text = format!(
                "this ACL of API `{api}` is about public operations, which no ACL is asked about"
            );
            findings.push(Finding::new(Rule::AclUnreachable, &api, &acl.origin, text));
        }
        for role in unheld(Some(&acl.roles), &held) {
            let text =
                format!("an ACL of API `{api}` asks for the role `{role}`, which nobody has");
            findings.push(Finding::new(Rule::RoleUnheld, &api, &acl.origin, text));
        }
    }
}

fn scopes(rules: &Rules, findings: &mut Vec<Finding>) {
    let definitions = rules.definitions();
    let clients = definitions.registry.clients();
    let held: HashSet<_> =
        clients.iter().filter(|client| client.active).flat_map(|client| &client.scopes).collect();
    for scope in &definitions.scopes {
        let mut say = |rule, origin, text: String| {
            findings.push(Finding::new(rule, &scope.name, origin, text));
        };
        let mut reaches = false;
        for grant in scope.grants.iter().filter(|_| scope.active) {
            if selected(rules, &grant.selector).next().is_some() {
                reaches = true;
            } else {
                say(
                    Rule::GrantUnreachable,
                    &grant.origin,
                    format!("a grant of `{}` is about no operation", scope.name),
                );
            }
        }
        if reaches && !held.contains(&scope.name) {
            say(
                Rule::ScopeUnobtainable,
                &scope.origin,
                format!("no active client holds `{}`", scope.name),
            );
        }
        if !reaches && held.contains(&scope.name) && scope.name != *rules.master_scope() {
            let why = if scope.active { "it grants nothing" } else { "it has `active: false`" };
            say(
                Rule::ScopeUnused,
                &scope.origin,
                format!("`{}` is held by clients and {why}", scope.name),
            );
        }
        let whole: BTreeSet<&str> = scope
            .grants
            .iter()
            .filter(|grant| grant.selector.is_whole() && grant.conditions.is_empty())
            .filter_map(|grant| grant.selector.api.as_ref().map(ApiName::as_str))
            .collect();
        if scope.active && whole.len() > 1 {
            let apis = whole.into_iter().collect::<Vec<_>>().join(", ");
            say(
                Rule::ScopeWildcard,
                &scope.origin,
                format!("`{}` grants all of {apis}", scope.name),
            );
        }
    }
}

/// Operations that can only be refused, in every version of their API. A policy that admits nobody
/// does so on purpose.
fn operations(rules: &Rules, findings: &mut Vec<Finding>) {
    let definitions = rules.definitions();
    let is_named = |operation: &Operation| {
        let policy = operation.deciding_policy().and_then(|at| definitions.policies.get(at));
        let named = policy
            .is_some_and(|policy| policy.selector.api.is_some() || policy.profiles.is_empty());
        operation.public || operation.is_named() || named
    };
    let mut by_label: BTreeMap<(usize, &str), (&Operation, bool)> = BTreeMap::new();
    for operation in rules.operations() {
        let (_, named) =
            by_label.entry((operation.api, &operation.label)).or_insert((operation, false));
        *named |= is_named(operation);
    }
    for (operation, _) in by_label.into_values().filter(|(_, named)| !named) {
        let Some(api) = rules.apis().get(operation.api) else { continue };
        let resource =
            api.resources.iter().find(|resource| resource.template == operation.resource);
        let origin = resource.map_or(&api.origin, |resource| &resource.origin);
        let text =
            format!("no scope, policy or ACL names `{}` of API `{}`", operation.label, api.name);
        let on = format!("{} {}", api.name, operation.label);
        findings.push(Finding::new(Rule::OperationUnreachable, &on, origin, text));
    }
}
