//! WebSockets: a handshake that was permitted makes a tunnel, and the tunnel lives as long as its
//! handshake would be permitted.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::exchange::{Exchange, Stage};
use crate::reason::Reason;
use crate::request::Request;
use crate::request::fields::Fields;
use crate::request::subprotocol::BEARER;
use crate::server::edge::conn::Conn;
use crate::server::enforce::enforce;
use crate::server::state::Shared;
use crate::system::clock;
use crate::telemetry::cause::ConnectionCut;

/// How often a tunnel is judged again. What was revoked, blocked or changed bites within two
/// seconds.
const AGAIN: Duration = Duration::from_secs(1);

/// Judges the request of a tunnel again and again, until what this gives is dropped; ends the
/// tunnel once it would be refused.
#[must_use]
pub(super) fn watch(shared: Arc<Shared>, conn: Arc<Conn>, request: Request) -> DropGuard {
    let over = CancellationToken::new();
    let guard = over.clone().drop_guard();
    tokio::spawn(async move {
        let watching = async {
            loop {
                tokio::time::sleep(AGAIN).await;
                if !is_permitted(&shared, &request).await {
                    shared.metrics.edge.connection_cut(ConnectionCut::Tunnel);
                    return conn.end_tunnel();
                }
            }
        };
        tokio::select! {
            () = watching => {}
            () = over.cancelled() => {}
        }
    });
    guard
}

async fn is_permitted(shared: &Arc<Shared>, request: &Request) -> bool {
    let (snapshot, now) = (shared.snapshot(), clock::now());
    let Err(refusal) = enforce(shared, &snapshot, request, now).await.judgement.outcome else {
        return true;
    };
    // Our own outage ends no tunnel, as long as what was revoked is known well enough.
    let is_outage = matches!(refusal.reason, Reason::IssuerUnavailable | Reason::StoreUnavailable);
    is_outage && !shared.tokens.revocations.is_stale()
}

/// Whether an answer is one that makes a WebSocket (RFC 6455 §4.1). Where the client offers a token
/// among its subprotocols, the one that the server selects must be one of the others, or `bearer`.
#[must_use]
pub(super) fn is_handshake(status: u16, fields: &impl Fields, exchange: &Exchange) -> bool {
    let offered = match &exchange.stage {
        Stage::Permitted(permitted) => permitted.protocols.as_ref(),
        Stage::Received | Stage::Refused(_) | Stage::Endpoint(..) => None,
    };
    let mut selected = fields.all("sec-websocket-protocol");
    let is_offered = offered.is_none_or(|others| match (selected.next(), selected.next()) {
        (None, _) => true,
        (Some(name), None) => {
            name == BEARER.as_bytes() || others.iter().any(|other| other.as_bytes() == name)
        }
        (Some(_), Some(_)) => false,
    });
    is_offered
        && status == StatusCode::SWITCHING_PROTOCOLS.as_u16()
        && fields.first("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
        && fields.has("sec-websocket-accept")
}
