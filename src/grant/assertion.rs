//! Assertions that a client signs with a registered key (RFC 7523): instead of its secret, or
//! instead of a user's login.

use crate::client::Client;
use crate::names::Timestamp;
use crate::token::json::Json;
use crate::token::jws::Decoded;

/// `client_assertion_type` of RFC 7523 §2.2.
pub const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest life of an assertion, seconds: its id is stored that long.
const MAX_LIFE: i64 = 3_600;
/// `typ` of an assertion that proves a client.
pub const CLIENT_KIND: &str = "client-authentication+jwt";
/// `typ` of an assertion that replaces a user's login. Plain JWTs are distinguished by their `sub`.
pub const GRANT_KIND: &str = "authorization-grant+jwt";
/// Longest `jti`, which is stored.
const MAX_ID: usize = 256;
/// Clock difference forgiven, seconds.
const LEEWAY: i64 = 30;

/// A verified assertion. The store decides whether it was used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Its subject: the client itself, or a user.
    pub subject: String,
    /// The client and the assertion's own id, which may be used once.
    pub id: String,
    /// The id is stored until then.
    pub expires: Timestamp,
}

/// The client that an assertion names, before it is verified: it selects the keys.
#[must_use]
pub fn claimed(text: &str) -> Option<String> {
    Some(Decoded::of(text).ok()?.read().ok()?.claims.get("iss")?.as_str()?.to_owned())
}

/// Verifies an assertion of a client (RFC 7523 §3); if its `typ` declares a purpose, it must be
/// this one.
///
/// # Errors
/// Says what is wrong, for the log and for the client that signed it.
pub fn verify(
    text: &str,
    kind: &str,
    client: &Client,
    audiences: &[&str],
    now: Timestamp,
) -> Result<Assertion, &'static str> {
    let unsigned = |_| "the assertion is not a signed JWT";
    let decoded = Decoded::of(text).map_err(unsigned)?;
    let parsed = decoded.read().map_err(unsigned)?;
    if client.keys.keys().is_empty() {
        return Err("the client has no jwks_file: it cannot sign assertions");
    }
    if !parsed.kind.as_deref().is_none_or(|found| found == "jwt" || found == kind) {
        return Err("the assertion's typ is of another kind of token");
    }
    client
        .keys
        .verify(&parsed)
        .map_err(|_| "the assertion's signature is not by a key of the client")?;
    let text_of = |name: &str| parsed.claims.get(name).and_then(Json::as_str);
    let date = |name: &str| {
        parsed.claims.get(name).map(|value| value.as_i64().ok_or("a date is not a whole number"))
    };
    if text_of("iss") != Some(client.id.as_str()) {
        return Err("the assertion's iss is not the client_id");
    }
    let named = |value: &Json<'_>| value.as_str().is_some_and(|value| audiences.contains(&value));
    let ours = match parsed.claims.get("aud") {
        Some(Json::List(list)) => list.iter().any(named),
        Some(value) => named(value),
        None => false,
    };
    if !ours {
        return Err("the assertion's aud is neither our issuer nor our token endpoint");
    }
    let expires = Timestamp(date("exp").ok_or("the assertion has no exp")??);
    if now >= expires.plus(LEEWAY) {
        return Err("the assertion has expired");
    }
    if expires > now.plus(MAX_LIFE) {
        return Err("the assertion's exp is more than an hour away");
    }
    for name in ["nbf", "iat"] {
        if let Some(at) = date(name).transpose()?
            && Timestamp(at) > now.plus(LEEWAY)
        {
            return Err("the assertion is not valid yet");
        }
    }
    let id = text_of("jti").filter(|id| !id.is_empty() && id.len() <= MAX_ID);
    let id = id.ok_or("the assertion has no jti, or one of more than 256 bytes")?;
    let subject = text_of("sub").ok_or("the assertion has no sub")?;
    Ok(Assertion {
        subject: subject.to_owned(),
        id: format!("{} {id}", client.id),
        expires: expires.plus(LEEWAY),
    })
}
