//! From a [`Permit`] to the upstream: the only place that makes a peer, and the headers that the upstream gets.

use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST, HeaderName};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::exchange::Permitted;
use super::snapshot::Snapshot;
use super::upstream::Address;
use crate::policy::Permit;
use crate::policy::principal::Principal;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const AUTH_ISSUER: HeaderName = HeaderName::from_static("x-auth-issuer");
const AUTH_CLIENT: HeaderName = HeaderName::from_static("x-auth-client");
const AUTH_SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
const AUTH_SCOPES: HeaderName = HeaderName::from_static("x-auth-scopes");
const AUTH_ROLES: HeaderName = HeaderName::from_static("x-auth-roles");
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
    Some((Box::new(peer), server))
}

/// Puts the upstream's request head in order: what a client may not say is removed, what it may not leave out is set.
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
    if head.raw_path() != permitted.target.as_str().as_bytes() {
        return Error::e_explain(ErrorType::InternalError, "the target to forward is not the one that was judged");
    }
    let managed: Vec<HeaderName> = head.headers.keys().filter(|name| is_managed(name.as_str())).cloned().collect();
    for name in managed {
        head.remove_header(&name);
    }
    let keep =
        snapshot.servers(permitted.permit.operation()).is_some_and(|servers| servers.declared.keep_authorization);
    if !keep {
        head.remove_header(&AUTHORIZATION);
    }
    if let Some(host) = head.headers.get(HOST).cloned() {
        head.insert_header(FORWARDED_HOST, host)?;
    }
    if let Some(server) = &permitted.server {
        head.insert_header(HOST, server.authority.clone())?;
    }
    if let Some(address) = address {
        head.insert_header(FORWARDED_FOR, address.to_string())?;
    }
    head.insert_header(FORWARDED_PROTO, HeaderValue::from_static(scheme))?;
    head.append_header(http::header::VIA, VIA)?;
    match &permitted.principal {
        Some(principal) => identify(head, principal, snapshot),
        None => Ok(()),
    }
}

/// The identity headers. What is not known is absent, never empty.
fn identify(head: &mut RequestHeader, principal: &Principal, snapshot: &Snapshot) -> Result<()> {
    let facts = principal.facts();
    head.insert_header(AUTH_ISSUER, encode(facts.issuer.as_str()))?;
    head.insert_header(AUTH_CLIENT, encode(principal.client().id.as_str()))?;
    head.insert_header(AUTH_SUBJECT, encode(&facts.subject))?;
    let scopes: Vec<String> = principal.scopes().as_slice().iter().map(|scope| encode(scope.as_str())).collect();
    if !scopes.is_empty() {
        head.insert_header(AUTH_SCOPES, scopes.join(" "))?;
    }
    let roles: Vec<String> = principal.roles(snapshot.rules()).iter().map(|role| encode(role.as_str())).collect();
    if !roles.is_empty() {
        head.insert_header(AUTH_ROLES, roles.join(","))?;
    }
    Ok(())
}

/// Percent-encodes what could end a header value, split a list or hide: everything but visible ASCII, and `%` and `,`.
fn encode(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',');
    if value.bytes().all(plain) {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if plain(byte) { text.push(char::from(byte)) } else { text.push_str(&format!("%{byte:02X}")) }
    }
    text
}

/// Takes out of an answer what is for this hop alone: what `Connection` names, and the fields that are never for the next one
/// (RFC 9110 §7.6.1). The framing fields are the proxy's own.
pub fn strip_hop(head: &mut ResponseHeader) {
    const HOP: [HeaderName; 5] = [
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        http::header::TE,
        http::header::TRAILER,
        http::header::UPGRADE,
    ];
    const FRAMING: [&str; 3] = ["connection", "transfer-encoding", "content-length"];
    if head.headers.contains_key(http::header::CONNECTION) {
        let lines = head.headers.get_all(http::header::CONNECTION);
        let named = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        let mut names: Vec<String> = named.map(|name| name.trim().to_ascii_lowercase()).collect();
        names.retain(|name| !FRAMING.contains(&name.as_str()));
        for name in names {
            head.remove_header(name.as_str());
        }
    }
    for name in &HOP {
        if head.headers.contains_key(name) {
            head.remove_header(name);
        }
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

    #[test]
    fn encoded_values_are_visible_ascii_and_decode_back() {
        assert_eq!(encode("a b,c%\r\n\u{e4}"), "a%20b%2Cc%25%0D%0A%C3%A4");
        assert_eq!(encode("plain/value:1"), "plain/value:1");
    }
}
