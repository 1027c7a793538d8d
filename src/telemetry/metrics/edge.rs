//! What the listeners count: connections.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::Registrar;
use crate::config::ListenAddress;
use crate::names::Timestamp;
use crate::telemetry::cause::{ConnectionCut, ConnectionRefused};

/// The metrics of the listeners.
#[derive(Debug)]
pub struct EdgeMetrics {
    pub(super) open: IntGauge,
    refused: IntCounterVec,
    cut: IntCounterVec,
    certificate_expiry: IntGaugeVec,
}

impl EdgeMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
        let metrics = Self {
            open: to.gauge("scopegate_connections_open", "Open client connections")?,
            refused: to.counters(
                "scopegate_connections_refused_total",
                "Connections, and requests on them, that were not taken, by cause",
                &["cause"],
            )?,
            cut: to.counters(
                "scopegate_connections_cut_total",
                "Connections that the gateway ended, by cause",
                &["cause"],
            )?,
            certificate_expiry: to.gauges(
                "scopegate_certificate_expiry_timestamp_seconds",
                "When the first certificate of a listener expires",
                &["listener"],
            )?,
        };
        for cause in ConnectionRefused::ALL {
            metrics.refused.with_label_values(&[cause.label()]);
        }
        for cause in ConnectionCut::ALL {
            metrics.cut.with_label_values(&[cause.label()]);
        }
        Ok(metrics)
    }

    /// Counts a connection, or a request on one, that was not taken.
    pub fn connection_refused(&self, cause: ConnectionRefused) {
        self.refused.with_label_values(&[cause.label()]).inc();
    }

    /// Counts a connection that the gateway ended.
    pub fn connection_cut(&self, cause: ConnectionCut) {
        self.cut.with_label_values(&[cause.label()]).inc();
    }

    pub(super) fn set_certificates(&self, certificates: &[(ListenAddress, Timestamp)]) {
        self.certificate_expiry.reset();
        for (listener, expiry) in certificates {
            self.certificate_expiry.with_label_values(&[&listener.to_string()]).set(expiry.0);
        }
    }
}
