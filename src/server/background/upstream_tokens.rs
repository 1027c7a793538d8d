//! Gets the tokens that the gateway presents to upstreams, ahead of need.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::keys::fetch::Fetch;
use crate::server::state::Shared;
use crate::server::state::snapshot::Snapshot;

/// How often tokens that are due are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the start, or a reload, waits for tokens.
const START_TIMEOUT: Duration = Duration::from_secs(3);

/// Gets the tokens that a configuration needs and does not have, for a moment: so that it begins
/// with them where they can be had.
pub async fn fetch_missing(fetch: &Fetch, snapshot: &Snapshot) {
    let missing = snapshot.all_servers().filter(|servers| servers.lacks_token());
    let fetched = futures_util::future::join_all(missing.map(|servers| servers.fetch_token(fetch)));
    let _ = tokio::time::timeout(START_TIMEOUT, fetched).await;
}

/// The loop over all upstreams.
#[derive(Debug)]
pub struct UpstreamTokens(Arc<Shared>);

impl UpstreamTokens {
    /// The loop over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

#[async_trait]
impl BackgroundService for UpstreamTokens {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            let snapshot = self.0.snapshot();
            for servers in snapshot.all_servers().filter(|servers| servers.token_is_due()) {
                // Each by itself: one issuer that hangs holds up no other's.
                let (shared, servers) = (self.0.clone(), servers.clone());
                tokio::spawn(async move { servers.fetch_token(&shared.fetch).await });
            }
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                _ = shutdown.changed() => return,
            }
        }
    }
}
