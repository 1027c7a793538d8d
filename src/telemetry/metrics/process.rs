//! What the process counts: loads of the configuration, lost records, panics.

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Result};

use super::Registrar;

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
}

impl ProcessMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
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
            panics: to.counter("scopegate_panics_total", "Panics; each costs one request")?,
        })
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
