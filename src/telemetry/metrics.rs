//! Every metric, in a registry of our own. Label values come from configuration names and closed
//! enums alone, so no client can make a series.

use std::net::SocketAddr;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::cause::{ConnectionCut, ConnectionRefused};
use crate::client::GrantType;
use crate::grant::ErrorCode;
use crate::names::{IssuerName, Timestamp, UpstreamName};
use crate::reason::{Reason, Refusal, Verdict};
use crate::telemetry::shadow_difference::ShadowDifference;

/// Buckets of request latencies, seconds.
const REQUEST_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Buckets of the way of a revocation, seconds.
const DELAY_BUCKETS: [f64; 11] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Buckets of decision latencies, seconds.
const DECISION_BUCKETS: [f64; 11] = [
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.001,
    0.01,
    0.1,
];

/// The metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    /// Time from a request's head to its verdict, seconds.
    pub decision_duration: Histogram,
    token_faults: IntCounterVec,
    shadow: IntCounterVec,
    candidate: IntCounterVec,
    tokens_issued: IntCounterVec,
    token_errors: IntCounterVec,
    /// Look-ups in the verified-token cache that hit.
    pub cache_hits: IntCounter,
    /// And those that missed.
    pub cache_misses: IntCounter,
    /// From a revocation or block at one gateway to its being known at this one, seconds.
    pub revocation_delay: Histogram,
    revocation_age: prometheus::Gauge,
    revocations: IntGauge,
    /// Codes and refresh tokens used twice: each ended all that was given for it.
    pub reuse: IntCounter,
    provider_logins: IntCounterVec,
    introspections: IntCounterVec,
    cache_entries: IntGauge,
    retries: IntCounterVec,
    ejections: IntCounterVec,
    upstream_servers: IntGaugeVec,
    certificate_expiry: IntGaugeVec,
    jwks_age: IntGaugeVec,
    jwks_fetches: IntCounterVec,
    reload_successful: IntGauge,
    reload_at: IntGauge,
    config_info: IntGaugeVec,
    connections_open: IntGauge,
    connections_refused: IntCounterVec,
    connections_cut: IntCounterVec,
    /// Decision records that were dropped because the writer could not keep up.
    pub records_dropped: IntCounter,
    /// Panics; each costs one request.
    pub panics: IntCounter,
}

/// The counters of one operation, resolved when the configuration is loaded.
#[derive(Clone, Debug)]
pub struct OperationMetrics {
    /// Permitted requests.
    pub permitted: IntCounter,
    /// Latency of the API's requests.
    pub duration: Histogram,
}

/// Values that are read when somebody scrapes.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// Entries of the token cache.
    pub cache_entries: usize,
    /// Open connections.
    pub connections: usize,
    /// Revocations kept.
    pub revocations: usize,
    /// Since the store was last heard.
    pub revocations_age: std::time::Duration,
    /// Issuers with the age of their keys in seconds; `None` before the first success.
    pub jwks: Vec<(IssuerName, Option<u64>)>,
    /// Upstreams with the numbers of their servers: usable, ejected, down.
    pub servers: Vec<(UpstreamName, [usize; 3])>,
    /// Listeners with TLS, and when the first of their certificates expires.
    pub certificates: Vec<(SocketAddr, Timestamp)>,
}

/// The labels of a verdict.
fn labels(verdict: Verdict) -> (&'static str, &'static str) {
    (verdict.word(), verdict.reason().map_or("", Reason::label))
}

impl Metrics {
    /// Registers everything; `log_dropped` counts the lines of the gateway's own log that were not
    /// written.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake in this file.
    pub fn new(log_dropped: Option<&IntCounter>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        if let Some(dropped) = log_dropped {
            register(&registry, dropped.clone())?;
        }
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help)?);
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let lookups = counters(
            "scopegate_token_cache_lookups_total",
            "Look-ups in the verified-token cache",
            &["result"],
        )?;
        let request_opts = HistogramOpts::new(
            "scopegate_request_duration_seconds",
            "Time from a request's head to the end of its answer",
        );
        let decision_opts = HistogramOpts::new(
            "scopegate_decision_duration_seconds",
            "Time from a request's head to its verdict",
        );
        let delay_opts = HistogramOpts::new(
            "scopegate_revocation_propagation_seconds",
            "From a revocation or block at one gateway to its being known at this one",
        );
        let metrics = Self {
            revocation_delay: register(
                &registry,
                Histogram::with_opts(delay_opts.buckets(DELAY_BUCKETS.into()))?,
            )?,
            revocation_age: register(
                &registry,
                prometheus::Gauge::new(
                    "scopegate_revocations_age_seconds",
                    "Since the store was last heard: what was revoked elsewhere since is not known",
                )?,
            )?,
            revocations: gauge("scopegate_revocations", "Revocations kept in memory")?,
            requests: counters(
                "scopegate_requests_total",
                "Requests by verdict",
                &["api", "operation", "verdict", "reason"],
            )?,
            request_duration: register(
                &registry,
                HistogramVec::new(request_opts.buckets(REQUEST_BUCKETS.into()), &["api"])?,
            )?,
            decision_duration: register(
                &registry,
                Histogram::with_opts(decision_opts.buckets(DECISION_BUCKETS.into()))?,
            )?,
            token_faults: counters(
                "scopegate_token_faults_total",
                "Tokens refused, by what was wrong",
                &["issuer", "fault"],
            )?,
            shadow: counters(
                "scopegate_shadow_total",
                "Verdicts of shadow rules that differ",
                &["api", "rule", "verdict", "reason"],
            )?,
            candidate: counters(
                "scopegate_candidate_total",
                "Verdicts that the candidate set would change",
                &["api", "rule", "verdict", "reason"],
            )?,
            tokens_issued: counters(
                "scopegate_tokens_issued_total",
                "Access tokens issued",
                &["grant"],
            )?,
            token_errors: counters(
                "scopegate_token_errors_total",
                "Token requests refused",
                &["error"],
            )?,
            cache_hits: lookups.with_label_values(&["hit"]),
            cache_misses: lookups.with_label_values(&["miss"]),
            introspections: counters(
                "scopegate_introspections_total",
                "Questions to other issuers about their tokens, by what came of them",
                &["issuer", "result"],
            )?,
            provider_logins: counters(
                "scopegate_provider_logins_total",
                "Browsers back from the login provider, by what became of them",
                &["outcome"],
            )?,
            cache_entries: gauge(
                "scopegate_token_cache_entries",
                "Entries of the verified-token cache",
            )?,
            jwks_age: gauges(
                "scopegate_jwks_age_seconds",
                "Age of an issuer's fetched keys; absent before the first success",
                &["issuer"],
            )?,
            jwks_fetches: counters(
                "scopegate_jwks_fetches_total",
                "Fetches of issuers' keys",
                &["issuer", "result"],
            )?,
            reload_successful: gauge(
                "scopegate_config_last_reload_successful",
                "Whether the last load was taken",
            )?,
            reload_at: gauge(
                "scopegate_config_last_reload_timestamp_seconds",
                "When the last load was taken",
            )?,
            config_info: gauges("scopegate_config_info", "The set in force", &["version"])?,
            connections_open: gauge("scopegate_connections_open", "Open client connections")?,
            connections_refused: counters(
                "scopegate_connections_refused_total",
                "Connections over a cap",
                &["cause"],
            )?,
            connections_cut: counters(
                "scopegate_connections_cut_total",
                "Connections ended by a deadline",
                &["cause"],
            )?,
            retries: counters(
                "scopegate_upstream_retries_total",
                "Requests tried again",
                &["upstream"],
            )?,
            ejections: counters(
                "scopegate_upstream_ejections_total",
                "Servers left out for a while because they failed",
                &["upstream"],
            )?,
            upstream_servers: gauges(
                "scopegate_upstream_servers",
                "Servers of an upstream: usable, left out because they failed, down by their \
                    health checks",
                &["upstream", "state"],
            )?,
            certificate_expiry: gauges(
                "scopegate_certificate_expiry_timestamp_seconds",
                "When the first certificate of a listener expires",
                &["listener"],
            )?,
            reuse: counter(
                "scopegate_token_reuse_total",
                "Codes and refresh tokens used a second time",
            )?,
            records_dropped: counter(
                "scopegate_decision_records_dropped_total",
                "Decision records dropped",
            )?,
            panics: counter("scopegate_panics_total", "Panics; each costs one request")?,
            registry,
        };
        metrics.announce();
        Ok(metrics)
    }

    /// Series that are worth a zero from the start, so that a rate over them is never absent.
    fn announce(&self) {
        for grant in GrantType::ALL {
            self.tokens_issued.with_label_values(&[grant.as_str()]);
        }
        for code in ErrorCode::ALL {
            self.token_errors.with_label_values(&[code.label()]);
        }
        for cap in [ConnectionRefused::Total, ConnectionRefused::Address] {
            self.connections_refused.with_label_values(&[cap.label()]);
        }
        for cause in [
            ConnectionCut::HeaderTimeout,
            ConnectionCut::BodyPace,
            ConnectionCut::WriteTimeout,
            ConnectionCut::TlsHandshake,
        ] {
            self.connections_cut.with_label_values(&[cause.label()]);
        }
    }

    /// The series of an issuer whose keys are fetched.
    pub fn announce_issuer(&self, issuer: &IssuerName) {
        for result in ["ok", "failed"] {
            self.jwks_fetches.with_label_values(&[issuer.as_str(), result]);
        }
    }

    /// The handles of one operation.
    #[must_use]
    pub fn operation(&self, api: &str, operation: &str) -> OperationMetrics {
        OperationMetrics {
            permitted: self.requests.with_label_values(&[api, operation, "permit", ""]),
            duration: self.request_duration.with_label_values(&[api]),
        }
    }

    /// Counts a refused request.
    pub fn refused(&self, api: &str, operation: &str, refusal: &Refusal) {
        self.requests.with_label_values(&[api, operation, "refuse", refusal.reason.label()]).inc();
    }

    /// Observes the duration of a request that reached no operation.
    pub fn unmatched_duration(&self, seconds: f64) {
        self.request_duration.with_label_values(&[""]).observe(seconds);
    }

    /// Counts what was wrong with a token; the issuer is empty where none was found.
    pub fn token_fault(&self, issuer: &str, refusal: &Refusal) {
        let fault = refusal.fault.label();
        if !fault.is_empty() {
            self.token_faults.with_label_values(&[issuer, fault]).inc();
        }
    }

    /// Counts a shadow verdict that differs from the real one.
    pub fn shadow(&self, api: &str, rule: &str, verdict: Verdict) {
        let (verdict, reason) = labels(verdict);
        self.shadow.with_label_values(&[api, rule, verdict, reason]).inc();
    }

    /// Counts a verdict that the candidate set would change.
    pub fn shadow_difference(&self, difference: &ShadowDifference) {
        let (verdict, reason) = labels(difference.verdict);
        self.candidate
            .with_label_values(&[
                difference.api.as_str(),
                difference.rule.as_str(),
                verdict,
                reason,
            ])
            .inc();
    }

    /// Counts a token.
    pub fn issued(&self, grant: GrantType) {
        self.tokens_issued.with_label_values(&[grant.as_str()]).inc();
    }

    /// Counts a refused token request.
    pub fn token_error(&self, code: ErrorCode) {
        self.token_errors.with_label_values(&[code.label()]).inc();
    }

    /// Counts a fetch of keys.
    pub fn jwks_fetch(&self, issuer: &IssuerName, ok: bool) {
        self.jwks_fetches
            .with_label_values(&[issuer.as_str(), if ok { "ok" } else { "failed" }])
            .inc();
    }

    /// Counts a browser that is back from the login provider.
    pub fn provider_login(&self, outcome: &str) {
        self.provider_logins.with_label_values(&[outcome]).inc();
    }

    /// Counts what came of the wish to ask an issuer about a token.
    pub fn introspection(&self, issuer: &IssuerName, result: &str) {
        self.introspections.with_label_values(&[issuer.as_str(), result]).inc();
    }

    /// Counts another try of a request to an upstream.
    pub fn request_retried(&self, upstream: &str) {
        self.retries.with_label_values(&[upstream]).inc();
    }

    /// Counts a server of an upstream that is left out.
    pub fn server_ejected(&self, upstream: &str) {
        self.ejections.with_label_values(&[upstream]).inc();
    }

    /// Counts a connection over a cap.
    pub fn connection_refused(&self, cause: ConnectionRefused) {
        self.connections_refused.with_label_values(&[cause.label()]).inc();
    }

    /// Counts a connection that a deadline ended.
    pub fn connection_cut(&self, cause: ConnectionCut) {
        self.connections_cut.with_label_values(&[cause.label()]).inc();
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

    /// The exposition text.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn render(&self, scrape: &Scrape) -> prometheus::Result<Vec<u8>> {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.cache_entries.set(gauge(scrape.cache_entries));
        self.connections_open.set(gauge(scrape.connections));
        self.revocations.set(gauge(scrape.revocations));
        self.revocation_age.set(scrape.revocations_age.as_secs_f64());
        self.jwks_age.reset();
        for (issuer, age) in &scrape.jwks {
            let Some(age) = age else { continue };
            self.jwks_age
                .with_label_values(&[issuer.as_str()])
                .set(i64::try_from(*age).unwrap_or(i64::MAX));
        }
        self.upstream_servers.reset();
        for (upstream, counts) in &scrape.servers {
            for (state, count) in ["usable", "ejected", "down"].into_iter().zip(counts) {
                self.upstream_servers
                    .with_label_values(&[upstream.as_str(), state])
                    .set(gauge(*count));
            }
        }
        self.certificate_expiry.reset();
        for (listener, expiry) in &scrape.certificates {
            self.certificate_expiry.with_label_values(&[&listener.to_string()]).set(expiry.0);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
