//! Decisions: those of the window, and one with every step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::request::address::site;
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

/// How the fact begins that names the user of a token.
const ACTS_AS: &str = "acts as user `";

/// Words that say who a person is: the caller's address and its site, the subject, the user.
struct People(Vec<String>);

/// The people of a record and its explanation. A client that acts for nobody is its own subject,
/// and no person.
fn people_of(record: &Map<String, Value>, explanation: &Value) -> People {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let address = text("address");
    let site = address.and_then(|address| address.parse().ok()).map(|at| site(at).to_string());
    let subject = text("subject").filter(|subject| Some(*subject) != text("client"));
    let user = subject.and_then(|_| user_of(explanation));
    let words = [address.map(str::to_owned), site, subject.map(str::to_owned), user];
    People(words.into_iter().flatten().filter(|word| !word.is_empty()).collect())
}

fn user_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.strip_prefix(ACTS_AS)?.split('`').next().map(str::to_owned),
        Value::Array(items) => items.iter().find_map(user_of),
        Value::Object(members) => members.values().find_map(user_of),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

impl People {
    /// Takes them out of every text.
    fn hide(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                *text = self.0.iter().fold(std::mem::take(text), |text, word| without(&text, word));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Object(members) => members.values_mut().for_each(|value| self.hide(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A text with an ellipsis in the place of each word.
fn without(text: &str, word: &str) -> String {
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let (mut kept, mut at) = (String::new(), 0);
    for (begin, found) in text.match_indices(word) {
        let (before, after) = (text.get(..begin), text.get(begin + found.len()..));
        let is_word = !before.is_some_and(|before| before.ends_with(goes_on))
            && !after.is_some_and(|after| after.starts_with(goes_on));
        if is_word {
            kept.push_str(text.get(at..begin).unwrap_or_default());
            kept.push('…');
            at = begin + found.len();
        }
    }
    kept.push_str(text.get(at..).unwrap_or_default());
    kept
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
        Some(Ok(explanation)) => {
            let mut explanation = serde_json::to_value(explanation).ok();
            if let Some(explanation) = explanation.as_mut().filter(|_| !sees_people) {
                people_of(&record_of(line, true)?, explanation).hide(explanation);
            }
            (explanation, None)
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_are_taken_out_of_every_text_and_nothing_else_is() {
        let record = json!({ "address": "2001:db8::7", "client": "crm", "subject": "ext|1" });
        let mut explanation = json!({ "steps": [{ "facts": ["from 2001:db8::7",
            "subject `ext|1`", "acts as user `ann` (users.yaml:1)", "counts under 2001:db8::/64"]
            }], "nearest": ["give role `annual` to user `ann`", "client `crm`, 2001:db8::77"] });
        people_of(record.as_object().unwrap(), &explanation).hide(&mut explanation);
        assert_eq!(
            explanation,
            json!({ "steps": [{ "facts": ["from …", "subject `…`", "acts as user `…` \
                (users.yaml:1)", "counts under …/64"] }], "nearest": ["give role `annual` to user \
                `…`", "client `crm`, 2001:db8::77"] })
        );
        // A machine is no person, nor is the user that it is given.
        let record = json!({ "client": "crm", "subject": "crm" });
        let before = json!(["client `crm`, subject `crm`", "acts as user `svc` (users.yaml:2)"]);
        let mut explanation = before.clone();
        people_of(record.as_object().unwrap(), &explanation).hide(&mut explanation);
        assert_eq!(explanation, before);
    }
}
