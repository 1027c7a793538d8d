//! The loop over the requests of a connection of HTTP/1, which the gateway reads, judges, forwards
//! and answers by itself: one task and one future for the connection. A request that needs what the
//! proxy library has is handed on to it, with its connection, and the connection comes back.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::{Error, Result};
use tokio::sync::watch;
use tokio::time::Instant;

use super::admit::Admitted;
use super::client::direct::Direct;
use super::client::{Client, Requester};
use super::driver::Gateway;
use super::under_way::UnderWay;
use super::{record, refusal};
use crate::reason::Refusal;
use crate::request::head::Head;
use crate::server::edge::conn::Conn;
use crate::server::edge::guard::GuardIo;
use crate::server::edge::{Application, TUNNEL};
use crate::server::state::snapshot::Snapshot;

/// Serves connections of HTTP/1.
pub struct Requests {
    gateway: Gateway,
    library: Arc<HttpProxy<Gateway>>,
    /// Every request goes to the library: how the suites are run over its loop.
    library_alone: bool,
    /// Never says anything: the proxy library drops connections that wait for a request when told
    /// of a shutdown.
    never: watch::Sender<bool>,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Requests {
    /// The loop over a gateway, with the library's over the same one, which may get everything.
    #[must_use]
    pub fn new(gateway: Gateway, library: Arc<HttpProxy<Gateway>>, library_alone: bool) -> Self {
        Self { gateway, library, library_alone, never: watch::Sender::new(false) }
    }

    /// Whether a request is the library's: for an endpoint of ours, with a handshake, or for an
    /// upstream that speaks HTTP/2.
    fn is_for_library(&self, snapshot: &Snapshot, head: &Head) -> bool {
        self.library_alone
            || head.websocket
            || self.gateway.endpoints.find(snapshot, head).is_some()
            || snapshot.speaks_http2(&head.host, head.target.path())
    }

    /// Hands one request on, with its connection; gives that back where it is kept.
    async fn hand_on(&self, client: Direct) -> Option<GuardIo> {
        let io = client.into_io();
        let conn = io.conn().clone();
        let session = ServerSession::new_http1(Box::new(io));
        let never = self.never.subscribe();
        let ended = async {
            conn.tunnel_end().await;
            tokio::time::sleep(TUNNEL).await;
        };
        let kept = tokio::select! {
            kept = self.library.process_new_http(session, &never) => kept?,
            // A tunnel whose upstream takes nothing is not looked at by the library any more.
            () = ended => return None,
        };
        let (stream, _) = kept.consume();
        stream.into_any().downcast().ok().map(|io| *io)
    }

    /// One exchange, from its head to its record.
    async fn exchange(&self, client: &mut Direct, conn: &Arc<Conn>, snapshot: Arc<Snapshot>) {
        let Some(head) = client.begin() else { return };
        let mut exchange = UnderWay::begin(&self.gateway.shared, snapshot);
        let served = self.serve(client, conn, head, &mut exchange).await;
        if let Err(error) = &served {
            client.close();
            if let Some(refusal) = record::of_error(error, &mut exchange)
                && !client.has_answered()
            {
                // What is written is a whole answer, or nobody is there to read it.
                let _ = Box::pin(refusal::refuse(client, &mut exchange, &refusal, true)).await;
            }
        }
        Gateway::end_exchange(&mut exchange, served.as_ref().err().map(|error| &**error));
    }

    async fn serve(
        &self,
        client: &mut Direct,
        conn: &Arc<Conn>,
        head: std::result::Result<Head, Refusal>,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        if let Some(dialect) = conn.decides {
            return Box::pin(self.gateway.decide(client, conn, dialect, head, exchange)).await;
        }
        match self.gateway.admit(client, conn, head, exchange).await? {
            Admitted::Answered => Ok(()),
            Admitted::Forward => self.gateway.forward_http1(client, exchange).await,
            Admitted::Endpoint(_) => Error::e_explain(
                pingora::ErrorType::InternalError,
                "an endpoint that is the library's to serve",
            ),
        }
    }
}

#[async_trait]
impl Application for Requests {
    async fn serve(&self, io: GuardIo, conn: Arc<Conn>, _: Instant) {
        let edge = self.gateway.shared.edge.clone();
        let mut client = Direct::new(io, edge.clone());
        while let Some(head) = client.next_head().await {
            let snapshot = self.gateway.shared.snapshot();
            if conn.decides.is_none()
                && head.as_ref().is_ok_and(|head| self.is_for_library(&snapshot, head))
            {
                let Some(io) = Box::pin(self.hand_on(client)).await else { return };
                client = Direct::new(io, edge.clone());
                continue;
            }
            // On the heap only while it lasts: a connection that waits is small.
            Box::pin(self.exchange(&mut client, &conn, snapshot)).await;
            if !client.is_kept() {
                return client.shutdown().await;
            }
        }
        client.shutdown().await;
    }
}
