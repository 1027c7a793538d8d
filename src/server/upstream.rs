//! Servers of the upstreams: names resolved in the background, never on the path of a request.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::HeaderValue;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;

use super::Shared;
use super::snapshot::Snapshot;
use crate::config::Upstream;

/// How often names are looked up again.
const EVERY: Duration = Duration::from_secs(10);
/// How long one look-up may take, and hold up the start.
const FIRST: Duration = Duration::from_secs(3);

/// An upstream with the addresses of its servers.
#[derive(Debug)]
pub struct Servers {
    /// What was declared.
    pub declared: Upstream,
    addresses: ArcSwap<Vec<Address>>,
    next: AtomicUsize,
}

/// One address of a server, and what `Host` it is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where to connect.
    pub socket: SocketAddr,
    /// `host[:port]` as declared.
    pub authority: HeaderValue,
}

impl Servers {
    /// An upstream; servers given by address are there at once, names after the first [`Servers::resolve`].
    #[must_use]
    pub fn new(declared: Upstream) -> Self {
        let known = declared.servers.iter().filter_map(|server| {
            let ip: IpAddr = server.host.parse().ok()?;
            Some(Address { socket: SocketAddr::new(ip, server.port), authority: authority(&server.host, server.port) })
        });
        let addresses = known.collect();
        Self { declared, addresses: ArcSwap::from_pointee(addresses), next: AtomicUsize::new(0) }
    }

    /// An upstream that was declared otherwise before: what was resolved of the same servers is taken over.
    #[must_use]
    pub fn after(declared: Upstream, before: &Self) -> Self {
        let servers = Self::new(declared);
        let mut addresses = Vec::new();
        for server in &servers.declared.servers {
            let name = authority(&server.host, server.port);
            let both = [servers.addresses.load(), before.addresses.load()];
            let known = both
                .iter()
                .map(|list| list.iter().filter(|address| address.authority == name).cloned().collect::<Vec<_>>());
            addresses.extend(known.into_iter().find(|found| !found.is_empty()).unwrap_or_default());
        }
        servers.addresses.store(Arc::new(addresses));
        servers
    }

    /// The next server in turn; `None` while no name has resolved.
    #[must_use]
    pub fn next(&self) -> Option<Address> {
        let addresses = self.addresses.load();
        let count = addresses.len().max(1);
        addresses.get(self.next.fetch_add(1, Ordering::Relaxed) % count).cloned()
    }

    /// Looks all names up. One that fails keeps the addresses it had.
    pub async fn resolve(&self) {
        if self.declared.servers.iter().all(|server| server.host.parse::<IpAddr>().is_ok()) {
            return;
        }
        let before = self.addresses.load_full();
        let mut addresses = Vec::new();
        for server in &self.declared.servers {
            let authority = authority(&server.host, server.port);
            let lookup = tokio::net::lookup_host((server.host.as_str(), server.port));
            let found =
                tokio::time::timeout(FIRST, lookup).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            match found {
                Ok(sockets) => addresses.extend(sockets.map(|socket| Address { socket, authority: authority.clone() })),
                Err(error) => {
                    tracing::warn!(upstream = %self.declared.name, host = %server.host, %error, "name not resolved");
                    addresses.extend(before.iter().filter(|address| address.authority == authority).cloned());
                }
            }
        }
        if *before != addresses {
            self.addresses.store(Arc::new(addresses));
        }
    }
}

/// Looks names up, once before serving begins and then again and again.
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

fn authority(host: &str, port: u16) -> HeaderValue {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let text = if port == 80 { host } else { format!("{host}:{port}") };
    // The configuration takes no host that is not a URL's.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Server;
    use crate::names::UpstreamName;
    use std::time::Duration;

    fn upstream(servers: &[(&str, u16)]) -> Servers {
        let time = Duration::from_secs(1);
        Servers::new(Upstream {
            name: UpstreamName::new("u"),
            servers: servers.iter().map(|(host, port)| Server { host: (*host).to_owned(), port: *port }).collect(),
            connect: time,
            response: time,
            idle: time,
            keep_authorization: false,
        })
    }

    #[test]
    fn servers_take_turns_and_are_called_by_their_names() {
        let servers = upstream(&[("127.0.0.1", 80), ("::1", 8080)]);
        let turns: Vec<HeaderValue> = (0..3).map(|_| servers.next().unwrap().authority).collect();
        assert_eq!(turns, ["127.0.0.1", "[::1]:8080", "127.0.0.1"]);
    }

    #[tokio::test]
    async fn a_name_is_there_once_it_has_resolved() {
        let servers = upstream(&[("localhost", 8080)]);
        assert_eq!(servers.next(), None);
        servers.resolve().await;
        assert!(servers.next().unwrap().socket.ip().is_loopback());
    }
}
