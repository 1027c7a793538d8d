//! Published vectors through the parsing and verifying that requests go through: RFC 7515, the JOSE
//! cookbook, Wycheproof.
//!
//! A valid vector is accepted, an invalid one refused. Where our rules are stricter than the
//! vector, the case stands in [`STRICTER`] with its reason; where they are laxer, in [`LAXER`]; a
//! case that stands there wrongly fails too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use scopegate::reason::TokenFault;
use scopegate::token::KeySet;
use scopegate::token::json::Object;
use scopegate::token::jws::{Algorithm, Decoded, Unverified};
use serde_json::{Value, json};

/// Valid by the vector, refused by us: file, case, how, and why.
const STRICTER: &[(&str, &[u64], &str, &str)] = &[
    ("json_web_signature", &[1, 348, 352, 357, 358, 359, 372, 373, 376, 377], NO_KEY, HMAC),
    (
        "json_web_signature",
        &[347, 351],
        NO_KEY,
        "P-521 with an `alg` that does not exist (ES521): no curve of ours",
    ),
    (
        "json_web_signature",
        &[346, 350],
        "algorithm",
        "the key says PS256, the token PS384: a key is for one algorithm (RFC 8725 §3.1)",
    ),
    (
        "json_web_signature",
        &[259, 264, 268, 272, 320, 325],
        "form",
        "an empty payload: no claims, so no token",
    ),
    ("json_web_key", &[2, 13, 14, 15], NO_KEY, HMAC),
    ("json_web_crypto", &[1, 48], NO_KEY, HMAC),
    ("json_web_crypto", &[50, 67], "form", "encrypted: five parts, never a token here"),
];

const NO_KEY: &str = "no usable key";
const HMAC: &str = "a symmetric key: we share no secrets with issuers (RFC 8725 §3.1)";

/// Invalid by the vector, accepted by us: file, case, why.
const LAXER: &[(&str, &[u64], &str)] = &[
    // The keys of an issuer are its own choice; what of them is weak beyond its size is not looked
    // at.
    ("json_web_key", &[7], ROCA),
    ("json_web_crypto", &[46], ROCA),
];

const ROCA: &str = "an RSA key with the fingerprint of CVE-2017-15361";

struct Case {
    id: u64,
    result: String,
    /// `Err` is how it was refused.
    got: Result<(), String>,
}

fn read(path: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(path);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name}: {value}"))
}

/// A serialisation: compact ones are texts, JSON ones objects.
fn token(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A set of one key, or the set that the vector gives.
fn keys(jwk: &Value) -> Result<KeySet, String> {
    let set = if jwk.get("keys").is_some() { jwk.clone() } else { json!({ "keys": [jwk] }) };
    KeySet::parse(set.to_string().as_bytes()).map(|(keys, _)| keys).map_err(|_| NO_KEY.to_owned())
}

fn label(fault: TokenFault) -> String {
    fault.label().to_owned()
}

/// A compact JWS. The payload of most vectors is no JSON object, which is a fault of its own here;
/// header and signature are then read next to an empty object, and the signature verified over the
/// bytes of the vector.
fn judge(jwk: &Value, jws: &str) -> Result<(), String> {
    let keys = keys(jwk)?;
    let decoded = Decoded::of(jws);
    match decoded.as_ref().map_err(|fault| *fault).and_then(Decoded::read) {
        Ok(token) => keys.verify(&token).map(|_| ()).map_err(label),
        Err(TokenFault::Claims) => {
            let (input, signature) = jws.rsplit_once('.').unwrap();
            let stand_in = format!("{}.e30.{signature}", input.split('.').next().unwrap());
            let stand_in = Decoded::of(&stand_in).map_err(label)?;
            let token = Unverified { signed: input.as_bytes(), ..stand_in.read().map_err(label)? };
            keys.verify(&token).map(|_| ()).map_err(label)
        }
        Err(fault) => Err(label(fault)),
    }
}

fn read_only(token: &str) -> Result<(), TokenFault> {
    Decoded::of(token)?.read().map(|_| ())
}

/// A signature over bytes that are no JWS signing input.
fn judge_raw(
    jwk: &Value,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let token = Unverified {
        algorithm,
        key_id: None,
        kind: None,
        claims: Object::default(),
        signed: message,
        signature,
    };
    keys(jwk)?.verify(&token).map(|_| ()).map_err(label)
}

/// Compares outcomes with results and prints the counts.
///
/// Gives how many were: valid and accepted, valid and refused, invalid and refused, invalid and
/// accepted, acceptable and accepted, acceptable and refused.
fn settle(file: &str, cases: &[Case]) -> [usize; 6] {
    let listed = |table: &[(&str, &[u64])]| -> BTreeSet<u64> {
        table
            .iter()
            .filter(|(own, _)| *own == file)
            .flat_map(|(_, ids)| ids.iter().copied())
            .collect()
    };
    let stricter: BTreeMap<u64, &str> = STRICTER
        .iter()
        .filter(|(own, ..)| *own == file)
        .flat_map(|(_, ids, how, why)| ids.iter().map(move |id| (*id, (*how, *why))))
        .map(|(id, (how, why))| {
            assert!(!why.is_empty());
            (id, how)
        })
        .collect();
    let laxer = listed(&LAXER.iter().map(|(own, ids, _)| (*own, *ids)).collect::<Vec<_>>());
    let (mut counts, mut faults, mut wrong) = ([0; 6], BTreeMap::<&str, usize>::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for case in cases {
        assert!(seen.insert(case.id), "{file}: case {} occurs twice", case.id);
        if let Err(fault) = &case.got {
            *faults.entry(fault).or_default() += 1;
        }
        let (at, right) = match (case.result.as_str(), &case.got) {
            ("valid", Ok(())) => (0, !stricter.contains_key(&case.id)),
            ("valid", Err(fault)) => (1, stricter.get(&case.id) == Some(&fault.as_str())),
            ("invalid", Err(_)) => {
                (2, !laxer.contains(&case.id) && !stricter.contains_key(&case.id))
            }
            ("invalid", Ok(())) => (3, laxer.contains(&case.id)),
            ("acceptable", Ok(())) => (4, true),
            ("acceptable", Err(_)) => (5, true),
            (other, _) => panic!("{file}: case {} has the result {other:?}", case.id),
        };
        counts[at] += 1;
        if !right {
            wrong.push(format!(
                "{file} {}: {} by the vector, here {:?}",
                case.id, case.result, case.got
            ));
        }
    }
    let missing: Vec<&u64> =
        stricter.keys().chain(&laxer).filter(|id| !seen.contains(id)).collect();
    assert!(missing.is_empty(), "{file}: exceptions for cases that do not exist: {missing:?}");
    println!(
        "{file}: {} cases; valid {} accepted, {} refused by stricter rules; invalid {} refused, {} \
            accepted; acceptable {} \
         accepted, {} refused; refused as {faults:?}",
        cases.len(),
        counts[0],
        counts[1],
        counts[2],
        counts[3],
        counts[4],
        counts[5]
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    counts
}

/// Every test of every group of a Wycheproof file; fails if the file's own count says otherwise.
fn wycheproof(file: &str, judge: impl Fn(&Value, &Value) -> Result<(), String>) -> [usize; 6] {
    let vectors = read(&format!("wycheproof/{file}_test.json"));
    let mut cases = Vec::new();
    for group in list(&vectors, "testGroups") {
        for test in list(group, "tests") {
            cases.push(Case {
                id: test["tcId"].as_u64().unwrap(),
                result: text(test, "result").to_owned(),
                got: judge(group, test),
            });
        }
    }
    assert_eq!(vectors["numberOfTests"], cases.len(), "{file}");
    settle(file, &cases)
}

/// The public half where the group gives one; a symmetric key or a set otherwise.
fn key_of(group: &Value) -> &Value {
    group.get("public").or_else(|| group.get("private")).unwrap()
}

#[test]
fn wycheproof_json_web_signature() {
    let counts =
        wycheproof("json_web_signature", |group, test| judge(key_of(group), &token(&test["jws"])));
    assert_eq!(counts, [26, 20, 355, 0, 0, 0]);
}

#[test]
fn wycheproof_json_web_key() {
    let counts =
        wycheproof("json_web_key", |group, test| judge(key_of(group), &token(&test["jws"])));
    assert_eq!(counts, [1, 4, 20, 1, 0, 0]);
}

/// The JWE half has to be refused whole: what is encrypted is never a token here.
#[test]
fn wycheproof_json_web_crypto() {
    let counts = wycheproof("json_web_crypto", |group, test| match test.get("jwe") {
        None => judge(key_of(group), &token(&test["jws"])),
        Some(jwe) => read_only(&token(jwe)).map_err(label),
    });
    assert_eq!(counts, [2, 4, 76, 1, 0, 0]);
}

#[test]
fn wycheproof_ecdsa_p256_sha256_in_the_form_of_jws() {
    let counts = wycheproof("ecdsa_secp256r1_sha256_p1363", |group, test| {
        let jwk = group.get("publicKeyJwk").cloned().unwrap_or_else(|| {
            let point = unhex(text(&group["publicKey"], "uncompressed"));
            let (x, y) =
                (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
            json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
        });
        judge_raw(&jwk, Algorithm::Es256, &unhex(text(test, "msg")), &unhex(text(test, "sig")))
    });
    assert_eq!(counts, [173, 0, 89, 0, 0, 0]);
}

#[test]
fn wycheproof_ed25519() {
    let counts = wycheproof("ed25519", |group, test| {
        judge_raw(
            &group["publicKeyJwk"],
            Algorithm::EdDsa,
            &unhex(text(test, "msg")),
            &unhex(text(test, "sig")),
        )
    });
    assert_eq!(counts, [88, 0, 63, 0, 0, 0]);
}

#[test]
fn wycheproof_rsa_2048_sha256() {
    let counts = wycheproof("rsa_signature_2048_sha256", |group, test| {
        judge_raw(
            &group["keyJwk"],
            Algorithm::Rs256,
            &unhex(text(test, "msg")),
            &unhex(text(test, "sig")),
        )
    });
    assert_eq!(counts, [9, 0, 249, 0, 0, 1]);
}

#[test]
fn rfc_7515_a_2_and_a_3() {
    let vectors = read("rfc7515.json");
    let tests = list(&vectors, "tests");
    assert_eq!(tests.len(), 2);
    for test in tests {
        let (jwk, jws) = (&test["jwk"], text(test, "jws"));
        let decoded = Decoded::of(jws).unwrap();
        let token = decoded.read().unwrap();
        assert_eq!(token.claims.get("iss").unwrap().as_str(), Some("joe"));
        assert!(keys(jwk).unwrap().verify(&token).is_ok(), "{}", test["name"]);
        // And no byte of it may be another: each character changed to its neighbour in the
        // alphabet.
        for at in (0..jws.len()).filter(|at| jws.as_bytes()[*at] != b'.') {
            let other = if &jws[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &jws[..at], &jws[at + 1..]);
            assert!(judge(jwk, &changed).is_err(), "{} {at}", test["name"]);
        }
    }
}

/// Every serialisation that an example of the cookbook gives.
#[test]
fn jose_cookbook() {
    /// What must become of an example's compact form; its JSON forms are refused always.
    enum Expect {
        Accepted,
        Refused(&'static str),
        /// The example has no compact form.
        None,
    }
    use Expect::{Accepted, None, Refused};
    let examples = [
        ("jws/4_1.rsa_v15_signature.json", Accepted),
        ("jws/4_2.rsa-pss_signature.json", Accepted),
        // P-521 is no curve of ours.
        ("jws/4_3.ecdsa_signature.json", Refused(NO_KEY)),
        ("jws/4_4.hmac-sha2_integrity_protection.json", Refused(NO_KEY)),
        ("jws/4_5.signature_with_detached_content.json", Refused(NO_KEY)),
        ("jws/4_6.protecting_specific_header_fields.json", None),
        ("jws/4_7.protecting_content_only.json", None),
        ("jws/4_8.multiple_signatures.json", None),
        ("curve25519/jws.json", Accepted),
        ("rfc7797/hmac-sha2_b64_false.json", Refused(NO_KEY)),
        ("rfc7797/4.2.hmac-sha2_b64_false.json", None),
    ];
    let (mut accepted, mut refused) = (0, 0);
    for (file, expect) in examples {
        let example = read(&format!("jose-cookbook/{file}"));
        let key = &example["input"]["key"];
        let jwk = if key.is_array() { json!({ "keys": key }) } else { key.clone() };
        let compact = example["output"].get("compact").map(|compact| compact.as_str().unwrap());
        match (expect, compact) {
            (Accepted, Some(compact)) => {
                assert_eq!(judge(&jwk, compact), Ok(()), "{file}");
                accepted += 1;
            }
            (Refused(how), Some(compact)) => {
                assert_eq!(judge(&jwk, compact), Err(how.to_owned()), "{file}");
                // Beside a key that we do take, it is the form or the algorithm.
                assert!(read_only(compact).is_err(), "{file}");
                refused += 1;
            }
            (None, Option::None) => {}
            (_, compact) => panic!("{file}: {compact:?}"),
        }
        for form in ["json", "json_flat"] {
            if let Some(form) = example["output"].get(form) {
                assert_eq!(read_only(&form.to_string()), Err(TokenFault::Form), "{file}");
                refused += 1;
            }
        }
    }
    // The first of several signatures, put into the compact form that its protected header allows.
    let example = read("jose-cookbook/jws/4_8.multiple_signatures.json");
    let first = &example["signing"][0];
    let compact = format!("{}.{}", text(first, "sig-input"), text(first, "sig"));
    assert_eq!(judge(&example["input"]["key"][0], &compact), Ok(()));
    // A signed token, and the same encrypted.
    let nested = read("jose-cookbook/6.nesting_signatures_and_encryption.json");
    let signed = text(&nested["sign"]["output"], "compact");
    let decoded = Decoded::of(signed).unwrap();
    let issuer = decoded.read().unwrap().claims.get("iss").unwrap().to_value();
    assert_eq!(issuer, "hobbiton.example");
    assert_eq!(judge(&nested["sign"]["input"]["key"], signed), Ok(()));
    let encrypted = text(&nested["encrypt"]["output"], "compact");
    assert_eq!(read_only(encrypted), Err(TokenFault::Form));
    println!("jose-cookbook: {} accepted, {} refused", accepted + 2, refused + 1);
    assert_eq!((accepted, refused), (3, 25));
}

#[test]
fn jose_cookbook_keys() {
    for (file, usable) in [
        ("3_1.ec_public_key.json", false),
        ("3_2.ec_private_key.json", false),
        ("3_3.rsa_public_key.json", true),
        ("3_4.rsa_private_key.json", true),
        ("3_5.symmetric_key_mac_computation.json", false),
        ("3_6.symmetric_key_encryption.json", false),
    ] {
        assert_eq!(keys(&read(&format!("jose-cookbook/jwk/{file}"))).is_ok(), usable, "{file}");
    }
    // The private members change nothing: it is the same key.
    let id = |file: &str| keys(&read(&format!("jose-cookbook/jwk/{file}"))).unwrap().keys()[0].id;
    assert_eq!(id("3_3.rsa_public_key.json"), id("3_4.rsa_private_key.json"));
}
