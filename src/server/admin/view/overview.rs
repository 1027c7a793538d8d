//! The overview: how things are now, and over the last day.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::integrations::Totals;
use super::operations::{DayUse, IssuerState, UpstreamState};
use crate::telemetry::decisions::Decisions;
use crate::tooling::lint::{Finding, Level};

/// The overview.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Overview {
    /// Machine identities.
    pub integrations: Totals,
    /// Findings that nobody has waived, by severity.
    pub findings: FindingTotals,
    /// The decisions of the window.
    pub window: WindowTotals,
    /// Requests of each of the last 30 days.
    pub days: Vec<DayUse>,
    /// Issuers.
    pub issuers: Vec<IssuerState>,
    /// Upstreams.
    pub upstreams: Vec<UpstreamState>,
    /// Whether the store answers, or why not.
    pub store: String,
    /// The set in force: what a decision record has as `set`.
    pub set: String,
    /// When it was read.
    pub loaded_at: String,
    /// Whether the gateway serves, drains or starts.
    pub state: String,
}

/// Findings by severity.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct FindingTotals {
    /// Worth changing.
    pub warnings: usize,
    /// Worth knowing.
    pub notes: usize,
    /// Waived with a reason.
    pub waived: usize,
}

/// Decisions of the window.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct WindowTotals {
    /// Decisions that were looked at: all of the window, or the newest of it.
    pub decisions: usize,
    /// Refused ones.
    pub refused: usize,
    /// Half of the decisions took at most so many microseconds.
    pub p50_us: u64,
    /// Of a hundred, 99 took at most so many microseconds.
    pub p99_us: u64,
    /// Refusals by reason, most frequent first.
    pub reasons: Vec<ReasonCount>,
}

/// Refusals of one reason.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReasonCount {
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: usize,
}

/// Decisions that the overview looks at.
const MAX_LOOKED_AT: usize = 5_000;

/// Counts findings.
#[must_use]
pub fn finding_totals(findings: &[Finding]) -> FindingTotals {
    let mut totals = FindingTotals::default();
    for finding in findings {
        match (&finding.waived, finding.level) {
            (Some(_), _) => totals.waived += 1,
            (None, Level::Warning) => totals.warnings += 1,
            (None, Level::Note) => totals.notes += 1,
        }
    }
    totals
}

/// Counts the newest decisions of the window.
pub fn window_totals(window: &Decisions) -> WindowTotals {
    let mut times = Vec::new();
    let mut reasons = std::collections::BTreeMap::<String, usize>::new();
    let lines = window.before(u64::MAX);
    for line in lines.iter().take(MAX_LOOKED_AT) {
        let Ok(record) = serde_json::from_slice::<Value>(&line.json) else { continue };
        times.push(record.get("decision_us").and_then(Value::as_u64).unwrap_or(0));
        if record.get("verdict").and_then(Value::as_str) == Some("refuse") {
            let reason = record.get("reason").and_then(Value::as_str).unwrap_or("unanswered");
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
    times.sort_unstable();
    let at = |percent: usize| {
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied()
    };
    let mut reasons: Vec<ReasonCount> =
        reasons.into_iter().map(|(reason, count)| ReasonCount { reason, count }).collect();
    reasons.sort_by_key(|row| std::cmp::Reverse(row.count));
    WindowTotals {
        decisions: times.len(),
        refused: reasons.iter().map(|row| row.count).sum(),
        p50_us: at(50).unwrap_or(0),
        p99_us: at(99).unwrap_or(0),
        reasons,
    }
}
