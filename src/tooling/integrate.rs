//! The configuration of a host proxy that asks the gateway what it may forward, made of the
//! policies in force. What is the same for every host is here; how each writes it is in a module of
//! its own.

mod caddy;
mod envoy;
mod gateway_api;
mod nginx;
mod traefik;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use http::HeaderName;

use crate::config::{Config, ListenAddress, Server, Upstream, UpstreamAuthorization};
use crate::policy::definition::Api;
use crate::request::headers::{ONE_HOP, of_identity, removed_by_hosts};
use crate::request::original::{Dialect, UPSTREAM};

/// What the host itself says of where a request came from, and asks with.
const FORWARDED: [&str; 10] = [
    "x-original-method",
    "x-original-uri",
    "x-original-host",
    UPSTREAM,
    "x-forwarded-method",
    "x-forwarded-uri",
    "x-forwarded-prefix",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-ssl",
];
/// Our endpoints, by how their paths begin.
const ENDPOINTS: [&str; 6] = [
    "/oauth2/",
    "/api/now/oauth/jwks",
    "/oauth_",
    "/.well-known/oauth-",
    "/.well-known/openid-configuration",
    "/.well-known/jwks.json",
];
/// Where the host listens.
const PORT: u16 = 80;

/// A host whose configuration can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// nginx, with `auth_request`.
    Nginx,
    /// Caddy, with `forward_auth`.
    Caddy,
    /// Traefik, with `ForwardAuth`.
    Traefik,
    /// Envoy, with `ext_authz` over gRPC.
    Envoy,
    /// What implements the Gateway API of Kubernetes, with external auth.
    GatewayApi,
}

impl Host {
    /// How it asks.
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Nginx => Dialect::Nginx,
            Self::Caddy => Dialect::Caddy,
            Self::Traefik => Dialect::Traefik,
            Self::Envoy | Self::GatewayApi => Dialect::EnvoyGrpc,
        }
    }
}

/// Prints the configuration of a host.
///
/// # Errors
/// The gateway has no listener for it, or the host cannot tell APIs apart as the gateway does: in
/// words for the operator.
pub fn integrate(config: &Config, host: Host) -> Result<String, String> {
    let plan = Plan::of(config, host)?;
    match host {
        Host::Nginx => nginx::write(&plan),
        Host::Caddy => Ok(caddy::write(&plan)),
        Host::Traefik => traefik::write(&plan),
        Host::Envoy => Ok(envoy::write(&plan)),
        Host::GatewayApi => gateway_api::write(&plan),
    }
}

/// What a host's configuration says, whatever its form.
struct Plan<'a> {
    config: &'a Config,
    /// The listener that decides.
    decide: &'a ListenAddress,
    /// A listener that has the token endpoints.
    serves: Option<&'a ListenAddress>,
    /// The APIs of each host name, those of a name before those of every name.
    sites: Vec<Site<'a>>,
}

/// The APIs that are served under one host name.
struct Site<'a> {
    /// The name; `None` for all others.
    name: Option<&'a str>,
    /// The routes, the longest path first.
    routes: Vec<Route<'a>>,
}

/// A base path with the upstream that it goes to.
struct Route<'a> {
    api: &'a Api,
    upstream: &'a Upstream,
}

impl<'a> Plan<'a> {
    fn of(config: &'a Config, host: Host) -> Result<Self, String> {
        let listeners = &config.fixed.listeners;
        let dialect = host.dialect();
        let decide = listeners.iter().find(|listener| listener.decide == Some(dialect));
        let decide = decide.ok_or_else(|| {
            format!(
                "no listener says `decide: {0}`: add `{{ address: 127.0.0.1:8081, decide: {0} }}` \
                 to `listeners`, and the address of the host to `trusted_proxies`",
                dialect.as_str()
            )
        })?;
        let serves = listeners.iter().find(|listener| listener.decide.is_none());
        let names: BTreeSet<Option<&str>> =
            config.rules.apis().iter().map(|api| api.host.as_deref()).collect();
        // Names first, and what is for every name last.
        let names = names.into_iter().rev().chain([None]);
        let mut sites: Vec<Site<'a>> = Vec::new();
        for name in names {
            if sites.iter().all(|site| site.name != name) {
                sites.push(Site { name, routes: routes(config, name)? });
            }
        }
        sites.sort_by_key(|site| site.name.is_none());
        Ok(Self {
            config,
            decide: &decide.address,
            serves: serves.map(|listener| &listener.address),
            sites,
        })
    }

    /// Headers that no client may say and that the gateway does not say either, in lower case: the
    /// host removes them. Those that it says are written over.
    fn managed(&self) -> BTreeSet<&'a str> {
        let own = self.config.upstreams.iter().flat_map(|upstream| {
            let said = upstream.claims.iter().map(|(name, _)| name);
            said.chain(&upstream.removed).map(HeaderName::as_str)
        });
        let fixed =
            removed_by_hosts().chain(FORWARDED).chain(ONE_HOP).map(|name| -> &'a str { name });
        fixed.chain(own).filter(|name| !of_identity().any(|identity| identity == *name)).collect()
    }
}

/// The routes under a host name, with those of every name behind them, which it has too.
fn routes<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<Route<'a>>, String> {
    let of = |wanted: Option<&str>| -> Vec<Route<'a>> {
        let apis = config.rules.apis().iter().filter(|api| api.host.as_deref() == wanted);
        let route = |api: &'a Api| {
            let upstream =
                config.upstreams.iter().find(|upstream| upstream.name == api.upstream)?;
            Some(Route { api, upstream })
        };
        apis.filter_map(route).collect()
    };
    let mut routes = of(name);
    if name.is_some() {
        let own: BTreeSet<&str> = routes.iter().map(|route| &*route.api.base_path).collect();
        let others = of(None).into_iter().filter(|route| !own.contains(&*route.api.base_path));
        routes.extend(others);
    }
    // Stable: of one path the first that was declared stays first.
    routes.sort_by_key(|route| std::cmp::Reverse(route.api.base_path.len()));
    for pair in routes.windows(2) {
        if let [first, second] = pair
            && first.api.base_path == second.api.base_path
            && (first.upstream.name != second.upstream.name)
        {
            return Err(format!(
                "the APIs `{}` and `{}` have one base path and two upstreams, which a host that \
                 forwards by path cannot tell apart: give each a base path of its own",
                first.api.name, second.api.name
            ));
        }
    }
    routes.dedup_by(|second, first| first.api.base_path == second.api.base_path);
    Ok(routes)
}

impl Route<'_> {
    /// The headers whose values the upstream takes from the answer.
    fn told(&self) -> Vec<&str> {
        let own = self.upstream.claims.iter().map(|(name, _)| name.as_str());
        let kept =
            (self.upstream.authorization == UpstreamAuthorization::Keep).then_some("authorization");
        let ours = of_identity().chain(["x-decision-id", "cookie"]).map(|name| -> &str { name });
        ours.chain(kept).chain(own).collect()
    }

    /// The host that the servers are called by: with several the first one's, which they share.
    fn called(&self) -> String {
        match &self.api.host {
            Some(host) if self.upstream.keeps_host => host.clone(),
            Some(_) | None => self.upstream.servers.first().map(at).unwrap_or_default(),
        }
    }
}

/// Lines of a configuration.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, indent: usize, line: impl AsRef<str>) {
        // Into memory: it cannot fail.
        let _ = writeln!(self.0, "{:indent$}{}", "", line.as_ref());
    }
}

/// A server, with its port.
fn at(server: &Server) -> String {
    if server.host.contains(':') {
        format!("[{}]:{}", server.host, server.port)
    } else {
        format!("{}:{}", server.host, server.port)
    }
}

/// Whether the servers of an upstream speak TLS.
fn speaks_tls(upstream: &Upstream) -> bool {
    upstream.servers.iter().any(|server| server.tls)
}

/// The scheme by which hosts know how to speak to the servers of an upstream.
fn scheme(upstream: &Upstream) -> &'static str {
    match (speaks_tls(upstream), upstream.http2) {
        (true, _) => "https",
        (false, true) => "h2c",
        (false, false) => "http",
    }
}

/// A name with which all hosts can do.
fn name_of(upstream: &Upstream) -> String {
    let letter = |byte: char| if byte.is_ascii_alphanumeric() { byte } else { '_' };
    format!("scopegate_to_{}", upstream.name.as_str().chars().map(letter).collect::<String>())
}

/// A text in a regular expression that means itself.
fn literal(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        if "\\.+*?()|[]{}^$/#&-~".contains(char) && char != '/' {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_routed_to_the_gateway() {
        let pages = ["/oauth_auth.do", "/oauth2/authorize", "/oauth2/login/callback"];
        for path in crate::metadata::MACHINE_PATHS.into_iter().chain(pages) {
            assert!(ENDPOINTS.iter().any(|begin| path.starts_with(begin)), "{path}");
        }
    }

    #[test]
    fn a_base_path_means_itself_in_a_regular_expression() {
        assert_eq!(literal("/a.b/c+d"), "/a\\.b/c\\+d");
    }
}
