//! Issuers that are down, slow, or answer with anything but their keys. What is known goes on;
//! what is not known is our outage and not the caller's fault.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{POLICIES, clients, issuer, permit, refused, with};
use crate::support::http::request;
use crate::support::issuer::{Key, Mode, now};
use crate::support::{GUARD, Gateway, Issuer, Response, Setup, wait_for};

/// A valid set whose key is another one: must never be taken by the ways below.
fn intruder() -> Value {
    json!({ "keys": [Key::p256("intruder").jwk()] })
}

/// How an issuer can fail, and whether it is found through its metadata.
fn failures() -> Vec<(&'static str, &'static str, Mode)> {
    let answer = |status, body: String| Mode::Answer(status, body.into_bytes());
    let set = intruder().to_string();
    let small = json!({ "keys": [{ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "x" },
        { "kty": "oct", "k": "AAAA", "kid": "k1" }] });
    vec![
        ("closes", "discover", Mode::Close),
        ("closes, at its URL", "url", Mode::Close),
        ("hangs", "url", Mode::Hang),
        ("hangs, found through its metadata", "discover", Mode::Hang),
        ("500", "url", answer(500, set.clone())),
        ("404", "url", answer(404, set.clone())),
        ("204", "url", answer(204, String::new())),
        ("a redirect to itself", "url", answer(302, set.clone())),
        ("a redirect of its metadata", "discover", answer(301, String::new())),
        ("HTML", "url", answer(200, "<html><body>maintenance</body></html>".to_owned())),
        ("nothing", "url", answer(200, String::new())),
        ("{}", "url", answer(200, "{}".to_owned())),
        ("no keys", "url", answer(200, json!({ "keys": [] }).to_string())),
        ("no key that is of use", "url", answer(200, small.to_string())),
        ("keys that are no list", "url", answer(200, json!({ "keys": { "k1": {} } }).to_string())),
        ("cut off", "url", answer(200, set[..set.len() - 3].to_owned())),
        ("something behind", "url", answer(200, format!("{set}{set}"))),
        ("garbage", "url", Mode::Answer(200, (0..=255).cycle().take(10_000).collect())),
        (
            "over 150,000 bytes, good \
            otherwise",
            "url",
            answer(200, format!("{set}{}", " ".repeat(150_000))),
        ),
        ("20 MB", "url", answer(200, " ".repeat(20_000_000))),
        ("nested without end", "url", answer(200, format!("{{\"keys\":{}", "[".repeat(100_000)))),
        (
            "metadata of another issuer",
            "discover",
            answer(
                200,
                json!({ "issuer": "https://other.example",
                    "jwks_uri": "https://other.example/jwks" })
                .to_string(),
            ),
        ),
        ("metadata without keys", "discover", answer(200, "{}".to_owned())),
        ("a set in the place of its metadata", "discover", answer(200, set)),
    ]
}

struct Failing {
    what: &'static str,
    mode: Mode,
    server: Issuer,
    key: Key,
    /// A token seen before the outage.
    cached: String,
    /// Answers for the name that is not known: whether a 503 was among them.
    down: bool,
}

impl Failing {
    fn fresh(&self, kid: &str) -> String {
        let claims = with(
            &self.server.claims(now()),
            &json!({ "n": format!("{:x}", rand_core::RngCore::next_u64(&mut rand_core::OsRng)) }),
        );
        self.key.token_with(&with(&self.key.header(), &json!({ "kid": kid })), &claims)
    }
}

fn unavailable(gateway: &Gateway, what: &str, response: &Response) {
    refused(gateway, what, response, (503, "issuer.unavailable", None), "cannot be fetched")
        .unwrap();
    assert_eq!(response.header("Retry-After"), Some("5"), "{what}");
}

/// All fail at once, each in its own way, in one gateway.
#[test]
fn s37_known_keys_serve_through_every_outage_and_unknown_ones_are_not_the_callers_fault() {
    let mut failing: Vec<Failing> = failures()
        .into_iter()
        .map(|(what, _, mode)| {
            let key = Key::p256("k1");
            let server = Issuer::start(std::slice::from_ref(&key));
            let cached = key.token(&server.claims(now()));
            Failing { what, mode, server, key, cached, down: false }
        })
        .collect();
    let mut setup = Setup::new(POLICIES, "");
    let (mut issuers, mut names) = (String::new(), Vec::new());
    for (at, ((_, found, _), own)) in failures().iter().zip(&failing).enumerate() {
        let keys = if *found == "discover" {
            "discover".to_owned()
        } else {
            format!("{{ jwks_url: \"{}/jwks\" }}", own.server.url)
        };
        issuers.push_str(&issuer(&format!("i{at}"), &own.server, &keys));
        names.push(format!("i{at}"));
    }
    setup.gateway = format!("issuers:\n{issuers}");
    setup.clients = clients(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let gateway = Gateway::start(&setup);
    for own in &failing {
        permit(&gateway, own.what, &own.cached).unwrap();
        assert_eq!(own.server.fetches(), 1, "{}", own.what);
        own.server.set_mode(own.mode.clone());
    }
    assert!(failing.len() >= 12);

    let started = Instant::now();
    // Longer than one cool-down, so that a budget is spent and refilled.
    while failing.iter().any(|own| !own.down) || started.elapsed() < Duration::from_secs(31) {
        assert!(
            started.elapsed() < GUARD,
            "never asked again: {:?}",
            failing.iter().filter(|own| !own.down).map(|own| own.what).collect::<Vec<_>>()
        );
        for own in &mut failing {
            permit(&gateway, &format!("{}, cached", own.what), &own.cached).unwrap();
            permit(&gateway, &format!("{}, known name", own.what), &own.fresh("k1")).unwrap();
            gateway.upstream.clear();
            let response = gateway.get("/api/items", Some(&own.fresh("k9")));
            match response.status {
                503 => {
                    unavailable(&gateway, own.what, &response);
                    own.down = true;
                }
                _ => panic!("{}: {response:?}", own.what),
            }
        }
        // The pace of a caller that tries again; the cool-down is what is waited for.
        std::thread::park_timeout(Duration::from_millis(100));
    }
    for own in &failing {
        // It is asked again and again, each time after twice as long, and for the sake of unknown
        // names twice and once in thirty seconds. A redirect that leads to itself is followed three
        // times.
        let seconds = started.elapsed().as_secs().max(1);
        let most = 6 + seconds.ilog2() as usize + usize::try_from(seconds / 30).unwrap();
        let most = if own.what.contains("redirect") { 4 * most } else { most };
        assert!(own.server.fetches() <= most, "{}: {} fetches", own.what, own.server.fetches());
        gateway.upstream.clear();
        let response = gateway.get("/api/items", Some(&own.fresh("intruder")));
        unavailable(&gateway, own.what, &response);
        permit(&gateway, &format!("{}, cached, at the end", own.what), &own.cached).unwrap();
        permit(&gateway, &format!("{}, known name, at the end", own.what), &own.fresh("k1"))
            .unwrap();
        // Two credentials are the caller's fault all the same (CVE-2024-45809).
        gateway.upstream.clear();
        let bearer = format!("Bearer {}", own.fresh("k9"));
        let twice = request(
            "GET",
            "/api/items",
            None,
            &[("Authorization", &bearer), ("Authorization", &bearer)],
        );
        assert_eq!(gateway.send(twice).verdict(), "token.several");
    }
    println!("{} ways to fail, after {:?}", failing.len(), started.elapsed());
}

#[test]
fn s37_an_issuer_that_is_down_at_the_start_is_no_reason_not_to_start() {
    let (key, steady) = (Key::p256("k1"), Key::p256("k1"));
    let server = Issuer::start(std::slice::from_ref(&key));
    server.set_mode(Mode::Answer(200, b"<html>".to_vec()));
    let other = Issuer::start(std::slice::from_ref(&steady));
    let mut setup = Setup::new(POLICIES, &clients(&["corp", "other"]));
    setup.gateway = format!(
        "issuers:\n{}{}",
        issuer("corp", &server, "discover"),
        issuer("other", &other, "discover")
    );
    let gateway = Gateway::start(&setup);
    let token = key.token(&server.claims(now()));
    for _ in 0..3 {
        gateway.upstream.clear();
        let response = gateway.get("/api/items", Some(&token));
        unavailable(&gateway, "before its first answer", &response);
    }
    // The other issuer and our own tokens are as ever, and the gateway says that it is ready.
    permit(&gateway, "the other issuer", &steady.token(&other.claims(now()))).unwrap();
    permit(&gateway, "our own", &gateway.token("own")).unwrap();
    let ready = crate::support::send(
        gateway.metrics,
        "GET /readyz HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(ready.status, 200, "{ready:?}");
    // What is wrong with the token itself is said at once, without its keys.
    super::refuse(
        &gateway,
        "expired",
        &key.token(&with(&server.claims(now()), &json!({ "exp": 1 }))),
        "expired",
    )
    .unwrap();
    super::refuse(
        &gateway,
        "a wrong algorithm",
        &key.token_with(&json!({ "alg": "RS256" }), &server.claims(now())),
        "algorithm",
    )
    .unwrap();
    server.set_mode(Mode::Good);
    wait_for("the issuer's keys", || permit(&gateway, "after its first answer", &token).ok());
}

/// A reload that finds the keys elsewhere knows none until they are fetched: that is our doing, so
/// never the caller's fault.
#[test]
fn s37_a_reload_to_another_place_of_keys_never_blames_the_token() {
    let key = Key::p256("k1");
    let server = Issuer::start(std::slice::from_ref(&key));
    let mut setup = Setup::new(POLICIES, &clients(&["corp"]));
    setup.gateway = format!("issuers:\n{}", issuer("corp", &server, "discover"));
    let gateway = Gateway::start(&setup);
    let (cached, fresh) = (
        key.token(&server.claims(now())),
        key.token(&with(&server.claims(now()), &json!({ "sub": "x" }))),
    );
    permit(&gateway, "before", &cached).unwrap();
    server.set_mode(Mode::Close);
    let text = std::fs::read_to_string(gateway.folder.path().join("gateway.yaml")).unwrap();
    gateway.rewrite(
        "gateway.yaml",
        &text.replace("keys: discover", &format!("keys: {{ jwks_url: \"{}/jwks\" }}", server.url)),
    );
    assert!(gateway.reload(), "{}", gateway.log());
    for (what, token) in [("not cached", &fresh), ("cached", &cached)] {
        gateway.upstream.clear();
        let response = gateway.get("/api/items", Some(token));
        unavailable(&gateway, what, &response);
    }
    server.set_mode(Mode::Good);
    wait_for("the issuer's keys", || permit(&gateway, "after", &cached).ok());
}
