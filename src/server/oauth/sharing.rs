//! Before and after every endpoint: on which hosts it answers (decisions.md, "Hosts"), and whose
//! pages may read what it says (Fetch standard, CORS protocol). By default no page may.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::{Caller, Failure, Outcome, Server, no_store, with_id};
use crate::metadata::{self, MACHINE_PATHS};
use crate::reason::Reason;
use crate::request::head::host_name;

/// Request headers that pages may send.
const HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, mcp-protocol-version");
/// Headers of answers that pages may read.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("x-decision-id, retry-after, www-authenticate");
/// How long a browser may keep the answer to a preflight, seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Whose pages may read an endpoint's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    /// Everybody's: nothing there is secret, and browser-based clients discover us too.
    Everybody,
    /// Those of public clients, which get tokens by script.
    PublicClients,
    /// Nobody's.
    Nobody,
}

impl Readers {
    /// Those of the endpoint at this path, and the methods that their scripts may use.
    fn of(path: &str) -> (Self, HeaderValue) {
        let below = path.strip_prefix(metadata::RESOURCE);
        let described = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match path {
            "/oauth_token.do" | "/oauth2/token" | "/oauth_revoke_token.do" | "/oauth2/revoke" => {
                (Self::PublicClients, HeaderValue::from_static("POST"))
            }
            "/api/now/oauth/jwks"
            | "/.well-known/jwks.json"
            | "/.well-known/oauth-authorization-server"
            | "/.well-known/openid-configuration" => {
                (Self::Everybody, HeaderValue::from_static("GET, HEAD"))
            }
            _ if described => (Self::Everybody, HeaderValue::from_static("GET, HEAD")),
            _ => (Self::Nobody, HeaderValue::from_static("")),
        }
    }

    /// The origin to name in answers to this one.
    fn admitted(self, caller: &Caller, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::Everybody => Some(HeaderValue::from_static("*")),
            Self::PublicClients => {
                let origin = origin?;
                caller.snapshot.pages.have(origin.to_str().ok()?).then(|| origin.clone())
            }
            Self::Nobody => None,
        }
    }
}

/// Serves a request on the hosts where its endpoint answers, and says who may read the answer.
pub(super) async fn share(State(server): State<Server>, request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    let path = request.uri().path();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(host_name).unwrap_or_default();
    if !answers_on(&server, &caller, path, &host) {
        return wrong_host(&server, &caller, &host);
    }
    let (readers, methods) = Readers::of(path);
    let origin = one(request.headers(), &header::ORIGIN).cloned();
    let admitted = readers.admitted(&caller, origin.as_ref());
    let is_preflight = *request.method() == Method::OPTIONS
        && origin.is_some()
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight && readers != Readers::Nobody {
        preflight(&caller, admitted.is_some().then_some(methods))
    } else {
        next.run(request).await
    };
    if readers == Readers::PublicClients {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = admitted {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

/// The only line of a header: of several none can be believed.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn preflight(caller: &Caller, methods: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(methods) = methods {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    with_id(response, caller)
}

/// All endpoints answer on the host of `public_url`, those for machines on `hosts` too.
fn answers_on(server: &Server, caller: &Caller, path: &str, host: &str) -> bool {
    let is_machine = || {
        let described = path.strip_prefix(metadata::RESOURCE);
        MACHINE_PATHS.contains(&path) || described.is_some_and(|rest| rest.starts_with('/'))
    };
    host == server.shared.fixed.public_host
        || (caller.snapshot.config.hosts.contains(host) && is_machine())
}

/// A path of ours on a host where it does not answer, and which is no API's there either.
fn wrong_host(server: &Server, caller: &Caller, host: &str) -> Response {
    let reason = Reason::OperationUnknown;
    let row = reason.row();
    let detail = format!(
        "this endpoint of the gateway does not answer on the host {host}: call it at {}, or have \
            the host listed under `hosts`",
        server.shared.fixed.public_url
    );
    let body = json!({
        "type": format!("urn:scopegate:reason:{}", reason.label()),
        "title": row.title,
        "status": row.status,
        "detail": detail,
        "reason": reason.label(),
        "decision_id": caller.id.to_text(),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let problem = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, problem);
    let fault = format!("the host {host} is none of ours for this endpoint");
    response
        .extensions_mut()
        .insert(Outcome { error: Some((Failure::Refused(reason), fault)), ..Outcome::default() });
    no_store(with_id(response, caller))
}
