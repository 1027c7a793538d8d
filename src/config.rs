//! Configuration from text: files in, one compiled [`Config`] out, or every fault with its place.
//!
//! Owns the vocabulary of the YAML and its schema. Pure: files' texts, the environment and the time
//! are arguments.

mod build;
pub mod console;
pub mod document;
pub mod fault;
pub mod format;
mod listen;
pub mod raw;
pub mod schema;
pub mod shape;
pub mod telemetry;
pub mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::client::GrantType;
use crate::client::made::Creation;
use crate::names::{IssuerName, Origin, Timestamp, UpstreamName};
use crate::policy::Rules;
use crate::policy::sample::Test;
use crate::request::address::Networks;
use crate::request::head::Limits;
use crate::request::original::Dialect;
use crate::token::jws::Algorithm;
use crate::token::mint::Signing;
use document::Document;
pub use fault::Fault;
pub use listen::ListenAddress;
pub use shape::Lookup;

/// One file as read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name for messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// All files of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// gateway.yaml.
    pub gateway: Option<SourceFile>,
    /// The policies directory.
    pub policies: Vec<SourceFile>,
    /// The clients directory.
    pub clients: Vec<SourceFile>,
    /// The users file.
    pub users: Vec<SourceFile>,
}

impl Sources {
    /// The text of a file, for a fault's snippet.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let files =
            self.gateway.iter().chain(&self.policies).chain(&self.clients).chain(&self.users);
        files.into_iter().find(|file| file.name == name).map(|file| file.text.as_str())
    }
}

/// Where gateway.yaml says that the other files stand, relative to itself. Read leniently: its own
/// faults come later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// `policies`.
    pub policies: Option<String>,
    /// `clients`.
    pub clients: Option<String>,
    /// `users`.
    pub users: Option<String>,
}

/// Reads the locations.
#[must_use]
pub fn locations(gateway: &SourceFile, lookup: &dyn Lookup) -> Locations {
    let Ok(document) = Document::parse(&gateway.name, &gateway.text) else {
        return Locations::default();
    };
    let text = |key: &str| {
        let text = document.value.get(key)?.as_str()?;
        match text.strip_prefix("env:") {
            None => Some(text.to_owned()),
            Some(reference) => {
                let (name, default) = reference
                    .split_once(":-")
                    .map_or((reference, None), |(name, default)| (name, Some(default)));
                lookup.env(name).or_else(|| default.map(str::to_owned))
            }
        }
    };
    Locations { policies: text("policies"), clients: text("clients"), users: text("users") }
}

/// A whole configuration, ready to serve.
#[derive(Debug)]
pub struct Config {
    /// What needs a restart or an upgrade to change.
    pub fixed: Fixed,
    /// Everything decisions look at.
    pub rules: Arc<Rules>,
    /// Where the keys of other issuers are.
    pub key_sources: Vec<(IssuerName, KeySource)>,
    /// Issuers that are asked about their opaque tokens.
    pub introspections: Vec<(IssuerName, Introspection)>,
    /// Further hosts on which our machine-facing endpoints answer.
    pub hosts: BTreeSet<String>,
    /// Servers, by name.
    pub upstreams: Vec<Upstream>,
    /// TLS of each listener, in their order.
    pub tls: Vec<Option<tls::ListenerTls>>,
    /// TLS of the admin listener.
    pub admin_tls: Option<tls::ListenerTls>,
    /// Proxies whose X-Forwarded-For and PROXY protocol count.
    pub trusted_proxies: Networks,
    /// Grants that are on.
    pub grants: BTreeSet<GrantType>,
    /// How long the predecessor of a refresh token gives the same successor again, seconds; 0 is
    /// never.
    pub refresh_grace: u32,
    /// SHA-256 of the token of the admin listener.
    pub admin_token: Option<[u8; 32]>,
    /// The console.
    pub console: console::Console,
    /// The collector of traces and decision records.
    pub otlp: Option<telemetry::Otlp>,
    /// Tests of the policies.
    pub tests: Vec<Test>,
    /// What of the lint was looked at and let be.
    pub waivers: Vec<Waiver>,
    /// gateway.yaml, as the operator named it.
    pub gateway_file: Arc<str>,
    /// A load whose tests fail is refused.
    pub run_tests_at_load: bool,
    /// Who signs users in besides our own page.
    pub login: Login,
    /// How long tokens are served while the store does not say what was revoked elsewhere.
    pub max_revocation_staleness: Duration,
    /// First twelve hex digits of the SHA-256 over all files: which set decided, in the record.
    pub version: Arc<str>,
}

impl Config {
    /// Has facts keep claims that policies besides these look at.
    pub fn keep_claims(&mut self, names: &[String]) {
        // Nobody else has the rules before they are in force.
        if let Some(rules) = Arc::get_mut(&mut self.rules) {
            rules.keep_claims(names);
        }
    }
}

/// A finding of the lint that somebody has looked at and let be, for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    /// The rule.
    pub rule: String,
    /// What it is about.
    pub on: String,
    /// Why it is let be.
    pub reason: String,
    /// The end.
    pub until: Timestamp,
    /// Where it stands.
    pub origin: Origin,
}

/// Who signs users in besides our own page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The external sign-in page of clients that name none.
    pub page: Option<String>,
    /// An OpenID provider, for users that say who they are there.
    pub provider: Option<Provider>,
}

impl Login {
    /// The issuer of users that are made at login, and how they are made.
    #[must_use]
    pub fn creation(&self) -> Option<(String, Creation)> {
        let provider = self.provider.as_ref()?;
        Some((provider.issuer.clone(), provider.creation.clone()?))
    }
}

/// An OpenID provider (OpenID Connect Core §1.2) and what we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Name for people.
    pub name: String,
    /// Its issuer.
    pub issuer: String,
    /// Our client id.
    pub client_id: String,
    /// Our secret.
    pub client_secret: Secret,
    /// Algorithms of its ID tokens.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub keys: KeySource,
    /// How its servers are reached.
    pub outbound: Outbound,
    /// How its users become users here, if they do without being listed.
    pub creation: Option<Creation>,
}

/// Where an issuer is asked about its tokens (RFC 7662), and what we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// The endpoint.
    pub url: String,
    /// Our client id.
    pub client_id: String,
    /// Our secret.
    pub client_secret: Secret,
    /// How long an answer is taken for true.
    pub cache: Duration,
    /// How it is reached.
    pub outbound: Outbound,
}

/// How a server of others is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// CAs (DER) that its certificate is verified with, besides the system's.
    pub ca: Option<Vec<Vec<u8>>>,
    /// The proxy; that of the environment without.
    pub proxy: Option<String>,
}

/// A secret that we present to others, read from where the configuration says it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned().into())
    }

    /// The secret, to be presented or digested and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Settings that a reload cannot change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Our issuer, as written.
    pub public_url: String,
    /// Its host, lower case: where our own endpoints answer.
    pub public_host: String,
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// Metrics address.
    pub metrics: Option<SocketAddr>,
    /// Admin address.
    pub admin: Option<SocketAddr>,
    /// The admin listener speaks TLS.
    pub admin_tls: bool,
    /// Where keys, grants and tokens are kept.
    pub store: StoreConfig,
    /// Folder of the socket that an upgrade goes through, where one is declared.
    pub run_folder: Option<String>,
    /// Serving threads; 0 is the number of cores.
    pub workers: usize,
    /// Edge limits.
    pub edge: Edge,
    /// The header that the id of a request stands in.
    pub request_id_header: Option<http::HeaderName>,
    /// Where decision records go.
    pub decision_log: DecisionLog,
    /// Level of the gateway's own log.
    pub log_level: &'static str,
    /// Form of the gateway's own log; `None` is text on a terminal and else JSON.
    pub log_format: Option<LogFormat>,
    /// How our tokens are signed.
    pub signing: Signing,
    /// The files are read again when they change.
    pub watch_files: bool,
}

/// Where keys, grants and tokens are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In a folder.
    Embedded(String),
    /// In Redis or Valkey, for several gateways.
    Shared(SharedStore),
}

/// A shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStore {
    /// `redis://` or `rediss://` with user, password and database.
    pub url: Secret,
    /// What private signing keys are encrypted with.
    pub encryption_key: Secret,
    /// One server, or how several stand together.
    pub topology: Topology,
    /// PEM of the CAs that it is verified with; the system's without.
    pub ca: Option<Vec<u8>>,
    /// Replicas that must have a write before it is acknowledged.
    pub wait_replicas: u32,
}

/// How servers of a shared store stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// A master that Sentinels name.
    Sentinel {
        /// The name of the master.
        master: String,
        /// The Sentinels: host and port.
        nodes: Vec<(String, u16)>,
        /// Their password.
        password: Option<Secret>,
    },
    /// A cluster, found from any of its nodes.
    Cluster {
        /// Nodes besides the one of the URL: host and port.
        nodes: Vec<(String, u16)>,
    },
}

impl Fixed {
    /// Folder of the socket that an upgrade goes through: the declared one, or the embedded
    /// store's.
    #[must_use]
    pub fn upgrade_folder(&self) -> Option<&str> {
        match (&self.run_folder, &self.store) {
            (Some(folder), _) | (None, StoreConfig::Embedded(folder)) => Some(folder),
            (None, StoreConfig::Shared(_)) => None,
        }
    }

    /// Every address that something is listened on.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        let side = [self.metrics, self.admin].into_iter().flatten().map(ListenAddress::Tcp);
        self.listeners.iter().map(|listener| listener.address.clone()).chain(side).collect()
    }

    /// Names of the settings that differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("public_url", self.public_url == other.public_url),
            ("listeners", self.listeners == other.listeners),
            ("metrics", self.metrics == other.metrics),
            ("admin", (self.admin, self.admin_tls) == (other.admin, other.admin_tls)),
            ("store", self.store == other.store),
            ("run_folder", self.run_folder == other.run_folder),
            ("workers", self.workers == other.workers),
            ("edge", self.edge == other.edge && self.request_id_header == other.request_id_header),
            ("decision_log", self.decision_log == other.decision_log),
            ("watch_files", self.watch_files == other.watch_files),
            ("log_level", self.log_level == other.log_level),
            ("log_format", self.log_format == other.log_format),
            ("authorization_server.signing", self.signing == other.signing),
        ];
        pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address.
    pub address: ListenAddress,
    /// A TLS proxy stands before it.
    pub behind_tls: bool,
    /// It speaks TLS.
    pub tls: bool,
    /// It speaks HTTP/2 without TLS too.
    pub h2c: bool,
    /// Trusted proxies begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// It does not forward: a host proxy asks it, in this dialect, what it may forward.
    pub decide: Option<Dialect>,
}

impl Listener {
    /// One for those who run the gateway: HTTP/1.
    #[must_use]
    pub const fn side(address: SocketAddr, tls: bool) -> Self {
        let address = ListenAddress::Tcp(address);
        Self { address, behind_tls: true, tls, h2c: false, proxy_protocol: false, decide: None }
    }
}

/// Edge limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_address: usize,
    /// Time for a whole head.
    pub header_timeout: Duration,
    /// Idle time between requests.
    pub keep_alive_timeout: Duration,
    /// Time without a byte of the body.
    pub body_timeout: Duration,
    /// Time without a byte taken of the answer.
    pub write_timeout: Duration,
    /// Time for requests under way at the end.
    pub drain_timeout: Duration,
    /// Time that new connections are served at the end, at least.
    pub drain_delay: Duration,
    /// Bounds of a head and a body.
    pub limits: Limits,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            max_connections: 8_192,
            max_connections_per_address: 1_024,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
            drain_delay: Duration::ZERO,
            limits: Limits::default(),
        }
    }
}

/// Where decision records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecisionLog {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to a file.
    File {
        /// Its path, relative to the working directory.
        path: String,
        /// When the gateway itself begins another one.
        rotation: Option<Rotation>,
    },
}

/// When a log file is moved, and how many moved ones stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Largest size, in bytes.
    pub max_bytes: u64,
    /// Moved files that are kept.
    pub keep: u32,
}

/// Form of the gateway's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In its metadata.
    Discover {
        /// The issuer, whose metadata must name exactly it.
        issuer: String,
        /// Its metadata may name keys on other hosts. So for a login provider, whose metadata is
        /// trusted with our secret too.
        any_host: bool,
        /// How its servers are reached.
        outbound: Outbound,
    },
    /// At a URL.
    Url {
        /// The URL.
        url: String,
        /// How its server is reached.
        outbound: Outbound,
    },
    /// In a file, already read.
    File(KeyFile),
}

/// The way to nowhere: a file needs none.
static NO_OUTBOUND: Outbound = Outbound { ca: None, proxy: None };

impl KeySource {
    /// Whether they are in a file.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// How the servers are reached that they are fetched from.
    #[must_use]
    pub const fn outbound(&self) -> &Outbound {
        match self {
            Self::Discover { outbound, .. } | Self::Url { outbound, .. } => outbound,
            Self::File(_) => &NO_OUTBOUND,
        }
    }
}

/// A key set read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Its path, for messages.
    pub path: String,
    /// Its contents.
    pub contents: Vec<u8>,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its key.
    pub name: UpstreamName,
    /// Its servers.
    pub servers: Vec<Server>,
    /// TLS to those that speak it.
    pub tls: tls::UpstreamTls,
    /// HTTP/2 is spoken to them.
    pub http2: bool,
    /// Time to connect.
    pub connect: Duration,
    /// Time to answer, and between bytes.
    pub response: Duration,
    /// Idle time of pooled connections.
    pub idle: Duration,
    /// How one is chosen.
    pub balancing: Balancing,
    /// How they are asked for their health.
    pub health: Option<HealthCheck>,
    /// Failures in a row after which one is left out.
    pub eject_after: u32,
    /// For how long at first.
    pub eject_for: Duration,
    /// Further tries of an idempotent request.
    pub retries: u8,
    /// Requests under way at most.
    pub max_in_flight: usize,
    /// What becomes of the caller's Authorization header.
    pub authorization: UpstreamAuthorization,
    /// Who calls is said in one signed assertion.
    pub assertion: bool,
    /// Headers that say further claims, each with the name of the claim.
    pub claims: Vec<(http::HeaderName, String)>,
    /// Further headers that no client may say.
    pub removed: Vec<http::HeaderName>,
    /// The servers are called by the host of the API, and not by their own.
    pub keeps_host: bool,
}

impl Upstream {
    /// What an API on it asks for that a host which only asks the gateway cannot hold: the keys.
    #[must_use]
    pub fn unheld_by_hosts(&self, api: &crate::policy::definition::Api) -> Vec<&'static str> {
        let replaces = !matches!(
            self.authorization,
            UpstreamAuthorization::Strip | UpstreamAuthorization::Keep
        );
        let has = [
            (!api.strip_prefix.is_empty(), "`strip_prefix`"),
            (api.websocket, "`websocket`"),
            (api.cors.is_some(), "`cors`"),
            (api.max_body.is_some(), "`max_body_size`"),
            (api.method_override, "`method_override`"),
            (replaces, "`authorization: replace`"),
            (self.servers.iter().any(|server| !server.base.is_empty()), "a path of a server"),
        ];
        has.iter().filter(|(is_there, _)| *is_there).map(|(_, key)| *key).collect()
    }
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// It speaks TLS.
    pub tls: bool,
    /// Its part of the requests, relative to the others'.
    pub weight: u32,
    /// What is put before every path: empty, or a slash and segments.
    pub base: String,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// In turn, as often as their weights say.
    RoundRobin,
    /// The one with the fewest requests under way for its weight.
    LeastLoad,
    /// By the caller.
    ConsistentHash,
}

/// How servers are asked for their health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is fetched.
    pub path: String,
    /// How often.
    pub every: Duration,
}

/// What becomes of the caller's Authorization header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAuthorization {
    /// Removed.
    Strip,
    /// Forwarded.
    Keep,
    /// This in its place.
    Value(Secret),
    /// A token of ours in its place.
    ClientCredentials(UpstreamClient),
}

/// The gateway as a client of another authorization server (RFC 6749 §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamClient {
    /// The token endpoint.
    pub token_url: String,
    /// Our id there.
    pub client_id: String,
    /// Our secret there.
    pub client_secret: Secret,
    /// Scopes, separated by spaces.
    pub scope: String,
}

/// Reads a configuration. `now` tells expired secrets from live ones.
///
/// # Errors
/// Every fault of every file, in the order of files, lines and columns.
pub fn load(sources: &Sources, lookup: &dyn Lookup, now: Timestamp) -> Result<Config, Vec<Fault>> {
    build::load(sources, lookup, now)
}
