//! An external sign-in page: it asks the admin listener what a challenge is about, and tells it who has signed in; the browser
//! comes back with a value that is good once.

use super::super::{Shared, clock};
use super::{Challenge, Fault, PATH};
use crate::grant::opaque::{Kind, RANDOM};
use crate::store::sessions::Login;

/// How long the browser may take to come back, seconds.
const BACK: i64 = 60;

/// Somebody has signed in there: the URL that brings the browser back.
///
/// # Errors
/// The subject may not sign in, the challenge was answered, or the store does not answer.
pub async fn accept(shared: &Shared, challenge: &Challenge, subject: &str) -> Result<String, Fault> {
    let snapshot = shared.snapshot.load_full();
    if !snapshot.rules().registry().user(subject).is_some_and(|user| user.usable()) {
        return Err(Fault::Subject);
    }
    challenge.use_up(shared).await?;
    let mut random = zeroize::Zeroizing::new([0_u8; RANDOM]);
    getrandom::fill(random.as_mut_slice()).map_err(|_| Fault::Unavailable)?;
    let value = Kind::Login.make(&random);
    let digest = Kind::Login.digest(&value).ok_or(Fault::Unavailable)?;
    let login = Login { user: subject.to_owned(), browser: challenge.browser.clone(), back: challenge.back.clone() };
    let now = clock::now();
    shared.store.keep_login(digest, login, now, now.plus(BACK)).await.map_err(|error| {
        tracing::error!(%error, "the store does not answer");
        Fault::Unavailable
    })?;
    Ok(format!("{}{PATH}?login_verifier={}", shared.fixed.public_url, *value))
}
