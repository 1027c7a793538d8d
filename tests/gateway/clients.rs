//! OAuth clients that nobody here wrote, unmodified: each goes through its flows against the
//! running gateway, as its own documentation says. `tests/clients/install.sh` fetches them once, at
//! pinned versions.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::authorization::PASSWORD;
use crate::support::{Gateway, SECRET, Setup, free_address, free_addresses, wait_for};

/// Clients that the browser may be asked about.
const MANY: usize = 12;

const POLICIES: &str = "
apis:
  table: { base_path: /api/now, upstream: api, resources: { '/table/{name}': [GET, POST] } }
auth_scopes:
  table_read: { description: Read tables, grants: [{ api: table, methods: [GET] }] }
  table_write: { description: Change tables, grants: [{ api: table, methods: [POST] }] }
";

pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The folder that the clients are installed in.
pub fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
        let install =
            Command::new("bash").arg(scripts().join("install.sh")).arg(&folder).output().unwrap();
        assert!(
            install.status.success(),
            "the clients cannot be installed (they need python3-venv and Node 20):\n{}{}",
            String::from_utf8_lossy(&install.stdout),
            String::from_utf8_lossy(&install.stderr)
        );
        folder
    })
}

fn gateway(redirects: &[String]) -> Gateway {
    Gateway::start(&setup(redirects))
}

fn setup(redirects: &[String]) -> Setup {
    let list = redirects.join(", ");
    // Consent is remembered for each client: the browser's steps that need to be asked take one
    // after the other.
    let mut numbered = String::new();
    for n in 1..MANY {
        numbered.push_str(&format!(
            "  app{n}: {{ name: Service desk {n}, provider_name: Example Inc., grants: \
                [authorization_code], \
             secrets: [{{ sha256: @SHA256@ }}], redirect_urls: [{list}], auth_scopes: [table_read] \
             }}\n"
        ));
    }
    let clients = format!(
        "clients:
  foreign:
    name: Foreign client
    grants: [client_credentials, authorization_code, refresh_token, password]
    secrets: [{{ sha256: @SHA256@ }}]
    redirect_urls: [{list}]
    auth_scopes: [table_read, table_write]
{numbered}  device:
    public_client: true
    grants: [authorization_code, refresh_token]
    redirect_urls: [{list}]
    auth_scopes: [table_read]
"
    );
    let mut setup = Setup::new(POLICIES, &clients);
    setup.users = crate::authorization::setup("").users;
    setup.gateway =
        "authorization_server: { grants: [client_credentials, authorization_code, refresh_token, \
            password] }\n"
            .into();
    setup
}

/// Runs a script to its end; every step that it did is on its output.
pub fn run(gateway: &Gateway, program: &Path, script: &str, extra: &[(&str, &str)]) -> String {
    let base = format!("http://127.0.0.1:{}", gateway.address.port());
    let output = Command::new(program)
        .arg(scripts().join(script))
        .env("CLIENTS", installed())
        .env("BASE", &base)
        .env("CLIENT_ID", "foreign")
        .env("CLIENT_SECRET", SECRET)
        .env("PUBLIC_CLIENT_ID", "device")
        .env("REDIRECT_URI", "http://127.0.0.1:1/callback")
        .env("USERNAME", "alice")
        .env("PASSWORD", PASSWORD)
        .env("API_PATH", "/api/now/table/incident")
        .envs(extra.iter().copied())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{script}:\n{text}\n{}", gateway.log());
    assert!(text.lines().filter(|line| line.starts_with("ok ")).count() >= 3, "{script}:\n{text}");
    text
}

fn callback() -> Vec<String> {
    vec!["'http://127.0.0.1:1/callback'".to_owned()]
}

#[test]
fn authlib() {
    run(&gateway(&callback()), &installed().join("venv/bin/python"), "authlib_client.py", &[]);
}

#[test]
fn requests_oauthlib() {
    run(
        &gateway(&callback()),
        &installed().join("venv/bin/python"),
        "requests_oauthlib_client.py",
        &[],
    );
}

#[test]
fn pysnow_calls_the_table_api() {
    let gateway = gateway(&callback());
    let body = r#"{"result":[{"number":"INC0000001"}]}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    gateway.upstream.answer(head + body);
    run(&gateway, &installed().join("venv-pysnow/bin/python"), "pysnow_client.py", &[]);
}

#[test]
fn oauth4webapi() {
    run(&gateway(&callback()), Path::new("node"), "oauth4webapi.mjs", &[]);
}

#[test]
fn openid_client() {
    run(&gateway(&callback()), Path::new("node"), "openid-client.mjs", &[]);
}

/// A real browser goes through the pages, and takes their pictures for the documentation.
#[test]
fn chromium_goes_through_every_page() {
    let back = free_address();
    let gateway = gateway(&[format!("'http://127.0.0.1:{}/callback'", back.port())]);
    let url = |client: &str| authorize_url(&gateway, client, back);
    let shots = tempfile::tempdir().unwrap();
    let urls: Vec<String> = (1..MANY).map(|n| url(&format!("app{n}"))).collect();
    let urls = format!("{} {}", url("foreign"), urls.join(" "));
    let folder = shots.path().to_str().unwrap();
    let extra = [("AUTHORIZE_URL", urls.as_str()), ("SHOTS", folder)];
    let steps = run(&gateway, &installed().join("venv/bin/python"), "pages.py", &extra);
    assert!(!steps.contains("skip "), "{steps}");
    keep(
        shots.path(),
        &["login.png", "login-dark.png", "consent.png", "connections.png", "error.png"],
    );
}

/// Where the browser begins.
fn authorize_url(gateway: &Gateway, client: &str, back: SocketAddr) -> String {
    let back = format!("http://127.0.0.1:{}/callback", back.port());
    let challenge = crate::authorization::challenge();
    let fields = [
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", &back),
        ("state", "s-1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let base = format!("http://127.0.0.1:{}", gateway.address.port());
    format!("{base}/oauth2/authorize?{}", crate::support::browser::encode(&fields))
}

/// The pictures are there; and they go into the documentation behind the same switch as every other
/// made file.
pub fn keep(shots: &Path, names: &[&str]) {
    for name in names {
        let made = shots.join(name);
        assert!(std::fs::metadata(&made).unwrap().len() > 5_000, "{name}");
        if std::env::var_os("UPDATE").is_some() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pages");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::copy(&made, folder.join(name)).unwrap();
        }
    }
}

/// The provider's process; it ends with its standard input.
struct Provider(std::process::Child);

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Provider {
    /// `oidc-provider` on a port, for a gateway that is one of its clients.
    fn start(port: u16, gateway: &Gateway) -> Self {
        let mut child = Command::new("node")
            // Modules are found from where a script stands.
            .args([
                "--input-type=module",
                "--eval",
                &std::fs::read_to_string(scripts().join("provider.mjs")).unwrap(),
            ])
            .current_dir(installed())
            .env("PORT", port.to_string())
            .env("CLIENT_ID", "gw")
            .env("CLIENT_SECRET", SECRET)
            .env(
                "REDIRECT_URI",
                format!("http://127.0.0.1:{}/oauth2/login/callback", gateway.address.port()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ok listening\n");
        // Read on to the end: the provider goes on writing.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self(child)
    }
}

/// Its opaque tokens are asked about there (RFC 7662), and are refused once it has revoked them.
#[test]
fn opaque_tokens_of_oidc_provider_are_introspected() {
    let [there] = free_addresses();
    let issuer = format!("http://127.0.0.1:{}", there.port());
    let mut setup = setup(&callback());
    setup
        .policies
        .push_str("access_policies: { table: { api: table, allow: [{ issuers: [corp] }] } }\n");
    setup
        .clients
        .push_str("  theirs: { auth_scopes: [table_read], external: { corp: [machine] } }\n");
    setup.gateway.push_str(&format!(
        "issuers:\n  corp: {{ issuer: '{issuer}', any_audience: true, claims: {{ scopes: scope }}, \
            introspection: {{ \
         url: '{issuer}/token/introspection', client_id: gw, client_secret: file:secret, cache: 1s \
         }} }}\n"
    ));
    setup.files = vec![("secret".into(), format!("{SECRET}\n"))];
    let gateway = Gateway::start(&setup);
    let _provider = Provider::start(there.port(), &gateway);
    let post = |path: &str, fields: &[(&str, &str)]| {
        let all = [&[("client_id", "machine"), ("client_secret", SECRET)], fields].concat();
        let host = format!("127.0.0.1:{}", there.port());
        let body = crate::support::browser::encode(&all);
        crate::support::send(
            there,
            format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: \
                    application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
    };
    let answer = post("/token", &[("grant_type", "client_credentials"), ("scope", "table_read")]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert!(!token.contains('.'), "opaque: {token}");
    assert_eq!(
        gateway.get("/api/now/table/incident", Some(&token)).verdict(),
        "permit",
        "{}",
        gateway.log()
    );
    assert_eq!(
        gateway.get("/api/now/table/incident", Some(&format!("{token}x"))).verdict(),
        "token.invalid"
    );
    assert_eq!(post("/token/revocation", &[("token", &token)]).status, 200);
    wait_for("the issuer's own revocation", || {
        (gateway.get("/api/now/table/incident", Some(&token)).verdict() == "token.invalid")
            .then_some(())
    });
}

/// A certified OpenID provider that nobody here wrote signs users in, in a real browser.
#[test]
fn chromium_signs_in_at_oidc_provider() {
    let [back, there] = free_addresses();
    let issuer = format!("http://127.0.0.1:{}", there.port());
    let mut setup = setup(&[format!("'http://127.0.0.1:{}/callback'", back.port())]);
    setup.users = setup.users.replace(
        "alice: { ",
        &format!("alice: {{ external: [{{ issuer: '{issuer}', subject: adoe }}], "),
    );
    setup.gateway = setup.gateway.replace(
        " }\n",
        &format!(
            ", login: {{ provider: {{ name: Corp, issuer: '{issuer}', client_id: gw, \
            client_secret: file:secret }} }} }}\n"
        ),
    );
    setup.files = vec![("secret".into(), format!("{SECRET}\n"))];
    let gateway = Gateway::start(&setup);
    let _provider = Provider::start(there.port(), &gateway);
    // It was away when the gateway asked for its keys first.
    wait_for("the provider's keys", || {
        gateway.metrics_text().contains("jwks_age_seconds{issuer=\"login").then_some(())
    });
    let shots = tempfile::tempdir().unwrap();
    let extra = [
        ("AUTHORIZE_URL", authorize_url(&gateway, "foreign", back)),
        ("SHOTS", shots.path().display().to_string()),
        ("PROVIDER", issuer),
        ("LINK", "Continue with Corp".to_owned()),
        ("SUBJECT", "adoe".to_owned()),
    ];
    let extra: Vec<(&str, &str)> =
        extra.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run(&gateway, &installed().join("venv/bin/python"), "provider.py", &extra);
    keep(shots.path(), &["login-provider.png"]);
}
