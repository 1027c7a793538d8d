//! `policies/*.yaml`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::test::RawTest;
use super::yes;
use crate::config::format::{
    BasePath, Date, Duration, HostText, HttpUrl, Network, Rate, Size, VersionText,
};
use crate::request::method::Method;

/// policies/*.yaml: APIs, auth scopes, access policies, ACLs, limits, blocks and tests. A directory
/// is the union of its files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawPolicies {
    /// APIs by name.
    pub apis: BTreeMap<String, RawApi>,
    /// Auth scopes by name.
    pub auth_scopes: BTreeMap<String, RawAuthScope>,
    /// Access policies by name.
    pub access_policies: BTreeMap<String, RawAccessPolicy>,
    /// ACLs.
    pub acls: Vec<RawAcl>,
    /// Rate limits.
    pub limits: Vec<RawLimit>,
    /// Blocks: before all policies.
    pub blocks: Vec<RawBlock>,
    /// Tests of the policies.
    pub tests: Vec<RawTest>,
    /// Findings of the lint in `scopegate check` that are let be.
    pub waivers: Vec<RawWaiver>,
}

/// A REST API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawApi {
    /// Name for people.
    pub name: Option<String>,
    /// Host it answers on; any when left out.
    pub host: Option<HostText>,
    /// Path before versions and resources.
    pub base_path: BasePath,
    /// Optional version segments after the base path.
    #[serde(default)]
    pub versions: Vec<VersionText>,
    /// What a path without a version segment is judged as.
    pub default_version: Option<VersionText>,
    /// Where it is forwarded to.
    pub upstream: String,
    /// Path templates and their methods.
    pub resources: BTreeMap<String, RawResource>,
    /// Needs no token.
    #[serde(default)]
    pub public: bool,
    /// Answers 503 to everything.
    #[serde(default)]
    pub maintenance: bool,
    /// Body of refusals.
    #[serde(default)]
    pub error_format: RawErrorFormat,
    /// Characters that segments may hold.
    #[serde(default)]
    pub path: RawPath,
    /// What queries may hold raw.
    #[serde(default)]
    pub query: RawQuery,
    /// Cross-origin requests of browsers.
    pub cors: Option<RawCors>,
    /// Prefix taken off before forwarding.
    pub strip_prefix: Option<BasePath>,
    /// Announced end.
    pub deprecated: Option<RawDeprecated>,
    /// Forward WebSocket handshakes; the connection lives as long as its request would be
    /// permitted.
    #[serde(default)]
    pub websocket: RawWebSocket,
    /// Take a POST for the PUT, PATCH or DELETE that an X-HTTP-Method-Override header, or one like
    /// it, names; such requests are refused without it.
    #[serde(default)]
    pub method_override: bool,
    /// Largest body of a request; `edge.max_body_size` by default.
    pub max_body_size: Option<Size>,
}

/// Whether WebSocket handshakes are forwarded, and how.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawWebSocket {
    /// Whether they are.
    Switch(bool),
    /// They are, in this way.
    Way(RawWebSocketWay),
}

impl Default for RawWebSocket {
    fn default() -> Self {
        Self::Switch(false)
    }
}

/// How WebSocket handshakes are forwarded.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWebSocketWay {
    /// A browser, which cannot send Authorization with a handshake, may offer the subprotocols
    /// `bearer` and its token; both are taken out.
    #[serde(default)]
    pub token_in_protocol: bool,
}

/// A resource: its methods, or a mapping with more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawResource {
    /// Methods alone.
    Methods(Vec<RawMethod>),
    /// Methods and more.
    Full(RawResourceFull),
}

/// A resource with more than methods.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawResourceFull {
    /// Methods.
    pub methods: Vec<RawMethod>,
    /// Needs no token.
    #[serde(default)]
    pub public: bool,
}

/// A method that a resource can offer.
#[derive(Clone, Copy, Debug)]
pub struct RawMethod(pub Method);

impl<'de> Deserialize<'de> for RawMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Method::parse(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a method that a rule can name"))
        })
    }
}

impl JsonSchema for RawMethod {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("RawMethod")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Method::ALL.iter().map(|method| method.as_str()).collect();
        json_schema!({ "type": "string", "enum": names, "description": "A registered method; HEAD \
            is judged as GET, and no rule can name CONNECT and TRACE." })
    }
}

/// Body of refusals.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawErrorFormat {
    /// problem+json (RFC 9457).
    #[default]
    Problem,
    /// `{"error":{"message","detail"},"status":"failure"}`.
    ServiceNow,
}

/// What segments may hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawPath {
    /// Characters that are plain characters of a segment here.
    pub allow: Vec<RawAllowance>,
}

/// A character that readers differ on.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawAllowance {
    /// `;`
    Semicolon,
    /// `%2F`
    EncodedSlash,
    /// `%25`
    EncodedPercent,
    /// Escapes that are not UTF-8, such as `%E9`; overlong forms and surrogates stay refused.
    #[serde(rename = "non_utf8")]
    NonUtf8,
}

/// What queries may hold raw.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawQuery {
    /// Characters that clients may send as they are.
    pub allow: Vec<RawQueryAllowance>,
}

/// What a query may hold raw although no URI does.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawQueryAllowance {
    /// `"`, `<` and `>`.
    Quotes,
    /// Non-ASCII characters as UTF-8.
    #[serde(rename = "utf8")]
    Utf8,
}

/// Cross-origin requests of browsers (Fetch standard, CORS protocol). Credentials of the browser
/// are never let through.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCors {
    /// Origins that may read answers: scheme, host and port, or "*" for all.
    #[schemars(length(min = 1))]
    pub origins: Vec<String>,
    /// Headers that requests may have in addition to Authorization, Content-Type and those always
    /// allowed.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Headers of answers that a page may read, besides ours.
    #[serde(default)]
    pub expose: Vec<String>,
    /// How long a browser may keep the answer to a preflight, 10m by default.
    pub max_age: Option<Duration>,
}

/// Announced end of an API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDeprecated {
    /// Since.
    pub since: Date,
    /// Until.
    pub sunset: Option<Date>,
    /// Where to read about it.
    pub link: Option<HttpUrl>,
}

/// An auth scope.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuthScope {
    /// What it lets one do, in words.
    pub description: Option<String>,
    /// Switched off, it grants nothing.
    #[serde(default = "yes")]
    pub active: bool,
    /// What it grants.
    #[serde(default)]
    pub grants: Vec<RawScopeGrant>,
}

/// One grant of a scope; what is left out means all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawScopeGrant {
    /// The API.
    pub api: String,
    /// Methods.
    pub methods: Option<Vec<RawMethod>>,
    /// Versions.
    pub versions: Option<Vec<VersionText>>,
    /// Resources, as the API writes them.
    pub resources: Option<Vec<String>>,
    /// Path parameters and their values.
    #[serde(rename = "where", default)]
    pub conditions: BTreeMap<String, Vec<String>>,
}

/// An access policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAccessPolicy {
    /// The API.
    pub api: Option<String>,
    /// About all APIs.
    #[serde(default)]
    pub all_apis: bool,
    /// Methods.
    pub methods: Option<Vec<RawMethod>>,
    /// Versions.
    pub versions: Option<Vec<VersionText>>,
    /// Resources, as the API writes them.
    pub resources: Option<Vec<String>>,
    /// Whether it decides.
    #[serde(default)]
    pub mode: RawMode,
    /// Switched off, it is as if not written.
    #[serde(default = "yes")]
    pub active: bool,
    /// Profiles under which the operations may be called; none lets nobody.
    pub allow: Vec<RawProfile>,
}

/// Whether a rule decides.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawMode {
    /// Decides.
    #[default]
    Enforce,
    /// Only counted and logged.
    Shadow,
}

/// One way in: every part named must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawProfile {
    /// Issuers; `[self]` when left out.
    pub issuers: Option<Vec<String>>,
    /// Clients; any when left out.
    pub clients: Option<Vec<String>>,
    /// Admits clients with token restriction without listing them.
    pub restricted_clients: Option<bool>,
    /// Networks.
    pub from: Option<Vec<Network>>,
    /// Roles of the acting user.
    pub roles: Option<RawRoles>,
    /// Claims and the values one of which they must have.
    pub claims: Option<BTreeMap<String, Vec<String>>>,
    /// Times.
    pub between: Option<RawBetween>,
    /// Client certificates: a DNS name or URI in one, or `sha256:` and its digest.
    pub certificates: Option<Vec<String>>,
}

/// Roles asked for: all, or any, of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawRoles {
    /// Every one.
    All(Vec<String>),
    /// At least one.
    Any(Vec<String>),
}

/// Times.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBetween {
    /// mon … sun.
    pub days: Option<Vec<String>>,
    /// HH:MM-HH:MM; may cross midnight.
    pub hours: Option<String>,
    /// Time zone, UTC by default.
    pub timezone: Option<String>,
}

/// Roles required for operations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAcl {
    /// The API.
    pub api: String,
    /// Methods.
    pub methods: Option<Vec<RawMethod>>,
    /// Versions.
    pub versions: Option<Vec<VersionText>>,
    /// Resources, as the API writes them.
    pub resources: Option<Vec<String>>,
    /// The roles.
    pub roles: RawRoles,
    /// Whether it decides.
    #[serde(default)]
    pub mode: RawMode,
    /// Switched off, it is as if not written.
    #[serde(default = "yes")]
    pub active: bool,
}

/// A limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimit {
    /// The API; all without one. Per address and without one it counts before anything else, our
    /// own endpoints included.
    pub api: Option<String>,
    /// What is counted.
    pub per: RawPer,
    /// How much in what time.
    pub rate: Option<Rate>,
    /// How much at once; as much as in one period when left out.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// How much in a longer time, in windows of that length in UTC.
    pub quota: Option<Rate>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawPer {
    /// Client address.
    Address,
    /// Issuer and client.
    Client,
    /// Issuer and subject.
    User,
    /// Each scope that a request makes use of.
    Scope,
}

/// A block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBlock {
    /// Networks.
    #[serde(default)]
    pub from: Vec<Network>,
    /// Clients.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Users.
    #[serde(default)]
    pub users: Vec<String>,
    /// `jti` values of tokens.
    #[serde(default)]
    pub tokens: Vec<String>,
    /// Why, for the record.
    pub reason: Option<String>,
    /// Until the beginning of this day.
    pub until: Option<Date>,
}

/// A finding of the lint that somebody has looked at and let be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWaiver {
    /// The rule of the lint, for instance `client.broad`.
    pub rule: String,
    /// What the finding is about, as it says: a client, a scope, a policy, an API with an
    /// operation.
    pub on: String,
    /// Why it is let be.
    #[schemars(length(min = 1))]
    pub reason: String,
    /// Until the beginning of this day; then it is told again.
    pub until: Date,
}
