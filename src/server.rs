//! The running gateway: everything impure, assembled here.
//!
//! Owns sockets, threads and shared state; every judgement is the inner ring's.

pub mod admin;
pub mod answer;
pub mod authorization;
pub mod bridge;
pub mod cache;
pub mod clock;
pub mod exchange;
pub mod forward;
pub mod gateway;
pub mod guard;
pub mod identify;
pub mod identity;
pub mod introspection;
pub mod limiter;
pub mod limits;
pub mod lifecycle;
pub mod login;
pub mod metrics;
pub mod operations;
pub mod outcome;
pub mod pages;
pub mod record;
pub mod refresh;
pub mod reload;
pub mod revocations;
pub mod snapshot;
pub mod source;
pub mod throttle;
pub mod upstream;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use tokio::sync::Notify;

use crate::config::{Config, Fixed, StoreConfig};
use crate::keys::OwnKeys;
use crate::keys::fetch::Fetch;
use crate::names::{ClientId, Timestamp};
use crate::store::Store;
use cache::TokenCache;
use guard::{Connections, Guard};
use metrics::Metrics;
use record::Recorder;
use revocations::Revocations;
use snapshot::Snapshot;
use throttle::Throttle;

/// How long the last decision records may take at the end.
const FLUSH: std::time::Duration = std::time::Duration::from_secs(2);

/// State that all exchanges share.
#[derive(Debug)]
pub struct Shared {
    /// Settings that a reload does not change.
    pub fixed: Fixed,
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Our own keys.
    pub own_keys: OwnKeys,
    /// Verified tokens.
    pub cache: TokenCache,
    /// Metrics.
    pub metrics: Metrics,
    /// Decision records.
    pub recorder: Recorder,
    /// What has been revoked, and who is blocked by command.
    pub revocations: Revocations,
    /// The day on which each secret was last used, as far as this process knows.
    pub secret_days: DashMap<(ClientId, String), Timestamp>,
    /// Failed attempts to authenticate.
    pub throttle: Throttle,
    /// Open connections.
    pub connections: Connections,
    /// What asks others.
    pub fetch: Fetch,
    /// The store.
    pub store: Store,
    /// Exchanges under way.
    pub in_flight: AtomicUsize,
    /// The gateway is shutting down.
    pub draining: AtomicBool,
    /// Told when the snapshot has changed.
    pub reloaded: Notify,
    /// Random, the first half of every decision id.
    pub process: u64,
}

impl Shared {
    /// Builds the state over an opened store.
    ///
    /// # Errors
    /// What cannot be had, in words for the operator.
    pub fn new(config: Config) -> Result<Self, String> {
        let fixed = config.fixed.clone();
        let store = Store::of(&fixed.store).map_err(|fault| format!("store: {fault}"))?;
        store.examine().map_err(|fault| format!("store: {fault}"))?;
        let own_keys = OwnKeys::load(&store, fixed.signing, clock::now()).map_err(|fault| format!("store: {fault}"))?;
        let fetch = Fetch::new().map_err(|fault| format!("outgoing TLS: {fault}"))?;
        let metrics = Metrics::new().map_err(|fault| format!("metrics: {fault}"))?;
        let recorder = Recorder::start(&fixed.decision_log, metrics.records_dropped.clone())?;
        let revocations = Revocations::load(&store, clock::now()).map_err(|fault| format!("store: {fault}"))?;
        let throttle = Throttle::load(&store, clock::now()).map_err(|fault| format!("store: {fault}"))?;
        let mut process = [0_u8; 8];
        getrandom::fill(&mut process).map_err(|fault| format!("no randomness: {fault}"))?;
        metrics.loaded(true, &config.version, clock::now().0);
        Ok(Self {
            snapshot: ArcSwap::from_pointee(Snapshot::new(config, None, &metrics)),
            fixed,
            own_keys,
            cache: TokenCache::new(cache::CAPACITY),
            metrics,
            recorder,
            revocations,
            throttle,
            secret_days: DashMap::new(),
            connections: Connections::default(),
            fetch,
            store,
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            reloaded: Notify::new(),
            process: u64::from_be_bytes(process),
        })
    }

    /// The scheme that clients use: that of `public_url`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.fixed.public_url.starts_with("https:") { "https" } else { "http" }
    }
}

/// Serves until a signal ends it. `temporary` is a folder that is to vanish with the process.
///
/// # Errors
/// What keeps it from starting, in words for the operator.
pub fn run(config: Config, gateway_file: &Path, temporary: Option<tempfile::TempDir>) -> Result<(), String> {
    // One TLS provider for the process, chosen before any library does.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shared = Arc::new(Shared::new(config)?);
    lifecycle::count_panics(&shared);
    for address in &shared.fixed.listeners {
        // The proxy library would panic on an address in use; this says which.
        TcpListener::bind(address).map_err(|fault| format!("listeners: {address}: {fault}"))?;
    }
    let bind = |key, address: Option<_>| address.map(|address| operations::bind(key, address)).transpose();
    let operations = bind("metrics", shared.fixed.metrics)?;
    let admin = bind("admin", shared.fixed.admin)?;
    let mut server = Server::new_with_opt_and_conf(None, conf(&shared));
    let resolver = server.add_service(background_service("names", upstream::Resolver::new(shared.clone())));
    server.add_service(background_service("keys", refresh::KeyRefresh::new(shared.clone())));
    server.add_service(background_service("store", revocations::Follow::new(shared.clone())));
    server.add_service(background_service("limits", limits::Teller::new(shared.clone())));
    server.add_service(background_service("reload", reload::Reload::new(shared.clone(), gateway_file)));
    if let Some(listener) = operations {
        server.add_service(background_service("operations", operations::Operations::new(shared.clone(), listener)));
    }
    if let Some(listener) = admin {
        server.add_service(background_service("admin", admin::Admin::new(shared.clone(), listener)));
    }
    let proxy = pingora::proxy::http_proxy(&server.configuration, gateway::Gateway::new(shared.clone()));
    let mut edge = Service::new("edge".to_owned(), Guard::new(proxy, shared.clone()));
    for address in &shared.fixed.listeners {
        edge.add_tcp(&address.to_string());
    }
    edge.threads = Some(workers(&shared.fixed));
    let edge = server.add_service(edge);
    edge.add_dependency(&resolver);
    for address in &shared.fixed.listeners {
        tracing::info!(%address, public_url = %shared.fixed.public_url, "serving");
    }
    server.run(RunArgs { shutdown_signal: Box::new(lifecycle::Signals::new(shared.clone(), temporary)) });
    shared.recorder.flush(FLUSH);
    if let Err(error) = shared.store.settle() {
        tracing::warn!(%error, "the store's log could not be brought into its file; the next start does it");
    }
    Ok(())
}

fn workers(fixed: &Fixed) -> usize {
    match fixed.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}

/// Our own values, never the library's: nothing in a shared temporary folder, no wait without need, one retry.
fn conf(shared: &Shared) -> ServerConf {
    let private = |name: &str| match &shared.fixed.store {
        StoreConfig::Embedded(folder) => Path::new(folder).join(name).to_string_lossy().into_owned(),
        // Nothing of ours is on the disk: where the process stands, as the paths of the library have to be something.
        StoreConfig::Shared(_) => name.to_owned(),
    };
    ServerConf {
        threads: workers(&shared.fixed),
        // Connections stay on their thread: fewer wake-ups and no shared queues.
        work_stealing: false,
        pid_file: private("scopegate.pid"),
        upgrade_sock: private("upgrade.sock"),
        // The drain is ours (lifecycle.rs); the library then stops accepting and waits this long.
        grace_period_seconds: Some(lifecycle::GRACE.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        // Tries, the first included: an idempotent request that met a pooled connection just closed, or any that could not
        // connect, goes to the next server.
        max_retries: 3,
        ..ServerConf::default()
    }
}
