//! Logs that nobody reads, and how the process ends: nothing waits for a reader, and nothing under
//! way is lost.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::{CLIENTS, POLICIES, get};
use crate::support::http::{Connection, request, send_if_possible};
use crate::support::{Gateway, Setup, Upstream, free_addresses, wait_for};

/// A gateway whose standard error and standard output, where decision records go, are pipes that
/// nobody reads.
struct Unread {
    child: Child,
    address: std::net::SocketAddr,
    metrics: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unread() -> Unread {
    let folder = tempfile::tempdir().unwrap();
    let [address, metrics, nobody] = free_addresses();
    let mut setup =
        Setup::new(&POLICIES.replace("upstream: api,", "upstream: api, public: true,"), CLIENTS);
    // Every request fails, and says so in the log.
    setup.gateway = format!(
        "log_level: debug\ndecision_log: stdout\nupstreams: {{ api: {{ servers: \
            ['http://{nobody}'] }} }}\n"
    );
    let file = setup.write(folder.path(), address, metrics, nobody);
    let child = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let unread = Unread { child, address, metrics, _folder: folder };
    wait_for("the gateway to serve", || {
        send_if_possible(metrics, "GET /readyz HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
            .filter(|ready| ready.status == 200)
    });
    unread
}

fn metric(gateway: &Unread, name: &str) -> f64 {
    let text = get(gateway.metrics, "/metrics").1;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

#[test]
fn pipes_that_nobody_reads_stop_neither_requests_nor_reloads_nor_the_end() {
    let mut gateway = unread();
    // More than the pipes and the queues behind them hold.
    let mut connection = Connection::open(gateway.address);
    let mut sent = 0;
    while metric(&gateway, "scopegate_decision_records_dropped_total ") < 1.0
        || metric(&gateway, "scopegate_log_lines_dropped_total ") < 1.0
    {
        for _ in 0..2_000 {
            connection.write(request("GET", "/api/1", None, &[]).as_bytes());
            match connection.read(false) {
                Some(answer) => assert!(matches!(answer.status, 502 | 503), "{answer:?}"),
                None => connection = Connection::open(gateway.address),
            }
            sent += 1;
        }
        assert!(sent < 400_000, "nothing is dropped");
    }
    let loaded =
        |gateway: &Unread| metric(gateway, "scopegate_config_last_reload_timestamp_seconds ");
    let before = loaded(&gateway);
    wait_for("the next second", || {
        (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() > before + 1.0).then_some(())
    });
    let signal = |name: &str| {
        assert!(
            Command::new("kill")
                .args([name, &gateway.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-HUP");
    wait_for("the reload", || (loaded(&gateway) > before).then_some(()));
    signal("-TERM");
    let status = wait_for("the end", || gateway.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    // What was written is whole lines.
    let mut log = String::new();
    let mut stderr = gateway.child.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    let whole =
        log.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert!(whole > 100 && whole + 1 >= log.lines().count(), "{whole} of {}", log.lines().count());
}

#[test]
fn a_second_sigterm_loses_nothing_and_a_second_sigint_ends_at_once() {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway =
        "upstreams: { api: { servers: ['@UPSTREAM@'], timeouts: { response: 120s } } }\n\
                     edge: { drain_timeout: 120s, drain_delay: 1s }\n"
            .to_owned();
    for signals in [
        &["TERM", "TERM", "TERM", "INT"][..],
        &["INT", "TERM", "TERM"],
        &["INT", "INT"],
        &["TERM", "INT", "INT"],
    ] {
        let mut gateway = Gateway::start_with(&setup, Upstream::start());
        let token = gateway.token("app");
        let upstream = gateway.upstream.clone();
        let release = upstream.hold();
        let mut connection = Connection::open(gateway.address);
        connection.write(request("GET", "/api/2", Some(&token), &[]).as_bytes());
        wait_for("the upstream to have the request", || {
            (gateway.upstream.requests().len() == 1).then_some(())
        });
        for signal in signals {
            gateway.signal(signal);
            // Signals of one kind that are waiting count once: each is to be heard by itself.
            wait_for("it to drain", || {
                let ready = send_if_possible(
                    gateway.metrics,
                    "GET /readyz HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n",
                );
                ready.is_none_or(|ready| ready.status == 503).then_some(())
            });
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        let interrupted = signals.iter().filter(|signal| **signal == "INT").count();
        if interrupted >= 2 {
            assert_eq!(gateway.wait(), Some(130), "{signals:?}");
            continue;
        }
        drop(release);
        assert_eq!(connection.read(false).unwrap().status, 200, "{signals:?}");
        assert_eq!(gateway.wait(), Some(0), "{signals:?}");
    }
}

#[test]
fn a_service_manager_that_does_not_read_holds_up_nobody() {
    // A datagram socket whose queue is full before the gateway starts.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(&[0; 64], &path).is_ok() {}
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.environment = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    let mut gateway = Gateway::start_with(&setup, Upstream::start());
    let token = gateway.token("app");
    assert_eq!(gateway.get("/api/1", Some(&token)).status, 200);
    assert!(gateway.reload());
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    drop(socket);
}

#[test]
fn a_decision_log_that_cannot_be_opened_yet_holds_up_neither_the_start_nor_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("decisions");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut setup =
        Setup::new(&POLICIES.replace("upstream: api,", "upstream: api, public: true,"), CLIENTS);
    setup.gateway = format!("decision_log: {{ file: \"{}\" }}\n", pipe.display());
    let mut gateway = Gateway::start_with(&setup, Upstream::start());
    assert_eq!(gateway.get("/api/1", None).status, 200);
    let mut predecessor = gateway.upgrade();
    assert_eq!(
        wait_for("the end of the predecessor", || predecessor.try_wait().unwrap()).code(),
        Some(0)
    );
    assert_eq!(gateway.get("/api/2", None).status, 200);
    // What waited is there once somebody reads.
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(std::fs::File::open(&pipe).unwrap());
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["verdict"], "permit");
}
