//! `upstreams:` of gateway.yaml.

use std::time::Duration;

use base64::Engine as _;
use sha2::{Digest, Sha256};

use super::issuer::unusable_claim;
use super::{Builder, Entry, Place};
use crate::config::format::{ScopeText, is_loopback};
use crate::config::raw::RawUpstream;
use crate::config::raw::upstream::{
    RawAuthorization, RawHost, RawIdentity, RawIdentityForm, RawLoadBalancing, RawReplace,
    RawServer, RawUpstreamTls,
};
use crate::config::tls::{Shown, UpstreamTls, read_chain, read_roots};
use crate::config::{
    Balancing, HealthCheck, Secret, Server, Upstream, UpstreamAuthorization, UpstreamClient,
};
use crate::names::UpstreamName;
use crate::request::headers;

/// Requests under way by default.
const MAX_IN_FLIGHT: usize = 4096;

/// Whether a base path is one that every reader takes for the same: segments of plain characters.
fn is_plain_base(base: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
    base.is_empty()
        || base.split('/').skip(1).all(|segment| {
            !segment.is_empty()
                && segment.bytes().all(plain)
                && !segment.bytes().all(|byte| byte == b'.')
        })
}

/// What is said there has a fault, which has been noted.
struct Faulty;

impl Builder<'_> {
    pub(super) fn upstreams(&mut self) -> Vec<Upstream> {
        let mut upstreams = Vec::new();
        for Entry { name, place, value } in
            self.entries(std::slice::from_ref(self.gateway), "upstreams")
        {
            let Some(raw) = self.read::<RawUpstream>(&place, value) else { continue };
            let servers = self.servers(&raw, &place.key("servers"));
            let tls = self.upstream_tls(&raw, &servers, &place.key("tls"));
            let authorization =
                self.upstream_authorization(&raw.authorization, &place.key("authorization"));
            let (Some(tls), Some(authorization)) = (tls, authorization) else { continue };
            let time = |duration: &Option<crate::config::format::Duration>, default| {
                duration.as_ref().map_or(Duration::from_secs(default), |duration| duration.value)
            };
            let count = |count: Option<u32>, default| {
                count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
            };
            upstreams.push(Upstream {
                name: UpstreamName::new(&name),
                servers,
                tls,
                http2: raw.http2,
                connect: time(&raw.timeouts.connect, 1),
                response: time(&raw.timeouts.response, 30),
                idle: time(&raw.timeouts.idle, 15),
                balancing: match raw.load_balancing {
                    RawLoadBalancing::RoundRobin => Balancing::RoundRobin,
                    RawLoadBalancing::LeastLoad => Balancing::LeastLoad,
                    RawLoadBalancing::ConsistentHash => Balancing::ConsistentHash,
                },
                health: raw.health_check.as_ref().map(|check| HealthCheck {
                    path: check.path.text().to_owned(),
                    every: check.every.value,
                }),
                eject_after: raw.ejection.after.map_or(5, u32::from),
                eject_for: time(&raw.ejection.lasts, 10),
                retries: raw.retries.unwrap_or(0),
                max_in_flight: count(raw.max_in_flight, MAX_IN_FLIGHT),
                authorization,
                assertion: raw.identity.form() == RawIdentityForm::Assertion,
                claims: self.identity_claims(&raw.identity, &place.key("identity")),
                removed: self.removed_headers(&raw.remove_headers, &place.key("remove_headers")),
                keeps_host: matches!(raw.host, RawHost::Keep),
            });
        }
        upstreams
    }

    fn servers(&mut self, raw: &RawUpstream, place: &Place<'_>) -> Vec<Server> {
        let mut servers = Vec::new();
        for (at, server) in raw.servers.iter().enumerate() {
            let (url, weight) = match server {
                RawServer::Url(url) => (&url.value, None),
                RawServer::Full(full) => (&full.url.value, full.weight),
            };
            let base = url.path().trim_end_matches('/');
            if url.query().is_some() || url.fragment().is_some() || !is_plain_base(base) {
                let help = "as in https://10.0.0.5/base: a path without escapes, dots and queries, \
                    which is put before every path";
                self.fault(&place.at(at), "a server with more than a plain path", help);
            }
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            servers.push(Server {
                host,
                port: url.port_or_known_default().unwrap_or(80),
                tls: url.scheme() == "https",
                weight: u32::from(weight.unwrap_or(1)),
                base: base.to_owned(),
            });
        }
        servers
    }

    /// The headers that say further claims, each with its claim.
    fn identity_claims(
        &mut self,
        raw: &RawIdentity,
        place: &Place<'_>,
    ) -> Vec<(http::HeaderName, String)> {
        let RawIdentity::Full(full) = raw else { return Vec::new() };
        if full.form == RawIdentityForm::Assertion && !full.claims.is_empty() {
            let help = "write `form: headers`, or leave `claims` out";
            self.fault(place, "an assertion says no further claims", help);
        }
        let mut claims: Vec<(http::HeaderName, String)> = Vec::new();
        for (name, claim) in &full.claims {
            let place = place.key("claims").key(name);
            let Some(header) = self.own_header(name, &place) else { continue };
            if claims.iter().any(|(other, _)| headers::is_alias(other.as_str(), header.as_str())) {
                let help = "to some readers what is no letter or digit does not count";
                self.fault_at_key(&place, format!("`{name}` is an alias of another one"), help);
            }
            if let Some(message) = unusable_claim(claim) {
                let help = "a name, names with dots between (`realm_access.roles`), or a JSON \
                    Pointer (`/resource_access/my.client/roles`)";
                self.fault(&place, format!("`{claim}`: {message}"), help);
            }
            claims.push((header, claim.clone()));
        }
        claims
    }

    /// The header of request ids is known only with the rest.
    pub(super) fn check_claims_of_upstreams(
        &mut self,
        upstreams: &[Upstream],
        request_id: Option<&http::HeaderName>,
    ) {
        let Some(request_id) = request_id else { return };
        for upstream in upstreams {
            for (name, _) in &upstream.claims {
                if headers::is_alias(name.as_str(), request_id.as_str()) {
                    let place = Place::root(self.gateway).key("upstreams");
                    let place = place.key(upstream.name.as_str()).key("identity");
                    let message = format!("`{name}` is `edge.request_id_header`");
                    self.fault(&place, message, "another name, for instance X-Email");
                }
            }
        }
    }

    fn removed_headers(&mut self, raw: &[String], place: &Place<'_>) -> Vec<http::HeaderName> {
        let read = |builder: &mut Self, (at, name): (usize, &String)| {
            builder.own_header(name, &place.at(at))
        };
        raw.iter().enumerate().filter_map(|named| read(self, named)).collect()
    }

    /// A header that the configuration may have set or removed: none that HTTP or the gateway has a
    /// meaning for.
    fn own_header(&mut self, name: &str, place: &Place<'_>) -> Option<http::HeaderName> {
        let Ok(header) = http::HeaderName::from_bytes(name.as_bytes()) else {
            self.fault(place, format!("`{name}` is no header name"), "for instance X-Email");
            return None;
        };
        if headers::is_of_http(header.as_str()) || headers::is_managed(header.as_str()) {
            let help = "another name, for instance X-Email";
            let message = format!("`{name}` has a meaning of its own, and is not to be set here");
            self.fault(place, message, help);
            return None;
        }
        Some(header)
    }

    fn upstream_tls(
        &mut self,
        raw: &RawUpstream,
        servers: &[Server],
        place: &Place<'_>,
    ) -> Option<UpstreamTls> {
        let Some(tls) = &raw.tls else { return Some(UpstreamTls::default()) };
        if !servers.iter().any(|server| server.tls) {
            self.fault(
                place,
                "`tls` of an upstream without an https server",
                "write https:// under `servers`, or leave it out",
            );
        }
        // All of it is looked at, so that one run finds all faults.
        let (name, shown) = (self.server_name(tls, place), self.shown(tls, place));
        let ca = tls.ca.as_ref().map(|path| self.authorities(path, &place.key("ca")));
        let ca = match ca {
            Some(None) => return None,
            Some(read) => read,
            None => None,
        };
        Some(UpstreamTls { server_name: name.ok()?, ca, shown: shown.ok()? })
    }

    /// The name that certificates must have. An empty one would be none, and none is verified
    /// against nothing.
    fn server_name(
        &mut self,
        raw: &RawUpstreamTls,
        place: &Place<'_>,
    ) -> Result<Option<String>, Faulty> {
        let Some(name) = &raw.server_name else { return Ok(None) };
        if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
            let help = "the host that the certificate is for, as in `instance.example`";
            self.fault(
                &place.key("server_name"),
                format!("`{name}` is no host name or address"),
                help,
            );
            return Err(Faulty);
        }
        Ok(Some(name.clone()))
    }

    /// The CAs of a PEM file (DER).
    pub(super) fn authorities(&mut self, path: &str, place: &Place<'_>) -> Option<Vec<Vec<u8>>> {
        let pem = self.pem(path, place, &mut Sha256::new())?;
        let read = read_roots(&pem).and_then(|_| read_chain(&pem));
        let chain = self.usable(read, path, place)?;
        Some(chain.into_iter().map(|certificate| certificate.to_vec()).collect())
    }

    fn shown(&mut self, raw: &RawUpstreamTls, place: &Place<'_>) -> Result<Option<Shown>, Faulty> {
        match (&raw.certificate, &raw.key) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => {
                let mut digest = Sha256::new();
                let pem = (
                    self.pem(chain, &place.key("certificate"), &mut digest),
                    self.pem(key, &place.key("key"), &mut digest),
                );
                let (Some(chain_pem), Some(key_pem)) = pem else { return Err(Faulty) };
                let read = Shown::read(&chain_pem, &key_pem);
                self.usable(read, chain, &place.key("certificate")).map(Some).ok_or(Faulty)
            }
            (Some(_), None) | (None, Some(_)) => {
                self.fault(
                    place,
                    "`certificate` and `key` belong together",
                    "give both, or neither",
                );
                Err(Faulty)
            }
        }
    }

    fn upstream_authorization(
        &mut self,
        raw: &RawAuthorization,
        place: &Place<'_>,
    ) -> Option<UpstreamAuthorization> {
        let place = place.key("replace");
        match raw {
            RawAuthorization::Strip => Some(UpstreamAuthorization::Strip),
            RawAuthorization::Keep => Some(UpstreamAuthorization::Keep),
            RawAuthorization::Replace(replace) => self.replacement(replace, &place),
        }
    }

    fn replacement(
        &mut self,
        raw: &RawReplace,
        place: &Place<'_>,
    ) -> Option<UpstreamAuthorization> {
        let value = |text: String| {
            let visible = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            visible.then(|| UpstreamAuthorization::Value(Secret::new(&text)))
        };
        let help = "visible ASCII alone: it becomes a header";
        match raw {
            RawReplace::Bearer(source) => {
                let place = place.key("bearer");
                let secret = self.secret(&source.value, &place)?;
                value(format!("Bearer {}", secret.expose())).or_else(|| {
                    self.fault(&place, "this cannot be a bearer token", help);
                    None
                })
            }
            RawReplace::Basic(source) => {
                let place = place.key("basic");
                let secret = self.secret(&source.value, &place)?;
                if !secret.expose().contains(':') {
                    self.fault(
                        &place,
                        "this is not `user:password`",
                        "a colon stands between the two",
                    );
                }
                value(format!(
                    "Basic {}",
                    base64::engine::general_purpose::STANDARD.encode(secret.expose())
                ))
            }
            RawReplace::ClientCredentials(client) => {
                let place = place.key("client_credentials");
                let url = &client.token_url.value;
                if url.scheme() != "https" && !is_loopback(url) {
                    let help = "our secret needs TLS: write https://…";
                    self.fault(
                        &place.key("token_url"),
                        "plain http on a host that is not loopback",
                        help,
                    );
                }
                let client_secret =
                    self.secret(&client.client_secret.value, &place.key("client_secret"))?;
                let scopes: Vec<&str> = client.scopes.iter().map(ScopeText::text).collect();
                Some(UpstreamAuthorization::ClientCredentials(UpstreamClient {
                    token_url: client.token_url.text().to_owned(),
                    client_id: client.client_id.clone(),
                    client_secret,
                    scope: scopes.join(" "),
                }))
            }
        }
    }
}
