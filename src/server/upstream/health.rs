//! How servers are doing: what requests find out (ejection), and what is asked for (health checks).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::{Member, Servers, forward};
use crate::config::HealthCheck;
use crate::server::Shared;

/// Checks in a row that change what is thought of a server.
const IN_A_ROW: u32 = 2;
/// Times that an ejection gets longer.
const LONGEST: u32 = 10;
/// Time for one check at most.
const CHECK: Duration = Duration::from_secs(5);
/// How often the checks that are due are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Milliseconds since the process first asked.
#[must_use]
pub fn now() -> u64 {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How one server has been doing.
#[derive(Debug, Default)]
pub struct Health {
    /// Failed requests in a row.
    failures: AtomicU32,
    /// Ejections in a row.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// Health checks say that it is down.
    down: AtomicBool,
    /// Checks in a row that say otherwise.
    contrary: AtomicU32,
    checked: AtomicU64,
}

impl Health {
    /// Whether its requests have failed so often that it is left out.
    #[must_use]
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// Whether health checks say that it is down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes how a request went; true when the server is left out because of it.
    pub fn request(&self, well: bool, after: u32, first: Duration) -> bool {
        if well {
            if self.failures.load(Ordering::Relaxed) + self.ejections.load(Ordering::Relaxed) > 0 {
                self.failures.store(0, Ordering::Relaxed);
                self.ejections.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < after || self.is_ejected(now()) {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).saturating_add(1).min(LONGEST);
        let time = u64::try_from((first * times).as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(now().saturating_add(time), Ordering::Relaxed);
        true
    }

    /// Notes how a check went; true when it changes what is thought of the server.
    fn check(&self, well: bool) -> bool {
        if well != self.is_down() {
            self.contrary.store(0, Ordering::Relaxed);
            return false;
        }
        if self.contrary.fetch_add(1, Ordering::Relaxed) + 1 < IN_A_ROW {
            return false;
        }
        self.contrary.store(0, Ordering::Relaxed);
        self.down.store(!well, Ordering::Relaxed);
        true
    }

    /// What checks have found does not count any more: others are made now, or none.
    pub fn forget_checks(&self) {
        self.down.store(false, Ordering::Relaxed);
        self.contrary.store(0, Ordering::Relaxed);
        self.checked.store(0, Ordering::Relaxed);
    }

    /// Whether a check is due; it counts as made then.
    fn is_due(&self, every: Duration) -> bool {
        let (now, every) = (now().max(1), u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        let last = self.checked.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= every;
        if due {
            self.checked.store(now, Ordering::Relaxed);
        }
        due
    }
}

/// Asks servers for their health.
#[derive(Debug)]
pub struct HealthChecks(Arc<Checks>);

struct Checks {
    shared: Arc<Shared>,
    connector: Connector,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checks").finish_non_exhaustive()
    }
}

impl HealthChecks {
    /// The service over the shared state.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Checks { shared, connector: Connector::new(None) }))
    }
}

impl Checks {
    fn look(self: &Arc<Self>) {
        let snapshot = self.shared.snapshot.load_full();
        for servers in snapshot.all_servers() {
            let Some(declared) = &servers.declared.health else { continue };
            for member in servers.members().iter().filter(|member| member.health.is_due(declared.every)) {
                let (checks, servers, declared, member) =
                    (self.clone(), servers.clone(), declared.clone(), member.clone());
                // Each by itself: one server that hangs holds up no other's.
                tokio::spawn(async move { checks.check(servers, declared, member).await });
            }
        }
    }

    async fn check(&self, servers: Arc<Servers>, declared: HealthCheck, member: Arc<Member>) {
        let time = CHECK.min(declared.every);
        let asked = tokio::time::timeout(time, self.ask(&servers, &declared.path, &member, time)).await;
        let found = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if member.health.check(found.is_ok()) {
            let (upstream, server) = (&servers.declared.name, member.address.socket);
            match found {
                Ok(()) => tracing::info!(%upstream, %server, "a server is up again"),
                Err(fault) => tracing::warn!(%upstream, %server, fault, "a server is down"),
            }
        }
    }

    async fn ask(&self, servers: &Servers, path: &str, member: &Member, time: Duration) -> Result<(), String> {
        let said = |error: Box<pingora::Error>| error.etype().as_str().to_owned();
        let mut peer = forward::probe(servers, member);
        // The library's own time gives a dead HTTP/2 connection up; ours around it would leave it in the pool.
        peer.options.read_timeout = Some(time / 4 * 3);
        let (mut session, _) = self.connector.get_http_session(&peer).await.map_err(said)?;
        let mut head = RequestHeader::build("GET", path.as_bytes(), None).map_err(said)?;
        head.insert_header("host", &member.address.authority).map_err(said)?;
        head.insert_header("user-agent", concat!("scopegate/", env!("CARGO_PKG_VERSION"))).map_err(said)?;
        if matches!(session, HttpSession::H2(_)) {
            head.set_version(http::Version::HTTP_2);
        }
        session.write_request_header(Box::new(head)).await.map_err(said)?;
        session.finish_request_body().await.map_err(said)?;
        session.read_response_header().await.map_err(said)?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        session.shutdown().await;
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
    }
}

#[async_trait]
impl BackgroundService for HealthChecks {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => self.0.look(),
                _ = shutdown.changed() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_checks_in_a_row_change_what_is_thought_of_a_server() {
        let health = Health::default();
        assert!(!health.check(false) && !health.check(true) && !health.check(false) && !health.is_down());
        assert!(health.check(false) && health.is_down());
        assert!(!health.check(true) && health.is_down());
        assert!(health.check(true) && !health.is_down());
    }

    #[test]
    fn failures_in_a_row_eject_and_each_time_for_longer() {
        let (health, time) = (Health::default(), Duration::from_secs(100));
        let fails = |times| (0..times).map(|_| health.request(false, 3, time)).collect::<Vec<_>>();
        assert_eq!(fails(2), [false, false]);
        assert!(!health.request(true, 3, time));
        assert_eq!(fails(3), [false, false, true]);
        let first = health.ejected_until.swap(0, Ordering::Relaxed);
        assert_eq!(fails(3), [false, false, true]);
        let second = health.ejected_until.load(Ordering::Relaxed);
        assert!(second >= first + 90_000, "{first} {second}");
        assert!(health.is_ejected(now()) && !health.is_down());
    }
}
