//! Answers of an external sign-in page. The page has the shared token.

use std::sync::Arc;

use axum::extract::{Json, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::console::Console;
use super::entry::said;
use crate::grant::authorization_request::{AuthorizationRequest, ResponseError};
use crate::server::login::{self, Challenge, Destination};

/// A challenge in the query.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    login_challenge: String,
}

/// An answer to a challenge.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answered {
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

pub(super) async fn show_login(
    State(console): State<Arc<Console>>,
    Query(asked): Query<Asked>,
) -> Response {
    let shared = &console.shared;
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

pub(super) async fn accept_login(
    State(console): State<Arc<Console>>,
    Json(answered): Json<Answered>,
) -> Response {
    let shared = &console.shared;
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
pub(super) async fn reject_login(
    State(console): State<Arc<Console>>,
    Json(answered): Json<Answered>,
) -> Response {
    let shared = &console.shared;
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
