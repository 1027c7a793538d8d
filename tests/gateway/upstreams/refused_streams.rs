//! Requests that an HTTP/2 server never began with: it refused their stream, or ended the
//! connection before them. They are sent again, whatever their method (RFC 9113 §8.7). What a
//! server may have begun with is not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::http::Response;
use crate::support::{Gateway, Setup};

const POLICIES: &str = "apis: { open: { base_path: /open, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET, POST] } } }\n";

/// What the server sends instead of an answer.
#[derive(Clone, Copy, Debug)]
enum Instead {
    /// `RST_STREAM` with `REFUSED_STREAM`: it never began.
    RefusedStream,
    /// `GOAWAY` whose last stream is before this one: it never began.
    GoAway,
    /// `RST_STREAM` with `INTERNAL_ERROR`: it may have begun.
    InternalError,
}

/// A server that treats its first streams so, and answers the others with the body they sent.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    /// Streams opened.
    opened: Arc<AtomicUsize>,
    /// Bodies of those that were answered.
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(instead: Instead, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            opened: Arc::default(),
            bodies: Arc::default(),
        };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream, instead, times));
            }
        });
        server
    }

    /// One connection, in frames (RFC 9113 §4.1); ends when the client closes it.
    fn serve(&self, mut stream: TcpStream, instead: Instead, times: usize) -> Option<()> {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        const END_STREAM: u8 = 1;
        stream.read_exact(&mut [0; PREFACE.len()]).ok()?;
        stream.write_all(&frame(4, 0, 0, &[])).ok()?;
        let mut bodies = std::collections::BTreeMap::<u32, Vec<u8>>::new();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut payload).ok()?;
            let id = u32::from_be_bytes(head[5..].try_into().unwrap());
            match head[3] {
                1 if self.opened.fetch_add(1, Ordering::SeqCst) < times => {
                    let answer = match instead {
                        Instead::RefusedStream => frame(3, 0, id, &7_u32.to_be_bytes()),
                        Instead::InternalError => frame(3, 0, id, &2_u32.to_be_bytes()),
                        Instead::GoAway => frame(7, 0, 0, &[0; 8]),
                    };
                    stream.write_all(&answer).ok()?;
                    continue;
                }
                1 => drop(bodies.insert(id, Vec::new())),
                0 if bodies.contains_key(&id) => {
                    bodies.entry(id).or_default().extend_from_slice(&payload);
                }
                _ => continue,
            }
            if head[4] & END_STREAM != 0
                && let Some(body) = bodies.remove(&id)
            {
                self.bodies.lock().unwrap().push(String::from_utf8(body.clone()).unwrap());
                // `:status: 200` is the eighth entry of HPACK's static table.
                stream
                    .write_all(
                        &[frame(1, 4, id, &[0x88]), frame(0, END_STREAM, id, &body)].concat(),
                    )
                    .ok()?;
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn gateway(servers: &[&Server]) -> Gateway {
    let servers = servers
        .iter()
        .map(|server| format!("'http://{}'", server.address))
        .collect::<Vec<_>>()
        .join(", ");
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!("upstreams: {{ api: {{ servers: [{servers}], http2: true }} }}\n");
    Gateway::start(&setup)
}

fn post(gateway: &Gateway, body: &str) -> Response {
    gateway.send(format!(
        "POST /open/order HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn a_request_that_the_server_never_began_with_is_sent_again_whatever_its_method() {
    for instead in [Instead::RefusedStream, Instead::GoAway] {
        for times in 1..=3 {
            let server = Server::start(instead, times);
            let gateway = gateway(&[&server]);
            let answer = post(&gateway, "");
            assert_eq!(answer.status, 200, "{instead:?} {times}: {answer:?}");
            assert_eq!(*server.bodies.lock().unwrap(), [""]);
            assert_eq!(server.opened.load(Ordering::SeqCst), times + 1);
            let retries = gateway.metric("scopegate_upstream_retries_total{upstream=\"api\"}");
            assert_eq!(retries.unwrap().to_string(), times.to_string());
        }
    }
}

#[test]
fn another_server_is_asked_first_where_there_is_one() {
    let (refuses, serves) =
        (Server::start(Instead::RefusedStream, usize::MAX), Server::start(Instead::GoAway, 0));
    let gateway = gateway(&[&refuses, &serves]);
    for _ in 0..6 {
        assert_eq!(post(&gateway, "").status, 200);
    }
    assert_eq!(serves.bodies.lock().unwrap().len(), 6);
    assert!(refuses.opened.load(Ordering::SeqCst) <= 6, "once for each request at most");
}

#[test]
fn a_server_that_always_refuses_is_unavailable_and_is_asked_four_times() {
    let server = Server::start(Instead::RefusedStream, usize::MAX);
    let gateway = gateway(&[&server]);
    let answer = post(&gateway, "");
    assert_eq!(
        (answer.status, answer.verdict().as_str()),
        (503, "upstream.unavailable"),
        "{answer:?}"
    );
    assert_eq!(server.opened.load(Ordering::SeqCst), 4);
}

#[test]
fn a_request_that_the_server_may_have_begun_with_is_sent_once() {
    let server = Server::start(Instead::InternalError, 1);
    let gateway = gateway(&[&server]);
    let answer = post(&gateway, "");
    assert_eq!(
        (answer.status, answer.verdict().as_str()),
        (502, "upstream.protocol"),
        "{answer:?}"
    );
    assert_eq!(server.opened.load(Ordering::SeqCst), 1);
}

#[test]
fn a_body_that_is_on_its_way_arrives_once_or_the_request_fails() {
    // Where the refusal overtakes the body, the library says only that it could not be written.
    for instead in [Instead::RefusedStream, Instead::GoAway] {
        let server = Server::start(instead, 1);
        let gateway = gateway(&[&server]);
        let answer = post(&gateway, "order=17");
        let bodies = server.bodies.lock().unwrap().clone();
        match answer.status {
            200 => assert_eq!(bodies, ["order=17"], "{answer:?}"),
            status => assert!(matches!(status, 502 | 503) && bodies.is_empty(), "{answer:?}"),
        }
    }
}
