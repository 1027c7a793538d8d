//! Who asks: clients by their secrets and signatures, users by their passwords. Guessing is
//! limited.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use super::issue::unavailable;
use super::token::stored;
use super::{Caller, FAILURE, Server};
use crate::client::{Client, User, secret};
use crate::grant::assertion::Assertion;
use crate::grant::authentication::{Credentials, Proven};
use crate::grant::{ErrorCode, GrantError};
use crate::names::Timestamp;
use crate::server::limits::guessing::{Origin, Refused};
use crate::store::attempts::Account;
use crate::system::clock;
use crate::tooling::usage::{Day, NetworkSketch};

/// Checks who the client is. What cannot be guessed (a secret of ours, a signature) is looked at
/// first and passes whatever was wrong before; a secret that somebody chose waits for its turn
/// under a limit.
///
/// # Errors
/// `invalid_client`; `temporarily_unavailable` with the time to wait.
pub(super) async fn authenticate(
    server: &Server,
    caller: &Caller,
    credentials: Credentials,
    now: Timestamp,
) -> Result<Arc<Client>, GrantError> {
    let error = match prove_fast(server, caller, &credentials, now).await {
        Ok(proven) => return Ok(noted(server, proven, (caller.address, now)).await),
        Err(error) if error.code != ErrorCode::InvalidClient => return Err(error),
        Err(error) => error,
    };
    let (guessing, store) = (&server.shared.guessing, &server.shared.store);
    let (name, origin) = (credentials.claimed().to_owned(), Origin::Address(caller.address));
    let chosen =
        caller.snapshot.rules().registry().slowest_secret().is_some() && credentials.has_secret();
    if !chosen {
        let counted = guessing.note_wrong(Account::Client, &name, &origin, (store, now)).await;
        return Err(counted
            .map_or_else(|wait| GrantError::too_many(wait, "too many wrong secrets"), |()| error));
    }
    let snapshot = caller.snapshot.clone();
    let check = move || credentials.prove_slowly(snapshot.rules().registry(), now);
    match guessing.check(Account::Client, &name, &origin, (store, now), check).await {
        Ok(proven) => Ok(noted(server, proven, (caller.address, now)).await),
        Err(Refused::Wrong(began)) => {
            wait_out(began).await;
            Err(error)
        }
        Err(Refused::Limited(wait)) => Err(GrantError::too_many(wait, "too many wrong secrets")),
        Err(Refused::Crowded) => Err(unavailable("too many secrets wait to be checked")),
    }
}

/// A failure takes a whole number of [`FAILURE`] from when it was looked at: its time does not tell
/// what was looked at.
async fn wait_out(began: Instant) {
    let spent = began.elapsed().as_millis() / FAILURE.as_millis() + 1;
    let until = began + FAILURE * u32::try_from(spent).unwrap_or(1);
    tokio::time::sleep_until(until.into()).await;
}

async fn noted(server: &Server, proven: Proven, at: (Option<IpAddr>, Timestamp)) -> Arc<Client> {
    if let Some(secret) = proven.secret {
        note_use(server, &proven.client, secret, at).await;
    }
    proven.client
}

/// Keeps the day on which a secret was last used, once a day, and the networks, once for each group
/// of them.
async fn note_use(
    server: &Server,
    client: &Client,
    secret: String,
    (address, now): (Option<IpAddr>, Timestamp),
) {
    const DAY: i64 = 86_400;
    let day = Timestamp(now.0 - now.0.rem_euclid(DAY));
    let key = (client.id.clone(), secret.clone());
    let (store, id) = (&server.shared.store, client.id.to_string());
    let mut noted = Ok(());
    if server.shared.secret_days.insert(key.clone(), day) != Some(day) {
        noted = store.record_secret_use(id.clone(), secret.clone(), day).await;
    }
    let group = address.map(NetworkSketch::group);
    let period = NetworkSketch::period(Day::of(now));
    let group = group.filter(|group| {
        let mut known = server.shared.secret_networks.entry(key).or_default();
        if known.0 != period {
            *known = (period, NetworkSketch::default());
        }
        known.1.add(*group)
    });
    if let Some(group) = group {
        noted = noted.and(store.record_secret_network(id, secret, period, group).await);
    }
    if let Err(error) = noted {
        tracing::warn!(%error, client = %client.id, "the use of a secret could not be stored");
    }
}

async fn prove_fast(
    server: &Server,
    caller: &Caller,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<Proven, GrantError> {
    let registry = caller.snapshot.rules().registry();
    let audiences = audiences(&server.shared.fixed.public_url);
    let audiences: Vec<&str> = audiences.iter().map(String::as_str).collect();
    if let Some(signed) = credentials.signed(registry, &audiences, now) {
        let (client, assertion) = signed?;
        if !use_once(server, &assertion).await? {
            return Err(GrantError::unauthenticated(USED_BEFORE));
        }
        return Ok(Proven { client, secret: None });
    }
    credentials.prove_fast(registry, now)
}

/// Whether somebody may sign in.
pub(super) enum SignIn {
    /// As this user.
    As(Arc<User>),
    /// Not at all. The text is for the one who tries: it does not tell an unknown name from a wrong
    /// password.
    Refused(&'static str),
}

/// The fault of an assertion that is not new.
pub(super) const USED_BEFORE: &str = "the assertion has been used before";

/// Checks a user's password in its turn, unless too many guesses came before.
///
/// # Errors
/// `temporarily_unavailable`, with the time to wait.
pub(super) async fn check_password(
    server: &Server,
    caller: &Caller,
    username: &str,
    password: Zeroizing<String>,
    (origin, now): (Origin, Timestamp),
) -> Result<SignIn, GrantError> {
    let snapshot = caller.snapshot.clone();
    let name = username.to_owned();
    let check = move || {
        let registry = snapshot.rules().registry();
        let user = registry.user(&name);
        let digest = user.and_then(|user| user.password.as_deref());
        let right = secret::check_password(digest, &password, registry.slowest_password());
        user.filter(|_| right).cloned()
    };
    let (guessing, store) = (&server.shared.guessing, &server.shared.store);
    match guessing.check(Account::User, username, &origin, (store, now), check).await {
        Ok(user) if user.usable() => Ok(SignIn::As(user)),
        Ok(_) => Ok(SignIn::Refused("This account is locked or inactive. Ask your administrator.")),
        Err(Refused::Wrong(began)) => {
            wait_out(began).await;
            Ok(SignIn::Refused("The user name or the password is wrong."))
        }
        Err(Refused::Limited(wait)) => Err(GrantError::too_many(wait, "too many wrong passwords")),
        Err(Refused::Crowded) => Err(unavailable("too many passwords wait to be checked")),
    }
}

/// What an assertion may name as its audience: our issuer, or the token endpoint under either name
/// (RFC 7523 §3).
pub(super) fn audiences(public_url: &str) -> [String; 3] {
    [
        public_url.to_owned(),
        format!("{public_url}/oauth2/token"),
        format!("{public_url}/oauth_token.do"),
    ]
}

/// Uses an assertion up; false where it has been used before.
///
/// # Errors
/// The store does not answer.
pub(super) async fn use_once(server: &Server, assertion: &Assertion) -> Result<bool, GrantError> {
    let new = server
        .shared
        .store
        .use_assertion(assertion.id.clone(), clock::now(), assertion.expires)
        .await;
    new.map_err(|fault| stored(&fault))
}
