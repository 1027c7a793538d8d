//! What is counted about upstreams: retries, ejections, servers.

use prometheus::{IntCounterVec, IntGaugeVec, Result};

use super::{Registrar, whole};
use crate::names::UpstreamName;

/// The metrics of upstreams.
#[derive(Debug)]
pub struct UpstreamMetrics {
    retries: IntCounterVec,
    ejections: IntCounterVec,
    servers: IntGaugeVec,
}

impl UpstreamMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
        Ok(Self {
            retries: to.counters(
                "scopegate_upstream_retries_total",
                "Requests tried again",
                &["upstream"],
            )?,
            ejections: to.counters(
                "scopegate_upstream_ejections_total",
                "Servers left out for a while because they failed",
                &["upstream"],
            )?,
            servers: to.gauges(
                "scopegate_upstream_servers",
                "Servers of an upstream: usable, left out because they failed, down by their \
                    health checks",
                &["upstream", "state"],
            )?,
        })
    }

    /// Counts another try of a request to an upstream.
    pub fn request_retried(&self, upstream: &str) {
        self.retries.with_label_values(&[upstream]).inc();
    }

    /// Counts a server of an upstream that is left out.
    pub fn server_ejected(&self, upstream: &str) {
        self.ejections.with_label_values(&[upstream]).inc();
    }

    pub(super) fn set_servers(&self, servers: &[(UpstreamName, [usize; 3])]) {
        self.servers.reset();
        for (upstream, counts) in servers {
            for (state, count) in ["usable", "ejected", "down"].into_iter().zip(counts) {
                self.servers.with_label_values(&[upstream.as_str(), state]).set(whole(*count));
            }
        }
    }
}
