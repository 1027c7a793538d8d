//! What has been revoked, and who is blocked by command: kept in memory, and judged on every
//! request without asking the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::client::Registry;
use crate::names::{IssuerName, Timestamp, UserName};
use crate::policy::block::{Block, Blocks};
use crate::store::blocks::{Blocked, CommandedBlock};
use crate::store::events::{News, Position};
use crate::store::revocations::{Revocation, Subject};
use crate::store::{Store, StoreFault};
use crate::token::Facts;

/// What of all tokens has been revoked or blocked, as far as this gateway has heard.
#[derive(Debug)]
pub struct Revocations {
    index: RwLock<HashMap<IssuerName, Index>>,
    blocks: ArcSwap<Blocks>,
    position: RwLock<Position>,
    /// When the store was last heard.
    heard: RwLock<Instant>,
    /// That is too long ago to serve.
    stale: AtomicBool,
}

/// What has been revoked of one issuer's tokens.
#[derive(Debug, Default)]
struct Index {
    tokens: HashMap<String, Timestamp>,
    authorizations: HashMap<String, Timestamp>,
    clients: HashMap<String, Until>,
    users: HashMap<String, Until>,
    everything: Option<Timestamp>,
}

/// Tokens issued at or before `at` are revoked; nothing of them lives beyond `expires`.
#[derive(Clone, Copy, Debug)]
struct Until {
    at: Timestamp,
    expires: Timestamp,
}

impl Index {
    fn add(&mut self, revocation: &Revocation) {
        let until = Until { at: revocation.at, expires: revocation.expires };
        let widen = |known: &mut Until| *known = if known.at < until.at { until } else { *known };
        match &revocation.subject {
            Subject::Token(id) => {
                self.tokens.insert(id.clone(), until.expires);
            }
            Subject::Authorization(id) => {
                self.authorizations.insert(id.clone(), until.expires);
            }
            Subject::Client(client) => {
                self.clients.entry(client.clone()).and_modify(widen).or_insert(until);
            }
            Subject::User(user) => {
                self.users.entry(user.clone()).and_modify(widen).or_insert(until);
            }
            Subject::Everything => self.everything = self.everything.max(Some(until.at)),
        }
    }

    fn forget(&mut self, now: Timestamp) {
        self.tokens.retain(|_, expires| *expires > now);
        self.authorizations.retain(|_, expires| *expires > now);
        self.clients.retain(|_, until| until.expires > now);
        self.users.retain(|_, until| until.expires > now);
    }

    fn has(&self, facts: &Facts, registry: &Registry) -> bool {
        let issued_by = |at: Timestamp| facts.issued.is_none_or(|issued| issued <= at);
        facts.id.as_ref().is_some_and(|id| self.tokens.contains_key(id))
            || facts.authorization.as_ref().is_some_and(|id| self.authorizations.contains_key(id))
            || facts
                .client
                .as_ref()
                .and_then(|client| self.clients.get(client))
                .is_some_and(|until| issued_by(until.at))
            || self.user(facts, registry).is_some_and(|until| issued_by(until.at))
            || self.everything.is_some_and(issued_by)
    }

    /// What is said of the user that a token acts for: of our client credentials, the client's
    /// application user.
    fn user(&self, facts: &Facts, registry: &Registry) -> Option<&Until> {
        if self.users.is_empty() {
            return None;
        }
        let own = facts.issuer.is_own();
        let acts = facts.client.as_ref().filter(|client| own && **client == facts.subject);
        let application =
            acts.and_then(|client| registry.client(client)?.application_user.as_ref());
        self.users.get(application.map_or(facts.subject.as_str(), UserName::as_str))
    }
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            index: RwLock::default(),
            blocks: ArcSwap::default(),
            position: RwLock::default(),
            heard: RwLock::new(Instant::now()),
            stale: AtomicBool::new(false),
        }
    }
}

impl Revocations {
    /// With all that the store has.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(store: &Store, now: Timestamp) -> Result<Self, StoreFault> {
        let revocations = Self::default();
        let news = store.news_now()?;
        revocations.take(&news);
        revocations.take_blocks(store.blocks(now)?);
        Ok(revocations)
    }

    /// Whether a token has been revoked.
    #[must_use]
    pub fn has(&self, facts: &Facts, registry: &Registry) -> bool {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let has = |name: &str| index.get(name).is_some_and(|index| index.has(facts, registry));
        // What is said of an issuer with tenants is said of each.
        has(facts.issuer.as_str())
            || (facts.issuer.tenant().is_some() && has(facts.issuer.declared()))
    }

    /// The blocks set by command.
    #[must_use]
    pub fn blocks(&self) -> arc_swap::Guard<Arc<Blocks>> {
        self.blocks.load()
    }

    /// How long ago the store was last heard: what was revoked elsewhere since is not known.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.heard.read().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether that is longer ago than the configuration allows (decisions.md, "Revocation").
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    pub(in crate::server) fn judge_age(&self, most: Duration) {
        let stale = self.age() > most;
        if stale != self.stale.swap(stale, Ordering::Relaxed) {
            if stale {
                tracing::error!(
                    seconds = most.as_secs(),
                    "the store is silent for too long: tokens are answered 503"
                );
            } else {
                tracing::info!("tokens are served again");
            }
        }
    }

    /// How many revocations are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let count = |index: &Index| {
            index.tokens.len()
                + index.authorizations.len()
                + index.clients.len()
                + index.users.len()
        };
        index.values().map(count).sum()
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in what this process revoked, before it is read back from the store.
    pub fn add(&self, revocation: &Revocation) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.entry(revocation.issuer.clone()).or_default().add(revocation);
    }

    pub(in crate::server) fn take(&self, news: &News) {
        news.revocations.iter().for_each(|revocation| self.add(revocation));
        *self.position.write().unwrap_or_else(PoisonError::into_inner) = news.position;
        *self.heard.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(in crate::server) fn take_blocks(&self, blocks: Vec<CommandedBlock>) {
        let blocks: Vec<Block> = blocks.into_iter().map(block).collect();
        self.blocks.store(Arc::new(Blocks::new(&blocks)));
    }

    pub(in crate::server) fn position(&self) -> Position {
        *self.position.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::server) fn forget(&self, now: Timestamp) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.values_mut().for_each(|index| index.forget(now));
    }
}

/// A block set by command as a policy file would say it.
fn block(commanded: CommandedBlock) -> Block {
    let mut block = Block { until: commanded.until, ..Block::default() };
    match commanded.blocked {
        Blocked::Client(id) => block.clients.push(crate::names::ClientId::new(&id)),
        Blocked::User(name) => block.users.push(UserName::new(&name)),
        Blocked::Token(id) => block.tokens.push(id),
        Blocked::Network(network) => block.from.push(network),
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(issuer: &str, issued: i64) -> Facts {
        Facts {
            issuer: IssuerName::new(issuer),
            key: None,
            subject: "alice".into(),
            client: Some("crm".into()),
            audience: vec![],
            expires: Timestamp(100),
            not_before: None,
            issued: Some(Timestamp(issued)),
            id: Some("t1".into()),
            authorization: Some("a1".into()),
            scopes: None,
            roles: vec![],
            bound: false,
            claims: serde_json::Map::new(),
            unread: Vec::new(),
        }
    }

    #[test]
    fn each_kind_ends_what_it_is_about_and_nothing_of_other_issuers() {
        for (subject, ends) in [
            (Subject::Token("t1".into()), true),
            (Subject::Token("t2".into()), false),
            (Subject::Authorization("a1".into()), true),
            (Subject::Authorization("a2".into()), false),
            (Subject::Client("crm".into()), true),
            (Subject::Client("other".into()), false),
            (Subject::User("alice".into()), true),
            (Subject::User("bob".into()), false),
            (Subject::Everything, true),
        ] {
            let revocations = Revocations::default();
            revocations.add(&Revocation::now(subject.clone(), Timestamp(10)));
            assert_eq!(
                revocations.has(&facts("self", 10), &Registry::default()),
                ends,
                "{subject:?}"
            );
            assert!(!revocations.has(&facts("corp", 10), &Registry::default()), "{subject:?}");
            let by_time = !matches!(subject, Subject::Token(_) | Subject::Authorization(_));
            assert_eq!(
                revocations.has(&facts("self", 11), &Registry::default()),
                ends && !by_time,
                "issued later: {subject:?}"
            );
        }
    }

    #[test]
    fn what_cannot_matter_any_more_is_forgotten() {
        let revocations = Revocations::default();
        revocations.add(&Revocation {
            issuer: IssuerName::new("self"),
            subject: Subject::Token("t1".into()),
            at: Timestamp(1),
            expires: Timestamp(50),
        });
        revocations.forget(Timestamp(49));
        assert!(revocations.has(&facts("self", 1), &Registry::default()));
        revocations.forget(Timestamp(50));
        assert!(!revocations.has(&facts("self", 1), &Registry::default()));
    }
}
