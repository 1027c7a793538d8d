//! What stands behind the gateway: which server gets a request, what happens when one fails, whose
//! credentials it sees, and what an API says with its answers.

mod answers;
mod cookies;
mod elsewhere;
mod given_up;
mod identity;
mod peers;
mod queries;
mod refused_streams;
mod subprotocols;

use std::net::SocketAddr;

use crate::support::http::request;
use crate::support::tls::{Ca, serve};
use crate::support::{Gateway, Setup, Upstream, free_address, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /open, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET, POST, PUT] } } }\n";

/// A gateway whose upstream is written out.
fn gateway(upstream: &str) -> Gateway {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!("upstreams: {{ api: {{ {upstream} }} }}\n");
    Gateway::start(&setup)
}

fn url(address: SocketAddr) -> String {
    format!("'http://{address}'")
}

fn counts<const N: usize>(servers: &[Upstream; N]) -> [usize; N] {
    std::array::from_fn(|at| servers[at].requests().len())
}

const CANNOT: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

#[test]
fn servers_get_requests_by_weight() {
    let servers = [Upstream::start(), Upstream::start()];
    let [one, two] = servers.each_ref().map(|server| url(server.address));
    let gateway = gateway(&format!("servers: [{one}, {{ url: {two}, weight: 3 }}]"));
    for _ in 0..40 {
        assert_eq!(gateway.get("/open/x", None).status, 200);
    }
    assert_eq!(counts(&servers), [10, 30]);
}

#[test]
fn a_request_that_may_have_been_acted_on_is_sent_once() {
    let servers = [Upstream::start(), Upstream::start()];
    let [one, two] = servers.each_ref().map(|server| url(server.address));
    let gateway =
        gateway(&format!("servers: [{one}, {two}], retries: 1, ejection: {{ after: 1000 }}"));
    for answer in [CANNOT, "", "HTTP/1.1 nonsense\r\n\r\n"] {
        servers[0].answer(answer);
        for method in ["GET", "PUT", "POST"] {
            let before = counts(&servers);
            let statuses: Vec<u16> = (0..4)
                .map(|_| gateway.send(request(method, "/open/x", None, &[])).status)
                .collect();
            let got = counts(&servers).iter().sum::<usize>() - before.iter().sum::<usize>();
            let nonsense = answer.starts_with("HTTP/1.1 non");
            if method == "POST" || nonsense {
                assert_eq!(got, 4, "{method} {answer:?}: {statuses:?}");
                assert_eq!(
                    statuses.iter().filter(|status| **status >= 500).count(),
                    2,
                    "{method} {answer:?}: {statuses:?}"
                );
            } else {
                // A connection that was pooled and closed is no failure of the server: then the
                // same one is asked again.
                let most = if answer.is_empty() { 8 } else { 6 };
                assert!((6..=most).contains(&got), "{method} {answer:?}: {got} {statuses:?}");
                assert_eq!(statuses, [200; 4], "{method} {answer:?}");
            }
        }
    }
    assert!(gateway.metric("scopegate_upstream_retries_total{upstream=\"api\"}") >= Some(8.0));
    // Without another server the answer is the server's own.
    servers[0].answer(CANNOT);
    servers[1].answer(CANNOT);
    let response = gateway.get("/open/x", None);
    assert_eq!((response.status, response.body.as_str()), (503, "busy"));
}

#[test]
fn retries_have_a_budget() {
    let servers = [Upstream::start(), Upstream::start()];
    let [one, two] = servers.each_ref().map(|server| url(server.address));
    let gateway =
        gateway(&format!("servers: [{one}, {two}], retries: 1, ejection: {{ after: 1000 }}"));
    for server in &servers {
        server.answer(CANNOT);
    }
    for _ in 0..100 {
        assert_eq!(gateway.get("/open/x", None).status, 503);
    }
    let sent: usize = counts(&servers).iter().sum();
    assert!((125..=131).contains(&sent), "a hundred, ten beforehand and one in five: {sent}");
}

#[test]
fn a_server_that_fails_is_left_out_for_a_while_and_then_tried_again() {
    let servers = [Upstream::start(), Upstream::start()];
    let [one, two] = servers.each_ref().map(|server| url(server.address));
    let gateway = gateway(&format!("servers: [{one}, {two}], ejection: {{ after: 2, lasts: 6s }}"));
    servers[0].answer(CANNOT);
    let failed = (0..20).filter(|_| gateway.get("/open/x", None).status != 200).count();
    assert_eq!(failed, 2);
    let state = |state: &str| {
        gateway.metric(&format!("scopegate_upstream_servers{{state=\"{state}\",upstream=\"api\"}}"))
    };
    assert_eq!((state("ejected"), state("usable")), (Some(1.0), Some(1.0)));
    assert_eq!(gateway.metric("scopegate_upstream_ejections_total{upstream=\"api\"}"), Some(1.0));
    servers[0].answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    servers[0].clear();
    wait_for("it to be tried again", || {
        assert_eq!(gateway.get("/open/x", None).status, 200);
        (!servers[0].requests().is_empty()).then_some(())
    });
}

#[test]
fn a_server_that_hangs_is_left_out_although_retries_hide_it() {
    let servers = [Upstream::start(), Upstream::start()];
    let [one, two] = servers.each_ref().map(|server| url(server.address));
    let gateway = gateway(&format!(
        "servers: [{one}, {two}], retries: 1, timeouts: {{ response: 2s }}, ejection: {{ after: 2, \
            lasts: 10m }}"
    ));
    let _held = servers[0].hold();
    for _ in 0..12 {
        assert_eq!(gateway.get("/open/x", None).status, 200);
    }
    assert_eq!(counts(&servers), [2, 12]);
}

#[test]
fn a_health_check_that_was_wrong_and_is_taken_away_leaves_nothing_down() {
    let upstream = Upstream::start();
    let gateway = gateway(&format!(
        "servers: [{}], health_check: {{ path: /wrong, every: 100ms }}",
        url(upstream.address)
    ));
    upstream.answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    wait_for("it to be down", || (gateway.get("/open/x", None).status == 503).then_some(()));
    upstream.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let file = gateway.folder.path().join("gateway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(", health_check: { path: /wrong, every: 100ms }", ""))
        .unwrap();
    assert!(gateway.reload());
    assert_eq!(gateway.get("/open/x", None).status, 200);
}

#[test]
fn a_server_is_down_by_its_health_checks_and_comes_back() {
    let servers = [Upstream::start(), Upstream::start()];
    let [one, two] = servers.each_ref().map(|server| url(server.address));
    let gateway = gateway(&format!(
        "servers: [{one}, {two}], health_check: {{ path: /health, every: 150ms }}"
    ));
    let down = |count: f64| {
        wait_for("the health checks", || {
            (gateway.metric("scopegate_upstream_servers{state=\"down\",upstream=\"api\"}")
                == Some(count))
            .then_some(())
        });
    };
    let asked = |server: &Upstream| {
        server.requests().iter().any(|head| head.starts_with("GET /health HTTP/1.1\r\n"))
    };
    wait_for("both to be asked", || (asked(&servers[0]) && asked(&servers[1])).then_some(()));
    servers[0].answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    down(1.0);
    for _ in 0..10 {
        assert_eq!(gateway.get("/open/x", None).status, 200);
    }
    servers[1].answer("");
    down(2.0);
    let response = gateway.get("/open/x", None);
    assert_eq!((response.status, response.verdict().as_str()), (503, "upstream.unavailable"));
    for server in &servers {
        server.answer("HTTP/1.1 204 No Content\r\n\r\n");
    }
    down(0.0);
    assert_eq!(gateway.get("/open/x", None).status, 204);
}

#[test]
fn an_upstream_has_only_so_many_requests_under_way() {
    let upstream = Upstream::start();
    let gateway = gateway(&format!("servers: [{}], max_in_flight: 2", url(upstream.address)));
    let held = upstream.hold();
    let under_way: Vec<_> = (0..2)
        .map(|_| {
            let address = gateway.address;
            std::thread::spawn(move || {
                crate::support::send(address, request("GET", "/open/x", None, &[])).status
            })
        })
        .collect();
    wait_for("both to be at the upstream", || (upstream.requests().len() == 2).then_some(()));
    let response = gateway.get("/open/x", None);
    assert_eq!((response.status, response.verdict().as_str()), (503, "upstream.unavailable"));
    drop(held);
    assert!(under_way.into_iter().all(|request| request.join().unwrap() == 200));
    assert_eq!(gateway.get("/open/x", None).status, 200);
}

#[test]
fn a_connection_that_cannot_be_made_costs_no_request_of_any_method() {
    let upstream = Upstream::start();
    let gateway = gateway(&format!(
        "servers: [{}, {}], timeouts: {{ connect: 10s }}, ejection: {{ after: 1000 }}",
        url(free_address()),
        url(upstream.address)
    ));
    for method in ["GET", "POST", "GET", "POST"] {
        assert_eq!(gateway.send(request(method, "/open/x", None, &[])).status, 200);
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn certificates_of_servers_are_verified_always() {
    let (ca, other, clients) = (Ca::new(), Ca::new(), Ca::new());
    let server = serve(&ca.issue(&["orders.example"]), None);
    let by_address = serve(&ca.issue(&["127.0.0.1"]), None);
    let asking = serve(&ca.issue(&["orders.example"]), Some(&clients));
    let ours = clients.issue(&["gateway.example"]);
    for (address, tls, expect) in [
        (server, "server_name: orders.example, ca: ca.pem", Some("orders.example")),
        (by_address, "ca: ca.pem", Some("nobody")),
        (server, "server_name: orders.example, ca: other.pem", None),
        (server, "server_name: other.example, ca: ca.pem", None),
        (server, "ca: ca.pem", None),
        (server, "server_name: orders.example", None),
        (
            asking,
            "server_name: orders.example, ca: ca.pem, certificate: our.pem, key: our.key",
            Some("orders.example"),
        ),
        (asking, "server_name: orders.example, ca: ca.pem", None),
    ] {
        let mut setup = Setup::new(POLICIES, "clients: {}\n");
        setup.gateway = format!(
            "upstreams: {{ api: {{ servers: ['https://{address}'], tls: {{ {tls} }} }} }}\n"
        );
        setup.files = [
            ("ca.pem", ca.pem()),
            ("other.pem", other.pem()),
            ("our.pem", ours.certificate.clone()),
            ("our.key", ours.key.clone()),
        ]
        .map(|(name, text)| (name.to_owned(), text))
        .to_vec();
        let gateway = Gateway::start(&setup);
        let response = gateway.get("/open/x", None);
        match expect {
            Some(name) => {
                assert_eq!((response.status, response.body.as_str()), (200, name), "{tls}");
            }
            None => assert_eq!(
                (response.status, response.verdict().as_str()),
                (502, "upstream.failed"),
                "{tls}"
            ),
        }
        // And once more, when a connection may be pooled.
        assert_eq!(gateway.get("/open/x", None).status, response.status);
    }
}

#[test]
fn answers_that_could_be_framed_in_two_ways_are_not_passed_on() {
    let upstream = Upstream::start();
    let gateway = gateway(&format!("servers: [{}]", url(upstream.address)));
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(70_000)),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
            .to_owned(),
    ] {
        upstream.answer(&answer);
        let response = gateway.get("/open/x", None);
        let said: String = answer.chars().take(80).collect();
        assert_eq!(
            (response.status, response.verdict().as_str()),
            (502, "upstream.protocol"),
            "{said}"
        );
    }
}

#[test]
fn an_interim_answer_before_a_failure_does_not_hide_it() {
    let upstream = Upstream::start();
    let gateway =
        gateway(&format!("servers: [{}], timeouts: {{ response: 2s }}", url(upstream.address)));
    upstream.answer("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    let mut connection = crate::support::http::Connection::open(gateway.address);
    connection.write(request("GET", "/open/x", None, &[]).as_bytes());
    assert_eq!(connection.read(true).unwrap().status, 103);
    assert_eq!(connection.read(false).unwrap().verdict(), "upstream.timeout");
}

#[test]
fn what_an_api_says_of_itself_is_said_with_every_answer() {
    let policies = "apis:
  portal:
    base_path: /api/portal
    upstream: api
    resources: { /x: [GET, POST], /open: { methods: [GET], public: true } }
    cors: { origins: [https://portal.example], headers: [x-correlation-id], expose: [etag], \
    max_age: 5m }
    strip_prefix: /api
    deprecated: { since: 2026-06-01, sunset: 2027-06-01, link: https://docs.example }
    max_body_size: 10B
  whole: { base_path: /whole, upstream: api, public: true, strip_prefix: /whole, resources: { \
    '/{*rest}': [GET], '/': [GET] } }
auth_scopes: { read: { grants: [{ api: portal }] } }
";
    let clients = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ \
        }], auth_scopes: [read] } }\n";
    let gateway = Gateway::start(&Setup::new(policies, clients));
    let token = gateway.token("app");
    let origin = ("Origin", "https://portal.example");
    let preflight = |target: &str, origin: &str, method: &str| {
        gateway.send(request(
            "OPTIONS",
            target,
            None,
            &[("Origin", origin), ("Access-Control-Request-Method", method)],
        ))
    };
    let allowed = preflight("/api/portal/x", "https://portal.example", "POST");
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://portal.example"));
    assert_eq!(allowed.header("access-control-allow-methods"), Some("GET, HEAD, POST"));
    assert_eq!(
        allowed.header("access-control-allow-headers"),
        Some("authorization, content-type, x-correlation-id")
    );
    assert_eq!(
        (
            allowed.header("access-control-max-age"),
            allowed.header("access-control-allow-credentials")
        ),
        (Some("300"), None)
    );
    assert_eq!(
        preflight("/api/portal/x", "https://evil.example", "POST")
            .header("access-control-allow-origin"),
        None
    );
    assert_eq!(
        preflight("/api/portal/x", "https://portal.example", "DELETE").verdict(),
        "operation.method"
    );
    assert_eq!(
        preflight("/api/portal/y", "https://portal.example", "GET").verdict(),
        "operation.unknown"
    );
    for unknown in ["patch", "PURGE", "G/ET", ""] {
        assert_eq!(
            preflight("/api/portal/x", "https://portal.example", unknown).verdict(),
            "operation.method"
        );
    }
    assert_eq!(
        preflight("/whole/x", "https://portal.example", "GET").verdict(),
        "operation.method",
        "an API without cors"
    );
    assert_eq!(gateway.upstream.requests(), [""; 0], "a preflight is never forwarded");

    gateway.upstream.answer(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: \
            *\r\nAccess-Control-Allow-Credentials: true\r\n\r\n",
    );
    for (headers, target, status) in [
        (vec![origin, ("Authorization", token.as_str())], "/api/portal/x?q", 401),
        (vec![origin], "/api/portal/open?q", 200),
        (vec![("Origin", "https://evil.example")], "/api/portal/open?q", 200),
    ] {
        let response = gateway.send(request("GET", target, None, &headers));
        assert_eq!(response.status, status);
        let ours = headers[0].1 == origin.1;
        assert_eq!(
            response.header("access-control-allow-origin"),
            ours.then_some(origin.1),
            "{response:?}"
        );
        let exposed =
            "x-decision-id, www-authenticate, retry-after, ratelimit, ratelimit-policy, etag";
        assert_eq!(response.header("access-control-expose-headers"), ours.then_some(exposed));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        assert_eq!(response.header("deprecation"), Some("@1780272000"));
        assert_eq!(response.header("sunset"), Some("Tue, 01 Jun 2027 00:00:00 GMT"));
        assert_eq!(response.header("link"), Some("<https://docs.example>; rel=\"deprecation\""));
        assert_eq!(response.header("vary"), Some("origin"));
    }
    assert!(
        gateway.upstream.last_head()[0].starts_with("GET /portal/open?q HTTP/1.1"),
        "{:?}",
        gateway.upstream.last_head()
    );
    for (target, forwarded) in [
        ("/whole/", "/"),
        ("/whole/?a=/b", "/?a=/b"),
        ("/whole/a%7Eb", "/a~b"),
        ("/whole/whole", "/whole"),
    ] {
        gateway.get(target, None);
        assert_eq!(
            gateway.upstream.last_head()[0],
            format!("GET {forwarded} HTTP/1.1"),
            "{target}"
        );
    }
    let bearer = format!("Bearer {token}");
    for (length, status) in [(10, 200), (11, 413)] {
        let body = "x".repeat(length);
        let head = format!("POST /api/portal/x HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\n");
        assert_eq!(
            gateway.send(format!("{head}Content-Length: {length}\r\n\r\n{body}")).status,
            status
        );
        let chunked =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
        assert_eq!(gateway.send(chunked).status, status, "chunked {length}");
    }
}

#[test]
fn request_ids_and_trace_context_are_believed_of_trusted_callers_alone() {
    for trusted in [true, false] {
        let mut setup = Setup::new(POLICIES, "clients: {}\n");
        setup.gateway = format!(
            "edge: {{ request_id_header: X-Request-Id }}\n{}",
            if trusted { "trusted_proxies: [127.0.0.1]\n" } else { "" }
        );
        let gateway = Gateway::start(&setup);
        for (said, kept) in [("theirs-1", trusted), ("two words", false), (&"x".repeat(129), false)]
        {
            let headers = [
                ("x-request-id", said),
                ("traceparent", "00-1-2-01"),
                ("tracestate", "a=b"),
                ("baggage", "c=d"),
            ];
            let response = gateway.send(request("GET", "/open/x", None, &headers));
            let id = response.header("x-decision-id").unwrap();
            let expect = if kept { said } else { id };
            assert_eq!(response.header("x-request-id"), Some(expect));
            let head = gateway.upstream.last_head();
            assert!(head.contains(&format!("x-request-id: {expect}")), "{head:?}");
            assert_eq!(
                head.iter()
                    .filter(|line| line.to_ascii_lowercase().starts_with("x-request-id"))
                    .count(),
                1
            );
            for name in ["traceparent", "tracestate", "baggage"] {
                assert_eq!(
                    head.iter().any(|line| line.starts_with(name)),
                    trusted,
                    "{name}: {head:?}"
                );
            }
            assert_eq!(gateway.record(id)["request_id"], expect);
        }
    }
}

#[test]
fn slow_answers_are_the_upstreams_and_not_the_clients() {
    let upstream = Upstream::start();
    let [brief, patient] = ["200ms", "10m"].map(|time| {
        gateway(&format!("servers: [{}], timeouts: {{ response: {time} }}", url(upstream.address)))
    });
    let held = upstream.hold();
    let address = patient.address;
    let first = std::thread::spawn(move || {
        crate::support::send(address, request("GET", "/open/x", None, &[])).status
    });
    wait_for("it to be at the upstream", || (upstream.requests().len() == 1).then_some(()));
    // Whoever may take longer has come first and still waits.
    assert_eq!(brief.get("/open/x", None).verdict(), "upstream.timeout");
    drop(held);
    assert_eq!(first.join().unwrap(), 200);
}
