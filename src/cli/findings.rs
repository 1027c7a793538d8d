//! `scopegate findings`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::{FINDINGS, Format, UNREADABLE, observed, progress, report, say, wrong};
use crate::config;
use crate::system::clock;
use crate::system::files::{self, LoadFault, System};
use crate::tooling::diff::Difference;
use crate::tooling::lint::{self, Finding};
use crate::tooling::patch::{Effect, Patch, Patcher};

/// Options of `findings`.
#[derive(clap::Args, Debug)]
pub(super) struct FindingsArguments {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Include findings that a waiver covers
    #[arg(long)]
    all: bool,
    /// Make no patches: each of them loads and compares the whole set
    #[arg(long)]
    no_patches: bool,
}

/// Differences of a patch shown to people; machines get all.
const SHOWN_DIFFERENCES: usize = 10;

/// A finding with its patch.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    finding: Finding,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Patch>,
}

pub(super) fn run(gateway: &Path, arguments: &FindingsArguments) -> ExitCode {
    let now = clock::now();
    let sources = match files::read(gateway) {
        Ok(sources) => sources,
        Err(fault) => return wrong(&fault),
    };
    let lookup = System::default();
    let config = match config::load(&sources, &lookup, now) {
        Ok(config) => config,
        Err(faults) => {
            // An exit code of 1 is for findings alone.
            report(&LoadFault::Faults(Box::new(sources), faults), arguments.format);
            return ExitCode::from(UNREADABLE);
        }
    };
    let observed = match observed(&config) {
        Ok(observed) => observed,
        Err(fault) => return wrong(&fault),
    };
    let mut findings = lint::findings(&config, &observed, now);
    let all = findings.len();
    let is_open = |finding: &Finding| finding.waived.is_none();
    let open = findings.iter().filter(|finding| is_open(finding)).count();
    findings.retain(|finding| arguments.all || is_open(finding));
    let patcher =
        Patcher { sources: &sources, lookup: &lookup, config: &config, observed: &observed, now };
    let found: Vec<Found> = progress::during("making patches", |workers| {
        let found = |finding: Finding| {
            let patch = if arguments.no_patches { None } else { patcher.patch(&finding, workers) };
            Found { finding, patch }
        };
        findings.into_iter().map(found).collect()
    });
    match arguments.format {
        Format::Json => {
            let since = observed.since;
            let set = &*config.version;
            say(&json!({ "set": set, "counted_since": since, "findings": found }).to_string());
        }
        Format::Text => {
            found.iter().for_each(text);
            if observed.since.is_none() {
                say("requests are not counted: nothing is called unused");
            }
            let noun = if open == 1 { "finding" } else { "findings" };
            say(&format!("{open} {noun}, {} waived", all - open));
        }
    }
    if open > 0 { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

fn text(found: &Found) {
    let Finding { rule, level, on, at, message, evidence, why, fix, waived, .. } = &found.finding;
    say(&format!("{} {} on {on} ({at})", level.label(), rule.label()));
    say(&format!("  {message}"));
    for line in evidence {
        say(&format!("  seen: {line}"));
    }
    say(&format!("  why: {why}"));
    say(&format!("  fix: {fix}"));
    if let Some(reason) = waived {
        say(&format!("  waived: {reason}"));
    }
    if let Some(patch) = &found.patch {
        say("  patch:");
        for line in patch.diff.lines() {
            say(&format!("    {line}"));
        }
        effect(&patch.effect);
    }
    say("");
}

fn effect(effect: &Effect) {
    if effect.refused.is_empty() && effect.permitted.is_empty() {
        say("  effect: no verdict changes");
    }
    let line = |verb: &str, found: &Difference| {
        let Difference { caller, method, path, api, .. } = found;
        format!("  effect: {caller} {verb} {method} {path} of {api}")
    };
    let refused = effect.refused.iter().map(|found| line("no longer may", found));
    let permitted = effect.permitted.iter().map(|found| line("newly may", found));
    let lines: Vec<String> = refused.chain(permitted).collect();
    for line in lines.iter().take(SHOWN_DIFFERENCES) {
        say(line);
    }
    if lines.len() > SHOWN_DIFFERENCES {
        let more = lines.len() - SHOWN_DIFFERENCES;
        say(&format!("  effect: … and {more} more; --format json has all"));
    }
    if effect.in_part > 0 {
        let count = effect.in_part;
        say(&format!("  effect: {count} operations were compared in part"));
    }
}
