//! `gateway.yaml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::console::{RawAdministrator, RawAuditLog, RawConsole, RawDecisions, RawUsage};
use super::issuer::{RawAlgorithm, RawClaimNames, RawDiscover, RawKeys};
use super::telemetry::RawTelemetry;
use super::{RawIssuer, RawUpstream};
use crate::config::format::{
    Duration, Grace, HostPort, HostText, HttpUrl, Listen, ListenAt, Network, ScopeText, SecretRef,
    Size,
};

/// config/gateway.yaml: listeners, store, issuers, upstreams, and where policies, clients and users
/// stand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGateway {
    /// Our issuer, and the base of every URL we print.
    pub public_url: HttpUrl,
    /// Further host names on which token, revocation, introspection, keys and metadata answer: the
    /// names of the service inside. No URL is made of them.
    #[serde(default)]
    pub hosts: Vec<HostText>,
    /// Where the gateway listens.
    #[schemars(length(min = 1))]
    pub listeners: Vec<RawListener>,
    /// /metrics, /healthz and /readyz, nothing else.
    pub metrics: Option<RawMetrics>,
    /// The admin listener: revocation, and logins of an external page. Acts always need the token.
    pub admin: Option<RawAdmin>,
    /// Who may enter the admin listener besides the holder of its token, by name.
    #[serde(default)]
    pub administrators: BTreeMap<String, RawAdministrator>,
    /// What the console may do.
    pub console: Option<RawConsole>,
    /// Where audit records are exported to; the records themselves are in the store.
    pub audit_log: Option<RawAuditLog>,
    /// The decisions that the console and `explain` can look back on.
    pub decisions: Option<RawDecisions>,
    /// Use per client, API, operation and day.
    pub usage: Option<RawUsage>,
    /// What leaves the gateway about requests; nothing by default.
    pub telemetry: Option<RawTelemetry>,
    /// Proxies whose X-Forwarded-For counts.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// Where keys, grants and tokens are kept.
    pub store: RawStore,
    /// Folder of the socket through which an upgrade is handed over; relative to the working
    /// directory, the embedded store's by default.
    pub run_folder: Option<String>,
    /// A policies file, or a directory of them.
    pub policies: String,
    /// A clients file, or a directory of them.
    pub clients: String,
    /// The users file.
    pub users: Option<String>,
    /// Our own authorization server. Without it no token is issued.
    pub authorization_server: Option<RawAuthorizationServer>,
    /// Issuers whose tokens are accepted besides our own (`self`).
    #[serde(default)]
    pub issuers: BTreeMap<String, RawIssuer>,
    /// The APIs' servers.
    #[serde(default)]
    pub upstreams: BTreeMap<String, RawUpstream>,
    /// Limits at the edge.
    #[serde(default)]
    pub edge: RawEdge,
    /// Where the decision record goes: one JSON line per request.
    #[serde(default)]
    pub decision_log: RawDecisionLog,
    /// Level of the gateway's own log, on standard error.
    #[serde(default)]
    pub log_level: RawLogLevel,
    /// Form of the gateway's own log; text on a terminal and else JSON by default.
    pub log_format: Option<RawLogFormat>,
    /// Threads that serve requests; the number of cores by default.
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<u16>,
    /// How long a gateway cut off from the store goes on serving tokens, 5m by default.
    pub max_revocation_staleness: Option<Duration>,
    /// Read the files again when they change, as on SIGHUP; true by default.
    pub watch_files: Option<bool>,
    /// Run the `tests:` of the policies at load, and refuse what fails them; false by default.
    pub run_tests_at_load: Option<bool>,
}

/// One address to listen on. Plain HTTP is for loopback, or for behind a TLS proxy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawListener {
    /// IP:PORT, or unix:PATH for a host that asks on this machine.
    pub address: ListenAt,
    /// A proxy before it terminates TLS.
    #[serde(default)]
    pub behind_tls: bool,
    /// TLS of the listener. Files are read again when they change.
    pub tls: Option<RawListenerTls>,
    /// HTTP/2 without TLS too (prior knowledge).
    #[serde(default)]
    pub h2c: bool,
    /// Trusted proxies begin with the PROXY protocol, version 1 or 2.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// It forwards nothing: a host proxy, which is one of `trusted_proxies`, asks it what it may
    /// forward.
    pub decide: Option<RawDialect>,
}

/// How a host proxy asks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawDialect {
    /// Envoy's `ext_authz` over gRPC, which is also the Gateway API's external auth.
    EnvoyGrpc,
    /// Envoy's `ext_authz` over HTTP.
    EnvoyHttp,
    /// nginx's `auth_request`.
    Nginx,
    /// Traefik's `ForwardAuth`.
    Traefik,
    /// Caddy's `forward_auth`.
    Caddy,
}

/// TLS of a listener. HTTP/2 and HTTP/1.1 are offered by ALPN.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawListenerTls {
    /// PEM file of the certificate chain; also for clients that name no host.
    pub certificate: String,
    /// PEM file of the private key.
    pub key: String,
    /// Further certificates, chosen by the host that the client names (SNI).
    #[serde(default)]
    pub more: Vec<RawCertificate>,
    /// PEM file of the CAs whose client certificates are verified; none are asked for when left
    /// out.
    pub client_ca: Option<String>,
    /// Whether a client must have a certificate; it must by default where `client_ca` is given.
    pub client_certificate: Option<RawClientCertificate>,
    /// The lowest version of TLS, "1.2" by default.
    #[serde(default)]
    pub min_version: RawTlsVersion,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCertificate {
    /// PEM file of the certificate chain.
    pub certificate: String,
    /// PEM file of the private key.
    pub key: String,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawClientCertificate {
    /// Without one there is no connection.
    Required,
    /// One that is shown is verified; policies can ask for it.
    Optional,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RawTlsVersion {
    /// RFC 5246, with its AEAD suites alone.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// The metrics listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMetrics {
    /// IP:PORT.
    pub address: Listen,
}

/// The admin listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAdmin {
    /// IP:PORT.
    pub address: Listen,
    /// TLS of the listener, which then may be on any address. Files are read again when they
    /// change.
    pub tls: Option<RawListenerTls>,
    /// The bearer token of scripts; it acts as an operator named `token`.
    pub token: SecretRef,
}

/// The store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawStore {
    /// SQLite in a folder of its own.
    Embedded(RawEmbedded),
    /// Redis or Valkey, shared by several gateways.
    Redis(Box<RawRedis>),
}

/// The embedded store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawEmbedded {
    /// The folder; relative to the working directory, because the configuration may be read-only.
    pub path: String,
}

/// A shared store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRedis {
    /// redis:// or rediss:// (TLS) URL with user, password and database.
    pub url: SecretRef,
    /// What private signing keys are encrypted with: the same for all gateways, at least 32
    /// characters.
    pub encryption_key: SecretRef,
    /// The master is the one that Sentinels name; the host of `url` is not used then.
    pub sentinel: Option<RawSentinel>,
    /// The host of `url` is a node of a cluster.
    pub cluster: Option<RawCluster>,
    /// PEM file of the CAs that a rediss:// server is verified with; the system's by default.
    pub ca: Option<String>,
    /// Replicas that must have a write before it is acknowledged; 0 by default.
    #[schemars(range(min = 0, max = 16))]
    pub wait_replicas: Option<u32>,
}

/// Sentinels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSentinel {
    /// Name of the master.
    #[schemars(length(min = 1))]
    pub master: String,
    /// The Sentinels, HOST:PORT.
    #[schemars(length(min = 1))]
    pub nodes: Vec<HostPort>,
    /// Their password.
    pub password: Option<SecretRef>,
}

/// A cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCluster {
    /// Further nodes to find it from, HOST:PORT.
    #[serde(default)]
    pub nodes: Vec<HostPort>,
}

/// Our own authorization server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuthorizationServer {
    /// The grants that are on: the one switch for each.
    pub grants: Vec<RawGrant>,
    /// How tokens are signed.
    #[serde(default)]
    pub signing: RawSigning,
    /// Life of access tokens, 1800s by default.
    pub access_token_lifespan: Option<Duration>,
    /// Life of refresh tokens, 8640000s by default.
    pub refresh_token_lifespan: Option<Duration>,
    /// How long the predecessor of a refresh token gives the same successor again.
    pub refresh_grace: Option<Grace>,
    /// The scope that passes gate 2 everywhere, `useraccount` by default.
    pub master_scope: Option<ScopeText>,
    /// Scopes that are left out of what clients ask for, instead of refused; none by default.
    #[serde(default)]
    pub ignored_scopes: Vec<ScopeText>,
    /// Login by an external page or provider.
    pub login: Option<RawLogin>,
}

/// Login elsewhere: at a page of yours, or at an OpenID provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLogin {
    /// An external login page. It asks the admin listener whom a challenge is about, and tells it
    /// who has signed in.
    pub login_url: Option<HttpUrl>,
    /// An OpenID provider as a second way to sign in, for users that say who they are there.
    pub provider: Option<RawProvider>,
}

/// An OpenID provider. The redirect URI to register there is `public_url` with
/// `/oauth2/login/callback`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawProvider {
    /// Name for people, on the button.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its issuer, byte for byte as in its ID tokens. Its endpoints are found by discovery.
    pub issuer: HttpUrl,
    /// Our client id there.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// Our secret there.
    pub client_secret: SecretRef,
    /// Where its keys are; `discover` by default.
    #[serde(default = "discover")]
    pub keys: RawKeys,
    /// Algorithms it signs ID tokens with; RS256 and ES256 by default.
    pub algorithms: Option<Vec<RawAlgorithm>>,
    /// PEM file of CAs that its servers are verified with, besides the system's.
    pub ca: Option<String>,
    /// The proxy on the way to its servers; that of `HTTPS_PROXY` by default.
    pub proxy: Option<HttpUrl>,
    /// Which of its users are users here; `listed` by default.
    #[serde(default)]
    pub users: RawProviderUsers,
    /// Claim of its ID tokens with the groups of a user; of several names the first that is present
    /// counts. Only with `users: create`.
    pub roles_claim: Option<RawClaimNames>,
    /// Roles by group; other groups give nothing. Only with `roles_claim`.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// Claims that a user needs to be made, each with one of these values. Only with `users:
    /// create`.
    #[serde(default)]
    pub require: BTreeMap<String, Vec<String>>,
    /// Most users that are made, 10000 by default. Only with `users: create`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_users: Option<u32>,
}

/// Which users of the login provider are users here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawProviderUsers {
    /// Those that a user of users.yaml lists under `external`.
    #[default]
    Listed,
    /// And all others: each is made at the first login.
    Create,
}

const fn discover() -> RawKeys {
    RawKeys::Word(RawDiscover::Discover)
}

/// A grant type.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawGrant {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 6749 §4.1 with PKCE.
    AuthorizationCode,
    /// RFC 6749 §6, with rotation.
    RefreshToken,
    /// RFC 6749 §4.3: only for moving old integrations.
    Password,
    /// RFC 7523 §2.1.
    JwtBearer,
}

/// Signing of our tokens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawSigning {
    /// ES256 by default.
    pub algorithm: RawSigningAlgorithm,
    /// How often the signing key changes.
    pub rotate_every: Option<Duration>,
    /// How long a retired key stays published.
    pub keep_inactive: Option<Duration>,
}

/// Algorithms that we sign with.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub enum RawSigningAlgorithm {
    /// ECDSA P-256: fast to sign, supported everywhere.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSA 2048: for verifiers that know nothing else; signing costs twenty-five times as much.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Limits at the edge.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawEdge {
    /// Connections at once, 8192 by default.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Connections at once from one address, and its requests at once over HTTP/2, 1024 by default;
    /// trusted proxies are exempt.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_address: Option<u32>,
    /// Time for a whole request head, 10s by default.
    pub header_timeout: Option<Duration>,
    /// Time a connection may be idle between requests, 60s by default.
    pub keep_alive_timeout: Option<Duration>,
    /// Time without a byte of the request's body, 30s by default.
    pub body_timeout: Option<Duration>,
    /// Time without the client taking a byte of the answer, 30s by default.
    pub write_timeout: Option<Duration>,
    /// Largest head, 32KiB by default.
    pub max_header_size: Option<Size>,
    /// Most header lines, 200 by default.
    #[schemars(range(min = 10, max = 10_000))]
    pub max_header_fields: Option<u32>,
    /// Longest bearer token, 16KiB by default, at most 64KiB; it is a part of the head.
    pub max_token_size: Option<Size>,
    /// Largest target, 8KiB by default.
    pub max_target_size: Option<Size>,
    /// Largest body, 10MiB by default.
    pub max_body_size: Option<Size>,
    /// Time for requests under way when the gateway stops, 25s by default.
    pub drain_timeout: Option<Duration>,
    /// Time after SIGTERM in which new connections are served in any case, so that load balancers
    /// notice; 0s by default.
    pub drain_delay: Option<Grace>,
    /// The header that the id of a request stands in: a trusted proxy's is kept, other requests get
    /// ours. None by default.
    pub request_id_header: Option<String>,
}

/// Where decision records go: a word, or a file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawDecisionLog {
    /// No file.
    Word(RawDecisionStream),
    /// A file.
    File(RawDecisionFile),
}

impl Default for RawDecisionLog {
    fn default() -> Self {
        Self::Word(RawDecisionStream::Stdout)
    }
}

/// Where decision records go that are in no file.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawDecisionStream {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
}

/// The file of decision records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDecisionFile {
    /// Appended to, made with mode 0600; relative to the working directory. It is opened again on
    /// SIGUSR1, on SIGHUP and when it was moved.
    pub file: String,
    /// Size at which the gateway itself moves the file to `FILE.1` and begins a new one, at least
    /// 64KiB. None by default: another program rotates it, or nobody.
    pub max_size: Option<Size>,
    /// How many moved files are kept, 10 by default; only with `max_size`.
    #[schemars(range(min = 1, max = 1000))]
    pub keep: Option<u32>,
}

/// Form of the gateway's own log.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawLogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Levels of the gateway's own log.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawLogLevel {
    /// Only what needs somebody.
    Error,
    /// And what may need somebody.
    Warn,
    /// And what the gateway does.
    #[default]
    Info,
    /// And why. Never shows a token.
    Debug,
}
