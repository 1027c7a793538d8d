//! Guessing is limited: failures to authenticate count for each name and address together, so that a guesser locks out himself
//! and not the owner, and for each address over all names. An attempt counts before it is looked at: of a thousand at once, few
//! are evaluated.

use std::collections::VecDeque;
use std::net::IpAddr;

use dashmap::DashMap;

use super::limiter::site;
use crate::names::{Timestamp, hex};
use crate::store::{Store, StoreFault};

/// Failures count for so long, seconds.
const WINDOW: i64 = 15 * 60;
/// Failures of one name from one address.
const PER_NAME: usize = 5;
/// Failures of one address over all names.
const PER_ADDRESS: usize = 50;

/// Whose name is being guessed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// A client's secret.
    Client,
    /// A user's password.
    User,
}

/// Failures and attempts under way.
#[derive(Debug, Default)]
pub struct Throttle(DashMap<String, VecDeque<Timestamp>>);

/// An attempt under way. It counts as a failure until it is said to have succeeded.
#[derive(Debug)]
#[must_use]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    subjects: [String; 2],
    at: Timestamp,
}

impl Throttle {
    /// With the failures that the store remembers.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(store: &Store, now: Timestamp) -> Result<Self, StoreFault> {
        let throttle = Self::default();
        for (subject, at) in store.failures(now)? {
            throttle.0.entry(subject).or_default().push_back(at);
        }
        Ok(throttle)
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// Too many have failed: the seconds to wait.
    pub fn begin(
        &self,
        account: Account,
        name: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt<'_>, u32> {
        let subjects = subjects(account, name, address);
        let limits = [PER_NAME, PER_ADDRESS];
        for (at, (subject, limit)) in subjects.iter().zip(limits).enumerate() {
            if let Err(wait) = self.take(subject, limit, now) {
                subjects.iter().take(at).for_each(|taken| self.give_back(taken, now));
                return Err(wait);
            }
        }
        Ok(Attempt { throttle: self, subjects, at: now })
    }

    fn take(&self, subject: &str, limit: usize, now: Timestamp) -> Result<(), u32> {
        let mut times = self.0.entry(subject.to_owned()).or_default();
        while times.front().is_some_and(|at| at.plus(WINDOW) <= now) {
            times.pop_front();
        }
        if times.len() >= limit {
            let free = times.front().map_or(now, |at| at.plus(WINDOW));
            return Err(u32::try_from(free.0 - now.0).unwrap_or(1).max(1));
        }
        times.push_back(now);
        Ok(())
    }

    fn give_back(&self, subject: &str, at: Timestamp) {
        let Some(mut times) = self.0.get_mut(subject) else { return };
        if let Some(place) = times.iter().rposition(|time| *time == at) {
            times.remove(place);
        }
    }

    /// Forgets what no longer counts.
    pub fn forget(&self, now: Timestamp) {
        self.0.retain(|_, times| times.back().is_some_and(|at| at.plus(WINDOW) > now));
    }
}

impl Attempt<'_> {
    /// The secret was right.
    pub fn succeeded(self) {
        self.subjects.iter().for_each(|subject| self.throttle.give_back(subject, self.at));
    }

    /// The secret was wrong: kept across restarts. A store that cannot be written now loses the mark of a restart, not the limit.
    pub async fn failed(self, store: &Store) {
        for subject in self.subjects {
            if let Err(error) = store.record_failure(subject, self.at, self.at.plus(WINDOW)).await {
                tracing::warn!(%error, "a failed attempt to authenticate could not be stored");
            }
        }
    }
}

/// What an attempt counts for. A name is of any length and secret-like at times: it is kept as a digest.
fn subjects(account: Account, name: &str, address: Option<IpAddr>) -> [String; 2] {
    use sha2::{Digest, Sha256};
    let kind = match account {
        Account::Client => "client",
        Account::User => "user",
    };
    let address = address.map_or_else(|| "unknown".to_owned(), |address| site(address).to_string());
    let name = hex(Sha256::digest(name.as_bytes()).get(..16).unwrap_or_default());
    [format!("{kind} {name} {address}"), format!("{kind} {address}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn five_failures_close_the_door_for_one_address_and_not_for_the_owner() {
        let throttle = Throttle::default();
        for _ in 0..PER_NAME {
            let _ = throttle.begin(Account::Client, "crm", Some(address(1)), Timestamp(100)).unwrap();
        }
        let wait = throttle.begin(Account::Client, "crm", Some(address(1)), Timestamp(200)).unwrap_err();
        assert_eq!(wait, 800);
        let _ = throttle.begin(Account::Client, "crm", Some(address(2)), Timestamp(200)).unwrap();
        let _ = throttle.begin(Account::Client, "other", Some(address(1)), Timestamp(200)).unwrap();
        let _ = throttle.begin(Account::User, "crm", Some(address(1)), Timestamp(200)).unwrap();
        let _ = throttle.begin(Account::Client, "crm", Some(address(1)), Timestamp(100 + WINDOW)).unwrap();
    }

    #[test]
    fn what_succeeds_does_not_count() {
        let throttle = Throttle::default();
        for _ in 0..1_000 {
            throttle.begin(Account::User, "alice", Some(address(1)), Timestamp(1)).unwrap().succeeded();
        }
    }

    #[test]
    fn one_address_cannot_go_through_all_names() {
        let throttle = Throttle::default();
        let tried = (0..1_000)
            .filter(|n| throttle.begin(Account::User, &format!("u{n}"), Some(address(1)), Timestamp(1)).is_ok());
        assert_eq!(tried.count(), PER_ADDRESS);
        throttle.forget(Timestamp(1 + WINDOW));
        assert!(throttle.0.is_empty());
    }

    #[tokio::test]
    async fn failures_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let throttle = Throttle::load(&store, Timestamp(1)).unwrap();
        for _ in 0..PER_NAME {
            throttle.begin(Account::User, "alice", Some(address(1)), Timestamp(1)).unwrap().failed(&store).await;
        }
        let again = Throttle::load(&Store::open(folder.path()).unwrap(), Timestamp(2)).unwrap();
        assert!(again.begin(Account::User, "alice", Some(address(1)), Timestamp(2)).is_err());
        assert!(again.begin(Account::User, "alice", Some(address(2)), Timestamp(2)).is_ok());
    }
}
