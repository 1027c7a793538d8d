//! The introspection endpoint (RFC 7662): `/oauth2/introspect`.
//!
//! A client learns about its own tokens alone. Whatever else is asked gives exactly
//! `{"active":false}`.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json as value};

use super::client_form::ClientForm;
use super::revoke::facts_of;
use super::token::stored;
use super::{json, no_store};
use crate::grant::authorization::Authorization;
use crate::grant::opaque::Kind;
use crate::grant::{ErrorCode, GrantError};
use crate::policy::principal;

pub(super) async fn introspect(asked: ClientForm) -> Response {
    let described = describe(&asked).await.map(|known| {
        let body = known.unwrap_or_else(|| value!({ "active": false }));
        no_store(json(StatusCode::OK, body.to_string(), &asked.caller))
    });
    asked.answer(described)
}

async fn describe(asked: &ClientForm) -> Result<Option<Value>, GrantError> {
    let ClientForm { server, caller, client, now, .. } = asked;
    let now = *now;
    if client.public || !client.active {
        // Without a secret anybody could ask (RFC 7662 §2.1).
        let text = "introspection is for active clients with a secret";
        return Err(GrantError::new(ErrorCode::UnauthorizedClient, text));
    }
    let token = asked.token()?;
    if let Some(digest) = Kind::Refresh.digest(token) {
        let found = server.shared.store.refresh(digest).await.map_err(|fault| stored(&fault))?;
        let registry = caller.snapshot.rules().registry();
        let good = |given: &Authorization| {
            given.client == client.id.as_str()
                && registry.account(&given.subject).is_some_and(|user| user.usable())
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
