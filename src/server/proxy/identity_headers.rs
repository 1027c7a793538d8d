//! The identity headers: who calls, in words that a server behind us can trust and split.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::Write;

use http::header::HeaderName;
use pingora::{Error, ErrorType, OrErr, Result};
use serde::Serialize;
use serde_json::Value;

use super::exchange::Exchange;
use super::lines::Lines;
use crate::names::{Timestamp, UpstreamName};
use crate::policy::Rules;
use crate::policy::principal::Principal;
use crate::server::state::Shared;

const ISSUER: HeaderName = HeaderName::from_static("x-auth-issuer");
const CLIENT: HeaderName = HeaderName::from_static("x-auth-client");
const SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
const SCOPES: HeaderName = HeaderName::from_static("x-auth-scopes");
const ROLES: HeaderName = HeaderName::from_static("x-auth-roles");
const ASSERTION: HeaderName = HeaderName::from_static("x-auth-assertion");
/// All of them.
pub const ALL: [HeaderName; 6] = [ISSUER, CLIENT, SUBJECT, SCOPES, ROLES, ASSERTION];
/// Room for the values of most callers.
const ROOM: usize = 256;

/// Writes header values, one after the other in one room.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Default for Writer {
    fn default() -> Self {
        Self(Vec::with_capacity(ROOM))
    }
}

impl Writer {
    /// A line with a value as it is displayed.
    ///
    /// # Errors
    /// It cannot be a header value.
    pub fn plain(
        &mut self,
        out: &mut impl Lines,
        name: &HeaderName,
        text: Arguments<'_>,
    ) -> Result<()> {
        self.0.clear();
        self.0.write_fmt(text).or_err(ErrorType::InternalError, "a header value")?;
        out.put(name, &self.0)
    }

    /// A line with a list of names and a byte between them; none where there are none: what is not
    /// known is absent, never empty.
    fn list<'a>(
        &mut self,
        out: &mut impl Lines,
        name: &HeaderName,
        values: impl Iterator<Item = &'a str>,
        between: u8,
    ) -> Result<()> {
        self.0.clear();
        for value in values {
            if !self.0.is_empty() {
                self.0.push(between);
            }
            self.encode(value);
        }
        if self.0.is_empty() { Ok(()) } else { out.put(name, &self.0) }
    }

    /// Percent-encodes what could end a header value, split a list or hide: everything but visible
    /// ASCII, and `%` and `,`.
    fn encode(&mut self, value: &str) {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',');
        if value.bytes().all(plain) {
            return self.0.extend_from_slice(value.as_bytes());
        }
        for byte in value.bytes() {
            if plain(byte) {
                self.0.push(byte);
            } else {
                self.0.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
    }
}

/// Writes the identity headers.
///
/// # Errors
/// A value that cannot be one of a header; none is known.
pub fn write(
    out: &mut impl Lines,
    writer: &mut Writer,
    principal: &Principal,
    rules: &Rules,
) -> Result<()> {
    let facts = principal.facts();
    for (name, value) in [
        (ISSUER, facts.issuer.as_str()),
        (CLIENT, principal.client().id.as_str()),
        (SUBJECT, &*facts.subject),
    ] {
        writer.list(out, &name, std::iter::once(value), b',')?;
    }
    let scopes = principal.scopes();
    let scopes = scopes.as_slice().iter().map(crate::names::ScopeName::as_str);
    writer.list(out, &SCOPES, scopes, b' ')?;
    let roles = principal.roles(rules);
    writer.list(out, &ROLES, roles.iter().map(crate::names::RoleName::as_str), b',')
}

/// Longest value of a claim, in bytes as it is sent.
const MAX_CLAIM: usize = 1024;

/// Writes the headers that say further claims: texts, numbers, booleans and lists of them. Of any
/// other shape, and of one that is too long, nothing is said.
///
/// # Errors
/// As [`write()`].
pub fn write_claims(
    out: &mut impl Lines,
    writer: &mut Writer,
    principal: &Principal,
    headers: &[(HeaderName, String)],
) -> Result<()> {
    for (name, claim) in headers {
        let Some(value) = principal.facts().claims.get(claim) else { continue };
        let Some(texts) = texts(value) else { continue };
        writer.0.clear();
        for text in &texts {
            if !writer.0.is_empty() {
                writer.0.push(b',');
            }
            writer.encode(text);
        }
        if (1..=MAX_CLAIM).contains(&writer.0.len()) {
            out.put(name, &writer.0)?;
        }
    }
    Ok(())
}

/// What a claim says, one text or several.
fn texts(value: &Value) -> Option<Vec<Cow<'_, str>>> {
    fn text(value: &Value) -> Option<Cow<'_, str>> {
        match value {
            Value::String(text) => Some(Cow::Borrowed(text.as_str())),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(said) => Some(Cow::Borrowed(if *said { "true" } else { "false" })),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
    if let Value::Array(values) = value {
        return values.iter().map(text).collect();
    }
    text(value).map(|text| vec![text])
}

/// How long an assertion is good, seconds: the way to the upstream, and clocks that differ a
/// little.
const ASSERTED: i64 = 60;

/// Who calls, signed: for an upstream that does not trust whoever can reach it.
#[derive(Debug, Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    client_id: &'a str,
    /// Who issued the token: our name for it.
    token_issuer: &'a str,
    scope: String,
    roles: Vec<&'a str>,
}

/// Puts the assertion in: a JWT whose type keeps it from being taken for an access token, for this
/// upstream alone.
///
/// # Errors
/// It cannot be signed.
pub fn assert(
    out: &mut impl Lines,
    principal: &Principal,
    exchange: &Exchange,
    upstream: &UpstreamName,
    shared: &Shared,
    now: Timestamp,
) -> Result<()> {
    let facts = principal.facts();
    let roles = principal.roles(exchange.snapshot.rules());
    let assertion = Assertion {
        iss: &shared.fixed.public_url,
        aud: upstream.as_str(),
        sub: &facts.subject,
        iat: now.0,
        exp: now.0 + ASSERTED,
        jti: exchange.id.to_text(),
        client_id: principal.client().id.as_str(),
        token_issuer: facts.issuer.as_str(),
        scope: principal.scopes().to_value(),
        roles: roles.iter().map(crate::names::RoleName::as_str).collect(),
    };
    let keys = shared.own_keys.now();
    let signed = keys.current().sign_as("assertion+jwt", &assertion);
    let signed = signed
        .map_err(|_| Error::explain(ErrorType::InternalError, "an assertion cannot be signed"))?;
    out.put_secret(&ASSERTION, signed.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_values_are_visible_ascii_and_decode_back() {
        let (mut writer, mut out) = (Writer::default(), http::HeaderMap::new());
        for value in ["a b,c%\r\n\u{e4}", "", "plain/value:1"] {
            writer.list(&mut out, &SUBJECT, std::iter::once(value), b',').unwrap();
        }
        writer.list(&mut out, &SCOPES, ["a", "b,"].into_iter(), b' ').unwrap();
        let seen = |name| out.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(seen(SUBJECT), ["a%20b%2Cc%25%0D%0A%C3%A4", "plain/value:1"]);
        assert_eq!(seen(SCOPES), ["a b%2C"]);
    }
}
