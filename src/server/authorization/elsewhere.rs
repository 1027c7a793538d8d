//! The browser on its way to sign in elsewhere, and back. Only the one that was sent there can come back: otherwise somebody could sign
//! others in as himself.

use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};

use super::super::login::provider::{Fault, Provider};
use super::super::{clock, login};
use super::browser::{self, ELSEWHERE, begin, expired, own_cookie, problem, redirect};
use super::token::stored;
use super::{Caller, Server};
use crate::grant::GrantError;
use crate::grant::form::Form;
use crate::grant::opaque::Kind;

/// From an external page, with a value that is good once.
pub(super) async fn from_page(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let back = async {
        let form = query(&uri)?;
        let Some(digest) = form.value("login_verifier").and_then(|value| Kind::Login.digest(value)) else {
            return Ok(expired(&caller));
        };
        let login = server.shared.store.take_login(digest, clock::now()).await.map_err(|fault| stored(&fault))?;
        let cookie = own_cookie(&server.shared, &headers).unwrap_or_default();
        let registry = caller.snapshot.rules().registry();
        let usable = |user: &str| registry.user(user).is_some_and(|user| user.usable());
        match login.filter(|login| login.browser == login::browser(cookie) && usable(&login.user)) {
            Some(login) => begin(&server, &caller, cookie, (&login.user, ELSEWHERE), &login.back).await,
            None => Ok(expired(&caller)),
        }
    };
    back.await.unwrap_or_else(|error: GrantError| browser::failed(&error, &caller))
}

/// On to the provider.
pub(super) async fn to_provider(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let leave = async {
        let form = query(&uri)?;
        let Some(provider) = &caller.snapshot.provider else { return Ok(expired(&caller)) };
        let cookie = own_cookie(&server.shared, &headers).unwrap_or_default();
        Ok(match provider.begin(&server.shared, &form, cookie).await {
            Ok(url) => redirect(&url, &caller),
            Err(fault) => failed(&server, &caller, provider, &fault),
        })
    };
    leave.await.unwrap_or_else(|error: GrantError| browser::failed(&error, &caller))
}

/// From the provider, with its answer (OpenID Connect Core §3.1.2.5).
pub(super) async fn from_provider(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let back = async {
        let answer = query(&uri)?;
        let Some(provider) = &caller.snapshot.provider else { return Ok(expired(&caller)) };
        let cookie = own_cookie(&server.shared, &headers).unwrap_or_default();
        match provider.finish(&server.shared, &caller.snapshot, &answer, cookie).await {
            Ok(signed_in) => {
                server.shared.metrics.provider_login("signed_in");
                let proof = signed_in.identity.label();
                begin(&server, &caller, cookie, (signed_in.user.name.as_str(), &proof), &signed_in.back).await
            }
            Err(fault) => Ok(failed(&server, &caller, provider, &fault)),
        }
    };
    back.await.unwrap_or_else(|error: GrantError| browser::failed(&error, &caller))
}

fn query(uri: &Uri) -> Result<Form, GrantError> {
    Form::parse(uri.query().unwrap_or_default().as_bytes())
}

/// Says why nobody was signed in: to the user what to do, to those who run this what was wrong.
fn failed(server: &Server, caller: &Caller, provider: &Provider, fault: &Fault) -> Response {
    server.shared.metrics.provider_login(fault.label());
    let name = &provider.declared.name;
    let again = "Go back to the application and start again.";
    let (status, title, advice) = match fault {
        Fault::State => return expired(caller),
        Fault::Denied(_) => (StatusCode::FORBIDDEN, format!("You were not signed in at {name}"), again.to_owned()),
        Fault::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{name} does not answer"), "Try again in a moment.".to_owned())
        }
        Fault::Answer(_) => {
            let advice = format!("{again} If it happens again, tell your administrator.");
            (StatusCode::BAD_GATEWAY, format!("The answer of {name} cannot be used"), advice)
        }
        Fault::Stranger(_) => {
            let advice = "Ask your administrator to enter you as a user, with the issuer and the subject below.";
            (StatusCode::FORBIDDEN, "You have no account here".to_owned(), advice.to_owned())
        }
        Fault::Unusable => {
            let advice = "Ask your administrator.";
            (StatusCode::FORBIDDEN, "This account is locked or inactive".to_owned(), advice.to_owned())
        }
    };
    tracing::warn!(decision_id = %caller.id.to_text(), %fault, "nobody was signed in by the login provider");
    // What is behind an outage or a bad answer is for those who run this: it stands in the log under the decision id.
    let detail = match fault {
        Fault::Unavailable(_) | Fault::Answer(_) => "The log has more under the decision id.".to_owned(),
        Fault::State | Fault::Denied(_) | Fault::Stranger(_) | Fault::Unusable => fault.to_string(),
    };
    problem(status, &title, &advice, &detail, caller)
}
