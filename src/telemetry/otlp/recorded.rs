//! What a request that is recorded leaves behind: plain data, of which spans are made elsewhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::names::IssuerName;
use crate::policy::Rules;
use crate::policy::route::OperationId;
use crate::request::trace::TraceParent;
use crate::telemetry::decision_id::DecisionId;

/// A request that is recorded. Never a token, a secret or a query; of a path what a decision record
/// has of it. Times count from the head of the request.
#[derive(Debug)]
pub struct Recorded {
    /// The span that a trusted caller is in.
    pub parent: Option<TraceParent>,
    /// What its tracing systems wrote besides.
    pub state: Option<Box<str>>,
    /// What the upstream was told: our span there.
    pub told: TraceParent,
    /// The ids of our other spans.
    pub spans: Spans,
    /// When it ended, nanoseconds since the epoch.
    pub ended: u64,
    /// How long it took.
    pub total: Duration,
    /// When the verdict was there.
    pub decided: Option<Duration>,
    /// While its token was read.
    pub identified: Option<Interval>,
    /// What was asked of an upstream.
    pub call: Option<Call>,
    /// The decision.
    pub decision: DecisionId,
    /// The method, as judged.
    pub method: String,
    /// It came over HTTP/2.
    pub http2: bool,
    /// The caller's address.
    pub address: Option<IpAddr>,
    /// What it was for.
    pub target: Target,
    /// Who issued its token.
    pub issuer: Option<IssuerName>,
    /// Its client.
    pub client: Option<String>,
    /// How it ended.
    pub conclusion: Conclusion,
    /// The set that decided.
    pub set: Arc<str>,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
}

/// How a request ended: the parts of a record that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// `permit` or `refuse`.
    pub verdict: &'static str,
    /// Reason of a refusal, or the error code of an endpoint of our own.
    pub reason: Option<&'static str>,
    /// What was wrong with the token, of a closed list: a text may quote a stranger's words, and
    /// stays in the decision record.
    pub fault: &'static str,
}

/// The ids of spans.
#[derive(Clone, Copy, Debug)]
pub struct Spans {
    /// Of the whole request.
    pub server: u64,
    /// Of the decision.
    pub decide: u64,
    /// Of reading the token.
    pub identify: u64,
}

/// A time within a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Its beginning.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

/// What was asked of an upstream.
#[derive(Clone, Debug)]
pub struct Call {
    /// From choosing a server to the end of its answer.
    pub time: Interval,
    /// `host[:port]` of the server that was asked last.
    pub authority: HeaderValue,
    /// Its port.
    pub port: u16,
    /// Status of its answer.
    pub status: Option<u16>,
    /// Tries besides the first one.
    pub resends: u8,
}

/// What a request was for.
#[derive(Clone, Debug)]
pub enum Target {
    /// An operation of an API.
    Operation(Arc<Rules>, OperationId),
    /// An endpoint of our own.
    Endpoint(&'static str),
    /// Nothing that is known: the host, and the beginning of the path.
    Unmatched {
        /// Without port.
        host: String,
        /// At most four segments.
        path: String,
    },
    /// Nobody knows: its head could not be read.
    Unread,
}

impl Recorded {
    /// Whether it was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.conclusion.verdict != "permit"
    }

    /// How many spans are made of it.
    #[must_use]
    pub fn span_count(&self) -> u64 {
        1 + u64::from(self.decided.is_some())
            + u64::from(self.identified.is_some())
            + u64::from(self.call.is_some())
    }
}
