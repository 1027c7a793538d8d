//! What the gate costs: CPU time per request of the gateway with every check on and a cached token,
//! against a bare pingora proxy under the same load, and against itself with a candidate set judged
//! besides (`serve --shadow`), in turns in one run. Prints the medians and the ratios round by
//! round.
//!
//! `cargo bench --bench forwarding`

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pingora::prelude::{HttpPeer, ProxyHttp, Session};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const REQUESTS: usize = 40_000;
const CONNECTIONS: usize = 16;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"order\": \
        4711}";

/// The least that pingora does: one peer, no check.
struct Bare(SocketAddr);

#[async_trait::async_trait]
impl ProxyHttp for Bare {
    type CTX = u8;

    fn new_ctx(&self) -> u8 {
        0
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the bare proxy is what the gateway is held against"
    )]
    async fn upstream_peer(&self, _: &mut Session, _: &mut u8) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn run_bare(listen: &str, upstream: &str) -> ! {
    let conf = ServerConf { threads: 1, work_stealing: false, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service =
        pingora::proxy::http_proxy_service(&server.configuration, Bare(upstream.parse().unwrap()));
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--bare") {
        run_bare(&arguments[at + 1], &arguments[at + 2]);
    }
    let upstream = start_upstream();
    let folder = tempfile::tempdir().unwrap();
    let (gateway, bare) = (free_address(), free_address());
    let secret = "bench-secret-of-fifty-characters-aaaaaaaaaaaaaaaaaa";
    write_configuration(folder.path(), gateway, upstream, secret);
    let gateway_process = serve(folder.path(), &[]);
    let (shadowed, other) = (free_address(), tempfile::tempdir().unwrap());
    write_configuration(other.path(), shadowed, upstream, secret);
    let shadowed_process = serve(other.path(), &["--shadow".as_ref(), other.path().as_os_str()]);
    let bare_process = Process(
        Command::new(std::env::current_exe().unwrap())
            .args(["--bare", &bare.to_string(), &upstream.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_for(gateway);
    wait_for(bare);
    wait_for(shadowed);
    let (token, shadowed_token) = (token(gateway, secret), token(shadowed, secret));
    let (mut ratios, mut shadow_ratios) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs, mut with_shadow) = (Vec::new(), Vec::new(), Vec::new());
    load(gateway, &token);
    load(bare, &token);
    load(shadowed, &shadowed_token);
    for round in 1..=ROUNDS {
        let gate = measure(&gateway_process, gateway, &token);
        let plain = measure(&bare_process, bare, &token);
        let shadow = measure(&shadowed_process, shadowed, &shadowed_token);
        println!(
            "round {round}: gateway {gate:.1} µs, bare pingora {plain:.1} µs, with a candidate \
                {shadow:.1} µs of CPU a request, \
             ratios {:.3} and {:.3}",
            gate / plain,
            shadow / gate
        );
        shadow_ratios.push(shadow / gate);
        with_shadow.push(shadow);
        ratios.push(gate / plain);
        ours.push(gate);
        theirs.push(plain);
    }
    println!(
        "median: gateway {:.1} µs, bare pingora {:.1} µs, ratio {:.3} ({ROUNDS} rounds of {} \
            requests)",
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios),
        REQUESTS
    );
    println!(
        "median: with a candidate {:.1} µs, ratio to the gateway {:.3}",
        median(&mut with_shadow),
        median(&mut shadow_ratios)
    );
}

fn serve(folder: &std::path::Path, more: &[&std::ffi::OsStr]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scopegate"));
    command.args(["serve", "--config"]).arg(folder.join("gateway.yaml")).args(more);
    Process(command.stdout(Stdio::null()).spawn().unwrap())
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of all threads of a process, from the scheduler, in microseconds.
fn cpu(process: &Process) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.0.id())).unwrap();
    let nanoseconds: f64 = tasks
        .flatten()
        .filter_map(|task| {
            std::fs::read_to_string(task.path().join("schedstat"))
                .ok()?
                .split(' ')
                .next()?
                .parse::<f64>()
                .ok()
        })
        .sum();
    nanoseconds / 1_000.0
}

fn measure(process: &Process, address: SocketAddr, token: &str) -> f64 {
    let before = cpu(process);
    load(address, token);
    #[expect(clippy::cast_precision_loss, reason = "forty thousand")]
    let requests = REQUESTS as f64;
    (cpu(process) - before) / requests
}

/// A closed loop of requests on kept connections; every answer must be a 200.
fn load(address: SocketAddr, token: &str) {
    let request = format!(
        "GET /v1/orders/4711 HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer \
            {token}\r\nAccept: */*\r\n\r\n"
    );
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut space = [0; 4096];
                for _ in 0..REQUESTS / CONNECTIONS {
                    stream.write_all(request.as_bytes()).unwrap();
                    let mut got = 0;
                    while !space[..got].ends_with(b"4711}") {
                        let count = stream.read(&mut space[got..]).unwrap();
                        assert!(count > 0, "the connection ended");
                        got += count;
                    }
                    assert!(
                        space.starts_with(b"HTTP/1.1 200"),
                        "{}",
                        String::from_utf8_lossy(&space[..got])
                    );
                }
            });
        }
    });
}

fn start_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let (mut space, mut got) = ([0; 8192], 0);
                while let Ok(count) = stream.read(&mut space[got..]) {
                    got += count;
                    if count == 0 {
                        return;
                    }
                    if space[..got].ends_with(b"\r\n\r\n") {
                        got = 0;
                        if stream.write_all(ANSWER).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_for(address: SocketAddr) {
    for _ in 0..2_000 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{address} does not answer");
}

fn write_configuration(
    folder: &std::path::Path,
    gateway: SocketAddr,
    upstream: SocketAddr,
    secret: &str,
) {
    use sha2::{Digest, Sha256};
    let digest = scopegate::names::hex(&Sha256::digest(secret));
    let data = folder.join("data");
    for (name, text) in [
        (
            "gateway.yaml",
            format!(
                "public_url: http://{gateway}\nlisteners: [{{ address: '{gateway}' }}]\nstore: {{ \
                    embedded: {{ path: '{}' }} }}\n\
                 policies: policies.yaml\nclients: clients.yaml\nworkers: 1\ndecision_log: \
                 off\nlog_level: error\n\
                 authorization_server: {{ grants: [client_credentials] }}\nupstreams: {{ api: {{ \
                 servers: ['http://{upstream}'] }} }}\n",
                data.display()
            ),
        ),
        (
            "policies.yaml",
            "apis: { orders: { base_path: /v1, upstream: api, resources: { '/orders/{id}': [GET] } \
                } }\n\
             auth_scopes: { read: { grants: [{ api: orders }] } }\n\
             access_policies: { callers: { api: orders, allow: [{ clients: [bench], from: \
             [127.0.0.0/8] }] } }\n\
             acls: [{ api: orders, roles: { any: [reader] } }]\n"
                .to_owned(),
        ),
        (
            "clients.yaml",
            format!(
                "clients: {{ bench: {{ grants: [client_credentials], roles: [reader], secrets: [{{ \
                    sha256: {digest} }}], auth_scopes: [read] }} }}\n"
            ),
        ),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn token(address: SocketAddr, secret: &str) -> String {
    let body = format!("grant_type=client_credentials&client_id=bench&client_secret={secret}");
    let request = format!(
        "POST /oauth_token.do HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: \
            application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    json["access_token"].as_str().unwrap().to_owned()
}
