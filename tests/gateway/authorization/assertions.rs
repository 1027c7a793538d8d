//! Clients that sign (RFC 7523), and the password grant for old integrations.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer;
use serde_json::{Value, json};

use super::{PASSWORD, error, member, refresh, setup, token};
use crate::support::browser::encode;
use crate::support::http::{Response, form};
use crate::support::{Gateway, Setup};

const CLIENTS: &str = "
clients:
  web: { grants: [client_credentials, password, refresh_token], secrets: [{ sha256: @SHA256@ }], \
    auth_scopes: [orders_read] }
  opaque: { grants: [password], secrets: [{ sha256: @SHA256@ }], token_format: opaque, \
    auth_scopes: [orders_read] }
  signer: { grants: [client_credentials, jwt_bearer], jwks_file: signer.json, auth_scopes: \
    [orders_read, orders_write] }
  no-keys: { grants: [client_credentials, jwt_bearer], secrets: [{ sha256: @SHA256@ }] }
";

fn key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[7; 32])
}

fn gateway() -> Gateway {
    let mut all: Setup = setup("");
    all.clients = CLIENTS.to_owned();
    all.gateway = "authorization_server: { grants: [client_credentials, password, jwt_bearer, \
        refresh_token] }\n\
                   trusted_proxies: [127.0.0.0/8]\n"
        .into();
    let x = URL_SAFE_NO_PAD.encode(key().verifying_key().as_bytes());
    let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x }] });
    all.files = vec![("signer.json".to_owned(), keys.to_string())];
    Gateway::start(&all)
}

fn sign(key: &ed25519_dalek::SigningKey, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn now() -> i64 {
    scopegate::system::clock::now().0
}

fn claims(gateway: &Gateway, subject: &str, id: &str) -> Value {
    let audience = format!("http://127.0.0.1:{}/oauth2/token", gateway.address.port());
    json!({ "iss": "signer", "sub": subject, "aud": audience, "exp": now() + 60, "iat": now(),
        "jti": id })
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "kid": "1" })
}

fn authenticate(gateway: &Gateway, assertion: &str, extra: &[(&str, &str)]) -> Response {
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
    ];
    fields.extend_from_slice(extra);
    gateway.send(form("/oauth2/token", &[], &encode(&fields)))
}

#[test]
fn a_signed_assertion_proves_its_client_once() {
    let gateway = gateway();
    let good = sign(&key(), &header(), &claims(&gateway, "signer", "a1"));
    let access = member(&authenticate(&gateway, &good, &[]), "access_token");
    assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);
    assert_eq!(
        error(&authenticate(&gateway, &good, &[])),
        (401, "invalid_client".into()),
        "a replay"
    );
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims(&gateway, "signer", &format!("n{}", unique()));
        change(&mut claims);
        sign(&key(), &header(), &claims)
    };
    let issuer = format!("http://127.0.0.1:{}", gateway.address.port());
    member(
        &authenticate(
            &gateway,
            &with(&|claims| claims["aud"] = json!([issuer, "x"])),
            &[("client_id", "signer")],
        ),
        "access_token",
    );
    let other = ed25519_dalek::SigningKey::from_bytes(&[8; 32]);
    let hostile = [
        ("signed by another key", sign(&other, &header(), &claims(&gateway, "signer", "h1"))),
        ("of another client", with(&|claims| claims["iss"] = json!("web"))),
        ("about another client", with(&|claims| claims["sub"] = json!("web"))),
        ("about a user", with(&|claims| claims["sub"] = json!("alice"))),
        ("for somebody else", with(&|claims| claims["aud"] = json!("https://elsewhere.example"))),
        ("for nobody", with(&|claims| drop(claims.as_object_mut().unwrap().remove("aud")))),
        ("expired", with(&|claims| claims["exp"] = json!(now() - 60))),
        ("without an end", with(&|claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("for years", with(&|claims| claims["exp"] = json!(now() + 100_000))),
        ("not valid yet", with(&|claims| claims["nbf"] = json!(now() + 600))),
        ("without an id", with(&|claims| drop(claims.as_object_mut().unwrap().remove("jti")))),
        (
            "of no algorithm",
            format!(
                "{}.",
                sign(&key(), &json!({ "alg": "none" }), &claims(&gateway, "signer", "h2"))
                    .rsplit_once('.')
                    .unwrap()
                    .0
            ),
        ),
        (
            "of another kind",
            sign(
                &key(),
                &json!({ "alg": "EdDSA", "kid": "1", "typ": "at+jwt" }),
                &claims(&gateway, "signer", "h3"),
            ),
        ),
        ("no JWT", "nonsense".to_owned()),
    ];
    let mut places = 0;
    for (what, assertion) in hostile {
        let body = encode(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ]);
        // Each from an address of its own: guessing is limited.
        places += 1;
        let from = format!("192.0.2.{places}");
        let answer = gateway.send(form("/oauth2/token", &[("X-Forwarded-For", &from)], &body));
        assert_eq!(error(&answer), (401, "invalid_client".into()), "{what}");
    }
    let two = authenticate(&gateway, &good, &[("client_secret", "x")]);
    assert_eq!(error(&two), (400, "invalid_request".into()), "two ways at once");
    assert_eq!(
        error(&authenticate(&gateway, &good, &[("client_id", "web")])),
        (400, "invalid_request".into())
    );
}

fn unique() -> u64 {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn an_assertion_in_place_of_a_login_acts_for_the_user_that_it_names() {
    let gateway = gateway();
    let mut id = 0;
    let mut ask = |subject: &str, assertion: Option<&str>| {
        id += 2;
        let proof = sign(&key(), &header(), &claims(&gateway, "signer", &format!("c{id}")));
        let made = sign(&key(), &header(), &claims(&gateway, subject, &format!("g{id}")));
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &proof),
            ("assertion", assertion.unwrap_or(&made)),
        ];
        (gateway.send(form("/oauth2/token", &[], &encode(&fields))), made)
    };
    let (answer, used) = ask("alice", None);
    assert!(answer.json().get("refresh_token").is_none(), "{answer:?}");
    assert_eq!(
        gateway.call("POST", "/orders/7", Some(&member(&answer, "access_token"))).status,
        200,
        "alice is a clerk"
    );
    for (what, subject, assertion) in [
        ("a replay", "alice", Some(used.as_str())),
        ("an unknown user", "nobody", None),
        ("a locked user", "locked", None),
        ("the client itself", "signer", None),
        ("nonsense", "alice", Some("nonsense")),
    ] {
        assert_eq!(error(&ask(subject, assertion).0), (400, "invalid_grant".into()), "{what}");
    }
    let keyless =
        [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", "x.y.z")];
    assert_eq!(error(&token(&gateway, "no-keys", &keyless)), (400, "invalid_grant".into()));
    assert_eq!(error(&token(&gateway, "web", &keyless)), (400, "unauthorized_client".into()));
}

#[test]
fn the_password_grant_moves_old_integrations() {
    let gateway = gateway();
    let ask = |client: &str, username: &str, password: &str| {
        token(
            &gateway,
            client,
            &[("grant_type", "password"), ("username", username), ("password", password)],
        )
    };
    let answer = ask("web", "alice", PASSWORD);
    assert_eq!(gateway.get("/orders/1", Some(&member(&answer, "access_token"))).status, 200);
    member(&refresh(&gateway, "web", &member(&answer, "refresh_token")), "access_token");
    let opaque = ask("opaque", "alice", PASSWORD);
    assert!(opaque.json().get("refresh_token").is_none(), "it is not registered for it");
    assert_eq!(gateway.get("/orders/1", Some(&member(&opaque, "access_token"))).status, 200);
    for (username, password, expect) in [
        ("alice", "wrong", "invalid_grant"),
        ("nobody", PASSWORD, "invalid_grant"),
        ("locked", PASSWORD, "invalid_grant"),
        ("", PASSWORD, "invalid_request"),
        ("alice", "", "invalid_request"),
    ] {
        assert_eq!(error(&ask("web", username, password)), (400, expect.into()), "{username}");
    }
    assert_eq!(error(&ask("signer", "alice", PASSWORD)).0, 401);
    for _ in 0..4 {
        ask("web", "alice", "wrong");
    }
    assert_eq!(error(&ask("web", "alice", PASSWORD)), (429, "temporarily_unavailable".into()));
}
