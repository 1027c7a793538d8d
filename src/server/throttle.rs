//! Guessing is limited: failures to authenticate count for each name and address together, so that a guesser locks out himself
//! and not the owner, and for each address over all names.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::names::{Timestamp, hex};
use crate::request::address::site;
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
    /// A code of the login provider.
    Code,
}

/// Attempts of one address under way; further ones wait.
const UNDER_WAY: usize = 10;
/// Names and addresses that are kept apart: beyond, whole networks count as one address. A flood from many addresses must neither
/// fill memory and disk nor open the door for guesses that are not counted.
const MOST: usize = 100_000;
/// How long an attempt waits for those before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Failures and attempts under way.
#[derive(Debug, Default)]
pub struct Throttle {
    counts: DashMap<String, Count>,
    /// Told when an attempt has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Count {
    failures: VecDeque<Timestamp>,
    under_way: usize,
}

/// An attempt under way. Dropped without a word it has neither failed nor succeeded: the one who tried went away.
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
            throttle.counts.entry(subject).or_default().failures.push_back(at);
        }
        Ok(throttle)
    }

    /// Begins an attempt. Where those under way could, if they all failed, use up what is left, it waits for them: of a thousand
    /// guesses at once few are looked at, and a busy client that knows its secret only waits its turn.
    ///
    /// # Errors
    /// Too many have failed: the seconds to wait.
    pub async fn begin(
        &self,
        account: Account,
        name: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt<'_>, u32> {
        let address = if self.counts.len() < MOST { address.map(site) } else { address.map(network) };
        let subjects = subjects(account, name, address);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Made before the look, so that an end between look and wait is not missed.
            let ended = self.ended.notified();
            if self.take(&subjects, now)? {
                return Ok(Attempt { throttle: self, subjects, at: now });
            }
            if tokio::time::timeout_at(deadline, ended).await.is_err() {
                return Err(1);
            }
        }
    }

    /// Takes a place for each subject, or none: false when they are all taken by attempts under way.
    fn take(&self, subjects: &[String; 2], now: Timestamp) -> Result<bool, u32> {
        // The address first: what it may not do leaves no trace of the name.
        for (at, (subject, limit)) in subjects.iter().zip([PER_ADDRESS, PER_NAME]).enumerate() {
            let mut count = self.counts.entry(subject.clone()).or_default();
            while count.failures.front().is_some_and(|at| at.plus(WINDOW) <= now) {
                count.failures.pop_front();
            }
            let (failed, under_way) = (count.failures.len(), count.under_way);
            let free = count.failures.front().map_or(now, |at| at.plus(WINDOW));
            if failed + under_way < limit && under_way < UNDER_WAY {
                count.under_way += 1;
                continue;
            }
            drop(count);
            subjects.iter().take(at).for_each(|taken| self.leave(taken));
            if failed >= limit {
                return Err(u32::try_from(free.0 - now.0).unwrap_or(1).max(1));
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn leave(&self, subject: &str) {
        if let Some(mut count) = self.counts.get_mut(subject) {
            count.under_way = count.under_way.saturating_sub(1);
        }
    }

    /// Forgets what no longer counts.
    pub fn forget(&self, now: Timestamp) {
        self.counts
            .retain(|_, count| count.under_way > 0 || count.failures.back().is_some_and(|at| at.plus(WINDOW) > now));
    }
}

impl Attempt<'_> {
    /// The secret was right, or was not looked at.
    pub fn succeeded(self) {}

    /// The secret was wrong: kept across restarts. A store that cannot be written now loses the mark at a restart, not the limit.
    pub async fn failed(self, store: &Store) {
        for subject in &self.subjects {
            self.throttle.counts.entry(subject.clone()).or_default().failures.push_back(self.at);
        }
        let (subjects, at) = (self.subjects.clone(), self.at);
        drop(self);
        if let Err(error) = store.record_failures(subjects, at, at.plus(WINDOW)).await {
            tracing::warn!(%error, "a failed attempt to authenticate could not be stored");
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.subjects.iter().for_each(|subject| self.throttle.leave(subject));
        self.throttle.ended.notify_waiters();
    }
}

/// What an attempt counts for. A name is of any length and secret-like at times: it is kept as a digest.
fn subjects(account: Account, name: &str, address: Option<IpAddr>) -> [String; 2] {
    use sha2::{Digest, Sha256};
    let kind = match account {
        Account::Client => "client",
        Account::User => "user",
        Account::Code => "code",
    };
    let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    let name = hex(Sha256::digest(name.as_bytes()).get(..16).unwrap_or_default());
    [format!("{kind} {address}"), format!("{kind} {name} {address}")]
}

/// The network of an address, as wide as one that a single party may hold: /16 of IPv4, /32 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match site(address) {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & 0xffff_0000)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 96 << 96)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last])).filter(|_| last > 0)
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn five_failures_close_the_door_for_one_address_and_not_for_the_owner() {
        let (_folder, store) = store();
        let throttle = Throttle::default();
        for _ in 0..PER_NAME {
            throttle.begin(Account::Client, "crm", address(1), Timestamp(100)).await.unwrap().failed(&store).await;
        }
        let wait = throttle.begin(Account::Client, "crm", address(1), Timestamp(200)).await.unwrap_err();
        assert_eq!(wait, 800);
        for (account, name, from, now) in [
            (Account::Client, "crm", 2, 200),
            (Account::Client, "other", 1, 200),
            (Account::User, "crm", 1, 200),
            (Account::Client, "crm", 1, 100 + WINDOW),
        ] {
            throttle.begin(account, name, address(from), Timestamp(now)).await.unwrap().succeeded();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_succeeds_does_not_count_however_much_of_it_comes_at_once() {
        let throttle = Throttle::default();
        let attempt = || async {
            let attempt = throttle.begin(Account::User, "alice", address(1), Timestamp(1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            attempt.succeeded();
        };
        futures_util::future::join_all((0..200).map(|_| attempt())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_thousand_guesses_at_once_five_are_looked_at() {
        let (_folder, store) = store();
        let throttle = Throttle::default();
        let looked_at = std::sync::atomic::AtomicUsize::new(0);
        let guess = || async {
            if let Ok(attempt) = throttle.begin(Account::User, "alice", address(1), Timestamp(1)).await {
                looked_at.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                attempt.failed(&store).await;
            }
        };
        futures_util::future::join_all((0..1_000).map(|_| guess())).await;
        assert_eq!(looked_at.into_inner(), PER_NAME);
    }

    #[tokio::test]
    async fn one_address_cannot_go_through_all_names() {
        let (_folder, store) = store();
        let throttle = Throttle::default();
        let mut tried = 0;
        for n in 0..100 {
            if let Ok(attempt) = throttle.begin(Account::User, &format!("u{n}"), address(1), Timestamp(1)).await {
                attempt.failed(&store).await;
                tried += 1;
            }
        }
        assert_eq!(tried, PER_ADDRESS);
        throttle.forget(Timestamp(1 + WINDOW));
        assert!(throttle.counts.is_empty());
    }

    #[tokio::test]
    async fn a_flood_from_many_addresses_makes_its_network_one_and_opens_no_door() {
        let (_folder, store) = store();
        let throttle = Throttle::default();
        for n in 0..MOST {
            let known = Count { failures: [Timestamp(1)].into(), under_way: 0 };
            throttle.counts.insert(format!("client {n}"), known);
        }
        let from = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, n, 0, 0, 0, 0, 1]));
        let mut looked_at = 0;
        for n in 0..100 {
            if let Ok(attempt) = throttle.begin(Account::User, "alice", from(n), Timestamp(2)).await {
                attempt.failed(&store).await;
                looked_at += 1;
            }
        }
        assert_eq!(looked_at, PER_NAME);
        assert!(throttle.counts.len() <= MOST + 2);
        throttle.begin(Account::User, "alice", address(1), Timestamp(2)).await.unwrap().succeeded();
    }

    #[tokio::test]
    async fn failures_survive_a_restart() {
        let (folder, store) = store();
        let throttle = Throttle::load(&store, Timestamp(1)).unwrap();
        for _ in 0..PER_NAME {
            throttle.begin(Account::User, "alice", address(1), Timestamp(1)).await.unwrap().failed(&store).await;
        }
        let again = Throttle::load(&Store::open(folder.path()).unwrap(), Timestamp(2)).unwrap();
        assert!(again.begin(Account::User, "alice", address(1), Timestamp(2)).await.is_err());
        assert!(again.begin(Account::User, "alice", address(2), Timestamp(2)).await.is_ok());
    }
}
