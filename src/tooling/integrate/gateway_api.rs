//! The Gateway API of Kubernetes: routes whose external auth (GEP-1494) is `ext_authz` over gRPC.

use super::{ENDPOINTS, Plan, Route, Site, Text};
use crate::config::ListenAddress;

pub(super) fn write(plan: &Plan<'_>) -> Result<String, String> {
    let mut text = Text::default();
    text.line(
        0,
        "# Made by `scopegate integrate gateway-api`: what scopegate permits is forwarded.",
    );
    text.line(
        0,
        "# `ExternalAuth` is experimental in the Gateway API 1.4. What implements it is to keep",
    );
    text.line(
        0,
        "# paths as they came, and to refuse names with underscores. Services are called as the",
    );
    text.line(0, "# upstreams are; change them to yours.");
    let port = |address: &ListenAddress| match address {
        ListenAddress::Tcp(address) => Ok(address.port()),
        ListenAddress::Unix(_) => {
            Err("a Service has a port: give the listener that says `decide: \
            envoy_grpc` one"
                .to_owned())
        }
    };
    let (decide, serves) = (port(plan.decide)?, plan.serves.map(port).transpose()?);
    for (at, site) in plan.sites.iter().enumerate().filter(|(_, site)| !site.routes.is_empty()) {
        route_of(&mut text, (decide, serves), site, at);
    }
    Ok(text.0)
}

fn route_of(text: &mut Text, (decide, serves): (u16, Option<u16>), site: &Site<'_>, at: usize) {
    text.line(0, "---");
    text.line(0, "apiVersion: gateway.networking.k8s.io/v1");
    text.line(0, "kind: HTTPRoute");
    text.line(0, format!("metadata: {{ name: scopegate-{at} }}"));
    text.line(0, "spec:");
    text.line(2, "parentRefs: [{ name: gateway }]");
    if let Some(name) = site.name {
        text.line(2, format!("hostnames: ['{name}']"));
    }
    text.line(2, "rules:");
    if let Some(serves) = serves {
        text.line(
            2,
            "# Tokens are issued by the gateway. A prefix is of whole segments: some paths",
        );
        text.line(2, "# are in full.");
        text.line(2, "- matches:");
        let whole = ENDPOINTS.iter().filter(|path| !path.ends_with(['_', '-']));
        for path in whole.copied().chain(NAMED) {
            let path = path.trim_end_matches('/');
            text.line(4, format!("- path: {{ type: PathPrefix, value: '{path}' }}"));
        }
        text.line(4, format!("backendRefs: [{{ name: scopegate, port: {serves} }}]"));
    }
    for route in &site.routes {
        let Route { api, upstream } = route;
        text.line(2, format!("# The API `{}`.", api.name));
        let base = if api.base_path.is_empty() { "/" } else { &api.base_path };
        text.line(2, "- matches:");
        text.line(4, format!("- path: {{ type: PathPrefix, value: '{base}' }}"));
        text.line(4, "filters:");
        text.line(4, "- type: ExternalAuth");
        text.line(6, "externalAuth:");
        text.line(8, "protocol: GRPC");
        text.line(8, format!("backendRef: {{ name: scopegate, port: {decide} }}"));
        let port = upstream.servers.first().map_or(80, |server| server.port);
        text.line(4, format!("backendRefs: [{{ name: '{}', port: {port} }}]", upstream.name));
    }
}

/// Endpoints whose names only begin alike.
const NAMED: [&str; 5] = [
    "/oauth_token.do",
    "/oauth_auth.do",
    "/oauth_revoke_token.do",
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
];
