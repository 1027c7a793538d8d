//! What is counted about traces and decision records on their way to a collector.

use prometheus::{IntCounterVec, Result};

use super::Registrar;
use crate::telemetry::cause::{NotExported, Signal};

/// The metrics of the export.
#[derive(Clone, Debug)]
pub struct OtlpMetrics {
    sent: IntCounterVec,
    dropped: IntCounterVec,
}

impl OtlpMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
        let sent = to.counters(
            "scopegate_otlp_sent_total",
            "Spans and log records that the collector has taken",
            &["signal"],
        )?;
        let dropped = to.counters(
            "scopegate_otlp_dropped_total",
            "Spans and log records that did not reach the collector, by cause",
            &["signal", "cause"],
        )?;
        for signal in Signal::ALL {
            sent.with_label_values(&[signal.label()]);
            for cause in NotExported::ALL {
                dropped.with_label_values(&[signal.label(), cause.label()]);
            }
        }
        Ok(Self { sent, dropped })
    }

    /// Counts what the collector has taken.
    pub fn sent(&self, signal: Signal, count: u64) {
        self.sent.with_label_values(&[signal.label()]).inc_by(count);
    }

    /// Counts what did not reach it.
    pub fn dropped(&self, signal: Signal, cause: NotExported, count: u64) {
        self.dropped.with_label_values(&[signal.label(), cause.label()]).inc_by(count);
    }
}
