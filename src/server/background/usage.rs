//! Adds what was counted to the store's counters, every few seconds and at the end; removes what is
//! older than is kept; and exports audit records.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::server::state::Shared;
use crate::store::StoreFault;
use crate::system::clock;
use crate::tooling::lint::{Rule, findings};
use crate::tooling::usage::Day;

/// How often counters are stored: what a killed process has counted since is lost.
const STORE_INTERVAL: Duration = Duration::from_secs(10);
/// How often old counters are removed.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
/// Time between two slices of a removal.
const FORGET_PAUSE: Duration = Duration::from_millis(100);
/// How often findings are counted.
const FIND_INTERVAL: Duration = Duration::from_secs(600);
/// How often audit records are exported, and how many at once.
const EXPORT_INTERVAL: Duration = Duration::from_secs(2);
const EXPORT_SLICE: usize = 500;
/// Mode of a file that is made here: records name people.
const MODE: u32 = 0o600;

/// The background service.
#[derive(Debug)]
pub struct UsageWriter(Arc<Shared>);

impl UsageWriter {
    /// The service over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn store(&self) {
        let mut ticks = tokio::time::interval(STORE_INTERVAL);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            match store_usage(&self.0).await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "use cannot be stored; it is counted on and tried \
                            again");
                    }
                }
            }
        }
    }

    async fn forget(&self) {
        let mut ticks = tokio::time::interval(FORGET_INTERVAL);
        loop {
            ticks.tick().await;
            let kept = self.0.snapshot().config.console.usage_retention.as_secs() / 86_400;
            let first = Day::of(clock::now()).before(i64::try_from(kept).unwrap_or(i64::MAX));
            loop {
                match self.0.store.forget_usage(first).await {
                    Ok(true) => tokio::time::sleep(FORGET_PAUSE).await,
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "old counters of use cannot be removed");
                        break;
                    }
                }
            }
        }
    }

    /// Counts findings, for alerts.
    async fn find(&self) {
        let mut ticks = tokio::time::interval(FIND_INTERVAL);
        loop {
            ticks.tick().await;
            let shared = self.0.clone();
            let found = tokio::task::spawn_blocking(move || count_findings(&shared));
            if let Ok(Err(error)) = found.await {
                tracing::warn!(%error, "findings cannot be counted");
            }
        }
    }

    /// Exports the audit records that come from now on.
    async fn export(&self) {
        let mut ticks = tokio::time::interval(EXPORT_INTERVAL);
        let mut last = None;
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            let log = self.0.snapshot().config.console.audit_log.clone();
            let Some(log) = log else {
                last = None;
                continue;
            };
            match self.export_to(&log.path, &mut last).await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(
                            file = log.path,
                            error,
                            "audit records cannot be \
                            exported; they are in the store, and are tried again"
                        );
                    }
                }
            }
        }
    }

    async fn export_to(&self, path: &str, last: &mut Option<i64>) -> Result<(), String> {
        let store = &self.0.store;
        let after = match *last {
            Some(after) => after,
            None => store.last_audit().await.map_err(|fault| fault.to_string())?,
        };
        *last = Some(after);
        let records = store.audit_after(after, EXPORT_SLICE).await;
        let records = records.map_err(|fault| fault.to_string())?;
        let Some(newest) = records.last().map(|record| record.number) else { return Ok(()) };
        let lines: String = records.iter().map(|record| record.record.line() + "\n").collect();
        let path = path.to_owned();
        let written = tokio::task::spawn_blocking(move || {
            // Opened each time: whoever rotates it need not say so.
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.append(true).create(true).mode(MODE).open(path)?;
            file.write_all(lines.as_bytes())
        });
        match written.await {
            Ok(Ok(())) => {
                *last = Some(newest);
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn count_findings(shared: &Shared) -> Result<(), StoreFault> {
    let now = clock::now();
    let observed = shared.store.observed(Day::of(now))?;
    let found = findings(&shared.snapshot().config, &observed, now);
    let count = |rule: &Rule| {
        let of = found.iter().filter(|found| found.rule == *rule && found.waived.is_none());
        (rule.label(), i64::try_from(of.count()).unwrap_or(i64::MAX))
    };
    shared.metrics.process.found(Rule::ALL.iter().map(count));
    Ok(())
}

/// Adds what was counted since the last time to the store's counters.
///
/// # Errors
/// The store cannot be written, in words for the operator; what was counted is kept.
pub async fn store_usage(shared: &Shared) -> Result<(), String> {
    let rows = shared.usage.take(Day::of(clock::now()));
    if rows.is_empty() {
        return Ok(());
    }
    match shared.store.add_usage(rows.clone()).await {
        Ok(()) => Ok(()),
        // A write that may still be done is not repeated: counters may miss some, never have them
        // twice.
        Err(fault @ StoreFault::Slow { .. }) => Err(fault.to_string()),
        Err(fault) => {
            shared.usage.put_back(rows);
            Err(fault.to_string())
        }
    }
}

#[async_trait]
impl BackgroundService for UsageWriter {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.store() => {}
            () = self.forget() => {}
            () = self.find() => {}
            () = self.export() => {}
            _ = shutdown.changed() => {}
        }
    }
}
