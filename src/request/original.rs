//! The request that a host proxy asks about: nothing of it is guessed. Method, target, host and the
//! client's address come from one source each, which the host says and its clients cannot.

use super::fields::Fields;
use super::head::{Head, Limits};
use super::headers::{is_alias, is_hop, is_managed, removable};
use crate::reason::{Reason, Refusal, quoted};

/// How a host proxy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Envoy's `ext_authz` over gRPC, which is also the Gateway API's external auth.
    EnvoyGrpc,
    /// Envoy's `ext_authz` over HTTP.
    EnvoyHttp,
    /// nginx's `auth_request`.
    Nginx,
    /// Traefik's `ForwardAuth`.
    Traefik,
    /// Caddy's `forward_auth`.
    Caddy,
}

impl Dialect {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EnvoyGrpc => "envoy_grpc",
            Self::EnvoyHttp => "envoy_http",
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
        }
    }

    /// It is told by name what to remove, whatever that is.
    #[must_use]
    pub const fn removes_what_it_is_told(self) -> bool {
        matches!(self, Self::EnvoyGrpc | Self::EnvoyHttp)
    }
}

/// What a question says of its request by itself, and not in its fields.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The target as it came.
    pub target: &'a [u8],
    /// The host; of HTTP it is in the fields.
    pub host: Option<&'a [u8]>,
}

/// Where a host that asks over HTTP says the upstream that it would forward to.
pub const UPSTREAM: &str = "x-original-upstream";

/// Where a dialect says the facts of the original request.
#[derive(Clone, Copy, Debug)]
struct Source {
    method: &'static str,
    target: &'static str,
    host: &'static str,
}

const NGINX: Source =
    Source { method: "x-original-method", target: "x-original-uri", host: "x-original-host" };
const FORWARDED: Source =
    Source { method: "x-forwarded-method", target: "x-forwarded-uri", host: "x-forwarded-host" };
/// The address of the client, in every dialect.
const ADDRESS: &str = "x-forwarded-for";
/// How the names begin of what Envoy and its operators say: it is told to remove a client's.
pub const ENVOY: &str = "x-envoy-";
/// What hosts say themselves besides, in every dialect. Of these Envoy says `X-Forwarded-For` and
/// `X-Forwarded-Proto` alone, and hands the others on.
pub const OF_HOSTS: [&str; 8] = [
    ADDRESS,
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-real-ip",
];

fn malformed(text: impl Into<String>) -> Refusal {
    Refusal::because(Reason::RequestMalformed, text.into())
}

/// Whether a header is one of an upstream's own: by which it is told claims, or which no client may
/// say to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// It is none.
    No,
    /// As it is written, which the host removes.
    Written,
    /// In a spelling that some servers take for it.
    Alias,
}

/// The head that the host has received, out of the one that it asks with.
///
/// # Errors
/// `request.malformed`: a fact is missing, there twice or in another spelling too, or a header
/// would be handed on that only the gateway may say; `path.ambiguous`: the host would forward
/// another form of the target than the one that is judged; else as [`Head::of_http2`].
pub fn original(
    dialect: Dialect,
    question: Question<'_>,
    fields: &impl Fields,
    own: impl Fn(&str) -> Own,
    limits: &Limits,
) -> Result<Head, Refusal> {
    let source = match dialect {
        Dialect::Nginx => Some(NGINX),
        Dialect::Traefik | Dialect::Caddy => Some(FORWARDED),
        Dialect::EnvoyGrpc | Dialect::EnvoyHttp => None,
    };
    if fields.has("upgrade") {
        // What follows a switch is judged by nobody: the host would hand it on as it comes.
        return Err(malformed("another protocol is asked for, which no host holds"));
    }
    let is_source = |name: &str| {
        name == ADDRESS
            || (name == UPSTREAM && dialect != Dialect::EnvoyGrpc)
            || source
                .is_some_and(|source| [source.method, source.target, source.host].contains(&name))
    };
    for (name, _) in fields.lines() {
        let known = is_source(name)
            || OF_HOSTS.contains(&name)
            || (dialect.removes_what_it_is_told() && name.starts_with(ENVOY))
            || removable(name)
            || own(name) == Own::Written;
        let is_alias_of_own = own(name) == Own::Alias;
        if !known
            && (is_alias_of_own
                || is_managed(name)
                || OF_HOSTS.iter().any(|of_host| is_alias(of_host, name)))
        {
            return Err(malformed(format!(
                "the header `{}`, which only the gateway or its host may say",
                quoted(name)
            )));
        }
    }
    one(fields, ADDRESS)?;
    if fields.has(UPSTREAM) {
        one(fields, UPSTREAM)?;
    }
    let (method, target, host) = if let Some(source) = source {
        (one(fields, source.method)?, one(fields, source.target)?, one(fields, source.host)?)
    } else {
        let host = question.host.map_or_else(|| one(fields, "host"), Ok)?;
        (question.method, question.target, host)
    };
    let method = std::str::from_utf8(method).map_err(|_| malformed("the method is no token"))?;
    if !target.starts_with(b"/") {
        return Err(malformed("the target that the host says is no path"));
    }
    let lines = fields.lines().filter(|(name, _)| {
        !is_source(name)
            && !is_hop(name)
            && !matches!(*name, "host" | "content-length" | "expect" | "transfer-encoding")
    });
    let head = Head::of_http2(method, target, Some(host), lines, limits)?;
    if head.target.as_str().as_bytes() != target {
        return Err(Refusal::because(
            Reason::PathAmbiguous,
            "the host would forward another form of the path than the one that is judged",
        ));
    }
    Ok(head)
}

/// The one line of a name.
fn one<'a>(fields: &'a impl Fields, name: &'static str) -> Result<&'a [u8], Refusal> {
    let mut lines = fields.lines().filter(|(found, _)| is_alias(found, name));
    match (lines.next(), lines.next()) {
        (Some((found, value)), None) if found == name && !value.is_empty() => Ok(value),
        (None, _) => Err(malformed(format!("the host says no {name}"))),
        _ => Err(malformed(format!("{name} more than once, in another spelling, or empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::fields::HeadText;

    fn read(dialect: Dialect, head: &str) -> Result<(String, String, String), Reason> {
        let (limits, mut lines) = (Limits::default(), Vec::new());
        let check = Head::parse_lines(head.as_bytes(), &limits, &mut lines).unwrap();
        let mut text = HeadText::default();
        text.put(&mut head.as_bytes().to_vec(), &mut lines);
        let asked = head.split(' ').nth(1).unwrap();
        let question =
            Question { method: check.method.as_bytes(), target: asked.as_bytes(), host: None };
        let own = |name: &str| match name {
            "x-email" => Own::Written,
            _ if is_alias("x-email", name) => Own::Alias,
            _ => Own::No,
        };
        original(dialect, question, &text, own, &limits)
            .map(|head| (head.method, head.target.as_str().to_owned(), head.host))
            .map_err(|refusal| refusal.reason)
    }

    fn nginx(more: &str) -> String {
        format!(
            "GET /check HTTP/1.0\r\nHost: gw\r\nX-Original-Method: POST\r\nX-Original-URI: \
             /a/b?c=d\r\nX-Original-Host: API.example:8080\r\nX-Forwarded-For: 10.1.2.3\r\n\
             {more}\r\n"
        )
    }

    #[test]
    fn a_host_says_every_fact_once() {
        let seen = ("POST".to_owned(), "/a/b?c=d".to_owned(), "api.example".to_owned());
        let more = "Authorization: Bearer x\r\nX-Email: a\r\nX-Auth-Client: evil\r\n";
        assert_eq!(read(Dialect::Nginx, &nginx(more)), Ok(seen.clone()));
        let forwarded = nginx("").replace("X-Original", "X-Forwarded");
        assert_eq!(read(Dialect::Caddy, &forwarded), Ok(seen.clone()));
        assert_eq!(read(Dialect::Traefik, &forwarded), Ok(seen));
        let envoy = "PUT /x HTTP/1.1\r\nHost: api.example\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
        assert_eq!(
            read(Dialect::EnvoyHttp, envoy),
            Ok(("PUT".to_owned(), "/x".to_owned(), "api.example".to_owned()))
        );
    }

    #[test]
    fn what_is_missing_doubled_or_contradicts_itself_is_refused() {
        for name in ["X-Original-Method", "X-Original-URI", "X-Original-Host", "X-Forwarded-For"] {
            let whole = nginx("");
            let line = whole.split_inclusive("\r\n").find(|line| line.starts_with(name)).unwrap();
            let without = whole.replace(line, "");
            assert_eq!(read(Dialect::Nginx, &without), Err(Reason::RequestMalformed), "{name}");
            for twice in [line.to_owned(), line.replace('-', "_"), line.replacen('-', ".", 1)] {
                let doubled = nginx(&twice);
                assert_eq!(
                    read(Dialect::Nginx, &doubled),
                    Err(Reason::RequestMalformed),
                    "{twice}"
                );
            }
        }
        for (more, reason) in [
            ("X-Original-Upstream: a\r\nx-original.upstream: b\r\n", Reason::RequestMalformed),
            ("X-Original-Upstream: a\r\nX-Original-Upstream: a\r\n", Reason::RequestMalformed),
            ("x_auth_client: evil\r\n", Reason::RequestMalformed),
            ("X-SSL-Client: evil\r\n", Reason::RequestMalformed),
            ("XEmail: evil\r\n", Reason::RequestMalformed),
            ("X.Email: evil\r\n", Reason::RequestMalformed),
            ("Upgrade: foo/1\r\n", Reason::RequestMalformed),
        ] {
            assert_eq!(read(Dialect::Nginx, &nginx(more)), Err(reason), "{more}");
        }
        for (target, reason) in [
            ("/a/%7eb", Reason::PathAmbiguous),
            ("/a/../b", Reason::PathAmbiguous),
            ("http://x/", Reason::RequestMalformed),
            ("*", Reason::RequestMalformed),
        ] {
            let changed = nginx("").replace("/a/b?c=d", target);
            assert_eq!(read(Dialect::Nginx, &changed), Err(reason), "{target}");
        }
        // Of another dialect's names none is a source, and none may stand there.
        let both = nginx("X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /other\r\n");
        assert_eq!(read(Dialect::Nginx, &both).unwrap().1, "/a/b?c=d");
        let other = nginx("").replace("X-Original", "X-Forwarded") + "";
        let other = other.replace("\r\n\r\n", "\r\nX-Original-URI: /other\r\n\r\n");
        assert_eq!(read(Dialect::Caddy, &other), Err(Reason::RequestMalformed));
    }
}
