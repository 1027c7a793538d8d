//! The token endpoint: what real clients rely on, and what an error tells to whom.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use scopegate::token::jws::Decoded;
use scopegate::token::keyset::KeySet;

use crate::support::http::{Response, form, request};
use crate::support::{Gateway, SECRET, Setup};

const POLICIES: &str = "
apis: { items: { base_path: /api, upstream: api, resources: { /x: [GET] } } }
auth_scopes: { read: { grants: [{ api: items }] }, write: {}, other: {} }
";

const CLIENTS: &str = "
clients:
  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read, write] }
  bare: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }] }
  off: { active: false, grants: [client_credentials], secrets: [{ sha256: @SHA256@ }] }
  no-grant: { secrets: [{ sha256: @SHA256@ }] }
  locked: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], application_user: \
    locked.user }
  public: { grants: [client_credentials], public_client: true }
  human: { grants: [client_credentials], secrets: [{ argon2id: \
    '$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$@HASH@' }], auth_scopes: [read] }
  rotating:
    grants: [client_credentials]
    secrets: [{ sha256: @SHA256@, expires: 2020-01-01 }, { sha256: @SHA256@ }]
  short-lived: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], \
    access_token_lifespan: 90s }
";

fn setup() -> Setup {
    use argon2::PasswordHasher;
    let params = argon2::Params::new(1024, 1, 1, None).unwrap();
    let hash = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_with_salt(b"hunter2", b"saltsaltsalt")
        .unwrap()
        .to_string();
    let mut setup =
        Setup::new(POLICIES, &CLIENTS.replace("@HASH@", hash.rsplit('$').next().unwrap()));
    setup.users = "users: { locked.user: { locked: true } }\n".to_owned();
    setup
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn error(response: &Response) -> (u16, String) {
    (response.status, response.json()["error"].as_str().unwrap().to_owned())
}

#[test]
fn a_token_response_is_what_clients_in_the_field_rely_on() {
    let gateway = Gateway::start(&setup());
    for path in ["/oauth_token.do", "/oauth2/token"] {
        let authorization = basic("app", SECRET);
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Accept", "text/html"),
            ("Expect", "100-continue"),
        ];
        let response = gateway.send(form(
            path,
            &headers,
            "grant_type=client_credentials&scope=&unknown=x&state=y",
        ));
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(response.header("pragma"), Some("no-cache"));
        let body = response.json();
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 1800);
        assert_eq!(body["scope"], "read write");
        assert!(body.as_object().unwrap().values().all(|value| !value.is_null()));
    }
    let bare = gateway.token_response("bare", "");
    assert_eq!(bare.json()["scope"], "");
    assert_eq!(gateway.token_response("short-lived", "").json()["expires_in"], 90);
}

#[test]
fn the_token_is_an_rfc_9068_one_that_the_published_keys_verify() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    let decoded = Decoded::of(&token).unwrap();
    let parsed = decoded.read().unwrap();
    assert_eq!(parsed.kind.as_deref(), Some("at+jwt"));
    let claims = serde_json::Value::Object(parsed.claims.to_map());
    let url = format!("http://127.0.0.1:{}", gateway.address.port());
    for (name, value) in [
        ("iss", url.as_str()),
        ("aud", &url),
        ("sub", "app"),
        ("client_id", "app"),
        ("scope", "read write"),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1800);
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
    for path in ["/api/now/oauth/jwks", "/.well-known/jwks.json"] {
        let jwks = gateway.get(path, None);
        assert_eq!((jwks.status, jwks.header("content-type")), (200, Some("application/json")));
        for private in ["\"d\"", "\"p\"", "\"q\"", "\"k\""] {
            assert!(!jwks.body.contains(private));
        }
        let (keys, left_out) = KeySet::parse(jwks.body.as_bytes()).unwrap();
        assert!(left_out.is_empty(), "{left_out:?}");
        keys.verify(&parsed).unwrap();
    }
}

#[test]
fn each_signing_algorithm_issues_tokens_that_pass() {
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let mut setup = setup();
        setup.gateway = format!(
            "authorization_server: {{ grants: [client_credentials], signing: {{ algorithm: \
                {algorithm} }} }}\n"
        );
        let gateway = Gateway::start(&setup);
        let token = gateway.token("app");
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        assert!(String::from_utf8(header).unwrap().contains(algorithm));
        assert_eq!(gateway.get("/api/x", Some(&token)).verdict(), "permit", "{algorithm}");
    }
}

#[test]
fn scope_narrows_and_never_widens() {
    let gateway = Gateway::start(&setup());
    assert_eq!(gateway.token_response("app", "&scope=read").json()["scope"], "read");
    assert_eq!(
        gateway.token_response("app", "&scope=write+read+read").json()["scope"],
        "read write"
    );
    for scope in ["other", "read+other", "unknown", "a%22b", &"x".repeat(2000)] {
        let refused = gateway.token_response("app", &format!("&scope={scope}"));
        assert_eq!(error(&refused), (400, "invalid_scope".to_owned()), "{scope}");
    }
    let narrow = gateway.token_response("app", "&scope=write").json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(gateway.get("/api/x", Some(&narrow)).verdict(), "scope.missing");
}

#[test]
fn whoever_does_not_authenticate_learns_nothing() {
    let gateway = Gateway::start(&setup());
    let body = "grant_type=client_credentials";
    let mut answers = Vec::new();
    for headers in [
        basic("app", "wrong"),
        basic("app", &format!("{SECRET}x")),
        basic("nobody", SECRET),
        basic("public", SECRET),
        basic("human", "hunter3"),
    ] {
        let response = gateway.send(form("/oauth_token.do", &[("Authorization", &headers)], body));
        assert_eq!(error(&response), (401, "invalid_client".to_owned()), "{headers}");
        assert!(response.header("www-authenticate").unwrap().starts_with("Basic "));
        answers.push(response.body);
    }
    for body in ["client_id=app&client_secret=wrong", "client_id=nobody&client_secret=x"] {
        let response = gateway.send(form(
            "/oauth_token.do",
            &[],
            &format!("grant_type=client_credentials&{body}"),
        ));
        assert_eq!(error(&response), (401, "invalid_client".to_owned()), "{body}");
        answers.push(response.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let refused =
        gateway.send(form("/oauth_token.do", &[("Authorization", &basic("nobody", SECRET))], body));
    let record = gateway.record(refused.header("x-decision-id").unwrap());
    assert_eq!(
        (record["reason"].as_str(), record["fault"].as_str()),
        (Some("invalid_client"), Some("unknown client"))
    );
    assert!(!record.to_string().contains(SECRET));
}

#[test]
fn credentials_that_are_absent_or_cannot_be_read_are_told_from_wrong_ones() {
    let gateway = Gateway::start(&setup());
    let told = |authorization: Option<&str>, body: &str| {
        let headers: Vec<_> =
            authorization.map(|value| ("Authorization", value)).into_iter().collect();
        let body = format!("grant_type=client_credentials{body}");
        let response = gateway.send(form("/oauth_token.do", &headers, &body));
        assert_eq!(error(&response), (401, "invalid_client".to_owned()), "{authorization:?}");
        assert!(response.header("www-authenticate").unwrap().starts_with("Basic "));
        response.json()["error_description"].as_str().unwrap().to_owned()
    };
    for (authorization, body, words) in [
        (None, "", "the request has no client credentials"),
        (Some("Bearer x"), "", "the Authorization header is not Basic"),
        (Some("Basic !!!"), "", "is not base64 of"),
        (Some("Basic MDEy YWFh"), "", "base64 wraps at 76 characters"),
        (None, "&client_id=app", "a client_id without a client_secret"),
        (None, "&client_id=nobody", "a client_id without a client_secret"),
        (None, "&client_id=app&client_secret=wrong", "client authentication failed"),
    ] {
        let text = told(authorization, body);
        assert!(text.contains(words), "{authorization:?} {body}: {text}");
    }
    assert_eq!(told(None, "&client_id=app"), told(None, "&client_id=nobody"));
}

/// The lines of ServiceNow's documents, with ids and secrets of its length.
#[test]
fn lines_that_people_paste_get_a_token_or_a_refusal_that_says_what_is_wrong() {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    let clients = format!(
        "clients: {{ \"{ID}\": {{ grants: [client_credentials], secrets: [{{ \
        sha256: @SHA256@ }}] }} }}\n"
    );
    let gateway = Gateway::start(&Setup::new(POLICIES, &clients));
    let body = format!("grant_type=client_credentials&client_id={ID}&client_secret={SECRET}");
    assert_eq!(gateway.send(form("/oauth_token.do", &[], &body)).status, 200);
    let whole = basic(ID, SECRET);
    let body = "grant_type=client_credentials";
    let send =
        |value: &str| gateway.send(form("/oauth_token.do", &[("Authorization", value)], body));
    assert_eq!(send(&whole).status, 200);
    // As curl sends what `base64` has broken after 76 characters, and as other tools do.
    let (first, second) = whole.split_at("Basic ".len() + 76);
    for between in ["\n", "\r\n", "\r\n "] {
        let refused = send(&format!("{first}{between}{second}"));
        assert_eq!((refused.status, refused.verdict()), (400, "request.malformed".to_owned()));
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("base64 wraps at 76 characters; use base64 -w 0"), "{detail}");
    }
}

#[test]
fn an_authenticated_client_is_told_what_keeps_it_from_a_token() {
    let gateway = Gateway::start(&setup());
    // To name itself is all that a public client can do.
    let public = gateway.send(form(
        "/oauth_token.do",
        &[],
        "grant_type=client_credentials&client_id=public",
    ));
    assert_eq!(error(&public), (400, "unauthorized_client".to_owned()));
    for (client, words) in [
        ("off", "not active"),
        ("no-grant", "not registered for the grant"),
        ("locked", "application user locked.user"),
    ] {
        let refused = gateway.token_response(client, "");
        assert_eq!(error(&refused), (400, "unauthorized_client".to_owned()), "{client}");
        assert!(
            refused.json()["error_description"].as_str().unwrap().contains(words),
            "{client}: {}",
            refused.body
        );
    }
    let authorization = basic("app", SECRET);
    let headers = [("Authorization", authorization.as_str())];
    for (body, code) in [
        ("", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=CLIENT_CREDENTIALS", "unsupported_grant_type"),
        ("grant_type=client_credentials&resource=https://elsewhere.example", "invalid_target"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&scope=read&scope=write", "invalid_request"),
        ("grant_type=client_credentials&client_id=other", "invalid_request"),
    ] {
        let refused = gateway.send(form("/oauth_token.do", &headers, body));
        assert_eq!(error(&refused), (400, code.to_owned()), "{body}");
    }
}

#[test]
fn human_secrets_rotation_and_both_ways_of_basic_work() {
    let gateway = Gateway::start(&setup());
    let human = form(
        "/oauth_token.do",
        &[("Authorization", &basic("human", "hunter2"))],
        "grant_type=client_credentials",
    );
    assert_eq!(gateway.send(human).status, 200);
    assert_eq!(gateway.token_response("rotating", "").status, 200);
    let encoded = SECRET.replace('-', "%2D").replace('t', "%74");
    let form_encoded = form(
        "/oauth_token.do",
        &[("Authorization", &basic("app", &encoded))],
        "grant_type=client_credentials",
    );
    assert_eq!(gateway.send(form_encoded).status, 200);
}

#[test]
fn only_a_form_in_a_post_is_a_token_request() {
    let gateway = Gateway::start(&setup());
    let get = gateway.get(
        &format!(
            "/oauth_token.do?grant_type=client_credentials&client_id=app&client_secret={SECRET}"
        ),
        None,
    );
    assert_eq!(get.status, 405);
    assert_eq!(get.header("allow"), Some("POST"));
    let json = format!(
        "{{\"grant_type\":\"client_credentials\",\"client_id\":\"app\",\"client_secret\":\"{SECRET}\"}}"
    );
    let text = form("/oauth_token.do", &[], &json)
        .replace("application/x-www-form-urlencoded", "application/json");
    assert_eq!(error(&gateway.send(text)), (400, "invalid_request".to_owned()));
    // Credentials in the URL are no credentials (RFC 6749 §2.3.1).
    let in_url = form(
        &format!("/oauth_token.do?client_id=app&client_secret={SECRET}"),
        &[],
        "grant_type=client_credentials",
    );
    assert_eq!(error(&gateway.send(in_url)), (400, "invalid_request".to_owned()));
    let twice = request(
        "POST",
        "/oauth_token.do",
        None,
        &[("Authorization", &basic("app", SECRET)), ("Authorization", &basic("app", SECRET))],
    );
    assert_eq!(gateway.send(twice).status, 400);
    let huge = form("/oauth_token.do", &[], &"a".repeat(70_000));
    assert_eq!(error(&gateway.send(huge)), (400, "invalid_request".to_owned()));
}

#[test]
fn an_edit_of_a_client_bites_on_its_live_tokens() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    assert_eq!(gateway.get("/api/x", Some(&token)).verdict(), "permit");
    for (edit, expect) in [
        ("auth_scopes: [read, write]", "permit"),
        ("auth_scopes: [write]", "scope.missing"),
        ("auth_scopes: [read], active: false", "client.inactive"),
        ("auth_scopes: [read], enforce_token_restriction: true", "policy.none"),
    ] {
        gateway.rewrite(
            "clients.yaml",
            &format!(
                "clients: {{ app: {{ grants: [client_credentials], secrets: [{{ sha256: @SHA256@ \
                    }}], {edit} }} }}"
            ),
        );
        assert!(gateway.reload(), "{}", gateway.log());
        assert_eq!(gateway.get("/api/x", Some(&token)).verdict(), expect, "{edit}");
    }
    // The upstream is told what the client holds now, not what the token once said.
    gateway.rewrite(
        "clients.yaml",
        "clients: { app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], \
            auth_scopes: [read] } }",
    );
    assert!(gateway.reload());
    gateway.get("/api/x", Some(&token));
    let head = gateway.upstream.last_head();
    assert!(head.iter().any(|line| line.eq_ignore_ascii_case("x-auth-scopes: read")), "{head:?}");
    gateway.rewrite("clients.yaml", "clients: {}");
    assert!(gateway.reload());
    assert_eq!(gateway.get("/api/x", Some(&token)).verdict(), "client.unknown");
}

#[test]
fn tokens_survive_a_restart_because_keys_do() {
    let gateway = Gateway::start(&setup());
    let token = gateway.token("app");
    let jwks = gateway.get("/.well-known/jwks.json", None).body;
    let store = gateway.folder.path().join("data/scopegate.db");
    let copy = tempfile::tempdir().unwrap();
    for name in ["scopegate.db", "scopegate.db-wal"] {
        std::fs::copy(store.with_file_name(name), copy.path().join(name)).unwrap();
    }
    for entry in std::fs::read_dir(store.parent().unwrap()).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
    drop(gateway);
    // A second gateway on the same store publishes the same keys.
    let mut again = setup();
    again.gateway = format!("store: {{ embedded: {{ path: \"{}\" }} }}\n", copy.path().display());
    let second = Gateway::start(&again);
    assert_eq!(second.get("/.well-known/jwks.json", None).body, jwks);
    // The same token is of another issuer now, by its address alone.
    assert_eq!(second.get("/api/x", Some(&token)).verdict(), "token.invalid");
}
