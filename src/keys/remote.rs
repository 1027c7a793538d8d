//! The keys of another issuer: fetched in advance, refreshed in the background; the last valid ones
//! are kept.
//!
//! A known `kid` never waits. An unknown one triggers a refresh at most once per [`COOL_DOWN`],
//! shared by all concurrent requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::discovery::Discovered;
use super::fetch::{Fetch, FetchFault};
use crate::config::KeySource;
use crate::names::IssuerName;
use crate::reason::{TokenError, TokenFault};
use crate::token::keyset::KeySet;

/// Time between refreshes without failures; each is up to a tenth earlier, so that gateways do not
/// fetch at the same time.
pub const REFRESH: Duration = Duration::from_secs(300);
/// Minimum time between two fetches for unknown kids.
pub const COOL_DOWN: Duration = Duration::from_secs(30);
/// Longest back-off after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// How long the last keys stay valid while none can be fetched: keys that the issuer removed must
/// expire at some time.
pub const STALE: Duration = Duration::from_secs(24 * 3_600);
/// How long a request with an unknown `kid` waits for a refresh.
const WAIT: Duration = Duration::from_secs(2);

/// The keys of one issuer and how fresh they are.
#[derive(Debug)]
pub struct IssuerKeys {
    name: IssuerName,
    source: KeySource,
    set: ArcSwap<KeySet>,
    state: std::sync::Mutex<State>,
    due: Notify,
    finished: Notify,
    fetching: AtomicBool,
}

#[derive(Debug)]
struct State {
    last_attempt: Option<Instant>,
    last_success: Option<Instant>,
    failures: u32,
    next: Instant,
}

/// Why a token could not be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyFault {
    /// The token is not valid.
    Token(TokenError),
    /// Not known: its key may be one that could not be fetched.
    Unavailable,
}

/// The result of a request for fresher keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refreshed {
    /// A fetch succeeded: check again.
    Yes,
    /// The keys are up to date: the kid is unknown.
    Current,
    /// The issuer cannot be reached: whether the kid exists is not known.
    Unavailable,
}

/// The outcome of one fetch, for the metrics.
pub type Attempt = Result<usize, String>;

impl IssuerKeys {
    /// Keys from a source; a file has been read already, the others are fetched by
    /// [`IssuerKeys::keep_fresh`].
    #[must_use]
    pub fn new(name: IssuerName, source: KeySource) -> Self {
        let set = match &source {
            KeySource::File(file) => {
                KeySet::parse(&file.contents).map(|(set, _)| set).unwrap_or_default()
            }
            KeySource::Discover { .. } | KeySource::Url(_) => KeySet::default(),
        };
        Self {
            name,
            source,
            set: ArcSwap::from_pointee(set),
            state: std::sync::Mutex::new(State {
                last_attempt: None,
                last_success: None,
                failures: 0,
                next: Instant::now(),
            }),
            due: Notify::new(),
            finished: Notify::new(),
            fetching: AtomicBool::new(false),
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

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Verifies with these keys: at once if the `kid` is known, else again with fresher ones.
    ///
    /// # Errors
    /// Returns the fault from `check`, or that the issuer cannot be reached.
    pub async fn verify<T>(
        &self,
        check: impl Fn(&KeySet) -> Result<T, TokenError>,
    ) -> Result<T, VerifyFault> {
        match check(&self.set()) {
            Err(error) if error.fault == TokenFault::KeyUnknown => {
                match self.refresh_for_unknown_kid().await {
                    Refreshed::Yes => check(&self.set()).map_err(VerifyFault::Token),
                    Refreshed::Current => Err(VerifyFault::Token(error)),
                    Refreshed::Unavailable => Err(VerifyFault::Unavailable),
                }
            }
            checked => checked.map_err(VerifyFault::Token),
        }
    }

    /// Requests a refresh for an unknown `kid`, and waits for it, at most two seconds.
    async fn refresh_for_unknown_kid(&self) -> Refreshed {
        if matches!(self.source, KeySource::File(_)) {
            return Refreshed::Current;
        }
        let finished = self.finished.notified();
        let before = {
            let mut state = self.state();
            let cooled = state.last_attempt.is_none_or(|at| at.elapsed() >= COOL_DOWN);
            if !self.fetching.load(Ordering::Acquire) {
                if !cooled {
                    return if state.failures > 0 {
                        Refreshed::Unavailable
                    } else {
                        Refreshed::Current
                    };
                }
                state.next = Instant::now();
                self.due.notify_one();
            }
            state.last_success
        };
        let _ = tokio::time::timeout(WAIT, finished).await;
        let state = self.state();
        if state.last_success == before { Refreshed::Unavailable } else { Refreshed::Yes }
    }

    /// Fetches and refreshes for as long as it is polled; `record` receives every attempt.
    pub async fn keep_fresh(&self, fetch: &Fetch, record: impl Fn(&IssuerName, &Attempt)) {
        if matches!(self.source, KeySource::File(_)) {
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
            self.fetching.store(true, Ordering::Release);
            let outcome = self.fetch(fetch).await;
            self.settle(&outcome);
            self.finished.notify_waiters();
            record(&self.name, &outcome);
        }
    }

    fn settle(&self, outcome: &Attempt) {
        let now = Instant::now();
        let mut state = self.state();
        // Under the lock of the state: its readers see both or neither.
        self.fetching.store(false, Ordering::Release);
        state.last_attempt = Some(now);
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
    }

    /// Fetches once, to report the result.
    ///
    /// # Errors
    /// Says why there are no keys, for the operator.
    pub async fn fetch_once(&self, fetch: &Fetch) -> Attempt {
        self.fetch(fetch).await
    }

    /// One fetch: returns how many keys were left out of the set, or why it was not replaced.
    async fn fetch(&self, fetch: &Fetch) -> Attempt {
        let said = |url: &str, fault: FetchFault| format!("{url}: {fault}");
        let url = match &self.source {
            KeySource::Url(url) => url.clone(),
            KeySource::Discover { issuer, any_host } => {
                let found =
                    Discovered::fetch(fetch, issuer).await.map_err(|fault| fault.to_string())?;
                found.jwks_uri(*any_host).map_err(|fault| fault.to_string())?
            }
            KeySource::File(_) => return Ok(0),
        };
        let body = fetch.get(&url).await.map_err(|fault| said(&url, fault))?;
        let (set, left_out) = KeySet::parse(&body).map_err(|fault| format!("{url}: {fault}"))?;
        self.set.store(Arc::new(set));
        Ok(left_out)
    }
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 - fastrand::f64() * 0.1)
}
