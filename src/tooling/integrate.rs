//! The configuration of a host proxy that asks the gateway what it may forward, made of the
//! policies in force.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::config::{Config, Server, Upstream, UpstreamAuthorization};
use crate::policy::definition::Api;
use crate::request::headers::{of_identity, removed_by_hosts};
use crate::request::original::Dialect;

/// What the host itself says of where a request came from.
const FORWARDED: [&str; 6] = [
    "x-forwarded-method",
    "x-forwarded-uri",
    "x-forwarded-prefix",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-ssl",
];
/// Our endpoints, by how their paths begin.
const ENDPOINTS: [&str; 5] = [
    "/oauth2/",
    "/oauth_",
    "/.well-known/oauth-",
    "/.well-known/openid-configuration",
    "/.well-known/jwks.json",
];

/// Prints the configuration of a host.
///
/// # Errors
/// The gateway has no listener for it, in words for the operator.
pub fn integrate(config: &Config, dialect: Dialect) -> Result<String, String> {
    let listeners = &config.fixed.listeners;
    let decide = listeners.iter().find(|listener| listener.decide == Some(dialect));
    let decide = decide.ok_or_else(|| {
        format!(
            "no listener says `decide: {0}`: add `{{ address: 127.0.0.1:8081, decide: {0} }}` to \
             `listeners`, and the address of the host to `trusted_proxies`",
            dialect.as_str()
        )
    })?;
    let serves = listeners.iter().find(|listener| listener.decide.is_none());
    let host = Host {
        config,
        decide: decide.address.to_string(),
        serves: serves.map(|listener| listener.address.to_string()),
    };
    match dialect {
        Dialect::Nginx => Ok(host.nginx()),
        Dialect::Caddy => Ok(host.caddy()),
        Dialect::Traefik | Dialect::EnvoyHttp => {
            Err(format!("the configuration of {} is not printed yet", dialect.as_str()))
        }
    }
}

struct Host<'a> {
    config: &'a Config,
    decide: String,
    serves: Option<String>,
}

impl Host<'_> {
    /// APIs with their upstreams.
    fn apis(&self) -> impl Iterator<Item = (&Api, &Upstream)> {
        self.config.rules.apis().iter().filter_map(|api| {
            let upstreams = &self.config.upstreams;
            Some((api, upstreams.iter().find(|upstream| upstream.name == api.upstream)?))
        })
    }

    /// Every header that only the gateway says, in lower case.
    fn managed(&self) -> BTreeSet<String> {
        let own = self.config.upstreams.iter().flat_map(|upstream| {
            let said = upstream.claims.iter().map(|(name, _)| name);
            said.chain(&upstream.removed).map(|name| name.as_str().to_owned())
        });
        let fixed = removed_by_hosts().chain(FORWARDED).map(str::to_owned);
        fixed.chain(own).filter(|name| !of_identity().any(|identity| identity == name)).collect()
    }

    fn nginx(&self) -> String {
        let mut text = String::new();
        let mut line = |indent: usize, line: &str| {
            let _ = writeln!(text, "{:indent$}{line}", "");
        };
        line(0, "# Made by `scopegate integrate nginx`: nginx forwards what the gateway permits.");
        line(0, &format!("upstream scopegate_decide {{ server {}; keepalive 32; }}", self.decide));
        if let Some(serves) = &self.serves {
            line(0, &format!("upstream scopegate_serve {{ server {serves}; keepalive 32; }}"));
        }
        for upstream in &self.config.upstreams {
            let servers: Vec<String> =
                upstream.servers.iter().map(|server| format!("server {};", at(server))).collect();
            let (name, servers) = (name_of(upstream), servers.join(" "));
            line(0, &format!("upstream {name} {{ {servers} keepalive 32; }}"));
        }
        line(
            0,
            "# Cookies of the gateway are for no upstream: with one of them none is forwarded.",
        );
        line(
            0,
            "map $http_cookie $scopegate_cookie { default $http_cookie; \"~*scopegate\" \"\"; }",
        );
        line(0, "server {");
        line(4, "listen 80;");
        line(4, "# What was judged is what is forwarded: paths as they came.");
        line(4, "merge_slashes off;");
        line(4, "# `X_Auth_Client` is to some servers what `X-Auth-Client` is.");
        line(4, "underscores_in_headers off;");
        line(4, "ignore_invalid_headers on;");
        line(4, "# Sizes and bodies are nginx's to bound here.");
        line(4, "client_max_body_size 10m;");
        line(4, "error_page 403 = @scopegate_refused;");
        line(4, "location = /_scopegate {");
        line(8, "internal;");
        line(8, "proxy_pass http://scopegate_decide/;");
        line(8, "proxy_http_version 1.1;");
        line(8, "proxy_pass_request_body off;");
        for (name, value) in [
            ("Connection", "\"\""),
            ("Content-Length", "\"\""),
            ("X-Original-Method", "$request_method"),
            ("X-Original-URI", "$request_uri"),
            ("X-Original-Host", "$http_host"),
            ("X-Forwarded-For", "$remote_addr"),
        ] {
            line(8, &format!("proxy_set_header {name} {value};"));
        }
        line(4, "}");
        line(4, "# The statuses that nginx does not know of a check.");
        line(4, "location @scopegate_refused {");
        line(8, "add_header X-Decision-Id $scopegate_x_decision_id always;");
        line(8, "add_header X-Decision-Reason $scopegate_reason always;");
        for status in [400, 404, 405, 414, 429, 431, 500, 503] {
            line(8, &format!("if ($scopegate_status = {status}) {{ return {status}; }}"));
        }
        line(8, "return 403;");
        line(4, "}");
        if self.serves.is_some() {
            line(4, "# Tokens are issued by the gateway.");
            for path in ENDPOINTS {
                line(4, &format!("location {path} {{"));
                line(8, "proxy_pass http://scopegate_serve;");
                line(8, "proxy_http_version 1.1;");
                line(8, "proxy_set_header Connection \"\";");
                line(8, "proxy_set_header Host $http_host;");
                line(8, "proxy_set_header X-Forwarded-For $remote_addr;");
                line(4, "}");
            }
        }
        for (api, upstream) in self.apis() {
            line(4, &format!("# The API `{}`.", api.name));
            let base = if api.base_path.is_empty() { "/" } else { &api.base_path };
            line(4, &format!("location {base} {{"));
            line(8, "auth_request /_scopegate;");
            line(8, "auth_request_set $scopegate_status $upstream_http_x_decision_status;");
            line(8, "auth_request_set $scopegate_reason $upstream_http_x_decision_reason;");
            for name in told(upstream) {
                let variable = name.replace('-', "_");
                line(
                    8,
                    &format!("auth_request_set $scopegate_{variable} $upstream_http_{variable};"),
                );
                line(8, &format!("proxy_set_header {name} $scopegate_{variable};"));
            }
            let told = told(upstream);
            for name in self.managed().iter().filter(|name| !told.contains(&name.as_str())) {
                line(8, &format!("proxy_set_header {name} \"\";"));
            }
            line(8, "proxy_set_header Cookie $scopegate_cookie;");
            if upstream.authorization != UpstreamAuthorization::Keep {
                line(8, "proxy_set_header Authorization \"\";");
            }
            line(8, &format!("proxy_set_header Host {};", called(api, upstream)));
            line(8, "proxy_set_header X-Forwarded-For $remote_addr;");
            line(8, "proxy_set_header X-Forwarded-Proto $scheme;");
            line(8, "proxy_set_header X-Forwarded-Host $http_host;");
            line(8, "proxy_set_header Connection \"\";");
            line(8, "proxy_http_version 1.1;");
            line(8, "# Without a path behind it: nginx forwards the path as it came.");
            line(8, &format!("proxy_pass {}://{};", scheme(upstream), name_of(upstream)));
            line(4, "}");
        }
        line(4, "location / { return 404; }");
        line(0, "}");
        text
    }

    fn caddy(&self) -> String {
        let mut text = String::new();
        let mut line = |indent: usize, line: &str| {
            let _ = writeln!(text, "{:indent$}{line}", "");
        };
        line(0, "# Made by `scopegate integrate caddy`: Caddy forwards what the gateway permits.");
        line(0, ":80 {");
        line(4, "route {");
        if let Some(serves) = &self.serves {
            line(8, "# Tokens are issued by the gateway.");
            let paths: Vec<String> = ENDPOINTS.iter().map(|path| format!("{path}*")).collect();
            line(8, &format!("@scopegate path {}", paths.join(" ")));
            line(8, &format!("reverse_proxy @scopegate {serves}"));
        }
        for (api, upstream) in self.apis() {
            line(8, &format!("# The API `{}`.", api.name));
            let base = api.base_path.as_str();
            line(8, &format!("@{} path {base} {base}/*", api.name));
            line(8, &format!("route @{} {{", api.name));
            line(
                12,
                "# What a client says of itself goes before the gateway says it: a header that",
            );
            line(12, "# the answer lacks would stay.");
            let told = told(upstream);
            let all = self.managed();
            let names: BTreeSet<&str> =
                all.iter().map(String::as_str).chain(told.iter().copied()).collect();
            for name in names {
                line(12, &format!("request_header -{name}"));
            }
            line(12, &format!("forward_auth {} {{", self.decide));
            line(16, "uri /");
            line(16, &format!("copy_headers {}", told.join(" ")));
            line(12, "}");
            let servers: Vec<String> = upstream
                .servers
                .iter()
                .map(|server| format!("{}://{}", scheme(upstream), at(server)))
                .collect();
            line(12, &format!("reverse_proxy {} {{", servers.join(" ")));
            line(16, &format!("header_up Host {}", called(api, upstream)));
            if upstream.authorization != UpstreamAuthorization::Keep {
                line(16, "header_up -Authorization");
            }
            line(16, "# Cookies of the gateway are for no upstream.");
            line(
                16,
                "header_up Cookie \"(?i)(__(host|secure)-)?scopegate[^=;]*=[^;]*(; ?)?\" \"\"",
            );
            line(12, "}");
            line(8, "}");
        }
        line(8, "respond 404");
        line(4, "}");
        line(0, "}");
        text
    }
}

/// The headers whose values the host takes from the answer.
fn told(upstream: &Upstream) -> Vec<&str> {
    let own = upstream.claims.iter().map(|(name, _)| name.as_str());
    let ours: Vec<&str> = of_identity().chain(["x-decision-id"]).collect();
    ours.into_iter().chain(own).collect()
}

/// The host that the servers are called by: with several the first one's, which they share.
fn called(api: &Api, upstream: &Upstream) -> String {
    match &api.host {
        Some(host) if upstream.keeps_host => host.clone(),
        Some(_) | None => upstream.servers.first().map(at).unwrap_or_default(),
    }
}

fn at(server: &Server) -> String {
    if server.host.contains(':') {
        format!("[{}]:{}", server.host, server.port)
    } else {
        format!("{}:{}", server.host, server.port)
    }
}

fn scheme(upstream: &Upstream) -> &'static str {
    if upstream.servers.iter().any(|server| server.tls) { "https" } else { "http" }
}

fn name_of(upstream: &Upstream) -> String {
    let letter = |byte: char| if byte.is_ascii_alphanumeric() { byte } else { '_' };
    format!("scopegate_to_{}", upstream.name.as_str().chars().map(letter).collect::<String>())
}
