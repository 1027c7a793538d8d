//! Caddy, with `forward_auth`.

use std::collections::BTreeSet;

use super::{ENDPOINTS, PORT, Plan, Route, Site, Text, UPSTREAM, at, scheme};
use crate::config::{ListenAddress, UpstreamAuthorization};

pub(super) fn write(plan: &Plan<'_>) -> String {
    let mut text = Text::default();
    text.line(0, "# Made by `scopegate integrate caddy`: Caddy forwards what the gateway permits.");
    for (at, site) in plan.sites.iter().enumerate() {
        let name = site.name.map(|name| format!("http://{name}"));
        text.line(0, format!("{}:{PORT} {{", name.unwrap_or_default()));
        routes(&mut text, plan, site, at);
        text.line(0, "}");
    }
    text.0
}

/// An address as Caddy writes it.
fn to(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix/{}", path.display()),
    }
}

fn routes(text: &mut Text, plan: &Plan<'_>, site: &Site<'_>, site_at: usize) {
    text.line(4, "route {");
    if let Some(serves) = plan.serves {
        text.line(8, "# Tokens are issued by the gateway.");
        let paths: Vec<String> = ENDPOINTS.iter().map(|path| format!("{path}*")).collect();
        text.line(8, format!("@scopegate path {}", paths.join(" ")));
        text.line(8, format!("reverse_proxy @scopegate {}", to(serves)));
    }
    for (at, route) in site.routes.iter().enumerate() {
        api(text, plan, route, &format!("@api_{site_at}_{at}"));
    }
    text.line(8, "respond 404");
    text.line(4, "}");
}

fn api(text: &mut Text, plan: &Plan<'_>, route: &Route<'_>, matcher: &str) {
    let Route { api, upstream } = route;
    text.line(8, format!("# The API `{}`, whole segments.", api.name));
    let base = api.base_path.as_str();
    let paths = if base.is_empty() { "/*".to_owned() } else { format!("{base} {base}/*") };
    text.line(8, format!("{matcher} path {paths}"));
    text.line(8, format!("route {matcher} {{"));
    text.line(12, "# What a client says of itself goes before the gateway says it: a header that");
    text.line(
        12,
        "# the answer lacks would stay, one that `Connection` names would go, and an `Upgrade`",
    );
    text.line(12, "# would open a way past every policy.");
    let told = route.told();
    let all = plan.managed();
    // These come with the question, and are judged there.
    let asked = |name: &&str| !matches!(*name, "cookie" | "authorization");
    // With `Connection` a client would have headers removed behind the gateway, and with `Upgrade`
    // be handed on whatever it says next.
    let hops = ["connection", "upgrade"];
    let names: BTreeSet<&str> =
        all.iter().copied().chain(hops).chain(told.iter().copied().filter(asked)).collect();
    for name in names {
        text.line(12, format!("request_header -{name}"));
    }
    text.line(12, format!("forward_auth {} {{", to(plan.decide)));
    text.line(16, "uri /");
    text.line(16, "# Another one than the gateway has judged is refused.");
    text.line(16, format!("header_up {UPSTREAM} {}", upstream.name));
    text.line(16, "# Who calls; cookies without the gateway's own.");
    text.line(16, format!("copy_headers {}", told.join(" ")));
    text.line(12, "}");
    let servers: Vec<String> = upstream
        .servers
        .iter()
        .map(|server| format!("{}://{}", scheme(upstream), at(server)))
        .collect();
    text.line(12, format!("reverse_proxy {} {{", servers.join(" ")));
    text.line(16, format!("header_up Host {}", route.called()));
    if upstream.authorization != UpstreamAuthorization::Keep {
        text.line(16, "header_up -Authorization");
    }
    text.line(12, "}");
    text.line(8, "}");
}
