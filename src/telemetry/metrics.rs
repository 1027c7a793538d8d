//! Every metric, in a registry of our own: one struct a room. Label values come from configuration
//! names and closed enums alone, so no client can make a series.

pub mod edge;
pub mod latency;
pub mod oauth;
pub mod otlp;
pub mod process;
pub mod requests;
pub mod tokens;
pub mod upstream;
mod usage;

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, Result, TextEncoder,
};

use self::edge::EdgeMetrics;
use self::latency::Latencies;
use self::oauth::OauthMetrics;
use self::otlp::OtlpMetrics;
use self::process::ProcessMetrics;
use self::requests::RequestMetrics;
use self::tokens::TokenMetrics;
use self::upstream::UpstreamMetrics;
use crate::config::ListenAddress;
use crate::names::{IssuerName, Timestamp, UpstreamName};

/// The metrics. Series that are worth a zero from the start have one, so that a rate over them is
/// never absent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    /// Of the listeners.
    pub edge: EdgeMetrics,
    /// Of requests.
    pub requests: RequestMetrics,
    /// Of verification.
    pub tokens: TokenMetrics,
    /// Of the authorization server.
    pub oauth: OauthMetrics,
    /// Of upstreams.
    pub upstream: UpstreamMetrics,
    /// Of the process.
    pub process: ProcessMetrics,
    /// Of the export to a collector.
    pub otlp: OtlpMetrics,
}

/// A metric as it is registered, whether it has a series yet or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels of its series.
    pub labels: Vec<String>,
    /// What it counts or measures.
    pub help: String,
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
    pub certificates: Vec<(ListenAddress, Timestamp)>,
}

impl Metrics {
    /// Registers everything; `log_dropped` counts the lines of the gateway's own log that were not
    /// written.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake in this folder.
    pub fn new(log_dropped: Option<&IntCounter>) -> Result<Self> {
        let registry = Registry::new();
        let to = Registrar { registry: &registry, families: RefCell::default() };
        if let Some(dropped) = log_dropped {
            to.add(dropped.clone())?;
        }
        Ok(Self {
            edge: EdgeMetrics::register(&to)?,
            requests: RequestMetrics::register(&to)?,
            tokens: TokenMetrics::register(&to)?,
            oauth: OauthMetrics::register(&to)?,
            upstream: UpstreamMetrics::register(&to)?,
            process: ProcessMetrics::register(&to)?,
            otlp: OtlpMetrics::register(&to)?,
            families: to.families.into_inner(),
            registry,
        })
    }

    /// Every metric, in the order in which they are registered. docs/metrics.md is made of it.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The exposition text.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn render(&self, scrape: &Scrape) -> Result<Vec<u8>> {
        self.edge.open.set(whole(scrape.connections));
        self.edge.set_certificates(&scrape.certificates);
        self.tokens.set(scrape);
        self.upstream.set_servers(&scrape.servers);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Makes metrics and registers them.
struct Registrar<'a> {
    registry: &'a Registry,
    families: RefCell<Vec<Family>>,
}

impl Registrar<'_> {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        let described = collector.desc().into_iter().zip(collector.collect());
        self.families.borrow_mut().extend(described.map(|(desc, family)| Family {
            name: desc.fq_name.clone(),
            kind: match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::HISTOGRAM => "histogram",
                MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => "gauge",
            },
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        }));
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Gauge> {
        self.add(Gauge::new(name, help)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.into()))?)
    }

    fn latencies(
        &self,
        name: &str,
        help: &str,
        label: Option<&'static str>,
        bounds: &'static [u64],
    ) -> Result<Latencies> {
        self.add(Latencies::new(name, help, label, bounds)?)
    }
}

/// A number of things as a gauge takes it.
fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
