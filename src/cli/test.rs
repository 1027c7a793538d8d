//! `scopegate test`.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;

use super::explain::steps;
use super::{FINDINGS, Format, complain, report, say, wrong};
use crate::config::Config;
use crate::system::{clock, files};
use crate::tooling::coverage::{Coverage, coverage};
use crate::tooling::testing::{self, Run};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TestFormat {
    /// For people
    Text,
    /// For machines
    Json,
    /// For CI: JUnit's XML
    Junit,
}

/// What `test` is asked for.
#[derive(clap::Args, Debug)]
pub(super) struct TestArguments {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = TestFormat::Text)]
    format: TestFormat,
    /// List what no test reaches
    #[arg(long)]
    coverage: bool,
    /// Fail when tests reach less than this, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
}

pub(super) fn run(gateway: &Path, arguments: &TestArguments) -> ExitCode {
    let machine = if arguments.format == TestFormat::Json { Format::Json } else { Format::Text };
    // Failing tests are the result here, not faults of the configuration.
    let config = match files::load_untested(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, machine),
    };
    let runs = testing::run(&config, clock::now());
    let reached = coverage(&config.rules, &runs);
    let short = arguments.min_coverage.is_some_and(|least| reached.percent() < usize::from(least));
    match arguments.format {
        TestFormat::Text => text(&runs, &reached, arguments),
        TestFormat::Json => say(&as_json(&config, &runs, &reached).to_string()),
        TestFormat::Junit => match junit(&runs) {
            Ok(text) => say(&text),
            Err(fault) => return wrong(&fault),
        },
    }
    if short && arguments.format != TestFormat::Text {
        complain(&format!(
            "coverage is {} %, below {} %",
            reached.percent(),
            arguments.min_coverage.unwrap_or_default()
        ));
    }
    if short || runs.iter().any(|run| run.failure.is_some()) {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    }
}

fn text(runs: &[Run<'_>], reached: &Coverage, arguments: &TestArguments) {
    for run in runs {
        let Some(failure) = &run.failure else { continue };
        say(&format!("FAILED {}: {}", run.test.origin, run.test.name));
        say(&format!("  {} {}: {}", run.test.case.method, run.test.case.target, failure.message));
        for line in steps(&failure.explanation) {
            say(&format!("  {line}"));
        }
        say("");
    }
    let failed = runs.iter().filter(|run| run.failure.is_some()).count();
    let (count, all) = reached.count();
    if runs.is_empty() {
        say("no tests: write some under `tests:` of a policy file");
    } else {
        say(&format!("{} passed, {failed} failed", runs.len() - failed));
    }
    say(&format!("coverage: {count} of {all} ({} %)", reached.percent()));
    if arguments.coverage {
        for item in reached.missed() {
            let at = item.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
            say(&format!("  not reached: {at}{}", item.what));
        }
    }
    if let Some(least) = arguments.min_coverage
        && reached.percent() < usize::from(least)
    {
        say(&format!("coverage is below {least} %"));
    }
}

fn as_json(config: &Config, runs: &[Run<'_>], reached: &Coverage) -> serde_json::Value {
    let tests: Vec<_> = runs
        .iter()
        .map(|run| {
            json!({
                "name": run.test.name,
                "at": run.test.origin.to_string(),
                "passed": run.failure.is_none(),
                "failure": run.failure,
            })
        })
        .collect();
    json!({
        "set": &*config.version,
        "tests": tests,
        "failed": runs.iter().filter(|run| run.failure.is_some()).count(),
        "coverage": { "percent": reached.percent(), "items": reached.items },
    })
}

fn junit(runs: &[Run<'_>]) -> Result<String, String> {
    let mut report = Report::new("scopegate");
    let mut suite = TestSuite::new("policies");
    for run in runs {
        let status = run.failure.as_ref().map_or_else(TestCaseStatus::success, |failure| {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_message(failure.message.as_str())
                .set_description(steps(&failure.explanation).join("\n"));
            status
        });
        // Two characters that XML 1.0 does not allow, and that the library does not escape.
        let name = run.test.name.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
        let mut case = TestCase::new(name.as_str(), status);
        case.set_classname(&*run.test.origin.file);
        case.extra.insert("line".into(), run.test.origin.line.to_string().into());
        suite.add_test_case(case);
    }
    report.add_test_suite(suite);
    report.to_string().map_err(|fault| format!("JUnit: {fault}"))
}
