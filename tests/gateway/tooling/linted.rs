//! The lint of `scopegate check`.

use std::collections::BTreeSet;

use scopegate::tooling::lint::{Basis, Rule};

use super::Files;
use crate::support::Setup;

const POLICIES: &str = "apis:
  one: { base_path: /one, upstream: api, resources: { /a: [GET, POST], /b: [GET], /c: { methods: \
    [GET], public: true } } }
  two: { base_path: /two, upstream: api, resources: { /a: [GET, POST] } }
auth_scopes:
  good: { grants: [{ api: one, resources: [/a], methods: [GET] }] }
  nobody: { grants: [{ api: one, resources: [/a], methods: [GET] }] }
  nothing: {}
  off: { active: false, grants: [{ api: one }] }
  wild: { grants: [{ api: one }, { api: two }] }
  empty_grant: { grants: [{ api: two, methods: [DELETE] }, { api: two, methods: [GET] }] }
  useraccount: {}
access_policies:
  shadowed: { all_apis: true, methods: [DELETE], allow: [{ clients: [app] }] }
  anyone: { all_apis: true, allow: [{ from: [10.0.0.0/8] }] }
  closed: { api: two, methods: [POST], allow: [] }
  dead: { api: one, resources: [/a], allow: [{ clients: [gone] }, { issuers: [corp], clients: \
    [app] }, { roles: { all: [ghost] } }] }
acls:
  - { api: one, resources: [/c], roles: { any: [itil] } }
  - { api: one, resources: [/a], methods: [POST], roles: { any: [phantom] } }
  - { api: two, methods: [PUT], roles: { any: [itil] } }
waivers:
  - { rule: client.broad, on: broad, reason: moves in March, until: 2099-01-01 }
  - { rule: secret.no_expiry, on: broad, reason: was to end, until: 2020-01-01 }
  - { rule: client.broad, on: app, reason: nothing there, until: 2099-01-01 }
  - { rule: client.borad, on: app, reason: mistyped, until: 2099-01-01 }
";

const CLIENTS: &str = "clients:
  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@, expires: 2099-01-01 }], \
    auth_scopes: [good, nothing, off, wild, empty_grant], roles: [itil] }
  broad: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], \
    allow_only_selected_scopes: false }
  master: { grants: [client_credentials], secrets: [{ sha256: @SHA256@, expires: 2099-01-01 }], \
    auth_scopes: [useraccount] }
  old: { grants: [password], secrets: [{ sha256: @SHA256@, expires: 2099-01-01 }] }
  gone: { active: false, grants: [client_credentials], secrets: [{ sha256: @SHA256@ }] }
  locked: { grants: [client_credentials], application_user: bob, secrets: [{ sha256: @SHA256@, \
    expires: 2099-01-01 }] }
  editor: { public_client: true, grants: [authorization_code], redirect_urls: ['cursor://x.y/cb'] }
";

fn files() -> Files {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.users =
        "users:\n  bob: { locked: true }\n  eve: { external: [{ issuer: https://nowhere.example, \
            subject: e }] }\n"
            .to_owned();
    setup.gateway = "listeners: [{ address: \"@LISTEN@\", behind_tls: true }]
issuers: { corp: { issuer: https://corp.example, audience: [x], id_tokens: true, keys: { jwks_url: \
    http://corp.example/jwks, plain_http: true } },
  open: { issuer: https://open.example, any_audience: true, keys: discover, default_client: app },
  tight: { issuer: https://tight.example, audience: [x], keys: discover, default_client: app, \
    claims: { scopes: scp } } }
"
    .to_owned();
    Files::of(&setup)
}

#[test]
fn every_rule_of_the_lint_finds_what_it_is_about_and_nothing_else() {
    let files = files();
    let (code, told) = files.json(&["check"], "");
    assert_eq!(code, 0, "{told}");
    let findings = told["findings"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let found: BTreeSet<(String, String, String)> = findings
        .iter()
        .map(|finding| (text(&finding["rule"]), text(&finding["on"]), text(&finding["at"])))
        .collect();
    let expect: BTreeSet<(String, String, String)> = [
        ("acl.unreachable", "one", "policies.yaml:18"),
        ("acl.unreachable", "two", "policies.yaml:20"),
        ("client.broad", "broad", "clients.yaml:3"),
        ("client.master_scope", "master", "clients.yaml:4"),
        ("client.no_provider", "editor", "clients.yaml:8"),
        ("client.no_token", "editor", "clients.yaml:8"),
        ("client.no_token", "gone", "clients.yaml:6"),
        ("client.no_token", "locked", "clients.yaml:7"),
        ("client.no_token", "old", "clients.yaml:5"),
        ("client.no_user", "broad", "clients.yaml:3"),
        ("client.no_user", "master", "clients.yaml:4"),
        ("client.password_grant", "old", "clients.yaml:5"),
        ("client.private_scheme", "editor", "clients.yaml:8"),
        ("grant.unreachable", "empty_grant", "policies.yaml:10"),
        ("inactive.relied_on", "app", "clients.yaml:2"),
        ("inactive.relied_on", "dead", "policies.yaml:16"),
        ("inactive.relied_on", "locked", "clients.yaml:7"),
        ("issuer.any_audience", "open", "gateway.yaml:1"),
        ("issuer.id_tokens", "corp", "gateway.yaml:1"),
        ("issuer.plain_http", "corp", "gateway.yaml:1"),
        ("issuer.unscoped_default", "open", "gateway.yaml:1"),
        ("policy.anyone", "anyone", "policies.yaml:14"),
        ("policy.nobody", "closed", "policies.yaml:15"),
        ("policy.unreachable", "shadowed", "policies.yaml:13"),
        ("profile.unreachable", "dead", "policies.yaml:16"),
        ("proxy.untrusted", "trusted_proxies", "gateway.yaml:1"),
        ("role.unheld", "dead", "policies.yaml:16"),
        ("role.unheld", "one", "policies.yaml:19"),
        ("scope.unobtainable", "nobody", "policies.yaml:6"),
        ("scope.unused", "nothing", "policies.yaml:7"),
        ("scope.unused", "off", "policies.yaml:8"),
        ("scope.wildcard", "wild", "policies.yaml:9"),
        ("secret.no_expiry", "broad", "clients.yaml:3"),
        ("user.unknown_issuer", "eve", "users.yaml:3"),
        ("waiver.expired", "secret.no_expiry on broad", "policies.yaml:23"),
        ("waiver.unused", "client.borad on app", "policies.yaml:25"),
        ("waiver.unused", "client.broad on app", "policies.yaml:24"),
    ]
    .map(|(rule, on, at)| (rule.to_owned(), on.to_owned(), at.to_owned()))
    .into();
    assert_eq!(found, expect);
    // One is left, which needs an operation that nothing names: here `wild` names them all.
    files.write(
        "policies.yaml",
        &POLICIES.replace("wild: { grants: [{ api: one }, { api: two }] }", "wild: {}"),
    );
    let (_, told) = files.json(&["check"], "");
    let mut seen: BTreeSet<String> = found.into_iter().map(|(rule, ..)| rule).collect();
    let unreachable = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["rule"] == "operation.unreachable");
    let unreachable: Vec<&str> =
        unreachable.map(|finding| finding["on"].as_str().unwrap()).collect();
    // `two POST /a` is closed on purpose, by a policy that admits nobody.
    assert_eq!(unreachable, ["one GET /b"]);
    seen.extend(of_hosts(&files));
    let rules = Rule::ALL.iter().filter(|rule| rule.basis() == Basis::Check);
    let labels: BTreeSet<&str> = rules.map(|rule| rule.label()).collect();
    seen.insert("operation.unreachable".to_owned());
    assert_eq!(seen, labels.into_iter().map(str::to_owned).collect(), "each rule is seen here");
}

/// Those of a set that a host asks about.
fn of_hosts(files: &Files) -> Vec<String> {
    files.write(
        "gateway.yaml",
        "public_url: http://127.0.0.1:1
listeners: [{ address: '127.0.0.1:1' }, { address: '127.0.0.1:2', decide: nginx }]
store: { embedded: { path: store } }
policies: policies.yaml
clients: clients.yaml
upstreams: { a: { servers: ['http://127.0.0.1:3'] }, b: { servers: ['http://127.0.0.1:4'] } }
",
    );
    files.write(
        "policies.yaml",
        "apis:
  wide: { base_path: /w, upstream: a, public: true, websocket: true, resources: { '/{*rest}': \
            [GET] } }
  inside: { base_path: /w/in, upstream: b, public: true, resources: { /x: [GET] } }
  beside: { base_path: /v, upstream: b, public: true, resources: { /x: [GET] } }
",
    );
    files.write("clients.yaml", "clients: {}\n");
    let (_, told) = files.json(&["check"], "");
    let findings = told["findings"].as_array().unwrap_or_else(|| panic!("{told}"));
    let found: Vec<(&str, &str)> = findings
        .iter()
        .map(|finding| (finding["rule"].as_str().unwrap(), finding["on"].as_str().unwrap()))
        .filter(|(rule, _)| rule.starts_with("host."))
        .collect();
    let all =
        [("host.untrusted", "trusted_proxies"), ("host.unheld", "wide"), ("host.paths", "wide")];
    assert_eq!(found, all);
    all.map(|(rule, _)| rule.to_owned()).into()
}

#[test]
fn findings_fail_a_check_only_where_that_is_asked_and_waivers_count() {
    let files = files();
    assert_eq!(files.run(&["check"], "").0, 0);
    let (code, text, _) = files.run(&["check", "--deny", "warning"], "");
    assert_eq!(code, 1);
    assert!(text.contains("1 waived") && !text.contains("[client.broad]"), "{text}");
    assert!(
        text.contains(
            "warning: clients.yaml:4: client `master` holds `useraccount`, which passes \
            the scope gate of every API [client.master_scope]\n  the scope gate is open"
        ),
        "{text}"
    );
    assert!(text.contains("did you mean `client.broad`?"), "{text}");
    let calm = Files::of(&Setup::new(
        "apis: { one: { base_path: /one, upstream: api, resources: { /a: [GET] } } }\nauth_scopes: \
            { s: { grants: [{ api: one }] } }\n",
        "clients: { app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], \
            auth_scopes: [s], roles: [reader] } }\n",
    ));
    assert_eq!(calm.run(&["check", "--deny", "note"], "").0, 1);
    let waived = "apis: { one: { base_path: /one, upstream: api, resources: { /a: [GET] } } \
        }\nauth_scopes: { s: { grants: [{ api: one }] } }\n\
                  waivers: [{ rule: secret.no_expiry, on: app, reason: a test, until: 2099-01-01 \
                  }]\n";
    calm.write("policies.yaml", waived);
    assert_eq!(calm.run(&["check", "--deny", "note"], "").0, 0);
}
