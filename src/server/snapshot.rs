//! One configuration in force: what an exchange takes once, at its start, so that no request sees two.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::edge::tls::{self, Tls};
use super::introspection::Introspection;
use super::limiter::AddressLimits;
use super::limits::Limits;
use super::login::provider::Provider;
use super::metrics::{Metrics, OperationMetrics};
use super::upstream::Servers;
use crate::config::Config;
use crate::keys::IssuerKeys;
use crate::names::{IssuerName, Timestamp};
use crate::policy::Rules;
use crate::policy::route::OperationId;

/// A configuration with all that serving it needs.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// Keys of other issuers.
    pub keys: HashMap<IssuerName, Arc<IssuerKeys>>,
    /// Issuers that are asked about their opaque tokens.
    pub introspections: HashMap<IssuerName, Arc<Introspection>>,
    /// The OpenID provider that users sign in at.
    pub provider: Option<Arc<Provider>>,
    /// Limits per address.
    pub limits: Arc<AddressLimits>,
    /// Limits on permitted requests.
    pub counted: Arc<Limits>,
    /// How long the slowest upstream may take.
    pub slowest: Duration,
    /// An API forwards WebSocket handshakes.
    pub tunnels: bool,
    /// Names the settings of issuers that cached facts depend on.
    pub issuers: u64,
    tls: Vec<Option<Tls>>,
    upstreams: Vec<Option<Arc<Servers>>>,
    metrics: Vec<OperationMetrics>,
}

impl Snapshot {
    /// Builds a snapshot. Keys, addresses and limits that the configuration did not change are taken over from the one before:
    /// a reload loses nothing that was fetched.
    ///
    /// # Errors
    /// The TLS library refuses what was read, in words for the operator.
    pub fn new(config: Config, before: Option<&Self>, metrics: &Metrics) -> Result<Self, String> {
        let tls = tls::build(&config.tls, before.map_or(&[], |before| &before.tls))?;
        let keys = config.key_sources.iter().map(|(name, source)| {
            let kept = before.and_then(|before| before.keys.get(name)).filter(|keys| keys.source() == source);
            let keys = kept.cloned().unwrap_or_else(|| Arc::new(IssuerKeys::new(name.clone(), source.clone())));
            (name.clone(), keys)
        });
        let keys = keys.collect();
        let introspections = config.introspections.iter().map(|(name, declared)| {
            let kept = before.and_then(|before| before.introspections.get(name));
            let kept = kept.filter(|kept| kept.declared == *declared);
            (name.clone(), kept.cloned().unwrap_or_else(|| Arc::new(Introspection::new(declared.clone()))))
        });
        let introspections = introspections.collect();
        let provider = config.login.provider.as_ref().map(|declared| {
            let old = before.and_then(|before| before.provider.as_deref());
            Arc::new(Provider::new(declared.clone(), old))
        });
        let servers: HashMap<_, _> = config
            .upstreams
            .iter()
            .map(|upstream| {
                let old = before.and_then(|before| {
                    before.upstreams.iter().flatten().find(|servers| servers.declared.name == upstream.name)
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
        let upstreams = rules.apis().iter().map(|api| servers.get(&api.upstream).cloned()).collect();
        let operation_metrics = rules
            .operations()
            .iter()
            .map(|operation| {
                let api = rules.apis().get(operation.api).map_or("", |api| api.name.as_str());
                metrics.operation(api, &operation.label)
            })
            .collect();
        let limits = before
            .filter(|before| before.limits.same(rules.address_limits()))
            .map_or_else(|| Arc::new(AddressLimits::new(rules.address_limits())), |before| before.limits.clone());
        let counted = before.filter(|before| before.counted.same(rules.limits())).map_or_else(
            || Arc::new(Limits::new(rules.limits(), before.map(|before| &*before.counted))),
            |before| before.counted.clone(),
        );
        let slowest = config.upstreams.iter().map(|upstream| upstream.response).max().unwrap_or_default();
        Ok(Self {
            slowest,
            tunnels: config.rules.apis().iter().any(|api| api.websocket),
            tls,
            counted,
            keys,
            introspections,
            provider,
            limits,
            issuers: issuers_hash(&config),
            upstreams,
            metrics: operation_metrics,
            config,
        })
    }

    /// TLS of a listener, by its place among them.
    #[must_use]
    pub fn tls(&self, listener: usize) -> Option<Arc<ServerConfig>> {
        self.tls.get(listener)?.as_ref().map(|tls| tls.config.clone())
    }

    /// When the first certificate of each listener with TLS expires.
    pub fn expiries(&self) -> impl Iterator<Item = (SocketAddr, Timestamp)> {
        let listeners = self.config.fixed.listeners.iter().zip(&self.config.tls);
        listeners.filter_map(|(listener, tls)| Some((listener.address, tls.as_ref()?.certificates.not_after)))
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.config.rules
    }

    /// The servers of an operation's API.
    #[must_use]
    pub fn servers(&self, operation: OperationId) -> Option<&Arc<Servers>> {
        let api = self.rules().operation(operation)?.api;
        self.upstreams.get(api)?.as_ref()
    }

    /// All keys that are fetched from others.
    pub fn all_keys(&self) -> impl Iterator<Item = &Arc<IssuerKeys>> {
        self.keys.values().chain(self.provider.iter().map(|provider| &provider.keys))
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

/// Issuers' settings decide how claims are read: other settings, other facts.
fn issuers_hash(config: &Config) -> u64 {
    let issuers = config.rules.issuers().map(|issuer| format!("{:?} {:?}", issuer.rules, issuer.opaque));
    let asked = config.introspections.iter().map(|(name, introspection)| format!("{name} {introspection:?}"));
    let mut settings: Vec<String> = issuers.chain(asked).collect();
    settings.sort();
    let mut hasher = DefaultHasher::new();
    settings.hash(&mut hasher);
    hasher.finish()
}
