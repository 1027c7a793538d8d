//! Counts use in memory, to be added to the store's counters every few seconds. Counting never
//! waits: each thread has counters of its own.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::tooling::usage::{Counts, Day, OTHER, Row, Subject};

/// Groups of threads: more than there are serving threads on most machines.
const SHARDS: usize = 64;
/// Subjects in one group between two collections; further ones count as [`OTHER`].
const MAX_SUBJECTS: usize = 20_000;

/// Counters by client, API and operation. Nested, so that nothing is allocated for one that exists.
type Counters = HashMap<String, HashMap<String, HashMap<String, Counts>>>;

#[derive(Debug, Default)]
struct Shard {
    counters: Counters,
    subjects: usize,
}

/// Counters that were not stored yet.
#[derive(Debug)]
pub struct UsageCounters {
    shards: Vec<Mutex<Shard>>,
}

impl Default for UsageCounters {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The shard of this thread.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SHARD.with(|shard| {
        let number = shard.get().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        shard.set(Some(number));
        number
    })
}

impl UsageCounters {
    /// Counts requests of a client. Our own endpoints have an empty `api`.
    pub fn count(&self, client: &str, api: &str, operation: &str, counts: Counts) {
        let Some(shard) = self.shards.get(own_shard()) else { return };
        // Held by this thread alone, but for the moment in which the counters are taken.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shard
            .counters
            .get_mut(client)
            .and_then(|apis| apis.get_mut(api))
            .and_then(|operations| operations.get_mut(operation));
        if let Some(known) = known {
            return known.add(counts);
        }
        let (client, operation) =
            if shard.subjects < MAX_SUBJECTS { (client, operation) } else { ("", OTHER) };
        shard.subjects += 1;
        let apis = shard.counters.entry(client.to_owned()).or_default();
        let operations = apis.entry(api.to_owned()).or_default();
        operations.entry(operation.to_owned()).or_default().add(counts);
    }

    /// Takes what was counted since the last time, as of this day.
    #[must_use]
    pub fn take(&self, day: Day) -> Vec<Row> {
        let taken = self.shards.iter().map(|shard| {
            std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner)).counters
        });
        rows(taken, day)
    }

    /// What was counted since it was taken last; it stays to be taken.
    #[must_use]
    pub fn peek(&self, day: Day) -> Vec<Row> {
        let shards = self
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).counters.clone());
        rows(shards, day)
    }

    /// Puts back rows that could not be stored, to be taken with the next ones.
    pub fn put_back(&self, rows: Vec<Row>) {
        for row in rows {
            let Subject { client, api, operation } = &row.subject;
            self.count(client, api, operation, row.counts);
        }
    }
}

/// The sums of several counters as rows of one day, in order.
fn rows(all: impl Iterator<Item = Counters>, day: Day) -> Vec<Row> {
    let mut sums: HashMap<Subject, Counts> = HashMap::new();
    for (client, apis) in all.flatten() {
        for (api, operations) in apis {
            for (operation, counts) in operations {
                let subject = Subject { client: client.clone(), api: api.clone(), operation };
                sums.entry(subject).or_default().add(counts);
            }
        }
    }
    let mut rows: Vec<Row> =
        sums.into_iter().map(|(subject, counts)| Row { subject, day, counts }).collect();
    rows.sort_by(|a, b| a.subject.cmp(&b.subject));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Counts = Counts { permitted: 1, refused: 0, for_users: 0, shadow_refused: 0 };

    #[test]
    fn threads_count_apart_and_are_taken_together_once() {
        let counters = UsageCounters::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| counters.count("crm", "a", "GET /x", ONE)));
            }
        });
        counters.count("crm", "", "tokens", Counts { refused: 2, ..Counts::default() });
        let rows = counters.take(Day(3));
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.subject.api.as_str(), row.counts.permitted, row.counts.refused))
            .collect();
        assert_eq!(found, [("", 0, 2), ("a", 8_000, 0)]);
        assert!(counters.take(Day(3)).is_empty());
        counters.put_back(rows.clone());
        assert_eq!(counters.take(Day(3)), rows);
    }

    #[test]
    fn more_subjects_than_there_is_room_for_count_as_others() {
        let counters = UsageCounters::default();
        let more = 100;
        for number in 0..MAX_SUBJECTS + more {
            counters.count(&format!("client {number}"), "a", "GET /x", ONE);
        }
        let rows = counters.take(Day(0));
        assert_eq!(rows.len(), MAX_SUBJECTS + 1);
        let other = rows.iter().find(|row| row.subject.operation == OTHER).unwrap();
        assert_eq!((other.subject.client.as_str(), other.counts.permitted), ("", 100));
    }
}
