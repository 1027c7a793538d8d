//! What the proxy counts: requests, verdicts, latencies.

use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, Result};

use super::Registrar;
use super::latency::{Latencies, Latency};
use crate::reason::{Reason, Refusal, Verdict};
use crate::telemetry::shadow_difference::ShadowDifference;

/// Upper bounds of request latencies, nanoseconds: from half a millisecond to ten seconds.
const REQUEST_BOUNDS: [u64; 13] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];
/// Upper bounds of decision latencies, nanoseconds: from a microsecond to a tenth of a second.
const DECISION_BOUNDS: [u64; 11] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// The metrics of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    requests: IntCounterVec,
    duration: Latencies,
    /// Of requests that reached no operation.
    unmatched: Latency,
    /// Time from a request's head to its verdict.
    pub decision_duration: Latency,
    shadow: IntCounterVec,
    candidate: IntCounterVec,
}

/// The counters of one operation, resolved when the configuration is loaded.
#[derive(Clone, Debug)]
pub struct OperationMetrics {
    /// Permitted requests.
    pub permitted: IntCounter,
    /// Latency of the API's requests.
    pub duration: Latency,
}

/// The labels of a verdict.
fn labels(verdict: Verdict) -> (&'static str, &'static str) {
    (verdict.word(), verdict.reason().map_or("", Reason::label))
}

impl RequestMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
        let duration = to.latencies(
            "scopegate_request_duration_seconds",
            "Time from a request's head to the end of its answer",
            Some("api"),
            &REQUEST_BOUNDS,
        )?;
        let decision_duration = to.latencies(
            "scopegate_decision_duration_seconds",
            "Time from a request's head to its verdict",
            None,
            &DECISION_BOUNDS,
        )?;
        Ok(Self {
            requests: to.counters(
                "scopegate_requests_total",
                "Requests by verdict",
                &["api", "operation", "verdict", "reason"],
            )?,
            unmatched: duration.of(""),
            duration,
            decision_duration: decision_duration.of(""),
            shadow: to.counters(
                "scopegate_shadow_total",
                "Verdicts of shadow rules that differ",
                &["api", "rule", "verdict", "reason"],
            )?,
            candidate: to.counters(
                "scopegate_candidate_total",
                "Verdicts that the candidate set would change",
                &["api", "rule", "verdict", "reason"],
            )?,
        })
    }

    /// The handles of one operation.
    #[must_use]
    pub fn operation(&self, api: &str, operation: &str) -> OperationMetrics {
        OperationMetrics {
            permitted: self.requests.with_label_values(&[api, operation, "permit", ""]),
            duration: self.duration.of(api),
        }
    }

    /// Counts a refused request.
    pub fn refused(&self, api: &str, operation: &str, refusal: &Refusal) {
        self.requests.with_label_values(&[api, operation, "refuse", refusal.reason.label()]).inc();
    }

    /// Observes the duration of a request that reached no operation.
    pub fn unmatched_duration(&self, duration: Duration) {
        self.unmatched.observe(duration);
    }

    /// Counts a shadow verdict that differs from the real one.
    pub fn shadow(&self, api: &str, rule: &str, verdict: Verdict) {
        let (verdict, reason) = labels(verdict);
        self.shadow.with_label_values(&[api, rule, verdict, reason]).inc();
    }

    /// Counts a verdict that the candidate set would change.
    pub fn shadow_difference(&self, difference: &ShadowDifference) {
        let (verdict, reason) = labels(difference.verdict);
        let (api, rule) = (difference.api.as_str(), difference.rule.as_str());
        self.candidate.with_label_values(&[api, rule, verdict, reason]).inc();
    }
}
