//! `scopegate explain --decision`: a decision out of the log, with its record, its fault and what
//! helps; and judged again, where the record is enough for that.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::lines;
use crate::cli::{Format, progress, say, wrong};
use crate::config::{Config, DecisionLog};
use crate::tooling::explain::{Explanation, explain_recorded};
use crate::tooling::remedy::remedy;
use crate::tooling::replay::{Gap, Recorded};

/// A decision that was found.
struct Found {
    /// Its record as it is written.
    record: Map<String, Value>,
    note: String,
    remedy: Option<&'static str>,
    /// The decision made again by the rules at hand.
    again: Result<Explanation, Gap>,
}

pub(super) fn run(config: &Config, id: &str, log: Option<&Path>, format: Format) -> ExitCode {
    let found = match find(config, id, log) {
        Ok(found) => found,
        Err(text) => return wrong(&text),
    };
    match format {
        Format::Json => {
            let answer = serde_json::json!({ "set": &*config.version, "note": found.note,
                "record": found.record, "remedy": found.remedy,
                "explanation": found.again.as_ref().ok(),
                "not_judged_again": found.again.as_ref().err().map(|gap| gap.text()) });
            say(&answer.to_string());
        }
        Format::Text => found.lines().iter().for_each(|line| say(line)),
    }
    ExitCode::SUCCESS
}

fn find(config: &Config, id: &str, log: Option<&Path>) -> Result<Found, String> {
    let path = match (log, &config.fixed.decision_log) {
        (Some(log), _) => log.to_owned(),
        (None, DecisionLog::File { path, .. }) => PathBuf::from(path),
        (None, DecisionLog::Stdout | DecisionLog::Off) => {
            return Err("the decision log is no file here: say where it is with --log FILE, or \
                give it on standard input with --log -"
                .to_owned());
        }
    };
    let mut found = None;
    progress::lines("looking", &path, |line| {
        let has = found.is_none() && memchr::memmem::find(line, id.as_bytes()).is_some();
        let record = if has { serde_json::from_slice::<Recorded<'_>>(line).ok() } else { None };
        if let Some(record) = record.filter(|record| record.id == id) {
            found = Some(Found::of(config, &record, line));
        }
    })?;
    found.ok_or_else(|| {
        let name = if path == Path::new("-") {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        format!("{name}: there is no decision {id}")
    })
}

impl Found {
    fn of(config: &Config, recorded: &Recorded<'_>, line: &[u8]) -> Self {
        let record: Map<String, Value> = serde_json::from_slice(line).unwrap_or_default();
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let set = &*config.version;
        let was = recorded.reason.as_deref().unwrap_or(&recorded.verdict);
        let other = if recorded.set == set {
            String::new()
        } else {
            format!(", by the set {}; this is {set}", recorded.set)
        };
        Self {
            note: format!("decision {} of {}: {was}{other}", recorded.id, recorded.time),
            remedy: remedy(text("reason"), text("fault")),
            again: explain_recorded(config, recorded),
            record,
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut shown = vec![self.note.clone()];
        if let Some(fault) = self.record.get("fault").and_then(Value::as_str) {
            shown.push(format!("fault: {fault}"));
        }
        shown.extend(self.remedy.map(|remedy| format!("remedy: {remedy}")));
        shown.push(String::new());
        shown.push("recorded:".to_owned());
        shown.extend(self.record.iter().map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("  {name:<14} {value}")
        }));
        shown.push(String::new());
        match &self.again {
            Ok(explanation) => {
                shown.push("judged again:".to_owned());
                shown.extend(lines(explanation));
            }
            Err(gap) => shown.push(format!("not judged again: {}", gap.text())),
        }
        shown
    }
}
