//! The configuration is read again when its files change, and on SIGHUP: taken as a whole, or
//! refused as a whole while the old one serves.
//!
//! Files are looked at, not watched: that sees every kind of change (in place, renamed, deleted and
//! made anew, a link that leads elsewhere) on every file system, and costs a few calls a second.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::signal::unix::Signal;

use crate::client::Registry;
use crate::server::state::Shared;
use crate::server::state::snapshot::Snapshot;
use crate::store::attempts::Account;
use crate::system::files::{Fingerprint, Origins};
use crate::system::{clock, files};

/// How often files are looked at. What has changed is read once it has stayed the same from one
/// look to the next, so that a file that is being written, or one of several, is not read half.
const LOOK: Duration = Duration::from_millis(500);

/// How long new names may hold a reload up: it may be one that takes a right away.
const NAMES: Duration = Duration::from_secs(1);

/// The background service.
#[derive(Debug)]
pub struct Reload {
    shared: Arc<Shared>,
    gateway_file: PathBuf,
    /// What the configuration that the process began with was read from.
    origins: Origins,
    hangups: Mutex<Option<Signal>>,
}

/// What is known of the files.
#[derive(Debug, Default)]
struct Seen {
    origins: Origins,
    /// As they were when they were read last.
    read: Fingerprint,
    /// As they were at the last look.
    looked: Fingerprint,
}

impl Reload {
    /// The service over the shared state; `hangups` ask for a reload.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        gateway_file: &Path,
        origins: Origins,
        hangups: Signal,
    ) -> Self {
        let hangups = Mutex::new(Some(hangups));
        Self { shared, gateway_file: gateway_file.to_owned(), origins, hangups }
    }

    /// What the configuration in force was read from.
    async fn begin(&self) -> Seen {
        let (file, shared) = (self.gateway_file.clone(), self.shared.clone());
        let in_force = self.origins.clone();
        let seen = tokio::task::spawn_blocking(move || {
            let origins = in_force.clone().and(shared.candidate.read().1);
            let fingerprint = origins.fingerprint();
            // Read once more behind the look: what has changed since the start has not been taken,
            // and is then.
            let (loaded, again) = files::load_noting(&file);
            let same = again.has_same_contents(&in_force)
                && loaded.is_ok_and(|config| config.version == shared.snapshot().config.version);
            let read = if same { fingerprint.clone() } else { Fingerprint::default() };
            Seen { origins, read, looked: fingerprint }
        });
        seen.await.unwrap_or_default()
    }

    async fn look(&self, seen: &mut Seen) {
        let origins = seen.origins.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || origins.fingerprint()).await else {
            return;
        };
        let settled = now == seen.looked;
        seen.looked = now;
        if settled && seen.looked != seen.read {
            self.reload(seen).await;
        }
    }

    async fn reload(&self, seen: &mut Seen) {
        let (file, origins, shared) =
            (self.gateway_file.clone(), seen.origins.clone(), self.shared.clone());
        // Reading and compiling a large set takes longer than a request may wait.
        let loaded = tokio::task::spawn_blocking(move || {
            // Looked at before it is read: a change in between is seen at the next look.
            let before = origins.fingerprint();
            let (candidate, of_candidate) = shared.candidate.read();
            let (loaded, origins) = files::load_noting(&file);
            // Facts keep what the candidate looks at before it is judged: it is taken after the set
            // in force.
            let claims = match &candidate {
                Ok(Some(candidate)) => candidate.rules.claims_looked_at(),
                Ok(None) | Err(_) => shared.candidate.claims(),
            };
            let loaded = loaded.map(|mut config| {
                config.keep_claims(&claims);
                config
            });
            (loaded, candidate, before, origins.and(of_candidate))
        })
        .await;
        let outcome = match loaded {
            Ok((loaded, candidate, before, origins)) => {
                let ours = &self.shared.fixed.public_url;
                let candidate =
                    candidate.map_err(|fault| fault.lines()).and_then(
                        |candidate| match candidate {
                            Some(other) if other.fixed.public_url != *ours => Err(vec![format!(
                                "its public_url is {}, ours is {ours}",
                                other.fixed.public_url
                            )]),
                            candidate => Ok(candidate),
                        },
                    );
                // What was not looked at before it was read is read once more.
                seen.read = if origins.has_same_paths(&seen.origins) {
                    before
                } else {
                    Fingerprint::default()
                };
                seen.origins = origins;
                let taken = match loaded {
                    Ok(config) => self.take(config).await,
                    Err(fault) => Err(fault.lines()),
                };
                match candidate {
                    Ok(candidate) if taken.is_ok() => self.shared.candidate.take(candidate),
                    Ok(_) => {}
                    Err(faults) => {
                        for fault in faults {
                            tracing::error!(%fault, "candidate refused; the old one stays");
                        }
                    }
                }
                taken
            }
            Err(_) => {
                Err(vec!["the configuration could not be read: the loader failed".to_owned()])
            }
        };
        if let Err(faults) = outcome {
            self.shared.metrics.process.loaded(false, "", 0);
            for fault in &faults {
                tracing::error!(%fault, "configuration refused; the old one stays in force");
            }
        }
    }

    async fn take(&self, config: crate::config::Config) -> Result<(), Vec<String>> {
        let differences = self.shared.fixed.differences(&config.fixed);
        if !differences.is_empty() {
            let text = format!(
                "{} cannot change while the gateway runs: `scopegate upgrade`, or restart it",
                differences.join(", ")
            );
            return Err(vec![text]);
        }
        let version = config.version.clone();
        let before = self.shared.snapshot();
        let snapshot = Snapshot::new(config, Some(&before), &self.shared.metrics)
            .map_err(|fault| vec![fault])?;
        let snapshot = Arc::new(snapshot);
        // New names are looked up before the set that needs them is in force.
        let _ = tokio::time::timeout(NAMES, super::resolve::resolve_all(&snapshot)).await;
        super::upstream_tokens::fetch_missing(&self.shared.fetch, &snapshot).await;
        let renewed = renewed(before.rules().registry(), snapshot.rules().registry());
        self.shared.put_in_force(snapshot);
        for (account, name) in renewed {
            self.shared
                .guessing
                .forget_name(account, &name, &self.shared.store, clock::now())
                .await;
        }
        self.shared.metrics.process.loaded(true, &version, clock::now().0);
        tracing::info!(%version, "configuration in force");
        Ok(())
    }
}

/// The clients and users whose secrets are others than before: what was wrong with the old ones
/// does not count against them.
fn renewed(before: &Registry, after: &Registry) -> Vec<(Account, String)> {
    let clients = after.clients().into_iter().filter(|client| {
        before.client(client.id.as_str()).is_none_or(|before| before.secrets != client.secrets)
    });
    let users = after.users().into_iter().filter(|user| {
        before.user(user.name.as_str()).is_none_or(|before| before.password != user.password)
    });
    let clients = clients.map(|client| (Account::Client, client.id.to_string()));
    clients.chain(users.map(|user| (Account::User, user.name.to_string()))).collect()
}

#[async_trait]
impl BackgroundService for Reload {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(mut hangups) = self.hangups.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        let watch = self.shared.fixed.watch_files;
        let mut seen = if watch { self.begin().await } else { Seen::default() };
        loop {
            tokio::select! {
                _ = hangups.recv() => {
                    self.shared.process.logs.reopen();
                    self.reload(&mut seen).await;
                }
                () = self.shared.reload_due.notified() => self.reload(&mut seen).await,
                () = tokio::time::sleep(LOOK), if watch => self.look(&mut seen).await,
                _ = shutdown.changed() => return,
            }
        }
    }
}
