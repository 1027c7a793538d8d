//! `scopegate check`.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::{FINDINGS, Format, report, say};
use crate::config::Config;
use crate::system::{clock, files};
use crate::tooling::lint::{Finding, Level, lint};

/// From which level on findings fail a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Deny {
    /// Warnings
    Warning,
    /// Notes too
    Note,
}

impl Deny {
    const fn least(self) -> Level {
        match self {
            Self::Warning => Level::Warning,
            Self::Note => Level::Note,
        }
    }
}

pub(super) fn run(gateway: &Path, deny: Option<Deny>, format: Format) -> ExitCode {
    let config = match files::load(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, format),
    };
    let findings = lint(&config, clock::now());
    match format {
        Format::Json => {
            let report = json!({ "faults": [], "set": &*config.version, "findings": findings });
            say(&report.to_string());
        }
        Format::Text => text(&config, &findings),
    }
    let denied = |finding: &Finding| {
        finding.waived.is_none() && deny.is_some_and(|deny| finding.level >= deny.least())
    };
    if findings.iter().any(denied) { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

fn text(config: &Config, findings: &[Finding]) {
    let rules = &config.rules;
    say(&format!(
        "ok: {} APIs, {} operations, {} clients, {} issuers; set {}",
        rules.apis().len(),
        rules.operations().len(),
        rules.registry().clients().len(),
        rules.issuers().count(),
        config.version
    ));
    for finding in findings.iter().filter(|finding| finding.waived.is_none()) {
        let Finding { rule, level, at, message, why, fix, .. } = finding;
        say(&format!("{}: {at}: {message} [{}]", level.label(), rule.label()));
        say(&format!("  {why}; {fix}"));
    }
    let waived = findings.iter().filter(|finding| finding.waived.is_some()).count();
    if waived > 0 {
        say(&format!("{waived} waived"));
    }
}
