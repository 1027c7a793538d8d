//! Findings about calls of operations: those that shadow rules would refuse, and operations that
//! nobody calls.

use std::collections::BTreeMap;

use super::observed::{IDLE_DAYS, RECENT_DAYS, Review};
use super::{Finding, Rule};
use crate::names::Origin;
use crate::policy::definition::{Api, Mode};
use crate::tooling::usage::{Day, Subject, Sum};

pub(super) fn lint(review: &Review<'_>) -> Vec<Finding> {
    let mut findings = shadows(review);
    if review.is_counted(IDLE_DAYS) {
        unused(review, &mut findings);
    }
    findings
}

/// Shadow rules that would refuse requests that are permitted.
fn shadows(review: &Review<'_>) -> Vec<Finding> {
    let rules = &review.config.rules;
    let mut counted: BTreeMap<(&str, &str), Vec<(&Subject, &Sum)>> = BTreeMap::new();
    let recent = |(_, sum): &(&Subject, &Sum)| {
        sum.counts.shadow_refused > 0 && review.is_recent(sum.last, RECENT_DAYS)
    };
    for (subject, sum) in review.observed.sums.iter().filter(recent) {
        let of_operation = counted.entry((&subject.api, &subject.operation)).or_default();
        of_operation.push((subject, sum));
    }
    let mut found: BTreeMap<String, (&Origin, Vec<String>)> = BTreeMap::new();
    for operation in rules.operations().iter().filter(|operation| operation.has_shadow()) {
        let Some(api) = rules.apis().get(operation.api) else { continue };
        let Some(sums) = counted.get(&(api.name.as_str(), &*operation.label)) else { continue };
        let policy = operation.policies().last();
        let policy = policy.and_then(|at| rules.definitions().policies.get(at));
        let (on, origin) = policy.filter(|policy| policy.mode == Mode::Shadow).map_or_else(
            || (format!("{} {}", api.name, operation.label), &api.origin),
            |policy| (policy.name.to_string(), &policy.origin),
        );
        found.entry(on).or_insert((origin, Vec::new())).1.extend(sums.iter().map(line));
    }
    let finding = |(on, (origin, mut lines)): (String, (&Origin, Vec<String>))| {
        // An operation in several versions is counted once.
        lines.sort_unstable();
        lines.dedup();
        let text = format!("shadow rules (`{on}`) would refuse calls that are permitted");
        Finding::new(Rule::PolicyShadowRefuses, &on, origin, text).seen(lines)
    };
    found.into_iter().map(finding).collect()
}

/// Calls of a client that shadow rules would have refused.
fn line((subject, sum): &(&Subject, &Sum)) -> String {
    let Subject { client, api, operation } = subject;
    let client = if client.is_empty() { "anybody" } else { client };
    format!("{} calls of {client}: {api} {operation}", sum.counts.shadow_refused)
}

/// Operations that nobody has called, and APIs.
fn unused(review: &Review<'_>, findings: &mut Vec<Finding>) {
    let mut last: BTreeMap<(&str, &str), Day> = BTreeMap::new();
    for (subject, sum) in review.observed.sums.iter().filter(|(of, _)| !of.api.is_empty()) {
        let day = last.entry((&subject.api, &subject.operation)).or_insert(sum.last);
        *day = sum.last.max(*day);
    }
    let rules = &review.config.rules;
    for (at, api) in rules.apis().iter().enumerate() {
        let name = api.name.as_str();
        if review.is_pooled(None, Some(name)) {
            continue;
        }
        let operations = rules.operations().iter().filter(|operation| operation.api == at);
        let labels: BTreeMap<&str, &str> =
            operations.map(|operation| (&*operation.label, &*operation.resource)).collect();
        let day_of = |label: &str| last.get(&(name, label)).copied();
        let is_unused =
            |label: &str| day_of(label).is_none_or(|day| !review.is_recent(day, IDLE_DAYS));
        if !labels.is_empty() && labels.keys().all(|label| is_unused(label)) {
            let day = labels.keys().filter_map(|label| day_of(label)).max();
            let text = format!("nobody has called API `{name}` for {IDLE_DAYS} days");
            findings.push(uncalled(review, name, &api.origin, text, day));
            continue;
        }
        for (label, resource) in labels.into_iter().filter(|(label, _)| is_unused(label)) {
            let text = format!("nobody has called `{label}` of API `{name}` for {IDLE_DAYS} days");
            let (on, origin) = (format!("{name} {label}"), origin_of(api, resource));
            findings.push(uncalled(review, &on, origin, text, day_of(label)));
        }
    }
}

fn uncalled(
    review: &Review<'_>,
    on: &str,
    origin: &Origin,
    text: String,
    last: Option<Day>,
) -> Finding {
    let called = last.map(|day| format!("last call on {}", review.ago(day)));
    let evidence = review.counted_since().into_iter().chain(called);
    Finding::new(Rule::OperationUnused, &on, origin, text).seen(evidence)
}

/// The place of a resource of an API.
fn origin_of<'a>(api: &'a Api, template: &str) -> &'a Origin {
    let resource = api.resources.iter().find(|resource| &*resource.template == template);
    resource.map_or(&api.origin, |resource| &resource.origin)
}
