//! The end of a process under load, and the beginning of the next: no request is lost.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::http::{Connection, request};
use crate::support::{GUARD, Gateway, Setup, judge, many, wait_for};

const POLICIES: &str = "apis:
  api: { base_path: /api, upstream: api, resources: { /x: [GET] } }
auth_scopes: { read: { grants: [{ api: api, methods: [GET] }] } }
";
const CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read], token_format: opaque } }\n";

fn gateway(edge: &str) -> Gateway {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = format!("listeners: [{{ address: \"@LISTEN@\", h2c: true }}]\n{edge}");
    Gateway::start(&setup)
}

/// Clients in a closed loop over kept connections, each of which goes on until the gateway refuses
/// a new connection.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// `http1` connections of HTTP/1.1 and `http2` of HTTP/2, each with a pause between requests
    /// that makes `rate` a second of all.
    fn start(address: SocketAddr, token: &str, http1: usize, http2: usize, rate: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            served: Arc::default(),
            failed: Arc::default(),
            threads: Vec::new(),
        };
        let pause = Duration::from_secs(1) / u32::try_from(rate.div_ceil(http1 + http2)).unwrap();
        for at in 0..http1 + http2 {
            let (stop, served, failed) =
                (load.stop.clone(), load.served.clone(), load.failed.clone());
            let token = token.to_owned();
            let client = move |run: &dyn Fn(&Counts<'_>) -> Result<(), String>| {
                let counts = Counts { stop: &stop, served: &served, pause };
                while !stop.load(Ordering::Relaxed) {
                    match run(&counts) {
                        Ok(()) => {}
                        Err(error) if error == "refused" => return,
                        Err(error) => failed.lock().unwrap().push(error),
                    }
                }
            };
            load.threads.push(std::thread::spawn(move || {
                if at < http1 {
                    client(&|counts| http1_connection(address, &token, counts));
                } else {
                    client(&|counts| http2_connection(address, &token, counts));
                }
            }));
        }
        load
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    fn wait_for_more(&self, more: usize) {
        let enough = self.served() + more;
        wait_for("requests to be served", || (self.served() >= enough).then_some(()));
    }

    /// Ends it; how many were served, and what failed.
    fn finish(self, stop: bool) -> (usize, Vec<String>) {
        if stop {
            self.stop.store(true, Ordering::Relaxed);
        }
        for thread in self.threads {
            thread.join().unwrap();
        }
        let failed = self.failed.lock().unwrap().clone();
        (self.served.load(Ordering::Relaxed), failed)
    }
}

struct Counts<'a> {
    stop: &'a AtomicBool,
    served: &'a AtomicUsize,
    pause: Duration,
}

fn refused(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        "refused".to_owned()
    } else {
        format!("connect: {error}")
    }
}

/// One connection, until the gateway says that it closes.
fn http1_connection(address: SocketAddr, token: &str, counts: &Counts<'_>) -> Result<(), String> {
    TcpStream::connect(address).map_err(|error| refused(&error)).and_then(|stream| {
        let mut connection = Connection::over(stream);
        while !counts.stop.load(Ordering::Relaxed) {
            connection.write(request("GET", "/api/x", Some(token), &[]).as_bytes());
            let response = connection.read(false).ok_or("a request got no answer")?;
            if response.status != 200 {
                return Err(format!("{response:?}"));
            }
            counts.served.fetch_add(1, Ordering::Relaxed);
            if response.header("connection") == Some("close") {
                return Ok(());
            }
            std::thread::park_timeout(counts.pause);
        }
        Ok(())
    })
}

/// One connection, until the gateway sends GOAWAY.
fn http2_connection(address: SocketAddr, token: &str, counts: &Counts<'_>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream =
            tokio::net::TcpStream::connect(address).await.map_err(|error| refused(&error))?;
        let (client, connection) =
            h2::client::handshake(stream).await.map_err(|error| format!("handshake: {error}"))?;
        let driver = tokio::spawn(connection);
        while !counts.stop.load(Ordering::Relaxed) {
            // Not ready: told to go before the request was sent, so that nothing is lost.
            let Ok(mut ready) = client.clone().ready().await else { break };
            let request = http::Request::get(format!("http://{address}/api/x"))
                .header("authorization", format!("Bearer {token}"));
            let Ok((response, _)) = ready.send_request(request.body(()).unwrap(), true) else {
                break;
            };
            let response = match response.await {
                Ok(response) => response,
                // Above the last stream that the gateway takes: by definition not begun (RFC 9113
                // §6.8).
                Err(error)
                    if error.is_go_away()
                        && error.is_remote()
                        && error.reason() == Some(h2::Reason::NO_ERROR) =>
                {
                    break;
                }
                Err(error) => return Err(format!("stream: {error:?}")),
            };
            if response.status() != 200 {
                return Err(format!("{response:?}"));
            }
            let mut body = response.into_body();
            while let Some(chunk) = body.data().await {
                let chunk = chunk.map_err(|error| format!("body: {error:?}"))?;
                let _ = body.flow_control().release_capacity(chunk.len());
            }
            counts.served.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(counts.pause).await;
        }
        drop(client);
        let _ = tokio::time::timeout(Duration::from_secs(5), driver).await;
        Ok(())
    })
}

/// `ROUNDS` and `RATE` (requests a second) make it a test of endurance; `make lifecycle` sets them.
#[test]
fn sigterm_under_load_loses_no_request() {
    for _ in 0..many("ROUNDS", 1) {
        let mut gateway = gateway("edge: { drain_timeout: 6s }\n");
        let token = gateway.token("app");
        let load = Load::start(gateway.address, &token, 32, 8, many("RATE", 1000));
        load.wait_for_more(500);
        gateway.signal("TERM");
        let start = Instant::now();
        wait_for("readiness to end", || {
            // Listeners stay open meanwhile.
            (gateway.get_metrics("/readyz").status == 503).then_some(())
        });
        judge("readiness, ended", start.elapsed(), Duration::from_millis(500));
        assert_eq!(gateway.wait(), Some(0));
        judge("the process, ended", start.elapsed(), Duration::from_secs(9));
        let (served, failed) = load.finish(false);
        println!(
            "SIGTERM: {served} requests, {} failed, ended after {:?}",
            failed.len(),
            start.elapsed()
        );
        assert_eq!(failed, [""; 0], "of {served}");
    }
}

#[test]
fn upgrades_under_load_lose_no_request_and_no_token() {
    let mut gateway = gateway("edge: { drain_timeout: 60s }\n");
    let token = gateway.token("app");
    let load = Load::start(gateway.address, &token, 32, 8, many("RATE", 1000));
    load.wait_for_more(200);
    let mut before = gateway.token("app");
    for _ in 0..many("ROUNDS", 2) {
        let mut predecessor = gateway.upgrade();
        let status = wait_for("the process before to end", || predecessor.try_wait().unwrap());
        assert!(status.success(), "{}", gateway.log());
        load.wait_for_more(200);
        // Opaque tokens are in the store that both had open.
        assert_eq!(gateway.get("/api/x", Some(&before)).status, 200);
        before = gateway.token("app");
        assert_eq!(gateway.get_metrics("/readyz").status, 200);
    }
    let (served, failed) = load.finish(true);
    println!("upgrades: {served} requests, {} failed", failed.len());
    assert_eq!(failed, [""; 0], "of {served}: {}", gateway.log());
}

#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let mut gateway = gateway("");
    let token = gateway.token("app");
    let serves = |gateway: &Gateway| assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);
    // A successor with a configuration that does not load.
    let policies = std::fs::read_to_string(gateway.folder.path().join("policies.yaml")).unwrap();
    gateway.rewrite("policies.yaml", "nonsense: 1\n");
    let mut predecessor = gateway.upgrade();
    assert_eq!(gateway.wait(), Some(1));
    gateway.rewrite("policies.yaml", &policies);
    serves(&gateway);
    // One that takes the sockets and dies, one that says nothing, one that says nonsense.
    let path = gateway.folder.path().join("data/upgrade.sock");
    for said in ["scopegate upgrade 1\n", "", "GET / HTTP/1.1\r\n\r\n"] {
        use std::io::{Read, Write};
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        if !said.is_empty() {
            let _ = stream.read(&mut [0; 1024]);
        }
        drop(stream);
        serves(&gateway);
    }
    wait_for("the failures to be logged", || {
        (gateway.log().matches("an upgrade has failed; this process goes on serving").count() == 3)
            .then_some(())
    });
    for signal in ["QUIT", "USR1", "USR2", "HUP"] {
        let id = predecessor.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([&format!("-{signal}"), &id])
                .status()
                .unwrap()
                .success()
        );
        serves(&gateway);
    }
    assert!(predecessor.try_wait().unwrap().is_none());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(path.parent().unwrap()).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o700, "who can open the socket can take the gateway over");
    predecessor.kill().unwrap();
    predecessor.wait().unwrap();
}

#[test]
fn an_upgrade_without_a_gateway_to_take_over_from_says_so() {
    let gateway = gateway("");
    let other = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(gateway.folder.path().join("gateway.yaml")).unwrap();
    let text = text.replace(
        &format!("{}/data", gateway.folder.path().display()),
        &format!("{}/data", other.path().display()),
    );
    std::fs::write(gateway.folder.path().join("gateway.yaml"), text).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["serve", "--upgrade", "--config"])
        .arg(gateway.folder.path().join("gateway.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("is a gateway with this run_folder serving?"),
        "{said}"
    );
}

/// A stand-in for systemd: where the gateway's word goes.
struct Manager(UnixDatagram, tempfile::TempDir);

impl Manager {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(GUARD)).unwrap();
        Self(socket, folder)
    }

    fn environment(&self) -> (String, String) {
        ("NOTIFY_SOCKET".to_owned(), self.1.path().join("notify").display().to_string())
    }

    fn heard(&self) -> String {
        let mut space = [0; 1024];
        let count = self.0.recv(&mut space).unwrap();
        String::from_utf8_lossy(&space[..count]).trim().to_owned()
    }
}

fn upgrade(gateway: &Gateway, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["upgrade", "--config"])
        .arg(gateway.folder.path().join("gateway.yaml"))
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_command_has_the_gateway_start_its_successor_and_systemd_follow_it() {
    let manager = Manager::start();
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.environment = vec![manager.environment()];
    let mut gateway = Gateway::start(&setup);
    assert_eq!(manager.heard(), "READY=1");
    let token = gateway.token("app");
    let serves = |gateway: &Gateway| assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);

    // What does not load is told to whoever asks, and nothing is started.
    gateway.rewrite("policies.yaml", "nonsense: 1\n");
    let (code, said) = upgrade(&gateway, &[]);
    assert!(code == Some(1) && said.contains("unknown key `nonsense`"), "{code:?} {said}");
    // What loads here and not there.
    gateway.rewrite(
        "policies.yaml",
        &POLICIES.replace("{ base_path", "{ name: env:ONLY_HERE, base_path"),
    );
    let (code, said) = upgrade(&gateway, &[("ONLY_HERE", "x")]);
    assert!(
        code == Some(2) && said.contains("the successor ended (exit status: 1)"),
        "{code:?} {said}"
    );
    serves(&gateway);

    gateway.rewrite("policies.yaml", POLICIES);
    let (code, said) = upgrade(&gateway, &[]);
    let process = said
        .strip_prefix("process ")
        .and_then(|said| said.split(' ').next())
        .unwrap_or_default()
        .to_owned();
    assert!(code == Some(0) && process.parse::<u32>().is_ok(), "{code:?} {said} {}", gateway.log());
    assert_ne!(process, gateway.pid().to_string());
    // Nothing was said of those that failed.
    assert_eq!(manager.heard(), format!("MAINPID={process}"));
    assert_eq!(manager.heard(), "READY=1");
    assert_eq!(gateway.wait(), Some(0));
    serves(&gateway);
    assert!(
        std::process::Command::new("kill").args(["-TERM", &process]).status().unwrap().success()
    );
    assert_eq!(manager.heard(), "STOPPING=1");
    wait_for("the successor to end", || {
        TcpStream::connect(gateway.address)
            .is_err_and(|error| refused(&error) == "refused")
            .then_some(())
    });
    let (code, said) = upgrade(&gateway, &[]);
    assert!(
        code == Some(2) && said.contains("is a gateway with this run_folder serving?"),
        "{code:?} {said}"
    );
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let manager = Manager::start();
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.environment = vec![manager.environment()];
    let mut gateway = Gateway::start(&setup);
    assert_eq!(manager.heard(), "READY=1");
    gateway.signal("TERM");
    assert_eq!(manager.heard(), "STOPPING=1");
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_drain_delay_keeps_the_door_open_for_those_who_have_not_heard() {
    let mut gateway = gateway("edge: { drain_delay: 6s }\n");
    let token = gateway.token("app");
    gateway.signal("TERM");
    wait_for("readiness to end", || (gateway.get_metrics("/readyz").status == 503).then_some(()));
    // Without the delay it would have closed by now.
    std::thread::park_timeout(Duration::from_millis(1_500));
    let response = gateway.get("/api/x", Some(&token));
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(gateway.wait(), Some(0));
}
