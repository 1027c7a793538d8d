//! What an upstream may answer, and what of it the client gets. What readers behind us could frame
//! otherwise is refused, as it is of clients.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::cors;
use super::exchange::{Exchange, Stage};
use super::forward::{self, nominated};
use super::lines::Lines;
use super::refusal;
use crate::request::cookie::{self, Kept};
use crate::request::fields::Fields;
use crate::request::headers::is_hop;
use crate::request::subprotocol::BEARER;
use crate::telemetry::decision_id;

/// Largest head of an answer, in bytes.
pub const MOST: usize = 64 * 1024;

/// How a head says that its body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// In chunks.
    pub chunked: bool,
    /// By its length.
    pub length: Option<u64>,
}

/// Checks the head of an answer.
///
/// # Errors
/// It is too large, or its body has no clear end (RFC 9112 §6).
pub fn check(status: u16, http_11: bool, fields: &impl Fields) -> Result<Framing> {
    let (mut size, mut framing) = (0, Framing { chunked: false, length: None });
    let mut is_odd = !(100..=599).contains(&status);
    for (name, value) in fields.lines() {
        size += name.len() + value.len() + 4;
        match name {
            "transfer-encoding" => {
                is_odd |= framing.chunked || !value.eq_ignore_ascii_case(b"chunked");
                framing.chunked = true;
            }
            "content-length" => {
                let length = length_of(value);
                is_odd |= framing.length.is_some() || length.is_none();
                framing.length = length;
            }
            _ => {}
        }
    }
    // Both a length and chunks: of two readers each may believe the other one (RFC 9112 §6.1).
    // Readers of HTTP/1.0 know no chunks.
    is_odd |= framing.chunked && (framing.length.is_some() || !http_11);
    if size > MOST || is_odd {
        return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
    }
    Ok(framing)
}

/// Checks the head of an answer that the library has read, and takes out of it what it says of a
/// body that it cannot have.
///
/// # Errors
/// As [`check`].
pub fn check_head(head: &mut ResponseHeader) -> Result<()> {
    let status = head.status.as_u16();
    check(status, head.version != http::Version::HTTP_10, &head.headers)?;
    if has_no_body(status) {
        head.remove_header(&TRANSFER_ENCODING);
        head.remove_header(&CONTENT_LENGTH);
    }
    if status == RESET {
        head.insert_header(CONTENT_LENGTH, "0")?;
    }
    Ok(())
}

/// Reset Content has no body either, and browsers take it for ended with its head: what came behind
/// it would be the next answer (RFC 9110 §15.3.6).
const RESET: u16 = 205;

/// Answers that have no body, and no word of one (RFC 9112 §6.1, RFC 9110 §8.6).
const fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | RESET)
}

/// Lets a script of one folder answer for the whole host (Service Workers §6.2): the login page is
/// on it too.
const SERVICE_WORKER_ALLOWED: &str = "service-worker-allowed";

/// Writes the lines of an answer that the client gets: without what is for one hop alone, and
/// without what would set or clear a cookie of ours or stand for what only we say. How its body is
/// delimited is the writer's to say, but for a length.
///
/// # Errors
/// A value that cannot be one of a header; none is known.
pub fn write_lines(
    fields: &impl Fields,
    exchange: &Exchange,
    status: u16,
    out: &mut impl Lines,
) -> Result<()> {
    let is_tunnel = status == http::StatusCode::SWITCHING_PROTOCOLS.as_u16();
    let nominated = if is_tunnel { Vec::new() } else { nominated(fields) };
    let ours = Ours::of(exchange);
    for (name, value) in fields.lines() {
        let kept = match name {
            "location" | "content-location" => mapped(value, exchange),
            "content-length" if has_no_body(status) => Kept::Nothing,
            "transfer-encoding" => Kept::Nothing,
            _ if !is_tunnel && is_hop(name) => Kept::Nothing,
            _ if ours.has(name) => Kept::Nothing,
            _ if nominated.binary_search_by(|nominated| nominated.as_str().cmp(name)).is_ok() => {
                Kept::Nothing
            }
            _ => kept_of(name, value),
        };
        match kept {
            Kept::All => out.keep(name, value)?,
            Kept::Part(part) => out.keep(name, &part)?,
            Kept::Nothing => {}
        }
    }
    if status == RESET {
        out.put(&CONTENT_LENGTH, b"0")?;
    }
    if is_tunnel && lacks_protocol(fields, exchange) {
        out.put(&SEC_WEBSOCKET_PROTOCOL, BEARER.as_bytes())?;
    }
    write_own_lines(exchange, out)
}

/// Whether a browser, which has offered subprotocols, would get none (RFC 6455 §4.1): it ends the
/// connection then.
fn lacks_protocol(fields: &impl Fields, exchange: &Exchange) -> bool {
    let Stage::Permitted(permitted) = &exchange.stage else { return false };
    permitted.protocols.is_some() && !fields.has("sec-websocket-protocol")
}

/// Where an answer points to, as the client reaches it: below the API's public prefix in the place
/// of the server's base path. Only a path, or a URL with the authority that we sent, is mapped, and
/// the result has no authority.
fn mapped(value: &[u8], exchange: &Exchange) -> Kept {
    let found = std::str::from_utf8(value).ok().and_then(|value| public_form(value, exchange));
    found.map_or(Kept::All, |found| Kept::Part(found.into_bytes()))
}

fn public_form(value: &str, exchange: &Exchange) -> Option<String> {
    let Stage::Permitted(permitted) = &exchange.stage else { return None };
    let api = exchange.api()?;
    let servers = exchange.snapshot.servers(permitted.permit.operation())?;
    let base = permitted.attempt.slot.as_ref()?.member.address.base.as_str();
    let prefix = api.strip_prefix.as_str();
    let host = std::str::from_utf8(forward::sent_host(exchange, permitted, servers)?).ok()?;
    let without = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = value.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let target = match without {
        Some(rest) => {
            let (start, rest) = rest.split_at_checked(host.len())?;
            let ends = rest.is_empty() || rest.starts_with(['/', '?', '#']);
            if !start.eq_ignore_ascii_case(host) || !ends {
                return None;
            }
            if rest.starts_with('/') { Cow::Borrowed(rest) } else { Cow::Owned(format!("/{rest}")) }
        }
        // `//` begins another authority (RFC 3986 §4.2), and to browsers so does `/\`.
        None if value.starts_with('/') && !value.starts_with("//") => Cow::Borrowed(value),
        None => return None,
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    // A browser would take dots off the path before it asks, and come out elsewhere.
    let climbs = path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    });
    if climbs || path.contains('\\') || path.starts_with("//") {
        return None;
    }
    let below = |prefix: &str, path: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_public = !prefix.is_empty() && below(prefix, path);
    if !below(base, path) || is_public {
        return None;
    }
    let rest = target.strip_prefix(base)?;
    let mapped = if prefix.is_empty() && !rest.starts_with('/') {
        format!("/{rest}")
    } else {
        format!("{prefix}{rest}")
    };
    // Two slashes would begin an authority.
    (mapped != value && !mapped.starts_with("//")).then_some(mapped)
}

/// Takes out of trailers what would set or clear a cookie of ours.
pub fn strip_trailers(fields: &mut HeaderMap) {
    let before = std::mem::take(fields);
    for (name, value) in before.lines() {
        let kept = kept_of(name, value);
        let value = match &kept {
            Kept::All => value,
            Kept::Part(part) => part,
            Kept::Nothing => continue,
        };
        // What is a part of a value is one too.
        let _ = fields.keep(name, value);
    }
}

/// What is left of a line by which an answer sets or clears cookies, or gets a script between a
/// browser and our pages.
fn kept_of(name: &str, value: &[u8]) -> Kept {
    match name {
        "set-cookie" => cookie::not_setting_ours(value),
        "clear-site-data" => cookie::without_clearing(value),
        SERVICE_WORKER_ALLOWED => Kept::Nothing,
        _ => Kept::All,
    }
}

/// Writes what we say with every answer of an exchange.
///
/// # Errors
/// As [`write_lines`].
pub fn write_own_lines(exchange: &Exchange, out: &mut impl Lines) -> Result<()> {
    cors::announce(out, exchange)?;
    if let Stage::Permitted(permitted) = &exchange.stage
        && let Some(rate_limit) = &permitted.rate_limit
    {
        refusal::add_rate_limit(out, rate_limit)?;
    }
    out.put(&decision_id::HEADER, &exchange.id.digits())
}

/// The lines that only we say in the answer of an exchange: an upstream's are left out.
struct Ours<'a> {
    request_id: Option<&'a HeaderName>,
    rate_limit: bool,
    cors: bool,
    deprecated: bool,
    sunset: bool,
}

impl<'a> Ours<'a> {
    fn of(exchange: &'a Exchange) -> Self {
        let api = exchange.api();
        let deprecated = api.and_then(|api| api.deprecated.as_ref());
        let permitted = match &exchange.stage {
            Stage::Permitted(permitted) => Some(permitted),
            Stage::Received | Stage::Refused(_) | Stage::Endpoint(..) => None,
        };
        Self {
            request_id: exchange.request_id.as_ref().map(|(name, _)| name),
            rate_limit: permitted.is_some_and(|permitted| permitted.rate_limit.is_some()),
            cors: api.is_some_and(|api| api.cors.is_some()),
            deprecated: deprecated.is_some(),
            sunset: deprecated.is_some_and(|deprecated| deprecated.sunset.is_some()),
        }
    }

    fn has(&self, name: &str) -> bool {
        match name {
            "ratelimit" | "ratelimit-policy" => self.rate_limit,
            "deprecation" => self.deprecated,
            "sunset" => self.sunset,
            _ if self.cors && cors::OURS.contains(&name) => true,
            _ => {
                name == decision_id::HEADER.as_str()
                    || self.request_id.is_some_and(|known| known.as_str() == name)
            }
        }
    }
}

/// The value of a `content-length`: digits alone, and no more than can be counted.
#[must_use]
pub fn length_of(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(status: u16, fields: &[(&'static str, &str)]) -> Option<usize> {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        check_head(&mut head).ok().map(|()| head.headers.len())
    }

    #[test]
    fn answers_whose_end_is_unclear_are_refused() {
        let large = "x".repeat(40_000);
        for (status, fields, expect) in [
            (200, &[("content-length", "5")][..], Some(1)),
            (200, &[("transfer-encoding", "Chunked")], Some(1)),
            (200, &[("transfer-encoding", "gzip, chunked")], None),
            (200, &[("transfer-encoding", "gzip")], None),
            (200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], None),
            (200, &[("content-length", "5"), ("content-length", "5")], None),
            (200, &[("content-length", "5, 5")], None),
            (200, &[("content-length", "5"), ("transfer-encoding", "chunked")], None),
            (200, &[("content-length", "")], None),
            (200, &[("content-length", "+5")], None),
            (200, &[("content-length", "18446744073709551616")], None),
            (204, &[("content-length", "5"), ("x", "y")], Some(1)),
            (205, &[("transfer-encoding", "chunked"), ("x", "y")], Some(2)),
            (103, &[("transfer-encoding", "chunked")], Some(0)),
            (200, &[("x", &large), ("y", &large)], None),
            (999, &[], None),
        ] {
            assert_eq!(checked(status, fields), expect, "{status} {fields:?}");
        }
    }
}
