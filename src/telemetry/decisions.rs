//! The last decisions, in memory: a bounded window that the console and `explain` look back on.
//! Records come in by a thread of their own; no request waits for a reader.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lines::Sink;
use crate::config::console::DecisionWindow;

/// One record, as in the decision log.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its number: they only grow, and none is left out.
    pub number: u64,
    /// The JSON, without the line's end.
    pub json: Arc<[u8]>,
    at: Instant,
}

/// The last decisions. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Decisions(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: Mutex<VecDeque<Line>>,
    next: AtomicU64,
    max: AtomicUsize,
    window_seconds: AtomicU64,
}

impl Decisions {
    /// Bounds the window from now on.
    pub fn bound(&self, by: DecisionWindow) {
        self.0.max.store(by.max, Ordering::Relaxed);
        self.0.window_seconds.store(by.window.as_secs(), Ordering::Relaxed);
    }

    /// Adds a record.
    fn push(&self, json: &[u8]) {
        let max = self.0.max.load(Ordering::Relaxed);
        if max == 0 || json.is_empty() {
            return;
        }
        let line = |number| Line { number, json: json.into(), at: Instant::now() };
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line(self.0.next.fetch_add(1, Ordering::Relaxed)));
        while lines.len() > max {
            lines.pop_front();
        }
        drop(lines);
        self.trim();
    }

    /// Drops what is older than the window.
    fn trim(&self) {
        let window = Duration::from_secs(self.0.window_seconds.load(Ordering::Relaxed));
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while lines.front().is_some_and(|line| line.at.elapsed() > window) {
            lines.pop_front();
        }
    }

    /// The number of the record that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.0.next.load(Ordering::Relaxed)
    }

    /// The records with numbers from `from` on, oldest first, at most so many.
    #[must_use]
    pub fn since(&self, from: u64, limit: usize) -> Vec<Line> {
        self.trim();
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let start = lines.partition_point(|line| line.number < from);
        lines.iter().skip(start).take(limit).cloned().collect()
    }

    /// The records with numbers below `before`, newest first. Only the references are copied while
    /// the window is locked.
    #[must_use]
    pub fn before(&self, before: u64) -> Vec<Line> {
        self.trim();
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().rev().filter(|line| line.number < before).cloned().collect()
    }
}

/// Takes lines from the thread that writes them.
#[derive(Debug)]
pub struct DecisionSink {
    decisions: Decisions,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
}

impl DecisionSink {
    /// Adds to these.
    #[must_use]
    pub const fn new(decisions: Decisions) -> Self {
        Self { decisions, rest: Vec::new() }
    }
}

impl Write for DecisionSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(end) if self.rest.is_empty() => self.decisions.push(end),
                Some(end) => {
                    self.rest.extend_from_slice(end);
                    self.decisions.push(&std::mem::take(&mut self.rest));
                }
                None => self.rest.extend_from_slice(part),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink for DecisionSink {}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<(u64, &str)> {
        lines.iter().map(|line| (line.number, std::str::from_utf8(&line.json).unwrap())).collect()
    }

    #[test]
    fn the_newest_so_many_are_kept_whole_however_they_come_in() {
        let decisions = Decisions::default();
        decisions.bound(DecisionWindow { window: Duration::from_secs(60), max: 3 });
        let mut sink = DecisionSink::new(decisions.clone());
        for bytes in ["one\ntwo\nth", "ree", "\nfour\n", "fi"] {
            sink.write_all(bytes.as_bytes()).unwrap();
        }
        let newest = decisions.before(u64::MAX);
        assert_eq!(texts(&newest), [(3, "four"), (2, "three"), (1, "two")]);
        assert_eq!(texts(&decisions.before(3)), [(2, "three"), (1, "two")]);
        assert_eq!(texts(&decisions.since(2, 1)), [(2, "three")]);
        assert_eq!(decisions.next(), 4);
    }

    #[test]
    fn a_window_of_no_records_keeps_none_and_one_of_no_time_neither() {
        for (window, max) in [(60, 0), (0, 10)] {
            let decisions = Decisions::default();
            decisions.bound(DecisionWindow { window: Duration::from_secs(window), max });
            DecisionSink::new(decisions.clone()).write_all(b"one\n").unwrap();
            // Older than no time at all once the clock has moved on.
            while Instant::now().elapsed().is_zero() {}
            assert!(decisions.before(u64::MAX).is_empty(), "{window} {max}");
        }
    }
}
