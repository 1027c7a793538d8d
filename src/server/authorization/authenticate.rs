//! Who asks: clients by their secrets and signatures, users by their passwords. Guessing is limited.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::clock;
use super::super::throttle::Account;
use super::token::stored;
use super::{Caller, FAILURE, Server};
use crate::client::{Client, User, secret};
use crate::grant::assertion::Assertion;
use crate::grant::authentication::{Credentials, Proven};
use crate::grant::{ErrorCode, GrantError};
use crate::names::Timestamp;

/// Checks the client's secret, unless too many guesses came before; a slow one on a thread of its own, of which there are few,
/// with a bounded queue before them.
///
/// # Errors
/// `invalid_client`; `temporarily_unavailable` with the time to wait.
pub(super) async fn authenticate(
    server: &Server,
    caller: &Caller,
    credentials: Credentials,
    now: Timestamp,
) -> Result<Arc<Client>, GrantError> {
    let (throttle, began) = (&server.shared.throttle, tokio::time::Instant::now());
    let attempt = throttle
        .begin(Account::Client, credentials.claimed(), caller.address, now)
        .await
        .map_err(|wait| GrantError::too_many(wait, "too many wrong secrets"))?;
    match prove(server, caller, credentials, now).await {
        Ok(Proven { client, secret }) => {
            attempt.succeeded();
            if let Some(secret) = secret {
                note_use(server, &client, secret, now).await;
            }
            Ok(client)
        }
        Err(error) if error.code == ErrorCode::InvalidClient => {
            attempt.failed(&server.shared.store).await;
            if caller.snapshot.rules().registry().has_slow_secrets() {
                tokio::time::sleep_until(began + FAILURE).await;
            }
            Err(error)
        }
        Err(error) => {
            attempt.succeeded();
            Err(error)
        }
    }
}

/// Keeps the day on which a secret was last used, once a day.
async fn note_use(server: &Server, client: &Client, secret: String, now: Timestamp) {
    const DAY: i64 = 86_400;
    let day = Timestamp(now.0 - now.0.rem_euclid(DAY));
    let key = (client.id.clone(), secret.clone());
    if server.shared.secret_days.insert(key, day) == Some(day) {
        return;
    }
    if let Err(error) = server.shared.store.record_secret_use(client.id.to_string(), secret, day).await {
        tracing::warn!(%error, client = %client.id, "when a secret was last used could not be stored");
    }
}

async fn prove(
    server: &Server,
    caller: &Caller,
    credentials: Credentials,
    now: Timestamp,
) -> Result<Proven, GrantError> {
    let registry = caller.snapshot.rules().registry();
    let audiences = audiences(&server.shared.fixed.public_url);
    let audiences: Vec<&str> = audiences.iter().map(String::as_str).collect();
    if let Some(signed) = credentials.signed(registry, &audiences, now) {
        let (client, assertion) = signed?;
        use_once(server, &assertion).await?.map_err(GrantError::unauthenticated)?;
        return Ok(Proven { client, secret: None });
    }
    if !credentials.is_slow(registry) {
        return credentials.authenticate(registry, now);
    }
    let snapshot = caller.snapshot.clone();
    server.clients.run(move || credentials.authenticate(snapshot.rules().registry(), now)).await?
}

/// Checks a user's password, unless too many guesses came before. The inner error is for the one who tries: it does not tell an
/// unknown name from a wrong password.
///
/// # Errors
/// `temporarily_unavailable`, with the time to wait where that is known.
pub(super) async fn check_password(
    server: &Server,
    caller: &Caller,
    username: &str,
    password: Zeroizing<String>,
    now: Timestamp,
) -> Result<Result<Arc<User>, &'static str>, GrantError> {
    let (throttle, began) = (&server.shared.throttle, tokio::time::Instant::now());
    let attempt = throttle
        .begin(Account::User, username, caller.address, now)
        .await
        .map_err(|wait| GrantError::too_many(wait, "too many wrong passwords"))?;
    let user = caller.snapshot.rules().registry().user(username).cloned();
    let digest = user.as_ref().and_then(|user| user.password.clone());
    let right = match server.users.run(move || secret::check_password(digest.as_deref(), &password)).await {
        Ok(right) => right,
        Err(error) => {
            attempt.succeeded();
            return Err(error);
        }
    };
    let Some(user) = user.filter(|_| right) else {
        attempt.failed(&server.shared.store).await;
        tokio::time::sleep_until(began + FAILURE).await;
        return Ok(Err("The user name or the password is wrong."));
    };
    attempt.succeeded();
    Ok(if user.usable() { Ok(user) } else { Err("This account is locked or inactive. Ask your administrator.") })
}

/// What an assertion may name as its audience: our issuer, or the token endpoint under either name (RFC 7523 §3).
pub(super) fn audiences(public_url: &str) -> [String; 3] {
    [public_url.to_owned(), format!("{public_url}/oauth2/token"), format!("{public_url}/oauth_token.do")]
}

/// Notes that an assertion is used; the inner error is that it was before.
pub(super) async fn use_once(server: &Server, assertion: &Assertion) -> Result<Result<(), &'static str>, GrantError> {
    let new = server.shared.store.use_assertion(assertion.id.clone(), clock::now(), assertion.expires).await;
    let new = new.map_err(|fault| stored(&fault))?;
    Ok(if new { Ok(()) } else { Err("the assertion has been used before") })
}
