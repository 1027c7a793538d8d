//! JWK Sets (RFC 7517): the keys of one issuer, ready to verify with.
//!
//! A key that we cannot use is left out without failing the set (§5); a key's algorithm comes from
//! the key, never from a token's header (RFC 8725 §3.1).

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::json::Json;
use super::jws::{Algorithm, Unverified};
use super::tenant;
use crate::reason::{TokenFault, quoted};

/// The JWK thumbprint of a public key (RFC 7638, SHA-256); of one that serves one issuer alone, a
/// digest of that too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// base64url of the thumbprint: what we use as `kid` of our own keys.
    #[must_use]
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// One public key.
#[derive(Clone)]
pub struct Key {
    /// The thumbprint.
    pub id: KeyId,
    /// `kid`, if the set gives one.
    pub name: Option<String>,
    /// The one issuer that it serves, where the set says so (`issuer`, as Entra ID writes it).
    issuer: Option<Arc<str>>,
    /// The key for each algorithm that it goes with, parsed once: to parse it for every token costs
    /// as much as to verify.
    verifiers: Arc<[(Algorithm, ParsedPublicKey)]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a set was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetFault {
    /// Not JSON, or without a `keys` array.
    #[error("not a JWK Set: no JSON object with an array `keys` (RFC 7517 §5)")]
    Form,
    /// No key in it can verify a token.
    #[error("the JWK Set has no key that can verify a token{}", listed(.0))]
    Empty(Vec<LeftOut>),
}

/// A key that was left out of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its `kid`, where it has one; it is somebody else's text.
    pub name: Option<String>,
    /// Its place in the set, from 1.
    pub place: usize,
    /// Why.
    pub fault: KeyFault,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "`{}`: {}", quoted(name), self.fault),
            None => write!(f, "key {} of the set: {}", self.place, self.fault),
        }
    }
}

/// Keys that were left out, in words; of many, the first.
#[must_use]
pub fn listed(left_out: &[LeftOut]) -> String {
    const MOST: usize = 8;
    let mut text = String::new();
    for (at, key) in left_out.iter().take(MOST).enumerate() {
        text.push_str(if at == 0 { ": " } else { "; " });
        text.push_str(&key.to_string());
    }
    if left_out.len() > MOST {
        text.push_str(&format!("; and {} more", left_out.len() - MOST));
    }
    text
}

/// Why a key was left out of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// `kty` or `crv` that we do not verify with, symmetric keys among them.
    #[error("a key type that verifies no token here")]
    Kind,
    /// A member is absent or not of its form.
    #[error("a member is missing or malformed")]
    Member,
    /// RSA below 2048 bits (RFC 7518 §3.3).
    #[error("an RSA key below 2048 bits")]
    Weak,
    /// `use` or `key_ops` say that it is for something else (RFC 7517 §4.2, §4.3).
    #[error("not for verifying signatures")]
    Use,
    /// `alg` names an algorithm that does not go with the key.
    #[error("`alg` does not go with the key")]
    Algorithm,
}

impl KeyFault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kind, Self::Member, Self::Weak, Self::Use, Self::Algorithm];

    /// The label of the metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kind => "type",
            Self::Member => "member",
            Self::Weak => "weak",
            Self::Use => "use",
            Self::Algorithm => "algorithm",
        }
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    fingerprint: u64,
}

impl KeySet {
    /// Parses a JWK Set; gives the usable keys, and those that were left out with the reason.
    ///
    /// # Errors
    /// A text that is no JWK Set, or has no usable key: it must not replace a set that works.
    pub fn parse(text: &[u8]) -> Result<(Self, Vec<LeftOut>), KeySetFault> {
        let set: Value = serde_json::from_slice(text).map_err(|_| KeySetFault::Form)?;
        let Some(Value::Array(entries)) = set.get("keys") else { return Err(KeySetFault::Form) };
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            match entry.as_object().ok_or(KeyFault::Member).and_then(Key::parse) {
                Ok(key) => keys.push(key),
                Err(fault) => {
                    let name = entry.get("kid").and_then(Value::as_str).map(str::to_owned);
                    left_out.push(LeftOut { name, place: at + 1, fault });
                }
            }
        }
        if keys.is_empty() {
            Err(KeySetFault::Empty(left_out))
        } else {
            Ok((Self::new(keys), left_out))
        }
    }

    /// A set of these keys.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        let mut hash = DefaultHasher::new();
        for key in &keys {
            (key.id, &key.name, &key.issuer).hash(&mut hash);
            for (algorithm, _) in &*key.verifiers {
                algorithm.hash(&mut hash);
            }
        }
        let fingerprint = hash.finish();
        Self { keys, fingerprint }
    }

    /// Distinguishes sets: the same keys with the same names and algorithms have the same.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether the key is still in the set.
    #[must_use]
    pub fn has(&self, id: &KeyId) -> bool {
        self.keys.iter().any(|key| key.id == *id)
    }

    /// Verifies the signature and names the key that did. With a `kid` the keys of that name are
    /// tried, then those without one; without a `kid`, all that go with the algorithm. Of either
    /// eight at most: more would let a token buy many signature checks.
    ///
    /// # Errors
    /// `key_unknown` when no key has the name, `issuer` when the named key serves another issuer,
    /// `algorithm` when it has another algorithm, `signature` when the signature does not verify.
    pub fn verify(&self, token: &Unverified<'_>) -> Result<KeyId, TokenFault> {
        let Some(kid) = token.key_id.as_deref() else {
            return verify_with(self.keys.iter(), token);
        };
        match verify_with(self.keys.iter().filter(|key| key.name.as_deref() == Some(kid)), token) {
            Ok(id) => Ok(id),
            // A key without a name may be the one: that it is not, says nothing of the name.
            Err(fault) => verify_with(self.keys.iter().filter(|key| key.name.is_none()), token)
                .map_err(|_| fault),
        }
    }
}

/// Most keys tried with one token.
const MAX_TRIES: usize = 8;

fn verify_with<'a>(
    keys: impl Iterator<Item = &'a Key>,
    token: &Unverified<'_>,
) -> Result<KeyId, TokenFault> {
    // Not verified yet: it chooses among the keys, and is held against the rules later.
    let issuer = token.claims.get("iss").and_then(Json::as_str).unwrap_or_default();
    let (mut fault, mut tries) = (TokenFault::KeyUnknown, 0);
    for key in keys {
        if key.issuer.as_deref().is_some_and(|named| !tenant::serves(named, issuer)) {
            if fault == TokenFault::KeyUnknown {
                fault = TokenFault::Issuer;
            }
            continue;
        }
        let mut verifiers = key.verifiers.iter();
        let Some((_, verifier)) = verifiers.find(|(known, _)| *known == token.algorithm) else {
            if tries == 0 {
                fault = TokenFault::Algorithm;
            }
            continue;
        };
        fault = TokenFault::Signature;
        tries += 1;
        if tries > MAX_TRIES {
            break;
        }
        if verifier.verify_sig(token.signed, token.signature).is_ok() {
            return Ok(key.id);
        }
    }
    Err(fault)
}

impl Key {
    /// Reads one JWK.
    ///
    /// # Errors
    /// Why the key is of no use here.
    pub fn parse(jwk: &Map<String, Value>) -> Result<Self, KeyFault> {
        // A member that is `null` is absent.
        let member = |name: &str| jwk.get(name).filter(|value| !value.is_null());
        let text = |name: &str| member(name).and_then(Value::as_str).ok_or(KeyFault::Member);
        // `jwt-svid` is SPIFFE's word for the same (JWT-SVID §4).
        let signs = |purpose: &Value| matches!(purpose.as_str(), Some("sig" | "jwt-svid"));
        if member("use").is_some_and(|purpose| !signs(purpose)) {
            return Err(KeyFault::Use);
        }
        if let Some(operations) = member("key_ops") {
            let verify = operations
                .as_array()
                .is_some_and(|list| list.iter().any(|op| op.as_str() == Some("verify")));
            if !verify {
                return Err(KeyFault::Use);
            }
        }
        let (mut verifiers, thumbprint) = match text("kty")? {
            "RSA" => parse_rsa(text("n")?, text("e")?)?,
            "EC" => parse_ec(text("crv")?, text("x")?, text("y")?)?,
            "OKP" => parse_okp(text("crv")?, text("x")?)?,
            _ => return Err(KeyFault::Kind),
        };
        if let Some(alg) = member("alg") {
            let alg = alg.as_str().and_then(Algorithm::parse).ok_or(KeyFault::Algorithm)?;
            verifiers.retain(|(own, _)| *own == alg);
            if verifiers.is_empty() {
                return Err(KeyFault::Algorithm);
            }
        }
        let name = match member("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(KeyFault::Member)?.to_owned()),
        };
        let issuer: Option<Arc<str>> = match member("issuer") {
            None => None,
            Some(issuer) => Some(Arc::from(issuer.as_str().ok_or(KeyFault::Member)?)),
        };
        let mut digest = Sha256::new_with_prefix(thumbprint.as_bytes());
        if let Some(issuer) = &issuer {
            // For another issuer it is another key: what it signed for the first ends.
            digest.update(issuer.as_bytes());
        }
        Ok(Self { id: KeyId(digest.finalize().into()), name, issuer, verifiers: verifiers.into() })
    }
}

/// A key for each of its algorithms, and what its thumbprint is taken of.
type Material = (Vec<(Algorithm, ParsedPublicKey)>, String);

/// base64url; padding, which RFC 7518 §2 leaves out, says nothing.
fn decode(text: &str) -> Result<Vec<u8>, KeyFault> {
    let text = text.trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Member)
}

/// A number without leading zeros, which some write (RFC 7518 §2 forbids them).
fn number(text: &str) -> Result<Vec<u8>, KeyFault> {
    let mut bytes = decode(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    if bytes.is_empty() { Err(KeyFault::Member) } else { Ok(bytes) }
}

/// A coordinate in so many bytes: with the leading zeros that some leave out, and without further
/// ones (RFC 7518 §6.2.1.2).
fn coordinate(text: &str, size: usize) -> Result<Vec<u8>, KeyFault> {
    let bytes = number(text)?;
    let zeros = size.checked_sub(bytes.len()).ok_or(KeyFault::Member)?;
    Ok([vec![0; zeros], bytes].concat())
}

/// How an RSA key verifies (RFC 7518 §3.3, §3.5).
static RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
];

fn parse_rsa(n: &str, e: &str) -> Result<Material, KeyFault> {
    let (modulus, exponent) = (number(n)?, number(e)?);
    let leading = modulus.first().copied().unwrap_or(0);
    let bits = (modulus.len() * 8).saturating_sub(leading.leading_zeros() as usize);
    if bits < 2048 {
        return Err(KeyFault::Weak);
    }
    // Past 8192 bits one check costs milliseconds; an exponent of one or an even one verifies
    // nothing.
    if bits > 8192
        || exponent.len() > 5
        || exponent.last().is_none_or(|b| b % 2 == 0)
        || exponent == [1]
    {
        return Err(KeyFault::Member);
    }
    let key = RsaPublicKeyComponents { n: &modulus, e: &exponent };
    let parsed = RSA.iter().map(|(algorithm, parameters)| {
        Ok((*algorithm, key.to_parsed_public_key(parameters).map_err(|_| KeyFault::Member)?))
    });
    let verifiers = parsed.collect::<Result<_, KeyFault>>()?;
    // Of the canonical form (RFC 7638 §3.1), whatever the set has written.
    let (n, e) = (URL_SAFE_NO_PAD.encode(&modulus), URL_SAFE_NO_PAD.encode(&exponent));
    Ok((verifiers, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)))
}

fn parse_ec(curve: &str, x: &str, y: &str) -> Result<Material, KeyFault> {
    let (algorithm, method, size) = match curve {
        "P-256" => (Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (Algorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED, 48),
        _ => return Err(KeyFault::Kind),
    };
    let (left, right) = (coordinate(x, size)?, coordinate(y, size)?);
    // The uncompressed form of a point (SEC 1 §2.3.3).
    let point = [&[4][..], &left, &right].concat();
    let key = ParsedPublicKey::new(method, point).map_err(|_| KeyFault::Member)?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(&left), URL_SAFE_NO_PAD.encode(&right));
    Ok((vec![(algorithm, key)], format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#)))
}

fn parse_okp(curve: &str, x: &str) -> Result<Material, KeyFault> {
    if curve != "Ed25519" {
        return Err(KeyFault::Kind);
    }
    let bytes = decode(x)?;
    if bytes.len() != 32 {
        return Err(KeyFault::Member);
    }
    let x = URL_SAFE_NO_PAD.encode(&bytes);
    let key = ParsedPublicKey::new(&signature::ED25519, bytes).map_err(|_| KeyFault::Member)?;
    Ok((vec![(Algorithm::EdDsa, key)], format!(r#"{{"crv":"{curve}","kty":"OKP","x":"{x}"}}"#)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn set(keys: &str) -> Result<(KeySet, Vec<LeftOut>), KeySetFault> {
        KeySet::parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes())
    }

    fn faults(left_out: &[LeftOut]) -> Vec<KeyFault> {
        left_out.iter().map(|key| key.fault).collect()
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638_3_1() {
        let (set, _) = set(&format!(
            r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}"#
        ))
        .unwrap();
        assert_eq!(set.keys()[0].id.to_text(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_key_is_the_same_however_its_numbers_are_written() {
        let id = |jwk: &str| set(jwk).unwrap().0.keys()[0].id.to_text();
        let zero =
            URL_SAFE_NO_PAD.encode([vec![0], URL_SAFE_NO_PAD.decode(RSA_N).unwrap()].concat());
        for (n, e) in
            [(RSA_N, "AQAB"), (&zero, "AQAB"), (RSA_N, "AAEAAQ"), (&format!("{RSA_N}=="), "AQAB=")]
        {
            let jwk =
                format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}","use":null,"kid":null,"alg":null}}"#);
            assert_eq!(id(&jwk), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "{n} {e}");
        }
        // A point whose x begins with a zero byte, as it is, without it, and with one more.
        let point = (1_u32..)
            .find_map(|number| {
                let scalar = [&[0; 28][..], &number.to_be_bytes()].concat();
                let key = p256::ecdsa::SigningKey::from_slice(&scalar).unwrap();
                let point = key.verifying_key().to_encoded_point(false);
                (point.x().unwrap()[0] == 0).then_some(point)
            })
            .unwrap();
        let y = URL_SAFE_NO_PAD.encode(point.y().unwrap());
        let jwk = |x: &[u8]| {
            let x = URL_SAFE_NO_PAD.encode(x);
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#)
        };
        let x = point.x().unwrap().to_vec();
        let whole = id(&jwk(&x));
        for other in [x[1..].to_vec(), [vec![0], x.clone()].concat()] {
            assert_eq!(id(&jwk(&other)), whole);
        }
        let jwk = |x: &str| jwk(&URL_SAFE_NO_PAD.decode(x).unwrap());
        let Err(KeySetFault::Empty(left_out)) = set(&jwk("AA")) else { panic!() };
        assert_eq!(faults(&left_out), [KeyFault::Member]);
    }

    #[test]
    fn unusable_keys_are_left_out_without_failing_the_set() {
        let good = format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB"}}"#);
        let rsa = |rest: &str| format!(r#"{{"kty":"RSA","n":"{RSA_N}",{rest}}}"#);
        for (bad, fault) in [
            (r#"{"kty":"oct","k":"AAAA"}"#.to_owned(), KeyFault::Kind),
            (r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.to_owned(), KeyFault::Kind),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(), KeyFault::Member),
            (r#"{"kty":"RSA","e":"AQAB"}"#.to_owned(), KeyFault::Member),
            (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(), KeyFault::Weak),
            (rsa(r#""e":"AQAB","use":"enc""#), KeyFault::Use),
            (rsa(r#""e":"AQAB","key_ops":["sign"]"#), KeyFault::Use),
            (rsa(r#""e":"AQAB","alg":"ES256""#), KeyFault::Algorithm),
            (rsa(r#""e":"AQAB","alg":"RSA-OAEP""#), KeyFault::Algorithm),
            (rsa(r#""e":"AQ""#), KeyFault::Member),
            (rsa(r#""e":"AQAB","issuer":7"#), KeyFault::Member),
            ("{}".to_owned(), KeyFault::Member),
            ("7".to_owned(), KeyFault::Member),
        ] {
            let (keys, left_out) = set(&format!("{bad},{good}")).unwrap();
            assert_eq!((keys.keys().len(), faults(&left_out)), (1, vec![fault]), "{bad}");
            let Err(KeySetFault::Empty(left_out)) = set(&bad) else { panic!("{bad}") };
            assert_eq!(faults(&left_out), [fault], "{bad}");
        }
        // What a key calls itself goes into logs in one line.
        let many = [r#"{"kty":"oct","kid":"a\nb"}"#; 10].join(",");
        let text = set(&many).unwrap_err().to_string();
        assert!(text.contains("a key type that verifies no token here") && !text.contains('\n'));
        assert!(text.ends_with("; and 2 more"), "{text}");
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for bad in ["", "<html>", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":["#] {
            assert_eq!(KeySet::parse(bad.as_bytes()).unwrap_err(), KeySetFault::Form, "{bad}");
        }
        assert_eq!(set("").unwrap_err(), KeySetFault::Empty(Vec::new()));
    }
}
