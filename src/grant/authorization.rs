//! What a user allowed a client, and which tokens it may get for that: checks of the code's
//! redemption and of the refresh.

use super::pkce::Challenge;
use super::{
    CLIENT_INACTIVE, ErrorCode, GrantError, Granted, SESSION, TokenRequest, resource, scope_of,
};
use crate::client::{Client, GrantType, Registry};
use crate::names::Timestamp;
use crate::policy::Rules;
use crate::scope::ScopeSet;

/// A user's consent for a client. Its codes, refresh tokens and access tokens end with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Its id, also in its JWTs.
    pub id: String,
    /// The client.
    pub client: String,
    /// The user.
    pub subject: String,
    /// The allowed scopes.
    pub scopes: ScopeSet,
    /// The one API it is for; all of ours if `None`.
    pub resource: Option<String>,
}

/// A code as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCode {
    /// Its authorization.
    pub authorization: Authorization,
    /// The redirect URI of the authorization request, if it was sent.
    pub redirect_uri: Option<String>,
    /// Its PKCE challenge.
    pub challenge: Option<Challenge>,
}

fn invalid(text: &'static str) -> GrantError {
    GrantError::new(ErrorCode::InvalidGrant, text)
}

/// Checks the redemption of a live code (RFC 6749 §4.1.3, RFC 7636 §4.6, RFC 9700 §2.1.1).
///
/// # Errors
/// `invalid_grant` with the cause, `unauthorized_client`, `invalid_target`.
pub fn redeem(
    code: &IssuedCode,
    client: &Client,
    registry: &Registry,
    request: &TokenRequest,
    public_url: &str,
    now: Timestamp,
) -> Result<Granted, GrantError> {
    may_use(client, GrantType::AuthorizationCode)?;
    match (&code.redirect_uri, &request.redirect_uri) {
        (Some(sent), Some(repeated)) if sent == repeated => {}
        (Some(_), _) => {
            return Err(invalid("redirect_uri is not the one of the authorization request"));
        }
        (None, Some(_)) => {
            return Err(invalid(
                "the authorization request had no redirect_uri; leave it out here too",
            ));
        }
        (None, None) => {}
    }
    match (&code.challenge, &request.code_verifier) {
        (Some(challenge), Some(verifier)) if challenge.proven_by(verifier) => {}
        (Some(_), Some(_)) => {
            return Err(invalid("code_verifier does not fit the code_challenge (RFC 7636)"));
        }
        (Some(_), None) => return Err(invalid("code_verifier is missing (RFC 7636)")),
        // A verifier without a challenge: the challenge was removed from the request on its way
        // (RFC 9700 §4.8.2).
        (None, Some(_)) => {
            return Err(invalid(
                "a code_verifier, and the authorization request had no code_challenge",
            ));
        }
        (None, None) => {}
    }
    granted(
        &code.authorization,
        client,
        registry,
        None,
        request.resource.as_deref(),
        public_url,
        now,
    )
}

/// Checks a refresh (RFC 6749 §6): the same client, never a wider scope.
///
/// # Errors
/// `invalid_grant`, `invalid_scope`, `invalid_target`, `unauthorized_client`.
pub fn refresh(
    authorization: &Authorization,
    client: &Client,
    registry: &Registry,
    request: &TokenRequest,
    public_url: &str,
    now: Timestamp,
) -> Result<Granted, GrantError> {
    may_use(client, GrantType::RefreshToken)?;
    granted(
        authorization,
        client,
        registry,
        request.scope.as_deref(),
        request.resource.as_deref(),
        public_url,
        now,
    )
}

/// Checks a grant without a page: by the user's password (RFC 6749 §4.3), or by an assertion of a
/// client that may act for users (RFC 7523 §2.1). `id` is that of the new authorization.
///
/// # Errors
/// `invalid_grant`, `invalid_scope`, `invalid_target`, `unauthorized_client`.
pub fn direct(
    client: &Client,
    subject: &str,
    id: String,
    rules: &Rules,
    request: &TokenRequest,
    public_url: &str,
    now: Timestamp,
) -> Result<(Authorization, Granted), GrantError> {
    let scopes = scope_of(client, rules.registry(), request.scope.as_deref());
    let scopes = scopes.map_err(|text| GrantError::new(ErrorCode::InvalidScope, text))?;
    let resource = match &request.resource {
        None => None,
        Some(text) => resource::find(rules, public_url, text)
            .map_err(|text| GrantError::new(ErrorCode::InvalidTarget, text))?,
    };
    let (client_id, subject) = (client.id.to_string(), subject.to_owned());
    let authorization = Authorization { id, client: client_id, subject, scopes, resource };
    let granted = granted(&authorization, client, rules.registry(), None, None, public_url, now)?;
    Ok((authorization, granted))
}

/// Whether a client may use a grant now.
///
/// # Errors
/// `unauthorized_client` with the reason.
pub fn may_use(client: &Client, grant: GrantType) -> Result<(), GrantError> {
    let unauthorized = |text: String| Err(GrantError::new(ErrorCode::UnauthorizedClient, text));
    if !client.active {
        return unauthorized(CLIENT_INACTIVE.to_owned());
    }
    if !client.grants.contains(&grant) {
        return unauthorized(format!(
            "this client is not registered for the grant {}",
            grant.as_str()
        ));
    }
    Ok(())
}

fn granted(
    authorization: &Authorization,
    client: &Client,
    registry: &Registry,
    scope: Option<&str>,
    resource: Option<&str>,
    public_url: &str,
    now: Timestamp,
) -> Result<Granted, GrantError> {
    let user = registry.account(&authorization.subject).filter(|user| user.usable());
    let user = user.ok_or_else(|| invalid("the user is inactive or locked"))?;
    // Its groups are known from its login alone: whoever lost them at the provider must not keep
    // their roles for as long as refresh tokens are renewed.
    if user.made.as_ref().is_some_and(|made| now >= made.signed_in.plus(SESSION)) {
        return Err(invalid("the user has to sign in again at the login provider"));
    }
    let audience = authorization.resource.as_deref().unwrap_or(public_url);
    if resource.is_some_and(|resource| resource.trim_end_matches('/') != audience) {
        let text = format!("this grant is for {audience}; leave resource out, or name that");
        return Err(GrantError::new(ErrorCode::InvalidTarget, text));
    }
    // Scopes that the client has lost since then are not granted again.
    let held =
        authorization.scopes.as_slice().iter().filter(|scope| client.scopes.contains(*scope));
    let held: ScopeSet = held.cloned().collect();
    let scopes = match scope {
        None => held,
        Some(text) => narrower(&held, registry, text)?,
    };
    Ok(Granted {
        client: client.id.to_string(),
        subject: authorization.subject.clone(),
        scopes,
        audience: audience.to_owned(),
        lifespan: client.access_token_lifespan,
        authorization: Some(authorization.id.clone()),
    })
}

fn narrower(held: &ScopeSet, registry: &Registry, text: &str) -> Result<ScopeSet, GrantError> {
    let invalid = |text: String| GrantError::new(ErrorCode::InvalidScope, text);
    let asked = ScopeSet::parse(text).map_err(|fault| invalid(fault.to_string()))?;
    if asked.is_empty() {
        return Ok(held.clone());
    }
    // What is ignored counts as asked: alone, it gives nothing.
    let asked = registry.without_ignored(&asked);
    match asked.as_slice().iter().find(|scope| !held.contains(scope.as_str())) {
        None => Ok(asked),
        Some(more) => Err(invalid(format!("the grant does not include the scope {more}"))),
    }
}

#[cfg(test)]
mod tests;
