//! WebSockets: a handshake that was permitted makes a tunnel, and the tunnel lives as long as its
//! handshake would be permitted.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::reason::Reason;
use crate::request::Request;
use crate::request::fields::Fields;
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
    let Err(refusal) = enforce(shared, &snapshot, request, now).await.outcome else { return true };
    // Our own outage ends no tunnel, as long as what was revoked is known well enough.
    let is_outage = matches!(refusal.reason, Reason::IssuerUnavailable | Reason::StoreUnavailable);
    is_outage && !shared.tokens.revocations.is_stale()
}

/// Whether an answer is one that makes a WebSocket (RFC 6455 §4.1).
#[must_use]
pub(super) fn is_handshake(status: u16, fields: &impl Fields) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS.as_u16()
        && fields.first("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
        && fields.has("sec-websocket-accept")
}
