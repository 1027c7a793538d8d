//! The running gateway: everything impure, assembled here.
//!
//! Owns sockets, threads and shared state; every judgement is the inner ring's.

// The order of these lines is the order of dependencies: a room uses only rooms above it.
// tests/gateway/architecture.rs reads it.
pub mod process;
pub mod edge;
pub mod tokens;
pub mod limits;
pub mod upstream;
pub mod login;
pub mod state;
pub mod enforce;
pub mod oauth;
pub mod proxy;
pub mod background;
pub mod admin;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;

use crate::config::{Config, Fixed, Listener};
use crate::system::files::Origins;
use crate::telemetry::lines::LineWriter;
use admin::console::Console;
use edge::{Edge, admission};
use process::handover::{Offer, Predecessor};
use process::lifecycle;
use process::sockets::{self, Inherited, Listening};
use process::successor::Program;
use proxy::direct::Requests;
use proxy::http2::Streams;
use proxy::{driver, retry};
use state::Shared;
use state::shadow::Candidate;
use upstream::pool::Pool;

/// How long the last decision records and log lines may take at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// What `serve` was asked for besides its configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// Take over from the gateway that serves with this configuration.
    pub upgrade: bool,
    /// What the configuration was read from.
    pub origins: Origins,
    /// A set of policies that is judged alongside.
    pub candidate: Candidate,
    /// What writes the gateway's own log.
    pub log: Option<LineWriter>,
    /// A folder that is to vanish with the process.
    pub temporary: Option<tempfile::TempDir>,
    /// A value that signs an administrator in, one time, and his name.
    pub sign_in_once: Option<(String, Arc<str>)>,
    /// The proxy library reads every request, those of HTTP/1 too.
    pub library_loop: bool,
}

/// The sockets of all listeners.
struct Sockets {
    edge: Vec<(Listener, Listening)>,
    metrics: Option<TcpListener>,
    admin: Option<TcpListener>,
    offer: Offer,
}

impl Sockets {
    /// Binds what is not inherited. What is inherited and not declared any more is closed.
    fn bind(fixed: &Fixed, mut inherited: Inherited) -> Result<Self, String> {
        let mut offer = Offer::default();
        let each = fixed.listeners.iter().map(|listener| {
            let socket = sockets::bind("listeners", &listener.address, &mut inherited)?;
            offer.add(&listener.address, &socket)?;
            Ok((listener.clone(), socket))
        });
        let edge = each.collect::<Result<_, String>>()?;
        let mut bind = |key: &str, address: SocketAddr| {
            let socket = sockets::bind_tcp(key, address, &mut inherited)?;
            offer.add(&address.into(), &socket)?;
            Ok::<_, String>(socket)
        };
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
    let process = &shared.process;
    lifecycle::count_panics(&shared.metrics);
    // Only now: whoever finds the addresses taken may take the gateway for ready.
    let (predecessor, inherited) = match (options.upgrade, folder) {
        (false, _) => (None, Inherited::new()),
        (true, Some(folder)) => {
            Predecessor::ask(&folder).map(|(process, sockets)| (Some(process), sockets))?
        }
        (true, None) => {
            return Err(
                "--upgrade: with a shared store, `run_folder` says where the socket for it is"
                    .to_owned(),
            );
        }
    };
    let Sockets { edge, metrics, admin, offer } = Sockets::bind(&shared.fixed, inherited)?;
    let _ = process.offer.set(offer);
    let _ = process.program.set(Program::of_this_process(gateway_file, shared.candidate.file()));
    let mut server = Server::new_with_opt_and_conf(None, conf(&shared));
    let resolver = server.add_service(background_service(
        "names",
        background::resolve::Resolver::new(shared.clone()),
    ));
    server.add_service(background_service(
        "health",
        background::health::HealthChecks::new(shared.clone()),
    ));
    let tokens = background_service(
        "credentials",
        background::upstream_tokens::UpstreamTokens::new(shared.clone()),
    );
    // The first ones are got before serving begins: not twice.
    server.add_service(tokens).add_dependency(&resolver);
    server.add_service(background_service(
        "keys",
        background::issuer_keys::KeyRefresh::new(shared.clone()),
    ));
    server.add_service(background_service(
        "store",
        background::store_follower::StoreFollower::new(shared.clone()),
    ));
    server.add_service(background_service(
        "usage",
        background::usage::UsageWriter::new(shared.clone()),
    ));
    server.add_service(background_service(
        "telemetry",
        background::otlp::Exporter::new(shared.clone()),
    ));
    server.add_service(background_service(
        "limits",
        background::limit_sync::LimitSync::new(shared.clone()),
    ));
    server.add_service(background_service(
        "reload",
        background::reload::Reload::new(shared.clone(), gateway_file, options.origins, hangups),
    ));
    if let Some(listener) = metrics {
        let service = background_service(
            "operations",
            admin::probes::Operations::new(shared.clone(), listener),
        );
        // Together with the listeners for requests: on a socket taken over, probes would otherwise
        // read "starting" from us and "ready" from the predecessor.
        server.add_service(service).add_dependency(&resolver);
    }
    if let Some(listener) = admin {
        let once = options.sign_in_once;
        let console = Console::new(shared.clone(), gateway_file.to_owned(), once);
        let console = Arc::new(console);
        server.add_service(background_service("admin", admin::Admin::new(console, listener)));
    }
    let transport =
        TransportConnector::new(Some(ConnectorOptions::from_server_conf(&server.configuration)));
    let threads = workers(&shared.fixed);
    let kept = admission::kept_connections(admission::descriptors());
    let pool = Arc::new(Pool::new(threads, usize::try_from(kept).unwrap_or(usize::MAX)));
    server.add_service(background_service(
        "idle connections",
        background::idle_connections::IdleConnections::new(pool.clone()),
    ));
    let gateway = driver::Gateway::new(shared.clone(), driver::Dial::Library(transport), pool);
    let library = Arc::new(pingora::proxy::http_proxy(&server.configuration, gateway.clone()));
    let streams = Arc::new(Streams::new(gateway.clone(), library.clone()));
    let requests = Requests::new(gateway, library, options.library_loop);
    let edge = Edge::new(shared.edge.clone(), streams, requests, edge, predecessor, threads);
    let edge = server.add_service(edge);
    edge.add_dependency(&resolver);
    let connections = shared.edge.connections.clone();
    let signals =
        lifecycle::Signals::new(process.clone(), options.temporary, move || connections.open());
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    settle_usage(&shared);
    settle_telemetry(&shared);
    settle_store(&shared);
    process.logs.flush(FLUSH);
    Ok(())
}

/// Stores what was counted last; a disk that hangs does not hold up the end.
fn settle_usage(shared: &Arc<Shared>) {
    if !matches!(settle(background::usage::store_usage(shared)), Some(Ok(()))) {
        tracing::warn!("the use of the last seconds could not be stored");
    }
}

/// Exports what was recorded last; a collector that hangs does not hold up the end.
fn settle_telemetry(shared: &Shared) {
    if settle(background::otlp::export_rest(shared)) != Some(true) {
        tracing::warn!("the traces of the last seconds could not be exported");
    }
}

/// What comes of a task at the end, if it ends in time.
fn settle<T>(task: impl Future<Output = T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let settled = runtime.block_on(async { tokio::time::timeout(FLUSH, task).await });
    // The runtime's own threads may still wait for a disk.
    runtime.shutdown_background();
    settled.ok()
}

/// Brings the store's log into its file, on a thread of its own: a disk that hangs does not hold up
/// the end.
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
    tracing::warn!(%cause, "the store's log could not be brought into its file; the next start \
        does it");
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
        // Drain and hand-over are ours (process/lifecycle.rs): once told, the library has nothing
        // to wait for.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        // Tries, the first included. Whether there is another one is ours to say (proxy/retry.rs).
        max_retries: retry::TRIES,
        ..ServerConf::default()
    }
}
