//! The introspection endpoint (RFC 7662): `/oauth2/introspect`.
//!
//! A client learns about its own tokens alone. Whatever else is asked gives exactly
//! `{"active":false}`.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json as value};

use super::authenticate::authenticate;
use super::revoke::{facts_of, read};
use super::token::stored;
use super::{Caller, Outcome, Posted, Server, answered, json, no_store};
use crate::client::Client;
use crate::grant::authorization::Authorization;
use crate::grant::opaque::Kind;
use crate::grant::{ErrorCode, GrantError};
use crate::names::Timestamp;
use crate::policy::principal;
use crate::system::clock;

pub(super) async fn introspect(posted: Posted) -> Response {
    let Posted { server, caller, uri, headers, body } = posted;
    let answer = answer(&server, &caller, &uri, &headers, body).await;
    answered(&server, &caller, answer)
}

async fn answer(
    server: &Server,
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, GrantError> {
    let (token, credentials) = read(uri, headers, body).await?;
    let now = clock::now();
    let client = authenticate(server, caller, credentials, now).await?;
    if client.public || !client.active {
        // Without a secret anybody could ask (RFC 7662 §2.1).
        let text = "introspection is for active clients with a secret";
        return Err(GrantError::new(ErrorCode::UnauthorizedClient, text));
    }
    let known = describe(server, caller, &client, &token, now).await?;
    let body = known.unwrap_or_else(|| value!({ "active": false }));
    let mut response = no_store(json(StatusCode::OK, body.to_string(), caller));
    response
        .extensions_mut()
        .insert(Outcome { client: Some(client.id.to_string()), ..Outcome::default() });
    Ok(response)
}

async fn describe(
    server: &Server,
    caller: &Caller,
    client: &Client,
    token: &str,
    now: Timestamp,
) -> Result<Option<Value>, GrantError> {
    if let Some(digest) = Kind::Refresh.digest(token) {
        let found = server.shared.store.refresh(digest).await.map_err(|fault| stored(&fault))?;
        let registry = caller.snapshot.rules().registry();
        let good = |given: &Authorization| {
            given.client == client.id.as_str()
                && registry.user(&given.subject).is_some_and(|user| user.usable())
        };
        return Ok(found.filter(|(given, expires)| good(given) && now < *expires).map(
            |(given, expires)| {
                value!({
                    "active": true,
                    "client_id": given.client,
                    "sub": given.subject,
                    "scope": given.scopes.to_value(),
                    "exp": expires.0,
                    "iss": server.shared.fixed.public_url,
                })
            },
        ));
    }
    let Some(facts) = facts_of(server, caller, token).await? else { return Ok(None) };
    if facts.client.as_deref() != Some(client.id.as_str()) {
        return Ok(None);
    }
    // Judged as a request with it would be: time, revocation, client and user as they are now.
    let Ok(principal) = principal::identify(caller.snapshot.rules(), facts, now) else {
        return Ok(None);
    };
    let facts = principal.facts();
    Ok(Some(value!({
        "active": true,
        "token_type": "Bearer",
        "client_id": client.id.as_str(),
        "sub": facts.subject,
        "scope": principal.scopes().to_value(),
        "aud": facts.audience,
        "iss": server.shared.fixed.public_url,
        "exp": facts.expires.0,
        "iat": facts.issued.map(|at| at.0).unwrap_or_default(),
        "jti": facts.id.as_deref().unwrap_or_default(),
    })))
}
