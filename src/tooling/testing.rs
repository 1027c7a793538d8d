//! The `tests:` of the policies, run by the decision that serves.

use std::sync::Arc;

use serde::Serialize;

use super::explain::{Explanation, Question, explain, steps};
use super::offline_keys::Keys;
use crate::config::{Config, Fault};
use crate::names::Timestamp;
use crate::policy::decide::{Judgement, Moment};
use crate::policy::findings::Findings;
use crate::policy::sample::{Presented, Test};
use crate::reason::Reason;

/// A test that was run.
#[derive(Debug)]
pub struct Run<'a> {
    /// The test.
    pub test: &'a Test,
    /// The result.
    pub judgement: Judgement,
    /// The findings of the gates, where they were reached.
    pub findings: Option<Findings>,
    /// The failure, if the verdict was not the expected one.
    pub failure: Option<Failure>,
}

/// An unexpected verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The failure in one line.
    pub message: String,
    /// The steps of the decision.
    pub explanation: Explanation,
}

/// Runs all tests, in their order.
#[must_use]
pub fn run(config: &Config, now: Timestamp) -> Vec<Run<'_>> {
    let keys = Keys::of_files(config);
    config.tests.iter().map(|test| run_one(config, &keys, test, now, explain)).collect()
}

/// The request of a test, and its time.
#[must_use]
pub fn question(
    config: &Config,
    keys: &Keys,
    test: &Test,
    now: Timestamp,
) -> (Question, Timestamp) {
    let at = test.at.unwrap_or(now);
    let facts = test.case.token.as_ref().map(|token| match token {
        Presented::Sample(words) => Ok(Arc::new(words.facts(&config.rules, at))),
        Presented::Token(token) => keys.read(config, token.expose()),
    });
    (Question { request: test.case.request(&config.fixed.public_host), facts }, at)
}

type Explain = fn(&crate::policy::Rules, &Question, Moment<'_>) -> Explanation;

fn run_one<'a>(
    config: &'a Config,
    keys: &Keys,
    test: &'a Test,
    now: Timestamp,
    explain: Explain,
) -> Run<'a> {
    let (question, at) = question(config, keys, test, now);
    let moment = Moment::at(at);
    let judgement = super::explain::judge(&config.rules, &question, moment);
    let findings = super::explain::findings(&config.rules, &question, &judgement, at);
    let failure = (!test.expect.is(&judgement.outcome)).then(|| {
        let explanation = explain(&config.rules, &question, moment);
        let expected = test.expect.reason.map_or("permit", Reason::label);
        let fault =
            test.expect.fault.map(|fault| format!(" ({})", fault.label())).unwrap_or_default();
        let got_fault = if explanation.fault.is_empty() {
            String::new()
        } else {
            format!(" ({})", explanation.fault)
        };
        Failure {
            message: format!("expected {expected}{fault}, got {}{got_fault}", explanation.verdict),
            explanation,
        }
    });
    Run { test, judgement, findings, failure }
}

/// The failing tests, as faults of the configuration to be loaded.
#[must_use]
pub fn faults(config: &Config, now: Timestamp) -> Vec<Fault> {
    let keys = Keys::of_files(config);
    // The changes that would permit are not shown here and take long to find.
    let runs: Vec<Run<'_>> =
        config.tests.iter().map(|test| run_one(config, &keys, test, now, steps)).collect();
    let failed = runs.iter().filter_map(|run| Some((run, run.failure.as_ref()?)));
    failed
        .map(|(run, failure)| Fault {
            file: run.test.origin.file.clone(),
            line: run.test.origin.line,
            column: run.test.origin.column,
            width: 1,
            hidden: false,
            message: format!("the test `{}` fails: {}", run.test.name, failure.message),
            help: Some(
                "`scopegate test` shows every step; `run_tests_at_load: false` loads it all the \
                    same"
                    .to_owned(),
            ),
        })
        .collect()
}
