//! The authorization endpoint (RFC 6749 §3.1): `/oauth_auth.do`, `/oauth2/authorize`.
//!
//! The request stays in the URL: every page posts to the URL that showed it, and every POST reads
//! the request anew. There is no half-finished login in the store, and the back button and a second
//! tab do what one expects.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};

use super::browser::{Purpose, Visitor, expired, failed, page_response, problem, read, redirect};
use super::issue::{new_id, random};
use super::pages;
use super::token::stored;
use super::{Caller, Outcome, Server};
use crate::client::{GrantType, User};
use crate::grant::GrantError;
use crate::grant::authorization::{Authorization, IssuedCode};
use crate::grant::authorization_request::{AuthorizationRequest, Fault, ResponseError};
use crate::grant::opaque::{Kind, RANDOM};
use crate::grant::redirect::private_scheme;
use crate::system::clock;

/// Life of a code, seconds.
const CODE: i64 = 60;

pub(super) async fn show(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    serve(&server, &caller, &uri, &headers, None).await
}

pub(super) async fn act(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    serve(&server, &caller, &uri, &headers, Some(body)).await
}

async fn serve(
    server: &Server,
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
    body: Option<Body>,
) -> Response {
    let config = &caller.snapshot.config;
    let (issuer, enabled) =
        (&server.shared.fixed.public_url, config.grants.contains(&GrantType::AuthorizationCode));
    let request = match AuthorizationRequest::parse(
        uri.query().unwrap_or_default(),
        &config.rules,
        issuer,
        enabled,
    ) {
        Ok(request) => request,
        Err(Fault::Page(detail)) => {
            let advice =
                "This link is not right. Go back to the application, and tell those who run it.";
            return problem(
                StatusCode::BAD_REQUEST,
                "This link does not work",
                advice,
                &detail,
                caller,
            );
        }
        Err(Fault::Redirect(back, error, text)) => {
            return redirect(&back.error(issuer, error, &text), caller);
        }
    };
    let client = request.client.id.to_string();
    let target = form_target(&request.way_back.redirect_uri);
    let action = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let visit = Visit { server, caller, request, action, target };
    let answered = match body {
        None => visit.show(headers).await,
        Some(body) => visit.act(headers, body).await,
    };
    let mut response = answered.unwrap_or_else(|error| failed(&error, caller));
    response.extensions_mut().insert(Outcome { client: Some(client), ..Outcome::default() });
    response
}

/// One good request, and where its pages are.
struct Visit<'a> {
    server: &'a Server,
    caller: &'a Caller,
    request: AuthorizationRequest,
    action: String,
    target: String,
}

impl Visit<'_> {
    async fn show(mut self, headers: &HeaderMap) -> Result<Response, GrantError> {
        let visitor = Visitor::of(self.server, self.caller, headers).await?;
        let (is_silent, asks_consent) =
            (self.request.sign_in.is_silent, self.request.sign_in.asks_consent);
        if self.request.sign_in.asks_login || self.request.sign_in.max_age.is_some() {
            // From here on it asks for a sign-in since now, however often it is shown.
            let asked = std::mem::take(&mut self.request.sign_in);
            let asked = asked.shown(clock::now(), visitor.session().as_deref());
            self.action = AuthorizationRequest::target_asking(&self.action, &asked);
            self.request.sign_in = asked;
        }
        let Some(user) = visitor.signed_in_as(&self.request.sign_in).cloned() else {
            if is_silent {
                let text = "the user has to sign in, and prompt is none";
                return Ok(self.answer_error(ResponseError::LoginRequired, text));
            }
            return visitor.ask(
                self.server,
                self.caller,
                &self.purpose(),
                Some(&self.request.client),
            );
        };
        let is_asked = asks_consent || !self.may_skip_consent();
        if !is_asked && self.has_consented(&user).await? {
            return self.issue(&user).await;
        }
        if is_silent {
            let text = "the user has to consent, and prompt is none";
            return Ok(self.answer_error(ResponseError::ConsentRequired, text));
        }
        Ok(self.consent_page(&visitor, &user))
    }

    async fn act(self, headers: &HeaderMap, body: Body) -> Result<Response, GrantError> {
        let form = read(headers, body).await?;
        let visitor = Visitor::of(self.server, self.caller, headers).await?;
        if form.value("act") == Some("login") {
            let client = Some(&*self.request.client);
            return visitor.sign_in(self.server, self.caller, &self.purpose(), client, &form).await;
        }
        let Some(user) = visitor.signed_in_as(&self.request.sign_in).cloned() else {
            return Ok(expired(self.caller));
        };
        if !visitor.sent(
            &form,
            &self.consent_purpose(&user.name.to_string(), &self.request.scopes.to_value()),
        ) {
            return Ok(expired(self.caller));
        }
        match form.value("act") {
            Some("allow") => {
                let (client, scopes) =
                    (self.request.client.id.to_string(), self.request.scopes.clone());
                let store = &self.server.shared.store;
                let remembered = store
                    .remember_consent(
                        user.name.to_string(),
                        client,
                        self.resource(),
                        scopes,
                        clock::now(),
                    )
                    .await;
                remembered.map_err(|fault| stored(&fault))?;
                self.issue(&user).await
            }
            Some("deny") => {
                Ok(self.answer_error(ResponseError::AccessDenied, "the user did not allow it"))
            }
            Some("logout") => visitor.logout(self.server, self.caller, &self.action).await,
            _ => Ok(expired(self.caller)),
        }
    }

    fn answer_error(&self, error: ResponseError, text: &str) -> Response {
        let issuer = &self.server.shared.fixed.public_url;
        redirect(&self.request.way_back.error(issuer, error, text), self.caller)
    }

    /// Anybody can pose as a native application: its user is asked every time (RFC 8252 §8.6).
    fn may_skip_consent(&self) -> bool {
        !self.request.client.public || self.request.way_back.redirect_uri.starts_with("https://")
    }

    async fn has_consented(&self, user: &User) -> Result<bool, GrantError> {
        let client = self.request.client.id.to_string();
        let known =
            self.server.shared.store.consent(user.name.to_string(), client, self.resource()).await;
        let known = known.map_err(|fault| stored(&fault))?;
        Ok(known.is_some_and(|known| {
            self.request.scopes.as_slice().iter().all(|scope| known.contains(scope.as_str()))
        }))
    }

    fn resource(&self) -> String {
        self.request.resource.clone().unwrap_or_default()
    }

    /// A consent is for exactly what was shown.
    fn consent_purpose<'a>(&'a self, user: &'a str, scopes: &'a str) -> [&'a str; 4] {
        ["consent", &self.action, user, scopes]
    }

    fn purpose(&self) -> Purpose<'_> {
        let client = &self.request.client;
        Purpose {
            application: &client.name,
            client: Some(client.id.as_str()),
            provider: client.provider.as_deref(),
            logo: client.logo_url.as_deref(),
            action: &self.action,
            target: Some(&self.target),
            again: self.request.sign_in.since.is_some()
                || self.request.sign_in.other_than.is_some(),
        }
    }

    fn consent_page(&self, visitor: &Visitor, user: &Arc<User>) -> Response {
        let rules = self.caller.snapshot.rules();
        let scopes: Vec<pages::ScopeLine<'_>> = self
            .request
            .scopes
            .as_slice()
            .iter()
            .map(|scope| pages::ScopeLine {
                name: scope.as_str(),
                description: rules.description(scope),
            })
            .collect();
        let purpose = self.purpose();
        let page = pages::Consent {
            application: purpose.application,
            provider: purpose.provider,
            logo: purpose.logo,
            user: user.display_name.as_deref().unwrap_or(user.name.as_str()),
            action: &self.action,
            token: &visitor.form_token(
                &self.consent_purpose(user.name.as_str(), &self.request.scopes.to_value()),
            ),
            scopes: &scopes,
            returns_to: &returns_to(&self.request.way_back.redirect_uri),
            connections: "/oauth2/connections",
        };
        let logos: Vec<&str> = purpose.logo.into_iter().collect();
        page_response(StatusCode::OK, &page, &pages::policy(&logos, purpose.target), self.caller)
    }

    async fn issue(&self, user: &User) -> Result<Response, GrantError> {
        let request = &self.request;
        let code = Kind::Code.make(&*random::<RANDOM>()?);
        let authorization = Authorization {
            id: new_id()?,
            client: request.client.id.to_string(),
            subject: user.name.to_string(),
            scopes: request.scopes.clone(),
            resource: request.resource.clone(),
        };
        let issued = IssuedCode {
            authorization,
            redirect_uri: request.redirect_sent.then(|| request.way_back.redirect_uri.clone()),
            challenge: request.challenge.clone(),
        };
        let now = clock::now();
        if let Some(digest) = Kind::Code.digest(&code) {
            let store = &self.server.shared.store;
            store
                .issue_code(digest, issued, now, now.plus(CODE))
                .await
                .map_err(|fault| stored(&fault))?;
        }
        let issuer = &self.server.shared.fixed.public_url;
        Ok(redirect(&request.way_back.response(issuer, &[("code", &code)]), self.caller))
    }
}

/// What a form's answer may redirect to, as a source for the policy: a private scheme, or the
/// redirect URI itself.
fn form_target(redirect_uri: &str) -> String {
    private_scheme(redirect_uri)
        .map_or_else(|| redirect_uri.to_owned(), |scheme| format!("{scheme}:"))
}

/// Where the user is sent back to, in the words of the consent page: the host, or the scheme of a
/// native application.
fn returns_to(redirect_uri: &str) -> String {
    if let Some(scheme) = private_scheme(redirect_uri) {
        return scheme.to_owned();
    }
    let url = url::Url::parse(redirect_uri).ok();
    url.as_ref().and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default()
}
