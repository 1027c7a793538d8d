//! Why a request would be permitted or refused now, by the rules, keys, revocations and blocks in
//! force here.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Json, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::console::Console;
use super::entry::said;
use crate::config::raw::test::RawTokenSample;
use crate::policy::decide::{Moment, Opened, open};
use crate::policy::sample::{Presented, Sample, check_override, parse_line};
use crate::request::credential::BearerToken;
use crate::system::clock;
use crate::tooling::explain;

/// What is to be explained.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
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
pub(super) async fn explain(
    State(console): State<Arc<Console>>,
    Json(asked): Json<Question>,
) -> Response {
    let shared = console.shared.clone();
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
