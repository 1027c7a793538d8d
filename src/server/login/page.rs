//! An external sign-in page: it asks the admin listener what a challenge is about, and tells it who
//! has signed in; the browser comes back with a value that is good once.

use super::{Challenge, Fault, Login, PATH};
use crate::client::Registry;
use crate::grant::opaque::{Kind, RANDOM};
use crate::store::sessions;
use crate::system::{clock, random};

/// How long the browser may take to come back, seconds.
const BACK: i64 = 60;

/// Somebody has signed in there: the URL that brings the browser back.
///
/// # Errors
/// The subject may not sign in, the challenge was answered, or the store does not answer.
pub async fn accept(
    with: &Login,
    registry: &Registry,
    challenge: &Challenge,
    subject: &str,
) -> Result<String, Fault> {
    if !registry.user(subject).is_some_and(|user| user.usable()) {
        return Err(Fault::Subject);
    }
    challenge.use_up(with).await?;
    let mut random = zeroize::Zeroizing::new([0_u8; RANDOM]);
    random::fill(random.as_mut_slice()).map_err(|_| Fault::Unavailable)?;
    let value = Kind::Login.make(&random);
    let digest = Kind::Login.digest(&value).ok_or(Fault::Unavailable)?;
    let login = sessions::Login {
        user: subject.to_owned(),
        browser: challenge.browser.clone(),
        back: challenge.back.clone(),
    };
    let now = clock::now();
    with.store.keep_login(digest, login, now, now.plus(BACK)).await.map_err(|error| {
        tracing::error!(%error, "the store does not answer");
        Fault::Unavailable
    })?;
    Ok(format!("{}{PATH}?login_verifier={}", with.public_url, *value))
}
