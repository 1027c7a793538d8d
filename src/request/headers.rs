//! Header fields that are not handed on as they came: those that only the gateway may say, those
//! for one hop, and those by which some servers take a request for another one after it was judged.
//! The lists here are the ones that serve, and docs/headers.md is made of them.

use std::fmt::Write as _;

use super::method::Method;
use crate::reason::{Reason, Refusal, quoted};

/// A list of names, once for looking at and once for matching.
macro_rules! names {
    ($(#[$doc:meta])* $is:ident, $list:ident: [$($name:literal),* $(,)?]) => {
        const $list: &[&str] = &[$($name),*];

        $(#[$doc])*
        #[must_use]
        pub fn $is(name: &str) -> bool {
            matches!(name, $($name)|*)
        }
    };
}

names!(
    /// Whether a field is never for the next hop (RFC 9110 §7.6.1, §11.7; RFC 9113 §3.1). A body
    /// without a length is framed anew.
    is_hop, HOP: [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ]
);

names!(
    /// Whether it is W3C trace context: believed of trusted callers alone.
    is_trace, TRACE: ["traceparent", "tracestate", "baggage"]
);

/// Beginnings of managed names; their dashes, as all that is no letter or digit, do not count.
const PREFIXES: &[&str] =
    &["x-forwarded", "x-client-cert", "x-ssl", "ssl-client", "x-original", "x-rewrite", "x-envoy"];

/// Managed names; their dashes do not count either.
const NAMES: &[&str] = &[
    "content-length",
    "transfer-encoding",
    "x-arr-clientcert",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-auth-issuer",
    "x-auth-client",
    "x-auth-subject",
    "x-auth-scopes",
    "x-auth-roles",
    "x-auth-assertion",
    "forwarded",
    "x-real-ip",
    "x-decision-id",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "client-cert",
    "client-cert-chain",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-remote-user",
    "remote-user",
    "proxy",
];

/// Those of them by which some servers take a request for one with another method.
const OVERRIDES: &[&str] = &["x-http-method", "x-http-method-override", "x-method-override"];

/// Those of them by which some servers take a request for one to another target.
const REWRITES: &[&str] = &["x-original-url", "x-rewrite-url"];

/// The fields of answers that are taken out, whole or in part, so that an upstream cannot act for
/// our pages.
pub const OF_ANSWERS: [&str; 3] = ["set-cookie", "clear-site-data", "service-worker-allowed"];

/// Lines that are refused wherever they stand, each an example, and what is refused of its field.
const REFUSED: &[(&str, &str)] = &[
    ("Host: a/b", "`Host` that is missing, there twice, or not `host[:port]`"),
    (
        "Content-Length: 5, 5",
        "`Content-Length` that is not one number, there twice, or with a `Transfer-Encoding`",
    ),
    ("Transfer-Encoding: gzip, chunked", "`Transfer-Encoding` other than one `chunked`"),
    ("Expect: x", "`Expect` other than `100-continue`"),
];

/// Whether only the gateway may say this header to an upstream: identity, forwarding, client
/// certificates, and those by which some servers change method or path after the decision. Every
/// alias counts: to CGI-style readers `-`, `_` and `.` are one.
#[must_use]
pub fn is_managed(name: &str) -> bool {
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
    let folded = Folded::of(name.as_bytes());
    folded.is_one_of(NAMES) || PREFIXES.iter().any(|prefix| folded.begins(prefix).is_some())
}

/// A name without what some readers do not tell apart: its letters and digits in lower case, as
/// many as the longest name here has.
struct Folded([u8; 32], usize);

impl Folded {
    fn of(name: &[u8]) -> Self {
        let mut folded = Self([0; 32], 0);
        for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            let Some(place) = folded.0.get_mut(folded.1) else { break };
            *place = byte.to_ascii_lowercase();
            folded.1 += 1;
        }
        folded
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.begins(name) == Some(self.1))
    }

    /// The length of a name that it begins with.
    fn begins(&self, name: &str) -> Option<usize> {
        let mut own = self.0.get(..self.1).unwrap_or_default().iter();
        let letters = name.bytes().filter(|byte| *byte != b'-');
        let same = letters.clone().all(|byte| own.next() == Some(&byte));
        same.then(|| letters.count())
    }
}

/// Whether a header is a managed one in its usual spelling: a host can be told to remove it.
#[must_use]
pub fn removable(name: &str) -> bool {
    NAMES.contains(&name) && !OVERRIDES.contains(&name)
}

/// The headers that say who calls.
pub fn of_identity() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied().filter(|name| name.starts_with("x-auth-"))
}

/// Fields for one hop that some hosts hand on, which they are told to remove.
pub const ONE_HOP: [&str; 5] =
    ["proxy-authorization", "proxy-authenticate", "proxy-connection", "http2-settings", "trailer"];

/// The managed headers that a host is told to remove.
pub fn removed_by_hosts() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied().filter(|name| {
        !OVERRIDES.contains(name) && !matches!(*name, "content-length" | "transfer-encoding")
    })
}

/// Whether two names are one to readers that do not tell apart what is no letter or digit.
#[must_use]
pub fn is_alias(one: &str, other: &str) -> bool {
    fn folded(name: &str) -> impl Iterator<Item = u8> {
        let letters = name.bytes().filter(u8::is_ascii_alphanumeric);
        letters.map(|byte| byte.to_ascii_lowercase())
    }
    folded(one).eq(folded(other))
}

/// Whether a header is one that HTTP gives a meaning which no configuration may change: framing,
/// routing, credentials, representations, browsers' own, hops and traces.
#[must_use]
pub fn is_of_http(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "host",
        "authorization",
        "cookie",
        "expect",
        "range",
        "upgrade",
        "forwarded",
        "via",
        "date",
        "x-request-id",
    ];
    const PREFIXES: &[&str] = &["content-", "sec-", "x-forwarded-"];
    let alias = |known: &&str| is_alias(known, name);
    is_hop(name)
        || HOP.iter().chain(TRACE).chain(NAMES).any(alias)
        || PREFIXES.iter().any(|prefix| name.replace(['_', '.'], "-").starts_with(prefix))
}

/// The methods that a POST may be taken for.
pub const OVERRIDING: [Method; 3] = [Method::Put, Method::Patch, Method::Delete];

/// Whether a header is one by which some servers take a request for one with another method.
#[must_use]
pub fn names_method(name: &str) -> bool {
    Folded::of(name.as_bytes()).is_one_of(OVERRIDES)
}

/// What the lines of a head that change a request's meaning say of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meaning<'a> {
    /// The first line that names a method.
    method: Option<(&'a [u8], &'a [u8])>,
    /// Another line names one too.
    several: bool,
    /// A line that names a target, and is not the request's own.
    target: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Meaning<'a> {
    /// Looks at one line.
    pub fn see(&mut self, name: &'a [u8], value: &'a [u8], target: &[u8]) {
        // The shortest of the names, without anything between its letters.
        let begins = name
            .first()
            .is_some_and(|first| matches!(first, b'x' | b'X') || !first.is_ascii_alphanumeric());
        if !begins || name.len() < 11 {
            return;
        }
        let folded = Folded::of(name);
        if folded.is_one_of(OVERRIDES) {
            self.several |= self.method.is_some();
            self.method = self.method.or(Some((name, value)));
        } else if folded.is_one_of(REWRITES) && value != target {
            self.target = Some((name, value));
        }
    }

    /// The method that the request asks to be taken for instead of its own: PUT, PATCH or DELETE in
    /// the place of POST. Only an API with `method_override` lets it.
    ///
    /// # Errors
    /// `request.malformed`: several lines name a method, one names a method that no request may be
    /// taken for, or one names another target. A line that names the request's own method or target
    /// says nothing new.
    pub fn overriding(&self, method: &str) -> Result<Option<Method>, Refusal> {
        let malformed = |text: String| Refusal::because(Reason::RequestMalformed, text);
        if let Some(line) = self.target {
            return Err(malformed(format!(
                "`{}` names another target: some servers would serve that one",
                shown(line)
            )));
        }
        let Some(line) = self.method else { return Ok(None) };
        if self.several {
            return Err(malformed(format!(
                "`{}` and another header that names a method",
                shown(line)
            )));
        }
        if line.1 == method.as_bytes() {
            return Ok(None);
        }
        let named = OVERRIDING.into_iter().find(|named| named.as_str().as_bytes() == line.1);
        named.filter(|_| method == "POST").map(Some).ok_or_else(|| {
            malformed(format!(
                "`{}` names another method than {}: only a POST may be taken for PUT, PATCH or \
                    DELETE, in upper case, and only where its API says `method_override: true`",
                shown(line),
                quoted(method)
            ))
        })
    }
}

fn shown((name, value): (&[u8], &[u8])) -> String {
    let text = |bytes| quoted(&String::from_utf8_lossy(bytes));
    format!("{}: {}", text(name), text(value))
}

/// The refusal of a request that asks to be taken for one of another method where nothing lets it.
#[must_use]
pub fn override_refused(method: Method) -> Refusal {
    Refusal::because(
        Reason::RequestMalformed,
        format!(
            "a header names {} in the place of POST, which only an API with `method_override: \
                true` \
                lets",
            method.as_str()
        ),
    )
}

/// docs/headers.md.
#[must_use]
pub fn page() -> String {
    let mut page = "# Headers that are removed or refused\n\nMade of the lists that serve \
        (`make golden` writes it). Everything else is handed on as it came.\n\nNames are compared \
        in lower case. Of the managed ones, and of those that name a method or a target, every \
        alias\ncounts: what is neither letter nor digit is left out before they are compared, so \
        that `X_Real_IP`, `x.real.ip` and `X-Real-IP` are\none.\n\n## Requests: refused\n\n\
        What changes the meaning of a request is refused with 400 \
        `request.malformed`, never dropped; the record of the decision says which line\nit was.\n\n\
        | header | refused |\n|---|---|\n"
        .to_owned();
    let list = |names: &[&str]| {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let mut row = |names: &str, text: &str| {
        let _ = writeln!(page, "| {names} | {text} |");
    };
    row(
        &list(OVERRIDES),
        "names a method: refused, unless the API has `method_override: true` and the line makes a \
            POST a PUT, PATCH or DELETE; removed where it names the request's own method; two \
            lines \
            are refused, and on endpoints of the gateway every one that names another method",
    );
    row(&list(REWRITES), "names a target: removed where it is the request's own, else refused");
    for (line, what) in REFUSED {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        row(&format!("`{name}`"), what);
    }
    row("every name and value", "a name that is no token, a folded line, a control byte");
    page.push_str("\n## Requests: removed\n\n| header | why |\n|---|---|\n");
    let mut row = |names: &str, text: &str| {
        let _ = writeln!(page, "| {names} | {text} |");
    };
    let rest: Vec<&str> = NAMES.iter().copied().filter(|name| !OVERRIDES.contains(name)).collect();
    row(
        &list(&rest),
        "managed: only the gateway says them to an upstream. `content-length` and \
            `transfer-encoding` in their own spelling frame the body, and are handed on",
    );
    let families: Vec<String> = PREFIXES.iter().map(|prefix| format!("`{prefix}…`")).collect();
    row(&families.join(", "), "managed: every name that begins so");
    row(
        &list(TRACE),
        "trace context, unless the caller is one of `trusted_proxies`; with `telemetry` the \
            `traceparent` is the gateway's own",
    );
    row(
        "the header of `request_id`",
        "the caller's id, unless the caller is one of `trusted_proxies`",
    );
    row(
        "`authorization`",
        "the caller's credential, unless the upstream says `authorization: keep`",
    );
    row("`cookie`", "in part: cookies of the gateway, whose names begin with `scopegate`");
    row(&list(HOP), "for one hop alone (RFC 9110 §7.6.1)");
    row(
        "what a `connection` line names",
        "for one hop alone, by the client's own word; framing, \
        `host` and `sec-websocket-…` are nobody's to name",
    );
    row("`host`", "replaced: the server's; what was asked for is in `x-forwarded-host`");
    page.push_str("\n## Answers: removed\n\n| header | why |\n|---|---|\n");
    let mut row = |names: &str, text: &str| {
        let _ = writeln!(page, "| {names} | {text} |");
    };
    row(
        &list(&OF_ANSWERS),
        "in part: what would set or clear cookies of the gateway, or let a script stand before its \
            pages",
    );
    row(&list(HOP), "for one hop alone; the answer is framed anew");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::head::{Head, Limits};

    fn read(line: &str, fields: &str) -> Result<Head, Refusal> {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        Head::parse(text.as_bytes(), &Limits::default())
    }

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

    #[test]
    fn a_post_names_put_patch_or_delete_in_one_line_of_any_spelling() {
        for name in
            ["X-HTTP-Method-Override", "x_http_method", "X.Method--Override", "!XHTTPMethod"]
        {
            let head = read("POST /a", &format!("{name}: PATCH\r\n")).unwrap();
            assert_eq!(head.overriding, Some(Method::Patch), "{name}");
        }
        for (line, fields) in [
            ("POST /a", "X-HTTP-Method-Override: POST\r\n"),
            ("PATCH /a", "X-HTTP-Method-Override: PATCH\r\n"),
            ("HEAD /a", "X-HTTP-Method: HEAD\r\n"),
            ("GET /a?b", "X-Original-URL: /a?b\r\n"),
            ("POST /a", "X-HTTP-Methods: PATCH\r\n"),
        ] {
            assert_eq!(read(line, fields).unwrap().overriding, None, "{line} {fields}");
        }
    }

    #[test]
    fn what_names_another_method_or_target_is_refused_with_a_text() {
        for (line, fields, text) in [
            ("GET /a", "X-HTTP-Method-Override: DELETE\r\n", "`X-HTTP-Method-Override: DELETE`"),
            ("HEAD /a", "X-HTTP-Method-Override: GET\r\n", "names another method than HEAD"),
            ("PUT /a", "X-HTTP-Method-Override: PATCH\r\n", "names another method"),
            ("POST /a", "X-HTTP-Method-Override: patch\r\n", "in upper case"),
            ("POST /a", "X-HTTP-Method-Override: GET\r\n", "names another method"),
            ("POST /a", "X-HTTP-Method-Override: MERGE\r\n", "names another method"),
            ("POST /a", "X-HTTP-Method-Override: PATCH, PATCH\r\n", "names another method"),
            ("POST /a", "X-HTTP-Method-Override:\r\n", "names another method"),
            ("POST /a", "X-HTTP-Method: PATCH\r\nx-http-method: PATCH\r\n", "and another header"),
            (
                "POST /a",
                "X-HTTP-Method: POST\r\nX-Method-Override: PATCH\r\n",
                "and another header",
            ),
            ("GET /a", "X-Original-URL: /b\r\n", "`X-Original-URL: /b` names another target"),
            ("GET /a?x", "x_rewrite_url: /a\r\n", "names another target"),
        ] {
            let refusal = read(line, fields).unwrap_err();
            assert_eq!(refusal.reason, Reason::RequestMalformed, "{line} {fields}");
            assert!(refusal.fault.text().contains(text), "{line} {fields}: {:?}", refusal.fault);
        }
    }

    #[test]
    fn every_line_that_the_page_calls_refused_is() {
        for (line, _) in REFUSED {
            assert!(read("GET /a", &format!("{line}\r\n")).is_err(), "{line}");
        }
    }
}
