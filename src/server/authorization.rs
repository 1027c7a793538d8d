//! The authorization server's endpoints, as an axum router served in process.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio::sync::Semaphore;

use super::exchange::DecisionId;
use super::snapshot::Snapshot;
use super::{Shared, answer, clock};
use crate::client::{Client, GrantType};
use crate::grant::client_credentials::{self, Granted};
use crate::grant::{ErrorCode, GrantError, TokenRequest, TokenResponse, form};
use crate::names::Timestamp;
use crate::request::head::Head;
use crate::token::mint::{AccessClaims, expiry};

/// The paths that are ours, on the host of `public_url`.
const PATHS: [&str; 4] = ["/oauth_token.do", "/oauth2/token", "/api/now/oauth/jwks", "/.well-known/jwks.json"];
/// The challenge of a failed client authentication.
const CHALLENGE: &str = "Basic realm=\"scopegate\", charset=\"UTF-8\"";
/// Slow secrets (Argon2id) checked at once; each costs tens of milliseconds and up to 64 MiB.
const SLOW_CHECKS: usize = 2;
/// Token requests that may wait for one of those.
const SLOW_QUEUE: usize = 64;

/// What an endpoint knows of the exchange it serves.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The decision id.
    pub id: DecisionId,
    /// The configuration of this exchange.
    pub snapshot: Arc<Snapshot>,
}

/// How a token request ended, for the decision record. Travels in the response's extensions.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The client, once it has authenticated.
    pub client: Option<String>,
    /// What was granted.
    pub scopes: Option<String>,
    /// The error, and what was behind it.
    pub error: Option<(ErrorCode, String)>,
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
    slow: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Endpoints {
    /// Builds the router.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let server = Server {
            shared: shared.clone(),
            slow: Arc::new(Semaphore::new(SLOW_CHECKS)),
            queue: Arc::new(Semaphore::new(SLOW_QUEUE)),
        };
        let router = Router::new()
            .route("/oauth_token.do", post(token))
            .route("/oauth2/token", post(token))
            .route("/api/now/oauth/jwks", get(jwks))
            .route("/.well-known/jwks.json", get(jwks))
            .method_not_allowed_fallback(wrong_method)
            .with_state(server);
        Self { router, shared }
    }

    /// The router.
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The endpoint that a request is for, by the canonical path alone. Ours win, on our own host.
    #[must_use]
    pub fn find(&self, head: &Head) -> Option<&'static str> {
        if head.host != self.shared.fixed.public_host {
            return None;
        }
        PATHS.into_iter().find(|path| *path == head.target.path())
    }
}

/// axum adds the `Allow` header.
async fn wrong_method(State(server): State<Server>, Extension(caller): Extension<Caller>) -> Response {
    let error = GrantError::new(ErrorCode::InvalidRequest, "this endpoint does not offer the method");
    let mut response = refuse(&server, &caller, &error);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

async fn jwks(State(server): State<Server>, Extension(caller): Extension<Caller>) -> Response {
    let mut response = json(StatusCode::OK, server.shared.own_keys.jwks().to_owned(), &caller);
    // Verifiers may keep keys as long as a new one is published before it signs.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

async fn token(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // A secret in a URL is in logs by now (RFC 6749 §2.3.1): the client should hear of it, whatever else it sent.
    if uri.query().is_some_and(|query| !query.is_empty()) {
        let text = "send all parameters in the body, none in the URL";
        return refuse(&server, &caller, &GrantError::new(ErrorCode::InvalidRequest, text));
    }
    let Ok(body) = axum::body::to_bytes(body, form::MAX_BODY).await else {
        let error = GrantError::new(ErrorCode::InvalidRequest, "the body could not be read, or is longer than 64 KiB");
        return refuse(&server, &caller, &error);
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let authorization = headers.get_all(header::AUTHORIZATION);
    let request = match TokenRequest::parse(content_type, authorization.iter().map(HeaderValue::as_bytes), &body) {
        Ok(request) => request,
        Err(error) => return refuse(&server, &caller, &error),
    };
    let now = clock::now();
    match answer_request(&server, &caller, request, now).await {
        Ok(response) => response,
        Err(error) => refuse(&server, &caller, &error),
    }
}

async fn answer_request(
    server: &Server,
    caller: &Caller,
    request: TokenRequest,
    now: Timestamp,
) -> Result<Response, GrantError> {
    let (request, client) = authenticate(server, caller, request, now).await?;
    let id = client.id.to_string();
    let answered = grant(server, caller, &request, &client, now);
    let mut response = answered.unwrap_or_else(|error| refuse(server, caller, &error));
    if let Some(outcome) = response.extensions_mut().get_mut::<Outcome>() {
        outcome.client = Some(id);
    }
    Ok(response)
}

fn grant(
    server: &Server,
    caller: &Caller,
    request: &TokenRequest,
    client: &Client,
    now: Timestamp,
) -> Result<Response, GrantError> {
    let config = &caller.snapshot.config;
    match request.grant(&config.grants)? {
        GrantType::ClientCredentials => {
            let granted =
                client_credentials::grant(client, config.rules.registry(), request, &server.shared.fixed.public_url)?;
            let response = issue(server, caller, &granted, now)?;
            server.shared.metrics.issued(GrantType::ClientCredentials);
            Ok(response)
        }
        // The configuration refuses to switch these on.
        GrantType::AuthorizationCode | GrantType::RefreshToken | GrantType::Password | GrantType::JwtBearer => {
            Err(GrantError::new(ErrorCode::UnsupportedGrantType, "this server does not offer that grant_type"))
        }
    }
}

/// Checks the client's secret; a slow one on a thread of its own, of which there are few, with a bounded queue before them.
async fn authenticate(
    server: &Server,
    caller: &Caller,
    request: TokenRequest,
    now: Timestamp,
) -> Result<(TokenRequest, Arc<Client>), GrantError> {
    let registry = caller.snapshot.rules().registry();
    if !request.credentials.is_slow(registry) {
        let client = request.credentials.authenticate(registry, now)?;
        return Ok((request, client));
    }
    let busy = |_| GrantError::new(ErrorCode::TemporarilyUnavailable, "too many token requests at once; try again");
    let _waiting = server.queue.clone().try_acquire_owned().map_err(busy)?;
    let broken = || GrantError::new(ErrorCode::TemporarilyUnavailable, "the secret could not be checked; try again");
    let turn = server.slow.clone().acquire_owned().await.map_err(|_| broken())?;
    let snapshot = caller.snapshot.clone();
    let check = tokio::task::spawn_blocking(move || {
        let client = request.credentials.authenticate(snapshot.rules().registry(), now);
        drop(turn);
        client.map(|client| (request, client))
    });
    check.await.map_err(|_| broken())?
}

fn issue(server: &Server, caller: &Caller, granted: &Granted, now: Timestamp) -> Result<Response, GrantError> {
    let broken = || GrantError::new(ErrorCode::TemporarilyUnavailable, "the token could not be made; try again");
    let mut random = [0_u8; 20];
    getrandom::fill(&mut random).map_err(|_| broken())?;
    let id = URL_SAFE_NO_PAD.encode(random);
    let scope = granted.scopes.to_value();
    let url = &server.shared.fixed.public_url;
    let claims = AccessClaims {
        iss: url,
        sub: &granted.client,
        aud: url,
        exp: expiry(now, granted.lifespan).0,
        iat: now.0,
        jti: &id,
        client_id: &granted.client,
        scope: &scope,
    };
    let token = server.shared.own_keys.current().sign(&claims).map_err(|_| broken())?;
    let body =
        TokenResponse { access_token: &token, token_type: "Bearer", expires_in: granted.lifespan, scope: &scope };
    let body = serde_json::to_string(&body).map_err(|_| broken())?;
    let mut response = no_store(json(StatusCode::OK, body, caller));
    response.extensions_mut().insert(Outcome { scopes: Some(scope), ..Outcome::default() });
    Ok(response)
}

fn refuse(server: &Server, caller: &Caller, error: &GrantError) -> Response {
    server.shared.metrics.token_error(error.code);
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = no_store(json(status, error.body(), caller));
    let cause = error.cause.map_or_else(|| error.description.to_string(), str::to_owned);
    response.extensions_mut().insert(Outcome { error: Some((error.code, cause)), ..Outcome::default() });
    if error.code == ErrorCode::InvalidClient {
        // Every 401 has a challenge (RFC 6749 §5.2, RFC 9110 §11.6.1).
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    if error.code == ErrorCode::TemporarilyUnavailable {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json(status: StatusCode, body: String, caller: &Caller) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(&caller.id.to_text()) {
        response.headers_mut().insert(answer::DECISION_ID, id);
    }
    response
}

/// RFC 6749 §5.1.
fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
