//! How servers are doing: what requests find out (ejection), and what is asked for (health checks).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Checks in a row that change what is thought of a server.
const IN_A_ROW: u32 = 2;
/// Times that an ejection gets longer.
const LONGEST: u32 = 10;

/// Milliseconds since the process first asked.
#[must_use]
pub fn now() -> u64 {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How one server has been doing.
#[derive(Debug, Default)]
pub struct Health {
    /// Failed requests in a row.
    failures: AtomicU32,
    /// Ejections in a row.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// Health checks say that it is down.
    down: AtomicBool,
    /// Checks in a row that say otherwise.
    contrary: AtomicU32,
    checked: AtomicU64,
}

impl Health {
    /// Whether its requests have failed so often that it is left out.
    #[must_use]
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// Whether health checks say that it is down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes how a request went; true when the server is left out because of it.
    pub fn request(&self, well: bool, after: u32, first: Duration) -> bool {
        if well {
            if self.failures.load(Ordering::Relaxed) + self.ejections.load(Ordering::Relaxed) > 0 {
                self.failures.store(0, Ordering::Relaxed);
                self.ejections.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < after || self.is_ejected(now()) {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).saturating_add(1).min(LONGEST);
        let time = u64::try_from((first * times).as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(now().saturating_add(time), Ordering::Relaxed);
        true
    }

    /// Notes how a check went; true when it changes what is thought of the server.
    pub(in crate::server) fn check(&self, well: bool) -> bool {
        if well != self.is_down() {
            self.contrary.store(0, Ordering::Relaxed);
            return false;
        }
        if self.contrary.fetch_add(1, Ordering::Relaxed) + 1 < IN_A_ROW {
            return false;
        }
        self.contrary.store(0, Ordering::Relaxed);
        self.down.store(!well, Ordering::Relaxed);
        true
    }

    /// What checks have found does not count any more: others are made now, or none.
    pub fn forget_checks(&self) {
        self.down.store(false, Ordering::Relaxed);
        self.contrary.store(0, Ordering::Relaxed);
        self.checked.store(0, Ordering::Relaxed);
    }

    /// Whether a check is due; it counts as made then.
    pub(in crate::server) fn is_due(&self, every: Duration) -> bool {
        let (now, every) = (now().max(1), u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        let last = self.checked.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= every;
        if due {
            self.checked.store(now, Ordering::Relaxed);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_checks_in_a_row_change_what_is_thought_of_a_server() {
        let health = Health::default();
        assert!(
            !health.check(false)
                && !health.check(true)
                && !health.check(false)
                && !health.is_down()
        );
        assert!(health.check(false) && health.is_down());
        assert!(!health.check(true) && health.is_down());
        assert!(health.check(true) && !health.is_down());
    }

    #[test]
    fn failures_in_a_row_eject_and_each_time_for_longer() {
        let (health, time) = (Health::default(), Duration::from_secs(100));
        let fails = |times| (0..times).map(|_| health.request(false, 3, time)).collect::<Vec<_>>();
        assert_eq!(fails(2), [false, false]);
        assert!(!health.request(true, 3, time));
        assert_eq!(fails(3), [false, false, true]);
        let first = health.ejected_until.swap(0, Ordering::Relaxed);
        assert_eq!(fails(3), [false, false, true]);
        let second = health.ejected_until.load(Ordering::Relaxed);
        assert!(second >= first + 90_000, "{first} {second}");
        assert!(health.is_ejected(now()) && !health.is_down());
    }
}
