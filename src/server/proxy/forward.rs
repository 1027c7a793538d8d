//! From a [`Permit`] to the upstream: the only place that makes a peer, and the headers that the
//! upstream gets.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderName, SET_COOKIE, TE};
use http::{HeaderMap, HeaderValue, Uri};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::{ALPN, HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType, Result};

use super::exchange::{Exchange, Permitted, Stage};
use super::identity_headers;
use crate::config::{Balancing, UpstreamAuthorization};
use crate::policy::Permit;
use crate::request::cookie::{self, Kept};
use crate::server::state::Shared;
use crate::server::upstream::{Member, NoServer, Servers, Slot};
use crate::system::clock;

/// Lets a script of one folder answer for the whole host (Service Workers §6.2): the login page is
/// on it too.
const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Fields that we add at most: room for them is made at once.
const ADDED: usize = 12;
/// The pseudonym by which we stand in `Via` (RFC 9110 §7.6.3).
const VIA: HeaderValue = HeaderValue::from_static("1.1 scopegate");
const VIA_2: HeaderValue = HeaderValue::from_static("2.0 scopegate");
/// Streams of one connection to an upstream that speaks HTTP/2.
const STREAMS: usize = 100;
/// What may wait for us in one of them, and in all of one connection: one that is not read must not
/// hold up the others.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// The peer for a permit: a server of its API that has not been tried, and a place among its
/// requests.
///
/// # Errors
/// There is none.
pub fn peer(
    permit: &Permit,
    exchange: &Exchange,
    permitted: &Permitted,
) -> std::result::Result<(Box<HttpPeer>, Slot), NoServer> {
    let servers = exchange.snapshot.servers(permit.operation()).ok_or(NoServer::Unusable)?;
    let by_caller = servers.declared.balancing == Balancing::ConsistentHash;
    let caller = if by_caller { permitted.caller(exchange.address) } else { 0 };
    let slot = servers.choose(caller, &permitted.attempt.tried)?;
    let mut peer = dial(servers, &slot.member);
    if permitted.websocket {
        // A tunnel may be silent: its end is the token's, not a timer's (tunnel.rs).
        peer.options.read_timeout = None;
    }
    Ok((Box::new(peer), slot))
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

/// Writes the upstream's request head: what a client may not say is left out, what it may not leave
/// out is set. `original` are the fields as the client sent them.
///
/// The head is written anew, in one pass, and not changed field by field: the library keeps a
/// second table with the spelling of names, and to change both costs more than all of the decision.
/// Names go out in lower case (RFC 9110 §5.1).
///
/// # Errors
/// What is about to be forwarded is not what was judged, or there is no token for the upstream.
pub fn prepare(
    head: &mut RequestHeader,
    original: &HeaderMap,
    exchange: &Exchange,
    shared: &Shared,
) -> Result<()> {
    let Stage::Permitted(permitted) = &exchange.stage else {
        return Error::e_explain(ErrorType::InternalError, "forwarding without a permit");
    };
    if head.raw_path() != permitted.target.as_str().as_bytes() {
        return Error::e_explain(
            ErrorType::InternalError,
            "the target to forward is not the one that was judged",
        );
    }
    let servers = exchange.snapshot.servers(permitted.permit.operation());
    let Some(servers) = servers else {
        return Error::e_explain(ErrorType::InternalError, "an upstream is gone");
    };
    let http2 = servers.declared.http2;
    if http2 != (head.version == http::Version::HTTP_2) {
        // Over TLS a server may choose otherwise, and gRPC over HTTP/1.1 would lose its trailers.
        return Error::e_explain(ErrorType::H2Error, "the upstream does not speak HTTP/2")
            .map_err(Error::into_up);
    }
    let keep = servers.declared.authorization == UpstreamAuthorization::Keep;
    let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(head, blank));
    let mut fields = HeaderMap::with_capacity(parts.headers.len() + ADDED);
    let nominated = nominated(original);
    let trailers = http2
        && original.get(TE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let managed = |name: &str| {
        is_managed(name) || (!exchange.trusted && is_trace(name)) || exchange.is_request_id(name)
    };
    let mut name = None;
    for (next, value) in parts.headers.drain() {
        // Only the first of several lines comes with its name.
        if let Some(next) = next {
            let dropped = managed(next.as_str())
                || is_hop(next.as_str())
                || (next == AUTHORIZATION && !keep)
                || nominated.binary_search_by(|name| name.as_str().cmp(next.as_str())).is_ok();
            name = (!dropped).then_some(next);
        }
        if let Some(name) = &name {
            fields.append(name.clone(), value);
        }
    }
    replace_lines(&mut fields, &COOKIE, cookie::without_ours)?;
    if let Some(slot) = &permitted.attempt.slot {
        fields.insert(HOST, slot.member.address.authority.clone());
    }
    if let Some(host) = original.get(HOST) {
        fields.insert(FORWARDED_HOST, host.clone());
    }
    if trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    if permitted.websocket {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    let mut writer = identity_headers::Writer::default();
    if let Some(address) = exchange.address {
        fields.insert(FORWARDED_FOR, writer.plain(format_args!("{address}"))?);
    }
    fields.insert(FORWARDED_PROTO, HeaderValue::from_static(shared.scheme()));
    fields.append(http::header::VIA, if exchange.http2 { VIA_2 } else { VIA });
    exchange.say_request_id(&mut fields);
    authorize(&mut fields, servers)?;
    if let Some(principal) = &permitted.principal {
        if servers.declared.assertion {
            identity_headers::assert(
                &mut fields,
                principal,
                exchange,
                &servers.declared.name,
                shared,
                clock::now(),
            )?;
        } else {
            identity_headers::write(
                &mut fields,
                &mut writer,
                principal,
                exchange.snapshot.rules(),
            )?;
        }
    }
    parts.headers = fields;
    strip_prefix(&mut parts.uri, exchange)?;
    *head = RequestHeader::from(parts);
    Ok(())
}

/// The gateway's own credentials in the place of the caller's.
fn authorize(fields: &mut HeaderMap, servers: &Arc<Servers>) -> Result<()> {
    match &servers.declared.authorization {
        UpstreamAuthorization::Strip | UpstreamAuthorization::Keep => {}
        UpstreamAuthorization::Value(secret) => {
            let mut value = HeaderValue::from_str(secret.expose())
                .map_err(|_| Error::new_in(ErrorType::InvalidHTTPHeader))?;
            value.set_sensitive(true);
            fields.insert(AUTHORIZATION, value);
        }
        UpstreamAuthorization::ClientCredentials(_) => {
            let Some(value) = servers.credentials.header() else {
                // Ours to have: no fault of the server's.
                return Error::e_explain(ErrorType::ConnectNoRoute, "no token for the upstream")
                    .map_err(Error::into_in);
            };
            fields.insert(AUTHORIZATION, value);
        }
    }
    Ok(())
}

/// Takes whole segments off the path, after it was judged. What is left is a suffix of what was
/// judged: nothing is read anew.
fn strip_prefix(uri: &mut Uri, exchange: &Exchange) -> Result<()> {
    let prefix = exchange.api().map_or("", |api| api.strip_prefix.as_str());
    if prefix.is_empty() {
        return Ok(());
    }
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let rest =
        target.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let Some(rest) = rest else {
        return Error::e_explain(ErrorType::InternalError, "a path outside its API");
    };
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    *uri = Uri::try_from(rest).map_err(|_| Error::new_in(ErrorType::InternalError))?;
    Ok(())
}

/// W3C trace context: believed of trusted callers alone.
fn is_trace(name: &str) -> bool {
    matches!(name, "traceparent" | "tracestate" | "baggage")
}

/// The fields that a `Connection` line names as being for this hop alone, sorted (RFC 9110 §7.6.1).
/// Framing, `Host` and what a handshake rests on are nobody's to name.
fn nominated(headers: &HeaderMap) -> Vec<String> {
    const KEPT: [&str; 4] = ["connection", "transfer-encoding", "content-length", "host"];
    let lines = headers.get_all(CONNECTION);
    let named = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut names: Vec<String> = named.map(|name| name.trim().to_ascii_lowercase()).collect();
    names.retain(|name| !KEPT.contains(&name.as_str()) && !name.starts_with("sec-websocket-"));
    names.sort_unstable();
    names.dedup();
    names
}

/// Fields that are never for the next hop (RFC 9110 §7.6.1, §11.7; RFC 9113 §3.1). A body without a
/// length is framed anew.
fn is_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Takes out of an answer, an interim one too, what would set or clear a cookie of ours.
///
/// # Errors
/// Never, as far as is known: a part of a header value that is none.
pub fn strip_own_cookies(head: &mut ResponseHeader) -> Result<()> {
    for (name, kept) in OF_ANSWERS {
        if let Some(lines) = lines_left(&head.headers, &name, kept)? {
            head.remove_header(&name);
            for line in lines {
                head.append_header(name.clone(), line)?;
            }
        }
    }
    Ok(())
}

/// The same of trailers.
///
/// # Errors
/// As [`strip_own_cookies`].
pub fn strip_own_cookies_of_trailers(fields: &mut HeaderMap) -> Result<()> {
    OF_ANSWERS.into_iter().try_for_each(|(name, kept)| replace_lines(fields, &name, kept))
}

/// What is left of a line of a field.
type Keep = fn(&[u8]) -> Kept;

/// The fields by which an answer sets or clears cookies, or gets a script between a browser and our
/// pages, and what is left of a line of them.
const OF_ANSWERS: [(HeaderName, Keep); 3] = [
    (SET_COOKIE, cookie::not_setting_ours),
    (CLEAR_SITE_DATA, cookie::without_clearing),
    (SERVICE_WORKER_ALLOWED, |_| Kept::Nothing),
];

fn replace_lines(fields: &mut HeaderMap, name: &HeaderName, kept: Keep) -> Result<()> {
    if let Some(lines) = lines_left(fields, name, kept)? {
        fields.remove(name);
        for line in lines {
            fields.append(name.clone(), line);
        }
    }
    Ok(())
}

/// The lines of a field that are left; `None` where all of them are, as they are.
fn lines_left(
    fields: &HeaderMap,
    name: &HeaderName,
    kept: Keep,
) -> Result<Option<Vec<HeaderValue>>> {
    let lines = fields.get_all(name);
    if lines.iter().all(|line| kept(line.as_bytes()) == Kept::All) {
        return Ok(None);
    }
    let mut left = Vec::new();
    for line in lines {
        match kept(line.as_bytes()) {
            Kept::All => left.push(line.clone()),
            Kept::Part(part) => {
                left.push(
                    HeaderValue::from_bytes(&part)
                        .map_err(|_| Error::new_in(ErrorType::InvalidHTTPHeader))?,
                );
            }
            Kept::Nothing => {}
        }
    }
    Ok(Some(left))
}

/// Takes out of an answer what is for this hop alone. Its framing is the proxy's own, and an
/// interim answer has none.
pub fn strip_hop(head: &mut ResponseHeader) {
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    // Most answers have none of them.
    if !head.headers.keys().any(|name| is_hop(name.as_str())) {
        return;
    }
    let interim = head.status.is_informational();
    let framing = |name: &str| !interim && matches!(name, "connection" | "transfer-encoding");
    let hop = head.headers.keys().filter(|name| is_hop(name.as_str()) && !framing(name.as_str()));
    let named = nominated(&head.headers).into_iter().chain(hop.map(ToString::to_string));
    for name in named.collect::<Vec<_>>() {
        head.remove_header(name.as_str());
    }
}

/// Whether only the gateway may say this header to an upstream: identity, forwarding, client
/// certificates, and those by which some servers change method or path after the decision. Every
/// alias counts: to CGI-style readers `-`, `_` and `.` are one.
#[must_use]
pub fn is_managed(name: &str) -> bool {
    const PREFIXES: [&str; 7] =
        ["xforwarded", "xclientcert", "xssl", "sslclient", "xoriginal", "xrewrite", "xenvoy"];
    const NAMES: [&str; 25] = [
        "contentlength",
        "transferencoding",
        "xarrclientcert",
        "xclientip",
        "xclusterclientip",
        "xauthissuer",
        "xauthclient",
        "xauthsubject",
        "xauthscopes",
        "xauthroles",
        "xauthassertion",
        "forwarded",
        "xrealip",
        "xdecisionid",
        "xhttpmethod",
        "xhttpmethodoverride",
        "xmethodoverride",
        "clientcert",
        "clientcertchain",
        "trueclientip",
        "cfconnectingip",
        "fastlyclientip",
        "xremoteuser",
        "remoteuser",
        "proxy",
    ];
    // Most headers are told apart by their first letter. What is no letter is folded away: the name
    // may begin behind it.
    let first = name.bytes().next().unwrap_or(0).to_ascii_lowercase();
    if first.is_ascii_alphanumeric()
        && !matches!(first, b'x' | b'f' | b's' | b'c' | b't' | b'r' | b'p')
    {
        return false;
    }
    // As they are they frame a body; in any other spelling they would to a reader that folds names.
    if matches!(name, "content-length" | "transfer-encoding") {
        return false;
    }
    let mut folded = [0_u8; 32];
    let mut length = 0;
    for byte in name.bytes().filter(u8::is_ascii_alphanumeric) {
        let Some(place) = folded.get_mut(length) else { break };
        *place = byte.to_ascii_lowercase();
        length += 1;
    }
    let folded = folded
        .get(..length)
        .and_then(|folded| std::str::from_utf8(folded).ok())
        .unwrap_or_default();
    NAMES.contains(&folded) || PREFIXES.iter().any(|prefix| folded.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_of_a_managed_header_is_managed() {
        for name in [
            "x-auth-client",
            "X-Auth-Client",
            "x_auth_client",
            "x.auth.client",
            "xauthclient",
            "x--auth-roles",
            "_x-auth-client",
            "x-auth-assertion",
            "x-forwarded-for",
            "x_forwarded_host",
            "x-forwarded-prefix",
            "x-forwarded-port",
            "forwarded",
            "for_warded",
            "x-real-ip",
            "x-client-cert",
            "ssl-client-verify",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-decision-id",
            "client-cert",
            "true-client-ip",
            "x-arr-clientcert",
            "X-Client-IP",
            "proxy",
            "!x-auth-client",
            "~x-real-ip",
            "content_length",
            "transfer.encoding",
        ] {
            assert!(is_managed(name), "{name}");
        }
        for name in [
            "accept",
            "host",
            "authorization",
            "x-request-id",
            "x-custom",
            "content-type",
            "content-length",
            "cookie",
            "traceparent",
            "range",
            "pragma",
            "x-author",
            "x-auth-token",
            "x-client-version",
        ] {
            assert!(!is_managed(name), "{name}");
        }
    }
}
