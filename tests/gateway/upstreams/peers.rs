//! Peers that nobody here wrote: a WebSocket client and server, a gRPC client and server.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tungstenite::{Message, WebSocket, client::IntoClientRequest};

use crate::support::http::request;
use crate::support::{GUARD, Gateway, Setup};

const POLICIES: &str = "apis:
  live: { base_path: /live, upstream: api, websocket: true, resources: { /x: [GET] } }
  plain: { base_path: /plain, upstream: api, resources: { /x: [GET] } }
auth_scopes: { read: { grants: [{ api: live }, { api: plain }] } }
";
const CLIENTS: &str = "clients:
  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read] }
  brief: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read], \
    access_token_lifespan: 8s }
";

/// A server that sends every message back.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let Ok(mut socket) = tungstenite::accept(stream) else { return };
                while let Ok(message) = socket.read() {
                    // A close is answered by the library, as it reads on.
                    if !message.is_close() && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn gateway(upstream: SocketAddr) -> Gateway {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = format!(
        "upstreams: {{ api: {{ servers: ['http://{upstream}'], timeouts: {{ response: 2s }} }} }}\n\
         edge: {{ body_timeout: 2s, keep_alive_timeout: 2s }}\n"
    );
    Gateway::start(&setup)
}

fn open(gateway: &Gateway, path: &str, token: &str) -> Result<WebSocket<TcpStream>, String> {
    let mut request = format!("ws://{}{path}", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    tungstenite::client(request, stream)
        .map(|(socket, _)| socket)
        .map_err(|error| error.to_string())
}

fn says_back(socket: &mut WebSocket<TcpStream>, text: &str) -> bool {
    socket.send(Message::text(text)).is_ok()
        && socket.read().is_ok_and(|message| message == Message::text(text))
}

#[test]
fn a_websocket_carries_messages_and_survives_silence() {
    let gateway = gateway(echo());
    let token = gateway.token("app");
    let mut socket = open(&gateway, "/live/x", &token).unwrap();
    for size in [0, 10, 125, 70_000, 1_000_000] {
        assert!(says_back(&mut socket, &"x".repeat(size)), "{size}");
    }
    // Longer than every other timeout of this gateway.
    std::thread::park_timeout(Duration::from_secs(5));
    assert!(says_back(&mut socket, "still here"));
    socket.close(None).unwrap();
    assert!(matches!(
        socket.read(),
        Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed)
    ));
}

#[test]
fn a_websocket_is_judged_like_any_request_and_offered_where_the_api_says_so() {
    let gateway = gateway(echo());
    let token = gateway.token("app");
    assert!(open(&gateway, "/live/x", "nonsense").unwrap_err().contains("401"));
    assert!(open(&gateway, "/live/y", &token).unwrap_err().contains("404"));
    // There the request is plain HTTP, which this upstream refuses.
    let refused = open(&gateway, "/plain/x", &token).unwrap_err();
    assert!(refused.contains("400") || refused.contains("502"), "{refused}");
    for (name, value, version) in [
        ("Upgrade", "h2c", "13"),
        ("Upgrade", "websocket, h2c", "13"),
        ("Upgrade", "websocket", "7"),
        ("X-None", "y", "13"),
    ] {
        let headers = [
            ("Connection", "Upgrade"),
            (name, value),
            ("Sec-WebSocket-Key", "x"),
            ("Sec-WebSocket-Version", version),
        ];
        let response = gateway.send(request("GET", "/live/x", Some(&token), &headers));
        assert_ne!(response.status, 101, "{value}");
    }
}

/// Waits until a socket that was open has ended.
fn ends(socket: &mut WebSocket<TcpStream>) {
    let deadline = Instant::now() + GUARD;
    while socket.read().is_ok() {}
    assert!(Instant::now() < deadline, "it stays open");
}

#[test]
fn a_websocket_ends_with_its_token() {
    let gateway = gateway(echo());
    let mut other = open(&gateway, "/live/x", &gateway.token("app")).unwrap();
    let mut socket = open(&gateway, "/live/x", &gateway.token("brief")).unwrap();
    assert!(says_back(&mut socket, "open"));
    ends(&mut socket);
    assert!(says_back(&mut other, "still open"));
}

#[test]
fn a_websocket_ends_when_its_token_is_revoked_or_a_policy_tightens() {
    let gateway = gateway(echo());
    let token = gateway.token("app");
    let mut revoked = open(&gateway, "/live/x", &token).unwrap();
    let mut cut_off = open(&gateway, "/live/x", &gateway.token("app")).unwrap();
    let credentials =
        format!("token={token}&client_id=app&client_secret={}", crate::support::SECRET);
    assert_eq!(
        gateway.send(crate::support::http::form("/oauth2/revoke", &[], &credentials)).status,
        200
    );
    ends(&mut revoked);
    assert!(says_back(&mut cut_off, "still open"));

    gateway.rewrite("clients.yaml", &CLIENTS.replace("[read]", "[]"));
    assert!(gateway.reload());
    ends(&mut cut_off);
    assert_eq!(gateway.metric("scopegate_connections_cut_total{cause=\"tunnel\"}"), Some(2.0));
}

#[test]
fn a_grpc_client_calls_a_grpc_server_with_a_token() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (reporter, service) = runtime.block_on(async { tonic_health::server::health_reporter() });
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let upstream = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    runtime.spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );

    let policies =
        "apis: { health: { base_path: /grpc.health.v1.Health, upstream: api, resources: \
        { /Check: [POST], /Watch: [POST] } } }
auth_scopes: { read: { grants: [{ api: health, resources: [/Check, /Watch] }] } }
";
    let mut setup = Setup::new(policies, CLIENTS);
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\", h2c: true }}]\nupstreams: {{ api: {{ servers: \
            ['http://{upstream}'], http2: true }} }}\n"
    );
    let gateway = Gateway::start(&setup);
    let token = gateway.token("app");
    runtime.block_on(async {
        let channel =
            tonic::transport::Channel::from_shared(format!("http://{}", gateway.address)).unwrap();
        let channel = channel.connect().await.unwrap();
        let bearer: tonic::metadata::MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        let with_token = move |mut request: tonic::Request<()>| {
            request.metadata_mut().insert("authorization", bearer.clone());
            Ok(request)
        };
        let mut client = HealthClient::with_interceptor(channel.clone(), with_token);
        let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
        for _ in 0..20 {
            assert_eq!(client.check(ask("")).await.unwrap().into_inner().status, 1);
        }
        // An error of the service is in its trailers.
        assert_eq!(client.check(ask("nobody")).await.unwrap_err().code(), tonic::Code::NotFound);
        // A stream of answers, one now and one when something changes.
        let mut watch = client.watch(ask("")).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
        // Without a token there is none, and the client understands why.
        let refused = HealthClient::new(channel).check(ask("")).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
        assert!(refused.message().contains("token.missing"), "{refused:?}");
        assert!(refused.metadata().contains_key("x-decision-id"));
    });
    drop(gateway);
}
