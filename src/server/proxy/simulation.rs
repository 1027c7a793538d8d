//! The loop over HTTP/1 in a world of its own: byte streams in memory, a clock that is advanced
//! when nobody can go on, and seeds that say what everybody does. Clients send every method and
//! framing in pieces, read slowly, send one request after the other and go away; servers answer in
//! every framing, early, late, in pieces, not at all or with what no answer is, and close or say
//! more than they were asked; configurations change under them.
//!
//! `REQUESTS` sets how many requests there are, `SEED` where they begin: a failure names its seed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

use super::direct::Requests;
use super::driver::{Dial, Gateway};
use crate::config::{Config, Lookup, SourceFile, Sources, load};
use crate::names::Timestamp;
use crate::server::edge::Application;
use crate::server::edge::admission::Place;
use crate::server::edge::conn::Conn;
use crate::server::edge::guard::GuardIo;
use crate::server::edge::transport::Transport;
use crate::server::state::Shared;
use crate::server::state::shadow::Candidate;
use crate::server::state::snapshot::Snapshot;
use crate::server::upstream::pool::Pool;
use crate::telemetry::metrics::Scrape;

/// Requests of every test run, at least.
const REQUESTS: u64 = 100_000;
/// Connections of clients at once.
const CLIENTS: usize = 32;
/// How long a server that never answers is waited for, and longer than anybody else is silent.
const RESPONSE: Duration = Duration::from_secs(30);
/// What no simulated wait is longer than: nothing hangs.
const HANGS: Duration = Duration::from_secs(3600);

const POLICIES: &str = "
apis:
  open: { base_path: /open, upstream: api, public: true,
    resources: { '/{id}': [GET, POST, PUT, DELETE] } }
  shut: { base_path: /shut, upstream: api, resources: { '/{id}': [GET, POST, PUT, DELETE] } }
auth_scopes: { s: { grants: [{ api: shut }] } }
";

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &std::path::Path) -> Result<Vec<u8>, String> {
        Err("no files".to_owned())
    }
}

/// A configuration; another `version` has other settings, so that a reload changes what is in
/// force.
fn config(store: &std::path::Path, version: u64) -> Config {
    let file = |name: &str, text: String| SourceFile { name: name.to_owned(), text };
    let gateway = format!(
        "public_url: http://127.0.0.1:1\nlisteners: [{{ address: '127.0.0.1:1' }}]\n\
         store: {{ embedded: {{ path: '{}' }} }}\npolicies: p\nclients: c\n\
         decision_log: 'off'\n\
         upstreams: {{ api: {{ servers: ['http://127.0.0.1:2', 'http://127.0.0.1:3'], retries: 1, \
         timeouts: {{ response: 30s }}, max_in_flight: {}, ejection: {{ after: 1000 }} }} }}\n",
        store.display(),
        10_000 + version
    );
    let sources = Sources {
        gateway: Some(file("gateway.yaml", gateway)),
        policies: vec![file("p", POLICIES.to_owned())],
        clients: vec![file("c", "clients: { c: { auth_scopes: [s] } }\n".to_owned())],
        users: Vec::new(),
    };
    load(&sources, &Nothing, Timestamp(0)).unwrap()
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Nothing,
    Length,
    Chunked,
    /// To the end of the connection: answers alone.
    Close,
}

/// How a server deals with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// It answers.
    Answer,
    /// It answers before it has read the body, and reads on.
    Early,
    /// It closes the connection before anything of an answer; the second time it answers.
    CloseOnce,
    /// It always closes the connection.
    CloseAlways,
    /// It sends what is no head.
    Garbage,
    /// It cuts its answer off.
    Cut,
    /// It never answers.
    Silence,
    /// It answers, and at once says more than it was asked. (What it says once the next request is
    /// on its way is the answer to that one, to everybody.)
    More,
}

/// What a request is and becomes, by its number.
#[derive(Clone, Debug)]
struct Plan {
    method: &'static str,
    framing: Framing,
    size: usize,
    /// No token is sent where one is wanted.
    shut: bool,
    deed: Deed,
    status: u16,
    answer: Framing,
    answer_size: usize,
    interim: bool,
    /// The client goes away while it waits.
    leaves: bool,
    expects: bool,
    http_10: bool,
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn size(rng: &mut Rng) -> usize {
    match rng.u8(..20) {
        0..10 => rng.usize(..200),
        10..19 => rng.usize(..9_000),
        _ => rng.usize(..150_000),
    }
}

impl Plan {
    fn of(id: u64) -> Self {
        let mut rng = Rng::with_seed(id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let rng = &mut rng;
        let method = pick(rng, &["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE"]);
        let with_body = matches!(method, "POST" | "PUT") || rng.u8(..10) == 0;
        let framing = if with_body {
            pick(rng, &[Framing::Length, Framing::Chunked])
        } else {
            Framing::Nothing
        };
        let deed = match rng.u8(..40) {
            0 | 1 => Deed::Early,
            2 => Deed::CloseOnce,
            3 => Deed::CloseAlways,
            4 => Deed::Garbage,
            5 => Deed::Cut,
            6 => Deed::Silence,
            7 => Deed::More,
            _ => Deed::Answer,
        };
        let status = pick(rng, &[200, 200, 200, 200, 201, 204, 304, 404, 500]);
        let mut answer = pick(rng, &[Framing::Length, Framing::Chunked, Framing::Close]);
        if matches!(status, 204 | 304) {
            answer = Framing::Nothing;
        } else if deed == Deed::More && answer == Framing::Close {
            // What is more would be more of the body.
            answer = Framing::Length;
        }
        let http_10 = framing != Framing::Chunked && rng.u8(..20) == 0;
        Self {
            method,
            framing,
            size: if with_body { size(rng) } else { 0 },
            shut: rng.u8(..20) == 0,
            deed,
            status,
            answer,
            answer_size: match (answer, deed) {
                (Framing::Nothing, _) => 0,
                (_, Deed::More) => rng.usize(..200),
                _ => size(rng),
            },
            interim: rng.u8(..15) == 0,
            leaves: rng.u8(..25) == 0,
            expects: with_body && !http_10 && rng.u8(..10) == 0,
            http_10,
        }
    }

    fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }

    fn request(&self, id: u64, rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
        let path = if self.shut { "shut" } else { "open" };
        let version = if self.http_10 { "1.0" } else { "1.1" };
        let mut head = format!(
            "{} /{path}/{id} HTTP/{version}\r\nHost: a.example\r\nX-Id: {id}\r\nCookie: a=b\r\n",
            self.method
        );
        if self.expects {
            head.push_str("Expect: 100-continue\r\n");
        }
        let body = body(id, self.size);
        let framed = match self.framing {
            Framing::Nothing | Framing::Close => Vec::new(),
            Framing::Length => {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
                body
            }
            Framing::Chunked => {
                head.push_str("Transfer-Encoding: chunked\r\n");
                chunked(&body, rng, "Trailer: x\r\n")
            }
        };
        head.push_str("\r\n");
        (head.into_bytes(), framed)
    }

    fn answer(&self, id: u64, rng: &mut Rng) -> Vec<u8> {
        let mut text = String::new();
        if self.interim {
            text.push_str("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        }
        text.push_str(&format!("HTTP/1.1 {} Said\r\nX-Id: {id}\r\n", self.status));
        let body = body(!id, self.answer_size);
        let (line, framed) = match self.answer {
            Framing::Nothing => (String::new(), Vec::new()),
            Framing::Length => (format!("Content-Length: {}\r\n", body.len()), body),
            Framing::Chunked => {
                ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&body, rng, "X-T: y\r\n"))
            }
            Framing::Close => (String::new(), body),
        };
        text.push_str(&line);
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if self.method != "HEAD" {
            bytes.extend_from_slice(&framed);
        }
        bytes
    }
}

/// The body that belongs to a number.
fn body(id: u64, size: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(id);
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes);
    bytes
}

fn chunked(body: &[u8], rng: &mut Rng, trailer: &str) -> Vec<u8> {
    let (mut framed, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rng.usize(1..=rest.len()));
        framed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        framed.extend_from_slice(piece);
        framed.extend_from_slice(b"\r\n");
        rest = more;
    }
    framed.extend_from_slice(b"0\r\n");
    if rng.bool() {
        framed.extend_from_slice(trailer.as_bytes());
    }
    framed.extend_from_slice(b"\r\n");
    framed
}

/// What has come of a stream and was not taken yet.
struct Reader {
    stream: DuplexStream,
    came: Vec<u8>,
    rng: Rng,
}

/// The head of a message: its first line, its fields by name in lower case, and its number.
struct Head {
    first: String,
    fields: HashMap<String, String>,
}

impl Head {
    fn id(&self) -> Option<u64> {
        self.fields.get("x-id")?.parse().ok()
    }

    fn length(&self) -> usize {
        self.fields.get("content-length").map_or(0, |length| length.parse().unwrap())
    }

    fn is_chunked(&self) -> bool {
        self.fields.contains_key("transfer-encoding")
    }
}

impl Reader {
    fn new(stream: DuplexStream, seed: u64) -> Self {
        Self { stream, came: Vec::new(), rng: Rng::with_seed(seed) }
    }

    /// Whether more has come; a while may pass before it is looked at.
    async fn more(&mut self) -> bool {
        if self.rng.u8(..30) == 0 {
            sleep(Duration::from_millis(self.rng.u64(..3_000))).await;
        }
        let room = if self.rng.bool() { 64 * 1024 } else { self.rng.usize(1..600) };
        let mut space = vec![0; room];
        match self.stream.read(&mut space).await {
            Ok(count) if count > 0 => {
                self.came.extend_from_slice(&space[..count]);
                true
            }
            _ => false,
        }
    }

    async fn head(&mut self) -> Option<Head> {
        let end = loop {
            let end = self.came.windows(4).position(|found| found == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None if !self.more().await => return None,
                None => {}
            }
        };
        let text = String::from_utf8(self.came.drain(..end).collect()).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Some(Head { first, fields: fields.collect() })
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.came.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.came.drain(..count).collect())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.came.windows(2).position(|found| found == b"\r\n") {
                let line = self.came.drain(..end + 2).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// A body, and whether it came whole.
    async fn body(&mut self, head: &Head) -> Option<Vec<u8>> {
        if !head.is_chunked() {
            return self.exactly(head.length()).await;
        }
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Some(body);
            }
            body.extend(self.exactly(size).await?);
            assert_eq!(self.exactly(2).await?, b"\r\n");
        }
    }

    async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.came)
    }

    /// Writes in pieces, with a while between some of them; false where nobody reads any more.
    async fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let count =
                if self.rng.u8(..4) == 0 { self.rng.usize(1..=bytes.len()) } else { bytes.len() };
            let (piece, rest) = bytes.split_at(count);
            if self.stream.write_all(piece).await.is_err() {
                return false;
            }
            if self.rng.u8(..10) == 0 {
                sleep(Duration::from_millis(self.rng.u64(..2_000))).await;
            }
            bytes = rest;
        }
        true
    }
}

/// An answer that nobody has asked for.
const EVIL: &[u8] = b"HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 4\r\n\r\nEVIL";

/// What is found wrong, and what is counted.
#[derive(Default)]
struct World {
    /// How often servers have got the head of a request.
    got: Mutex<HashMap<u64, u32>>,
    faults: Mutex<Vec<String>>,
    sent: AtomicUsize,
    answered: AtomicUsize,
    dialled: AtomicUsize,
}

impl World {
    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(what());
        }
    }

    fn got(&self, id: u64) -> u32 {
        let mut got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        let count = got.entry(id).or_default();
        *count += 1;
        *count
    }
}

/// Serves one connection, as its requests say.
async fn serve(stream: DuplexStream, seed: u64, world: Arc<World>) {
    let mut reader = Reader::new(stream, seed);
    while let Some(head) = reader.head().await {
        let Some(id) = head.id() else {
            return world.check(false, || format!("a request without its number: {}", head.first));
        };
        let plan = Plan::of(id);
        let times = world.got(id);
        let most = if plan.is_idempotent() { 8 } else { 1 };
        world.check(times <= most, || format!("{id}: sent {times} times: {plan:?}"));
        world.check(!plan.shut, || format!("{id}: forwarded without a token"));
        let line = format!("{} /open/{id} HTTP/1.1", plan.method);
        world.check(head.first == line, || format!("{id}: {} is not {line}", head.first));
        let deed = if plan.deed == Deed::CloseOnce && times > 1 { Deed::Answer } else { plan.deed };
        let early = deed == Deed::Early;
        if early && !reader.write(&plan.answer(id, &mut Rng::with_seed(id))).await {
            return;
        }
        if plan.expects && !early && !reader.write(b"HTTP/1.1 100 Continue\r\n\r\n").await {
            return;
        }
        let Some(body) = reader.body(&head).await else { return };
        world.check(body == self::body(id, plan.size), || {
            format!("{id}: another body, {} bytes: {plan:?}", body.len())
        });
        match deed {
            Deed::Early => {}
            Deed::CloseOnce | Deed::CloseAlways => return,
            Deed::Silence => return sleep(RESPONSE * 3).await,
            Deed::Garbage => {
                reader.write(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n").await;
                return;
            }
            Deed::Cut => {
                let answer = plan.answer(id, &mut Rng::with_seed(id));
                let cut = reader.rng.usize(..answer.len());
                reader.write(&answer[..cut]).await;
                return;
            }
            Deed::Answer | Deed::More => {
                if reader.rng.u8(..10) == 0 {
                    sleep(Duration::from_millis(reader.rng.u64(..20_000))).await;
                }
                let mut answer = plan.answer(id, &mut Rng::with_seed(id));
                let written = if deed == Deed::More {
                    // As if a next request had been answered.
                    answer.extend_from_slice(EVIL);
                    reader.stream.write_all(&answer).await.is_ok()
                } else {
                    reader.write(&answer).await
                };
                if !written {
                    return;
                }
            }
        }
        if plan.answer == Framing::Close && plan.method != "HEAD" || reader.rng.u8(..40) == 0 {
            return;
        }
    }
}

/// Sends requests on one connection, and looks at the answers.
async fn ask(stream: DuplexStream, ids: std::ops::Range<u64>, seed: u64, world: Arc<World>) {
    let mut reader = Reader::new(stream, seed);
    let mut ids: Vec<u64> = ids.collect();
    ids.reverse();
    while let Some(id) = ids.pop() {
        let plan = Plan::of(id);
        world.sent.fetch_add(1, Ordering::Relaxed);
        let (head, body) = plan.request(id, &mut Rng::with_seed(id));
        if !reader.write(&head).await {
            return;
        }
        if plan.expects {
            // Without a word of the server the body is sent all the same, after a while.
            let _ = timeout(Duration::from_secs(1), async {
                while reader.came.is_empty() && reader.more().await {}
            })
            .await;
        }
        let cut = if plan.leaves { reader.rng.usize(..=body.len()) } else { body.len() };
        if !reader.write(&body[..cut]).await || plan.leaves {
            return;
        }
        let Some(answer) = answer(&mut reader).await else { return };
        let closes = answer.fields.get("connection").is_some_and(|value| value == "close");
        let status: u16 = answer.first[9..12].parse().unwrap();
        world.answered.fetch_add(1, Ordering::Relaxed);
        let who = || format!("{id}: {} {:?}: {plan:?}", answer.first, answer.fields);
        world.check(answer.fields.contains_key("x-decision-id"), who);
        if answer.id().is_some() {
            world.check(answer.id() == Some(id) && status == plan.status && !plan.shut, who);
        } else {
            let expected: &[u16] = match (plan.shut, plan.deed) {
                (true, _) => &[401],
                // Also a body that is still on its way when the server closes.
                (
                    _,
                    Deed::CloseAlways | Deed::CloseOnce | Deed::Garbage | Deed::Cut | Deed::Early,
                ) => &[502],
                (_, Deed::Silence) => &[504],
                // The server has closed a kept connection just then, and a second request could be
                // one too many.
                (_, Deed::Answer | Deed::More) if !plan.is_idempotent() => &[502],
                (_, Deed::Answer | Deed::More) => &[],
            };
            world.check(expected.contains(&status), who);
        }
        let no_body = plan.method == "HEAD" || matches!(status, 204 | 304);
        let framed = answer.is_chunked() || answer.fields.contains_key("content-length");
        let body = if no_body {
            Some(Vec::new())
        } else if framed {
            reader.body(&answer).await
        } else {
            world.check(closes, || format!("{id}: a body without an end: {plan:?}"));
            Some(reader.rest().await)
        };
        let Some(body) = body else {
            let may = matches!(plan.deed, Deed::Cut | Deed::Early);
            return world.check(may, || {
                format!("{id}: a cut answer: {} {:?} {plan:?}", answer.first, answer.fields)
            });
        };
        if answer.id().is_some() && !no_body {
            let whole = self::body(!id, plan.answer_size);
            // To clients of HTTP/1.0 a body that is cut looks whole.
            let may = plan.deed == Deed::Cut && (plan.answer == Framing::Close || plan.http_10);
            world.check(body == whole || (may && whole.starts_with(&body)), || {
                format!("{id}: {} bytes of another answer: {plan:?}", body.len())
            });
        }
        if closes {
            return;
        }
    }
}

/// The head of the next final answer.
async fn answer(reader: &mut Reader) -> Option<Head> {
    loop {
        let head = reader.head().await?;
        if !head.first.starts_with("HTTP/1.1 1") {
            return Some(head);
        }
    }
}

/// A world with at most so many requests, of which some are never sent; gives how many were.
async fn run(requests: u64, seed: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The store waits for its disk, which no task may.
    let (first, opened) = (config(&store, 0), std::thread::spawn);
    let shared = opened(|| Shared::new(first, Candidate::default(), None)).join().unwrap();
    let shared = Arc::new(shared.unwrap());
    let world = Arc::new(World::default());
    let servers = world.clone();
    let dial = Dial::Simulated(Arc::new(move || {
        let seed = seed ^ servers.dialled.fetch_add(1, Ordering::Relaxed) as u64;
        // Large enough for a small answer with what is more.
        let (ours, theirs) = duplex(Rng::with_seed(seed).usize(2_000..32_000));
        tokio::spawn(serve(theirs, seed, servers.clone()));
        Box::new(ours)
    }));
    let pool = Arc::new(Pool::new(1, 64));
    let gateway = Gateway::new(shared.clone(), dial, pool.clone());
    let conf = Arc::new(pingora::server::configuration::ServerConf::default());
    let library = Arc::new(pingora::proxy::http_proxy(&conf, gateway.clone()));
    let requests_of = Arc::new(Requests::new(gateway, library, false));
    let mut rng = Rng::with_seed(seed);
    let (mut next, mut running) = (seed, tokio::task::JoinSet::new());
    while next < seed + requests || !running.is_empty() {
        while next < seed + requests && running.len() < CLIENTS {
            let ids = next..next + rng.u64(1..8);
            next = ids.end;
            // A socket takes at least what the transport writes at once.
            let (ours, theirs) = duplex(rng.usize(2_000..32_000));
            let mut place = Place::take(&shared.edge.connections).unwrap();
            let peer = std::net::IpAddr::from([127, 0, 0, 1]);
            place.of(peer).unwrap();
            let conn = Arc::new(Conn::new(place, Some(peer), None, false));
            let deadline = Instant::now() + Duration::from_secs(60);
            let transport = Transport::memory(ours);
            let edge = shared.edge.clone();
            let io = GuardIo::new(transport, conn.clone(), edge, Vec::new(), deadline).unwrap();
            let (serving, world) = (requests_of.clone(), world.clone());
            let asking = ask(theirs, ids.clone(), rng.u64(..), world.clone());
            running.spawn(async move {
                let both = async { tokio::join!(serving.serve(io, conn, deadline), asking) };
                let ended = timeout(HANGS, both).await;
                world.check(ended.is_ok(), || format!("{ids:?} hang"));
            });
        }
        running.join_next().await.unwrap().unwrap();
        if rng.u16(..500) == 0 {
            let before = shared.snapshot();
            let after = Snapshot::new(config(&store, rng.u64(..9)), Some(&before), &shared.metrics);
            shared.put_in_force(Arc::new(after.unwrap()));
        }
    }
    // What is still read out, or silent.
    sleep(RESPONSE * 4).await;
    let faults = std::mem::take(&mut *world.faults.lock().unwrap());
    assert!(
        faults.is_empty(),
        "SEED={seed}: {} faults: {:#?}",
        faults.len(),
        &faults[..faults.len().min(5)]
    );
    let begun = shared.process.decision_ids.begun() - 1;
    let text = shared.metrics.render(&Scrape::default()).unwrap();
    let text = String::from_utf8(text).unwrap();
    let counts =
        text.lines().filter(|line| line.starts_with("scopegate_request_duration_seconds_count"));
    let recorded: u64 =
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(recorded, begun, "SEED={seed}: every exchange is recorded once");
    assert_eq!(shared.process.in_flight.load(Ordering::Acquire), 0, "SEED={seed}");
    assert_eq!(shared.edge.connections.open(), 0, "SEED={seed}");
    for servers in shared.snapshot().all_servers() {
        assert_eq!(servers.under_way(), 0, "SEED={seed}: a place is not given back");
    }
    drop(pool);
    let (sent, answered) =
        (world.sent.load(Ordering::Relaxed) as u64, world.answered.load(Ordering::Relaxed) as u64);
    assert!(begun <= sent && answered * 10 > sent * 7, "{begun} {answered} {sent}");
    sent
}

#[expect(clippy::disallowed_methods, reason = "it is about the test, not about the gateway")]
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(start_paused = true)]
async fn every_answer_belongs_to_its_request_and_nothing_is_lost() {
    let (mut left, mut seed) = (number("REQUESTS", REQUESTS), number("SEED", 1));
    // Worlds of their own, so that a failure needs few requests to come again.
    while left > 0 {
        left = left.saturating_sub(run(20_000, seed).await);
        seed += 1_000_000;
    }
}
