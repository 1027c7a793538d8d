//! `issuers:` of `gateway.yaml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::format::{Duration, HttpUrl, IssuerText, SecretRef};

/// An issuer whose tokens are accepted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIssuer {
    /// `iss` of its tokens, byte for byte. With `keys: discover` a URL, else any text or URI;
    /// with `tenants` one `{tenant}` is in it.
    pub issuer: IssuerText,
    /// One issuer with many tenants, each with an `iss` of its own.
    pub tenants: Option<RawTenants>,
    /// `aud` of tokens meant for us; one of these.
    pub audience: Option<Vec<String>>,
    /// Accept tokens meant for anybody. Has to be written out.
    #[serde(default)]
    pub any_audience: bool,
    /// Where its keys are.
    pub keys: Option<RawKeys>,
    /// Algorithms it signs with; RS256 and ES256 by default.
    pub algorithms: Option<Vec<RawAlgorithm>>,
    /// Values of `typ` that its tokens may have, `at+jwt` and `JWT` by default; one without `typ`
    /// is a `JWT`.
    #[schemars(length(min = 1, max = 8))]
    pub token_types: Option<Vec<String>>,
    /// Take its ID tokens too, which are made for a client and not for an API. Has to be written
    /// out.
    #[serde(default)]
    pub id_tokens: bool,
    /// Names of its claims.
    #[serde(default)]
    pub claims: RawClaims,
    /// What separates scopes in a text, in the place of the space: one of `,` `;` `|` `+`.
    pub scope_separator: Option<String>,
    /// Its role values and what they are here; nothing unmapped.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// Who a token of no listed client is.
    pub default_client: Option<String>,
    /// Clock difference forgiven, 30s by default, at most 60s.
    pub leeway: Option<Duration>,
    /// PEM file of CAs that its https servers are verified with, besides the system's
    /// (`SSL_CERT_FILE`).
    pub ca: Option<String>,
    /// The proxy on the way to its servers; that of `HTTPS_PROXY` by default, as far as `NO_PROXY`
    /// allows. Where credentials go it is asked to connect, and sees none of them.
    pub proxy: Option<HttpUrl>,
    /// Opaque tokens that begin so are its own; at least three characters.
    #[schemars(length(min = 3, max = 64))]
    pub token_prefix: Option<String>,
    /// Where its opaque tokens are asked about (RFC 7662).
    pub introspection: Option<RawIntrospection>,
}

/// Tenants of an issuer. A subject is one only with its tenant: in limits, revocations, `external`
/// and headers the issuer is `name/tenant`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTenants {
    /// The claim that names the tenant; `tid` at Entra ID.
    #[schemars(length(min = 1, max = 256))]
    pub claim: String,
    /// Those whose tokens are taken, or `any`.
    pub allow: RawAllow,
}

/// Tenants whose tokens are taken.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawAllow {
    /// Any tenant. Has to be written out.
    Any(RawAny),
    /// These.
    OneOf(#[schemars(length(min = 1, max = 10_000))] Vec<String>),
}

/// The word for all tenants.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawAny {
    /// Any tenant.
    Any,
}

/// Where keys are: `discover`, or a place.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawKeys {
    /// The word alone.
    Word(RawDiscover),
    /// A place, and how it is reached.
    Place(RawKeyPlace),
}

/// The word for the issuer's metadata.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawDiscover {
    /// Through the issuer's metadata (RFC 8414, OpenID Connect Discovery).
    Discover,
}

/// Where keys are: exactly one place.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawKeyPlace {
    /// Through the issuer's metadata (RFC 8414, OpenID Connect Discovery).
    pub discover: Option<bool>,
    /// At this URL.
    pub jwks_url: Option<HttpUrl>,
    /// In this file; relative to the file this stands in.
    pub jwks_file: Option<String>,
    /// They are fetched over plain http, where anybody on the way can replace them. Has to be
    /// written out.
    pub plain_http: bool,
}

/// Signature algorithms.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub enum RawAlgorithm {
    /// RSA PKCS#1 v1.5, SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PKCS#1 v1.5, SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSA PKCS#1 v1.5, SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSA PSS, SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSA PSS, SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSA PSS, SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA P-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Names of claims. A name is looked up whole, then by its dots (`realm_access.roles`); one that
/// begins with `/` is a JSON Pointer (RFC 6901). Of several names the first that is present counts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawClaims {
    /// The client, `client_id` by default; `azp` is frequent.
    pub client: Option<RawClaimNames>,
    /// The subject, `sub` by default; `oid` at Entra ID.
    pub subject: Option<RawClaimNames>,
    /// The scopes. Left out, the issuer declares none: its clients have all they hold.
    pub scopes: Option<RawClaimNames>,
    /// The roles.
    pub roles: Option<RawClaimNames>,
}

/// A name of a claim, or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawClaimNames {
    /// One.
    One(#[schemars(length(min = 1, max = 256))] String),
    /// Several: the first that is present counts.
    Several(#[schemars(length(min = 1, max = 8))] Vec<String>),
}

impl RawClaimNames {
    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// Introspection (RFC 7662).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIntrospection {
    /// The endpoint.
    pub url: HttpUrl,
    /// Our client id there.
    pub client_id: String,
    /// Our secret there.
    pub client_secret: SecretRef,
    /// It is asked over plain http, where anybody on the way reads tokens and our secret. Has to be
    /// written out.
    #[serde(default)]
    pub plain_http: bool,
    /// How long an answer is taken for true, 30s by default, at most 300s; never longer than the
    /// token lives.
    pub cache: Option<Duration>,
}
