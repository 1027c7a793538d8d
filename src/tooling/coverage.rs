//! Which rules, scopes and refusals no test of the policies has reached.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::testing::Run;
use crate::names::{Origin, ScopeName};
use crate::policy::Rules;
use crate::policy::block::Block;
use crate::policy::definition::Mode;
use crate::policy::gate::Grounds;
use crate::policy::route::{Operation, OperationId};
use crate::reason::Reason;

/// Something that a test can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What kind of thing: `operation`, `policy`, `profile`, `scope`, `acl`, `refusal`.
    pub kind: &'static str,
    /// Its name, and what a test has to show.
    pub what: String,
    /// Its position in the config file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Whether a test reached it.
    pub reached: bool,
}

/// What tests have reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// All items, by kind and in the order of declaration.
    pub items: Vec<Item>,
}

impl Coverage {
    /// The number reached, and of all.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.items.iter().filter(|item| item.reached).count(), self.items.len())
    }

    /// Percentage reached, rounded down; 100 where there is nothing to reach.
    #[must_use]
    pub fn percent(&self) -> usize {
        let (reached, all) = self.count();
        (reached * 100).checked_div(all).unwrap_or(100)
    }

    /// The items that no test has reached.
    pub fn missed(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.reached)
    }
}

/// The rules that tests have used.
#[derive(Default)]
struct Seen<'a> {
    permitted: HashSet<usize>,
    refused: HashSet<usize>,
    profiles: HashSet<(usize, usize)>,
    refusing: HashSet<usize>,
    scopes: HashSet<&'a str>,
    acls: HashSet<(usize, bool)>,
    reasons: HashSet<Reason>,
}

impl<'a> Seen<'a> {
    fn note(&mut self, run: &'a Run<'_>) {
        let operation = run.judgement.operation.as_ref().map(|matched| matched.operation);
        match &run.judgement.outcome {
            Ok(permit) => {
                self.permitted.insert(permit.operation().index());
                let Grounds { profile, scope, acls, .. } = permit.grounds();
                self.profiles.extend(profile);
                self.scopes.extend(scope.as_ref().map(ScopeName::as_str));
                self.acls.extend(acls.iter().map(|at| (*at, true)));
            }
            Err(refusal) => {
                self.refused.extend(operation.map(OperationId::index));
                self.reasons.insert(refusal.reason);
                let Some(found) = &run.findings else { return };
                if refusal.reason == Reason::PolicyProfile {
                    self.refusing.extend(found.policy);
                } else if refusal.reason == Reason::AclRole {
                    self.acls.extend(found.acls.iter().find(|(_, satisfied)| !satisfied));
                }
            }
        }
    }
}

/// Computes what these tests have reached.
#[must_use]
pub fn coverage(rules: &Rules, runs: &[Run<'_>]) -> Coverage {
    let mut seen = Seen::default();
    for run in runs {
        seen.note(run);
    }
    let mut items = operations(rules, &seen);
    items.extend(rules_of(rules, &seen));
    let refusals = reasons(rules).into_iter().map(|reason| Item {
        kind: "refusal",
        what: format!("`{}` is given", reason.label()),
        at: None,
        reached: seen.reasons.contains(&reason),
    });
    items.extend(refusals);
    Coverage { items }
}

/// Operations, with all versions of an API counted as one: a rule narrowed by version is covered as
/// a rule.
fn operations(rules: &Rules, seen: &Seen<'_>) -> Vec<Item> {
    let mut merged: BTreeMap<_, (bool, bool, bool)> = BTreeMap::new();
    for (at, operation) in rules.operations().iter().enumerate() {
        let (permitted, refused, public) =
            merged.entry((operation.api, &*operation.resource, operation.method)).or_default();
        *permitted |= seen.permitted.contains(&at);
        *refused |= seen.refused.contains(&at);
        *public = operation.public;
    }
    let mut items = Vec::new();
    for ((api, template, method), (permitted, refused, public)) in merged {
        let Some(api) = rules.apis().get(api) else { continue };
        let resource = api.resources.iter().find(|resource| &*resource.template == template);
        let item = |what: &str, reached| Item {
            kind: "operation",
            what: format!("`{} {template}` of `{}` is {what}", method.as_str(), api.name),
            at: resource.map(|resource| resource.origin.to_string()),
            reached,
        };
        items.push(item("permitted", permitted));
        if !public {
            items.push(item("refused", refused));
        }
    }
    items
}

fn rules_of(rules: &Rules, seen: &Seen<'_>) -> Vec<Item> {
    let definitions = rules.definitions();
    let item = |kind, what: String, origin: &Origin, reached| Item {
        kind,
        what,
        at: Some(origin.to_string()),
        reached,
    };
    let mut items = Vec::new();
    for (at, policy) in definitions.policies.iter().enumerate() {
        if !policy.active || policy.mode == Mode::Shadow {
            continue;
        }
        items.push(item(
            "policy",
            format!("policy `{}` refuses", policy.name),
            &policy.origin,
            seen.refusing.contains(&at),
        ));
        for (profile, declared) in policy.profiles.iter().enumerate() {
            let what = format!("profile {} of policy `{}` admits", profile + 1, policy.name);
            items.push(item(
                "profile",
                what,
                &declared.origin,
                seen.profiles.contains(&(at, profile)),
            ));
        }
    }
    for scope in definitions.scopes.iter().filter(|scope| scope.active && !scope.grants.is_empty())
    {
        let reached = seen.scopes.contains(scope.name.as_str());
        items.push(item("scope", format!("scope `{}` grants", scope.name), &scope.origin, reached));
    }
    for (at, acl) in definitions.acls.iter().enumerate() {
        if acl.active && acl.mode == Mode::Enforce {
            for (satisfied, does) in [(true, "is satisfied"), (false, "refuses")] {
                let reached = seen.acls.contains(&(at, satisfied));
                items.push(item("acl", format!("the ACL {does}"), &acl.origin, reached));
            }
        }
    }
    items
}

/// The refusals that these rules can give, of those that depend on rules.
fn reasons(rules: &Rules) -> Vec<Reason> {
    let definitions = rules.definitions();
    let clients = rules.registry().clients();
    let closed = rules.operations().iter().any(|operation| !operation.public);
    let operation = |is: &dyn Fn(&Operation) -> bool| {
        rules.operations().iter().any(|operation| !operation.public && is(operation))
    };
    let blocks = |is: fn(&Block) -> bool| definitions.blocks.iter().any(is);
    let can = [
        (Reason::TokenMissing, closed),
        (Reason::OperationMaintenance, definitions.apis.iter().any(|api| api.maintenance)),
        (Reason::BlockedNetwork, blocks(|block| !block.from.is_empty())),
        (Reason::BlockedClient, blocks(|block| !block.clients.is_empty())),
        (Reason::BlockedUser, blocks(|block| !block.users.is_empty())),
        (Reason::BlockedToken, blocks(|block| !block.tokens.is_empty())),
        (
            Reason::PolicyNone,
            closed && clients.iter().any(|client| client.enforce_token_restriction),
        ),
        (Reason::PolicyProfile, operation(&|operation| operation.deciding_policy().is_some())),
        (Reason::ScopeLimited, clients.iter().any(|client| client.limit_authorization.is_some())),
        (Reason::ScopeMissing, rules.scopes_in_use().next().is_some()),
        (
            Reason::ScopeUnscoped,
            clients.iter().any(|client| client.allow_only_selected_scopes)
                && operation(&|operation| !operation.is_granted()),
        ),
        (Reason::AclRole, operation(&Operation::has_acl)),
    ];
    can.into_iter().filter(|(_, can)| *can).map(|(reason, _)| reason).collect()
}
