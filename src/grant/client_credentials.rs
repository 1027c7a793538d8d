//! The client credentials grant (RFC 6749 §4.4).

use super::{ErrorCode, GrantError, TokenRequest};
use crate::client::{Client, GrantType, Registry};
use crate::scope::ScopeSet;

/// What is granted: the claims of the token but for time, key and id.
#[derive(Debug)]
pub struct Granted {
    /// The client; also the subject (decisions.md, "Audience of our tokens").
    pub client: String,
    /// Scopes: those asked for, or all that the client holds.
    pub scopes: ScopeSet,
    /// Life of the token, seconds.
    pub lifespan: u32,
}

/// Judges the request of an authenticated client.
///
/// # Errors
/// `unauthorized_client` with what keeps it from the grant, `invalid_scope` with the scope, `invalid_target`.
pub fn grant(
    client: &Client,
    registry: &Registry,
    request: &TokenRequest,
    audience: &str,
) -> Result<Granted, GrantError> {
    let unauthorized = |text: String| GrantError::new(ErrorCode::UnauthorizedClient, text);
    if !client.active {
        return Err(unauthorized("this client is not active".to_owned()));
    }
    if client.public || !client.grants.contains(&GrantType::ClientCredentials) {
        return Err(unauthorized("this client is not registered for the grant client_credentials".to_owned()));
    }
    if let Some(name) = &client.application_user
        && !registry.user(name.as_str()).is_some_and(|user| user.usable())
    {
        return Err(unauthorized(format!("the application user {name} of this client is inactive or locked")));
    }
    if request.resource.as_deref().is_some_and(|resource| resource.trim_end_matches('/') != audience) {
        let text = format!("tokens of this server are for {audience}; leave resource out, or name that");
        return Err(GrantError::new(ErrorCode::InvalidTarget, text));
    }
    Ok(Granted {
        client: client.id.to_string(),
        scopes: scopes(client, request.scope.as_deref())?,
        lifespan: client.access_token_lifespan,
    })
}

/// `scope` narrows within what the client holds; without it, all of that (RFC 6749 §3.3).
fn scopes(client: &Client, requested: Option<&str>) -> Result<ScopeSet, GrantError> {
    let Some(requested) = requested else { return Ok(client.scopes.iter().cloned().collect()) };
    let requested =
        ScopeSet::parse(requested).map_err(|fault| GrantError::new(ErrorCode::InvalidScope, fault.to_string()))?;
    match requested.as_slice().iter().find(|scope| !client.scopes.contains(*scope)) {
        None if requested.is_empty() => Ok(client.scopes.iter().cloned().collect()),
        None => Ok(requested),
        Some(unheld) => {
            let text = format!("this client does not hold the scope {unheld}");
            Err(GrantError::new(ErrorCode::InvalidScope, text))
        }
    }
}
