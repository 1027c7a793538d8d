//! The proxy's phases. Each calls the module that owns the step; nothing is decided here.

mod admit;
mod http1;
mod tunnel;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::connectors::TransportConnector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::exchange::{Exchange, Permitted, Stage};
use super::retry::Next;
use super::under_way::UnderWay;
use super::{answer, forward, retry};
use super::{cors, record, refusal};
use crate::reason::{Reason, Refusal};
use crate::server::edge::conn::Conn;
use crate::server::edge::http2::{self, Stream};
use crate::server::edge::prepare_session;
use crate::server::oauth;
use crate::server::state::Shared;
use crate::server::upstream::NoServer;
use crate::telemetry::decision_id;

/// A body that outgrew its limit after the request was permitted.
const BODY_TOO_LARGE: ErrorType = ErrorType::Custom("body too large");

/// Interim answers (1xx) taken for one request: each is relayed and starts the upstream's time
/// anew.
const MAX_INFORMATIONAL: u8 = 16;

/// The gateway as pingora sees it.
pub struct Gateway {
    shared: Arc<Shared>,
    endpoints: oauth::Endpoints,
    /// Connects to servers that speak HTTP/1, and keeps what may be used again.
    transport: Arc<TransportConnector>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl Gateway {
    /// The gateway over its shared state.
    #[must_use]
    pub fn new(shared: Arc<Shared>, transport: TransportConnector) -> Self {
        let endpoints = oauth::Endpoints::new(shared.clone());
        Self { shared, endpoints, transport: Arc::new(transport) }
    }

    /// Whether the servers of a permitted request speak HTTP/2, which the library's own loop
    /// forwards over.
    fn forwards_http2(exchange: &Exchange) -> bool {
        let servers =
            exchange.operation().and_then(|operation| exchange.snapshot.servers(operation));
        servers.is_some_and(|servers| servers.declared.http2)
    }

    /// A server for the next attempt, and a place among its requests.
    fn choose(exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let permitted = permitted(exchange)?;
        // Asked again for a retry: what the try before it left behind does not count.
        permitted.failed = None;
        permitted.body.received = 0;
        (permitted.attempt.sent, permitted.attempt.slot) = (false, None);
        let found = match &exchange.stage {
            Stage::Permitted(permitted) => forward::peer(&permitted.permit, exchange, permitted),
            Stage::Received | Stage::Refused(_) | Stage::Endpoint(..) => Err(NoServer::Unusable),
        };
        let permitted = self::permitted(exchange)?;
        match found {
            Ok((peer, slot)) => {
                permitted.attempt.slot = Some(slot);
                Ok(peer)
            }
            Err(none) => {
                let why = match none {
                    NoServer::Unusable => "no server of the upstream can be asked",
                    NoServer::Full => "as many requests as the upstream may have are under way",
                };
                permitted.failed = Some(Refusal::because(Reason::UpstreamUnavailable, why));
                Error::e_explain(ErrorType::ConnectNoRoute, why)
            }
        }
    }

    /// Notes a failure at the server of the exchange.
    fn fail_server(&self, exchange: &mut Exchange) {
        if retry::note_failure(exchange) {
            self.shared.metrics.upstream.server_ejected(exchange.upstream());
        }
    }

    /// Notes how the server does, by its answer.
    fn note_answer(&self, head: &ResponseHeader, exchange: &mut Exchange) {
        if retry::is_incapable(head.status.as_u16()) {
            return self.fail_server(exchange);
        }
        let Stage::Permitted(permitted) = &exchange.stage else { return };
        if let Some(slot) = &permitted.attempt.slot {
            let _ = slot.ended(true);
        }
        if head.status == http::StatusCode::UNAUTHORIZED
            && let Some(servers) = exchange.snapshot.servers(permitted.permit.operation())
        {
            servers.credentials.refused();
        }
    }
}

/// Whether a final answer has begun; an interim one (1xx) may still be followed by a refusal.
fn has_answered(session: &Session) -> bool {
    let written = session.response_written();
    written.is_some_and(|head| {
        !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS
    })
}

fn permitted(exchange: &mut Exchange) -> Result<&mut Permitted> {
    match &mut exchange.stage {
        Stage::Permitted(permitted) => Ok(permitted),
        Stage::Received | Stage::Refused(_) | Stage::Endpoint(..) => {
            Error::e_explain(ErrorType::InternalError, "forwarding without a permit")
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = UnderWay;

    fn new_ctx(&self) -> UnderWay {
        UnderWay::begin(&self.shared)
    }

    /// None: the library's own would compress, which nobody asks of it.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut UnderWay) -> Result<()> {
        prepare_session(session.as_downstream_mut(), &self.shared.edge);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut UnderWay) -> Result<bool> {
        if self.admit(session, exchange).await? {
            return Ok(true);
        }
        if Self::forwards_http2(exchange) {
            return Ok(false);
        }
        self.forward_http1(session, exchange).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        exchange: &mut UnderWay,
    ) -> Result<Box<HttpPeer>> {
        Self::choose(exchange)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        forward::prepare(head, &session.req_header().headers, exchange, &self.shared)?;
        permitted(exchange)?.attempt.sent = true;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        // An empty chunk is the last one (RFC 9112 §7.1): the library would write it, and then the
        // end of the body behind it.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let came = body.as_ref().map_or(0, Bytes::len);
        if let Some(stream) = Stream::of(session.as_downstream())
            && !stream.came(came, self.shared.fixed.edge.body_timeout)
            && !end
        {
            return Err(Error::new_down(ErrorType::ReadTimedout));
        }
        let permitted = permitted(exchange)?;
        if session.was_upgraded() {
            return Ok(());
        }
        let limit = permitted.body.max;
        permitted.body.received += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if permitted.body.received > limit {
            permitted.failed = Some(Refusal::new(Reason::RequestBody));
            return Err(Error::new_down(BODY_TOO_LARGE));
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        answer::check(head)?;
        if head.status.is_informational() {
            let permitted = permitted(exchange)?;
            permitted.attempt.informational += 1;
            if permitted.attempt.informational > MAX_INFORMATIONAL {
                return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
            }
        }
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            // Where nobody asked for it, what follows would be bytes of unknown meaning.
            if permitted(exchange)?.websocket && tunnel::is_handshake(head) {
                self.note_answer(head, exchange);
                return Ok(());
            }
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
        if head.status.is_informational() {
            return Ok(());
        }
        if retry::instead_of(head, session, exchange) {
            self.shared.metrics.upstream.request_retried(exchange.upstream());
            self.fail_server(exchange);
            let mut error = Error::new_up(ErrorType::HTTPStatus(head.status.as_u16()));
            error.set_retry(true);
            return Err(error);
        }
        self.note_answer(head, exchange);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        exchange.status = head.status.as_u16();
        if self.shared.process.life.is_draining() {
            session.set_keepalive(None);
        }
        // The version is ours to say, whatever the upstream speaks (RFC 9112 §2.3).
        head.set_version(http::Version::HTTP_11);
        if session.req_header().version == http::Version::HTTP_10 {
            // Such a client knows no chunks: the end of the connection ends the body (RFC 9112
            // §6.1).
            head.remove_header(&http::header::TRANSFER_ENCODING);
            head.set_version(http::Version::HTTP_10);
            session.set_keepalive(None);
        }
        forward::strip_hop(head);
        forward::strip_own_cookies(head)?;
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS
            && let Some(conn) = Conn::of(session.as_downstream())
        {
            conn.become_tunnel();
            session.set_read_timeout(None);
        }
        if let Stage::Permitted(permitted) = &mut exchange.stage
            && !head.status.is_informational()
        {
            // Not a tunnel after all.
            permitted.watch = None;
        }
        cors::announce(head, exchange)?;
        if let Stage::Permitted(permitted) = &exchange.stage
            && let Some(rate_limit) = &permitted.rate_limit
        {
            refusal::add_rate_limit(head, rate_limit)?;
        }
        head.insert_header(decision_id::HEADER, exchange.id.to_value())?;
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        exchange: &mut UnderWay,
    ) -> Result<Option<std::time::Duration>> {
        if matches!(exchange.status, 204 | 205 | 304) {
            // They have none (RFC 9110 §6.4.1); over HTTP/2 an upstream can send one all the same.
            *body = None;
        }
        if let Some(stream) = Stream::of(session.as_downstream()) {
            stream.moved();
        }
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        _: &mut UnderWay,
    ) -> Result<Option<Bytes>> {
        forward::strip_own_cookies_of_trailers(trailers)?;
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut UnderWay,
    ) -> FailToProxy {
        let code = match record::of_error(error, exchange) {
            Some(refusal) if !has_answered(session) => {
                let code = refusal.reason.row().status;
                if let Err(error) = refusal::refuse(session, exchange, &refusal, true).await {
                    tracing::debug!(%error, "a refusal could not be written");
                }
                // Dropped without it, the connection is reset under the answer.
                session.as_downstream_mut().shutdown().await;
                code
            }
            _ => 0,
        };
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut UnderWay) {
        if let Some(conn) = Conn::of(session.as_downstream()) {
            conn.request_done();
        }
        if let Some(error) = error.filter(|error| *error.esource() != ErrorSource::Downstream) {
            // The type alone: its context may hold bytes of a head.
            tracing::debug!(error = error.etype().as_str(), id = ?exchange.id, "an exchange \
                failed");
        }
        if let Stage::Permitted(permitted) = &mut exchange.stage {
            // Not under way any more, although the connection may be lingered on.
            (permitted.attempt.slot, permitted.watch) = (None, None);
        }
        exchange.record();
        http2::await_rest(session.as_downstream_mut()).await;
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        exchange: &mut UnderWay,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Without descriptors of our own nothing was asked of the server.
        if *error.etype() != ErrorType::InternalError {
            self.fail_server(exchange);
        }
        let again = retry::after_no_connection(exchange);
        if again {
            self.shared.metrics.upstream.request_retried(exchange.upstream());
        }
        error.set_retry(again);
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut UnderWay,
        reused: bool,
    ) -> Box<Error> {
        if matches!(error.etype(), ErrorType::HTTPStatus(_)) && error.retry() {
            return error;
        }
        let answered = has_answered(session);
        let next = if answered {
            Next::End
        } else {
            retry::after_failure(session, exchange, &mut error, reused)
        };
        if next != Next::Again && *error.esource() == ErrorSource::Upstream {
            self.fail_server(exchange);
        }
        if next != Next::End {
            self.shared.metrics.upstream.request_retried(exchange.upstream());
        }
        error.set_retry(next != Next::End);
        error
    }

    /// Every failure is in the decision record and the metrics; pingora's own lines would repeat
    /// them with path and query.
    fn suppress_error_log(&self, _: &Session, _: &UnderWay, _: &Error) -> bool {
        true
    }

    fn request_summary(&self, _: &Session, exchange: &UnderWay) -> String {
        format!("decision {}", exchange.id.to_text())
    }
}
