//! The browser on its way to sign in external_login, and back. Only the one that was sent there can
//! come back: otherwise somebody could sign others in as himself.

use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri, header};

use super::browser::{
    self, EXTERNAL_LOGIN, Visitor, begin, expired, held_challenge, hold_challenge, own_cookie,
    page_response, redirect, with_cookie, without_oldest_sign_ins,
};
use super::pages::{self, ExternalLogin, Problem};
use super::token::stored;
use super::{Caller, Server, connections};
use crate::grant::GrantError;
use crate::grant::form::Form;
use crate::grant::opaque::Kind;
use crate::server::login;
use crate::server::login::provider::{Back, Fault, Provider};
use crate::system::clock;

/// Seconds after which to try again when the provider cannot be asked.
const RETRY_AFTER: u32 = 5;

/// From an external page, with a value that is good once.
pub(super) async fn from_page(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let back = async {
        let form = query(&uri)?;
        let Some(digest) = form.value("login_verifier").and_then(|value| Kind::Login.digest(value))
        else {
            return Ok(expired(&caller));
        };
        let login = server
            .shared
            .store
            .take_login(digest, clock::now())
            .await
            .map_err(|fault| stored(&fault))?;
        let cookie = own_cookie(&server.shared, &headers).unwrap_or_default();
        let registry = caller.snapshot.rules().registry();
        let usable = |user: &str| registry.user(user).is_some_and(|user| user.usable());
        match login.filter(|login| login.browser == login::browser(cookie) && usable(&login.user)) {
            Some(login) => {
                begin(&server, &caller, cookie, (&login.user, EXTERNAL_LOGIN), &login.back).await
            }
            None => Ok(expired(&caller)),
        }
    };
    back.await.unwrap_or_else(|error: GrantError| browser::failed(&error, &caller))
}

/// On to the provider: from a link that a page of ours gave to this browser.
pub(super) async fn to_provider(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let leave = async {
        let form = query(&uri)?;
        let back = form.value("back").unwrap_or_default();
        let visitor = Visitor::of(&server, &caller, &headers).await?;
        let Some(provider) =
            caller.snapshot.provider.as_ref().filter(|_| visitor.sent(&form, &["provider", back]))
        else {
            return Ok(expired(&caller));
        };
        let again = form.value("again").is_some();
        Ok(match provider.leave(&server.shared.login, back, visitor.cookie(), again).await {
            Ok(leaving) => {
                let held = hold_challenge(&server.shared, &leaving.state, &leaving.challenge);
                without_oldest_sign_ins(
                    with_cookie(redirect(&leaving.url, &caller), held),
                    &server.shared,
                    &headers,
                )
            }
            Err(fault) => failed(&caller, provider, &fault, None),
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
        let shared = &server.shared;
        let cookie = own_cookie(shared, &headers).unwrap_or_default();
        let state = answer.value("state").unwrap_or_default();
        let challenge = held_challenge(shared, &headers, state).unwrap_or_default();
        let back = Back { answer: &answer, cookie, challenge, address: caller.address };
        let finished =
            provider.finish(&shared.login, caller.snapshot.rules().registry(), back).await;
        shared
            .metrics
            .oauth
            .provider_login(finished.as_ref().map_or_else(Fault::label, |_| "signed_in"));
        let response = match finished {
            Ok(signed_in) => {
                if let Some(unread) = &signed_in.unread {
                    let (id, user) = (caller.id.to_text(), &signed_in.user.name);
                    tracing::warn!(decision_id = %id, %user, %unread, "the user has signed in \
                        without roles: its groups at the login provider cannot be read");
                }
                let proof = signed_in.identity.label();
                begin(
                    &server,
                    &caller,
                    cookie,
                    (signed_in.user.name.as_str(), &proof),
                    &signed_in.back,
                )
                .await?
            }
            Err(fault) => {
                let visitor = Visitor::of(&server, &caller, &headers).await?;
                // Whoever is signed in there may be the wrong one: another try, as somebody else.
                let again =
                    visitor.external_login(&provider.declared.name, connections::PATH, true);
                return Ok(failed(&caller, provider, &fault, Some(again)));
            }
        };
        Ok(with_cookie(response, hold_challenge(shared, state, "")))
    };
    back.await.unwrap_or_else(|error: GrantError| browser::failed(&error, &caller))
}

fn query(uri: &Uri) -> Result<Form, GrantError> {
    Form::parse(uri.query().unwrap_or_default().as_bytes())
}

/// Says why nobody was signed in: to the user what to do, to those who run this what was wrong.
fn failed(
    caller: &Caller,
    provider: &Provider,
    fault: &Fault,
    again: Option<ExternalLogin<'_>>,
) -> Response {
    let name = &provider.declared.name;
    let start_again = "Go back to the application and start again.";
    let administrator = format!("{start_again} If it happens again, tell your administrator.");
    let (status, title, advice) = match fault {
        Fault::State(_) => {
            (StatusCode::BAD_REQUEST, "This sign-in has expired".to_owned(), start_again.to_owned())
        }
        Fault::TooLong => (
            StatusCode::BAD_REQUEST,
            format!("You cannot sign in at {name} from here"),
            administrator,
        ),
        Fault::Denied(_) => (
            StatusCode::FORBIDDEN,
            format!("You were not signed in at {name}"),
            start_again.to_owned(),
        ),
        Fault::TooMany(wait) => {
            let advice = browser::again_in(*wait);
            (StatusCode::TOO_MANY_REQUESTS, "Too many failed attempts".to_owned(), advice)
        }
        Fault::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{name} does not answer"),
            "Try again in a moment.".to_owned(),
        ),
        Fault::Code | Fault::Answer(_) => {
            (StatusCode::BAD_GATEWAY, format!("The answer of {name} cannot be used"), administrator)
        }
        Fault::Stranger(_) => {
            let advice = "Ask your administrator to enter you as a user, with the issuer and the \
                subject below.";
            (StatusCode::FORBIDDEN, "You have no account here".to_owned(), advice.to_owned())
        }
        Fault::Unmet(_) => {
            let advice = "Ask your administrator to let you in at the login provider.";
            (StatusCode::FORBIDDEN, "You have no account here".to_owned(), advice.to_owned())
        }
        Fault::Full(_) => {
            let advice = "Tell your administrator that no more accounts can be made.";
            (StatusCode::FORBIDDEN, "You have no account here".to_owned(), advice.to_owned())
        }
        Fault::Unusable => {
            let advice = "Ask your administrator.";
            (
                StatusCode::FORBIDDEN,
                "This account is locked or inactive".to_owned(),
                advice.to_owned(),
            )
        }
    };
    let id = caller.id.to_text();
    // What anybody can bring about is no warning.
    let ours = matches!(fault, Fault::Unavailable(_) | Fault::Answer(_));
    if ours || matches!(fault, Fault::Full(_)) {
        tracing::warn!(decision_id = %id, %fault, "nobody was signed in by the login provider");
    } else {
        tracing::info!(decision_id = %id, %fault, "nobody was signed in by the login provider");
    }
    // What is behind an outage or a bad answer is for those who run this: it stands in the log
    // under the decision id.
    let detail =
        if ours { "The log has more under the decision id.".to_owned() } else { fault.to_string() };
    let wrong_one = matches!(fault, Fault::Stranger(_) | Fault::Unusable | Fault::Unmet(_));
    let external_login = again.filter(|_| wrong_one);
    let page =
        Problem { title: &title, advice: &advice, detail: &detail, decision: &id, external_login };
    let mut response = page_response(status, &page, &pages::policy(&[], None), caller);
    if let Fault::TooMany(wait) = fault {
        response.headers_mut().insert(header::RETRY_AFTER, (*wait).into());
    }
    if matches!(fault, Fault::Unavailable(_)) {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER.into());
    }
    response
}
