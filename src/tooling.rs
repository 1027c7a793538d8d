//! Questions an operator asks about policies before and after a change. Everything here calls the
//! decision of [`policy`](crate::policy); nothing decides itself.

pub mod access;
pub mod change;
pub mod coverage;
pub mod draft;
pub mod diff;
pub mod edit;
pub mod explain;
pub mod import;
pub mod integrate;
pub mod lint;
pub mod offline_keys;
pub mod patch;
pub mod remedy;
pub mod replay;
pub mod testing;
pub mod usage;
#[cfg(test)]
mod worlds;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::names::Timestamp;

/// How long-running work is executed: the caller supplies the threads.
#[derive(Clone, Copy)]
pub struct Workers<'a> {
    /// Runs the work once on each thread, in parallel, and returns when all have finished.
    pub run: &'a dyn Fn(&(dyn Fn() + Sync)),
    /// Receives the progress: items done, and their total.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

impl std::fmt::Debug for Workers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers<'static> {
    /// Runs on the calling thread and reports no progress.
    #[must_use]
    pub fn caller() -> Self {
        Self { run: &|work| work(), progress: &|_, _| {} }
    }
}

impl Workers<'_> {
    /// Applies `ask` to each item; the answers are in no particular order.
    fn each<T: Sync, A: Send>(&self, items: &[T], ask: impl Fn(&T, &mut Vec<A>) + Sync) -> Vec<A> {
        let (next, done, answers) =
            (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
        (self.run)(&|| {
            let mut own = Vec::new();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                ask(item, &mut own);
                (self.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
            }
            answers.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own);
        });
        answers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as text: RFC 3339 in UTC.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.0).map(|at| at.to_string()).unwrap_or_default()
}
