//! The pages, as a browser without a script sees them.

use super::{PASSWORD, alice, code, gateway, member, redeem, refresh, request};
use crate::support::Browser;
use crate::support::browser::{form_token, parameters};

#[test]
fn who_has_not_signed_in_does_so_first_and_gets_a_new_cookie() {
    let gateway = gateway();
    let mut browser = Browser::new(gateway.address);
    let page = browser.get(&request("web", &[]));
    assert_eq!(page.status, 200);
    let before = browser.cookie.clone().unwrap();
    for header in [
        "content-security-policy",
        "x-frame-options",
        "referrer-policy",
        "cache-control",
        "x-content-type-options",
    ] {
        assert!(page.header(header).is_some(), "{header}: {page:?}");
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("frame-ancestors 'none'")
            && policy.contains("form-action 'self' https://app.example"),
        "{policy}"
    );
    let consent = browser.sign_in(&page, "alice", PASSWORD);
    assert!(consent.body.contains("value=\"allow\""), "{}", consent.body);
    assert_ne!(browser.cookie.clone().unwrap(), before, "no fixation");
    let mut fixated = Browser::new(gateway.address);
    fixated.cookie = Some(before);
    assert!(
        fixated.get(&request("web", &[])).body.contains("name=\"password\""),
        "the old cookie names nobody"
    );
}

#[test]
fn wrong_names_and_wrong_passwords_look_the_same() {
    let gateway = gateway();
    let mut texts = Vec::new();
    for (name, password) in
        [("alice", "wrong"), ("nobody", PASSWORD), ("no-password", PASSWORD), ("alice", "")]
    {
        let mut browser = Browser::new(gateway.address);
        let page = browser.get(&request("web", &[]));
        let answer = browser.submit(&page, "login", &[("username", name), ("password", password)]);
        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.body.contains("role=\"alert\""), "{name}");
        assert!(!answer.body.contains(PASSWORD), "what was typed as a password is never shown");
        let body = answer
            .body
            .replace(&form_token(&answer), "")
            .replace(&format!("value=\"{name}\""), "value=\"\"");
        texts.push(body);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    let mut browser = Browser::new(gateway.address);
    let page = browser.get(&request("web", &[]));
    let locked = browser.submit(&page, "login", &[("username", "locked"), ("password", PASSWORD)]);
    assert!(locked.body.contains("locked or inactive"), "{}", locked.body);
}

#[test]
fn s52_guessing_ends_after_five_for_the_guesser_and_not_for_the_owner() {
    let mut gateway = gateway();
    let guess = |gateway: &crate::support::Gateway, from: &str, password: &str| {
        let mut browser = Browser::new(gateway.address);
        browser.lines = format!("X-Forwarded-For: {from}\r\n");
        let page = browser.get(&request("web", &[]));
        browser.submit(&page, "login", &[("username", "alice"), ("password", password)])
    };
    for _ in 0..5 {
        assert_eq!(guess(&gateway, "192.0.2.1", "wrong").status, 200);
    }
    for restarted in [false, true] {
        if restarted {
            gateway.restart();
        }
        let closed = guess(&gateway, "192.0.2.1", PASSWORD);
        assert_eq!(closed.status, 429, "also with the right password, restarted: {restarted}");
        assert!(closed.header("retry-after").unwrap().parse::<u32>().unwrap() > 600);
        assert_eq!(
            guess(&gateway, "192.0.2.2", PASSWORD).status,
            303,
            "the owner gets in, restarted: {restarted}"
        );
    }
}

#[test]
fn s52_of_a_thousand_secrets_at_once_few_are_looked_at() {
    let gateway = gateway();
    let mut limited = 0;
    for _ in 0..100 {
        let answer = gateway.send(crate::support::http::form(
            "/oauth2/token",
            &[("Authorization", "Basic d2ViOndyb25n")],
            "grant_type=client_credentials",
        ));
        limited += usize::from(answer.status == 429);
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
        }
    }
    assert_eq!(limited, 95);
}

#[test]
fn a_form_that_no_page_gave_to_this_browser_does_nothing() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let target = request("web", &[]);
    let page = browser.get(&target);
    let token = form_token(&page);
    let other_target = request("web", &[("scope", "orders_read")]);
    let mut other = alice(&gateway);
    let mut anonymous = Browser::new(gateway.address);
    for (who, answer) in [
        ("without a token", browser.post(&target, &[("act", "allow")])),
        ("with a wrong one", browser.post(&target, &[("act", "allow"), ("form_token", "x")])),
        (
            "for another request",
            browser.post(&other_target, &[("act", "allow"), ("form_token", &token)]),
        ),
        ("from another browser", other.post(&target, &[("act", "allow"), ("form_token", &token)])),
        ("without a cookie", anonymous.post(&target, &[("act", "allow"), ("form_token", &token)])),
        ("without an act", browser.post(&target, &[("form_token", &token)])),
        (
            "a login from elsewhere",
            anonymous
                .post(&target, &[("act", "login"), ("username", "alice"), ("password", PASSWORD)]),
        ),
    ] {
        assert_eq!(
            (answer.status, answer.header("location"), answer.header("set-cookie")),
            (400, None, None),
            "{who}"
        );
        assert!(answer.body.contains("start again"), "{who}: {}", answer.body);
    }
    assert_eq!(browser.post(&target, &[("act", "allow"), ("form_token", &token)]).status, 303);
}

#[test]
fn who_says_no_is_sent_back_with_that_and_stays_signed_in() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let page = browser.get(&request("web", &[]));
    let answer = browser.submit(&page, "deny", &[]);
    let back = parameters(&answer);
    assert_eq!(
        (answer.status, back["error"].as_str(), back["state"].as_str()),
        (303, "access_denied", "s-1")
    );
    assert!(
        browser.get(&request("web", &[])).body.contains("value=\"allow\""),
        "and is asked again next time"
    );
    let page = browser.get(&request("web", &[]));
    let answer = browser.submit(&page, "logout", &[]);
    assert_eq!(answer.status, 303);
    assert!(
        browser.get(answer.header("location").unwrap()).body.contains("name=\"password\""),
        "not you"
    );
}

#[test]
fn to_sign_out_ends_the_session_in_the_store_too() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let before = browser.cookie.clone();
    let mut tab = Browser::new(gateway.address);
    let page = tab.get("/oauth2/connections");
    // The form of a tab that was opened before somebody signed in does not fit the browser's new
    // cookie.
    assert_eq!(
        browser
            .post("/oauth2/connections", &[("act", "login"), ("form_token", &form_token(&page))])
            .status,
        400
    );
    let mut old = Browser::new(gateway.address);
    old.cookie = before;
    assert!(old.get("/oauth2/connections").body.contains("Alice Doe"));
    let page = browser.get("/oauth2/connections");
    let answer = browser.submit(&page, "logout", &[]);
    assert_eq!(answer.status, 303);
    assert!(
        old.get("/oauth2/connections").body.contains("name=\"password\""),
        "the store has forgotten it too"
    );
}

#[test]
fn a_new_password_ends_what_the_old_one_began() {
    let setup = super::setup("");
    let gateway = crate::support::Gateway::start(&setup);
    let mut browser = alice(&gateway);
    assert!(browser.get("/oauth2/connections").body.contains("Alice Doe"));
    let other = setup.users.replace("m=1024,t=1,p=1$", "m=2048,t=1,p=1$");
    assert_ne!(other, setup.users);
    gateway.rewrite("users.yaml", &other);
    assert!(gateway.reload());
    assert!(browser.get("/oauth2/connections").body.contains("name=\"password\""));
}

#[test]
fn a_second_submit_and_a_second_tab_each_get_a_code_that_is_good() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let (first, second) =
        (browser.get(&request("web", &[])), browser.get(&request("web", &[("state", "tab-2")])));
    let one = parameters(&browser.submit(&first, "allow", &[]));
    let twice = parameters(&browser.submit(&first, "allow", &[]));
    let tab = parameters(&browser.submit(&second, "allow", &[]));
    assert_eq!(tab["state"], "tab-2");
    for code in [&one["code"], &twice["code"], &tab["code"]] {
        member(&redeem(&gateway, "web", code), "access_token");
    }
}

#[test]
fn a_user_sees_what_is_connected_and_ends_it() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let mut given = Vec::new();
    for client in ["web", "opaque"] {
        let code = code(&mut browser, &request(client, &[("scope", "orders_read")]));
        let response = redeem(&gateway, client, &code);
        given.push((member(&response, "access_token"), member(&response, "refresh_token")));
    }
    let page = browser.get("/oauth2/connections");
    assert!(page.body.contains("Web shop") && page.body.contains("Read orders"), "{}", page.body);
    let token = form_token(&page);
    let after = browser.post(
        "/oauth2/connections",
        &[("form_token", &token), ("act", "disconnect"), ("client", "web")],
    );
    assert!(
        after.status == 200 && after.body.contains("Web shop was disconnected"),
        "{}",
        after.body
    );
    assert_eq!(gateway.get("/orders/1", Some(&given[0].0)).verdict(), "token.invalid");
    assert_eq!(refresh(&gateway, "web", &given[0].1).status, 400);
    assert_eq!(gateway.get("/orders/1", Some(&given[1].0)).status, 200, "the other stays");
    assert_eq!(
        browser.get(&request("web", &[("scope", "orders_read")])).status,
        200,
        "and the consent is forgotten"
    );
    let mut bob = Browser::new(gateway.address);
    let page = bob.get("/oauth2/connections");
    let page = bob.sign_in(&page, "bob", PASSWORD);
    assert!(!page.body.contains("opaque"), "what others have connected is not shown");
    let stolen = bob.post(
        "/oauth2/connections",
        &[("form_token", &token), ("act", "disconnect"), ("client", "opaque")],
    );
    assert_eq!(stolen.status, 400);
}
