//! What `check` says of a wrong configuration: every fault, at its place, with what would be right.

use std::process::Command;

use scopegate::config::{Lookup, Sources, load};
use scopegate::names::Timestamp;

use crate::decisions::file;

struct Environment;

impl Lookup for Environment {
    fn env(&self, name: &str) -> Option<String> {
        (name == "PORT").then(|| "127.0.0.1:8080".to_owned())
    }

    fn file(&self, _: &std::path::Path) -> Result<Vec<u8>, String> {
        Err("No such file".to_owned())
    }
}

const GATEWAY: &str = "public_url: http://127.0.0.1:8080
listeners: [{ address: env:PORT }]
store: { embedded: { path: data } }
policies: p
clients: c
authorization_server: { grants: [client_credentials] }
upstreams: { api: { servers: ['http://127.0.0.1:2'] } }
";
const POLICIES: &str =
    "apis: { a: { base_path: /a, upstream: api, resources: { /x: [GET], '/t/{id}': [GET] } } }
auth_scopes: { read: { grants: [{ api: a }] } }
";
const CLIENTS: &str = "clients: { app: { auth_scopes: [read] } }\n";

fn faults(gateway: &str, policies: &str, clients: &str) -> Vec<String> {
    let sources = Sources {
        gateway: Some(file("gateway.yaml", gateway)),
        policies: vec![file("policies.yaml", policies)],
        clients: vec![file("clients.yaml", clients)],
        users: vec![],
    };
    match load(&sources, &Environment, Timestamp(0)) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            faults.iter().map(|fault| fault.to_line().replace("\n  help: ", " | ")).collect()
        }
    }
}

#[test]
fn the_configuration_that_the_cases_change_is_good() {
    assert_eq!(faults(GATEWAY, POLICIES, CLIENTS), [""; 0]);
}

#[test]
fn each_mistake_is_one_fault_at_its_place_with_what_would_be_right() {
    let gateway = |from: &str, to: &str| {
        assert!(GATEWAY.contains(from), "{from}");
        faults(&GATEWAY.replace(from, to), POLICIES, CLIENTS)
    };
    let otlp = |endpoint: &str, more: &str| {
        let text = format!("telemetry: {{ otlp: {{ endpoint: '{endpoint}', {more} }} }}");
        gateway("policies: p", &format!("{text}\npolicies: p"))
    };
    let policies = |text: &str| faults(GATEWAY, &format!("{POLICIES}{text}"), CLIENTS);
    let clients = |text: &str| faults(GATEWAY, POLICIES, &format!("clients:\n  app: {text}\n"));
    let mut wrong = Vec::new();
    for (found, expect) in [
        (
            gateway("polic", "plic"),
            vec![
                "gateway.yaml:1:1: the key `policies` is missing",
                "gateway.yaml:4:1: unknown key `plicies` | did you mean `policies`?",
            ],
        ),
        (
            gateway("env:PORT", "env:NOPE"),
            vec!["gateway.yaml:2:24: the environment has no variable `NOPE`"],
        ),
        (
            gateway("env:PORT", "0.0.0.0:80"),
            vec!["gateway.yaml:2:24: 0.0.0.0:80 is plain HTTP on an address that is not loopback"],
        ),
        (
            gateway("env:PORT", "localhost"),
            vec!["gateway.yaml:2:24: `localhost` is not an address to listen on"],
        ),
        (
            gateway("embedded: { path: data }", "embeded: { path: data }"),
            vec!["gateway.yaml:3:10: unknown key `embeded` | did you mean `embedded`?"],
        ),
        (
            gateway("embedded: { path: data }", "redis: { url: env:R }"),
            vec!["gateway.yaml:3:10: the key `encryption_key` is missing"],
        ),
        (
            gateway("path: data }", "path: data }, redis: { url: env:R }"),
            vec!["gateway.yaml:3:36: `redis` with `embedded`: they exclude each other"],
        ),
        (
            gateway("policies: p", "telemetry: { otlp: { sample: 0.01 } }\npolicies: p"),
            vec!["gateway.yaml:4:14: the key `endpoint` is missing"],
        ),
        (
            otlp("http://c:4317/v1/traces", "sample: 1.5, refusals: 0/s"),
            vec![
                "gateway.yaml:4:67: 1.5 is out of range | write a number from 0 to 1",
                "gateway.yaml:4:82: `0/s` would let nothing through",
            ],
        ),
        (
            otlp("http://c:4317", "sample: many"),
            vec!["gateway.yaml:4:57: the text `many` where a number is expected"],
        ),
        (
            otlp("http://c:4317/v1/traces", "protocol: grpc"),
            vec![
                "gateway.yaml:4:32: an endpoint for gRPC has no path | write scheme, host and port \
                    alone, or `protocol: http`",
                "gateway.yaml:4:32: this is the endpoint of traces alone",
            ],
        ),
        (
            otlp("http://c:4317", "headers: { X-Key: file:key }"),
            vec![
                "gateway.yaml:4:32: `headers` are secrets, and http shows them to all",
                "gateway.yaml:4:67: key: No such file",
            ],
        ),
        (
            otlp("https://c", "headers: { Host: env:PORT, 'a b': env:PORT }"),
            vec![
                "gateway.yaml:4:56: `Host` is the gateway's to say",
                "gateway.yaml:4:72: `a b` is no header name",
            ],
        ),
        (
            otlp("http://c", "ca: ca.pem, proxy: 'http://p:1'"),
            vec![
                "gateway.yaml:4:48: nothing is verified over http",
                "gateway.yaml:4:48: ca.pem: No such file",
                "gateway.yaml:4:63: a proxy takes gRPC over https alone",
            ],
        ),
        (gateway("{ embedded: { path: data } }", "{}"), vec!["gateway.yaml:3:8: an empty mapping"]),
        (
            gateway(
                "['http://127.0.0.1:2'] }",
                "['http://127.0.0.1:2/a%20b', 'http://127.0.0.1:2//a', 'http://127.0.0.1:2/a?b'] }",
            ),
            vec![
                "gateway.yaml:7:31: a server with more than a plain path | as in \
                    https://10.0.0.5/base",
                "gateway.yaml:7:59: a server with more than a plain path",
                "gateway.yaml:7:84: `http://127.0.0.1:2/a?b` has a query",
            ],
        ),
        (
            gateway(
                "['http://127.0.0.1:2'] }",
                "['http://127.0.0.1:2'], host: keep, remove_headers: [X-Auth-Client, 'a b'], \
                    identity: { claims: { Host: a, Content-Type: a, X_Forwarded_For: a, \
                    Sec-Fetch-Mode: a, X-Email: '', X-Mail: b, x_mail: c } } }",
            ),
            vec![
                "gateway.yaml:7:83: `X-Auth-Client` has a meaning of its own",
                "gateway.yaml:7:98: `a b` is no header name",
                "gateway.yaml:7:134: `Host` has a meaning of its own",
                "gateway.yaml:7:151: `Content-Type` has a meaning of its own",
                "gateway.yaml:7:171: `X_Forwarded_For` has a meaning of its own",
                "gateway.yaml:7:190: `Sec-Fetch-Mode` has a meaning of its own",
                "gateway.yaml:7:202: ``: an empty name",
                "gateway.yaml:7:217: `x_mail` is an alias of another one",
                "policies.yaml:1:",
            ],
        ),
        (
            gateway(
                "['http://127.0.0.1:2'] }",
                "['http://127.0.0.1:2'], identity: { form: assertion, claims: { X-Email: a } } }",
            ),
            vec!["gateway.yaml:7:64: an assertion says no further claims | write `form: headers`"],
        ),
        (
            gateway("[client_credentials]", "[client_credential]"),
            vec![
                "gateway.yaml:6:34: `client_credential` is not one of the choices | did you mean \
                    `client_credentials`?",
            ],
        ),
        (
            gateway(
                "[client_credentials]",
                "[client_credentials], login: { login_url: 'https://a.example' }",
            ),
            vec!["gateway.yaml:1:1: `login_url` without `admin`"],
        ),
        (
            gateway(
                "['http://127.0.0.1:2'] }",
                "['https://127.0.0.1:2'], tls: { server_name: 'a b', ca: nowhere.pem } }",
            ),
            vec![
                "gateway.yaml:7:75: `a b` is no host name or address",
                "gateway.yaml:7:86: nowhere.pem: No such file",
            ],
        ),
        (
            gateway(
                "['http://127.0.0.1:2'] }",
                "['http://127.0.0.1:2'], tls: { server_name: '' } }",
            ),
            vec![
                "gateway.yaml:7:59: `tls` of an upstream without an https server",
                "gateway.yaml:7:74: `` is no host name or address",
            ],
        ),
        (
            gateway("http://127.0.0.1:8080", "http://api.example.com"),
            vec!["gateway.yaml:1:13: public_url is plain http on a host that is not loopback"],
        ),
        (
            policies("blocks: [{ from: [10.0.0.1/8] }]"),
            vec![
                "policies.yaml:3:19: `10.0.0.1/8` has bits set outside its prefix; write \
                    10.0.0.0/8",
            ],
        ),
        (
            policies("blocks: [{ reason: none }]"),
            vec!["policies.yaml:3:10: a block that blocks nothing"],
        ),
        (
            policies("blocks: [{ clients: [ap], until: 2027-02-30 }]"),
            vec!["policies.yaml:3:34: `2027-02-30` is not a date"],
        ),
        (
            policies("limits: [{ per: client }]"),
            vec!["policies.yaml:3:10: a limit without `rate` and `quota`"],
        ),
        (
            policies("limits: [{ per: address, rate: 1 }]"),
            vec!["policies.yaml:3:32: the number 1 where text is expected | put it in quotes"],
        ),
        (
            policies("acls: [{ api: b, roles: { all: [r] } }]"),
            vec!["policies.yaml:3:15: there is no API `b` | there is `a`"],
        ),
        (
            policies("acls: [{ api: a, roles: { all: [] } }]"),
            vec!["policies.yaml:3:25: an empty role list"],
        ),
        (
            policies("acls: [{ api: a, resources: [/y], roles: { all: [r] } }]"),
            vec!["policies.yaml:3:30: `a` has no resource `/y` | did you mean `/x`?"],
        ),
        (
            policies("acls: [{ api: a, versions: [v1], roles: { all: [r] } }]"),
            vec!["policies.yaml:3:8: this rule", "policies.yaml:3:29: `a` has no version `v1`"],
        ),
        (
            policies("access_policies: { p: { api: a, allow: [{}] } }"),
            vec!["policies.yaml:3:41: an empty profile would let everybody in"],
        ),
        (
            policies("access_policies: { p: { api: a, allow: [{ clients: [] }] } }"),
            vec!["policies.yaml:3:52: an empty list never holds"],
        ),
        (
            policies("access_policies: { p: { api: a, allow: [{ issuers: [corp] }] } }"),
            vec!["policies.yaml:3:53: there is no issuer `corp`"],
        ),
        (
            policies("access_policies: { p: { allow: [] } }"),
            vec!["policies.yaml:3:20: a policy is about one `api` or about `all_apis: true`"],
        ),
        (
            policies("access_policies: { p: { api: a, allow: [] }, q: { api: a, allow: [] } }"),
            vec![
                "policies.yaml:3:46: the access policies `p` (policies.yaml:3) and `q` are equally \
                    specific for `GET /t/{id}` of `a`",
                "policies.yaml:3:46: the access policies",
            ],
        ),
        (
            clients("{ auth_scopes: [raed] }"),
            vec!["clients.yaml:2:24: there is no auth scope `raed` | did you mean `read`?"],
        ),
        (clients("{ application_user: x }"), vec!["clients.yaml:2:28: there is no user `x`"]),
        (clients("{ secrets: [{ sha256: 9c1f }] }"), vec!["clients.yaml:2:30: not a SHA-256"]),
        (
            clients("{ secrets: [{ sha256: hunter2 }] }"),
            vec![
                "clients.yaml:2:30: not a SHA-256: write the 64 hex digits that `printf %s SECRET \
                    | sha256sum` prints; of a secret shorter than 43 characters write `argon2id`: \
                    `scopegate client digest-secret` reads a secret and prints the line",
            ],
        ),
        (
            clients("{ access_token_lifespan: 1800 }"),
            vec![
                "clients.yaml:2:33: the number 1800 where text is expected | did you mean `1800s`?",
            ],
        ),
        (
            clients("{ refresh_token_lifespan: '8640000' }"),
            vec![
                "clients.yaml:2:34: `8640000` is a number without a unit; did you mean `8640000s`?",
            ],
        ),
        (
            clients("{ secrets: [{ expires: 2027-01-01 }] }"),
            vec!["clients.yaml:2:20: a secret is either `sha256` or `argon2id`"],
        ),
        (
            clients("{ activ: true }"),
            vec!["clients.yaml:2:10: unknown key `activ` | did you mean `active`?"],
        ),
        (
            clients("{ active: yes please }"),
            vec!["clients.yaml:2:18: the text `yes please` where true or false is expected"],
        ),
        (clients("{ limit_authorization: [] }"), vec!["clients.yaml:2:31: an empty list"]),
        (
            clients("{ access_token_lifespan: 1500ms }"),
            vec!["clients.yaml:2:33: `1500ms` is not a whole number of seconds"],
        ),
        (
            clients("{ external: { corp: [x] } }"),
            vec!["clients.yaml:2:22: there is no issuer `corp`"],
        ),
        (clients("\n  app: {}"), vec!["clients.yaml:3:3: the key `app` stands here a second time"]),
    ] {
        let reported: std::collections::BTreeSet<&String> = found.iter().collect();
        let same = !found.is_empty()
            && found.iter().zip(&expect).all(|(found, expect)| found.starts_with(expect))
            && reported.len() <= expect.len();
        if !same {
            wrong.push(format!("{found:#?}\ninstead of {expect:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_faults_of_all_files_come_in_one_run() {
    let found = faults(
        &GATEWAY
            .replace("path: data", "pth: data")
            .replace(
                "policies: ",
                "issuers: { x: { issuer: https://x.example, audience: [y], keys: discover, ca: x } \
                    }\npolicies: ",
            )
            .replace("env:PORT", "0.0.0.0:80"),
        &format!(
            "{POLICIES}acls: [{{ api: nope, roles: {{ any: [] }} }}]\nblocks: [{{ from: \
            [300.0.0.0/8] }}]\n"
        ),
        "clients:\n  a: { grants: [password, client_credentials], auth_scopes: [raed] }\n  b: { \
            secret: x }\n",
    );
    for words in [
        "unknown key `pth`",
        "`path` is missing",
        "No such file",
        "there is no API `nope`",
        "an empty role list",
        "300.0.0.0/8",
        "raed",
        "`secret`",
    ] {
        assert!(found.iter().any(|fault| fault.contains(words)), "{words} is not in {found:#?}");
    }
}

#[test]
fn check_prints_the_line_with_a_marker_and_exits_with_1_and_2_for_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let check = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .arg("check")
            .arg("--config")
            .arg(&path)
            .args(arguments)
            .output()
            .unwrap();
        let text =
            String::from_utf8(if arguments.is_empty() { output.stderr } else { output.stdout })
                .unwrap();
        (output.status.code(), text)
    };
    assert_eq!(check(&[]).0, Some(2));
    std::fs::write(
        &path,
        GATEWAY.replace("env:PORT", "127.0.0.1:1").replace("policies: p", "polices: p"),
    )
    .unwrap();
    std::fs::write(folder.path().join("c"), CLIENTS).unwrap();
    let (code, text) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains("polices: p")
            && text.contains("^^^^^^^")
            && text.contains("did you mean `policies`?"),
        "{text}"
    );
    assert!(!text.contains("auth scope"), "nothing follows from files that were not found: {text}");
    let (code, json) = check(&["--format", "json"]);
    assert_eq!(code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        json["faults"]
            .as_array()
            .unwrap()
            .iter()
            .any(|fault| fault["line"] == 4 && fault["column"] == 1),
        "{json}"
    );
    std::fs::write(&path, GATEWAY.replace("env:PORT", "127.0.0.1:1")).unwrap();
    std::fs::write(folder.path().join("p"), POLICIES).unwrap();
    let (code, json) = check(&["--format", "json"]);
    assert_eq!(code, Some(0), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let findings = json["findings"].to_string();
    assert!(
        findings.contains("lists no `grants`") && findings.contains("neither secret nor"),
        "{findings}"
    );
    assert!(!findings.contains("proxy.untrusted"), "{findings}");
    std::fs::write(&path, GATEWAY.replace("env:PORT", "'127.0.0.1:1', behind_tls: true")).unwrap();
    let (code, json) = check(&["--format", "json"]);
    assert!(code == Some(0) && json.contains("proxy.untrusted"), "{json}");
    let usage = Command::new(env!("CARGO_BIN_EXE_scopegate")).arg("chek").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn settings_of_an_issuer_that_no_token_can_match_are_faults() {
    for (settings, words) in [
        ("audience: [y], claims: { client: '' }", "an empty name"),
        ("audience: [y], claims: { roles: /a~2 }", "a `~` in a JSON Pointer"),
        ("audience: [y], claims: { client: [azp, azp] }", "`azp` twice"),
        ("audience: [y], claims: { scopes: [] }", "an empty list"),
        ("audience: [y], scope_separator: ','", "there is no scopes claim to separate"),
        ("audience: [y], claims: { scopes: s }, scope_separator: ' '", "separates no scopes"),
        ("audience: [y], token_types: ['at jwt']", "is no media type"),
        ("audience: [y], token_types: []", "an empty list"),
        ("any_audience: true, id_tokens: true", "made for any client"),
    ] {
        let issuer = format!(
            "issuers: {{ x: {{ issuer: https://x.example, keys: discover, {settings} }} }}\n\
             policies: "
        );
        let found = faults(&GATEWAY.replace("policies: ", &issuer), POLICIES, "clients: {}\n");
        assert!(found.iter().any(|fault| fault.contains(words)), "{settings}: {found:#?}");
        assert_eq!(found.len(), 1, "{settings}: {found:#?}");
    }
}

/// An issuer is what its tokens write; tenants make one of many, and never of more than is meant.
#[test]
fn issuers_are_urls_other_uris_or_plain_names_and_tenants_have_their_place_in_them() {
    const NO_SCOPES: &str = "claims: { client: azp }";
    const URL: &str = "keys: { jwks_url: 'https://k.example/jwks' }, claims: { scopes: scp }";
    const LOGIN: &str = "'https://l.example/{tenant}/v2.0'";
    let found = |issuers: &str, policies: &str, clients: &str| {
        let issuers = format!("issuers: {{ {issuers} }}\npolicies: ");
        faults(&GATEWAY.replace("policies: ", &issuers), policies, clients)
    };
    let one =
        |issuer: &str, rest: &str| format!("x: {{ issuer: {issuer}, audience: [y], {rest} }}");
    for good in [
        "accounts.google.com",
        "'urn:example:issuer'",
        "'spiffe://corp.example'",
        "'https://x.example/a?b=c#d'",
        "'my issuer'",
        "'http://in.cluster'",
        "\u{e4}",
    ] {
        assert_eq!(found(&one(good, URL), POLICIES, CLIENTS), [""; 0], "{good}");
    }
    for (issuer, keys, words) in [
        ("accounts.google.com", "keys: discover", "is no URL from which metadata"),
        ("'urn:x:y'", "keys: discover", "is no URL from which metadata"),
        ("'https://x.example/?a'", "keys: discover", "is no URL from which metadata"),
        ("'http://x.example'", "keys: discover", "plain http"),
        ("'a b:c'", URL, "has a colon and is no URI"),
        ("':c'", URL, "has a colon and is no URI"),
        ("'https://x.example/a b'", URL, "has a colon and is no URI"),
        ("''", URL, "1 to 512 bytes"),
        ("\"a\\nb\"", URL, "without control characters"),
        (LOGIN, URL, "no token says so"),
        ("'https://l.example/{tenantid}'", URL, "no token says so"),
        ("'http://127.0.0.1:8080/'", URL, "our own `public_url`"),
    ] {
        let found = found(&one(issuer, keys), POLICIES, CLIENTS);
        assert!(found.iter().any(|fault| fault.contains(words)), "{issuer}: {found:#?}");
        assert_eq!(found.len(), 1, "{issuer}: {found:#?}");
    }
    let tenants = |allow: &str, rest: &str| {
        one(LOGIN, &format!("tenants: {{ claim: tid, allow: {allow} }}, {rest}"))
    };
    let client = |external: &str| {
        format!("clients: {{ app: {{ auth_scopes: [read], external: {external} }} }}\n")
    };
    let profile = |claims: &str| {
        format!(
            "{POLICIES}access_policies: {{ p: {{ api: a, allow: [{{ issuers: [x], claims: \
             {claims} }}] }} }}\n"
        )
    };
    let policies = || POLICIES.to_owned();
    let clients = || CLIENTS.to_owned();
    for (issuers, policies, clients) in [
        (tenants("[9f, '71']", URL), policies(), client("{ x/9f: [azp] }")),
        (tenants("any", URL), profile("{ tid: [9f] }"), client("{ x/zz: [azp] }")),
        (tenants("[9f]", URL), profile("{ dept: [it] }"), clients()),
        (
            format!(
                "{}, y: {{ issuer: 'https://l.example/71/v2.0', audience: [y], {URL} }}",
                tenants("[9f]", URL)
            ),
            policies(),
            clients(),
        ),
    ] {
        assert_eq!(found(&issuers, &policies, &clients), [""; 0], "{issuers}");
    }
    for (issuers, policies, clients, words) in [
        (tenants("[]", URL), policies(), clients(), "an empty list"),
        (tenants("[9f]", URL).replace("{tenant}", "x"), policies(), clients(), "no place for"),
        (tenants("[9f]", URL).replace("/v2.0", "{tenant}"), policies(), clients(), "no place for"),
        (tenants("all", URL), policies(), clients(), "`all` is not one of the choices"),
        (tenants("[a/b]", URL), policies(), clients(), "`a/b` is no tenant"),
        (tenants("[9f]", "keys: discover"), policies(), clients(), "their keys written out"),
        (
            tenants("any", &URL.replace("claims: { scopes: scp }", NO_SCOPES)),
            policies(),
            clients(),
            "without a scopes claim",
        ),
        (
            tenants("any", &format!("{URL}, roles: {{ g: itil }}")),
            policies(),
            clients(),
            "give itself these roles",
        ),
        (tenants("any", URL), profile("{ dept: [it] }"), clients(), "any tenant of `x`"),
        (tenants("[9f]", URL), policies(), client("{ x: [azp] }"), "`x` has tenants"),
        (tenants("[9f]", URL), policies(), client("{ x/71: [azp] }"), "no tenant of `x`"),
        (tenants("[9f]", URL), policies(), client("{ y/9f: [azp] }"), "no issuer `y/9f`"),
        (
            format!("{}, x/y: {{ issuer: y, audience: [y], {URL} }}", tenants("[9f]", URL)),
            policies(),
            clients(),
            "one is named as a tenant of the other",
        ),
        (
            format!(
                "{}, y: {{ issuer: 'https://l.example/9f/v2.0', audience: [y], {URL} }}",
                tenants("[9f]", URL)
            ),
            policies(),
            clients(),
            "is already the issuer `x`",
        ),
        (
            format!("{}, {}", tenants("any", URL), tenants("any", URL).replacen("x:", "y:", 1)),
            policies(),
            clients(),
            "a token may be of `x` too",
        ),
        (one(LOGIN, URL), profile("{ /a~2: [it] }"), clients(), "a `~` in a JSON Pointer"),
    ] {
        let found = found(&issuers, &policies, &clients);
        assert!(found.iter().any(|fault| fault.contains(words)), "{words}: {found:#?}");
    }
}

#[test]
fn an_origin_that_no_page_has_is_a_fault() {
    let found = |origin: &str| {
        let cors = format!("{{ base_path: /a, cors: {{ origins: [\"{origin}\"] }},");
        faults(GATEWAY, &POLICIES.replace("{ base_path: /a,", &cors), CLIENTS)
    };
    for good in ["https://portal.example", "http://localhost:6274", "https://[::1]:8443", "*"] {
        assert_eq!(found(good), [""; 0], "{good}");
    }
    for (wrong, words) in [
        ("https://*.apps.example", "there are no patterns"),
        ("https://*", "there are no patterns"),
        ("http://localhost:*", "there are no patterns"),
        ("*.apps.example", "there are no patterns"),
        ("https://portal.example/", "is no origin"),
        ("https://Portal.example", "is no origin"),
        ("https://portal.example:443", "is no origin"),
        ("wss://portal.example", "is no origin"),
        ("portal.example", "is no origin"),
        ("null", "is no origin"),
    ] {
        let found = found(wrong);
        assert!(found.len() == 1 && found[0].contains(words), "{wrong}: {found:#?}");
    }
}

#[test]
fn what_is_ignored_is_nobodys_and_further_hosts_are_no_apis() {
    let ignoring = |scopes: &str| {
        let server = format!("client_credentials], ignored_scopes: {scopes} }}");
        faults(&GATEWAY.replace("client_credentials] }", &server), POLICIES, CLIENTS)
    };
    assert_eq!(ignoring("[openid, offline_access]"), [""; 0]);
    for (scopes, words) in [
        ("[openid, read]", "`read` is a scope of clients"),
        ("[useraccount]", "`useraccount` is a scope of clients"),
        ("['a b']", "is not a scope"),
    ] {
        let found = ignoring(scopes);
        assert!(found.len() == 1 && found[0].contains(words), "{scopes}: {found:#?}");
    }
    let hosts = |api: &str| {
        let gateway = format!("hosts: [scopegate.internal]\n{GATEWAY}");
        let policies = POLICIES.replace("apis: { ", &format!("apis: {{ b: {{ {api} }}, "));
        faults(&gateway, &policies, CLIENTS)
    };
    let rest = "upstream: api, resources: { '/{*rest}': [GET], /token: [POST] }";
    let inside = "host: scopegate.internal";
    assert_eq!(hosts(&format!("base_path: /b, {inside}, {rest}")), [""; 0]);
    assert_eq!(hosts(&format!("base_path: /oauth2, {rest}")), [""; 0]);
    assert_eq!(hosts(&format!("base_path: /oauth2, host: x.internal, {rest}")), [""; 0]);
    let found = hosts(&format!("base_path: /oauth2, {inside}, {rest}"));
    assert!(found.iter().all(|fault| fault.contains("is an endpoint of ours")), "{found:#?}");
    assert!(!found.is_empty());
    let clients = |public: &str, url: &str| {
        let urls = format!("{public} redirect_urls: ['{url}']");
        faults(GATEWAY, POLICIES, &format!("clients: {{ app: {{ {urls} }} }}\n"))
    };
    assert_eq!(clients("public_client: true,", "cursor://a.b/cb"), [""; 0]);
    assert_eq!(clients("", "cursor://a.b/cb").len(), 1);
    assert_eq!(clients("public_client: true,", "javascript://a.b/cb").len(), 1);
}
