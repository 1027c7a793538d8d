//! Heads of answers: read as strictly as those of requests, and within their time, whatever the
//! client speaks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::http::{Connection, request};
use crate::support::{Gateway, Setup, wait_for};

const POLICIES: &str = "apis:
  open: { base_path: /open, upstream: api, public: true, resources: { \"/{*rest}\": [GET, POST] } }
  live: { base_path: /live, upstream: api, public: true, websocket: true, resources: { /x: [GET] } }
";

fn gateway(upstream: SocketAddr, timeouts: &str) -> Gateway {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\", h2c: true }}]\n\
         upstreams: {{ api: {{ servers: ['http://{upstream}'], retries: 0, timeouts: {{ {timeouts} \
         }} }} }}\n"
    );
    Gateway::start(&setup)
}

/// The status that curl gets over HTTP/2.
fn over_http2(gateway: &Gateway, path: &str) -> String {
    let url = format!("http://{}{path}", gateway.address);
    let curl = std::process::Command::new("curl")
        .args([
            "-sS",
            "--max-time",
            "120",
            "--http2-prior-knowledge",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            &url,
        ])
        .output()
        .unwrap();
    String::from_utf8(curl.stdout).unwrap()
}

#[test]
fn a_head_that_readers_could_frame_differently_is_no_answer() {
    let upstream = crate::support::Upstream::start();
    let gateway = gateway(upstream.address, "response: 30s");
    let large =
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(70_000));
    for answer in [
        "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: \
            chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: \
            2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: \
            chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n b\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon\r\n\r\nok",
        "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 700 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "ok\r\n\r\n",
        "HTTP/1.1 103 Early\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        large.as_str(),
    ] {
        upstream.answer(answer);
        for path in ["/open/x", "/live/x"] {
            let refused = gateway.get(path, None);
            let told = answer.chars().take(90).collect::<String>();
            assert_eq!(
                (refused.status, refused.verdict().as_str()),
                (502, "upstream.protocol"),
                "{told:?}"
            );
            assert_eq!(over_http2(&gateway, path), "2 502", "{told:?}");
        }
    }
    // As they may be: without a reason, with an empty field, chunked, to the end of the connection.
    for (answer, body) in [
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 \r\nX:\r\nContent-Length: 2\r\n\r\nok", "ok"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nx: y\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: \
                2\r\n\r\nok",
            "ok",
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
    ] {
        upstream.answer(answer);
        let mut connection = Connection::open(gateway.address);
        connection.write(request("GET", "/open/x", None, &[]).as_bytes());
        let answered = connection.read_final().unwrap();
        assert_eq!((answered.status, answered.body.as_str()), (200, body), "{answer:?}");
        assert_eq!(over_http2(&gateway, "/open/x"), "2 200", "{answer:?}");
    }
}

/// A server that answers with a byte of a head now and then, for as long as it is let.
fn drip(pause: Duration, interim: bool) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, cut, on) = (
        listener.local_addr().unwrap(),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(true)),
    );
    let (noted, going) = (cut.clone(), on.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (noted, going) = (noted.clone(), going.clone());
            std::thread::spawn(move || {
                if dripped(stream, pause, interim, &going) {
                    noted.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
    });
    (address, cut, on)
}

/// Whether the other side gave it up.
fn dripped(mut stream: TcpStream, pause: Duration, interim: bool, going: &AtomicBool) -> bool {
    let mut space = [0; 4096];
    let _ = stream.read(&mut space);
    let start = if interim {
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: "
    } else {
        "HTTP/1.1 200 OK\r\nX: "
    };
    if stream.write_all(start.as_bytes()).is_err() {
        return true;
    }
    stream.set_nonblocking(true).unwrap();
    while going.load(Ordering::Acquire) {
        std::thread::park_timeout(pause);
        let ended = matches!(stream.read(&mut space), Ok(0)) || stream.write_all(b"x").is_err();
        if ended {
            return true;
        }
    }
    false
}

#[test]
fn a_head_that_drips_is_cut_when_its_time_is_up_and_the_client_is_told() {
    for interim in [false, true] {
        // Many bytes within the time: each by itself would be in time.
        let (address, cut, on) = drip(Duration::from_millis(50), interim);
        let gateway = gateway(address, "response: 2s");
        for path in ["/open/x", "/live/x"] {
            let mut connection = Connection::open(gateway.address);
            let upgrade = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Version", "13"),
            ];
            connection.write(request("GET", path, None, &upgrade).as_bytes());
            let answer = connection.read_final().unwrap();
            assert_eq!(
                (answer.status, answer.verdict().as_str()),
                (504, "upstream.timeout"),
                "{path} {interim}"
            );
        }
        assert_eq!(over_http2(&gateway, "/open/x"), "2 504");
        wait_for("the server to be given up", || (cut.load(Ordering::Acquire) == 3).then_some(()));
        on.store(false, Ordering::Release);
    }
}

#[test]
fn an_answer_that_comes_before_the_body_is_over_is_handed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut space = [0; 1024];
                let _ = stream.read(&mut space);
                let _ = stream.write_all(
                    b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
                );
                // What still comes is not read, and the connection ends.
            });
        }
    });
    let gateway = gateway(address, "response: 30s");
    for _ in 0..20 {
        let mut connection = Connection::open(gateway.address);
        connection.write(
            b"POST /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nbegin",
        );
        let answer = connection.read(false).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (413, "big"));
    }
}

#[test]
fn an_upstream_that_answers_while_it_reads_and_reads_while_it_answers_is_carried_whole() {
    // Sends everything back at once, and takes nothing more until that is taken.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut got = Vec::new();
                let mut space = vec![0; 64 * 1024];
                while !got.windows(4).any(|window| window == b"\r\n\r\n") {
                    let count = stream.read(&mut space).unwrap_or(0);
                    got.extend_from_slice(&space[..count]);
                }
                let head = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n");
                let _ = stream.write_all(&got[head..]);
                let mut left = 8_000_000 - (got.len() - head);
                while left > 0 {
                    let count = stream.read(&mut space).unwrap_or(0);
                    if count == 0 || stream.write_all(&space[..count]).is_err() {
                        return;
                    }
                    left -= count;
                }
            });
        }
    });
    let gateway = gateway(address, "response: 30s");
    let stream = TcpStream::connect(gateway.address).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let upload = std::thread::spawn(move || {
        let head = b"POST /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8000000\r\n\r\n";
        writer.write_all(head).unwrap();
        let body: Vec<u8> = (0..8_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        writer.write_all(&body).unwrap();
    });
    let mut reader = stream;
    let mut answer = Vec::new();
    let mut space = vec![0; 64 * 1024];
    loop {
        let count = reader.read(&mut space).unwrap();
        answer.extend_from_slice(&space[..count]);
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if count == 0 || head.is_some_and(|head| answer.len() >= head + 4 + 8_000_000) {
            break;
        }
    }
    upload.join().unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.len() - head == 8_000_000);
    assert!(answer[head..].iter().enumerate().all(|(n, byte)| usize::from(*byte) == n % 251));
}

/// A server that answers each first head of a connection at once, and keeps what else comes on it
/// until its end.
fn hasty(answer: &'static str, then: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let seen = connections.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let (mut got, mut space) = (Vec::new(), [0; 1024]);
                while !got.windows(4).any(|window| window == b"\r\n\r\n") {
                    match stream.read(&mut space) {
                        Ok(count @ 1..) => got.extend_from_slice(&space[..count]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(answer.as_bytes());
                if !then.is_empty() {
                    std::thread::park_timeout(Duration::from_millis(200));
                    let _ = stream.write_all(then.as_bytes());
                }
                let _ = stream.read_to_end(&mut got);
                seen.lock().unwrap().push(String::from_utf8_lossy(&got).into_owned());
            });
        }
    });
    (address, connections)
}

#[test]
fn a_server_that_has_answered_gets_no_more_of_the_body_which_it_could_take_for_a_request() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for (answer, expect) in [
        ("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""),
        ("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "Expect: 100-continue\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "Expect: 100-continue\r\n"),
        ("HTTP/1.1 204 OK\r\n\r\n", "Expect: 100-continue\r\n"),
    ] {
        for chunked in [false, true] {
            let (address, seen) = hasty(answer, "");
            let gateway = gateway(address, "response: 30s");
            let (framing, body) = if chunked {
                (
                    "Transfer-Encoding: chunked".to_owned(),
                    format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
                )
            } else {
                (format!("Content-Length: {}", hidden.len()), hidden.to_owned())
            };
            let mut connection = Connection::open(gateway.address);
            connection.write(
                format!("POST /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\n{expect}{framing}\r\n\r\n")
                    .as_bytes(),
            );
            let told = connection.read(false).unwrap();
            assert_eq!(told.status.to_string(), answer[9..12], "{answer:?}");
            // It has the answer, and sends the body all the same.
            connection.write(body.as_bytes());
            // The next caller is served on another connection.
            assert_eq!(gateway.get("/open/next", None).status.to_string(), answer[9..12]);
            drop(connection);
            let first =
                wait_for("the first connection to end", || seen.lock().unwrap().first().cloned());
            assert!(first.starts_with("POST /open/x ") && first.ends_with("\r\n\r\n"), "{first:?}");
            assert!(
                !first.contains("hidden") && !first.contains("next"),
                "{answer:?} {expect:?} {chunked}: {first:?}"
            );
        }
    }
}

#[test]
fn what_comes_behind_an_answer_that_has_no_body_reaches_nobody() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";
    let chunk = Box::leak(format!("{:x}\r\n{evil}\r\n0\r\n\r\n", evil.len()).into_boxed_str());
    let length = Box::leak(
        format!("HTTP/1.1 205 R\r\nContent-Length: {}\r\n\r\n", evil.len()).into_boxed_str(),
    );
    for (answer, then) in [
        ("HTTP/1.1 205 R\r\nTransfer-Encoding: chunked\r\n\r\n", &*chunk),
        (&*length, evil),
        ("HTTP/1.1 204 N\r\nContent-Length: 41\r\n\r\n", evil),
    ] {
        let (address, _) = hasty(answer, then);
        let gateway = gateway(address, "response: 30s");
        let mut connection = Connection::open(gateway.address);
        for _ in 0..3 {
            connection.write(request("GET", "/open/x", None, &[]).as_bytes());
            let told = connection.read(false).unwrap();
            assert_eq!(
                (told.status.to_string().as_str(), told.body.as_str()),
                (&answer[9..12], ""),
                "{answer:?}"
            );
            assert!(told.header("transfer-encoding").is_none(), "{told:?}");
            if told.status == 205 {
                assert_eq!(told.header("content-length"), Some("0"), "{told:?}");
            }
        }
        assert!(over_http2(&gateway, "/open/x").starts_with(&format!("2 {}", &answer[9..12])));
    }
}

#[test]
fn a_request_that_ends_kept_connections_is_sent_to_one_more_and_no_further() {
    // The first request of a connection is answered; the second ends it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let poison = Arc::new(AtomicUsize::new(0));
    let seen = poison.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let mut space = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut space) {
                    if space[..count].starts_with(b"GET /open/poison") {
                        seen.fetch_add(1, Ordering::AcqRel);
                        return;
                    }
                    // So that several connections are open at once.
                    std::thread::park_timeout(Duration::from_millis(300));
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
    let gateway = gateway(address, "response: 30s");
    // A client may have its answer a moment before the connection is back among the kept ones: such
    // a round has none to use, and says nothing.
    let sent = wait_for("a round in which a kept connection was there", || {
        poison.store(0, Ordering::Release);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| assert_eq!(gateway.get("/open/x", None).status, 200));
            }
        });
        assert_eq!(gateway.get("/open/poison", None).status, 502);
        Some(poison.load(Ordering::Acquire)).filter(|sent| *sent != 1)
    });
    assert_eq!(sent, 2);
}
