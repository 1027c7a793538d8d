//! The way of a request to its verdict: steps 0 to 10, and what is answered at once.

use std::sync::Arc;

use http::HeaderValue;
use pingora::Result;
use pingora::http::RequestHeader;

use super::client::Requester;
use super::driver::Gateway;
use super::exchange::{Exchange, Stage, Unmatched};
use super::trace::Trace;
use super::{cors, refusal, tunnel};
use crate::policy::Judgement;
use crate::policy::decide::{Moment, Opened, check_network, method_judged, open, preflight};
use crate::reason::{Reason, Refusal};
use crate::request::address::client_address;
use crate::request::credential::bearer;
use crate::request::fields::Fields;
use crate::request::head::Head;
use crate::request::method::Method;
use crate::request::subprotocol::take_token;
use crate::request::{Asked, Request};
use crate::server::edge::conn::Conn;
use crate::server::enforce::{Enforced, enforce};
use crate::server::state::snapshot::Snapshot;
use crate::system::clock;

/// Longest request id taken over from a caller.
const MAX_REQUEST_ID: usize = 128;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It has been answered.
    Answered,
    /// It is for this endpoint of our own.
    Endpoint(&'static str),
    /// It is permitted.
    Forward,
}

impl Gateway {
    /// Steps 0 to 10, in order.
    pub(super) async fn admit<C: Requester>(
        &self,
        client: &mut C,
        conn: &Arc<Conn>,
        head: std::result::Result<Head, Refusal>,
        exchange: &mut Exchange,
    ) -> Result<Admitted> {
        // Known before the head is: a refusal of the head says who sent it. What a proxy forwards
        // counts once the head is good.
        let peer = conn.peer;
        exchange.http2 = conn.http2;
        exchange.trusted = conn.speaks_for_clients(&exchange.snapshot.config.trusted_proxies);
        // A host hands on what its clients say: nothing of it is believed but what it says itself.
        let is_believed = exchange.trusted && !client.is_host();
        self.name_request(client.fields(), is_believed, exchange);
        if let Some(otlp) = &exchange.snapshot.otlp {
            let trace = Trace::begin(&otlp.sampler, client.fields(), is_believed);
            exchange.trace = Some(trace);
        }
        exchange.address = peer.filter(|_| !exchange.trusted);
        let mut head = match head {
            Ok(head) => head,
            // A host's connection has framed well what it asks about.
            Err(refusal) => {
                let close = !client.is_host();
                return Box::pin(self.refuse(client, exchange, refusal, close)).await;
            }
        };
        let now = clock::now();
        let snapshot = exchange.snapshot.clone();
        if exchange.trusted {
            let lines: Vec<&[u8]> = client.fields().all("x-forwarded-for").collect();
            let trusted = &snapshot.config.trusted_proxies;
            exchange.address = client_address(peer, lines.into_iter(), trusted);
        }
        let refused = {
            let blocks = self.shared.tokens.revocations.blocks();
            // Before anything is counted, and of our own endpoints too.
            check_network(snapshot.rules(), exchange.address, Moment { now, blocks: &blocks })
        };
        if let Err(refusal) = refused {
            exchange.method = std::mem::take(&mut head.method);
            exchange.unmatched = Some(Unmatched::of(&head.host, head.target.path()));
            return Box::pin(self.refuse(client, exchange, refusal, false)).await;
        }
        if let Err(refusal) = snapshot.limits.take(exchange.address.or(peer)) {
            exchange.method = std::mem::take(&mut head.method);
            exchange.unmatched = Some(Unmatched::of(&head.host, head.target.path()));
            return Box::pin(self.refuse(client, exchange, refusal, false)).await;
        }
        if let Some(endpoint) = self.endpoints.find(&snapshot, &head) {
            let refused = head.check_own().err();
            exchange.method = std::mem::take(&mut head.method);
            return match refused {
                Some(refusal) => {
                    exchange.unmatched = Some(Unmatched::of(&head.host, head.target.path()));
                    Box::pin(self.refuse(client, exchange, refusal, false)).await
                }
                None => Ok(Admitted::Endpoint(endpoint)),
            };
        }
        let most = self.shared.fixed.edge.limits.token_bytes;
        let credential = bearer(client.fields().all("authorization"), most);
        let (websocket, length) = (head.websocket, head.length);
        exchange.method.clone_from(&head.method);
        let mut request = Request::new(head, exchange.address, credential);
        request.certificate.clone_from(&conn.certificate);
        let mut protocols = None;
        if websocket && takes_token_in_protocol(&snapshot, &request) {
            let lines = client.fields().all("sec-websocket-protocol");
            if let Some(offered) = take_token(lines, most) {
                // Two credentials are refused, wherever they are (RFC 6750 §2).
                request.credential = if client.fields().has("authorization") {
                    Err(Refusal::new(Reason::TokenSeveral))
                } else {
                    offered.token
                };
                protocols = Some(offered.others);
            }
        }
        let origin = origin(client.fields());
        // To a host an answer of success is a permit: it would forward what is never forwarded.
        if let Some(origin) = &origin
            && !client.is_host()
            && Box::pin(self.preflight(client, exchange, &mut request, origin)).await?
        {
            return Ok(Admitted::Answered);
        }
        if let (Some(_), Ok(Some(method))) =
            (request.overriding, method_judged(snapshot.rules(), &request))
        {
            // Recorded, retried and forwarded as what it is judged as.
            method.as_str().clone_into(&mut exchange.method);
            client.become_method(method);
        }
        let Enforced { judgement, identified } =
            enforce(&self.shared, &snapshot, &request, now).await;
        if let Some(trace) = &mut exchange.trace {
            trace.identified = identified;
        }
        if self.shared.candidate.file().is_some() {
            let blocks = self.shared.tokens.revocations.blocks();
            exchange.difference = self.shared.candidate.difference(
                &request,
                &judgement,
                Moment { now, blocks: &blocks },
            );
        }
        let handshake = websocket.then(|| request.clone());
        note_unmatched(exchange, &judgement, &request);
        exchange.settle(judgement, request.target);
        exchange.origin = exchange.api().and_then(|api| cors::admitted(api, origin.as_ref()));
        self.bound_body(client, exchange, length);
        if !snapshot.rules().limits().is_empty() {
            Box::pin(exchange.count(&self.shared.store, now)).await;
        }
        if let Some(request) = handshake {
            self.open_tunnel(client, exchange, conn, request);
            if let Stage::Permitted(permitted) = &mut exchange.stage {
                permitted.protocols = protocols;
            }
        }
        self.answer_if_refused(client, exchange).await
    }

    /// The id that the caller gives the request, if the caller is trusted; ours otherwise.
    fn name_request(&self, fields: &impl Fields, is_believed: bool, exchange: &mut Exchange) {
        let Some(name) = &self.shared.request_id else { return };
        let said = if is_believed { fields.first(name.as_str()) } else { None };
        let fits = |value: &&[u8]| {
            (1..=MAX_REQUEST_ID).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
        };
        let said = said.filter(fits).and_then(|value| HeaderValue::from_bytes(value).ok());
        let value = said.unwrap_or_else(|| exchange.id.to_value());
        exchange.request_id = Some((name.clone(), value));
    }

    /// Answers a preflight of an API with `cors`; false where the request is none.
    async fn preflight<C: Requester>(
        &self,
        client: &mut C,
        exchange: &mut Exchange,
        request: &mut Request,
        origin: &HeaderValue,
    ) -> Result<bool> {
        let asked = client.fields().first("access-control-request-method");
        request.asked = asked.map_or(Asked::Nothing, |asked| {
            let method = std::str::from_utf8(asked).ok().and_then(Method::judged);
            method.map_or(Asked::Unknown, Asked::Method)
        });
        let snapshot = exchange.snapshot.clone();
        match preflight(snapshot.rules(), request) {
            None => Ok(false),
            Some(Ok(preflight)) => {
                let api = snapshot.rules().api_of(preflight.operation);
                exchange.origin = api.and_then(|api| cors::admitted(api, Some(origin)));
                cors::answer_preflight(client, exchange, &preflight).await?;
                Ok(true)
            }
            Some(Err(judgement)) => {
                note_unmatched(exchange, &judgement, request);
                exchange.settle(*judgement, request.target.clone());
                Ok(self.answer_if_refused(client, exchange).await? == Admitted::Answered)
            }
        }
    }

    /// Step 0 again, where the API has a limit of its own.
    fn bound_body<C: Requester>(&self, client: &mut C, exchange: &mut Exchange, length: u64) {
        let most = exchange
            .api()
            .and_then(|api| api.max_body)
            .unwrap_or(self.shared.fixed.edge.limits.body_bytes);
        if let Stage::Permitted(permitted) = &mut exchange.stage {
            permitted.body.max = most;
            if length > most {
                client.close();
                exchange.revoke(Refusal::new(Reason::RequestBody));
            }
        }
    }

    /// Lets a WebSocket handshake through where the API does, and watches what becomes of it.
    /// Everywhere else the request is plain HTTP.
    fn open_tunnel<C: Requester>(
        &self,
        client: &mut C,
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
                client.forget_upgrade();
            }
        }
    }

    async fn refuse<C: Requester>(
        &self,
        client: &mut C,
        exchange: &mut Exchange,
        refusal: Refusal,
        close: bool,
    ) -> Result<Admitted> {
        exchange.refuse(refusal.clone());
        refusal::refuse(client, exchange, &refusal, close).await?;
        Ok(Admitted::Answered)
    }

    async fn answer_if_refused<C: Requester>(
        &self,
        client: &mut C,
        exchange: &mut Exchange,
    ) -> Result<Admitted> {
        let Stage::Refused(refused) = &exchange.stage else { return Ok(Admitted::Forward) };
        let refusal = refused.refusal.clone();
        Box::pin(refusal::refuse(client, exchange, &refusal, false)).await?;
        Ok(Admitted::Answered)
    }
}

/// Whether the API of a request takes tokens among the subprotocols of a handshake.
fn takes_token_in_protocol(snapshot: &Snapshot, request: &Request) -> bool {
    let rules = snapshot.rules();
    let takes = |operation| rules.api_of(operation).is_some_and(|api| api.token_in_protocol);
    if !rules.apis().iter().any(|api| api.token_in_protocol) {
        return false;
    }
    match open(rules, request) {
        Opened::Token(matched, _) => takes(matched.operation),
        Opened::Decided(judgement) => {
            judgement.operation.is_some_and(|matched| takes(matched.operation))
        }
    }
}

/// Keeps for the record what was asked for, where nothing else says it.
fn note_unmatched(exchange: &mut Exchange, judgement: &Judgement, request: &Request) {
    if judgement.operation.is_none() {
        exchange.unmatched = Some(Unmatched::of(&request.host, request.target.path()));
    }
}

/// The origin that a request names; of several none can be believed.
fn origin(fields: &impl Fields) -> Option<HeaderValue> {
    let mut origins = fields.all("origin");
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    HeaderValue::from_bytes(origin).ok()
}

/// Whether the head that was read strictly is the one that the proxy will forward: the last line of
/// defence against a request that is judged as another one.
pub(super) fn is_same(head: &Head, forwarded: &RequestHeader) -> bool {
    let host = forwarded.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    forwarded.method.as_str() == head.method
        && forwarded.raw_path() == head.target.carried().as_bytes()
        && host.and_then(crate::request::head::host_name).as_ref() == Some(&head.host)
}
