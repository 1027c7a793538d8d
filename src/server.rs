//! The running gateway: everything impure, assembled here.
//!
//! Owns sockets, threads and shared state; every judgement is the inner ring's.

pub mod admin;
pub mod announce;
pub mod answer;
pub mod authorization;
pub mod bridge;
pub mod cache;
pub mod candidate;
pub mod clock;
pub mod edge;
pub mod exchange;
pub mod gateway;
pub mod guessing;
pub mod identify;
pub mod identity;
pub mod introspection;
pub mod limiter;
pub mod limits;
pub mod lines;
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
pub mod upstream;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use http::HeaderName;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use tokio::sync::Notify;

use crate::config::{Config, Fixed, Listener};
use crate::keys::OwnKeys;
use crate::keys::fetch::Fetch;
use crate::names::{ClientId, Timestamp};
use crate::store::Store;
use cache::TokenCache;
use candidate::Candidate;
use edge::Edge;
use edge::admission::{self, Connections};
use edge::handover::{Offer, Predecessor};
use edge::listen::{self, Inherited};
use edge::successor::Program;
use guessing::Guessing;
use lifecycle::Life;
use lines::LineWriter;
use metrics::Metrics;
use record::Recorder;
use revocations::Revocations;
use snapshot::Snapshot;

/// How long the last decision records and log lines may take at the end.
const FLUSH: Duration = Duration::from_secs(2);

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
    /// The gateway's own log.
    pub log: Option<LineWriter>,
    /// What has been revoked, and who is blocked by command.
    pub revocations: Revocations,
    /// The day on which each secret was last used, as far as this process knows.
    pub secret_days: DashMap<(ClientId, String), Timestamp>,
    /// Wrong attempts to authenticate, and checks that take their turns.
    pub guessing: Arc<Guessing>,
    /// Open connections of clients.
    pub connections: Arc<Connections>,
    /// What asks others.
    pub fetch: Fetch,
    /// The store.
    pub store: Store,
    /// Exchanges under way.
    pub in_flight: AtomicUsize,
    /// How far the process is from its end.
    pub life: Life,
    /// Our sockets, for a successor.
    pub offer: OnceLock<Offer>,
    /// A set of policies that is judged beside.
    pub candidate: Candidate,
    /// How a successor is started.
    pub program: OnceLock<Program>,
    /// Told when the snapshot has changed.
    pub reloaded: Notify,
    /// The header that the id of a request stands in.
    pub request_id: Option<HeaderName>,
    /// Random, the first half of every decision id.
    pub process: u64,
}

impl Shared {
    /// Builds the state over an opened store.
    ///
    /// # Errors
    /// What cannot be had, in words for the operator.
    pub fn new(mut config: Config, candidate: Candidate, log: Option<LineWriter>) -> Result<Self, String> {
        candidate.check(&config.fixed.public_url)?;
        config.keep_claims(&candidate.claims());
        let fixed = config.fixed.clone();
        let store = Store::of(&fixed.store).map_err(|fault| format!("store: {fault}"))?;
        store.examine().map_err(|fault| format!("store: {fault}"))?;
        let own_keys = OwnKeys::load(&store, fixed.signing, clock::now()).map_err(|fault| format!("store: {fault}"))?;
        let fetch = Fetch::new().map_err(|fault| format!("outgoing TLS: {fault}"))?;
        let metrics =
            Metrics::new(log.as_ref().map(LineWriter::dropped)).map_err(|fault| format!("metrics: {fault}"))?;
        let recorder = Recorder::start(&fixed.decision_log, metrics.records_dropped.clone())?;
        let revocations = Revocations::load(&store, clock::now()).map_err(|fault| format!("store: {fault}"))?;
        let guessing = Guessing::start(&store, clock::now())?;
        let (most, most_per_address) =
            admission::affordable(fixed.edge.max_connections, fixed.edge.max_connections_per_address)?;
        let mut process = [0_u8; 8];
        getrandom::fill(&mut process).map_err(|fault| format!("no randomness: {fault}"))?;
        metrics.loaded(true, &config.version, clock::now().0);
        Ok(Self {
            snapshot: ArcSwap::from_pointee(Snapshot::new(config, None, &metrics)?),
            connections: Arc::new(Connections::new(most, most_per_address)),
            own_keys,
            cache: TokenCache::new(cache::CAPACITY),
            metrics,
            recorder,
            log,
            revocations,
            guessing,
            secret_days: DashMap::new(),
            fetch,
            store,
            in_flight: AtomicUsize::new(0),
            life: Life::default(),
            offer: OnceLock::new(),
            candidate,
            program: OnceLock::new(),
            reloaded: Notify::new(),
            request_id: fixed.request_id_header.clone(),
            process: u64::from_be_bytes(process),
            fixed,
        })
    }

    /// Waits until decision records and log lines have been written, at most so long for each.
    pub fn flush_logs(&self, longest: Duration) {
        self.recorder.flush(longest);
        if let Some(log) = &self.log {
            log.flush(longest);
        }
    }

    /// The scheme that clients use: that of `public_url`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.fixed.public_url.starts_with("https:") { "https" } else { "http" }
    }
}

/// What `serve` was asked for beside its configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// Take over from the gateway that serves with this configuration.
    pub upgrade: bool,
    /// A set of policies that is judged beside.
    pub candidate: Candidate,
    /// What writes the gateway's own log.
    pub log: Option<LineWriter>,
    /// A folder that is to vanish with the process.
    pub temporary: Option<tempfile::TempDir>,
}

/// The sockets of all listeners.
struct Sockets {
    edge: Vec<(Listener, TcpListener)>,
    metrics: Option<TcpListener>,
    admin: Option<TcpListener>,
    offer: Offer,
}

impl Sockets {
    /// Binds what is not inherited. What is inherited and not declared any more is closed.
    fn bind(fixed: &Fixed, mut inherited: Inherited) -> Result<Self, String> {
        let mut offer = Offer::default();
        let mut bind = |key: &str, address: SocketAddr| {
            let socket = listen::bind(key, address, &mut inherited)?;
            offer.add(address, &socket)?;
            Ok::<_, String>(socket)
        };
        let each = fixed.listeners.iter().map(|listener| Ok((*listener, bind("listeners", listener.address)?)));
        let edge = each.collect::<Result<_, String>>()?;
        let metrics = fixed.metrics.map(|address| bind("metrics", address)).transpose()?;
        let admin = fixed.admin.map(|address| bind("admin", address)).transpose()?;
        Ok(Self { edge, metrics, admin, offer })
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// What keeps it from starting, in words for the operator.
pub fn run(config: Config, gateway_file: &Path, options: Options) -> Result<(), String> {
    // One TLS provider for the process, chosen before any library does.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let hangups = lifecycle::hear_signals()?;
    let folder = config.fixed.upgrade_folder().map(str::to_owned);
    let shared = Arc::new(Shared::new(config, options.candidate, options.log)?);
    lifecycle::count_panics(&shared);
    // Only now: whoever finds the addresses taken may take the gateway for ready.
    let (predecessor, inherited) = match (options.upgrade, folder) {
        (false, _) => (None, Inherited::new()),
        (true, Some(folder)) => Predecessor::ask(&folder).map(|(process, sockets)| (Some(process), sockets))?,
        (true, None) => {
            return Err("--upgrade: with a shared store, `run_folder` says where the socket for it is".to_owned());
        }
    };
    let Sockets { edge, metrics, admin, offer } = Sockets::bind(&shared.fixed, inherited)?;
    let _ = shared.offer.set(offer);
    let _ = shared.program.set(Program::of_this_process(gateway_file, shared.candidate.file()));
    let mut server = Server::new_with_opt_and_conf(None, conf(&shared));
    let resolver = server.add_service(background_service("names", upstream::resolve::Resolver::new(shared.clone())));
    server.add_service(background_service("health", upstream::health::HealthChecks::new(shared.clone())));
    let tokens = background_service("credentials", upstream::credentials::TokenFetch::new(shared.clone()));
    // The first ones are got before serving begins: not twice.
    server.add_service(tokens).add_dependency(&resolver);
    server.add_service(background_service("keys", refresh::KeyRefresh::new(shared.clone())));
    server.add_service(background_service("store", revocations::Follow::new(shared.clone())));
    server.add_service(background_service("limits", limits::Teller::new(shared.clone())));
    server.add_service(background_service("reload", reload::Reload::new(shared.clone(), gateway_file, hangups)));
    if let Some(listener) = metrics {
        let service = background_service("operations", operations::Operations::new(shared.clone(), listener));
        // With those for requests: on a socket taken over, "starting" would be told beside the predecessor's "ready".
        server.add_service(service).add_dependency(&resolver);
    }
    if let Some(listener) = admin {
        server.add_service(background_service("admin", admin::Admin::new(shared.clone(), listener)));
    }
    let transport = TransportConnector::new(Some(ConnectorOptions::from_server_conf(&server.configuration)));
    let proxy = pingora::proxy::http_proxy(&server.configuration, gateway::Gateway::new(shared.clone(), transport));
    let threads = workers(&shared.fixed);
    let edge = server.add_service(Edge::new(shared.clone(), proxy, edge, predecessor, threads));
    edge.add_dependency(&resolver);
    server.run(RunArgs { shutdown_signal: Box::new(lifecycle::Signals::new(shared.clone(), options.temporary)) });
    settle_store(&shared);
    shared.flush_logs(FLUSH);
    Ok(())
}

/// Brings the store's log into its file, on a thread of its own: a disk that hangs does not hold up the end.
fn settle_store(shared: &Arc<Shared>) {
    let (settler, settled) = std::sync::mpsc::sync_channel(1);
    // The store stays open as long as the thread is at it: closing it would wait for the same disk.
    let ending = shared.clone();
    std::thread::spawn(move || settler.send(ending.store.settle()));
    let cause = match settled.recv_timeout(FLUSH) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk has not answered within {} s", FLUSH.as_secs()),
    };
    tracing::warn!(%cause, "the store's log could not be brought into its file; the next start does it");
}

fn workers(fixed: &Fixed) -> usize {
    match fixed.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}

/// Our own values, never the library's.
fn conf(shared: &Shared) -> ServerConf {
    ServerConf {
        threads: workers(&shared.fixed),
        // Connections stay on their thread: fewer wake-ups and no shared queues.
        work_stealing: false,
        // Drain and hand-over are ours (lifecycle.rs): once told, the library has nothing to wait for.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        // Tries, the first included. Whether there is another one is ours to say (upstream/retry.rs).
        max_retries: upstream::retry::TRIES,
        ..ServerConf::default()
    }
}
