//! The listeners of those who run the gateway: held to the same deadlines and caps as all, besides
//! the public ones and not at their cost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::http::{Connection, request, send, send_if_possible};
use crate::support::{Gateway, Setup, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /open, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET, POST] } } }\n";
const TOKEN: &str = "an-admin-token-of-more-than-32-characters";

fn gateway(edge: &str) -> (Gateway, std::net::SocketAddr) {
    let [admin] = crate::support::free_addresses();
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!("{edge}admin: {{ address: \"{admin}\", token: env:ADMIN_TOKEN }}\n");
    setup.environment = vec![("ADMIN_TOKEN".to_owned(), TOKEN.to_owned())];
    (Gateway::start(&setup), admin)
}

/// Whether the gateway has closed a connection that it is not to read anything from.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match (&*stream).read(&mut [0; 1]) {
        Ok(0) => true,
        Ok(_) => panic!("an answer to half a request"),
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn slow_connections_to_metrics_and_admin_are_capped_and_cut_and_clients_do_not_notice() {
    let (gateway, admin) = gateway("edge: { header_timeout: 2s }\n");
    // Fewer descriptors than connections: what the side listeners take must not be the public
    // one's.
    let limit = std::process::Command::new("prlimit")
        .args(["--pid", &gateway.pid().to_string(), "--nofile=420:420"])
        .status();
    assert!(limit.is_ok_and(|status| status.success()), "prlimit sets a limit");
    for address in [gateway.metrics, admin] {
        let slow: Vec<TcpStream> = (0..300)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                let _ = stream.write_all(b"G");
                stream
            })
            .collect();
        // All but those that fit under the cap are closed at once.
        let open = || slow.iter().filter(|stream| !is_closed(stream)).count();
        wait_for("those over the cap to be closed", || (open() <= 32).then_some(()));
        for _ in 0..20 {
            assert_eq!(gateway.get("/open/x", None).status, 200);
        }
        wait_for("slow ones to be cut", || (open() == 0).then_some(()));
        let answer = wait_for("an answer again", || {
            send_if_possible(
                address,
                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            )
        });
        assert!(matches!(answer.status, 401 | 404), "{answer:?}");
    }
    assert!(
        gateway.metric("scopegate_connections_cut_total{cause=\"header_timeout\"}") >= Some(20.0)
    );
    let refused = ["address", "total"].map(|cause| {
        gateway
            .metric(&format!("scopegate_connections_refused_total{{cause=\"{cause}\"}}"))
            .unwrap_or(0.0)
    });
    assert!(refused.iter().sum::<f64>() >= 500.0, "{refused:?}");
}

#[test]
fn their_heads_are_read_as_strictly_as_all() {
    let (gateway, admin) = gateway("");
    for address in [gateway.metrics, admin] {
        for (bytes, status) in [
            ("GET /healthz HTTP/1.1\r\n\r\n", 400),
            ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET /healthz HTTP/1.1\nHost: a\n\n", 400),
            (
                "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: \
                    chunked\r\n\r\n0\r\n\r\n",
                400,
            ),
            ("GET /a/../healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ] {
            assert_eq!(send(address, bytes).status, status, "{bytes:?}");
        }
        let large =
            format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        assert_eq!(send(address, large).status, 431);
    }
    // One after the other on one connection, with and without a body, and at once.
    let mut connection = Connection::open(gateway.metrics);
    for _ in 0..3 {
        connection.write(b"GET /healthz HTTP/1.1\r\nHost: m\r\n\r\n");
        assert_eq!(connection.read(false).unwrap().body, "ok\n");
        connection.write(b"HEAD /healthz HTTP/1.1\r\nHost: m\r\n\r\n");
        assert_eq!(connection.read(true).unwrap().status, 200);
        connection.write(b"POST /healthz HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(connection.read(false).unwrap().status, 405);
    }
    connection.write(
        b"GET /healthz HTTP/1.1\r\nHost: m\r\n\r\nGET /readyz HTTP/1.1\r\nHost: \
            m\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(connection.read(false).unwrap().body, "ok\n");
    assert!(connection.read(false).unwrap().body.starts_with("ready\n"));
    assert!(connection.is_closed());
}

#[test]
fn the_admin_listener_answers_to_no_name_that_others_can_point_at_it_and_to_no_page() {
    let (_gateway, admin) = gateway("");
    let ask = |host: &str, extra: &str| {
        let body = "{\"all\":true}";
        send(
            admin,
            format!(
                "POST /revoke HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer \
                    {TOKEN}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n{extra}\r\n{body}",
                body.len()
            ),
        )
        .status
    };
    let own = admin.to_string();
    for (host, extra, status) in [
        (own.as_str(), String::new(), 200),
        ("localhost", String::new(), 200),
        (own.as_str(), format!("Origin: http://{own}\r\n"), 200),
        ("evil.example", String::new(), 403),
        ("127.0.0.1.evil.example", String::new(), 403),
        (own.as_str(), "Origin: http://evil.example\r\n".to_owned(), 403),
        (own.as_str(), "Origin: null\r\n".to_owned(), 403),
        (own.as_str(), format!("Origin: http://{own}\r\nOrigin: http://evil.example\r\n"), 403),
    ] {
        assert_eq!(ask(host, &extra), status, "{host} {extra}");
    }
}

#[test]
fn a_scraper_that_does_not_read_holds_up_nobody() {
    let (gateway, _) =
        gateway("edge: { write_timeout: 1s, header_timeout: 2s, keep_alive_timeout: 2s }\n");
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.metrics).unwrap();
            // As many answers as fit into no socket's buffers.
            let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
            for _ in 0..4_000 {
                if stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n").is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    assert_eq!(gateway.send(request("GET", "/open/x", None, &[])).status, 200);
    wait_for("those that do not read to be cut", || {
        gateway
            .metric("scopegate_connections_cut_total{cause=\"write_timeout\"}")
            .filter(|cut| *cut > 19.5)
    });
    drop(deaf);
}
