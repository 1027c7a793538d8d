//! `scopegate demo`: the real gateway in a folder of its own, with an upstream that echoes
//! requests.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

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

const GATEWAY: &str = include_str!("demo/gateway.yaml");
const CLIENTS: &str = include_str!("demo/clients.yaml");
const USERS: &str = include_str!("demo/users.yaml");
const POLICIES: &str = include_str!("demo/policies.yaml");

pub(super) fn run(port: u16) -> ExitCode {
    finish(demo(port))
}

fn demo(port: u16) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let (gateway, metrics) = free_addresses(port)?;
    let upstream = start_upstream()?;
    let secret = random_secret()?;
    let store = folder.path().join("data");
    let values = [
        ("PUBLIC_URL", format!("http://{gateway}")),
        ("LISTEN", gateway.to_string()),
        ("METRICS", metrics.to_string()),
        ("UPSTREAM", format!("http://{upstream}")),
        ("STORE", store.display().to_string()),
        ("SHA256", crate::names::hex(&Sha256::digest(&secret))),
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
    let file = folder.path().join("gateway.yaml");
    let (config, origins) = files::load_noting(&file);
    let config = config.map_err(|fault| fault.lines().join("\n"))?;
    let expired = expired_token(&store, &config.fixed.public_url, config.fixed.signing)?;
    let log = start_log("warn", None);
    print_guide(folder.path(), &gateway, &metrics, &secret, &expired);
    crate::server::run(
        config,
        &file,
        Options { log, origins, temporary: Some(folder), ..Options::default() },
    )
}

/// The requested port and the next, or free ones. Both are bound until both are known, so that they
/// differ.
fn free_addresses(port: u16) -> Result<(SocketAddr, SocketAddr), String> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listen = |port| bind(port).or_else(|_| bind(0));
    let addresses = listen(port).and_then(|gateway| {
        let metrics = listen(port.saturating_add(1))?;
        Ok((gateway.local_addr()?, metrics.local_addr()?))
    });
    addresses.map_err(|error| format!("no free port: {error}"))
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

# decision records follow, one JSON line for each request"#,
        folder = folder.display(),
        grant = "grant_type=client_credentials",
    ));
}
