//! Opaque tokens of other issuers: who is asked, how often, and what becomes of answers that are
//! wrong.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::issuer::now;
use crate::support::{Gateway, Setup, http, wait_for};

const SECRET: &str = "planted:introspection secret";

const POLICIES: &str = "
apis:
  items: { base_path: /api, upstream: api, resources: { /items: [GET] } }
  bare: { base_path: /bare, upstream: api, resources: { /x: [GET] } }
  both: { base_path: /both, upstream: api, resources: { /x: [GET] } }
  jwt: { base_path: /jwt, upstream: api, resources: { /x: [GET] } }
auth_scopes:
  read: { grants: [{ api: items }, { api: bare }, { api: both }, { api: jwt }] }
access_policies:
  items: { api: items, allow: [{ issuers: [partner, self] }] }
  bare: { api: bare, allow: [{ issuers: [second] }] }
  both: { api: both, allow: [{ issuers: [second] }, { issuers: [third] }] }
";

/// How the endpoint answers.
#[derive(Clone)]
enum Mode {
    /// What it knows of the token.
    Good,
    Raw(u16, Vec<u8>),
    Hang,
    Close,
    /// After a while.
    Slow(Duration),
}

/// An introspection endpoint that counts.
#[derive(Clone)]
struct Endpoint {
    url: String,
    state: Arc<State>,
}

struct State {
    known: Mutex<BTreeMap<String, Value>>,
    mode: Mutex<Mode>,
    asked: Mutex<Vec<String>>,
    hanging: Mutex<Vec<TcpStream>>,
}

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/introspect", listener.local_addr().unwrap());
        let state = State {
            known: Mutex::default(),
            mode: Mutex::new(Mode::Good),
            asked: Mutex::default(),
            hanging: Mutex::default(),
        };
        let endpoint = Self { url, state: Arc::new(state) };
        let shared = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        endpoint
    }

    fn know(&self, token: &str, answer: Value) {
        self.state.known.lock().unwrap().insert(token.to_owned(), answer);
    }

    fn mode(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    /// The tokens that it was asked about.
    fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    fn serve(&self, mut stream: TcpStream) {
        let Some((head, body)) = http::read_request(&mut stream) else { return };
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        self.state.asked.lock().unwrap().push(form["token"].clone());
        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let basic =
            format!("authorization: Basic {}", STANDARD.encode(format!("gw:{}", encode(SECRET))));
        let ours = head.lines().any(|line| line.eq_ignore_ascii_case(&basic));
        let good = || {
            let known = self.state.known.lock().unwrap();
            known.get(&form["token"]).cloned().unwrap_or_else(|| json!({ "active": false }))
        };
        let mode = self.state.mode.lock().unwrap().clone();
        let (status, body) = match mode {
            Mode::Close => return,
            Mode::Hang => return self.state.hanging.lock().unwrap().push(stream),
            _ if !ours => (401, Vec::new()),
            Mode::Raw(status, body) => (status, body),
            Mode::Slow(time) => {
                std::thread::park_timeout(time);
                (200, good().to_string().into_bytes())
            }
            Mode::Good => (200, good().to_string().into_bytes()),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }
}

struct Bench {
    gateway: Gateway,
    partner: Endpoint,
    second: Endpoint,
    third: Endpoint,
}

fn entry(name: &str, endpoint: &Endpoint, more: &str) -> String {
    format!(
        "  {name}: {{ issuer: 'https://{name}.example', audience: ['https://api.example'], claims: \
            {{ scopes: scope }}, \
         introspection: {{ url: '{}', client_id: gw, client_secret: file:partner, cache: 10s \
         }}{more} }}\n",
        endpoint.url
    )
}

fn bench() -> Bench {
    let (partner, second, third) = (Endpoint::start(), Endpoint::start(), Endpoint::start());
    let clients = "clients:\n  here: { auth_scopes: [read], external: { partner: [app], second: \
        [app], third: [app] } }\n";
    let mut setup = Setup::new(POLICIES, clients);
    setup.files = vec![("partner".into(), format!("{SECRET}\n"))];
    setup.gateway = format!(
        "issuers:\n{}{}{}",
        entry("partner", &partner, ", token_prefix: pt_"),
        entry("second", &second, ""),
        entry("third", &third, "")
    );
    Bench { gateway: Gateway::start(&setup), partner, second, third }
}

fn active() -> Value {
    json!({ "active": true, "client_id": "app", "scope": "read \
        other", "aud": "https://api.example", "exp": now() + 300, "sub": "u", "jti": "j-1" })
}

fn changed(members: &Value) -> Value {
    super::with(&active(), members)
}

impl Bench {
    fn verdict(&self, path: &str, token: &str) -> String {
        self.gateway.get(path, Some(token)).verdict()
    }

    fn items(&self, token: &str) -> String {
        self.verdict("/api/items", token)
    }
}

#[test]
fn a_token_is_shown_to_the_issuer_that_its_prefix_or_the_policy_names_and_to_nobody_else() {
    let bench = bench();
    bench.partner.know("pt_1", active());
    bench.second.know("bare-1", active());
    bench.second.know("both-1", active());
    assert_eq!(bench.items("pt_1"), "permit");
    let seen = bench.gateway.upstream.last_head();
    for line in ["x-auth-issuer: partner", "x-auth-scopes: read"] {
        assert!(seen.iter().any(|seen| seen == line), "{seen:?}");
    }
    assert_eq!(bench.verdict("/bare/x", "bare-1"), "permit");
    assert_eq!(
        bench.verdict("/bare/x", "pt_1"),
        "policy.profile",
        "the prefix is stronger than the policy"
    );
    for (path, token) in [
        ("/both/x", "both-1"),
        ("/api/items", "bare-2"),
        ("/jwt/x", "bare-2"),
        ("/bare/x", "sga_notoneofoursbutlookslikeitatleastandhaslength"),
        ("/bare/x", "sgr_x"),
    ] {
        assert_eq!(bench.verdict(path, token), "token.invalid", "{path} {token}");
    }
    assert_eq!(bench.partner.asked(), ["pt_1"]);
    assert_eq!(bench.second.asked(), ["bare-1"]);
    assert!(bench.third.asked().is_empty());
    assert!(!bench.gateway.log().contains("planted"));
}

#[test]
fn an_issuer_without_keys_is_asked_about_its_jwts_too() {
    let bench = bench();
    let key = crate::support::issuer::Key::p256("k");
    let jwt = |iss: &str| key.token(&json!({ "iss": iss, "sub": "u", "exp": now() + 300 }));
    let own = jwt("https://second.example");
    bench.second.know(&own, active());
    assert_eq!(bench.verdict("/bare/x", &own), "permit");
    assert_eq!(bench.verdict("/bare/x", &jwt("https://unknown.example")), "token.invalid");
    assert_eq!(bench.second.asked(), [own]);
}

#[test]
fn what_an_answer_says_is_judged_as_claims_are() {
    let bench = bench();
    for (n, (answer, verdict, fault)) in [
        (changed(&json!({ "aud": ["x", "https://api.example"] })), "permit", ""),
        (json!({ "active": false }), "token.invalid", "inactive"),
        (changed(&json!({ "active": "true" })), "token.invalid", "inactive"),
        (changed(&json!({ "active": 1 })), "token.invalid", "inactive"),
        (json!({}), "token.invalid", "inactive"),
        (changed(&json!({ "aud": "https://other.example" })), "token.invalid", "audience"),
        (changed(&json!({ "exp": now() - 60 })), "token.invalid", "expired"),
        (changed(&json!({ "nbf": now() + 600 })), "token.invalid", "not_yet_valid"),
        (changed(&json!({ "iss": "https://self.example" })), "token.invalid", "issuer"),
        (changed(&json!({ "cnf": { "jkt": "x" } })), "token.invalid", "binding"),
        (changed(&json!({ "token_type": "DPoP" })), "token.invalid", "type"),
        (changed(&json!({ "exp": "later" })), "token.invalid", "claims"),
        (changed(&json!({ "client_id": ["app"] })), "token.invalid", "claims"),
        (
            changed(&json!({ "client_id": "here" })),
            "client.unknown",
            "saw the client here of partner, wants it under `external`",
        ),
        (changed(&json!({ "scope": "" })), "scope.missing", ""),
        (changed(&json!({ "scope": 7 })), "scope.missing", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("pt_{n}");
        bench.partner.know(&token, answer.clone());
        let response = bench.gateway.get("/api/items", Some(&token));
        assert_eq!(response.verdict(), verdict, "{answer}");
        let record = bench.gateway.record(response.header("x-decision-id").unwrap());
        let found = record["fault"].as_str().unwrap_or_default();
        assert_eq!(found.split(':').next().unwrap_or_default(), fault, "{answer}: {record}");
    }
}

#[test]
fn answers_are_kept_for_a_time_and_many_ask_once() {
    let bench = bench();
    bench.partner.know("pt_good", active());
    bench.partner.mode(Mode::Slow(Duration::from_millis(300)));
    for token in ["pt_good", "pt_bad"] {
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| bench.items(token));
            }
        });
    }
    assert_eq!(bench.partner.asked(), ["pt_good", "pt_bad"], "one question for all");
    bench.partner.mode(Mode::Good);
    for _ in 0..5 {
        assert_eq!(
            (bench.items("pt_good").as_str(), bench.items("pt_bad").as_str()),
            ("permit", "token.invalid")
        );
    }
    assert_eq!(bench.partner.asked().len(), 2);
    // Its answer is good for ten seconds here, whatever it says of the token's life.
    bench.partner.know("pt_good", json!({ "active": false }));
    wait_for("the answer to be asked for anew", || {
        (bench.items("pt_good") == "token.invalid").then_some(())
    });
    assert_eq!(bench.partner.asked(), ["pt_good", "pt_bad", "pt_good"]);
    // A token that lives for less than that.
    bench.partner.know("pt_short", changed(&json!({ "exp": now() + 6 - 30 })));
    assert_eq!(bench.items("pt_short"), "permit", "within the leeway");
    wait_for("it to expire", || (bench.items("pt_short") == "token.invalid").then_some(()));
}

#[test]
fn an_outage_is_a_503_and_never_a_401_and_is_not_asked_into() {
    let bench = bench();
    bench.partner.know("pt_known", active());
    let big = format!("{{\"active\": true, \"x\": \"{}\"}}", "y".repeat(70_000));
    for (n, mode) in [
        Mode::Close,
        Mode::Raw(500, b"{\"active\": true}".to_vec()),
        Mode::Raw(200, b"<html>".to_vec()),
        Mode::Raw(200, b"[true]".to_vec()),
        Mode::Raw(200, big.into_bytes()),
        Mode::Raw(204, Vec::new()),
        Mode::Raw(302, b"{\"active\": true}".to_vec()),
        Mode::Raw(401, b"{\"active\": true}".to_vec()),
        Mode::Raw(200, b"{\"active\": true, \"active\": true}".to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        bench.partner.mode(mode);
        let response = bench.gateway.get("/api/items", Some(&format!("pt_out{n}")));
        assert_eq!(
            (response.status, response.verdict().as_str()),
            (503, "issuer.unavailable"),
            "{n}"
        );
        assert!(
            response.header("retry-after").is_some()
                && response.header("www-authenticate").is_none(),
            "{n}"
        );
    }
    // After five in a row it is left alone: one question in a second, and all others are answered
    // without one.
    let before = bench.partner.asked().len();
    let began = Instant::now();
    for n in 0..200 {
        assert_eq!(bench.items(&format!("pt_flood{n}")), "issuer.unavailable");
    }
    let asked = bench.partner.asked().len() - before;
    assert!(asked as u64 <= began.elapsed().as_secs() + 2, "{asked} in {:?}", began.elapsed());
    bench.second.know("bare-1", active());
    assert_eq!(bench.verdict("/bare/x", "bare-1"), "permit", "another issuer is none the worse");
    bench.partner.mode(Mode::Good);
    wait_for("the issuer to be asked again", || {
        (bench.items("pt_known") == "permit").then_some(())
    });
    bench.partner.mode(Mode::Hang);
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| assert_eq!(bench.items("pt_hang"), "issuer.unavailable"));
        wait_for("it to be asked", || {
            bench.partner.asked().contains(&"pt_hang".to_owned()).then_some(())
        });
        for _ in 0..50 {
            assert_eq!(bench.items("pt_known"), "permit", "what is known goes on");
        }
        hanging.join().unwrap();
    });
    assert!(
        !bench.gateway.log().contains("pt_") && !bench.gateway.log().contains("planted"),
        "{}",
        bench.gateway.log()
    );
}

#[test]
fn odd_tokens_are_no_outage_of_the_issuer_and_jwts_of_others_are_not_shown_to_it() {
    let bench = bench();
    bench.partner.know("pt_1", active());
    bench.partner.mode(Mode::Raw(400, b"{\"error\":\"invalid_request\"}".to_vec()));
    for n in 0..12 {
        assert_eq!(bench.items(&format!("pt_odd{n}")), "issuer.unavailable");
    }
    assert_eq!(bench.partner.asked().len(), 12, "each was asked about");
    bench.partner.mode(Mode::Good);
    assert_eq!(bench.items("pt_1"), "permit", "and the next one too");
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    for header in [
        r#"{"alg":"ES512"}"#,
        r#"{"alg":"RS256","crit":["x"]}"#,
        r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#,
    ] {
        let jwt =
            format!("{}.{}.c2ln", encode(header), encode(r#"{"iss":"https://other.example"}"#));
        assert_eq!(bench.verdict("/bare/x", &jwt), "token.invalid", "{header}");
        assert_eq!(bench.verdict("/bare/x", &format!("{jwt}.eA.eA")), "token.invalid", "{header}");
    }
    assert!(bench.second.asked().is_empty(), "{:?}", bench.second.asked());
}

#[test]
fn a_revocation_of_a_foreign_token_bites() {
    let bench = bench();
    bench.partner.know("pt_1", active());
    assert_eq!(bench.items("pt_1"), "permit");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["token", "revoke", "--issuer", "partner", "--id", "j-1", "--config"])
        .arg(bench.gateway.folder.path().join("gateway.yaml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_for("the token to be refused", || (bench.items("pt_1") == "token.invalid").then_some(()));
}

#[test]
fn prefixes_that_do_not_tell_tokens_apart_are_refused_at_load() {
    let (one, two) = (Endpoint::start(), Endpoint::start());
    for (first, second, words) in [
        (", token_prefix: pt_", ", token_prefix: pt_x", "begin alike"),
        (", token_prefix: sga_", "", "how our own tokens begin"),
        (", token_prefix: sg", "", "token_prefix"),
        (", token_prefix: pt_, keys: discover", ", cache: 1s", "unknown key"),
    ] {
        let mut setup = Setup::new(POLICIES, "clients: {}\n");
        setup.files = vec![("partner".into(), SECRET.into())];
        setup.gateway = format!(
            "issuers:\n{}{}{}",
            entry("partner", &one, first),
            entry("second", &two, second),
            entry("third", &two, "")
        );
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = crate::support::free_addresses();
        let file = setup.write(folder.path(), a, b, c);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["check", "--config"])
            .arg(file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(words), "{words}: {text}");
    }
}
