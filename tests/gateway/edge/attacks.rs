//! Slow and greedy clients in numbers, during a steady load of honest ones that must not notice;
//! all of it in little memory.
//!
//! `make attacks` runs them in full on the release build, inside a memory limit of 512 MiB.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::http::{Connection, request};
use crate::support::tls::Ca;
use crate::support::{Gateway, Setup, judge, many, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /open, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET, POST] } } }\n";
/// What the whole may need.
const MEMORY: u64 = 512 << 20;

fn gateway() -> Gateway {
    let pair = Ca::new().issue(&["a.example"]);
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    let [tls] = crate::support::free_addresses();
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\", h2c: true }}, {{ address: \"{tls}\", tls: {{ \
            certificate: a.pem, key: a.key }} }}]\n\
         edge: {{ header_timeout: 4s, body_timeout: 4s, write_timeout: 4s, keep_alive_timeout: 4s \
         }}\n"
    );
    setup.files = vec![
        ("a.pem".to_owned(), pair.certificate),
        ("a.key".to_owned(), pair.key),
        ("tls".to_owned(), tls.to_string()),
    ];
    Gateway::start(&setup)
}

/// A memory limit on the process, where this machine lets us set one.
struct Limit(Option<PathBuf>);

impl Limit {
    fn on(gateway: &Gateway) -> Self {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/memory/scopegate-{}", gateway.pid()));
        let set = std::fs::create_dir(&folder)
            .and_then(|()| std::fs::write(folder.join("memory.limit_in_bytes"), MEMORY.to_string()))
            .and_then(|()| std::fs::write(folder.join("cgroup.procs"), gateway.pid().to_string()));
        match set {
            Ok(()) => Self(Some(folder)),
            Err(error) => {
                println!(
                    "SKIPPED: no memory limit can be set here ({error}); the peak is looked at \
                        instead"
                );
                Self(None)
            }
        }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Attackers have machines of their own. Here they get the time that the gateway and honest clients
/// leave, so that what is judged is the gateway. Threads started from now on by this one inherit
/// it.
fn attack_from_elsewhere() {
    rustix::process::nice(19).unwrap();
}

/// A figure of the process's memory, in bytes.
fn memory(gateway: &Gateway, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().unwrap() * 1024
}

/// How long an attack takes to begin: thousands of connections, or requests, at once, on the same
/// two cores as the honest clients. All of theirs are answered meanwhile, but their times are
/// another figure.
const BURST: Duration = Duration::from_millis(1_000);

/// Honest clients at a steady pace, and when they began.
struct Honest(Arc<AtomicBool>, Instant, Vec<JoinHandle<Vec<(Instant, Duration)>>>);

/// What honest clients have seen: how many were served, and how long ninety-nine of a hundred took
/// at most, in the burst at the beginning and after it.
struct Seen {
    served: usize,
    burst: Duration,
    p99: Duration,
}

impl Honest {
    /// Two hundred requests a second over four connections.
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..4).map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut connection, mut times) = (Connection::open(address), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    connection.write(request("GET", "/open/x", None, &[]).as_bytes());
                    let response = connection.read(false).expect("an honest client is answered");
                    assert_eq!(response.status, 200);
                    times.push((start, start.elapsed()));
                    std::thread::park_timeout(
                        Duration::from_millis(20).saturating_sub(start.elapsed()),
                    );
                }
                times
            })
        });
        let clients = clients.collect();
        Self(stop, Instant::now(), clients)
    }

    fn finish(self) -> Seen {
        self.0.store(true, Ordering::Relaxed);
        let settled = self.1 + BURST;
        let times: Vec<_> = self.2.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let p99 = |late: bool| {
            let chosen = times.iter().filter(|(start, _)| (*start >= settled) == late);
            let mut chosen: Vec<Duration> = chosen.map(|(_, time)| *time).collect();
            chosen.sort_unstable();
            chosen.get(chosen.len() * 99 / 100).copied().unwrap_or_default()
        };
        Seen { served: times.len(), burst: p99(false), p99: p99(true) }
    }
}

/// How long a hundred rounds take without an attack.
fn quiet(gateway: &Gateway) -> Duration {
    let honest = Honest::start(gateway.address);
    std::thread::park_timeout(Duration::from_millis(3_000));
    honest.finish().p99
}

/// A connection from one of many addresses: there is a cap for each.
fn connect(address: SocketAddr, at: usize) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr =
        format!("127.0.{}.{}:0", 9 + at / 200, 1 + at % 200 / 2).parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    stream
}

/// Whether the other end has closed.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut space = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut space) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
            }
        }
    }
}

/// Compares the honest clients' time with that of a quiet gateway: with `STRICT=1` it may be so
/// many times as long.
fn unharmed(
    what: &str,
    gateway: &Gateway,
    (quiet, times): (Duration, u32),
    Seen { served, burst, p99 }: Seen,
) {
    let (now, peak) = (memory(gateway, "VmRSS") >> 20, memory(gateway, "VmHWM"));
    println!(
        "{what}: {served} honest requests, all 200, p99 {p99:?} ({quiet:?} when quiet, {burst:?} \
            in the first second); \
         {now} MiB now, {} at most",
        peak >> 20
    );
    judge(&format!("{what}, p99"), p99, times * quiet + Duration::from_millis(1));
    assert!(peak < MEMORY, "{what}: {peak} bytes");
    assert_eq!(gateway.metric("scopegate_panics_total"), Some(0.0));
}

#[test]
fn slow_connections_are_cut_and_nobody_else_notices() {
    let gateway = gateway();
    let _limit = Limit::on(&gateway);
    let tls: SocketAddr =
        std::fs::read_to_string(gateway.folder.path().join("tls")).unwrap().parse().unwrap();
    let quiet = quiet(&gateway);
    let honest = Honest::start(gateway.address);
    attack_from_elsewhere();
    let big =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", 16 << 20, "x".repeat(16 << 20));
    let upload = "POST /open/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let begins: [(SocketAddr, &[u8]); 7] = [
        (gateway.address, b""),
        (gateway.address, b"GET /open/x HTTP/1.1\r\nHost: a\r\nX: "),
        (gateway.address, b"PRI * HTTP/2.0\r\n\r\nSM"),
        (gateway.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        (gateway.address, upload.as_bytes()),
        (tls, b""),
        (tls, b"\x16\x03\x01\x02\x00\x01\x00"),
    ];
    let count = many("SLOW", 280);
    let mut slow: Vec<(usize, TcpStream)> = (0..count)
        .map(|at| {
            let (address, begin) = begins[at % begins.len()];
            let mut stream = connect(address, at);
            let _ = stream.write_all(begin);
            (at % begins.len(), stream)
        })
        .collect();
    let start = Instant::now();
    // A byte now and then, from those that began something.
    while start.elapsed() < Duration::from_millis(5_500) {
        for (kind, stream) in &mut slow {
            if matches!(kind, 1 | 4) {
                let _ = stream.write_all(b"x");
            }
        }
        std::thread::park_timeout(Duration::from_millis(900));
    }
    let served = honest.finish();
    // An upload that drips is given a patience of its own before it is cut.
    wait_for("slow connections to be cut", || {
        for (kind, stream) in &mut slow {
            if *kind == 4 {
                let _ = stream.write_all(b"x");
            }
        }
        slow.retain_mut(|(_, stream)| !is_closed(stream));
        slow.is_empty().then_some(())
    });
    unharmed(&format!("{count} slow connections"), &gateway, (quiet, 2), served);

    // Readers that do not read: large answers wait in the kernel, and then they are cut.
    gateway.upstream.answer(big);
    let mut deaf: Vec<TcpStream> = (0..many("DEAF", 20))
        .map(|at| {
            let mut stream = connect(gateway.address, at);
            stream.write_all(request("GET", "/open/x", None, &[]).as_bytes()).unwrap();
            stream
        })
        .collect();
    wait_for("deaf connections to be cut", || {
        let cut = gateway.metric("scopegate_connections_cut_total{cause=\"write_timeout\"}");
        cut.filter(|cut| *cut + 0.5 > f64::from(u32::try_from(many("DEAF", 20)).unwrap()))
    });
    deaf.clear();
    assert!(memory(&gateway, "VmHWM") < MEMORY);
}

/// One frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a request, as HPACK without a table: GET, http, the path, an authority.
fn fields(path: &str) -> Vec<u8> {
    let text = |name: u8, value: &str| {
        [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    [vec![0x82, 0x86], text(0x04, path), text(0x01, "a.example")].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END: u8 = 0x1 | 0x4;

/// What an attack sends after the preface, piece by piece, again and again.
type Attack = fn(u32) -> Vec<u8>;

fn attacks() -> [(&'static str, Vec<u8>, Attack); 8] {
    let settings = frame(4, 0, 0, &[]);
    // A window of nothing for what is answered (SETTINGS_INITIAL_WINDOW_SIZE).
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    [
        ("rapid reset", settings.clone(), |id| {
            [frame(1, END, id, &fields("/open/x")), frame(3, 0, id, &8_u32.to_be_bytes())].concat()
        }),
        ("made you reset", settings.clone(), |id| {
            [frame(1, END, id, &fields("/open/x")), frame(8, 0, id, &[0, 0, 0, 0])].concat()
        }),
        (
            "continuations",
            [settings.clone(), frame(1, 0x1, 1, &fields("/open/x"))].concat(),
            |_| frame(9, 0, 1, &[0x00, 1, b'x', 1, b'y'].repeat(100)),
        ),
        ("pings", settings.clone(), |_| frame(6, 0, 0, b"pingpong").repeat(20)),
        ("settings", settings.clone(), |_| frame(4, 0, 0, &[]).repeat(20)),
        (
            "empty data",
            [
                settings.clone(),
                frame(1, 0x4, 1, &[&[0x83, 0x86], &fields("/open/x")[2..]].concat()),
            ]
            .concat(),
            |_| frame(0, 0, 1, &[]).repeat(20),
        ),
        ("header bomb behind no window", no_window.clone(), |id| {
            // One field of four kilobytes put into the table, and then named again and again.
            let value = "x".repeat(3_900);
            let large = [&[0x40, 1, b'x', 0x7f, 0xbd, 0x1d], value.as_bytes()].concat();
            frame(1, END, id, &[fields("/open/x"), large, vec![0xbe; 12]].concat())
        }),
        ("requests behind no window", no_window, |id| frame(1, END, id, &fields("/open/x"))),
    ]
}

#[test]
fn attacks_by_frames_are_cut_or_cost_little_and_nobody_else_notices() {
    let gateway = gateway();
    let _limit = Limit::on(&gateway);
    gateway
        .upstream
        .answer(format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{}", "x".repeat(20_000)));
    let quiet = quiet(&gateway);
    for (name, begin, piece) in attacks() {
        let before = memory(&gateway, "VmRSS");
        let honest = Honest::start(gateway.address);
        let connections = many("ATTACKERS", 10);
        let time = Duration::from_millis(many("ATTACK_MS", 2_000) as u64);
        let attackers: Vec<_> = (0..connections)
            .map(|at| {
                // All from one address: of many, the memory of the whole is the bound.
                let at = at % 2;
                let (mut stream, begin) = (connect(gateway.address, at), begin.clone());
                let address = gateway.address;
                std::thread::spawn(move || {
                    attack_from_elsewhere();
                    let (start, mut cut) = (Instant::now(), 0);
                    // Whoever is cut comes again.
                    loop {
                        let _ = stream.write_all(&[PREFACE, &begin].concat());
                        for id in (1..).step_by(2) {
                            if start.elapsed() > time {
                                return cut;
                            }
                            if stream.write_all(&piece(id)).is_err() {
                                break;
                            }
                            // A thousand times what an honest client sends, and not all that the
                            // machine can.
                            std::thread::park_timeout(Duration::from_millis(1));
                        }
                        cut += 1;
                        stream = connect(address, at);
                    }
                })
            })
            .collect();
        let cut: Vec<usize> =
            attackers.into_iter().map(|attacker| attacker.join().unwrap()).collect();
        let grown = memory(&gateway, "VmRSS").saturating_sub(before) >> 20;
        let served = honest.finish();
        let all = cut.iter().all(|cut| *cut > 0);
        let what = format!(
            "{name}: {connections} connections, cut {} times, +{grown} MiB",
            cut.iter().sum::<usize>()
        );
        assert!(all || grown <= 128, "{what}");
        assert!(
            !name.ends_with("behind no window")
                || connections < 20
                || cut.iter().any(|cut| *cut > 0),
            "{what}"
        );
        // The last one is none of frames: it puts a thousand requests, a hundred at once, to the
        // upstream that honest ones share.
        let times = if name == "requests behind no window" { 6 } else { 2 };
        unharmed(&what, &gateway, (quiet, times), served);
    }
    assert_eq!(gateway.get("/open/x", None).status, 200);
}

#[test]
fn without_descriptors_the_metrics_answer_and_it_recovers() {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = "edge: { header_timeout: 2s, keep_alive_timeout: 2s }\n".to_owned();
    let gateway = Gateway::start(&setup);
    // As many as it has, and a few: from outside, while it runs.
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count() + 40;
    let limit = std::process::Command::new("prlimit")
        .args(["--pid", &gateway.pid().to_string(), &format!("--nofile={open}:{open}")])
        .status();
    match limit {
        Ok(status) if status.success() => {}
        other => return println!("SKIPPED: prlimit cannot set a limit here: {other:?}"),
    }
    let held: Vec<TcpStream> = (0..120).map(|at| connect(gateway.address, at)).collect();
    gateway.wait_for_log(&["nothing accepted for a moment"]);
    let tries = || {
        gateway.metric("scopegate_connections_refused_total{cause=\"accept\"}").unwrap_or_default()
    };
    let (start, spent, tried) = (Instant::now(), cpu(&gateway), tries());
    std::thread::park_timeout(Duration::from_millis(1_000));
    let (spent, tried) = (cpu(&gateway) - spent, tries() - tried);
    let most = 5.0 * start.elapsed().as_secs_f64() + 2.0;
    assert!(tried <= most, "it rests 200 ms after each: {tried} tries in {:?}", start.elapsed());
    judge("CPU time in a second", Duration::from_millis(10 * spent), Duration::from_millis(200));
    drop(held);
    let start = Instant::now();
    wait_for("it to recover", || {
        crate::support::http::send_if_possible(
            gateway.address,
            request("GET", "/open/x", None, &[]),
        )
        .filter(|response| response.status == 200)
    });
    judge("recovered", start.elapsed(), Duration::from_secs(3));
    assert!(gateway.metric("scopegate_connections_refused_total{cause=\"accept\"}") >= Some(1.0));
}

/// CPU time that the process has spent, in hundredths of a second.
fn cpu(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
