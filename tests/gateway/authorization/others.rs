//! Clients that other people wrote: in browsers, in editors, inside the same network, of OpenID
//! libraries. What they need is let in, and nothing else with it.

use serde_json::json;

use super::{PASSWORD, alice, basic, code, gateway, redeem, refresh, request, setup, token};
use crate::support::browser::{encode, parameters};
use crate::support::http::{Response, form};
use crate::support::{Browser, Gateway};

fn ignoring() -> Gateway {
    Gateway::start(&setup(", ignored_scopes: [openid, offline_access]"))
}

#[test]
fn ignored_scopes_are_left_out_and_count_as_asked_for() {
    let gateway = ignoring();
    let grant = ("grant_type", "client_credentials");
    for (asked, granted) in [
        ("orders_read offline_access", Some("orders_read")),
        ("openid offline_access orders_read openid", Some("orders_read")),
        ("openid", Some("")),
        ("", Some("orders_read orders_write stock_read")),
        ("openid profile", None),
        ("OPENID", None),
        ("orders_read stock", None),
    ] {
        let answer = token(&gateway, "web", &[grant, ("scope", asked)]);
        let scope = answer.json()["scope"].as_str().map(str::to_owned);
        assert_eq!(scope.as_deref(), granted, "{asked}: {answer:?}");
        if granted.is_none() {
            assert_eq!(answer.json()["error"], "invalid_scope", "{asked}");
        }
    }
    let mut browser = alice(&gateway);
    for (asked, granted) in [("openid orders_read offline_access", "orders_read"), ("openid", "")] {
        let code = code(&mut browser, &request("web", &[("scope", asked)]));
        let first = redeem(&gateway, "web", &code).json();
        assert_eq!(first["scope"], granted, "{asked}");
        let again = refresh(&gateway, "web", first["refresh_token"].as_str().unwrap());
        assert_eq!(again.json()["scope"], granted, "{asked}");
        let narrowed = token(
            &gateway,
            "web",
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", again.json()["refresh_token"].as_str().unwrap()),
                ("scope", "offline_access"),
            ],
        );
        assert_eq!(narrowed.json()["scope"], "", "{asked}: {narrowed:?}");
    }
    // A token without a scope opens nothing.
    let answer = token(&gateway, "web", &[grant, ("scope", "openid")]).json();
    let response = gateway.get("/orders/1", answer["access_token"].as_str());
    assert_eq!(response.verdict(), "scope.missing");
}

fn asked_by(gateway: &Gateway, method: &str, path: &str, lines: &[&str]) -> Response {
    let lines = [&["Host: 127.0.0.1"][..], lines, &["\r\n"]].concat().join("\r\n");
    gateway.send(format!("{method} {path} HTTP/1.1\r\n{lines}"))
}

const READ: &str = "access-control-allow-origin";

#[test]
fn pages_of_public_clients_alone_may_read_tokens_and_every_page_the_documents() {
    let mut setup = setup("");
    setup.clients = setup.clients.replace(
        "redirect_urls: ['http://127.0.0.1/cb',",
        "redirect_urls: ['https://spa.example/cb', 'http://127.0.0.1/cb',",
    );
    let gateway = Gateway::start(&setup);
    let body = "grant_type=authorization_code&client_id=native&code=x";
    for (origin, may) in [
        ("https://spa.example", true),
        ("http://127.0.0.1:4000", true),
        ("http://localhost:6274", true),
        ("https://app.example", false),
        ("https://evil.example", false),
        ("https://spa.example.evil.example", false),
        ("http://spa.example", false),
        ("com.example.app:", false),
        ("null", false),
        ("*", false),
    ] {
        let line = format!("Origin: {origin}");
        for path in ["/oauth2/token", "/oauth_token.do", "/oauth2/revoke", "/oauth_revoke_token.do"]
        {
            let answer = gateway.send(form(path, &[("Origin", origin)], body));
            assert!(answer.status >= 400 || path.contains("revoke"), "{answer:?}");
            assert_eq!(answer.header(READ), may.then_some(origin), "{origin} {path}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
            assert!(
                answer.header("vary").is_some_and(|vary| vary.contains("Origin")),
                "{answer:?}"
            );
            let asks = ["Access-Control-Request-Method: POST", line.as_str()];
            let answer = asked_by(&gateway, "OPTIONS", path, &asks);
            assert_eq!(
                (answer.status, answer.header(READ)),
                (204, may.then_some(origin)),
                "{path}"
            );
            assert_eq!(answer.header("access-control-allow-methods"), may.then_some("POST"));
            assert!(answer.header("x-decision-id").is_some());
            gateway.record(answer.header("x-decision-id").unwrap());
        }
        for path in ["/oauth2/introspect", "/oauth2/authorize", "/oauth2/connections"] {
            let asks = ["Access-Control-Request-Method: POST", line.as_str()];
            let answer = asked_by(&gateway, "OPTIONS", path, &asks);
            assert_eq!((answer.status, answer.header(READ)), (405, None), "{path}");
            let answer = gateway.send(form(path, &[("Origin", origin)], body));
            assert_eq!(answer.header(READ), None, "{path}");
        }
        for path in [
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/orders",
            "/.well-known/oauth-protected-resource/nothing",
            "/.well-known/jwks.json",
            "/api/now/oauth/jwks",
        ] {
            let answer = asked_by(&gateway, "GET", path, &[line.as_str()]);
            assert_eq!(answer.header(READ), Some("*"), "{path}: {answer:?}");
            let asks = [
                "Access-Control-Request-Method: GET",
                "Access-Control-Request-Headers: mcp-protocol-version",
                line.as_str(),
            ];
            let answer = asked_by(&gateway, "OPTIONS", path, &asks);
            assert_eq!((answer.status, answer.header(READ)), (204, Some("*")), "{path}");
            let headers = answer.header("access-control-allow-headers").unwrap();
            assert!(headers.contains("mcp-protocol-version"), "{headers}");
        }
    }
    // Of several origins none can be believed.
    let two = [("Origin", "https://spa.example"), ("Origin", "https://spa.example")];
    assert_eq!(gateway.send(form("/oauth2/token", &two, body)).header(READ), None);
    // Who switches a client off, ends it for its pages.
    let text = std::fs::read_to_string(gateway.folder.path().join("clients.yaml")).unwrap();
    gateway.rewrite("clients.yaml", &text.replace("native:\n", "native:\n    active: false\n"));
    assert!(gateway.reload(), "{}", gateway.log());
    let origin = [("Origin", "https://spa.example")];
    assert_eq!(gateway.send(form("/oauth2/token", &origin, body)).header(READ), None);
}

#[test]
fn a_private_scheme_leads_to_its_application_with_consent_every_time() {
    let mut setup = setup("");
    let to = "cursor://anysphere.cursor-mcp/oauth/callback";
    setup.clients = setup.clients.replace("'com.example.app:/cb'", &format!("'{to}'"));
    let gateway = Gateway::start(&setup);
    let mut browser = alice(&gateway);
    let target = request("native", &[("redirect_uri", to), ("scope", "orders_read")]);
    for _ in 0..2 {
        let page = browser.get(&target);
        assert!(page.body.contains("value=\"allow\""), "consent is asked for: {page:?}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("form-action 'self' cursor:"), "{policy}");
        let answer = browser.submit(&page, "allow", &[]);
        assert!(answer.header("location").unwrap().starts_with(&format!("{to}?code=")));
    }
    for wrong in ["cursor://evil/oauth/callback", "cursor://anysphere.cursor-mcp/", "vscode://x/"] {
        let page = browser.get(&request("native", &[("redirect_uri", wrong)]));
        assert_eq!((page.status, page.header("location")), (400, None), "{wrong}");
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["check", "--config"])
        .arg(gateway.folder.path().join("gateway.yaml"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("client.private_scheme"), "{text}");
}

#[test]
fn an_openid_parser_finds_what_it_insists_on() {
    let gateway = gateway();
    let document = gateway.get("/.well-known/openid-configuration", None).json();
    for member in [
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    ] {
        assert!(document.get(member).is_some(), "{member}");
    }
    assert_eq!(document["subject_types_supported"], json!(["public"]));
    assert_eq!(document["prompt_values_supported"], json!(["none", "login", "consent"]));
    let plain = gateway.get("/.well-known/oauth-authorization-server", None).json();
    assert_eq!(plain.get("subject_types_supported"), None);
    for (member, value) in plain.as_object().unwrap() {
        assert_eq!(document.get(member), Some(value), "{member}");
    }
}

fn is_sign_in(page: &Response) -> bool {
    page.status == 200 && page.body.contains("name=\"password\"")
}

fn is_consent(page: &Response) -> bool {
    page.status == 200 && page.body.contains("value=\"allow\"")
}

#[test]
fn prompt_and_max_age_ask_for_what_they_say_and_do_not_ask_for_ever() {
    let gateway = gateway();
    let ask = |fields: &[(&str, &str)]| request("web", fields);
    let mut stranger = Browser::new(gateway.address);
    let answer = stranger.get(&ask(&[("prompt", "none")]));
    assert_eq!(parameters(&answer)["error"], "login_required");
    assert_eq!(parameters(&answer)["state"], "s-1");

    let mut browser = alice(&gateway);
    let answer = browser.get(&ask(&[("prompt", "none")]));
    assert_eq!(parameters(&answer)["error"], "consent_required");
    code(&mut browser, &ask(&[]));
    assert!(parameters(&browser.get(&ask(&[("prompt", "none")]))).contains_key("code"));
    assert!(parameters(&browser.get(&ask(&[("prompt", "select_account")]))).contains_key("code"));
    assert!(parameters(&browser.get(&ask(&[("max_age", "600")]))).contains_key("code"));
    let silent = ask(&[("prompt", "none"), ("max_age", "600")]);
    assert!(parameters(&browser.get(&silent)).contains_key("code"));

    // Consent is asked for although it is remembered.
    let page = browser.get(&ask(&[("prompt", "consent")]));
    assert!(is_consent(&page), "{page:?}");
    assert!(parameters(&browser.submit(&page, "allow", &[])).contains_key("code"));

    // A sign-in is asked for once, and the one before is not taken for it.
    for asked in [&[("prompt", "login")][..], &[("max_age", "0")]] {
        let page = browser.get(&ask(asked));
        assert!(is_sign_in(&page), "{asked:?}: {page:?}");
        let token = crate::support::browser::form_token(&page);
        let forged = browser.post(&ask(asked), &[("form_token", &token), ("act", "allow")]);
        assert_eq!((forged.status, forged.header("location")), (400, None), "{asked:?}");
        let answer = browser.sign_in(&page, "alice", PASSWORD);
        assert!(parameters(&answer).contains_key("code"), "{asked:?}: {answer:?}");
    }
    let page = browser.get(&ask(&[("prompt", "login consent")]));
    assert!(is_sign_in(&page));
    let page = browser.sign_in(&page, "alice", PASSWORD);
    assert!(is_consent(&page), "both were asked for: {page:?}");
    assert!(parameters(&browser.submit(&page, "allow", &[])).contains_key("code"));
    // Who comes back without having signed in anew, is asked again.
    let mut lazy = alice(&gateway);
    let page = lazy.get(&ask(&[("prompt", "login")]));
    let action = page.body.split("action=\"").nth(1).unwrap().split('"').next().unwrap();
    let action = action.replace("&amp;", "&").replace("&#38;", "&").replace("&#61;", "=");
    assert!(is_sign_in(&lazy.get(&action)));

    let old = ask(&[("prompt", "none"), ("max_age", "1")]);
    std::thread::park_timeout(std::time::Duration::from_millis(2_100));
    assert_eq!(parameters(&lazy.get(&old))["error"], "login_required");
    let page = lazy.get(&ask(&[("max_age", "1")]));
    assert!(is_sign_in(&page), "{page:?}");
    let answer = lazy.sign_in(&page, "alice", PASSWORD);
    assert!(parameters(&answer).contains_key("code"), "{answer:?}");
    for wrong in [("prompt", "none login"), ("max_age", "soon"), ("max_age", "-1")] {
        let answer = lazy.get(&ask(&[wrong]));
        assert_eq!(parameters(&answer)["error"], "invalid_request", "{wrong:?}");
    }
}

#[test]
fn machines_call_us_by_further_names_and_a_wrong_name_is_what_the_answer_says() {
    let mut setup = setup("");
    setup.gateway.push_str("hosts: [scopegate.internal]\n");
    setup.policies = setup.policies.replace(
        "apis:\n",
        "apis:\n  theirs: { host: api.other.example, base_path: /oauth2, upstream: api, \
         resources: { /token: [GET] } }\n",
    );
    let gateway = Gateway::start(&setup);
    let call = |method: &str, host: &str, path: &str, body: &str| {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                body.len()
            )
        };
        let basic = basic("web");
        gateway.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {basic}\r\n{length}\r\n\
             {body}"
        ))
    };
    let grant = encode(&[("grant_type", "client_credentials")]);
    let base = format!("http://127.0.0.1:{}", gateway.address.port());
    for host in ["scopegate.internal", "scopegate.internal:21000", "SCOPEGATE.internal"] {
        let answer = call("POST", host, "/oauth2/token", &grant);
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        let document = call("GET", host, "/.well-known/oauth-authorization-server", "").json();
        assert_eq!(document["issuer"], base, "nothing is made of a Host header");
        assert_eq!(call("GET", host, "/.well-known/jwks.json", "").status, 200);
        assert_eq!(
            call("GET", host, "/.well-known/oauth-protected-resource/orders", "").status,
            200
        );
    }
    for (host, path) in [
        ("scopegate.internal", "/oauth2/authorize"),
        ("scopegate.internal", "/oauth2/connections"),
        ("scopegate.internal", "/oauth2/login"),
        ("other.internal", "/oauth2/token"),
        ("other.internal", "/.well-known/jwks.json"),
        ("scopegate.internal.evil.example", "/oauth2/token"),
    ] {
        let answer = call("GET", host, path, "");
        assert_eq!(
            (answer.status, answer.verdict().as_str()),
            (404, "operation.unknown"),
            "{path}"
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("host {host}")) && detail.contains(&base), "{detail}");
        let record = gateway.record(answer.header("x-decision-id").unwrap());
        assert!(record["fault"].as_str().unwrap().contains(host), "{record}");
        assert_eq!(
            (&record["verdict"], &record["reason"]),
            (&json!("refuse"), &json!("operation.unknown"))
        );
    }
    // An API of another host has its own paths.
    let answer = call("GET", "api.other.example", "/oauth2/token", "");
    assert_eq!(answer.verdict(), "token.missing", "{answer:?}");
    // The names are read again.
    let text = std::fs::read_to_string(gateway.folder.path().join("gateway.yaml")).unwrap();
    gateway.rewrite("gateway.yaml", &text.replace("[scopegate.internal]", "[new.internal]"));
    assert!(gateway.reload(), "{}", gateway.log());
    assert_eq!(call("POST", "new.internal", "/oauth2/token", &grant).status, 200);
    assert_eq!(call("POST", "scopegate.internal", "/oauth2/token", &grant).status, 404);
}
