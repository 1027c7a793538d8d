//! `scopegate doctor`: looks at all that a gateway needs on this machine, and says what to do.

mod checks;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::{FINDINGS, Format, say};
use crate::system::files;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Good,
    /// Not looked at, and why.
    Unknown,
    /// Serving goes on, and should not for long.
    Warning,
    /// Something does not work.
    Fault,
}

impl State {
    const fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Found {
    /// The thing: its kind, and its name.
    what: String,
    state: State,
    /// What was seen.
    seen: String,
    /// What to do; nothing where it is good.
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

impl Found {
    fn good(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::new(what, State::Good, seen, "")
    }

    fn new(
        what: impl Into<String>,
        state: State,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), state, seen: seen.into(), remedy: remedy.into() }
    }
}

pub(super) fn run(gateway: &Path, format: Format) -> ExitCode {
    let found = match files::load_untested(gateway) {
        Ok(config) => checks::all(&config),
        Err(fault) => fault
            .lines()
            .into_iter()
            .map(|line| {
                let remedy = "mend it, and run this again: the rest was not looked at";
                Found::new("configuration", State::Fault, line, remedy)
            })
            .collect(),
    };
    let worst = found.iter().map(|found| found.state).max().unwrap_or(State::Good);
    match format {
        Format::Json => say(&json!({ "state": worst, "found": found }).to_string()),
        Format::Text => {
            for Found { what, state, seen, remedy } in &found {
                say(&format!("{:8} {what}: {seen}", state.label()));
                if !remedy.is_empty() {
                    say(&format!("         → {remedy}"));
                }
            }
        }
    }
    if worst == State::Fault { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}
