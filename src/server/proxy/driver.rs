//! The gateway: what every loop over requests shares of an exchange, and the proxy library's loop,
//! which reads HTTP/2 and the handshakes of WebSockets. Each of its phases calls the module that
//! owns the step; nothing is decided here.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use http::header::TRANSFER_ENCODING;
use pingora::connectors::TransportConnector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::protocols::Stream;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::admit::{Admitted, is_same};
use super::client::library::{self, Library, has_answered};
use super::exchange::{Exchange, Permitted, Stage};
use super::relay::count_body;
use super::retry::{Next, Replay};
use super::under_way::UnderWay;
use super::{answer, forward, record, refusal, retry, tunnel};
use crate::reason::{Reason, Refusal};
use crate::request::head::Head;
use crate::server::edge::conn::Conn;
use crate::server::edge::http2;
use crate::server::edge::{bridge, prepare_session};
use crate::server::oauth;
use crate::server::state::Shared;
use crate::server::upstream::NoServer;
use crate::server::upstream::pool::Pool;

/// Interim answers (1xx) taken for one request: each is relayed and starts the upstream's time
/// anew.
const MAX_INFORMATIONAL: u8 = 16;

/// The gateway as its loops see it.
#[derive(Clone)]
pub struct Gateway {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoints: Arc<oauth::Endpoints>,
    /// Connects to servers that speak HTTP/1.
    dial: Arc<Dial>,
    /// Keeps those connections that may be used again.
    pub(super) pool: Arc<Pool>,
}

/// What connects to servers.
pub enum Dial {
    /// The library: TCP, and TLS with verification.
    Library(TransportConnector),
    /// A connection in memory.
    #[cfg(test)]
    Simulated(Arc<dyn Fn() -> Stream + Send + Sync>),
}

impl Dial {
    async fn connect(&self, peer: &HttpPeer) -> Result<Stream> {
        match self {
            Self::Library(connector) => connector.new_stream(peer).await.map_err(Error::into_up),
            #[cfg(test)]
            Self::Simulated(connect) => Ok(connect()),
        }
    }
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dial").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl Gateway {
    /// The gateway over its shared state.
    #[must_use]
    pub fn new(shared: Arc<Shared>, dial: Dial, pool: Arc<Pool>) -> Self {
        let endpoints = Arc::new(oauth::Endpoints::new(shared.clone()));
        Self { shared, endpoints, dial: Arc::new(dial), pool }
    }

    /// A new connection to a server.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) async fn connect_to(&self, peer: &HttpPeer) -> Result<Stream> {
        self.dial.connect(peer).await
    }

    /// Whether the servers of a permitted request speak HTTP/2, which the library's own loop
    /// forwards over.
    fn forwards_http2(exchange: &Exchange) -> bool {
        let servers =
            exchange.operation().and_then(|operation| exchange.snapshot.servers(operation));
        servers.is_some_and(|servers| servers.declared.http2)
    }

    /// Chooses a server for the next attempt, and takes a place among its requests.
    pub(super) fn choose(exchange: &mut Exchange) -> Result<()> {
        let permitted = permitted(exchange)?;
        // Asked again for a retry: what the try before it left behind does not count.
        permitted.failed = None;
        permitted.body.received = 0;
        (permitted.attempt.sent, permitted.attempt.slot) = (false, None);
        let found = match &exchange.stage {
            Stage::Permitted(permitted) => forward::choose(&permitted.permit, exchange, permitted),
            Stage::Received | Stage::Refused(_) | Stage::Endpoint(..) => Err(NoServer::Unusable),
        };
        let permitted = self::permitted(exchange)?;
        match found {
            Ok(slot) => {
                if let Some(trace) = &mut exchange.trace {
                    trace.ask(slot.member.clone());
                }
                self::permitted(exchange)?.attempt.slot = Some(slot);
                Ok(())
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

    /// Notes that a connection could not be made, and whether there is another try.
    pub(super) fn fail_connect(&self, exchange: &mut Exchange, error: &mut Error) {
        // Without descriptors of our own nothing was asked of the server.
        if *error.etype() != ErrorType::InternalError {
            self.fail_server(exchange);
        }
        let again = retry::after_no_connection(exchange);
        if again {
            self.shared.metrics.upstream.request_retried(exchange.upstream());
        }
        error.set_retry(again);
    }

    /// Notes that an attempt has failed, and whether there is another one.
    pub(super) fn fail_attempt(
        &self,
        exchange: &mut Exchange,
        error: &mut Error,
        answered: bool,
        replay: Replay,
        reused: bool,
    ) {
        if matches!(error.etype(), ErrorType::HTTPStatus(_)) && error.retry() {
            return;
        }
        let next = if answered {
            Next::End
        } else {
            retry::after_failure(replay, exchange, error, reused)
        };
        if next != Next::Again && *error.esource() == ErrorSource::Upstream {
            self.fail_server(exchange);
        }
        if next != Next::End {
            self.shared.metrics.upstream.request_retried(exchange.upstream());
        }
        error.set_retry(next != Next::End);
    }

    /// Takes note of what a server answers.
    ///
    /// # Errors
    /// It may not be answered so, or another server is tried in its place.
    pub(super) fn judge_answer(
        &self,
        status: u16,
        is_handshake: bool,
        replay: Replay,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if (100..200).contains(&status) {
            let permitted = permitted(exchange)?;
            permitted.attempt.informational += 1;
            if permitted.attempt.informational > MAX_INFORMATIONAL {
                return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
            }
            if status != http::StatusCode::SWITCHING_PROTOCOLS.as_u16() {
                return Ok(());
            }
            // Where nobody asked for it, what follows would be bytes of unknown meaning.
            if !permitted.websocket || !is_handshake {
                return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
            }
        } else if retry::instead_of(status, replay, exchange) {
            self.shared.metrics.upstream.request_retried(exchange.upstream());
            self.fail_server(exchange);
            let mut error = Error::new_up(ErrorType::HTTPStatus(status));
            error.set_retry(true);
            return Err(error);
        }
        self.note_answer(status, exchange);
        Ok(())
    }

    /// Notes how the server does, by its answer.
    fn note_answer(&self, status: u16, exchange: &mut Exchange) {
        if let Some(trace) = &mut exchange.trace {
            trace.answered(status);
        }
        if retry::is_incapable(status) {
            return self.fail_server(exchange);
        }
        let Stage::Permitted(permitted) = &exchange.stage else { return };
        if let Some(slot) = &permitted.attempt.slot {
            let _ = slot.ended(true);
        }
        if status == http::StatusCode::UNAUTHORIZED.as_u16()
            && let Some(servers) = exchange.snapshot.servers(permitted.permit.operation())
        {
            servers.credentials.refused();
        }
    }

    /// Ends an exchange, however it went.
    pub(super) fn end_exchange(exchange: &mut UnderWay, error: Option<&Error>) {
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
    }

    async fn serve_endpoint(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        endpoint: &'static str,
    ) -> Result<()> {
        exchange.stage = Stage::Endpoint(endpoint, oauth::Outcome::default());
        let caller = oauth::Caller {
            id: exchange.id,
            snapshot: exchange.snapshot.clone(),
            address: exchange.address,
        };
        let max_body = crate::grant::form::MAX_BODY;
        let serve =
            bridge::serve(self.endpoints.router(), session.as_downstream_mut(), max_body, caller);
        let limit = self.shared.fixed.edge.body_timeout;
        match tokio::time::timeout(limit, serve).await {
            Ok(served) => {
                // A session's own errors name no source: what fails here is the client's
                // connection.
                let (status, extensions) = served.map_err(Error::into_down)?;
                exchange.status = status;
                let outcome = extensions.get::<oauth::Outcome>().cloned().unwrap_or_default();
                exchange.stage = Stage::Endpoint(endpoint, outcome);
                Ok(())
            }
            Err(_) => Err(Error::new_down(ErrorType::ReadTimedout)),
        }
    }

    fn client<'a>(&self, session: &'a mut Session) -> Library<'a> {
        Library::new(session, self.shared.edge.clone())
    }
}

/// The permit of an exchange.
///
/// # Errors
/// It has none.
pub(super) fn permitted(exchange: &mut Exchange) -> Result<&mut Permitted> {
    match &mut exchange.stage {
        Stage::Permitted(permitted) => Ok(permitted),
        Stage::Received | Stage::Refused(_) | Stage::Endpoint(..) => {
            Error::e_explain(ErrorType::InternalError, "forwarding without a permit")
        }
    }
}

/// The head that was read strictly of the request of a session, if it is the one that the library
/// has read.
fn strict_head(session: &Session, conn: &Conn) -> std::result::Result<Head, Refusal> {
    match conn.take_head(session.as_downstream()) {
        Some(Ok(head)) if is_same(&head, session.req_header()) => Ok(head),
        Some(Ok(_)) => Err(Refusal::because(
            Reason::RequestMalformed,
            "the guard and the proxy read different requests",
        )),
        Some(Err(refusal)) => Err(refusal),
        // The guard reads every head; a request it has not seen is one that something smuggled
        // past it.
        None => {
            Err(Refusal::because(Reason::RequestMalformed, "a request that the guard has not read"))
        }
    }
}

/// What bears on sending the request of a session again.
fn replay(session: &Session, exchange: &Exchange) -> Replay {
    Replay::new(&exchange.method, !session.as_ref().retry_buffer_truncated())
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = UnderWay;

    fn new_ctx(&self) -> UnderWay {
        UnderWay::begin(&self.shared, self.shared.snapshot())
    }

    /// None: the library's own would compress, which nobody asks of it.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut UnderWay) -> Result<()> {
        prepare_session(session.as_downstream_mut(), &self.shared.edge);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut UnderWay) -> Result<bool> {
        let Some(conn) = Conn::of(session.as_downstream()).cloned() else {
            return Error::e_explain(ErrorType::InternalError, "the guard is not there");
        };
        let head = strict_head(session, &conn);
        match self.admit(&mut self.client(session), &conn, head, exchange).await? {
            Admitted::Answered => return Ok(true),
            Admitted::Endpoint(endpoint) => {
                self.serve_endpoint(session, exchange, endpoint).await?;
                return Ok(true);
            }
            Admitted::Forward => {}
        }
        if Self::forwards_http2(exchange) {
            return Ok(false);
        }
        self.forward_http1(&mut self.client(session), exchange).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        exchange: &mut UnderWay,
    ) -> Result<Box<HttpPeer>> {
        Self::choose(exchange)?;
        let permitted = permitted(exchange)?;
        let Some(slot) = &permitted.attempt.slot else {
            return Error::e_explain(ErrorType::InternalError, "no server was chosen");
        };
        Ok(Box::new(forward::peer(&permitted.permit, slot)))
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
        if !end {
            library::keep_pace(session, came, self.shared.fixed.edge.body_timeout)?;
        }
        if session.was_upgraded() {
            return Ok(());
        }
        count_body(exchange, came)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        answer::check_head(head)?;
        let status = head.status.as_u16();
        let is_handshake = tunnel::is_handshake(status, &head.headers, exchange);
        let replay = replay(session, exchange);
        self.judge_answer(status, is_handshake, replay, exchange)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        let mut lines = HeaderMap::with_capacity(head.headers.len() + 4);
        answer::write_lines(&head.headers, exchange, head.status.as_u16(), &mut lines)?;
        if let Some(coding) = head.headers.get(TRANSFER_ENCODING)
            && !head.status.is_informational()
        {
            lines.insert(TRANSFER_ENCODING, coding.clone());
        }
        let blank = ResponseHeader::build_no_case(head.status, Some(0))?;
        let mut parts = http::response::Parts::from(std::mem::replace(head, blank));
        parts.headers = lines;
        *head = ResponseHeader::from(parts);
        library::prepare(head, session, &self.shared.edge, exchange)
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
        if let Some(stream) = http2::Stream::of(session.as_downstream()) {
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
        answer::strip_trailers(trailers);
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
                let refused =
                    refusal::refuse(&mut self.client(session), exchange, &refusal, true).await;
                if let Err(error) = refused {
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
        Self::end_exchange(exchange, error);
        http2::await_rest(session.as_downstream_mut()).await;
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        exchange: &mut UnderWay,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.fail_connect(exchange, &mut error);
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
        let replay = replay(session, exchange);
        self.fail_attempt(exchange, &mut error, has_answered(session), replay, reused);
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
