//! Step 10, the counting: rates (GCRA) and quotas of permitted requests. Exact on this gateway.
//! Where gateways share a store, each tells it ten times a second what it has let through and hears
//! how all stand; a subject that it has not seen of late is asked about before its first request.
//! While the store is away, each gateway lets through its share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use crate::names::{Timestamp, hex};
use crate::policy::limit::Limit;
use crate::reason::{Reason, Refusal, Remedy};
use crate::store::limits::Draw;
use crate::store::{Store, StoreFault};

/// How long a first request waits for the store.
const ASK: Duration = Duration::from_millis(100);
/// Subjects of limits that are kept apart; beyond, those that come new share one count.
const MOST: usize = 200_000;
/// Most draws told at once.
const SLICE: usize = 2_000;

/// The state of all limits of a configuration.
#[derive(Debug)]
pub struct Limits {
    declared: Vec<Limit>,
    counts: DashMap<Counted, Count>,
    began: Instant,
    /// Gateways that share the limits, and whether the store is away so that each has its share.
    gateways: AtomicU64,
    alone: AtomicBool,
}

/// The index of a limit, and what is counted under it.
type Counted = (usize, String);

/// How one subject stands with one limit.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Theoretical arrival of the rate, microseconds since the beginning.
    arrival: u64,
    /// Requests since the store was last told, and when the first of them was.
    untold: u64,
    since: u64,
    /// The window of the quota, how many in it, and how many of these the store knows.
    window: i64,
    used: u64,
    quota_untold: u64,
    /// Last used, microseconds since the beginning.
    touched: u64,
}

/// How the tightest limit of a request stands after it, for the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// `RateLimit-Policy`.
    pub policy: String,
    /// `RateLimit`.
    pub limit: String,
    /// Seconds to wait, if there is nothing left.
    pub wait: Option<u32>,
}

/// What one limit said to one request: how many are left of how many, and when it is as it was,
/// seconds.
struct Taken {
    limit: usize,
    is_quota: bool,
    remaining: u64,
    of: u64,
    reset: u64,
}

impl Taken {
    const fn is_tighter_than(&self, other: &Self) -> bool {
        self.remaining * other.of < other.remaining * self.of
    }
}

impl Limits {
    /// These limits, with what was used of those that the configuration before had too.
    #[must_use]
    pub fn new(limits: &[Limit], before: Option<&Self>) -> Self {
        let of = |place: fn(&Self) -> u64, or: u64| before.map_or(or, place);
        let all = Self {
            declared: limits.to_vec(),
            counts: DashMap::new(),
            began: before.map_or_else(Instant::now, |before| before.began),
            gateways: AtomicU64::new(of(|before| before.gateways.load(Ordering::Relaxed), 1)),
            alone: AtomicBool::new(
                before.is_some_and(|before| before.alone.load(Ordering::Relaxed)),
            ),
        };
        for entry in before.iter().flat_map(|before| before.counts.iter()) {
            let (at, subject) = entry.key();
            let old = before.and_then(|before| before.declared.get(*at));
            if let Some(new) =
                old.and_then(|old| limits.iter().position(|limit| is_same(limit, old)))
            {
                all.counts.insert((new, subject.clone()), *entry.value());
            }
        }
        all
    }

    /// Whether these are those limits, wherever they stand.
    #[must_use]
    pub fn same(&self, limits: &[Limit]) -> bool {
        self.declared.len() == limits.len()
            && self.declared.iter().zip(limits).all(|(one, other)| is_same(one, other))
    }

    /// Counts a permitted request for all of these limits and subjects, or for none.
    ///
    /// # Errors
    /// `limit.rate` or `limit.quota` with the seconds to wait; and how the limit stands.
    pub async fn take(
        &self,
        store: &Store,
        counted: Vec<Counted>,
        now: Timestamp,
    ) -> Result<Option<RateLimitStatus>, (Refusal, RateLimitStatus)> {
        let mut done: Vec<(Counted, u64)> = Vec::new();
        let mut tightest: Option<Taken> = None;
        for key in counted {
            let key = if self.counts.contains_key(&key) || self.counts.len() < MOST {
                key
            } else {
                (key.0, String::new())
            };
            if !self.counts.contains_key(&key) {
                self.ask(store, &key, now).await;
            }
            let Some(limit) = self.declared.get(key.0) else { continue };
            match self.take_one(limit, &key, now) {
                Ok((taken, each)) => {
                    for taken in taken {
                        if tightest.as_ref().is_none_or(|known| taken.is_tighter_than(known)) {
                            tightest = Some(taken);
                        }
                    }
                    done.push((key, each));
                }
                Err((reason, taken)) => {
                    for (key, each) in &done {
                        self.give_back(key, *each);
                    }
                    let wait = u32::try_from(taken.reset.max(1)).unwrap_or(u32::MAX);
                    let refusal = Refusal::new(reason).with(Remedy::RetryAfter(wait));
                    return Err((refusal, self.rate_limit(&taken, Some(wait))));
                }
            }
        }
        Ok(tightest.map(|taken| self.rate_limit(&taken, None)))
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Gateways among which a limit is divided now.
    fn sharers(&self) -> u64 {
        if self.alone.load(Ordering::Relaxed) {
            self.gateways.load(Ordering::Relaxed).max(1)
        } else {
            1
        }
    }

    fn take_one(
        &self,
        limit: &Limit,
        key: &Counted,
        now: Timestamp,
    ) -> Result<(Vec<Taken>, u64), (Reason, Taken)> {
        let (micros, sharers) = (self.micros(), self.sharers());
        let mut count = self.counts.entry(key.clone()).or_default();
        count.touched = micros;
        let said =
            |is_quota, remaining, of, reset| Taken { limit: key.0, is_quota, remaining, of, reset };
        let mut taken = Vec::new();
        let mut arrival = count.arrival;
        let each = each(limit).saturating_mul(sharers);
        if let Some(rate) = limit.rate {
            let burst = (u64::from(rate.burst) / sharers).max(1);
            let room = each.saturating_mul(burst);
            arrival = count.arrival.max(micros).saturating_add(each);
            let ahead = arrival - micros;
            if ahead > room {
                let reset = (ahead - room).div_ceil(1_000_000);
                return Err((Reason::LimitRate, said(false, 0, burst, reset)));
            }
            taken.push(said(false, (room - ahead) / each, burst, ahead.div_ceil(1_000_000)));
        }
        if let Some(quota) = limit.quota {
            let (window, left) = window(quota.period, now);
            if count.window != window {
                (count.window, count.used, count.quota_untold) = (window, 0, 0);
            }
            let of = u64::from(quota.count);
            // Alone, a gateway has its share of what was left when the store was last heard.
            let heard = count.used.saturating_sub(count.quota_untold);
            let share = of.saturating_sub(heard).div_ceil(sharers);
            if count.quota_untold >= share {
                return Err((Reason::LimitQuota, said(true, 0, of, left)));
            }
            count.used += 1;
            count.quota_untold += 1;
            taken.push(said(true, share - count.quota_untold, of, left));
        }
        count.arrival = arrival;
        if count.untold == 0 {
            count.since = micros;
        }
        count.untold += 1;
        Ok((taken, each))
    }

    /// A request that another limit has refused is none.
    fn give_back(&self, key: &Counted, each: u64) {
        let (Some(limit), Some(mut count)) = (self.declared.get(key.0), self.counts.get_mut(key))
        else {
            return;
        };
        count.arrival = count.arrival.saturating_sub(each);
        count.untold = count.untold.saturating_sub(1);
        count.used = count.used.saturating_sub(u64::from(limit.quota.is_some()));
        count.quota_untold = count.quota_untold.saturating_sub(u64::from(limit.quota.is_some()));
    }

    /// `draft-ietf-httpapi-ratelimit-headers`.
    fn rate_limit(&self, taken: &Taken, wait: Option<u32>) -> RateLimitStatus {
        let Some(limit) = self.declared.get(taken.limit) else {
            return RateLimitStatus { policy: String::new(), limit: String::new(), wait };
        };
        let (count, period) = match (limit.rate, limit.quota) {
            (_, Some(quota)) if taken.is_quota => (quota.count, quota.period),
            (Some(rate), _) => (rate.count, rate.period),
            (None, Some(quota)) => (quota.count, quota.period),
            (None, None) => (0, 0),
        };
        RateLimitStatus {
            policy: format!("\"{}\";q={count};w={period}", limit.name),
            limit: format!("\"{}\";r={};t={}", limit.name, taken.remaining, taken.reset),
            wait,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    /// How many gateways share them.
    pub fn set_gateways(&self, count: u64) {
        self.gateways.store(count.max(1), Ordering::Relaxed);
    }

    /// Asks how a subject stands that was not seen of late.
    async fn ask(&self, store: &Store, key: &Counted, now: Timestamp) {
        let draws = self.draws(store, key, Count::default(), now);
        if draws.is_empty() || self.alone.load(Ordering::Relaxed) {
            return;
        }
        match tokio::time::timeout(ASK, store.draw(draws.clone())).await {
            Ok(Ok(answers)) => self.hear(key, &draws, &answers),
            Ok(Err(error)) => self.is_alone(&error),
            // One late answer is no outage: who tells the store finds out.
            Err(_) => {}
        }
    }

    /// The store is away.
    fn is_alone(&self, error: &StoreFault) {
        if !self.alone.swap(true, Ordering::Relaxed) {
            let gateways = self.gateways.load(Ordering::Relaxed);
            tracing::warn!(%error, gateways, "what was used of limits cannot be told: each gateway \
                has its share");
        }
    }

    /// What the store is to be told of a subject.
    fn draws(&self, store: &Store, key: &Counted, count: Count, now: Timestamp) -> Vec<Draw> {
        let Some(limit) = self.declared.get(key.0) else { return Vec::new() };
        let named = |what: String| {
            hex(Sha256::digest(format!("{what} {}", key.1)).get(..16).unwrap_or_default())
        };
        let mut draws = Vec::new();
        if limit.rate.is_some() && store.shares_rates() {
            let ago = if count.untold > 0 { self.micros().saturating_sub(count.since) } else { 0 };
            let key = named(format!("{} {:?}", limit.name, limit.rate));
            draws.push(Draw::Rate { key, count: count.untold, each: each(limit), ago });
        }
        if let Some(quota) = limit.quota {
            let (window, left) = window(quota.period, now);
            let count = if count.window == window { count.quota_untold } else { 0 };
            let stem = named(format!("{} {}", limit.name, quota.period));
            draws.push(Draw::Quota { key: format!("{stem}:{window}"), count, left, window });
        }
        draws
    }

    /// Takes in how a subject stands with all gateways. What was let through since the question is
    /// still to be told.
    fn hear(&self, key: &Counted, draws: &[Draw], answers: &[u64]) {
        let micros = self.micros();
        let mut count = self.counts.entry(key.clone()).or_default();
        for (draw, answer) in draws.iter().zip(answers) {
            match draw {
                Draw::Rate { count: sent, each, .. } => {
                    count.untold = count.untold.saturating_sub(*sent);
                    count.since = micros;
                    count.arrival = micros
                        .saturating_add(*answer)
                        .saturating_add(count.untold.saturating_mul(*each));
                }
                // The window may have turned since the question.
                Draw::Quota { window, .. } if count.touched > 0 && *window < count.window => {}
                Draw::Quota { count: sent, window, .. } => {
                    if count.window != *window {
                        (count.window, count.quota_untold) = (*window, *sent);
                    }
                    count.quota_untold = count.quota_untold.saturating_sub(*sent);
                    count.used = answer.saturating_add(count.quota_untold);
                }
            }
        }
    }

    /// Tells the store what was used, and forgets subjects that are as if they had never come.
    pub(in crate::server) async fn tell(&self, store: &Store, now: Timestamp) {
        let micros = self.micros();
        let recent = u64::try_from(Duration::from_secs(5).as_micros()).unwrap_or(u64::MAX);
        let due: Vec<(Counted, Count)> = self
            .counts
            .iter()
            .filter(|entry| {
                entry.untold > 0
                    || entry.quota_untold > 0
                    || micros.saturating_sub(entry.touched) < recent
            })
            .map(|entry| (entry.key().clone(), *entry.value()))
            .collect();
        for slice in due.chunks(SLICE) {
            let draws: Vec<Vec<Draw>> =
                slice.iter().map(|(key, count)| self.draws(store, key, *count, now)).collect();
            let all: Vec<Draw> = draws.iter().flatten().cloned().collect();
            if all.is_empty() {
                continue;
            }
            let answers = match store.draw(all).await {
                Ok(answers) => answers,
                Err(error) => return self.is_alone(&error),
            };
            if self.alone.swap(false, Ordering::Relaxed) {
                tracing::info!("limits are shared again");
            }
            let mut answers = answers.as_slice();
            for ((key, _), draws) in slice.iter().zip(&draws) {
                let (own, rest) = answers.split_at_checked(draws.len()).unwrap_or((answers, &[]));
                self.hear(key, draws, own);
                answers = rest;
            }
        }
        self.counts.retain(|key, count| {
            let quota = self.declared.get(key.0).is_some_and(|limit| limit.quota.is_some());
            let idle = micros.saturating_sub(count.touched) > recent;
            // Without a shared store a rate has nothing to be told.
            let synced = (count.untold == 0 || !store.shares_rates()) && count.quota_untold == 0;
            !(idle
                && synced
                && count.arrival <= micros
                && (!quota || micros.saturating_sub(count.touched) > 12 * recent))
        });
    }
}

/// Whether two limits are one, wherever they stand.
fn is_same(one: &Limit, other: &Limit) -> bool {
    (&one.name, &one.api, one.per, one.rate, one.quota)
        == (&other.name, &other.api, other.per, other.rate, other.quota)
}

/// Microseconds that one request stands for.
fn each(limit: &Limit) -> u64 {
    limit.rate.map_or(0, |rate| {
        (u64::from(rate.period) * 1_000_000 / u64::from(rate.count.max(1))).max(1)
    })
}

/// The window of a time, and how many seconds it still has.
fn window(period: u32, now: Timestamp) -> (i64, u64) {
    let period = i64::from(period.max(1));
    (now.0.div_euclid(period), (period - now.0.rem_euclid(period)).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{ApiName, Origin};
    use crate::policy::definition::RateLimit;
    use crate::policy::limit::{Per, Quota};

    fn limit(rate: Option<(u32, u32)>, quota: Option<(u32, u32)>) -> Limit {
        Limit {
            name: "orders-client".into(),
            api: Some(ApiName::new("orders")),
            per: Per::Client,
            rate: rate.map(|(count, burst)| RateLimit { count, period: 60, burst }),
            quota: quota.map(|(count, period)| Quota { count, period }),
            origin: Origin::default(),
        }
    }

    fn key(subject: &str) -> Vec<(usize, String)> {
        vec![(0, subject.to_owned())]
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn a_burst_is_exact_for_each_subject_and_the_headers_say_how_it_stands() {
        let (_folder, store) = store();
        let limits = Limits::new(&[limit(Some((1, 3)), None)], None);
        for remaining in [2, 1, 0] {
            let rate_limit = limits.take(&store, key("a"), Timestamp(0)).await.unwrap().unwrap();
            assert_eq!(rate_limit.policy, "\"orders-client\";q=1;w=60");
            assert!(
                rate_limit.limit.starts_with(&format!("\"orders-client\";r={remaining};t=")),
                "{rate_limit:?}"
            );
        }
        let (refusal, rate_limit) = limits.take(&store, key("a"), Timestamp(0)).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::LimitRate);
        assert!(rate_limit.wait.is_some_and(|wait| (1..=60).contains(&wait)), "{rate_limit:?}");
        assert!(limits.take(&store, key("b"), Timestamp(0)).await.is_ok(), "another subject");
    }

    #[tokio::test]
    async fn a_quota_counts_its_window_and_outlives_the_process() {
        let (_folder, store) = store();
        let day = Some((3, 86_400));
        let limits = Limits::new(&[limit(None, day)], None);
        for _ in 0..2 {
            limits.take(&store, key("a"), Timestamp(100)).await.unwrap();
        }
        limits.tell(&store, Timestamp(100)).await;
        let mut again = Limits::new(&[limit(None, day)], None);
        let mut refused = None;
        // A first request does not wait long for the store: where this machine is busy, another
        // process is asked.
        for _ in 0..100 {
            assert!(again.take(&store, key("a"), Timestamp(101)).await.is_ok());
            refused = again.take(&store, key("a"), Timestamp(101)).await.err();
            if refused.is_some() {
                break;
            }
            again = Limits::new(&[limit(None, day)], None);
        }
        let (refusal, rate_limit) = refused.unwrap();
        assert_eq!((refusal.reason, rate_limit.wait), (Reason::LimitQuota, Some(86_299)));
        assert!(again.take(&store, key("a"), Timestamp(86_400)).await.is_ok(), "the next window");
    }

    #[tokio::test]
    async fn what_one_limit_refuses_counts_for_no_other() {
        let (_folder, store) = store();
        let limits =
            Limits::new(&[limit(Some((1, 10)), Some((10, 60))), limit(Some((1, 1)), None)], None);
        let both = || vec![(0, "a".to_owned()), (1, "a".to_owned())];
        assert!(limits.take(&store, both(), Timestamp(0)).await.is_ok());
        for _ in 0..20 {
            assert!(limits.take(&store, both(), Timestamp(0)).await.is_err());
        }
        for _ in 0..9 {
            assert!(limits.take(&store, key("a"), Timestamp(0)).await.is_ok());
        }
        assert!(limits.take(&store, key("a"), Timestamp(0)).await.is_err());
    }

    #[tokio::test]
    async fn a_limit_that_has_moved_within_its_file_is_the_same_limit() {
        let (_folder, store) = store();
        let limits = Limits::new(&[limit(Some((1, 2)), None)], None);
        assert!(limits.take(&store, key("a"), Timestamp(0)).await.is_ok());
        let moved =
            Limit { origin: Origin { line: 7, ..Origin::default() }, ..limit(Some((1, 2)), None) };
        assert!(limits.same(std::slice::from_ref(&moved)));
        let other = Limit { name: "other".into(), ..limit(Some((1, 9)), None) };
        let more = Limits::new(&[other, moved], Some(&limits));
        let moved_key = || vec![(1, "a".to_owned())];
        assert!(more.take(&store, moved_key(), Timestamp(0)).await.is_ok());
        assert!(
            more.take(&store, moved_key(), Timestamp(0)).await.is_err(),
            "what was used stays used"
        );
    }

    #[tokio::test]
    async fn alone_each_gateway_has_its_share() {
        let (_folder, store) = store();
        let limits = Limits::new(&[limit(Some((1, 9)), None)], None);
        limits.gateways.store(3, Ordering::Relaxed);
        limits.alone.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            assert!(limits.take(&store, key("a"), Timestamp(0)).await.is_ok());
        }
        assert!(limits.take(&store, key("a"), Timestamp(0)).await.is_err());
    }
}
