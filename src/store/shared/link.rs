//! The connection to the server: opened, checked and reopened in the background. While there is
//! none, operations fail at once: no request waits for an unreachable server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, RedisResult, ScriptInvocation, TlsCertificates, TlsMode, Value,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::key;
use crate::config::{SharedStore, Topology};
use crate::store::StoreFault;

/// Time to connect, and to receive one answer.
const ANSWER: Duration = Duration::from_millis(500);
/// Pause between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(500);
/// Interval between checks of a connection without faults.
const LOOK: Duration = Duration::from_secs(5);
/// How long the first connection may take.
const FIRST: Duration = Duration::from_secs(5);
/// The schema that this version writes.
const SCHEMA: &str = "1";

/// One connection. Clones share it.
#[derive(Clone)]
pub(super) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    pub(super) async fn script<T: FromRedisValue>(
        &mut self,
        call: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        match self {
            Self::Single(connection) => call.invoke_async(connection).await,
            Self::Cluster(connection) => call.invoke_async(connection).await,
        }
    }

    /// The number of replicas that have acknowledged this connection's writes, after waiting at
    /// most `time`.
    pub(super) async fn wait(&mut self, wanted: u32, time: Duration) -> RedisResult<u32> {
        if wanted == 0 {
            return Ok(0);
        }
        self.ask(
            redis::cmd("WAIT").arg(wanted).arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        )
        .await
    }
}

/// The connections in use, one of them for events.
#[derive(Debug)]
pub(super) struct Links(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    declared: SharedStore,
    now: ArcSwapOption<Connected>,
    /// Why there is no connection.
    fault: Mutex<String>,
    suspect: Notify,
    /// Fewer replicas than a write needs: writes are refused, because they would not be
    /// acknowledged.
    short: AtomicBool,
}

/// The connections of one attempt.
#[derive(Debug)]
struct Connected {
    link: Link,
    /// For writes that wait for replicas, which delay all later commands on it.
    writes: Link,
    news: Link,
    /// The number of the connection: state of the server may differ between two of them.
    generation: u64,
}

impl Links {
    /// Starts the thread, and waits for the first connection.
    pub(super) fn start(declared: &SharedStore) -> Result<(Self, Handle), StoreFault> {
        let name = describe(declared);
        let fault = |cause: String| StoreFault::Shared { server: name.clone(), cause };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|error| fault(error.to_string()))?;
        let handle = runtime.handle().clone();
        let shared = Arc::new(Shared {
            name: name.clone(),
            declared: declared.clone(),
            now: ArcSwapOption::empty(),
            fault: Mutex::new("not connected yet".to_owned()),
            suspect: Notify::new(),
            short: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&shared);
        let (sender, first) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || runtime.block_on(keep(weak, sender)))
            .map_err(|error| fault(error.to_string()))?;
        match first.recv_timeout(FIRST) {
            Ok(Ok(())) => Ok((Self(shared), handle)),
            Ok(Err(cause)) => Err(fault(cause)),
            Err(_) => Err(fault(format!("no answer within {} s", FIRST.as_secs()))),
        }
    }

    /// The current connection.
    pub(super) fn now(&self) -> Option<Link> {
        self.0.now.load().as_ref().map(|connected| connected.link.clone())
    }

    /// The connection for writes that wait for replicas.
    ///
    /// # Errors
    /// There is none, or there are too few replicas: nothing is written.
    pub(super) fn writes(&self) -> Result<Link, String> {
        if self.0.short.load(Ordering::Relaxed) {
            return Err(format!(
                "fewer than {} replicas are connected",
                self.0.declared.wait_replicas
            ));
        }
        let now = self.0.now.load();
        now.as_ref().map(|connected| connected.writes.clone()).ok_or_else(|| self.fault())
    }

    /// Records that too few replicas have acknowledged a write.
    pub(super) fn is_short(&self) {
        self.0.short.store(true, Ordering::Relaxed);
        self.suspect();
    }

    /// Replaces all connections after a fault on the one for events.
    pub(super) fn renew(&self, generation: u64) {
        let current = self.0.now.load_full();
        if current.is_some_and(|connected| connected.generation == generation) {
            self.0.now.store(None);
        }
        self.suspect();
    }

    /// The connection for events, with its number.
    pub(super) fn news(&self) -> Option<(Link, u64)> {
        self.0.now.load().as_ref().map(|connected| (connected.news.clone(), connected.generation))
    }

    /// Why there is no connection.
    pub(super) fn fault(&self) -> String {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests a check of the connection after a fault.
    pub(super) fn suspect(&self) {
        self.0.suspect.notify_one();
    }

    /// The name of the server, without its password.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }
}

/// Maintains the connection until the store is dropped.
async fn keep(shared: Weak<Shared>, first: std::sync::mpsc::Sender<Result<(), String>>) {
    let mut first = Some(first);
    let mut generation = 0;
    let began = std::time::Instant::now();
    while let Some(shared) = shared.upgrade() {
        if let Some(connected) = shared.now.load_full() {
            // A connection without faults is checked too: the server may no longer accept writes.
            let short = shared.short.load(Ordering::Relaxed);
            let _ =
                tokio::time::timeout(if short { AGAIN } else { LOOK }, shared.suspect.notified())
                    .await;
            if shared.now.load().is_none() {
                continue;
            }
            if let Err(fault) = check(&mut connected.link.clone(), &shared).await {
                tracing::warn!(store = %shared.name, %fault, "the connection to the store is given \
                    up");
                *shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
                shared.now.store(None);
            }
            continue;
        }
        generation += 1;
        match connect(&shared.declared, generation).await {
            Ok(connected) => {
                shared.now.store(Some(Arc::new(connected)));
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(()));
                } else {
                    tracing::info!(store = %shared.name, "the store is back");
                }
                // Discards reports about the previous connection.
                let _ = tokio::time::timeout(Duration::ZERO, shared.suspect.notified()).await;
            }
            Err(Trouble { text, lasting }) => {
                // The first attempts have a time limit and report to the waiting caller; later ones
                // do not.
                if (lasting || began.elapsed() + AGAIN > FIRST)
                    && let Some(first) = first.take()
                {
                    let _ = first.send(Err(text));
                    return;
                }
                *shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = text;
                drop(shared);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Why there is no connection, and whether another attempt may help.
struct Trouble {
    text: String,
    lasting: bool,
}

async fn connect(declared: &SharedStore, generation: u64) -> Result<Connected, Trouble> {
    let passing = |error: redis::RedisError| Trouble { text: error.to_string(), lasting: false };
    let in_time = |what| async {
        tokio::time::timeout(2 * ANSWER, what).await.unwrap_or_else(|_| Err(slow()))
    };
    let mut link = in_time(open(declared, ANSWER)).await.map_err(passing)?;
    fit(&mut link).await?;
    let writes = if declared.wait_replicas > 0 {
        in_time(open(declared, ANSWER + super::REPLICAS)).await.map_err(passing)?
    } else {
        link.clone()
    };
    // Reading events blocks until there are some.
    let news = in_time(open(declared, ANSWER + super::events::WAIT)).await.map_err(passing)?;
    Ok(Connected { link, writes, news, generation })
}

fn slow() -> redis::RedisError {
    redis::RedisError::from((redis::ErrorKind::Io, "no connection in time"))
}

async fn open(declared: &SharedStore, answer: Duration) -> RedisResult<Link> {
    let url = declared.url.expose().into_connection_info()?;
    let certificates =
        || declared.ca.clone().map(|ca| TlsCertificates { client_tls: None, root_cert: Some(ca) });
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER))
        .set_response_timeout(Some(answer));
    match &declared.topology {
        Topology::Single => {
            let client = match certificates() {
                Some(certificates) => Client::build_with_tls(url, certificates)?,
                None => Client::open(url)?,
            };
            client.get_multiplexed_async_connection_with_config(&config).await.map(Link::Single)
        }
        Topology::Sentinel { master, nodes, password } => {
            let nodes = nodes.iter().map(|(host, port)| ConnectionAddr::Tcp(host.clone(), *port));
            let mut builder =
                SentinelClientBuilder::new(nodes, master.clone(), SentinelServerType::Master)?
                    .set_client_to_redis_db(url.redis_settings().db());
            if let Some(password) = password {
                builder = builder.set_client_to_sentinel_password(password.expose());
            }
            if let Some(username) = url.redis_settings().username() {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = url.redis_settings().password() {
                builder = builder.set_client_to_redis_password(password);
            }
            if is_tls(&url) {
                builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                if let Some(certificates) = certificates() {
                    builder = builder.set_client_to_redis_certificates(certificates);
                }
            }
            builder.build()?.get_async_connection_with_config(&config).await.map(Link::Single)
        }
        Topology::Cluster { nodes } => {
            let others = nodes.iter().map(|(host, port)| {
                let (host, port) = (host.clone(), *port);
                let addr = if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = url.addr() {
                    ConnectionAddr::TcpTls {
                        host,
                        port,
                        insecure: *insecure,
                        tls_params: tls_params.clone(),
                    }
                } else {
                    ConnectionAddr::Tcp(host, port)
                };
                url.clone().set_addr(addr)
            });
            let mut builder = ClusterClientBuilder::new(std::iter::once(url.clone()).chain(others))
                .connection_timeout(ANSWER)
                .response_timeout(answer)
                .retries(2);
            if let Some(certificates) = certificates() {
                builder = builder.certs(certificates);
            }
            builder.build()?.get_async_connection().await.map(Link::Cluster)
        }
    }
}

fn is_tls(url: &ConnectionInfo) -> bool {
    matches!(url.addr(), ConnectionAddr::TcpTls { .. })
}

/// Whether the server is safe for durable data: it evicts nothing, and its data has our schema.
async fn fit(link: &mut Link) -> Result<(), Trouble> {
    let passing = |error: redis::RedisError| Trouble { text: error.to_string(), lasting: false };
    let lasting = |text: String| Trouble { text, lasting: true };
    let info: Value = link.ask(redis::cmd("INFO").arg("memory")).await.map_err(passing)?;
    let mut texts = Vec::new();
    texts_of(&info, &mut texts);
    let lines = texts.iter().flat_map(|text| text.lines());
    let mut policies = lines.filter_map(|line| line.trim().strip_prefix("maxmemory_policy:"));
    if let Some(policy) = policies.find(|policy| *policy != "noeviction") {
        return Err(lasting(format!(
            "its maxmemory-policy is {policy}: it would throw tokens away when memory is short. \
                Set `maxmemory-policy noeviction`"
        )));
    }
    let mut make = redis::cmd("SET");
    make.arg(key("schema")).arg(SCHEMA).arg("NX");
    let _: Value = link.ask(&make).await.map_err(passing)?;
    let found: Option<String> =
        link.ask(redis::cmd("GET").arg(key("schema"))).await.map_err(passing)?;
    match found.as_deref() {
        Some(SCHEMA) => Ok(()),
        found => Err(lasting(format!(
            "what is in it has the schema {}, this version writes {SCHEMA}",
            found.unwrap_or("none")
        ))),
    }
}

/// Whether the server still accepts writes: a master that has become a replica only answers reads.
async fn check(link: &mut Link, shared: &Shared) -> Result<(), String> {
    let said = |error: redis::RedisError| error.to_string();
    let mut write = redis::cmd("SET");
    write.arg(key("looked")).arg("1").arg("EX").arg(3_600);
    let _: Value = link.ask(&write).await.map_err(said)?;
    let wanted = shared.declared.wait_replicas;
    if wanted > 0 {
        let info: Value = link.ask(redis::cmd("INFO").arg("replication")).await.map_err(said)?;
        let mut texts = Vec::new();
        texts_of(&info, &mut texts);
        let online = texts
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| line.contains("state=online"))
            .count();
        let short = online < wanted as usize;
        if short != shared.short.swap(short, Ordering::Relaxed) {
            tracing::warn!(store = %shared.name, online, wanted, "replicas of the store");
        }
    }
    Ok(())
}

/// The texts of an INFO answer; a cluster returns one per node.
fn texts_of(value: &Value, found: &mut Vec<String>) {
    if let Value::BulkString(bytes) = value {
        found.push(String::from_utf8_lossy(bytes).into_owned());
    } else if let Value::VerbatimString { text, .. } | Value::SimpleString(text) = value {
        found.push(text.clone());
    } else if let Value::Array(values) | Value::Set(values) = value {
        for value in values {
            texts_of(value, found);
        }
    } else if let Value::Map(pairs) = value {
        for (_, value) in pairs {
            texts_of(value, found);
        }
    }
}

/// The server for messages, without the password.
fn describe(declared: &SharedStore) -> String {
    let address = |url: ConnectionInfo| url.addr().to_string();
    let single = || {
        declared.url.expose().into_connection_info().map_or_else(|_| "redis".to_owned(), address)
    };
    match &declared.topology {
        Topology::Single => format!("redis {}", single()),
        Topology::Sentinel { master, .. } => format!("redis {master} (Sentinel)"),
        Topology::Cluster { .. } => format!("redis cluster {}", single()),
    }
}
