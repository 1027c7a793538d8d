//! Tells the store, over and over, what was used of rates and quotas, and hears what other gateways
//! used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::server::state::Shared;
use crate::system::clock;

/// Time between two reports to a shared store.
const SHARED_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two reports of quotas to an embedded one.
const EMBEDDED_INTERVAL: Duration = Duration::from_secs(1);
/// How often a gateway says that it is there.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(2);

/// The loop over all limits.
#[derive(Debug)]
pub struct LimitSync(Arc<Shared>);

impl LimitSync {
    /// The service over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn sync(&self) {
        let (store, every) = (
            &self.0.store,
            if self.0.store.shares_rates() { SHARED_INTERVAL } else { EMBEDDED_INTERVAL },
        );
        let id = self.0.process.decision_ids.process();
        let mut said: Option<Instant> = None;
        loop {
            tokio::time::sleep(every).await;
            let limits = self.0.snapshot().counted.clone();
            if limits.is_empty() {
                continue;
            }
            if said.is_none_or(|said| said.elapsed() > PRESENCE_INTERVAL)
                && let Ok(gateways) = store.gateways(id.clone()).await
            {
                limits.set_gateways(gateways);
                said = Some(Instant::now());
            }
            limits.tell(store, clock::now()).await;
        }
    }
}

#[async_trait]
impl BackgroundService for LimitSync {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.sync() => {}
            _ = shutdown.changed() => {}
        }
        // What was used of quotas since is not to be forgotten with the process.
        let limits = self.0.snapshot().counted.clone();
        limits.tell(&self.0.store, clock::now()).await;
    }
}
