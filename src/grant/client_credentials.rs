//! The client credentials grant (RFC 6749 §4.4).

use super::{CLIENT_INACTIVE, ErrorCode, GrantError, Granted, TokenRequest, resource, scope_of};
use crate::client::{Client, GrantType};
use crate::policy::Rules;

/// Checks the request of an authenticated client.
///
/// # Errors
/// `unauthorized_client` with the reason, `invalid_scope` with the scope, `invalid_target`.
pub fn grant(
    client: &Client,
    rules: &Rules,
    request: &TokenRequest,
    public_url: &str,
) -> Result<Granted, GrantError> {
    let unauthorized = |text: String| GrantError::new(ErrorCode::UnauthorizedClient, text);
    if !client.active {
        return Err(unauthorized(CLIENT_INACTIVE.to_owned()));
    }
    if client.public || !client.grants.contains(&GrantType::ClientCredentials) {
        return Err(unauthorized(
            "this client is not registered for the grant client_credentials".to_owned(),
        ));
    }
    if let Some(name) = &client.application_user
        && !rules.registry().user(name.as_str()).is_some_and(|user| user.usable())
    {
        return Err(unauthorized(format!(
            "the application user {name} of this client is inactive or locked"
        )));
    }
    let audience = match &request.resource {
        None => None,
        Some(resource) => resource::find(rules, public_url, resource)
            .map_err(|text| GrantError::new(ErrorCode::InvalidTarget, text))?,
    };
    let scopes = scope_of(client, rules.registry(), request.scope.as_deref());
    Ok(Granted {
        client: client.id.to_string(),
        subject: client.id.to_string(),
        scopes: scopes.map_err(|text| GrantError::new(ErrorCode::InvalidScope, text))?,
        audience: audience.unwrap_or_else(|| public_url.to_owned()),
        lifespan: client.access_token_lifespan,
        authorization: None,
    })
}
