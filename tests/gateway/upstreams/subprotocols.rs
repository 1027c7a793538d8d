//! A token among the subprotocols of a WebSocket handshake, which is what a browser has in the
//! place of Authorization: it is judged as one, and no upstream sees it.

use std::net::{SocketAddr, TcpListener};

use tungstenite::handshake::server::{Request, Response as Accepted};

use crate::support::http::{Connection, Response, request};
use crate::support::{Gateway, Setup};

const POLICIES: &str = "apis:
  page: { base_path: /page, upstream: api, websocket: { token_in_protocol: true },
    resources: { /x: [GET] } }
  live: { base_path: /live, upstream: api, websocket: true, resources: { /x: [GET] } }
  open: { base_path: /open, upstream: api, public: true, websocket: { token_in_protocol: true },
    resources: { /x: [GET] } }
auth_scopes:
  watch: { grants: [{ api: page }, { api: live }] }
";
const CLIENTS: &str = "clients:
  app: { grants: [client_credentials], roles: [r], secrets: [{ sha256: @SHA256@ }],
    auth_scopes: [watch] }
";

fn gateway() -> Gateway {
    Gateway::start(&Setup::new(POLICIES, CLIENTS))
}

/// A handshake with these further lines; the upstream selects a subprotocol, or none.
fn shake(
    gateway: &Gateway,
    path: &str,
    lines: &[(&str, &str)],
    selects: &str,
    status: u16,
) -> Response {
    let selected = if selects.is_empty() {
        String::new()
    } else {
        format!("Sec-WebSocket-Protocol: {selects}\r\n")
    };
    gateway.upstream.answer(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: x\r\n{selected}\r\n"
    ));
    let mut all = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    all.extend(lines);
    let mut connection = Connection::open(gateway.address);
    connection.write(request("GET", path, None, &all).as_bytes());
    // What follows a switch is no body; a refusal has one.
    connection.read(status == 101).unwrap()
}

/// The subprotocols that the upstream was offered by the last handshake.
fn offered(gateway: &Gateway) -> Option<String> {
    let head = gateway.upstream.last_head();
    let mut lines = head.iter().filter_map(|line| line.split_once(": "));
    lines
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
        .map(|(_, value)| value.to_owned())
}

#[test]
fn a_token_among_subprotocols_is_taken_out_and_one_of_the_others_is_selected() {
    let gateway = gateway();
    let token = gateway.token("app");
    for (sent, selects, forwarded, answered) in [
        (format!("bearer, {token}"), "", None, "bearer"),
        (format!("bearer, {token}"), "bearer", None, "bearer"),
        (format!("chat, bearer, {token}, v2"), "v2", Some("chat, v2"), "v2"),
        (format!("chat,bearer,{token}"), "", Some("chat"), "bearer"),
    ] {
        let lines = [("Sec-WebSocket-Protocol", sent.as_str())];
        let answer = shake(&gateway, "/page/x", &lines, selects, 101);
        assert_eq!(answer.status, 101, "{sent}: {answer:?}");
        assert_eq!(answer.header("sec-websocket-protocol"), Some(answered), "{sent}");
        assert_eq!(offered(&gateway).as_deref(), forwarded, "{sent}");
        let head = gateway.upstream.last_head().join("\n");
        assert!(!head.contains(&token), "{head}");
    }
    // A name that nobody offered.
    let lines = [("Sec-WebSocket-Protocol", &*format!("chat, bearer, {token}"))];
    for selects in ["v9", "chat, v9", "Bearer"] {
        let answer = shake(&gateway, "/page/x", &lines, selects, 502);
        assert_eq!(answer.status, 502, "{selects}: {answer:?}");
    }
    // No token is needed there, and none goes on.
    let answer = shake(&gateway, "/open/x", &lines, "chat", 101);
    assert_eq!((answer.status, offered(&gateway).as_deref()), (101, Some("chat")));
}

#[test]
fn a_token_among_subprotocols_is_judged_like_any_and_counts_only_where_the_api_says_so() {
    let gateway = gateway();
    let token = gateway.token("app");
    let authorization = format!("Bearer {token}");
    let both = format!("bearer, {token}");
    for (path, lines, status, reason) in [
        ("/page/x", vec![("Sec-WebSocket-Protocol", "bearer, nonsense")], 401, "token.invalid"),
        ("/page/x", vec![("Sec-WebSocket-Protocol", "chat, bearer")], 401, "token.malformed"),
        ("/page/x", vec![("Sec-WebSocket-Protocol", "chat")], 401, "token.missing"),
        (
            "/page/x",
            vec![("Authorization", &*authorization), ("Sec-WebSocket-Protocol", &*both)],
            400,
            "token.several",
        ),
        (
            "/page/x",
            vec![("Sec-WebSocket-Protocol", &*both), ("Sec-WebSocket-Protocol", &*both)],
            400,
            "token.several",
        ),
        ("/live/x", vec![("Sec-WebSocket-Protocol", &*both)], 401, "token.missing"),
    ] {
        let answer = shake(&gateway, path, &lines, "", status);
        assert_eq!(answer.status, status, "{path} {lines:?}: {answer:?}");
        assert!(answer.body.contains(reason), "{path} {lines:?}: {}", answer.body);
    }
    // With Authorization the subprotocols are what they are everywhere.
    let lines = [("Authorization", &*authorization), ("Sec-WebSocket-Protocol", "chat, v2")];
    let answer = shake(&gateway, "/page/x", &lines, "v2", 101);
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("v2")));
    assert_eq!(offered(&gateway).as_deref(), Some("chat, v2"));
    // What is no handshake has no token there; it goes no further either.
    let plain = [("Authorization", &*authorization), ("Sec-WebSocket-Protocol", &*both)];
    gateway.upstream.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let answer = gateway.send(request("GET", "/page/x", None, &plain));
    assert_eq!((answer.status, offered(&gateway)), (200, None));
}

/// A WebSocket server that selects the last name it is offered, and sends back what it is sent.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                #[expect(clippy::result_large_err, reason = "the library's own type")]
                let accept = |request: &Request, mut answer: Accepted| {
                    if let Some(offered) = request.headers().get("sec-websocket-protocol") {
                        let last = offered.to_str().unwrap().rsplit(", ").next().unwrap();
                        let name = http::HeaderName::from_static("sec-websocket-protocol");
                        answer.headers_mut().insert(name, last.parse().unwrap());
                    }
                    Ok(answer)
                };
                let Ok(mut socket) = tungstenite::accept_hdr(stream, accept) else { return };
                while let Ok(message) = socket.read() {
                    if !message.is_close() && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// What a script of a page can do: it names protocols, and nothing else.
#[test]
fn a_real_browser_opens_a_socket_with_its_token() {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = format!("upstreams: {{ api: {{ servers: ['http://{}'] }} }}\n", echo());
    let gateway = Gateway::start(&setup);
    let (url, token) = (format!("ws://{}/page/x", gateway.address), gateway.token("app"));
    let python = crate::clients::installed().join("venv/bin/python");
    crate::clients::run(&gateway, &python, "live.py", &[("LIVE", url.as_str()), ("TOKEN", &token)]);
}
