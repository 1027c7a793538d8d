//! The trace that a request is in, while it lasts: whose it is, what the upstream is told of it,
//! and the times that nothing else keeps. There is none without a collector.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, Stage};
use crate::request::fields::Fields;
use crate::request::trace::{TRACEPARENT, TRACESTATE, TraceParent, joined_state};
use crate::server::limits::sampling::Sampler;
use crate::server::upstream::Member;
use crate::system::clock;
use crate::telemetry::otlp::recorded::{Call, Conclusion, Interval, Recorded, Spans, Target};

/// The trace of one exchange.
#[derive(Debug)]
pub struct Trace {
    /// The span that the caller is in, if it is trusted and says so.
    pub parent: Option<TraceParent>,
    /// What the upstream is told: the span of our request to it.
    pub told: TraceParent,
    /// What the caller's tracing systems wrote, where the trace is recorded.
    state: Option<Box<str>>,
    /// While the token was read.
    pub identified: Option<(Instant, Instant)>,
    upstream: Option<Upstream>,
}

/// What is known of the request to an upstream.
#[derive(Debug)]
struct Upstream {
    began: Instant,
    ended: Option<Instant>,
    /// The server that was asked last.
    server: Arc<Member>,
    status: Option<u16>,
    resends: u8,
}

impl Trace {
    /// The trace of a request. That of a caller who is not believed begins here.
    #[must_use]
    pub fn begin(sampler: &Sampler, fields: &impl Fields, is_believed: bool) -> Self {
        let parent = if is_believed { parent(fields) } else { None };
        let span = fastrand::u64(..);
        let told = parent.map_or_else(
            || {
                let trace = fastrand::u128(..);
                TraceParent::new(trace, span, sampler.share().has(trace))
            },
            |parent| parent.child(span),
        );
        let is_kept = parent.is_some_and(TraceParent::is_sampled);
        let state = if is_kept { joined_state(fields.all(TRACESTATE)) } else { None };
        Self { parent, told, state, identified: None, upstream: None }
    }

    /// A server is asked.
    pub fn ask(&mut self, server: Arc<Member>) {
        match &mut self.upstream {
            Some(upstream) => {
                upstream.server = server;
                upstream.resends = upstream.resends.saturating_add(1);
            }
            None => {
                self.upstream = Some(Upstream {
                    began: Instant::now(),
                    ended: None,
                    server,
                    status: None,
                    resends: 0,
                });
            }
        }
    }

    /// The server has answered with this status.
    pub fn answered(&mut self, status: u16) {
        if let Some(upstream) = &mut self.upstream {
            upstream.status = Some(status);
        }
    }

    /// The server's answer is over.
    pub fn ended(&mut self) {
        if let Some(upstream) = &mut self.upstream {
            upstream.ended = Some(Instant::now());
        }
    }
}

/// The span that a caller is in; of several it cannot be told.
fn parent(fields: &impl Fields) -> Option<TraceParent> {
    let mut lines = fields.all(TRACEPARENT);
    let line = lines.next().filter(|_| lines.next().is_none())?;
    TraceParent::parse(line)
}

/// Whether an exchange is recorded, now that it is over: its trace is, or it was refused and there
/// is a budget for that.
#[must_use]
pub fn is_recorded(exchange: &Exchange, is_refused: bool) -> bool {
    let (Some(trace), Some(otlp)) = (&exchange.trace, &exchange.snapshot.otlp) else {
        return false;
    };
    trace.told.is_sampled() || (is_refused && otlp.sampler.take_refusal())
}

/// What is recorded of an exchange.
#[must_use]
pub fn recorded(
    exchange: &Exchange,
    trace: &Trace,
    conclusion: Conclusion,
    total: Duration,
) -> Recorded {
    let since = |moment: Instant| moment.saturating_duration_since(exchange.started);
    let principal = match &exchange.stage {
        Stage::Permitted(permitted) => permitted.principal.as_ref(),
        Stage::Refused(refused) => refused.principal.as_ref(),
        Stage::Received | Stage::Endpoint(..) => None,
    };
    let of_endpoint = match &exchange.stage {
        Stage::Endpoint(_, outcome) => outcome.client.clone(),
        Stage::Received | Stage::Permitted(_) | Stage::Refused(_) => None,
    };
    Recorded {
        parent: trace.parent,
        state: trace.state.clone(),
        told: trace.told,
        spans: Spans {
            server: fastrand::u64(1..),
            decide: fastrand::u64(1..),
            identify: fastrand::u64(1..),
        },
        ended: clock::now_nanoseconds(),
        total,
        decided: exchange.decided,
        identified: trace
            .identified
            .map(|(from, to)| Interval { from: since(from), to: since(to) }),
        call: trace.upstream.as_ref().map(|upstream| Call {
            time: Interval { from: since(upstream.began), to: upstream.ended.map_or(total, since) },
            authority: upstream.server.address.authority.clone(),
            port: upstream.server.address.socket.port(),
            status: upstream.status,
            resends: upstream.resends,
        }),
        decision: exchange.id,
        method: exchange.method.clone(),
        http2: exchange.http2,
        address: exchange.address,
        target: target(exchange),
        issuer: principal.map(|principal| principal.facts().issuer.clone()),
        client: principal.map(|principal| principal.client().id.to_string()).or(of_endpoint),
        conclusion,
        set: exchange.snapshot.config.version.clone(),
        status: exchange.status,
    }
}

fn target(exchange: &Exchange) -> Target {
    if let Stage::Endpoint(path, _) = &exchange.stage {
        return Target::Endpoint(path);
    }
    match (exchange.operation(), &exchange.unmatched) {
        (Some(operation), _) => {
            Target::Operation(exchange.snapshot.config.rules.clone(), operation)
        }
        (None, Some(asked)) => {
            Target::Unmatched { host: asked.host.clone(), path: asked.path.clone() }
        }
        (None, None) => Target::Unread,
    }
}
