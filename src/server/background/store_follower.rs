//! Follows the store while we serve: revocations, blocks set by command, users made at login, and
//! our own keys, changed here or by another gateway; and removes from it what has expired.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::server::state::Shared;
use crate::store::events::ChangedUsers;
use crate::system::clock;

/// How often our own keys, and the age of what was heard, are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How much longer than a slice of the sweep the rest after it is.
const REST_FACTOR: u32 = 4;
/// Time between two sweeps of what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// StoreFollowers the store, and removes from it what has expired.
#[derive(Debug)]
pub struct StoreFollower(Arc<Shared>);

impl StoreFollower {
    /// The service over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Waits for news and takes them in, over and over.
    async fn follow(&self) {
        let revocations = &self.0.tokens.revocations;
        let (mut silent, mut blocks_due) = (false, false);
        let mut users_due = ChangedUsers::default();
        loop {
            match self.0.store.news(revocations.position()).await {
                Ok(news) => {
                    revocations.take(&news);
                    for delay in &news.delays {
                        self.0.metrics.tokens.revocation_delay.observe(delay.as_secs_f64());
                    }
                    // Heard of and not read, they are read the next time.
                    blocks_due |= news.blocks;
                    if blocks_due {
                        blocks_due = !self.read_blocks().await;
                    }
                    users_due = users_due.and(news.users);
                    if !users_due.is_nobody() && self.read_users(users_due.clone()).await {
                        users_due = ChangedUsers::default();
                    }
                    if silent {
                        tracing::info!("revocations of other gateways are heard again");
                    }
                    silent = false;
                }
                Err(error) => {
                    if !silent {
                        tracing::error!(%error, "revocations of other gateways cannot be heard");
                    }
                    silent = true;
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    /// Whether they could be read.
    async fn read_blocks(&self) -> bool {
        let shared = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            let now = clock::now();
            let blocks = shared
                .store
                .blocks(now)
                .map(|blocks| shared.tokens.revocations.take_blocks(blocks));
            match blocks.and_then(|()| shared.guessing.read(&shared.store, now)) {
                Ok(()) => true,
                Err(error) => {
                    let text = "blocks and attempts cannot be read; the last known stay, and they \
                        are read once more";
                    tracing::error!(%error, "{text}");
                    false
                }
            }
        });
        read.await.unwrap_or(false)
    }

    /// Whether they could be read.
    async fn read_users(&self, changed: ChangedUsers) -> bool {
        let shared = self.0.clone();
        let read = tokio::task::spawn_blocking(move || match changed {
            ChangedUsers::All => {
                shared.store.made_users().map(|users| shared.made_users.replace(users))
            }
            ChangedUsers::Named(names) => names.iter().try_for_each(|name| {
                match shared.store.made_user(name)? {
                    Some(user) => shared.made_users.put(user),
                    None => shared.made_users.forget(name),
                }
                Ok(())
            }),
        });
        match read.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let text = "users made at login cannot be read; the last known stay, and they are \
                    read once more";
                tracing::error!(%error, "{text}");
                false
            }
            Err(_) => false,
        }
    }

    async fn look_at_keys(&self) {
        let shared = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            if shared.store.look().is_err() {
                // Said by whoever follows the store.
                return;
            }
            match shared.own_keys.refresh(&shared.store, clock::now()) {
                Ok(true) => {
                    let key = shared.own_keys.now().current().id().to_text();
                    tracing::info!(%key, "tokens are signed with another key from now on");
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "our own keys cannot be turned; the last ones stay");
                }
            }
        });
        let _ = read.await;
    }

    async fn sweep(&self) {
        let now = clock::now();
        self.0.tokens.revocations.forget(now);
        self.0.guessing.forget();
        loop {
            let began = Instant::now();
            match self.0.store.sweep(now).await {
                // Slice after slice, with rests between: writers come in between, and requests do
                // not notice.
                Ok(true) => tokio::time::sleep(began.elapsed() * REST_FACTOR).await,
                Ok(false) => return,
                Err(error) => return tracing::warn!(%error, "what has expired cannot be removed"),
            }
        }
    }

    /// Apart from everything that waits for the store: a disk that hangs must not keep tokens
    /// served for ever.
    async fn watch_age(&self) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        loop {
            ticks.tick().await;
            let most = self.0.snapshot().config.max_revocation_staleness;
            self.0.tokens.revocations.judge_age(most);
        }
    }

    async fn watch_keys(&self) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        loop {
            ticks.tick().await;
            self.look_at_keys().await;
        }
    }

    async fn clean(&self) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            sweep.tick().await;
            self.sweep().await;
        }
    }
}

#[async_trait]
impl BackgroundService for StoreFollower {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.follow() => {}
            () = self.watch_age() => {}
            () = self.watch_keys() => {}
            () = self.clean() => {}
            _ = shutdown.changed() => {}
        }
    }
}
