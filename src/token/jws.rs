//! The compact JWS in the one form we take (RFC 7515 §7.1, RFC 8725): three parts of canonical
//! base64url, a header we know every effect of, and nothing that names a key by itself.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{Json, Object};
use crate::reason::{TokenError, TokenFault, quoted};

/// The algorithms we verify with. `none` and the HMAC family have no place here: we share no
/// secrets with issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5, SHA-256 (RFC 7518 §3.3).
    Rs256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    Rs512,
    /// RSASSA-PSS, SHA-256 (RFC 7518 §3.5).
    Ps256,
    /// RSASSA-PSS, SHA-384.
    Ps384,
    /// RSASSA-PSS, SHA-512.
    Ps512,
    /// ECDSA P-256, SHA-256 (RFC 7518 §3.4).
    Es256,
    /// ECDSA P-384, SHA-384.
    Es384,
    /// Ed25519 (RFC 8037 §3.1; `Ed25519` of RFC 9864 is the same).
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The `alg` value; case-sensitive (RFC 8725 §3.1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text)
    }

    /// The `alg` value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The same algorithm in the verifying library.
    #[must_use]
    pub const fn to_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Ps384 => jsonwebtoken::Algorithm::PS384,
            Self::Ps512 => jsonwebtoken::Algorithm::PS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A token whose parts are decoded, and nothing else: what [`Unverified`] borrows from.
#[derive(Debug)]
pub struct Decoded<'a> {
    token: &'a str,
    /// Header, payload and signature, one after the other.
    bytes: Vec<u8>,
    header: usize,
    /// Where the payload ends; a fault of its form is one of the token only if its header is good.
    payload: Option<usize>,
    signature_is_good: bool,
}

/// A token whose signature has not been checked. Nothing in it is to be believed; `claims` serve to
/// find the issuer whose keys may speak for them.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`.
    pub key_id: Option<Cow<'a, str>>,
    /// `typ` in lower case, without `application/` (RFC 8725 §3.11, RFC 7515 §4.1.9).
    pub kind: Option<Cow<'a, str>>,
    /// The payload.
    pub claims: Object<'a>,
    /// What is signed: header and payload with the dot between.
    pub signed: &'a [u8],
    /// The signature, decoded.
    pub signature: &'a [u8],
}

/// Longest `kid` taken, in bytes: it is attacker input (RFC 8725 §3.10).
const MAX_KEY_ID: usize = 256;

impl<'a> Decoded<'a> {
    /// Splits and decodes a token.
    ///
    /// # Errors
    /// `form` for anything but three parts, or a header that is not canonical base64url.
    pub fn of(token: &'a str) -> Result<Self, TokenFault> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Form);
        };
        let mut bytes = Vec::with_capacity(token.len());
        decode(header, &mut bytes)?;
        let header = bytes.len();
        let payload = decode(payload, &mut bytes).ok().map(|()| bytes.len());
        // What a part that cannot be decoded has left behind.
        bytes.truncate(payload.unwrap_or(header));
        let signature_is_good = decode(signature, &mut bytes).is_ok();
        Ok(Self { token, bytes, header, payload, signature_is_good })
    }

    /// Reads header and claims.
    ///
    /// # Errors
    /// `form` for anything but the strict compact form, `algorithm` for an `alg` we never use,
    /// `claims` for a payload that is no JSON object or has a name twice.
    pub fn read(&self) -> Result<Unverified<'_>, TokenFault> {
        let slice = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        let header = slice(0, self.header);
        let header = Object::parse(header).map_err(|_| TokenFault::Form)?;
        let (algorithm, key_id, kind) = read_header(header)?;
        let payload = self.payload.filter(|_| self.signature_is_good).ok_or(TokenFault::Form)?;
        let claims = Object::parse(slice(self.header, payload)).map_err(|_| TokenFault::Claims)?;
        let signed = self.token.rfind('.').and_then(|end| self.token.as_bytes().get(..end));
        Ok(Unverified {
            algorithm,
            key_id,
            kind,
            claims,
            signed: signed.ok_or(TokenFault::Form)?,
            signature: slice(payload, self.bytes.len()),
        })
    }
}

/// A fault that reading a token has found, with what was seen and what was wanted: for the
/// operator. Looks at the token anew: only a refusal pays for its text.
#[must_use]
pub fn described(token: &str, fault: TokenFault) -> TokenError {
    let text = match fault {
        TokenFault::Form => form_seen(token),
        TokenFault::Algorithm => Some(algorithm_seen(token)),
        TokenFault::Expired
        | TokenFault::NotYetValid
        | TokenFault::Issuer
        | TokenFault::Audience
        | TokenFault::KeyUnknown
        | TokenFault::Signature
        | TokenFault::Type
        | TokenFault::Revoked
        | TokenFault::Inactive
        | TokenFault::Binding
        | TokenFault::Claims => None,
    };
    text.map_or_else(|| fault.into(), |text| TokenError::because(fault, text))
}

/// Parts of an encrypted token (RFC 7516 §7.1).
const PARTS_OF_JWE: usize = 5;

fn form_seen(token: &str) -> Option<String> {
    const WANTED: &str = "wants the three parts of a signed JWT";
    match token.split('.').count() {
        1 => Some(format!("saw no dot, as in an opaque token; {WANTED}, or `introspection`")),
        3 => {
            let bytes = header_of(token)?;
            let header = Object::parse(&bytes).ok()?;
            let name = EXTENSIONS.into_iter().find(|name| header.has(name))?;
            Some(format!("saw `{name}` in the header, wants none of {}", EXTENSIONS.join(", ")))
        }
        PARTS_OF_JWE => {
            let with = encryption_of(token).map(|with| format!(" ({with})")).unwrap_or_default();
            Some(format!("saw five parts, an encrypted token{with}; {WANTED}"))
        }
        count => Some(format!("saw {count} parts; {WANTED}")),
    }
}

/// How a token is encrypted, as its header says.
fn encryption_of(token: &str) -> Option<String> {
    let bytes = header_of(token)?;
    let header = Object::parse(&bytes).ok()?;
    let text = |name: &str| header.get(name).and_then(Json::as_str).map(quoted);
    Some(format!("{}, {}", text("alg")?, text("enc")?))
}

fn algorithm_seen(token: &str) -> String {
    let bytes = header_of(token).unwrap_or_default();
    let header = Object::parse(&bytes).ok();
    let seen = match header.as_ref().and_then(|header| header.get("alg")) {
        None => "no alg".to_owned(),
        Some(Json::Text(alg)) if matches!(&**alg, "HS256" | "HS384" | "HS512") => {
            format!("{alg}, which needs a secret shared with the issuer")
        }
        Some(Json::Text(alg)) if alg.eq_ignore_ascii_case("none") => {
            format!("{alg}, an unsigned token")
        }
        Some(Json::Text(alg)) => quoted(alg),
        Some(_) => "an alg that is no text".to_owned(),
    };
    format!("saw {seen}; wants one of {}", Algorithm::ALL.map(Algorithm::as_str).join(", "))
}

fn header_of(token: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    decode(token.split('.').next()?, &mut bytes).ok()?;
    Some(bytes)
}

/// Canonical base64url: no padding, no other alphabet, no stray trailing bits (RFC 7515 §2).
fn decode(part: &str, into: &mut Vec<u8>) -> Result<(), TokenFault> {
    if part.is_empty() {
        return Err(TokenFault::Form);
    }
    URL_SAFE_NO_PAD.decode_vec(part, into).map_err(|_| TokenFault::Form)
}

/// Extensions that must be understood and are not understood here, `b64` (RFC 7797) among them, and
/// members of encrypted tokens.
const EXTENSIONS: [&str; 4] = ["crit", "b64", "enc", "zip"];

type HeaderFacts<'a> = (Algorithm, Option<Cow<'a, str>>, Option<Cow<'a, str>>);

fn read_header(header: Object<'_>) -> Result<HeaderFacts<'_>, TokenFault> {
    let (mut algorithm, mut key_id, mut kind) = (None, None, None);
    let mut is_extended = false;
    for (name, value) in header {
        match &*name {
            // `jku`, `jwk`, `x5u` and `x5c` are never looked at: keys come from the issuer's
            // configuration alone.
            name if EXTENSIONS.contains(&name) => is_extended = true,
            "alg" => algorithm = Some(value),
            "kid" => key_id = Some(value),
            "typ" => kind = Some(value),
            _ => {}
        }
    }
    if is_extended {
        return Err(TokenFault::Form);
    }
    let Some(Json::Text(algorithm)) = algorithm else { return Err(TokenFault::Algorithm) };
    let algorithm = Algorithm::parse(&algorithm).ok_or(TokenFault::Algorithm)?;
    let key_id = match key_id {
        None => None,
        Some(Json::Text(kid)) if !kid.is_empty() && kid.len() <= MAX_KEY_ID => Some(kid),
        Some(_) => return Err(TokenFault::Form),
    };
    let kind = match kind {
        None => None,
        Some(Json::Text(kind)) => Some(kind_of(kind)),
        Some(_) => return Err(TokenFault::Type),
    };
    Ok((algorithm, key_id, kind))
}

/// A media type in lower case, without `application/` where it has that.
fn kind_of(kind: Cow<'_, str>) -> Cow<'_, str> {
    let is_plain = !kind.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'/');
    if is_plain {
        return kind;
    }
    let kind = kind.to_ascii_lowercase();
    Cow::Owned(kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str, signature: &str) -> String {
        format!(
            "{}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        )
    }

    #[test]
    fn the_strict_form_is_read() {
        let text = token(
            r#"{"alg":"ES256","kid":"k","typ":"application/AT+JWT"}"#,
            r#"{"iss":"i"}"#,
            "AAAA",
        );
        let decoded = Decoded::of(&text).unwrap();
        let parsed = decoded.read().unwrap();
        assert_eq!(parsed.algorithm, Algorithm::Es256);
        assert_eq!(parsed.key_id.as_deref(), Some("k"));
        assert_eq!(parsed.kind.as_deref(), Some("at+jwt"));
        assert_eq!(parsed.signed, text.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[test]
    fn every_other_form_is_refused_with_its_fault() {
        let ok = r#"{"alg":"ES256"}"#;
        for (text, fault) in [
            (token(r#"{"alg":"none"}"#, "{}", "AAAA"), TokenFault::Algorithm),
            (token(r#"{"alg":"noNE"}"#, "{}", "AAAA"), TokenFault::Algorithm),
            (token(r#"{"alg":"HS256"}"#, "{}", "AAAA"), TokenFault::Algorithm),
            (token(r#"{"alg":"es256"}"#, "{}", "AAAA"), TokenFault::Algorithm),
            (token(r#"{"alg":["ES256"]}"#, "{}", "AAAA"), TokenFault::Algorithm),
            (token("{}", "{}", "AAAA"), TokenFault::Algorithm),
            (token(r#"{"alg":"ES256","alg":"RS256"}"#, "{}", "AAAA"), TokenFault::Form),
            (token(r#"{"alg":"ES256","crit":[]}"#, "{}", "AAAA"), TokenFault::Form),
            (token(r#"{"alg":"ES256","crit":["exp"]}"#, "{}", "AAAA"), TokenFault::Form),
            (token(r#"{"alg":"ES256","b64":true}"#, "{}", "AAAA"), TokenFault::Form),
            (token(r#"{"alg":"ES256","kid":7}"#, "{}", "AAAA"), TokenFault::Form),
            (token(r#"{"alg":"ES256","typ":7}"#, "{}", "AAAA"), TokenFault::Type),
            (token(ok, "[]", "AAAA"), TokenFault::Claims),
            (token(ok, r#"{"a":1,"a":1}"#, "AAAA"), TokenFault::Claims),
            (token(ok, "{}", ""), TokenFault::Form),
            (token(ok, "{}", "AAA="), TokenFault::Form),
            (token(ok, "{}", "AA+A"), TokenFault::Form),
            (token(ok, "{}", "AAB"), TokenFault::Form),
            (format!("{}.x", token(ok, "{}", "AAAA")), TokenFault::Form),
            ("a.b".to_owned(), TokenFault::Form),
            ("....".to_owned(), TokenFault::Form),
            (format!(" {}", token(ok, "{}", "AAAA")), TokenFault::Form),
            (format!("{}\n", token(ok, "{}", "AAAA")), TokenFault::Form),
            (r#"{"payload":"","signatures":[]}"#.to_owned(), TokenFault::Form),
        ] {
            let read = Decoded::of(&text).and_then(|decoded| decoded.read().map(|_| ()));
            assert_eq!(read, Err(fault), "{text}");
            assert_eq!(described(&text, fault).fault, fault, "{text}");
        }
    }

    #[test]
    fn a_fault_of_form_or_algorithm_says_what_was_seen_and_what_was_wanted() {
        let of_algorithm = |alg: &str| token(&format!(r#"{{"alg":{alg}}}"#), "{}", "AAAA");
        let encrypted = URL_SAFE_NO_PAD.encode(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM"}"#);
        let long = "x".repeat(500);
        for (text, expect) in [
            (
                of_algorithm(r#""HS256""#),
                "algorithm: saw HS256, which needs a secret shared with the issuer; wants one of \
                    RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
            ),
            (of_algorithm(r#""None""#), "algorithm: saw None, an unsigned token; wants"),
            (of_algorithm(r#""ES512""#), "algorithm: saw ES512; wants"),
            (of_algorithm(r#""a\u0000b""#), "algorithm: saw a?b; wants"),
            (of_algorithm("7"), "algorithm: saw an alg that is no text; wants"),
            (token("{}", "{}", "AAAA"), "algorithm: saw no alg; wants"),
            (
                format!("{encrypted}.AAAA.AAAA.AAAA.AAAA"),
                "form: saw five parts, an encrypted token (RSA-OAEP-256, A256GCM); wants the \
                    three parts of a signed JWT",
            ),
            ("a..b.c.d".to_owned(), "form: saw five parts, an encrypted token; wants the three"),
            ("a.b".to_owned(), "form: saw 2 parts; wants the three parts of a signed JWT"),
            (
                "opaque".to_owned(),
                "form: saw no dot, as in an opaque token; wants the three parts of a signed JWT, \
                    or `introspection`",
            ),
            (
                token(r#"{"alg":"ES256","crit":["exp"]}"#, "{}", "AAAA"),
                "form: saw `crit` in the header, wants none of crit, b64, enc, zip",
            ),
        ] {
            let fault = Decoded::of(&text).and_then(|decoded| decoded.read().map(|_| ()));
            let described = described(&text, fault.unwrap_err());
            assert!(described.text().starts_with(expect), "{text}: {}", described.text());
        }
        let text = of_algorithm(&format!("\"{long}\""));
        assert!(described(&text, TokenFault::Algorithm).text().len() < 300);
    }
}
