//! The head of an HTTP/1 request, read strictly and whole before any other parser sees it.
//!
//! The proxy library below us repairs some of what RFC 9112 calls an error (a raw space, a
//! fragment, a missing Host, a list of lengths). What is refused here never reaches it.

use crate::reason::{Reason, Refusal, Remedy};
use crate::request::body::Body;
use crate::request::fields::Line;
use crate::request::headers::{Meaning, override_refused};
use crate::request::is_token_byte;
use crate::request::method::Method;
use crate::request::target::{QueryAllowances, Target};

/// Bounds of a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, in bytes, request line and empty line included.
    pub head_bytes: usize,
    /// Most header fields.
    pub fields: usize,
    /// Longest target, in bytes.
    pub target_bytes: usize,
    /// Largest `Content-Length`, in bytes.
    pub body_bytes: u64,
    /// Longest bearer token, in bytes.
    pub token_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 * 1024,
            fields: 200,
            target_bytes: 8 * 1024,
            body_bytes: 10 * 1024 * 1024,
            token_bytes: 16 * 1024,
        }
    }
}

/// What a strict reading of the head gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method as it came.
    pub method: String,
    /// The method that a header asks it to be taken for.
    pub overriding: Option<Method>,
    /// The canonical target.
    pub target: Target,
    /// Host without port, lower case.
    pub host: String,
    /// Whether it asks for another protocol (RFC 9110 §7.8).
    pub upgrade: bool,
    /// Whether that is a WebSocket, asked for as RFC 6455 §4.1 says.
    pub websocket: bool,
    /// Where its body ends.
    pub body: Body,
    /// The length that it declares; 0 where it declares none.
    pub length: u64,
    /// Whether it is of HTTP/1.1 or later, and not of HTTP/1.0.
    pub http_11: bool,
}

/// The refusal of a head that is too large as a whole.
#[must_use]
pub fn too_large(limits: &Limits) -> Refusal {
    let text = format!("over edge.max_header_size: {} bytes", limits.head_bytes);
    Refusal::because(Reason::RequestHeaders, text)
}

fn too_many_fields(limits: &Limits) -> Refusal {
    let text = format!("over edge.max_header_fields: {}", limits.fields);
    Refusal::because(Reason::RequestHeaders, text)
}

/// What the sender of Basic credentials with a line break or a blank inside is told.
pub const WRAPPED_BASIC: &str = "the value of Authorization: Basic is broken into lines: base64 \
    wraps at 76 characters; use base64 -w 0, or curl -u CLIENT_ID:CLIENT_SECRET";

/// Whether the value of an `Authorization: Basic` line goes on on a line of its own: what `base64`
/// makes of more than 57 bytes.
fn is_wrapped_basic(head: &[u8]) -> bool {
    let is_basic = |line: &[u8]| {
        line.split_at_checked(14).is_some_and(|(name, value)| {
            let value = trim_blanks(value);
            name.eq_ignore_ascii_case(b"authorization:")
                && value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
        })
    };
    let goes_on = |line: &[u8]| {
        let line = trim_blanks(line.strip_suffix(b"\r").unwrap_or(line));
        let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        !line.is_empty() && line.iter().all(base64)
    };
    let lines = || head.split(|byte| *byte == b'\n');
    lines().zip(lines().skip(1)).any(|(line, next)| is_basic(line) && goes_on(next))
}

fn malformed(why: &'static str) -> Refusal {
    Refusal::because(Reason::RequestMalformed, why)
}

/// Position after the empty line that ends a head, if it is there. Bare line feeds end a head too:
/// [`Head::parse`] then refuses it, instead of waiting for an end that does not come.
#[must_use]
pub fn end(bytes: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(line_start..at).unwrap_or_default();
        if line_start > 0 && (line.is_empty() || line == b"\r") {
            return Some(at + 1);
        }
        line_start = at + 1;
    }
    None
}

impl Head {
    /// Reads a whole head: request line, fields and the empty line.
    ///
    /// # Errors
    /// `request.malformed`, `path.ambiguous`, `request.target`, `request.headers`, `request.body`;
    /// `operation.method` for CONNECT and TRACE (RFC 9112 §2.2, §3, §5, §6; RFC 9110 §5.5, §7.2,
    /// §8.6, §10.1.1).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        Self::parse_lines(bytes, limits, &mut Vec::new())
    }

    /// As [`Head::parse`]; notes where each line stands.
    ///
    /// # Errors
    /// As [`Head::parse`].
    pub fn parse_lines(
        bytes: &[u8],
        limits: &Limits,
        found: &mut Vec<Line>,
    ) -> Result<Self, Refusal> {
        Self::read_lines(bytes, limits, found).map_err(|refusal| {
            if refusal.reason == Reason::RequestMalformed && is_wrapped_basic(bytes) {
                return malformed("Basic credentials that are broken into lines")
                    .with(Remedy::Advice(WRAPPED_BASIC));
            }
            refusal
        })
    }

    fn read_lines(bytes: &[u8], limits: &Limits, found: &mut Vec<Line>) -> Result<Self, Refusal> {
        found.clear();
        let head =
            bytes.strip_suffix(b"\r\n\r\n").ok_or_else(|| malformed("a line ends without CRLF"))?;
        let mut lines = Lines::of(head);
        let request_line = lines.next().unwrap_or(Ok(&[]))?;
        let (method, raw_target, http_11) = parse_request_line(request_line)?;
        let mut fields = Fields::to(raw_target);
        let mut at = request_line.len() + 2;
        for (count, line) in lines.enumerate() {
            if count >= limits.fields {
                return Err(too_many_fields(limits));
            }
            let line = line?;
            let (name, blanks, value) = fields.read(line)?;
            let value_at = at + name + 1 + blanks;
            found.push(Line::new((at, at + name), (value_at, value_at + value)));
            at += line.len() + 2;
        }
        fields.judge(method, raw_target, http_11, limits)
    }
}

impl Head {
    /// Reads the head of an HTTP/2 request, of which the frame layer has checked the names, the
    /// order of pseudo-fields and the absence of connection-specific fields (RFC 9113 §8.2, §8.3).
    /// The same facts, the same refusals.
    ///
    /// # Errors
    /// As [`Head::parse`].
    pub fn of_http2<'a>(
        method: &str,
        target: &'a [u8],
        host: Option<&'a [u8]>,
        lines: impl Iterator<Item = (&'a str, &'a [u8])>,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let mut size = method.len() + target.len() + host.map_or(0, <[u8]>::len);
        let mut fields = Fields::to(target);
        for (count, (name, value)) in lines.enumerate() {
            // As on a line of HTTP/1: name, colon, space, value, CRLF.
            size += name.len() + value.len() + 4;
            if count >= limits.fields {
                return Err(too_many_fields(limits));
            }
            if size > limits.head_bytes {
                return Err(too_large(limits));
            }
            if trim_blanks(value).len() != value.len() || has_control(value) {
                return Err(malformed(
                    "a header value that begins or ends with a blank, or holds a control byte",
                ));
            }
            if name != "host" {
                fields.see(name.as_bytes(), value)?;
            }
        }
        if method.len() > 32 || !is_token(method.as_bytes()) {
            return Err(malformed("the method is not a token"));
        }
        fields.host = host;
        fields.judge(method, target, true, limits)
    }

    /// For endpoints of our own, which take no request for one of another method, and no raw
    /// characters in a query.
    ///
    /// # Errors
    /// `request.malformed`: a header names another method, or the query has such a character.
    pub fn check_own(&self) -> Result<(), Refusal> {
        self.overriding.map_or(Ok(()), |method| Err(override_refused(method)))?;
        self.target.check_query(QueryAllowances::default())
    }
}

/// The head without its Upgrade lines; the head must have been parsed.
#[must_use]
pub fn without_upgrade(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"upgrade:")) {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// Lines separated by CRLF; a CR or LF on its own is refused (RFC 9112 §2.2).
pub(super) struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Lines<'a> {
    /// The lines of a head, without the empty one that ends it.
    pub(super) const fn of(head: &'a [u8]) -> Self {
        Self(Some(head))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0?;
        let (line, rest) = match memchr::memchr2(b'\r', b'\n', rest) {
            None => (rest, None),
            Some(at) => match rest.split_at_checked(at) {
                Some((line, end)) if end.starts_with(b"\r\n") => (line, end.get(2..)),
                _ => {
                    self.0 = None;
                    return Some(Err(malformed("a bare CR or LF")));
                }
            },
        };
        self.0 = rest;
        Some(Ok(line))
    }
}

/// Bytes of a `token` (RFC 9110 §5.6.2), as a table: names are looked at byte by byte on every
/// request.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "counted below 256")]
        let token = is_token_byte(byte as u8);
        #[expect(clippy::indexing_slicing, reason = "counted below 256, at compile time")]
        {
            table[byte] = token;
        }
        byte += 1;
    }
    table
};

/// Whether it is a token (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| TOKEN.get(usize::from(*byte)).copied().unwrap_or(false))
}

/// A field value without the spaces and tabs around it, and nothing else (`OWS`, RFC 9110 §5.6.3).
pub(super) fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether a field value holds a control byte other than a tab (RFC 9110 §5.5). Written so that it
/// looks at many bytes at once.
pub(super) fn has_control(value: &[u8]) -> bool {
    value.iter().fold(0_u8, |found, byte| {
        found | u8::from(*byte < b' ' && *byte != b'\t') | u8::from(*byte == 0x7f)
    }) != 0
}

/// Method, target, and whether the version is 1.1. The target is all between the first and the last
/// space, so that a raw space shows up in it.
fn parse_request_line(line: &[u8]) -> Result<(&str, &[u8], bool), Refusal> {
    let bad = || malformed("the request line is not METHOD SP target SP HTTP/1.x");
    let first = line.iter().position(|b| *b == b' ').ok_or_else(bad)?;
    let last = line.iter().rposition(|b| *b == b' ').ok_or_else(bad)?;
    let method = line.get(..first).and_then(|m| std::str::from_utf8(m).ok()).ok_or_else(bad)?;
    if method.len() > 32 || !is_token(method.as_bytes()) {
        return Err(malformed("the method is not a token"));
    }
    let target = line.get(first + 1..last).ok_or_else(bad)?;
    match line.get(last + 1..) {
        Some(b"HTTP/1.1") => Ok((method, target, true)),
        Some(b"HTTP/1.0") => Ok((method, target, false)),
        _ => Err(malformed("the version is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

#[derive(Default)]
struct Fields<'a> {
    /// The target as it came.
    target: &'a [u8],
    meaning: Meaning<'a>,
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    /// Every Upgrade line is `websocket`.
    only_websocket: bool,
    /// A Connection line names Upgrade.
    named_upgrade: bool,
    /// Of RFC 6455 §4.1: a key, and version 13.
    websocket_key: bool,
    websocket_version: bool,
}

impl<'a> Fields<'a> {
    fn to(target: &'a [u8]) -> Self {
        Self { target, ..Self::default() }
    }

    /// Reads a line; gives the lengths of its name, of the blanks behind the colon, and of its
    /// value.
    fn read(&mut self, line: &'a [u8]) -> Result<(usize, usize, usize), Refusal> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(malformed("a folded header line"));
        }
        let colon =
            memchr::memchr(b':', line).ok_or_else(|| malformed("a header line without a colon"))?;
        let (name, value) = line.split_at(colon);
        if !is_token(name) {
            return Err(malformed("a header name that is not a token"));
        }
        let behind = value.get(1..).unwrap_or_default();
        let value = trim_blanks(behind);
        if has_control(value) {
            return Err(malformed("a control byte in a header value"));
        }
        self.see(name, value)?;
        let blanks = behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        Ok((name.len(), blanks, value.len()))
    }

    /// Notes what a field says of the framing and the target.
    fn see(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), Refusal> {
        self.meaning.see(name, value, self.target);
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") && self.host.replace(value).is_some() => {
                return Err(malformed("two Host lines"));
            }
            6 if name.eq_ignore_ascii_case(b"expect")
                && !value.eq_ignore_ascii_case(b"100-continue") =>
            {
                return Err(malformed("an Expect other than 100-continue"));
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.only_websocket = !self.upgrade && value.eq_ignore_ascii_case(b"websocket");
                self.upgrade = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut named = value.split(|byte| *byte == b',');
                self.named_upgrade |=
                    named.any(|name| trim_blanks(name).eq_ignore_ascii_case(b"upgrade"));
            }
            17 if name.eq_ignore_ascii_case(b"sec-websocket-key") => {
                self.websocket_key = !value.is_empty();
            }
            21 if name.eq_ignore_ascii_case(b"sec-websocket-version") => {
                self.websocket_version = value == b"13";
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = parse_length(value)
                    .ok_or_else(|| malformed("a Content-Length that is not one number"))?;
                if self.length.replace(length).is_some() {
                    return Err(malformed("two Content-Length lines"));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(malformed("a Transfer-Encoding other than one chunked"));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The head that they make with a request line.
    fn judge(
        &self,
        method: &str,
        target: &[u8],
        http_11: bool,
        limits: &Limits,
    ) -> Result<Head, Refusal> {
        let length = self.body_length(http_11)?;
        let (host, authority) = parse_host(self.host)?;
        if matches!(method, "CONNECT" | "TRACE") {
            let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned();
            return Err(Refusal::new(Reason::OperationMethod).with(Remedy::Allow(allow)));
        }
        let target = parse_target(target, method, authority, limits)?;
        let overriding = self.meaning.overriding(method)?;
        let body = if self.chunked { Body::chunked() } else { Body::of_length(length) };
        if length > limits.body_bytes {
            let text = format!("{length} bytes, over edge.max_body_size: {}", limits.body_bytes);
            return Err(Refusal::because(Reason::RequestBody, text));
        }
        let plain = http_11 && method == "GET" && length == 0 && !self.chunked;
        let asked = self.only_websocket
            && self.named_upgrade
            && self.websocket_key
            && self.websocket_version;
        let websocket = plain && asked;
        Ok(Head {
            method: method.to_owned(),
            overriding,
            target,
            host,
            upgrade: self.upgrade,
            websocket,
            body,
            length,
            http_11,
        })
    }

    /// The declared length of the body; 0 where it is chunked or absent.
    fn body_length(&self, http_11: bool) -> Result<u64, Refusal> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(malformed("both Content-Length and Transfer-Encoding")),
            (None, true) if !http_11 => Err(malformed("Transfer-Encoding in HTTP/1.0")),
            (length, _) => Ok(length.unwrap_or(0)),
        }
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Host name in lower case, and the authority as it came.
fn parse_host(value: Option<&[u8]>) -> Result<(String, &str), Refusal> {
    let value = value.ok_or_else(|| malformed("no Host"))?;
    let text = std::str::from_utf8(value).map_err(|_| malformed("a Host that is not ASCII"))?;
    Ok((host_name(text).ok_or_else(|| malformed("a Host that is not host[:port]"))?, text))
}

/// The host of `host[:port]` in lower case; `None` if it is not of that form (RFC 3986 §3.2.2,
/// without userinfo).
#[must_use]
pub fn host_name(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (
                authority.get(..address.len() + 2)?,
                port.strip_prefix(':')
                    .filter(|port| !port.is_empty())
                    .or_else(|| port.is_empty().then_some("")),
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, (!port.is_empty()).then_some(port)),
            None => (authority, Some("")),
        },
    };
    let port = port?;
    let port_ok = port.is_empty()
        || (port.len() <= 5
            && port.parse::<u16>().is_ok()
            && port.bytes().all(|b| b.is_ascii_digit()));
    let name_ok = host.starts_with('[')
        || (!host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')));
    (port_ok && name_ok)
        .then(|| host.trim_end_matches('.').to_ascii_lowercase())
        .filter(|host| !host.is_empty())
}

/// Origin form, or absolute form whose authority is the Host (RFC 9112 §3.2.1, §3.2.2); `*` only
/// with OPTIONS, which then names no operation (§3.2.4).
fn parse_target(raw: &[u8], method: &str, host: &str, limits: &Limits) -> Result<Target, Refusal> {
    if raw == b"*" {
        return Err(if method == "OPTIONS" {
            Refusal::new(Reason::OperationUnknown)
        } else {
            malformed("an asterisk target with a method other than OPTIONS")
        });
    }
    for scheme in [b"http://".as_slice(), b"https://"] {
        let Some((start, rest)) = raw.split_at_checked(scheme.len()) else { continue };
        if !start.eq_ignore_ascii_case(scheme) {
            continue;
        }
        let path_at =
            rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if !authority.eq_ignore_ascii_case(host.as_bytes()) {
            return Err(malformed("the authority of the target is not the Host"));
        }
        return Target::parse(if path.is_empty() { b"/" } else { path }, limits.target_bytes);
    }
    Target::parse(raw, limits.target_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Head, Reason> {
        Head::parse(head.as_bytes(), &Limits::default()).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_plain_head_is_read() {
        let head = read("GET /a%7e?x HTTP/1.1\r\nHost: API.Example.:8080\r\nX: y\r\n\r\n").unwrap();
        assert_eq!(
            (head.method.as_str(), head.target.as_str(), head.host.as_str()),
            ("GET", "/a~?x", "api.example")
        );
        let absolute =
            read("GET http://API.example/a HTTP/1.1\r\nHost: api.example\r\n\r\n").unwrap();
        assert_eq!(absolute.target.as_str(), "/a");
        assert_eq!(read("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").unwrap().host, "[::1]");
    }

    #[test]
    fn what_readers_frame_differently_is_refused() {
        let host = "Host: a\r\n";
        for (line, fields) in [
            ("GET / HTTP/1.1", ""),
            ("GET / HTTP/1.0", ""),
            ("GET / HTTP/1.1", "Host: a\r\nHost: a\r\n"),
            ("GET / HTTP/1.1", "Host:\r\n"),
            ("GET / HTTP/1.1", "Host: a/b\r\n"),
            ("GET / HTTP/1.1", "Host: u@a\r\n"),
            ("GET / HTTP/1.1", "Host: a:x\r\n"),
            ("GET / HTTP/1.1", "Host: a:\r\n"),
            ("GET / HTTP/1.1", "Host: a:99999\r\n"),
            ("GET / HTTP/1.1", "Host: a b\r\n"),
            ("GET / HTTP/1.1", "Host:\x0ca\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX: y\x0b\r\n"),
            ("GET http://b/ HTTP/1.1", host),
            ("GET * HTTP/1.1", host),
            ("GET / HTTP/1.2", host),
            ("GET / HTTP/2.0", host),
            ("GET /", host),
            ("GET  HTTP/1.1", host),
            ("G@T / HTTP/1.1", host),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: 5, 5\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: +5\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length:\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            ),
            ("GET / HTTP/1.0", "Host: a\r\nTransfer-Encoding: chunked\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nExpect: y\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX : y\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX: y\r\n z\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\n: y\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX: \0\r\n"),
            ("GET / HTTP/1.1", "Host: a\r\nX: a\rb\r\n"),
            ("GET / HTTP/1.1", "Host: a\nX: y\r\n"),
        ] {
            assert_eq!(
                read(&format!("{line}\r\n{fields}\r\n")),
                Err(Reason::RequestMalformed),
                "{line} {fields:?}"
            );
        }
        assert_eq!(read("GET / HTTP/1.1\nHost: a\n\n"), Err(Reason::RequestMalformed));
    }

    #[test]
    fn basic_credentials_broken_into_lines_are_refused_with_advice() {
        let advice = |lines: &str| {
            let head = format!("POST /oauth_token.do HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
            Head::parse(head.as_bytes(), &Limits::default()).unwrap_err().remedy
        };
        for lines in [
            "Authorization: Basic MDEy\nYWFh=",
            "authorization:  basic MDEy\nYWFh=\r\nAccept: */*",
            "Authorization: Basic MDEy\r\nYWFh=",
            "Authorization: Basic MDEy\r\n YWFh=",
        ] {
            assert_eq!(advice(lines), Remedy::Advice(WRAPPED_BASIC), "{lines:?}");
        }
        for lines in
            ["Authorization: Bearer MDEy\nYWFh=", "Authorization: Basic MDEy\nA: b", "A\nb"]
        {
            assert_eq!(advice(lines), Remedy::None, "{lines:?}");
        }
        assert!(
            WRAPPED_BASIC.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\')
        );
    }

    #[test]
    fn limits_have_reasons_of_their_own() {
        let fields = "X: y\r\n".repeat(200);
        assert_eq!(
            read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")),
            Err(Reason::RequestHeaders)
        );
        assert_eq!(
            read(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8192))),
            Err(Reason::RequestTarget)
        );
        assert_eq!(
            read("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485761\r\n\r\n"),
            Err(Reason::RequestBody)
        );
        assert!(read("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n").is_ok());
    }

    #[test]
    fn a_raw_space_or_fragment_shows_in_the_target() {
        for line in ["GET /a b HTTP/1.1", "GET /a#b HTTP/1.1", "GET  /a HTTP/1.1"] {
            let got = read(&format!("{line}\r\nHost: a\r\n\r\n"));
            assert!(
                matches!(got, Err(Reason::PathAmbiguous | Reason::RequestMalformed)),
                "{line} {got:?}"
            );
        }
    }

    #[test]
    fn connect_trace_and_the_asterisk_have_their_own_answers() {
        assert_eq!(
            read("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
            Err(Reason::OperationMethod)
        );
        assert_eq!(read("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Reason::OperationMethod));
        assert_eq!(read("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Reason::OperationUnknown));
    }

    #[test]
    fn upgrade_lines_are_seen_and_can_be_left_out() {
        let text =
            "GET / HTTP/1.1\r\nHost: a\r\nUPGRADE: h2c\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";
        assert!(read(text).unwrap().upgrade);
        let kept = String::from_utf8(without_upgrade(text.as_bytes())).unwrap();
        assert_eq!(kept, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade-Insecure-Requests: 1\r\n\r\n");
        assert!(!read(&kept).unwrap().upgrade);
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_reads_were_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\n\n";
        assert_eq!(end(head), Some(27));
        for cut in 0..27 {
            assert_eq!(end(&head[..cut]), None, "{cut}");
        }
        assert_eq!(end(b"GET / HTTP/1.1\nHost: a\n\nrest"), Some(24));
    }
}
