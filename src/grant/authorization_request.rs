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
use crate::names::Timestamp;
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
    /// How the user is to sign in and consent.
    pub sign_in: SignIn,
}

/// What a request says of the user's sign-in and consent (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignIn {
    /// `prompt=none`: no page is shown.
    pub is_silent: bool,
    /// `prompt=login`: the user signs in anew. So does `max_age=0`.
    pub asks_login: bool,
    /// `prompt=consent`: the user is asked, whatever was allowed before.
    pub asks_consent: bool,
    /// `max_age`, seconds.
    pub max_age: Option<i64>,
    /// The user has signed in since then: what `max_age` became when it was first shown.
    pub since: Option<Timestamp>,
    /// The user has signed in anew, in another session than this: what `prompt=login` became.
    pub other_than: Option<String>,
}

/// The parameters that take the place of `max_age` and `prompt=login`, so that they are not asked
/// for again when the user comes back from signing in.
const SINCE: &str = "signed_in_since";
const OTHER_THAN: &str = "other_session_than";

impl SignIn {
    /// The same request after it was shown at this time, in this session of a user who had signed
    /// in: what it asks for has a place in time.
    #[must_use]
    pub fn shown(mut self, now: Timestamp, session: Option<&str>) -> Self {
        let by_age = self.max_age.take().map(|age| Timestamp(now.0.saturating_sub(age)));
        self.since = self.since.filter(|since| *since <= now).max(by_age);
        if std::mem::take(&mut self.asks_login) {
            self.other_than = session.map(str::to_owned);
        }
        self
    }

    /// Whether a sign-in at this time, in this session, will do.
    #[must_use]
    pub fn is_satisfied_by(&self, since: Timestamp, session: &str) -> bool {
        !self.asks_login
            && self.max_age.is_none()
            && self.since.is_none_or(|earliest| since >= earliest)
            && self.other_than.as_deref() != Some(session)
    }

    fn parse(form: &Form) -> Result<Self, String> {
        let mut asked = Self::default();
        let prompts: Vec<&str> = form.value("prompt").unwrap_or_default().split(' ').collect();
        for prompt in &prompts {
            match *prompt {
                "none" => asked.is_silent = true,
                "login" => asked.asks_login = true,
                "consent" => asked.asks_consent = true,
                // Others ask for what is not offered, and may be ignored (OpenID Connect Core
                // §3.1.2.1, `select_account`).
                _ => {}
            }
        }
        if asked.is_silent && prompts.len() > 1 {
            return Err("prompt=none goes with no other value".to_owned());
        }
        if let Some(age) = form.value("max_age") {
            let seconds = age.parse::<u32>();
            let seconds = seconds.map_err(|_| "max_age is no number of seconds".to_owned())?;
            asked.asks_login |= seconds == 0;
            asked.max_age = (seconds > 0).then_some(i64::from(seconds));
        }
        let since = form.value(SINCE).and_then(|since| since.parse().ok());
        asked.since = since.map(Timestamp);
        asked.other_than = form.value(OTHER_THAN).map(str::to_owned);
        Ok(asked)
    }
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
    /// The user has to sign in, and no page may be shown (OpenID Connect Core §3.1.2.6).
    LoginRequired,
    /// The user has to consent, and no page may be shown.
    ConsentRequired,
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
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
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
    /// The target of a request that asks for such a sign-in. The rest is kept byte for byte.
    #[must_use]
    pub fn target_asking(target: &str, asked: &SignIn) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let parsed = url::form_urlencoded::parse(pair.as_bytes()).next();
            let (name, _) = parsed.unwrap_or_default();
            match &*name {
                "prompt" | "max_age" | SINCE | OTHER_THAN => {}
                _ => kept.push(pair.to_owned()),
            }
        }
        if asked.asks_consent {
            kept.push("prompt=consent".to_owned());
        }
        kept.extend(asked.since.map(|since| format!("{SINCE}={}", since.0)));
        let other_than = asked.other_than.as_ref();
        kept.extend(other_than.map(|session| {
            let session: String =
                url::form_urlencoded::byte_serialize(session.as_bytes()).collect();
            format!("{OTHER_THAN}={session}")
        }));
        format!("{path}?{}", kept.join("&"))
    }

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
        let sign_in =
            SignIn::parse(&form).map_err(|text| back(ResponseError::InvalidRequest, text))?;
        Self::read(client, &form, rules, public_url)
            .map(|(scopes, resource, challenge)| Self {
                client: client.clone(),
                way_back: way_back.clone(),
                redirect_sent: form.value("redirect_uri").is_some(),
                scopes,
                resource,
                challenge,
                sign_in,
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
        let scopes = scope_of(client, rules.registry(), form.value("scope"))
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
