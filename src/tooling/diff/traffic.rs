//! Effect of a policy change on recorded traffic.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Direction, label};
use crate::names::Timestamp;
use crate::policy::Rules;
use crate::policy::decide::Moment;
use crate::policy::sample::{Presented, Sample};
use crate::reason::Reason;
use crate::tooling::explain::{Question, judge};
use crate::tooling::replay::{Gap, Recorded};

/// Most examples kept for each kind of change.
const EXAMPLES: usize = 3;

/// Requests whose verdict changes in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The client; none where no token was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// API, method and resource.
    pub operation: String,
    /// Direction of the change.
    pub direction: Direction,
    /// The verdict of the old set.
    pub old: &'static str,
    /// The verdict of the new set.
    pub new: &'static str,
    /// Number of requests.
    pub requests: u64,
    /// Decision ids of some of them.
    pub examples: Vec<String>,
}

/// Result of replaying recorded traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Records that were replayed.
    pub replayed: u64,
    /// Records that were not replayed, by cause.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Lines that are not records.
    pub unreadable: u64,
    /// Records whose old verdict is not the recorded one: other rules had decided them.
    pub drifted: u64,
    /// The changes, most requests first.
    pub changed: Vec<Changed>,
}

/// Replays records under two sets.
#[derive(Debug)]
pub struct Replay<'a> {
    old: &'a Rules,
    new: &'a Rules,
    public_host: &'a str,
    traffic: Traffic,
    changed: BTreeMap<Kind, (u64, Vec<String>)>,
}

/// Client, operation, direction, old and new verdict.
type Kind = (Option<String>, String, Direction, &'static str, &'static str);

impl<'a> Replay<'a> {
    /// A replay without records.
    #[must_use]
    pub fn new(old: &'a Rules, new: &'a Rules, public_host: &'a str) -> Self {
        Self { old, new, public_host, traffic: Traffic::default(), changed: BTreeMap::new() }
    }

    /// Reads one line of the log.
    pub fn line(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Recorded<'_>>(line) {
            Ok(record) => self.record(&record),
            Err(_) => self.traffic.unreadable += 1,
        }
    }

    fn record(&mut self, record: &Recorded<'_>) {
        let (case, at) = match record.case(self.old, &[self.old, self.new]) {
            Ok(found) => found,
            Err(gap) => return self.leave_out(gap),
        };
        self.traffic.replayed += 1;
        let [old, new] = [self.old, self.new].map(|rules| self.verdict(rules, &case, at));
        let recorded = record.reason.as_deref().unwrap_or("permit");
        if label(old) != recorded && Reason::from_label(recorded).is_none_or(Reason::is_judged) {
            // Decided under other rules: the difference between these two sets is not what changed
            // then.
            self.traffic.drifted += 1;
            return;
        }
        if old.is_ok() == new.is_ok() {
            return;
        }
        let direction = if old.is_ok() { Direction::Tightens } else { Direction::Widens };
        let operation = format!(
            "{} {} {}",
            record.api.as_deref().unwrap_or_default(),
            record.method,
            record.resource.as_deref().unwrap_or_default()
        );
        let key = (
            record.client.as_deref().map(str::to_owned),
            operation,
            direction,
            label(old),
            label(new),
        );
        let (requests, examples) = self.changed.entry(key).or_default();
        *requests += 1;
        if examples.len() < EXAMPLES {
            // Only ids in our own form are repeated; other text from the log is not.
            let plain =
                record.id.len() <= 64 && record.id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            examples.extend(plain.then(|| record.id.clone().into_owned()));
        }
    }

    fn leave_out(&mut self, gap: Gap) {
        *self.traffic.left_out.entry(gap.text()).or_default() += 1;
    }

    fn verdict(&self, rules: &Rules, case: &Sample, at: Timestamp) -> Result<(), Reason> {
        let facts = match &case.token {
            Some(Presented::Sample(words)) => Some(Ok(Arc::new(words.facts(rules, at)))),
            Some(Presented::Token(_)) | None => None,
        };
        let question = Question { request: case.request(self.public_host), facts };
        super::verdict(&judge(rules, &question, Moment::at(at)))
    }

    /// The result.
    #[must_use]
    pub fn finish(self) -> Traffic {
        let mut traffic = self.traffic;
        traffic.changed = self
            .changed
            .into_iter()
            .map(|((client, operation, direction, old, new), (requests, examples))| Changed {
                client,
                operation,
                direction,
                old,
                new,
                requests,
                examples,
            })
            .collect();
        traffic.changed.sort_by_key(|changed| std::cmp::Reverse(changed.requests));
        traffic
    }
}
