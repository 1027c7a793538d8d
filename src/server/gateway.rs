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
use super::{Shared, answer, authorization, bridge, clock, forward, identify, outcome};
use crate::policy::Judgement;
use crate::policy::decide::{Moment, Opened, check_network, judge, open};
use crate::reason::{Reason, Refusal};
use crate::request::Request;
use crate::request::address::client_address;
use crate::request::credential::bearer;
use crate::request::head::Head;

/// A body that outgrew its limit after the request was permitted.
const BODY_TOO_LARGE: ErrorType = ErrorType::Custom("body too large");

/// Interim answers (1xx) taken for one request: each is relayed and starts the upstream's time anew.
const MAX_INFORMATIONAL: u8 = 16;
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
        let request = Request::new(head, exchange.address, credential);
        let judgement = self.decide(exchange, &request, now).await;
        exchange.settle(judgement, request.target);
        exchange.count(&self.shared.store, now).await;
        self.answer_if_refused(session, exchange).await
    }

    /// Steps 2 to 9.
    async fn decide(&self, exchange: &Exchange, request: &Request, now: crate::names::Timestamp) -> Judgement {
        let snapshot = &exchange.snapshot;
        match open(snapshot.rules(), request) {
            Opened::Decided(judgement) => *judgement,
            Opened::Token(matched, token) => {
                match identify::identify(&self.shared, snapshot, token, Some(matched.operation), now).await {
                    Ok(facts) => {
                        let issuer = facts.issuer.clone();
                        let blocks = self.shared.revocations.blocks();
                        let moment = Moment { now, blocks: &blocks };
                        let judgement = judge(snapshot.rules(), request, matched, facts, moment);
                        if let Err(refusal) = &judgement.outcome {
                            self.shared.metrics.token_fault(issuer.as_str(), refusal);
                        }
                        judgement
                    }
                    Err(refusal) => Judgement::refused_at(matched, refusal),
                }
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
        let wanted = session.get_keepalive().is_some() && !self.shared.life.is_draining();
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
        let snapshot = exchange.snapshot.clone();
        let permitted = permitted(exchange)?;
        // Asked again for a retry: what the try before it left behind does not count.
        (permitted.failed, permitted.body) = (None, 0);
        let Some((peer, server)) = forward::peer(&permitted.permit, &snapshot) else {
            permitted.failed =
                Some(Refusal::because(Reason::UpstreamUnavailable, "no server of the upstream has an address"));
            return Error::e_explain(ErrorType::ConnectNoRoute, "no server of the upstream has an address");
        };
        permitted.server = Some(server);
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let snapshot = exchange.snapshot.clone();
        let address = exchange.address;
        forward::prepare(head, permitted(exchange)?, &snapshot, self.shared.scheme(), address)
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
        let limit = self.shared.fixed.edge.limits.body_bytes;
        let permitted = permitted(exchange)?;
        permitted.body += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if permitted.body > limit {
            permitted.failed = Some(Refusal::new(Reason::RequestBody));
            return Err(Error::new_down(BODY_TOO_LARGE));
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        head: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if head.status.is_informational() {
            let permitted = permitted(exchange)?;
            permitted.informational += 1;
            if permitted.informational > MAX_INFORMATIONAL {
                return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
            }
        }
        // Nobody asked for another protocol: what follows a 101 would be bytes of unknown meaning.
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
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
            tracing::debug!(%error, id = ?exchange.id, "an exchange failed");
        }
        exchange.record();
    }

    /// Nothing was sent yet: another server may be tried, whatever the method.
    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, _: &mut Exchange, mut error: Box<Error>) -> Box<Error> {
        error.set_retry(true);
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
