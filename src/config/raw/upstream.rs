//! `upstreams:` of `gateway.yaml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::format::{BasePath, Duration, HttpUrl, ScopeText, SecretRef};

/// Servers behind the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// Their URLs: scheme, host and port, and a path that is put before every path; or a mapping
    /// with a weight.
    #[schemars(length(min = 1))]
    pub servers: Vec<RawServer>,
    /// TLS to `https` servers, whose certificates are always verified.
    pub tls: Option<RawUpstreamTls>,
    /// Times.
    #[serde(default)]
    pub timeouts: RawTimeouts,
    /// Active health check.
    pub health_check: Option<RawHealthCheck>,
    /// When a server that fails is left out for a while.
    #[serde(default)]
    pub ejection: RawEjection,
    /// What becomes of the caller's Authorization header.
    #[serde(default)]
    pub authorization: RawAuthorization,
    /// How the upstream learns who calls.
    #[serde(default)]
    pub identity: RawIdentity,
    /// What `Host` says to the servers.
    #[serde(default)]
    pub host: RawHost,
    /// Further headers that no client may say to this upstream, whatever their spelling.
    #[serde(default)]
    pub remove_headers: Vec<String>,
    /// How servers are chosen.
    #[serde(default)]
    pub load_balancing: RawLoadBalancing,
    /// Further tries of an idempotent request on another server, 0 by default.
    #[schemars(range(max = 5))]
    pub retries: Option<u8>,
    /// Requests under way at once, beyond which further ones are refused; 4096 by default.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<u32>,
    /// Speak HTTP/2 to the servers, as gRPC needs.
    #[serde(default)]
    pub http2: bool,
}

/// A server: its URL, or a mapping with more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawServer {
    /// The URL alone.
    Url(HttpUrl),
    /// With a weight.
    Full(RawServerFull),
}

/// A server with a weight.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServerFull {
    /// Scheme, host and port, and a path that is put before every path.
    pub url: HttpUrl,
    /// How many of the requests it gets, relative to the weights of the others; 1 by default.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u16>,
}

/// TLS to an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstreamTls {
    /// The name that the certificate must have; the host of each server's URL by default.
    #[schemars(length(min = 1))]
    pub server_name: Option<String>,
    /// PEM file of the CAs; the system's by default.
    pub ca: Option<String>,
    /// PEM file of our certificate, for servers that ask for one.
    pub certificate: Option<String>,
    /// PEM file of its key.
    pub key: Option<String>,
}

/// Times of upstream calls.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawTimeouts {
    /// To connect, 1s by default.
    pub connect: Option<Duration>,
    /// From the end of the request to the head of the answer, and between its bytes, 30s by
    /// default.
    pub response: Option<Duration>,
    /// A pooled connection is closed after this time unused, 15s by default; shorter than the
    /// server's own.
    pub idle: Option<Duration>,
}

/// Active health check.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHealthCheck {
    /// Path that answers 2xx.
    pub path: BasePath,
    /// How often.
    pub every: Duration,
}

/// When a server that fails is left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawEjection {
    /// After so many failures in a row, 5 by default: no connection, no answer in time, a broken
    /// one, or 502, 503, 504.
    #[schemars(range(min = 1, max = 1000))]
    pub after: Option<u16>,
    /// For how long, 10s by default; longer each time it fails again, up to ten times that.
    pub lasts: Option<Duration>,
}

/// The caller's Authorization header.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawAuthorization {
    /// Removed: the upstream trusts the identity headers.
    #[default]
    Strip,
    /// Forwarded as it came.
    Keep,
    /// Replaced by credentials of the gateway.
    Replace(Box<RawReplace>),
}

/// The gateway's own credentials.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawReplace {
    /// A bearer token.
    Bearer(SecretRef),
    /// `user:password`.
    Basic(SecretRef),
    /// A token that the gateway gets with client credentials.
    ClientCredentials(RawUpstreamClient),
}

/// The gateway as a client of another authorization server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstreamClient {
    /// Token endpoint.
    pub token_url: HttpUrl,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: SecretRef,
    /// Scopes to ask for; none by default.
    #[serde(default)]
    pub scopes: Vec<ScopeText>,
}

/// How the upstream learns who calls: in a form, and by further claims.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawIdentity {
    /// The form alone.
    Form(RawIdentityForm),
    /// With claims.
    Full(RawIdentityFull),
}

impl RawIdentity {
    /// The form.
    #[must_use]
    pub const fn form(&self) -> RawIdentityForm {
        match self {
            Self::Form(form) => *form,
            Self::Full(full) => full.form,
        }
    }
}

impl Default for RawIdentity {
    fn default() -> Self {
        Self::Form(RawIdentityForm::Headers)
    }
}

/// A form with further claims.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIdentityFull {
    /// The form.
    #[serde(default)]
    pub form: RawIdentityForm,
    /// Headers that say further claims of the token, each with the claim; no client can say them.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

/// The form in which an upstream learns who calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawIdentityForm {
    /// `X-Auth-*` headers.
    #[default]
    Headers,
    /// One `X-Auth-Assertion`: a JWT that lives for a minute, is for this upstream by its name, and
    /// verifies with our keys.
    Assertion,
}

/// What `Host` says to the servers.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawHost {
    /// The host of the server's URL.
    #[default]
    Upstream,
    /// The `host` of the API.
    Keep,
}

/// How servers are chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawLoadBalancing {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastLoad,
    /// By client: the same client reaches the same server as long as it is there.
    ConsistentHash,
}
