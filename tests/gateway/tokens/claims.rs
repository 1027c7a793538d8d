//! Claims that are absent, doubled, of the wrong type or of another time, and tokens
//! of another kind.

use serde_json::{Value, json};

use super::{
    Bench, INVALID_TOKEN, all_refused, own_claims, own_header, own_key, own_url, permit, refuse,
    row, sign, with, without,
};
use crate::support::issuer::{Key, now};
use crate::support::{Gateway, Setup};

/// A payload with one member's text replaced: JSON that no serialiser writes.
fn with_text(claims: &Value, name: &str, text: &str) -> String {
    with(claims, &json!({ name: "@" }))
        .to_string()
        .replace(&format!("\"{name}\":\"@\""), &format!("\"{name}\":{text}"))
}

/// A payload that says one member twice, first so, then as it was.
fn doubled(claims: &Value, name: &str, first: &str) -> String {
    claims.to_string().replacen('{', &format!("{{{name}:{first},"), 1)
}

/// What both our own and another issuer's tokens are refused for.
fn common(key: &Key, header: &Value, claims: &Value) -> Vec<(String, String, &'static str)> {
    let header = header.to_string();
    let mut tokens = Vec::new();
    let mut add = |what: String, payload: String, fault: &'static str| {
        assert_ne!(payload, claims.to_string(), "{what}");
        tokens.push(row(what, sign(key, &header, payload), fault));
    };
    add("without exp".into(), without(claims, "exp").to_string(), "claims");
    add("without iss".into(), without(claims, "iss").to_string(), "issuer");
    add("without aud".into(), without(claims, "aud").to_string(), "audience");
    let soon = now() + 300;
    for (name, value) in [
        ("exp", format!("\"{soon}\"")),
        ("exp", format!("[{soon}]")),
        ("exp", format!("{{\"v\":{soon}}}")),
        ("exp", "null".into()),
        ("exp", "true".into()),
        ("exp", "\"\"".into()),
        ("exp", "1e400".into()),
        ("exp", "-1e400".into()),
        ("exp", "1e300".into()),
        ("exp", "18446744073709551616".into()),
        ("exp", "NaN".into()),
        ("exp", "Infinity".into()),
        ("exp", "0x7fffffff".into()),
        ("exp", format!("+{soon}")),
        ("exp", format!("0{soon}")),
        ("nbf", "\"1\"".into()),
        ("nbf", "[1]".into()),
        ("nbf", "{}".into()),
        ("nbf", "false".into()),
        ("nbf", "1e400".into()),
        ("iat", "\"1\"".into()),
        ("iat", "[1]".into()),
        ("iat", "true".into()),
        ("iat", "1e400".into()),
        ("sub", "7".into()),
        ("sub", "[\"own\"]".into()),
        ("aud", "7".into()),
        ("aud", "{}".into()),
        ("aud", "true".into()),
        ("aud", "[7]".into()),
        ("aud", "[null]".into()),
        ("aud", "[[\"https://api.example\"]]".into()),
        ("jti", "7".into()),
        ("jti", "[\"j\"]".into()),
        ("deep", format!("{}1{}", "[".repeat(500), "]".repeat(500))),
    ] {
        let shown = if value.len() > 40 { "nested deeply" } else { &value };
        add(format!("{name} is {shown}"), with_text(claims, name, &value), "claims");
    }
    // Where the issuer is looked up by it, a claim of another type finds none.
    for value in ["7", "null", "[]", "{}", "\"\"", "\" \""] {
        add(format!("iss is {value}"), with_text(claims, "iss", value), "issuer");
    }
    add(
        "iss is a list of it".into(),
        with_text(claims, "iss", &format!("[{}]", claims["iss"])),
        "issuer",
    );
    // Twice the same or another value, plain or escaped, at the top or below.
    for (name, first) in [
        ("\"exp\"", "1"),
        ("\"exp\"", "99999999999"),
        ("\"iss\"", "\"x\""),
        ("\"aud\"", "\"x\""),
        ("\"sub\"", "\"admin\""),
        ("\"nbf\"", "1,\"nbf\":1"),
        ("\"\\u0065xp\"", "99999999999"),
        ("\"\\u0069ss\"", "\"x\""),
        ("\"x\"", "{\"a\":1,\"a\":1}"),
        ("\"x\"", "[{\"a\":1,\"a\":2}]"),
    ] {
        add(format!("{name} twice"), doubled(claims, name, first), "claims");
    }
    for (what, payload) in [
        ("a list", format!("[{claims}]")),
        ("a text", "\"claims\"".to_owned()),
        ("null", "null".to_owned()),
        ("a number", "1".to_owned()),
        ("two objects", format!("{claims}{claims}")),
        ("an object and a word", format!("{claims} x")),
        ("cut off", claims.to_string().trim_end_matches('}').to_owned()),
        ("with a comma too many", claims.to_string().replace('}', ",}")),
        ("with a comment", format!("/**/{claims}")),
        ("with a byte order mark", format!("\u{feff}{claims}")),
        ("with single quotes", claims.to_string().replace('"', "'")),
    ] {
        add(format!("the payload is {what}"), payload, "claims");
    }
    // Times.
    let at = now();
    for (name, value, fault) in [
        ("exp", at - 31, "expired"),
        ("exp", at - 30, "expired"),
        ("exp", at - 100_000, "expired"),
        ("exp", 0, "expired"),
        ("exp", -1, "expired"),
        ("exp", i64::MIN, "expired"),
        ("nbf", at + 90, "not_yet_valid"),
        ("nbf", i64::MAX, "not_yet_valid"),
        ("iat", at + 90, "not_yet_valid"),
        ("iat", i64::MAX, "not_yet_valid"),
    ] {
        add(
            format!("{name} is now {:+}", i128::from(value) - i128::from(at)),
            with(claims, &json!({ name: value })).to_string(),
            fault,
        );
    }
    add(
        "exp is past, with a fraction".into(),
        with_text(claims, "exp", &format!("{}.5", at - 32)),
        "expired",
    );
    add("exp is past, as 1e9".into(), with_text(claims, "exp", "1e9"), "expired");
    // Bound to a key that a bearer does not prove.
    for cnf in [
        json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        json!({ "x5t#S256": "AAAA" }),
        json!({ "jwk": key.jwk() }),
        json!({}),
        json!("x"),
    ] {
        add(format!("cnf is {cnf}"), with(claims, &json!({ "cnf": cnf })).to_string(), "binding");
    }
    tokens
}

#[test]
fn s28_s33_claims_of_another_issuer() {
    let bench = Bench::start();
    let (key, claims) = (&bench.key, bench.claims());
    let mut tokens = common(key, &key.header(), &claims);
    let mut add = |what: &str, payload: String, fault: &'static str| {
        tokens.push(row(what, sign(key, &key.header().to_string(), payload), fault));
    };
    for aud in [
        json!("https://api.example/"),
        json!("https://API.example"),
        json!("https://api.exampl"),
        json!("https://api.example.org"),
        json!("http://api.example"),
        json!(" https://api.example"),
        json!("https://api.example https://x"),
        json!(""),
        json!([]),
        json!(["x", "y"]),
        json!([""]),
        json!("*"),
        json!(null),
    ] {
        add(
            &format!("aud is {aud}"),
            with(&claims, &json!({ "aud": aud })).to_string(),
            "audience",
        );
    }
    for (name, value) in [("azp", json!(7)), ("azp", json!(["app"])), ("azp", json!({}))] {
        add(
            &format!("{name} is {value}"),
            with(&claims, &json!({ name: value })).to_string(),
            "claims",
        );
    }
    for name in ["\"azp\"", "\"scp\"", "\"\\u0073cp\""] {
        add(&format!("{name} twice"), doubled(&claims, name, "\"x\""), "claims");
    }
    // What is not UTF-8 is not JSON (RFC 8725 §3.7).
    let mut bytes = with(&claims, &json!({ "x": "@" })).to_string().into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xff;
    tokens.push(row("not UTF-8", sign(key, &key.header().to_string(), bytes), "claims"));
    let count = all_refused(&bench, &tokens);
    println!("{count} tokens of another issuer with wrong claims");

    // And what is right in a form that is rarely seen.
    let at = now();
    for (what, change) in [
        ("exp within the leeway", json!({ "exp": at - 20 })),
        ("exp with a fraction", json!({ "exp": f64::from(i32::try_from(at).unwrap()) + 60.5 })),
        ("exp at the end of time", json!({ "exp": i64::MAX })),
        ("nbf within the leeway", json!({ "nbf": at + 20 })),
        ("nbf in the past", json!({ "nbf": 0 })),
        ("iat within the leeway", json!({ "iat": at + 20 })),
        ("a list of audiences", json!({ "aud": ["x", "https://api.example"] })),
        ("scopes as a text", json!({ "scp": "x items_read" })),
        ("a role as a text", json!({ "groups": "x" })),
        ("a subject of no length", json!({ "sub": "" })),
        ("no subject: the client's", json!({ "sub": null })),
        ("times and an id that are null", json!({ "nbf": null, "iat": null, "jti": null })),
        ("bound to null", json!({ "cnf": null })),
        ("scopes as names of an object", json!({ "scp": { "items_read": true } })),
        ("roles as names of an object", json!({ "groups": { "grp-itil": {} } })),
    ] {
        bench.permit(what, &bench.token(&with(&claims, &change))).unwrap();
    }
    for name in ["iat", "sub"] {
        bench.permit(&format!("without {name}"), &bench.token(&without(&claims, name))).unwrap();
    }
    bench
        .permit(
            "exp as 1e10",
            &sign(key, &key.header().to_string(), with_text(&claims, "exp", "1e10")),
        )
        .unwrap();
}

#[test]
fn scopes_and_roles_that_cannot_be_read_give_nothing_and_the_record_names_them() {
    let bench = Bench::start();
    let claims = bench.claims();
    let record = |value: &Value| {
        let token = bench.token(&with(&claims, value));
        let response = bench.gateway.get("/api/items", Some(&token));
        let record = bench.gateway.record(response.header("X-Decision-Id").unwrap());
        (response.verdict(), record["unread_claims"].clone())
    };
    for value in [
        json!(7),
        json!([7]),
        json!(["items_read", null]),
        json!(["items\"read"]),
        json!("items\\read"),
        json!("items_read\titems_write"),
        json!("items_read\u{e4}"),
        json!(true),
    ] {
        let found = record(&json!({ "scp": value }));
        assert_eq!(found, ("scope.missing".to_owned(), json!(["scp"])), "{value}");
    }
    assert_eq!(record(&json!({ "scp": null })), ("scope.missing".to_owned(), json!(null)));
    for value in [json!(7), json!([7]), json!(true)] {
        let found = record(&json!({ "groups": value }));
        assert_eq!(found, ("permit".to_owned(), json!(["groups"])), "{value}");
    }
}

#[test]
fn s28_s33_claims_of_our_own() {
    let bench = Bench::start();
    let key = own_key(&bench.gateway);
    let (header, claims) = (own_header(&key), own_claims(&bench.gateway));
    let url = own_url(&bench.gateway);
    bench.permit("our own token, made here", &key.token_with(&header, &claims)).unwrap();
    let mut tokens = common(&key, &header, &claims);
    let mut add = |what: String, payload: Value, fault: &'static str| {
        tokens.push(row(what, key.token_with(&header, &payload), fault));
    };
    for name in ["iat", "jti", "client_id", "sub"] {
        add(format!("without {name}"), without(&claims, name), "claims");
        add(format!("{name} is null"), with(&claims, &json!({ name: null })), "claims");
    }
    for (name, value) in [
        ("client_id", json!(7)),
        ("client_id", json!(["own"])),
        ("scope", json!(7)),
        ("scope", json!([7])),
    ] {
        add(format!("{name} is {value}"), with(&claims, &json!({ name: value })), "claims");
    }
    for aud in [json!(format!("{url}/")), json!("https://api.example"), json!([]), json!("own")] {
        add(format!("aud is {aud}"), with(&claims, &json!({ "aud": aud })), "audience");
    }
    // Exclusive and without leeway: on its last second it is over (RFC 7519 §4.1.4).
    add("exp is now".into(), with(&claims, &json!({ "exp": now() })), "expired");
    add("exp was just now".into(), with(&claims, &json!({ "exp": now() - 1 })), "expired");
    let count = all_refused(&bench, &tokens);
    println!("{count} tokens of our own with wrong claims");
}

#[test]
fn s29_tokens_of_another_kind_are_no_access_tokens() {
    let bench = Bench::start();
    let own = own_key(&bench.gateway);
    let (corp, ours) = (bench.claims(), own_claims(&bench.gateway));
    let typed = |key: &Key, kind: &Value| with(&key.header(), &json!({ "typ": kind }));
    let mut tokens = Vec::new();
    let others = [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "rt+jwt",
        "id+jwt",
        "kb+jwt",
        "dc+sd-jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "client-authentication+jwt",
        "application/dpop+jwt",
        "JOSE",
        "JOSE+JSON",
        "jwt ",
        "",
        "at jwt",
        "at+jwt;x",
        "text/at+jwt",
        "application/application/at+jwt",
        "application/",
    ];
    for kind in others {
        tokens.push(row(
            format!("ours as {kind:?}"),
            own.token_with(&typed(&own, &json!(kind)), &ours),
            "type",
        ));
        tokens.push(row(
            format!("corp's as {kind:?}"),
            bench.key.token_with(&typed(&bench.key, &json!(kind)), &corp),
            "type",
        ));
    }
    for kind in [json!(7), json!(null), json!(["at+jwt"]), json!({})] {
        tokens.push(row(
            format!("ours as {kind}"),
            own.token_with(&typed(&own, &kind), &ours),
            "type",
        ));
        tokens.push(row(
            format!("corp's as {kind}"),
            bench.key.token_with(&typed(&bench.key, &kind), &corp),
            "type",
        ));
    }
    // Ours say what they are; a token of ours that says less is another of our objects.
    for kind in ["JWT", "jwt", "application/jwt"] {
        tokens.push(row(
            format!("ours as {kind}"),
            own.token_with(&typed(&own, &json!(kind)), &ours),
            "type",
        ));
    }
    tokens.push(row(
        "ours without typ",
        own.token_with(&without(&own.header(), "typ"), &ours),
        "type",
    ));
    // ID tokens of others (OpenID Connect Core §3.1.3.6, §3.3.2.11): for a client, and even where
    // the audience is ours.
    for claim in ["at_hash", "c_hash"] {
        let id_token = with(&corp, &json!({ claim: "77QmUPtjPfzWtF2AnpK9RQ", "nonce": "n" }));
        tokens.push(row(format!("an ID token with {claim}"), bench.token(&id_token), "type"));
        let untyped = without(&bench.key.header(), "typ");
        tokens.push(row(
            format!("an ID token with {claim}, untyped"),
            bench.key.token_with(&untyped, &id_token),
            "type",
        ));
    }
    let id_token = with(&corp, &json!({ "aud": "app", "nonce": "n", "auth_time": now() }));
    tokens.push(row("an ID token for its client", bench.token(&id_token), "audience"));
    // A client's assertion (RFC 7523 §3) has the client for its issuer.
    let assertion = json!({ "iss": "own", "sub": "own", "aud": own_url(&bench.gateway),
        "exp": now() + 60, "jti": "1" });
    tokens.push(row("a client assertion", bench.token(&assertion), "issuer"));
    // A DPoP proof has neither issuer nor audience (RFC 9449 §4.2).
    let proof = json!({ "htm": "GET", "htu": own_url(&bench.gateway), "iat": now(), "jti": "1" });
    let header = with(&bench.key.header(), &json!({ "typ": "dpop+jwt", "jwk": bench.key.jwk() }));
    tokens.push(row("a DPoP proof", bench.key.token_with(&header, &proof), "issuer"));
    let count = all_refused(&bench, &tokens);
    println!("{count} tokens of another kind");

    for kind in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        bench
            .permit(&format!("ours as {kind}"), &own.token_with(&typed(&own, &json!(kind)), &ours))
            .unwrap();
        bench
            .permit(
                &format!("corp's as {kind}"),
                &bench.key.token_with(&typed(&bench.key, &json!(kind)), &corp),
            )
            .unwrap();
    }
    for kind in ["jwt", "application/jwt", "JWT"] {
        bench
            .permit(
                &format!("corp's as {kind}"),
                &bench.key.token_with(&typed(&bench.key, &json!(kind)), &corp),
            )
            .unwrap();
    }
    bench
        .permit(
            "corp's untyped",
            &bench.key.token_with(&without(&bench.key.header(), "typ"), &corp),
        )
        .unwrap();
}

/// `any_audience: true` is the only way not to look at the audience.
#[test]
fn s28_an_audience_is_left_out_only_where_the_operator_wrote_so() {
    let key = Key::p256("k1");
    let issuer = crate::support::Issuer::start(std::slice::from_ref(&key));
    let mut setup = Setup::new(super::POLICIES, &super::clients(&["corp"]));
    setup.gateway = format!("issuers:\n{}", super::issuer("corp", &issuer, "discover"))
        .replace("audience: [\"https://api.example\"]", "any_audience: true");
    let gateway = Gateway::start(&setup);
    let claims = issuer.claims(now());
    for aud in [json!("x"), json!([]), json!(["x", "y"])] {
        permit(&gateway, "any audience", &key.token(&with(&claims, &json!({ "aud": aud }))))
            .unwrap();
    }
    permit(&gateway, "no audience", &key.token(&without(&claims, "aud"))).unwrap();
    refuse(
        &gateway,
        "an audience of no form",
        &key.token(&with(&claims, &json!({ "aud": 7 }))),
        "claims",
    )
    .unwrap();
    assert!(INVALID_TOKEN.contains("invalid_token"));
}
