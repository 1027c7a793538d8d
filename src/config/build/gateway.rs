//! gateway.yaml: settings, issuers, upstreams.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::super::document::Value;
use super::super::format::SecretSource;
use super::super::raw::gateway::{
    RawAdmin, RawAuthorizationServer, RawDecisionLog, RawEdge, RawGateway, RawGrant, RawListener, RawLogLevel,
    RawSigningAlgorithm, RawStore,
};
use super::super::raw::issuer::{RawAlgorithm, RawKeys};
use super::super::raw::upstream::RawAuthorization;
use super::super::raw::{RawIssuer, RawUpstream};
use super::super::{DecisionLog, Edge, Fixed, KeyFile, KeySource, Server, Upstream};
use super::{Builder, Entry, Named, Place};
use crate::client::{Client, GrantType};
use crate::names::{ClientId, IssuerName, RoleName, ScopeName, UpstreamName};
use crate::policy::Issuer;
use crate::request::address::Networks;
use crate::request::head::Limits;
use crate::token::IssuerRules;
use crate::token::claims::{Audience, ClaimNames};
use crate::token::jws::Algorithm;
use crate::token::mint::Signing;

/// The longest life of an access token, seconds: a retired key is published for longer, and so is a revocation kept.
const MAX_ACCESS: u64 = 100 * 86_400;
/// Shortest token of the admin listener.
const MIN_ADMIN_TOKEN: usize = 32;
/// How often the signing key changes by default, seconds.
const ROTATE_EVERY: u32 = 90 * 86_400;
/// And how often at most.
const MIN_ROTATE: u32 = 3_600;
/// How long a retired key stays published by default, seconds.
const KEEP_INACTIVE: u32 = 105 * 86_400;
/// How long the predecessor of a refresh token gives the same successor again by default, seconds.
const REFRESH_GRACE: u32 = 10;
/// And at most.
const MAX_REFRESH_GRACE: u64 = 60;
/// The master scope by default.
const MASTER_SCOPE: &str = "useraccount";

/// What gateway.yaml says beside issuers and upstreams.
pub(super) struct Settings {
    pub(super) fixed: Fixed,
    pub(super) trusted_proxies: Networks,
    pub(super) grants: BTreeSet<GrantType>,
    pub(super) master_scope: ScopeName,
    pub(super) lifespans: Lifespans,
    pub(super) refresh_grace: u32,
    pub(super) admin_token: Option<[u8; 32]>,
    pub(super) login_url: Option<String>,
}

/// Lives of tokens, seconds, where a client says nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifespans {
    pub(super) access: u32,
    pub(super) refresh: u32,
}

impl Default for Lifespans {
    fn default() -> Self {
        Self { access: 1_800, refresh: 8_640_000 }
    }
}

pub(super) const fn grant_type(grant: RawGrant) -> GrantType {
    match grant {
        RawGrant::ClientCredentials => GrantType::ClientCredentials,
        RawGrant::AuthorizationCode => GrantType::AuthorizationCode,
        RawGrant::RefreshToken => GrantType::RefreshToken,
        RawGrant::Password => GrantType::Password,
        RawGrant::JwtBearer => GrantType::JwtBearer,
    }
}

/// Whole seconds, at least one.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs().max(1)).unwrap_or(u32::MAX)
}

impl Builder<'_> {
    /// Everything of gateway.yaml but issuers and upstreams, which are read entry by entry.
    pub(super) fn settings(&mut self) -> Option<Settings> {
        let place = Place::root(self.gateway);
        let mut value = self.gateway.value.clone();
        if let Value::Mapping(map) = &mut value {
            map.remove("issuers");
            map.remove("upstreams");
        }
        let raw: RawGateway = self.read(&place, &value)?;
        let (public_url, public_host) = self.public_url(&raw, &place.key("public_url"));
        let listeners = self.listeners(&raw.listeners, &place.key("listeners"));
        if raw.metrics.as_ref().is_some_and(|metrics| listeners.contains(&metrics.address.value)) {
            self.fault(&place.key("metrics").key("address"), "this is a listener's address too", "choose another port");
        }
        let store = match raw.store {
            RawStore::Embedded(embedded) => embedded.path,
            RawStore::Redis(_) => return None,
        };
        let server = raw.authorization_server.as_ref();
        let grants = server.map(|server| server.grants.iter().copied().map(grant_type).collect()).unwrap_or_default();
        let server_place = place.key("authorization_server");
        let signing = self.signing(server, &server_place.key("signing"));
        let mut lifespans = Lifespans::default();
        if let Some(lifespan) = server.and_then(|server| server.access_token_lifespan.as_ref()) {
            self.lifespan(lifespan, &server_place.key("access_token_lifespan"));
            lifespans.access = seconds(lifespan.value);
        }
        if let Some(lifespan) = server.and_then(|server| server.refresh_token_lifespan.as_ref()) {
            self.whole_seconds(lifespan, &server_place.key("refresh_token_lifespan"));
            lifespans.refresh = seconds(lifespan.value);
        }
        let grace = server.and_then(|server| server.refresh_grace.as_ref());
        if let Some(grace) = grace.filter(|grace| grace.value.as_secs() > MAX_REFRESH_GRACE) {
            let help = "it is there for a lost answer and a second tab; write at most 60s";
            self.fault(&server_place.key("refresh_grace"), format!("`{}` is too long", grace.text()), help);
        }
        let admin_token = raw.admin.as_ref().and_then(|admin| self.admin_token(admin, &place.key("admin")));
        let master_scope =
            server.and_then(|server| server.master_scope.as_ref()).map_or(MASTER_SCOPE, |scope| scope.text());
        Some(Settings {
            trusted_proxies: Networks::new(raw.trusted_proxies.iter().map(|network| network.value)),
            grants,
            master_scope: ScopeName::new(master_scope),
            lifespans,
            admin_token,
            login_url: server.and_then(|server| Some(server.login.as_ref()?.login_url.as_ref()?.text().to_owned())),
            refresh_grace: grace.map_or(REFRESH_GRACE, |grace| u32::try_from(grace.value.as_secs()).unwrap_or(0)),
            fixed: Fixed {
                public_url,
                public_host,
                listeners,
                behind_tls: raw.listeners.iter().any(|listener| listener.behind_tls),
                metrics: raw.metrics.as_ref().map(|metrics| metrics.address.value),
                admin: raw.admin.as_ref().map(|admin| admin.address.value),
                store,
                workers: usize::from(raw.workers.unwrap_or(0)),
                edge: edge(&raw.edge),
                decision_log: match raw.decision_log {
                    RawDecisionLog::Stdout => DecisionLog::Stdout,
                    RawDecisionLog::Off => DecisionLog::Off,
                    RawDecisionLog::File(path) => DecisionLog::File(path),
                },
                log_level: match raw.log_level {
                    RawLogLevel::Error => "error",
                    RawLogLevel::Warn => "warn",
                    RawLogLevel::Info => "info",
                    RawLogLevel::Debug => "debug",
                },
                signing,
            },
        })
    }

    /// `expires_in` counts seconds (RFC 6749 §5.1).
    pub(super) fn whole_seconds(&mut self, duration: &crate::config::format::Duration, place: &Place<'_>) {
        if duration.value.subsec_nanos() != 0 {
            self.fault(
                place,
                format!("`{}` is not a whole number of seconds", duration.text()),
                "tokens live for seconds: write 1800s",
            );
        }
    }

    fn signing(&mut self, server: Option<&RawAuthorizationServer>, place: &Place<'_>) -> Signing {
        let raw = server.map(|server| &server.signing);
        let algorithm = match raw.map(|raw| raw.algorithm).unwrap_or_default() {
            RawSigningAlgorithm::Es256 => Algorithm::Es256,
            RawSigningAlgorithm::Rs256 => Algorithm::Rs256,
            RawSigningAlgorithm::EdDsa => Algorithm::EdDsa,
        };
        let rotate_every =
            raw.and_then(|raw| raw.rotate_every.as_ref()).map_or(ROTATE_EVERY, |every| seconds(every.value));
        if rotate_every < MIN_ROTATE {
            let help = "verifiers read our keys every few minutes; write at least 1h";
            self.fault(&place.key("rotate_every"), "the signing key would change more often than verifiers look", help);
        }
        let keep = raw.and_then(|raw| raw.keep_inactive.as_ref()).map_or(KEEP_INACTIVE, |keep| seconds(keep.value));
        Signing { algorithm, rotate_every: i64::from(rotate_every), keep_inactive: i64::from(keep) }
    }

    /// The digest of the admin token. The listener speaks plain HTTP: the token must not leave the machine.
    fn admin_token(&mut self, raw: &RawAdmin, place: &Place<'_>) -> Option<[u8; 32]> {
        use sha2::{Digest, Sha256};
        if !raw.address.value.ip().is_loopback() {
            let help = "listen on 127.0.0.1, and reach it through ssh or a sidecar";
            self.fault(
                &place.key("address"),
                "the admin listener is plain HTTP on an address that is not loopback",
                help,
            );
        }
        let token = self.secret(&raw.token.value, &place.key("token"))?;
        if token.len() < MIN_ADMIN_TOKEN {
            let help = "make one with `openssl rand -hex 32`";
            self.fault(&place.key("token"), "an admin token has 32 characters at least", help);
            return None;
        }
        Some(Sha256::digest(token.as_bytes()).into())
    }

    /// A secret from where the configuration says it is, without the line end that editors leave behind.
    fn secret(&mut self, source: &SecretSource, place: &Place<'_>) -> Option<zeroize::Zeroizing<String>> {
        let found = match source {
            SecretSource::Env(name) => {
                self.lookup.env(name).ok_or_else(|| format!("the environment has no variable `{name}`"))
            }
            SecretSource::File(path) => {
                let file = beside(&self.gateway.file, &path.to_string_lossy());
                let read = self.lookup.file(&file).map_err(|error| format!("{}: {error}", file.display()));
                read.and_then(|bytes| {
                    String::from_utf8(bytes).map_err(|_| format!("{}: this is not UTF-8 text", file.display()))
                })
            }
        };
        match found {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned().into()),
            Err(fault) => {
                self.fault(place, fault, "a secret that is missing is never skipped: put it there");
                None
            }
        }
    }

    /// Whoever signs users in elsewhere tells the admin listener.
    pub(super) fn check_login(&mut self, settings: &Settings, clients: &[Client]) {
        let elsewhere = settings.login_url.is_some() || clients.iter().any(|client| client.login_url.is_some());
        if elsewhere && settings.fixed.admin.is_none() {
            let help = "write `admin: { address: 127.0.0.1:9090, token: file:secrets/admin }`";
            self.fault(
                &Place::root(self.gateway),
                "`login_url` without `admin`: the page could tell nobody who has signed in",
                help,
            );
        }
    }

    /// A retired key has to stay published for as long as a token that it signed may live.
    pub(super) fn check_kept_keys(&mut self, signing: Signing, clients: &[Client]) {
        let longest = clients.iter().max_by_key(|client| client.access_token_lifespan);
        if let Some(client) = longest.filter(|client| i64::from(client.access_token_lifespan) > signing.keep_inactive) {
            let place = Place::root(self.gateway).key("authorization_server").key("signing").key("keep_inactive");
            let message = format!("access tokens of `{}` live longer than a retired key is published", client.id);
            let help = format!("write at least {}s, or shorten access_token_lifespan", client.access_token_lifespan);
            self.fault(&place, message, help);
        }
    }

    /// The life of an access token: whole seconds, and not longer than keys and revocations are kept.
    pub(super) fn lifespan(&mut self, duration: &crate::config::format::Duration, place: &Place<'_>) {
        self.whole_seconds(duration, place);
        if duration.value.as_secs() > MAX_ACCESS {
            self.fault(place, format!("`{}` is longer than 100d", duration.text()), "write at most 100d");
        }
    }

    fn public_url(&mut self, raw: &RawGateway, place: &Place<'_>) -> (String, String) {
        let text = raw.public_url.text();
        let url = &raw.public_url.value;
        if url.path() != "/" || text.ends_with('/') {
            self.fault(place, "public_url has a path", "write scheme, host and port alone, without a slash at the end");
        }
        if url.scheme() != "https" && !is_loopback(url) {
            self.fault(
                place,
                "public_url is plain http on a host that is not loopback",
                "tokens need TLS: write https://…",
            );
        }
        (text.to_owned(), url.host_str().unwrap_or_default().to_ascii_lowercase())
    }

    /// Plain HTTP serves tokens only on loopback or behind a TLS proxy (decisions.md, "Plain HTTP").
    fn listeners(&mut self, raw: &[RawListener], place: &Place<'_>) -> Vec<std::net::SocketAddr> {
        let mut seen = Vec::new();
        for (at, listener) in raw.iter().enumerate() {
            let address = listener.address.value;
            let place = place.at(at).key("address");
            if !address.ip().is_loopback() && !listener.behind_tls {
                self.fault(
                    &place,
                    format!("{address} is plain HTTP on an address that is not loopback"),
                    "say `behind_tls: true` if a TLS proxy stands before it, or listen on 127.0.0.1",
                );
            }
            if seen.contains(&address) {
                self.fault(&place, format!("{address} is listened on twice"), "remove one of the two");
            }
            seen.push(address);
        }
        seen
    }

    #[expect(clippy::type_complexity, reason = "three lists of one walk")]
    pub(super) fn issuers(
        &mut self,
        public_url: Option<&str>,
    ) -> (Vec<Issuer>, Vec<(IssuerName, KeySource)>, Vec<(IssuerName, ClientId)>) {
        let (mut issuers, mut sources, mut defaults) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen: HashMap<String, String> = HashMap::new();
        if let Some(url) = public_url {
            issuers.push(own_issuer(url));
            seen.insert(url.to_owned(), IssuerName::OWN.to_owned());
        }
        for Entry { name, place, value } in self.entries(std::slice::from_ref(self.gateway), "issuers") {
            if name == IssuerName::OWN {
                self.fault_at_key(&place, "`self` is our own authorization server", "choose another name");
                continue;
            }
            let Some(raw) = self.read::<RawIssuer>(&place, value) else { continue };
            if let Some(other) = seen.insert(raw.issuer.text().to_owned(), name.clone()) {
                let message = format!("`{}` is already the issuer `{other}`", raw.issuer.text());
                self.fault(&place.key("issuer"), message, "one entry for each issuer");
            }
            let name = IssuerName::new(&name);
            if let Some(client) = &raw.default_client
                && self.refer(&place.key("default_client"), Named::Client, client)
            {
                defaults.push((name.clone(), ClientId::new(client)));
            }
            let audience = self.audience(&raw, &place);
            if let Some(source) = self.key_source(&raw, &place) {
                sources.push((name.clone(), source));
            }
            issuers.push(self.issuer(&raw, &place, name, audience));
        }
        (issuers, sources, defaults)
    }

    fn issuer(&mut self, raw: &RawIssuer, place: &Place<'_>, name: IssuerName, audience: Audience) -> Issuer {
        let leeway = raw.leeway.as_ref().map_or(30, |leeway| leeway.value.as_secs());
        if leeway > 60 {
            self.fault(
                &place.key("leeway"),
                "a leeway over 60s",
                "clocks that differ by more are broken; write at most 60s",
            );
        }
        let algorithms = match &raw.algorithms {
            None => vec![Algorithm::Rs256, Algorithm::Es256],
            Some(list) if list.is_empty() => {
                self.fault(&place.key("algorithms"), "an empty list", "leave it out for RS256 and ES256");
                Vec::new()
            }
            Some(list) => list.iter().copied().map(algorithm).collect(),
        };
        Issuer {
            rules: IssuerRules {
                name,
                issuer: raw.issuer.text().to_owned(),
                audience,
                algorithms,
                claims: ClaimNames {
                    client: raw.claims.client.clone().unwrap_or_else(|| "client_id".to_owned()),
                    scopes: raw.claims.scopes.clone(),
                    roles: raw.claims.roles.clone(),
                },
                leeway: i64::try_from(leeway.min(60)).unwrap_or(60),
                kept: Vec::new(),
            },
            roles: raw.roles.iter().map(|(value, role)| (value.clone(), RoleName::new(role))).collect(),
        }
    }

    fn audience(&mut self, raw: &RawIssuer, place: &Place<'_>) -> Audience {
        match (&raw.audience, raw.any_audience) {
            (None, true) => Audience::Any,
            (Some(list), false) if !list.is_empty() => Audience::OneOf(list.clone()),
            (Some(_), true) => {
                self.fault(&place.key("any_audience"), "both `audience` and `any_audience: true`", "keep one of them");
                Audience::OneOf(Vec::new())
            }
            (None | Some(_), _) => {
                let help = "write `audience: [https://api.example.com]`; to accept tokens meant for anybody, `any_audience: true`";
                self.fault_at_key(
                    place,
                    "the issuer has no `audience`: tokens meant for others would be accepted",
                    help,
                );
                Audience::OneOf(Vec::new())
            }
        }
    }

    fn key_source(&mut self, raw: &RawIssuer, place: &Place<'_>) -> Option<KeySource> {
        let place_keys = place.key("keys");
        let (url, source) = match &raw.keys {
            None => {
                self.fault_at_key(
                    place,
                    "the issuer has no `keys`",
                    "write `keys: discover`, or { jwks_url: … }, or { jwks_file: … }",
                );
                return None;
            }
            Some(RawKeys::JwksFile(path)) => return self.key_file(path, &place_keys),
            Some(RawKeys::Discover) => {
                (&raw.issuer.value, KeySource::Discover { issuer: raw.issuer.text().to_owned() })
            }
            Some(RawKeys::JwksUrl(url)) => (&url.value, KeySource::Url(url.text().to_owned())),
        };
        if url.scheme() != "https" && !is_loopback(url) {
            self.fault(&place_keys, "keys over plain http could be replaced on the way", "write an https URL");
            return None;
        }
        Some(source)
    }

    fn key_file(&mut self, path: &str, place: &Place<'_>) -> Option<KeySource> {
        let file = beside(&self.gateway.file, path);
        let place = place.key("jwks_file");
        match self.lookup.file(&file) {
            Err(error) => {
                self.fault(
                    &place,
                    format!("{}: {error}", file.display()),
                    "paths are relative to the file they stand in",
                );
                None
            }
            Ok(contents) => {
                if let Err(fault) = crate::token::KeySet::parse(&contents) {
                    self.fault(
                        &place,
                        format!("{}: {fault}", file.display()),
                        "a JWK Set is {\"keys\": [ … ]} with public keys",
                    );
                }
                Some(KeySource::File(KeyFile { path: file.display().to_string(), contents }))
            }
        }
    }

    pub(super) fn upstreams(&mut self) -> Vec<Upstream> {
        let mut upstreams = Vec::new();
        for Entry { name, place, value } in self.entries(std::slice::from_ref(self.gateway), "upstreams") {
            let Some(raw) = self.read::<RawUpstream>(&place, value) else { continue };
            let servers = self.servers(&raw, &place.key("servers"));
            let time = |duration: &Option<crate::config::format::Duration>, default| {
                duration.as_ref().map_or(Duration::from_secs(default), |duration| duration.value)
            };
            upstreams.push(Upstream {
                name: UpstreamName::new(&name),
                servers,
                connect: time(&raw.timeouts.connect, 1),
                response: time(&raw.timeouts.response, 30),
                idle: time(&raw.timeouts.idle, 15),
                keep_authorization: matches!(raw.authorization, RawAuthorization::Keep),
            });
        }
        upstreams
    }

    fn servers(&mut self, raw: &RawUpstream, place: &Place<'_>) -> Vec<Server> {
        let mut servers = Vec::new();
        for (at, server) in raw.servers.iter().enumerate() {
            let (url, place) = (&server.value, place.at(at));
            if url.scheme() == "https" {
                let help = "leave https servers out for now; see docs/configuration.md";
                self.fault(&place, "TLS to upstreams is documented and not built yet", help);
            }
            if url.path() != "/" {
                self.fault(&place, "a server has scheme, host and port alone", "paths belong to the API's `base_path`");
            }
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            servers.push(Server { host, port: url.port_or_known_default().unwrap_or(80) });
        }
        servers
    }
}

/// Our own authorization server as an issuer: RFC 9068, no leeway on expiry because the clock is ours.
fn own_issuer(public_url: &str) -> Issuer {
    Issuer {
        rules: IssuerRules {
            name: IssuerName::new(IssuerName::OWN),
            issuer: public_url.to_owned(),
            audience: Audience::OneOf(vec![public_url.to_owned()]),
            algorithms: vec![Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256],
            claims: ClaimNames { client: "client_id".to_owned(), scopes: Some("scope".to_owned()), roles: None },
            leeway: 0,
            kept: Vec::new(),
        },
        roles: HashMap::new(),
    }
}

/// A path relative to the file it stands in.
pub(super) fn beside(file: &str, path: &str) -> std::path::PathBuf {
    std::path::Path::new(file).parent().unwrap_or_else(|| std::path::Path::new("")).join(path)
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

const fn algorithm(raw: RawAlgorithm) -> Algorithm {
    match raw {
        RawAlgorithm::Rs256 => Algorithm::Rs256,
        RawAlgorithm::Rs384 => Algorithm::Rs384,
        RawAlgorithm::Rs512 => Algorithm::Rs512,
        RawAlgorithm::Ps256 => Algorithm::Ps256,
        RawAlgorithm::Ps384 => Algorithm::Ps384,
        RawAlgorithm::Ps512 => Algorithm::Ps512,
        RawAlgorithm::Es256 => Algorithm::Es256,
        RawAlgorithm::Es384 => Algorithm::Es384,
        RawAlgorithm::EdDsa => Algorithm::EdDsa,
    }
}

fn edge(raw: &RawEdge) -> Edge {
    let default = Edge::default();
    let time = |duration: &Option<crate::config::format::Duration>, default: Duration| {
        duration.as_ref().map_or(default, |duration| duration.value)
    };
    let count =
        |count: Option<u32>, default: usize| count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default);
    let size = |size: &Option<crate::config::format::Size>, default: usize| {
        size.as_ref().and_then(|size| usize::try_from(size.value).ok()).unwrap_or(default)
    };
    Edge {
        max_connections: count(raw.max_connections, default.max_connections),
        max_connections_per_address: count(raw.max_connections_per_address, default.max_connections_per_address),
        header_timeout: time(&raw.header_timeout, default.header_timeout),
        keep_alive_timeout: time(&raw.keep_alive_timeout, default.keep_alive_timeout),
        body_timeout: time(&raw.body_timeout, default.body_timeout),
        write_timeout: time(&raw.write_timeout, default.write_timeout),
        drain_timeout: time(&raw.drain_timeout, default.drain_timeout),
        limits: Limits {
            head_bytes: size(&raw.max_header_size, default.limits.head_bytes),
            target_bytes: size(&raw.max_target_size, default.limits.target_bytes),
            body_bytes: raw.max_body_size.as_ref().map_or(default.limits.body_bytes, |size| size.value),
            ..default.limits
        },
    }
}
