//! Redis goes, hangs, evicts, talks nonsense, and comes back.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{over, own_token, verdict};
use crate::authorization::{refresh, tokens};
use crate::support::{Gateway, Redis, Setup, judge, wait_for};

/// Asks for everything that needs the store, and for what does not.
fn fails_closed(gateway: &Gateway, jwt: &str, opaque: &str, refresh_token: &str) {
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(verdict(gateway, opaque), "store.unavailable", "never a 401 for our own outage");
        judge("a token in the store", began.elapsed(), Duration::from_millis(1_200));
        let began = Instant::now();
        let answer = refresh(gateway, "web", refresh_token);
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (503, Some("temporarily_unavailable"))
        );
        assert!(answer.header("retry-after").is_some());
        judge("a refresh", began.elapsed(), Duration::from_millis(2_200));
        let began = Instant::now();
        assert_eq!(verdict(gateway, jwt), "permit");
        judge("a JWT, which does not wait", began.elapsed(), Duration::from_millis(300));
    }
}

fn serves_again(gateway: &Gateway, opaque: &str, refresh_token: &str) {
    let began = Instant::now();
    wait_for("the store to be back", || (verdict(gateway, opaque) == "permit").then_some(()));
    judge("the store, back", began.elapsed(), Duration::from_secs(5));
    let answer = refresh(gateway, "web", refresh_token);
    assert_eq!(answer.status, 200, "what was refused is as it was: {answer:?}");
}

/// A gateway, a JWT, an opaque token it has not seen, a refresh token.
fn bench(redis: &Redis) -> (Gateway, [String; 3]) {
    let setup = over(redis);
    let gateway = Gateway::start(&setup);
    let other = Gateway::start(&setup);
    let jwt = own_token(&gateway, "machine");
    assert_eq!(verdict(&gateway, &jwt), "permit");
    let opaque = own_token(&other, "opaque");
    let (_, refresh_token) = tokens(&gateway, "web");
    (gateway, [jwt, opaque, refresh_token])
}

#[test]
fn stopped_it_costs_what_needs_it_and_nothing_else() {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (gateway, [jwt, opaque, refresh_token]) = bench(&redis);
    redis.kill();
    fails_closed(&gateway, &jwt, &opaque, &refresh_token);
    assert_eq!(gateway.get_metrics("/readyz").status, 503, "a store that is away is no readiness");
    redis.resume();
    serves_again(&gateway, &opaque, &refresh_token);
    assert_eq!(gateway.get_metrics("/readyz").status, 200);
}

#[test]
fn held_up_it_costs_what_needs_it_and_nothing_else() {
    let redis = Redis::start();
    let (gateway, [jwt, opaque, refresh_token]) = bench(&redis);
    redis.signal("STOP");
    fails_closed(&gateway, &jwt, &opaque, &refresh_token);
    redis.signal("CONT");
    serves_again(&gateway, &opaque, &refresh_token);
}

#[test]
fn silent_for_too_long_tokens_are_not_served_any_more() {
    let mut redis = Redis::start_with(&["--appendonly", "yes"]);
    let mut setup = over(&redis);
    setup.gateway.push_str("max_revocation_staleness: 10s\n");
    let gateway = Gateway::start(&setup);
    let jwt = own_token(&gateway, "machine");
    redis.kill();
    assert_eq!(verdict(&gateway, &jwt), "permit");
    wait_for("the gateway to refuse", || {
        (verdict(&gateway, &jwt) == "store.unavailable").then_some(())
    });
    assert!(gateway.metric("scopegate_revocations_age_seconds").unwrap() >= 10.0);
    redis.resume();
    wait_for("the gateway to serve", || (verdict(&gateway, &jwt) == "permit").then_some(()));
    assert!(gateway.metric("scopegate_revocations_age_seconds").unwrap() < 10.0);
}

#[test]
fn what_was_revoked_while_one_was_cut_off_bites_when_it_is_back() {
    let redis = Redis::start();
    let gateway = Gateway::start(&over(&redis));
    let jwt = own_token(&gateway, "machine");
    assert_eq!(verdict(&gateway, &jwt), "permit");
    // All connections go; meanwhile somebody else revokes.
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    let store = scopegate::store::Store::of(&redis.config()).unwrap();
    let now = scopegate::system::clock::now();
    let subject = scopegate::store::revocations::Subject::Client("machine".into());
    store.revoke_now(scopegate::store::revocations::Revocation::now(subject, now), None).unwrap();
    wait_for("the revocation", || (verdict(&gateway, &jwt) == "token.invalid").then_some(()));
}

#[test]
fn a_connection_for_news_that_dies_alone_is_made_anew() {
    let redis = Redis::start();
    let gateway = Gateway::start(&over(&redis));
    let jwt = own_token(&gateway, "machine");
    for _ in 0..3 {
        let id = wait_for("somebody to wait for news", || {
            let clients = redis.ask(&["CLIENT", "LIST"]);
            let waiting = clients.lines().find(|line| line.contains("cmd=xread"))?;
            waiting.split_once("id=")?.1.split(' ').next().map(str::to_owned)
        });
        assert_eq!(redis.ask(&["CLIENT", "KILL", "ID", &id]), "1");
        wait_for("the gateway to wait for news again", || {
            redis.ask(&["CLIENT", "LIST"]).contains("cmd=xread").then_some(())
        });
    }
    let store = scopegate::store::Store::of(&redis.config()).unwrap();
    let now = scopegate::system::clock::now();
    let subject = scopegate::store::revocations::Subject::Client("machine".into());
    store.revoke_now(scopegate::store::revocations::Revocation::now(subject, now), None).unwrap();
    wait_for("the revocation", || (verdict(&gateway, &jwt) == "token.invalid").then_some(()));
}

#[test]
fn a_server_that_has_lost_everything_is_no_end_and_a_changed_set_of_keys_is_taken_in() {
    let mut redis = Redis::start();
    let setup = over(&redis);
    let gateway = Gateway::start(&setup);
    let before = gateway.get("/.well-known/jwks.json", None).body;
    redis.kill();
    redis.resume();
    wait_for("new keys", || {
        let now = gateway.get("/.well-known/jwks.json", None).body;
        (now != before).then_some(())
    });
    let late = Gateway::start(&setup);
    wait_for("one key for both", || {
        (gateway.get("/.well-known/jwks.json", None).body
            == late.get("/.well-known/jwks.json", None).body)
            .then_some(())
    });
    let jwt = own_token(&gateway, "machine");
    assert_eq!(verdict(&late, &jwt), "permit");
}

#[test]
fn gateways_that_were_told_different_algorithms_do_not_fight() {
    let redis = Redis::start();
    let setup = over(&redis);
    let mut other = setup.clone();
    other.gateway = other
        .gateway
        .replace("refresh_token] }", "refresh_token], signing: { algorithm: EdDSA } }");
    let gateways = [Gateway::start(&setup), Gateway::start(&other)];
    let keys =
        || gateways[0].get("/.well-known/jwks.json", None).json()["keys"].as_array().unwrap().len();
    wait_for("one for each algorithm", || (keys() == 2).then_some(()));
    std::thread::park_timeout(Duration::from_millis(2_500));
    assert_eq!(keys(), 2, "and no more");
    let jwt = own_token(&gateways[0], "machine");
    assert_eq!(verdict(&gateways[1], &jwt), "permit");
}

/// What `serve` says when it does not start.
fn refused(setup: &Setup) -> String {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, c] = crate::support::free_addresses();
    let file = setup.write(folder.path(), a, b, c);
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["serve", "--config"])
        .arg(file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    judge("a start that is refused", began.elapsed(), Duration::from_secs(8));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_server_that_is_not_fit_is_refused_at_the_start_by_name() {
    for policy in ["allkeys-lru", "volatile-ttl", "volatile-random"] {
        let redis = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", policy]);
        let text = refused(&over(&redis));
        assert!(text.contains(policy) && text.contains("noeviction"), "{text}");
    }
    let redis = Redis::start();
    redis.ask(&["SET", "{scopegate}:schema", "99"]);
    assert!(refused(&over(&redis)).contains("has the schema 99"));
    let locked = Redis::start_with(&["--requirepass", "planted-password"]);
    let mut setup = over(&locked);
    let text = refused(&setup);
    assert!(text.contains("NOAUTH") || text.contains("uthentication"), "{text}");
    setup.files = vec![
        ("redis-url".into(), locked.url().replace("127.0.0.1", ":planted-wrong-one@127.0.0.1")),
        ("redis-key".into(), crate::support::redis::ENCRYPTION_KEY.into()),
    ];
    let text = refused(&setup);
    assert!(!text.contains("planted"), "no password in a message: {text}");
    setup.files[0].1 = locked.url().replace("127.0.0.1", ":planted-password@127.0.0.1");
    let gateway = Gateway::start(&setup);
    own_token(&gateway, "machine");
    assert!(!gateway.log().contains("planted"), "{}", gateway.log());
    let [nobody] = crate::support::free_addresses();
    let mut away = over(&redis);
    away.files[0].1 = format!("redis://{nobody}");
    let text = refused(&away);
    assert!(text.contains(&nobody.to_string()), "{text}");
    // Another secret reads no keys, and makes none either.
    let mut other = over(&redis);
    redis.ask(&["DEL", "{scopegate}:schema"]);
    drop(Gateway::start(&other));
    other.files[1].1 = "another-encryption-key-of-32-characters".into();
    assert!(refused(&other).contains("encryption_key"));
}

#[test]
fn nonsense_instead_of_answers_is_an_outage() {
    for answer in [
        &b"+OK\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\xff\xfe garbage without an end",
        b"*1000000000\r\n",
        b"$-9\r\n",
        b":1\r\n:2\r\n:3\r\n",
        b"",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.to_vec();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let answer = answer.clone();
                std::thread::spawn(move || {
                    let mut space = [0; 4096];
                    while stream.read(&mut space).is_ok_and(|count| count > 0) {
                        if answer.is_empty() || stream.write_all(&answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let redis = Redis::start();
        let mut setup = over(&redis);
        setup.files[0].1 = format!("redis://127.0.0.1:{port}");
        let text = refused(&setup);
        assert!(text.contains("error: store: redis"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_value_of_another_kind_is_an_outage_of_that_value_alone() {
    let redis = Redis::start();
    let (gateway, [jwt, opaque, refresh_token]) = bench(&redis);
    for pattern in ["{scopegate}:access:*", "{scopegate}:refresh:*"] {
        for key in redis.ask(&["--raw", "KEYS", pattern]).lines() {
            redis.ask(&["SET", key, "nonsense"]);
        }
    }
    assert_eq!(verdict(&gateway, &opaque), "store.unavailable");
    assert_eq!(refresh(&gateway, "web", &refresh_token).status, 503);
    assert_eq!(verdict(&gateway, &jwt), "permit");
    let fresh = own_token(&gateway, "opaque");
    assert_eq!(verdict(&gateway, &fresh), "permit");
}
