//! Our cookies are between browsers and us: no upstream gets one, sets one or clears one.

use std::io::{Read, Write};

use crate::support::http::{Connection, request};
use crate::support::{Gateway, Setup};

const POLICIES: &str = "apis:
  open: { base_path: /open, upstream: api, public: true, resources: { \"/{*rest}\": [GET, POST] } }
  live: { base_path: /live, upstream: api, public: true, websocket: true, resources: { /x: [GET] } }
";

fn gateway() -> Gateway {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = "listeners: [{ address: \"@LISTEN@\", h2c: true }]\n".to_owned();
    Gateway::start(&setup)
}

/// The Cookie lines of the last request that the upstream got.
fn arrived(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.upstream.last_head();
    let lines = lines.iter().filter(|line| line.to_ascii_lowercase().starts_with("cookie:"));
    lines.map(|line| line.split_once(':').unwrap().1.trim().to_owned()).collect()
}

#[test]
fn no_upstream_is_sent_a_cookie_of_ours_and_others_arrive_byte_for_byte() {
    let gateway = gateway();
    for (sent, expect) in [
        ("a=1; b=\"x y\";c=;; d", Some("a=1; b=\"x y\";c=;; d")),
        ("scopegate=secret", None),
        ("__Host-scopegate=secret", None),
        ("a=1; __Host-scopegate=secret; b=2", Some("a=1; b=2")),
        ("SCOPEGATE=secret; a=1", Some("a=1")),
        ("__Secure-ScopeGate-login-abc=secret", None),
        (
            "scopegate-device=secret; __Host-scopegate-login-x=secret; a=scopegate",
            Some("a=scopegate"),
        ),
        ("=scopegate=secret; a=1", Some("a=1")),
        ("scopegate; a=1", Some("a=1")),
        (" scopegate =secret; a=1", Some("a=1")),
        ("a=1;\tscopegate=secret", Some("a=1")),
        ("\u{e4}=1; scopegate=secret", Some("\u{e4}=1")),
    ] {
        gateway.upstream.clear();
        let bytes = format!(
            "GET /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {sent}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(gateway.send(bytes).status, 200, "{sent}");
        assert_eq!(
            arrived(&gateway),
            expect.map(str::to_owned).into_iter().collect::<Vec<_>>(),
            "{sent}"
        );
        assert!(!gateway.upstream.requests().concat().contains("secret"), "{sent}");
        // And in the crumbs of HTTP/2.
        if sent.is_ascii() && !sent.starts_with(' ') {
            gateway.upstream.clear();
            let url = format!("http://{}/open/x", gateway.address);
            let mut curl = std::process::Command::new("curl");
            curl.args(["-sS", "--max-time", "120", "--http2-prior-knowledge", "-o", "/dev/null"]);
            for crumb in sent.split("; ") {
                curl.args(["-H", &format!("Cookie: {crumb}")]);
            }
            assert!(curl.arg(&url).status().unwrap().success());
            assert!(!gateway.upstream.requests().concat().contains("secret"), "{sent}");
        }
    }
    // In several lines, too.
    gateway.upstream.clear();
    gateway.send(
        "GET /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a=1\r\nCookie: \
            scopegate=secret\r\nCookie: b=2\r\n\r\n",
    );
    assert_eq!(arrived(&gateway), ["a=1", "b=2"]);
}

/// Everything that the gateway sends until it closes the connection.
fn raw(gateway: &Gateway, bytes: &str) -> String {
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn no_upstream_sets_or_clears_a_cookie_of_ours_in_any_kind_of_answer() {
    let gateway = gateway();
    let set = "Set-Cookie: a=1; Path=/\r\nSet-Cookie: __Host-scopegate=stolen; Path=/; \
        Secure\r\nset-cookie: ScopeGate-login-x=stolen\r\n\
               SET-COOKIE: =scopegate=stolen\r\nSet-Cookie: scopegate\r\nSet-Cookie: \
               b=scopegate\r\n\
               Clear-Site-Data: \"cookies\"\r\nClear-Site-Data: \"cache\", \"*\"\r\n\
               Service-Worker-Allowed: /\r\n";
    let final_one = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{set}\r\nok");
    let interim = format!(
        "HTTP/1.1 103 Early Hints\r\n{set}\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    );
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n{set}\r\n");
    let trailers = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: \
            set-cookie\r\n\r\n2\r\nok\r\n0\r\n{set}\r\n"
    );
    for (name, answer, kept) in [
        ("final", &final_one, true),
        ("interim", &interim, true),
        ("redirect", &redirect, true),
        ("trailers", &trailers, false),
    ] {
        gateway.upstream.answer(answer);
        let got =
            raw(&gateway, "GET /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                .to_ascii_lowercase();
        assert!(
            !got.contains("stolen") && !got.contains("\"cookies\"") && !got.contains("\"*\""),
            "{name}: {got}"
        );
        assert_eq!(got.matches("set-cookie: ").count(), if kept { 2 } else { 0 }, "{name}: {got}");
        if kept {
            assert!(
                got.contains("set-cookie: a=1; path=/\r\n")
                    && got.contains("set-cookie: b=scopegate\r\n"),
                "{name}: {got}"
            );
            assert!(got.contains("clear-site-data: \"cache\"\r\n"), "{name}: {got}");
            assert!(!got.contains("service-worker-allowed"), "{name}: {got}");
        }
        let url = format!("http://{}/open/x", gateway.address);
        let curl = std::process::Command::new("curl")
            .args(["-sS", "--max-time", "120", "--http2-prior-knowledge", "-i", &url])
            .output()
            .unwrap();
        let got = String::from_utf8_lossy(&curl.stdout).to_ascii_lowercase();
        assert!(
            got.contains("http/2 ") && !got.contains("stolen") && !got.contains("\"cookies\""),
            "{name}: {got}"
        );
    }
    // A browser takes cookies out of a handshake, too.
    let handshake = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \
            Upgrade\r\nSec-WebSocket-Accept: x\r\n{set}\r\n"
    );
    gateway.upstream.answer(handshake);
    let mut connection = Connection::open(gateway.address);
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    connection.write(request("GET", "/live/x", None, &upgrade).as_bytes());
    let answer = connection.read(true).unwrap();
    assert_eq!(answer.status, 101);
    let cookies: Vec<&(String, String)> =
        answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
}
