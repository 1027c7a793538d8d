//! Several gateways on one Redis, and what becomes of them when it goes.

mod outage;
mod topology;

use std::time::{Duration, Instant};

use crate::authorization::{
    PASSWORD, code, made, member, own_token, redeem, refresh, request, setup, tokens,
};
use crate::support::provider::Provider;
use crate::support::{Browser, Gateway, Redis, Setup, judge, wait_for};

/// The configuration that all gateways of a test have: one public URL, one store.
pub fn over(redis: &Redis) -> Setup {
    let mut setup = setup("");
    setup.gateway.push_str("public_url: http://127.0.0.1:1\n");
    setup.gateway.push_str(&Redis::yaml());
    setup.files = redis.files();
    setup
}

fn verdict(gateway: &Gateway, token: &str) -> String {
    let headers = [("X-Forwarded-For", "203.0.113.7")];
    gateway.send(crate::support::http::request("GET", "/orders/1", Some(token), &headers)).verdict()
}

/// A command over the configuration of a gateway.
pub fn command(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(arguments)
        .arg("--config")
        .arg(gateway.folder.path().join("gateway.yaml"))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn what_one_gives_the_others_take() {
    let redis = Redis::start();
    let setup = over(&redis);
    let gateways = [(); 3].map(|()| Gateway::start(&setup));
    let jwks = gateways.each_ref().map(|gateway| gateway.get("/.well-known/jwks.json", None).body);
    assert!(jwks.iter().all(|set| *set == jwks[0]), "one key: {jwks:?}");
    for client in ["machine", "opaque"] {
        for giver in &gateways {
            let token = own_token(giver, client);
            for taker in &gateways {
                assert_eq!(verdict(taker, &token), "permit", "{client}");
            }
        }
    }
    // Signed in at one, allowed at another, redeemed at the third, refreshed at the first.
    let mut browser = Browser::new(gateways[0].address);
    let page = browser.get(&request("web", &[]));
    browser.sign_in(&page, "alice", PASSWORD);
    let mut elsewhere = Browser::new(gateways[1].address);
    elsewhere.cookie = browser.cookie;
    let code = code(&mut elsewhere, &request("web", &[]));
    let answer = redeem(&gateways[2], "web", &code);
    let next = refresh(&gateways[0], "web", &member(&answer, "refresh_token"));
    assert_eq!(verdict(&gateways[1], &member(&next, "access_token")), "permit");
    // A fourth comes later, and one that is started again.
    let late = Gateway::start(&setup);
    assert_eq!(verdict(&late, &member(&next, "access_token")), "permit");
    // What is in there is no secret of ours in plain text.
    let dump = redis.ask(&["--raw", "GET", "{scopegate}:keys"]);
    assert!(dump.contains("\"public\"") && !dump.contains("\"d\""), "{dump}");
}

#[test]
fn a_user_made_at_one_is_one_user_at_all() {
    let redis = Redis::start();
    let provider = Provider::start();
    let made_at_login = format!("users: create, {}", made::ROLES);
    let mut setup = made::making(&provider, &made_at_login);
    setup.gateway.push_str("public_url: http://127.0.0.1:1\n");
    setup.gateway.push_str(&Redis::yaml());
    setup.files.extend(redis.files());
    let gateways = [(); 2].map(|()| Gateway::start(&setup));
    let [one, other] = &gateways;
    made::says(&provider, |claims| claims["groups"] = serde_json::json!(["grp-clerk"]));
    let mut browser = made::sign_in(one, &provider, "00u/zoe");
    let (access, refresh_token) = made::tokens_of(one, &mut browser);
    wait_for("the user to be known at the other", || {
        (made::as_clerk(other, &access) == "permit").then_some(())
    });
    // The session and what it gave are good at both; a login at the other takes the role at the
    // first.
    let mut elsewhere = Browser::new(other.address);
    elsewhere.cookie.clone_from(&browser.cookie);
    assert_eq!(made::as_clerk(one, &made::tokens_of(other, &mut elsewhere).0), "permit");
    made::says(&provider, |claims| claims["groups"] = serde_json::json!([]));
    made::sign_in(other, &provider, "00u/zoe");
    assert_eq!(made::as_clerk(other, &access), "acl.role", "at once where it signed in");
    wait_for("the role to be taken at the first", || {
        (made::as_clerk(one, &access) == "acl.role").then_some(())
    });
    let name = made::only(one);
    assert_eq!(made::only(other), name);
    assert_eq!(command(one, &["user", "lock", &name]).0, Some(0));
    for gateway in &gateways {
        wait_for("the lock", || (verdict(gateway, &access) == "token.invalid").then_some(()));
        assert_eq!(refresh(gateway, "web", &refresh_token).status, 400);
    }
    assert!(elsewhere.get("/oauth2/connections").body.contains("Continue with"));
    // Who begins later knows it too.
    let late = Gateway::start(&setup);
    assert_eq!(made::made(&late)[0]["locked"], serde_json::json!(true));
    assert_eq!(command(&late, &["user", "unlock", &name]).0, Some(0));
    let access = wait_for("a login that is later than the lock", || {
        let mut browser = made::sign_in(&late, &provider, "00u/zoe");
        let page = browser.get("/oauth2/connections");
        if page.body.contains("Continue with") {
            return None;
        }
        let (access, _) = made::tokens_of(&late, &mut browser);
        (verdict(&late, &access) == "permit").then_some(access)
    });
    wait_for("the user at the others", || (verdict(one, &access) == "permit").then_some(()));
}

#[test]
fn a_revocation_at_one_is_refused_at_all() {
    let redis = Redis::start();
    let setup = over(&redis);
    let gateways = [(); 3].map(|()| Gateway::start(&setup));
    // Under load: clients that call without a pause, at each of them.
    let busy = own_token(&gateways[0], "machine");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let waits = std::thread::scope(|scope| {
        for gateway in &gateways {
            let (busy, stop) = (&busy, &stop);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(verdict(gateway, busy), "permit");
                }
            });
        }
        let waits = revoke_in_turn(&gateways);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        waits
    });
    let (median, worst) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    println!(
        "{} revocations at all three: median {median:?}, 99th percentile {worst:?}",
        waits.len()
    );
    judge("a revocation at all three", worst, Duration::from_secs(1));
    wait_for("all to be counted", || {
        gateways[0]
            .metric("scopegate_revocation_propagation_seconds_count")
            .filter(|heard| *heard >= 60.0)
    });
}

/// Revokes a token at one gateway after the other: how long it took until it was refused at all, in
/// order of length.
fn revoke_in_turn(gateways: &[Gateway; 3]) -> Vec<Duration> {
    let mut waits = Vec::new();
    for round in 0..crate::support::many("ROUNDS", 60).max(60) {
        let (by, client): (&Gateway, _) =
            (&gateways[round % 3], if round % 2 == 0 { "machine" } else { "opaque" });
        let access = own_token(by, client);
        for gateway in gateways {
            assert_eq!(verdict(gateway, &access), "permit");
        }
        let body = crate::support::browser::encode(&[("token", &access)]);
        let revoked = by.send(crate::support::http::form(
            "/oauth2/revoke",
            &[("Authorization", &crate::authorization::basic(client))],
            &body,
        ));
        assert_eq!(revoked.status, 200, "{revoked:?}");
        let began = Instant::now();
        assert_eq!(verdict(by, &access), "token.invalid", "at once where it was made");
        for gateway in gateways {
            wait_for("the token to be refused", || {
                (verdict(gateway, &access) == "token.invalid").then_some(())
            });
        }
        waits.push(began.elapsed());
    }
    waits.sort();
    waits
}

#[test]
fn codes_and_refresh_tokens_are_single_use_over_all_gateways() {
    let redis = Redis::start();
    let mut setup = over(&redis);
    setup.gateway =
        setup.gateway.replace("refresh_token] }", "refresh_token], refresh_grace: 0s }");
    let gateways = [(); 2].map(|()| Gateway::start(&setup));
    let mut browser = crate::authorization::alice(&gateways[0]);
    let rounds = crate::support::many("ROUNDS", 20);
    for round in 0..rounds {
        let code = code(&mut browser, &request("web", &[("state", &format!("s{round}"))]));
        let parallel = |attempt: &(dyn Fn(&Gateway) -> u16 + Sync)| -> usize {
            std::thread::scope(|scope| {
                let attempts: Vec<_> = (0..10)
                    .map(|n| {
                        let gateway = &gateways[n % 2];
                        scope.spawn(move || attempt(gateway))
                    })
                    .collect();
                attempts
                    .into_iter()
                    .filter(|_| true)
                    .map(|attempt| attempt.join().unwrap())
                    .filter(|status| *status == 200)
                    .count()
            })
        };
        assert_eq!(parallel(&|gateway| redeem(gateway, "web", &code).status), 1, "round {round}");
        let (_, refresh_token) = tokens(&gateways[round % 2], "web");
        assert_eq!(
            parallel(&|gateway| refresh(gateway, "web", &refresh_token).status),
            1,
            "round {round}"
        );
    }
}

#[test]
fn a_block_by_command_bites_everywhere_and_ends() {
    let redis = Redis::start();
    let setup = over(&redis);
    let gateways = [(); 2].map(|()| Gateway::start(&setup));
    let access = own_token(&gateways[0], "machine");
    let acting = own_token(&gateways[1], "acting");
    let id = {
        use base64::Engine as _;
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(access.split('.').nth(1).unwrap())
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["jti"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (whom, value, token, reason) in [
        ("--client", "machine", &access, "blocked.client"),
        ("--user", "bob", &acting, "blocked.user"),
        ("--token", id.as_str(), &access, "blocked.token"),
        ("--network", "203.0.113.0/24", &access, "blocked.network"),
    ] {
        let (code, text) =
            command(&gateways[0], &["block", whom, value, "--reason", "abuse", "--for", "1h"]);
        assert_eq!(code, Some(0), "{text}");
        for gateway in &gateways {
            let began = Instant::now();
            wait_for(reason, || (verdict(gateway, token) == reason).then_some(()));
            judge(reason, began.elapsed(), Duration::from_secs(1));
        }
        let (_, listed) = command(&gateways[1], &["block", "--list"]);
        assert!(listed.contains(value) && listed.contains("abuse"), "{listed}");
        let late = Gateway::start(&setup);
        assert_eq!(verdict(&late, token), reason, "and where it was not there yet");
        let (code, text) = command(&gateways[1], &["unblock", whom, value]);
        assert_eq!(code, Some(0), "{text}");
        for gateway in &gateways {
            wait_for("the block to end", || (verdict(gateway, token) == "permit").then_some(()));
        }
        assert_eq!(command(&gateways[1], &["unblock", whom, value]).0, Some(2), "there is none");
    }
    for wrong in [
        &["block", "--client", "mashine"][..],
        &["block", "--network", "10.0.0.0/99"],
        &["block", "--user", "bob", "--for", "soon"],
        &["block", "--user", "bob", "--for", "-1h"],
        &["block", "--user", "bob", "--for", "1ms"],
        &["block"],
        &["block", "--list", "--client", "machine"],
    ] {
        let (code, text) = command(&gateways[0], wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {text}");
    }
    let (_, listed) = command(&gateways[0], &["block", "--list", "--format", "json"]);
    assert!(listed.contains("\"blocks\":[]"), "{listed}");
    // One that ends by itself.
    assert_eq!(command(&gateways[0], &["block", "--client", "machine", "--for", "10s"]).0, Some(0));
    wait_for("the block", || (verdict(&gateways[1], &access) == "blocked.client").then_some(()));
    wait_for("its end", || (verdict(&gateways[1], &access) == "permit").then_some(()));
}

#[test]
fn an_embedded_store_moves_into_redis_while_it_serves() {
    let redis = Redis::start();
    let mut old = setup("");
    old.gateway.push_str("public_url: http://127.0.0.1:1\nstore: { embedded: { path: data } }\n");
    let folder = tempfile::tempdir().unwrap();
    old.gateway = old
        .gateway
        .replace("path: data", &format!("path: {}", folder.path().join("data").display()));
    let (before, jwt) = {
        let gateway = Gateway::start(&old);
        let jwt = own_token(&gateway, "machine");
        (gateway, jwt)
    };
    let opaque = own_token(&before, "opaque");
    let gone = own_token(&before, "opaque");
    let (access, first) = tokens(&before, "web");
    let second = member(&refresh(&before, "web", &first), "refresh_token");
    let (_, other) = tokens(&before, "opaque");
    let browser = crate::authorization::alice(&before);
    assert_eq!(command(&before, &["block", "--client", "acting", "--reason", "moved"]).0, Some(0));
    let revoke = |gateway: &Gateway, token: &str| {
        let body = crate::support::browser::encode(&[("token", token)]);
        let basic = crate::authorization::basic("opaque");
        let answer = gateway.send(crate::support::http::form(
            "/oauth2/revoke",
            &[("Authorization", &basic)],
            &body,
        ));
        assert_eq!(answer.status, 200);
    };
    revoke(&before, &gone);
    let after = over(&redis);
    let place = tempfile::tempdir().unwrap();
    let [a, b, c] = crate::support::free_addresses();
    let target = after.write(place.path(), a, b, c);
    let moves = || {
        let (code, text) = command(&before, &["store", "move", "--to", target.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{text}");
    };
    moves();
    let gateway = Gateway::start(&after);
    for token in [&jwt, &opaque, &access] {
        assert_eq!(verdict(&gateway, token), "permit");
    }
    assert_eq!(verdict(&gateway, &gone), "token.invalid", "what was revoked stays so");
    let acting = own_token(&gateway, "acting");
    assert_eq!(verdict(&gateway, &acting), "blocked.client");
    let mut here = Browser::new(gateway.address);
    here.cookie.clone_from(&browser.cookie);
    let code = code(&mut here, &request("web", &[]));
    assert_eq!(redeem(&gateway, "web", &code).status, 200, "signed in, and its consent remembered");
    let third = member(&refresh(&gateway, "web", &second), "refresh_token");
    // What happens meanwhile: there something is revoked and signed out, here something is issued
    // and used.
    revoke(&gateway, &opaque);
    assert_eq!(command(&gateway, &["unblock", "--client", "acting"]).0, Some(0));
    let late = own_token(&before, "opaque");
    let next = member(&refresh(&before, "opaque", &other), "refresh_token");
    moves();
    assert_eq!(verdict(&gateway, &late), "permit");
    assert_eq!(verdict(&gateway, &opaque), "token.invalid", "what was ended there is not revived");
    assert_eq!(
        refresh(&gateway, "opaque", &next).status,
        200,
        "what was rotated here goes on there"
    );
    wait_for("the block to stay ended", || (verdict(&gateway, &acting) == "permit").then_some(()));
    let fourth = refresh(&gateway, "web", &third);
    assert_eq!(fourth.status, 200, "what was rotated there is as it was");
    assert_eq!(refresh(&gateway, "web", &first).status, 400, "used here, used there");
    assert_eq!(
        refresh(&gateway, "web", &member(&fourth, "refresh_token")).status,
        400,
        "and its second use ends the family"
    );
    // Only from here to there, and only for one issuer.
    let (status, text) = command(&gateway, &["store", "move", "--to", target.to_str().unwrap()]);
    assert!(status == Some(2) && text.contains("Redis"), "{text}");
    std::fs::write(
        &target,
        std::fs::read_to_string(&target)
            .unwrap()
            .replace("http://127.0.0.1:1\n", "http://127.0.0.1:2\n"),
    )
    .unwrap();
    let (status, text) = command(&before, &["store", "move", "--to", target.to_str().unwrap()]);
    assert!(status == Some(2) && text.contains("public_url"), "{text}");
}
