//! Closes connections to servers that no request has needed for long enough.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::server::upstream::pool::Pool;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The loop over the connections that wait.
#[derive(Debug)]
pub struct IdleConnections(Arc<Pool>);

impl IdleConnections {
    /// The service over a pool.
    #[must_use]
    pub const fn new(pool: Arc<Pool>) -> Self {
        Self(pool)
    }
}

#[async_trait]
impl BackgroundService for IdleConnections {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => self.0.sweep(),
                _ = shutdown.changed() => return,
            }
        }
    }
}
