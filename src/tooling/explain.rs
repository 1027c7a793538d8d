//! Why a request is permitted or refused: each step of decisions.md with its facts, the rules
//! behind it with their positions, and the nearest changes that would permit.

use std::sync::Arc;

use serde::Serialize;

use super::change::{Change, World, nearest};
use super::replay::{Gap, Recorded};
use crate::client::Client;
use crate::config::Config;
use crate::names::Timestamp;
use crate::policy::block::Blocks;
use crate::policy::decide::{Judgement, Moment, decide, method_judged};
use crate::policy::definition::{Profile, RoleRequirement};
use crate::policy::findings::{Findings, Part, WayIn};
use crate::policy::route::OperationId;
use crate::policy::sample::Presented;
use crate::policy::{Principal, Rules};
use crate::reason::{Reason, Refusal, Remedy, Step, Verdict};
use crate::request::Request;
use crate::token::Facts;

/// A request to explain: its parsed head, and its token, valid or refused, if it has one.
#[derive(Clone, Debug)]
pub struct Question {
    /// The request, or the refusal of its head.
    pub request: Result<Request, Refusal>,
    /// The facts of its token.
    pub facts: Option<Result<Arc<Facts>, Refusal>>,
}

/// A step of the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Its name.
    pub step: &'static str,
    /// Its result.
    pub result: Outcome,
    /// Its facts, a line each.
    pub facts: Vec<String>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The request goes on.
    Passed,
    /// The step refused the request.
    Refused,
    /// It was not reached.
    NotReached,
}

/// An explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `permit`, or the reason of the refusal.
    pub verdict: &'static str,
    /// The exact fault; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fault: String,
    /// The steps in order.
    pub steps: Vec<Stage>,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// The verdict with the shadow rules, where the operation has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<&'static str>,
    /// Changes that together would permit; this was verified by applying them.
    pub nearest: Vec<String>,
}

/// Judges a recorded request again, by these rules and at that time.
///
/// # Errors
/// The record does not have all that the rules look at.
pub fn explain_recorded(config: &Config, record: &Recorded<'_>) -> Result<Explanation, Gap> {
    let (case, at) = record.case(&config.rules, &[&config.rules])?;
    let facts = match &case.token {
        Some(Presented::Sample(words)) => Some(Ok(Arc::new(words.facts(&config.rules, at)))),
        Some(Presented::Token(_)) | None => None,
    };
    let question = Question { request: case.request(&config.fixed.public_host), facts };
    // Blocks set by command are current ones, not those of that time.
    let blocks = Blocks::default();
    Ok(explain(&config.rules, &question, Moment { now: at, blocks: &blocks }))
}

/// Explains the verdict on a request, with the nearest changes that would permit it.
#[must_use]
pub fn explain(rules: &Rules, question: &Question, moment: Moment<'_>) -> Explanation {
    let mut explanation = steps(rules, question, moment);
    if explanation.verdict != PERMIT {
        explanation.nearest = changes(rules, question, moment);
    }
    explanation
}

/// The label of a permit, where refusals have their reasons.
const PERMIT: &str = "permit";

/// Explains the verdict on a request, without looking for changes.
#[must_use]
pub fn steps(rules: &Rules, question: &Question, moment: Moment<'_>) -> Explanation {
    let judgement = judge(rules, question, moment);
    let mut stages = Teller { rules, question, judgement: &judgement, now: moment.now }.stages();
    let refusal = judgement.outcome.as_ref().err();
    for (step, stage) in &mut stages {
        stage.result = match refusal.map(|refusal| refusal.reason.step()) {
            None => Outcome::Passed,
            Some(refused) => match (*step).cmp(&refused) {
                std::cmp::Ordering::Less => Outcome::Passed,
                std::cmp::Ordering::Equal => Outcome::Refused,
                std::cmp::Ordering::Greater => Outcome::NotReached,
            },
        };
    }
    Explanation {
        verdict: refusal.map_or(PERMIT, |refusal| refusal.reason.label()),
        fault: refusal.map(|refusal| refusal.fault.text().to_owned()).unwrap_or_default(),
        steps: stages.into_iter().map(|(_, stage)| stage).collect(),
        rules: deciding(rules, question, &judgement, moment.now),
        shadow: judgement.shadow.map(Verdict::label),
        nearest: Vec::new(),
    }
}

/// The verdict, by the decision that serves.
#[must_use]
pub fn judge(rules: &Rules, question: &Question, moment: Moment<'_>) -> Judgement {
    match &question.request {
        Err(refusal) => Judgement::refused(refusal.clone()),
        Ok(request) => {
            let unread = || Err(Refusal::because(Reason::TokenInvalid, "the token was not read"));
            decide(rules, request, |_| question.facts.clone().unwrap_or_else(unread), moment)
        }
    }
}

fn changes(rules: &Rules, question: &Question, moment: Moment<'_>) -> Vec<String> {
    let Ok(request) = &question.request else { return Vec::new() };
    let facts = match &question.facts {
        Some(Ok(facts)) => Some((**facts).clone()),
        Some(Err(_)) => return Vec::new(),
        None => None,
    };
    let world = World { definitions: rules.definitions().clone(), request: request.clone(), facts };
    nearest(world, moment).unwrap_or_default().iter().map(Change::to_string).collect()
}

/// The rules behind the verdict, each with its position.
fn deciding(
    rules: &Rules,
    question: &Question,
    judgement: &Judgement,
    now: Timestamp,
) -> Vec<String> {
    match &judgement.outcome {
        Ok(permit) => rules.describe(permit.grounds()).iter().map(ToString::to_string).collect(),
        Err(refusal) => {
            let Some(findings) = findings(rules, question, judgement, now) else {
                return Vec::new();
            };
            let definitions = rules.definitions();
            if refusal.reason == Reason::PolicyProfile {
                let policy = findings.policy.and_then(|at| definitions.policies.get(at));
                policy
                    .map(|policy| format!("policy {} ({})", policy.name, policy.origin))
                    .into_iter()
                    .collect()
            } else if refusal.reason == Reason::AclRole {
                let failed = findings.acls.iter().find(|(_, satisfied)| !satisfied);
                let acl = failed.and_then(|(at, _)| definitions.acls.get(*at));
                acl.map(|acl| format!("acl ({})", acl.origin)).into_iter().collect()
            } else {
                Vec::new()
            }
        }
    }
}

/// The findings of the gates, where they are reached.
#[must_use]
pub fn findings(
    rules: &Rules,
    question: &Question,
    judgement: &Judgement,
    now: Timestamp,
) -> Option<Findings> {
    let (request, matched) = (question.request.as_ref().ok()?, judgement.operation.as_ref()?);
    rules.findings(request, matched, judgement.principal.as_ref()?, now)
}

/// Describes each step as text.
struct Teller<'a> {
    rules: &'a Rules,
    question: &'a Question,
    judgement: &'a Judgement,
    now: Timestamp,
}

impl Teller<'_> {
    fn stages(&self) -> Vec<(Step, Stage)> {
        let findings = findings(self.rules, self.question, self.judgement, self.now);
        let mut stages = vec![
            (Step::Request, self.request()),
            (Step::Network, self.network()),
            (Step::Operation, self.operation()),
        ];
        let operation = self.judgement.operation.as_ref().map(|matched| matched.operation);
        if self.is_public(operation) {
            stages.push((
                Step::Operation,
                vec!["public: no token is asked for, and none is looked at".to_owned()],
            ));
        } else {
            stages.push((Step::Credential, self.credential()));
            stages.push((Step::Identity, self.identity()));
            stages.push((Step::Blocks, self.blocks()));
            stages.push((
                Step::Policy,
                findings.as_ref().map(|found| self.policy(found)).unwrap_or_default(),
            ));
            stages.push((
                Step::Scope,
                findings.as_ref().map(|found| self.scope(found)).unwrap_or_default(),
            ));
            stages.push((
                Step::Acl,
                findings.as_ref().map(|found| self.acl(found)).unwrap_or_default(),
            ));
            stages.push((Step::Limits, self.limits()));
        }
        let stage = |(step, facts): (Step, Vec<String>)| {
            (step, Stage { step: step.label(), result: Outcome::Passed, facts })
        };
        stages.into_iter().map(stage).collect()
    }

    fn is_public(&self, operation: Option<OperationId>) -> bool {
        operation.and_then(|id| self.rules.operation(id)).is_some_and(|operation| operation.public)
    }

    fn refusal(&self, step: Step) -> Option<&Refusal> {
        self.judgement.outcome.as_ref().err().filter(|refusal| refusal.reason.step() == step)
    }

    /// The fault of a refusal at this step, as text.
    fn fault(&self, step: Step) -> Option<String> {
        let refusal = self.refusal(step)?;
        let (detail, fault) = (refusal.reason.row().detail, refusal.fault.text());
        Some(if fault.is_empty() { detail.to_owned() } else { format!("{detail} ({fault})") })
    }

    fn request(&self) -> Vec<String> {
        match &self.question.request {
            Ok(request) => {
                let judged = method_judged(self.rules, request).unwrap_or(request.method);
                let method =
                    judged.map_or("a method that no rule can name", |method| method.as_str());
                let fault = self.fault(Step::Request);
                let mut facts = vec![format!(
                    "judged as {method} {} on host {}",
                    request.target.path(),
                    request.host
                )];
                if let Some(named) = request.overriding.filter(|named| judged == Some(*named)) {
                    facts.push(format!("a header names {} in the place of POST", named.as_str()));
                }
                facts.extend(fault);
                facts
            }
            Err(_) => self.fault(Step::Request).into_iter().collect(),
        }
    }

    fn network(&self) -> Vec<String> {
        let Ok(request) = &self.question.request else { return Vec::new() };
        let mut facts = vec![match request.address {
            Some(address) => format!("from {address}"),
            None => "no address: no condition on networks holds".to_owned(),
        }];
        if self.refusal(Step::Network).is_some() {
            let blocks = self.rules.definitions().blocks.iter();
            let block = blocks.filter(|block| {
                let inside = |address| block.from.iter().any(|network| network.contains(&address));
                request.address.is_some_and(inside) && block.until.is_none_or(|end| self.now < end)
            });
            facts.extend(block.map(|block| format!("blocked at {}", block.origin)));
            if facts.len() == 1 {
                facts.push("blocked by command (`scopegate block --list`)".to_owned());
            }
        }
        facts
    }

    fn operation(&self) -> Vec<String> {
        let Some(matched) = &self.judgement.operation else {
            let mut facts: Vec<String> = self.fault(Step::Operation).into_iter().collect();
            if let (Some(refusal), Ok(request)) =
                (self.refusal(Step::Operation), &self.question.request)
            {
                facts.push(match &refusal.remedy {
                    Remedy::Allow(methods) => format!("methods there: {methods}"),
                    Remedy::None
                    | Remedy::Scopes(_)
                    | Remedy::RetryAfter(_)
                    | Remedy::Advice(_) => {
                        format!("no API has a resource for {}", request.target.path())
                    }
                });
            }
            return facts;
        };
        let Some(operation) = self.rules.operation(matched.operation) else { return Vec::new() };
        let Some(api) = self.rules.api_of(matched.operation) else { return Vec::new() };
        let resource =
            api.resources.iter().find(|resource| resource.template == operation.resource);
        let version = operation
            .version
            .as_ref()
            .map(|version| format!(", version {version}"))
            .unwrap_or_default();
        let origin = resource.map_or(&api.origin, |resource| &resource.origin);
        let mut facts =
            vec![format!("{} of API `{}`{version} ({origin})", operation.label, api.name)];
        for (name, value) in &matched.parameters {
            facts.push(format!("{name} is `{value}`"));
        }
        facts.extend(self.fault(Step::Operation));
        facts
    }

    fn credential(&self) -> Vec<String> {
        if let Some(fault) = self.fault(Step::Credential) {
            return vec![fault];
        }
        match (&self.judgement.operation, &self.question.facts) {
            (Some(_), Some(_)) => vec!["one bearer token".to_owned()],
            _ => Vec::new(),
        }
    }

    fn identity(&self) -> Vec<String> {
        let mut facts = Vec::new();
        if let Some(Ok(said)) = &self.question.facts
            && self.judgement.operation.is_some()
        {
            let client = said.client.as_deref().unwrap_or("no client");
            facts.push(format!(
                "token of issuer `{}`, client claim `{client}`, subject `{}`",
                said.issuer, said.subject
            ));
        }
        facts.extend(self.fault(Step::Identity));
        let Some(principal) = &self.judgement.principal else { return facts };
        let client = principal.client();
        facts.push(format!("client `{}` ({})", client.id, client.origin));
        facts.push(match principal.user() {
            Some(user) => format!("acts as user `{}` ({})", user.name, user.place()),
            None => "acts as no user of ours".to_owned(),
        });
        let roles: Vec<String> =
            principal.roles(self.rules).iter().map(ToString::to_string).collect();
        facts.push(format!("roles: {}", list(&roles)));
        let scopes = principal.scopes();
        facts.push(match &principal.facts().scopes {
            Some(said) => format!(
                "scopes: {} in the token, of which the client holds {}",
                words(&said.to_value()),
                words(&scopes.to_value())
            ),
            None => {
                format!(
                    "scopes: the issuer declares none, so all that the client holds: {}",
                    words(&scopes.to_value())
                )
            }
        });
        facts
    }

    fn blocks(&self) -> Vec<String> {
        let Some(principal) = &self.judgement.principal else { return Vec::new() };
        let mut facts: Vec<String> = self.fault(Step::Blocks).into_iter().collect();
        if facts.is_empty() {
            return vec!["neither client nor user nor token is blocked".to_owned()];
        }
        let client = &principal.client().id;
        let of_rules = self.rules.definitions().blocks.iter().filter(|block| {
            let live = block.until.is_none_or(|end| self.now < end);
            let user = principal.user().is_some_and(|user| block.users.contains(&user.name));
            let token = principal.facts().id.as_ref().is_some_and(|id| block.tokens.contains(id));
            live && (block.clients.contains(client) || user || token)
        });
        let places: Vec<String> =
            of_rules.map(|block| format!("blocked at {}", block.origin)).collect();
        if places.is_empty() {
            facts.push("blocked by command (`scopegate block --list`)".to_owned());
        }
        facts.extend(places);
        facts
    }

    fn policy(&self, found: &Findings) -> Vec<String> {
        let Some(principal) = &self.judgement.principal else { return Vec::new() };
        let enforced = principal.client().enforce_token_restriction;
        let policy = found.policy.and_then(|at| self.rules.definitions().policies.get(at));
        let Some(policy) = policy else {
            return vec![
                "no access policy is about this operation".to_owned(),
                if enforced {
                    "the client has `enforce_token_restriction: true`: it needs one that names it"
                        .to_owned()
                } else {
                    "the client has `enforce_token_restriction: false`: it needs none".to_owned()
                },
            ];
        };
        let mut facts =
            vec![format!("the most specific policy is `{}` ({})", policy.name, policy.origin)];
        if policy.profiles.is_empty() {
            facts.push("it allows nobody".to_owned());
        }
        for WayIn { profile: at, fails } in &found.ways {
            let Some(profile) = policy.profiles.get(*at) else { continue };
            if fails.is_empty() {
                facts.push(format!("profile {} ({}) admits the caller", at + 1, profile.origin));
                continue;
            }
            let parts: Vec<String> =
                fails.iter().map(|part| self.part(*part, profile, principal)).collect();
            facts.push(format!(
                "profile {} ({}) does not: {}",
                at + 1,
                profile.origin,
                parts.join("; ")
            ));
        }
        facts
    }

    fn part(&self, part: Part, profile: &Profile, principal: &Principal) -> String {
        let client: &Client = principal.client();
        let names = |names: &mut dyn Iterator<Item = String>| {
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            list(&names)
        };
        match part {
            Part::Issuers => format!(
                "`issuers` has {}, not `{}`",
                names(&mut profile.issuers.iter().map(ToString::to_string)),
                principal.facts().issuer
            ),
            Part::Clients => format!(
                "`clients` has {}, not `{}`",
                names(&mut profile.clients.iter().flatten().map(ToString::to_string)),
                client.id
            ),
            Part::From => {
                match self.question.request.as_ref().ok().and_then(|request| request.address) {
                    Some(address) => format!("{address} is outside `from`"),
                    None => "`from` needs an address".to_owned(),
                }
            }
            Part::Roles => {
                let held: Vec<String> =
                    principal.roles(self.rules).iter().map(ToString::to_string).collect();
                let asked = profile.roles.as_ref().map(requirement).unwrap_or_default();
                format!("`roles` asks for {asked}, the caller has {}", list(&held))
            }
            Part::Claims => {
                let failing = profile
                    .claims
                    .iter()
                    .filter(|(name, values)| !principal.claim_is(name, values));
                let shown = failing.map(|(name, values)| {
                    let has = principal
                        .facts()
                        .claims
                        .get(name)
                        .map_or_else(|| "absent".to_owned(), ToString::to_string);
                    format!("claim `{name}` is {has}, not {}", list(values))
                });
                shown.collect::<Vec<_>>().join("; ")
            }
            Part::Schedule => format!("`between` does not hold at {}", super::moment(self.now)),
            Part::Certificates => format!(
                "`certificates` asks for {}, and none of them was shown",
                list(profile.certificates.as_deref().unwrap_or_default())
            ),
            Part::RestrictedClients => {
                "the client has `enforce_token_restriction: true`, and the profile neither lists \
                    it nor says `restricted_clients: true`"
                    .to_owned()
            }
        }
    }

    fn scope(&self, found: &Findings) -> Vec<String> {
        let Some(principal) = &self.judgement.principal else { return Vec::new() };
        let client = principal.client();
        let mut facts = Vec::new();
        if found.limited {
            let mut apis: Vec<String> =
                client.limit_authorization.iter().flatten().map(ToString::to_string).collect();
            apis.sort_unstable();
            facts.push(format!(
                "`limit_authorization` of the client ({}) leaves it {} alone",
                client.origin,
                list(&apis)
            ));
        }
        let names = |scopes: &[crate::names::ScopeName]| {
            list(&scopes.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        facts.push(format!("granted by: {}", names(&found.granting)));
        facts.push(format!("of those the caller has: {}", names(&found.used)));
        if found.master {
            facts.push(format!("the caller has the master scope `{}`", self.rules.master_scope()));
        }
        if found.granting.is_empty() && !found.master {
            facts.push(if client.allow_only_selected_scopes {
                "the client has `allow_only_selected_scopes: true`: it reaches only what scopes \
                    grant"
                    .to_owned()
            } else {
                "the client has `allow_only_selected_scopes: false`: another rule has to name the \
                    operation"
                    .to_owned()
            });
        }
        for grant in self.grants(&found.granting) {
            facts.push(grant);
        }
        facts
    }

    /// The positions of the granting scopes.
    fn grants(&self, scopes: &[crate::names::ScopeName]) -> Vec<String> {
        let declared =
            self.rules.definitions().scopes.iter().filter(|scope| scopes.contains(&scope.name));
        declared.map(|scope| format!("scope `{}` ({})", scope.name, scope.origin)).collect()
    }

    fn acl(&self, found: &Findings) -> Vec<String> {
        let definitions = self.rules.definitions();
        let mut facts: Vec<String> = found
            .acls
            .iter()
            .filter_map(|(at, satisfied)| {
                let acl = definitions.acls.get(*at)?;
                let is = if *satisfied { "satisfied" } else { "not satisfied" };
                Some(format!("ACL ({}) asks for {}: {is}", acl.origin, requirement(&acl.roles)))
            })
            .collect();
        if facts.is_empty() {
            facts.push("no ACL is about this operation".to_owned());
            if let Some(refusal) = self.refusal(Step::Acl) {
                facts.push(refusal.reason.row().detail.to_owned());
                facts.push(
                    "neither a scope, nor a policy on this API, nor an ACL names the operation for \
                        the caller"
                        .to_owned(),
                );
            }
        }
        facts
    }

    fn limits(&self) -> Vec<String> {
        let Some(matched) = &self.judgement.operation else { return Vec::new() };
        if self.judgement.outcome.is_err() {
            return Vec::new();
        }
        let address = self.question.request.as_ref().ok().and_then(|request| request.address);
        let counted = self.rules.counted(matched, self.judgement.principal.as_ref(), address);
        let shown = counted.filter_map(|(at, subject)| {
            let limit = self.rules.limits().get(at)?;
            Some(format!("counts for limit `{}` ({}) under {subject}", limit.name, limit.origin))
        });
        let mut facts: Vec<String> = shown.collect();
        if facts.is_empty() {
            facts.push("no limit counts it".to_owned());
        }
        facts
    }
}

fn requirement(roles: &RoleRequirement) -> String {
    let names = |roles: &[crate::names::RoleName]| {
        list(&roles.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    match roles {
        RoleRequirement::All(roles) => format!("all of {}", names(roles)),
        RoleRequirement::Any(roles) => format!("any of {}", names(roles)),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn words(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
