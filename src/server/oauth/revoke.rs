//! The revocation endpoint (RFC 7009): `/oauth_revoke_token.do`, `/oauth2/revoke`.

use axum::response::Response;
use http::StatusCode;

use super::client_form::ClientForm;
use super::token::stored;
use super::{Caller, Server, json, no_store};
use crate::grant::GrantError;
use crate::grant::opaque::Kind;
use crate::reason::Reason;
use crate::request::credential::BearerToken;
use crate::store::revocations::{Revocation, Subject};
use crate::system::clock;
use crate::token::Facts;

pub(super) async fn revoke(asked: ClientForm) -> Response {
    let ended = end(&asked).await;
    // Also for a token that nobody knows (RFC 7009 §2.2); some clients parse the body.
    asked.answer(ended.map(|()| no_store(json(StatusCode::OK, "{}".to_owned(), &asked.caller))))
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

async fn end(asked: &ClientForm) -> Result<(), GrantError> {
    let ClientForm { server, caller, client, now, .. } = asked;
    let (token, now) = (asked.token()?, *now);
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
    store.revoke(revocation.clone(), None).await.map_err(|fault| stored(&fault))?;
    server.shared.tokens.revocations.add(&revocation);
    Ok(())
}
