//! Another reader of tokens, which takes its time: a tree of owned values, every name looked up.
//! Whatever bytes come, the one that serves gives the same fault or the same claims.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use scopegate::reason::TokenFault;
use scopegate::token::jws::{Algorithm, Decoded};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::support::many;

/// A value whose members are all of different names, at any depth.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(map.into())
    }
}

fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Strict(Value::Object(map))) => Some(map),
        Ok(_) | Err(_) => None,
    }
}

/// What a reader finds in a token.
#[derive(Debug, PartialEq)]
struct Found {
    algorithm: Algorithm,
    key_id: Option<String>,
    kind: Option<String>,
    claims: Map<String, Value>,
    signed: String,
    signature: Vec<u8>,
}

fn second(token: &str) -> Result<Found, TokenFault> {
    let decode = |part: &str| match part {
        "" => Err(TokenFault::Form),
        part => URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Form),
    };
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return Err(TokenFault::Form) };
    let header = object(&decode(header)?).ok_or(TokenFault::Form)?;
    if ["crit", "b64", "enc", "zip"].iter().any(|name| header.contains_key(*name)) {
        return Err(TokenFault::Form);
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
    let algorithm = algorithm.ok_or(TokenFault::Algorithm)?;
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if (1..=256).contains(&kid.len()) => Some(kid.clone()),
        Some(_) => return Err(TokenFault::Form),
    };
    let kind = match header.get("typ") {
        None => None,
        Some(Value::String(kind)) => {
            let kind = kind.to_ascii_lowercase();
            Some(kind.strip_prefix("application/").unwrap_or(&kind).to_owned())
        }
        Some(_) => return Err(TokenFault::Type),
    };
    let signature = decode(signature)?;
    let claims = object(&decode(payload)?).ok_or(TokenFault::Claims)?;
    let signed = format!("{}.{}", parts[0], parts[1]);
    Ok(Found { algorithm, key_id, kind, claims, signed, signature })
}

fn first(token: &str) -> Result<Found, TokenFault> {
    let decoded = Decoded::of(token)?;
    let read = decoded.read()?;
    Ok(Found {
        algorithm: read.algorithm,
        key_id: read.key_id.map(Into::into),
        kind: read.kind.map(Into::into),
        claims: read.claims.to_map(),
        signed: String::from_utf8(read.signed.to_vec()).unwrap(),
        signature: read.signature.to_vec(),
    })
}

/// Texts to begin with, out of which pieces are put into each other.
const HEADERS: [&str; 8] = [
    r#"{"alg":"RS256","typ":"at+jwt","kid":"k1"}"#,
    r#"{"kid":"2024-01","alg":"ES256"}"#,
    r#"{"alg":"EdDSA","typ":"application/AT+JWT"}"#,
    r#"{"alg":"Ed25519","x5t":"AAAA","typ":"JWT"}"#,
    r#"{"alg":"none"}"#,
    r#"{"alg":"ES256","crit":["exp"],"b64":false}"#,
    r#"{"typ":7,"alg":"PS384","kid":null}"#,
    r#"{"\u0061lg":"ES384","kid":"\ud83d\ude00"}"#,
];
const CLAIMS: [&str; 7] = [
    r#"{"iss":"https://i","sub":"s","aud":["a","b"],"exp":1800000000,"scope":"a b"}"#,
    r#"{"realm_access":{"roles":["r",{"x":[]}]},"exp":1.5e9,"n":-0.0,"big":18446744073709551615}"#,
    r#"{"a":1,"b":{"a":1,"c":{"a":null}},"\u0063":true,"d":"\n\t\u0000"}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"a":{"b":[{"c":1,"c":2}]}}"#,
    "{}",
    r#"{"n00":0,"n01":0,"n02":0,"n03":0,"n04":0,"n05":0,"n06":0,"n07":0,"n08":0,"n09":0,"n10":0,"n11":0,"n12":0,"n13":0,"n14":0,"n15":0,"n16":0,"n17":0,"n18":0,"n19":0,"n20":0,"n21":0,"n22":0,"n23":0,"n24":0,"n25":0}"#,
];
const PIECES: [&[u8]; 16] = [
    b"\"",
    b"{",
    b"}",
    b",",
    b":",
    b"[",
    b"]",
    b"\\u0061",
    b"null",
    b"1e400",
    b"\"alg\":\"RS256\",",
    b"\"n07\":1,",
    b" ",
    b"\xff",
    b"\"typ\":\"JWT\",",
    b"-",
];

struct Dice(fastrand::Rng);

impl Dice {
    fn change(&mut self, text: &mut Vec<u8>) {
        for _ in 0..self.0.usize(0..4) {
            let at = self.0.usize(0..=text.len());
            match self.0.usize(0..5) {
                0 if at < text.len() => drop(text.remove(at)),
                1 if at < text.len() => text[at] = self.0.u8(..),
                2 => text.truncate(at),
                3 if at < text.len() => {
                    // A part of it once more.
                    let end = (at + self.0.usize(0..20)).min(text.len());
                    let part = text[at..end].to_vec();
                    text.splice(at..at, part);
                }
                _ => {
                    let piece = PIECES[self.0.usize(0..PIECES.len())];
                    text.splice(at..at, piece.iter().copied());
                }
            }
        }
    }

    fn token(&mut self) -> String {
        let mut header = HEADERS[self.0.usize(0..HEADERS.len())].as_bytes().to_vec();
        let mut claims = CLAIMS[self.0.usize(0..CLAIMS.len())].as_bytes().to_vec();
        if self.0.bool() {
            self.change(&mut header);
        }
        if self.0.bool() {
            self.change(&mut claims);
        }
        let signature: Vec<u8> = (0..self.0.usize(0..70)).map(|_| self.0.u8(..)).collect();
        let mut token =
            [header, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        if self.0.usize(0..4) == 0 {
            let at = self.0.usize(0..=token.len());
            token.insert(at, ['.', '=', 'A', '+', '/', '-', '\u{e9}', ' '][self.0.usize(0..8)]);
        }
        token
    }
}

/// `MUTATIONS` sets how many; a seed that failed is printed with its token.
#[test]
fn two_readers_find_the_same_in_whatever_bytes() {
    let mut dice = Dice(fastrand::Rng::with_seed(16));
    let (mut read, mut refused) = (0, 0);
    for number in 0..many("MUTATIONS", 50_000) {
        let token = dice.token();
        let found = first(&token);
        assert_eq!(found, second(&token), "{number}: {token}");
        if found.is_ok() {
            read += 1;
        } else {
            refused += 1;
        }
    }
    println!("{read} tokens read, {refused} refused, by both readers alike");
    // Neither half of the comparison is empty.
    assert!(read * 20 > refused && refused * 20 > read);
}
