//! F8: streams of HTTP/1 that a grammar makes and mutations spoil, through the running gateway to
//! an upstream that reads strictly. Whatever comes in: what goes on is requests that all readers
//! delimit alike, each of them answered.
//!
//! `FUZZ_SECONDS` says for how long, `SEED` where the dice begin: the same seed plays the same
//! streams.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{GUARD, Gateway, Setup, Upstream, many, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET, POST, PUT] } } }\n";
/// Short, because most streams end in the middle of something.
const EDGE: &str =
    "edge: { header_timeout: 300ms, keep_alive_timeout: 300ms, body_timeout: 500ms }\n";
/// What every request upstream is answered with.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// What only the gateway says to an upstream, in lower case and without anything but letters and
/// digits.
const IDENTITY: [&str; 6] =
    ["xauthissuer", "xauthclient", "xauthsubject", "xauthscopes", "xauthroles", "xauthassertion"];

/// One request, read as RFC 9112 has it and no more generously: what two readers could take for
/// different ones is none.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub target: String,
    /// Names in lower case; values without the blanks around them, each byte as one character.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// The values of all lines with this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// How far the bytes of a connection go.
enum Reading {
    /// The head is not there yet.
    HalfHead,
    /// The head is, the body is not.
    HalfBody(Received),
    /// One request, and how many bytes it is.
    Whole(Received, usize),
}

/// Each byte as the character of the same number, so that no byte is lost.
pub fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The bytes that [`latin`] made this text of.
pub fn unlatin(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(letter).unwrap()).collect()
}

/// A name as the laxest reader knows it: letters and digits, in lower case.
pub fn fold(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Reads the first request of what came on a connection, or says why it is none.
fn read(bytes: &[u8]) -> Result<Reading, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(Reading::HalfHead) };
    let mut received = read_head(&latin(&bytes[..end]))?;
    let rest = &bytes[end + 4..];
    let whole = match (&received.all("content-length")[..], &received.all("transfer-encoding")[..])
    {
        ([], []) => Some((Vec::new(), 0)),
        ([length], []) if is_number(length) => {
            let length: usize = length.parse().unwrap();
            rest.get(..length).map(|body| (body.to_vec(), length))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => unchunk(rest)?,
        framing => return Err(format!("the framing {framing:?}")),
    };
    if let Some((body, length)) = whole {
        received.body = body;
        return Ok(Reading::Whole(received, end + 4 + length));
    }
    received.body = rest.to_vec();
    Ok(Reading::HalfBody(received))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A head without its empty line: request line, fields, exactly one Host.
fn read_head(head: &str) -> Result<Received, String> {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return Err(format!("the request line {line:?}"));
    };
    if !is_token(method) || canonical(target.as_bytes()).as_deref() != Some(target) {
        return Err(format!("the request line {line:?}"));
    }
    let mut fields = Vec::new();
    for line in lines {
        // A CR or LF that is not of a line's end is among these.
        if line.chars().any(|letter| letter != '\t' && letter.is_ascii_control()) {
            return Err(format!("a control byte in {line:?}"));
        }
        match line.split_once(':') {
            Some((name, value)) if is_token(name) => {
                fields
                    .push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
            }
            _ => return Err(format!("the line {line:?}")),
        }
    }
    let received =
        Received { method: method.to_owned(), target: target.to_owned(), fields, body: Vec::new() };
    if received.all("host").len() == 1 {
        Ok(received)
    } else {
        Err("not exactly one Host".to_owned())
    }
}

/// What a chunked body holds and how many bytes it is on the wire; `None` while it is not whole.
/// Sizes are hex digits and nothing else, nothing stands behind the last chunk.
fn unchunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = latin(&bytes[at..at + end]);
        if line.is_empty() || line.len() > 15 || !line.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(format!("the chunk size {line:?}"));
        }
        let size = usize::from_str_radix(&line, 16).unwrap();
        at += end + 2;
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        let (data, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err("a chunk that ends without CRLF".to_owned());
        }
        body.extend_from_slice(data);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

/// What becomes of a target on its way: hex digits of escapes in upper case, escaped unreserved
/// characters but the dot decoded. `None` where it is refused. A second reading of decisions.md,
/// note 1, for an API that allows nothing more.
pub fn canonical(target: &[u8]) -> Option<String> {
    let (path, query) =
        target.split_at(target.iter().position(|byte| *byte == b'?').unwrap_or(target.len()));
    let mut text = String::new();
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        if byte != b'%' {
            if !byte.is_ascii_alphanumeric() && !b"/-._~!$&'()*+,=:@".contains(&byte) {
                return None;
            }
            text.push(char::from(byte));
            at += 1;
            continue;
        }
        let digits =
            path.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        match u8::from_str_radix(&latin(digits), 16).unwrap() {
            b'.' | b'/' | b'\\' | b'%' | b';' | 0..=0x1f | 0x7f => return None,
            escaped if escaped.is_ascii_alphanumeric() || b"-_~".contains(&escaped) => {
                text.push(char::from(escaped));
            }
            escaped => text.push_str(&format!("%{escaped:02X}")),
        }
        at += 3;
    }
    let odd_query = query.iter().any(|byte| !byte.is_ascii_graphic() || b"\"<>#".contains(byte));
    (has_plain_segments(&text) && !odd_query).then(|| text + &latin(query))
}

/// Whether a path has neither dot segments nor empty ones, whatever a server trims, normalises or
/// decodes; the last may be empty.
fn has_plain_segments(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return false };
    path.is_empty() || path.strip_suffix('/').unwrap_or(path).split('/').all(is_plain_segment)
}

fn is_plain_segment(segment: &str) -> bool {
    use unicode_normalization::UnicodeNormalization;
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
    let Ok(decoded) = decoded else { return false };
    let normal: String = decoded.nfkc().collect();
    let appeared = |c: &char| "/\\;%?#".contains(*c) && !decoded.contains(*c);
    let visible = |c: &char| {
        !c.is_whitespace()
            && !"\u{ad}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2060}\u{feff}".contains(*c)
    };
    let rest: String = normal.chars().filter(visible).collect();
    let is_dots = !rest.is_empty() && rest.chars().all(|c| c == '.');
    !segment.is_empty() && !is_dots && !normal.chars().any(|c| c.is_control() || appeared(&c))
}

/// What an upstream got.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A request.
    Whole(Received),
    /// The beginning of one, on a connection that then ended.
    Part(Received),
    /// Something that is none: why, and what was there.
    Wrong(String, Vec<u8>),
}

/// An upstream that answers what a strict reader takes for a request, and keeps all that came.
#[derive(Clone)]
pub struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections.
    open: Arc<AtomicUsize>,
}

impl Recorder {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            open: Arc::default(),
        };
        let shared = recorder.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let recorder = shared.clone();
                recorder.open.fetch_add(1, Ordering::AcqRel);
                std::thread::spawn(move || {
                    recorder.serve(stream);
                    recorder.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        recorder
    }

    /// A gateway before it.
    pub fn gateway(&self, setup: &Setup) -> Gateway {
        let mut upstream = Upstream::start();
        upstream.address = self.address;
        Gateway::start_with(setup, upstream)
    }

    /// Takes out what was seen of these.
    pub fn take(&self, which: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut seen = self.seen.lock().unwrap();
        let (taken, left): (Vec<Seen>, Vec<Seen>) = seen.drain(..).partition(which);
        *seen = left;
        taken
    }

    /// Everything, once the gateway is gone: what was begun and not ended is seen then, too.
    pub fn end(&self, gateway: &mut Gateway) -> Vec<Seen> {
        gateway.kill();
        wait_for("the connections to end", || {
            (self.open.load(Ordering::Acquire) == 0).then_some(())
        });
        self.take(|_| true)
    }

    fn keep(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let left = match read(&buffer) {
                Ok(Reading::Whole(received, length)) => {
                    buffer.drain(..length);
                    self.keep(Seen::Whole(received));
                    if stream.write_all(ANSWER).is_err() {
                        return;
                    }
                    continue;
                }
                Ok(Reading::HalfBody(received)) => Some(Seen::Part(received)),
                Ok(Reading::HalfHead) if buffer.is_empty() => None,
                Ok(Reading::HalfHead) => {
                    Some(Seen::Wrong("half a head".to_owned(), buffer.clone()))
                }
                Err(why) => return self.keep(Seen::Wrong(why, buffer)),
            };
            let mut space = [0; 16 * 1024];
            match stream.read(&mut space) {
                Ok(count) if count > 0 => buffer.extend_from_slice(&space[..count]),
                _ => {
                    if let Some(left) = left {
                        self.keep(left);
                    }
                    return;
                }
            }
        }
    }
}

/// Numbers that look random and are not (xorshift).
struct Dice(u64);

impl Dice {
    /// For one stream of one worker.
    fn of(seed: usize, worker: u8, count: u64) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for part in [seed as u64, u64::from(worker), count] {
            state = (state ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            state ^= state >> 29;
        }
        // All but zero is a state.
        Self(state | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() % most as u64).unwrap()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// One of the first, and now and then one of the second.
    fn mostly<'a>(&mut self, plain: &[&'a str], odd: &[&'a str]) -> &'a str {
        if self.one_in(12) { self.pick(odd) } else { self.pick(plain) }
    }
}

const METHODS: &[&str] = &["GET", "GET", "POST", "PUT", "HEAD"];
const ODD_METHODS: &[&str] =
    &["DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "G!T", "G@T", ""];
const TARGETS: &[&str] =
    &["/a", "/a/b?c=d", "/%61%7e", "/a%c3%a4", "/a/..b/...", "/a/?b=%2e%2e/../c", "http://h/a"];
const ODD_TARGETS: &[&str] = &[
    "/",
    "/a/../b",
    "/%2e%2e/b",
    "/a%2fb",
    "/a;b",
    "//a",
    "/a\\b",
    "/a%",
    "/a%00",
    "*",
    "http://evil/a",
    "a",
    "/a#b",
    "/a b",
    "/a?b\"c",
    "/\u{e4}",
];
const ODD_VERSIONS: &[&str] =
    &["HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", ""];
const ODD_HOSTS: &[&str] = &[
    "HOST:h:80",
    "Host: [::1]:80",
    "Host: h\r\nHost: h",
    "X: no host",
    "Host:",
    "Host: h/evil",
    "Host: u@h",
    "Host : h",
    " Host: h",
];
/// Fields that make no head odd, though some would have others believed.
const FIELDS: &[&str] = &[
    "X: y",
    "X:",
    "X: \u{ff}\u{80}",
    "Accept: */*",
    "Cookie: a=b",
    "Cookie: c=d",
    "Authorization: Bearer x",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: x-forwarded-for, via, host",
    "Connection: content-length, transfer-encoding",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "Trailer: X",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "Upgrade: websocket\r\nConnection: upgrade",
    "X-Auth-Client: admin",
    "x_auth.roles: admin",
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "Forwarded: for=6.6.6.6",
    "Via: 1.0 before",
    "Content_Length: 5",
    "Transfer_Encoding: chunked",
    "Proxy-Connection: keep-alive",
];
const ODD_FIELDS: &[&str] = &[
    "Expect: more",
    "X : y",
    " folded: y",
    "\tfolded",
    "X: a\rb",
    "X: a\nb",
    "X: \0",
    "no colon",
    ": y",
];
/// Lengths that are wrong or none.
const ODD_LENGTHS: &[&str] = &[
    "0",
    "1",
    "4",
    "5",
    "6",
    "00005",
    "+5",
    "-1",
    "0x5",
    "5, 5",
    "5 5",
    "",
    "18446744073709551621",
    "5\r\nContent-Length: 6",
];
const ODD_CODINGS: &[&str] = &[
    "xchunked",
    "gzip, chunked",
    "chunked, identity",
    "identity",
    "",
    "\u{b}chunked",
    "chunked;a",
    "\"chunked\"",
    "chunked\r\nTransfer-Encoding: chunked",
];
/// Bodies that a confused reader takes for something else, too.
const BODIES: &[&str] = &[
    "",
    "hello",
    "0\r\n\r\n",
    "\r\n\r\n",
    "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n",
    "0\r\n\r\nGET /inner HTTP/1.1\r\nHost: h\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "POST /inner HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n",
];
/// Ends of the line of a chunk's size.
const SIZE_ENDS: &[&str] = &["\r\n", "\r\n", ";a\r\n", ";a=\"b\"\r\n"];
const ODD_SIZE_ENDS: &[&str] =
    &["\n", "\r", " \r\n", ";\n\r\n", ";a\rb\r\n", ";\r\n", "x\r\n", "0\r\n", ""];
/// Ends of a chunked body.
const LAST_CHUNKS: &[&str] = &[
    "0\r\n\r\n",
    "0\r\n\r\n",
    "000\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0\r\nX-Auth-Client: admin\r\n\r\n",
];
const ODD_LAST_CHUNKS: &[&str] =
    &["0\n\n", "0\r\n", "0\r\n X\r\n\r\n", "\r\n", "-1\r\n\r\n", "fffffffffffffffff\r\n", ""];
/// What mutations put in.
const TROUBLES: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "\n\n",
    "\0",
    " ",
    "\t",
    "\u{b}",
    "\u{7f}",
    "\u{80}",
    "\u{ff}",
    ":",
    ",",
    ";",
    "%",
    "/",
    "..",
    "%0d%0a",
    "0\r\n\r\n",
    "HTTP/1.1",
    "Host: h\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
];
/// What follows most streams: it ends the connection, unless what stands before it has swallowed
/// it.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// A request as the grammar has it: mostly right, often nearly.
fn make(dice: &mut Dice) -> Vec<u8> {
    let method = dice.mostly(METHODS, ODD_METHODS);
    let target = dice.mostly(TARGETS, ODD_TARGETS);
    let version = dice.mostly(&["HTTP/1.1"], ODD_VERSIONS);
    let host = dice.mostly(&["Host: h"], ODD_HOSTS);
    let mut text = format!("{method} {target} {version}\r\n{host}\r\n");
    for _ in 0..dice.below(4) {
        text.push_str(dice.mostly(FIELDS, ODD_FIELDS));
        text.push_str("\r\n");
    }
    if dice.one_in(30) {
        text.push_str(&format!("Long: {}\r\n", "a".repeat(dice.below(40 * 1024))));
    }
    let body = dice.pick(BODIES);
    let right = body.len().to_string();
    let length = dice.mostly(&[right.as_str()], ODD_LENGTHS);
    let coding = dice.mostly(&["chunked", "Chunked"], ODD_CODINGS);
    match dice.below(12) {
        0..=3 => text.push_str("\r\n"),
        4..=7 => text.push_str(&format!("Content-Length: {length}\r\n\r\n{body}")),
        8..=10 => {
            text.push_str(&format!("Transfer-Encoding: {coding}\r\n\r\n{}", chunks(dice, body)));
        }
        _ => {
            let chunks = chunks(dice, body);
            text.push_str(&format!(
                "Content-Length: {length}\r\nTransfer-Encoding: {coding}\r\n\r\n{chunks}"
            ));
        }
    }
    unlatin(&text)
}

/// A body in chunks.
fn chunks(dice: &mut Dice, body: &str) -> String {
    let mut text = String::new();
    for _ in 0..dice.below(3) {
        if !body.is_empty() {
            text.push_str(&format!(
                "{:x}{}{body}\r\n",
                body.len(),
                dice.mostly(SIZE_ENDS, ODD_SIZE_ENDS)
            ));
        }
    }
    text + dice.mostly(LAST_CHUNKS, ODD_LAST_CHUNKS)
}

/// One mutation.
fn spoil(dice: &mut Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len());
    let end = (at + 1 + dice.below(24)).min(bytes.len());
    let any = dice.roll().to_le_bytes()[3];
    match dice.below(10) {
        0 => bytes.insert(at, any),
        1 => bytes[at] = any,
        2 => {
            bytes.drain(at..=at);
        }
        3 => {
            bytes.drain(at..end);
        }
        4 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        5 | 6 => {
            bytes.splice(at..at, unlatin(dice.pick(TROUBLES)));
        }
        7 => {
            bytes.splice(at..end, unlatin(dice.pick(TROUBLES)));
        }
        8 => spoil_lines(dice, bytes),
        _ => bytes.truncate(at),
    }
}

/// Doubles a line, leaves one out, or has two change places.
fn spoil_lines(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let mut lines: Vec<Vec<u8>> =
        bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(3) {
        0 => {
            let line = lines[other].clone();
            lines.insert(one, line);
        }
        1 => {
            lines.drain(one..=one);
        }
        _ => lines.swap(one, other),
    }
    *bytes = lines.concat();
}

/// What a client sends on one connection.
fn make_stream(dice: &mut Dice) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for _ in 0..=dice.below(3) {
        bytes.extend(make(dice));
    }
    if dice.one_in(4) {
        // Two requests, cut anywhere and joined.
        let other = make(dice);
        let (at, from) = (dice.below(bytes.len()), dice.below(other.len()));
        bytes.truncate(at);
        bytes.extend_from_slice(&other[from..]);
    }
    // Most are played as they are.
    for _ in 0..dice.below(8).saturating_sub(4) {
        spoil(dice, &mut bytes);
    }
    if !dice.one_in(8) {
        bytes.extend_from_slice(LAST);
    }
    bytes
}

/// The statuses of the final answers on a connection; `None` where something else than answers
/// came.
fn statuses(mut bytes: &[u8]) -> Option<Vec<u16>> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let end = find(bytes, b"\r\n\r\n")?;
        let head = latin(&bytes[..end]);
        let (version, rest) = head.split_once(' ')?;
        let status = rest
            .get(..3)?
            .parse::<u16>()
            .ok()
            .filter(|_| matches!(version, "HTTP/1.1" | "HTTP/1.0"))?;
        let length: Option<usize> = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
        });
        bytes = &bytes[end + 4..];
        // An answer to HEAD says the length of a body that does not come. No body here begins like
        // a head.
        if !bytes.starts_with(b"HTTP/1.") {
            bytes = &bytes[length.unwrap_or(0).min(bytes.len())..];
        }
        if status >= 200 {
            statuses.push(status);
        }
    }
    Some(statuses)
}

/// Clients at once, each with an address of its own: that is how what goes on is told apart.
const WORKERS: u8 = 16;

fn address_of(worker: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, 1 + worker)
}

/// Whether this is to be answered for by a worker: what came from it, and what nobody else can have
/// sent.
fn concerns(seen: &Seen, worker: u8) -> bool {
    match seen {
        Seen::Wrong(..) => true,
        Seen::Whole(received) | Seen::Part(received) => {
            let said = received.all("x-forwarded-for");
            (0..WORKERS)
                .all(|other| other == worker || said != [address_of(other).to_string().as_str()])
        }
    }
}

/// Sends a stream, in pieces where so asked, and gives all that is answered until the gateway ends
/// the connection.
fn exchange(
    gateway: SocketAddr,
    from: Ipv4Addr,
    stream: &[u8],
    piece: usize,
) -> Result<Vec<u8>, String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&gateway.into()).unwrap();
    let mut socket = TcpStream::from(socket);
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(GUARD)).unwrap();
    for piece in stream.chunks(piece) {
        // The gateway may answer and close before all is written; what it answered is still there
        // to be read.
        if socket.write_all(piece).is_err() {
            break;
        }
    }
    let mut answered = Vec::new();
    match socket.read_to_end(&mut answered) {
        Ok(_) => Ok(answered),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(answered),
        Err(error) => Err(format!("the connection did not end: {error}")),
    }
}

/// Plays one stream: how many requests of it were served, or what is wrong.
fn play(
    gateway: SocketAddr,
    recorder: &Recorder,
    worker: u8,
    stream: &[u8],
    piece: usize,
) -> Result<usize, String> {
    let answered = exchange(gateway, address_of(worker), stream, piece)?;
    let statuses = statuses(&answered)
        .ok_or_else(|| format!("not an answer: \"{}\"", answered.escape_ascii()))?;
    if let Some(status) =
        statuses.iter().find(|status| **status >= 500 && !matches!(status, 502..=504))
    {
        return Err(format!("a {status} for an answer"));
    }
    let mut whole = 0;
    for seen in recorder.take(|seen| concerns(seen, worker)) {
        match seen {
            Seen::Wrong(why, bytes) => {
                return Err(format!("upstream got {why}: \"{}\"", bytes.escape_ascii()));
            }
            Seen::Part(received) => check(&received, recorder, worker)?,
            Seen::Whole(received) => {
                check(&received, recorder, worker)?;
                whole += 1;
            }
        }
    }
    // A refusal is never a 200, and what an upstream got whole is answered with one.
    let served = statuses.iter().filter(|status| **status == 200).count();
    if whole == served {
        Ok(served)
    } else {
        Err(format!("{whole} requests went on, {served} were answered"))
    }
}

/// Whether a request that went on is one that the gateway has written, with what only the gateway
/// says.
fn check(received: &Received, recorder: &Recorder, worker: u8) -> Result<(), String> {
    let (from, host) = (address_of(worker).to_string(), recorder.address.to_string());
    let said = received.all("x-forwarded-for") == [from.as_str()]
        && received.all("x-forwarded-proto") == ["http"]
        && received.all("host") == [host.as_str()]
        && received.all("via").last().is_some_and(|via| via.ends_with("1.1 scopegate"));
    let spoofed = received.fields.iter().any(|(name, _)| IDENTITY.contains(&fold(name).as_str()));
    if said && !spoofed {
        Ok(())
    } else {
        Err(format!("upstream got a request that the gateway did not write: {received:?}"))
    }
}

#[test]
fn whatever_comes_in_only_whole_and_plain_requests_go_on_and_each_is_answered() {
    let (seed, seconds) = (many("SEED", 1), many("FUZZ_SECONDS", 5));
    let recorder = Recorder::start();
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = EDGE.to_owned();
    let mut gateway = recorder.gateway(&setup);
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let (streams, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (address, recorder, streams, served) = (gateway.address, &recorder, &streams, &served);
        for worker in 0..WORKERS {
            scope.spawn(move || {
                for count in 0_u64.. {
                    if Instant::now() >= until {
                        return;
                    }
                    let mut dice = Dice::of(seed, worker, count);
                    let stream = make_stream(&mut dice);
                    let piece =
                        if dice.one_in(4) { 1 + dice.below(200) } else { stream.len().max(1) };
                    match play(address, recorder, worker, &stream, piece) {
                        Ok(more) => served.fetch_add(more, Ordering::Relaxed),
                        Err(why) => panic!(
                            "SEED={seed}, stream {count} of worker {worker}, in pieces of {piece}: \
                                {why}\n\"{}\"",
                            stream.escape_ascii()
                        ),
                    };
                    streams.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(gateway.get("/a", None).status, 200, "it serves on");
    assert_eq!(gateway.metric("scopegate_panics_total"), Some(0.0));
    for seen in recorder.end(&mut gateway) {
        assert!(!matches!(seen, Seen::Wrong(..)), "SEED={seed}: {seen:?}");
    }
    let (streams, served) = (streams.into_inner(), served.into_inner());
    println!("SEED={seed}: {streams} streams, of which {served} requests were served");
    assert!(streams > 0 && served > 0, "the grammar makes nothing that is served");
}

#[test]
fn the_reader_of_the_fuzzed_streams_takes_nothing_that_readers_delimit_differently() {
    let read = |text: &str| read(&unlatin(text));
    let good = "POST /a?b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \
        chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET";
    let Ok(Reading::Whole(received, length)) = read(good) else { panic!("a plain request") };
    assert_eq!((received.body.as_slice(), length), (b"hello".as_slice(), good.len() - "GET".len()));
    assert!(matches!(read(&good[..good.len() - 6]), Ok(Reading::HalfBody(_))));
    assert!(matches!(read(&good[..40]), Ok(Reading::HalfHead)));
    for (line, rest) in [
        ("GET /a HTTP/1.0", "Host: h\r\n\r\n"),
        ("GET /a b HTTP/1.1", "Host: h\r\n\r\n"),
        ("GET  HTTP/1.1", "Host: h\r\n\r\n"),
        ("GET a HTTP/1.1", "Host: h\r\n\r\n"),
        ("G@T /a HTTP/1.1", "Host: h\r\n\r\n"),
        ("GET /a/../b HTTP/1.1", "Host: h\r\n\r\n"),
        ("GET /%61 HTTP/1.1", "Host: h\r\n\r\n"),
        ("GET /%c3 HTTP/1.1", "Host: h\r\n\r\n"),
        ("GET /a HTTP/1.1", "X: y\r\n\r\n"),
        ("GET /a HTTP/1.1", "Host: h\r\nHost: h\r\n\r\n"),
        ("GET /a HTTP/1.1", "Host: h\r\nX: a\nb\r\n\r\n"),
        ("GET /a HTTP/1.1", "Host: h\r\nX: a\rb\r\n\r\n"),
        ("GET /a HTTP/1.1", "Host: h\r\nX : y\r\n\r\n"),
        ("GET /a HTTP/1.1", "Host: h\r\n X: y\r\n\r\n"),
        ("GET /a HTTP/1.1", "Host: h\r\nX\r\n\r\n"),
        ("GET /a HTTP/1.1", "Host: h\r\nContent-Length: +5\r\n\r\nhello"),
        ("GET /a HTTP/1.1", "Host: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "GET /a HTTP/1.1",
            "Host: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("GET /a HTTP/1.1", "Host: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (
            "GET /a HTTP/1.1",
            "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "GET /a HTTP/1.1",
            "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        ),
        ("GET /a HTTP/1.1", "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n"),
    ] {
        assert!(read(&format!("{line}\r\n{rest}")).is_err(), "{line} {rest:?}");
    }
}

#[test]
fn the_answers_of_a_fuzzed_connection_are_told_apart() {
    let refusal = "HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n";
    let answers =
        format!("HTTP/1.1 100 Continue\r\n\r\n{refusal}{{}}{refusal}HTTP/1.0 200 OK\r\n\r\n");
    assert_eq!(statuses(answers.as_bytes()), Some(vec![404, 404, 200]));
    assert_eq!(statuses(b""), Some(Vec::new()));
    assert_eq!(statuses(b"nonsense\r\n\r\n"), None);
}
