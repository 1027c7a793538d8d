//! Keeps the keys of other issuers fresh, each in a task of its own: one that hangs holds up no
//! other.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::task::AbortHandle;

use crate::keys::IssuerKeys;
use crate::server::state::Shared;
use crate::token::keyset::listed;

/// The background service.
#[derive(Debug)]
pub struct KeyRefresh {
    shared: Arc<Shared>,
}

impl KeyRefresh {
    /// The service over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// One task for each set of keys in force; those of sets no longer in force end.
    fn follow(&self, tasks: &mut HashMap<usize, AbortHandle>) {
        let snapshot = self.shared.snapshot();
        let in_force: HashMap<usize, &Arc<IssuerKeys>> =
            snapshot.all_keys().map(|keys| (Arc::as_ptr(keys).addr(), keys)).collect();
        tasks.retain(|keys, task| {
            let stays = in_force.contains_key(keys);
            if !stays {
                task.abort();
            }
            stays
        });
        for (pointer, keys) in in_force {
            if keys.source().is_file() {
                say_left_out(keys, &self.shared);
                continue;
            }
            tasks.entry(pointer).or_insert_with(|| {
                self.shared.metrics.tokens.announce_issuer(keys.name());
                let (keys, shared) = (keys.clone(), self.shared.clone());
                tokio::spawn(async move { keep(&keys, &shared).await }).abort_handle()
            });
        }
    }
}

fn say_left_out(keys: &IssuerKeys, shared: &Shared) {
    let left_out = keys.left_out_of_file();
    shared.metrics.tokens.jwks_left_out(keys.name(), &left_out);
    if !left_out.is_empty() {
        let text = listed(&left_out);
        tracing::warn!(issuer = %keys.name(), "some keys of the file are of no use here{text}");
    }
}

async fn keep(keys: &IssuerKeys, shared: &Shared) {
    // What is of no use is said once, and again when it is something else.
    let mut said = Vec::new();
    keys.keep_fresh(|issuer, outcome| {
        shared.metrics.tokens.jwks_fetch(issuer, outcome.is_ok());
        match outcome {
            Ok(left_out) => {
                shared.metrics.tokens.jwks_left_out(issuer, left_out);
                if left_out.is_empty() || said == *left_out {
                    tracing::debug!(%issuer, "keys fetched");
                } else {
                    let keys = listed(left_out);
                    tracing::warn!(%issuer, "keys fetched; some are of no use here{keys}");
                }
                said.clone_from(left_out);
            }
            Err(error) => {
                tracing::warn!(%issuer, %error, "keys not fetched; the last good ones stay");
            }
        }
    })
    .await;
}

#[async_trait]
impl BackgroundService for KeyRefresh {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut tasks = HashMap::new();
        loop {
            // Made before the work, so that a reload during it is not missed.
            let reloaded = self.shared.reloaded.notified();
            self.follow(&mut tasks);
            tokio::select! {
                () = reloaded => {}
                _ = shutdown.changed() => return,
            }
        }
    }
}
