//! Parts of a valid configuration that deserve review: rules without effect, unused rights, and
//! rights wider than they look. [`lint`] judges by the configuration alone, [`findings`] by its use
//! too.

mod clients;
mod hosts;
mod observed;
mod operations;
mod rule;
mod rules;
mod secrets;

use serde::Serialize;

use super::edit::Edit;
use super::usage::Observed;
use crate::config::fault::suggestion;
use crate::config::{Config, Waiver};
use crate::names::{Origin, Timestamp};
pub(super) use observed::IDLE_DAYS;
use observed::Review;
pub use rule::{Basis, Level, Rule};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Its severity.
    pub level: Level,
    /// Its subject: a name for waivers.
    pub on: String,
    /// Its position in the config file.
    pub at: String,
    /// The finding.
    pub message: String,
    /// Observations behind it: days, counts, ages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Why it matters.
    pub why: &'static str,
    /// How to fix it.
    pub fix: &'static str,
    /// The reason of the waiver that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waived: Option<String>,
    #[serde(skip)]
    origin: Origin,
    /// The edit that is its remedy, where one is.
    #[serde(skip)]
    pub(super) edit: Option<Edit>,
}

impl Finding {
    fn new(rule: Rule, on: &dyn std::fmt::Display, origin: &Origin, message: String) -> Self {
        Self {
            rule,
            level: rule.level(),
            on: on.to_string(),
            at: origin.to_string(),
            message,
            evidence: Vec::new(),
            why: rule.why(),
            fix: rule.fix(),
            waived: None,
            origin: origin.clone(),
            edit: None,
        }
    }

    /// The client that it is about: on its own, or with one of its scopes or secrets.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        let first = self.on.rsplit_once(' ').map(|(client, _)| client);
        if self.rule == Rule::ClientUnusedScope {
            return first;
        }
        // A policy may rely on something inactive, too.
        let is_of_client = self.rule.label().starts_with("client.")
            || (self.rule == Rule::InactiveReliedOn && self.message.starts_with("client `"));
        if is_of_client {
            return Some(&self.on);
        }
        self.rule.label().starts_with("secret.").then(|| first.unwrap_or(&self.on))
    }

    fn seen(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    fn mended_by(mut self, edit: Option<Edit>) -> Self {
        self.edit = edit;
        self
    }
}

/// Checks a configuration. Waived findings are included, and marked.
#[must_use]
pub fn lint(config: &Config, now: Timestamp) -> Vec<Finding> {
    finish(of_configuration(config, now), config, now, &|rule| rule.basis() == Basis::Check)
}

/// Checks a configuration and its use. Waived findings are included, and marked.
///
/// Where nothing was counted, nothing is called unused.
#[must_use]
pub fn findings(config: &Config, observed: &Observed, now: Timestamp) -> Vec<Finding> {
    let review = Review::new(config, observed, now);
    let mut findings = of_configuration(config, now);
    review.complete(&mut findings);
    findings.extend(review.findings());
    findings.extend(operations::lint(&review));
    findings.extend(secrets::lint(&review));
    finish(findings, config, now, &|rule| rule.basis() != Basis::Use || review.is_counted_long())
}

fn of_configuration(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = rules::lint(&config.rules);
    findings.extend(clients::lint(config, now));
    findings.extend(hosts::lint(config));
    findings
}

/// Applies the waivers and sorts. `is_judged`: whether all findings of a rule are among these.
fn finish(
    mut findings: Vec<Finding>,
    config: &Config,
    now: Timestamp,
    is_judged: &dyn Fn(Rule) -> bool,
) -> Vec<Finding> {
    let waivers = waive(&mut findings, &config.waivers, now, is_judged);
    findings.extend(waivers);
    findings.sort_by(|a, b| {
        let key =
            |finding: &Finding| (finding.origin.file.clone(), finding.origin.line, finding.rule);
        key(a).cmp(&key(b)).then_with(|| a.on.cmp(&b.on))
    });
    findings
}

/// Marks waived findings; returns findings about the waivers themselves.
fn waive(
    findings: &mut [Finding],
    waivers: &[Waiver],
    now: Timestamp,
    is_judged: &dyn Fn(Rule) -> bool,
) -> Vec<Finding> {
    let mut said = Vec::new();
    for waiver in waivers {
        let name = format!("{} on {}", waiver.rule, waiver.on);
        let covered =
            |finding: &&mut Finding| finding.rule.label() == waiver.rule && finding.on == waiver.on;
        if now >= waiver.until {
            let text = format!("the waiver of `{}` on `{}` has ended", waiver.rule, waiver.on);
            said.push(Finding::new(Rule::WaiverExpired, &name, &waiver.origin, text));
            continue;
        }
        let mut any = false;
        for finding in findings.iter_mut().filter(covered) {
            (finding.waived, any) = (Some(waiver.reason.clone()), true);
        }
        let rule = Rule::from_label(&waiver.rule);
        if !any && rule.is_none_or(is_judged) {
            let text = if rule.is_some() {
                format!("there is no finding `{}` on `{}`", waiver.rule, waiver.on)
            } else {
                let labels = Rule::ALL.iter().map(|rule| rule.label());
                format!(
                    "there is no rule `{}`: {}",
                    waiver.rule,
                    suggestion(&waiver.rule, labels.collect::<Vec<_>>())
                )
            };
            said.push(Finding::new(Rule::WaiverUnused, &name, &waiver.origin, text));
        }
    }
    said
}

#[cfg(test)]
mod tests;
