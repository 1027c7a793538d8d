//! From an authorization request to a token that acts for the user.

use super::{
    CALLBACK, VERIFIER, alice, basic, code, error, gateway, member, redeem, refresh, request,
    token, tokens,
};
use crate::support::browser::{encode, parameters};
use crate::support::http::form;

#[test]
fn a_user_allows_a_client_and_its_tokens_act_for_the_user() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let target =
        request("web", &[("scope", "orders_read orders_write"), ("state", "a b+c/%\u{e4}=&x")]);
    let page = browser.get(&target);
    for shown in ["Web shop", "Read orders", "Change orders", "Alice Doe", "app.example"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(!page.body.contains("stock_read"), "only what was asked for is shown");
    let answer = browser.submit(&page, "allow", &[]);
    assert_eq!((answer.status, answer.header("cache-control")), (303, Some("no-store")));
    let location = answer.header("location").unwrap();
    assert!(location.starts_with("https://app.example/cb?code="), "{location}");
    let back = parameters(&answer);
    assert_eq!(back["state"], "a b+c/%\u{e4}=&x");
    assert_eq!(back["iss"], format!("http://127.0.0.1:{}", gateway.address.port()));

    let response = redeem(&gateway, "web", &back["code"]);
    let json = response.json();
    assert_eq!(json["scope"], "orders_read orders_write");
    assert_eq!(
        (json["expires_in"].as_u64(), json["refresh_token_expires_in"].as_u64()),
        (Some(1_800), Some(8_640_000))
    );
    let access = member(&response, "access_token");
    assert_eq!(gateway.call("POST", "/orders/7", Some(&access)).status, 200);
    let head = gateway.upstream.last_head().join("\n").to_ascii_lowercase();
    for line in ["x-auth-subject: alice", "x-auth-client: web", "x-auth-roles: clerk"] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(gateway.get("/stock/1", Some(&access)).verdict(), "scope.missing");

    let again = browser.get(&target);
    assert_eq!(again.status, 303, "what was allowed is not asked again: {again:?}");
    let more = browser.get(&request("web", &[]));
    assert_eq!(more.status, 200, "more is");
}

#[test]
fn a_code_is_good_once_and_its_second_use_ends_what_the_first_gave() {
    let gateway = gateway();
    for client in ["web", "opaque"] {
        let mut browser = alice(&gateway);
        let code = code(&mut browser, &request(client, &[]));
        let first = redeem(&gateway, client, &code);
        let (access, refresh_token) =
            (member(&first, "access_token"), member(&first, "refresh_token"));
        assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);
        let second = redeem(&gateway, client, &code);
        assert_eq!(error(&second), (400, "invalid_grant".into()));
        let refused = gateway.get("/orders/1", Some(&access));
        assert_eq!((refused.status, refused.verdict().as_str()), (401, "token.invalid"));
        let record = gateway.record(refused.header("x-decision-id").unwrap());
        assert_eq!(record["fault"], "revoked", "{record}");
        assert_eq!(
            error(&refresh(&gateway, client, &refresh_token)),
            (400, "invalid_grant".into())
        );
    }
    assert!(gateway.metric("scopegate_token_reuse_total").unwrap() >= 2.0);
}

#[test]
fn a_code_is_bound_to_its_client_its_redirect_and_its_challenge() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let code = code(&mut browser, &request("web", &[]));
    let good = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let with = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        good.iter()
            .map(|(known, old)| (*known, if *known == name { value } else { *old }))
            .collect()
    };
    let other_kind = code.replace("sgc_", "sgr_");
    for (client, fields, expect) in [
        ("opaque", good.to_vec(), "invalid_grant"),
        ("machine", good.to_vec(), "invalid_grant"),
        ("web", with("redirect_uri", "https://app.example/other?x=1"), "invalid_grant"),
        ("web", with("redirect_uri", ""), "invalid_grant"),
        (
            "web",
            with("code_verifier", "another-verifier-of-more-than-forty-three-characters"),
            "invalid_grant",
        ),
        ("web", with("code_verifier", "short"), "invalid_grant"),
        ("web", with("code_verifier", ""), "invalid_grant"),
        ("web", with("code", ""), "invalid_request"),
        ("web", with("code", "sgc_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "invalid_grant"),
        ("web", with("code", "' OR 1=1 --"), "invalid_grant"),
        (
            "web",
            vec![("grant_type", "refresh_token"), ("refresh_token", code.as_str())],
            "invalid_grant",
        ),
        (
            "web",
            vec![("grant_type", "refresh_token"), ("refresh_token", other_kind.as_str())],
            "invalid_grant",
        ),
    ] {
        assert_eq!(
            error(&token(&gateway, client, &fields)),
            (400, expect.into()),
            "{client} {fields:?}"
        );
    }
    // None of that has used it up.
    member(&redeem(&gateway, "web", &code), "access_token");
}

#[test]
fn a_verifier_without_a_challenge_is_a_downgrade_and_refused() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let code = code(
        &mut browser,
        &request("no-pkce", &[("code_challenge", ""), ("code_challenge_method", "")]),
    );
    assert_eq!(error(&redeem(&gateway, "no-pkce", &code)), (400, "invalid_grant".into()));
    let plain =
        [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", CALLBACK)];
    member(&token(&gateway, "no-pkce", &plain), "access_token");
}

#[test]
fn a_public_client_needs_no_secret_and_any_port_of_its_loopback_address() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    for redirect in ["http://127.0.0.1:49152/cb", "com.example.app:/cb"] {
        let target = request("native", &[("redirect_uri", redirect)]);
        let code = code(&mut browser, &target);
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", "native"),
            ("code", code.as_str()),
            ("redirect_uri", redirect),
            ("code_verifier", VERIFIER),
        ];
        let response = gateway.send(form("/oauth2/token", &[], &encode(&fields)));
        let (access, refresh_token) =
            (member(&response, "access_token"), member(&response, "refresh_token"));
        assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", "native"),
            ("refresh_token", &refresh_token),
        ];
        member(&gateway.send(form("/oauth2/token", &[], &encode(&fields))), "refresh_token");
        assert_eq!(
            browser.get(&target).status,
            200,
            "anybody can pose as a native application: the user is asked again"
        );
    }
    // A secret that it does not have proves nothing.
    let response = gateway.send(form(
        "/oauth2/token",
        &[("Authorization", &basic("native"))],
        "grant_type=refresh_token",
    ));
    assert_eq!(error(&response), (401, "invalid_client".into()));
}

#[test]
fn an_opaque_token_and_a_jwt_of_the_same_consent_are_judged_alike() {
    let gateway = gateway();
    let (jwt, _) = tokens(&gateway, "web");
    let (opaque, _) = tokens(&gateway, "opaque");
    assert!(jwt.starts_with("eyJ") && opaque.starts_with("sga_") && opaque.len() == 47, "{opaque}");
    for (method, target) in [
        ("GET", "/orders/1"),
        ("POST", "/orders/1"),
        ("GET", "/stock/1"),
        ("GET", "/none"),
        ("PUT", "/orders/1"),
    ] {
        let (one, other) =
            (gateway.call(method, target, Some(&jwt)), gateway.call(method, target, Some(&opaque)));
        assert_eq!(
            (one.status, one.verdict()),
            (other.status, other.verdict()),
            "{method} {target}"
        );
    }
    let own = token(&gateway, "opaque", &[("grant_type", "client_credentials")]);
    assert_eq!(gateway.get("/orders/1", Some(&member(&own, "access_token"))).status, 200);
    for wrong in [
        "sga_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "sga_short",
        &opaque.replace("sga_", "sgr_"),
    ] {
        assert_eq!(gateway.get("/orders/1", Some(wrong)).verdict(), "token.invalid", "{wrong}");
    }
}

#[test]
fn a_resource_narrows_the_token_to_its_api() {
    let gateway = gateway();
    let base = format!("http://127.0.0.1:{}", gateway.address.port());
    let orders = format!("{base}/orders");
    for client in ["web", "opaque"] {
        let narrow =
            token(&gateway, client, &[("grant_type", "client_credentials"), ("resource", &orders)]);
        let narrow = member(&narrow, "access_token");
        assert_eq!(gateway.get("/orders/1", Some(&narrow)).status, 200);
        let refused = gateway.get("/stock/1", Some(&narrow));
        assert_eq!((refused.status, refused.verdict().as_str()), (401, "token.invalid"));
        let record = gateway.record(refused.header("x-decision-id").unwrap());
        assert!(record["fault"].as_str().unwrap().starts_with("audience: saw "), "{record}");
    }
    for resource in [base.as_str(), &format!("{base}/")] {
        let wide =
            token(&gateway, "web", &[("grant_type", "client_credentials"), ("resource", resource)]);
        assert_eq!(gateway.get("/stock/1", Some(&member(&wide, "access_token"))).status, 200);
    }
    for resource in [
        "https://elsewhere.example",
        &format!("{base}/nothing"),
        &format!("{base}/orders/1"),
        "orders",
    ] {
        let refused =
            token(&gateway, "web", &[("grant_type", "client_credentials"), ("resource", resource)]);
        assert_eq!(error(&refused), (400, "invalid_target".into()), "{resource}");
    }
    let mut browser = alice(&gateway);
    let code = code(&mut browser, &request("web", &[("resource", &orders)]));
    let fields = |resource: &'static str| {
        [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("resource", resource),
        ]
    };
    assert_eq!(
        error(&token(&gateway, "web", &fields("https://elsewhere.example"))),
        (400, "invalid_target".into())
    );
    let first = token(&gateway, "web", &fields(""));
    assert_eq!(
        gateway.get("/stock/1", Some(&member(&first, "access_token"))).verdict(),
        "token.invalid"
    );
    let next = refresh(&gateway, "web", &member(&first, "refresh_token"));
    assert_eq!(
        gateway.get("/stock/1", Some(&member(&next, "access_token"))).verdict(),
        "token.invalid"
    );
}
