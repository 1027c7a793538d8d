//! Envoy, with `ext_authz` over gRPC: a whole configuration (YAML).

use super::{ENDPOINTS, PORT, Plan, Route, Site, Text, name_of, speaks_tls};
use crate::config::{ListenAddress, Upstream};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const DISABLED: &str = "typed_per_filter_config: { envoy.filters.http.ext_authz: { \
    '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, \
    disabled: true } }";

pub(super) fn write(plan: &Plan<'_>) -> String {
    let mut text = Text::default();
    text.line(0, "# Made by `scopegate integrate envoy`: Envoy forwards what the gateway permits.");
    text.line(0, "static_resources:");
    text.line(2, "listeners:");
    text.line(2, "- name: scopegate");
    text.line(
        4,
        format!("address: {{ socket_address: {{ address: 0.0.0.0, port_value: {PORT} }} }}"),
    );
    text.line(4, "filter_chains:");
    text.line(4, "- filters:");
    text.line(6, "- name: envoy.filters.network.http_connection_manager");
    text.line(8, "typed_config:");
    text.line(10, "'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
    text.line(10, "stat_prefix: scopegate");
    text.line(10, "# The address of the client is who connects, and nobody's word.");
    text.line(10, "use_remote_address: true");
    text.line(10, "# What was judged is what is forwarded: paths as they came.");
    text.line(10, "normalize_path: false");
    text.line(10, "merge_slashes: false");
    text.line(10, "path_with_escaped_slashes_action: KEEP_UNCHANGED");
    text.line(10, "common_http_protocol_options:");
    text.line(12, "# `X_Auth_Client` is to some servers what `X-Auth-Client` is.");
    text.line(12, "headers_with_underscores_action: REJECT_REQUEST");
    text.line(10, "http_filters:");
    text.line(10, "- name: envoy.filters.http.ext_authz");
    text.line(12, "typed_config:");
    text.line(
        14,
        "'@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    );
    text.line(14, "transport_api_version: V3");
    text.line(14, "# Without the gateway nothing is forwarded.");
    text.line(14, "failure_mode_allow: false");
    text.line(14, "status_on_error: { code: ServiceUnavailable }");
    text.line(14, "# Every line by itself: two tokens are not one.");
    text.line(14, "encode_raw_headers: true");
    text.line(14, "grpc_service: { envoy_grpc: { cluster_name: scopegate_decide }, timeout: 5s }");
    text.line(10, "# Trailers are judged by nobody, and go no further.");
    text.line(10, "- name: envoy.filters.http.header_mutation");
    text.line(12, "typed_config:");
    text.line(
        14,
        "'@type': type.googleapis.com/\
         envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    );
    text.line(14, "mutations:");
    text.line(16, "request_trailers_mutations:");
    text.line(16, "- remove_on_match: { key_matcher: { safe_regex: { regex: '.*' } } }");
    text.line(10, "- name: envoy.filters.http.router");
    text.line(12, "typed_config:");
    text.line(14, "'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router");
    text.line(10, "route_config:");
    text.line(12, "virtual_hosts:");
    for (at, site) in plan.sites.iter().enumerate() {
        virtual_host(&mut text, plan, site, at);
    }
    text.line(2, "clusters:");
    cluster_of(&mut text, "scopegate_decide", plan.decide, true);
    if let Some(serves) = plan.serves {
        cluster_of(&mut text, "scopegate_serve", serves, false);
    }
    for upstream in &plan.config.upstreams {
        cluster(&mut text, upstream);
    }
    text.0
}

fn virtual_host(text: &mut Text, plan: &Plan<'_>, site: &Site<'_>, at: usize) {
    text.line(12, format!("- name: site_{at}"));
    let domains =
        site.name.map_or_else(|| "'*'".to_owned(), |name| format!("'{name}', '{name}:*'"));
    text.line(14, format!("domains: [{domains}]"));
    text.line(14, "routes:");
    if plan.serves.is_some() {
        text.line(14, "# Tokens are issued by the gateway.");
        for path in ENDPOINTS {
            text.line(14, format!("- match: {{ prefix: {path} }}"));
            text.line(16, "route: { cluster: scopegate_serve }");
            text.line(16, DISABLED);
        }
    }
    for route in &site.routes {
        let Route { api, upstream } = route;
        text.line(14, format!("# The API `{}`, whole segments.", api.name));
        let matched = if api.base_path.is_empty() {
            "prefix: /".to_owned()
        } else {
            format!("path_separated_prefix: '{}'", api.base_path)
        };
        text.line(14, format!("- match: {{ {matched} }}"));
        text.line(
            16,
            format!(
                "route: {{ cluster: {}, host_rewrite_literal: '{}', timeout: {}s }}",
                name_of(upstream),
                route.called(),
                upstream.response.as_secs_f64()
            ),
        );
        text.line(16, "# Another one than the gateway has judged is refused.");
        text.line(16, "typed_per_filter_config:");
        text.line(18, "envoy.filters.http.ext_authz:");
        text.line(20, "'@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute");
        text.line(
            20,
            format!(
                "check_settings: {{ context_extensions: {{ upstream: '{}' }} }}",
                upstream.name
            ),
        );
    }
    if site.routes.iter().all(|route| !route.api.base_path.is_empty()) {
        text.line(14, "- match: { prefix: / }");
        text.line(16, "direct_response: { status: 404 }");
        text.line(16, DISABLED);
    }
}

/// A cluster of one of the gateway's own listeners.
fn cluster_of(text: &mut Text, name: &str, address: &ListenAddress, http2: bool) {
    text.line(2, format!("- name: {name}"));
    let address = match address {
        ListenAddress::Tcp(address) => {
            let (ip, port) = (address.ip(), address.port());
            format!("socket_address: {{ address: '{ip}', port_value: {port} }}")
        }
        ListenAddress::Unix(path) => format!("pipe: {{ path: '{}' }}", path.display()),
    };
    endpoints(text, name, &[address]);
    if http2 {
        protocol(text);
    }
}

fn cluster(text: &mut Text, upstream: &Upstream) {
    let name = name_of(upstream);
    text.line(2, format!("- name: {name}"));
    if upstream.servers.iter().any(|server| server.host.parse::<std::net::IpAddr>().is_err()) {
        text.line(4, "type: STRICT_DNS");
    }
    text.line(4, format!("connect_timeout: {}s", upstream.connect.as_secs_f64()));
    let servers: Vec<String> = upstream
        .servers
        .iter()
        .map(|server| {
            format!("socket_address: {{ address: '{}', port_value: {} }}", server.host, server.port)
        })
        .collect();
    endpoints(text, &name, &servers);
    if upstream.http2 {
        protocol(text);
    }
    if speaks_tls(upstream) {
        let host = upstream.tls.server_name.as_deref();
        let host = host.or_else(|| upstream.servers.first().map(|server| server.host.as_str()));
        text.line(4, "transport_socket:");
        text.line(6, "name: envoy.transport_sockets.tls");
        text.line(6, "typed_config:");
        text.line(8, "'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext");
        text.line(8, format!("sni: '{}'", host.unwrap_or_default()));
        text.line(8, "# The CAs that you trust for it: Envoy verifies nothing without.");
        text.line(
            8,
            format!(
                "common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: \
             /etc/ssl/certs/ca-certificates.crt }}, match_typed_subject_alt_names: [{{ san_type: \
             DNS, matcher: {{ exact: '{}' }} }}] }} }}",
                host.unwrap_or_default()
            ),
        );
    }
}

fn endpoints(text: &mut Text, name: &str, addresses: &[String]) {
    text.line(4, "load_assignment:");
    text.line(6, format!("cluster_name: {name}"));
    text.line(6, "endpoints:");
    text.line(6, "- lb_endpoints:");
    for address in addresses {
        text.line(8, format!("- endpoint: {{ address: {{ {address} }} }}"));
    }
}

/// HTTP/2 is spoken to it.
fn protocol(text: &mut Text) {
    text.line(4, "typed_extension_protocol_options:");
    text.line(6, format!("{HTTP_OPTIONS}:"));
    text.line(8, format!("'@type': type.googleapis.com/{HTTP_OPTIONS}"));
    text.line(8, "explicit_http_config: { http2_protocol_options: {} }");
}
