//! nginx, with `auth_request`.

use super::{ENDPOINTS, PORT, Plan, Route, Site, Text, at, literal, name_of, scheme};
use crate::config::{ListenAddress, UpstreamAuthorization};

/// Statuses that nginx does not know of a check.
const MAPPED: [u16; 8] = [400, 404, 405, 414, 429, 431, 500, 503];

pub(super) fn write(plan: &Plan<'_>) -> Result<String, String> {
    if let Some(upstream) = plan.config.upstreams.iter().find(|upstream| upstream.http2) {
        return Err(format!(
            "the upstream `{}` says `http2: true`, and nginx asks servers over HTTP/1.1: leave it \
             out, or take another host",
            upstream.name
        ));
    }
    let mut text = Text::default();
    text.line(0, "# Made by `scopegate integrate nginx`: nginx forwards what the gateway permits.");
    text.line(
        0,
        format!("upstream scopegate_decide {{ server {}; keepalive 32; }}", to(plan.decide)),
    );
    if let Some(serves) = plan.serves {
        text.line(
            0,
            format!("upstream scopegate_serve {{ server {}; keepalive 32; }}", to(serves)),
        );
    }
    for upstream in &plan.config.upstreams {
        let servers: Vec<String> =
            upstream.servers.iter().map(|server| format!("server {};", at(server))).collect();
        let (name, servers) = (name_of(upstream), servers.join(" "));
        text.line(0, format!("upstream {name} {{ {servers} keepalive 32; }}"));
    }
    text.line(
        0,
        "# The host that chose the server, where the Host header says the same: an absolute",
    );
    text.line(0, "# URL in a request line may say another one, and is refused then.");
    text.line(
        0,
        "map \"$host|$http_host\" $scopegate_host { \"~*^([^|]+)\\|\\1(:[0-9]+)?$\" $http_host; \
         default \"\"; }",
    );
    for site in &plan.sites {
        server(&mut text, plan, site);
    }
    Ok(text.0)
}

/// An address as nginx writes it.
fn to(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn server(text: &mut Text, plan: &Plan<'_>, site: &Site<'_>) {
    text.line(0, "server {");
    match site.name {
        Some(name) => {
            text.line(4, format!("listen {PORT};"));
            text.line(4, format!("server_name {name};"));
        }
        None => text.line(4, format!("listen {PORT} default_server;")),
    }
    text.line(4, "# What was judged is what is forwarded: paths as they came.");
    text.line(4, "merge_slashes off;");
    text.line(4, "# `X_Auth_Client` is to some servers what `X-Auth-Client` is.");
    text.line(4, "underscores_in_headers off;");
    text.line(4, "ignore_invalid_headers on;");
    text.line(4, "# Sizes and bodies are nginx's to bound here.");
    text.line(4, "client_max_body_size 10m;");
    text.line(4, "error_page 403 = @scopegate_refused;");
    text.line(4, "location = /_scopegate {");
    text.line(8, "internal;");
    text.line(8, "proxy_pass http://scopegate_decide/;");
    text.line(8, "proxy_http_version 1.1;");
    text.line(8, "proxy_pass_request_body off;");
    for (name, value) in [
        ("Connection", "\"\""),
        ("Content-Length", "\"\""),
        ("X-Original-Method", "$request_method"),
        ("X-Original-URI", "$request_uri"),
        ("X-Original-Host", "$scopegate_host"),
        ("X-Original-Upstream", "$scopegate_upstream"),
        ("X-Forwarded-For", "$remote_addr"),
    ] {
        text.line(8, format!("proxy_set_header {name} {value};"));
    }
    text.line(4, "}");
    text.line(4, "# The statuses that nginx does not know of a check.");
    text.line(4, "location @scopegate_refused {");
    text.line(8, "add_header X-Decision-Id $scopegate_x_decision_id always;");
    text.line(8, "add_header X-Decision-Reason $scopegate_reason always;");
    for status in MAPPED {
        text.line(8, format!("if ($scopegate_status = {status}) {{ return {status}; }}"));
    }
    text.line(8, "return 403;");
    text.line(4, "}");
    if plan.serves.is_some() {
        text.line(4, "# Tokens are issued by the gateway.");
        for path in ENDPOINTS {
            text.line(4, format!("location ^~ {path} {{"));
            text.line(8, "proxy_pass http://scopegate_serve;");
            text.line(8, "proxy_http_version 1.1;");
            text.line(8, "proxy_set_header Connection \"\";");
            text.line(8, "proxy_set_header Host $http_host;");
            text.line(8, "proxy_set_header X-Forwarded-For $remote_addr;");
            text.line(4, "}");
        }
    }
    for route in &site.routes {
        location(text, plan, route);
    }
    text.line(4, "location / { return 404; }");
    text.line(0, "}");
}

fn location(text: &mut Text, plan: &Plan<'_>, route: &Route<'_>) {
    let Route { api, upstream } = route;
    text.line(4, format!("# The API `{}`, whole segments.", api.name));
    text.line(4, format!("location ~ ^{}(/|$) {{", literal(&api.base_path)));
    text.line(8, "# Another one than the gateway has judged is refused.");
    text.line(8, format!("set $scopegate_upstream {};", upstream.name));
    text.line(8, "auth_request /_scopegate;");
    text.line(8, "auth_request_set $scopegate_status $upstream_http_x_decision_status;");
    text.line(8, "auth_request_set $scopegate_reason $upstream_http_x_decision_reason;");
    let told = route.told();
    text.line(
        8,
        "# Who calls; cookies without the gateway's own. What the answer lacks is removed.",
    );
    for name in &told {
        let variable = name.replace('-', "_");
        text.line(8, format!("auth_request_set $scopegate_{variable} $upstream_http_{variable};"));
        text.line(8, format!("proxy_set_header {name} $scopegate_{variable};"));
    }
    text.line(8, "# What no client may say.");
    for name in plan.managed().iter().filter(|name| !told.contains(name)) {
        text.line(8, format!("proxy_set_header {name} \"\";"));
    }
    if upstream.authorization != UpstreamAuthorization::Keep {
        text.line(8, "proxy_set_header Authorization \"\";");
    }
    text.line(8, format!("proxy_set_header Host {};", route.called()));
    text.line(8, "proxy_set_header X-Forwarded-For $remote_addr;");
    text.line(8, "proxy_set_header X-Forwarded-Proto $scheme;");
    text.line(8, "proxy_set_header X-Forwarded-Host $http_host;");
    text.line(8, "proxy_set_header Connection \"\";");
    text.line(8, "proxy_http_version 1.1;");
    text.line(8, "# Without a path behind it: nginx forwards the path as it came.");
    text.line(8, format!("proxy_pass {}://{};", scheme(upstream), name_of(upstream)));
    text.line(4, "}");
}
