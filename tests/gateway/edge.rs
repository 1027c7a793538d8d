//! What the guard adds to the proxy below: framing, limits and deadlines, over raw sockets, with an
//! upstream that records every byte.

mod attacks;
mod bodies;
mod fuzzed;
mod hostile;
mod http2;
mod lifecycle;
mod side;
mod tls;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::http::{Connection, request, try_send};
use crate::support::{Gateway, Setup, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET, POST, PUT] } } }\n";

fn gateway(edge: &str) -> Gateway {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = edge.to_owned();
    Gateway::start(&setup)
}

#[test]
fn ambiguous_framing_is_refused_with_a_reason_and_nothing_reaches_the_upstream() {
    let gateway = gateway("");
    let cases: [(&str, &str, u16); 50] = [
        ("GET /a HTTP/1.1\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.0\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a/evil\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: \r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a:port\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n", "request.malformed", 400),
        ("GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "operation.unknown", 404),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "operation.method", 405),
        ("TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n", "operation.method", 405),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET //a HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a;b HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", "path.ambiguous", 400),
        ("GET /a HTTP/1.2\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/2.0\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("GET /a\r\nHost: a\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\nHost: a\n\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "request.malformed", 400),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", "request.malformed", 400),
        ("\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", "request.malformed", 400),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
            "request.malformed",
            400,
        ),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "request.malformed", 400),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: \
                chunked\r\n\r\n0\r\n\r\n",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: \
                chunked\r\n\r\n0\r\n\r\n",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nExpect: y 100-continue\r\nContent-Length: 0\r\n\r\n",
            "request.malformed",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "request.malformed",
            400,
        ),
    ];
    let mut kept = 0;
    for (bytes, reason, status) in cases {
        // A second request behind the first one must never be served.
        let smuggled = format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = try_send(gateway.address, &smuggled)
            .unwrap_or_else(|| panic!("no answer to {bytes:?}"));
        assert_eq!((response.verdict().as_str(), response.status), (reason, status), "{bytes:?}");
        assert!(
            response.header("x-decision-id").is_some()
                && response.json()["decision_id"].is_string()
        );
        // What is not HTTP ends the connection; a path that the rules refuse is HTTP, and the next
        // request is one.
        let closed =
            response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        assert!(closed || bytes.contains(";b") || bytes.contains("%2Fb"), "{bytes:?}");
        kept += usize::from(!closed);
    }
    assert_eq!(kept, 2);
    assert!(gateway.upstream.requests().len() <= kept, "{:?}", gateway.upstream.requests());
    let counted = gateway
        .metric("scopegate_requests_total{api=\"\",operation=\"\",reason=\"request.malformed\",verdict=\"refuse\"}");
    assert!(counted.unwrap() > 30.0, "{counted:?}");
}

#[test]
fn bad_chunks_never_become_a_complete_request_upstream() {
    for chunks in [
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-1\r\n",
    ] {
        let gateway = gateway("");
        let bytes = format!(
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET \
                /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let _ = try_send(gateway.address, bytes);
        let requests = gateway.upstream.requests();
        assert!(
            requests
                .iter()
                .all(|request| !request.contains("smuggled") || request.contains("POST /a")),
            "{chunks:?}: {requests:?}"
        );
        assert!(requests.len() <= 1, "{chunks:?}: {requests:?}");
    }
}

#[test]
fn pipelined_requests_are_each_read_strictly_and_answered_in_order() {
    let gateway = gateway("");
    let mut connection = Connection::open(gateway.address);
    connection.write(
        b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nPOST /second HTTP/1.1\r\nHost: \
            a\r\nContent-Length: 5\r\n\r\nhelloGET /a/../third HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(connection.read(false).unwrap().status, 200);
    assert_eq!(connection.read(false).unwrap().status, 200);
    assert_eq!(connection.read(false).unwrap().verdict(), "path.ambiguous");
    assert_eq!(gateway.upstream.requests().len(), 2);
    assert!(!gateway.upstream.requests().concat().contains("third"));
}

#[test]
fn a_body_that_nobody_reads_is_never_taken_for_the_next_request() {
    // The resource is public for GET and PUT and does not offer DELETE: a body that says GET must
    // not speak for what follows it.
    let gateway = gateway("");
    let inner = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in ["DELETE /a HTTP/1.1", "GET /nowhere;x HTTP/1.1"] {
        for chunked in [false, true] {
            let mut connection = Connection::open(gateway.address);
            let framing = if chunked {
                "Transfer-Encoding: chunked".to_owned()
            } else {
                format!("Content-Length: {}", inner.len())
            };
            connection.write(
                format!("DELETE /first HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes(),
            );
            let first = connection.read(false).unwrap();
            assert_eq!(first.verdict(), "operation.method");
            let body = if chunked {
                format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len())
            } else {
                inner.to_owned()
            };
            connection.write(body.as_bytes());
            connection.write(format!("{head}\r\nHost: a\r\n\r\n").as_bytes());
            // Answered as what it is, or the connection has been closed; never as the body said.
            if let Some(second) = connection.read(false) {
                assert!(second.status >= 400, "{second:?}");
            }
        }
    }
    assert_eq!(gateway.upstream.requests(), [""; 0]);
}

/// A request with so many lines of its own.
fn many_fields(count: usize) -> String {
    let lines: Vec<(String, &str)> = (0..count).map(|n| (format!("X-{n}"), "y")).collect();
    let lines: Vec<(&str, &str)> =
        lines.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    request("GET", "/a", None, &lines)
}

#[test]
fn the_number_of_header_lines_is_a_setting() {
    let gateway = gateway("edge: { max_header_fields: 30 }\n");
    assert_eq!(gateway.send(many_fields(20)).status, 200);
    assert_eq!(gateway.send(many_fields(31)).status, 431);
}

#[test]
fn head_and_target_limits_are_answered_with_their_reasons() {
    let gateway = gateway("");
    let header = |bytes: usize| request("GET", "/a", None, &[("X", &"a".repeat(bytes))]);
    assert_eq!(gateway.send(header(31 * 1024)).status, 200);
    for bytes in [33 * 1024, 200 * 1024] {
        let response = gateway.send(header(bytes));
        assert_eq!(
            (response.verdict().as_str(), response.status),
            ("request.headers", 431),
            "{bytes}"
        );
    }
    let refused = gateway.send(many_fields(201));
    assert_eq!(refused.status, 431);
    let record = gateway.record(refused.header("x-decision-id").unwrap());
    assert_eq!(record["fault"], "over edge.max_header_fields: 200", "{record}");
    let long = gateway.get(&format!("/{}", "a".repeat(9 * 1024)), None);
    assert_eq!((long.verdict().as_str(), long.status), ("request.target", 414));
    assert_eq!(gateway.upstream.requests().len(), 1);
}

#[test]
fn a_head_that_does_not_end_is_cut_at_one_deadline_however_it_drips() {
    let gateway = gateway("edge: { header_timeout: 1s }\n");
    let start = Instant::now();
    let connect = || {
        let stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        stream
    };
    let mut streams = [connect(), connect(), connect()];
    streams[1].write_all(b"GET /a HTTP/1.1\r\nHo").unwrap();
    let mut open = [true; 3];
    wait_for("the deadline to cut all three", || {
        // The third drips a byte each time: no pause is long, the whole is.
        let _ = streams[2].write_all(b"G");
        for (stream, open) in streams.iter_mut().zip(&mut open) {
            let mut byte = [0; 1];
            match std::io::Read::read(stream, &mut byte) {
                Ok(0) => *open = false,
                Ok(_) => panic!("an answer to half a head"),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => *open = false,
            }
        }
        open.iter().all(|open| !open).then_some(())
    });
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
    wait_for("all three to be counted", || {
        gateway
            .metric("scopegate_connections_cut_total{cause=\"header_timeout\"}")
            .filter(|cut| *cut > 2.5)
    });
}

#[test]
fn the_deadline_holds_for_every_request_of_a_connection_and_not_for_the_pauses_between() {
    let gateway = gateway("edge: { header_timeout: 1s }\n");
    let mut connection = Connection::open(gateway.address);
    for _ in 0..2 {
        connection.write(request("GET", "/a", None, &[]).as_bytes());
        assert_eq!(connection.read(false).unwrap().status, 200);
        // A pause longer than the deadline, between requests.
        std::thread::park_timeout(Duration::from_millis(1_300));
    }
    connection.write(b"GET /stalled HTTP/1.1\r\n");
    assert!(connection.is_closed());
    assert_eq!(gateway.upstream.requests().len(), 2);
}

#[test]
fn many_small_bodies_are_no_slow_one_and_a_dripping_body_is_cut() {
    let gateway = gateway("edge: { body_timeout: 2s }\n");
    let mut connection = Connection::open(gateway.address);
    // Each waits a little: together for longer than one body may.
    for _ in 0..20 {
        connection.write(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
        std::thread::park_timeout(Duration::from_millis(150));
        connection.write(b"hello");
        assert_eq!(connection.read(false).unwrap().status, 200);
    }
    let mut slow = TcpStream::connect(gateway.address).unwrap();
    slow.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    wait_for("the slow one to be cut", || {
        let _ = slow.write_all(b"x");
        std::thread::park_timeout(Duration::from_millis(100));
        gateway
            .metric("scopegate_connections_cut_total{cause=\"body_pace\"}")
            .filter(|cut| *cut > 0.5)
    });
}

#[test]
fn a_kept_connection_is_closed_after_its_pause_and_that_is_no_fault() {
    let gateway = gateway("edge: { header_timeout: 20s, keep_alive_timeout: 4s }\n");
    let mut connection = Connection::open(gateway.address);
    for _ in 0..3 {
        connection.write(request("GET", "/a", None, &[]).as_bytes());
        assert_eq!(connection.read(false).unwrap().status, 200);
        // Each pause begins anew: together they are longer than one may be.
        std::thread::park_timeout(Duration::from_millis(1_500));
    }
    assert!(connection.is_closed());
    let cut = gateway.metric("scopegate_connections_cut_total{cause=\"header_timeout\"}");
    assert!(cut.is_none_or(|cut| cut < 0.5), "{cut:?}");
}

#[test]
fn connections_are_capped_by_address_and_in_total() {
    for (edge, cause) in
        [("max_connections: 3", "total"), ("max_connections_per_address: 3", "address")]
    {
        let gateway = gateway(&format!("edge: {{ {edge} }}\n"));
        // The start-up check's connections have to be counted out first.
        wait_for("an empty gateway", || {
            gateway.metric("scopegate_connections_open").filter(|open| *open < 0.5)
        });
        let mut held: Vec<Connection> = (0..3).map(|_| Connection::open(gateway.address)).collect();
        for connection in &mut held {
            connection.write(request("GET", "/a", None, &[]).as_bytes());
            assert_eq!(connection.read(false).unwrap().status, 200);
        }
        let mut fourth = Connection::open(gateway.address);
        fourth.write(request("GET", "/a", None, &[]).as_bytes());
        assert!(fourth.read(false).is_none(), "{cause}");
        let series = format!("scopegate_connections_refused_total{{cause=\"{cause}\"}}");
        wait_for("it to be counted", || gateway.metric(&series).filter(|refused| *refused > 0.5));
        held.pop();
        wait_for("room for another", || try_send(gateway.address, request("GET", "/a", None, &[])));
    }
}

#[test]
fn bodies_are_streamed_both_ways_and_100_continue_is_answered() {
    let gateway = gateway("");
    let body = "x".repeat(300_000);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    gateway.upstream.answer(answer);
    let sent =
        format!("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let response = gateway.send(&sent);
    assert_eq!((response.status, response.body.len()), (200, body.len()));
    let chunked = format!(
        "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \
            chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(gateway.send(chunked).status, 200);
    for got in gateway.upstream.requests() {
        // The chunks are cut anew: what is in them counts.
        assert_eq!(got.split("\r\n\r\n").nth(1).unwrap().matches('x').count(), body.len());
    }
}

#[test]
fn an_upgrade_is_not_offered() {
    let gateway = gateway("");
    let bytes = request(
        "GET",
        "/a",
        None,
        &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x")],
    );
    assert_eq!(gateway.send(bytes).status, 200, "the request is served as plain HTTP");
    let head = gateway.upstream.last_head().join("\n").to_ascii_lowercase();
    assert!(!head.contains("\nupgrade:"), "{head}");
    gateway.upstream.answer(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let unsolicited = gateway.get("/a", None);
    assert_eq!(unsolicited.status, 502, "{unsolicited:?}");
}

#[test]
fn what_a_client_says_for_one_hop_stays_there() {
    let gateway = gateway("");
    let bytes = request(
        "GET",
        "/a",
        None,
        &[
            ("Connection", "keep-alive, X-Hop, host , x-forwarded-for"),
            ("X-Hop", "a"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "X"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("HTTP2-Settings", "AAMAAABk"),
            ("X-Kept", "b"),
        ],
    );
    assert_eq!(gateway.send(bytes).status, 200);
    let head = gateway.upstream.last_head().join("\n").to_ascii_lowercase();
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "te",
        "trailer",
        "proxy-connection",
        "proxy-authorization",
        "http2-settings",
    ] {
        assert!(!head.contains(&format!("\n{name}:")), "{name}: {head}");
    }
    for kept in [
        "\nx-kept: b",
        "\nx-forwarded-for: 127.0.0.1",
        "\nx-forwarded-host: ",
        "\nhost: 127.0.0.1:",
    ] {
        assert!(head.contains(kept), "{kept}: {head}");
    }
}

#[test]
fn what_an_upstream_says_for_one_hop_stays_there() {
    let gateway = gateway("");
    gateway.upstream.answer(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: a\r\nKeep-Alive: \
            timeout=5\r\nUpgrade: h2c\r\nTrailer: X\r\nX-Kept: b\r\nContent-Length: 2\r\n\r\nok",
    );
    let response = gateway.get("/a", None);
    assert_eq!((response.body.as_str(), response.header("x-kept")), ("ok", Some("b")));
    for name in ["x-hop", "keep-alive", "upgrade", "trailer"] {
        assert_eq!(response.header(name), None, "{name}");
    }
}

#[test]
fn an_http_1_0_client_gets_no_chunks_and_the_end_of_the_connection() {
    let gateway = gateway("");
    gateway
        .upstream
        .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let mut connection = Connection::open(gateway.address);
    connection.write(b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n");
    let response = connection.read(false).unwrap();
    assert_eq!((response.body.as_str(), response.header("transfer-encoding")), ("hello", None));
    assert!(connection.is_closed());
}

#[test]
fn interim_answers_without_end_are_cut() {
    let gateway = gateway("");
    let flood = format!(
        "{}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000)
    );
    gateway.upstream.answer(flood);
    let mut connection = Connection::open(gateway.address);
    connection.write(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut interim = 0;
    let last = loop {
        match connection.read(true) {
            Some(response) if response.status == 103 => interim += 1,
            last => break last,
        }
    };
    assert!(interim <= 16, "{interim}");
    assert!(last.is_none_or(|last| last.status == 502));
}

#[test]
fn a_client_that_leaves_is_not_our_failure() {
    let gateway = gateway("");
    for _ in 0..20 {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream
            .write_all(b"DELETE /a HTTP/1.1\r\nHost: a\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        drop(stream);
    }
    let refused = "scopegate_requests_total{api=\"\",operation=\"\",reason=\"operation.method\",verdict=\"refuse\"}";
    wait_for("the refusals to be counted", || {
        gateway.metric(refused).filter(|count| *count > 19.5)
    });
    assert!(!gateway.metrics_text().contains("gateway.broken"), "{}", gateway.metrics_text());
}

#[test]
fn a_dead_server_of_two_costs_no_request() {
    let upstream = crate::support::Upstream::start();
    let dead = crate::support::free_address();
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway =
        format!("upstreams: {{ api: {{ servers: ['http://{dead}', '@UPSTREAM@'] }} }}\n");
    let gateway = Gateway::start_with(&setup, upstream);
    for n in 0..6 {
        let body = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(gateway.send(body).status, 200, "{n}");
    }
    assert_eq!(gateway.upstream.requests().len(), 6);
}
