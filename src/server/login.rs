//! Login elsewhere: at an external page, or at an OpenID provider. The browser is sent there with a
//! challenge that we have signed and that names what it is about; only the browser that was sent
//! away can come back with it, and once.

mod creation;
pub mod page;
pub mod provider;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::OwnKeys;
use crate::names::Timestamp;
use crate::server::limits::guessing::Guessing;
use crate::store::Store;
use crate::system::{clock, random};
use crate::token::jws::Decoded;

/// What login elsewhere works with.
#[derive(Debug)]
pub struct Login {
    /// Where we are.
    pub public_url: String,
    /// Sign challenges.
    pub own_keys: Arc<OwnKeys>,
    /// Says which challenges were used up.
    pub store: Store,
    /// Counts wrong codes.
    pub guessing: Arc<Guessing>,
}

/// How long a login may take, seconds.
pub const LIFE: i64 = 600;
/// Where the browser comes back to from an external page.
pub const PATH: &str = "/oauth2/login";
/// Where the link to the provider leads, with where to go afterwards: on from here.
pub const LEAVE: &str = "/oauth2/login/provider";
/// Where the browser comes back to from there: the redirect URI that we are registered with there.
pub const CALLBACK: &str = "/oauth2/login/callback";

/// Where a challenge is sent. None is taken for the other, and neither for an access token, whoever
/// may present it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An external page.
    Page,
    /// The OpenID provider: the challenge stays in the browser, and the provider gets its id as
    /// `state`.
    Provider,
}

impl Destination {
    /// `typ` of the challenge (RFC 8725 §3.11).
    const fn kind(self) -> &'static str {
        match self {
            Self::Page => "login-challenge+jwt",
            Self::Provider => "login-at-provider+jwt",
        }
    }
}

/// What a challenge says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Challenge {
    iss: String,
    exp: i64,
    /// Its id: 160 random bits.
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
    digest(&["browser", cookie])
}

fn digest(parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(parts.join(" ")))
}

impl Challenge {
    /// A new challenge for the browser with this cookie.
    ///
    /// # Errors
    /// No randomness.
    pub fn new(
        with: &Login,
        client: Option<&str>,
        back: &str,
        cookie: &str,
    ) -> Result<Self, Fault> {
        let mut id = [0_u8; 20];
        random::fill(&mut id).map_err(|_| Fault::Unavailable)?;
        Ok(Self {
            iss: with.public_url.clone(),
            exp: clock::now().plus(LIFE).0,
            jti: URL_SAFE_NO_PAD.encode(id),
            client: client.map(str::to_owned),
            back: back.to_owned(),
            browser: browser(cookie),
        })
    }

    /// The challenge as it travels.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn sign(&self, with: &Login, to: Destination) -> Result<String, Fault> {
        with.own_keys.now().current().sign_as(to.kind(), self).map_err(|_| Fault::Unavailable)
    }

    /// Reads a challenge that we have signed.
    ///
    /// # Errors
    /// It is not one of ours, or too old.
    pub fn read(with: &Login, text: &str, from: Destination) -> Result<Self, Fault> {
        let decoded = Decoded::of(text).map_err(|_| Fault::Challenge)?;
        let parsed = decoded.read().map_err(|_| Fault::Challenge)?;
        let ours = parsed.kind.as_deref() == Some(from.kind())
            && with.own_keys.now().set().verify(&parsed).is_ok();
        let claims = serde_json::Value::Object(parsed.claims.to_map());
        let challenge: Self = serde_json::from_value(claims).map_err(|_| Fault::Challenge)?;
        let good =
            ours && challenge.iss == with.public_url && clock::now() < Timestamp(challenge.exp);
        if good { Ok(challenge) } else { Err(Fault::Challenge) }
    }

    /// Uses it up.
    ///
    /// # Errors
    /// It was used before, or cannot be marked.
    pub async fn use_up(&self, with: &Login) -> Result<(), Fault> {
        let id = format!("login {}", self.jti);
        match with.store.use_assertion(id, clock::now(), Timestamp(self.exp)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::Used),
            Err(error) => {
                tracing::error!(%error, "the store does not answer");
                Err(Fault::Unavailable)
            }
        }
    }
}
