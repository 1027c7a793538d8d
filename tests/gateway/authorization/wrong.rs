//! The wrong-everything table: each malformed or hostile request to the token endpoint with its
//! exact answer (RFC 6749 §5.2), none of it kept by a cache, and no secret in any log.

use super::{
    CALLBACK, PASSWORD, VERIFIER, alice, basic, code, error, redeem, request, setup, tokens,
};
use crate::support::browser::encode;
use crate::support::http::{Response, form};
use crate::support::{Gateway, SECRET};

const FORM: &str = "application/x-www-form-urlencoded";

fn gateway() -> Gateway {
    let mut setup = setup("");
    setup.clients =
        setup.clients.replace("client_credentials]\n", "client_credentials, password]\n");
    setup.gateway =
        "authorization_server: { grants: [client_credentials, authorization_code, refresh_token, \
            password] }\n\
                     trusted_proxies: [127.0.0.0/8]\nlog_level: debug\n"
            .into();
    Gateway::start(&setup)
}

/// A request as it is, from an address of its own, so that limits on guessing are not what answers.
fn raw(
    gateway: &Gateway,
    number: usize,
    method: &str,
    target: &str,
    lines: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Forwarded-For: \
            198.51.{}.{}\r\n",
        number / 250,
        number % 250 + 1
    );
    for (name, value) in lines {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    gateway.send([head.as_bytes(), body].concat())
}

#[test]
fn every_wrong_token_request_has_its_exact_answer() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let fresh = code(&mut browser, &request("web", &[]));
    let (access, refresh_token) = tokens(&gateway, "web");
    let web = basic("web");
    let typed: &[(&str, &str)] = &[("Content-Type", FORM), ("Authorization", &web)];
    let doubled: &[(&str, &str)] =
        &[("Content-Type", FORM), ("Authorization", &web), ("Authorization", &web)];
    let good_code = encode(&[
        ("grant_type", "authorization_code"),
        ("code", &fresh),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ]);
    let twice = |name: &str| format!("{good_code}&{name}=x");
    let huge = format!("grant_type=client_credentials&x={}", "a".repeat(65 * 1024));
    let many = format!(
        "grant_type=client_credentials{}",
        (0..100).map(|n| format!("&p{n}=x")).collect::<Vec<_>>().concat()
    );
    let refreshing =
        |extra: &str| format!("grant_type=refresh_token&refresh_token={refresh_token}{extra}");
    let none: &[(&str, &str)] = &[("Content-Type", FORM)];
    let long = format!("grant_type=client_credentials&scope={}", "a+".repeat(700));
    #[expect(clippy::type_complexity, reason = "the columns of a table")]
    let table: Vec<(&str, &[(&str, &str)], String, u16, &str)> = vec![
        ("no body", typed, String::new(), 400, "invalid_request"),
        ("no grant_type", typed, "scope=orders_read".into(), 400, "invalid_request"),
        ("an empty grant_type", typed, "grant_type=".into(), 400, "invalid_request"),
        ("an unknown grant_type", typed, "grant_type=magic".into(), 400, "unsupported_grant_type"),
        ("one in capitals", typed, "grant_type=CLIENT_CREDENTIALS".into(), 400,
            "unsupported_grant_type"),
        ("implicit", typed, "grant_type=implicit".into(), 400, "unsupported_grant_type"),
        ("one that is \
            off", typed,
                "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=x".into(), 400,
                    "unsupported_grant_type"),
        ("a device \
            code", typed, "grant_type=urn:ietf:params:oauth:grant-type:device_code".into(), 400,
                "unsupported_grant_type"),
        ("grant_type \
            twice", typed, "grant_type=client_credentials&grant_type=client_credentials".into(),
                400, "invalid_request"),
        ("code twice", typed, twice("code"), 400, "invalid_request"),
        ("redirect_uri twice", typed, twice("redirect_uri"), 400, "invalid_request"),
        ("code_verifier twice", typed, twice("code_verifier"), 400, "invalid_request"),
        ("an escaped name twice", typed, twice("%63ode"), 400, "invalid_request"),
        ("bytes that are no text", typed, "grant_type=%ff%fe".into(), 400, "invalid_request"),
        ("a NUL", typed, "grant_type=client_credentials%00".into(), 400, "invalid_request"),
        ("a body too large", typed, huge, 400, "invalid_request"),
        ("a hundred parameters", typed, many, 400, "invalid_request"),
        ("JSON", &[("Content-Type", "application/json")],
            "{\"grant_type\":\"client_credentials\"}".into(), 400, "invalid_request"),
        ("multipart", &[("Content-Type", "multipart/form-data; \
            boundary=x")], "--x--".into(), 400, "invalid_request"),
        ("no content type", &[], "grant_type=client_credentials".into(), 400, "invalid_request"),
        ("no client", none, "grant_type=client_credentials".into(), 401, "invalid_client"),
        ("an unknown \
            client", none, "grant_type=client_credentials&client_id=nobody&client_secret=x".into(),
                401, "invalid_client"),
        ("a wrong \
            secret", none, "grant_type=client_credentials&client_id=web&client_secret=x".into(),
                401, "invalid_client"),
        ("no secret", none, "grant_type=client_credentials&client_id=web".into(), 401,
            "invalid_client"),
        ("a client that \
            differs", typed, "grant_type=client_credentials&client_id=opaque".into(), 400,
                "invalid_request"),
        ("a secret that \
            differs", typed, "grant_type=client_credentials&client_id=web&client_secret=x".into(),
                400, "invalid_request"),
        ("two Authorization \
            lines", doubled, "grant_type=client_credentials".into(), 400, "invalid_request"),
        ("Basic that is no base64", &[("Content-Type", FORM), ("Authorization", "Basic \
            !")], "grant_type=client_credentials".into(), 401, "invalid_client"),
        ("Bearer", &[("Content-Type", FORM), ("Authorization", "Bearer \
            x")], "grant_type=client_credentials".into(), 401, "invalid_client"),
        ("an inactive \
            client", none,
                format!("grant_type=client_credentials&client_id=off&client_secret={SECRET}"), 400,
                    "unauthorized_client"),
        ("a grant that is not the \
            client's", none,
                format!("grant_type=authorization_code&client_id=machine&client_secret={SECRET}&code={fresh}"), 400, "invalid_grant"),
        ("a public client for \
            itself", none, "grant_type=client_credentials&client_id=native".into(), 400,
                "unauthorized_client"),
        ("an unknown \
            scope", typed, "grant_type=client_credentials&scope=admin".into(), 400,
                "invalid_scope"),
        ("a scope of \
            another", none,
                format!("grant_type=client_credentials&client_id=machine&client_secret={SECRET}&scope=stock_read"), 400, "invalid_scope"),
        ("a scope that is \
            none", typed, "grant_type=client_credentials&scope=%22x%22".into(), 400,
                "invalid_scope"),
        ("a scope too long", typed, long, 400, "invalid_scope"),
        ("an unknown \
            resource", typed,
                "grant_type=client_credentials&resource=https://elsewhere.example".into(), 400,
                    "invalid_target"),
        ("no code", typed, "grant_type=authorization_code".into(), 400, "invalid_request"),
        ("a made-up \
            code", typed,
                "grant_type=authorization_code&code=sgc_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".into(), 400, "invalid_grant"),
        ("an access token as a \
            code", typed, format!("grant_type=authorization_code&code={access}"), 400,
                "invalid_grant"),
        ("a refresh token as a \
            code", typed, format!("grant_type=authorization_code&code={refresh_token}"), 400,
                "invalid_grant"),
        ("no verifier", typed,
            format!("grant_type=authorization_code&code={fresh}&redirect_uri={CALLBACK}"), 400,
                "invalid_grant"),
        ("no redirect_uri", typed,
            format!("grant_type=authorization_code&code={fresh}&code_verifier={VERIFIER}"), 400,
                "invalid_grant"),
        ("the code of another \
            client", none, format!("{good_code}&client_id=opaque&client_secret={SECRET}"), 400,
                "invalid_grant"),
        ("no refresh token", typed, "grant_type=refresh_token".into(), 400, "invalid_request"),
        ("a code as a refresh \
            token", typed, format!("grant_type=refresh_token&refresh_token={fresh}"), 400,
                "invalid_grant"),
        ("an access token as a refresh \
            token", typed, format!("grant_type=refresh_token&refresh_token={access}"), 400,
                "invalid_grant"),
        ("a refresh of another \
            client", none, format!("{}&client_id=opaque&client_secret={SECRET}", refreshing("")),
                400, "invalid_grant"),
        ("a refresh for more", typed, refreshing("&scope=admin"), 400, "invalid_scope"),
        ("a refresh for \
            elsewhere", typed, refreshing("&resource=https://elsewhere.example"), 400,
                "invalid_target"),
        ("a password without a \
            user", typed, format!("grant_type=password&password={}", PASSWORD.replace(' ', "+")),
                400, "invalid_request"),
        ("a user without a \
            password", typed, "grant_type=password&username=alice".into(), 400, "invalid_request"),
        ("a wrong \
            password", typed,
                "grant_type=password&username=alice&password=planted-wrong-password".into(), 400,
                    "invalid_grant"),
        ("an unknown \
            user", typed, "grant_type=password&username=nobody&password=x".into(), 400,
                "invalid_grant"),
        ("a locked \
            user", typed, format!("grant_type=password&username=locked&password={}",
                PASSWORD.replace(' ', "+")), 400, "invalid_grant"),
        ("an assertion of no \
            type", none, "grant_type=client_credentials&client_assertion=x".into(), 400,
                "invalid_request"),
        ("an assertion that is \
            none", none,
                "grant_type=client_credentials&client_assertion=x&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into(), 401, "invalid_client"),
        ("an access token as an \
            assertion", none,
                format!("grant_type=client_credentials&client_assertion={access}&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), 401, "invalid_client"),
    ];
    let mut wrong = Vec::new();
    for (number, (what, lines, body, status, expect)) in table.iter().enumerate() {
        for target in ["/oauth2/token", "/oauth_token.do"] {
            let answer = raw(&gateway, number, "POST", target, lines, body.as_bytes());
            let (got, name) = error(&answer);
            let described =
                answer.json()["error_description"].as_str().is_some_and(|text| !text.is_empty());
            let challenged = answer.header("www-authenticate").is_some() == (*status == 401);
            let typed = answer.header("content-type") == Some("application/json");
            if (got, name.as_str()) != (*status, *expect) || !described || !challenged || !typed {
                wrong.push(format!("{what}: {got} {name}, not {status} {expect}: {}", answer.body));
            }
        }
    }
    for (number, method) in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"].into_iter().enumerate() {
        let answer = raw(&gateway, 200 + number, method, "/oauth2/token", &[], b"");
        if (answer.status, answer.header("allow")) != (405, Some("POST")) {
            wrong.push(format!("{method}: {answer:?}"));
        }
    }
    let in_url = raw(
        &gateway,
        220,
        "POST",
        &format!("/oauth2/token?client_secret={SECRET}"),
        typed,
        b"grant_type=client_credentials",
    );
    if error(&in_url) != (400, "invalid_request".into()) {
        wrong.push(format!("a secret in the URL: {in_url:?}"));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len() * 2, wrong.join("\n"));
    // None of it has used up what is good.
    assert_eq!(redeem(&gateway, "web", &fresh).status, 200);
    let again = gateway.send(form("/oauth2/token", &[("Authorization", &web)], &refreshing("")));
    assert_eq!(again.status, 200, "{again:?}");

    let cookie = browser.cookie.clone().unwrap();
    let given = again.json();
    let planted = [
        SECRET,
        PASSWORD,
        "planted-wrong-password",
        VERIFIER,
        &fresh,
        &access,
        access.rsplit('.').next().unwrap(),
        &refresh_token,
        given["access_token"].as_str().unwrap(),
        given["refresh_token"].as_str().unwrap(),
        cookie.split_once('=').unwrap().1,
        web.split_once(' ').unwrap().1,
    ];
    let records = std::fs::read_to_string(gateway.folder.path().join("decisions.jsonl")).unwrap();
    let (log, metrics) = (gateway.log(), gateway.metrics_text());
    assert!(
        records.lines().count() > 100 && records.contains("\"web\"") && log.contains("\"INFO\""),
        "they were looked at"
    );
    for secret in planted {
        for (name, text) in [("log", &log), ("records", &records), ("metrics", &metrics)] {
            assert!(!text.contains(secret), "{secret} is in the {name}");
        }
    }
}
