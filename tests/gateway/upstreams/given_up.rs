//! Clients that go away before they are answered: what that costs the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::support::{Gateway, Setup, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /open, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET] } } }\n";

/// A server that answers each request when it is told to, and counts connections and requests.
struct Held {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    answer: mpsc::Sender<String>,
}

fn held() -> Held {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, answers) = mpsc::channel::<String>();
    let answers = Arc::new(Mutex::new(answers));
    let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (opened, came) = (connections.clone(), requests.clone());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            opened.fetch_add(1, Ordering::AcqRel);
            let (answers, came) = (answers.clone(), came.clone());
            std::thread::spawn(move || {
                let (mut got, mut space) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut space) {
                    got.extend_from_slice(&space[..count]);
                    if got.ends_with(b"\r\n\r\n") {
                        got.clear();
                        came.fetch_add(1, Ordering::AcqRel);
                        let answer = answers.lock().unwrap().recv();
                        let Ok(answer) = answer else { return };
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            });
        }
    });
    Held { address, connections, requests, answer }
}

/// How many connections the server has had after a request was reset, answered so, and followed by
/// another one.
async fn connections_after(answer: &str) -> usize {
    let server = held();
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\", h2c: true }}]\n\
         upstreams: {{ api: {{ servers: ['http://{}'], max_in_flight: 1 }} }}\n\
         # Threads keep connections of their own.\n\
         workers: 1\n",
        server.address
    );
    let gateway = Gateway::start(&setup);
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut ping = connection.ping_pong().unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = || http::Request::get("http://127.0.0.1/open/x").body(()).unwrap();
    let (given_up, mut stream) = client.send_request(request(), true).unwrap();
    let came = || (server.requests.load(Ordering::Acquire) == 1).then_some(());
    tokio::task::block_in_place(|| wait_for("the request", came));
    stream.send_reset(h2::Reason::CANCEL);
    drop(given_up);
    // What was sent before it has been read once it is answered.
    ping.ping(h2::Ping::opaque()).await.unwrap();
    for answer in [answer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"] {
        server.answer.send(answer.to_owned()).unwrap();
    }
    // As long as its answer is read, it counts as a request under way: no other one may be.
    loop {
        let (answered, _) = client.send_request(request(), true).unwrap();
        match answered.await.unwrap().status().as_u16() {
            503 => tokio::task::yield_now().await,
            status => break assert_eq!(status, 200),
        }
    }
    drop(client);
    driver.abort();
    server.connections.load(Ordering::Acquire)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_its_request_costs_the_server_no_connection() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    for answer in ["HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", chunked, interim] {
        assert_eq!(connections_after(answer).await, 1, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_of_such_an_answer_for_long_and_no_connection_is_kept_that_says_more() {
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n{}", "x".repeat(400_000));
    for answer in [
        long.as_str(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nto the end",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "no HTTP\r\n\r\n",
    ] {
        assert_eq!(connections_after(answer).await, 2, "{}", &answer[..answer.len().min(80)]);
    }
}
