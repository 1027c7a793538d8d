//! Login at an external page. The browser is sent there with a challenge that we have signed; the page asks the admin listener
//! what it is about, and tells it who has signed in; the browser comes back with a value that is good once, and only in the
//! browser that was sent away.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Shared, clock};
use crate::grant::opaque::{Kind, RANDOM};
use crate::names::Timestamp;
use crate::store::sessions::Login;
use crate::token::jws::Unverified;

/// `typ` of a challenge: no access token, whoever may present it.
const KIND: &str = "login-challenge+jwt";
/// How long a login may take, seconds.
const LIFE: i64 = 600;
/// How long the browser may take to come back, seconds.
const BACK: i64 = 60;
/// Where the browser comes back to.
pub const PATH: &str = "/oauth2/login";

/// What a challenge says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Challenge {
    iss: String,
    exp: i64,
    jti: String,
    /// The client that the user is on the way to; nobody for our own pages.
    pub client: Option<String>,
    /// Where the browser goes afterwards: a path of ours with its query.
    pub back: String,
    /// A digest of the browser's cookie.
    browser: String,
}

/// Why a challenge is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not one of ours, or too old.
    #[error("the login_challenge is not one of ours, or has expired")]
    Challenge,
    /// It was answered before.
    #[error("the login_challenge has been answered before")]
    Used,
    /// No such user, or one that may not sign in.
    #[error("the subject is no user here, or one that is inactive or locked")]
    Subject,
    /// Our outage.
    #[error("the login could not be kept; try again")]
    Unavailable,
}

/// The digest that stands for a browser.
#[must_use]
pub fn browser(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("browser {cookie}")))
}

/// A signed challenge.
///
/// # Errors
/// It could not be made.
pub fn challenge(shared: &Shared, client: Option<&str>, back: &str, cookie: &str) -> Result<String, Fault> {
    let mut id = [0_u8; 20];
    getrandom::fill(&mut id).map_err(|_| Fault::Unavailable)?;
    let claims = Challenge {
        iss: shared.fixed.public_url.clone(),
        exp: clock::now().plus(LIFE).0,
        jti: URL_SAFE_NO_PAD.encode(id),
        client: client.map(str::to_owned),
        back: back.to_owned(),
        browser: browser(cookie),
    };
    shared.own_keys.now().current().sign_as(KIND, &claims).map_err(|_| Fault::Unavailable)
}

/// Reads a challenge that we have signed.
///
/// # Errors
/// It is not one of ours, or too old.
pub fn read(shared: &Shared, text: &str) -> Result<Challenge, Fault> {
    let parsed = Unverified::parse(text).map_err(|_| Fault::Challenge)?;
    let ours = parsed.kind.as_deref() == Some(KIND) && shared.own_keys.now().set().verify(&parsed).is_ok();
    let claims = serde_json::Value::Object(parsed.claims.clone());
    let challenge: Challenge = serde_json::from_value(claims).map_err(|_| Fault::Challenge)?;
    let good = ours && challenge.iss == shared.fixed.public_url && clock::now() < Timestamp(challenge.exp);
    if good { Ok(challenge) } else { Err(Fault::Challenge) }
}

/// Uses a challenge up.
///
/// # Errors
/// It was used before, or cannot be marked.
pub async fn answer(shared: &Shared, challenge: &Challenge) -> Result<(), Fault> {
    let id = format!("login {}", challenge.jti);
    match shared.store.use_assertion(id, Timestamp(challenge.exp)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::Used),
        Err(error) => {
            tracing::error!(%error, "the store does not answer");
            Err(Fault::Unavailable)
        }
    }
}

/// Somebody has signed in there: the URL that brings the browser back.
///
/// # Errors
/// The subject may not sign in, the challenge was answered, or the store does not answer.
pub async fn accept(shared: &Shared, challenge: &Challenge, subject: &str) -> Result<String, Fault> {
    let snapshot = shared.snapshot.load_full();
    if !snapshot.rules().registry().user(subject).is_some_and(|user| user.usable()) {
        return Err(Fault::Subject);
    }
    answer(shared, challenge).await?;
    let mut random = zeroize::Zeroizing::new([0_u8; RANDOM]);
    getrandom::fill(random.as_mut_slice()).map_err(|_| Fault::Unavailable)?;
    let value = Kind::Login.make(&random);
    let digest = Kind::Login.digest(&value).ok_or(Fault::Unavailable)?;
    let login = Login { user: subject.to_owned(), browser: challenge.browser.clone(), back: challenge.back.clone() };
    shared.store.keep_login(digest, login, clock::now().plus(BACK)).await.map_err(|error| {
        tracing::error!(%error, "the store does not answer");
        Fault::Unavailable
    })?;
    Ok(format!("{}{PATH}?login_verifier={}", shared.fixed.public_url, *value))
}
