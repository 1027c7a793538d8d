//! `scopegate diff`.

mod sets;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::{FINDINGS, Format, progress, report, say, wrong};
use crate::system::clock;
use crate::tooling::diff::traffic::{Replay, Traffic};
use crate::tooling::diff::{Comparison, Difference, Direction, compare};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DiffFormat {
    /// For people
    Text,
    /// For machines: everything
    Json,
    /// For a merge request
    Markdown,
}

/// What may change without an exit code of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Allow {
    /// What was refused may be permitted
    Widen,
    /// What was permitted may be refused
    Tighten,
    /// Both
    All,
}

impl Allow {
    const fn covers(self, direction: Direction) -> bool {
        matches!(
            (self, direction),
            (Self::All, _)
                | (Self::Widen, Direction::Widens)
                | (Self::Tighten, Direction::Tightens)
        )
    }
}

/// What `diff` is asked.
#[derive(clap::Args, Debug)]
pub(super) struct DiffArguments {
    /// The set before: a gateway.yaml, a folder that has one (or config/gateway.yaml), or a git
    /// revision
    old: String,
    /// The set after
    new: String,
    /// Path of gateway.yaml inside a git revision
    #[arg(long, value_name = "PATH", default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// Put the decisions of this log to both sets
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// What may change without an exit code of 1
    #[arg(long, value_enum)]
    allow: Option<Allow>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    format: DiffFormat,
}

/// Groups shown to people; machines get all.
const SHOWN: usize = 60;

pub(super) fn run(arguments: &DiffArguments) -> ExitCode {
    let machine = if arguments.format == DiffFormat::Json { Format::Json } else { Format::Text };
    let load = |name: &str| sets::load(name, &arguments.config);
    let (old, new) = match (load(&arguments.old), load(&arguments.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(sets::Fault::Load(fault)), _) | (_, Err(sets::Fault::Load(fault))) => {
            return report(&fault, machine);
        }
        (Err(sets::Fault::Text(text)), _) | (_, Err(sets::Fault::Text(text))) => {
            return wrong(&text);
        }
    };
    let comparison = progress::during("comparing", |workers| {
        compare(&old.rules, &new.rules, clock::now(), workers)
    });
    let traffic = match arguments.log.as_deref().map(|log| {
        let mut replay = Replay::new(&old.rules, &new.rules, &old.fixed.public_host);
        progress::lines("replaying", log, |line| replay.line(line)).map(|()| replay.finish())
    }) {
        None => None,
        Some(Ok(traffic)) => Some(traffic),
        Some(Err(text)) => return wrong(&text),
    };
    match arguments.format {
        DiffFormat::Text => text(&comparison, traffic.as_ref()),
        DiffFormat::Markdown => markdown(&comparison, traffic.as_ref()),
        DiffFormat::Json => {
            let value = json!({
                "old": &*old.version,
                "new": &*new.version,
                "differences": comparison.differences,
                "compared_in_part": comparison.in_part,
                "traffic": traffic,
            });
            say(&value.to_string());
        }
    }
    let allowed = |direction| arguments.allow.is_some_and(|allow| allow.covers(direction));
    // What was not compared may have changed.
    let beyond = (comparison.in_part > 0 && arguments.allow != Some(Allow::All))
        || comparison.differences.iter().any(|found| !allowed(found.direction))
        || traffic
            .iter()
            .flat_map(|traffic| &traffic.changed)
            .any(|found| !allowed(found.direction));
    if beyond { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

const fn verb(direction: Direction) -> &'static str {
    match direction {
        Direction::Tightens => "no longer may",
        Direction::Widens => "newly may",
    }
}

/// Differences of one caller and API that read the same: methods by path.
fn groups(comparison: &Comparison) -> Vec<(Vec<&Difference>, String)> {
    let mut groups: BTreeMap<_, Vec<&Difference>> = BTreeMap::new();
    for found in &comparison.differences {
        let key = (
            found.direction,
            &found.caller,
            &found.api,
            found.old,
            found.new,
            circumstances(found),
        );
        groups.entry(key).or_default().push(found);
    }
    groups
        .into_values()
        .map(|found| {
            let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for difference in &found {
                paths.entry(&difference.path).or_default().push(difference.method);
            }
            let paths: Vec<String> = paths
                .into_iter()
                .map(|(path, methods)| format!("{} {path}", methods.join(",")))
                .collect();
            (found, paths.join("; "))
        })
        .collect()
}

/// The circumstances of an example, apart from its client.
fn circumstances(found: &Difference) -> String {
    let example = &found.example;
    let mut words = Vec::new();
    if !found.scopes.is_empty() {
        words.push(format!("with {}", found.scopes.join(" or ")));
    }
    words.extend(example.from.as_ref().map(|from| format!("from {from}")));
    words.extend(example.at.as_ref().map(|at| format!("at {at}")));
    words.extend(example.host.as_ref().map(|host| format!("on {host}")));
    if let Some(token) = &example.token {
        if !token.roles.is_empty() {
            words.push(format!("role claim {}", token.roles.join(", ")));
        }
        words.extend(token.claims.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(
            token.audience.as_ref().map(|audience| format!("audience {}", audience.join(", "))),
        );
        words.extend(token.id.as_ref().map(|id| format!("token {id}")));
    }
    words.extend(example.certificate.as_ref().map(|[name]| format!("certificate {name}")));
    // Where the value of a parameter matters.
    if found.path.contains('{') && !example.request.contains(crate::tooling::replay::UNUSED) {
        words.push(format!("for instance {}", example.request));
    }
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

fn summary(comparison: &Comparison) -> String {
    let of = |direction| {
        let found: Vec<&Difference> =
            comparison.differences.iter().filter(|found| found.direction == direction).collect();
        let callers: std::collections::BTreeSet<&str> =
            found.iter().map(|found| found.caller.as_str()).collect();
        (found.len(), callers.len())
    };
    if comparison.differences.is_empty() {
        return "no verdict changes".to_owned();
    }
    let ((lost, losing), (gained, gaining)) = (of(Direction::Tightens), of(Direction::Widens));
    let plural = |count: usize, one: &str| {
        if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
    };
    format!(
        "{} lost by {}, {} gained by {}",
        plural(lost, "operation"),
        plural(losing, "caller"),
        plural(gained, "operation"),
        plural(gaining, "caller")
    )
}

/// Reports that not everything was compared.
fn partly(comparison: &Comparison) {
    if comparison.in_part > 0 {
        let count = comparison.in_part;
        say(&format!(
            "{count} operations have more combinations of roles, claims and values than were gone \
                through"
        ));
    }
}

fn text(comparison: &Comparison, traffic: Option<&Traffic>) {
    say(&summary(comparison));
    let groups = groups(comparison);
    for (found, paths) in groups.iter().take(SHOWN) {
        let Some(first) = found.first() else { continue };
        let change = format!("{} → {}", first.old, first.new);
        say(&format!(
            "- {} {} {paths} of {}{}: {change}",
            first.caller,
            verb(first.direction),
            first.api,
            circumstances(first)
        ));
    }
    if groups.len() > SHOWN {
        say(&format!("… and {} more; --format json has all", groups.len() - SHOWN));
    }
    partly(comparison);
    let Some(traffic) = traffic else { return };
    say("");
    say(&replayed(traffic));
    for changed in &traffic.changed {
        let client = changed.client.as_deref().unwrap_or("anybody");
        let (old, new, examples) = (changed.old, changed.new, changed.examples.join(", "));
        say(&format!(
            "- {} of {client}: {}: {old} → {new}, for instance {examples}",
            changed.requests, changed.operation
        ));
    }
}

fn replayed(traffic: &Traffic) -> String {
    let changed: u64 = traffic.changed.iter().map(|changed| changed.requests).sum();
    let mut text = format!("{changed} of {} recorded requests change", traffic.replayed);
    for (why, count) in &traffic.left_out {
        let _ = write!(text, "; {count} left out: {why}");
    }
    if traffic.unreadable > 0 {
        let _ = write!(text, "; {} lines are no records", traffic.unreadable);
    }
    if traffic.drifted > 0 {
        let _ = write!(text, "; {} were decided otherwise than the old set does", traffic.drifted);
    }
    text
}

fn markdown(comparison: &Comparison, traffic: Option<&Traffic>) {
    let cell = |text: &str| text.replace('|', "\\|");
    say(&format!("**Policies: {}**\n", summary(comparison)));
    let groups = groups(comparison);
    if !groups.is_empty() {
        say("| | caller | API | operations | verdict |\n|---|---|---|---|---|");
    }
    for (found, paths) in groups.iter().take(SHOWN) {
        let Some(first) = found.first() else { continue };
        let mark = match first.direction {
            Direction::Tightens => "−",
            Direction::Widens => "+",
        };
        let caller = cell(&format!("{}{}", first.caller, circumstances(first)));
        say(&format!(
            "| {mark} | {caller} | {} | {} | `{}` → `{}` |",
            cell(&first.api),
            cell(paths),
            first.old,
            first.new
        ));
    }
    if groups.len() > SHOWN {
        say(&format!("\n… and {} more.", groups.len() - SHOWN));
    }
    partly(comparison);
    let Some(traffic) = traffic else { return };
    say(&format!("\n**Traffic: {}**\n", replayed(traffic)));
    if !traffic.changed.is_empty() {
        say("| requests | client | operation | verdict | decisions |\n|---|---|---|---|---|");
    }
    for changed in &traffic.changed {
        let client = cell(changed.client.as_deref().unwrap_or("anybody"));
        let (requests, operation, examples) =
            (changed.requests, cell(&changed.operation), changed.examples.join(", "));
        say(&format!(
            "| {requests} | {client} | {operation} | `{}` → `{}` | {examples} |",
            changed.old, changed.new
        ));
    }
}
