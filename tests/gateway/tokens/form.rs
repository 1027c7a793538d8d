//! The strict form of a token, and exactly one of it in a request.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use p256::ecdsa::Signature;
use serde_json::{Value, json};

use super::{
    Bench, INVALID_TOKEN, MALFORMED_TOKEN, all_refused, call, refused, row, with, with_signature,
};
use crate::support::http::{form, request};
use crate::support::issuer::{Key, now};

/// The same bytes in base64url with the unused bits of the last character set (RFC 4648 §3.5).
fn with_stray_bits(part: &str) -> Option<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if part.len().is_multiple_of(4) {
        return None;
    }
    let (rest, last) = part.split_at(part.len() - 1);
    let value = ALPHABET.iter().position(|byte| *byte == last.as_bytes()[0]).unwrap();
    let changed = format!("{rest}{}", char::from(ALPHABET[value | 1]));
    (changed != part).then_some(changed)
}

/// A token whose three parts all have unused bits, and whose signature has a character of
/// base64url's own.
fn token_with_room(bench: &Bench) -> String {
    let claims = bench.claims();
    (0..1_000)
        .map(|n| bench.token(&with(&claims, &json!({ "n": "x".repeat(n % 3), "m": n }))))
        .find(|token| {
            let parts: Vec<&str> = token.split('.').collect();
            parts[2].contains(['-', '_'])
                && parts[1..].iter().all(|part| with_stray_bits(part).is_some())
        })
        .unwrap()
}

#[test]
fn s31_signatures_that_are_none() {
    let bench = Bench::start();
    let token = token_with_room(&bench);
    bench.permit("the token itself", &token).unwrap();
    let (input, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let (zero, one, most) = ([0; 32], [&[0; 31][..], &[1]].concat(), [0xff; 32]);
    let der = Signature::from_slice(&raw).unwrap().to_der().as_bytes().to_vec();
    let mut tokens = Vec::new();
    for (what, bytes) in [
        ("r and s zero (CVE-2022-21449)", [zero, zero].concat()),
        ("r zero", [&zero, s].concat()),
        ("s zero", [r, &zero].concat()),
        ("r and s one", [&one[..], &one].concat()),
        ("r zero, s one", [&zero[..], &one].concat()),
        ("r and s the order", [&order[..], &order].concat()),
        ("r right, s the order", [r, &order].concat()),
        ("r the order, s right", [&order, s].concat()),
        ("all bits set", [most, most].concat()),
        ("r and s exchanged", [s, r].concat()),
        ("DER", der.clone()),
        ("DER cut to 64 bytes", der[..64].to_vec()),
        ("63 bytes", raw[..63].to_vec()),
        ("65 bytes, zero behind", [&raw[..], &[0]].concat()),
        ("65 bytes, zero before", [&[0], &raw[..]].concat()),
        ("66 bytes, halves of 33", [&[0], r, &[0], s].concat()),
        ("32 bytes", r.to_vec()),
        ("96 bytes", [&raw[..], r].concat()),
        ("twice", [&raw[..], &raw].concat()),
        ("one byte", vec![0]),
        ("2000 bytes", vec![1; 2000]),
    ] {
        tokens.push(row(what, with_signature(input, &bytes), "signature"));
    }
    // Ed25519: S beyond the order (RFC 8032 §5.1.7), and the neutral element for R.
    let ed = bench.ed.token(&bench.claims());
    let (ed_input, ed_signature) = ed.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(ed_signature).unwrap();
    bench.permit("the Ed25519 token itself", &ed).unwrap();
    let neutral = [&[1][..], &[0; 31]].concat();
    for (what, bytes) in [
        ("Ed25519, zero", vec![0; 64]),
        ("Ed25519, S plus the order", [&raw[..32], &plus_ed25519_order(&raw[32..])].concat()),
        ("Ed25519, the neutral element", [&neutral[..], &[0; 32]].concat()),
        ("Ed25519, 63 bytes", raw[..63].to_vec()),
        ("Ed25519, 65 bytes", [&raw[..], &[0]].concat()),
        ("Ed25519, a P-256 signature", bench.key.signature(ed_input.as_bytes())),
    ] {
        tokens.push(row(what, with_signature(ed_input, &bytes), "signature"));
    }
    all_refused(&bench, &tokens);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Little-endian sum with the group order; fits 256 bits for every reduced S.
fn plus_ed25519_order(s: &[u8]) -> Vec<u8> {
    let mut order = hex("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed");
    order.reverse();
    let mut carry = 0;
    let sum = s.iter().zip(&order).map(|(a, b)| {
        let sum = u16::from(*a) + u16::from(*b) + carry;
        carry = sum >> 8;
        u8::try_from(sum & 0xff).unwrap()
    });
    sum.collect()
}

#[test]
fn s31_only_the_one_strict_form_is_a_token() {
    let bench = Bench::start();
    let token = token_with_room(&bench);
    bench.permit("the token itself", &token).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let mut tokens = vec![
        row("padding behind", format!("{token}=="), "form"),
        row("one padding character", format!("{token}="), "form"),
        row("a dot behind", format!("{token}."), "form"),
        row("a dot before", format!(".{token}"), "form"),
        row("four parts", format!("{token}.{signature}"), "form"),
        row("two parts", format!("{header}.{payload}"), "form"),
        row("one part", header.to_owned(), "form"),
        row("an opaque token", "2YotnFZFEjr1zCsicMWpAA".to_owned(), "form"),
        row("no header", format!(".{payload}.{signature}"), "form"),
        row("no payload", format!("{header}..{signature}"), "form"),
        row("no signature", format!("{header}.{payload}."), "form"),
        row("dots alone", "..".to_owned(), "form"),
        row("many dots", ".".repeat(8_000), "form"),
        row("no JSON in the header", format!("AAAA.{payload}.{signature}"), "form"),
        row(
            "JSON that is no object in the header",
            format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode("[]")),
            "form",
        ),
        row(
            "a character of plain base64",
            format!("{header}.{payload}.{}", signature.replace('-', "+").replace('_', "/")),
            "form",
        ),
        row("a tilde behind (SD-JWT)", format!("{token}~"), "form"),
        row("a disclosure behind (SD-JWT)", format!("{token}~WyJhIiwiYiJd~"), "form"),
        row(
            "a length of 4n+1",
            format!("{token}{}", "A".repeat((5 - signature.len() % 4) % 4)),
            "form",
        ),
    ];
    for (name, at) in [("payload", 1), ("signature", 2)] {
        let mut changed = parts.clone();
        let stray = with_stray_bits(parts[at]).unwrap();
        changed[at] = &stray;
        tokens.push(row(format!("stray bits in the {name}"), changed.join("."), "form"));
    }
    // The header of `support` fills its last character; this one does not.
    let input =
        format!("{}.{payload}", URL_SAFE_NO_PAD.encode("{\"alg\":\"ES256\",\"kid\":\"k1\"  }"));
    let right = with_signature(&input, &bench.key.signature(input.as_bytes()));
    bench.permit("a header with spaces", &right).unwrap();
    let head = input.split('.').next().unwrap();
    let stray = with_stray_bits(head).expect("room in the last character");
    let input = format!("{stray}.{payload}");
    tokens.push(row(
        "stray bits in the header",
        with_signature(&input, &bench.key.signature(input.as_bytes())),
        "form",
    ));
    // Padding inside is signed over too, and refused before the signature is looked at.
    for (what, jwe) in [
        ("five parts", format!("{header}.AAAA.AAAA.{payload}.{signature}")),
        (
            "a JWE",
            format!(
                "{}.AAAA.AAAA.AAAA.AAAA",
                URL_SAFE_NO_PAD.encode("{\"alg\":\"dir\",\"enc\":\"A128GCM\"}")
            ),
        ),
        (
            "a JWE with an ES256 header",
            format!(
                "{}.AAAA.AAAA.AAAA.AAAA",
                URL_SAFE_NO_PAD.encode("{\"alg\":\"ES256\",\"enc\":\"A128GCM\"}")
            ),
        ),
    ] {
        tokens.push(row(what, jwe, "form"));
    }
    all_refused(&bench, &tokens);

    // What RFC 6750 §2.1 lets nobody send as a token has its own reason.
    let flattened = json!({ "protected": header, "payload": payload, "signature": signature });
    let general = json!({ "payload": payload, "signatures": [{ "protected": header,
        "signature": signature }] });
    let padded = format!(
        "{}.{payload}.{signature}",
        URL_SAFE.encode(URL_SAFE_NO_PAD.decode(header).unwrap()) + "="
    );
    let mut wrong = Vec::new();
    for (what, token) in [
        ("the flattened JSON serialisation", flattened.to_string()),
        ("the general JSON serialisation", general.to_string()),
        ("a space inside", token.replacen('.', " .", 1)),
        ("a tab inside", token.replacen('.', "\t.", 1)),
        ("a percent-encoded dot", token.replacen('.', "%2E", 1)),
        ("padding inside", padded),
        ("quotes", format!("\"{token}\"")),
        ("two with a comma", format!("{token},{token}")),
        ("two with a space", format!("{token} {token}")),
        ("a name before", format!("token={token}")),
        ("Bearer twice", format!("Bearer {token}")),
        ("a colon", format!("user:{token}")),
        ("a zero-width space", token.replacen('.', "\u{200b}.", 1)),
        ("over 16 KiB", format!("{token}{}", "A".repeat(16 * 1024))),
        ("nothing", String::new()),
        ("padding alone", "==".to_owned()),
    ] {
        let response = call(&bench.gateway, &token);
        wrong.extend(
            refused(
                &bench.gateway,
                what,
                &response,
                (401, "token.malformed", Some(MALFORMED_TOKEN)),
                "",
            )
            .err(),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_ne!(STANDARD_NO_PAD.encode([0xfb, 0xff]), URL_SAFE_NO_PAD.encode([0xfb, 0xff]));
}

#[test]
fn s31_weak_keys_of_an_issuer_verify_nothing() {
    // RSA of 1024 bits (Wycheproof json_web_key 8) and an exponent of one (9), among good keys.
    let vectors: Value =
        serde_json::from_str(include_str!("../../vectors/wycheproof/json_web_key_test.json"))
            .unwrap();
    let mut entries = Vec::new();
    for (name, comment) in [("weak", "keysize_too_small"), ("one", "exponentOne")] {
        let groups = vectors["testGroups"].as_array().unwrap();
        let mut jwk =
            groups.iter().find(|group| group["comment"] == comment).unwrap()["public"].clone();
        if let Some(keys) = jwk.get("keys") {
            jwk = keys[0].clone();
        }
        assert_eq!(jwk["kty"], "RSA", "{jwk}");
        jwk["kid"] = json!(name);
        entries.push(jwk);
    }
    let key = Key::p256("k1");
    let issuer = crate::support::Issuer::start(&[]);
    entries.push(key.jwk());
    issuer.set_mode(crate::support::issuer::Mode::Answer(
        200,
        json!({ "keys": entries }).to_string().into_bytes(),
    ));
    let mut setup = crate::support::Setup::new(super::POLICIES, &super::clients(&["corp"]));
    setup.gateway = format!("issuers:\n{}", super::at_url("corp", &issuer))
        .replace("[ES256, EdDSA]", "[ES256, RS256]");
    let gateway = crate::support::Gateway::start(&setup);
    let claims = issuer.claims(now());
    super::permit(&gateway, "the good key", &key.token(&claims)).unwrap();
    for name in ["weak", "one"] {
        let header = json!({ "alg": "RS256", "kid": name });
        super::refuse(&gateway, name, &key.token_with(&header, &claims), "key_unknown").unwrap();
    }
}

#[test]
fn s32_exactly_one_bearer_credential() {
    let bench = Bench::start();
    let gateway = &bench.gateway;
    let token = bench.token(&bench.claims());
    let bearer = format!("Bearer {token}");
    let several = "Bearer realm=\"scopegate\", error=\"invalid_request\", error_description=\"send \
        exactly one credential\"";
    let query = "Bearer realm=\"scopegate\", error=\"invalid_request\", error_description=\"send \
        the token in the \
                 Authorization header, never in the URL\"";
    let bare = "Bearer realm=\"scopegate\"";
    let target = "/api/items";
    let in_query = format!("{target}?access_token={token}");
    let mut wrong = Vec::new();
    for (what, target, headers, expect, fault) in [
        ("none", target, vec![], (401, "token.missing", bare), ""),
        (
            "the same twice",
            target,
            vec![bearer.as_str(), &bearer],
            (400, "token.several", several),
            "",
        ),
        (
            "a good and a bad one",
            target,
            vec![&bearer, "Bearer x"],
            (400, "token.several", several),
            "",
        ),
        (
            "a bad and a good one",
            target,
            vec!["Bearer x", &bearer],
            (400, "token.several", several),
            "",
        ),
        (
            "Bearer and Basic",
            target,
            vec![&bearer, "Basic b3duOng="],
            (400, "token.several", several),
            "",
        ),
        (
            "Bearer and an empty line",
            target,
            vec![&bearer, ""],
            (400, "token.several", several),
            "",
        ),
        ("Basic alone", target, vec!["Basic b3duOng="], (401, "token.missing", bare), "scheme"),
        ("DPoP alone", target, vec!["DPoP x"], (401, "token.missing", bare), "scheme"),
        ("an empty line alone", target, vec![""], (401, "token.missing", bare), ""),
        (
            "Bearer without a token",
            target,
            vec!["Bearer"],
            (401, "token.malformed", MALFORMED_TOKEN),
            "",
        ),
        ("in the query", &in_query, vec![], (400, "token.in_query", query), ""),
        (
            "in the query and the header",
            &in_query,
            vec![&bearer],
            (400, "token.in_query", query),
            "",
        ),
        (
            "in the query, twice in the header",
            &in_query,
            vec![&bearer, &bearer],
            (400, "token.several", several),
            "",
        ),
    ] {
        gateway.upstream.clear();
        let headers: Vec<(&str, &str)> =
            headers.into_iter().map(|value| ("Authorization", value)).collect();
        let response = gateway.send(request("GET", target, None, &headers));
        let (status, reason, challenge) = expect;
        wrong.extend(
            refused(gateway, what, &response, (status, reason, Some(challenge)), fault).err(),
        );
    }
    // RFC 6750 §2.2: a token in a form is none.
    gateway.upstream.clear();
    let response = gateway.send(form(target, &[], &format!("access_token={token}")));
    wrong.extend(
        refused(gateway, "in a form", &response, (401, "token.missing", Some(bare)), "").err(),
    );
    // Neither is one in another header.
    for name in ["X-Authorization", "Proxy-Authorization", "Cookie", "X-Access-Token"] {
        gateway.upstream.clear();
        let response = gateway.send(request("GET", target, None, &[(name, &bearer)]));
        wrong.extend(
            refused(gateway, name, &response, (401, "token.missing", Some(bare)), "").err(),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // A scope that is missing asks for it, and nothing else does.
    gateway.upstream.clear();
    let response = gateway.call("POST", target, Some(&token));
    let challenge = "Bearer realm=\"scopegate\", error=\"insufficient_scope\", \
        error_description=\"the token lacks a scope that \
                     grants this operation\", scope=\"items_write\"";
    refused(gateway, "POST", &response, (403, "scope.missing", Some(challenge)), "").unwrap();
    gateway.upstream.clear();
    let response = gateway.call("GET", "/admin/x", Some(&token));
    refused(gateway, "a role", &response, (403, "acl.role", None), "").unwrap();
    // Schemes have no case (RFC 9110 §11.1).
    for scheme in ["bearer", "BEARER", "bEaReR", "Bearer  "] {
        let value = format!("{scheme} {token}");
        let response = gateway.send(request("GET", target, None, &[("Authorization", &value)]));
        assert_eq!(response.status, 200, "{scheme}: {response:?}");
    }
    assert!(INVALID_TOKEN.contains("invalid_token"));
}
