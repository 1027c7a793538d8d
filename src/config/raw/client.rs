//! `clients/*.yaml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::gateway::RawGrant;
use super::yes;
use crate::config::format::{Argon2idText, Date, Duration, HttpUrl, Sha256Text};

/// config/clients/*.yaml: OAuth clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClients {
    /// Clients by their `client_id`.
    pub clients: BTreeMap<String, RawClient>,
}

/// An OAuth client.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClient {
    /// Name for people.
    pub name: Option<String>,
    /// Who runs it, for the consent page.
    pub provider_name: Option<String>,
    /// Who answers for it here: a person, a team, an address. For findings, never for decisions.
    pub owner: Option<String>,
    /// Switched off, it gets no token and its tokens are refused.
    #[serde(default = "yes")]
    pub active: bool,
    /// Grants it may use.
    #[serde(default)]
    pub grants: Vec<RawGrant>,
    /// The user that its client-credentials tokens act as.
    pub application_user: Option<String>,
    /// Roles of its own; not besides `application_user`.
    pub roles: Option<Vec<String>>,
    /// Up to two live secrets, so that they can be rotated with overlap.
    #[serde(default)]
    pub secrets: Vec<RawSecret>,
    /// It has no secret.
    #[serde(default)]
    pub public_client: bool,
    /// Auth scopes it holds.
    #[serde(default)]
    pub auth_scopes: Vec<String>,
    /// It reaches only what scopes grant.
    #[serde(default = "yes")]
    pub allow_only_selected_scopes: bool,
    /// APIs outside which it reaches nothing.
    pub limit_authorization: Option<Vec<String>>,
    /// It reaches only what a policy that names it admits.
    #[serde(default)]
    pub enforce_token_restriction: bool,
    /// Form of its access tokens.
    #[serde(default)]
    pub token_format: RawTokenFormat,
    /// Life of its access tokens; the authorization server's by default.
    pub access_token_lifespan: Option<Duration>,
    /// Tokens of these issuers with these client claims are this client.
    #[serde(default)]
    pub external: BTreeMap<String, Vec<String>>,
    /// Where the authorization endpoint may send the user back to.
    pub redirect_urls: Option<Vec<String>>,
    /// Logo on the consent page.
    pub logo_url: Option<HttpUrl>,
    /// External login page of this client.
    pub login_url: Option<HttpUrl>,
    /// Life of its refresh tokens.
    pub refresh_token_lifespan: Option<Duration>,
    /// JWK Set file of its public keys (private_key_jwt, jwt_bearer).
    pub jwks_file: Option<String>,
    /// No code without PKCE. A public client always needs it; of others it is asked unless this
    /// says false.
    pub require_pkce: Option<bool>,
}

/// A client's secret: its digest, never the secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSecret {
    /// SHA-256 of a secret of at least 43 random characters.
    pub sha256: Option<Sha256Text>,
    /// Argon2id of a secret that a person chose.
    pub argon2id: Option<Argon2idText>,
    /// From this day on it is refused.
    pub expires: Option<Date>,
}

/// Form of access tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawTokenFormat {
    /// RFC 9068.
    #[default]
    Jwt,
    /// A random string with a row in the store.
    Opaque,
}
