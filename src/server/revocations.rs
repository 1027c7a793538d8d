//! What follows the store while we serve: revocations and our own keys, changed here or by another process. What has been revoked
//! is kept in memory: judged on every request without asking the store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::{Shared, clock};
use crate::client::Registry;
use crate::names::{Timestamp, UserName};
use crate::store::revocations::{Revocation, Subject};
use crate::store::{Store, StoreFault};
use crate::token::Facts;

/// How often the store is asked for what another process revoked.
const EVERY: Duration = Duration::from_millis(500);
/// How often what has expired is removed.
const SWEEP: Duration = Duration::from_secs(60);

/// Revocations of our own tokens.
#[derive(Debug, Default)]
pub struct Revocations(RwLock<Index>);

#[derive(Debug, Default)]
struct Index {
    /// The last number read from the store.
    number: i64,
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
            Subject::Token(id) => drop(self.tokens.insert(id.clone(), until.expires)),
            Subject::Authorization(id) => drop(self.authorizations.insert(id.clone(), until.expires)),
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

    /// What is said of the user that a token acts for: of client credentials, the client's application user.
    fn user(&self, facts: &Facts, registry: &Registry) -> Option<&Until> {
        if self.users.is_empty() {
            return None;
        }
        let acts = facts.client.as_ref().filter(|client| **client == facts.subject);
        let application = acts.and_then(|client| registry.client(client)?.application_user.as_ref());
        self.users.get(application.map_or(facts.subject.as_str(), UserName::as_str))
    }
}

impl Revocations {
    /// Whether one of our own tokens has been revoked.
    #[must_use]
    pub fn has(&self, facts: &Facts, registry: &Registry) -> bool {
        facts.issuer.is_own() && self.0.read().unwrap_or_else(PoisonError::into_inner).has(facts, registry)
    }

    /// Takes in what this process revoked, before it is read back from the store.
    pub fn add(&self, revocation: &Revocation) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).add(revocation);
    }

    /// Reads on from the store.
    ///
    /// # Errors
    /// The store cannot be read; what is known stays.
    pub fn read_on(&self, store: &Store) -> Result<(), StoreFault> {
        let number = self.0.read().unwrap_or_else(PoisonError::into_inner).number;
        let new = store.revocations_after(number)?;
        if let Some((last, _)) = new.last() {
            let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
            for (_, revocation) in &new {
                index.add(revocation);
            }
            index.number = index.number.max(*last);
        }
        Ok(())
    }

    fn forget(&self, now: Timestamp) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).forget(now);
    }
}

/// Follows the store, and removes from it what has expired.
#[derive(Debug)]
pub struct Follow(Arc<Shared>);

impl Follow {
    /// The service over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn read_on(&self) {
        let shared = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.store.look() {
                return tracing::error!(%error, "the store cannot be used");
            }
            if let Err(error) = shared.revocations.read_on(&shared.store) {
                tracing::warn!(%error, "revocations of other processes cannot be read");
            }
            match shared.own_keys.refresh(&shared.store, clock::now()) {
                Ok(true) => {
                    let key = shared.own_keys.now().current().id().to_text();
                    tracing::info!(%key, "tokens are signed with another key from now on");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "our own keys cannot be turned; the last ones stay"),
            }
        });
        let _ = read.await;
    }

    async fn sweep(&self) {
        let now = clock::now();
        self.0.revocations.forget(now);
        self.0.throttle.forget(now);
        loop {
            match self.0.store.sweep(now).await {
                // Slice after slice, so that writers come in between.
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => return,
                Err(error) => return tracing::warn!(%error, "what has expired cannot be removed"),
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Follow {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut read = tokio::time::interval(EVERY);
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                _ = read.tick() => self.read_on().await,
                _ = sweep.tick() => self.sweep().await,
                _ = shutdown.changed() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;

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
            assert_eq!(revocations.has(&facts("self", 10), &Registry::default()), ends, "{subject:?}");
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
        revocations.add(&Revocation { subject: Subject::Token("t1".into()), at: Timestamp(1), expires: Timestamp(50) });
        revocations.forget(Timestamp(49));
        assert!(revocations.has(&facts("self", 1), &Registry::default()));
        revocations.forget(Timestamp(50));
        assert!(!revocations.has(&facts("self", 1), &Registry::default()));
    }
}
