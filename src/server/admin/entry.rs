//! Who may enter the admin listener: by the shared token, by a personal token, or by a session of
//! the pages; and that it is not a page of another origin that asks.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Form, Json, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::MAX_BODY;
use super::console::Console;
use super::pages;
use super::sessions::Session;
use crate::client::secret;
use crate::config::console::{Administrator, Role, SHARED_TOKEN};
use crate::request::cookie;
use crate::request::head::host_name;
use crate::server::edge::side::Peer;
use crate::server::limits::guessing::{Origin, Refused};
use crate::store::attempts::Account;
use crate::store::audit::AuditRecord;
use crate::system::clock;

/// Everything that a page may do: nothing inline, nothing of other hosts.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// The header in which scripts of pages show the form token.
const FORM_TOKEN: &str = "x-form-token";

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The name of the administrator.
    pub(super) name: Arc<str>,
    /// The role.
    pub(super) role: Role,
    /// How he came in, for audit records.
    pub(super) via: String,
    /// The address that he asks from.
    pub(super) from: IpAddr,
    /// His session, on pages.
    pub(super) session: Option<Session>,
}

impl Caller {
    /// The record of an act by this caller.
    pub(super) fn record(&self, act: &str, on: String) -> AuditRecord {
        AuditRecord {
            at: clock::now().0,
            who: self.name.to_string(),
            via: self.via.clone(),
            from: Some(self.from.to_string()),
            act: act.to_owned(),
            on,
            before: None,
            after: None,
            outcome: "done".to_owned(),
        }
    }

    /// Whether it is the shared token.
    fn is_shared_token(&self) -> bool {
        &*self.name == SHARED_TOKEN
    }

    /// The token that forms on a page carry.
    pub(super) fn form_token(&self) -> &str {
        self.session.as_ref().map_or("", |session| &session.form_token)
    }
}

/// A refusal.
pub(super) fn said(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// A refusal of the JSON API (RFC 9457).
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(),
        "detail": detail });
    let mut response = (status, body.to_string()).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn refused(request_path: &str, status: StatusCode, text: &str) -> Response {
    if request_path.starts_with("/api/") { problem(status, text) } else { said(status, text) }
}

/// What needs no entry: the sign-in page and what it is made of.
fn is_open(path: &str) -> bool {
    matches!(path, "/sign-in" | "/console.css" | "/console.js")
}

/// The paths that scripts and an external sign-in page use, with the shared token alone.
fn is_for_the_sign_in_page(path: &str) -> bool {
    path == "/login" || path.starts_with("/login/")
}

/// Who asks, before anything is done. A page in a browser on this machine cannot send a token; nor
/// is it answered if it found out how to: a name that leads here without being ours (DNS
/// rebinding), and pages of other origins, are refused.
pub(super) async fn guard(
    State(console): State<Arc<Console>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = match admit(&console, request).await {
        Ok(request) => next.run(request).await,
        Err(response) => *response,
    };
    let headers = response.headers_mut();
    if !is_open(&path) || path == "/sign-in" {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// The request, with its caller among its extensions.
async fn admit(console: &Console, mut request: Request) -> Result<Request, Box<Response>> {
    let path = request.uri().path().to_owned();
    let refuse = |status, text: &str| Box::new(refused(&path, status, text));
    let tls = console.shared.fixed.admin_tls;
    check_origin(request.headers(), tls).map_err(|text| refuse(StatusCode::FORBIDDEN, text))?;
    let from = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    if let Some(authorization) = request.headers().get(header::AUTHORIZATION) {
        let caller = by_token(console, authorization, from).ok_or_else(|| {
            let text = "the token is not right, or has expired: send the admin token, or one of an \
                administrator, as a bearer token";
            let mut response = refuse(StatusCode::UNAUTHORIZED, text);
            let challenge = HeaderValue::from_static("Bearer realm=\"admin\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        })?;
        if is_for_the_sign_in_page(&path) && !caller.is_shared_token() {
            let text = "an external sign-in page answers with the shared token";
            return Err(refuse(StatusCode::FORBIDDEN, text));
        }
        request.extensions_mut().insert(caller);
        return Ok(request);
    }
    if is_open(&path) {
        return Ok(request);
    }
    let Some(caller) = by_session(console, request.headers(), from) else {
        // A script is told what to send; a browser is shown where to sign in.
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let is_page = request.method() == Method::GET
            && accept.is_some_and(|accept| accept.contains("text/html"))
            && !path.starts_with("/api/")
            && !is_for_the_sign_in_page(&path);
        if is_page {
            let asked = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            return Err(Box::new(see_other(&pages::sign_in_address(asked))));
        }
        let text = "send the admin token, or one of an administrator, as a bearer token";
        let mut response = refuse(StatusCode::UNAUTHORIZED, text);
        let challenge = HeaderValue::from_static("Bearer realm=\"admin\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return Err(response);
    };
    if is_for_the_sign_in_page(&path) {
        let text = "an external sign-in page answers with the shared token";
        return Err(refuse(StatusCode::FORBIDDEN, text));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        request = with_form_token(request, &caller)
            .await
            .map_err(|text| refuse(StatusCode::FORBIDDEN, text))?;
    }
    request.extensions_mut().insert(caller);
    Ok(request)
}

/// The administrator of a bearer token.
fn by_token(console: &Console, authorization: &HeaderValue, from: IpAddr) -> Option<Caller> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let snapshot = console.shared.snapshot();
    let is = |right: &[u8; 32]| bool::from(right.ct_eq(&digest));
    if snapshot.config.admin_token.as_ref().is_some_and(is) {
        return Some(Caller {
            name: SHARED_TOKEN.into(),
            role: Role::Operator,
            via: "shared token".to_owned(),
            from,
            session: None,
        });
    }
    // What is shorter could be guessed by whoever has the file with the digest.
    if token.len() < secret::MIN_RANDOM {
        return None;
    }
    let now = clock::now();
    let console = &snapshot.config.console;
    let found = console.administrators.iter().find_map(|administrator| {
        let token = administrator.tokens.iter().find(|token| is(&token.digest))?;
        let is_live = token.expires.is_none_or(|expires| now < expires);
        is_live.then_some((administrator, token))
    });
    let (administrator, token) = found?;
    Some(Caller {
        name: administrator.name.clone(),
        role: administrator.role,
        via: format!("token {}", token.name),
        from,
        session: None,
    })
}

/// The proof that a session was begun with: another password ends it.
fn proof(administrator: &Administrator) -> [u8; 32] {
    Sha256::digest(administrator.password.as_deref().unwrap_or_default()).into()
}

/// The administrator of a session, with the role that he has now.
fn by_session(console: &Console, headers: &HeaderMap, from: IpAddr) -> Option<Caller> {
    let session = console.sessions.find(cookie_of(headers, console.shared.fixed.admin_tls)?)?;
    let snapshot = console.shared.snapshot();
    let administrators = &snapshot.config.console.administrators;
    let administrator = administrators.iter().find(|found| found.name == session.name)?;
    (proof(administrator) == session.proof).then(|| Caller {
        name: administrator.name.clone(),
        role: administrator.role,
        via: "session".to_owned(),
        from,
        session: Some(session),
    })
}

/// With TLS no other host or path can set it; browsers know the prefix only there.
fn cookie_name(tls: bool) -> String {
    format!("{}{}-console", if tls { "__Host-" } else { "" }, cookie::OURS)
}

/// The value of our cookie. With two of them, one is of somebody else: neither counts.
fn cookie_of(headers: &HeaderMap, tls: bool) -> Option<&str> {
    let name = cookie_name(tls);
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';'));
    let mut values = pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// `SameSite=Strict`: no page of another site has it sent along.
fn set_cookie(response: &mut Response, tls: bool, value: &str, seconds: u32) {
    let (name, secure) = (cookie_name(tls), if tls { "; Secure" } else { "" });
    let text =
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    if let Ok(mut line) = HeaderValue::from_str(&text) {
        line.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, line);
    }
}

/// Checks the form token of a request that changes something: in a header, or in the form, which is
/// read for it.
async fn with_form_token(request: Request, caller: &Caller) -> Result<Request, &'static str> {
    const MISSING: &str = "the form's token is missing or of another session: load the page again";
    let Some(session) = &caller.session else { return Err(MISSING) };
    let sent = request.headers().get(FORM_TOKEN).and_then(|token| token.to_str().ok());
    if let Some(sent) = sent {
        return if session.has_sent(sent) { Ok(request) } else { Err(MISSING) };
    }
    let (parts, body) = request.into_parts();
    let body: Bytes =
        axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| "the form could not be read")?;
    let token = url::form_urlencoded::parse(&body).find(|(name, _)| name == "form_token");
    if token.is_some_and(|(_, token)| session.has_sent(&token)) {
        Ok(Request::from_parts(parts, Body::from(body)))
    } else {
        Err(MISSING)
    }
}

/// Whether a request is for this listener by a name that nobody else can point at it, and not sent
/// by a page of another origin. With TLS the certificate says whose name it is.
fn check_origin(headers: &HeaderMap, tls: bool) -> Result<(), &'static str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host_name(host).unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if !tls && !address && name != "localhost" && !name.ends_with(".localhost") {
        return Err("the Host is neither an address nor localhost");
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let same = |origin: &HeaderValue| {
        let after = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        after.is_some_and(|(scheme, authority)| {
            matches!(scheme, "http" | "https") && authority == host
        })
    };
    if origins.all(same) { Ok(()) } else { Err("the request comes from a page of another origin") }
}

/// 303: the browser follows with GET.
pub(super) fn see_other(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    match HeaderValue::from_str(to) {
        Ok(location) => drop(response.headers_mut().insert(header::LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

/// Where a browser may be sent after it has signed in: a path of ours. Browsers take tabs and line
/// ends out of an address before they read it (WHATWG URL §4.4).
pub(super) fn own_path(path: &str) -> &str {
    let is_own = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && !path.contains(char::is_control)
        && !path.starts_with("/sign-");
    if is_own { path } else { "/" }
}

/// What the sign-in page is asked.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SignInQuery {
    next: Option<String>,
    once: Option<String>,
}

/// The sign-in page; with a value that signs in once, a session instead.
pub(super) async fn sign_in_page(
    State(console): State<Arc<Console>>,
    Query(asked): Query<SignInQuery>,
) -> Response {
    let next = own_path(asked.next.as_deref().unwrap_or("/")).to_owned();
    let once = asked.once.as_deref().and_then(|value| console.take_once(value));
    if let Some(name) = once {
        let snapshot = console.shared.snapshot();
        let mut administrators = snapshot.config.console.administrators.iter();
        if let Some(administrator) = administrators.find(|found| found.name == name) {
            return begin(&console, administrator, &next);
        }
    }
    let text = asked.once.map(|_| "This link has been used already. Sign in with your password.");
    pages::sign_in(StatusCode::OK, &next, "", text)
}

/// The form of the sign-in page.
#[derive(Deserialize)]
pub(super) struct SignIn {
    username: String,
    password: Zeroizing<String>,
    #[serde(default)]
    next: String,
}

/// Signs an administrator in by the password.
pub(super) async fn sign_in(
    State(console): State<Arc<Console>>,
    axum::Extension(peer): axum::Extension<Peer>,
    Form(form): Form<SignIn>,
) -> Response {
    let shared = &console.shared;
    let next = own_path(&form.next).to_owned();
    let snapshot = shared.snapshot();
    let (name, password) = (form.username.clone(), form.password);
    let check = move || {
        let administrators = &snapshot.config.console.administrators;
        let found = administrators.iter().find(|administrator| *administrator.name == *name);
        let digest = found.and_then(|administrator| administrator.password.as_deref());
        let with_password = administrators.iter().filter_map(|other| other.password.as_deref());
        let slowest = with_password.max_by_key(|phc| secret::cost_of(phc));
        let right = secret::check_password(digest, &password, slowest);
        found.filter(|_| right).cloned()
    };
    let origin = Origin::Address(Some(peer.0));
    let at = (&shared.store, clock::now());
    let checked =
        shared.guessing.check(Account::Administrator, &form.username, &origin, at, check).await;
    match checked {
        Ok(administrator) => {
            let mut record = audit_of_sign_in(&administrator.name, peer.0);
            record.after = Some(administrator.role.label().to_owned());
            note(&console, record).await;
            begin(&console, &administrator, &next)
        }
        Err(refused) => {
            // Names that nobody has are no names: they may be passwords in the wrong field. What is
            // over the limit costs its sender nothing, and would push older records out.
            let known = shared.snapshot();
            let mut known = known.config.console.administrators.iter();
            if matches!(refused, Refused::Wrong(_))
                && known.any(|administrator| *administrator.name == *form.username)
            {
                let mut record = audit_of_sign_in(&form.username, peer.0);
                "refused".clone_into(&mut record.outcome);
                note(&console, record).await;
            }
            let (status, text) = match refused {
                Refused::Wrong(_) => {
                    (StatusCode::UNAUTHORIZED, "The name or the password is wrong.")
                }
                Refused::Limited(_) => (
                    StatusCode::TOO_MANY_REQUESTS,
                    "Too many failed attempts. Try again in a quarter of an hour, or have them \
                        cleared with `scopegate attempts clear`.",
                ),
                Refused::Crowded => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Too many passwords are being checked. Try again in a moment.",
                ),
            };
            pages::sign_in(status, &next, &form.username, Some(text))
        }
    }
}

fn audit_of_sign_in(name: &str, from: IpAddr) -> AuditRecord {
    AuditRecord {
        at: clock::now().0,
        who: name.to_owned(),
        via: "password".to_owned(),
        from: Some(from.to_string()),
        act: "sign-in".to_owned(),
        on: "console".to_owned(),
        before: None,
        after: None,
        outcome: "done".to_owned(),
    }
}

/// Writes a record of something that changes nothing; that it could not be is logged.
pub(super) async fn note(console: &Console, record: AuditRecord) {
    if let Err(error) = console.shared.store.note_audit(record.clone()).await {
        tracing::error!(%error, record = record.line(), "an audit record could not be stored");
    }
}

fn begin(console: &Console, administrator: &Administrator, next: &str) -> Response {
    let begun = console.sessions.begin(administrator.name.clone(), proof(administrator));
    let Some(value) = begun else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "there is no randomness: try again");
    };
    let mut response = see_other(next);
    set_cookie(&mut response, console.shared.fixed.admin_tls, &value, 12 * 3600);
    response
}

/// Ends the session.
pub(super) async fn sign_out(
    State(console): State<Arc<Console>>,
    axum::Extension(caller): axum::Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    let tls = console.shared.fixed.admin_tls;
    if let Some(value) = cookie_of(&headers, tls) {
        console.sessions.end(value);
    }
    note(&console, caller.record("sign-out", "console".to_owned())).await;
    let mut response = see_other("/sign-in");
    set_cookie(&mut response, tls, "", 0);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_of_ours_is_gone_to_after_signing_in() {
        for (path, to) in [
            ("/findings?rule=x", "/findings?rule=x"),
            ("/", "/"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("/sign-out", "/"),
            ("/\t/evil.example", "/"),
            ("/x\r\nSet-Cookie: a=b", "/"),
        ] {
            assert_eq!(own_path(path), to, "{path}");
        }
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_none() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; scopegate-console=x; c=d".parse().unwrap());
        assert_eq!(cookie_of(&headers, false), Some("x"));
        headers.append(header::COOKIE, "scopegate-console=y".parse().unwrap());
        assert_eq!(cookie_of(&headers, false), None);
    }

    #[test]
    fn a_name_that_anybody_can_point_here_and_a_page_of_another_origin_are_refused() {
        for (host, origin, passes) in [
            ("127.0.0.1:9090", None, true),
            ("10.0.0.5", None, true),
            ("[::1]:9090", None, true),
            ("localhost:9090", None, true),
            ("LOCALHOST", None, true),
            ("a.localhost", None, true),
            ("evil.example:9090", None, false),
            ("127.0.0.1.evil.example", None, false),
            ("localhost.evil.example", None, false),
            ("evil-localhost", None, false),
            ("", None, false),
            ("127.0.0.1:9090", Some("http://127.0.0.1:9090"), true),
            ("localhost:9090", Some("https://localhost:9090"), true),
            ("127.0.0.1:9090", Some("http://127.0.0.1:8080"), false),
            ("127.0.0.1:9090", Some("http://evil.example"), false),
            ("127.0.0.1:9090", Some("null"), false),
            ("127.0.0.1:9090", Some("file://127.0.0.1:9090"), false),
            ("127.0.0.1:9090", Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let checked = check_origin(&headers, false);
            assert_eq!(checked.is_ok(), passes, "{host} {origin:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://127.0.0.1"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(check_origin(&headers, false).is_err());
    }
}
