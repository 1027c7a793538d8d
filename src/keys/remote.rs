//! The keys of another issuer: fetched in advance, refreshed in the background; the last valid ones
//! are kept.
//!
//! A known `kid` never waits. An unknown one, and a signature that no key verifies, cause a fetch
//! as far as their budgets go, shared by all concurrent requests ([`super::freshness`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::discovery::Discovered;
use super::fetch::{Fetch, FetchFault};
use super::freshness::{COOL_DOWN, Cause, Freshness};
use crate::config::KeySource;
use crate::names::IssuerName;
use crate::reason::{TokenError, TokenFault};
use crate::token::keyset::{KeySet, LeftOut};

/// Time between refreshes without failures; each is up to a tenth earlier, so that gateways do not
/// fetch at the same time.
pub const REFRESH: Duration = Duration::from_secs(300);
/// Longest back-off after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// How long the last keys stay valid while none can be fetched: keys that the issuer removed must
/// expire at some time.
pub const STALE: Duration = Duration::from_secs(24 * 3_600);
/// How long a request waits for fresher keys.
const WAIT: Duration = Duration::from_secs(2);
/// How many requests wait for those of one issuer.
const MOST_WAITING: usize = 256;

/// The keys of one issuer and how fresh they are.
#[derive(Debug)]
pub struct IssuerKeys {
    name: IssuerName,
    source: KeySource,
    fetch: Fetch,
    set: ArcSwap<KeySet>,
    state: std::sync::Mutex<Freshness>,
    due: Notify,
    finished: watch::Sender<Finished>,
    waiting: AtomicUsize,
}

/// The last fetch that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Finished {
    number: u64,
    has_succeeded: bool,
}

/// Why a token could not be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyFault {
    /// The token is not valid.
    Token(TokenError),
    /// Not known: its key may be one that could not be fetched. Says why, for the operator.
    Unavailable(&'static str),
}

/// The outcome of one fetch, for the metrics: the keys that were left out of the set, or why it was
/// not replaced.
pub type Attempt = Result<Vec<LeftOut>, String>;

/// One who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl IssuerKeys {
    /// Keys from a source; a file has been read already, the others are fetched by
    /// [`IssuerKeys::keep_fresh`].
    #[must_use]
    pub fn new(name: IssuerName, source: KeySource, fetch: Fetch) -> Self {
        let set = match &source {
            KeySource::File(file) => {
                KeySet::parse(&file.contents).map(|(set, _)| set).unwrap_or_default()
            }
            KeySource::Discover { .. } | KeySource::Url { .. } => KeySet::default(),
        };
        Self {
            name,
            source,
            fetch,
            set: ArcSwap::from_pointee(set),
            state: std::sync::Mutex::new(Freshness::new(Instant::now())),
            due: Notify::new(),
            finished: watch::Sender::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The issuer.
    #[must_use]
    pub const fn name(&self) -> &IssuerName {
        &self.name
    }

    /// The source of the keys.
    #[must_use]
    pub const fn source(&self) -> &KeySource {
        &self.source
    }

    /// The current keys.
    #[must_use]
    pub fn set(&self) -> Arc<KeySet> {
        self.set.load_full()
    }

    /// Seconds since the last successful fetch; `None` before the first, and for a file.
    #[must_use]
    pub fn age(&self) -> Option<u64> {
        self.state().last_success.map(|at| at.elapsed().as_secs())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Freshness> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Verifies with these keys: at once if they have the token's, else again with fresher ones.
    /// `kid` is the token's.
    ///
    /// # Errors
    /// Returns the fault from `check`, or that the issuer cannot be asked.
    pub async fn verify<T>(
        &self,
        kid: Option<&str>,
        check: impl Fn(&KeySet) -> Result<T, TokenError>,
    ) -> Result<T, VerifyFault> {
        let error = match check(&self.set()) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let Some(cause) = cause_of(&error).filter(|_| !self.source.is_file()) else {
            return Err(VerifyFault::Token(error));
        };
        if kid.is_some_and(|kid| self.is_missing(kid) && cause == Cause::UnknownName) {
            self.nudge();
            return Err(VerifyFault::Token(error));
        }
        let fresher = self.verify_with_fresher(cause, kid, check);
        let late = VerifyFault::Unavailable("the issuer takes too long");
        let result = tokio::time::timeout(WAIT, fresher).await.unwrap_or(Err(late));
        match (result, cause) {
            // A key of that name was there and did not fit.
            (Err(VerifyFault::Unavailable(_)), Cause::Signature) => Err(VerifyFault::Token(error)),
            (result, _) => result,
        }
    }

    async fn verify_with_fresher<T>(
        &self,
        cause: Cause,
        kid: Option<&str>,
        check: impl Fn(&KeySet) -> Result<T, TokenError>,
    ) -> Result<T, VerifyFault> {
        let _waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= MOST_WAITING {
            return Err(VerifyFault::Unavailable("too many requests wait for them"));
        }
        let arrived = Instant::now();
        loop {
            let turn = self.state().turn(cause, arrived, Instant::now());
            let Some(turn) = turn else {
                let text = "tokens of unknown keys have caused too many fetches in the last 30 s";
                return Err(VerifyFault::Unavailable(text));
            };
            if turn.is_new {
                self.due.notify_one();
            }
            let mut finished = self.finished.subscribe();
            let finished = finished.wait_for(|finished| finished.number >= turn.number).await;
            if !finished.is_ok_and(|finished| finished.has_succeeded) {
                return Err(VerifyFault::Unavailable("the issuer does not answer as it should"));
            }
            match check(&self.set()) {
                Err(error) if cause_of(&error).is_some() => {
                    if turn.is_conclusive {
                        self.remember(kid, &error);
                        return Err(VerifyFault::Token(error));
                    }
                }
                checked => return checked.map_err(VerifyFault::Token),
            }
        }
    }

    fn is_missing(&self, kid: &str) -> bool {
        self.state().missing.has(kid, Instant::now())
    }

    fn remember(&self, kid: Option<&str>, error: &TokenError) {
        if let Some(kid) = kid.filter(|_| error.fault == TokenFault::KeyUnknown) {
            self.state().missing.add(kid, Instant::now());
        }
    }

    /// Puts a set in force. Names that it has no more are names that a fetch did not have.
    fn put(&self, set: KeySet) {
        let before = self.set.swap(Arc::new(set));
        let now = self.set();
        let is_gone =
            |name: &&String| !now.keys().iter().any(|key| key.name.as_ref() == Some(*name));
        let gone: Vec<&String> =
            before.keys().iter().filter_map(|key| key.name.as_ref()).filter(is_gone).collect();
        let mut state = self.state();
        for name in gone {
            state.missing.add(name, Instant::now());
        }
    }

    /// Keys of a file that were left out; of other sources, fetches report them.
    #[must_use]
    pub fn left_out_of_file(&self) -> Vec<LeftOut> {
        match &self.source {
            KeySource::File(file) => {
                KeySet::parse(&file.contents).map(|(_, left_out)| left_out).unwrap_or_default()
            }
            KeySource::Discover { .. } | KeySource::Url { .. } => Vec::new(),
        }
    }

    /// A token that was refused before came again: its key may have been published since. Nobody
    /// waits, and nothing is fetched within thirty seconds of the last fetch.
    pub fn nudge(&self) {
        if !self.source.is_file() && self.state().nudge(Instant::now()) {
            self.due.notify_one();
        }
    }

    /// Fetches and refreshes for as long as it is polled; `record` receives every attempt.
    pub async fn keep_fresh(&self, mut record: impl FnMut(&IssuerName, &Attempt)) {
        if self.source.is_file() {
            return;
        }
        loop {
            let wait = self.state().next.saturating_duration_since(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.due.notified() => {}
            }
            if Instant::now() < self.state().next {
                continue;
            }
            self.state().begin(Instant::now());
            let outcome = self.fetch().await;
            let number = self.settle(&outcome);
            self.finished.send_replace(Finished { number, has_succeeded: outcome.is_ok() });
            record(&self.name, &outcome);
        }
    }

    /// Notes how a fetch ended; gives its number.
    fn settle(&self, outcome: &Attempt) -> u64 {
        let now = Instant::now();
        let mut state = self.state();
        state.end(now);
        if outcome.is_ok() {
            state.last_success = Some(now);
            state.failures = 0;
            state.next = now + jittered(REFRESH);
        } else {
            state.failures = state.failures.saturating_add(1);
            let backoff = Duration::from_secs(1) * 2_u32.saturating_pow(state.failures.min(9));
            // Before the first success, keys are needed soon.
            let longest = if state.last_success.is_some() { MAX_BACKOFF } else { COOL_DOWN };
            state.next = now + jittered(backoff.min(longest));
            if state.last_success.is_some_and(|at| now.duration_since(at) > STALE) {
                self.set.store(Arc::default());
            }
        }
        state.begun
    }

    /// Fetches once, to report the result.
    ///
    /// # Errors
    /// Says why there are no keys, for the operator.
    pub async fn fetch_once(&self) -> Attempt {
        self.fetch().await
    }

    async fn fetch(&self) -> Attempt {
        let said = |url: &str, fault: FetchFault| format!("{url}: {fault}");
        let url = match &self.source {
            KeySource::Url { url, .. } => url.clone(),
            KeySource::Discover { issuer, any_host, .. } => {
                let found = Discovered::fetch(&self.fetch, issuer).await;
                let found = found.map_err(|fault| fault.to_string())?;
                found.jwks_uri(*any_host).map_err(|fault| fault.to_string())?
            }
            KeySource::File(file) => {
                let parsed = KeySet::parse(&file.contents);
                return parsed.map(|(_, left_out)| left_out).map_err(|fault| fault.to_string());
            }
        };
        let body = self.fetch.get(&url).await.map_err(|fault| said(&url, fault))?;
        let (set, left_out) = KeySet::parse(&body).map_err(|fault| format!("{url}: {fault}"))?;
        self.put(set);
        Ok(left_out)
    }
}

/// Whether fresher keys may make a token good. A token whose algorithm the issuer's rules exclude
/// has been refused before.
const fn cause_of(error: &TokenError) -> Option<Cause> {
    match error.fault {
        TokenFault::KeyUnknown => Some(Cause::UnknownName),
        TokenFault::Signature | TokenFault::Algorithm => Some(Cause::Signature),
        TokenFault::Form
        | TokenFault::Expired
        | TokenFault::NotYetValid
        | TokenFault::Issuer
        | TokenFault::Audience
        | TokenFault::Type
        | TokenFault::Revoked
        | TokenFault::Inactive
        | TokenFault::Binding
        | TokenFault::Claims => None,
    }
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 - fastrand::f64() * 0.1)
}
