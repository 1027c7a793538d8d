//! Opaque tokens of other issuers: asked about there (RFC 7662), once for many requests, and not at
//! all while the issuer is away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, Semaphore};

use super::cache::{Cache, TokenDigest};
use crate::config;
use crate::keys::fetch::Fetch;
use crate::names::Timestamp;
use crate::reason::{TokenError, TokenFault};
use crate::system::clock;
use crate::telemetry::metrics::Metrics;
use crate::token::json::Object;
use crate::token::{Facts, IssuerRules};

/// Time for one question.
const TIME: Duration = Duration::from_secs(2);
/// Questions to one issuer at once.
const AT_ONCE: usize = 64;
/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_millis(500);
/// Failures in a row after which the issuer is left alone.
const FAILURES: u32 = 5;
/// Between two questions while it is.
const PROBE: Duration = Duration::from_secs(1);
/// How long a token that the issuer does not know stays unknown, seconds.
const UNKNOWN: i64 = 10;
/// Unknown tokens that are remembered.
const MOST_UNKNOWN: usize = 16_384;
/// Largest answer, bytes.
const MAX_ANSWER: usize = 65_536;

/// One issuer's endpoint.
#[derive(Debug)]
pub struct Introspection {
    /// What the configuration says of it.
    pub declared: config::Introspection,
    fetch: Fetch,
    under_way: Mutex<HashMap<Question, Arc<OnceCell<Answer>>>>,
    unknown: Cache<TokenError>,
    turns: Semaphore,
    breaker: Mutex<Breaker>,
}

/// A token, and the settings of issuers under which it is asked about.
pub type Question = (TokenDigest, u64);

/// What came of a question.
type Answer = Result<Result<(Arc<Facts>, Timestamp), TokenError>, String>;

/// A question under way, for one who waits.
struct Asked<'a>(&'a Introspection, Question);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.under_way().remove(&self.1);
    }
}

/// Whether the issuer is asked at all.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// While it is left alone: when it may be asked again.
    next: Option<Instant>,
}

/// Why nothing is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The issuer says no, or what it says is wrong.
    Token(TokenError),
    /// It cannot be asked.
    Unavailable(String),
}

impl Introspection {
    /// An endpoint that nothing is known of yet.
    ///
    /// # Errors
    /// The TLS library refuses its CAs, in words for the operator.
    pub fn new(declared: config::Introspection) -> Result<Self, String> {
        Ok(Self {
            fetch: Fetch::new(&declared.outbound)?,
            declared,
            under_way: Mutex::default(),
            unknown: Cache::new(MOST_UNKNOWN),
            turns: Semaphore::new(AT_ONCE),
            breaker: Mutex::default(),
        })
    }

    /// What the issuer says of a token, and until when that may be taken for true. All who ask
    /// about one token at once share one question.
    ///
    /// # Errors
    /// It is not good there, or the issuer cannot be asked.
    pub async fn ask(
        &self,
        metrics: &Metrics,
        rules: &IssuerRules,
        token: &str,
        question: Question,
    ) -> Result<(Arc<Facts>, Timestamp), Fault> {
        let now = clock::now();
        if let Some(fault) = self.unknown.find(&question.0, question.1, now) {
            metrics.tokens.introspection(&rules.name, "cached");
            return Err(Fault::Token(fault));
        }
        let cell = self.under_way().entry(question).or_default().clone();
        // Whoever comes later asks anew, or finds it in the cache; also where who asked has gone
        // away.
        let _asked = Asked(self, question);
        let answer = cell.get_or_init(|| self.question(metrics, rules, token)).await.clone();
        match answer {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(fault)) => {
                self.unknown.put(question.0, question.1, fault.clone(), Some(now.plus(UNKNOWN)));
                Err(Fault::Token(fault))
            }
            Err(cause) => Err(Fault::Unavailable(cause)),
        }
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<Question, Arc<OnceCell<Answer>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn question(&self, metrics: &Metrics, rules: &IssuerRules, token: &str) -> Answer {
        if !self.may_ask() {
            metrics.tokens.introspection(&rules.name, "refused");
            return Err("it has failed too often, and is asked again in a second".to_owned());
        }
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            // Our own queue says nothing of the issuer.
            metrics.tokens.introspection(&rules.name, "refused");
            return Err("too many questions at once".to_owned());
        };
        let until = clock::now().plus(i64::try_from(self.declared.cache.as_secs()).unwrap_or(0));
        let asked = tokio::time::timeout(TIME, self.post(rules, token, until)).await;
        let asked =
            asked.unwrap_or_else(|_| Err((true, format!("no answer within {} s", TIME.as_secs()))));
        self.settle(!matches!(asked, Err((true, _))));
        let read = match asked {
            Ok(read) => read,
            Err((_, cause)) => {
                metrics.tokens.introspection(&rules.name, "failed");
                tracing::warn!(issuer = %rules.name, %cause, "an issuer could not be asked about a \
                    token");
                return Err(cause);
            }
        };
        metrics.tokens.introspection(
            &rules.name,
            if matches!(read, Ok(Some(_))) { "active" } else { "inactive" },
        );
        match read {
            Ok(Some(facts)) => {
                let until = Timestamp(until.0.min(facts.expires.plus(rules.leeway).0));
                Ok(Ok((Arc::new(facts), until)))
            }
            Ok(None) => Ok(Err(TokenFault::Inactive.into())),
            Err(fault) => Ok(Err(fault)),
        }
    }

    /// What the answer says; or whether the issuer is in trouble, and how. What it says of one odd
    /// token is no trouble of its own.
    async fn post(
        &self,
        rules: &IssuerRules,
        token: &str,
        until: Timestamp,
    ) -> Result<Result<Option<Facts>, TokenError>, (bool, String)> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("token", token), ("token_type_hint", "access_token")])
            .finish();
        let declared = &self.declared;
        let credentials = (declared.client_id.as_str(), declared.client_secret.expose());
        let posted = self.fetch.post_form(&declared.url, Some(credentials), &form).await;
        let (status, body) = posted.map_err(|fault| (true, fault.to_string()))?;
        match status {
            200 if body.len() > MAX_ANSWER => Err((true, "an answer over 64 KiB".to_owned())),
            200 => match Object::parse(&body) {
                Ok(answer) => Ok(rules.introspected(&answer, until)),
                Err(_) => Err((true, "the answer is no JSON object".to_owned())),
            },
            401 => Err((
                true,
                "status 401: our client_id and client_secret there are wrong".to_owned(),
            )),
            400 | 413 | 414 | 422 => Err((false, format!("status {status} for this token"))),
            _ => Err((true, format!("status {status} instead of 200"))),
        }
    }

    /// Whether the issuer may be asked now: of all who want to, one at a time while it is left
    /// alone.
    fn may_ask(&self) -> bool {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match breaker.next {
            None => true,
            Some(next) if Instant::now() >= next => {
                breaker.next = Some(Instant::now() + PROBE);
                true
            }
            Some(_) => false,
        }
    }

    fn settle(&self, answered: bool) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *breaker = Breaker::default();
            return;
        }
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.failures >= FAILURES {
            breaker.next = Some(Instant::now() + PROBE);
        }
    }
}
