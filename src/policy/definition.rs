//! The operator's definitions as types: every reference still a name, every text already parsed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::route::Operation;
use super::schedule::Schedule;
use crate::names::{
    ApiName, ClientId, IssuerName, Origin, PolicyName, RoleName, ScopeName, Timestamp,
    UpstreamName, Version,
};
use crate::request::address::Networks;
use crate::request::headers::names_method;
use crate::request::method::MethodSet;
use crate::request::target::{Allowances, QueryAllowances};

/// The body of a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// problem+json (RFC 9457).
    #[default]
    Problem,
    /// `{"error":{"message","detail"},"status":"failure"}`.
    ServiceNow,
}

/// A REST API.
#[derive(Clone, Debug)]
pub struct Api {
    /// Its key.
    pub name: ApiName,
    /// Host, lower case; any when left out.
    pub host: Option<String>,
    /// Path before versions and resources; empty for the root.
    pub base_path: String,
    /// Version segments that may follow the base path.
    pub versions: Vec<Version>,
    /// Version assumed for a path without a version segment.
    pub default_version: Option<Version>,
    /// Path templates with their methods.
    pub resources: Vec<Resource>,
    /// The upstream.
    pub upstream: UpstreamName,
    /// Needs no token.
    pub public: bool,
    /// Answers 503 to everything.
    pub maintenance: bool,
    /// Body of refusals.
    pub error_format: ErrorFormat,
    /// Characters its segments may hold.
    pub allow: Allowances,
    /// Its resource identifier (RFC 8707, RFC 9728): `public_url` with the base path. `None` where
    /// it is not below `public_url`.
    pub resource: Option<String>,
    /// Characters its queries may have raw.
    pub query: QueryAllowances,
    /// Cross-origin requests of browsers.
    pub cors: Option<Cors>,
    /// Whole segments removed from the path before it is forwarded; empty for none.
    pub strip_prefix: String,
    /// Its announced end.
    pub deprecated: Option<Deprecated>,
    /// WebSocket handshakes are forwarded.
    pub websocket: bool,
    /// Handshakes may have their token among the subprotocols.
    pub token_in_protocol: bool,
    /// A header may make a POST a PUT, PATCH or DELETE.
    pub method_override: bool,
    /// Largest body, where it differs from the default.
    pub max_body: Option<u64>,
    /// Its position in the config file.
    pub origin: Origin,
}

/// Cross-origin requests of browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may read answers, as browsers write them; `None` is every origin.
    pub origins: Option<BTreeSet<String>>,
    /// Headers that requests may have, joined.
    pub headers: String,
    /// Headers of answers that a page may read, joined.
    pub expose: String,
    /// How long the answer to a preflight may be kept, seconds.
    pub max_age: u64,
}

impl Cors {
    /// Whether a page of this origin may read answers.
    #[must_use]
    pub fn admits(&self, origin: &str) -> bool {
        self.origins.as_ref().is_none_or(|origins| origins.contains(origin))
    }

    /// Whether requests may have a header that names a method.
    #[must_use]
    pub fn lists_override(&self) -> bool {
        self.headers.split(", ").any(names_method)
    }
}

/// The announced end of an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecated {
    /// Since (RFC 9745).
    pub since: Timestamp,
    /// When it is removed (RFC 8594).
    pub sunset: Option<Timestamp>,
    /// Documentation link.
    pub link: Option<String>,
}

/// A path template of an API.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The template below base path and version, for instance `/table/{name}`.
    pub template: Arc<str>,
    /// Its methods.
    pub methods: MethodSet,
    /// Needs no token.
    pub public: bool,
    /// Its position in the config file.
    pub origin: Origin,
}

/// The operations of a rule; a part that is left out means all.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// The API; `None` is all APIs.
    pub api: Option<ApiName>,
    /// Methods.
    pub methods: Option<MethodSet>,
    /// Versions.
    pub versions: Option<BTreeSet<Version>>,
    /// Resource templates, as the API writes them.
    pub resources: Option<BTreeSet<Arc<str>>>,
}

impl Selector {
    /// Whether it covers all of its API, or of all APIs.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.methods.is_none() && self.versions.is_none() && self.resources.is_none()
    }

    /// Whether it matches an operation of its API.
    #[must_use]
    pub fn narrows_to(&self, operation: &Operation) -> bool {
        self.methods.is_none_or(|methods| methods.contains(operation.method))
            && self.versions.as_ref().is_none_or(|versions| {
                operation.version.as_ref().is_some_and(|own| versions.contains(own))
            })
            && self
                .resources
                .as_ref()
                .is_none_or(|resources| resources.contains(&operation.resource))
    }

    /// Strength on the ladder of decisions.md, gate 1; the larger wins.
    #[must_use]
    pub const fn strength(&self) -> u8 {
        let (method, resource, version) =
            (self.methods.is_some(), self.resources.is_some(), self.versions.is_some());
        match (self.api.is_some(), method, resource, version) {
            (true, true, true, true) => 10,
            (true, true, true, false) => 9,
            (true, false, true, true) => 8,
            (true, false, true, false) => 7,
            (true, true, false, true) => 6,
            (true, true, false, false) => 5,
            (true, false, false, true) => 4,
            (true, false, false, false) => 3,
            (false, true, _, _) => 2,
            (false, false, _, _) => 1,
        }
    }
}

/// Whether a rule decides or is only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Decides.
    #[default]
    Enforce,
    /// Evaluated alongside the deciding rules, counted and logged.
    Shadow,
}

/// Roles a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleRequirement {
    /// Every one.
    All(Vec<RoleName>),
    /// At least one.
    Any(Vec<RoleName>),
}

impl RoleRequirement {
    /// Whether a caller satisfies it; `has` reports the caller's roles.
    pub fn satisfied(&self, has: impl Fn(&RoleName) -> bool) -> bool {
        match self {
            Self::All(roles) => roles.iter().all(has),
            Self::Any(roles) => roles.iter().any(has),
        }
    }
}

/// A profile of a policy: every part named must hold.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Issuers; `self` when left out.
    pub issuers: HashSet<IssuerName>,
    /// Clients; any when left out.
    pub clients: Option<HashSet<ClientId>>,
    /// Includes clients with token restriction without listing them.
    pub restricted_clients: bool,
    /// Networks.
    pub from: Option<Networks>,
    /// Roles.
    pub roles: Option<RoleRequirement>,
    /// Claims with their allowed values.
    pub claims: Vec<(String, Vec<String>)>,
    /// Times.
    pub between: Option<Schedule>,
    /// Client certificates, one of which must have been presented.
    pub certificates: Option<Vec<String>>,
    /// Its position in the config file.
    pub origin: Origin,
}

/// An access policy.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// Its key.
    pub name: PolicyName,
    /// Its operations.
    pub selector: Selector,
    /// Whether it decides.
    pub mode: Mode,
    /// Inactive policies are ignored.
    pub active: bool,
    /// The profiles.
    pub profiles: Vec<Profile>,
    /// Its position in the config file.
    pub origin: Origin,
}

/// An auth scope.
#[derive(Clone, Debug)]
pub struct AuthScope {
    /// Its key.
    pub name: ScopeName,
    /// What it permits, as text.
    pub description: Option<String>,
    /// Inactive scopes grant nothing.
    pub active: bool,
    /// What it grants.
    pub grants: Vec<ScopeGrant>,
    /// Its position in the config file.
    pub origin: Origin,
}

/// One grant of a scope: one API, narrowed.
#[derive(Clone, Debug)]
pub struct ScopeGrant {
    /// Its operations; always of one API.
    pub selector: Selector,
    /// Path parameters with their allowed values.
    pub conditions: Vec<(Arc<str>, Vec<String>)>,
    /// Its position in the config file.
    pub origin: Origin,
}

/// Roles required for operations.
#[derive(Clone, Debug)]
pub struct Acl {
    /// Its operations.
    pub selector: Selector,
    /// The roles.
    pub roles: RoleRequirement,
    /// Whether it decides.
    pub mode: Mode,
    /// Inactive ACLs are ignored.
    pub active: bool,
    /// Its position in the config file.
    pub origin: Origin,
}

/// A rate: requests per period, and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Requests per period.
    pub count: u32,
    /// The period in seconds.
    pub period: u32,
    /// Most requests in a burst.
    pub burst: u32,
}
