//! A header that names another method: refused with a text, or judged as the method that it names.

use std::process::Command;

use scopegate::names::Timestamp;
use scopegate::tooling::Workers;
use scopegate::tooling::diff::{Direction, compare};

use super::config_of;
use crate::support::http::request;
use crate::support::{Gateway, Setup};

const CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [change] } }\n";

fn policies(extra: &str) -> String {
    format!(
        "apis:
  plain: {{ base_path: /plain, upstream: api, public: true, resources: {{ \"/{{*rest}}\": [GET, \
         POST, PATCH] }} }}
  api: {{ base_path: /api, upstream: api, {extra} resources: {{ /x: [GET, PATCH], \
         \"/x/{{id}}:do\": [DELETE] }}, cors: {{ origins: [https://portal.example], headers: \
         [X-HTTP-Method-Override] }} }}
auth_scopes: {{ change: {{ grants: [{{ api: api, methods: [PATCH] }}] }} }}
"
    )
}

fn setup(extra: &str) -> Setup {
    let mut setup = Setup::new(&policies(extra), CLIENTS);
    setup.gateway = "listeners: [{ address: \"@LISTEN@\", h2c: true }]\n".into();
    setup
}

const PATCH: (&str, &str) = ("X-HTTP-Method-Override", "PATCH");

#[test]
fn without_the_key_a_header_that_names_another_method_is_refused_and_the_record_says_so() {
    let gateway = Gateway::start(&setup(""));
    for path in ["/plain/x", "/api/x", "/nowhere"] {
        let response = gateway.send(request("POST", path, None, &[PATCH]));
        assert_eq!((response.status, response.verdict().as_str()), (400, "request.malformed"));
        let record = gateway.record(response.header("x-decision-id").unwrap());
        let fault = record["fault"].as_str().unwrap();
        assert!(fault.contains("PATCH") && fault.contains("method_override: true"), "{record}");
        assert_eq!(record["method"], "POST");
    }
    assert!(gateway.upstream.requests().is_empty());
    // One that names the request's own says nothing new.
    let own = request("POST", "/plain/x", None, &[("X-Method-Override", "POST")]);
    assert_eq!(gateway.send(own).status, 200);
    assert!(!gateway.upstream.last_head().join("\n").contains("override"));
}

#[test]
fn with_the_key_it_is_matched_judged_recorded_and_forwarded_as_the_method_named() {
    let gateway = Gateway::start(&setup("method_override: true,"));
    let token = gateway.token("app");
    let response = gateway.send(format!(
        "POST /api/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
         X-HTTP-Method-Override: PATCH\r\nContent-Length: 2\r\n\r\nhi"
    ));
    assert_eq!(response.status, 200);
    let head = gateway.upstream.last_head();
    assert!(head[0].starts_with("PATCH /api/x "), "{head:?}");
    assert!(!head.join("\n").to_ascii_lowercase().contains("override"), "{head:?}");
    assert!(gateway.upstream.requests().last().unwrap().ends_with("\r\n\r\nhi"));
    let record = gateway.record(response.header("x-decision-id").unwrap());
    assert_eq!((&record["method"], &record["verdict"]), (&"PATCH".into(), &"permit".into()));
    let told = |method: &str, path: &str, fields: &[(&str, &str)]| {
        gateway.send(request(method, path, Some(&token), fields)).verdict()
    };
    let named = |value| [("x_http_method", value)];
    assert_eq!(told("POST", "/api/x/7:do", &named("DELETE")), "scope.unscoped");
    assert_eq!(told("POST", "/api/x", &named("PUT")), "operation.method");
    assert_eq!(told("POST", "/api/x", &[]), "operation.method");
    for (method, value) in [
        ("POST", "patch"),
        ("POST", "GET"),
        ("POST", "PATCH, PATCH"),
        ("GET", "PATCH"),
        ("PATCH", "DELETE"),
    ] {
        assert_eq!(told(method, "/api/x", &named(value)), "request.malformed", "{method} {value}");
    }
    let two = [PATCH, ("X-HTTP-Method", "PATCH")];
    assert_eq!(told("POST", "/api/x", &two), "request.malformed");
    for path in ["/plain/x", "/oauth2/token", "/.well-known/jwks.json"] {
        assert_eq!(told("POST", path, &[PATCH]), "request.malformed", "{path}");
    }
    let counted = "scopegate_requests_total{api=\"api\",operation=\"PATCH \
        /x\",reason=\"\",verdict=\"permit\"}";
    assert_eq!(gateway.metric(counted), Some(1.0));
    let target = format!("http://{}/api/x", gateway.address);
    let bearer = format!("Authorization: Bearer {token}");
    let output = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", "-d", "hi"])
        .args(["-o", "/dev/null", "-H", "X-Http-Method: PATCH", "-H", &bearer, &target])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "2 200");
    assert!(gateway.upstream.last_head()[0].starts_with("PATCH /api/x "));
    // A page asks for POST, and is let in for what the header names.
    let preflight = |asked| {
        let fields =
            [("Origin", "https://portal.example"), ("Access-Control-Request-Method", asked)];
        gateway.send(request("OPTIONS", "/api/x", None, &fields)).status
    };
    assert_eq!((preflight("POST"), preflight("PATCH"), preflight("DELETE")), (204, 204, 405));
}

#[test]
fn a_comparison_tells_what_the_key_changes() {
    let [old, new] = ["", "method_override: true,"]
        .map(|extra| config_of(&Setup::new(&policies(extra), CLIENTS)));
    for (before, after, direction) in
        [(&old, &new, Direction::Widens), (&new, &old, Direction::Tightens)]
    {
        let comparison =
            compare(&before.rules, &after.rules, Timestamp(10), Workers::caller()).differences;
        let told: Vec<_> = comparison
            .iter()
            .map(|found| {
                (found.caller.as_str(), found.method, found.path.as_str(), found.direction)
            })
            .collect();
        assert_eq!(told, [("app", "POST as PATCH", "/api/x", direction)]);
        assert_eq!(comparison[0].example.request, "POST /api/x");
        assert_eq!(comparison[0].example.method_override, Some("PATCH"));
    }
}
