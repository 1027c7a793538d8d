//! How many retries an upstream can take: one for every five requests, and a few beforehand.
//! Without a budget an upstream that fails gets a multiple of its load just then.

use std::sync::atomic::{AtomicI64, Ordering};

/// What a request adds, in parts of a retry.
const EARNED: i64 = 2;
/// What a retry costs.
const COST: i64 = 10;
/// Retries that may be taken before any request.
const BEFOREHAND: i64 = 10;
/// Retries that can be saved up.
const MOST: i64 = 100;

/// A budget.
#[derive(Debug)]
pub struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(BEFOREHAND * COST))
    }
}

impl Budget {
    /// A request begins.
    pub fn request(&self) {
        if self.0.load(Ordering::Relaxed) < MOST * COST {
            self.0.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// Whether it may be tried again; takes it off the budget.
    pub fn retry(&self) -> bool {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left >= COST).then_some(left - COST)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_five_requests_may_be_tried_again() {
        let budget = Budget::default();
        assert_eq!((0..100).filter(|_| budget.retry()).count(), 10);
        (0..100).for_each(|_| budget.request());
        assert_eq!((0..100).filter(|_| budget.retry()).count(), 20);
        (0..10_000).for_each(|_| budget.request());
        assert_eq!((0..1000).filter(|_| budget.retry()).count(), 100);
    }
}
