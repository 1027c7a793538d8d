//! What the benchmarks of the whole gateway share: a process, a load, its CPU time.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each benchmark uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const CONNECTIONS: usize = 16;
/// The secret of every client.
pub const SECRET: &str = "bench-secret-of-fifty-characters-aaaaaaaaaaaaaaaaaa";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"order\": \
        4711}";

pub fn serve(folder: &std::path::Path, more: &[&std::ffi::OsStr]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scopegate"));
    command.args(["serve", "--config"]).arg(folder.join("gateway.yaml")).args(more);
    Process(command.stdout(Stdio::null()).spawn().unwrap())
}

pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of all threads of a process, from the scheduler, in microseconds.
pub fn cpu(process: &Process) -> f64 {
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

/// CPU time per request of a process under a load, in microseconds.
pub fn measure(process: &Process, address: SocketAddr, load: &Load<'_>) -> f64 {
    let before = cpu(process);
    load.run(address);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let requests = load.count as f64;
    (cpu(process) - before) / requests
}

/// A closed loop of requests on kept connections.
pub struct Load<'a> {
    /// Sent one after the other, and again from the first.
    pub requests: &'a [Vec<u8>],
    /// The first one of this load.
    pub first: usize,
    /// How many in all.
    pub count: usize,
    /// What every answer begins with.
    pub expect: &'a str,
}

impl Load<'_> {
    pub fn run(&self, address: SocketAddr) {
        let each = self.count / CONNECTIONS;
        std::thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut space = vec![0; 16 * 1024];
                    for number in 0..each {
                        let at = (self.first + connection * each + number) % self.requests.len();
                        stream.write_all(&self.requests[at]).unwrap();
                        let mut got = 0;
                        while !is_whole(&space[..got]) {
                            let count = stream.read(&mut space[got..]).unwrap();
                            assert!(count > 0, "the connection ended");
                            got += count;
                        }
                        let answer = String::from_utf8_lossy(&space[..got]);
                        assert!(answer.starts_with(self.expect), "{answer}");
                    }
                });
            }
        });
    }
}

/// Whether an answer with a length or with chunks is there.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    length.map_or_else(|| body.ends_with("0\r\n\r\n"), |length| body.len() >= length)
}

/// A call of the API with this token.
pub fn call(token: &str) -> Vec<u8> {
    format!(
        "GET /v1/orders/4711 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \
            {token}\r\nAccept: */*\r\n\r\n"
    )
    .into_bytes()
}

pub fn start_upstream() -> SocketAddr {
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

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn wait_for(address: SocketAddr) {
    for _ in 0..2_000 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{address} does not answer");
}

pub fn write_configuration(
    folder: &std::path::Path,
    gateway: SocketAddr,
    upstream: SocketAddr,
    more: &str,
) {
    use sha2::{Digest, Sha256};
    let digest = scopegate::names::hex(&Sha256::digest(SECRET));
    let data = folder.join("data");
    for (name, text) in [
        (
            "gateway.yaml",
            format!(
                "public_url: http://{gateway}\nlisteners: [{{ address: '{gateway}' }}]\nstore: {{ \
                    embedded: {{ path: '{}' }} }}\n\
                 policies: policies.yaml\nclients: clients.yaml\nworkers: 1\nlog_level: \
                 error\n{more}\n\
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
             access_policies: { callers: { api: orders, allow: [{ clients: [bench, opaque], from: \
             [127.0.0.0/8] }] } }\n\
             acls: [{ api: orders, roles: { any: [reader] } }]\n"
                .to_owned(),
        ),
        (
            "clients.yaml",
            format!(
                "clients:\n  bench: {{ grants: [client_credentials], roles: [reader], secrets: \
                    [{{ sha256: {digest} }}], auth_scopes: [read] }}\n  opaque: {{ grants: \
                    [client_credentials], roles: [reader], secrets: [{{ sha256: {digest} }}], \
                    auth_scopes: [read], token_format: opaque }}\n"
            ),
        ),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// A request for a token of this client.
pub fn token_request(client: &str) -> Vec<u8> {
    let body = format!("grant_type=client_credentials&client_id={client}&client_secret={SECRET}");
    format!(
        "POST /oauth_token.do HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: \
            application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Tokens of this client, one after the other.
pub fn tokens(address: SocketAddr, client: &str, count: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = token_request(client);
    let mut space = vec![0; 16 * 1024];
    let mut token = || {
        stream.write_all(&request).unwrap();
        let mut got = 0;
        while !is_whole(&space[..got]) {
            let count = stream.read(&mut space[got..]).unwrap();
            assert!(count > 0, "the connection ended");
            got += count;
        }
        let answer = String::from_utf8_lossy(&space[..got]);
        let (_, rest) =
            answer.split_once("\"access_token\":\"").unwrap_or_else(|| panic!("{answer}"));
        rest.split('"').next().unwrap().to_owned()
    };
    (0..count).map(|_| token()).collect()
}
