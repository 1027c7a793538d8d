//! The decision behind other proxies: nginx and Caddy as they are, configured by `integrate`,
//! before the gateway and an upstream. What the gateway refuses is not forwarded, and no header
//! that only the gateway says is a client's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::clients::installed;
use crate::support::http::{request, send};
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

fn decider(dialect: &str) -> Decider {
    let (upstream, [decide]) = (Upstream::start(), free_addresses());
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\" }}, {{ address: \"{decide}\", decide: {dialect} }}]\n\
         trusted_proxies: [127.0.0.1]\nupstreams: {{ api: {{ servers: ['http://{}'] }} }}\n",
        upstream.address
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
        text.replace("listen 80;", &format!("listen {address};"))
            .replace(":80 {", &format!("http://{address}, http://a.example:{} {{", address.port()))
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

/// nginx is Debian's; Caddy comes with the clients that nobody here wrote.
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
    if host == "nginx" {
        let whole = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/log info; events {{}}\n\
                 http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; \
                 fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{text}}}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("nginx.conf"), whole).unwrap();
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
    } else {
        let whole = format!("{{\n admin off\n auto_https off\n persist_config off\n}}\n{text}");
        std::fs::write(folder.path().join("Caddyfile"), whole).unwrap();
        command.args(["run", "--adapter", "caddyfile", "--config"]);
        command.arg(folder.path().join("Caddyfile")).env("HOME", folder.path());
    }
    let log = std::fs::File::create(folder.path().join("output")).unwrap();
    let child =
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let mut host = Host { child, address, folder };
    wait_for("the host to listen", || {
        if let Some(ended) = host.child.try_wait().unwrap() {
            let said = std::fs::read_to_string(host.folder.path().join("output")).unwrap();
            panic!("{ended}: {said}");
        }
        std::net::TcpStream::connect(address).ok()
    });
    host
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
    let only_nginx = |status: u16, otherwise: u16| if name == "nginx" { status } else { otherwise };
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
        ("GET", "/orders/%2e%2e/busy", Some(&app), &[], 400, "path.ambiguous"),
        ("GET", "/orders/%37", Some(&app), &[], 400, "path.ambiguous"),
        ("POST", "/orders/7", Some(&app), &[("X-HTTP-Method-Override", "GET")], 400, ""),
        ("GET", "/orders/7", Some(&app), &[("X-SSL-Client", "evil")], 400, ""),
        ("GET", "/orders/7", None, &[("X-Original-URI", "/orders/open")], only_nginx(401, 400), ""),
        ("GET", "/orders/7", None, &[("X-Forwarded-Uri", "/orders/open")], 401, ""),
        ("GET", "/orders/7", None, &[("X-Forwarded-Method", "HEAD")], 401, ""),
        ("GET", "/orders/7", None, &[("X-Original-Method", "x")], only_nginx(401, 400), ""),
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
    // An alias of a header is dropped by the host, or refused where the host would hand it on.
    for alias in ["x_auth_client", "X.Auth.Client", "xauthclient"] {
        let got = ask("GET", "/orders/7", Some(&app), &[(alias, "evil")]);
        assert!(matches!(got.status, 200 | 400), "{got:?}");
        assert!(!upstream.requests().concat().contains("evil"), "{alias}");
    }
    // The record says who asked.
    let refused = ask("GET", "/orders/7", None, &[]);
    if let Some(id) = refused.header("x-decision-id") {
        assert_eq!(gateway.record(id)["asked_by"], name);
    }
    // Nobody but the host is answered.
    let direct = send(decider.decide, request("GET", "/", None, &[("Connection", "close")]));
    assert!(matches!(direct.status, 400 | 403), "{direct:?}");
    // Without the gateway nothing is forwarded.
    upstream.clear();
    let Decider { gateway, upstream, .. } = decider;
    drop(gateway);
    let got = ask("GET", "/orders/7", Some(&app), &[]);
    assert!(matches!(got.status, 500 | 502), "{got:?}");
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
