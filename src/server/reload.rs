//! SIGHUP: the configuration is read again and taken as a whole, or refused as a whole while the old one serves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::signal::unix::Signal;

use super::snapshot::Snapshot;
use super::{Shared, clock, source, upstream};

/// The background service.
#[derive(Debug)]
pub struct Reload {
    shared: Arc<Shared>,
    gateway_file: PathBuf,
    hangups: Mutex<Option<Signal>>,
}

impl Reload {
    /// The service over the shared state; `hangups` ask for a reload.
    #[must_use]
    pub fn new(shared: Arc<Shared>, gateway_file: &Path, hangups: Signal) -> Self {
        Self { shared, gateway_file: gateway_file.to_owned(), hangups: Mutex::new(Some(hangups)) }
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
            let text = format!(
                "{} cannot change while the gateway runs: upgrade it (`scopegate serve --upgrade`) or restart it",
                differences.join(", ")
            );
            return Err(vec![text]);
        }
        let version = config.version.clone();
        let before = self.shared.snapshot.load_full();
        let snapshot = Snapshot::new(config, Some(&before), &self.shared.metrics).map_err(|fault| vec![fault])?;
        let snapshot = Arc::new(snapshot);
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
        let Some(mut hangups) = self.hangups.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        loop {
            tokio::select! {
                _ = hangups.recv() => self.reload().await,
                _ = shutdown.changed() => return,
            }
        }
    }
}
