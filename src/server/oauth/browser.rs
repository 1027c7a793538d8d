//! What the pages share: who sits before the browser, forms that only our own pages can send, and
//! answers a browser cannot be misled with.
//!
//! A browser has one cookie. Until somebody has signed in it names nothing and only ties forms to
//! the browser; signing in gives a new one (no fixation), which the store knows by its digest.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::authenticate::{SignIn, check_password};
use super::issue::random;
use super::pages;
use super::token::stored;
use super::{Caller, Server, device, with_id};
use crate::client::{Client, User};
use crate::grant::form::Form;
use crate::grant::opaque::{Kind, RANDOM};
use crate::grant::redirect::with_response;
use crate::grant::{self, GrantError, SESSION};
use crate::names::Timestamp;
use crate::server::limits::guessing::Origin;
use crate::server::login::{self, Challenge, Destination};
use crate::server::state::Shared;
use crate::system::clock;

/// What a session was proven with that began at an external page.
pub(super) const EXTERNAL_LOGIN: &str = "elsewhere";

/// Whoever sits before the browser.
pub(super) struct Visitor {
    cookie: Option<Zeroizing<String>>,
    /// What it carries of an earlier sign-in.
    device: Option<String>,
    /// Signed in, and neither inactive nor locked since.
    pub(super) user: Option<Arc<User>>,
    /// When that was.
    since: Option<Timestamp>,
}

/// What a page is shown for.
pub(super) struct Purpose<'a> {
    /// The application, or what else the user is on the way to.
    pub(super) application: &'a str,
    /// Its id, if it is one.
    pub(super) client: Option<&'a str>,
    /// Who runs it.
    pub(super) provider: Option<&'a str>,
    /// Its logo.
    pub(super) logo: Option<&'a str>,
    /// Where forms go: the URL of the page itself.
    pub(super) action: &'a str,
    /// Where a form's answer may send the browser besides ourselves.
    pub(super) target: Option<&'a str>,
    /// Signing in anew is what is asked for, at a provider too.
    pub(super) again: bool,
}

impl Visitor {
    /// Reads the cookie.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn of(
        server: &Server,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<Self, GrantError> {
        let cookie =
            own_cookie(&server.shared, headers).map(|value| Zeroizing::new(value.to_owned()));
        let device = cookie_of(&server.shared, headers, device::SUFFIX).map(str::to_owned);
        let Some(digest) = cookie.as_ref().and_then(|cookie| Kind::Session.digest(cookie)) else {
            return Ok(Self { cookie: None, device, user: None, since: None });
        };
        let session = server
            .shared
            .store
            .session(digest, clock::now())
            .await
            .map_err(|fault| stored(&fault))?;
        let registry = caller.snapshot.rules().registry();
        let since = session.as_ref().map(|(_, _, began)| *began);
        let user = session.and_then(|(name, proof, _)| {
            let user = registry.account(&name)?;
            // Whoever changes a password, takes an external identity away, or signs users in
            // elsewhere no more, means to end what began with it.
            let provider =
                caller.snapshot.provider.as_ref().map(|provider| provider.declared.issuer.as_str());
            let external = || {
                let mut own = user
                    .external
                    .iter()
                    .filter(|identity| provider == Some(identity.issuer.as_str()));
                own.any(|identity| identity.label() == proof)
            };
            let page = || caller.snapshot.config.login.page.is_some() || registry.has_login_pages();
            let good =
                (proof == EXTERNAL_LOGIN && page()) || proof == user.password_label() || external();
            good.then_some(user)
        });
        let user = user.filter(|user| user.usable());
        Ok(Self { cookie, device, user, since })
    }

    /// Names the session of who has signed in, and says nothing of its cookie.
    pub(super) fn session(&self) -> Option<String> {
        let digest = Sha256::digest(format!("session {}", self.cookie()));
        self.user.as_ref().map(|_| URL_SAFE_NO_PAD.encode(digest.get(..12).unwrap_or_default()))
    }

    /// Who has signed in, if that will do for a request.
    pub(super) fn signed_in_as(
        &self,
        asked: &grant::authorization_request::SignIn,
    ) -> Option<&Arc<User>> {
        let since = self.since.unwrap_or(Timestamp(0));
        let session = self.session().unwrap_or_default();
        self.user.as_ref().filter(|_| asked.is_satisfied_by(since, &session))
    }

    /// What a form of ours carries: only a page that was given to this browser, for this very
    /// purpose, has it.
    pub(super) fn form_token(&self, purpose: &[&str]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.cookie.as_ref().map_or("", |cookie| cookie.as_str()));
        for part in purpose {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    /// Whether a form came from such a page.
    pub(super) fn sent(&self, form: &Form, purpose: &[&str]) -> bool {
        let presented = form.value("form_token").unwrap_or_default();
        let same: bool = self.form_token(purpose).as_bytes().ct_eq(presented.as_bytes()).into();
        self.cookie.is_some() && same
    }

    /// The name of who is signed in.
    pub(super) fn name(&self) -> &str {
        self.user.as_ref().map_or("", |user| user.name.as_str())
    }

    /// Sends who has not signed in to do so: to the external page that the client or the server
    /// names, or to ours.
    pub(super) fn ask(
        mut self,
        server: &Server,
        caller: &Caller,
        purpose: &Purpose<'_>,
        client: Option<&Client>,
    ) -> Result<Response, GrantError> {
        let Some(page) = external_page(caller, client) else {
            return self.login_page(server, caller, purpose, "", None);
        };
        let set = self.ensure_cookie(server)?;
        let challenge =
            Challenge::new(&server.shared.login, purpose.client, purpose.action, self.cookie())
                .and_then(|challenge| challenge.sign(&server.shared.login, Destination::Page))
                .map_err(|_| super::issue::unavailable("the login challenge could not be made"))?;
        let response = redirect(&with_response(page, &[("login_challenge", &challenge)]), caller);
        Ok(with_cookie(response, set))
    }

    /// The link to the provider. A link and no form, because browsers hold all redirects after a
    /// form to the page's `form-action`, and where a provider's redirects lead is not ours to know.
    pub(super) fn external_login<'a>(
        &self,
        name: &'a str,
        back: &str,
        again: bool,
    ) -> pages::ExternalLogin<'a> {
        let token = self.form_token(&["provider", back]);
        let mut parameters = vec![("back", back), ("form_token", &token)];
        if again {
            parameters.push(("again", "1"));
        }
        pages::ExternalLogin { name, link: with_response(login::LEAVE, &parameters) }
    }

    /// Takes the form of the sign-in page.
    ///
    /// # Errors
    /// The store does not answer, or too many passwords are being checked.
    pub(super) async fn sign_in(
        self,
        server: &Server,
        caller: &Caller,
        purpose: &Purpose<'_>,
        client: Option<&Client>,
        form: &Form,
    ) -> Result<Response, GrantError> {
        // Where others sign users in there is no page of ours to guess at.
        if external_page(caller, client).is_some() || !self.sent(form, &["login", purpose.action]) {
            return Ok(expired(caller));
        }
        self.login(server, caller, purpose, form).await
    }

    /// The browser's cookie, or nothing.
    pub(super) fn cookie(&self) -> &str {
        self.cookie.as_ref().map_or("", |cookie| cookie.as_str())
    }

    /// Gives a browser without one a cookie, which names nobody.
    fn ensure_cookie(&mut self, server: &Server) -> Result<Option<HeaderValue>, GrantError> {
        if self.cookie.is_some() {
            return Ok(None);
        }
        let value = Kind::Session.make(&*random::<RANDOM>()?);
        let set = set_cookie(&server.shared, &value, None);
        self.cookie = Some(value);
        Ok(set)
    }

    /// The sign-in page.
    pub(super) fn login_page(
        mut self,
        server: &Server,
        caller: &Caller,
        purpose: &Purpose<'_>,
        username: &str,
        problem: Option<&str>,
    ) -> Result<Response, GrantError> {
        let set = self.ensure_cookie(server)?;
        let provider = caller.snapshot.provider.as_ref();
        let external_login = provider.map(|provider| {
            self.external_login(&provider.declared.name, purpose.action, purpose.again)
        });
        let page = pages::Login {
            application: purpose.application,
            provider: purpose.provider,
            logo: purpose.logo,
            action: purpose.action,
            token: &self.form_token(&["login", purpose.action]),
            username,
            problem,
            // Without a provider it is the page's only form, whoever may use it.
            passwords: external_login.is_none()
                || caller.snapshot.rules().registry().has_passwords(),
            external_login,
        };
        let logos: Vec<&str> = purpose.logo.into_iter().collect();
        let policy = pages::policy(&logos, purpose.target);
        Ok(with_cookie(page_response(StatusCode::OK, &page, &policy, caller), set))
    }

    /// Signs in, and sends the browser back to where it came from; or shows the page again.
    async fn login(
        self,
        server: &Server,
        caller: &Caller,
        purpose: &Purpose<'_>,
        form: &Form,
    ) -> Result<Response, GrantError> {
        let (username, password) =
            (form.value("username").unwrap_or_default(), form.value("password"));
        let now = clock::now();
        let password = Zeroizing::new(password.unwrap_or_default().to_owned());
        let origin = device::origin(&server.shared, caller, self.device.as_deref(), username);
        let is_known = matches!(origin, Origin::Browser(..));
        let checked = match check_password(server, caller, username, password, (origin, now)).await
        {
            Ok(checked) => checked,
            Err(GrantError { retry_after: Some(wait), .. }) => {
                let text = format!("Too many failed attempts. {}", again_in(wait));
                let mut response =
                    self.login_page(server, caller, purpose, username, Some(&text))?;
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                response.headers_mut().insert(header::RETRY_AFTER, wait.into());
                return Ok(response);
            }
            Err(error) => return Err(error),
        };
        let user = match checked {
            SignIn::As(user) => user,
            SignIn::Refused(text) => {
                return self.login_page(server, caller, purpose, username, Some(text));
            }
        };
        let (name, proof) = (user.name.as_str(), user.password_label());
        let response = begin(server, caller, self.cookie(), (name, &proof), purpose.action).await?;
        let device = (!is_known).then(|| device::remember(&server.shared, name)).flatten();
        Ok(with_cookie(response, device))
    }

    /// Signs out, and sends the browser back to where it came from.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn logout(
        self,
        server: &Server,
        caller: &Caller,
        back: &str,
    ) -> Result<Response, GrantError> {
        if let Some(digest) = self.cookie.as_ref().and_then(|cookie| Kind::Session.digest(cookie)) {
            server.shared.store.end_session(digest).await.map_err(|fault| stored(&fault))?;
        }
        Ok(with_cookie(redirect(back, caller), set_cookie(&server.shared, "", Some(0))))
    }
}

/// Begins a session with a new cookie in the place of the one before, and sends the browser on.
pub(super) async fn begin(
    server: &Server,
    caller: &Caller,
    before: &str,
    (user, proof): (&str, &str),
    to: &str,
) -> Result<Response, GrantError> {
    let value = Kind::Session.make(&*random::<RANDOM>()?);
    let Some(session) = Kind::Session.digest(&value) else { return Ok(expired(caller)) };
    let (store, now) = (&server.shared.store, clock::now());
    // Whoever was signed in before is not any more.
    if let Some(digest) = Kind::Session.digest(before) {
        store.end_session(digest).await.map_err(|fault| stored(&fault))?;
    }
    let signed_in = (user.to_owned(), proof.to_owned());
    store
        .begin_session(session, signed_in, now, now.plus(SESSION))
        .await
        .map_err(|fault| stored(&fault))?;
    Ok(with_cookie(redirect(to, caller), set_cookie(&server.shared, &value, Some(SESSION))))
}

/// The external page that signs users in for a client, or for all.
fn external_page<'a>(caller: &'a Caller, client: Option<&'a Client>) -> Option<&'a str> {
    let own = client.and_then(|client| client.login_url.as_deref());
    own.or(caller.snapshot.config.login.page.as_deref())
}

/// The form of a POST from a page.
///
/// # Errors
/// `invalid_request`.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Form, GrantError> {
    let body = axum::body::to_bytes(body, grant::form::MAX_BODY).await;
    let body = body.map_err(|_| {
        GrantError::new(grant::ErrorCode::InvalidRequest, "the form could not be read")
    })?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    grant::read_form(content_type, &body)
}

/// A page.
pub(super) fn page_response(
    status: StatusCode,
    page: &impl Template,
    policy: &str,
    caller: &Caller,
) -> Response {
    // Rendering into a string cannot fail; an empty page would be the least harm if it did.
    let mut response = Response::new(Body::from(page.render().unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    guarded(response, caller)
}

/// When to try again, in whole minutes.
pub(super) fn again_in(wait: u32) -> String {
    match wait.div_ceil(60) {
        0 | 1 => "Try again in a minute.".to_owned(),
        minutes => format!("Try again in {minutes} minutes."),
    }
}

/// Says why the user cannot go on.
pub(super) fn problem(
    status: StatusCode,
    title: &str,
    advice: &str,
    detail: &str,
    caller: &Caller,
) -> Response {
    let page = pages::Problem {
        title,
        advice,
        detail,
        decision: &caller.id.to_text(),
        external_login: None,
    };
    page_response(status, &page, &pages::policy(&[], None), caller)
}

/// The page of a form that is too old, or was never ours.
pub(super) fn expired(caller: &Caller) -> Response {
    let advice = "Go back to the application and start again.";
    let detail = "The form's token is not the one that this browser was given: its cookie has \
        changed or is missing, or the \
                  form was not sent from this page.";
    problem(StatusCode::BAD_REQUEST, "This page has expired", advice, detail, caller)
}

/// An outage, or a form that cannot be read, as a page.
pub(super) fn failed(error: &GrantError, caller: &Caller) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let (title, advice) = if status.is_server_error() {
        ("Not available at the moment", "Try again in a moment. Nothing was changed.")
    } else {
        ("This did not work", "Go back to the application and start again.")
    };
    problem(status, title, advice, &error.description, caller)
}

/// 303: the browser follows with GET and sends no form along (RFC 9700 §4.12).
pub(super) fn redirect(to: &str, caller: &Caller) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    match HeaderValue::from_str(to) {
        Ok(location) => drop(response.headers_mut().insert(header::LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    guarded(response, caller)
}

/// Kept by nobody, shown in no frame, its address told to nobody.
fn guarded(response: Response, caller: &Caller) -> Response {
    let mut response = super::no_store(with_id(response, caller));
    let headers = response.headers_mut();
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A cookie's name. `__Host-` keeps other hosts and paths from setting it; browsers know it only
/// with TLS, so loopback does without.
fn name(shared: &Shared, suffix: &str) -> String {
    format!(
        "{}{}{suffix}",
        if shared.scheme() == "https" { "__Host-" } else { "" },
        crate::request::cookie::OURS
    )
}

/// The cookies of sign-ins at the provider: one for each, so that tabs do not disturb each other.
const SIGN_IN: &str = "-login-";
/// Sign-ins under way at the provider in one browser: more of their cookies would make its requests
/// too long for us.
const MAX_SIGN_INS: usize = 4;

/// What comes back with the state of a sign-in at the provider.
fn state_suffix(state: &str) -> String {
    let id: String = state.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("{SIGN_IN}{id}")
}

/// Takes away the cookies of the oldest sign-ins that were begun at the provider and not finished,
/// so that one more may begin. Browsers send the oldest cookie first (RFC 6265 §5.4).
pub(super) fn without_oldest_sign_ins(
    mut response: Response,
    shared: &Shared,
    headers: &HeaderMap,
) -> Response {
    let prefix = name(shared, SIGN_IN);
    let ids: Vec<&str> =
        cookies(headers).filter_map(|(name, _)| name.strip_prefix(prefix.as_str())).collect();
    for id in ids.iter().take((ids.len() + 1).saturating_sub(MAX_SIGN_INS)) {
        response =
            with_cookie(response, cookie_line(shared, &format!("{SIGN_IN}{id}"), "", Some(0)));
    }
    response
}

/// Lets the browser hold a challenge until it is back from the provider; an empty one is taken
/// away.
pub(super) fn hold_challenge(shared: &Shared, state: &str, challenge: &str) -> Option<HeaderValue> {
    let life = if challenge.is_empty() { 0 } else { login::LIFE };
    cookie_line(shared, &state_suffix(state), challenge, Some(life))
}

/// The challenge that the browser holds for a state.
pub(super) fn held_challenge<'a>(
    shared: &Shared,
    headers: &'a HeaderMap,
    state: &str,
) -> Option<&'a str> {
    cookie_of(shared, headers, &state_suffix(state))
}

fn set_cookie(shared: &Shared, value: &str, life: Option<i64>) -> Option<HeaderValue> {
    cookie_line(shared, "", value, life)
}

/// A cookie of ours as a header line; one that lives for no time is taken away.
pub(super) fn cookie_line(
    shared: &Shared,
    suffix: &str,
    value: &str,
    life: Option<i64>,
) -> Option<HeaderValue> {
    let secure = if shared.scheme() == "https" { "; Secure" } else { "" };
    let life = life.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
    let text =
        format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{life}", name(shared, suffix));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The response with a cookie for the browser, besides those that it has.
pub(super) fn with_cookie(mut response: Response, value: Option<HeaderValue>) -> Response {
    if let Some(value) = value {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// The browser's own cookie.
pub(super) fn own_cookie<'a>(shared: &Shared, headers: &'a HeaderMap) -> Option<&'a str> {
    cookie_of(shared, headers, "")
}

/// A cookie of ours.
fn cookie_of<'a>(shared: &Shared, headers: &'a HeaderMap, suffix: &str) -> Option<&'a str> {
    let name = name(shared, suffix);
    cookies(headers).find_map(|(found, value)| (found == name).then_some(value))
}

/// All cookies. What others have put among ours, in whatever bytes, does not matter.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='))
}
