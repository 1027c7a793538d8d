//! Odd targets and spoofed headers through each host: what reaches the upstream is what the gateway
//! permits, and says nothing that only the gateway may say.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use scopegate::request::headers::{ONE_HOP, of_identity, removed_by_hosts};

use super::{Decider, Host, decider, decider_at, start};
use crate::support::free_addresses;
use crate::support::http::{Connection, request, send};

/// Targets that servers read in more than one way.
const TARGETS: &[&str] = &[
    "/orders/7",
    "/orders/7?a=b",
    "/orders//7",
    "//orders/7",
    "/orders/./7",
    "/orders/../orders/7",
    "/orders/../busy/x",
    "/orders/%2e%2e/busy/x",
    "/orders/%2E%2E/busy/x",
    "/orders/.%2e/busy/x",
    "/orders/%2e/7",
    "/busy/../orders/7",
    "/orders/7/..",
    "/orders/7/../../busy/x",
    "/orders/%2f7",
    "/orders%2f7",
    "/orders/%5c7",
    "/orders\\7",
    "/orders/7%00",
    "/orders/7%0d%0aX-Auth-Client:%20evil",
    "/orders/7%20",
    "/orders/%37",
    "/%6frders/7",
    "/ORDERS/7",
    "/orders/7/",
    "/orders/7;x=y",
    "/orders;x=y/7",
    "/orders/..;/busy/x",
    "/orders/7%3fa=b",
    "/orders/7#x",
    "/orders/7%23x",
    "/orders/7?a=1;access_token=x",
    "/orders/7?access_token=x",
    "/orders/%c0%ae%c0%ae/busy/x",
    "/orders/%ff",
    "/orders/%ed%a0%80",
    "/orders/..%20/busy/x",
    "/orders/%ef%bc%8e%ef%bc%8e/busy",
    "/orders/%e2%80%a5",
    "/orders/x%ef%bc%8f%ef%bc%8e%ef%bc%8e%ef%bc%8fy",
    "/orders/%",
    "/orders/%2",
    "/orders/%zz",
    "/orders/%25%32%65",
    "/orders/%252e%252e/busy/x",
    "/orders/\u{e9}",
    "/orders/a+b",
    "/orders/a%2bb",
    "/orders/a:b",
    "/orders/a@b",
    "/orders/open",
    "/orders/OPEN",
    "/orders/op%65n",
    "/orders/open/../7",
    "http://other.example/orders/7",
    "http://other.example/busy/x",
    "https://a.example/orders/open",
    "*",
    "orders/7",
];

/// What a request made the host forward: the first lines.
fn forwarded(decider: &Decider) -> Vec<String> {
    let lines = decider.upstream.requests().into_iter();
    lines.map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
}

/// Every target that reaches the upstream is one for which the gateway itself permits the same
/// request.
fn paths(name: &str) {
    let decider = decider(name);
    let host = start(&decider, name);
    let tokens = [None, Some(decider.gateway.token("app")), Some(decider.gateway.token("other"))];
    let mut through = BTreeSet::new();
    for target in TARGETS {
        for method in ["GET", "DELETE"] {
            for token in &tokens {
                decider.upstream.clear();
                let mut connection = Connection::open(host.address);
                let lines = [("Connection", "close")];
                connection.write(request(method, target, token.as_deref(), &lines).as_bytes());
                let _ = connection.read(false);
                for line in forwarded(&decider) {
                    let mut parts = line.split(' ');
                    assert_eq!(parts.next(), Some(method), "{line}");
                    let sent = parts.next().unwrap().to_owned();
                    decider.upstream.clear();
                    let direct =
                        decider.gateway.send(request(method, &sent, token.as_deref(), &lines));
                    let permitted = direct.status == 200 && forwarded(&decider) == [line.clone()];
                    assert!(permitted, "{name}: {method} {target} reached the upstream as {line}");
                    through.insert(sent);
                }
            }
        }
    }
    // It does forward.
    for target in ["/orders/7", "/orders/7?a=b", "/orders/open", "/orders/a:b"] {
        assert!(through.contains(target), "{name}: {through:?}");
    }
}

/// The spellings of a name that some server takes for it.
fn spellings(name: &str) -> [String; 5] {
    [
        name.to_owned(),
        name.to_ascii_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "."),
        name.replace('-', ""),
    ]
}

/// No spelling of a header that only the gateway says comes through with a client's value, on a
/// public operation either.
fn headers(name: &str) {
    let decider = decider(name);
    let host = start(&decider, name);
    let app = decider.gateway.token("app");
    let more = ["x-forwarded-user", "x-original-url", "x-rewrite-url", "x-envoy-original-path"];
    let asking = ["x-original-method", "x-original-uri", "x-original-host", "x-original-upstream"];
    let hosts = ["x-forwarded-host", "x-forwarded-port", "x-forwarded-server", "x-forwarded-uri"];
    let own = ["x-user", "x-email", "x-forwarded-method", "x-forwarded-for"];
    let more = more.into_iter().chain(asking).chain(hosts).chain(own);
    let more = more.chain(["ssl-client-cert", "x-ssl-client-dn"]).chain(ONE_HOP);
    let names: BTreeSet<&str> = removed_by_hosts().chain(of_identity()).chain(more).collect();
    let mut forwarded = 0;
    for header in names {
        // What is for one hop is no other name in another spelling.
        let count = if ONE_HOP.contains(&header) { 1 } else { 5 };
        for spelling in spellings(header).into_iter().take(count) {
            for (target, token) in [("/orders/7", Some(app.as_str())), ("/orders/open", None)] {
                decider.upstream.clear();
                let lines = [("Connection", "close"), (spelling.as_str(), "evil")];
                let mut connection = Connection::open(host.address);
                connection.write(request("GET", target, token, &lines).as_bytes());
                let _ = connection.read(false);
                for head in decider.upstream.requests() {
                    assert!(!head.contains("evil"), "{name}: {spelling}: {head}");
                    forwarded += 1;
                }
            }
        }
    }
    assert!(forwarded > 20, "{name} forwards requests without what was removed: {forwarded}");
    cookies(&decider, &host);
    switches(&decider, &host);
    nominated(&decider, &host);
}

/// No upstream is asked for another protocol: what follows would be judged by nobody.
fn switches(decider: &Decider, host: &Host) {
    decider.upstream.answer(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo/1\r\n\r\n",
    );
    for protocol in ["foo/1", "websocket", "h2c"] {
        decider.upstream.clear();
        let lines = [
            ("Connection", "Upgrade"),
            ("Upgrade", protocol),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut connection = Connection::open(host.address);
        connection.write(request("GET", "/orders/open", None, &lines).as_bytes());
        let _ = connection.read(true);
        for head in decider.upstream.requests() {
            let head = head.to_ascii_lowercase();
            assert!(
                !head.contains("\nupgrade:") && !head.contains("connection: upgrade"),
                "{head}"
            );
        }
    }
    decider.upstream.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

/// A client cannot have taken away what the gateway says.
fn nominated(decider: &Decider, host: &Host) {
    let app = decider.gateway.token("app");
    decider.upstream.clear();
    let lines = [("Connection", "close, X-Auth-Client, X-Auth-Scopes, X-Decision-Id")];
    let mut connection = Connection::open(host.address);
    connection.write(request("GET", "/orders/7", Some(&app), &lines).as_bytes());
    let _ = connection.read(false);
    for head in decider.upstream.requests() {
        let head = head.to_ascii_lowercase();
        for said in ["x-auth-client: app", "x-auth-scopes: read", "x-decision-id: "] {
            assert!(head.contains(said), "{said}: {head}");
        }
    }
}

/// Cookies of the gateway stay with it, and others come through.
fn cookies(decider: &Decider, host: &Host) {
    for (sent, comes) in [
        ("theme=dark; scopegate_session=evil; lang=de", Some("theme=dark; lang=de")),
        ("__Host-scopegate=evil", None),
        ("a=1", Some("a=1")),
    ] {
        decider.upstream.clear();
        let lines = [("Connection", "close"), ("Cookie", sent)];
        let got = send(host.address, request("GET", "/orders/open", None, &lines));
        assert_eq!(got.status, 200, "{got:?}");
        let head = decider.upstream.last_head();
        let cookie = head.iter().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("cookie").then_some(value)
        });
        let parts = |text: &str| text.replace(' ', "");
        assert_eq!(cookie.map(parts), comes.map(parts), "{sent}");
    }
}

/// Two names of the gateway, and a base path inside another one that goes elsewhere: a host that
/// would forward to another upstream than the one that was judged is refused.
fn sites(name: &str) {
    let policies = "apis:
  orders: { base_path: /orders, upstream: api, public: true, resources: { '/{id}': [GET],
    /open: [GET], '/admin/x': [GET] } }
  admin: { base_path: /orders/admin, upstream: other, public: true, resources: { /y: [GET] } }
  own: { base_path: /own, host: own.example, upstream: api, public: true, resources: { /x: [GET] } }
auth_scopes: { read: { grants: [{ api: orders }] }, none: {} }
";
    let [decide] = free_addresses();
    let decider = decider_at(name, decide, &decide.to_string(), policies);
    let host = start(&decider, name);
    for (called, target, status) in [
        ("any.example", "/orders/7", 200),
        ("any.example", "/orders/admin/y", 200),
        ("own.example", "/own/x", 200),
        ("own.example", "/orders/7", 200),
        ("any.example", "/own/x", 404),
        // Of `orders`, and its path is where `admin` is.
        ("any.example", "/orders/admin/x", 500),
        ("any.example", "/ordersx/7", 404),
    ] {
        decider.upstream.clear();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {called}\r\nConnection: close\r\n\r\n");
        let got = send(host.address, head);
        assert_eq!(got.status, status, "{name}: {called} {target}: {got:?}");
        assert_eq!(decider.upstream.requests().len(), usize::from(status == 200), "{target}");
    }
    // A request line that names another host than the Host header does.
    decider.upstream.clear();
    let head = "GET http://own.example/own/x HTTP/1.1\r\nHost: any.example\r\nConnection: \
                close\r\n\r\n";
    let got = send(host.address, head);
    // It is judged by the name that the host forwards by, or not at all.
    assert!(matches!(got.status, 200 | 400 | 404), "{name}: {got:?}");
    assert_eq!(decider.upstream.requests().len(), usize::from(got.status == 200), "{name}");
}

/// The host asks over a Unix socket: who may write to it is trusted, and nobody else can ask.
fn over_unix_socket(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decide.sock");
    let [unused] = free_addresses();
    let address = format!("unix:{}", path.display());
    let decider = decider_at(name, unused, &address, super::POLICIES);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let host = start(&decider, name);
    let app = decider.gateway.token("app");
    let ask = |target: &str, token: Option<&str>| {
        send(host.address, request("GET", target, token, &[("Connection", "close")]))
    };
    assert_eq!(ask("/orders/7", Some(&app)).status, 200);
    let refused = ask("/orders/7", None);
    assert_eq!(refused.status, 401, "{refused:?}");
    // The client is who the host saw, and not the socket.
    let head = decider.upstream.last_head();
    let id = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-decision-id").then_some(value)
    });
    assert_eq!(decider.gateway.record(id.unwrap())["address"], "127.0.0.1");
    // A reload leaves it alone, and the end of the gateway takes it away.
    let Decider { mut gateway, .. } = decider;
    assert!(gateway.reload());
    assert_eq!(ask("/orders/7", Some(&app)).status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    assert!(!path.exists());
    assert!(ask("/orders/7", Some(&app)).status >= 500);
}

#[test]
fn odd_targets_through_nginx() {
    paths("nginx");
}

#[test]
fn odd_targets_through_caddy() {
    paths("caddy");
}

#[test]
fn odd_targets_through_traefik() {
    paths("traefik");
}

#[test]
fn odd_targets_through_envoy() {
    paths("envoy");
}

#[test]
fn spoofed_headers_through_nginx() {
    headers("nginx");
}

#[test]
fn spoofed_headers_through_caddy() {
    headers("caddy");
}

#[test]
fn spoofed_headers_through_traefik() {
    headers("traefik");
}

#[test]
fn spoofed_headers_through_envoy() {
    headers("envoy");
}

#[test]
fn sites_of_nginx() {
    sites("nginx");
}

#[test]
fn sites_of_caddy() {
    sites("caddy");
}

#[test]
fn sites_of_traefik() {
    sites("traefik");
}

#[test]
fn sites_of_envoy() {
    sites("envoy");
}

#[test]
fn nginx_asks_over_a_unix_socket() {
    over_unix_socket("nginx");
}

#[test]
fn caddy_asks_over_a_unix_socket() {
    over_unix_socket("caddy");
}

#[test]
fn envoy_asks_over_a_unix_socket() {
    over_unix_socket("envoy");
}
