//! The authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2): the client's request
//! for a user's consent.
//!
//! There is no redirect until the redirect URI is known to be the client's (RFC 6749 §3.1.2.4):
//! before, a fault is shown on a page; after, every fault is returned to the client.

use std::sync::Arc;

use super::form::Form;
use super::pkce::Challenge;
use super::{redirect, resource, scope_of};
use crate::client::{Client, GrantType};
use crate::policy::Rules;
use crate::scope::ScopeSet;

/// Longest `state` accepted, in bytes.
const MAX_STATE: usize = 2_048;

/// A request that may be shown to the user.
#[derive(Debug)]
pub struct AuthorizationRequest {
    /// The client.
    pub client: Arc<Client>,
    /// The destination of the response, and the client's state.
    pub way_back: WayBack,
    /// The redirect URI as sent; the token request must repeat it (RFC 6749 §4.1.3).
    pub redirect_sent: bool,
    /// The requested scopes.
    pub scopes: ScopeSet,
    /// The one API requested (RFC 8707).
    pub resource: Option<String>,
    /// The PKCE challenge.
    pub challenge: Option<Challenge>,
}

/// The destination of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// The redirect URI, one of the client's.
    pub redirect_uri: String,
    /// Returned byte for byte.
    pub state: Option<String>,
}

/// Error codes of an authorization response (RFC 6749 §4.1.2.1, RFC 8707 §2, RFC 9101 §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// A parameter is missing, doubled or malformed.
    InvalidRequest,
    /// The client is not allowed to use this grant.
    UnauthorizedClient,
    /// The user refused.
    AccessDenied,
    /// Only `code` is supported.
    UnsupportedResponseType,
    /// A scope is unknown, malformed or not held.
    InvalidScope,
    /// The resource is not one of ours.
    InvalidTarget,
    /// Request objects are not supported.
    RequestNotSupported,
    /// The server cannot answer now.
    TemporarilyUnavailable,
}

impl ResponseError {
    /// The code on the wire.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::AccessDenied => "access_denied",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::RequestNotSupported => "request_not_supported",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }
}

/// Why a request is not shown to the user.
#[derive(Debug)]
pub enum Fault {
    /// There is no redirect: a page shows the fault.
    Page(String),
    /// The fault is returned to the client.
    Redirect(WayBack, ResponseError, String),
}

impl WayBack {
    /// The URL of a response; each includes `iss` (RFC 9207).
    #[must_use]
    pub fn response(&self, issuer: &str, parameters: &[(&str, &str)]) -> String {
        let mut all: Vec<(&str, &str)> = parameters.to_vec();
        all.extend(self.state.as_deref().map(|state| ("state", state)));
        all.push(("iss", issuer));
        redirect::with_response(&self.redirect_uri, &all)
    }

    /// The URL of an error response.
    #[must_use]
    pub fn error(&self, issuer: &str, error: ResponseError, description: &str) -> String {
        self.response(issuer, &[("error", error.label()), ("error_description", description)])
    }
}

impl AuthorizationRequest {
    /// Parses the query of an authorization request.
    ///
    /// # Errors
    /// Says what is wrong, and where it is reported.
    pub fn parse(
        query: &str,
        rules: &Rules,
        public_url: &str,
        enabled: bool,
    ) -> Result<Self, Fault> {
        let page = |text: &str| Fault::Page(text.to_owned());
        if !enabled {
            return Err(page("This server does not offer the authorization_code grant."));
        }
        let (form, fault) = Form::read(query.as_bytes());
        if let Some((name, _)) = fault
            .as_ref()
            .filter(|(name, _)| matches!(name.as_str(), "" | "client_id" | "redirect_uri"))
        {
            return Err(Fault::Page(match name.as_str() {
                "" => "The address of this page cannot be read.".to_owned(),
                name => format!("The parameter {name} occurs twice."),
            }));
        }
        let id =
            form.value("client_id").ok_or_else(|| page("The parameter client_id is missing."))?;
        let client = rules
            .registry()
            .client(id)
            .ok_or_else(|| page("The parameter client_id names no application known here."))?;
        let way_back = WayBack {
            redirect_uri: redirect_uri(client, form.value("redirect_uri")).map_err(Fault::Page)?,
            state: form.value("state").map(str::to_owned),
        };
        let back =
            |error: ResponseError, text: String| Fault::Redirect(way_back.clone(), error, text);
        if let Some((_, fault)) = fault {
            return Err(back(ResponseError::InvalidRequest, fault.description.into_owned()));
        }
        Self::read(client, &form, rules, public_url)
            .map(|(scopes, resource, challenge)| Self {
                client: client.clone(),
                way_back: way_back.clone(),
                redirect_sent: form.value("redirect_uri").is_some(),
                scopes,
                resource,
                challenge,
            })
            .map_err(|(error, text)| back(error, text))
    }

    #[expect(clippy::type_complexity, reason = "the parts of a request that can be wrong")]
    fn read(
        client: &Client,
        form: &Form,
        rules: &Rules,
        public_url: &str,
    ) -> Result<(ScopeSet, Option<String>, Option<Challenge>), (ResponseError, String)> {
        let fault = |error, text: &str| Err((error, text.to_owned()));
        if form.value("state").is_some_and(|state| state.len() > MAX_STATE) {
            return fault(ResponseError::InvalidRequest, "state is longer than 2048 bytes");
        }
        if form.value("request").or(form.value("request_uri")).is_some() {
            return fault(
                ResponseError::RequestNotSupported,
                "request objects are not offered; send plain parameters",
            );
        }
        match form.value("response_type") {
            Some("code") => {}
            Some(_) => {
                return fault(
                    ResponseError::UnsupportedResponseType,
                    "the one response_type offered is code",
                );
            }
            None => {
                return fault(
                    ResponseError::InvalidRequest,
                    "the parameter response_type is missing",
                );
            }
        }
        if !client.active {
            return fault(ResponseError::UnauthorizedClient, "this client is not active");
        }
        if !client.grants.contains(&GrantType::AuthorizationCode) {
            let text = "this client is not registered for the grant authorization_code";
            return fault(ResponseError::UnauthorizedClient, text);
        }
        let challenge =
            challenge(client, form).map_err(|text| (ResponseError::InvalidRequest, text))?;
        let scopes = scope_of(client, form.value("scope"))
            .map_err(|text| (ResponseError::InvalidScope, text))?;
        let resource = match form.value("resource") {
            None => None,
            Some(text) => resource::find(rules, public_url, text)
                .map_err(|text| (ResponseError::InvalidTarget, text))?,
        };
        Ok((scopes, resource, challenge))
    }
}

/// The redirect URI to use: the one sent, if it is registered; if none was sent, the only
/// registered one.
fn redirect_uri(client: &Client, sent: Option<&str>) -> Result<String, String> {
    match (sent, client.redirect_urls.as_slice()) {
        (_, []) => Err("This application has no redirect_urls in its registration.".to_owned()),
        (Some(sent), registered)
            if registered.iter().any(|one| redirect::is_same(one, sent, client.public)) =>
        {
            Ok(sent.to_owned())
        }
        (Some(_), _) => Err(
            "The parameter redirect_uri is none of the redirect_urls of this application; they \
                are compared byte for byte."
                .to_owned(),
        ),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err("This application has several redirect_urls: the parameter redirect_uri \
            must name one."
            .to_owned()),
    }
}

fn challenge(client: &Client, form: &Form) -> Result<Option<Challenge>, String> {
    match form.value("code_challenge") {
        Some(challenge) => {
            Ok(Some(Challenge::parse(challenge, form.value("code_challenge_method"))?))
        }
        None if form.value("code_challenge_method").is_some() => {
            Err("a code_challenge_method without a code_challenge".to_owned())
        }
        None if client.require_pkce => Err(
            "the parameter code_challenge is missing: this client must use PKCE with S256 (RFC \
                7636)"
                .to_owned(),
        ),
        None => Ok(None),
    }
}
