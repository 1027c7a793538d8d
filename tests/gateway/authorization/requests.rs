//! Authorization requests that are wrong: those that nobody may be redirected for, and those whose
//! client is told.

use super::{CALLBACK, alice, gateway, request};
use crate::support::Browser;
use crate::support::browser::{encode, parameters};

#[test]
fn s44_whoever_asks_with_another_redirect_uri_gets_a_page_and_no_redirect() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let variants = [
        "https://app.example/cb/",
        "https://app.example/CB",
        "https://app.example/cb?x=1",
        "https://app.example/cb#f",
        "https://app.example/cb%20",
        "https://app.example/c%62",
        "https://app.example/./cb",
        "https://app.example/x/../cb",
        "https://app.example//cb",
        "https://app.example/cb;x",
        "https://app.example/cb\\",
        "https://app.example/other",
        "https://app.example/other?x=2",
        "https://app.example/other?x=1&y=2",
        "https://app.example/",
        "https://app.example",
        "https://app.example:443/cb",
        "https://app.example:8443/cb",
        "https://APP.EXAMPLE/cb",
        "https://app.example./cb",
        "https://app.example.evil.example/cb",
        "https://evil.example/cb",
        "https://evil.example/https://app.example/cb",
        "https://evil.example?https://app.example/cb",
        "https://evil.example#https://app.example/cb",
        "https://app.example@evil.example/cb",
        "https://app.example%40evil.example/cb",
        "https://app.example\\@evil.example/cb",
        "https://evil.example\\.app.example/cb",
        "https:\\\\app.example\\cb",
        "https:app.example/cb",
        "https:/app.example/cb",
        "https:///app.example/cb",
        "http://app.example/cb",
        "HTTPS://app.example/cb",
        "//app.example/cb",
        "/cb",
        "cb",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        " https://app.example/cb",
        "https://app.example/cb ",
        "https://app.example/cb\n",
        "https://app.example/cb\r\nSet-Cookie: x=y",
        "https://app.example/cb\t",
        "https://app.example/cb,https://evil.example",
        "https://app.example/cb https://evil.example",
        "https://*/cb",
        "https://app.example/*",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:8080/cb",
        "http://localhost/cb",
        "com.example.app:/cb",
        "urn:ietf:wg:oauth:2.0:oob",
        "https://app.ex\u{430}mple/cb",
        "https://xn--ple-3ya.example/cb",
        "https://[::1]/cb",
        "null",
    ];
    assert_eq!(variants.len(), 60);
    for variant in variants {
        for act in [false, true] {
            let target = request("web", &[("redirect_uri", variant)]);
            let answer =
                if act { browser.post(&target, &[("act", "allow")]) } else { browser.get(&target) };
            assert_eq!(
                (answer.status, answer.header("location")),
                (400, None),
                "{variant}: {answer:?}"
            );
            assert!(answer.body.contains("redirect_uri is none of"), "{variant}: {}", answer.body);
        }
    }
}

#[test]
fn what_is_wrong_before_the_client_is_known_ends_on_a_page_with_the_decision_id() {
    let gateway = gateway();
    let mut browser = Browser::new(gateway.address);
    for (target, words) in [
        ("/oauth2/authorize".to_owned(), "client_id is missing"),
        (request("nobody", &[]), "client_id names no application"),
        (request("<script>alert(1)</script>", &[]), "client_id names no application"),
        (request("web", &[("redirect_uri", "")]), "several redirect_urls"),
        (format!("{}&client_id=web", request("web", &[])), "client_id occurs twice"),
        (format!("{}&redirect_uri=x", request("web", &[])), "redirect_uri occurs twice"),
        (
            format!("{}&state=x&redirect_uri=https://evil.example", request("web", &[])),
            "redirect_uri occurs twice",
        ),
        (format!("{}&x=%ff", request("web", &[])), "cannot be read"),
    ] {
        let answer = browser.get(&target);
        assert_eq!((answer.status, answer.header("location")), (400, None), "{target}");
        assert!(answer.body.contains(words), "{target}: {}", answer.body);
        assert!(answer.body.contains(answer.header("x-decision-id").unwrap()));
        assert!(!answer.body.contains("<script"), "{}", answer.body);
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    }
}

#[test]
fn every_other_fault_goes_back_to_the_client_with_state_and_issuer() {
    let gateway = gateway();
    let mut browser = Browser::new(gateway.address);
    let issuer = format!("http://127.0.0.1:{}", gateway.address.port());
    let long = "x".repeat(2_049);
    for (client, fields, expect) in [
        ("web", vec![("response_type", "")], "invalid_request"),
        ("web", vec![("response_type", "token")], "unsupported_response_type"),
        ("web", vec![("response_type", "code token")], "unsupported_response_type"),
        ("web", vec![("scope", "nothing")], "invalid_scope"),
        ("web", vec![("scope", "orders_read admin")], "invalid_scope"),
        ("web", vec![("scope", "a\"b")], "invalid_scope"),
        ("web", vec![("resource", "https://elsewhere.example")], "invalid_target"),
        ("web", vec![("code_challenge", "")], "invalid_request"),
        ("web", vec![("code_challenge", "short")], "invalid_request"),
        ("web", vec![("code_challenge_method", "")], "invalid_request"),
        ("no-pkce", vec![("code_challenge", "")], "invalid_request"),
        (
            "no-pkce",
            vec![("code_challenge", ""), ("code_challenge_method", "plain")],
            "invalid_request",
        ),
        ("web", vec![("code_challenge_method", "plain")], "invalid_request"),
        ("web", vec![("request", "eyJ")], "request_not_supported"),
        ("web", vec![("request_uri", "urn:x")], "request_not_supported"),
        ("machine", vec![], "unauthorized_client"),
        ("off", vec![], "unauthorized_client"),
    ] {
        let answer = browser.get(&request(client, &fields));
        assert_eq!(answer.status, 303, "{client} {fields:?}: {answer:?}");
        assert!(answer.header("location").unwrap().starts_with(&format!("{CALLBACK}?error=")));
        let back = parameters(&answer);
        assert_eq!(back["error"], expect, "{client} {fields:?}");
        assert_eq!((back["state"].as_str(), back["iss"].as_str()), ("s-1", issuer.as_str()));
        assert!(!back.contains_key("code"));
    }
    let twice = browser.get(&format!("{}&scope=a&scope=b", request("web", &[])));
    assert_eq!(parameters(&twice)["error"], "invalid_request");
    let answer = browser.get(&request("web", &[("state", &long)]));
    assert_eq!(parameters(&answer)["error"], "invalid_request");
    let with_query = browser.get(&request(
        "web",
        &[("redirect_uri", "https://app.example/other?x=1"), ("scope", "no")],
    ));
    assert!(
        with_query
            .header("location")
            .unwrap()
            .starts_with("https://app.example/other?x=1&error=invalid_scope&")
    );
    assert_eq!(
        browser.post("/oauth2/authorize", &[("client_id", "web")]).status,
        400,
        "the request stands in the URL alone"
    );
    assert_eq!(
        gateway
            .send(format!(
                "DELETE {} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                request("web", &[])
            ))
            .status,
        405
    );
    let unknown = browser.get(&format!(
        "{}&{}",
        request("web", &[]),
        encode(&[("nonce", "x"), ("display", "popup")])
    ));
    assert_eq!(unknown.status, 200, "unknown parameters are ignored");
}
