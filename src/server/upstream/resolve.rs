//! Names of servers, looked up before serving begins and then again and again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;

use super::{Servers, authority, credentials};
use crate::server::Shared;
use crate::server::snapshot::Snapshot;

/// How often names are looked up again.
const EVERY: Duration = Duration::from_secs(10);
/// How long one look-up may take, and hold up the start.
const FIRST: Duration = Duration::from_secs(3);

impl Servers {
    /// Looks all names up. One that fails keeps the addresses it had.
    pub async fn resolve(&self) {
        if self.declared.servers.iter().all(|server| server.host.parse::<IpAddr>().is_ok()) {
            return;
        }
        let before = self.members();
        let mut addresses = Vec::new();
        for server in &self.declared.servers {
            let lookup = tokio::net::lookup_host((server.host.as_str(), server.port));
            let found =
                tokio::time::timeout(FIRST, lookup).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            match found {
                Ok(sockets) => addresses.extend(sockets.map(|socket| (server.clone(), socket))),
                Err(error) => {
                    tracing::warn!(upstream = %self.declared.name, host = %server.host, %error, "name not resolved");
                    let name = authority(server);
                    let same = before.iter().filter(|member| member.address.authority == name);
                    addresses.extend(same.map(|member| (server.clone(), member.address.socket)));
                }
            }
        }
        self.put(addresses, &before);
    }
}

/// Looks names up.
#[derive(Debug)]
pub struct Resolver(Arc<Shared>);

impl Resolver {
    /// The resolver over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn resolve_all(&self) {
        resolve_all(&self.0.snapshot.load_full()).await;
    }
}

/// Looks up the names of a configuration, each for at most three seconds.
pub async fn resolve_all(snapshot: &Snapshot) {
    futures_util::future::join_all(snapshot.all_servers().map(|servers| servers.resolve())).await;
}

#[async_trait]
impl BackgroundService for Resolver {
    async fn start_with_ready_notifier(&self, mut shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        // A name server that hangs must not keep the gateway from serving what it can.
        let _ = tokio::time::timeout(FIRST, self.resolve_all()).await;
        credentials::begin(&self.0, &self.0.snapshot.load_full()).await;
        ready.notify_ready();
        // Made before the work, so that a reload during it is not missed.
        let mut reloaded = self.0.reloaded.notified();
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = reloaded => {}
                _ = shutdown.changed() => return,
            }
            reloaded = self.0.reloaded.notified();
            self.resolve_all().await;
        }
    }
}
