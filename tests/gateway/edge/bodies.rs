//! How a request's body ends: every ending over HTTP/2, with and without a length, to HTTP/1 and
//! HTTP/2 upstreams, byte for byte as the upstream gets it; and connections to upstreams on which
//! something came that was not asked for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustls::pki_types::ServerName;

use crate::support::tls::Ca;
use crate::support::{Gateway, Setup, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /open, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET, POST] } } }\n";

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// There is none: the head ends the stream.
    NoBody,
    /// An empty DATA frame with END_STREAM.
    EmptyData,
    /// The last DATA frame has END_STREAM.
    LastData,
    /// Trailers.
    Trailers,
    /// The client takes the request back.
    Reset,
}

const ENDINGS: [Ending; 5] =
    [Ending::NoBody, Ending::EmptyData, Ending::LastData, Ending::Trailers, Ending::Reset];

/// What an upstream got on one connection.
#[derive(Clone, Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    closed: bool,
}

/// An HTTP/1 upstream that keeps the bytes of each connection, and answers a request once it is
/// whole.
#[derive(Clone)]
struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Recorder {
    fn start(then: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            sockets: Arc::default(),
        };
        let own = recorder.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let at = {
                    let mut seen = own.seen.lock().unwrap();
                    seen.push(Seen::default());
                    own.sockets.lock().unwrap().push(stream.try_clone().unwrap());
                    seen.len() - 1
                };
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream, at, then));
            }
        });
        recorder
    }

    fn serve(&self, mut stream: TcpStream, at: usize, then: &str) {
        let (mut space, mut answered) = ([0; 4096], 0);
        loop {
            match stream.read(&mut space) {
                Ok(count) if count > 0 => {
                    self.seen.lock().unwrap()[at].bytes.extend_from_slice(&space[..count]);
                }
                _ => break,
            }
            let bytes = self.seen.lock().unwrap()[at].bytes.clone();
            while let Some(length) = whole(&bytes[answered..]) {
                answered += length;
                let path = String::from_utf8_lossy(&bytes[answered - length..])
                    .split(' ')
                    .nth(1)
                    .unwrap()
                    .to_owned();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}{then}",
                    path.len()
                );
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
        self.seen.lock().unwrap()[at].closed = true;
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// The length of the request that these bytes begin with, once it is whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("\r\ntransfer-encoding: chunked\r\n") {
        let end = bytes[head..].windows(5).position(|window| window == b"0\r\n\r\n")?;
        return Some(head + end + 5);
    }
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let length = head + length.unwrap_or(0);
    (bytes.len() >= length).then_some(length)
}

/// A gateway with a listener for h2c and one for TLS, and the configuration of a client for it.
fn gateway(upstream: SocketAddr, http2: bool) -> (Gateway, SocketAddr, rustls::ClientConfig) {
    let (ca, [tls]) = (Ca::new(), crate::support::free_addresses());
    let pair = ca.issue(&["a.example"]);
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\", h2c: true }}, {{ address: \"{tls}\", tls: {{ \
            certificate: a.pem, key: a.key }} }}]\n\
         upstreams: {{ api: {{ servers: ['http://{upstream}'], http2: {http2}, timeouts: {{ \
         response: 3s }} }} }}\n\
         edge: {{ body_timeout: 3s }}\n\
         # Threads keep connections of their own.\n\
         workers: 1\n"
    );
    setup.files = vec![("a.pem".to_owned(), pair.certificate), ("a.key".to_owned(), pair.key)];
    (Gateway::start(&setup), tls, ca.client(&["h2"], None))
}

/// Sends one request that ends as told; the status of the answer, if one came.
async fn send(stream: impl Stream, path: &str, ending: Ending, with_length: bool) -> Option<u16> {
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut request = http::Request::post(format!("http://127.0.0.1{path}"));
    if with_length {
        request =
            request.header("content-length", if ending == Ending::NoBody { "0" } else { "6" });
    }
    let (answer, mut body) =
        client.send_request(request.body(()).unwrap(), ending == Ending::NoBody).unwrap();
    if ending != Ending::NoBody {
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        // So that each frame is read by itself.
        tokio::task::yield_now().await;
        body.send_data(Bytes::from_static(b"def"), ending == Ending::LastData).unwrap();
    }
    let mut trailers = http::HeaderMap::new();
    match ending {
        Ending::NoBody | Ending::LastData => {}
        Ending::EmptyData => body.send_data(Bytes::new(), true).unwrap(),
        Ending::Trailers => {
            trailers.insert("x-checksum", "7".parse().unwrap());
            body.send_trailers(trailers).unwrap();
        }
        Ending::Reset => {
            // Not before something of it is forwarded.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            body.send_reset(h2::Reason::CANCEL);
        }
    }
    let status = match answer.await {
        Err(_) => None,
        Ok(answer) => {
            let (head, mut body) = answer.into_parts();
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
            }
            Some(head.status.as_u16())
        }
    };
    drop(client);
    driver.abort();
    status
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// The same over h2c or TLS.
fn send_over(
    tls: Option<(SocketAddr, &rustls::ClientConfig)>,
    plain: SocketAddr,
    path: &str,
    case: (Ending, bool),
) -> Option<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match tls {
            None => {
                send(tokio::net::TcpStream::connect(plain).await.unwrap(), path, case.0, case.1)
                    .await
            }
            Some((address, config)) => {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
                let stream = connector
                    .connect(ServerName::try_from("a.example").unwrap(), stream)
                    .await
                    .unwrap();
                send(stream, path, case.0, case.1).await
            }
        }
    })
}

#[test]
fn every_ending_of_an_http2_body_reaches_an_http1_upstream_byte_for_byte() {
    let upstream = Recorder::start("");
    let (gateway, tls, client) = gateway(upstream.address, false);
    let mut kept = 0;
    for tls in [None, Some((tls, &client))] {
        for ending in ENDINGS {
            for with_length in [true, false] {
                let case = format!("{ending:?}, length {with_length}, TLS {}", tls.is_some());
                let before =
                    upstream.seen().iter().map(|seen| seen.bytes.len()).collect::<Vec<_>>();
                let status = send_over(tls, gateway.address, "/open/upload", (ending, with_length));
                // Another caller, on whatever connection there is.
                let next = gateway.get("/open/next", None);
                assert_eq!((next.status, next.body.as_str()), (200, "/open/next"), "{case}");
                let news = || {
                    let seen = upstream.seen();
                    let news = seen.iter().enumerate().map(|(at, seen)| {
                        let from = before.get(at).copied().unwrap_or(0);
                        (String::from_utf8(seen.bytes[from..].to_vec()).unwrap(), seen.closed)
                    });
                    news.filter(|(text, _)| !text.is_empty()).collect::<Vec<_>>()
                };
                let parts = |text: &str| {
                    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
                    (head.to_ascii_lowercase(), rest.to_owned())
                };
                let (whole, cut) = match (ending, with_length) {
                    (Ending::NoBody, _) => ("", None),
                    (Ending::Reset, true) => ("", Some("abcdef")),
                    (Ending::Reset, false) => ("", Some("3\r\nabc\r\n3\r\ndef\r\n")),
                    (_, true) => ("abcdef", None),
                    (_, false) => ("3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", None),
                };
                if let Some(cut) = cut {
                    // Never ended, so never taken for whole, and its connection is of no further
                    // use. With a length the last byte is the end: then the upstream has the whole,
                    // whatever came behind it.
                    let uploads = wait_for("the upload to be given up", || {
                        let news = news();
                        let upload: Vec<_> = news
                            .iter()
                            .filter(|(text, _)| text.starts_with("POST "))
                            .cloned()
                            .collect();
                        let over = upload.iter().all(|(text, closed)| {
                            *closed || parts(text).1.starts_with("abcdefGET ")
                        });
                        (over && upload.len() < 2).then_some(upload)
                    });
                    for (text, _) in uploads {
                        let body = parts(&text).1;
                        let body = body.split("GET ").next().unwrap();
                        assert!(cut.starts_with(body), "{case}: {body:?}");
                    }
                    continue;
                }
                assert_eq!(status, Some(200), "{case}");
                let news = news();
                let uploads: Vec<_> =
                    news.iter().filter(|(text, _)| text.starts_with("POST ")).collect();
                assert_eq!(uploads.len(), 1, "{case}: {news:?}");
                let (head, rest) = parts(&uploads[0].0);
                let (body, next) = rest.split_at(whole.len().min(rest.len()));
                assert_eq!(body, whole, "{case}: {:?}", uploads[0].0);
                // Behind it the next request and nothing else; or none, where that took another
                // connection.
                let is_next = next.starts_with("GET /open/next HTTP/1.1\r\n")
                    && next.matches("\r\n\r\n").count() == 1;
                assert!(is_next || next.is_empty(), "{case}: {next:?}");
                kept += usize::from(is_next);
                assert_eq!(
                    head.contains("transfer-encoding: chunked"),
                    !with_length && ending != Ending::NoBody,
                    "{case}"
                );
                assert!(
                    !uploads[0].0.contains("x-checksum"),
                    "trailers of requests are not forwarded: {case}"
                );
            }
        }
    }
    assert!(kept >= 8, "connections are kept: {kept} of 16");
}

/// What an HTTP/2 upstream got, by path: the body, whether the stream was ended and not reset, and
/// how many trailers.
type Streams = Arc<Mutex<BTreeMap<String, (String, bool, usize)>>>;

fn http2_upstream(runtime: &tokio::runtime::Runtime) -> (SocketAddr, Streams) {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (address, streams) = (listener.local_addr().unwrap(), Streams::default());
    let seen = streams.clone();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut answer))) = connection.accept().await {
                    let seen = seen.clone();
                    tokio::spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let (mut text, mut ended) = (String::new(), true);
                        while let Some(chunk) = body.data().await {
                            let Ok(chunk) = chunk else {
                                ended = false;
                                break;
                            };
                            text.push_str(std::str::from_utf8(&chunk).unwrap());
                        }
                        let trailers = body
                            .trailers()
                            .await
                            .ok()
                            .flatten()
                            .map_or(0, |trailers| trailers.len());
                        if head.method == "POST" {
                            seen.lock()
                                .unwrap()
                                .insert(head.uri.path().to_owned(), (text, ended, trailers));
                        }
                        if let Ok(mut out) = answer.send_response(http::Response::new(()), false) {
                            let _ = out.send_data(
                                Bytes::copy_from_slice(head.uri.path().as_bytes()),
                                true,
                            );
                        }
                    });
                }
            });
        }
    });
    (address, streams)
}

#[test]
fn every_ending_of_an_http2_body_reaches_an_http2_upstream() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (address, streams) = http2_upstream(&runtime);
    let (gateway, tls, client) = gateway(address, true);
    for tls in [None, Some((tls, &client))] {
        for ending in ENDINGS {
            for with_length in [true, false] {
                let case = format!("{ending:?}, length {with_length}, TLS {}", tls.is_some());
                // A path of its own: of what was given up before, word may come later.
                let path = format!("/open/{ending:?}/{with_length}/{}", tls.is_some());
                let status = send_over(tls, gateway.address, &path, (ending, with_length));
                let next = gateway.get("/open/next", None);
                assert_eq!((next.status, next.body.as_str()), (200, "/open/next"), "{case}");
                let seen = || streams.lock().unwrap().get(&path).cloned();
                if ending == Ending::Reset {
                    // It may be given up before anything of it was forwarded.
                    if let Some((text, ended, trailers)) = seen() {
                        assert!("abcdef".starts_with(&text) && trailers == 0, "{case}: {text}");
                        assert!(
                            !ended || (with_length && text == "abcdef"),
                            "{case}: taken for whole"
                        );
                    }
                } else {
                    assert_eq!(status, Some(200), "{case}");
                    let body = if ending == Ending::NoBody { "" } else { "abcdef" };
                    assert_eq!(seen(), Some((body.to_owned(), true, 0)), "{case}");
                }
            }
        }
    }
}

#[test]
fn a_connection_on_which_something_came_that_was_not_asked_for_is_not_used_again() {
    const STRAY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
    // With the answer, in one packet: an answer too many, a byte too many, an interim answer behind
    // the final one.
    for then in [STRAY, "x", "\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let upstream = Recorder::start(then);
        let (gateway, ..) = gateway(upstream.address, false);
        for n in 0..5 {
            let answer = gateway.get(&format!("/open/{n}"), None);
            assert_eq!((answer.status, answer.body), (200, format!("/open/{n}")), "{then:?}");
        }
        assert_eq!(upstream.seen().len(), 5, "a connection each: {then:?}");
    }
    // And while the connection waits for its next request.
    let upstream = Recorder::start("");
    let (gateway, ..) = gateway(upstream.address, false);
    for n in 0..5 {
        let answer = gateway.get(&format!("/open/{n}"), None);
        assert_eq!((answer.status, answer.body), (200, format!("/open/{n}")));
        let mut socket = upstream.sockets.lock().unwrap().last().unwrap().try_clone().unwrap();
        socket.write_all(STRAY.as_bytes()).unwrap();
        wait_for("the connection to be given up", || {
            upstream.seen().last().unwrap().closed.then_some(())
        });
    }
    assert_eq!(upstream.seen().len(), 5);
}

#[test]
fn trailers_that_no_request_may_have_end_it_without_an_end_of_its_body() {
    let upstream = Recorder::start("");
    let (gateway, ..) = gateway(upstream.address, false);
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream], payload]
            .concat()
    };
    let field = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    // POST, http, a path, an authority.
    let head = [&b"\x83\x86\x04\x0c/open/upload\x01\x01a"[..]].concat();
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        (":path", "/x"),
        ("connection", "close"),
        ("X-Upper", "y"),
    ] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let bytes = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, &head),
            frame(0, 0, 1, b"abc"),
        ];
        stream.write_all(&bytes.concat()).unwrap();
        let at = wait_for("something of the body", || {
            upstream.seen().iter().position(|seen| !seen.closed && seen.bytes.ends_with(b"abc\r\n"))
        });
        stream.write_all(&frame(1, 5, 1, &field(name, value))).unwrap();
        wait_for("the upload to be given up", || upstream.seen()[at].closed.then_some(()));
        let seen = String::from_utf8(upstream.seen()[at].bytes.clone()).unwrap();
        assert!(seen.ends_with("\r\n\r\n3\r\nabc\r\n"), "{name}: {seen:?}");
        // RST_STREAM, or the end of the connection: never an answer.
        let mut got = Vec::new();
        let mut space = [0; 1024];
        while !got.windows(5).any(|window| window == [4, 3, 0, 0, 0]) {
            match stream.read(&mut space) {
                Ok(count) if count > 0 => got.extend_from_slice(&space[..count]),
                _ => break,
            }
        }
        assert_eq!(gateway.get("/open/next", None).body, "/open/next");
    }
}
