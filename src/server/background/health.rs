//! Asks servers for their health, each at its own interval.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::config::HealthCheck;
use crate::server::proxy::forward;
use crate::server::state::Shared;
use crate::server::upstream::{Member, Servers};

/// Longest time for one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the checks that are due are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

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
    fn start_due(self: &Arc<Self>) {
        let snapshot = self.shared.snapshot();
        for servers in snapshot.all_servers() {
            let Some(declared) = &servers.declared.health else { continue };
            for member in
                servers.members().iter().filter(|member| member.health.is_due(declared.every))
            {
                let (checks, servers, declared, member) =
                    (self.clone(), servers.clone(), declared.clone(), member.clone());
                // Each by itself: one server that hangs holds up no other's.
                tokio::spawn(async move { checks.check(servers, declared, member).await });
            }
        }
    }

    async fn check(&self, servers: Arc<Servers>, declared: HealthCheck, member: Arc<Member>) {
        let time = CHECK_TIMEOUT.min(declared.every);
        let asked =
            tokio::time::timeout(time, self.ask(&servers, &declared.path, &member, time)).await;
        let found = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if member.health.check(found.is_ok()) {
            let (upstream, server) = (&servers.declared.name, member.address.socket);
            match found {
                Ok(()) => tracing::info!(%upstream, %server, "a server is up again"),
                Err(fault) => tracing::warn!(%upstream, %server, fault, "a server is down"),
            }
        }
    }

    async fn ask(
        &self,
        servers: &Servers,
        path: &str,
        member: &Member,
        time: Duration,
    ) -> Result<(), String> {
        let said = |error: Box<pingora::Error>| error.etype().as_str().to_owned();
        let mut peer = forward::probe(servers, member);
        // The library's own time gives a dead HTTP/2 connection up; ours around it would leave it
        // in the pool.
        peer.options.read_timeout = Some(time / 4 * 3);
        let (mut session, _) = self.connector.get_http_session(&peer).await.map_err(said)?;
        let mut head = RequestHeader::build("GET", path.as_bytes(), None).map_err(said)?;
        head.insert_header("host", &member.address.authority).map_err(said)?;
        head.insert_header("user-agent", concat!("scopegate/", env!("CARGO_PKG_VERSION")))
            .map_err(said)?;
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
                () = tokio::time::sleep(POLL_INTERVAL) => self.0.start_due(),
                _ = shutdown.changed() => return,
            }
        }
    }
}
