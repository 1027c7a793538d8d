//! Guessing is limited (decisions.md, "Guessing"): wrong attempts count for each name and address
//! together, so that a guesser locks out himself and not the owner, and for each address over all
//! names.
//!
//! What costs nothing to check and cannot be guessed is checked before anybody asks here: a right
//! secret of ours always passes. What costs milliseconds (Argon2id) is checked on two threads of
//! its own, in turns that are fair to addresses.

mod counts;
mod queue;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::names::Timestamp;
use crate::request::address::site;
use crate::store::attempts::{Account, Cleared, KNOWN_SECONDS, Subjects, WINDOW_SECONDS};
use crate::store::{Store, StoreFault};
use counts::Counts;
use queue::{FairQueue, Put};

/// Owners' sign-ins that are remembered.
const MAX_KNOWN: usize = 100_000;
/// Slow checks that may wait, of anybody at one address; of an owner, who has been right from there
/// before, and may be a busy client.
const MAX_OF_ADDRESS: usize = 10;
const MAX_OF_OWNER: usize = 64;
/// How long a slow check may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an owner's sign-in is remembered, and a wrong attempt counted.
const KNOWN: Duration = Duration::from_secs(KNOWN_SECONDS.unsigned_abs());
const WINDOW: Duration = Duration::from_secs(WINDOW_SECONDS.unsigned_abs());
/// How often a sign-in is written down anew.
const AGAIN: Duration = Duration::from_secs(86_400);
/// Priority of the threads for slow checks: serving goes first.
const NICE: i32 = 10;

/// Where an attempt comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// An address, if one is to be believed.
    Address(Option<IpAddr>),
    /// A browser, by a digest of its own: one that has signed in here, or one that a code belongs
    /// to.
    Browser(String, Option<IpAddr>),
}

impl Origin {
    const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) | Self::Browser(_, address) => *address,
        }
    }
}

/// Why an attempt is not looked at, or what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many were wrong: the seconds to wait. This one was not looked at.
    Limited(u32),
    /// Too many wait for their turn.
    Crowded,
    /// It was looked at, from this moment on, and is wrong.
    Wrong(Instant),
}

/// Wrong attempts, sign-ins of owners, and slow checks under way.
pub struct Guessing {
    state: Mutex<State>,
    /// Told when there is something to check, or something has ended.
    changed: Condvar,
}

impl fmt::Debug for Guessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guessing").finish_non_exhaustive()
    }
}

struct State {
    counts: Counts,
    /// It was said that whole networks count as one.
    is_coarse: bool,
    /// Pairs of name and address that have signed in, until when that counts, and when it was
    /// written down.
    known: HashMap<String, Known>,
    /// Slow checks of owners, and of everybody else.
    reserved: FairQueue<Job>,
    general: FairQueue<Job>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            is_coarse: false,
            known: HashMap::new(),
            reserved: FairQueue::new(MAX_OF_OWNER),
            general: FairQueue::new(MAX_OF_ADDRESS),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    until: Instant,
    noted: Instant,
}

/// A slow check that waits for its turn.
struct Job {
    subjects: Subjects,
    since: Instant,
    answer: oneshot::Sender<Result<(), Refused>>,
    /// Checks; true when the secret is right.
    check: Box<dyn FnOnce() -> bool + Send>,
}

/// What a thread finds to do.
enum Turn {
    /// This check. Its place is taken.
    Check(Job),
    /// Nothing at the moment.
    Nothing,
}

impl Default for Guessing {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }
}

impl Guessing {
    /// With what the store remembers, and the threads for slow checks.
    ///
    /// # Errors
    /// The store cannot be read, or no thread can be started; in words for the operator.
    pub fn start(store: &Store, now: Timestamp) -> Result<Arc<Self>, String> {
        let guessing = Arc::new(Self::default());
        guessing.read(store, now).map_err(|fault| format!("store: {fault}"))?;
        // One begins with owners, one with everybody else: neither waits for ever.
        for owners_first in [true, false] {
            let own = guessing.clone();
            let run = move || own.serve(owners_first);
            std::thread::Builder::new()
                .name("argon2".to_owned())
                .spawn(run)
                .map_err(|fault| format!("a thread for passwords: {fault}"))?;
        }
        Ok(guessing)
    }

    /// Takes what the store remembers in the place of what is known here: at the start, and after
    /// somebody has cleared it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn read(&self, store: &Store, now: Timestamp) -> Result<(), StoreFault> {
        let (attempts, clock) = (store.attempts(now)?, Instant::now());
        let mut state = self.lock();
        for (_, count) in state.counts.iter_mut() {
            count.ends.clear();
        }
        for attempt in attempts {
            // Whatever the clock said when it was noted: nothing lasts longer than its time.
            let left = attempt.left(now);
            if attempt.is_known() {
                let known = Known { until: clock + left, noted: clock };
                state.known.insert(attempt.subject, known);
            } else {
                state.counts.entry(&attempt.subject).ends.push_back(clock + left);
            }
        }
        for (_, count) in state.counts.iter_mut() {
            count.ends.make_contiguous().sort_unstable();
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an attempt counts for.
    fn subjects(&self, account: Account, name: &str, origin: &Origin) -> Subjects {
        let address = match origin {
            Origin::Browser(digest, _) => {
                return Subjects::new(account, name, &format!("browser:{digest}"));
            }
            Origin::Address(None) => return Subjects::new(account, name, "unknown"),
            Origin::Address(Some(address)) => *address,
        };
        let mut state = self.lock();
        let (place, is_coarse) = state.counts.place(account, address);
        if !is_coarse {
            return Subjects::new(account, name, &place);
        }
        // An owner who has signed in from there counts alone, whoever else is in the network.
        let own = Subjects::new(account, name, &site(address).to_string());
        if state.is_owner(&own, Instant::now()) {
            return own;
        }
        if !std::mem::replace(&mut state.is_coarse, true) {
            let account = account.label();
            tracing::warn!(
                account,
                network = place,
                "wrong attempts come from so many addresses that whole networks count as one"
            );
        }
        Subjects::new(account, name, &place)
    }

    /// The seconds to wait, where so many attempts were wrong that another is not to be looked at.
    pub fn limited(&self, account: Account, name: &str, origin: &Origin) -> Option<u32> {
        let subjects = self.subjects(account, name, origin);
        self.lock().limited(&subjects, Instant::now())
    }

    /// Counts an attempt that was wrong and cost nothing to check.
    ///
    /// # Errors
    /// Too many were before it: seconds to wait. It is not counted.
    pub async fn note_wrong(
        &self,
        account: Account,
        name: &str,
        origin: &Origin,
        (store, now): (&Store, Timestamp),
    ) -> Result<(), u32> {
        let (subjects, clock) = (self.subjects(account, name, origin), Instant::now());
        {
            let mut state = self.lock();
            if let Some(wait) = state.limited(&subjects, clock) {
                return Err(wait);
            }
            state.count(&subjects, clock);
        }
        write_down(store, &subjects, now).await;
        Ok(())
    }

    /// Checks something slow in its turn. An attempt that waits when its caller goes away is not
    /// looked at.
    ///
    /// # Errors
    /// It was wrong, or not looked at.
    pub async fn check<T: Send + 'static>(
        &self,
        account: Account,
        name: &str,
        origin: &Origin,
        (store, now): (&Store, Timestamp),
        check: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Result<T, Refused> {
        let subjects = self.subjects(account, name, origin);
        let (answer, answered) = oneshot::channel();
        let (give, given) = oneshot::channel();
        let check = Box::new(move || check().is_some_and(|right| give.send(right).is_ok()));
        let job = Job { subjects: subjects.clone(), since: Instant::now(), answer, check };
        self.enqueue(job, origin)?;
        // The thread answers in any case; this is for one that does not come.
        let outcome = tokio::time::timeout(PATIENCE, answered).await;
        match outcome.unwrap_or(Ok(Err(Refused::Crowded))).unwrap_or(Err(Refused::Crowded)) {
            Ok(()) => {
                let right = given.await.map_err(|_| Refused::Crowded)?;
                self.note_owner(&subjects, origin, (store, now)).await;
                Ok(right)
            }
            Err(refused) => {
                if let Refused::Wrong(_) = refused {
                    write_down(store, &subjects, now).await;
                }
                Err(refused)
            }
        }
    }

    fn enqueue(&self, job: Job, origin: &Origin) -> Result<(), Refused> {
        let clock = Instant::now();
        let mut state = self.lock();
        if let Some(wait) = state.limited(&job.subjects, clock) {
            return Err(Refused::Limited(wait));
        }
        let address = origin.address();
        let put = if matches!(origin, Origin::Browser(..)) || state.is_owner(&job.subjects, clock) {
            // Each for itself: no neighbour takes an owner's places, whatever accounts he has.
            let owner = job.subjects.known().to_owned();
            state.reserved.put(address, owner, job)
        } else {
            state.general.put(
                address,
                address.map(site).map_or_else(String::new, |site| site.to_string()),
                job,
            )
        };
        match put {
            Put::Waits => {}
            Put::InPlaceOf(dropped) => drop(dropped.answer.send(Err(Refused::Crowded))),
            Put::Full(_) => return Err(Refused::Crowded),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Keeps that the owner has signed in from there.
    async fn note_owner(
        &self,
        subjects: &Subjects,
        origin: &Origin,
        (store, now): (&Store, Timestamp),
    ) {
        if matches!(origin, Origin::Browser(..)) {
            return;
        }
        let clock = Instant::now();
        {
            let mut state = self.lock();
            let known = state.known.get(subjects.known());
            if known.is_some_and(|known| clock.saturating_duration_since(known.noted) < AGAIN)
                || state.known.len() >= MAX_KNOWN
            {
                return;
            }
            state
                .known
                .insert(subjects.known().to_owned(), Known { until: clock + KNOWN, noted: clock });
        }
        let noted = store
            .note_attempts(vec![subjects.known().to_owned()], now, now.plus(KNOWN_SECONDS))
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "that somebody has signed in from an address could not be \
                stored");
        }
    }

    /// A thread for slow checks, for as long as the process lives.
    fn serve(&self, owners_first: bool) {
        // Without the right to, it stays as it is.
        let _ = rustix::process::setpriority_process(None, NICE);
        loop {
            let mut state = self.lock();
            let job = loop {
                match state.next(owners_first, Instant::now()) {
                    Turn::Check(job) => break job,
                    Turn::Nothing => {
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            let began = Instant::now();
            // One that panics is wrong, and costs its turn.
            let right =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(job.check)).unwrap_or(false);
            let mut state = self.lock();
            state.leave(&job.subjects);
            if !right {
                state.count(&job.subjects, Instant::now());
            }
            drop(state);
            let _ = job.answer.send(if right { Ok(()) } else { Err(Refused::Wrong(began)) });
            self.changed.notify_all();
        }
    }

    /// Ends the limits of a name, which has new secrets.
    pub async fn forget_name(&self, account: Account, name: &str, store: &Store, now: Timestamp) {
        let begin = Subjects::beginning(account, name);
        let mut any = false;
        for (_, count) in
            self.lock().counts.iter_mut().filter(|(subject, _)| subject.starts_with(&begin))
        {
            any |= !count.ends.is_empty();
            count.ends.clear();
        }
        if !any {
            return;
        }
        self.changed.notify_all();
        let cleared = Cleared::Name(account, name.to_owned());
        if let Err(error) = store.clear_attempts(&cleared, now, None).await {
            tracing::warn!(%error, "attempts that no longer count could not be removed from the \
                store");
        }
    }

    /// Forgets what no longer counts.
    pub fn forget(&self) {
        let clock = Instant::now();
        let mut state = self.lock();
        state.counts.forget(clock);
        state.known.retain(|_, known| known.until > clock);
        state.is_coarse = false;
    }
}

impl State {
    /// Whether this name has signed in from there.
    fn is_owner(&self, subjects: &Subjects, clock: Instant) -> bool {
        self.known.get(subjects.known()).is_some_and(|known| known.until > clock)
    }

    /// The seconds to wait, where too many attempts were wrong. The address first: what it may not
    /// do leaves no trace of the name.
    fn limited(&mut self, subjects: &Subjects, clock: Instant) -> Option<u32> {
        subjects.limits().find_map(|(subject, limit)| {
            let count = self.counts.get_mut(subject)?;
            while count.ends.front().is_some_and(|end| *end <= clock) {
                count.ends.pop_front();
            }
            // Free again once fewer than the limit are left.
            let free = count.ends.len().checked_sub(limit).and_then(|over| count.ends.get(over))?;
            let wait = free.saturating_duration_since(clock).as_secs().saturating_add(1);
            Some(u32::try_from(wait).unwrap_or(u32::MAX))
        })
    }

    fn count(&mut self, subjects: &Subjects, clock: Instant) {
        for (subject, _) in subjects.limits() {
            self.counts.entry(subject).ends.push_back(clock + WINDOW);
        }
    }

    /// Whether a check may begin: those under way, if they all turn out wrong, leave something of
    /// the limit.
    fn has_room(&self, subjects: &Subjects) -> bool {
        let mut limits = subjects.limits();
        limits.all(|(subject, limit)| {
            self.counts.get(subject).is_none_or(|count| count.ends.len() + count.under_way < limit)
        })
    }

    fn leave(&mut self, subjects: &Subjects) {
        for (subject, _) in subjects.limits() {
            if let Some(count) = self.counts.get_mut(subject) {
                count.under_way = count.under_way.saturating_sub(1);
            }
        }
    }

    /// The next check in turn; answers those before it that need none.
    fn next(&mut self, owners_first: bool, clock: Instant) -> Turn {
        loop {
            let Some(job) = self.take(owners_first) else { return Turn::Nothing };
            if job.answer.is_closed() {
                continue;
            }
            let refused = match self.limited(&job.subjects, clock) {
                Some(wait) => Some(Refused::Limited(wait)),
                None if clock.saturating_duration_since(job.since) > PATIENCE => {
                    Some(Refused::Crowded)
                }
                None => None,
            };
            if let Some(refused) = refused {
                let _ = job.answer.send(Err(refused));
                continue;
            }
            for (subject, _) in job.subjects.limits() {
                self.counts.entry(subject).under_way += 1;
            }
            return Turn::Check(job);
        }
    }

    fn take(&mut self, owners_first: bool) -> Option<Job> {
        let empty = || FairQueue::new(0);
        let mut reserved = std::mem::replace(&mut self.reserved, empty());
        let mut general = std::mem::replace(&mut self.general, empty());
        // One that must wait for those under way lets others by; one over the limit is answered.
        let is_ready = |job: &Job| self.has_room(&job.subjects) || self.is_over(&job.subjects);
        let (first, second) = if owners_first {
            (&mut reserved, &mut general)
        } else {
            (&mut general, &mut reserved)
        };
        let job = first.take(is_ready).or_else(|| second.take(is_ready));
        (self.reserved, self.general) = (reserved, general);
        job
    }

    /// How many checks wait for their turn.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.reserved.len() + self.general.len()
    }

    fn is_over(&self, subjects: &Subjects) -> bool {
        let mut limits = subjects.limits();
        limits.any(|(subject, limit)| {
            self.counts.get(subject).is_some_and(|count| count.ends.len() >= limit)
        })
    }
}

/// Keeps a wrong attempt across restarts. A store that cannot be written now loses the mark at a
/// restart, not the limit.
async fn write_down(store: &Store, subjects: &Subjects, now: Timestamp) {
    if let Err(error) = store.note_attempts(subjects.counted(), now, now.plus(WINDOW_SECONDS)).await
    {
        tracing::warn!(%error, "a failed attempt to authenticate could not be stored");
    }
}

#[cfg(test)]
mod tests;
