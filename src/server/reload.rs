//! SIGHUP: the configuration is read again and taken as a whole, or refused as a whole while the old one serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};

use super::snapshot::Snapshot;
use super::{Shared, clock, source, upstream};

/// The background service.
#[derive(Debug)]
pub struct Reload {
    shared: Arc<Shared>,
    gateway_file: PathBuf,
}

impl Reload {
    /// The service over the shared state.
    #[must_use]
    pub fn new(shared: Arc<Shared>, gateway_file: &Path) -> Self {
        Self { shared, gateway_file: gateway_file.to_owned() }
    }

    async fn reload(&self) {
        let file = self.gateway_file.clone();
        // Reading and compiling a large set takes longer than a request may wait.
        let loaded = tokio::task::spawn_blocking(move || source::load(&file)).await;
        let outcome = match loaded {
            Ok(Ok(config)) => self.take(config).await,
            Ok(Err(fault)) => Err(fault.lines()),
            Err(_) => Err(vec!["the configuration could not be read: the loader failed".to_owned()]),
        };
        if let Err(faults) = outcome {
            self.shared.metrics.loaded(false, "", 0);
            for fault in &faults {
                tracing::error!(%fault, "configuration refused; the old one stays in force");
            }
        }
    }

    async fn take(&self, config: crate::config::Config) -> Result<(), Vec<String>> {
        let differences = self.shared.fixed.differences(&config.fixed);
        if !differences.is_empty() {
            let text = format!("{} cannot change while the gateway runs: restart it", differences.join(", "));
            return Err(vec![text]);
        }
        let version = config.version.clone();
        let before = self.shared.snapshot.load_full();
        let snapshot = Arc::new(Snapshot::new(config, Some(&before), &self.shared.metrics));
        // New names are looked up before the set that needs them is in force.
        upstream::resolve_all(&snapshot).await;
        self.shared.snapshot.store(snapshot);
        self.shared.metrics.loaded(true, &version, clock::now().0);
        self.shared.reloaded.notify_waiters();
        tracing::info!(%version, "configuration in force");
        Ok(())
    }
}

#[async_trait]
impl BackgroundService for Reload {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP cannot be heard: the configuration will not be reloaded");
            return;
        };
        loop {
            tokio::select! {
                _ = hangups.recv() => self.reload().await,
                _ = shutdown.changed() => return,
            }
        }
    }
}
