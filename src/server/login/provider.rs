//! An OpenID provider as a second way to sign in: the code flow with PKCE (OpenID Connect Core §3.1), as one of its clients.
//!
//! Nothing is kept between the two halves. `state` is a signed challenge; `nonce` and the PKCE verifier are digests of it and of
//! the browser's cookie, which nobody else has: an answer is of use only in the browser that asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use zeroize::Zeroizing;

use super::super::snapshot::Snapshot;
use super::super::{Shared, clock};
use super::{CALLBACK, Challenge, Destination, LEAVE, browser, digest};
use crate::client::{ExternalIdentity, User};
use crate::config;
use crate::grant::form::Form;
use crate::grant::pkce;
use crate::grant::redirect::with_response;
use crate::keys::discovery::Discovered;
use crate::keys::fetch::Fetch;
use crate::keys::{IssuerKeys, VerifyFault};
use crate::names::IssuerName;
use crate::token::id_token::Expected;
use crate::token::json::parse_object;
use crate::token::jws::Unverified;

/// The label of its keys in metrics and logs; no name that an issuer of the configuration can have.
const LABEL: &str = "(login provider)";
/// How long its endpoints are taken to be where they were.
const ENDPOINTS: Duration = Duration::from_secs(3_600);
/// And how long it is left alone after it could not be asked.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// Codes that are being exchanged at once: a flood of them does not become one to the provider.
const EXCHANGES: usize = 16;

/// The provider in force.
#[derive(Debug)]
pub struct Provider {
    /// What the configuration says of it.
    pub declared: config::Provider,
    /// Its keys.
    pub keys: Arc<IssuerKeys>,
    endpoints: Mutex<Option<Known>>,
    exchanges: Semaphore,
}

/// What is known of its endpoints, and until when that will do.
#[derive(Debug)]
struct Known {
    until: Instant,
    endpoints: Result<Arc<Endpoints>, String>,
}

#[derive(Debug)]
struct Endpoints {
    authorization: String,
    token: String,
    /// It takes the secret in the body alone.
    secret_in_body: bool,
    /// It names itself in its answers (RFC 9207).
    names_itself: bool,
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An answer to no request of this browser: forged, of another browser, too old, or given before.
    #[error("the answer belongs to no sign-in that this browser has begun, or that one is over")]
    State,
    /// The provider says no.
    #[error("the provider answered {0}")]
    Denied(String),
    /// The provider cannot be asked, or our store.
    #[error("{0}")]
    Unavailable(String),
    /// Its answer cannot be believed.
    #[error("{0}")]
    Answer(String),
    /// Somebody of no account here.
    #[error("no user here is {} of {}", .0.subject, .0.issuer)]
    Stranger(ExternalIdentity),
    /// Inactive or locked.
    #[error("the user is inactive or locked")]
    Unusable,
}

impl Fault {
    /// The label of the metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Denied(_) => "denied",
            Self::Unavailable(_) => "unavailable",
            Self::Answer(_) => "answer",
            Self::Stranger(_) => "stranger",
            Self::Unusable => "unusable",
        }
    }
}

/// Somebody who has signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who it is here.
    pub user: Arc<User>,
    /// Who it is there.
    pub identity: ExternalIdentity,
    /// Where the browser goes now.
    pub back: String,
}

impl Provider {
    /// A provider of which nothing is known yet.
    #[must_use]
    pub fn new(declared: config::Provider) -> Self {
        Self {
            keys: Arc::new(IssuerKeys::new(IssuerName::new(LABEL), declared.keys.clone())),
            declared,
            endpoints: Mutex::default(),
            exchanges: Semaphore::new(EXCHANGES),
        }
    }

    /// The link to sign in there, for the browser with this cookie: to a path of ours that leads on, so that the page does not wait
    /// for the provider. A link and no form, because browsers hold all redirects after a form to the page's `form-action`, and
    /// where a provider's redirects lead is not ours to know.
    ///
    /// # Errors
    /// The challenge could not be made.
    pub fn link(shared: &Shared, client: Option<&str>, back: &str, cookie: &str) -> Result<String, super::Fault> {
        let state = Challenge::new(shared, client, back, cookie)?.sign(shared, Destination::Provider)?;
        Ok(with_response(LEAVE, &[("state", &state)]))
    }

    /// The URL at the provider that a browser with such a link is sent to.
    ///
    /// # Errors
    /// It is another browser's link, or an old one, or the provider cannot be asked where its page is.
    pub async fn begin(&self, shared: &Shared, form: &Form, cookie: &str) -> Result<String, Fault> {
        let (state, challenge) = own_state(shared, form, cookie)?;
        let endpoints = self.endpoints(&shared.fetch).await?;
        let code_challenge = pkce::Challenge::of(&verifier(&challenge, cookie));
        let parameters = [
            ("response_type", "code"),
            ("client_id", &self.declared.client_id),
            ("redirect_uri", &callback(shared)),
            ("scope", "openid"),
            ("state", state),
            ("nonce", &nonce(&challenge, cookie)),
            ("code_challenge", code_challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        Ok(with_response(&endpoints.authorization, &parameters))
    }

    /// Takes the provider's answer.
    ///
    /// # Errors
    /// Why nobody is signed in.
    pub async fn finish(
        &self,
        shared: &Shared,
        snapshot: &Snapshot,
        answer: &Form,
        cookie: &str,
    ) -> Result<SignedIn, Fault> {
        let (_, challenge) = own_state(shared, answer, cookie)?;
        let endpoints = self.endpoints(&shared.fetch).await?;
        self.check_issuer(&endpoints, answer)?;
        if let Some(error) = answer.value("error") {
            return Err(Fault::Denied(plain(error)));
        }
        let code = answer.value("code").ok_or_else(|| Fault::Answer("neither code nor error".to_owned()))?;
        challenge.use_up(shared).await.map_err(|fault| match fault {
            super::Fault::Unavailable => Fault::Unavailable(fault.to_string()),
            super::Fault::Challenge | super::Fault::Used | super::Fault::Subject => Fault::State,
        })?;
        let token = self.exchange(shared, &endpoints, code, &verifier(&challenge, cookie)).await?;
        let subject = self.subject(&token, &nonce(&challenge, cookie)).await?;
        let identity = ExternalIdentity { issuer: self.declared.issuer.clone(), subject };
        match snapshot.rules().registry().external_user(&identity) {
            Some(user) if user.usable() => Ok(SignedIn { user: user.clone(), identity, back: challenge.back }),
            Some(_) => Err(Fault::Unusable),
            None => Err(Fault::Stranger(identity)),
        }
    }

    /// Its endpoints. Asked once in a while; the last ones known stay while it cannot be asked.
    async fn endpoints(&self, fetch: &Fetch) -> Result<Arc<Endpoints>, Fault> {
        let mut known = self.endpoints.lock().await;
        let endpoints = match known.take() {
            Some(known) if Instant::now() < known.until => known,
            before => {
                match (Discovered::fetch(fetch, &self.declared.issuer).await.and_then(|found| read(&found)), before) {
                    (Ok(found), _) => Known { until: Instant::now() + ENDPOINTS, endpoints: Ok(Arc::new(found)) },
                    (Err(error), before) => {
                        tracing::warn!(%error, "the login provider's metadata could not be fetched");
                        let last = before.and_then(|before| before.endpoints.ok());
                        Known { until: Instant::now() + COOL_DOWN, endpoints: last.ok_or(error) }
                    }
                }
            }
        };
        known.insert(endpoints).endpoints.clone().map_err(Fault::Unavailable)
    }

    /// Whoever answers is the one that was asked (RFC 9207 §2.4).
    fn check_issuer(&self, endpoints: &Endpoints, answer: &Form) -> Result<(), Fault> {
        match answer.value("iss") {
            Some(issuer) if issuer == self.declared.issuer => Ok(()),
            None if !endpoints.names_itself => Ok(()),
            _ => Err(Fault::Answer("the answer is of another issuer (RFC 9207)".to_owned())),
        }
    }

    /// The ID token for a code (OpenID Connect Core §3.1.3).
    async fn exchange(
        &self,
        shared: &Shared,
        endpoints: &Endpoints,
        code: &str,
        verifier: &str,
    ) -> Result<Zeroizing<String>, Fault> {
        let busy = |_| Fault::Unavailable("too many sign-ins at once".to_owned());
        let _turn = self.exchanges.try_acquire().map_err(busy)?;
        let declared = &self.declared;
        let own = (declared.client_id.as_str(), declared.client_secret.expose());
        let redirect_uri = callback(shared);
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", verifier),
        ];
        if endpoints.secret_in_body {
            form.extend([("client_id", own.0), ("client_secret", own.1)]);
        }
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let form = Zeroizing::new(form);
        let credentials = (!endpoints.secret_in_body).then_some(own);
        let said = |text: String| format!("{}: {text}", endpoints.token);
        let (status, body) = shared
            .fetch
            .post_form(&endpoints.token, credentials, &form)
            .await
            .map_err(|fault| Fault::Unavailable(said(fault.to_string())))?;
        let document = parse_object(&body);
        let member = |name: &str| document.as_ref().ok()?.get(name)?.as_str();
        match (status, member("id_token")) {
            (200, Some(token)) => Ok(token.to_owned().into()),
            (200, None) => Err(Fault::Answer(said("no id_token".to_owned()))),
            (429 | 500.., _) => Err(Fault::Unavailable(said(format!("status {status}")))),
            _ => {
                let error = plain(member("error").unwrap_or_default());
                Err(Fault::Answer(said(format!("status {status}, error `{error}`"))))
            }
        }
    }

    async fn subject(&self, token: &str, nonce: &str) -> Result<String, Fault> {
        let wrong =
            |fault: crate::reason::TokenFault| Fault::Answer(format!("the ID token is wrong: {}", fault.label()));
        let parsed = Unverified::parse(token).map_err(wrong)?;
        let expected = Expected {
            issuer: &self.declared.issuer,
            client_id: &self.declared.client_id,
            nonce,
            algorithms: &self.declared.algorithms,
        };
        self.keys.verify(|keys| expected.verify(&parsed, keys, clock::now())).await.map_err(|fault| match fault {
            VerifyFault::Token(fault) => wrong(fault),
            VerifyFault::Unavailable => Fault::Unavailable("the provider's keys cannot be fetched".to_owned()),
        })
    }
}

/// What of the metadata is needed here.
fn read(found: &Discovered) -> Result<Endpoints, String> {
    let methods = found.list("token_endpoint_auth_methods_supported");
    Ok(Endpoints {
        authorization: found.endpoint("authorization_endpoint")?,
        token: found.endpoint("token_endpoint")?,
        secret_in_body: methods.is_some_and(|methods| {
            !methods.contains(&"client_secret_basic") && methods.contains(&"client_secret_post")
        }),
        names_itself: found.is_on("authorization_response_iss_parameter_supported"),
    })
}

/// The `state` of a request or an answer, if it is of this browser.
fn own_state<'a>(shared: &Shared, form: &'a Form, cookie: &str) -> Result<(&'a str, Challenge), Fault> {
    let state = form.value("state").ok_or(Fault::State)?;
    let challenge = Challenge::read(shared, state, Destination::Provider).map_err(|_| Fault::State)?;
    let own = !cookie.is_empty() && challenge.browser == browser(cookie);
    if own { Ok((state, challenge)) } else { Err(Fault::State) }
}

fn callback(shared: &Shared) -> String {
    format!("{}{CALLBACK}", shared.fixed.public_url)
}

fn nonce(challenge: &Challenge, cookie: &str) -> String {
    digest(&["nonce", &challenge.jti, cookie])
}

/// RFC 7636 §4.1: 43 characters.
fn verifier(challenge: &Challenge, cookie: &str) -> String {
    digest(&["verifier", &challenge.jti, cookie])
}

/// What others say goes into logs and pages only as far as it is short and plain.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(64).collect()
}
