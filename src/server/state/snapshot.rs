//! One configuration in force: what an exchange takes once, at its start, so that no request sees
//! two.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::telemetry;
use crate::config::{Config, ListenAddress};
use crate::grant::redirect::Pages;
use crate::keys::IssuerKeys;
use crate::keys::fetch::collector::CollectorClient;
use crate::names::Timestamp;
use crate::policy::Rules;
use crate::policy::route::OperationId;
use crate::server::edge::EdgePolicy;
use crate::server::limits::address::AddressLimits;
use crate::server::limits::quota::Limits;
use crate::server::limits::sampling::Sampler;
use crate::server::login::provider::Provider;
use crate::server::tokens::Issuers;
use crate::server::upstream::Servers;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::requests::OperationMetrics;

/// A configuration with all that serving it needs.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// The other issuers.
    pub issuers: Issuers,
    /// Origins of the pages of public clients.
    pub pages: Pages,
    /// What connections are judged by.
    pub edge: Arc<EdgePolicy>,
    /// The OpenID provider that users sign in at.
    pub provider: Option<Arc<Provider>>,
    /// Limits per address.
    pub limits: Arc<AddressLimits>,
    /// Limits on permitted requests.
    pub counted: Arc<Limits>,
    /// The collector of traces, and which it gets.
    pub otlp: Option<Otlp>,
    upstreams: Vec<Option<Arc<Servers>>>,
    metrics: Vec<OperationMetrics>,
}

/// A collector of traces, and which it gets.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Which requests are recorded.
    pub sampler: Arc<Sampler>,
    /// What gives them to the collector.
    pub client: Arc<CollectorClient>,
}

impl Otlp {
    /// That of a configuration, as far as possible the one before: budget and connections are kept.
    fn new(declared: &telemetry::Otlp, before: Option<&Self>) -> Result<Self, String> {
        let client = before.filter(|before| before.client.is_of(&declared.collector));
        let client = match client {
            Some(before) => before.client.clone(),
            None => CollectorClient::new(&declared.collector)
                .map(Arc::new)
                .map_err(|fault| format!("telemetry.otlp: {fault}"))?,
        };
        let sampler = before.filter(|before| before.sampler.is_of(declared.sampling));
        let sampler = sampler.map_or_else(
            || Arc::new(Sampler::new(declared.sampling)),
            |before| before.sampler.clone(),
        );
        Ok(Self { sampler, client })
    }
}

impl Snapshot {
    /// Builds a snapshot. Keys, addresses and limits that the configuration did not change are
    /// taken over from the one before: a reload loses nothing that was fetched.
    ///
    /// # Errors
    /// The TLS library refuses what was read, in words for the operator.
    pub fn new(config: Config, before: Option<&Self>, metrics: &Metrics) -> Result<Self, String> {
        if let Some(made) = before.and_then(|before| before.rules().registry().made_users()) {
            config.rules.registry().follow(made.clone());
        }
        let edge = EdgePolicy::new(&config, before.map(|before| &*before.edge))?;
        let issuers = Issuers::new(&config, before.map(|before| &before.issuers))?;
        let declared = config.login.provider.as_ref();
        let old = before.and_then(|before| before.provider.as_deref());
        let provider = declared.map(|declared| Provider::new(declared.clone(), old)).transpose()?;
        let provider = provider.map(Arc::new);
        let servers: HashMap<_, _> = config
            .upstreams
            .iter()
            .map(|upstream| {
                let old = before.and_then(|before| {
                    before
                        .upstreams
                        .iter()
                        .flatten()
                        .find(|servers| servers.declared.name == upstream.name)
                });
                let servers = match old {
                    Some(old) if old.declared == *upstream => old.clone(),
                    Some(old) => Arc::new(Servers::after(upstream.clone(), old)),
                    None => Arc::new(Servers::new(upstream.clone())),
                };
                (&upstream.name, servers)
            })
            .collect();
        let rules = &config.rules;
        let upstreams =
            rules.apis().iter().map(|api| servers.get(&api.upstream).cloned()).collect();
        let operation_metrics = rules
            .operations()
            .iter()
            .map(|operation| {
                let api = rules.apis().get(operation.api).map_or("", |api| api.name.as_str());
                metrics.requests.operation(api, &operation.label)
            })
            .collect();
        let limits =
            before.filter(|before| before.limits.same(rules.address_limits())).map_or_else(
                || Arc::new(AddressLimits::new(rules.address_limits())),
                |before| before.limits.clone(),
            );
        let counted = before.filter(|before| before.counted.same(rules.limits())).map_or_else(
            || Arc::new(Limits::new(rules.limits(), before.map(|before| &*before.counted))),
            |before| before.counted.clone(),
        );
        let otlp = config.otlp.as_ref();
        let otlp = otlp
            .map(|declared| Otlp::new(declared, before.and_then(|before| before.otlp.as_ref())))
            .transpose()?;
        Ok(Self {
            otlp,
            pages: Pages::of(config.rules.registry()),
            edge: Arc::new(edge),
            issuers,
            counted,
            provider,
            limits,
            upstreams,
            metrics: operation_metrics,
            config,
        })
    }

    /// When the first certificate of each listener with TLS expires.
    pub fn expiries(&self) -> impl Iterator<Item = (&ListenAddress, Timestamp)> {
        let listeners = self.config.fixed.listeners.iter().zip(&self.config.tls);
        listeners.filter_map(|(listener, tls)| {
            Some((&listener.address, tls.as_ref()?.certificates.not_after))
        })
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.config.rules
    }

    /// Whether a path leads to an upstream that speaks HTTP/2.
    #[must_use]
    pub fn speaks_http2(&self, host: &str, path: &str) -> bool {
        let speaks = |servers: &Arc<Servers>| servers.declared.http2;
        self.upstreams.iter().flatten().any(speaks)
            && self
                .rules()
                .operations_at(host, path)
                .any(|operation| self.servers(operation).is_some_and(speaks))
    }

    /// The servers of an operation's API.
    #[must_use]
    pub fn servers(&self, operation: OperationId) -> Option<&Arc<Servers>> {
        let api = self.rules().operation(operation)?.api;
        self.upstreams.get(api)?.as_ref()
    }

    /// All keys that are fetched from others.
    pub fn all_keys(&self) -> impl Iterator<Item = &Arc<IssuerKeys>> {
        self.issuers.keys.values().chain(self.provider.iter().map(|provider| &provider.keys))
    }

    /// Every upstream that an API uses, once.
    pub fn all_servers(&self) -> impl Iterator<Item = &Arc<Servers>> {
        let mut seen = Vec::new();
        self.upstreams.iter().flatten().filter(move |servers| {
            let pointer = Arc::as_ptr(servers);
            let new = !seen.contains(&pointer);
            seen.push(pointer);
            new
        })
    }

    /// The counters of an operation.
    #[must_use]
    pub fn metrics(&self, operation: OperationId) -> Option<&OperationMetrics> {
        self.metrics.get(operation.index())
    }
}
