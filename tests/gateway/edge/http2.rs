//! HTTP/2 without TLS: the same judgements as over HTTP/1, and a library's client that nobody here
//! wrote.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::http::read_to_end;
use crate::support::{GUARD, Gateway, Setup, wait_for};

const POLICIES: &str = "apis:
  open: { base_path: /open, upstream: api, public: true, resources: { \"/{*rest}\": [GET, POST] } }
  api: { base_path: /api, upstream: api, resources: { /x: [GET, POST] } }
auth_scopes: { read: { grants: [{ api: api, methods: [GET] }] } }
";
const CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read] } }\n";

fn gateway(edge: &str) -> Gateway {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = format!("listeners: [{{ address: \"@LISTEN@\", h2c: true }}]\n{edge}");
    Gateway::start(&setup)
}

/// What curl makes of a request: status and body.
fn curl(arguments: &[&str]) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "120", "-w", "\n%{http_version} %{http_code}"]);
    let output = curl.args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

/// A connection of the `h2` library, and a runtime for it.
fn with_client<T>(
    address: SocketAddr,
    story: impl AsyncFnOnce(h2::client::SendRequest<bytes::Bytes>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let told = story(client).await;
        driver.abort();
        told
    })
}

async fn fetch(
    client: &h2::client::SendRequest<bytes::Bytes>,
    request: http::Request<()>,
) -> Result<(u16, String), h2::Error> {
    let mut client = client.clone().ready().await?;
    let (response, _) = client.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut text = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let _ = body.flow_control().release_capacity(chunk.len());
        text.extend_from_slice(&chunk);
    }
    Ok((head.status.as_u16(), String::from_utf8(text).unwrap()))
}

fn get(gateway: &Gateway, path: &str) -> http::request::Builder {
    http::Request::get(format!("http://{}{path}", gateway.address))
}

#[test]
fn curl_gets_a_token_and_uses_it_over_http2_and_http1_on_one_listener() {
    let gateway = gateway("");
    let base = format!("http://{}", gateway.address);
    for version in ["--http2-prior-knowledge", "--http1.1"] {
        let credentials = format!("app:{}", crate::support::SECRET);
        let endpoint = format!("{base}/oauth2/token");
        let (status, body) =
            curl(&[version, "-u", &credentials, "-d", "grant_type=client_credentials", &endpoint]);
        let spoken = if version == "--http1.1" { "1.1" } else { "2" };
        assert_eq!(status, format!("{spoken} 200"), "{body}");
        let token: serde_json::Value = serde_json::from_str(&body).unwrap();
        let bearer = format!("Authorization: Bearer {}", token["access_token"].as_str().unwrap());
        let target = format!("{base}/api/x?q=1");
        assert_eq!(curl(&[version, "-H", &bearer, &target]).0, format!("{spoken} 200"));
        let (status, body) = curl(&[version, "-H", &bearer, "-d", "x", &target]);
        assert_eq!(status, format!("{spoken} 403"));
        assert!(body.contains("scope.unscoped"), "{body}");
        // A head alone is answered by a head alone, also a refusal.
        assert_eq!(curl(&[version, "-I", "-o", "/dev/null", &target]).0, format!("{spoken} 401"));
        assert_eq!(curl(&[version, &target]).0, format!("{spoken} 401"));
        let upload = "x".repeat(100_000);
        assert_eq!(
            curl(&[version, "-d", &upload, &format!("{base}/open/upload")]).0,
            format!("{spoken} 200")
        );
    }
    let heads = gateway.upstream.requests();
    assert!(heads.iter().all(|head| head.contains(" HTTP/1.1\r\n")), "{heads:?}");
    assert!(
        heads.iter().any(|head| head.starts_with("POST /open/upload ") && head.len() > 100_000)
    );
}

#[test]
fn an_http2_request_is_judged_as_strictly_as_one_of_http1() {
    let gateway = gateway("");
    let refused = |path: &str| {
        with_client(gateway.address, async |client| {
            fetch(&client, get(&gateway, path).body(()).unwrap()).await
        })
    };
    for path in [
        "/open/../api/x",
        "/open/%2e%2e/api/x",
        "/open//x",
        "/open/a;b",
        "/open/%2F",
        "/open/%00",
        "/open/\\x",
    ] {
        let (status, body) = refused(path).unwrap();
        assert_eq!(status, 400, "{path}: {body}");
        assert!(body.contains("path.ambiguous"), "{path}: {body}");
    }
    with_client(gateway.address, async |client| {
        let cases = [
            (
                get(&gateway, "/open/x").header("content-length", "0").header("expect", "y"),
                400,
                "request.malformed",
            ),
            (
                get(&gateway, "/open/x").header("x-large", "a".repeat(40_000)),
                431,
                "request.headers",
            ),
            (get(&gateway, &format!("/open/{}", "a".repeat(9_000))), 414, "request.target"),
            (
                get(&gateway, "/api/x")
                    .header("authorization", "Bearer a")
                    .header("authorization", "Bearer b"),
                400,
                "token.several",
            ),
            (get(&gateway, "/open/x").method("TRACE"), 405, "operation.method"),
            (get(&gateway, "/nothing"), 404, "operation.unknown"),
        ];
        for (request, status, reason) in cases {
            let request = request.body(()).unwrap();
            let said = format!("{request:?}").chars().take(200).collect::<String>();
            let (got, body) = fetch(&client, request).await.unwrap();
            assert_eq!(got, status, "{said}: {body}");
            assert!(body.contains(reason), "{said}: {body}");
        }
        let mut many = get(&gateway, "/open/x");
        for at in 0..220 {
            many = many.header(format!("x-{at}"), "y");
        }
        assert_eq!(fetch(&client, many.body(()).unwrap()).await.unwrap().0, 431);
    });
    assert_eq!(gateway.upstream.requests(), [""; 0], "nothing was forwarded");
    let refused = gateway
        .metric("scopegate_requests_total{api=\"\",operation=\"\",reason=\"path.ambiguous\",verdict=\"refuse\"}");
    assert_eq!(refused, Some(7.0));
}

#[test]
fn cookie_crumbs_arrive_as_one_line_and_managed_headers_do_not_arrive() {
    let gateway = gateway("");
    with_client(gateway.address, async |client| {
        let request = get(&gateway, "/open/x").header("cookie", "a=1").header("cookie", "b=2");
        let request = request
            .header("x-auth-client", "admin")
            .header("x_auth_client", "admin")
            .header("te", "trailers");
        assert_eq!(fetch(&client, request.body(()).unwrap()).await.unwrap().0, 200);
    });
    let head = gateway.upstream.last_head();
    assert_eq!(
        head.iter()
            .filter(|line| line.to_ascii_lowercase().starts_with("cookie:"))
            .collect::<Vec<_>>(),
        ["cookie: a=1; b=2"]
    );
    assert!(
        head.iter().all(|line| !line.to_ascii_lowercase().replace('_', "-").starts_with("x-auth")),
        "{head:?}"
    );
    assert!(head.contains(&format!("x-forwarded-host: {}", gateway.address)), "{head:?}");
    assert_eq!(
        head.iter().filter(|line| line.to_ascii_lowercase().starts_with("host:")).count(),
        1
    );
}

#[test]
fn requests_of_one_connection_run_beside_each_other() {
    let gateway = gateway("");
    let held = gateway.upstream.hold();
    with_client(gateway.address, async |client| {
        let slow = tokio::spawn({
            let (client, request) = (client.clone(), get(&gateway, "/open/slow").body(()).unwrap());
            async move { fetch(&client, request).await.unwrap().0 }
        });
        // Refused here, while the other waits for its upstream.
        assert_eq!(fetch(&client, get(&gateway, "/api/x").body(()).unwrap()).await.unwrap().0, 401);
        assert!(!slow.is_finished());
        drop(held);
        assert_eq!(slow.await.unwrap(), 200);
    });
}

#[test]
fn an_answer_before_the_end_of_a_body_is_not_followed_by_a_reset() {
    let gateway = gateway("");
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream], payload]
            .concat()
    };
    // POST, http, /api/x, an authority, a length of one byte, which comes after the answer.
    let fields = [&b"\x83\x86\x04\x06/api/x\x01\x01a\x0f\x0d\x01"[..], b"1"].concat();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&[frame(4, 0, 0, &[]), frame(1, 4, 1, &fields)].concat()).unwrap();
    let mut next = || {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        (head[3], head[4] & 1 == 1 && head[3] == 0, stream.try_clone().unwrap())
    };
    // The answers to pings tell that nothing else was on its way before them: three while the body
    // is out, one after its end.
    let (mut seen, mut pings) = (Vec::new(), 0);
    while pings < 4 {
        let (kind, is_last, mut writer) = next();
        seen.push(kind);
        pings += usize::from(kind == 6);
        if pings == 3 && kind == 6 {
            writer.write_all(&frame(0, 1, 1, b"x")).unwrap();
        }
        if is_last || kind == 6 {
            writer.write_all(&frame(6, 0, 0, b"pingpong")).unwrap();
        }
    }
    seen.retain(|kind| matches!(kind, 0 | 1 | 3));
    assert_eq!(seen, [1, 0], "HEADERS, DATA, and no RST_STREAM");
}

#[test]
fn a_body_that_does_not_come_or_drips_is_the_clients_fault_and_ends_in_time() {
    // The upstream's time is the shorter one: it begins with the end of the request.
    let upstream = crate::support::Upstream::start();
    let servers = format!(
        "servers: [\"http://{}\"], retries: 0, timeouts: {{ response: 1s }}",
        upstream.address
    );
    let gateway =
        gateway(&format!("edge: {{ body_timeout: 3s }}\nupstreams: {{ api: {{ {servers} }} }}\n"));
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream], payload]
            .concat()
    };
    let fields = [&b"\x83\x86\x04\x07/open/x\x01\x01a\x0f\x0d\x04"[..], b"1000"].concat();
    for drips in [false, true] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream
            .write_all(
                &[frame(4, 0, 0, &[]), frame(1, 4, 1, &fields), frame(0, 0, 1, b"x")].concat(),
            )
            .unwrap();
        let mut writer = stream.try_clone().unwrap();
        let drip = frame(0, 0, 1, b"x");
        let dripping = std::thread::spawn(move || {
            while drips && writer.write_all(&drip).is_ok() {
                std::thread::park_timeout(Duration::from_millis(500));
            }
        });
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).unwrap();
            assert!(head[3] != 1, "an answer, drips: {drips}");
            if head[3] == 3 {
                break;
            }
        }
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        dripping.join().unwrap();
    }
    // Over HTTP/1 the same, and no server is blamed.
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(b"POST /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx").unwrap();
    let answered = read_to_end(&mut stream);
    assert!(!answered.starts_with(b"HTTP/1.1 5"), "{}", answered.escape_ascii());
    let ejected = gateway.metric("scopegate_upstream_servers{state=\"ejected\",upstream=\"api\"}");
    assert_eq!(ejected.map(|count| count > 0.5), Some(false));
    assert_eq!(gateway.get("/open/x", None).status, 200);
}

#[test]
fn an_http2_connection_without_requests_is_closed_whatever_frames_it_sends() {
    let gateway = gateway("edge: { header_timeout: 1s, keep_alive_timeout: 2s }\n");
    let start = Instant::now();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    let mut writer = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while writer.write_all(ping).is_ok() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    read_to_end(&mut stream);
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());

    // What is not HTTP/2 after all is HTTP/1, also when it is shorter than the preface.
    for begin in ["P", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.write_all(begin.as_bytes()).unwrap();
        let answered = read_to_end(&mut stream);
        let is_request = begin.starts_with("GET");
        assert_eq!(
            answered.starts_with(b"HTTP/1."),
            is_request,
            "{begin:?}: {}",
            answered.escape_ascii()
        );
    }
    wait_for("the connections to be gone", || {
        (gateway.metric("scopegate_connections_open ") == Some(0.0)).then_some(())
    });
}

#[test]
fn a_listener_that_does_not_say_h2c_takes_the_preface_for_a_bad_request() {
    let gateway = Gateway::start(&Setup::new(POLICIES, CLIENTS));
    let response = gateway.send("PRI * HTTP/2.0\r\n\r\n");
    assert_eq!((response.status, response.verdict().as_str()), (400, "request.malformed"));
}

#[test]
fn a_path_with_a_fragment_is_refused_and_not_cut_whatever_the_table_holds() {
    let gateway = gateway("");
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream], payload]
            .concat()
    };
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // GET, http, a path that goes into the table or does not, an authority.
    let head =
        |mark: u8, path: &str| [vec![0x82, 0x86, mark], text(path), vec![0x01], text("a")].concat();
    let heads = [
        head(0x04, "/open/1#x"),
        head(0x44, "/open/2?a=b#x"),
        // The one before, out of the table.
        vec![0x82, 0x86, 0xbe, 0x01, 0x01, b'a'],
        head(0x04, "/open/3"),
        head(0x04, "/open/#"),
        head(0x04, "/open/4"),
    ];
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut statuses = Vec::new();
    for (at, head) in heads.iter().enumerate() {
        let id = u8::try_from(2 * at + 1).unwrap();
        stream.write_all(&frame(1, 5, id, head)).unwrap();
        // The status of the answer, by its index or as a literal: one request at a time.
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).unwrap();
            if head[3] == 1 && head[8] == id {
                statuses.push(payload[0]);
            }
            if head[3] == 3 || (head[4] & 1 == 1 && matches!(head[3], 0 | 1) && head[8] == id) {
                break;
            }
        }
    }
    // 0x88 is 200, 0x8c is 400 (RFC 7541 appendix A).
    assert_eq!(statuses, [0x8c, 0x8c, 0x8c, 0x88, 0x8c, 0x88]);
    let paths = gateway.upstream.requests();
    assert_eq!(paths.len(), 2, "{paths:?}");
    assert!(
        paths[0].starts_with("GET /open/3 ") && paths[1].starts_with("GET /open/4 "),
        "{paths:?}"
    );
}

#[test]
fn a_library_that_uses_the_table_as_it_likes_is_understood() {
    let gateway = gateway("");
    with_client(gateway.address, async |client| {
        for n in 0..300_u32 {
            // Names and values of all lengths, again and again new ones, so that the table turns
            // over.
            let mut request = get(
                &gateway,
                &format!(
                    "/open/{n}?q={}",
                    "ä#".replace('#', "%23").repeat(n as usize % 7).replace('ä', "%C3%A4")
                ),
            );
            for at in 0..n % 9 {
                request = request.header(
                    format!("x-{at}-{}", n % 13),
                    format!("{}{}", "v~{}".repeat(at as usize * 7), n),
                );
            }
            assert_eq!(fetch(&client, request.body(()).unwrap()).await.unwrap().0, 200, "{n}");
        }
    });
    assert_eq!(
        gateway.metric("scopegate_connections_cut_total{cause=\"http2_malformed\"}"),
        Some(0.0)
    );
}
