//! `upstreams:` of `gateway.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::format::{Duration, HttpUrl, SecretRef};

/// Servers behind the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// Their URLs: scheme, host and port alone. Requests go to them in turn.
    #[schemars(length(min = 1))]
    pub servers: Vec<HttpUrl>,
    /// TLS to the servers.
    #[schemars(extend("x-not-built" = true))]
    pub tls: Option<RawUpstreamTls>,
    /// Times.
    #[serde(default)]
    pub timeouts: RawTimeouts,
    /// Active health check.
    #[schemars(extend("x-not-built" = true))]
    pub health_check: Option<RawHealthCheck>,
    /// What becomes of the caller's Authorization header.
    #[serde(default)]
    pub authorization: RawAuthorization,
    /// How the upstream learns who calls.
    #[schemars(extend("x-not-built" = true))]
    pub identity: Option<RawIdentity>,
    /// How servers are chosen.
    #[schemars(extend("x-not-built" = true))]
    pub load_balancing: Option<RawLoadBalancing>,
    /// Retries of idempotent requests.
    #[schemars(extend("x-not-built" = true))]
    pub retries: Option<u8>,
    /// Speak HTTP/2 to the servers.
    #[schemars(extend("x-not-built" = true))]
    pub http2: Option<bool>,
}

/// TLS to an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstreamTls {
    /// The name that the certificate must have.
    pub server_name: String,
    /// PEM file of the CAs.
    pub ca: Option<String>,
    /// PEM file of our certificate.
    pub certificate: Option<String>,
    /// PEM file of our key.
    pub key: Option<String>,
}

/// Times of upstream calls.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawTimeouts {
    /// To connect, 1s by default.
    pub connect: Option<Duration>,
    /// From the end of the request to the head of the answer, and between its bytes, 30s by default.
    pub response: Option<Duration>,
    /// A pooled connection is closed after this time unused, 15s by default; shorter than the server's own.
    pub idle: Option<Duration>,
}

/// Active health check.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHealthCheck {
    /// Path that answers 2xx.
    pub path: String,
    /// How often.
    pub every: Duration,
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
    #[schemars(extend("x-not-built" = true))]
    Replace(RawReplace),
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
}

/// How the upstream learns who calls.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawIdentity {
    /// `X-Auth-*` headers.
    Headers,
    /// One signed `X-Auth-Assertion`.
    Assertion,
}

/// How servers are chosen.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawLoadBalancing {
    /// In turn.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastLoad,
    /// By client.
    ConsistentHash,
}
