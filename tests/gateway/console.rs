//! The console on the admin listener: its pages, the JSON API behind them, and who may do what.

mod acts;
mod browser;
mod described;
mod drafts;
mod entry;
mod shown;

use std::net::SocketAddr;

use scopegate::names::hex;
use scopegate::tooling::usage::{Counts, Day, Row, Subject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::browser::{encode, form_token};
use crate::support::http::{Response, request};
use crate::support::{Gateway, Setup, free_address, send, wait_for};

/// The password of all administrators.
const PASSWORD: &str = "four words that nobody guesses";
/// The shared token.
const SHARED: &str = "an-admin-token-of-more-than-32-characters";
/// A token that expired, and one that is too short to be taken.
const OLD: &str = "a-token-that-expired-in-2020-and-is-long-enough";
const SHORT: &str = "a-token-of-42-characters-is-too-short-here";
/// The address that callers of the public listener come from.
const CALLER: &str = "203.0.113.77";
/// A user.
const SUBJECT: &str = "alice";
const ROLES: [(&str, &str); 4] =
    [("vera", "viewer"), ("otto", "operator"), ("ada", "auditor"), ("eddi", "editor")];

const POLICIES: &str = "
apis:
  orders:
    base_path: /orders
    upstream: api
    resources: { '/': [GET], '/{id}': [GET, POST, DELETE] }
  stock: { base_path: /stock, upstream: api, resources: { '/{id}': [GET] } }
  hello: { base_path: /hello, upstream: api, public: true, resources: { '/': [GET] } }
auth_scopes:
  orders_read: { description: Read orders, grants: [{ api: orders, methods: [GET] }] }
  orders_write: { description: Change orders, grants: [{ api: orders, methods: [POST] }] }
  stock_read: { grants: [{ api: stock }] }
access_policies:
  near: { api: orders, methods: [GET, POST], allow: [{ from: [203.0.113.0/24] }] }
acls: [{ api: orders, methods: [DELETE], roles: { any: [clerk] } }]
";

const CLIENTS: &str = "clients:
  crm:
    name: CRM of the sales team
    provider_name: Example Inc.
    owner: sales@example.com
    grants: [client_credentials]
    application_user: alice
    secrets:
      - sha256: @SHA256@
        expires: 2099-01-01
      - sha256: abababababababababababababababababababababababababababababababab
        expires: 2020-01-01
    auth_scopes: [orders_read, orders_write]
  nightly:
    name: Nightly export
    grants: [client_credentials]
    roles: [reader]
    secrets:
      - sha256: @SHA256@
    auth_scopes: [orders_read, stock_read]
  portal:
    name: Portal
    provider_name: Example Inc.
    grants: [authorization_code, refresh_token]
    secrets:
      - sha256: @SHA256@
    redirect_urls: [https://app.example/cb]
    auth_scopes: [orders_read]
  forgotten:
    name: Portal before the last one
    grants: [client_credentials]
    roles: [reader]
    secrets:
      - sha256: @SHA256@
    auth_scopes: [orders_read]
  off:
    active: false
    grants: [client_credentials]
    secrets:
      - sha256: @SHA256@
    auth_scopes: []
";

/// The token of an administrator.
fn token_of(name: &str) -> String {
    format!("{name:x<43}")
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Argon2id as cheap as it may be.
fn argon2id(password: &str) -> String {
    use argon2::PasswordHasher;
    let params = argon2::Params::new(1024, 1, 1, None).unwrap();
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_with_salt(password.as_bytes(), b"saltsaltsalt")
        .unwrap()
        .to_string()
}

/// A gateway with a console, its clients in a folder that the console may write to.
struct Console {
    gateway: Gateway,
    address: SocketAddr,
}

/// An administrator who is signed in.
struct Session<'a> {
    console: &'a Console,
    cookie: String,
    form_token: String,
}

fn setup(admin: SocketAddr) -> Setup {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    let hash = argon2id(crate::authorization::PASSWORD);
    setup.users = format!(
        "users:\n  {SUBJECT}:\n    name: Alice Doe\n    roles: [clerk]\n    password: {{ argon2id: \
            '{hash}' }}\n"
    );
    setup.files = vec![
        ("clients/all.yaml".to_owned(), CLIENTS.to_owned()),
        ("admin-token".to_owned(), SHARED.to_owned()),
    ];
    let hash = argon2id(PASSWORD);
    let mut administrators = String::new();
    for (name, role) in ROLES {
        let further = if name == "vera" {
            format!(
                ", {{ name: old, sha256: {}, expires: 2020-01-01 }}, {{ name: short, sha256: {} }}",
                digest(OLD),
                digest(SHORT)
            )
        } else {
            String::new()
        };
        administrators.push_str(&format!(
            "  {name}: {{ role: {role}, password: {{ argon2id: '{hash}' }}, tokens: [{{ name: \
             pipeline, sha256: {} }}{further}] }}\n",
            digest(&token_of(name))
        ));
    }
    setup.gateway = format!(
        "admin: {{ address: \"{admin}\", token: file:admin-token }}\nclients: clients\nconsole: {{ \
         write: clients }}\ntrusted_proxies: [127.0.0.0/8]\nauthorization_server: {{ grants: \
         [client_credentials, authorization_code, refresh_token] }}\nadministrators:\n\
         {administrators}"
    );
    setup
}

impl Console {
    fn start() -> Self {
        Self::start_with(|_| ())
    }

    fn start_with(change: impl FnOnce(&mut Setup)) -> Self {
        let address = free_address();
        let mut setup = setup(address);
        change(&mut setup);
        Self { gateway: Gateway::start(&setup), address }
    }

    /// Counts use that there was, up to yesterday.
    fn with_history(self) -> Self {
        let today = Day::of(scopegate::system::clock::now());
        let mut rows = Vec::new();
        for days in 1..=150 {
            let mut add = |client: &str, api: &str, operation: &str, permitted, refused| {
                let subject =
                    Subject { client: client.into(), api: api.into(), operation: operation.into() };
                let counts = Counts { permitted, refused, ..Counts::default() };
                rows.push(Row { subject, day: today.before(days), counts });
            };
            // Busier on some days than on others.
            let wave = u64::try_from(days * 37 % 23).unwrap() + if days % 7 < 2 { 0 } else { 60 };
            add("crm", "orders", "GET /{id}", 12 + wave, wave / 8);
            add("crm", "orders", "POST /{id}", 4 + wave / 3, 0);
            add("nightly", "orders", "GET /", 12, 0);
            if days > 120 {
                add("forgotten", "orders", "GET /{id}", 3, 0);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.gateway.store().add_usage(rows)).unwrap();
        self
    }

    /// A request with further header lines, and a body of a type.
    fn ask(
        &self,
        method: &str,
        target: &str,
        lines: &[(&str, &str)],
        body: Option<(&str, &str)>,
    ) -> Response {
        let host = self.address.to_string();
        let mut text = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        if !lines.iter().any(|(name, _)| *name == "Host") {
            text.push_str(&format!("Host: {host}\r\n"));
        }
        // Pages are asked for as a browser does.
        if !target.starts_with("/api/") && !lines.iter().any(|(name, _)| *name == "Accept") {
            text.push_str("Accept: text/html,*/*;q=0.8\r\n");
        }
        for (name, value) in lines {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let (of, body) = body.unwrap_or_default();
        if !of.is_empty() {
            text.push_str(&format!("Content-Type: {of}\r\n"));
        }
        if !of.is_empty() || method != "GET" {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        send(self.address, format!("{text}\r\n{body}"))
    }

    /// A form, as a browser sends it.
    fn post(&self, target: &str, lines: &[(&str, &str)], fields: &[(&str, &str)]) -> Response {
        let form = encode(fields);
        self.ask("POST", target, lines, Some(("application/x-www-form-urlencoded", &form)))
    }

    fn try_sign_in(&self, name: &str, password: &str, next: &str) -> Response {
        let fields = [("username", name), ("password", password), ("next", next)];
        self.post("/sign-in", &[], &fields)
    }

    fn sign_in(&self, name: &str) -> Session<'_> {
        let answer = self.try_sign_in(name, PASSWORD, "/");
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = cookie_of(&answer);
        let page = self.ask("GET", "/", &[("Cookie", &cookie)], None);
        assert_eq!(page.status, 200, "{page:?}");
        Session { console: self, cookie, form_token: form_token(&page) }
    }

    /// Asks the JSON API as an administrator.
    fn api(&self, name: &str, target: &str) -> Response {
        let bearer = format!("Bearer {}", token_of(name));
        self.ask("GET", &format!("/api/v1/{target}"), &[("Authorization", &bearer)], None)
    }

    fn post_api(&self, name: &str, target: &str, body: &Value) -> Response {
        let bearer = format!("Bearer {}", token_of(name));
        let (lines, body) = ([("Authorization", bearer.as_str())], body.to_string());
        let target = format!("/api/v1/{target}");
        self.ask("POST", &target, &lines, Some(("application/json", &body)))
    }

    fn act(&self, name: &str, act: &Value) -> Response {
        self.post_api(name, "acts", act)
    }

    /// All audit records, oldest first, as the auditor sees them.
    fn audit(&self) -> Vec<Value> {
        let answer = self.api("ada", "audit?limit=500");
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut items = answer.json()["items"].as_array().unwrap().clone();
        items.reverse();
        items
    }

    /// Calls the public listener from the caller's address.
    fn call(&self, method: &str, target: &str, token: Option<&str>) -> Response {
        self.gateway.send(request(method, target, token, &[("X-Forwarded-For", CALLER)]))
    }

    /// Calls the public listener; the decision in the window, as an administrator sees it.
    fn decision(&self, name: &str, filter: &str) -> Value {
        wait_for("the decision in the window", || {
            let listed = self.api(name, &format!("decisions?{filter}"));
            assert_eq!(listed.status, 200, "{listed:?}");
            listed.json()["items"].as_array().unwrap().first().cloned()
        })
    }
}

impl Session<'_> {
    fn get(&self, target: &str) -> Response {
        self.console.ask("GET", target, &[("Cookie", &self.cookie)], None)
    }

    fn post(&self, target: &str, fields: &[(&str, &str)]) -> Response {
        let mut all = vec![("form_token", self.form_token.as_str())];
        all.extend_from_slice(fields);
        self.console.post(target, &[("Cookie", &self.cookie)], &all)
    }
}

/// The cookie that an answer sets, as it is sent back.
fn cookie_of(answer: &Response) -> String {
    let line = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(line.contains(attribute), "{line}");
    }
    line.split(';').next().unwrap().to_owned()
}

/// A new client of the JSON API.
fn draft(id: &str) -> Value {
    json!({ "id": id, "name": "New one", "owner": "team@example.com",
        "auth_scopes": ["stock_read"] })
}
