//! Login at an external page, which answers the admin listener; and the acts of that listener.

use serde_json::{Value, json};

use super::{alice, code, member, redeem, refresh, request, setup, tokens};
use crate::support::browser::{Browser, form_token, parameters};
use crate::support::http::{Response, send};
use crate::support::{Gateway, free_address};

const TOKEN: &str = "admin-token-of-more-than-thirty-two-characters";
const PAGE: &str = "https://login.example/sign-in";

struct Bench {
    gateway: Gateway,
    admin: std::net::SocketAddr,
}

/// With an external page for all clients, or for `opaque` alone.
fn bench(everywhere: bool) -> Bench {
    let admin = free_address();
    let login =
        if everywhere { format!(", login: {{ login_url: '{PAGE}' }}") } else { String::new() };
    let mut setup = setup(&login);
    setup.gateway.push_str(&format!("admin: {{ address: '{admin}', token: file:admin }}\n"));
    setup.files = vec![("admin".into(), format!("{TOKEN}\n"))];
    if !everywhere {
        setup.clients =
            setup.clients.replace("  opaque:\n", &format!("  opaque:\n    login_url: '{PAGE}'\n"));
    }
    Bench { gateway: Gateway::start(&setup), admin }
}

impl Bench {
    fn ask(&self, method: &str, target: &str, token: Option<&str>, body: &Value) -> Response {
        let body = body.to_string();
        let token =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        send(
            self.admin,
            format!(
                "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: \
                    close\r\n{token}Content-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
    }

    fn act(&self, target: &str, body: &Value) -> Response {
        self.ask("POST", target, Some(TOKEN), body)
    }
}

/// What the page gets: the challenge of a browser that was sent there.
fn sent_away(browser: &mut Browser, target: &str) -> String {
    let answer = browser.get(target);
    assert_eq!(answer.status, 303, "{answer:?}");
    assert!(
        answer.header("location").unwrap().starts_with(&format!("{PAGE}?login_challenge=")),
        "{answer:?}"
    );
    parameters(&answer).remove("login_challenge").unwrap()
}

/// The target of a URL of ours.
fn target(url: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

#[test]
fn whom_the_external_page_names_is_signed_in_in_the_browser_that_was_sent_there() {
    let bench = bench(true);
    let mut browser = Browser::new(bench.gateway.address);
    let challenge = sent_away(&mut browser, &request("web", &[]));
    let shown =
        bench.ask("GET", &format!("/login?login_challenge={challenge}"), Some(TOKEN), &json!({}));
    assert_eq!(shown.json()["client"]["name"], "Web shop");
    let answer =
        bench.act("/login/accept", &json!({ "login_challenge": challenge, "subject": "alice" }));
    assert_eq!(answer.status, 200, "{answer:?}");
    let back = target(answer.json()["redirect_to"].as_str().unwrap());

    let mut thief = Browser::new(bench.gateway.address);
    sent_away(&mut thief, &request("web", &[]));
    let before = browser.cookie.clone();
    let next = browser.get(&back);
    assert_eq!((next.status, next.header("location")), (303, Some(request("web", &[]).as_str())));
    assert_ne!(browser.cookie, before, "no fixation");
    assert_eq!(browser.get(&back).status, 400, "good once");
    let page = browser.get(&request("web", &[]));
    assert!(
        page.body.contains("Alice Doe") && page.body.contains("value=\"allow\""),
        "{}",
        page.body
    );
    let code = parameters(&browser.submit(&page, "allow", &[])).remove("code").unwrap();
    member(&redeem(&bench.gateway, "web", &code), "access_token");

    let challenge = sent_away(&mut thief, &request("web", &[("state", "other")]));
    let answer =
        bench.act("/login/accept", &json!({ "login_challenge": challenge, "subject": "alice" }));
    let back = target(answer.json()["redirect_to"].as_str().unwrap());
    let mut victim = Browser::new(bench.gateway.address);
    assert_eq!(victim.get(&back).status, 400, "another browser cannot take the login over");
    assert!(victim.cookie.is_none());
    assert_eq!(thief.get(&back).status, 400, "and then it is gone");
}

#[test]
fn only_our_own_unanswered_challenges_and_users_who_may_sign_in_are_taken() {
    let bench = bench(true);
    let mut browser = Browser::new(bench.gateway.address);
    let challenge = sent_away(&mut browser, &request("web", &[]));
    let accept = |challenge: &str, subject: &str| {
        bench
            .act("/login/accept", &json!({ "login_challenge": challenge, "subject": subject }))
            .status
    };
    for subject in ["nobody", "locked", "web", ""] {
        assert_eq!(accept(&challenge, subject), 400, "{subject}");
    }
    let (header, rest) = challenge.split_once('.').unwrap();
    let own = member(
        &super::token(&bench.gateway, "web", &[("grant_type", "client_credentials")]),
        "access_token",
    );
    for wrong in [
        "",
        "x",
        &format!("{header}.e30.{}", rest.split_once('.').unwrap().1),
        &challenge[..challenge.len() - 4],
        &own,
    ] {
        assert_eq!(accept(wrong, "alice"), 400, "{wrong}");
    }
    assert_eq!(
        bench.gateway.get("/orders/1", Some(&challenge)).verdict(),
        "token.invalid",
        "a challenge is no access token"
    );
    assert_eq!(accept(&challenge, "alice"), 200);
    assert_eq!(accept(&challenge, "alice"), 409);
    let challenge = sent_away(&mut browser, &request("web", &[]));
    let rejected = bench
        .act("/login/reject", &json!({ "login_challenge": challenge, "error_description": "no" }));
    let back = url::Url::parse(rejected.json()["redirect_to"].as_str().unwrap()).unwrap();
    let fields: std::collections::BTreeMap<_, _> = back.query_pairs().into_owned().collect();
    assert_eq!((fields["error"].as_str(), fields["state"].as_str()), ("access_denied", "s-1"));
    // There is no login page of ours to guess at.
    let forced = browser.post(
        &request("web", &[]),
        &[("act", "login"), ("username", "alice"), ("password", super::PASSWORD)],
    );
    assert_eq!((forced.status, forced.header("set-cookie")), (400, None));
}

#[test]
fn a_client_may_have_a_page_of_its_own() {
    let bench = bench(false);
    let mut browser = Browser::new(bench.gateway.address);
    assert!(browser.get(&request("web", &[])).body.contains("name=\"password\""));
    sent_away(&mut browser, &request("opaque", &[]));
    assert!(!form_token(&browser.get(&request("web", &[]))).is_empty());
}

#[test]
fn every_act_needs_the_token_and_revocations_bite_at_once() {
    let bench = bench(false);
    for (method, target) in [
        ("POST", "/revoke"),
        ("GET", "/login?login_challenge=x"),
        ("POST", "/login/accept"),
        ("GET", "/nothing"),
    ] {
        for token in [None, Some("wrong"), Some(&TOKEN[1..])] {
            let answer = bench.ask(method, target, token, &json!({ "all": true }));
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some("Bearer realm=\"admin\"")),
                "{target}"
            );
        }
    }
    for (client, what) in [
        ("web", "token"),
        ("web", "client"),
        ("opaque", "user"),
        ("web", "all"),
        ("web", "authorization"),
    ] {
        // Those by time take all of their second.
        std::thread::park_timeout(std::time::Duration::from_millis(1_100));
        let (access, refresh_token) = if client == "web" {
            tokens(&bench.gateway, client)
        } else {
            let mut browser = alice(&bench.gateway);
            let code = code(&mut browser, &request(client, &[]));
            let response = redeem(&bench.gateway, client, &code);
            (member(&response, "access_token"), member(&response, "refresh_token"))
        };
        let value = match what {
            "token" => json!(access),
            "client" => json!(client),
            "user" => json!("alice"),
            "authorization" => {
                use base64::Engine as _;
                let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
                    .decode(access.split('.').nth(1).unwrap())
                    .unwrap();
                serde_json::from_slice::<Value>(&claims).unwrap()["authorization_id"].clone()
            }
            _ => json!(true),
        };
        assert_eq!(bench.act("/revoke", &json!({ what: value })).status, 200, "{what}");
        assert_eq!(
            bench.gateway.get("/orders/1", Some(&access)).verdict(),
            "token.invalid",
            "{what}"
        );
        let still = refresh(&bench.gateway, client, &refresh_token).status;
        assert_eq!(still, if what == "token" { 200 } else { 400 }, "{what}");
    }
    for wrong in [
        json!({}),
        json!({ "nothing": 1 }),
        json!({ "all": false }),
        json!({ "token": "x" }),
        json!("all"),
    ] {
        let status = bench.act("/revoke", &wrong).status;
        assert!((400..500).contains(&status), "{wrong}: {status}");
    }
}
