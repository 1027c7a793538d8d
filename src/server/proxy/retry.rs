//! Whether a request that failed is tried on another server. Never when it may have been acted on:
//! one that is not idempotent is sent once.

use pingora::{Error, ErrorType};

use super::exchange::{Exchange, Permitted, Stage};
use crate::server::upstream::Servers;

/// Servers tried at most for one request, whatever the settings.
pub const TRIES: usize = 8;
/// Those that would not connect: each costs the time to connect.
const UNCONNECTED: usize = 3;
/// Tries after servers that never began with the request.
const NEVER_BEGUN: u8 = 3;

/// What comes after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The end.
    End,
    /// Another try, and the server is not at fault: a pooled connection had died, or it never began
    /// with the request.
    Again,
    /// Another server, because this one failed.
    Another,
}

/// What of a request bears on sending it once more.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Sending it twice is as sending it once (RFC 9110 §9.2.2).
    pub is_idempotent: bool,
    /// All of its body that was sent is still here.
    pub is_whole: bool,
}

impl Replay {
    /// That of a request of this method.
    #[must_use]
    pub fn new(method: &str, is_whole: bool) -> Self {
        let method = http::Method::from_bytes(method.as_bytes());
        Self { is_idempotent: method.is_ok_and(|method| method.is_idempotent()), is_whole }
    }

    const fn is_harmless(self) -> bool {
        self.is_idempotent && self.is_whole
    }
}

fn parts(exchange: &mut Exchange) -> Option<(&mut Permitted, std::sync::Arc<Servers>)> {
    let Stage::Permitted(permitted) = &mut exchange.stage else { return None };
    let servers = exchange.snapshot.servers(permitted.permit.operation())?.clone();
    Some((permitted, servers))
}

/// Notes the failure at its server; true when the server is left out from now on.
pub fn note_failure(exchange: &mut Exchange) -> bool {
    let Some((permitted, _)) = parts(exchange) else { return false };
    permitted.attempt.slot.as_ref().is_some_and(|slot| slot.ended(false))
}

/// After a connection could not be made: nothing was sent, so another server may be tried, whatever
/// the method.
pub fn after_no_connection(exchange: &mut Exchange) -> bool {
    let Some((permitted, servers)) = parts(exchange) else { return false };
    if let Some(slot) = &permitted.attempt.slot {
        permitted.attempt.tried.push(slot.member.address.socket);
    }
    permitted.attempt.tried.len() < UNCONNECTED
        && servers.has_another(&permitted.attempt.tried)
        && servers.budget.retry()
}

/// After something failed on a connection. `reused` is whether the connection had served before:
/// then the server may just have closed it, and the library says whether it had answered anything.
pub fn after_failure(
    replay: Replay,
    exchange: &mut Exchange,
    error: &mut Error,
    reused: bool,
) -> Next {
    let Some((permitted, servers)) = parts(exchange) else { return Next::End };
    if permitted.failed.is_some() {
        return Next::End;
    }
    if never_began(error) {
        return if replay.is_whole && after_refused_stream(permitted, &servers) {
            Next::Again
        } else {
            Next::End
        };
    }
    if permitted.attempt.sent && !replay.is_harmless() {
        return Next::End;
    }
    error.retry.decide_reuse(reused);
    if error.retry() {
        // A pooled connection that had died: the same server is as good as any.
        return if servers.budget.retry() { Next::Again } else { Next::End };
    }
    if is_upstream(error) && again(permitted, &servers) { Next::Another } else { Next::End }
}

/// Whether the server said that it never began with the request, and never will: it refused the
/// stream, or ended the connection before it (RFC 9113 §8.7).
#[must_use]
pub fn never_began(error: &Error) -> bool {
    let Some(error) = error.root_cause().downcast_ref::<h2::Error>() else { return false };
    error.is_remote()
        && (error.is_go_away()
            || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)))
}

/// Whether a request that a server never began with is sent again, whatever its method: to another
/// server where there is one.
fn after_refused_stream(permitted: &mut Permitted, servers: &Servers) -> bool {
    if permitted.attempt.retries >= NEVER_BEGUN || !servers.budget.retry() {
        return false;
    }
    permitted.attempt.retries += 1;
    if let Some(slot) = &permitted.attempt.slot {
        let tried = slot.member.address.socket;
        permitted.attempt.tried.push(tried);
        if !servers.has_another(&permitted.attempt.tried) {
            permitted.attempt.tried.pop();
        }
    }
    true
}

/// Whether an answer is worth another try: the server says that it cannot, and another may.
pub fn instead_of(status: u16, replay: Replay, exchange: &mut Exchange) -> bool {
    let Some((permitted, servers)) = parts(exchange) else { return false };
    is_incapable(status) && replay.is_harmless() && again(permitted, &servers)
}

/// Statuses that count as a failure of the server.
#[must_use]
pub const fn is_incapable(status: u16) -> bool {
    matches!(status, 502..=504)
}

fn is_upstream(error: &Error) -> bool {
    *error.esource() == pingora::ErrorSource::Upstream
        && !matches!(error.etype(), ErrorType::InvalidHTTPHeader)
}

/// Takes one of the tries that the settings and the budget leave.
fn again(permitted: &mut Permitted, servers: &Servers) -> bool {
    if let Some(slot) = &permitted.attempt.slot {
        permitted.attempt.tried.push(slot.member.address.socket);
    }
    let left = permitted.attempt.retries < servers.declared.retries
        && permitted.attempt.tried.len() < TRIES;
    if !left || !servers.has_another(&permitted.attempt.tried) || !servers.budget.retry() {
        return false;
    }
    permitted.attempt.retries += 1;
    true
}
