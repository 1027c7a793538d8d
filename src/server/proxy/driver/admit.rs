//! The way of a request to its verdict: steps 0 to 10, and what is answered here.

use std::sync::Arc;

use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::{Gateway, tunnel};
use crate::policy::decide::{Moment, check_network, preflight};
use crate::reason::{Reason, Refusal};
use crate::request::address::client_address;
use crate::request::credential::bearer;
use crate::request::head::Head;
use crate::request::method::Method;
use crate::request::{Asked, Request};
use crate::server::edge::bridge;
use crate::server::edge::conn::Conn;
use crate::server::enforce::enforce;
use crate::server::oauth;
use crate::server::proxy::exchange::{Exchange, Stage};
use crate::server::proxy::{cors, refusal};
use crate::system::clock;

/// Longest request id taken over from a caller.
const MAX_REQUEST_ID: usize = 128;

impl Gateway {
    /// Steps 0 to 9, in order. True when the request has been answered here.
    pub(super) async fn admit(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<bool> {
        // Known before the head is: a refusal of the head says who sent it. What a proxy forwards
        // counts once the head is good.
        let Some(conn) = Conn::of(session.as_downstream()).cloned() else {
            let refusal = Refusal::because(
                Reason::RequestMalformed,
                "a connection that the guard does not know",
            );
            return self.refuse_head(session, exchange, refusal).await;
        };
        let peer = Some(conn.peer);
        exchange.http2 = conn.http2;
        exchange.trusted = exchange.snapshot.config.trusted_proxies.contains(conn.peer);
        self.name_request(session, exchange);
        exchange.address =
            peer.filter(|peer| !exchange.snapshot.config.trusted_proxies.contains(*peer));
        let head = match conn.take_head(session.as_downstream()) {
            Some(Ok(head)) if is_same(&head, session.req_header()) => head,
            Some(Ok(_)) => {
                let refusal = Refusal::because(
                    Reason::RequestMalformed,
                    "the guard and the proxy read different requests",
                );
                return self.refuse_head(session, exchange, refusal).await;
            }
            Some(Err(refusal)) => return self.refuse_head(session, exchange, refusal).await,
            // The guard reads every head; a request it has not seen is one that something smuggled
            // past it.
            None => {
                let refusal = Refusal::because(
                    Reason::RequestMalformed,
                    "a request that the guard has not read",
                );
                return self.refuse_head(session, exchange, refusal).await;
            }
        };
        let now = clock::now();
        let snapshot = exchange.snapshot.clone();
        exchange.method.clone_from(&head.method);
        exchange.address = Self::address(session, peer, &snapshot.config.trusted_proxies);
        let refused = {
            let blocks = self.shared.tokens.revocations.blocks();
            // Before anything is counted, and of our own endpoints too.
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
        let most = self.shared.fixed.edge.limits.token_bytes;
        let credential = bearer(lines.iter().map(http::HeaderValue::as_bytes), most);
        let (websocket, length) = (head.websocket, head.length);
        let mut request = Request::new(head, exchange.address, credential);
        request.certificate.clone_from(&conn.certificate);
        let mut origins = session.req_header().headers.get_all(http::header::ORIGIN).iter();
        // Of several none can be believed.
        let origin = origins.next().filter(|_| origins.next().is_none()).cloned();
        if let Some(origin) = &origin
            && let Some(answered) = self.preflight(session, exchange, &mut request, origin).await?
        {
            return Ok(answered);
        }
        let judgement = enforce(&self.shared, &snapshot, &request, now).await;
        if self.shared.candidate.file().is_some() {
            let blocks = self.shared.tokens.revocations.blocks();
            exchange.difference = self.shared.candidate.difference(
                &request,
                &judgement,
                Moment { now, blocks: &blocks },
            );
        }
        exchange.settle(judgement, request.target.clone());
        exchange.origin = exchange.api().and_then(|api| cors::admitted(api, origin.as_ref()));
        self.bound_body(session, exchange, length);
        exchange.count(&self.shared.store, now).await;
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
            (1..=MAX_REQUEST_ID).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
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
        request.asked = asked.map_or(Asked::Nothing, |asked| {
            let method = asked.to_str().ok().and_then(Method::judged);
            method.map_or(Asked::Unknown, Asked::Method)
        });
        let snapshot = exchange.snapshot.clone();
        match preflight(snapshot.rules(), request) {
            None => Ok(None),
            Some(Ok(preflight)) => {
                let api = snapshot.rules().api_of(preflight.operation);
                exchange.origin = api.and_then(|api| cors::admitted(api, Some(origin)));
                cors::answer_preflight(session, exchange, &preflight).await?;
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
        let most = exchange
            .api()
            .and_then(|api| api.max_body)
            .unwrap_or(self.shared.fixed.edge.limits.body_bytes);
        if let Stage::Permitted(permitted) = &mut exchange.stage {
            permitted.body.max = most;
            if length > most {
                session.set_keepalive(None);
                exchange.revoke(Refusal::new(Reason::RequestBody));
            }
        }
    }

    /// Lets a WebSocket handshake through where the API does, and watches what becomes of it.
    /// Everywhere else the request is plain HTTP.
    fn open_tunnel(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        conn: &Arc<Conn>,
        request: Request,
    ) {
        let offered = exchange.api().is_some_and(|api| api.websocket);
        match &mut exchange.stage {
            Stage::Permitted(permitted) if offered => {
                permitted.websocket = true;
                permitted.watch = Some(tunnel::watch(self.shared.clone(), conn.clone(), request));
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

    async fn refuse_head(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        refusal: Refusal,
    ) -> Result<bool> {
        exchange.refuse(refusal.clone());
        refusal::refuse(session, exchange, &refusal, true).await?;
        Ok(true)
    }

    async fn refuse(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        refusal: Refusal,
    ) -> Result<bool> {
        exchange.refuse(refusal.clone());
        refusal::refuse(session, exchange, &refusal, false).await?;
        Ok(true)
    }

    async fn answer_if_refused(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<bool> {
        let Stage::Refused(refused) = &exchange.stage else { return Ok(false) };
        let refusal = refused.refusal.clone();
        refusal::refuse(session, exchange, &refusal, false).await?;
        Ok(true)
    }

    async fn serve_endpoint(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        endpoint: &'static str,
    ) -> Result<bool> {
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
            }
            Err(_) => return Err(Error::new_down(ErrorType::ReadTimedout)),
        }
        Ok(true)
    }
}

/// Whether the head that was read strictly is the one that the proxy will forward: the last line of
/// defence against a request that is judged as another one.
fn is_same(head: &Head, forwarded: &RequestHeader) -> bool {
    let host = forwarded.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    forwarded.method.as_str() == head.method
        && forwarded.raw_path() == head.target.as_str().as_bytes()
        && host.and_then(crate::request::head::host_name).as_ref() == Some(&head.host)
}
