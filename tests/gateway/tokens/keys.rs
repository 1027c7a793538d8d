//! What was verified once is judged anew on each request: a key, client, scope, audience, role or
//! issuer that is gone is gone on the next one. And keys that are not known are asked for, but
//! seldom.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Bench, POLICIES, clients, issuer, permit, refuse, refused, with};
use crate::support::issuer::{Key, now};
use crate::support::{Gateway, Issuer, Setup};

/// Replaces a text in a file of the configuration and loads it.
fn edit(gateway: &Gateway, file: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(gateway.folder.path().join(file)).unwrap();
    assert!(text.contains(from), "{file} has no {from}:\n{text}");
    gateway.rewrite(file, &text.replacen(from, to, 1));
    assert!(gateway.reload(), "{}", gateway.log());
}

fn verdict(gateway: &Gateway, target: &str, token: &str) -> String {
    gateway.upstream.clear();
    let response = gateway.get(target, Some(token));
    let forwarded = gateway.upstream.requests().len();
    assert_eq!(forwarded, usize::from(response.status == 200), "{response:?}");
    let record = gateway.record(response.header("X-Decision-Id").unwrap());
    match record["fault"].as_str() {
        Some(fault) if response.verdict() == "token.invalid" => {
            fault.split(':').next().unwrap_or_default().to_owned()
        }
        _ => response.verdict(),
    }
}

#[test]
fn s25_a_cached_token_of_another_issuer_ends_with_what_it_rested_on() {
    let bench = Bench::start();
    let gateway = &bench.gateway;
    let token = bench.token(&with(&bench.claims(), &json!({ "groups": ["grp-itil"] })));
    let fetches = bench.corp.fetches();
    for (what, target, file, from, to, expect) in [
        (
            "the client, switched off",
            "/api/items",
            "clients.yaml",
            "app-here: {",
            "app-here: { active: false,",
            "client.inactive",
        ),
        (
            "the scope, taken from the client",
            "/api/items",
            "clients.yaml",
            "{ auth_scopes: [items_read], external",
            "{ external",
            "scope.missing",
        ),
        (
            "the mapping of the client",
            "/api/items",
            "clients.yaml",
            "corp: [app]",
            "corp: [app3]",
            "client.unknown",
        ),
        (
            "the grant of the scope",
            "/api/items",
            "policies.yaml",
            "{ api: items, methods: [GET] }, ",
            "{ api: items, methods: [POST] }, ",
            "scope.unscoped",
        ),
        (
            "the audience",
            "/api/items",
            "gateway.yaml",
            "corp: { issuer: \"@\", audience: [\"https://api.example\"]",
            "corp: { issuer: \"@\", audience: [\"https://api.example/v2\"]",
            "audience",
        ),
        ("the algorithm", "/api/items", "gateway.yaml", "[ES256, EdDSA]", "[EdDSA]", "algorithm"),
        (
            "the name of the client claim",
            "/api/items",
            "gateway.yaml",
            "client: azp",
            "client: client_id",
            "client.unknown",
        ),
        (
            "the name of the scopes claim",
            "/api/items",
            "gateway.yaml",
            "scopes: scp",
            "scopes: scope",
            "scope.missing",
        ),
        (
            "the map of roles",
            "/admin/x",
            "gateway.yaml",
            "{ grp-itil: itil }",
            "{ grp-itil: other }",
            "acl.role",
        ),
        (
            "the name of the roles claim",
            "/admin/x",
            "gateway.yaml",
            "roles: groups",
            "roles: roles",
            "acl.role",
        ),
        (
            "the issuer",
            "/api/items",
            "gateway.yaml",
            "corp: { issuer: \"@\"",
            "corp: { issuer: \"http://127.0.0.1:9\"",
            "issuer",
        ),
    ] {
        // Twice, so that it is cached for sure.
        for _ in 0..2 {
            assert_eq!(verdict(gateway, target, &token), "permit", "before: {what}");
        }
        let (from, to) = (from.replace('@', &bench.corp.url), to.replace('@', &bench.corp.url));
        edit(gateway, file, &from, &to);
        assert_eq!(verdict(gateway, target, &token), expect, "{what}");
        edit(gateway, file, &to, &from);
        assert_eq!(verdict(gateway, target, &token), "permit", "restored: {what}");
    }
    // Only the issuer that had gone was asked for its keys again.
    assert_eq!(bench.corp.fetches(), fetches + 1);
}

#[test]
fn s25_a_cached_token_of_our_own_ends_with_what_it_rested_on() {
    let clients = clients(&[]).replace("own: {", "own: { application_user: alice,");
    let mut setup = Setup::new(POLICIES, &clients);
    setup.users = "users: { alice: { roles: [itil] } }\n".to_owned();
    let gateway = Gateway::start(&setup);
    let token = gateway.token("own");
    for (what, target, file, from, to, expect) in [
        (
            "the client, switched off",
            "/api/items",
            "clients.yaml",
            "own: {",
            "own: { active: false,",
            "client.inactive",
        ),
        ("the client", "/api/items", "clients.yaml", "own: {", "owner: {", "client.unknown"),
        (
            "the scope, taken from the client",
            "/api/items",
            "clients.yaml",
            "[items_read, items_write]",
            "[items_write]",
            "scope.missing",
        ),
        (
            "the scope, switched off",
            "/api/items",
            "policies.yaml",
            "items_read: {",
            "items_read: { active: false,",
            "scope.unscoped",
        ),
        (
            "the user, switched off",
            "/api/items",
            "users.yaml",
            "alice: {",
            "alice: { active: false,",
            "user.inactive",
        ),
        (
            "the user, locked",
            "/api/items",
            "users.yaml",
            "alice: {",
            "alice: { locked: true,",
            "user.inactive",
        ),
        ("the user's role", "/admin/x", "users.yaml", "[itil]", "[other]", "acl.role"),
        (
            "the right of the ACL",
            "/admin/x",
            "policies.yaml",
            "all: [itil]",
            "all: [chief]",
            "acl.role",
        ),
    ] {
        for _ in 0..2 {
            assert_eq!(verdict(&gateway, target, &token), "permit", "before: {what}");
        }
        edit(&gateway, file, from, to);
        assert_eq!(verdict(&gateway, target, &token), expect, "{what}");
        edit(&gateway, file, to, from);
        assert_eq!(verdict(&gateway, target, &token), "permit", "restored: {what}");
    }
}

#[test]
fn s39_keys_in_a_file_come_and_go_with_a_reload() {
    let (old, new) = (Key::p256("k1"), Key::ed25519("k2"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let write = |keys: &[&Key]| {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    };
    write(&[&old]);
    // Nobody answers at its URL: a file needs nobody.
    let server = Issuer::start(&[]);
    server.set_mode(crate::support::issuer::Mode::Close);
    let mut setup = Setup::new(POLICIES, &clients(&["corp"]));
    setup.gateway = format!(
        "issuers:\n{}",
        issuer("corp", &server, &format!("{{ jwks_file: \"{}\" }}", file.display()))
    );
    let gateway = Gateway::start(&setup);
    let claims = server.claims(now());
    let (first, second) = (old.token(&claims), new.token(&claims));
    permit(&gateway, "the old key", &first).unwrap();
    refuse(&gateway, "a key not yet there", &second, "key_unknown").unwrap();
    write(&[&old, &new]);
    assert!(gateway.reload());
    permit(&gateway, "the old key in the overlap", &first).unwrap();
    permit(&gateway, "the new key in the overlap", &second).unwrap();
    write(&[&new]);
    assert!(gateway.reload());
    refuse(&gateway, "the old key, cached", &first, "key_unknown").unwrap();
    permit(&gateway, "the new key", &second).unwrap();
    // A file that has become useless is refused, and the keys stay.
    std::fs::write(&file, "{}").unwrap();
    assert!(!gateway.reload());
    permit(&gateway, "the new key after a refused reload", &second).unwrap();
    assert_eq!(server.fetches(), 0);
}

/// Another key under the old name is another key: what the first one signed is over.
#[test]
fn s39_a_key_replaced_under_its_name_ends_cached_tokens() {
    let (old, new) = (Key::p256("k1"), Key::p256("k1"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let write =
        |key: &Key| std::fs::write(&file, json!({ "keys": [key.jwk()] }).to_string()).unwrap();
    write(&old);
    let server = Issuer::start(&[]);
    let mut setup = Setup::new(POLICIES, &clients(&["corp"]));
    setup.gateway = format!(
        "issuers:\n{}",
        issuer("corp", &server, &format!("{{ jwks_file: \"{}\" }}", file.display()))
    );
    let gateway = Gateway::start(&setup);
    let claims = server.claims(now());
    let (cached, other) = (old.token(&claims), old.token(&with(&claims, &json!({ "sub": "x" }))));
    permit(&gateway, "the old key", &cached).unwrap();
    write(&new);
    assert!(gateway.reload());
    // Whether its key is gone or the name is now another key's: two ways to say it, neither of them
    // a permit.
    let cached = ["key_unknown", "signature"]
        .map(|fault| refuse(&gateway, "the old key, cached", &cached, fault));
    assert!(cached.iter().any(Result::is_ok), "{cached:?}");
    refuse(&gateway, "the old key, not cached", &other, "signature").unwrap();
    permit(&gateway, "the new key", &new.token(&claims)).unwrap();
}

fn random_kid() -> String {
    format!("unknown-{:016x}", rand_core::RngCore::next_u64(&mut rand_core::OsRng))
}

/// Tokens that no key is good for, in three ways: by names that nobody has, by signatures of
/// another key under a name that is there, and by none. Until `stop`, from eight connections at a
/// time; gives every answer.
fn flood(
    gateway: &Gateway,
    (known, stranger): (&Key, &Key),
    claims: &Value,
    stop: &(dyn Fn(usize) -> bool + Sync),
) -> Vec<(u16, String)> {
    let forged = |at: usize| {
        let claims = with(claims, &json!({ "n": random_kid() }));
        let header = match at % 3 {
            0 => with(&known.header(), &json!({ "kid": random_kid() })),
            1 => known.header(),
            _ => json!({ "alg": "ES256", "typ": "JWT" }),
        };
        stranger.token_with(&header, &claims)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !stop(answers.len()) {
                        let response = gateway.get("/api/items", Some(&forged(answers.len())));
                        answers.push((response.status, response.verdict()));
                    }
                    answers
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn all_refused(answers: &[(u16, String)]) {
    let refused = [(401, "token.invalid"), (503, "issuer.unavailable")];
    let is_refused = |(status, reason): &(u16, String)| refused.contains(&(*status, reason));
    assert!(answers.iter().all(is_refused), "{answers:?}");
}

/// The longest test here: it lasts as long as a budget takes to be refilled (30 s), because it is
/// about just that.
#[test]
fn s38_s39_an_issuer_rotates_and_no_flood_delays_its_new_key_by_more_than_thirty_seconds() {
    let (stays, comes, goes) = (Key::p256("k1"), Key::p256("k2"), Key::p256("k3"));
    let stranger = Key::p256("k1");
    let server = Issuer::start(&[stays.clone(), goes.clone()]);
    let mut setup = Setup::new(POLICIES, &clients(&["corp"]));
    setup.gateway = format!("issuers:\n{}", issuer("corp", &server, "discover"));
    let gateway = Gateway::start(&setup);
    let claims = server.claims(now());
    let fresh = |key: &Key| key.token(&with(&claims, &json!({ "n": random_kid() })));
    let (cached, leaving) = (stays.token(&claims), goes.token(&claims));
    let started = Instant::now();
    // Both budgets, in bursts of two and one more in thirty seconds, and the fetch in advance.
    let most =
        |since: Instant| 5 + 3 * usize::try_from(since.elapsed().as_secs() / 30 + 1).unwrap();
    permit(&gateway, "the key that stays", &cached).unwrap();
    permit(&gateway, "the key that goes", &leaving).unwrap();

    let all = flood(&gateway, (&stays, &stranger), &claims, &|sent| sent >= 25);
    all_refused(&all);
    assert_eq!(all.len(), 200);
    assert!(server.fetches() <= most(started), "{}", server.fetches());
    permit(&gateway, "the key that stays, cached", &cached).unwrap();
    permit(&gateway, "the key that stays, not cached", &fresh(&stays)).unwrap();

    // The issuer rotates in the middle of a flood. What the new key signed is never the caller's
    // fault, and is taken within thirty seconds; meanwhile the key that stays serves.
    server.set_keys(&[stays.clone(), comes.clone()]);
    let published = Instant::now();
    let is_known = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = |_: usize| is_known.load(std::sync::atomic::Ordering::Relaxed);
        let flood = scope.spawn({
            let (gateway, claims, stays, stranger) = (&gateway, &claims, &stays, &stranger);
            move || flood(gateway, (stays, stranger), claims, &stop)
        });
        let served = loop {
            permit(&gateway, "the key that stays, cached", &cached).unwrap();
            let response = gateway.get("/api/items", Some(&fresh(&comes)));
            if response.status == 200 || published.elapsed() > Duration::from_secs(60) {
                break response;
            }
            assert_eq!(response.verdict(), "issuer.unavailable", "{response:?}");
            assert_eq!(response.header("Retry-After"), Some("5"));
            std::thread::park_timeout(Duration::from_millis(100));
        };
        let took = published.elapsed();
        is_known.store(true, std::sync::atomic::Ordering::Relaxed);
        all_refused(&flood.join().unwrap());
        assert_eq!(served.status, 200, "{served:?}");
        // A second for a slow machine.
        assert!(took < Duration::from_secs(31), "{took:?}");
    });
    assert!(server.fetches() <= most(started), "{}", server.fetches());
    refuse(&gateway, "the key that went, cached", &leaving, "key_unknown").unwrap();
    refuse(&gateway, "the key that went, not cached", &fresh(&goes), "key_unknown").unwrap();
    permit(&gateway, "the key that stays, at the end", &cached).unwrap();
}

/// An issuer that signs with a key at once after it is published, under a new name or under the old
/// one, or under none: one fetch brings it.
#[test]
fn s39_a_key_that_signs_as_soon_as_it_is_published_is_taken_at_once() {
    let (old, new, again) = (Key::p256("k1"), Key::p256("k2"), Key::p256("k2"));
    let (other_kind, unnamed) = (Key::ed25519("k2"), Key::p256("k2"));
    let server = Issuer::start(std::slice::from_ref(&old));
    let mut setup = Setup::new(POLICIES, &clients(&["corp"]));
    setup.gateway = format!("issuers:\n{}", issuer("corp", &server, "discover"));
    let gateway = Gateway::start(&setup);
    let claims = server.claims(now());
    permit(&gateway, "the first", &old.token(&claims)).unwrap();
    server.set_keys(&[old.clone(), new.clone()]);
    permit(&gateway, "another name", &new.token(&claims)).unwrap();
    server.set_keys(&[old.clone(), again.clone()]);
    permit(&gateway, "the same name", &again.token(&claims)).unwrap();
    server.set_keys(&[old.clone(), other_kind.clone()]);
    permit(&gateway, "the same name, another algorithm", &other_kind.token(&claims)).unwrap();
    assert_eq!(server.fetches(), 4);
    // Both bursts of two: one name is left, no signature.
    refuse(&gateway, "a name that nobody has", &Key::p256("k9").token(&claims), "key_unknown")
        .unwrap();
    refuse(&gateway, "the same, remembered", &Key::p256("k9").token(&claims), "key_unknown")
        .unwrap();
    assert_eq!(server.fetches(), 5);
    server.set_keys(&[old, unnamed.clone()]);
    let token = unnamed.token_with(&json!({ "alg": "ES256", "typ": "JWT" }), &claims);
    refuse(&gateway, "a signature beyond the budget", &token, "signature").unwrap();
    let response = gateway.get("/api/items", Some(&Key::p256("k8").token(&claims)));
    assert_eq!((response.status, response.verdict().as_str()), (503, "issuer.unavailable"));
    assert_eq!(server.fetches(), 5);
}

/// Many callers with a name that is not known yet share the fetch that is under way.
#[test]
fn s38_the_first_callers_share_the_first_fetch() {
    let key = Key::p256("k1");
    let server = Issuer::start(std::slice::from_ref(&key));
    let mut setup = Setup::new(POLICIES, &clients(&["corp"]));
    setup.gateway = format!("issuers:\n{}", issuer("corp", &server, "discover"));
    let gateway = Gateway::start(&setup);
    let claims = server.claims(now());
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    gateway
                        .get(
                            "/api/items",
                            Some(&key.token(&with(&claims, &json!({ "n": random_kid() })))),
                        )
                        .status
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(server.fetches(), 1);
    let response = gateway.get("/api/items", None);
    refused(
        &gateway,
        "none",
        &response,
        (401, "token.missing", Some("Bearer realm=\"scopegate\"")),
        "",
    )
    .unwrap_err();
}
