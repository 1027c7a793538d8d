//! Decisions: those of the window, and one with every step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::telemetry::decisions::{Decisions, Line};
use crate::tooling::explain::explain_recorded;
use crate::tooling::remedy::remedy;
use crate::tooling::replay::Recorded;

/// Members of a record that say who a person is.
const PEOPLE: [&str; 2] = ["address", "subject"];
/// Records that one search looks at: more would keep a page waiting.
const MAX_LOOKED_AT: usize = 200_000;

/// What decisions to list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DecisionFilter {
    /// The client.
    pub client: String,
    /// The API.
    pub api: String,
    /// `permit` or `refuse`.
    pub verdict: String,
    /// The reason.
    pub reason: String,
    /// The decision id.
    pub id: String,
    /// Only records with numbers below this one.
    pub before: Option<u64>,
    /// How many, at most 500.
    pub limit: Option<usize>,
}

/// One decision.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Decision {
    /// Its number in the window: they only grow.
    pub number: u64,
    /// The record, as `scopegate schema decision-record` describes it. Without `address` and
    /// `subject`, unless an auditor asks.
    pub record: Map<String, Value>,
}

/// Decisions, newest first.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DecisionList {
    /// The decisions.
    pub items: Vec<Decision>,
    /// The `before` of the next page; none on the last one.
    pub next_before: Option<u64>,
}

/// One decision with every step.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Explained {
    /// The record.
    pub record: Map<String, Value>,
    /// What helps.
    pub remedy: Option<&'static str>,
    /// The set by which it was judged again.
    pub set: String,
    /// The steps, judged again by the set in force.
    pub explanation: Option<Value>,
    /// Why it was not judged again.
    pub not_judged_again: Option<&'static str>,
}

impl DecisionFilter {
    fn fits(&self, record: &Map<String, Value>) -> bool {
        let is = |key: &str, wanted: &str| {
            wanted.is_empty() || record.get(key).and_then(Value::as_str) == Some(wanted)
        };
        is("client", &self.client)
            && is("api", &self.api)
            && is("verdict", &self.verdict)
            && is("reason", &self.reason)
            && is("id", &self.id)
    }

    /// Whether a line can fit: a search of bytes, before it is parsed.
    fn may_fit(&self, line: &Line) -> bool {
        [&self.client, &self.api, &self.reason, &self.id].into_iter().all(|wanted| {
            wanted.is_empty()
                || wanted.contains(['"', '\\'])
                || !wanted.is_ascii()
                || memchr::memmem::find(&line.json, wanted.as_bytes()).is_some()
        })
    }
}

/// A record without what says who a person is, unless that may be seen.
fn record_of(line: &Line, sees_people: bool) -> Option<Map<String, Value>> {
    let mut record: Map<String, Value> = serde_json::from_slice(&line.json).ok()?;
    if !sees_people {
        for name in PEOPLE {
            record.remove(name);
        }
    }
    Some(record)
}

/// The decisions of the window that fit.
#[must_use]
pub fn decisions(window: &Decisions, filter: &DecisionFilter, sees_people: bool) -> DecisionList {
    let limit = filter.limit.unwrap_or(super::PAGE_ROWS).clamp(1, super::MAX_ROWS);
    let mut items = Vec::new();
    let mut next_before = None;
    let lines = window.before(filter.before.unwrap_or(u64::MAX));
    for line in lines.iter().take(MAX_LOOKED_AT).filter(|line| filter.may_fit(line)) {
        let Some(record) = record_of(line, sees_people).filter(|record| filter.fits(record)) else {
            continue;
        };
        if items.len() == limit {
            next_before = items.last().map(|last: &Decision| last.number);
            break;
        }
        items.push(Decision { number: line.number, record });
    }
    DecisionList { items, next_before }
}

/// The decisions from a number on that fit, oldest first; and the number to go on with.
#[must_use]
pub fn decisions_since(
    window: &Decisions,
    from: u64,
    filter: &DecisionFilter,
    sees_people: bool,
) -> (Vec<Decision>, u64) {
    let lines = window.since(from, super::MAX_ROWS);
    let next = lines.last().map_or(from, |line| line.number + 1);
    let fitting = lines.iter().filter(|line| filter.may_fit(line)).filter_map(|line| {
        let record = record_of(line, sees_people).filter(|record| filter.fits(record))?;
        Some(Decision { number: line.number, record })
    });
    (fitting.collect(), next)
}

/// One decision, judged again by the set in force.
pub fn explained(
    config: &Config,
    window: &Decisions,
    id: &str,
    sees_people: bool,
) -> Option<Explained> {
    let filter = DecisionFilter { id: id.to_owned(), ..DecisionFilter::default() };
    let lines = window.before(u64::MAX);
    let line = lines
        .iter()
        .filter(|line| filter.may_fit(line))
        .find(|line| record_of(line, false).is_some_and(|record| filter.fits(&record)))?;
    let record = record_of(line, sees_people)?;
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let again = serde_json::from_slice::<Recorded<'_>>(&line.json).ok();
    let again = again.map(|recorded| explain_recorded(config, &recorded));
    let (explanation, gap) = match again {
        Some(Ok(explanation)) => (serde_json::to_value(explanation).ok(), None),
        Some(Err(gap)) => (None, Some(gap.text())),
        None => (None, Some("the record is of another version")),
    };
    Some(Explained {
        remedy: remedy(text("reason"), text("fault")),
        set: config.version.to_string(),
        explanation,
        not_judged_again: gap,
        record,
    })
}
