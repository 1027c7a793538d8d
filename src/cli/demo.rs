//! `scopegate demo`: the real gateway in a folder of its own, with an upstream that echoes
//! requests.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use argon2::{Argon2, PasswordHasher};
use axum::Router;
use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{complain, finish, say, start_log};
use crate::keys::OwnKeys;
use crate::server::Options;
use crate::store::Store;
use crate::system::{clock, files, random};
use crate::token::mint::AccessClaims;
use crate::tooling::usage::{Counts, Day, Row, Subject, own};

const GATEWAY: &str = include_str!("demo/gateway.yaml");
const CLIENTS: &str = include_str!("demo/clients.yaml");
const USERS: &str = include_str!("demo/users.yaml");
const POLICIES: &str = include_str!("demo/policies.yaml");

pub(super) fn run(port: u16) -> ExitCode {
    finish(demo(port))
}

fn demo(port: u16) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let [gateway, metrics, admin] = free_addresses(port)?;
    let upstream = start_upstream()?;
    let (secret, once) = (random_secret()?, random_secret()?);
    let store = folder.path().join("data");
    let values = [
        ("PUBLIC_URL", format!("http://{gateway}")),
        ("LISTEN", gateway.to_string()),
        ("METRICS", metrics.to_string()),
        ("UPSTREAM", format!("http://{upstream}")),
        ("STORE", store.display().to_string()),
        ("SHA256", crate::names::hex(&Sha256::digest(&secret))),
        ("ADMIN", admin.to_string()),
        ("PASSWORD", nobodys_password()?),
        ("NOBODY", crate::names::hex(&Sha256::digest(random_secret()?))),
        ("SOON", Day::of(clock::now().plus(14 * 86_400)).text()),
    ];
    for (name, text) in [
        ("gateway.yaml", GATEWAY),
        ("clients.yaml", CLIENTS),
        ("users.yaml", USERS),
        ("policies.yaml", POLICIES),
    ] {
        let text = values
            .iter()
            .fold(text.to_owned(), |text, (key, value)| text.replace(&format!("@{key}@"), value));
        std::fs::write(folder.path().join(name), text)
            .map_err(|error| format!("{name}: {error}"))?;
    }
    std::fs::write(folder.path().join("admin-token"), random_secret()?)
        .map_err(|error| format!("admin-token: {error}"))?;
    let file = folder.path().join("gateway.yaml");
    let (config, origins) = files::load_noting(&file);
    let config = config.map_err(|fault| fault.lines().join("\n"))?;
    let expired = expired_token(&store, &config.fixed.public_url, config.fixed.signing)?;
    history(&store)?;
    let log = start_log("warn", None);
    print_guide(folder.path(), &gateway, &metrics, &secret, &expired);
    say(&format!(
        "# the console, with a month of use made up for it; this link signs you in once\n\
         http://{admin}/sign-in?once={once}\n\n\
         # decision records follow, one JSON line for each request"
    ));
    crate::server::run(
        config,
        &file,
        Options {
            log,
            origins,
            temporary: Some(folder),
            sign_in_once: Some((once, "demo".into())),
            ..Options::default()
        },
    )
}

/// The requested port and the next two, or free ones. All are bound until all are known, so that
/// they differ.
fn free_addresses(port: u16) -> Result<[SocketAddr; 3], String> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listen = |port| bind(port).or_else(|_| bind(0));
    let addresses = listen(port).and_then(|gateway| {
        let metrics = listen(port.saturating_add(1))?;
        let admin = listen(port.saturating_add(2))?;
        Ok([gateway.local_addr()?, metrics.local_addr()?, admin.local_addr()?])
    });
    addresses.map_err(|error| format!("no free port: {error}"))
}

/// The digest of a password that nobody knows: the demo is entered by its link.
fn nobodys_password() -> Result<String, String> {
    let hash = Argon2::default().hash_password(random_secret()?.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|fault| format!("no password: {fault}"))
}

/// Writes a month of use into the store, so that the console has something to show.
fn history(store: &Path) -> Result<(), String> {
    let store = Store::open(store).map_err(|fault| fault.to_string())?;
    let today = Day::of(clock::now());
    let mut rows = Vec::new();
    for days in 1..=120 {
        let day = today.before(days);
        let weekend = matches!((day.0 + 4).rem_euclid(7), 0 | 6);
        let wave = u64::try_from((day.0 * 37).rem_euclid(23)).unwrap_or(0);
        let busy = if weekend { 20 } else { 180 };
        let mut add = |client: &str, api: &str, operation: &str, permitted, refused| {
            let subject =
                Subject { client: client.into(), api: api.into(), operation: operation.into() };
            let counts = Counts { permitted, refused, ..Counts::default() };
            rows.push(Row { subject, day, counts });
        };
        if days <= 30 {
            add("demo", "orders", "GET /orders", busy + wave, 0);
            add("demo", "orders", "GET /orders/{id}", 2 * busy + wave * 3, wave / 3);
            add("demo", "orders", "DELETE /orders/{id}", 0, wave / 6);
            add("demo", "", own::TOKENS, busy / 20 + 1, 0);
            add("accounting", "billing", "GET /invoices", busy / 3, 0);
            add("accounting", "", own::TOKENS, 24, wave / 10);
        }
        // It reads every night, and never writes.
        add("nightly-export", "orders", "GET /orders", 48, 0);
        add("nightly-export", "", own::TOKENS, 1, 0);
        if days > 104 {
            add("old-portal", "orders", "GET /orders/{id}", wave, 1);
            add("old-portal", "", own::TOKENS, 3, 0);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(store.add_usage(rows)).map_err(|fault| fault.to_string())
}

fn random_secret() -> Result<String, String> {
    let mut random = [0_u8; 33];
    random::fill(&mut random).map_err(|error| error.to_string())?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// A token of ours that expired a minute ago.
fn expired_token(
    store: &Path,
    url: &str,
    signing: crate::token::mint::Signing,
) -> Result<String, String> {
    let store = Store::open(store).map_err(|fault| fault.to_string())?;
    let now = clock::now();
    let keys = OwnKeys::load(&store, signing, now).map_err(|fault| fault.to_string())?;
    let claims = AccessClaims {
        iss: url,
        sub: "demo",
        aud: url,
        exp: now.0 - 60,
        iat: now.0 - 1_860,
        jti: "expired",
        client_id: "demo",
        authorization_id: None,
        scope: "orders_read",
    };
    keys.now().current().sign(&claims).map_err(|fault| fault.to_string())
}

/// An API that echoes requests, to show what the gateway adds and removes.
fn start_upstream() -> Result<SocketAddr, String> {
    let said = |error: std::io::Error| format!("the demo's upstream: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(said)?;
    listener.set_nonblocking(true).map_err(said)?;
    let address = listener.local_addr().map_err(said)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(said)?;
    let serve = move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            if let Err(error) = axum::serve(listener, Router::new().fallback(echo)).await {
                complain(&format!("the demo's upstream: {error}"));
            }
        });
    };
    std::thread::Builder::new().name("demo upstream".to_owned()).spawn(serve).map_err(said)?;
    Ok(address)
}

async fn echo(request: Request) -> axum::Json<serde_json::Value> {
    let headers: serde_json::Map<String, serde_json::Value> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned().into())
        })
        .collect();
    let (method, target) = (request.method().as_str(), request.uri().to_string());
    axum::Json(serde_json::json!({ "upstream_got": { "method": method, "target": target,
            "headers": headers } }))
}

fn print_guide(
    folder: &Path,
    gateway: &SocketAddr,
    metrics: &SocketAddr,
    secret: &str,
    expired: &str,
) {
    let url = format!("http://{gateway}");
    let endpoint = format!("{url}/oauth_token.do");
    let token = r#"sed -E 's/.*"access_token":"([^"]+)".*/\1/'"#;
    say(&format!(
        r#"scopegate demo: {url}, configuration in {folder}
Paste these into another terminal. Ctrl-C here ends the demo.

# a token, the client in a Basic header; then the same with the client in the body
TOKEN=$(curl -s -u demo:{secret} -d grant_type=client_credentials {url}/oauth_token.do | {token})
curl -si -d {grant} -d client_id=demo -d client_secret={secret} -d scope=orders_read {endpoint}

# permitted: 200 from the upstream, which shows what reached it
curl -si -H "Authorization: Bearer $TOKEN" {url}/shop/orders/7

# refused: the token lacks a scope (403 scope.missing), an API of others (403 policy.profile)
curl -si -X DELETE -H "Authorization: Bearer $TOKEN" {url}/shop/orders/7
curl -si -H "Authorization: Bearer $TOKEN" {url}/billing/invoices

# refused: expired, then tampered with (401 token.invalid), then no token (401 token.missing)
curl -si -H "Authorization: Bearer {expired}" {url}/shop/orders/7
curl -si -H "Authorization: Bearer ${{TOKEN%????????}}AAAAAAAA" {url}/shop/orders/7
curl -si {url}/shop/orders/7

# metrics
curl -s http://{metrics}/metrics | grep scopegate_requests_total
"#,
        folder = folder.display(),
        grant = "grant_type=client_credentials",
    ));
}
