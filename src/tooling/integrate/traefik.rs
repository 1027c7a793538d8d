//! Traefik, with `ForwardAuth`: a file of its dynamic configuration (YAML).

use super::{ENDPOINTS, Plan, Route, Site, Text, UPSTREAM, at, name_of, scheme};
use crate::config::{ListenAddress, UpstreamAuthorization};

pub(super) fn write(plan: &Plan<'_>) -> Result<String, String> {
    let ListenAddress::Tcp(decide) = plan.decide else {
        return Err("Traefik asks over no Unix socket: give the listener that says `decide: \
             traefik` an address with a port"
            .to_owned());
    };
    let mut text = Text::default();
    text.line(
        0,
        "# Made by `scopegate integrate traefik`: Traefik forwards what the gateway permits.",
    );
    text.line(
        0,
        "# A file for its `providers.file`. The entry point is called `web` here, with neither",
    );
    text.line(
        0,
        "# `forwardedHeaders.insecure` nor `trustedIPs`: what clients say of where they come from",
    );
    text.line(0, "# is not theirs to say.");
    text.line(0, "http:");
    text.line(2, "routers:");
    if plan.serves.is_some() {
        text.line(4, "# Tokens are issued by the gateway.");
        text.line(4, "scopegate:");
        let paths: Vec<String> =
            ENDPOINTS.iter().map(|path| format!("PathPrefix(`{path}`)")).collect();
        text.line(6, format!("rule: {}", paths.join(" || ")));
        text.line(6, "priority: 100000");
        text.line(6, "entryPoints: [web]");
        text.line(6, "service: scopegate");
    }
    let each = || {
        plan.sites.iter().enumerate().flat_map(|(site_at, site)| {
            let routes = site.routes.iter().enumerate();
            routes.map(move |(at, route)| (format!("scopegate_{site_at}_{at}"), site, at, route))
        })
    };
    for (name, site, at, route) in each() {
        router(&mut text, &name, site, at, route);
    }
    text.line(2, "middlewares:");
    text.line(4, "# What no client may say, and what the gateway alone says.");
    text.line(4, "scopegate_unsaid:");
    text.line(6, "headers:");
    text.line(8, "customRequestHeaders:");
    // These come with the question, and are judged there.
    let asked = |name: &&str| !matches!(*name, "cookie" | "authorization");
    let routes = plan.sites.iter().flat_map(|site| &site.routes);
    let told = routes.flat_map(|route| route.told()).filter(asked);
    // An `Upgrade` would open a way past every policy.
    let hops = ["connection", "upgrade"];
    let names: std::collections::BTreeSet<&str> =
        plan.managed().into_iter().chain(hops).chain(told).collect();
    // It says these itself.
    for name in
        names.iter().filter(|name| !name.starts_with("x-forwarded-") && **name != "x-real-ip")
    {
        text.line(10, format!("{name}: ''"));
    }
    for (name, _, _, route) in each() {
        middleware(&mut text, &name, route, decide);
    }
    text.line(2, "services:");
    if let Some(serves) = plan.serves {
        text.line(4, "scopegate:");
        text.line(6, "loadBalancer:");
        text.line(8, format!("servers: [{{ url: 'http://{serves}' }}]"));
    }
    for upstream in &plan.config.upstreams {
        text.line(4, format!("{}:", name_of(upstream)));
        text.line(6, "loadBalancer:");
        text.line(8, format!("passHostHeader: {}", upstream.keeps_host));
        let servers: Vec<String> = upstream
            .servers
            .iter()
            .map(|server| format!("{{ url: '{}://{}' }}", scheme(upstream), at(server)))
            .collect();
        text.line(8, format!("servers: [{}]", servers.join(", ")));
    }
    Ok(text.0)
}

fn router(text: &mut Text, name: &str, site: &Site<'_>, at: usize, route: &Route<'_>) {
    let Route { api, upstream } = route;
    text.line(4, format!("# The API `{}`, whole segments.", api.name));
    text.line(4, format!("{name}:"));
    let base = &api.base_path;
    let paths = if base.is_empty() {
        "PathPrefix(`/`)".to_owned()
    } else {
        format!("(Path(`{base}`) || PathPrefix(`{base}/`))")
    };
    let host = site.name.map(|name| format!("Host(`{name}`) && ")).unwrap_or_default();
    text.line(6, format!("rule: {host}{paths}"));
    // The longest path first, and a host of its own before every host.
    let first = if site.name.is_some() { 50_000 } else { 10_000 };
    text.line(6, format!("priority: {}", first - at));
    text.line(6, "entryPoints: [web]");
    text.line(
        6,
        format!("middlewares: [scopegate_unsaid, {name}_upstream, {name}_asks, {name}_sends]"),
    );
    text.line(6, format!("service: {}", name_of(upstream)));
}

fn middleware(text: &mut Text, name: &str, route: &Route<'_>, decide: &std::net::SocketAddr) {
    let Route { upstream, .. } = route;
    text.line(4, "# Another one than the gateway has judged is refused.");
    text.line(4, format!("{name}_upstream:"));
    text.line(
        6,
        format!("headers: {{ customRequestHeaders: {{ {UPSTREAM}: '{}' }} }}", upstream.name),
    );
    text.line(4, format!("{name}_asks:"));
    text.line(6, "forwardAuth:");
    text.line(8, format!("address: http://{decide}/"));
    text.line(8, "trustForwardHeader: false");
    text.line(
        8,
        "# Who calls; cookies without the gateway's own. What the answer lacks is removed.",
    );
    text.line(8, format!("authResponseHeaders: [{}]", route.told().join(", ")));
    text.line(4, format!("{name}_sends:"));
    text.line(6, "headers:");
    text.line(8, "customRequestHeaders:");
    text.line(10, format!("{UPSTREAM}: ''"));
    if upstream.keeps_host {
        text.line(10, format!("host: '{}'", route.called()));
    }
    if upstream.authorization != UpstreamAuthorization::Keep {
        text.line(10, "authorization: ''");
    }
}
