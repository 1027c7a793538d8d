//! The decision behind other proxies: nginx, Caddy, Traefik and Envoy as they are, configured by
//! `integrate`, before the gateway and an upstream. What the gateway refuses is not forwarded, and
//! no header that only the gateway says is a client's.

mod grpc;
mod suites;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::clients::installed;
use crate::support::http::{Connection, request, send};
use crate::support::{Gateway, Setup, Upstream, free_addresses, wait_for};

const POLICIES: &str = "apis:
  orders: { base_path: /orders, upstream: api, resources: { '/{id}': [GET, POST, DELETE],
    /open: { methods: [GET], public: true } } }
  busy: { base_path: /busy, upstream: api, maintenance: true, resources: { /x: [GET] } }
  prefixed: { base_path: /v1, strip_prefix: /v1, upstream: api, public: true,
    resources: { /x: [GET] } }
  shared: { base_path: /shared, upstream: api, cors: { origins: [https://a.example] },
    resources: { /x: [GET] } }
auth_scopes: { read: { grants: [{ api: orders, methods: [GET] }] }, none: {} }
";
const CLIENTS: &str = "clients:
  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read] }
  other: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [none] }
";

/// A gateway that decides, and serves its endpoints on another listener.
struct Decider {
    gateway: Gateway,
    decide: SocketAddr,
    upstream: Upstream,
}

/// The dialect of a host.
fn dialect(host: &str) -> &str {
    if host == "envoy" { "envoy_grpc" } else { host }
}

fn decider(host: &str) -> Decider {
    let [decide] = free_addresses();
    decider_at(host, decide, &decide.to_string(), POLICIES)
}

fn decider_at(host: &str, decide: SocketAddr, address: &str, policies: &str) -> Decider {
    let upstream = Upstream::start();
    // Who asks over a Unix socket needs no address that is trusted.
    let trusted = if address.starts_with("unix:") { "192.0.2.1" } else { "127.0.0.1" };
    let mut setup = Setup::new(policies, CLIENTS);
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\" }}, {{ address: \"{address}\", decide: {} }}]\n\
         trusted_proxies: [{trusted}]\n\
         upstreams: {{ api: {{ servers: ['{to}'], remove_headers: [X-User], identity: {{ form: \
         headers, claims: {{ X-Email: email }} }} }}, other: {{ servers: ['{to}'] }} }}\n",
        dialect(host),
        to = format_args!("http://{}", upstream.address)
    );
    let gateway = Gateway::start_with(&setup, upstream.clone());
    Decider { gateway, decide, upstream }
}

impl Decider {
    /// What `integrate` prints for a host that listens on an address.
    fn configuration(&self, host: &str, address: SocketAddr) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["integrate", host, "--config"])
            .arg(self.gateway.folder.path().join("gateway.yaml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let port = address.port();
        text.replace("listen 80", &format!("listen {address}"))
            .replace(":80 {", &format!(":{port} {{"))
            .replace(
                "address: 0.0.0.0, port_value: 80",
                &format!("address: {}, port_value: {port}", address.ip()),
            )
    }
}

/// A host proxy, which ends with the test.
struct Host {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx is Debian's; the others come with the clients that nobody here wrote.
fn program(host: &str) -> PathBuf {
    match host {
        "nginx" => PathBuf::from("/usr/sbin/nginx"),
        _ => installed().join("venv/bin").join(host),
    }
}

fn start(decider: &Decider, host: &str) -> Host {
    let (folder, [address]) = (tempfile::tempdir().unwrap(), free_addresses());
    let text = decider.configuration(host, address);
    let mut command = Command::new(program(host));
    let at = folder.path();
    let write = |name: &str, text: String| {
        std::fs::write(at.join(name), text).unwrap();
        at.join(name)
    };
    match host {
        "nginx" => {
            let whole = format!(
                "daemon off; master_process off; pid {0}/pid; error_log {0}/log info; events {{}}\n\
                 http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; \
                 fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{text}}}\n",
                at.display()
            );
            command.arg("-p").arg(at).arg("-c").arg(write("nginx.conf", whole));
        }
        "caddy" => {
            let whole = format!("{{\n admin off\n auto_https off\n persist_config off\n}}\n{text}");
            command.args(["run", "--adapter", "caddyfile", "--config"]);
            command.arg(write("Caddyfile", whole)).env("HOME", at);
        }
        "traefik" => {
            let entry = format!("--entryPoints.web.address={address}");
            let file = write("dynamic.yaml", text);
            let provider = format!("--providers.file.filename={}", file.display());
            command.args([&entry, &provider, "--log.level=ERROR"]);
            command.args(["--global.checknewversion=false", "--global.sendanonymoususage=false"]);
        }
        _ => {
            command.arg("-c").arg(write("envoy.yaml", text));
            // Several at once on one machine.
            command.args(["--base-id-path"]).arg(at.join("id")).args(["--use-dynamic-base-id"]);
            command.args(["--concurrency", "1", "-l", "warning"]);
        }
    }
    let log = std::fs::File::create(at.join("output")).unwrap();
    let child =
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let mut host = Host { child, address, folder };
    wait_for("the host to forward", || {
        if let Some(ended) = host.child.try_wait().unwrap() {
            panic!("{ended}: {}", host.said());
        }
        std::net::TcpStream::connect(address).ok()?;
        // One that listens may not have read its routes yet.
        let ready = send(address, request("GET", "/orders/open", None, &[("Connection", "close")]));
        (ready.status == 200).then_some(())
    });
    host
}

impl Host {
    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap()
    }
}

/// What a host answers when nobody decides: each is in docs/hosts.md.
fn without_the_gateway(name: &str) -> u16 {
    match name {
        "caddy" => 502,
        "envoy" => 503,
        _ => 500,
    }
}

fn story(name: &str) {
    let decider = decider(name);
    let host = start(&decider, name);
    let (gateway, upstream) = (&decider.gateway, &decider.upstream);
    let ask = |method: &str, target: &str, token: Option<&str>, extra: &[(&str, &str)]| {
        let mut lines = vec![("Connection", "close")];
        lines.extend_from_slice(extra);
        send(host.address, request(method, target, token, &lines))
    };
    let (app, other) = (gateway.token("app"), gateway.token("other"));
    // A token is had through the host.
    let form = "grant_type=client_credentials&client_id=app&client_secret=";
    let form = format!("{form}{}", crate::support::SECRET);
    let issued = send(
        host.address,
        format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            gateway.address,
            form.len()
        ),
    );
    assert_eq!(issued.status, 200, "{issued:?}");
    // Who may reaches the upstream, which is told who calls.
    let lies = [("X-Auth-Client", "evil"), ("X-Auth-Roles", "evil"), ("X-Real-IP", "evil")];
    for target in ["/orders/7?a=b", "/orders/open"] {
        upstream.clear();
        let token = (target != "/orders/open").then_some(app.as_str());
        let got = ask("GET", target, token, &lies);
        assert_eq!(got.status, 200, "{target}: {got:?}");
        let head = upstream.last_head();
        assert!(head[0].starts_with(&format!("GET {target} HTTP/1.")), "{head:?}");
        let said = |name: &str| {
            let lines = head.iter().filter_map(|line| line.split_once(": "));
            let lines = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
            lines.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        let client = if token.is_some() { vec!["app".to_owned()] } else { Vec::new() };
        assert_eq!(said("x-auth-client"), client, "{head:?}");
        assert_eq!(said("host"), [upstream.address.to_string()], "{head:?}");
        assert!(!head.concat().contains("evil"), "{head:?}");
        assert!(!head.concat().to_ascii_lowercase().contains("authorization"), "{head:?}");
    }
    // Who may not does not, whatever is asked.
    upstream.clear();
    // What others remove or write over, Envoy hands on, and it is refused.
    let asking = if name == "envoy" { 400 } else { 401 };
    for (method, target, token, extra, status, reason) in [
        ("GET", "/orders/7", None, &[][..], 401, "token.missing"),
        ("GET", "/orders/7", Some("nonsense"), &[], 401, "token.invalid"),
        ("GET", "/orders/7", Some(other.as_str()), &[], 403, "scope.missing"),
        ("DELETE", "/orders/7", Some(&app), &[], 403, "scope.unscoped"),
        ("PUT", "/orders/7", Some(&app), &[], 405, "operation.method"),
        ("GET", "/orders/7/more", Some(&app), &[], 404, "operation.unknown"),
        ("GET", "/busy/x", Some(&app), &[], 503, "operation.maintenance"),
        ("GET", "/v1/x", None, &[], 500, "gateway.broken"),
        (
            "OPTIONS",
            "/shared/x",
            None,
            &[("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET")],
            405,
            "operation.method",
        ),
        ("POST", "/orders/7", Some(&app), &[("X-HTTP-Method-Override", "GET")], 400, ""),
        ("GET", "/orders/7", Some(&app), &[("X-SSL-Client", "evil")], 400, ""),
        ("GET", "/orders/7", None, &[("X-Original-URI", "/orders/open")], asking, ""),
        ("GET", "/orders/7", None, &[("X-Forwarded-Uri", "/orders/open")], 401, ""),
        ("GET", "/orders/7", None, &[("X-Forwarded-Method", "HEAD")], 401, ""),
        ("GET", "/orders/7", None, &[("X-Original-Method", "x")], asking, ""),
    ] {
        let got = ask(method, target, token, extra);
        assert_eq!(got.status, status, "{method} {target} {extra:?}: {got:?}");
        let told = got.header("x-decision-reason").unwrap_or_default();
        assert!(reason.is_empty() || told == reason || told.is_empty(), "{target}: {told}");
        if !reason.is_empty() && name == "caddy" {
            assert_eq!(got.verdict(), reason, "{method} {target}: {got:?}");
        }
        if status == 401 {
            assert!(got.header("www-authenticate").unwrap().starts_with("Bearer "), "{got:?}");
        }
        assert!(upstream.requests().is_empty(), "{method} {target}: {:?}", upstream.requests());
    }
    // Traefik asks about what it forwards, which is a form of its own.
    if name != "traefik" {
        for target in ["/orders/%2e%2e/busy", "/orders/%37"] {
            let got = ask("GET", target, Some(&app), &[]);
            assert_eq!(got.status, 400, "{target}: {got:?}");
            assert!(upstream.requests().is_empty(), "{target}: {:?}", upstream.requests());
        }
    }
    // An alias of a header is dropped by the host, or refused where the host would hand it on.
    for alias in ["x_auth_client", "X.Auth.Client", "xauthclient"] {
        let got = ask("GET", "/orders/7", Some(&app), &[(alias, "evil")]);
        assert!(matches!(got.status, 200 | 400), "{got:?}");
        assert!(!upstream.requests().concat().contains("evil"), "{alias}");
    }
    // The record says who asked.
    let refused = ask("GET", "/orders/7", None, &[]);
    if let Some(id) = refused.header("x-decision-id") {
        assert_eq!(gateway.record(id)["asked_by"], dialect(name));
    }
    // Nobody but the host is answered.
    let mut direct = Connection::open(decider.decide);
    direct.write(request("GET", "/", None, &[("Connection", "close")]).as_bytes());
    // Who does not speak gRPC where it is spoken is not answered at all.
    let direct = direct.read(false);
    assert!(direct.is_none_or(|direct| matches!(direct.status, 400 | 403)));
    // Without the gateway nothing is forwarded.
    upstream.clear();
    let Decider { gateway, upstream, .. } = decider;
    drop(gateway);
    let got = ask("GET", "/orders/7", Some(&app), &[]);
    assert_eq!(got.status, without_the_gateway(name), "{got:?}");
    assert!(upstream.requests().is_empty());
}

#[test]
fn nginx_forwards_what_is_permitted_and_nothing_else() {
    story("nginx");
}

#[test]
fn caddy_forwards_what_is_permitted_and_nothing_else() {
    story("caddy");
}

#[test]
fn traefik_forwards_what_is_permitted_and_nothing_else() {
    story("traefik");
}

#[test]
fn envoy_forwards_what_is_permitted_and_nothing_else() {
    story("envoy");
}

#[test]
fn a_host_that_no_listener_is_for_is_told_what_to_write() {
    let decider = decider("nginx");
    let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["integrate", "caddy", "--config"])
        .arg(decider.gateway.folder.path().join("gateway.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("decide: caddy"), "{said}");
}
