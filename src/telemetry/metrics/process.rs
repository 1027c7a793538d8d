//! What the process counts: loads of the configuration, lost records, panics; and what it uses.

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Result};

use super::Registrar;
use super::usage::UsageCollector;
use crate::system::clock;

/// The metrics of the process.
#[derive(Debug)]
pub struct ProcessMetrics {
    reload_successful: IntGauge,
    reload_at: IntGauge,
    config_info: IntGaugeVec,
    /// Decision records that were dropped because the writer could not keep up.
    pub records_dropped: IntCounter,
    /// Panics; each costs one request.
    pub panics: IntCounter,
    findings: IntGaugeVec,
}

/// Counts the lines of the gateway's own log that were dropped. Made before the other metrics,
/// because the log begins before them.
///
/// # Errors
/// A name that Prometheus does not take.
pub fn log_lines_dropped() -> Result<IntCounter> {
    IntCounter::new("scopegate_log_lines_dropped_total", "Lines of the gateway's own log dropped")
}

impl ProcessMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
        let build = to.gauges("scopegate_build_info", "The program that runs", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // The metrics are made at the start. The kernel's own word for it is not in `/proc/self`.
        to.gauge("process_start_time_seconds", "When the process was started")?.set(clock::now().0);
        to.add(UsageCollector::new()?)?;
        Ok(Self {
            reload_successful: to.gauge(
                "scopegate_config_last_reload_successful",
                "Whether the last load was taken",
            )?,
            reload_at: to.gauge(
                "scopegate_config_last_reload_timestamp_seconds",
                "When the last load was taken",
            )?,
            config_info: to.gauges("scopegate_config_info", "The set in force", &["version"])?,
            records_dropped: to
                .counter("scopegate_decision_records_dropped_total", "Decision records dropped")?,
            findings: to.gauges(
                "scopegate_findings",
                "Findings about the set in force and its use that nobody has waived",
                &["rule"],
            )?,
            panics: to.counter("scopegate_panics_total", "Panics; each costs one request")?,
        })
    }

    /// When the set in force was taken, seconds since 1970.
    #[must_use]
    pub fn loaded_at(&self) -> i64 {
        self.reload_at.get()
    }

    /// Notes how many findings there are of each rule.
    pub fn found(&self, counts: impl IntoIterator<Item = (&'static str, i64)>) {
        self.findings.reset();
        for (rule, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            self.findings.with_label_values(&[rule]).set(count);
        }
    }

    /// Notes a load; the version is the set now in force.
    pub fn loaded(&self, ok: bool, version: &str, at: i64) {
        self.reload_successful.set(i64::from(ok));
        if ok {
            self.reload_at.set(at);
            self.config_info.reset();
            self.config_info.with_label_values(&[version]).set(1);
        }
    }
}
