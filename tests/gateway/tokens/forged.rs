//! Algorithms, keys, and what a token says about its own key.

use std::net::TcpListener;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{
    Bench, all_refused, own_claims, own_header, own_key, own_url, row, sign, with, with_signature,
};
use crate::support::issuer::{Key, now};

/// RFC 2104; block size of the digest in bytes.
fn hmac<D: Digest>(secret: &[u8], message: &[u8], block: usize) -> Vec<u8> {
    let mut key = if secret.len() > block { D::digest(secret).to_vec() } else { secret.to_vec() };
    key.resize(block, 0);
    let pad = |byte: u8| key.iter().map(|own| own ^ byte).collect::<Vec<u8>>();
    let inner = D::new().chain_update(pad(0x36)).chain_update(message).finalize();
    D::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[test]
fn the_hmac_of_the_forgeries_is_that_of_rfc_4231_test_case_2() {
    let text = |bytes: Vec<u8>| scopegate::names::hex(&bytes);
    let message = b"what do ya want for nothing?";
    assert_eq!(
        text(hmac::<Sha256>(b"Jefe", message, 64)),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert!(
        text(hmac::<Sha384>(b"Jefe", message, 128)).starts_with("af45d2e376484031617f78d2b58a6b1b")
    );
    assert!(
        text(hmac::<Sha512>(b"Jefe", message, 128)).starts_with("164b7a7bfcf819e2e395fbe73b56e0a3")
    );
}

/// The public key as every text or byte string that somebody could have taken for an HMAC secret.
fn secrets(key: &Key) -> Vec<(&'static str, Vec<u8>)> {
    let Key::P256(kid, signing) = key else { panic!("a P-256 key") };
    let public = p256::PublicKey::from(signing.verifying_key());
    let point = signing.verifying_key().to_encoded_point(false);
    let pem = public.to_public_key_pem(LineEnding::LF).unwrap();
    let der = public.to_public_key_der().unwrap().as_bytes().to_vec();
    let jwk = key.jwk();
    vec![
        ("PEM", pem.clone().into_bytes()),
        ("PEM without the last line end", pem.trim_end().as_bytes().to_vec()),
        ("PEM with CRLF", pem.replace('\n', "\r\n").into_bytes()),
        ("DER", der.clone()),
        ("DER in base64", STANDARD.encode(der).into_bytes()),
        ("the point", point.as_bytes().to_vec()),
        ("the point without its first byte", point.as_bytes()[1..].to_vec()),
        ("x", point.x().unwrap().to_vec()),
        ("x in base64url", jwk["x"].as_str().unwrap().as_bytes().to_vec()),
        ("the JWK", jwk.to_string().into_bytes()),
        ("the JWK Set", json!({ "keys": [jwk] }).to_string().into_bytes()),
        ("kid", kid.as_bytes().to_vec()),
        ("nothing", Vec::new()),
    ]
}

fn hmac_forgeries(
    whose: &str,
    key: &Key,
    header: &Value,
    claims: &Value,
) -> Vec<(String, String, &'static str)> {
    let mut tokens = Vec::new();
    for (encoding, secret) in secrets(key) {
        for alg in ["HS256", "HS384", "HS512"] {
            let header = with(header, &json!({ "alg": alg }));
            let input = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header.to_string()),
                URL_SAFE_NO_PAD.encode(claims.to_string())
            );
            let mac = match alg {
                "HS256" => hmac::<Sha256>(&secret, input.as_bytes(), 64),
                "HS384" => hmac::<Sha384>(&secret, input.as_bytes(), 128),
                _ => hmac::<Sha512>(&secret, input.as_bytes(), 128),
            };
            tokens.push(row(
                format!("{whose}: {alg} with {encoding}"),
                with_signature(&input, &mac),
                "algorithm",
            ));
        }
    }
    tokens
}

/// `alg` of every kind but the right one, over a signature that is right.
fn algorithms(
    whose: &str,
    key: &Key,
    header: &Value,
    claims: &Value,
) -> Vec<(String, String, &'static str)> {
    let mut tokens = Vec::new();
    for alg in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "noNE",
        "",
        "es256",
        "Es256",
        "ES256 ",
        "ES256\u{0}",
        "ES256K",
        "ES384",
        "ES512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "EdDSA",
        "Ed25519",
        "Ed448",
        "HS256",
        "ML-DSA-44",
        "A128KW",
        "dir",
        "SHA256",
        "ES256,none",
    ] {
        let token =
            sign(key, &with(header, &json!({ "alg": alg })).to_string(), claims.to_string());
        let input = token.rsplit_once('.').unwrap().0.to_owned();
        tokens.push(row(format!("{whose}: alg {alg:?}"), token, "algorithm"));
        if alg.eq_ignore_ascii_case("none") {
            tokens.push(row(
                format!("{whose}: alg {alg:?}, no signature"),
                format!("{input}."),
                "algorithm",
            ));
            tokens.push(row(format!("{whose}: alg {alg:?}, no third part"), input, "form"));
        }
    }
    for alg in [json!(null), json!(7), json!(true), json!(["ES256"]), json!({ "alg": "ES256" })] {
        let token =
            sign(key, &with(header, &json!({ "alg": alg })).to_string(), claims.to_string());
        tokens.push(row(format!("{whose}: alg {alg}"), token, "algorithm"));
    }
    let header = header.to_string();
    let twice = header.replacen('{', r#"{"alg":"none","#, 1);
    tokens.push(row(format!("{whose}: alg twice"), sign(key, &twice, claims.to_string()), "form"));
    let escaped = header.replacen('{', r#"{"\u0061lg":"none","#, 1);
    tokens.push(row(
        format!("{whose}: alg twice, once escaped"),
        sign(key, &escaped, claims.to_string()),
        "form",
    ));
    tokens
}

#[test]
fn s26_no_forged_algorithm_is_accepted() {
    let bench = Bench::start();
    let (claims, header) = (bench.claims(), bench.key.header());
    let own = own_key(&bench.gateway);
    let (own_header, own_claims) = (own_header(&own), own_claims(&bench.gateway));
    bench.permit("our own token, made here", &own.token_with(&own_header, &own_claims)).unwrap();

    let mut tokens = hmac_forgeries("corp", &bench.key, &header, &claims);
    tokens.extend(hmac_forgeries("self", &own, &own_header, &own_claims));
    tokens.extend(algorithms("corp", &bench.key, &header, &claims));
    tokens.extend(algorithms("self", &own, &own_header, &own_claims));
    // The other key's algorithm under the name of this one, both ways.
    let swapped = with(&bench.ed.header(), &json!({ "kid": "k1" }));
    tokens.push(row(
        "EdDSA for the P-256 key",
        sign(&bench.ed, &swapped.to_string(), claims.to_string()),
        "algorithm",
    ));
    let swapped = with(&header, &json!({ "kid": "e1" }));
    tokens.push(row(
        "ES256 for the Ed25519 key",
        sign(&bench.key, &swapped.to_string(), claims.to_string()),
        "algorithm",
    ));
    let count = all_refused(&bench, &tokens);
    println!("{count} forged tokens");
    assert!(count >= 60, "{count}");
}

#[test]
fn s26_s30_no_key_speaks_for_another_issuer() {
    let bench = Bench::start();
    let own = own_key(&bench.gateway);
    let Key::P256(own_kid, _) = &own else { panic!("a P-256 key") };
    let stranger = Key::p256("k1");
    let (corp, other, ours) =
        (bench.claims(), bench.other.claims(now()), own_claims(&bench.gateway));
    let url = own_url(&bench.gateway);
    let named = |key: &Key, kid: &str| with(&key.header(), &json!({ "kid": kid, "typ": "at+jwt" }));
    let nameless = json!({ "alg": "ES256", "typ": "at+jwt" });

    let mut tokens = vec![
        row("corp's iss, other's key of the same name", bench.other_key.token(&corp), "signature"),
        row("other's iss, corp's key of the same name", bench.key.token(&other), "signature"),
        row("other's iss, corp's second key", bench.ed.token(&other), "key_unknown"),
        row("corp's iss, a stranger's key of the same name", stranger.token(&corp), "signature"),
        row(
            "corp's iss, a stranger's key without a name",
            stranger.token_with(&nameless, &corp),
            "signature",
        ),
        row(
            "our iss, corp's key under its own name",
            bench.key.token_with(&named(&bench.key, "k1"), &ours),
            "key_unknown",
        ),
        row(
            "our iss, corp's key under our name",
            bench.key.token_with(&named(&bench.key, own_kid), &ours),
            "signature",
        ),
        row(
            "our iss, corp's key without a name",
            bench.key.token_with(&nameless, &ours),
            "signature",
        ),
        row(
            "corp's iss, our key under its own name",
            own.token_with(&own_header(&own), &corp),
            "key_unknown",
        ),
        row(
            "corp's iss, our key under corp's name",
            own.token_with(&named(&own, "k1"), &corp),
            "signature",
        ),
        row("corp's iss, our key without a name", own.token_with(&nameless, &corp), "signature"),
        row(
            "corp's claims besides our iss",
            bench.token(&with(&corp, &json!({ "iss": url }))),
            "type",
        ),
    ];
    // Names that are paths, queries or markup lead nowhere; those over the limit and of other types
    // are no names.
    for kid in [
        "../../../../../../dev/null",
        "/dev/null",
        "k1/../k1",
        "' OR '1'='1",
        "k1' --",
        "K1",
        "k1 ",
        "k1\u{0}",
        "%6b1",
        "k1\n",
        "*",
        "http://127.0.0.1/k1",
        "$(id)",
        "\u{212a}1",
    ] {
        let header = with(&bench.key.header(), &json!({ "kid": kid }));
        tokens.push(row(
            format!("kid {kid:?}"),
            bench.key.token_with(&header, &corp),
            "key_unknown",
        ));
    }
    for kid in [
        json!(""),
        json!(7),
        json!(null),
        json!(["k1"]),
        json!({ "kid": "k1" }),
        json!(true),
        json!("k".repeat(257)),
    ] {
        let header = with(&bench.key.header(), &json!({ "kid": kid }));
        tokens.push(row(format!("kid {kid}"), bench.key.token_with(&header, &corp), "form"));
    }
    let count = all_refused(&bench, &tokens);
    println!("{count} tokens of other keys");
    // Without a name, the keys that go with the algorithm are tried.
    bench
        .permit("a token without kid", &bench.key.token_with(&json!({ "alg": "ES256" }), &corp))
        .unwrap();
    let fetches = bench.other.fetches();
    assert!(fetches <= 5, "{fetches}: each kind makes two more at once, and no further");
}

#[test]
fn s26_no_changed_token_is_accepted() {
    let bench = Bench::start();
    let claims = bench.claims();
    let token = bench.token(&claims);
    let parts: Vec<&str> = token.split('.').collect();
    let (header, signature) = (parts[0], parts[2]);
    let mut tokens = Vec::new();
    for change in [
        json!({ "sub": "admin" }),
        json!({ "exp": now() + 9_999 }),
        json!({ "scp": ["items_read", "items_write"] }),
        json!({ "azp": "other" }),
        json!({ "aud": ["https://api.example", "x"] }),
        json!({ "groups": ["grp-itil"] }),
    ] {
        let payload = URL_SAFE_NO_PAD.encode(with(&claims, &change).to_string());
        tokens.push(row(
            format!("payload with {change}"),
            format!("{header}.{payload}.{signature}"),
            "signature",
        ));
    }
    // The same claims in another spelling are other bytes.
    let spaced = URL_SAFE_NO_PAD.encode(claims.to_string().replace("\":", "\": "));
    tokens.push(row("payload with spaces", format!("{header}.{spaced}.{signature}"), "signature"));
    for change in [json!({ "x": 1 }), json!({ "typ": "at+jwt" })] {
        let header = URL_SAFE_NO_PAD.encode(with(&bench.key.header(), &change).to_string());
        tokens.push(row(
            format!("header with {change}"),
            format!("{header}.{}.{signature}", parts[1]),
            "signature",
        ));
    }
    let foreign = bench.token(&with(&claims, &json!({ "sub": "somebody" })));
    let foreign = foreign.rsplit_once('.').unwrap().1;
    tokens.push(row(
        "another token's signature",
        format!("{header}.{}.{foreign}", parts[1]),
        "signature",
    ));
    tokens.push(row(
        "header and payload exchanged",
        format!("{}.{header}.{signature}", parts[1]),
        "algorithm",
    ));
    all_refused(&bench, &tokens);
}

#[test]
fn s27_what_a_token_says_about_its_key_is_never_looked_at() {
    let bench = Bench::start();
    let attacker = Key::p256("k1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let certificate = STANDARD.encode([0x30, 0x03, 0x02, 0x01, 0x01]);
    let claims = bench.claims();
    let mut tokens = Vec::new();
    for extra in [
        json!({ "jku": format!("{url}/jwks") }),
        json!({ "jku": format!("{url}/jwks"), "kid": "k9" }),
        json!({ "x5u": format!("{url}/cert") }),
        json!({ "jwk": attacker.jwk() }),
        json!({ "x5c": [certificate] }),
        json!({ "x5t": "AAAA", "x5t#S256": "AAAA" }),
        json!({ "jku": format!("{url}/jwks"), "x5u": url, "jwk": attacker.jwk(),
            "x5c": [certificate] }),
        json!({ "iss": url, "url": url, "cty": "JWT" }),
        json!({ "jku": 7, "jwk": [], "x5c": "x", "x5u": null }),
    ] {
        let mut header = with(&bench.key.header(), &extra);
        let fault = if header["kid"] == "k9" { "key_unknown" } else { "signature" };
        tokens.push(row(
            format!("the attacker's key with {extra}"),
            attacker.token_with(&header, &claims),
            fault,
        ));
        // By the right key they change nothing.
        header["kid"] = json!("k1");
        bench
            .permit(&format!("the right key with {extra}"), &bench.key.token_with(&header, &claims))
            .unwrap();
    }
    // An issuer nobody configured is not asked for its keys.
    for iss in [
        url.clone(),
        format!("{}/", bench.corp.url),
        bench.corp.url.to_uppercase(),
        format!("{}@{}", bench.corp.url, &url[7..]),
    ] {
        let claims = with(&claims, &json!({ "iss": iss }));
        tokens.push(row(format!("iss {iss}"), attacker.token(&claims), "issuer"));
        tokens.push(row(format!("iss {iss}, the right key"), bench.token(&claims), "issuer"));
    }
    for extra in [
        json!({ "crit": ["exp"], "exp": 1 }),
        json!({ "crit": ["unknown"], "unknown": true }),
        json!({ "crit": ["alg"] }),
        json!({ "crit": [] }),
        json!({ "crit": "exp" }),
        json!({ "crit": null }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "crit": ["b64"], "b64": true }),
        json!({ "b64": true }),
        json!({ "b64": false }),
        json!({ "b64": null }),
        json!({ "zip": "DEF" }),
        json!({ "enc": "A128GCM" }),
    ] {
        let token = bench.key.token_with(&with(&bench.key.header(), &extra), &claims);
        tokens.push(row(format!("the right key with {extra}"), token, "form"));
    }
    // RFC 7797: the payload as it is, not encoded.
    let header = URL_SAFE_NO_PAD
        .encode(json!({ "alg": "ES256", "kid": "k1", "b64": false, "crit": ["b64"] }).to_string());
    let input = format!("{header}.AAAA");
    tokens.push(row(
        "an unencoded payload",
        with_signature(&input, &bench.key.signature(input.as_bytes())),
        "form",
    ));
    let count = all_refused(&bench, &tokens);
    println!("{count} tokens that name their key or need to be understood");
    let refused = listener.accept().unwrap_err();
    assert_eq!(
        refused.kind(),
        std::io::ErrorKind::WouldBlock,
        "nobody connected to the attacker's listener"
    );
}
