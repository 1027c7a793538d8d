//! The proxy's phases. Each calls the module that owns the step; nothing is decided here.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::edge::conn::Conn;
use super::edge::http2::Stream;
use super::exchange::{Exchange, Permitted, Stage};
use super::retry::Next;
use super::upstream::NoServer;
use super::{
    Shared, announce, answer, authorization, bridge, clock, forward, identify, outcome, response, retry, tunnel,
};
use crate::policy::decide::{Moment, check_network, preflight};
use crate::reason::{Reason, Refusal};
use crate::request::Request;
use crate::request::address::client_address;
use crate::request::credential::bearer;
use crate::request::head::Head;
use crate::request::method::Method;

/// A body that outgrew its limit after the request was permitted.
const BODY_TOO_LARGE: ErrorType = ErrorType::Custom("body too large");

/// Interim answers (1xx) taken for one request: each is relayed and starts the upstream's time anew.
const MAX_INFORMATIONAL: u8 = 16;
/// Longest request id taken over from a caller.
const MAX_REQUEST_ID: usize = 128;
/// How long the rest of a refused request's body may take, before the connection is given up.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The gateway as pingora sees it.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    endpoints: authorization::Endpoints,
}

impl Gateway {
    /// The gateway over its shared state.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let endpoints = authorization::Endpoints::new(shared.clone());
        Self { shared, endpoints }
    }

    /// Steps 0 to 9, in order. True when the request has been answered here.
    async fn admit(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        // Known before the head is: a refusal of the head says who sent it. What a proxy forwards counts once the head is good.
        let Some(conn) = Conn::of(session.as_downstream()).cloned() else {
            let refusal = Refusal::because(Reason::RequestMalformed, "a connection that the guard does not know");
            return self.refuse_head(session, exchange, refusal).await;
        };
        let peer = Some(conn.peer);
        exchange.http2 = conn.http2;
        exchange.trusted = exchange.snapshot.config.trusted_proxies.contains(conn.peer);
        self.name_request(session, exchange);
        exchange.address = peer.filter(|peer| !exchange.snapshot.config.trusted_proxies.contains(*peer));
        let head = match conn.take_head(session.as_downstream()) {
            Some(Ok(head)) if is_same(&head, session.req_header()) => head,
            Some(Ok(_)) => {
                let refusal =
                    Refusal::because(Reason::RequestMalformed, "the guard and the proxy read different requests");
                return self.refuse_head(session, exchange, refusal).await;
            }
            Some(Err(refusal)) => return self.refuse_head(session, exchange, refusal).await,
            // The guard reads every head; a request it has not seen is one that something smuggled past it.
            None => {
                let refusal = Refusal::because(Reason::RequestMalformed, "a request that the guard has not read");
                return self.refuse_head(session, exchange, refusal).await;
            }
        };
        let now = clock::now();
        let snapshot = exchange.snapshot.clone();
        exchange.method.clone_from(&head.method);
        exchange.address = Self::address(session, peer, &snapshot.config.trusted_proxies);
        let refused = {
            let blocks = self.shared.revocations.blocks();
            check_network(snapshot.rules(), exchange.address, Moment { now, blocks: &blocks })
        };
        if let Err(refusal) = refused {
            return self.refuse(session, exchange, refusal).await;
        }
        if let Err(refusal) = snapshot.limits.take(exchange.address.or(peer)) {
            return self.refuse(session, exchange, refusal).await;
        }
        if let Some(endpoint) = self.endpoints.find(&head) {
            return self.serve_endpoint(session, exchange, endpoint).await;
        }
        let lines = session.req_header().headers.get_all(http::header::AUTHORIZATION);
        let credential = bearer(lines.iter().map(http::HeaderValue::as_bytes));
        let (websocket, length) = (head.websocket, head.length);
        let mut request = Request::new(head, exchange.address, credential);
        request.certificate.clone_from(&conn.certificate);
        let origin = session.req_header().headers.get(http::header::ORIGIN).cloned();
        if let Some(origin) = &origin
            && let Some(answered) = self.preflight(session, exchange, &mut request, origin).await?
        {
            return Ok(answered);
        }
        let judgement = identify::decide(&self.shared, &snapshot, &request, now).await;
        exchange.settle(judgement, request.target.clone());
        exchange.origin = exchange.api().and_then(|api| announce::admitted(api, origin.as_ref()));
        exchange.count(&self.shared.store, now).await;
        self.bound_body(session, exchange, length);
        if websocket {
            self.open_tunnel(session, exchange, &conn, request);
        }
        self.answer_if_refused(session, exchange).await
    }

    /// The id that the caller gives the request, if the caller is trusted; ours otherwise.
    fn name_request(&self, session: &Session, exchange: &mut Exchange) {
        let Some(name) = &self.shared.request_id else { return };
        let said = session.req_header().headers.get(name).filter(|_| exchange.trusted);
        let fits = |value: &&http::HeaderValue| {
            (1..=MAX_REQUEST_ID).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let value = said.filter(fits).cloned().unwrap_or_else(|| exchange.id.to_value());
        exchange.request_id = Some((name.clone(), value));
    }

    /// Answers a preflight of an API with `cors`. `None` where the request is none.
    async fn preflight(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        request: &mut Request,
        origin: &http::HeaderValue,
    ) -> Result<Option<bool>> {
        let asked = session.req_header().headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD);
        request.asked_method = asked.and_then(|asked| Method::judged(asked.to_str().ok()?));
        let snapshot = exchange.snapshot.clone();
        match preflight(snapshot.rules(), request) {
            None => Ok(None),
            Some(Ok(preflight)) => {
                let api = snapshot.rules().api_of(preflight.operation);
                exchange.origin = api.and_then(|api| announce::admitted(api, Some(origin)));
                announce::answer_preflight(session, exchange, &preflight).await?;
                Ok(Some(true))
            }
            Some(Err(judgement)) => {
                exchange.settle(*judgement, request.target.clone());
                self.answer_if_refused(session, exchange).await.map(Some)
            }
        }
    }

    /// Step 0 again, where the API has a limit of its own.
    fn bound_body(&self, session: &mut Session, exchange: &mut Exchange, length: u64) {
        let most = exchange.api().and_then(|api| api.max_body).unwrap_or(self.shared.fixed.edge.limits.body_bytes);
        if let Stage::Permitted(permitted) = &mut exchange.stage {
            permitted.max_body = most;
            if length > most {
                session.set_keepalive(None);
                exchange.revoke(Refusal::new(Reason::RequestBody));
            }
        }
    }

    /// Lets a WebSocket handshake through where the API does, and watches what becomes of it. Everywhere else the request is plain HTTP.
    fn open_tunnel(&self, session: &mut Session, exchange: &mut Exchange, conn: &Arc<Conn>, request: Request) {
        let offered = exchange.api().is_some_and(|api| api.websocket);
        let servers = exchange.operation().and_then(|operation| exchange.snapshot.servers(operation));
        let patience = servers.map_or(DRAIN, |servers| servers.declared.response);
        match &mut exchange.stage {
            Stage::Permitted(permitted) if offered => {
                permitted.websocket = true;
                permitted.watch = Some(tunnel::watch(self.shared.clone(), conn.clone(), request, patience));
            }
            Stage::Permitted(_) | Stage::Refused(_) | Stage::Received | Stage::Endpoint(..) => {
                session.req_header_mut().remove_header(&http::header::UPGRADE);
            }
        }
    }

    fn address(
        session: &Session,
        peer: Option<std::net::IpAddr>,
        trusted: &crate::request::address::Networks,
    ) -> Option<std::net::IpAddr> {
        let lines = session.req_header().headers.get_all("x-forwarded-for");
        client_address(peer, lines.iter().map(http::HeaderValue::as_bytes), trusted)
    }

    /// Notes a failure at the server of the exchange.
    fn fail_server(&self, exchange: &mut Exchange) {
        if retry::note_failure(exchange) {
            self.shared.metrics.ejected(exchange);
        }
    }

    /// Notes how the server does, by its answer.
    fn note_answer(&self, head: &ResponseHeader, exchange: &mut Exchange) {
        if retry::is_incapable(head.status.as_u16()) {
            return self.fail_server(exchange);
        }
        let Stage::Permitted(permitted) = &exchange.stage else { return };
        if let Some(slot) = &permitted.slot {
            let _ = slot.ended(true);
        }
        if head.status == http::StatusCode::UNAUTHORIZED
            && let Some(servers) = exchange.snapshot.servers(permitted.permit.operation())
        {
            servers.credentials.refused();
        }
    }

    async fn refuse_head(&self, session: &mut Session, exchange: &mut Exchange, refusal: Refusal) -> Result<bool> {
        exchange.refuse(refusal.clone());
        answer::refuse(session, exchange, &refusal, true).await?;
        Ok(true)
    }

    async fn refuse(&self, session: &mut Session, exchange: &mut Exchange, refusal: Refusal) -> Result<bool> {
        exchange.refuse(refusal.clone());
        answer::refuse(session, exchange, &refusal, false).await?;
        Ok(true)
    }

    async fn answer_if_refused(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let Stage::Refused(refused) = &exchange.stage else { return Ok(false) };
        let refusal = refused.refusal.clone();
        answer::refuse(session, exchange, &refusal, false).await?;
        Ok(true)
    }

    async fn serve_endpoint(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        endpoint: &'static str,
    ) -> Result<bool> {
        exchange.stage = Stage::Endpoint(endpoint, authorization::Outcome::default());
        let caller =
            authorization::Caller { id: exchange.id, snapshot: exchange.snapshot.clone(), address: exchange.address };
        let max_body = crate::grant::form::MAX_BODY;
        let serve = bridge::serve(self.endpoints.router(), session.as_downstream_mut(), max_body, caller);
        let limit = self.shared.fixed.edge.body_timeout;
        match tokio::time::timeout(limit, serve).await {
            Ok(served) => {
                // A session's own errors name no source: what fails here is the client's connection.
                let (status, extensions) = served.map_err(Error::into_down)?;
                exchange.status = status;
                let outcome = extensions.get::<authorization::Outcome>().cloned().unwrap_or_default();
                exchange.stage = Stage::Endpoint(endpoint, outcome);
            }
            Err(_) => return Err(Error::new_down(ErrorType::ReadTimedout)),
        }
        Ok(true)
    }
}

/// Whether the head that was read strictly is the one that the proxy will forward: the last line of defence against a request
/// that is judged as another one.
fn is_same(head: &Head, forwarded: &RequestHeader) -> bool {
    let host = forwarded.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    forwarded.method.as_str() == head.method
        && forwarded.raw_path() == head.target.as_str().as_bytes()
        && host.and_then(crate::request::head::host_name).as_ref() == Some(&head.host)
}

/// Whether any Connection line says `close`; the library reads the first alone.
fn says_close(head: &RequestHeader) -> bool {
    let lines = head.headers.get_all(http::header::CONNECTION);
    let mut named = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    named.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Whether a final answer has begun; an interim one (1xx) may still be followed by a refusal.
fn has_answered(session: &Session) -> bool {
    let written = session.response_written();
    written.is_some_and(|head| !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS)
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
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new(&self.shared)
    }

    /// None: the library's own would compress, which nobody asks of it.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut Exchange) -> Result<()> {
        let edge = &self.shared.fixed.edge;
        // Only where the client's version and Connection line allow it (RFC 9112 §9.3).
        let wanted =
            session.get_keepalive().is_some() && !says_close(session.req_header()) && !self.shared.life.is_draining();
        // Without an end of its own: the guard watches how long a kept connection waits.
        session.set_keepalive(wanted.then_some(0));
        session.set_read_timeout(Some(edge.body_timeout));
        session.set_write_timeout(Some(edge.write_timeout));
        session.set_total_drain_timeout(Some(DRAIN));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        self.admit(session, exchange).await
    }

    async fn upstream_peer(&self, _: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let permitted = permitted(exchange)?;
        // Asked again for a retry: what the try before it left behind does not count.
        (permitted.failed, permitted.body, permitted.sent, permitted.slot) = (None, 0, false, None);
        let found = match &exchange.stage {
            Stage::Permitted(permitted) => forward::peer(&permitted.permit, exchange, permitted),
            Stage::Received | Stage::Refused(_) | Stage::Endpoint(..) => Err(NoServer::Unusable),
        };
        let permitted = self::permitted(exchange)?;
        match found {
            Ok((peer, slot)) => {
                permitted.slot = Some(slot);
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

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        forward::prepare(head, &session.req_header().headers, exchange, &self.shared)?;
        permitted(exchange)?.sent = true;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let Some(stream) = Stream::of(session.as_downstream()) {
            stream.moved();
        }
        let permitted = permitted(exchange)?;
        if session.was_upgraded() {
            return Ok(());
        }
        let limit = permitted.max_body;
        permitted.body += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if permitted.body > limit {
            permitted.failed = Some(Refusal::new(Reason::RequestBody));
            return Err(Error::new_down(BODY_TOO_LARGE));
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        response::check(head)?;
        if head.status.is_informational() {
            let permitted = permitted(exchange)?;
            permitted.informational += 1;
            if permitted.informational > MAX_INFORMATIONAL {
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
            self.shared.metrics.retried(exchange);
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
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.status = head.status.as_u16();
        if self.shared.life.is_draining() {
            session.set_keepalive(None);
        }
        // The version is ours to say, whatever the upstream speaks (RFC 9112 §2.3).
        head.set_version(http::Version::HTTP_11);
        if session.req_header().version == http::Version::HTTP_10 {
            // Such a client knows no chunks: the end of the connection ends the body (RFC 9112 §6.1).
            head.remove_header(&http::header::TRANSFER_ENCODING);
            head.set_version(http::Version::HTTP_10);
            session.set_keepalive(None);
        }
        forward::strip_hop(head);
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
        announce::announce(head, exchange)?;
        if let Stage::Permitted(permitted) = &exchange.stage
            && let Some(standing) = &permitted.standing
        {
            answer::say_standing(head, standing)?;
        }
        head.insert_header(answer::DECISION_ID, exchange.id.to_value())?;
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        _: &mut Exchange,
    ) -> Result<Option<std::time::Duration>> {
        if let Some(stream) = Stream::of(session.as_downstream()) {
            stream.moved();
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
        let code = match outcome::of_error(error, exchange) {
            Some(refusal) if !has_answered(session) => {
                let code = refusal.reason.row().status;
                if let Err(error) = answer::refuse(session, exchange, &refusal, true).await {
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

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        if let Some(conn) = Conn::of(session.as_downstream()) {
            conn.request_done();
        }
        if let Some(error) = error.filter(|error| *error.esource() != ErrorSource::Downstream) {
            // The type alone: its context may hold bytes of a head.
            tracing::debug!(error = error.etype().as_str(), id = ?exchange.id, "an exchange failed");
        }
        if let Stage::Permitted(permitted) = &mut exchange.stage {
            // Not under way any more, although the connection may be lingered on.
            (permitted.slot, permitted.watch) = (None, None);
        }
        exchange.record();
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Without descriptors of our own nothing was asked of the server.
        if *error.etype() != ErrorType::InternalError {
            self.fail_server(exchange);
        }
        let again = retry::after_no_connection(exchange);
        if again {
            self.shared.metrics.retried(exchange);
        }
        error.set_retry(again);
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        if matches!(error.etype(), ErrorType::HTTPStatus(_)) && error.retry() {
            return error;
        }
        let answered = has_answered(session);
        let next = if answered { Next::End } else { retry::after_failure(session, exchange, &mut error, reused) };
        if next != Next::Same && *error.esource() == ErrorSource::Upstream {
            self.fail_server(exchange);
        }
        if next != Next::End {
            self.shared.metrics.retried(exchange);
        }
        error.set_retry(next != Next::End);
        error
    }

    /// Every failure is in the decision record and the metrics; pingora's own lines would repeat them with path and query.
    fn suppress_error_log(&self, _: &Session, _: &Exchange, _: &Error) -> bool {
        true
    }

    fn request_summary(&self, _: &Session, exchange: &Exchange) -> String {
        format!("decision {}", exchange.id.to_text())
    }
}
