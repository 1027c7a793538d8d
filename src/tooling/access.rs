//! Who can reach what: tests every client, user and other issuer's token against every operation
//! with the decision that serves, and reports which of it was used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::Workers;
use super::diff::callers::{Caller, callers};
use super::diff::contexts::{self, Looked};
use super::diff::paths::{self, Path};
use super::diff::{Form, request};
use super::replay::Recorded;
use super::usage::{Day, Observed, Subject};
use crate::names::{RoleName, Timestamp};
use crate::policy::Rules;
use crate::policy::decide::{Moment, Opened, Permit, check_network, judge, open};
use crate::policy::definition::{Profile, RoleRequirement};
use crate::policy::route::{Matched, OperationId, Parameters};
use crate::policy::sample::TokenSample;
use crate::request::Request;
use crate::request::certificate::CertificateFacts;
use crate::token::Facts;

/// An operation that a caller can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// The client; none where no token is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The client, with the token's issuer and its user.
    pub caller: String,
    /// The issuer of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Roles that count: of the user, of the client, or required of the token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// API.
    pub api: String,
    /// Method.
    pub method: &'static str,
    /// Version, where the API has versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Resource.
    pub resource: String,
    /// The rules that permit it, with their positions.
    pub by: Vec<String>,
    /// Further conditions, as text: networks, times, claims, values of parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// When it was last used, as far back as the log goes; none without a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

impl Reach {
    /// Whether a log was read and has no use of it.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.used.as_ref().is_some_and(|used| used.requests == 0)
    }
}

/// Use of a granted operation, according to a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Permitted requests.
    pub requests: u64,
    /// Time of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// A scope that a client holds and has not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Idle {
    /// The client.
    pub client: String,
    /// The scope.
    pub scope: String,
}

/// Who can reach what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Everything within reach, by caller, API, resource and method.
    pub reach: Vec<Reach>,
    /// Scopes that are held and were not used, where a log was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Idle>,
    /// Operations with so many combinations of roles, claims and values that some were not checked.
    pub in_part: usize,
}

/// Checks for every caller and operation whether some token, in some circumstances, is permitted.
#[must_use]
pub fn access(rules: &Rules, now: Timestamp, workers: Workers<'_>) -> Access {
    let asker = Asker::new(rules, now);
    let (operations, cut) = operations(rules);
    let in_part = AtomicUsize::new(cut);
    let ask = |(id, paths): &(OperationId, Vec<Path>), found: &mut Vec<Reach>| {
        in_part.fetch_add(usize::from(!asker.operation(*id, paths, found)), Ordering::Relaxed);
    };
    let mut reach = workers.each(&operations, ask);
    reach.sort_by(|a, b| {
        let key = |reach: &Reach| {
            (
                reach.caller.clone(),
                reach.api.clone(),
                reach.resource.clone(),
                reach.method,
                reach.version.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    Access { reach, idle: Vec::new(), in_part: in_part.into_inner() }
}

/// Paths to one operation, keyed by whether they contain a value that some condition asks for, and
/// by the parameters.
type Variants = BTreeMap<(bool, Parameters), Path>;

/// Each operation with the paths that lead to it: one for each way in which values of parameters
/// matter, starting with a path without such a value. The second result counts the templates with
/// more combinations than were checked.
fn operations(rules: &Rules) -> (Vec<(OperationId, Vec<Path>)>, usize) {
    let mut operations: BTreeMap<usize, (OperationId, Variants)> = BTreeMap::new();
    let (paths, cut) = paths::paths(rules, rules);
    for path in paths {
        let host = path.host.as_deref().unwrap_or(super::diff::ELSEWHERE);
        for method in rules.methods_at(host, &path.path).iter() {
            let Some(request) = request(&path, Form::Own(method)) else { continue };
            let matched = match open(rules, &request) {
                Opened::Token(matched, _) => matched,
                Opened::Decided(judgement) => match (judgement.operation, judgement.outcome) {
                    (Some(matched), Ok(_)) => matched,
                    _ => continue,
                },
            };
            let looked_at = rules.conditions_at(host, &path.path);
            let is_value = |(_, name, values): &(usize, &str, &[String])| {
                matched
                    .parameters
                    .iter()
                    .any(|(own, value)| &**own == *name && values.contains(value))
            };
            let valued = looked_at.iter().flatten().any(is_value);
            let Matched { operation, parameters } = matched;
            let (_, paths) =
                operations.entry(operation.index()).or_insert_with(|| (operation, Variants::new()));
            paths.entry((valued, parameters)).or_insert_with(|| path.clone());
        }
    }
    (operations.into_values().map(|(id, paths)| (id, paths.into_values().collect())).collect(), cut)
}

/// A caller with the token that reaches furthest: it has all scopes of the client. With fewer
/// scopes it reaches no more.
struct Asking {
    caller: Caller,
    facts: Arc<Facts>,
    roles: Vec<String>,
}

struct Asker<'a> {
    rules: &'a Rules,
    callers: Vec<Asking>,
    now: Timestamp,
}

impl<'a> Asker<'a> {
    fn new(rules: &'a Rules, now: Timestamp) -> Self {
        let callers = callers(rules, rules).into_iter().map(|caller| {
            let words = TokenSample {
                subject: caller
                    .user
                    .as_ref()
                    .map(ToString::to_string)
                    .or_else(|| Some(caller.client.to_string())),
                ..TokenSample::of(caller.issuer.clone(), caller.claim.clone())
            };
            let mut facts = words.facts(rules, now);
            // Never expires: the rules are checked, not the token's lifetime.
            (facts.issued, facts.expires) = (None, Timestamp(i64::MAX));
            let facts = Arc::new(facts);
            Asking { roles: roles(rules, &caller), caller, facts }
        });
        Self { rules, callers: callers.collect(), now }
    }

    /// Adds who can reach it; false if some combinations were skipped.
    fn operation(&self, id: OperationId, paths: &[Path], found: &mut Vec<Reach>) -> bool {
        let Some(operation) = self.rules.operation(id) else { return true };
        if operation.public {
            found.push(self.reach(id, None, vec!["public".to_owned()], Vec::new(), Vec::new()));
            return true;
        }
        let looked = Looked::of(self.rules, id);
        let blocked =
            self.rules.definitions().blocks.iter().flat_map(|block| block.from.iter().copied());
        let networks: BTreeSet<_> = looked.networks().chain(blocked).collect();
        let times: Vec<_> = looked.times().collect();
        let addresses = contexts::addresses(&networks);
        let moments = contexts::moments(&times, &BTreeSet::new(), self.now);
        let (extras, whole) = looked.extras();
        let asked: Vec<(Request, Matched)> = paths
            .iter()
            .filter_map(|path| {
                let request = request(path, Form::Own(operation.method))?;
                match open(self.rules, &request) {
                    Opened::Token(matched, _) => Some((request.clone(), matched)),
                    Opened::Decided(_) => None,
                }
            })
            .collect();
        for asking in &self.callers {
            let own = asking.caller.issuer.is_own();
            // Our own tokens carry no role claim and no additional claims.
            let fits = |extras: &&contexts::Extras| {
                !own || (extras.claims.is_empty()
                    && (extras.roles.is_empty() || extras.certificate.is_some()))
            };
            let choices: Vec<&contexts::Extras> = extras.iter().filter(fits).collect();
            if let Some(reach) = self.ask(id, asking, &asked, &addresses, &moments, &choices) {
                found.push(reach);
            }
        }
        whole
    }

    /// The first permit, with the fewest conditions.
    fn ask(
        &self,
        id: OperationId,
        asking: &Asking,
        asked: &[(Request, Matched)],
        addresses: &[Option<IpAddr>],
        moments: &[Timestamp],
        choices: &[&contexts::Extras],
    ) -> Option<Reach> {
        for extras in choices {
            let facts = self.facts(asking, extras);
            for (request, matched) in asked {
                for address in addresses {
                    for moment in moments {
                        if check_network(self.rules, *address, Moment::at(*moment)).is_err() {
                            continue;
                        }
                        let judgement = if address.is_none() && extras.certificate.is_none() {
                            judge(
                                self.rules,
                                request,
                                matched.clone(),
                                facts.clone(),
                                Moment::at(*moment),
                            )
                        } else {
                            let mut request = request.clone();
                            request.address = *address;
                            request.certificate =
                                CertificateFacts::named(extras.certificate.as_slice());
                            judge(
                                self.rules,
                                &request,
                                matched.clone(),
                                facts.clone(),
                                Moment::at(*moment),
                            )
                        };
                        let Ok(permit) = &judgement.outcome else { continue };
                        let mut only = self.circumstances(permit);
                        if !matched.parameters.is_empty()
                            && !asked.first().is_some_and(|(_, first)| first == matched)
                        {
                            only.extend(self.values(asking, extras, (*address, *moment), asked));
                        }
                        let roles = if asking.caller.issuer.is_own() {
                            asking.roles.clone()
                        } else {
                            extras.roles.iter().map(ToString::to_string).collect()
                        };
                        return Some(
                            self.reach(
                                id,
                                Some(&asking.caller),
                                self.rules
                                    .describe(permit.grounds())
                                    .iter()
                                    .map(ToString::to_string)
                                    .collect(),
                                only,
                                roles,
                            ),
                        );
                    }
                }
            }
        }
        None
    }

    fn facts(&self, asking: &Asking, extras: &contexts::Extras) -> Arc<Facts> {
        if extras.roles.is_empty() && extras.claims.is_empty() {
            return asking.facts.clone();
        }
        let mut facts = (*asking.facts).clone();
        let issuer = self.rules.issuer(asking.caller.issuer.as_str());
        let raw = |role: &RoleName| issuer?.value_of(role.as_str()).cloned();
        facts.roles = extras.roles.iter().filter_map(raw).collect();
        // In addition to the standard claims, which follow from the rest.
        facts
            .claims
            .extend(extras.claims.iter().map(|(name, value)| (name.clone(), value.clone().into())));
        Arc::new(facts)
    }

    /// Further conditions of the policy that permits, apart from the caller.
    fn circumstances(&self, permit: &Permit) -> Vec<String> {
        let definitions = self.rules.definitions();
        let profile = permit
            .grounds()
            .profile
            .and_then(|(policy, at)| definitions.policies.get(policy)?.profiles.get(at));
        profile.map(conditions).unwrap_or_default()
    }

    /// The values of parameters that are permitted, where others are refused.
    fn values(
        &self,
        asking: &Asking,
        extras: &contexts::Extras,
        (address, moment): (Option<IpAddr>, Timestamp),
        asked: &[(Request, Matched)],
    ) -> Vec<String> {
        let facts = self.facts(asking, extras);
        let mut values: BTreeMap<Arc<str>, BTreeSet<String>> = BTreeMap::new();
        for (request, matched) in asked {
            let mut request = request.clone();
            request.address = address;
            request.certificate = CertificateFacts::named(extras.certificate.as_slice());
            if judge(self.rules, &request, matched.clone(), facts.clone(), Moment::at(moment))
                .outcome
                .is_ok()
            {
                for (name, value) in &matched.parameters {
                    values.entry(name.clone()).or_default().insert(value.clone());
                }
            }
        }
        let shown = |(name, values): (Arc<str>, BTreeSet<String>)| {
            format!("{name}: {}", values.into_iter().collect::<Vec<_>>().join(", "))
        };
        values.into_iter().map(shown).collect()
    }

    fn reach(
        &self,
        id: OperationId,
        caller: Option<&Caller>,
        by: Vec<String>,
        only: Vec<String>,
        roles: Vec<String>,
    ) -> Reach {
        let operation = self.rules.operation(id);
        Reach {
            client: caller.map(|caller| caller.client.to_string()),
            caller: caller.map_or_else(|| "anybody".to_owned(), Caller::name),
            issuer: caller.map(|caller| caller.issuer.to_string()),
            roles,
            api: self.rules.api_of(id).map(|api| api.name.to_string()).unwrap_or_default(),
            method: operation.map_or("", |operation| operation.method.as_str()),
            version: operation
                .and_then(|operation| operation.version.as_ref())
                .map(ToString::to_string),
            resource: operation.map(|operation| operation.resource.to_string()).unwrap_or_default(),
            by,
            only,
            used: None,
        }
    }
}

/// The current roles of one of our own callers.
fn roles(rules: &Rules, caller: &Caller) -> Vec<String> {
    let registry = rules.registry();
    let Some(client) = registry.client(caller.client.as_str()) else { return Vec::new() };
    let user = caller
        .user
        .as_ref()
        .or(client.application_user.as_ref())
        .and_then(|name| registry.user(name.as_str()));
    let roles = user.map_or(&client.roles, |user| &user.roles);
    let mut roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
    roles.sort_unstable();
    roles
}

/// The parts of a profile as text, except issuers and clients.
fn conditions(profile: &Profile) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(from) = &profile.from {
        let networks: Vec<String> = from.networks().iter().map(ToString::to_string).collect();
        words.push(format!("from {}", networks.join(", ")));
    }
    if let Some(roles) = &profile.roles {
        let (how, names) = match roles {
            RoleRequirement::All(names) => ("all of", names),
            RoleRequirement::Any(names) => ("any of", names),
        };
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        words.push(format!("roles: {how} {}", names.join(", ")));
    }
    words.extend(
        profile.claims.iter().map(|(name, values)| format!("claim {name}: {}", values.join(", "))),
    );
    if profile.between.is_some() {
        words.push("at the times of the profile".to_owned());
    }
    if let Some(names) = &profile.certificates {
        words.push(format!("certificate {}", names.join(", ")));
    }
    words
}

/// Adds the use that the store has counted. It knows no versions and no issuers: an operation that
/// is used in one version counts as used in all.
pub fn apply_observed(access: &mut Access, observed: &Observed) {
    for reach in &mut access.reach {
        let subject = Subject {
            client: reach.client.clone().unwrap_or_default(),
            api: reach.api.clone(),
            operation: format!("{} {}", reach.method, reach.resource),
        };
        let sum = observed.sums.get(&subject);
        reach.used = Some(Used {
            requests: sum.map_or(0, |sum| sum.counts.permitted),
            last: sum.and_then(|sum| sum.last_permitted).map(Day::text),
        });
    }
}

/// Client, issuer, API, version, method and resource.
type Kind = (String, String, String, Option<String>, String, String);

/// Counts the uses recorded in a log.
#[derive(Debug, Default)]
pub struct Usage {
    since: Option<Timestamp>,
    operations: HashMap<Kind, Used>,
    scopes: BTreeSet<(String, String)>,
    /// Lines that are not records.
    pub unreadable: u64,
}

impl Usage {
    /// Counts records from this time on.
    #[must_use]
    pub fn since(since: Option<Timestamp>) -> Self {
        Self { since, ..Self::default() }
    }

    /// Reads one line of the log.
    pub fn line(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<Recorded<'_>>(line) else {
            self.unreadable += 1;
            return;
        };
        if record.verdict != "permit" {
            return;
        }
        let at = record.time.parse::<jiff::Timestamp>().map(|at| Timestamp(at.as_second()));
        if self.since.is_some_and(|since| at.is_ok_and(|at| at < since)) {
            return;
        }
        let (Some(api), Some(resource)) = (&record.api, &record.resource) else { return };
        let client = record.client.as_deref().unwrap_or_default().to_owned();
        for scope in record.rules.iter().filter_map(|rule| rule.strip_prefix("scope ")) {
            if !self.scopes.contains(&(client.clone(), scope.to_owned())) {
                self.scopes.insert((client.clone(), scope.to_owned()));
            }
        }
        // HEAD is decided as GET.
        let method = if record.method == "HEAD" { "GET" } else { &*record.method };
        let kind = (
            client,
            record.issuer.as_deref().unwrap_or_default().to_owned(),
            api.clone().into_owned(),
            record.version.as_deref().map(str::to_owned),
            method.to_owned(),
            resource.clone().into_owned(),
        );
        let used = self.operations.entry(kind).or_default();
        used.requests += 1;
        if used.last.as_deref().is_none_or(|last| last < &*record.time) {
            used.last = Some(record.time.clone().into_owned());
        }
    }

    /// Adds the recorded use to the access.
    pub fn apply(&self, access: &mut Access, rules: &Rules) {
        for reach in &mut access.reach {
            let client = reach.client.clone().unwrap_or_default();
            let key = (
                client,
                reach.issuer.clone().unwrap_or_default(),
                reach.api.clone(),
                reach.version.clone(),
                reach.method.to_owned(),
                reach.resource.clone(),
            );
            reach.used = Some(self.operations.get(&key).cloned().unwrap_or_default());
        }
        for client in rules.registry().clients() {
            let mut scopes: Vec<String> = client.scopes.iter().map(ToString::to_string).collect();
            scopes.sort_unstable();
            // Records name the scope that grants; the master scope grants nothing by name.
            let master = rules.master_scope().as_str();
            let used = |scope: &String| {
                scope == master || self.scopes.contains(&(client.id.to_string(), scope.clone()))
            };
            let idle = scopes.into_iter().filter(|scope| !used(scope));
            access.idle.extend(idle.map(|scope| Idle { client: client.id.to_string(), scope }));
        }
    }
}
