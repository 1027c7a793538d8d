//! Framing, paths and headers that two readers understand differently, in many
//! spellings, over raw sockets. Behind each request with odd framing stands one for `/smuggled`,
//! where a reader goes on that is wrong about it.

use std::collections::{BTreeMap, BTreeSet};

use super::fuzzed::{Received, Recorder, Seen, canonical, fold, latin, unlatin};
use crate::support::http::{Connection, request, send};
use crate::support::{Gateway, Setup};

const FRAMING_POLICIES: &str = "apis: { open: { base_path: /, upstream: api, public: true, \
    resources: { \"/{*rest}\": [GET, POST, PUT] } } }\n";

/// The tables of cases: texts in which a character is a byte.
#[derive(serde::Deserialize)]
struct Tables {
    bad_lengths: Table<String>,
    bad_codings: Table<String>,
    good_bodies: Table<GoodBody>,
    bad_chunks: Table<String>,
    bad_lines: Table<String>,
    lines: Table<Judged>,
    bad_fields: Table<String>,
    good_fields: Table<String>,
    whole: Table<Judged>,
    dots: Table<String>,
    slashes: Table<String>,
    starts: Table<String>,
    names: Table<String>,
    ends: Table<String>,
    queries: Table<String>,
}

/// One table. What it is about is in the file.
#[derive(serde::Deserialize)]
struct Table<T> {
    cases: Vec<T>,
}

/// Framing that there is only one way to read.
#[derive(serde::Deserialize)]
struct GoodBody {
    fields: String,
    sent: String,
    body: String,
}

/// A request, or its line, with what must come of it.
#[derive(serde::Deserialize)]
struct Judged {
    request: String,
    must: Must,
}

fn tables() -> Tables {
    serde_json::from_str(include_str!("hostile.json")).unwrap()
}

/// What must come of a request.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Must {
    /// Refused as no HTTP, or as too much of it: this status, the end of the connection, nothing
    /// upstream.
    Refuse(u16),
    /// Refused by the rules: HTTP all the same, and what stands behind it is a request of its own.
    Judge(u16),
    /// Served with this method and body; what stands behind it is a request of its own.
    Serve(String, String),
    /// Served like that, and the connection ends.
    Last(String, String),
    /// Its body has no end that all readers agree on: no answer but a refusal, and upstream at most
    /// its beginning.
    Break,
}

use Must::{Break, Judge, Last, Refuse, Serve};

/// What stands behind the case with this number.
fn behind(number: usize) -> String {
    format!("GET /smuggled-{number:03} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Puts the number into `/case`, and in the place of `<behind>`, `<length>` and `<size>` (in hex)
/// what stands behind.
fn fill(text: &str, number: usize) -> String {
    let behind = behind(number);
    text.replace("/case", &format!("/case-{number:03}"))
        .replace("<length>", &behind.len().to_string())
        .replace("<size>", &format!("{:x}", behind.len()))
        .replace("<behind>", &behind)
}

/// Each takes its number as it comes. A character of the text is a byte.
#[derive(Default)]
struct Cases(Vec<(String, Must)>);

impl Cases {
    fn add(&mut self, text: &str, must: Must) {
        self.0.push((fill(text, self.0.len()), must));
    }
}

fn framing_cases() -> Cases {
    let (tables, mut cases) = (tables(), Cases::default());
    let serve = |method: &str, body: &str| Serve(method.to_owned(), body.to_owned());
    for fields in tables.bad_lengths.cases.iter().chain(&tables.bad_codings.cases) {
        // As those would have it that read no body, five bytes, or chunks.
        for body in ["", "hello", "0\r\n\r\n"] {
            cases.add(
                &format!("POST /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"),
                Refuse(400),
            );
        }
    }
    for GoodBody { fields, sent, body } in &tables.good_bodies.cases {
        cases.add(
            &format!("POST /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{sent}"),
            serve("POST", body),
        );
    }
    let chunked = "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    cases.add(&format!("POST /case HTTP/1.0\r\n{chunked}0\r\n\r\n"), Refuse(400));
    cases.add(
        &format!("POST /case HTTP/1.0\r\nConnection: keep-alive\r\n{chunked}0\r\n\r\n"),
        Refuse(400),
    );
    for chunks in &tables.bad_chunks.cases {
        cases.add(&format!("POST /case HTTP/1.1\r\n{chunked}{chunks}"), Break);
    }
    let long = "a".repeat(17 * 1024);
    cases.add(&format!("POST /case HTTP/1.1\r\n{chunked}5;{long}\r\nhello\r\n0\r\n\r\n"), Break);
    cases.add(&format!("POST /case HTTP/1.1\r\n{chunked}0\r\nX: {long}\r\n\r\n"), Break);
    for line in &tables.bad_lines.cases {
        cases.add(&format!("{line}\r\nHost: a\r\n\r\n"), Refuse(400));
    }
    for Judged { request: line, must } in &tables.lines.cases {
        cases.add(&format!("{line}\r\nHost: a\r\n\r\n"), must.clone());
    }
    for fields in &tables.bad_fields.cases {
        cases.add(&format!("GET /case HTTP/1.1\r\n{fields}\r\n"), Refuse(400));
    }
    for fields in &tables.good_fields.cases {
        cases.add(&format!("GET /case HTTP/1.1\r\n{fields}\r\n"), serve("GET", ""));
    }
    for Judged { request, must } in tables.whole.cases {
        cases.add(&request, must);
    }
    let get = |fields: &str| format!("GET /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    for (bytes, must) in [(31, serve("GET", "")), (33, Refuse(431)), (64, Refuse(431))] {
        let long = "a".repeat(bytes * 1024);
        cases.add(&get(&format!("X: {long}\r\n")), must.clone());
        cases.add(&get(&format!("X{long}: y\r\n")), must);
    }
    // Host is one of a hundred.
    for (count, must) in [(199, serve("GET", "")), (200, Refuse(431)), (400, Refuse(431))] {
        cases.add(&get(&"X: y\r\n".repeat(count)), must);
    }
    // The number makes the path ten characters, with the question mark.
    for (query, must) in
        [(8192 - 10, serve("GET", "")), (8193 - 10, Refuse(414)), (30_000, Refuse(414))]
    {
        cases.add(&format!("GET /case?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(query)), must);
    }
    cases
        .add(&format!("GET /case HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(253)), serve("GET", ""));
    cases.add(&format!("GET /case HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(254)), Refuse(400));
    cases
}

/// Sends a case with what stands behind it, and looks at what is answered.
fn play(gateway: &Gateway, number: usize, text: &str, must: &Must) {
    let mut connection = Connection::open(gateway.address);
    connection.write(&unlatin(&format!("{text}{}", behind(number))));
    let (statuses, ends) = match must {
        Refuse(status) => (vec![*status], true),
        Judge(status) => (vec![*status, 200], false),
        Serve(..) => (vec![200, 200], false),
        Last(..) => (vec![200], true),
        Break => (Vec::new(), true),
    };
    for status in statuses {
        let answer =
            connection.read(false).unwrap_or_else(|| panic!("no answer {status} to {text:?}"));
        assert_eq!(answer.status, status, "{text:?}: {answer:?}");
        assert!(status < 400 || answer.json()["decision_id"].is_string(), "{text:?}: {answer:?}");
    }
    if ends {
        let more = connection
            .read(false)
            .filter(|answer| !(matches!(must, Break) && answer.status == 400));
        assert!(more.is_none(), "{text:?}: {more:?}");
    }
}

/// Method, path and body of what a case is upstream.
fn expected_upstream(number: usize, must: &Must) -> Vec<(String, String, String)> {
    let own = |method: &str, body: &str| {
        (method.to_owned(), format!("/case-{number:03}"), fill(body, number))
    };
    let next = ("GET".to_owned(), format!("/smuggled-{number:03}"), String::new());
    match must {
        Refuse(_) | Break => Vec::new(),
        Judge(_) => vec![next],
        Serve(method, body) => vec![own(method, body), next],
        Last(method, body) => vec![own(method, body)],
    }
}

/// The path without query, and the number in it.
fn numbered(received: &Received) -> (String, usize) {
    let path = received.target.split('?').next().unwrap();
    let number = path.strip_prefix("/case-").or_else(|| path.strip_prefix("/smuggled-"));
    let number = number.unwrap_or_else(|| panic!("nobody asked for this: {received:?}"));
    (path.to_owned(), number.parse().unwrap())
}

#[test]
fn whatever_frames_a_request_oddly_is_refused_or_ends_where_every_reader_ends_it() {
    let recorder = Recorder::start();
    let mut gateway = recorder.gateway(&Setup::new(FRAMING_POLICIES, "clients: {}\n"));
    let cases = framing_cases().0;
    for (number, (text, must)) in cases.iter().enumerate() {
        play(&gateway, number, text, must);
    }
    assert_eq!(gateway.metric("scopegate_panics_total"), Some(0.0));
    let mut upstream: BTreeMap<usize, Vec<(String, String, String)>> = BTreeMap::new();
    for seen in recorder.end(&mut gateway) {
        match seen {
            Seen::Whole(received) => {
                let (path, number) = numbered(&received);
                upstream.entry(number).or_default().push((
                    received.method,
                    path,
                    latin(&received.body),
                ));
            }
            Seen::Part(received) => {
                let (path, number) = numbered(&received);
                let (text, must) = &cases[number];
                assert!(
                    matches!(must, Break) && path.starts_with("/case-"),
                    "{text:?}: {received:?}"
                );
                assert!(!latin(&received.body).contains("smuggled"), "{text:?}: {received:?}");
            }
            Seen::Wrong(why, bytes) => panic!("{why}: \"{}\"", bytes.escape_ascii()),
        }
    }
    for (number, (text, must)) in cases.iter().enumerate() {
        let got = upstream.remove(&number).unwrap_or_default();
        assert_eq!(got, expected_upstream(number, must), "{text:?}");
    }
    let refused = cases.iter().filter(|(_, must)| matches!(must, Refuse(_) | Break)).count();
    println!("{} cases of framing, {refused} of them refused", cases.len());
    // Three digits number them.
    assert!((150..1_000).contains(&cases.len()) && refused >= 150, "{}", cases.len());
}

const PATH_POLICIES: &str = "apis:
  files:
    base_path: /
    upstream: api
    resources:
      \"/public/{*rest}\": { methods: [GET], public: true }
      \"/private/{*rest}\": [GET]
";

/// Targets in origin form, no two the same.
fn targets() -> BTreeSet<String> {
    let tables = tables();
    let mut targets: BTreeSet<String> = tables.queries.cases.iter().cloned().collect();
    for dots in &tables.dots.cases {
        for slash in &tables.slashes.cases {
            targets.extend([
                format!("/{dots}{slash}private/x"),
                format!("/public{slash}{dots}{slash}private/x"),
                format!("/public/a{slash}{dots}{slash}{dots}{slash}private/x"),
                format!("/public/x{slash}{dots}"),
                format!("/private{slash}{dots}{slash}public/x"),
            ]);
        }
    }
    for start in &tables.starts.cases {
        for name in &tables.names.cases {
            targets.extend(tables.ends.cases.iter().map(|end| format!("{start}{name}{end}")));
        }
    }
    for byte in 0..=u8::MAX {
        let raw = char::from(byte);
        targets.extend([
            format!("/{raw}private/x"),
            format!("/public/{raw}private/x"),
            format!("/public/x{raw}"),
            format!("/public/%{byte:02x}private/x"),
            format!("/public/..%{byte:02X}private/x"),
            format!("/private%{byte:02x}/x"),
        ]);
    }
    targets
}

/// What the rules say of a target that keeps this form; without a token.
fn status_of(canonical: Option<&str>) -> u16 {
    let Some(target) = canonical else { return 400 };
    let path = target.split('?').next().unwrap();
    let below = |start: &str| path.strip_prefix(start).is_some_and(|rest| !rest.is_empty());
    if below("/public/") {
        200
    } else if below("/private/") {
        401
    } else {
        404
    }
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let digits = path.get(at + 1..at + 3).filter(|_| byte == b'%').map(latin);
        if let Some(escaped) = digits.and_then(|digits| u8::from_str_radix(&digits, 16).ok()) {
            bytes.push(escaped);
            at += 3;
        } else {
            bytes.push(byte);
            at += 1;
        }
    }
    bytes
}

/// The first segment of a path as lax servers understand it: decoded never, once or twice, read as
/// Latin-1 or as UTF-8, overlong forms taken for what they stand for, what is no UTF-8 left out,
/// normalised, trimmed, backslashes taken for slashes, parameters cut off, empty segments left out,
/// dot segments resolved.
fn lax_readings(path: &str) -> Vec<String> {
    use unicode_normalization::UnicodeNormalization;
    let mut bytes = path.as_bytes().to_vec();
    let mut readings = Vec::new();
    for _ in 0..3 {
        let utf8 = String::from_utf8_lossy(&bytes).replace('\u{fffd}', "");
        let overlong = latin(&bytes)
            .replace("\u{c0}\u{ae}", ".")
            .replace("\u{c0}\u{af}", "/")
            .replace("\u{e0}\u{80}\u{ae}", ".");
        let normal: String = utf8.nfkc().collect();
        let visible = |c: &char| !"\u{ad}\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}".contains(*c);
        let trimmed = normal.chars().filter(visible).collect::<String>();
        let trimmed: Vec<&str> = trimmed.split('/').map(str::trim).collect();
        let texts = [latin(&bytes), overlong, normal.clone(), trimmed.join("/"), utf8];
        readings.extend(texts.iter().map(|text| first_segment(&text.replace('\\', "/"))));
        bytes = decoded(&bytes);
    }
    readings
}

/// The first segment once dot segments are resolved.
fn first_segment(text: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in
        text.split('/').map(|segment| segment.split([';', '\0']).next().unwrap_or_default())
    {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    segments.first().map(|segment| segment.to_ascii_lowercase()).unwrap_or_default()
}

fn may_be_private(path: &str) -> bool {
    lax_readings(path).iter().any(|first| first == "private")
}

#[test]
fn no_spelling_of_a_path_reaches_what_it_means_to_a_lax_server_past_the_rule_for_that() {
    // The check can fail: these would be seen.
    for lax in [
        "/public/../private/x",
        "/public/%2e%2e/private/x",
        "/public/%252e%252e/private/x",
        "/public\\..;a\\private",
        "/public/%c0%ae%c0%ae/private/x",
        "/public/..%20/private/x",
        "/public/%ef%bc%8e%ef%bc%8e/private/x",
        "/public/%e2%80%a5/private/x",
        "/public/x%ef%bc%8f..%ef%bc%8f..%ef%bc%8fprivate/x",
        "/public/.%e2%80%8b./private/x",
        "/public/..%ff/private/x",
    ] {
        assert!(may_be_private(lax), "{lax}");
    }
    let recorder = Recorder::start();
    let mut gateway = recorder.gateway(&Setup::new(PATH_POLICIES, "clients: {}\n"));
    // In absolute form, too, a part of them.
    let mut variants: Vec<(String, String)> =
        targets().into_iter().map(|target| (target.clone(), target)).collect();
    let absolute: Vec<_> = variants.iter().step_by(9).map(|(_, target)| target.clone()).collect();
    variants
        .extend(absolute.into_iter().map(|target| (format!("http://127.0.0.1{target}"), target)));
    let mut expected = BTreeMap::new();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for (number, (sent, target)) in variants.iter().enumerate() {
        let canonical = canonical(&unlatin(target));
        let status = status_of(canonical.as_deref());
        let bytes = format!(
            "GET {sent} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Case: {number}\r\nConnection: \
                close\r\n\r\n"
        );
        let answer = send(gateway.address, unlatin(&bytes));
        assert_eq!(answer.status, status, "{sent:?}: {answer:?}");
        *statuses.entry(status).or_default() += 1;
        if let Some(canonical) = canonical.filter(|_| status == 200) {
            expected.insert(number.to_string(), canonical);
        }
    }
    for seen in recorder.end(&mut gateway) {
        let Seen::Whole(received) = &seen else { panic!("{seen:?}") };
        let path = received.target.split('?').next().unwrap();
        assert!(!may_be_private(path), "without a token: {received:?}");
        // What goes on is what was sent, but for escapes of unreserved characters and the case of
        // hex digits.
        let number = received.all("x-case").concat();
        assert_eq!(expected.remove(&number), Some(received.target.clone()), "{received:?}");
    }
    assert_eq!(expected, BTreeMap::new(), "what was served did not arrive");
    println!("{} paths: {statuses:?}", variants.len());
    assert!(variants.len() >= 500);
    assert!(
        [200_u16, 400, 401, 404]
            .iter()
            .all(|status| statuses.get(status).is_some_and(|count| *count >= 10))
    );
}

const SPOOF_POLICIES: &str = "apis:
  open: { base_path: /open, upstream: api, public: true, resources: { \"/{*rest}\": [GET, POST] } }
  api: { base_path: /api, upstream: api, resources: { \"/{*rest}\": [GET, POST] } }
auth_scopes: { read: { grants: [{ api: api }] } }
";
const SPOOF_CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read] } }\n";

/// Headers that an upstream believes because the gateway says them or nobody does.
const MANAGED: &[&str] = &[
    "x-auth-issuer",
    "x-auth-client",
    "x-auth-subject",
    "x-auth-scopes",
    "x-auth-roles",
    "x-auth-assertion",
    "x-decision-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
    "x-forwarded-user",
    "x-forwarded-client-cert",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-remote-user",
    "remote-user",
    "x-client-cert",
    "x-client-cert-chain",
    "x-client-cert-subject",
    "x-arr-clientcert",
    "client-cert",
    "client-cert-chain",
    "x-ssl-cert",
    "x-ssl-client-verify",
    "x-ssl-client-s-dn",
    "ssl-client-cert",
    "ssl-client-verify",
    "ssl-client-s-dn",
    "x-original-uri",
    "x-original-method",
    "x-envoy-original-path",
    "x-envoy-external-address",
    "proxy",
];
/// Headers by which some servers take a request for another one.
const MEANING: &[&str] = &[
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];
/// Families of them, folded.
const FAMILIES: &[&str] =
    &["xforwarded", "xclientcert", "xssl", "sslclient", "xoriginal", "xrewrite", "xenvoy"];

fn is_managed(name: &str) -> bool {
    let folded = fold(name);
    MANAGED.iter().chain(MEANING).any(|managed| fold(managed) == folded)
        || FAMILIES.iter().any(|family| folded.starts_with(family))
}

/// Spellings of a name that are one to a reader somewhere.
fn aliases(name: &str) -> BTreeSet<String> {
    let title: Vec<String> =
        name.split('-').map(|part| part[..1].to_ascii_uppercase() + &part[1..]).collect();
    let (title, upper, snake) =
        (title.join("-"), name.to_ascii_uppercase(), name.replace('-', "_"));
    let mixed = name
        .char_indices()
        .map(|(at, letter)| if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter });
    BTreeSet::from([
        name.to_owned(),
        mixed.collect(),
        snake.to_ascii_uppercase(),
        title.replace('-', "_"),
        title.replacen('-', "_", 1),
        name.replace('-', "."),
        upper.replace('-', "."),
        name.replacen('-', "_", 1).replace('-', "."),
        name.replace('-', "--"),
        name.replace('-', "__"),
        name.replace('-', "-_"),
        name.replace('-', "._"),
        name.replace('-', ""),
        title.replace('-', ""),
        format!("-{name}"),
        format!("_{name}"),
        format!(".{name}"),
        format!("_{snake}"),
        format!("--{name}"),
        format!("{name}-"),
        format!("{name}_"),
        format!("{name}."),
        format!("{snake}__"),
        format!("_{title}_"),
        title,
        upper,
        snake,
    ])
}

/// A gateway with a public route and one that needs a token. Its client has no role, no request a
/// certificate.
struct Bench {
    recorder: Recorder,
    gateway: Gateway,
    token: String,
}

impl Bench {
    fn start() -> Self {
        let recorder = Recorder::start();
        let gateway = recorder.gateway(&Setup::new(SPOOF_POLICIES, SPOOF_CLIENTS));
        let token = gateway.token("app");
        Self { recorder, gateway, token }
    }

    /// Routes, each with the token that it needs.
    fn routes(&self) -> [(&'static str, Option<&str>); 2] {
        [("/open/x", None), ("/api/x", Some(self.token.as_str()))]
    }

    /// Sends a request that is served; what an upstream must believe of it is what the gateway says
    /// and nothing else.
    fn sees_through(&self, text: &str, with_token: bool) {
        assert_eq!(self.gateway.send(text).status, 200, "{text}");
        let seen = self.recorder.take(|_| true);
        let [Seen::Whole(received)] = &seen[..] else { panic!("{seen:?}") };
        let spoofed: Vec<_> =
            received.fields.iter().filter(|(_, value)| value == "admin").collect();
        assert!(spoofed.is_empty(), "{spoofed:?} of\n{text}");
        let mut genuine =
            vec!["xforwardedfor: 127.0.0.1", "xforwardedhost: 127.0.0.1", "xforwardedproto: http"];
        if with_token {
            // Without a role there is no header for roles.
            genuine.extend([
                "xauthclient: app",
                "xauthissuer: self",
                "xauthscopes: read",
                "xauthsubject: app",
            ]);
        }
        genuine.sort_unstable();
        let managed = received.fields.iter().filter(|(name, _)| is_managed(name));
        let mut managed: Vec<String> =
            managed.map(|(name, value)| format!("{}: {value}", fold(name))).collect();
        managed.sort_unstable();
        assert_eq!(managed, genuine, "{text}");
    }
}

#[test]
fn an_upstream_hears_who_calls_from_the_gateway_alone_however_the_headers_are_spelled() {
    let bench = Bench::start();
    let mut spoofs = 0;
    for name in MANAGED {
        let aliases = aliases(name);
        let list = aliases.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        for (path, token) in bench.routes() {
            let mut fields: Vec<(&str, &str)> =
                aliases.iter().map(|alias| (alias.as_str(), "admin")).collect();
            bench.sees_through(&request("GET", path, token, &fields), token.is_some());
            // What a client names as being for this hop takes nothing away that the gateway says.
            fields.push(("Connection", &list));
            bench.sees_through(&request("GET", path, token, &fields), token.is_some());
            bench.sees_through(
                &request("GET", path, token, &[("Connection", &list)]),
                token.is_some(),
            );
            spoofs += 2 * aliases.len();
        }
    }
    println!("{spoofs} headers that only the gateway may say");
    assert!(spoofs >= 200, "{spoofs}");
}

#[test]
fn what_would_make_it_another_request_is_refused_however_it_is_spelled() {
    let bench = Bench::start();
    let paths = bench.routes().map(|(path, _)| path).into_iter().chain(["/oauth2/token"]);
    for path in paths {
        for name in MEANING {
            let marks = "!#$%&'*+^`|~".chars().map(|mark| name.replace('-', &mark.to_string()));
            for alias in aliases(name).into_iter().chain(marks) {
                for (method, value) in [("GET", "/admin"), ("POST", "DELETE"), ("PUT", "")] {
                    for list in [None, Some(("Connection", alias.as_str()))] {
                        let mut fields = vec![(alias.as_str(), value)];
                        fields.extend(list);
                        let response = bench.gateway.send(request(method, path, None, &fields));
                        assert_eq!(response.verdict(), "request.malformed", "{method} {fields:?}");
                    }
                }
            }
        }
    }
    // Nothing of it arrived: what does is the only request.
    bench.sees_through(&request("GET", "/open/x", None, &[]), false);
}

#[test]
fn trailers_say_nothing_that_only_the_gateway_may_say() {
    let bench = Bench::start();
    for name in MANAGED.iter().chain(MEANING) {
        let trailers: String =
            aliases(name).into_iter().map(|alias| alias + ": admin\r\n").collect();
        for (path, token) in bench.routes() {
            let credential =
                token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
            let text = format!(
                "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{credential}Transfer-Encoding: \
                    chunked\r\n\
                 Trailer: {name}\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n"
            );
            bench.sees_through(&text, token.is_some());
        }
    }
}

#[test]
fn no_character_that_a_name_may_hold_hides_a_header_that_only_the_gateway_may_say() {
    let bench = Bench::start();
    for name in MANAGED {
        for (path, token) in bench.routes() {
            // What else a token may hold (RFC 9110 §5.6.2), besides letters, digits and what the
            // aliases above use.
            let spellings: Vec<String> = "!#$%&'*+^`|~"
                .chars()
                .flat_map(|mark| {
                    [
                        format!("{mark}{name}"),
                        format!("{name}{mark}"),
                        name.replace('-', &mark.to_string()),
                    ]
                })
                .collect();
            let fields: Vec<(&str, &str)> =
                spellings.iter().map(|name| (name.as_str(), "admin")).collect();
            bench.sees_through(&request("GET", path, token, &fields), token.is_some());
        }
    }
}
