//! Token requests: from a form to a grant, or to an error of RFC 6749 that explains the fault to an
//! authenticated client and reveals nothing to anyone else.
//!
//! Owns RFC 6749 §2.3, §3.2, §4.4, §5; knows nothing of HTTP servers, stores or clocks.

pub mod assertion;
pub mod authentication;
pub mod authorization;
pub mod authorization_request;
pub mod client_credentials;
pub mod form;
pub mod opaque;
pub mod pkce;
pub mod redirect;
pub mod resource;

use std::borrow::Cow;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::client::{Client, GrantType, Registry};
use crate::scope::ScopeSet;
use form::Form;

/// The refusal of a client that is switched off.
pub const CLIENT_INACTIVE: &str = "this client is not active";
/// The refusal of a refresh token that was used already (RFC 9700 §4.14.2).
pub const REFRESH_REPLAYED: &str = "the refresh token has been used before";
/// How long somebody stays signed in, seconds; and how old the roles of a user made at login may be
/// for a new token.
pub const SESSION: i64 = 8 * 3_600;

/// Error codes of RFC 6749 §5.2 and RFC 8707 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A parameter is missing, doubled or malformed.
    InvalidRequest,
    /// Client authentication failed.
    InvalidClient,
    /// The grant is not valid.
    InvalidGrant,
    /// The client is not allowed to use this grant.
    UnauthorizedClient,
    /// The grant type is unknown or disabled.
    UnsupportedGrantType,
    /// A scope is unknown, malformed or not held.
    InvalidScope,
    /// The resource is unknown.
    InvalidTarget,
    /// The server cannot answer now.
    TemporarilyUnavailable,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 8] = [
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::InvalidGrant,
        Self::UnauthorizedClient,
        Self::UnsupportedGrantType,
        Self::InvalidScope,
        Self::InvalidTarget,
        Self::TemporarilyUnavailable,
    ];

    /// The code on the wire and as a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }

    /// The HTTP status (RFC 6749 §5.2).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidClient => 401,
            Self::TemporarilyUnavailable => 503,
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::InvalidScope
            | Self::InvalidTarget => 400,
        }
    }
}

/// A refused token request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantError {
    /// The code.
    pub code: ErrorCode,
    /// For the client's developer; reveals nothing about clients without authentication.
    pub description: Cow<'static, str>,
    /// Only for the log.
    pub cause: Option<&'static str>,
    /// Seconds to wait after too many attempts: 429 instead of the code's own status.
    pub retry_after: Option<u32>,
}

impl GrantError {
    /// An error whose description the client may see.
    #[must_use]
    pub fn new(code: ErrorCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self { code, description: visible(description.into()), cause: None, retry_after: None }
    }

    /// A failed authentication: one text for all causes, the cause only for the log.
    #[must_use]
    pub const fn unauthenticated(cause: &'static str) -> Self {
        Self {
            code: ErrorCode::InvalidClient,
            description: Cow::Borrowed("client authentication failed"),
            cause: Some(cause),
            retry_after: None,
        }
    }

    /// The same with a description that says what is wrong with the credentials as they were sent.
    /// It must not depend on which clients exist.
    #[must_use]
    pub fn described(self, description: &'static str) -> Self {
        Self { description: Cow::Borrowed(description), ..self }
    }

    /// Too many failures before: nothing was checked.
    #[must_use]
    pub const fn too_many(wait: u32, cause: &'static str) -> Self {
        Self {
            code: ErrorCode::TemporarilyUnavailable,
            description: Cow::Borrowed(
                "too many failed attempts; wait as long as Retry-After says",
            ),
            cause: Some(cause),
            retry_after: Some(wait),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        if self.retry_after.is_some() { 429 } else { self.code.status() }
    }

    /// The body (RFC 6749 §5.2).
    #[must_use]
    pub fn body(&self) -> String {
        serde_json::json!({ "error": self.code.label(), "error_description": self.description })
            .to_string()
    }
}

/// `error_description` allows %x20-21 / %x23-5B / %x5D-7E (RFC 6749 §5.2).
fn visible(text: Cow<'static, str>) -> Cow<'static, str> {
    let allowed = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
    if text.chars().all(allowed) {
        return text;
    }
    text.chars().map(|c| if allowed(c) { c } else { '?' }).collect::<String>().into()
}

/// Parses a form body of the one allowed content type (RFC 6749 §3.2).
///
/// # Errors
/// `invalid_request` for another content type, or a malformed body.
pub fn read_form(content_type: Option<&str>, body: &[u8]) -> Result<Form, GrantError> {
    let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    if !essence
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    {
        let text = "send the parameters in the body as application/x-www-form-urlencoded";
        return Err(GrantError::new(ErrorCode::InvalidRequest, text));
    }
    Form::parse(body)
}

/// A parsed token request.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// `grant_type`, as sent.
    pub grant_type: Option<String>,
    /// `scope`, as sent; absent when empty (RFC 6749 §3.1).
    pub scope: Option<String>,
    /// `resource` (RFC 8707).
    pub resource: Option<String>,
    /// `code` (RFC 6749 §4.1.3).
    pub code: Option<Zeroizing<String>>,
    /// `redirect_uri`.
    pub redirect_uri: Option<String>,
    /// `code_verifier` (RFC 7636 §4.5).
    pub code_verifier: Option<Zeroizing<String>>,
    /// `refresh_token` (RFC 6749 §6).
    pub refresh_token: Option<Zeroizing<String>>,
    /// `username` (RFC 6749 §4.3.2).
    pub username: Option<String>,
    /// `password`.
    pub password: Option<Zeroizing<String>>,
    /// `assertion` (RFC 7523 §2.1).
    pub assertion: Option<Zeroizing<String>>,
}

/// The claims of a granted token, except time, key and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The client.
    pub client: String,
    /// The user that the token acts for, or the client itself for client credentials (decisions.md,
    /// "Audience of our tokens").
    pub subject: String,
    /// Scopes.
    pub scopes: ScopeSet,
    /// `aud`.
    pub audience: String,
    /// Life of the token, seconds.
    pub lifespan: u32,
    /// The authorization that it is issued for, if a user gave one.
    pub authorization: Option<String>,
}

/// The scopes that a client gets for a request: among those it holds; all of them if it requests
/// none (RFC 6749 §3.3). Ignored ones are left out, and count as requested.
///
/// # Errors
/// Says which scope it does not hold, or what is wrong with the value.
pub fn scope_of(
    client: &Client,
    registry: &Registry,
    requested: Option<&str>,
) -> Result<ScopeSet, String> {
    let all = || client.scopes.iter().cloned().collect();
    let Some(requested) = requested else { return Ok(all()) };
    let requested = ScopeSet::parse(requested).map_err(|fault| fault.to_string())?;
    if requested.is_empty() {
        return Ok(all());
    }
    let requested = registry.without_ignored(&requested);
    match requested.as_slice().iter().find(|scope| !client.scopes.contains(*scope)) {
        None => Ok(requested),
        Some(unheld) => Err(format!("this client does not hold the scope {unheld}")),
    }
}

impl TokenRequest {
    /// The token request in a form. Unknown parameters are ignored (RFC 6749 §3.2).
    #[must_use]
    pub fn of(form: &Form) -> Self {
        let secret = |name: &str| form.value(name).map(|value| value.to_owned().into());
        let text = |name: &str| form.value(name).map(str::to_owned);
        Self {
            grant_type: text("grant_type"),
            scope: text("scope"),
            resource: text("resource"),
            code: secret("code"),
            redirect_uri: text("redirect_uri"),
            code_verifier: secret("code_verifier"),
            refresh_token: secret("refresh_token"),
            username: text("username"),
            password: secret("password"),
            assertion: secret("assertion"),
        }
    }

    /// The requested grant type, once the client has authenticated.
    ///
    /// # Errors
    /// `invalid_request` without one, `unsupported_grant_type` if it is unknown or disabled.
    pub fn grant(
        &self,
        enabled: &std::collections::BTreeSet<GrantType>,
    ) -> Result<GrantType, GrantError> {
        let Some(name) = &self.grant_type else {
            return Err(GrantError::new(
                ErrorCode::InvalidRequest,
                "the parameter grant_type is missing",
            ));
        };
        let grant = GrantType::ALL
            .into_iter()
            .find(|grant| grant.parameter() == name && enabled.contains(grant));
        grant.ok_or_else(|| {
            let on: Vec<&str> = enabled.iter().map(|grant| grant.parameter()).collect();
            let text =
                format!("this server does not offer that grant_type; it offers: {}", on.join(", "));
            GrantError::new(ErrorCode::UnsupportedGrantType, text)
        })
    }
}

/// A successful answer (RFC 6749 §5.1): no member is ever null.
#[derive(Debug, Serialize)]
pub struct TokenResponse<'a> {
    /// The token.
    pub access_token: &'a str,
    /// `Bearer`, spelled so.
    pub token_type: &'static str,
    /// Seconds.
    pub expires_in: u32,
    /// The granted scopes, always present.
    pub scope: &'a str,
    /// The refresh token, where one is issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<&'a str>,
    /// Its lifespan, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token_expires_in: Option<i64>,
}
