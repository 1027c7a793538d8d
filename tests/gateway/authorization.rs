//! The authorization server as clients and users meet it: codes, refresh tokens, opaque tokens,
//! revocation, pages.

mod assertions;
mod codes;
mod documents;
mod elsewhere;
mod guessing;
pub mod made;
mod others;
mod pages;
pub mod provider;
mod races;
mod refresh;
mod requests;
mod revocation;
mod wrong;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::support::browser::{encode, parameters};
use crate::support::http::{Response, form};
use crate::support::{Browser, Gateway, SECRET, Setup};

pub const VERIFIER: &str = "a-verifier-of-more-than-forty-three-characters-1";
pub const CALLBACK: &str = "https://app.example/cb";
pub const PASSWORD: &str = "correct horse battery staple";

const POLICIES: &str = "
apis:
  orders: { base_path: /orders, upstream: api, resources: { '/{id}': [GET, POST] } }
  stock: { base_path: /stock, upstream: api, resources: { '/{id}': [GET] } }
auth_scopes:
  orders_read: { description: Read orders, grants: [{ api: orders, methods: [GET] }] }
  orders_write: { description: Change orders, grants: [{ api: orders, methods: [POST] }] }
  stock_read: { grants: [{ api: stock }] }
acls: [{ api: orders, methods: [POST], roles: { any: [clerk] } }]
";

const CLIENTS: &str = "
clients:
  web:
    name: Web shop
    grants: [authorization_code, refresh_token, client_credentials]
    secrets: [{ sha256: @SHA256@ }]
    redirect_urls: [https://app.example/cb, 'https://app.example/other?x=1']
    auth_scopes: [orders_read, orders_write, stock_read]
  opaque:
    grants: [authorization_code, refresh_token, client_credentials]
    secrets: [{ sha256: @SHA256@ }]
    redirect_urls: [https://app.example/cb]
    token_format: opaque
    auth_scopes: [orders_read, orders_write, stock_read]
  native:
    public_client: true
    grants: [authorization_code, refresh_token]
    redirect_urls: ['http://127.0.0.1/cb', 'com.example.app:/cb']
    auth_scopes: [orders_read]
  no-pkce:
    grants: [authorization_code]
    require_pkce: false
    secrets: [{ sha256: @SHA256@ }]
    redirect_urls: [https://app.example/cb]
    auth_scopes: [orders_read]
  acting: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], application_user: bob, \
    auth_scopes: [orders_read] }
  machine: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], redirect_urls: \
    [https://app.example/cb], auth_scopes: [orders_read] }
  off: { active: false, grants: [authorization_code], secrets: [{ sha256: @SHA256@ }], \
    redirect_urls: [https://app.example/cb] }
";

pub fn setup(extra: &str) -> Setup {
    use argon2::PasswordHasher;
    let params = argon2::Params::new(1024, 1, 1, None).unwrap();
    let hash = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_with_salt(PASSWORD.as_bytes(), b"saltsaltsalt")
        .unwrap();
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.users = format!(
        "users:\n  alice: {{ name: Alice Doe, roles: [clerk], password: {{ argon2id: '{hash}' }} \
            }}\n  \
         bob: {{ password: {{ argon2id: '{hash}' }} }}\n  \
         locked: {{ locked: true, password: {{ argon2id: '{hash}' }} }}\n  no-password: {{}}\n"
    );
    setup.gateway = format!(
        "authorization_server: {{ grants: [client_credentials, authorization_code, \
            refresh_token]{extra} }}\n\
         trusted_proxies: [127.0.0.0/8]\n"
    );
    setup
}

pub fn gateway() -> Gateway {
    Gateway::start(&setup(""))
}

pub fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

/// The target of an authorization request; fields given replace those of a good one, an empty value
/// takes one out.
pub fn request(client: &str, fields: &[(&str, &str)]) -> String {
    let challenge = challenge();
    let mut all = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("state", "s-1"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in fields {
        all.retain(|(known, _)| known != name);
        if !value.is_empty() {
            all.push((name, value));
        }
    }
    format!("/oauth_auth.do?{}", encode(&all))
}

/// A browser in which alice has signed in.
pub fn alice(gateway: &Gateway) -> Browser {
    let mut browser = Browser::new(gateway.address);
    let page = browser.get("/oauth2/connections");
    let page = browser.sign_in(&page, "alice", PASSWORD);
    assert!(page.body.contains("Alice Doe"), "{page:?}");
    browser
}

/// A code for a request that alice allows.
pub fn code(browser: &mut Browser, target: &str) -> String {
    let mut answer = browser.get(target);
    if answer.status == 200 {
        answer = browser.submit(&answer, "allow", &[]);
    }
    assert_eq!(answer.status, 303, "{answer:?}");
    parameters(&answer).remove("code").unwrap_or_else(|| panic!("no code: {answer:?}"))
}

pub fn basic(client: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{client}:{SECRET}")))
}

/// A token request of a client with a secret.
pub fn token(gateway: &Gateway, client: &str, fields: &[(&str, &str)]) -> Response {
    gateway.send(form("/oauth2/token", &[("Authorization", &basic(client))], &encode(fields)))
}

/// An access token of client credentials.
pub fn own_token(gateway: &Gateway, client: &str) -> String {
    member(&token(gateway, client, &[("grant_type", "client_credentials")]), "access_token")
}

pub fn redeem(gateway: &Gateway, client: &str, code: &str) -> Response {
    token(
        gateway,
        client,
        &[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ],
    )
}

pub fn refresh(gateway: &Gateway, client: &str, refresh_token: &str) -> Response {
    token(gateway, client, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)])
}

/// A member of a token response.
pub fn member(response: &Response, name: &str) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {response:?}")).to_owned()
}

pub fn error(response: &Response) -> (u16, String) {
    assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    (response.status, response.json()["error"].as_str().unwrap_or_default().to_owned())
}

/// Access and refresh token that alice gave a client.
pub fn tokens(gateway: &Gateway, client: &str) -> (String, String) {
    let mut browser = alice(gateway);
    let code = code(&mut browser, &request(client, &[]));
    let response = redeem(gateway, client, &code);
    (member(&response, "access_token"), member(&response, "refresh_token"))
}
