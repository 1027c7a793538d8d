//! An OpenID provider as a second way to sign in: the code flow with PKCE (OpenID Connect Core
//! §3.1), as one of its clients.
//!
//! Nothing is kept here between the two halves. The browser holds a signed challenge in a cookie;
//! the provider gets its id as `state`, which says nothing of where the browser goes afterwards and
//! is short whatever the application asked for; `nonce` and the PKCE verifier are digests of it and
//! of the browser's own cookie, which nobody else has.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, Semaphore};
use zeroize::Zeroizing;

use super::creation::{self, Said};
use super::{CALLBACK, Challenge, Destination, Login, browser, digest};
use crate::client::made::Creation;
use crate::client::{ExternalIdentity, Registry, User};
use crate::config;
use crate::grant::form::Form;
use crate::grant::pkce;
use crate::grant::redirect::with_response;
use crate::keys::discovery::{Discovered, DiscoveryFault};
use crate::keys::fetch::Fetch;
use crate::keys::{IssuerKeys, VerifyFault};
use crate::names::IssuerName;
use crate::reason::{TokenError, TokenFault};
use crate::server::limits::guessing::Origin;
use crate::store::attempts::Account;
use crate::system::clock;
use crate::token::KeySet;
use crate::token::id_token::Expected;
use crate::token::json::Object;
use crate::token::jws::{Decoded, described};

/// The label of its keys in metrics and logs; names of issuers have no space.
const LABEL: &str = "login provider";
/// How long its endpoints are taken to be where they were.
const ENDPOINTS: Duration = Duration::from_secs(3_600);
/// And how long it is left alone after it could not be asked.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// Codes that are being exchanged at once.
const EXCHANGES: usize = 16;
/// How long a code waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest signed challenge: browsers drop cookies over 4,096 bytes (RFC 6265 §6.1).
const MAX_CHALLENGE: usize = 3_800;

/// The provider in force.
#[derive(Debug)]
pub struct Provider {
    /// What the configuration says of it.
    pub declared: config::Provider,
    /// Its keys.
    pub keys: Arc<IssuerKeys>,
    fetch: Fetch,
    endpoints: ArcSwapOption<Known>,
    /// Held by whoever asks for them.
    asking: Mutex<()>,
    exchanges: Arc<Semaphore>,
}

/// What is known of its endpoints, and until when that will do.
#[derive(Debug)]
struct Known {
    until: Instant,
    endpoints: Result<Arc<Endpoints>, DiscoveryFault>,
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
    /// An answer to no request of this browser: forged, of another browser, too old, or given
    /// before.
    #[error("the answer belongs to no sign-in of this browser that is under way: {0}")]
    State(&'static str),
    /// What the application asked for does not fit into a cookie.
    #[error(
        "the application's request is too long to sign in elsewhere: at most about 2,500 characters"
    )]
    TooLong,
    /// The provider says no.
    #[error("the provider answered {0}")]
    Denied(String),
    /// The provider does not know the code: it is old, was used, or is no code at all.
    #[error("the provider does not take the code")]
    Code,
    /// Too many wrong codes came from this address: the seconds to wait.
    #[error("too many wrong codes from this address")]
    TooMany(u32),
    /// The provider cannot be asked, or our store.
    #[error("{0}")]
    Unavailable(String),
    /// Its answer cannot be believed, or is of no use.
    #[error("{0}")]
    Answer(String),
    /// Somebody of no account here.
    #[error("no user here is {:?} of {}", .0.subject, .0.issuer)]
    Stranger(ExternalIdentity),
    /// Inactive or locked.
    #[error("the user is inactive or locked")]
    Unusable,
    /// Somebody without what users must have to be made here.
    #[error("{0}")]
    Unmet(String),
    /// As many users were made as there may be.
    #[error(
        "{0} users have been made at login, and `authorization_server.login.provider.max_users` \
            allows no more"
    )]
    Full(u32),
}

impl Fault {
    /// The label of the metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::State(_) => "state",
            Self::TooLong => "too_long",
            Self::Denied(_) => "denied",
            Self::Code => "code",
            Self::TooMany(_) => "too_many",
            Self::Unavailable(_) => "unavailable",
            Self::Answer(_) => "answer",
            Self::Stranger(_) => "stranger",
            Self::Unusable => "unusable",
            Self::Unmet(_) => "unmet",
            Self::Full(_) => "full",
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
    /// Why the groups of a user that is made at login could not be read: it has no roles.
    pub unread: Option<String>,
}

/// A browser on its way to the provider.
#[derive(Debug)]
pub struct Leaving {
    /// The URL there.
    pub url: String,
    /// The state that comes back.
    pub state: String,
    /// What the browser is to hold until then.
    pub challenge: String,
}

/// What a browser brings back.
#[derive(Clone, Copy, Debug)]
pub struct Back<'a> {
    /// The parameters of the provider's answer.
    pub answer: &'a Form,
    /// The browser's own cookie.
    pub cookie: &'a str,
    /// The challenge that it held for this state.
    pub challenge: &'a str,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

impl Provider {
    /// The provider of a configuration, with what is known of it from the one before.
    ///
    /// # Errors
    /// The TLS library refuses its CAs, in words for the operator.
    pub fn new(declared: config::Provider, before: Option<&Self>) -> Result<Self, String> {
        let same = before.filter(|before| before.declared.issuer == declared.issuer);
        let keys = same
            .filter(|before| before.declared.keys == declared.keys)
            .map(|before| before.keys.clone());
        let fetch = Fetch::new(&declared.outbound)?;
        let fresh = || {
            let name = IssuerName::new(LABEL);
            Arc::new(IssuerKeys::new(name, declared.keys.clone(), fetch.clone()))
        };
        Ok(Self {
            keys: keys.unwrap_or_else(fresh),
            fetch,
            declared,
            endpoints: ArcSwapOption::new(same.and_then(|before| before.endpoints.load_full())),
            asking: Mutex::default(),
            exchanges: before.map_or_else(
                || Arc::new(Semaphore::new(EXCHANGES)),
                |before| before.exchanges.clone(),
            ),
        })
    }

    /// Sends a browser there, which comes back to go on to `back`. `again` asks the provider to let
    /// the user sign in anew.
    ///
    /// # Errors
    /// The provider cannot be asked where its page is, or the challenge could not be made.
    pub async fn leave(
        &self,
        with: &Login,
        back: &str,
        cookie: &str,
        again: bool,
    ) -> Result<Leaving, Fault> {
        let endpoints = self.endpoints().await?;
        let unavailable = |fault: super::Fault| Fault::Unavailable(fault.to_string());
        let challenge = Challenge::new(with, None, back, cookie).map_err(unavailable)?;
        let signed = challenge.sign(with, Destination::Provider).map_err(unavailable)?;
        if signed.len() > MAX_CHALLENGE {
            return Err(Fault::TooLong);
        }
        let (redirect_uri, nonce) = (callback(with), nonce(&challenge, cookie));
        let code_challenge = pkce::Challenge::of(&verifier(&challenge, cookie));
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", &self.declared.client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", "openid"),
            ("state", &challenge.jti),
            ("nonce", &nonce),
            ("code_challenge", code_challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        if again {
            // OpenID Connect Core §3.1.2.1: whoever is signed in there may be the wrong one.
            parameters.push(("prompt", "login"));
        }
        let url = with_response(&endpoints.authorization, &parameters);
        Ok(Leaving { url, state: challenge.jti, challenge: signed })
    }

    /// Takes the provider's answer.
    ///
    /// # Errors
    /// Why nobody is signed in.
    pub async fn finish(
        &self,
        with: &Login,
        registry: &Registry,
        back: Back<'_>,
    ) -> Result<SignedIn, Fault> {
        let Back { answer, cookie, .. } = back;
        let challenge = own_challenge(with, back)?;
        let endpoints = self.endpoints().await?;
        self.check_issuer(&endpoints, answer)?;
        if let Some(error) = answer.value("error") {
            return Err(Fault::Denied(plain(error)));
        }
        let code = answer
            .value("code")
            .ok_or_else(|| Fault::Answer("neither code nor error".to_owned()))?;
        // A code belongs to the browser that was sent for it: others at its address are not to
        // suffer for it.
        let origin = Origin::Browser(browser(cookie), back.address);
        if let Some(wait) = with.guessing.limited(Account::Code, "", &origin) {
            return Err(Fault::TooMany(wait));
        }
        // The turn first: a sign-in that has to wait too long is not used up.
        let turn = tokio::time::timeout(PATIENCE, self.exchanges.clone().acquire_owned()).await;
        let _turn = turn.map_err(|_| Fault::Unavailable("too many sign-ins at once".to_owned()))?;
        challenge.use_up(with).await.map_err(|fault| match fault {
            super::Fault::Unavailable => Fault::Unavailable(fault.to_string()),
            super::Fault::Challenge | super::Fault::Used | super::Fault::Subject => {
                Fault::State("it is over")
            }
        })?;
        let token = match self.exchange(with, &endpoints, code, &verifier(&challenge, cookie)).await
        {
            Err(Fault::Code) => {
                let counted = with
                    .guessing
                    .note_wrong(Account::Code, "", &origin, (&with.store, clock::now()))
                    .await;
                return Err(counted.map_or_else(Fault::TooMany, |()| Fault::Code));
            }
            other => other?,
        };
        let nonce = nonce(&challenge, cookie);
        let (subject, said) = self.verify(&token, &nonce, registry.creation()).await?;
        let identity = ExternalIdentity { issuer: self.declared.issuer.clone(), subject };
        let listed = registry.external_user(&identity);
        let mut unread = None;
        let user = match (listed, said) {
            (Some(user), _) if user.usable() => user.clone(),
            (Some(_), _) => return Err(Fault::Unusable),
            (None, None) => return Err(Fault::Stranger(identity)),
            (None, Some(said)) => {
                unread.clone_from(&said.unread);
                let moment = (back.address, clock::now());
                creation::sign_in(with, registry, &identity, said, moment).await?
            }
        };
        Ok(SignedIn { user, identity, back: challenge.back, unread })
    }

    /// Its endpoints. Asked once in a while by one request; others do with the last ones known
    /// meanwhile, and while it cannot be asked.
    async fn endpoints(&self) -> Result<Arc<Endpoints>, Fault> {
        let known = || self.endpoints.load_full();
        let answer = |known: &Known| known.endpoints.clone().map_err(fault);
        let fresh = |known: &Arc<Known>| Instant::now() < known.until;
        if let Some(known) = known().filter(fresh) {
            return answer(&known);
        }
        let _asking = match (self.asking.try_lock(), known()) {
            (Ok(asking), _) => asking,
            (Err(_), Some(known)) if known.endpoints.is_ok() => return answer(&known),
            (Err(_), _) => self.asking.lock().await,
        };
        if let Some(known) = known().filter(fresh) {
            return answer(&known);
        }
        let found = Discovered::fetch(&self.fetch, &self.declared.issuer).await;
        let found = found.and_then(|found| read(&found));
        let found = match found {
            Ok(found) => {
                Known { until: Instant::now() + ENDPOINTS, endpoints: Ok(Arc::new(found)) }
            }
            Err(error) => {
                tracing::warn!(%error, "the login provider's metadata is of no use");
                let last = known().and_then(|known| known.endpoints.clone().ok());
                Known { until: Instant::now() + COOL_DOWN, endpoints: last.ok_or(error) }
            }
        };
        let found = Arc::new(found);
        self.endpoints.store(Some(found.clone()));
        answer(&found)
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
        with: &Login,
        endpoints: &Endpoints,
        code: &str,
        verifier: &str,
    ) -> Result<Zeroizing<String>, Fault> {
        let declared = &self.declared;
        let own = (declared.client_id.as_str(), declared.client_secret.expose());
        let redirect_uri = callback(with);
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
        let (status, body) = self
            .fetch
            .post_form(&endpoints.token, credentials, &form)
            .await
            .map_err(|fault| Fault::Unavailable(said(fault.to_string())))?;
        let document = Object::parse(&body);
        let member = |name: &str| document.as_ref().ok()?.get(name)?.as_str();
        match (status, member("id_token")) {
            (200, Some(token)) => Ok(token.to_owned().into()),
            (200, None) => Err(Fault::Answer(said("no id_token".to_owned()))),
            (429 | 500.., _) => Err(Fault::Unavailable(said(format!("status {status}")))),
            (400, _) if member("error") == Some("invalid_grant") => Err(Fault::Code),
            _ => {
                let error = plain(member("error").unwrap_or_default());
                Err(Fault::Answer(said(format!("status {status}, error `{error}`"))))
            }
        }
    }

    /// Who an ID token is of; and where users are made at login, what else counts for them.
    async fn verify(
        &self,
        token: &str,
        nonce: &str,
        creation: Option<&Creation>,
    ) -> Result<(String, Option<Said>), Fault> {
        let wrong =
            |error: TokenError| Fault::Answer(format!("the ID token is wrong: {}", error.text()));
        let malformed = |fault: TokenFault| wrong(described(token, fault));
        let decoded = Decoded::of(token).map_err(malformed)?;
        let parsed = decoded.read().map_err(malformed)?;
        let expected = Expected {
            issuer: &self.declared.issuer,
            client_id: &self.declared.client_id,
            nonce,
            algorithms: &self.declared.algorithms,
        };
        let check = |keys: &KeySet| expected.verify(&parsed, keys, clock::now());
        let verified = self.keys.verify(parsed.key_id.as_deref(), check).await;
        let subject = verified.map_err(|fault| match fault {
            VerifyFault::Token(fault) => wrong(fault),
            VerifyFault::Unavailable(why) => {
                Fault::Unavailable(format!("the provider's keys cannot be fetched: {why}"))
            }
        })?;
        Ok((subject, creation.map(|creation| Said::of(&parsed.claims, creation))))
    }
}

/// What of the metadata is needed here.
fn read(found: &Discovered) -> Result<Endpoints, DiscoveryFault> {
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

fn fault(fault: DiscoveryFault) -> Fault {
    match fault {
        DiscoveryFault::Unreachable(text) => Fault::Unavailable(text),
        DiscoveryFault::Unusable(text) => Fault::Answer(text),
    }
}

/// The challenge behind an answer, if this browser was given it.
fn own_challenge(with: &Login, back: Back<'_>) -> Result<Challenge, Fault> {
    if back.challenge.is_empty() {
        return Err(Fault::State("the browser holds nothing for it"));
    }
    let challenge = Challenge::read(with, back.challenge, Destination::Provider);
    let challenge = challenge
        .map_err(|_| Fault::State("what the browser holds for it is too old, or not ours"))?;
    if back.answer.value("state") != Some(challenge.jti.as_str()) {
        return Err(Fault::State("it is another one"));
    }
    if back.cookie.is_empty() || challenge.browser != browser(back.cookie) {
        return Err(Fault::State("somebody has signed in since, or the browser is another one"));
    }
    Ok(challenge)
}

fn callback(with: &Login) -> String {
    format!("{}{CALLBACK}", with.public_url)
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
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(64)
        .collect()
}
