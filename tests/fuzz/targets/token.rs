//! Tokens (F1, F2, F3, F4): no bytes make a panic or a token; no change of a valid token leaves it
//! valid; and what verifies with the right key says just what a second reader finds in it.
#![no_main]

use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::Signer as _;
use libfuzzer_sys::{Corpus, fuzz_target};
use scopegate::names::{IssuerName, Timestamp};
use scopegate::reason::TokenError;
use scopegate::request::credential::{BearerToken, MAX_TOKEN};
use scopegate::token::claims::{Audience, ClaimNames};
use scopegate::token::jws::{Algorithm, Decoded};
use scopegate::token::{Facts, IssuerRules, KeySet, check_claims};
use serde_json::{Value, json};

const ISSUER: &str = "https://i.example";
const AUDIENCE: &str = "https://a.example";
const NOW: i64 = 1_800_000_000;

struct World {
    es256: p256::ecdsa::SigningKey,
    ed25519: ed25519_dalek::SigningKey,
    keys: KeySet,
    /// One of each key, and one of each without `kid`.
    valid: Vec<String>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let es256 = p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a scalar");
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let point = es256.verifying_key().to_encoded_point(false);
    let encode = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig",
         "x": encode(point.x().expect("x")), "y": encode(point.y().expect("y"))},
        {"kty": "OKP", "crv": "Ed25519", "kid": "k2",
            "x": encode(ed25519.verifying_key().as_bytes())},
    ]});
    let (keys, left_out) = KeySet::parse(set.to_string().as_bytes()).expect("a key set");
    assert_eq!((keys.keys().len(), left_out.len()), (2, 0));
    let mut world = World { es256, ed25519, keys, valid: Vec::new() };
    let claims = json!({"iss": ISSUER, "sub": "s", "aud": AUDIENCE, "exp": NOW + 60, "iat": NOW,
        "azp": "c", "scp": "a b"});
    for header in [
        r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"k2"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"EdDSA","typ":"JWT"}"#,
    ] {
        let token =
            world.sign(header.as_bytes(), claims.to_string().as_bytes(), header.contains("ES256"));
        assert!(world.verify(&token).is_ok(), "a valid token to begin with");
        world.valid.push(token);
    }
    world
});

fn rules() -> IssuerRules {
    IssuerRules {
        name: IssuerName::new("corp"),
        issuer: ISSUER.to_owned(),
        tenants: None,
        audience: Audience::OneOf([AUDIENCE.to_owned()].into()),
        algorithms: vec![Algorithm::Es256, Algorithm::EdDsa],
        types: vec!["at+jwt".into(), "jwt".into()],
        id_tokens: false,
        claims: ClaimNames {
            client: vec!["azp".into()],
            subject: vec!["sub".into()],
            scopes: vec!["scp".into()],
            roles: vec!["r.roles".into()],
            separator: ' ',
        },
        leeway: 30,
        kept: vec!["dept".to_owned()],
    }
}

impl World {
    fn sign(&self, header: &[u8], payload: &[u8], es256: bool) -> String {
        let encode = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        let input = format!("{}.{}", encode(header), encode(payload));
        let signature = if es256 {
            let signature: p256::ecdsa::Signature = self.es256.sign(input.as_bytes());
            signature.to_bytes().to_vec()
        } else {
            self.ed25519.sign(input.as_bytes()).to_bytes().to_vec()
        };
        format!("{input}.{}", encode(&signature))
    }

    fn verify(&self, token: &str) -> Result<Facts, TokenError> {
        let decoded = Decoded::of(token)?;
        rules().verify(&decoded.read()?, &self.keys)
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((mode, bytes)) = bytes.split_first() else { return Corpus::Reject };
    match mode % 6 {
        0 => raw(bytes),
        1 => changed(bytes),
        2 => spliced(bytes),
        3 => signed(bytes, false),
        4 => signed(bytes, true),
        _ => key_set(bytes),
    }
});

/// Any bytes: nobody without a key makes a token.
fn raw(bytes: &[u8]) -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    if let Ok(token) = BearerToken::parse(text) {
        assert!(text.len() <= MAX_TOKEN && text.is_ascii() && token.expose() == text);
    }
    let decoded = Decoded::of(text);
    if let Ok(token) = decoded.as_ref().map_err(|fault| *fault).and_then(Decoded::read) {
        strict(text);
        assert_eq!(token.signed, text.rsplit_once('.').expect("dots").0.as_bytes());
    }
    if !WORLD.valid.iter().any(|valid| valid == text) {
        assert!(WORLD.verify(text).is_err(), "verified without a signature");
    }
    Corpus::Keep
}

/// A valid token with bits flipped, of its text or of what a part decodes to.
fn changed(bytes: &[u8]) -> Corpus {
    let [which, how, edits @ ..] = bytes else { return Corpus::Reject };
    let valid = &WORLD.valid[usize::from(*which) % WORLD.valid.len()];
    let flip = |bytes: &mut [u8]| {
        for edit in edits.chunks_exact(3).take(4) {
            let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % bytes.len().max(1);
            bytes[at] ^= 1 << (edit[2] % 8);
        }
    };
    let text = if how % 4 == 0 {
        let mut text = valid.clone().into_bytes();
        flip(&mut text);
        let Ok(text) = String::from_utf8(text) else { return Corpus::Reject };
        text
    } else {
        let mut parts: Vec<Vec<u8>> = valid
            .split('.')
            .map(|part| Base64UrlUnpadded::decode_vec(part).expect("base64url"))
            .collect();
        flip(&mut parts[usize::from(how % 4) - 1]);
        parts
            .iter()
            .map(|part| Base64UrlUnpadded::encode_string(part))
            .collect::<Vec<_>>()
            .join(".")
    };
    assert_eq!(WORLD.verify(&text).is_ok(), text == *valid, "a changed token verifies");
    Corpus::Keep
}

/// Parts of valid tokens and of the input put together anew.
fn spliced(bytes: &[u8]) -> Corpus {
    let [one, two, three, rest @ ..] = bytes else { return Corpus::Reject };
    let Ok(own) = std::str::from_utf8(rest) else { return Corpus::Reject };
    let part = |from: u8, at: usize| -> &str {
        match usize::from(from) % (WORLD.valid.len() + 1) {
            token if token < WORLD.valid.len() => {
                WORLD.valid[token].split('.').nth(at).expect("three parts")
            }
            _ => own,
        }
    };
    let text = format!("{}.{}.{}", part(*one, 0), part(*two, 1), part(*three, 2));
    assert_eq!(
        WORLD.verify(&text).is_ok(),
        WORLD.valid.contains(&text),
        "a spliced token verifies"
    );
    Corpus::Keep
}

/// Header and claims from the input, signed with the right key: what is taken says what a second
/// reader finds.
fn signed(bytes: &[u8], es256: bool) -> Corpus {
    let cut = bytes.iter().position(|byte| *byte == 0);
    let default: &[u8] = if es256 { br#"{"alg":"ES256"}"# } else { br#"{"alg":"EdDSA"}"# };
    let (header, payload) = match cut {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (default, bytes),
    };
    let text = WORLD.sign(header, payload, es256);
    let Ok(facts) = WORLD.verify(&text) else { return Corpus::Keep };
    let header: Value = serde_json::from_slice(header).expect("JSON to others");
    let mut claims: Value = serde_json::from_slice(payload).expect("JSON to others");
    let alg = header["alg"].as_str().expect("a text");
    assert!(if es256 { alg == "ES256" } else { alg == "EdDSA" || alg == "Ed25519" });
    for name in ["crit", "b64", "enc", "zip"] {
        assert!(header.get(name).is_none());
    }
    assert!(header.get("kid").is_none_or(|kid| kid == if es256 { "k1" } else { "k2" }));
    let typ = header.get("typ").map(|typ| typ.as_str().expect("a text").to_ascii_lowercase());
    let kind = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    assert!(matches!(kind, None | Some("jwt" | "at+jwt")));
    assert_eq!(
        names(header.as_object().expect("an object")),
        count_names(&text, 0),
        "a name of the header twice"
    );
    assert_eq!(
        names(claims.as_object().expect("an object")),
        count_names(&text, 1),
        "a name of the claims twice"
    );

    // A member that is null is absent.
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    assert!(claims.get("at_hash").is_none() && claims.get("c_hash").is_none());
    assert!(claims.get("token_use").is_none_or(|of| of != "id"));
    assert!(claims.get("typ").is_none_or(|of| of != "ID"));
    assert_eq!(claims["iss"], ISSUER);
    let subject = claims.get("sub").map(|subject| subject.as_str().expect("a text"));
    assert_eq!(subject.or(facts.client.as_deref()), Some(facts.subject.as_str()));
    assert_eq!(
        claims.get("azp").map(|client| client.as_str().expect("a text")),
        facts.client.as_deref()
    );
    let whole =
        |name: &str| claims.get(name).map(|value| value.as_f64().expect("a number").floor());
    let close = |date: Timestamp, other: f64| (date.0 as f64 - other).abs() <= other.abs() * 1e-15;
    assert!(close(facts.expires, whole("exp").expect("exp")));
    for (fact, name) in [(facts.not_before, "nbf"), (facts.issued, "iat")] {
        assert!(match (fact, whole(name)) {
            (Some(fact), Some(other)) => close(fact, other),
            (None, None) => true,
            _ => false,
        });
    }
    assert_eq!(facts.bound, claims.get("cnf").is_some());
    // What no rule looks at is not kept.
    let dept = claims.get("dept").map(|dept| match dept {
        Value::Object(members) => members.keys().cloned().collect(),
        dept => dept.clone(),
    });
    assert_eq!(facts.claims.get("dept"), dept.as_ref());
    assert_eq!(facts.claims.len(), usize::from(claims.get("dept").is_some()));
    let audiences: Vec<&str> = match claims.get("aud") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(list) => list
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one.as_str().expect("texts"))
            .collect(),
    };
    assert_eq!(facts.audience, audiences);
    let scopes = facts.scopes.as_ref().expect("declared");
    assert!(claims.get("scp").is_some() || scopes.is_empty());

    for now in [0, NOW, i64::MAX] {
        if check_claims(&facts, &rules(), Timestamp(now)).is_ok() {
            assert!(!facts.bound && audiences.contains(&AUDIENCE));
            assert!(now < facts.expires.0.saturating_add(30));
            assert!(facts.not_before.is_none_or(|from| from.0 <= now.saturating_add(30)));
            assert!(facts.issued.is_none_or(|from| from.0 <= now.saturating_add(30)));
        }
    }
    Corpus::Keep
}

/// F3: keys of the kinds that we know, and no others.
fn key_set(bytes: &[u8]) -> Corpus {
    let Ok((set, left_out)) = KeySet::parse(bytes) else { return Corpus::Keep };
    let json: Value = serde_json::from_slice(bytes).expect("JSON to others");
    let entries = json["keys"].as_array().expect("a list");
    assert_eq!(entries.len(), set.keys().len() + left_out.len());
    assert!(!set.keys().is_empty());
    let usable = entries.iter().filter(|entry| {
        let kind = (entry["kty"].as_str(), entry["crv"].as_str());
        matches!(
            kind,
            (Some("RSA"), _)
                | (Some("EC"), Some("P-256" | "P-384"))
                | (Some("OKP"), Some("Ed25519"))
        ) && entry
            .get("use")
            .is_none_or(|purpose| purpose.is_null() || purpose == "sig" || purpose == "jwt-svid")
    });
    assert!(set.keys().len() <= usable.count());
    for valid in &WORLD.valid {
        let decoded = Decoded::of(valid).expect("valid");
        let token = decoded.read().expect("valid");
        if let Ok(id) = set.verify(&token) {
            // A key for one issuer alone has an id of its own.
            let is_bound = entries.iter().any(|entry| entry.get("issuer").is_some());
            assert!(is_bound || WORLD.keys.has(&id), "another key verifies it");
        }
    }
    Corpus::Keep
}

/// The strict form by a second reader: three parts, each canonical base64url, the header an object.
fn strict(text: &str) {
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3);
    for part in &parts {
        let bytes = Base64UrlUnpadded::decode_vec(part).expect("base64url to others");
        assert!(!bytes.is_empty());
        assert_eq!(Base64UrlUnpadded::encode_string(&bytes), **part);
    }
    let header: Value =
        serde_json::from_slice(&Base64UrlUnpadded::decode_vec(parts[0]).expect("base64url"))
            .expect("JSON");
    let alg = header["alg"].as_str().expect("a text");
    assert!(!alg.eq_ignore_ascii_case("none") && !alg.starts_with("HS"));
}

/// How many members all objects in it have together.
fn names(map: &serde_json::Map<String, Value>) -> usize {
    fn inside(value: &Value) -> usize {
        match value {
            Value::Object(map) => names(map),
            Value::Array(list) => list.iter().map(inside).sum(),
            _ => 0,
        }
    }
    map.len() + map.values().map(inside).sum::<usize>()
}

/// The same by counting the colons outside of texts.
fn count_names(token: &str, part: usize) -> usize {
    let json = Base64UrlUnpadded::decode_vec(token.split('.').nth(part).expect("a part"))
        .expect("base64url");
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b':' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}
