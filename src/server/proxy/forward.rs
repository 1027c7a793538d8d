//! From a [`Permit`] to the upstream: the only place that makes a peer, and the headers that the
//! upstream gets.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_PROTOCOL, TE, UPGRADE,
};
use http::{HeaderMap, Uri};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{ALPN, HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType, Result};

use super::exchange::{Exchange, Permitted, Stage};
use super::identity_headers;
use super::lines::{Lines, Wire};
use crate::config::{Balancing, UpstreamAuthorization};
use crate::policy::Permit;
use crate::request::cookie::{self, Kept};
use crate::request::fields::Fields;
use crate::request::headers::{is_hop, is_managed, is_trace};
use crate::request::method::Method;
use crate::request::trace::{TRACEPARENT, TRACESTATE};
use crate::server::state::Shared;
use crate::server::upstream::{Member, NoServer, Servers, Slot};
use crate::system::clock;

const OUR_TRACE: HeaderName = HeaderName::from_static(TRACEPARENT);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Fields that we add at most: room for them is made at once.
const ADDED: usize = 13;
/// The pseudonym by which we stand in `Via` (RFC 9110 §7.6.3).
const VIA: &[u8] = b"1.1 scopegate";
const VIA_2: &[u8] = b"2.0 scopegate";
/// Streams of one connection to an upstream that speaks HTTP/2.
const STREAMS: usize = 100;
/// What may wait for us in one of them, and in all of one connection: one that is not read must not
/// hold up the others.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Takes a server for a permit that has not been tried, and a place among its requests.
///
/// # Errors
/// There is none.
pub fn choose(
    permit: &Permit,
    exchange: &Exchange,
    permitted: &Permitted,
) -> std::result::Result<Slot, NoServer> {
    let servers = exchange.snapshot.servers(permit.operation()).ok_or(NoServer::Unusable)?;
    let by_caller = servers.declared.balancing == Balancing::ConsistentHash;
    let caller = if by_caller { permitted.caller(exchange.address) } else { 0 };
    servers.choose(caller, &permitted.attempt.tried)
}

/// The peer behind a place that was taken for a permit.
#[must_use]
pub fn peer(_: &Permit, slot: &Slot) -> HttpPeer {
    dial(slot.servers(), &slot.member)
}

/// The peer for a health check, which is no request of anybody's: connected to as requests are.
#[must_use]
pub fn probe(servers: &Servers, member: &Member) -> HttpPeer {
    dial(servers, member)
}

fn dial(servers: &Servers, member: &Member) -> HttpPeer {
    let (declared, address) = (&servers.declared, &member.address);
    let name = address.tls.clone().unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "this is the one place that makes a peer")]
    let mut peer = HttpPeer::new(address.socket, address.tls.is_some(), name);
    peer.group_key = servers.tls.group;
    peer.client_cert_key.clone_from(&servers.tls.shown);
    let options = &mut peer.options;
    options.ca.clone_from(&servers.tls.ca);
    options.connection_timeout = Some(declared.connect);
    options.total_connection_timeout = Some(declared.connect);
    options.read_timeout = Some(declared.response);
    options.write_timeout = Some(declared.response);
    options.idle_timeout = Some(declared.idle);
    // `prepare` leaves out what is for one hop alone, in the pass that it makes anyway.
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    if declared.http2 {
        options.alpn = ALPN::H2;
        options.max_h2_streams = STREAMS;
        options.h2_stream_window_size = Some(STREAM_WINDOW);
        options.h2_connection_window_size = Some(CONNECTION_WINDOW);
    }
    peer
}

/// Puts the head for an upstream in the place of the client's, for the library.
///
/// # Errors
/// What is about to be forwarded is not what was judged, or there is no token for the upstream.
pub fn prepare(
    head: &mut RequestHeader,
    original: &HeaderMap,
    exchange: &Exchange,
    shared: &Shared,
) -> Result<()> {
    let (permitted, servers) = parts(exchange)?;
    if head.raw_path() != permitted.target.carried().as_bytes() {
        return Error::e_explain(
            ErrorType::InternalError,
            "the target to forward is not the one that was judged",
        );
    }
    if servers.declared.http2 != (head.version == http::Version::HTTP_2) {
        // Over TLS a server may choose otherwise, and gRPC over HTTP/1.1 would lose its trailers.
        return Error::e_explain(ErrorType::H2Error, "the upstream does not speak HTTP/2")
            .map_err(Error::into_up);
    }
    if permitted.target.has_quotes() {
        return Error::e_explain(
            ErrorType::InternalError,
            "HTTP/2 cannot carry the query as it is",
        );
    }
    let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut fields = HeaderMap::with_capacity(original.len() + ADDED);
    write_lines(original, exchange, shared, &mut fields)?;
    let mut parts = http::request::Parts::from(std::mem::replace(head, blank));
    parts.headers = fields;
    parts.uri = Uri::try_from(&*target(permitted, exchange)?)
        .map_err(|_| Error::new_in(ErrorType::InternalError))?;
    *head = RequestHeader::from(parts);
    Ok(())
}

/// Writes the head for an upstream that speaks HTTP/1, without its last line.
///
/// # Errors
/// As [`prepare`].
pub fn write_head(
    original: &impl Fields,
    exchange: &Exchange,
    shared: &Shared,
    out: &mut Vec<u8>,
) -> Result<()> {
    let (permitted, servers) = parts(exchange)?;
    if servers.declared.http2 {
        return Error::e_explain(ErrorType::InternalError, "the upstream speaks HTTP/2");
    }
    out.extend_from_slice(exchange.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target(permitted, exchange)?.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_lines(original, exchange, shared, &mut Wire(out))
}

fn parts(exchange: &Exchange) -> Result<(&Permitted, &Arc<Servers>)> {
    let Stage::Permitted(permitted) = &exchange.stage else {
        return Error::e_explain(ErrorType::InternalError, "forwarding without a permit");
    };
    let Some(servers) = exchange.snapshot.servers(permitted.permit.operation()) else {
        return Error::e_explain(ErrorType::InternalError, "an upstream is gone");
    };
    let judged = exchange.snapshot.rules().operation(permitted.permit.operation());
    if judged.map(|operation| operation.method) != Method::judged(&exchange.method) {
        return Error::e_explain(
            ErrorType::InternalError,
            "the method to forward is not the one that was judged",
        );
    }
    Ok((permitted, servers))
}

/// Writes the lines that the upstream gets: what a client may not say is left out, what it may not
/// leave out is said. `original` are the lines as the client sent them.
///
/// Names go out in lower case (RFC 9110 §5.1).
fn write_lines(
    original: &impl Fields,
    exchange: &Exchange,
    shared: &Shared,
    out: &mut impl Lines,
) -> Result<()> {
    let (permitted, servers) = parts(exchange)?;
    let keep = servers.declared.authorization == UpstreamAuthorization::Keep;
    let nominated = nominated(original);
    for (name, value) in original.lines() {
        match name {
            "host" => {}
            "authorization" if !keep => {}
            _ if is_hop(name)
                || is_managed(name)
                || (is_trace(name) && !is_kept_trace(exchange, name))
                || exchange.is_request_id(name)
                || servers.is_said_by_us(name)
                || nominated.binary_search_by(|nominated| nominated.as_str().cmp(name)).is_ok() => {
            }
            // What is left of it is written below; without a handshake nothing of it is meant.
            "sec-websocket-protocol" if hides_protocols(exchange, permitted) => {}
            "cookie" => keep_part(out, name, value, cookie::without_ours)?,
            _ => out.keep(name, value)?,
        }
    }
    if let Some(host) = sent_host(exchange, permitted, servers) {
        out.put(&HOST, host)?;
    }
    if let Some(host) = original.first("host") {
        out.put(&FORWARDED_HOST, host)?;
    }
    if let Some(prefix) = exchange.api().map(|api| &api.strip_prefix)
        && !prefix.is_empty()
    {
        out.put(&FORWARDED_PREFIX, prefix.as_bytes())?;
    }
    if servers.declared.http2
        && original.first("te").is_some_and(|value| value.eq_ignore_ascii_case(b"trailers"))
    {
        out.put(&TE, b"trailers")?;
    }
    if permitted.websocket {
        out.put(&CONNECTION, b"upgrade")?;
        out.put(&UPGRADE, b"websocket")?;
        if let Some(others) = permitted.protocols.as_ref().filter(|others| !others.is_empty()) {
            out.put(&SEC_WEBSOCKET_PROTOCOL, others.join(", ").as_bytes())?;
        }
    }
    let mut writer = identity_headers::Writer::default();
    if let Some(address) = exchange.address {
        writer.plain(out, &FORWARDED_FOR, format_args!("{address}"))?;
    }
    out.put(&FORWARDED_PROTO, shared.scheme().as_bytes())?;
    out.put(&http::header::VIA, if exchange.http2 { VIA_2 } else { VIA })?;
    if let Some((name, value)) = &exchange.request_id {
        out.put(name, value.as_bytes())?;
    }
    if let Some(trace) = &exchange.trace {
        out.put(&OUR_TRACE, &trace.told.text())?;
    }
    authorize(out, servers)?;
    if let Some(principal) = &permitted.principal {
        if servers.declared.assertion {
            identity_headers::assert(
                out,
                principal,
                exchange,
                &servers.declared.name,
                shared,
                clock::now(),
            )?;
        } else {
            identity_headers::write(out, &mut writer, principal, exchange.snapshot.rules())?;
            identity_headers::write_claims(out, &mut writer, principal, &servers.declared.claims)?;
        }
    }
    Ok(())
}

/// The host that the server is called by.
pub fn sent_host<'a>(
    exchange: &'a Exchange,
    permitted: &'a Permitted,
    servers: &Servers,
) -> Option<&'a [u8]> {
    if servers.declared.keeps_host {
        // The configuration lets no API be without one.
        return exchange.api()?.host.as_ref().map(String::as_bytes);
    }
    permitted.attempt.slot.as_ref().map(|slot| slot.member.address.authority.as_bytes())
}

/// Whether a field of trace context is handed on as it came: of trusted callers alone, and where
/// the gateway is a part of the trace its own word takes the place of theirs.
fn is_kept_trace(exchange: &Exchange, name: &str) -> bool {
    exchange.trusted
        && exchange.trace.as_ref().is_none_or(|trace| match name {
            TRACEPARENT => false,
            // It belongs to the span that it came with.
            TRACESTATE => trace.parent.is_some(),
            _ => true,
        })
}

/// Writes what is left of a line.
fn keep_part(
    out: &mut impl Lines,
    name: &str,
    value: &[u8],
    kept: fn(&[u8]) -> Kept,
) -> Result<()> {
    match kept(value) {
        Kept::All => out.keep(name, value),
        Kept::Part(part) => out.keep(name, &part),
        Kept::Nothing => Ok(()),
    }
}

/// The gateway's own credentials in the place of the caller's.
fn authorize(out: &mut impl Lines, servers: &Arc<Servers>) -> Result<()> {
    match &servers.declared.authorization {
        UpstreamAuthorization::Strip | UpstreamAuthorization::Keep => Ok(()),
        UpstreamAuthorization::Value(secret) => {
            out.put_secret(&AUTHORIZATION, secret.expose().as_bytes())
        }
        UpstreamAuthorization::ClientCredentials(_) => {
            let Some(value) = servers.credentials.header() else {
                // Ours to have: no fault of the server's.
                return Error::e_explain(ErrorType::ConnectNoRoute, "no token for the upstream")
                    .map_err(Error::into_in);
            };
            out.put_secret(&AUTHORIZATION, value.as_bytes())
        }
    }
}

/// The target that the server gets. Whole segments are taken off the path, after it was judged, and
/// the base path of the server is put before it: what is between is a suffix of what was judged,
/// and nothing is read anew.
fn target<'a>(permitted: &'a Permitted, exchange: &Exchange) -> Result<Cow<'a, str>> {
    let prefix = exchange.api().map_or("", |api| api.strip_prefix.as_str());
    let slot = permitted.attempt.slot.as_ref();
    let base = slot.map_or("", |slot| slot.member.address.base.as_str());
    let judged = permitted.target.as_str();
    let rest = judged
        .strip_prefix(prefix)
        .filter(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with(['/', '?']));
    match rest {
        Some(rest) if base.is_empty() && rest.starts_with('/') => Ok(Cow::Borrowed(rest)),
        Some(rest) if base.is_empty() => Ok(Cow::Owned(format!("/{rest}"))),
        // Where nothing is left of the path it is the base path, without a slash behind it.
        Some(rest) => Ok(Cow::Owned(format!("{base}{rest}"))),
        None => Error::e_explain(ErrorType::InternalError, "a path outside its API"),
    }
}

/// Whether the subprotocols may hold a token, which no upstream is to see.
fn hides_protocols(exchange: &Exchange, permitted: &Permitted) -> bool {
    permitted.protocols.is_some()
        || (!permitted.websocket && exchange.api().is_some_and(|api| api.token_in_protocol))
}

/// The fields that a `Connection` line names as being for this hop alone, sorted (RFC 9110 §7.6.1),
/// without those that are anyway. Framing, `Host` and what a handshake rests on are nobody's to
/// name.
pub fn nominated(fields: &impl Fields) -> Vec<String> {
    const KEPT: [&str; 3] = ["content-length", "host", "close"];
    let named = fields.all("connection").filter_map(|line| std::str::from_utf8(line).ok());
    let named = named.flat_map(|line| line.split(',')).map(str::trim);
    let mut names: Vec<String> = named
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("keep-alive"))
        .map(str::to_ascii_lowercase)
        .filter(|name| {
            !is_hop(name) && !KEPT.contains(&name.as_str()) && !name.starts_with("sec-websocket-")
        })
        .collect();
    names.sort_unstable();
    names
}
