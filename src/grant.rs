//! Token requests: from a form to a grant, or to an error of RFC 6749 that tells an authenticated client what was wrong and
//! anybody else nothing.
//!
//! Owns RFC 6749 §2.3, §3.2, §4.4, §5; knows nothing of HTTP servers, stores or clocks.

pub mod authentication;
pub mod client_credentials;
pub mod form;

use std::borrow::Cow;

use serde::Serialize;

use crate::client::GrantType;
use authentication::Credentials;
use form::Form;

/// Error codes of RFC 6749 §5.2 and RFC 8707 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A parameter is missing, doubled or malformed.
    InvalidRequest,
    /// Client authentication failed.
    InvalidClient,
    /// The grant is not good.
    InvalidGrant,
    /// The client may not use this grant.
    UnauthorizedClient,
    /// The grant type is unknown or off.
    UnsupportedGrantType,
    /// A scope is unknown, malformed or not held.
    InvalidScope,
    /// The resource is unknown.
    InvalidTarget,
    /// We cannot answer now.
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
    /// For the client's developer; says nothing about clients to one that did not authenticate.
    pub description: Cow<'static, str>,
    /// For the log alone.
    pub cause: Option<&'static str>,
}

impl GrantError {
    /// An error whose description may be seen by the one who asked.
    #[must_use]
    pub fn new(code: ErrorCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self { code, description: visible(description.into()), cause: None }
    }

    /// A failed authentication: one text for all causes, the cause for the log.
    #[must_use]
    pub const fn unauthenticated(cause: &'static str) -> Self {
        Self {
            code: ErrorCode::InvalidClient,
            description: Cow::Borrowed("client authentication failed"),
            cause: Some(cause),
        }
    }

    /// The body (RFC 6749 §5.2).
    #[must_use]
    pub fn body(&self) -> String {
        serde_json::json!({ "error": self.code.label(), "error_description": self.description }).to_string()
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

/// A parsed token request.
#[derive(Debug)]
pub struct TokenRequest {
    /// Who says to ask.
    pub credentials: Credentials,
    /// `grant_type`, as sent.
    pub grant_type: Option<String>,
    /// `scope`, as sent; absent when empty (RFC 6749 §3.1).
    pub scope: Option<String>,
    /// `resource` (RFC 8707).
    pub resource: Option<String>,
}

impl TokenRequest {
    /// Parses a token request. Unknown parameters are ignored, a parameter twice is an error (RFC 6749 §3.2).
    ///
    /// # Errors
    /// `invalid_request` for a wrong content type, a malformed body, credentials in two ways that differ;
    /// `invalid_client` without credentials.
    pub fn parse<'a>(
        content_type: Option<&str>,
        authorization: impl Iterator<Item = &'a [u8]>,
        body: &[u8],
    ) -> Result<Self, GrantError> {
        let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
        if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
            let text = "send the parameters in the body as application/x-www-form-urlencoded";
            return Err(GrantError::new(ErrorCode::InvalidRequest, text));
        }
        let form = Form::parse(body)?;
        Ok(Self {
            credentials: Credentials::parse(authorization, &form)?,
            grant_type: form.value("grant_type").map(str::to_owned),
            scope: form.value("scope").map(str::to_owned),
            resource: form.value("resource").map(str::to_owned),
        })
    }

    /// The grant type asked for, once the client has authenticated.
    ///
    /// # Errors
    /// `invalid_request` without one, `unsupported_grant_type` for one that is unknown or off.
    pub fn grant(&self, enabled: &std::collections::BTreeSet<GrantType>) -> Result<GrantType, GrantError> {
        let Some(name) = &self.grant_type else {
            return Err(GrantError::new(ErrorCode::InvalidRequest, "the parameter grant_type is missing"));
        };
        let grant = GrantType::ALL.into_iter().find(|grant| grant.parameter() == name && enabled.contains(grant));
        grant.ok_or_else(|| {
            let on: Vec<&str> = enabled.iter().map(|grant| grant.parameter()).collect();
            let text = format!("this server does not offer that grant_type; it offers: {}", on.join(", "));
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
    /// What was granted, always.
    pub scope: &'a str,
}
