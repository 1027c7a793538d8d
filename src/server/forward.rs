//! From a [`Permit`] to the upstream: the only place that makes a peer, and the headers that the upstream gets.

use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType, Result};

use super::exchange::Permitted;
use super::identity;
use super::snapshot::Snapshot;
use super::upstream::Address;
use crate::policy::Permit;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Fields that we add at most: room for them is made at once.
const ADDED: usize = 9;
/// The pseudonym by which we stand in `Via` (RFC 9110 §7.6.3).
const VIA: HeaderValue = HeaderValue::from_static("1.1 scopegate");

/// The peer for a permit: the next server of its API, and what it is called. `None` while no name of the upstream has resolved.
#[must_use]
pub fn peer(permit: &Permit, snapshot: &Snapshot) -> Option<(Box<HttpPeer>, Address)> {
    let servers = snapshot.servers(permit.operation())?;
    let server = servers.next()?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place that makes a peer")]
    let mut peer = HttpPeer::new(server.socket, false, String::new());
    let declared = &servers.declared;
    peer.options.connection_timeout = Some(declared.connect);
    peer.options.total_connection_timeout = Some(declared.connect);
    peer.options.read_timeout = Some(declared.response);
    peer.options.write_timeout = Some(declared.response);
    peer.options.idle_timeout = Some(declared.idle);
    // `prepare` leaves out what is for one hop alone, in the pass that it makes anyway.
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    Some((Box::new(peer), server))
}

/// Writes the upstream's request head: what a client may not say is left out, what it may not leave out is set.
///
/// The head is written anew, in one pass, and not changed field by field: the library keeps a second table with the spelling
/// of names, and to change both costs more than all of the decision. Names go out in lower case (RFC 9110 §5.1).
///
/// # Errors
/// What is about to be forwarded is not what was judged.
pub fn prepare(
    head: &mut RequestHeader,
    permitted: &Permitted,
    snapshot: &Snapshot,
    scheme: &'static str,
    address: Option<std::net::IpAddr>,
) -> Result<()> {
    let keep =
        snapshot.servers(permitted.permit.operation()).is_some_and(|servers| servers.declared.keep_authorization);
    let blank = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(head, blank));
    let mut fields = HeaderMap::with_capacity(parts.headers.len() + ADDED);
    let nominated = nominated(&parts.headers);
    let mut name = None;
    for (next, value) in parts.headers.drain() {
        // Only the first of several lines comes with its name.
        if let Some(next) = next {
            let dropped = is_managed(next.as_str())
                || is_hop(next.as_str())
                || (next == AUTHORIZATION && !keep)
                || nominated.binary_search_by(|name| name.as_str().cmp(next.as_str())).is_ok();
            name = (!dropped).then_some(next);
        }
        if let Some(name) = &name {
            fields.append(name.clone(), value);
        }
    }
    if let Some(server) = &permitted.server
        && let Some(host) = fields.insert(HOST, server.authority.clone())
    {
        fields.insert(FORWARDED_HOST, host);
    }
    let mut writer = identity::Writer::default();
    if let Some(address) = address {
        fields.insert(FORWARDED_FOR, writer.plain(format_args!("{address}"))?);
    }
    fields.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    fields.append(http::header::VIA, VIA);
    if let Some(principal) = &permitted.principal {
        identity::write(&mut fields, &mut writer, principal, snapshot.rules())?;
    }
    parts.headers = fields;
    *head = RequestHeader::from(parts);
    if head.raw_path() != permitted.target.as_str().as_bytes() {
        return Error::e_explain(ErrorType::InternalError, "the target to forward is not the one that was judged");
    }
    Ok(())
}

/// The fields that a `Connection` line names as being for this hop alone, sorted (RFC 9110 §7.6.1). Framing and `Host` are
/// nobody's to name.
fn nominated(headers: &HeaderMap) -> Vec<String> {
    const KEPT: [&str; 4] = ["connection", "transfer-encoding", "content-length", "host"];
    let lines = headers.get_all(CONNECTION);
    let named = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut names: Vec<String> = named.map(|name| name.trim().to_ascii_lowercase()).collect();
    names.retain(|name| !KEPT.contains(&name.as_str()));
    names.sort_unstable();
    names.dedup();
    names
}

/// Fields that are never for the next hop (RFC 9110 §7.6.1, §11.7; RFC 9113 §3.1). A body without a length is framed anew.
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

/// Takes out of an answer what is for this hop alone. Its framing is the proxy's own.
pub fn strip_hop(head: &mut ResponseHeader) {
    const HOP: [&str; 5] = ["keep-alive", "proxy-connection", "te", "trailer", "upgrade"];
    // Most answers have none of them.
    if !head.headers.keys().any(|name| is_hop(name.as_str())) {
        return;
    }
    for name in nominated(&head.headers).iter().map(String::as_str).chain(HOP) {
        head.remove_header(name);
    }
}

/// Whether only the gateway may say this header to an upstream: identity, forwarding, client certificates, and those by which
/// some servers change method or path after the decision. Every alias counts: to CGI-style readers `-`, `_` and `.` are one.
#[must_use]
pub fn is_managed(name: &str) -> bool {
    const PREFIXES: [&str; 7] = ["xforwarded", "xclientcert", "xssl", "sslclient", "xoriginal", "xrewrite", "xenvoy"];
    const NAMES: [&str; 23] = [
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
    // Most headers are told apart by their first letter.
    if !matches!(
        name.as_bytes().first(),
        Some(
            b'x' | b'f'
                | b's'
                | b'c'
                | b't'
                | b'r'
                | b'p'
                | b'X'
                | b'F'
                | b'S'
                | b'C'
                | b'T'
                | b'R'
                | b'P'
                | b'_'
                | b'.'
                | b'-'
        )
    ) {
        return false;
    }
    let mut folded = [0_u8; 32];
    let mut length = 0;
    for byte in name.bytes().filter(u8::is_ascii_alphanumeric) {
        let Some(place) = folded.get_mut(length) else { break };
        *place = byte.to_ascii_lowercase();
        length += 1;
    }
    let folded = folded.get(..length).and_then(|folded| std::str::from_utf8(folded).ok()).unwrap_or_default();
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
