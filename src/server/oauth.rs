//! The authorization server's endpoints, as an axum router served in process. Each has a module;
//! what they share is here.

mod authenticate;
mod authorize;
mod browser;
mod client_form;
mod connections;
mod device;
mod documents;
mod external_login;
pub mod pages;
mod introspect;
mod issue;
mod revoke;
mod sharing;
mod token;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use http::{HeaderValue, StatusCode, header};

use super::login;
use crate::grant::{ErrorCode, GrantError};
use crate::metadata::{self, MACHINE_PATHS};
use crate::reason::Reason;
use crate::request::head::Head;
use crate::server::state::Shared;
use crate::server::state::snapshot::Snapshot;
use crate::telemetry::decision_id::{self, DecisionId};

/// Makes what answers at an endpoint.
type Serve = fn() -> MethodRouter<Server>;

/// Our endpoints: the path, on the host of `public_url`, and what answers there.
const ENDPOINTS: [(&str, Serve); 16] = [
    ("/oauth_token.do", || post(token::token)),
    ("/oauth2/token", || post(token::token)),
    ("/oauth_auth.do", || get(authorize::show).post(authorize::act)),
    ("/oauth2/authorize", || get(authorize::show).post(authorize::act)),
    ("/oauth_revoke_token.do", || post(revoke::revoke)),
    ("/oauth2/revoke", || post(revoke::revoke)),
    ("/oauth2/introspect", || post(introspect::introspect)),
    ("/oauth2/connections", || get(connections::show).post(connections::act)),
    (login::PATH, || get(external_login::from_page)),
    (login::LEAVE, || get(external_login::to_provider)),
    (login::CALLBACK, || get(external_login::from_provider)),
    ("/api/now/oauth/jwks", || get(documents::jwks)),
    ("/.well-known/jwks.json", || get(documents::jwks)),
    ("/.well-known/oauth-authorization-server", || get(documents::server)),
    ("/.well-known/openid-configuration", || get(documents::openid)),
    (metadata::RESOURCE, || get(documents::resource)),
];
/// The challenge of a failed client authentication.
const CHALLENGE: &str = "Basic realm=\"scopegate\", charset=\"UTF-8\"";
/// What the time of a failed authentication is a multiple of, where some secret is slow to check:
/// it does not tell which names exist.
const FAILURE: std::time::Duration = std::time::Duration::from_millis(300);

/// What an endpoint knows of the exchange it serves.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The decision id.
    pub id: DecisionId,
    /// The configuration of this exchange.
    pub snapshot: Arc<Snapshot>,
    /// Where the request comes from, if that is to be believed.
    pub address: Option<IpAddr>,
}

/// How a request to an endpoint ended, for the decision record. Travels in the response's
/// extensions.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The client, once it has authenticated.
    pub client: Option<String>,
    /// The registered client that a request names which has not authenticated.
    pub claimed_client: Option<String>,
    /// What was granted.
    pub scopes: Option<String>,
    /// The error, and what was behind it.
    pub error: Option<(Failure, String)>,
}

/// What an endpoint refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An error of OAuth.
    Grant(ErrorCode),
    /// A reason that APIs are refused with too.
    Refused(Reason),
}

impl Failure {
    /// Its label in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grant(code) => code.label(),
            Self::Refused(reason) => reason.label(),
        }
    }
}

/// The endpoints with what they share.
#[derive(Debug)]
pub struct Endpoints {
    router: Router,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Server {
    shared: Arc<Shared>,
}

impl Endpoints {
    /// Builds the router.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let server = Server { shared: shared.clone() };
        let router = ENDPOINTS
            .iter()
            .fold(Router::new(), |router, (path, serve)| router.route(path, serve()));
        let router = router
            // Metadata of a resource is below its path (RFC 9728 §3.1).
            .route(&format!("{}/{{*path}}", metadata::RESOURCE), get(documents::resource))
            .method_not_allowed_fallback(wrong_method)
            .fallback(documents::nothing)
            .layer(axum::middleware::from_fn_with_state(server.clone(), sharing::share))
            .with_state(server);
        Self { router, shared }
    }

    /// The router.
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The endpoint that a request is for, by the canonical path. Ours win on our own hosts; on
    /// others an API of that host wins, and without one our answer is that the host is wrong.
    #[must_use]
    pub fn find(&self, snapshot: &Snapshot, head: &Head) -> Option<&'static str> {
        let path = head.target.path();
        let below = path.strip_prefix(metadata::RESOURCE).is_some_and(|rest| rest.starts_with('/'));
        let endpoint = if below {
            metadata::RESOURCE
        } else {
            ENDPOINTS.iter().map(|(known, _)| *known).find(|known| *known == path)?
        };
        if head.host == self.shared.fixed.public_host {
            return Some(endpoint);
        }
        let is_ours =
            snapshot.config.hosts.contains(&head.host) && MACHINE_PATHS.contains(&endpoint);
        let is_free = || snapshot.rules().template_at(&head.host, path).is_none();
        (is_ours || is_free()).then_some(endpoint)
    }
}

/// axum adds the `Allow` header.
async fn wrong_method(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let error =
        GrantError::new(ErrorCode::InvalidRequest, "this endpoint does not offer the method");
    let mut response = refuse(&server, &caller, &error);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// An error as the token endpoint answers it (RFC 6749 §5.2).
fn refuse(server: &Server, caller: &Caller, error: &GrantError) -> Response {
    server.shared.metrics.oauth.token_error(error.code);
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = no_store(json(status, error.body(), caller));
    let cause = error.cause.map_or_else(|| error.description.to_string(), str::to_owned);
    response
        .extensions_mut()
        .insert(Outcome { error: Some((Failure::Grant(error.code), cause)), ..Outcome::default() });
    if error.code == ErrorCode::InvalidClient {
        // Every 401 has a challenge (RFC 6749 §5.2, RFC 9110 §11.6.1).
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    if error.code == ErrorCode::TemporarilyUnavailable {
        response.headers_mut().insert(header::RETRY_AFTER, error.retry_after.unwrap_or(1).into());
    }
    response
}

fn json(status: StatusCode, body: String, caller: &Caller) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with_id(response, caller)
}

/// Every answer names the decision.
fn with_id(mut response: Response, caller: &Caller) -> Response {
    if let Ok(id) = HeaderValue::from_str(&caller.id.to_text()) {
        response.headers_mut().insert(decision_id::HEADER, id);
    }
    response
}

/// RFC 6749 §5.1.
fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
