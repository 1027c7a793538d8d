//! The revocation endpoint (RFC 7009): `/oauth_revoke_token.do`, `/oauth2/revoke`.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::authenticate::authenticate;
use super::token::{read_form, stored};
use super::{Caller, Outcome, Posted, Server, answered, json, no_store};
use crate::client::Client;
use crate::grant::authentication::Credentials;
use crate::grant::opaque::Kind;
use crate::grant::{self, ErrorCode, GrantError};
use crate::names::Timestamp;
use crate::reason::Reason;
use crate::request::credential::BearerToken;
use crate::store::revocations::{Revocation, Subject};
use crate::system::clock;
use crate::token::Facts;

pub(super) async fn revoke(posted: Posted) -> Response {
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
    end(server, caller, &client, &token, now).await?;
    // Also for a token that nobody knows (RFC 7009 §2.2); some clients parse the body.
    let mut response = no_store(json(StatusCode::OK, "{}".to_owned(), caller));
    response
        .extensions_mut()
        .insert(Outcome { client: Some(client.id.to_string()), ..Outcome::default() });
    Ok(response)
}

/// The token and the client of a request to revoke or to introspect. `token_type_hint` is not
/// needed: a token says what it is.
pub(super) async fn read(
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<(zeroize::Zeroizing<String>, Credentials), GrantError> {
    let body = read_form(uri, body).await?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let form = grant::read_form(content_type, &body)?;
    let authorization = headers.get_all(header::AUTHORIZATION);
    let credentials = Credentials::parse(authorization.iter().map(HeaderValue::as_bytes), &form)?;
    let token = form.value("token");
    let token = token
        .ok_or_else(|| {
            GrantError::new(ErrorCode::InvalidRequest, "the parameter token is missing")
        })?
        .to_owned();
    Ok((token.into(), credentials))
}

/// The facts of an access token of ours; `None` for one that is not good, which is not the caller's
/// to know why.
///
/// # Errors
/// The store does not answer.
pub(super) async fn facts_of(
    server: &Server,
    caller: &Caller,
    token: &str,
) -> Result<Option<std::sync::Arc<Facts>>, GrantError> {
    let Ok(token) = BearerToken::parse(token) else { return Ok(None) };
    match server
        .shared
        .tokens
        .verify(&caller.snapshot.issuers, caller.snapshot.rules(), &token, None, clock::now())
        .await
    {
        Ok(facts) => Ok(Some(facts).filter(|facts| facts.issuer.is_own())),
        Err(refusal) if refusal.reason == Reason::StoreUnavailable => {
            Err(super::issue::unavailable("the store does not answer"))
        }
        Err(_) => Ok(None),
    }
}

async fn end(
    server: &Server,
    caller: &Caller,
    client: &Client,
    token: &str,
    now: Timestamp,
) -> Result<(), GrantError> {
    let store = &server.shared.store;
    if let Some(digest) = Kind::Refresh.digest(token) {
        // A refresh token takes the access tokens with it (RFC 7009 §2.1).
        let revoked = store
            .revoke_refresh(digest, client.id.to_string(), now)
            .await
            .map_err(|fault| stored(&fault))?;
        if let Some(revocation) = revoked {
            server.shared.tokens.revocations.add(&revocation);
        }
        return Ok(());
    }
    let Some(facts) = facts_of(server, caller, token).await? else { return Ok(()) };
    // A token of another client is left alone, and it is not said whose it is.
    let (Some(id), true) = (&facts.id, facts.client.as_deref() == Some(client.id.as_str())) else {
        return Ok(());
    };
    let revocation =
        Revocation { expires: facts.expires, ..Revocation::now(Subject::Token(id.clone()), now) };
    store.revoke(revocation.clone()).await.map_err(|fault| stored(&fault))?;
    server.shared.tokens.revocations.add(&revocation);
    Ok(())
}
