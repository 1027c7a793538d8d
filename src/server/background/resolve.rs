//! Looks the names of servers up before serving begins, and then again and again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;

use super::upstream_tokens;
use crate::server::state::Shared;
use crate::server::state::snapshot::Snapshot;
use crate::server::upstream::resolve::LOOKUP_TIMEOUT;

/// Time between two look-ups of a name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);

/// The loop over all upstreams.
#[derive(Debug)]
pub struct Resolver(Arc<Shared>);

impl Resolver {
    /// The resolver over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn resolve_all(&self) {
        resolve_all(&self.0.snapshot()).await;
    }
}

/// Looks up the names of a configuration, each for at most three seconds.
pub async fn resolve_all(snapshot: &Snapshot) {
    futures_util::future::join_all(snapshot.all_servers().map(|servers| servers.resolve())).await;
}

#[async_trait]
impl BackgroundService for Resolver {
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        // A name server that hangs must not keep the gateway from serving what it can.
        let _ = tokio::time::timeout(LOOKUP_TIMEOUT, self.resolve_all()).await;
        upstream_tokens::fetch_missing(&self.0.fetch, &self.0.snapshot()).await;
        ready.notify_ready();
        // Made before the work, so that a reload during it is not missed.
        let mut reloaded = self.0.reloaded.notified();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOKUP_INTERVAL) => {}
                () = reloaded => {}
                _ = shutdown.changed() => return,
            }
            reloaded = self.0.reloaded.notified();
            self.resolve_all().await;
        }
    }
}
