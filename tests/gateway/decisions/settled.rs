//! The settled questions of decisions.md, the steps around the gates, and the invariant, through
//! the running gateway.

use serde_json::json;

use super::{config_of, decide_own, request_to};
use crate::support::http::{Connection, form, request};
use crate::support::{Gateway, SECRET, Setup, Upstream};

const POLICIES: &str = "
apis:
  items:
    base_path: /api
    versions: [v1, v2]
    default_version: v2
    upstream: api
    resources:
      /table/{name}: [GET, POST]
      /table/special: [GET]
      /files/{*path}: [GET]
      /open: { methods: [GET], public: true }
  legacy:
    base_path: /legacy
    upstream: api
    error_format: servicenow
    path: { allow: [semicolon, encoded_slash, encoded_percent] }
    resources:
      /{name}: [GET]
  closed:
    base_path: /closed
    upstream: api
    maintenance: true
    resources: { /x: [GET] }
  hosted:
    host: other.example
    base_path: /api
    upstream: api
    resources:
      /table/{name}: [GET]
auth_scopes:
  read: { grants: [{ api: items, methods: [GET] }, { api: legacy }, { api: hosted }] }
  v1_write: { grants: [{ api: items, methods: [POST], versions: [v1] }] }
blocks:
  - { from: [198.51.100.0/24], reason: abuse }
  - { clients: [blocked] }
  - { users: [bad.user] }
";

const CLIENTS: &str = "
clients:
  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read, \
    v1_write] }
  blocked: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read] }
  as-bad: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read], \
    application_user: bad.user }
  limited: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read], \
    limit_authorization: [legacy] }
  idle: { grants: [client_credentials], active: false, secrets: [{ sha256: @SHA256@ }] }
";

fn setup() -> Setup {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.users = "users: { bad.user: { roles: [] } }\n".to_owned();
    setup.gateway = "trusted_proxies: [127.0.0.2/32]\n".to_owned();
    setup
}

#[test]
fn operations_are_matched_by_version_resource_method_and_host() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    for (method, target, host, expect) in [
        ("GET", "/api/table/x", "127.0.0.1", "permit"),
        ("HEAD", "/api/table/x", "127.0.0.1", "permit"),
        ("GET", "/api/v1/table/x", "127.0.0.1", "permit"),
        ("GET", "/api/v3/table/x", "127.0.0.1", "operation.unknown"),
        ("POST", "/api/v1/table/x", "127.0.0.1", "permit"),
        ("POST", "/api/v2/table/x", "127.0.0.1", "scope.unscoped"),
        ("POST", "/api/table/x", "127.0.0.1", "scope.unscoped"),
        ("POST", "/api/table/special", "127.0.0.1", "operation.method"),
        ("DELETE", "/api/table/x", "127.0.0.1", "operation.method"),
        ("OPTIONS", "/api/table/x", "127.0.0.1", "operation.method"),
        ("get", "/api/table/x", "127.0.0.1", "operation.method"),
        ("GET", "/api/table", "127.0.0.1", "operation.unknown"),
        ("GET", "/api/table/x/", "127.0.0.1", "operation.unknown"),
        ("GET", "/api/Table/x", "127.0.0.1", "operation.unknown"),
        ("GET", "/api/files/a/b/c", "127.0.0.1", "permit"),
        ("GET", "/api/files/", "127.0.0.1", "operation.unknown"),
        ("GET", "/api/table/x", "other.example", "permit"),
        ("GET", "/api/table/x", "OTHER.example:81", "permit"),
        ("POST", "/api/v1/table/x", "other.example", "permit"),
        ("GET", "/legacy/a%2Fb;c%25", "127.0.0.1", "permit"),
        ("GET", "/api/table/a%2Fb", "127.0.0.1", "path.ambiguous"),
        ("GET", "/api/table/a;b", "127.0.0.1", "path.ambiguous"),
        ("GET", "/nowhere/a;b", "127.0.0.1", "path.ambiguous"),
        ("GET", "/closed/x", "127.0.0.1", "operation.maintenance"),
    ] {
        gateway.upstream.clear();
        let text = request(method, target, Some(&token), &[])
            .replace("Host: 127.0.0.1", &format!("Host: {host}"));
        let response = gateway.send(text);
        let got =
            if response.status < 300 { "permit".to_owned() } else { reason(&gateway, &response) };
        assert_eq!(got, expect, "{method} {target} {host}");
        assert_eq!(
            gateway.upstream.requests().len(),
            usize::from(expect == "permit"),
            "{method} {target}"
        );
    }
    let refused = gateway.call("DELETE", "/api/table/x", Some(&token));
    assert_eq!(refused.header("allow"), Some("GET, HEAD, POST"));
}

/// The reason, whatever the API's error format, from the decision record.
fn reason(gateway: &Gateway, response: &crate::support::Response) -> String {
    let record = gateway.record(response.header("x-decision-id").unwrap());
    record["reason"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_forwarded_is_the_canonical_path_and_the_query_byte_for_byte() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    for (sent, forwarded) in [
        ("/api/table/%61b%7ec%c3%a4", "/api/table/ab~c%C3%A4"),
        (
            "/api/table/x?a=%2e%2e/../&b=%zz&c=[1]&d='|{}^`",
            "/api/table/x?a=%2e%2e/../&b=%zz&c=[1]&d='|{}^`",
        ),
        ("/api/table/x?", "/api/table/x?"),
        ("http://127.0.0.1/api/table/x", "/api/table/x"),
    ] {
        assert_eq!(gateway.get(sent, Some(&token)).status, 200, "{sent}");
        assert_eq!(gateway.upstream.last_head()[0], format!("GET {forwarded} HTTP/1.1"), "{sent}");
    }
}

#[test]
fn public_operations_need_no_token_and_get_no_identity() {
    let gateway = Gateway::start(&setup());
    let spoofed = request(
        "GET",
        "/api/open",
        None,
        &[("X-Auth-Client", "admin"), ("X_Auth_Roles", "admin"), ("X-Forwarded-For", "9.9.9.9")],
    );
    assert_eq!(gateway.send(spoofed).status, 200);
    let head = gateway.upstream.last_head().join("\n").to_ascii_lowercase();
    assert!(!head.contains("admin") && !head.contains("9.9.9.9"), "{head}");
    assert!(head.contains("x-forwarded-for: 127.0.0.1"), "{head}");
    // A token there is neither needed nor looked at, nor passed on.
    assert_eq!(gateway.get("/api/open", Some("nonsense")).status, 200);
    assert!(!gateway.upstream.last_head().join("\n").contains("nonsense"));
}

#[test]
fn credentials_are_exactly_one_bearer_token_in_the_header() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    let bearer = format!("Bearer {token}");
    for (target, headers, expect, status) in [
        ("/api/table/x", vec![], "token.missing", 401),
        ("/api/table/x", vec![("Authorization", "Basic YTpi")], "token.missing", 401),
        (
            "/api/table/x",
            vec![("Authorization", bearer.as_str()), ("authorization", bearer.as_str())],
            "token.several",
            400,
        ),
        (
            "/api/table/x?access_token=x",
            vec![("Authorization", bearer.as_str())],
            "token.in_query",
            400,
        ),
        ("/api/table/x?access%5ftoken=x", vec![], "token.in_query", 400),
        ("/api/table/x", vec![("Authorization", "Bearer a b")], "token.malformed", 401),
        ("/api/table/x", vec![("Authorization", "bEARER nonsense")], "token.invalid", 401),
    ] {
        let response = gateway.send(request("GET", target, None, &headers));
        assert_eq!(
            (response.verdict().as_str(), response.status),
            (expect, status),
            "{target} {headers:?}"
        );
        let challenge = response.header("www-authenticate").unwrap();
        assert_eq!(challenge.contains("error="), expect != "token.missing", "{challenge}");
    }
    assert!(gateway.upstream.requests().is_empty());
}

#[test]
fn blocks_and_limits_to_apis_refuse_whatever_else_permits() {
    let gateway = Gateway::start(&setup());
    for (client, target, expect) in [
        ("blocked", "/api/table/x", "blocked.client"),
        ("as-bad", "/api/table/x", "blocked.user"),
        ("limited", "/api/table/x", "scope.limited"),
        ("limited", "/legacy/x", "permit"),
    ] {
        let response = gateway.get(target, Some(&gateway.token(client)));
        assert_eq!(response.verdict(), expect, "{client}");
    }
}

#[test]
fn a_blocked_network_is_refused_before_token_endpoint_and_public_apis() {
    // A peer in trusted_proxies speaks for others: bind the client to that loopback address.
    let gateway = Gateway::start(&setup());
    let from_proxy = |text: String| {
        let socket = std::process::Command::new("curl")
            .args([
                "-s",
                "--interface",
                "127.0.0.2",
                "-H",
                "X-Forwarded-For: 198.51.100.7",
                "-w",
                "\n%{http_code}",
            ])
            .args(text.split(' '))
            .output()
            .unwrap();
        String::from_utf8(socket.stdout).unwrap()
    };
    let url = format!("http://{}", gateway.address);
    let token_request =
        format!("-d grant_type=client_credentials -u app:{SECRET} {url}/oauth_token.do");
    for text in [format!("{url}/api/open"), token_request, format!("{url}/nowhere")] {
        let answer = from_proxy(text.clone());
        assert!(answer.contains("blocked.network") && answer.ends_with("403"), "{text}: {answer}");
    }
    // The same header from a peer that is no trusted proxy says nothing.
    let direct = request("GET", "/api/open", None, &[("X-Forwarded-For", "198.51.100.7")]);
    assert_eq!(gateway.send(direct).status, 200);
}

#[test]
fn a_limit_per_address_counts_everything_and_says_when_to_come_back() {
    let mut setup = setup();
    setup.policies.push_str("limits:\n  - { per: address, rate: 3/h }\n");
    let gateway = Gateway::start(&setup);
    assert_eq!(gateway.get("/api/open", None).status, 200);
    assert_eq!(gateway.get("/nowhere", None).status, 404);
    assert_eq!(gateway.token_response("app", "").status, 200);
    for target in ["/api/open", "/oauth_token.do", "/nowhere"] {
        let refused = gateway.get(target, None);
        assert_eq!(
            (refused.status, refused.verdict().as_str()),
            (429, "limit.address"),
            "{target}"
        );
        let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=1_200).contains(&seconds), "{seconds}");
    }
}

#[test]
fn our_own_endpoints_win_on_our_own_host_alone() {
    let mut setup = setup();
    setup.policies = setup.policies.replace(
        "auth_scopes:",
        "  shadowed:\n    base_path: /oauth2\n    upstream: api\n    public: true\n    resources: \
            { /token: [GET, POST] }\nauth_scopes:",
    );
    let gateway = Gateway::start(&setup);
    assert_eq!(gateway.get("/oauth2/token", None).status, 405);
    let elsewhere =
        request("GET", "/oauth2/token", None, &[]).replace("Host: 127.0.0.1", "Host: api.example");
    assert_eq!(gateway.send(elsewhere).status, 200);
    assert_eq!(gateway.upstream.requests().len(), 1);
}

#[test]
fn servicenow_error_format_is_what_its_callers_parse() {
    let gateway = Gateway::start(&setup());
    let refused = gateway.get("/legacy/x", None);
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("content-type"), Some("application/json"));
    let body = refused.json();
    assert_eq!(body["status"], "failure");
    assert_eq!(body["error"]["message"], "User Not Authenticated");
    assert_eq!(body["error"]["detail"], "Required to provide Auth information");
    assert_eq!(body["reason"], "token.missing");
    assert_eq!(body["decision_id"].as_str(), refused.header("x-decision-id"));
    assert!(body["explanation"].as_str().unwrap().contains("bearer token"), "{body}");
}

#[test]
fn the_upstream_learns_who_calls_from_us_alone() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    let spoofs = [
        ("X-Auth-Client", "evil"),
        ("x_auth_client", "evil"),
        ("X.Auth.Client", "evil"),
        ("X-Auth-Roles", "evil"),
        ("X-Auth-Assertion", "evil"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Prefix", "/evil"),
        ("Forwarded", "for=evil"),
        ("X-Original-Host", "evil"),
        ("X-HTTP-Method-Override", "GET"),
        ("X-Decision-Id", "evil"),
        ("Connection", "x-auth-client, x-auth-subject"),
        ("Via", "1.0 before"),
    ];
    assert_eq!(gateway.send(request("GET", "/api/table/x", Some(&token), &spoofs)).status, 200);
    let head = gateway.upstream.last_head();
    let all = head.join("\n");
    assert!(!all.contains("evil") && !all.contains("override") && !all.contains(&token), "{all}");
    let has = |line: &str| head.iter().any(|own| own.eq_ignore_ascii_case(line));
    for line in [
        "x-auth-issuer: self",
        "x-auth-client: app",
        "x-auth-subject: app",
        "x-auth-scopes: read v1_write",
        "x-forwarded-proto: http",
    ] {
        assert!(has(line), "{line} in {all}");
    }
    assert!(all.contains("1.0 before") && all.contains("1.1 scopegate"), "{all}");
    assert!(has(&format!("host: {}", gateway.upstream.address)), "{all}");
    assert!(!all.to_ascii_lowercase().contains("x-auth-roles"), "no role, no header: {all}");
}

#[test]
fn the_base_path_itself_and_a_literal_behind_a_parameter_are_resources_of_their_own() {
    let policies = "apis:
  mcp: { base_path: /mcp, upstream: api, resources: { \"\": [POST, DELETE, PROPFIND] } }
  api: { base_path: /api, upstream: api, resources: { /: [GET], \"/o/{id}\": [GET, MERGE], \
                    \"/o/{id}:do\": [POST], \"/o/{id}:re:do\": [POST] } }
  root: { base_path: /, host: root.example, upstream: api, public: true,
          resources: { \"\": [GET] } }
auth_scopes:
  read:
    grants:
      - { api: mcp, resources: [\"\"] }
      - { api: api, methods: [GET, MERGE] }
      - { api: api, resources: [\"/o/{id}:do\"], where: { id: [\"7\"] } }
tests:
  - { request: POST /mcp, expect: token.missing }
  - { request: GET /, host: root.example, expect: permit }
";
    let gateway = Gateway::start(&Setup::new(
        policies,
        "clients: { app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], \
            auth_scopes: [read] } }\n",
    ));
    let token = gateway.token("app");
    for (method, path, verdict) in [
        ("POST", "/mcp", "permit"),
        ("PROPFIND", "/mcp", "permit"),
        ("POST", "/mcp/", "operation.unknown"),
        ("GET", "/mcp", "operation.method"),
        ("REPORT", "/mcp", "operation.method"),
        ("GET", "/api/", "permit"),
        ("GET", "/api", "operation.unknown"),
        ("GET", "/api/o/7", "permit"),
        ("MERGE", "/api/o/7", "permit"),
        ("POST", "/api/o/7:do", "permit"),
        ("POST", "/api/o/8:do", "scope.unscoped"),
        ("POST", "/api/o/7:re:do", "scope.unscoped"),
        // Never a fall back to the parameter alone.
        ("GET", "/api/o/7:do", "operation.method"),
        ("GET", "/api/o/:do", "permit"),
        ("POST", "/api/o/7%3Ado", "path.ambiguous"),
        ("POST", "/api/o/7%3Are:do", "path.ambiguous"),
        ("GET", "/api/o/7%3Adone", "permit"),
        ("TRACE", "/api/o/7", "operation.method"),
    ] {
        let response = gateway.call(method, path, Some(&token));
        assert_eq!(response.verdict(), verdict, "{method} {path}");
        if verdict == "permit" {
            assert!(gateway.upstream.last_head()[0].starts_with(&format!("{method} {path} ")));
        }
    }
    let missing = gateway.call("POST", "/mcp", None);
    let challenge = missing.header("www-authenticate").unwrap();
    assert!(challenge.contains("/.well-known/oauth-protected-resource/mcp\""), "{challenge}");
    let asked = gateway.call("GET", "/api/o/7:do", None);
    assert_eq!(asked.header("allow"), Some("POST"));
    let record = gateway.record(missing.header("x-decision-id").unwrap());
    assert_eq!((&record["resource"], &record["method"]), (&json!(""), &json!("POST")));
    let root = gateway.send("GET / HTTP/1.1\r\nHost: root.example\r\n\r\n");
    assert_eq!(root.status, 200);
}

#[test]
fn a_permit_and_a_refusal_carry_the_decision_id_of_their_record() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    let permitted = gateway.get("/api/table/x?secret=query", Some(&token));
    let record = gateway.record(permitted.header("x-decision-id").unwrap());
    assert_eq!(record["verdict"], "permit");
    assert_eq!(record["client"], "app");
    assert_eq!(record["resource"], "/table/{name}");
    assert_eq!(record["version"], "v2");
    assert_eq!(record["rules"], json!(["scope read"]));
    assert_eq!(record["status"], 200);
    let text = record.to_string();
    assert!(
        !text.contains("secret") && !text.contains(&token) && !text.contains("query"),
        "{text}"
    );
    let refused = gateway.call("POST", "/api/table/x", Some(&token));
    assert_eq!(refused.json()["decision_id"], refused.header("x-decision-id").unwrap());
    assert_eq!(
        gateway.record(refused.header("x-decision-id").unwrap())["reason"],
        "scope.unscoped"
    );
}

#[test]
fn upstream_failures_have_their_own_reasons_and_never_look_complete() {
    let mut setup = setup();
    setup
        .gateway
        .push_str("upstreams: { api: { servers: ['@UPSTREAM@'], timeouts: { response: 3s } } }\n");
    let gateway = Gateway::start(&setup);
    let token = gateway.token("app");
    for (answer, expect, status) in [
        ("", "upstream.failed", 502),
        ("nonsense\r\n\r\n", "upstream.protocol", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10", "upstream.timeout", 504),
    ] {
        gateway.upstream.answer(answer);
        let response = gateway.get("/api/table/x", Some(&token));
        assert_eq!((response.verdict().as_str(), response.status), (expect, status), "{answer:?}");
    }
    let mut connection = Connection::open(gateway.address);
    gateway.upstream.answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    connection.write(request("GET", "/api/table/x", Some(&token), &[]).as_bytes());
    let partial = connection.read(false).unwrap();
    assert!(partial.body.len() < 100 && connection.is_closed());

    let gateway = Gateway::start_with(&setup, Upstream::dead());
    let response = gateway.get("/api/table/x", Some(&gateway.token("app")));
    assert_eq!((response.status, response.verdict().as_str()), (503, "upstream.unavailable"));
}

#[test]
fn keep_alive_carries_local_answers_token_requests_and_forwarded_ones() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    let mut connection = Connection::open(gateway.address);
    for _ in 0..3 {
        connection.write(request("GET", "/api/table/x", None, &[]).as_bytes());
        assert_eq!(connection.read(false).unwrap().status, 401);
        connection.write(
            form(
                "/oauth2/token",
                &[],
                &format!("grant_type=client_credentials&client_id=app&client_secret={SECRET}"),
            )
            .as_bytes(),
        );
        assert_eq!(connection.read(false).unwrap().status, 200);
        connection.write(request("GET", "/api/table/x", Some(&token), &[]).as_bytes());
        assert_eq!(connection.read(false).unwrap().status, 200);
        connection.write(request("HEAD", "/api/table/x", None, &[]).as_bytes());
        assert_eq!(connection.read(true).unwrap().status, 401);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_declared_or_not() {
    let mut setup = setup();
    setup.gateway.push_str("edge: { max_body_size: 1KiB }\n");
    let gateway = Gateway::start(&setup);
    let token = gateway.token("app");
    let declared = format!(
        "POST /api/v1/table/x HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \
            {token}\r\nContent-Length: 2000\r\n\r\n"
    );
    let response = gateway.send(&declared);
    assert_eq!((response.status, response.verdict().as_str()), (413, "request.body"));
    assert!(gateway.upstream.requests().is_empty());
    let chunk = "a".repeat(600);
    let chunked = format!(
        "POST /api/v1/table/x HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \
            {token}\r\nTransfer-Encoding: \
            chunked\r\n\r\n258\r\n{chunk}\r\n258\r\n{chunk}\r\n0\r\n\r\n"
    );
    let response = gateway.send(chunked);
    assert_eq!((response.status, response.verdict().as_str()), (413, "request.body"));
}

#[test]
fn the_pure_function_and_the_gateway_agree_on_hosts_and_versions() {
    let config = config_of(&setup());
    for (method, target, expect) in [
        ("GET", "/api/v2/table/x", "permit"),
        ("POST", "/api/v1/table/x", "permit"),
        ("POST", "/api/v2/table/x", "scope.unscoped"),
    ] {
        assert_eq!(
            decide_own(&config, &request_to(method, target, None), "app", "read v1_write"),
            expect,
            "{method} {target}"
        );
    }
}
