//! Whose credentials an upstream sees, and how it learns who calls.

use base64::Engine as _;
use serde_json::Value;

use crate::support::http::request;
use crate::support::tls::{Ca, connect};
use crate::support::{Gateway, SECRET, Setup, Upstream, wait_for};

const POLICIES: &str = "apis: { api: { base_path: /api, upstream: api, resources: { /x: [GET] } } }
auth_scopes: { read: { grants: [{ api: api }] }, more: {} }
";
const CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read, more], roles: [itil] } }\n";

fn setup(upstream: &Upstream, more: &str) -> Setup {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway =
        format!("upstreams: {{ api: {{ servers: ['http://{}'], {more} }} }}\n", upstream.address);
    setup.environment = vec![
        ("LOGIN".to_owned(), "user:pa:ss".to_owned()),
        ("TOKEN".to_owned(), "our-own-token".to_owned()),
        ("SECRET".to_owned(), SECRET.to_owned()),
    ];
    setup
}

fn authorization(upstream: &Upstream) -> Vec<String> {
    let head = upstream.last_head();
    let lines = head.iter().filter_map(|line| line.strip_prefix("authorization: "));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_callers_token_is_removed_kept_or_replaced() {
    let upstream = Upstream::start();
    for (said, expect) in [
        ("strip", None),
        ("{ replace: { bearer: 'env:TOKEN' } }", Some("Bearer our-own-token".to_owned())),
        ("{ replace: { basic: 'env:LOGIN' } }", Some("Basic dXNlcjpwYTpzcw==".to_owned())),
        ("keep", Some("the caller's".to_owned())),
    ] {
        let gateway = Gateway::start(&setup(&upstream, &format!("authorization: {said}")));
        let token = gateway.token("app");
        assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);
        let expect =
            expect.map(
                |expect| if expect == "the caller's" { format!("Bearer {token}") } else { expect },
            );
        assert_eq!(authorization(&upstream), expect.into_iter().collect::<Vec<_>>(), "{said}");
        assert!(!gateway.log().contains("our-own-token"));
    }
}

#[test]
fn a_token_of_ours_is_got_ahead_of_need_and_another_when_it_is_refused() {
    let issuer = Gateway::start(&Setup::new(POLICIES, CLIENTS));
    let upstream = Upstream::start();
    let client = format!(
        "authorization: {{ replace: {{ client_credentials: {{ token_url: 'http://{}/oauth2/token', \
            client_id: app, \
         client_secret: 'env:SECRET', scopes: [more] }} }} }}",
        issuer.address
    );
    let gateway = Gateway::start(&setup(&upstream, &client));
    let token = gateway.token("app");
    wait_for("the token", || (gateway.get("/api/x", Some(&token)).status == 200).then_some(()));
    let first = authorization(&upstream);
    let presented = first[0].strip_prefix("Bearer ").unwrap().to_owned();
    let claims = part(&presented, 1);
    assert_eq!(
        (claims["scope"].as_str(), claims["client_id"].as_str()),
        (Some("more"), Some("app"))
    );
    for _ in 0..5 {
        assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);
        assert_eq!(authorization(&upstream), first, "one token for many requests");
    }
    // The issuer is away: the token that is there serves on.
    drop(issuer);
    assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);

    let gateway = Gateway::start(&setup(&upstream, &client));
    let response = gateway.get("/api/x", Some(&gateway.token("app")));
    assert_eq!((response.status, response.verdict().as_str()), (503, "upstream.unavailable"));
    gateway.wait_for_log(&["no token for an upstream"]);
}

#[test]
fn an_assertion_says_who_calls_to_one_upstream_and_verifies_with_our_keys() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&setup(&upstream, "identity: assertion"));
    let token = gateway.token("app");
    let spoof = [("X-Auth-Assertion", "spoofed"), ("x_auth_client", "admin")];
    let response = gateway.send(request("GET", "/api/x", Some(&token), &spoof));
    assert_eq!(response.status, 200);
    let head = upstream.last_head();
    let identity: Vec<&String> =
        head.iter().filter(|line| line.to_ascii_lowercase().starts_with("x-auth")).collect();
    let [line] = identity[..] else { panic!("{identity:?}") };
    let assertion = line.strip_prefix("x-auth-assertion: ").unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = (part(assertion, 0), part(assertion, 1));
    assert_eq!(header["typ"], "assertion+jwt");
    let jwk = gateway.get("/.well-known/jwks.json", None).json()["keys"][0].clone();
    assert_eq!(header["kid"], jwk["kid"]);
    verify_es256(&jwk, signed, &decode(signature));
    assert_eq!(
        (claims["aud"].as_str(), claims["sub"].as_str(), claims["client_id"].as_str()),
        (Some("api"), Some("app"), Some("app"))
    );
    assert_eq!(
        (claims["scope"].as_str(), &claims["roles"]),
        (Some("more read"), &serde_json::json!(["itil"]))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert_eq!(claims["jti"].as_str(), response.header("x-decision-id"));
    // It is no access token of ours.
    let response = gateway.get("/api/x", Some(assertion));
    assert_eq!((response.status, response.verdict().as_str()), (401, "token.invalid"));
}

fn decode(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A part of a JWT: 0 is its header, 1 its claims.
fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&decode(token.split('.').nth(at).unwrap())).unwrap()
}

/// By a library that did not sign it.
fn verify_es256(jwk: &Value, signed: &str, signature: &[u8]) {
    use p256::ecdsa::signature::Verifier as _;
    let member = |name: &str| decode(jwk[name].as_str().unwrap());
    let point = [&[4][..], &member("x"), &member("y")].concat();
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
    key.verify(signed.as_bytes(), &p256::ecdsa::Signature::from_slice(signature).unwrap()).unwrap();
}

#[test]
fn a_policy_can_ask_for_a_client_certificate() {
    use std::io::{Read, Write};
    let (ca, clients) = (Ca::new(), Ca::new());
    let pair = ca.issue(&["a.example"]);
    let mut setup = Setup::new(
        "apis: { api: { base_path: /api, upstream: api, resources: { /x: [GET] } } }
auth_scopes: { read: { grants: [{ api: api }] } }
access_policies: { machines: { api: api, allow: [{ clients: [app], certificates: [crm.example, \
    'spiffe://corp/crm'] }] } }
",
        CLIENTS.replace("read, more", "read").as_str(),
    );
    setup.gateway =
        "public_url: https://a.example\nlisteners: [{ address: \"@LISTEN@\", tls: { certificate: \
            a.pem, key: a.key, \
                     client_ca: clients.pem, client_certificate: optional } }]\n"
            .to_owned();
    setup.files =
        [("a.pem", pair.certificate), ("a.key", pair.key), ("clients.pem", clients.pem())]
            .map(|(name, text)| (name.to_owned(), text))
            .to_vec();
    let gateway = Gateway::start(&setup);
    let ask = |shown: Option<&crate::support::tls::Pair>, text: &str| {
        let stream = std::net::TcpStream::connect(gateway.address).unwrap();
        let mut stream = connect(ca.client(&["http/1.1"], shown), "a.example", stream);
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let form = format!("grant_type=client_credentials&client_id=app&client_secret={SECRET}");
    let post = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Type: \
            application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = ask(None, &post);
    let token: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let token = token["access_token"].as_str().unwrap();
    let call = format!(
        "GET /api/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nAuthorization: Bearer \
            {token}\r\n\r\n"
    );
    for (names, status) in [
        (Some(&["crm.example"][..]), "200"),
        (Some(&["spiffe://corp/crm"]), "200"),
        (Some(&["other.example", "CRM.example"]), "200"),
        (Some(&["other.example"]), "403"),
        (None, "403"),
    ] {
        let shown = names.map(|names| clients.issue(names));
        let answer = ask(shown.as_ref(), &call);
        assert_eq!(answer.split(' ').nth(1), Some(status), "{names:?}: {answer}");
        assert!(status == "200" || answer.contains("policy.profile"), "{answer}");
    }
}
