//! What was found out about tokens, by their SHA-256: facts of good ones, so that a signature is
//! checked or an issuer asked once, and which ones their issuer does not know. Holds no token,
//! judges nothing.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use crate::names::Timestamp;
use crate::token::Facts;

/// Most entries.
pub const CAPACITY: usize = 32_768;

/// Most tokens remembered because their signature failed.
pub const FAILED_CAPACITY: usize = 32_768;

/// SHA-256 of a token.
pub type TokenDigest = [u8; 32];

/// The digest of a token.
#[must_use]
pub fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

/// A digest is as good as random already: eight of its bytes are its hash.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(self.0, |first| u64::from_ne_bytes(*first));
    }

    /// The length, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// From then on it says nothing any more.
    until: Option<Timestamp>,
    /// Which set of issuers read the claims; facts read by another are not used.
    issuers: u64,
    /// Used since the hand last passed.
    used: AtomicBool,
}

/// Facts of verified tokens.
pub type TokenCache = Cache<Arc<Facts>>;

/// The cache: bounded, second chance (CLOCK), so that a flood of tokens seen once does not push out
/// those in use.
#[derive(Debug)]
pub struct Cache<V> {
    entries: DashMap<TokenDigest, Entry<V>, BuildHasherDefault<DigestHasher>>,
    /// A clock for each part of the digests: two threads that put rarely meet.
    clocks: Box<[Mutex<Clock>]>,
    /// Most entries of one part.
    capacity: usize,
}

/// Parts of a large cache.
const PARTS: usize = 16;
/// A cache below this many entries has one part: the parts of a small one would fill unevenly.
const LARGE: usize = 4_096;

#[derive(Debug, Default)]
struct Clock {
    ring: Vec<TokenDigest>,
    hand: usize,
}

impl<V: Clone> Cache<V> {
    /// An empty cache.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let parts = if capacity < LARGE { 1 } else { PARTS };
        Self {
            entries: DashMap::default(),
            clocks: (0..parts).map(|_| Mutex::default()).collect(),
            capacity: (capacity / parts).max(1),
        }
    }

    /// What is known of a token, as found out by this set of issuers.
    #[must_use]
    pub fn find(&self, token: &TokenDigest, issuers: u64, now: Timestamp) -> Option<V> {
        let entry = self.entries.get(token)?;
        if entry.issuers != issuers || entry.until.is_some_and(|until| until <= now) {
            return None;
        }
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(entry.value.clone())
    }

    /// Puts something in, until a time if it has one; where the cache is full, an entry that was
    /// not used recently makes room. Where another thread is putting something into the same part,
    /// nothing is put in: to find it out once more is cheaper than to wait.
    pub fn put(&self, token: TokenDigest, issuers: u64, value: V, until: Option<Timestamp>) {
        let entry = Entry { value, until, issuers, used: AtomicBool::new(false) };
        let part = usize::from(token.last().copied().unwrap_or(0)) % self.clocks.len().max(1);
        let Some(clock) = self.clocks.get(part) else { return };
        let mut clock = match clock.try_lock() {
            Ok(clock) => clock,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.entries.insert(token, entry).is_some() {
            return;
        }
        if clock.ring.len() < self.capacity {
            clock.ring.push(token);
            return;
        }
        let Some(victim) = self.victim(&mut clock) else { return };
        if let Some(place) = clock.ring.get_mut(victim) {
            let gone = std::mem::replace(place, token);
            self.entries.remove(&gone);
        }
    }

    /// Moves the hand to an entry that was not used since it last passed; after a few steps it
    /// takes the one it stands at, so that no insert holds the clock for long.
    fn victim(&self, clock: &mut Clock) -> Option<usize> {
        const STEPS: usize = 64;
        let mut at = clock.hand;
        for _ in 0..STEPS {
            at = clock.hand;
            clock.hand = (clock.hand + 1) % clock.ring.len().max(1);
            let digest = clock.ring.get(at)?;
            let used = self
                .entries
                .get(digest)
                .is_some_and(|entry| entry.used.swap(false, Ordering::Relaxed));
            if !used {
                break;
            }
        }
        Some(at)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;

    fn facts() -> Arc<Facts> {
        Arc::new(Facts {
            issuer: IssuerName::new("self"),
            key: None,
            subject: "s".into(),
            client: None,
            audience: vec![],
            expires: Timestamp(1),
            not_before: None,
            issued: None,
            id: None,
            authorization: None,
            scopes: None,
            roles: vec![],
            bound: false,
            claims: serde_json::Map::new(),
            unread: Vec::new(),
        })
    }

    #[test]
    fn facts_read_by_other_issuers_settings_are_not_used() {
        let cache = TokenCache::new(4);
        cache.put(digest("a"), 1, facts(), None);
        assert!(cache.find(&digest("a"), 1, Timestamp(5)).is_some());
        assert!(cache.find(&digest("a"), 2, Timestamp(5)).is_none());
        cache.put(digest("a"), 2, facts(), None);
        assert!(cache.find(&digest("a"), 2, Timestamp(5)).is_some());
        assert_eq!(cache.len(), 1);
        cache.put(digest("a"), 2, facts(), Some(Timestamp(6)));
        assert!(cache.find(&digest("a"), 2, Timestamp(5)).is_some());
        assert!(cache.find(&digest("a"), 2, Timestamp(6)).is_none(), "it has an end");
    }

    #[test]
    fn a_flood_of_tokens_seen_once_leaves_those_in_use() {
        let cache = TokenCache::new(100);
        let hot: Vec<TokenDigest> = (0..50).map(|n| digest(&format!("hot{n}"))).collect();
        for token in &hot {
            cache.put(*token, 1, facts(), None);
        }
        for n in 0..10_000 {
            cache.put(digest(&format!("cold{n}")), 1, facts(), None);
            if n % 10 == 0 {
                for token in &hot {
                    assert!(cache.find(token, 1, Timestamp(5)).is_some(), "{n}");
                }
            }
            assert!(cache.len() <= 100);
        }
    }
}
