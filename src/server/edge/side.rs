//! An axum router behind a listener for those who run the gateway.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use http::{StatusCode, header};
use pingora::Result;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bridge;
use super::conn::Conn;
use super::guard::GuardIo;
use super::{Application, EdgeState, has_more_than_is_worth_reading, prepare_session};
use crate::reason::Refusal;

/// Serves a router, one request after the other.
pub struct Side(Arc<Inner>);

struct Inner {
    state: Arc<EdgeState>,
    router: Router,
    max_body: usize,
    /// Never says anything: what is under way is served until the process ends.
    never: watch::Sender<bool>,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").finish_non_exhaustive()
    }
}

impl Side {
    /// The application over a router; bodies of requests are taken up to `max_body` bytes.
    #[must_use]
    pub fn new(state: Arc<EdgeState>, router: Router, max_body: usize) -> Self {
        Self(Arc::new(Inner { state, router, max_body, never: watch::Sender::new(false) }))
    }
}

/// The other end of the connection that a request came on: an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

#[async_trait]
impl Application for Side {
    async fn serve(&self, io: GuardIo, _: Arc<Conn>, _: Instant) {
        self.0.process_new(Box::new(io), &self.0.never.subscribe()).await;
    }
}

#[async_trait]
impl HttpServerApp for Inner {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        let conn = Conn::of(&session)?.clone();
        // These listeners are of TCP alone.
        let peer = conn.peer?;
        prepare_session(&mut session, &self.state);
        // What nobody reads of a small body is read to its end, so that the connection goes on.
        let more = has_more_than_is_worth_reading(&session.req_header().headers);
        if more {
            session.set_keepalive(None);
        }
        session.set_close_on_response_before_downstream_finish(more);
        let head = conn.take_head(&session);
        let served = match head.map(|head| head.and_then(|head| head.check_own())) {
            Some(Ok(())) => {
                bridge::serve(&self.router, &mut session, self.max_body, Peer(peer)).await.map(drop)
            }
            Some(Err(refusal)) => refuse(&mut session, &refusal).await,
            // The guard reads every head.
            None => return None,
        };
        conn.request_done();
        if let Err(error) = served {
            tracing::debug!(
                error = error.etype().as_str(),
                "a client of a side listener went away"
            );
            session.shutdown().await;
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let kept = session.finish().await.ok()?;
        kept.map(|stream| ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

/// Says why a head was refused; the connection ends.
async fn refuse(session: &mut ServerSession, refusal: &Refusal) -> Result<()> {
    let row = refusal.reason.row();
    let body = format!("{} ({})\n", row.detail, refusal.reason.label());
    let mut head = ResponseHeader::build(
        StatusCode::from_u16(row.status).unwrap_or(StatusCode::BAD_REQUEST),
        Some(3),
    )?;
    head.insert_header(header::CONTENT_TYPE, "text/plain; charset=utf-8")?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    session.set_keepalive(None);
    session.write_response_header(Box::new(head)).await?;
    session.write_response_body(Bytes::from(body), true).await
}
