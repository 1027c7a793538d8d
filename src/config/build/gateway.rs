//! gateway.yaml: listeners, store, admin, edge. Its sections with entries or rules of their own
//! have files of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use super::authorization_server::AuthorizationServer;
use super::{Builder, Place};
use crate::config::console::Console;
use crate::config::document::Value;
use crate::config::format::{SecretSource, is_loopback};
use crate::config::raw::gateway::{
    RawAdmin, RawDecisionLog, RawDecisionStream, RawDialect, RawEdge, RawGateway, RawListener,
    RawLogFormat, RawLogLevel, RawStore,
};
use crate::config::telemetry::Otlp;
use crate::config::tls::{HttpVersions, ListenerTls};
use crate::config::{
    DecisionLog, Edge, Fixed, ListenAddress, Listener, LogFormat, Rotation, Secret, StoreConfig,
};
use crate::request::address::Networks;
use crate::request::credential::MAX_TOKEN;
use crate::request::head::Limits;
use crate::request::original::Dialect;

/// Shortest token of the admin listener.
const MIN_ADMIN_TOKEN: usize = 32;
/// Smallest size at which a decision log is moved: as much as is written in one call.
const MIN_LOG_FILE: u64 = 64 * 1024;
/// How many moved decision logs are kept by default.
const KEPT_LOG_FILES: u32 = 10;
/// How long tokens are served by default while the store is silent.
const MAX_REVOCATION_STALENESS: Duration = Duration::from_secs(300);

/// What gateway.yaml says besides issuers and upstreams.
pub(super) struct Settings {
    pub(super) hosts: BTreeSet<String>,
    pub(super) fixed: Fixed,
    pub(super) trusted_proxies: Networks,
    /// For each listener, in their order.
    pub(super) tls: Vec<Option<ListenerTls>>,
    pub(super) admin_tls: Option<ListenerTls>,
    pub(super) admin_token: Option<[u8; 32]>,
    pub(super) console: Console,
    pub(super) otlp: Option<Otlp>,
    pub(super) run_tests_at_load: bool,
    pub(super) server: AuthorizationServer,
    pub(super) max_revocation_staleness: Duration,
}

impl Builder<'_> {
    fn edge(&mut self, raw: &RawEdge, place: &Place<'_>) -> Edge {
        let edge = edge(raw);
        let place = place.key("max_token_size");
        if edge.limits.token_bytes > MAX_TOKEN {
            self.fault(&place, "a token of more than 64KiB", "write at most 64KiB");
        } else if raw.max_token_size.is_some() && edge.limits.token_bytes >= edge.limits.head_bytes
        {
            let message = "a token as long as the whole head: it is never reached";
            self.fault(&place, message, "write less than `max_header_size`, or raise that");
        }
        edge
    }

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
        if raw.metrics.as_ref().is_some_and(|metrics| {
            listeners.iter().any(|listener| listener.address == metrics.address.value.into())
        }) {
            self.fault(
                &place.key("metrics").key("address"),
                "this is a listener's address too",
                "choose another port",
            );
        }
        let store = match &raw.store {
            RawStore::Embedded(embedded) => Some(StoreConfig::Embedded(embedded.path.clone())),
            RawStore::Redis(redis) => {
                self.shared_store(redis, &place.key("store").key("redis")).map(StoreConfig::Shared)
            }
        };
        let server = self.authorization_server(
            raw.authorization_server.as_ref(),
            &place.key("authorization_server"),
        );
        let login = raw.authorization_server.as_ref().and_then(|server| server.login.as_ref());
        if let Some(provider) = login.and_then(|login| login.provider.as_ref())
            && super::issuer::is_alike(&public_url, &provider.issuer.value)
        {
            let place =
                place.key("authorization_server").key("login").key("provider").key("issuer");
            self.fault(
                &place,
                "the login provider is this gateway itself",
                "write the issuer that users sign in at",
            );
        }
        let store = store?;
        let request_id_header = raw.edge.request_id_header.as_ref().and_then(|name| {
            let read = http::HeaderName::from_bytes(name.as_bytes());
            if read.is_err() {
                let place = place.key("edge").key("request_id_header");
                self.fault(
                    &place,
                    format!("`{name}` is no header name"),
                    "for instance X-Request-Id",
                );
            }
            read.ok()
        });
        let tls = self.listeners_tls(&raw.listeners, &place.key("listeners"));
        let admin_tls = raw.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        let admin_tls = admin_tls.and_then(|tls| {
            let place = place.key("admin").key("tls");
            self.listener_tls(tls, HttpVersions::Http1, &place)
        });
        let admin_token =
            raw.admin.as_ref().and_then(|admin| self.admin_token(admin, &place.key("admin")));
        Some(Settings {
            hosts: raw.hosts.iter().map(|host| host.value.clone()).collect(),
            trusted_proxies: Networks::new(raw.trusted_proxies.iter().map(|network| network.value)),
            tls,
            admin_tls,
            admin_token,
            console: self.console(&raw, &place),
            otlp: self.telemetry(raw.telemetry.as_ref(), &place.key("telemetry")),
            run_tests_at_load: raw.run_tests_at_load.unwrap_or(false),
            max_revocation_staleness: raw
                .max_revocation_staleness
                .as_ref()
                .map_or(MAX_REVOCATION_STALENESS, |most| most.value),
            fixed: Fixed {
                public_url,
                public_host,
                listeners,
                run_folder: raw.run_folder.clone(),
                metrics: raw.metrics.as_ref().map(|metrics| metrics.address.value),
                admin: raw.admin.as_ref().map(|admin| admin.address.value),
                admin_tls: raw.admin.as_ref().is_some_and(|admin| admin.tls.is_some()),
                store,
                workers: usize::from(raw.workers.unwrap_or(0)),
                edge: self.edge(&raw.edge, &place.key("edge")),
                request_id_header,
                decision_log: self.decision_log(&raw.decision_log, &place.key("decision_log")),
                log_format: raw.log_format.map(|format| match format {
                    RawLogFormat::Text => LogFormat::Text,
                    RawLogFormat::Json => LogFormat::Json,
                }),
                log_level: match raw.log_level {
                    RawLogLevel::Error => "error",
                    RawLogLevel::Warn => "warn",
                    RawLogLevel::Info => "info",
                    RawLogLevel::Debug => "debug",
                },
                signing: server.signing,
                watch_files: raw.watch_files.unwrap_or(true),
            },
            server,
        })
    }

    fn decision_log(&mut self, raw: &RawDecisionLog, place: &Place<'_>) -> DecisionLog {
        let file = match raw {
            RawDecisionLog::Word(RawDecisionStream::Stdout) => return DecisionLog::Stdout,
            RawDecisionLog::Word(RawDecisionStream::Off) => return DecisionLog::Off,
            RawDecisionLog::File(file) => file,
        };
        if file.max_size.is_none() && file.keep.is_some() {
            let help = "write `max_size` too, or leave `keep` out";
            self.fault(&place.key("keep"), "`keep` without `max_size`: no file is moved", help);
        }
        let rotation = file.max_size.as_ref().map(|size| Rotation {
            max_bytes: size.value,
            keep: file.keep.unwrap_or(KEPT_LOG_FILES),
        });
        if rotation.is_some_and(|rotation| rotation.max_bytes < MIN_LOG_FILE) {
            let help = "write at least 64KiB";
            self.fault(&place.key("max_size"), "a decision log of less than 64KiB", help);
        }
        DecisionLog::File { path: file.file.clone(), rotation }
    }

    /// The digest of the admin token, which must not leave the machine where the listener speaks
    /// plain HTTP.
    fn admin_token(&mut self, raw: &RawAdmin, place: &Place<'_>) -> Option<[u8; 32]> {
        use sha2::{Digest, Sha256};
        if !raw.address.value.ip().is_loopback() && raw.tls.is_none() {
            let help =
                "give it `tls`, or listen on 127.0.0.1 and reach it through ssh or a sidecar";
            self.fault(
                &place.key("address"),
                "the admin listener is plain HTTP on an address that is not loopback",
                help,
            );
        }
        let token = self.secret(&raw.token.value, &place.key("token"))?;
        if token.expose().len() < MIN_ADMIN_TOKEN {
            let help = "make one with `openssl rand -hex 32`";
            self.fault(&place.key("token"), "an admin token has 32 characters at least", help);
            return None;
        }
        Some(Sha256::digest(token.expose().as_bytes()).into())
    }

    /// A secret from where the configuration says it is, without the line end that editors leave
    /// behind.
    pub(super) fn secret(&mut self, source: &SecretSource, place: &Place<'_>) -> Option<Secret> {
        let file = place.document.file.clone();
        let found = match source {
            SecretSource::Env(name) => self
                .lookup
                .env(name)
                .ok_or_else(|| format!("the environment has no variable `{name}`")),
            SecretSource::File(path) => {
                let file = relative_to(&file, &path.to_string_lossy());
                let read =
                    self.lookup.file(&file).map_err(|error| format!("{}: {error}", file.display()));
                read.and_then(|bytes| {
                    String::from_utf8(bytes)
                        .map_err(|_| format!("{}: this is not UTF-8 text", file.display()))
                })
            }
        };
        match found {
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(fault) => {
                self.fault(place, fault, "a secret that is missing is never skipped: put it there");
                None
            }
        }
    }

    fn public_url(&mut self, raw: &RawGateway, place: &Place<'_>) -> (String, String) {
        let text = raw.public_url.text();
        let url = &raw.public_url.value;
        if url.path() != "/" || text.ends_with('/') {
            self.fault(
                place,
                "public_url has a path",
                "write scheme, host and port alone, without a slash at the end",
            );
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

    /// Plain HTTP serves tokens only on loopback or behind a TLS proxy (decisions.md, "Plain
    /// HTTP").
    fn listeners(&mut self, raw: &[RawListener], place: &Place<'_>) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::new();
        for (at, listener) in raw.iter().enumerate() {
            let (address, tls) = (listener.address.value.clone(), listener.tls.is_some());
            let here = place.at(at);
            let place = here.key("address");
            if address.path().is_some() && (listener.decide.is_none() || tls) {
                let help = "say which host asks there with `decide`, and leave `tls` out; requests \
                    that are forwarded come over TCP";
                self.fault(&place, "a Unix socket is for a host that asks", help);
            }
            if let ListenAddress::Tcp(tcp) = &address
                && !tcp.ip().is_loopback()
                && !listener.behind_tls
                && !tls
            {
                self.fault(
                    &place,
                    format!("{address} is plain HTTP on an address that is not loopback"),
                    "give it `tls`, say `behind_tls: true` if a TLS proxy stands before it, or \
                        listen on 127.0.0.1",
                );
            }
            if tls && listener.h2c {
                let help = "leave it out: HTTP/2 is offered by ALPN";
                self.fault(
                    &here.key("h2c"),
                    "h2c is HTTP/2 without TLS, and this listener has `tls`",
                    help,
                );
            }
            if listeners.iter().any(|listener| listener.address == address) {
                self.fault(
                    &place,
                    format!("{address} is listened on twice"),
                    "remove one of the two",
                );
            }
            listeners.push(Listener {
                address,
                behind_tls: listener.behind_tls,
                tls,
                // gRPC is of HTTP/2 alone.
                h2c: listener.h2c || matches!(listener.decide, Some(RawDialect::EnvoyGrpc)),
                proxy_protocol: listener.proxy_protocol,
                decide: listener.decide.map(|dialect| match dialect {
                    RawDialect::EnvoyGrpc => Dialect::EnvoyGrpc,
                    RawDialect::EnvoyHttp => Dialect::EnvoyHttp,
                    RawDialect::Nginx => Dialect::Nginx,
                    RawDialect::Traefik => Dialect::Traefik,
                    RawDialect::Caddy => Dialect::Caddy,
                }),
            });
            if listener.decide.is_some() && (listener.h2c || listener.proxy_protocol) {
                let help =
                    "leave `h2c` and `proxy_protocol` out: the dialect says which HTTP it is";
                self.fault(&here.key("decide"), "a listener that decides has neither", help);
            }
        }
        listeners
    }
}

/// A path relative to the file it stands in.
pub(super) fn relative_to(file: &str, path: &str) -> std::path::PathBuf {
    std::path::Path::new(file).parent().unwrap_or_else(|| std::path::Path::new("")).join(path)
}

/// The edge, without regard to whether its values go together.
fn edge(raw: &RawEdge) -> Edge {
    let default = Edge::default();
    let time = |duration: &Option<crate::config::format::Duration>, default: Duration| {
        duration.as_ref().map_or(default, |duration| duration.value)
    };
    let count = |count: Option<u32>, default: usize| {
        count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
    };
    let size = |size: &Option<crate::config::format::Size>, default: usize| {
        size.as_ref().and_then(|size| usize::try_from(size.value).ok()).unwrap_or(default)
    };
    Edge {
        max_connections: count(raw.max_connections, default.max_connections),
        max_connections_per_address: count(
            raw.max_connections_per_address,
            default.max_connections_per_address,
        ),
        header_timeout: time(&raw.header_timeout, default.header_timeout),
        keep_alive_timeout: time(&raw.keep_alive_timeout, default.keep_alive_timeout),
        body_timeout: time(&raw.body_timeout, default.body_timeout),
        write_timeout: time(&raw.write_timeout, default.write_timeout),
        drain_timeout: time(&raw.drain_timeout, default.drain_timeout),
        drain_delay: raw.drain_delay.as_ref().map_or(default.drain_delay, |delay| delay.value),
        limits: Limits {
            head_bytes: size(&raw.max_header_size, default.limits.head_bytes),
            target_bytes: size(&raw.max_target_size, default.limits.target_bytes),
            body_bytes: raw
                .max_body_size
                .as_ref()
                .map_or(default.limits.body_bytes, |size| size.value),
            fields: count(raw.max_header_fields, default.limits.fields),
            token_bytes: size(&raw.max_token_size, default.limits.token_bytes),
        },
    }
}
