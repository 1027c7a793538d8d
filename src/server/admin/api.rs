//! The admin listener: acts of those who run the gateway, and answers of an external sign-in page.
//! Every request needs the token.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Json, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::raw::test::RawTokenSample;
use crate::grant::authorization_request::{AuthorizationRequest, ResponseError};
use crate::policy::decide::{Moment, Opened, open};
use crate::policy::sample::{Presented, Sample, check_override, parse_line};
use crate::request::credential::BearerToken;
use crate::request::head::host_name;
use crate::server::edge::serve_side;
use crate::server::edge::side::Side;
use crate::server::login::{self, Challenge, Destination};
use crate::server::state::Shared;
use crate::store::revocations::{Revocation, Subject};
use crate::system::clock;
use crate::tooling::explain;

/// Largest body taken.
const MAX_BODY: usize = 32 * 1024;

/// The background service.
#[derive(Debug)]
pub struct Admin {
    shared: Arc<Shared>,
    listener: TcpListener,
}

impl Admin {
    /// The service on a bound listener.
    #[must_use]
    pub const fn new(shared: Arc<Shared>, listener: TcpListener) -> Self {
        Self { shared, listener }
    }
}

#[async_trait]
impl BackgroundService for Admin {
    async fn start(&self, shutdown: ShutdownWatch) {
        let router = Router::new()
            .route("/revoke", post(revoke))
            .route("/explain", post(explain))
            .route("/login", get(show_login))
            .route("/login/accept", post(accept_login))
            .route("/login/reject", post(reject_login))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(from_fn_with_state(self.shared.clone(), guard))
            .with_state(self.shared.clone());
        let Some(address) = self.shared.fixed.admin else { return };
        let side = Side::new(self.shared.edge.clone(), router, MAX_BODY);
        serve_side(&self.shared.edge, address, &self.listener, side, shutdown).await;
    }
}

/// The token first, whatever is asked. A page in a browser on this machine cannot send it; nor is
/// it answered if it found out how to: a name that leads here without being ours (DNS rebinding),
/// and pages of other origins, are refused.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if let Err(text) = check_origin(request.headers()) {
        return said(StatusCode::FORBIDDEN, text);
    }
    let presented =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.split_once(' '));
    let presented = presented
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, token)| token);
    let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
    let right =
        shared.snapshot().config.admin_token.is_some_and(|token| bool::from(token.ct_eq(&digest)));
    let mut response = if right {
        next.run(request).await
    } else {
        let mut response = said(StatusCode::UNAUTHORIZED, "send the admin token as a bearer token");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"admin\""));
        response
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a request is for this listener by a name that nobody else can point at it, and not sent
/// by a page of another origin.
fn check_origin(headers: &HeaderMap) -> Result<(), &'static str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host_name(host).unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if !address && name != "localhost" && !name.ends_with(".localhost") {
        return Err("the Host is neither an address nor localhost");
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let same = |origin: &HeaderValue| {
        let after = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        after.is_some_and(|(scheme, authority)| {
            matches!(scheme, "http" | "https") && authority == host
        })
    };
    if origins.all(same) { Ok(()) } else { Err("the request comes from a page of another origin") }
}

fn said(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// Which tokens to revoke: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Revoke {
    /// An access token of ours.
    Token(zeroize::Zeroizing<String>),
    /// The token with this `jti`.
    Id(String),
    /// All of an authorization.
    Authorization(String),
    /// All that a client has.
    Client(String),
    /// All that act for a user.
    User(String),
    /// All issued until now.
    All(bool),
}

async fn revoke(State(shared): State<Arc<Shared>>, Json(what): Json<Revoke>) -> Response {
    let subject = match what {
        Revoke::Token(token) => {
            let snapshot = shared.snapshot();
            let Ok(token) = BearerToken::parse(&token) else {
                return said(StatusCode::BAD_REQUEST, "no token");
            };
            let facts = shared
                .tokens
                .verify(&snapshot.issuers, snapshot.rules(), &token, None, clock::now())
                .await
                .ok();
            let id = facts.filter(|facts| facts.issuer.is_own()).and_then(|facts| facts.id.clone());
            match id {
                Some(id) => Subject::Token(id),
                None => {
                    return said(
                        StatusCode::BAD_REQUEST,
                        "the token is none of ours, or is not good any more",
                    );
                }
            }
        }
        Revoke::Id(id) => Subject::Token(id),
        Revoke::Authorization(id) => Subject::Authorization(id),
        Revoke::Client(client) => Subject::Client(client),
        Revoke::User(user) => Subject::User(user),
        Revoke::All(true) => Subject::Everything,
        Revoke::All(false) => {
            return said(StatusCode::BAD_REQUEST, "all is true, or something else is named");
        }
    };
    let revocation = Revocation::now(subject, clock::now());
    match shared.store.revoke(revocation.clone(), None).await {
        Ok(()) => {
            shared.tokens.revocations.add(&revocation);
            tracing::info!(subject = ?revocation.subject, "revoked by the admin listener");
            Json(json!({ "revoked": true })).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a revocation could not be stored");
            said(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer: nothing was revoked")
        }
    }
}

/// What is to be explained.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// `METHOD path`.
    request: String,
    /// The method that an X-HTTP-Method-Override header names.
    method_override: Option<String>,
    host: Option<String>,
    from: Option<IpAddr>,
    #[serde(default)]
    certificate: Vec<String>,
    /// What the token says.
    token: Option<RawTokenSample>,
    /// A real token in its place; neither kept nor told.
    bearer: Option<String>,
}

/// Why a request would be permitted or refused now, by the rules, keys, revocations and blocks in
/// force here.
async fn explain(State(shared): State<Arc<Shared>>, Json(asked): Json<Question>) -> Response {
    let snapshot = shared.snapshot();
    let now = clock::now();
    let case = match case(&asked) {
        Ok(case) => case,
        Err(fault) => return said(StatusCode::BAD_REQUEST, &fault),
    };
    let request = case.request(&shared.fixed.public_host);
    let facts = match (&case.token, &request) {
        (Some(Presented::Sample(words)), _) => {
            Some(Ok(Arc::new(words.facts(snapshot.rules(), now))))
        }
        (Some(Presented::Token(token)), Ok(request)) => {
            let operation = match open(snapshot.rules(), request) {
                Opened::Token(matched, _) => Some(matched.operation),
                Opened::Decided(_) => None,
            };
            Some(
                shared
                    .tokens
                    .verify(&snapshot.issuers, snapshot.rules(), token, operation, now)
                    .await,
            )
        }
        _ => None,
    };
    let question = explain::Question { request, facts };
    // Changes are tried on copies of all rules: not where requests are served.
    let explained = tokio::task::spawn_blocking(move || {
        let blocks = shared.tokens.revocations.blocks();
        let explanation =
            explain::explain(snapshot.rules(), &question, Moment { now, blocks: &blocks });
        json!({ "set": &*snapshot.config.version, "explanation": explanation })
    });
    match explained.await {
        Ok(explained) => Json(explained).into_response(),
        Err(_) => said(StatusCode::INTERNAL_SERVER_ERROR, "the explanation failed"),
    }
}

fn case(asked: &Question) -> Result<Sample, String> {
    let (method, target) = parse_line(&asked.request)?;
    let token = match (&asked.token, &asked.bearer) {
        (Some(_), Some(_)) => return Err("`token` and `bearer`: one of them".to_owned()),
        (Some(words), None) => Some(Presented::Sample(Box::new(
            words.read().map_err(|(key, fault)| format!("token {key}: {fault}"))?,
        ))),
        (None, Some(bearer)) => {
            let token = BearerToken::parse(bearer)
                .map_err(|refusal| format!("bearer: {}", refusal.fault.text()))?;
            Some(Presented::Token(token))
        }
        (None, None) => None,
    };
    let (host, certificate) = (asked.host.clone(), asked.certificate.clone());
    asked.method_override.as_deref().map_or(Ok(()), check_override)?;
    let method_override = asked.method_override.clone();
    Ok(Sample { method, target, method_override, host, from: asked.from, certificate, token })
}

/// A challenge in the query.
#[derive(Debug, Deserialize)]
struct Asked {
    login_challenge: String,
}

/// An answer to a challenge.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    login_challenge: String,
    subject: Option<String>,
    error_description: Option<String>,
}

fn refused(fault: login::Fault) -> Response {
    let status = match fault {
        login::Fault::Challenge | login::Fault::Subject => StatusCode::BAD_REQUEST,
        login::Fault::Used => StatusCode::CONFLICT,
        login::Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    said(status, &fault.to_string())
}

async fn show_login(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Response {
    let challenge = match Challenge::read(&shared.login, &asked.login_challenge, Destination::Page)
    {
        Ok(challenge) => challenge,
        Err(fault) => return refused(fault),
    };
    let snapshot = shared.snapshot();
    let client = challenge.client.as_deref().and_then(|id| snapshot.rules().registry().client(id));
    let client = client.map_or(Value::Null, |client| {
        json!({
            "client_id": client.id.as_str(),
            "name": client.name,
            "provider_name": client.provider,
            "logo_url": client.logo_url,
        })
    });
    Json(json!({ "client": client })).into_response()
}

async fn accept_login(
    State(shared): State<Arc<Shared>>,
    Json(answered): Json<Answered>,
) -> Response {
    let Some(subject) = &answered.subject else {
        return said(StatusCode::BAD_REQUEST, "the subject is missing");
    };
    let accepted = async {
        let challenge =
            Challenge::read(&shared.login, &answered.login_challenge, Destination::Page)?;
        login::page::accept(
            &shared.login,
            shared.snapshot().rules().registry(),
            &challenge,
            subject,
        )
        .await
    };
    match accepted.await {
        Ok(url) => Json(json!({ "redirect_to": url })).into_response(),
        Err(fault) => refused(fault),
    }
}

/// Back to the client with `access_denied`, where there is one.
async fn reject_login(
    State(shared): State<Arc<Shared>>,
    Json(answered): Json<Answered>,
) -> Response {
    let rejected = async {
        let challenge =
            Challenge::read(&shared.login, &answered.login_challenge, Destination::Page)?;
        challenge.use_up(&shared.login).await?;
        Ok::<_, login::Fault>(challenge)
    };
    let challenge = match rejected.await {
        Ok(challenge) => challenge,
        Err(fault) => return refused(fault),
    };
    let snapshot = shared.snapshot();
    let issuer = &shared.fixed.public_url;
    let query = challenge.back.split_once('?').map_or("", |(_, query)| query);
    let text = answered.error_description.unwrap_or_else(|| "the user did not sign in".to_owned());
    let url = match AuthorizationRequest::parse(query, &snapshot.config.rules, issuer, true) {
        Ok(request) => request.way_back.error(issuer, ResponseError::AccessDenied, &text),
        Err(_) => issuer.clone(),
    };
    Json(json!({ "redirect_to": url })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anybody_can_point_here_and_a_page_of_another_origin_are_refused() {
        for (host, origin, passes) in [
            ("127.0.0.1:9090", None, true),
            ("10.0.0.5", None, true),
            ("[::1]:9090", None, true),
            ("localhost:9090", None, true),
            ("LOCALHOST", None, true),
            ("a.localhost", None, true),
            ("evil.example:9090", None, false),
            ("127.0.0.1.evil.example", None, false),
            ("localhost.evil.example", None, false),
            ("evil-localhost", None, false),
            ("", None, false),
            ("127.0.0.1:9090", Some("http://127.0.0.1:9090"), true),
            ("localhost:9090", Some("https://localhost:9090"), true),
            ("127.0.0.1:9090", Some("http://127.0.0.1:8080"), false),
            ("127.0.0.1:9090", Some("http://evil.example"), false),
            ("127.0.0.1:9090", Some("null"), false),
            ("127.0.0.1:9090", Some("file://127.0.0.1:9090"), false),
            ("127.0.0.1:9090", Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let checked = check_origin(&headers);
            assert_eq!(checked.is_ok(), passes, "{host} {origin:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://127.0.0.1"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(check_origin(&headers).is_err());
    }
}
