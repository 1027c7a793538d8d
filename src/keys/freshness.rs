//! When an issuer is asked for its keys again: what a token may cause, and what is remembered of
//! names that it did not have (decisions.md, "Keys of others").

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A refetch budget gets one more in this time, and what is remembered causes none within it.
pub const COOL_DOWN: Duration = Duration::from_secs(30);
/// Fetches that tokens of one kind may cause at once.
const BURST: u32 = 2;
/// How many names that a fetch did not have are remembered.
const MISSING: usize = 1_024;
/// And for how long.
const MISSING_FOR: Duration = Duration::from_secs(300);

/// Why fresher keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A `kid` that no key has.
    UnknownName,
    /// A signature that no key verifies.
    Signature,
}

/// Fetches that tokens may cause: a burst, refilled by one in each [`COOL_DOWN`].
#[derive(Debug)]
pub struct Budget {
    left: u32,
    /// Since when the next one has been coming.
    since: Instant,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Takes one fetch, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.since) >= COOL_DOWN {
            self.left += 1;
            self.since += COOL_DOWN;
        }
        if self.left == 0 {
            return false;
        }
        if self.left == BURST {
            self.since = now;
        }
        self.left -= 1;
        true
    }
}

/// Names that a fetch did not have.
#[derive(Debug, Default)]
pub struct Missing {
    since: HashMap<String, Instant>,
    /// The same, the oldest first; some may have been remembered again since.
    order: VecDeque<(String, Instant)>,
}

impl Missing {
    /// Remembers a name; of too many, the oldest is forgotten.
    pub fn add(&mut self, name: &str, now: Instant) {
        if self.since.insert(name.to_owned(), now).is_some_and(|before| before == now) {
            return;
        }
        self.order.push_back((name.to_owned(), now));
        while self.order.len() > MISSING {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.since.get(&oldest) == Some(&at) {
                self.since.remove(&oldest);
            }
        }
    }

    /// Whether a name is remembered.
    #[must_use]
    pub fn has(&self, name: &str, now: Instant) -> bool {
        self.since.get(name).is_some_and(|since| now.duration_since(*since) < MISSING_FOR)
    }
}

/// How fresh a set is, and what is under way.
#[derive(Debug)]
pub struct Freshness {
    /// The end of the last fetch.
    pub last_attempt: Option<Instant>,
    /// The end of the last one that succeeded.
    pub last_success: Option<Instant>,
    /// Failures in a row.
    pub failures: u32,
    /// When the next fetch is due.
    pub next: Instant,
    /// Fetches begun.
    pub begun: u64,
    /// When the one under way began.
    under_way: Option<Instant>,
    /// The next one has been asked for and paid.
    is_asked_for: bool,
    unknown_names: Budget,
    signatures: Budget,
    /// Names that a fetch did not have.
    pub missing: Missing,
}

/// The fetch that a token waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its number.
    pub number: u64,
    /// It begins after the token came: what it does not have is not there.
    pub is_conclusive: bool,
    /// The fetch has yet to be started.
    pub is_new: bool,
}

impl Freshness {
    /// Of a set that has not been fetched.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            last_attempt: None,
            last_success: None,
            failures: 0,
            next: now,
            begun: 0,
            under_way: None,
            is_asked_for: false,
            unknown_names: Budget::new(now),
            signatures: Budget::new(now),
            missing: Missing::default(),
        }
    }

    /// A fetch begins.
    pub fn begin(&mut self, now: Instant) {
        self.begun += 1;
        self.under_way = Some(now);
        self.is_asked_for = false;
    }

    /// It ends.
    pub fn end(&mut self, now: Instant) {
        self.under_way = None;
        self.last_attempt = Some(now);
    }

    /// The fetch that a token which came at `arrived` waits for: one under way or asked for is
    /// shared, another is taken from the budget. `None` where that is spent.
    pub fn turn(&mut self, cause: Cause, arrived: Instant, now: Instant) -> Option<Turn> {
        if let Some(began) = self.under_way {
            let is_conclusive = began >= arrived;
            return Some(Turn { number: self.begun, is_conclusive, is_new: false });
        }
        let number = self.begun + 1;
        if self.is_asked_for {
            return Some(Turn { number, is_conclusive: true, is_new: false });
        }
        let budget = match cause {
            Cause::UnknownName => &mut self.unknown_names,
            Cause::Signature => &mut self.signatures,
        };
        if !budget.take(now) {
            return None;
        }
        self.is_asked_for = true;
        self.next = now;
        Some(Turn { number, is_conclusive: true, is_new: true })
    }

    /// Whether what is remembered of a token is old enough for a fetch that nobody waits for.
    pub fn nudge(&mut self, now: Instant) -> bool {
        let is_old = self.last_attempt.is_none_or(|at| now.duration_since(at) >= COOL_DOWN);
        if self.under_way.is_some() || self.is_asked_for || !is_old {
            return false;
        }
        self.is_asked_for = true;
        self.next = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_budget_is_a_burst_of_two_and_one_more_every_thirty_seconds() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut took = Vec::new();
        for second in 0..=200 {
            let now = after(start, second);
            while budget.take(now) {
                took.push(second);
            }
        }
        assert_eq!(took, [0, 0, 30, 60, 90, 120, 150, 180]);
        // Left alone for long, it is a burst again and no more.
        let now = after(start, 10_000);
        assert_eq!([budget.take(now), budget.take(now), budget.take(now)], [true, true, false]);
        assert!(!budget.take(after(now, 29)) && budget.take(after(now, 30)));
    }

    #[test]
    fn names_are_remembered_for_five_minutes_and_the_last_thousand_of_them() {
        let start = Instant::now();
        let mut missing = Missing::default();
        missing.add("first", start);
        assert!(
            missing.has("first", after(start, 299)) && !missing.has("first", after(start, 300))
        );
        for number in 0..MISSING - 1 {
            missing.add(&number.to_string(), after(start, 1));
        }
        assert!(missing.has("first", after(start, 2)));
        missing.add("first", after(start, 2));
        missing.add("last", after(start, 3));
        assert!(missing.has("first", after(start, 4)) && missing.has("last", after(start, 4)));
        assert!(!missing.has("0", after(start, 4)), "the oldest goes");
        assert!(missing.since.len() <= MISSING && missing.order.len() <= MISSING);
    }

    #[test]
    fn a_fetch_that_began_before_a_token_came_proves_nothing_of_it() {
        let start = Instant::now();
        let mut state = Freshness::new(start);
        state.begin(after(start, 1));
        let early = state.turn(Cause::UnknownName, after(start, 1), after(start, 1)).unwrap();
        let late = state.turn(Cause::UnknownName, after(start, 2), after(start, 2)).unwrap();
        assert_eq!((early.number, early.is_conclusive, early.is_new), (1, true, false));
        assert_eq!((late.number, late.is_conclusive, late.is_new), (1, false, false));
        state.end(after(start, 3));
        let next = |state: &mut Freshness, second| {
            let now = after(start, second);
            state.turn(Cause::UnknownName, now, now)
        };
        let turn = next(&mut state, 3).unwrap();
        assert_eq!((turn.number, turn.is_conclusive, turn.is_new), (2, true, true));
        // All who come before it begins share it.
        let turn = next(&mut state, 4).unwrap();
        assert_eq!((turn.number, turn.is_conclusive, turn.is_new), (2, true, false));
        state.begin(after(start, 4));
        state.end(after(start, 4));
        assert!(next(&mut state, 5).unwrap().is_new);
        state.begin(after(start, 5));
        state.end(after(start, 5));
        assert_eq!(next(&mut state, 6), None, "the burst is spent");
        let now = after(start, 6);
        assert!(state.turn(Cause::Signature, now, now).unwrap().is_new, "a budget of its own");
        state.begin(now);
        state.end(now);
        assert!(!state.nudge(after(start, 35)) && state.nudge(after(start, 36)));
        assert!(!state.nudge(after(start, 80)), "it is asked for already");
    }
}
