//! The identity headers: who calls, in words that a server behind us can trust and split.

use std::fmt::{Arguments, Write};

use bytes::{BufMut, BytesMut};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use pingora::{Error, ErrorType, OrErr, Result};
use serde::Serialize;

use super::exchange::Exchange;
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
/// Room for the values of most callers.
const ROOM: usize = 256;

/// Writes header values one after the other into one buffer, which they share.
#[derive(Debug)]
pub struct Writer(BytesMut);

impl Default for Writer {
    fn default() -> Self {
        Self(BytesMut::with_capacity(ROOM))
    }
}

impl Writer {
    /// A value as it is displayed.
    ///
    /// # Errors
    /// It cannot be a header value.
    pub fn plain(&mut self, text: Arguments<'_>) -> Result<HeaderValue> {
        self.0.write_fmt(text).or_err(ErrorType::InternalError, "a header value")?;
        self.take()
    }

    /// A list of names with a byte between them; `None` where there are none: what is not known is
    /// absent, never empty.
    fn list<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        between: u8,
    ) -> Result<Option<HeaderValue>> {
        for name in names {
            if !self.0.is_empty() {
                self.0.put_u8(between);
            }
            self.encode(name);
        }
        if self.0.is_empty() { Ok(None) } else { self.take().map(Some) }
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
                self.0.put_u8(byte);
            } else {
                self.0.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
    }

    fn take(&mut self) -> Result<HeaderValue> {
        HeaderValue::from_maybe_shared(self.0.split().freeze())
            .or_err(ErrorType::InternalError, "a header value")
    }
}

/// Puts the identity headers in.
///
/// # Errors
/// A value that cannot be one of a header; none is known.
pub fn write(
    fields: &mut HeaderMap,
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
        if let Some(value) = writer.list(std::iter::once(value), b',')? {
            fields.insert(name, value);
        }
    }
    if let Some(scopes) = writer
        .list(principal.scopes().as_slice().iter().map(crate::names::ScopeName::as_str), b' ')?
    {
        fields.insert(SCOPES, scopes);
    }
    if let Some(roles) =
        writer.list(principal.roles(rules).iter().map(crate::names::RoleName::as_str), b',')?
    {
        fields.insert(ROLES, roles);
    }
    Ok(())
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
    fields: &mut HeaderMap,
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
    let mut value =
        HeaderValue::try_from(signed).or_err(ErrorType::InternalError, "a header value")?;
    value.set_sensitive(true);
    fields.insert(ASSERTION, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_values_are_visible_ascii_and_decode_back() {
        let mut writer = Writer::default();
        let mut encode = |value| writer.list(std::iter::once(value), b',').unwrap();
        assert_eq!(encode("a b,c%\r\n\u{e4}").unwrap(), "a%20b%2Cc%25%0D%0A%C3%A4");
        assert_eq!(encode("plain/value:1").unwrap(), "plain/value:1");
        assert_eq!(encode(""), None);
    }

    #[test]
    fn values_that_share_a_buffer_are_apart() {
        let mut writer = Writer::default();
        let first = writer.list(["a", "b,"].into_iter(), b' ').unwrap().unwrap();
        let second = writer.plain(format_args!("{}", std::net::Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!((first.as_bytes(), second.as_bytes()), (&b"a b%2C"[..], &b"127.0.0.1"[..]));
    }
}
