//! One exchange: how far it has come. Anything but permitted is not forwarded.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use tokio_util::sync::DropGuard;

use super::trace::Trace;
use crate::names::Timestamp;
use crate::policy::definition::{Api, ErrorFormat};
use crate::policy::principal::Principal;
use crate::policy::route::{Matched, OperationId};
use crate::policy::{Judgement, Permit};
use crate::reason::{Reason, Refusal, Verdict};
use crate::request::headers::is_alias;
use crate::request::original::Dialect;
use crate::request::target::Target;
use crate::server::limits::quota::RateLimitStatus;
use crate::server::oauth::Outcome;
use crate::server::state::snapshot::Snapshot;
use crate::server::upstream::Slot;
use crate::store::Store;
use crate::telemetry::decision_id::DecisionId;
use crate::telemetry::shadow_difference::ShadowDifference;

/// How far an exchange has come.
#[derive(Debug)]
pub enum Stage {
    /// Nothing decided.
    Received,
    /// Decided: it may be forwarded.
    Permitted(Box<Permitted>),
    /// Refused.
    Refused(Box<Refused>),
    /// Answered by an endpoint of our own.
    Endpoint(&'static str, Outcome),
}

/// A permitted exchange.
#[derive(Debug)]
pub struct Permitted {
    /// The proof.
    pub permit: Permit,
    /// What was matched.
    pub matched: Matched,
    /// Who calls; nobody on public operations.
    pub principal: Option<Principal>,
    /// What shadow rules would have said.
    pub shadow: Option<Verdict>,
    /// The target as judged: checked against what is forwarded.
    pub target: Target,
    /// How it is sent to a server.
    pub attempt: Attempt,
    /// It asks for a WebSocket, and its API lets it.
    pub websocket: bool,
    /// The subprotocols that its client offers besides `bearer` and the token, where it offers
    /// these.
    pub protocols: Option<Vec<String>>,
    /// Watches its tunnel.
    pub watch: Option<DropGuard>,
    /// How much of its body has come.
    pub body: BodyCount,
    /// How the tightest of its limits stands.
    pub rate_limit: Option<RateLimitStatus>,
    /// A refusal after the permit: the upstream failed, or the body grew too large.
    pub failed: Option<Refusal>,
}

/// How a permitted request is sent to a server, and to another one.
#[derive(Debug, Default)]
pub struct Attempt {
    /// The place taken at the server chosen.
    pub slot: Option<Slot>,
    /// The head may have been sent to the server chosen.
    pub sent: bool,
    /// Servers that this request has been sent to, or would not connect.
    pub tried: Vec<SocketAddr>,
    /// Tries on another server, so far.
    pub retries: u8,
    /// Interim answers so far.
    pub informational: u8,
}

/// The count of a body, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyCount {
    /// The most that may come.
    pub max: u64,
    /// What has come so far.
    pub received: u64,
}

impl Permitted {
    /// Tells callers apart where the same one is to reach the same server: by client and subject,
    /// or by address.
    #[must_use]
    pub fn caller(&self, address: Option<IpAddr>) -> u64 {
        let mut hash = DefaultHasher::new();
        match &self.principal {
            Some(principal) => {
                (
                    principal.facts().issuer.as_str(),
                    principal.client().id.as_str(),
                    &principal.facts().subject,
                )
                    .hash(&mut hash);
            }
            None => address.hash(&mut hash),
        }
        hash.finish()
    }
}

/// A refused exchange.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// What was matched, if anything.
    pub matched: Option<Matched>,
    /// Who calls, if known.
    pub principal: Option<Principal>,
    /// What shadow rules would have said.
    pub shadow: Option<Verdict>,
    /// How the limit stands that refused it.
    pub rate_limit: Option<RateLimitStatus>,
}

impl Refused {
    /// A refusal before anything was matched.
    #[must_use]
    pub const fn early(refusal: Refusal) -> Self {
        Self { refusal, matched: None, principal: None, shadow: None, rate_limit: None }
    }
}

/// What a request without an operation asked for, bounded for its record.
#[derive(Debug)]
pub struct Unmatched {
    /// Host without port.
    pub host: String,
    /// The beginning of the path.
    pub path: String,
}

/// Longest host of a record, in bytes: the longest DNS name.
const MAX_HOST: usize = 253;
/// Most segments of a path in a record.
const MAX_SEGMENTS: usize = 4;
/// Longest beginning of a path in a record, in bytes.
const MAX_PATH: usize = 128;
/// Longest segment of a path in a record, in bytes. What is longer may be a secret or a token: ours
/// have 43 characters at least.
const MAX_SEGMENT: usize = 40;

impl Unmatched {
    /// The bounded form of a host and a canonical path.
    #[must_use]
    pub fn of(host: &str, path: &str) -> Self {
        let mut beginning = String::new();
        for (at, segment) in path.split('/').skip(1).enumerate() {
            let is_over = at == MAX_SEGMENTS
                || segment.len() > MAX_SEGMENT
                || beginning.len() + 1 + segment.len() > MAX_PATH;
            beginning.push('/');
            if is_over {
                beginning.push('…');
                break;
            }
            beginning.push_str(segment);
        }
        Self { host: host.chars().take(MAX_HOST).collect(), path: beginning }
    }
}

/// The context of one request.
#[derive(Debug)]
pub struct Exchange {
    /// The configuration it is judged by.
    pub snapshot: Arc<Snapshot>,
    /// Its id.
    pub id: DecisionId,
    /// When its head was there.
    pub started: Instant,
    /// Time until the verdict.
    pub decided: Option<Duration>,
    /// The client's address, if one is to be believed.
    pub address: Option<IpAddr>,
    /// The method as sent.
    pub method: String,
    /// It came over HTTP/2.
    pub http2: bool,
    /// It came from a trusted proxy, whose request id and trace are kept.
    pub trusted: bool,
    /// The id that the caller and the upstream know it by, and the header it stands in.
    pub request_id: Option<(HeaderName, HeaderValue)>,
    /// The trace it is in; none without a collector.
    pub trace: Option<Trace>,
    /// The origin whose page may read the answer.
    pub origin: Option<HeaderValue>,
    /// What the candidate set would change.
    pub difference: Option<ShadowDifference>,
    /// The host proxy that asks about it, and forwards it.
    pub asked_by: Option<Dialect>,
    /// What was asked for, where no operation was matched.
    pub unmatched: Option<Unmatched>,
    /// How far it has come.
    pub stage: Stage,
    /// Status of the answer; 0 while none was sent.
    pub status: u16,
}

impl Exchange {
    /// A new exchange under a configuration.
    #[must_use]
    pub fn new(id: DecisionId, snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            id,
            started: Instant::now(),
            decided: None,
            address: None,
            method: String::new(),
            http2: false,
            trusted: false,
            request_id: None,
            trace: None,
            origin: None,
            difference: None,
            asked_by: None,
            unmatched: None,
            stage: Stage::Received,
            status: 0,
        }
    }

    /// The operation, once matched.
    #[must_use]
    pub fn operation(&self) -> Option<OperationId> {
        match &self.stage {
            Stage::Permitted(permitted) => Some(permitted.permit.operation()),
            Stage::Refused(refused) => refused.matched.as_ref().map(|matched| matched.operation),
            Stage::Received | Stage::Endpoint(..) => None,
        }
    }

    /// The API, once the operation is matched.
    #[must_use]
    pub fn api(&self) -> Option<&Api> {
        self.operation().and_then(|operation| self.snapshot.rules().api_of(operation))
    }

    /// The name of the upstream, once the operation is matched.
    #[must_use]
    pub fn upstream(&self) -> &str {
        self.api().map_or("", |api| api.upstream.as_str())
    }

    /// Whether a header is the one that the request id stands in.
    #[must_use]
    pub fn is_request_id(&self, name: &str) -> bool {
        // In every spelling that readers take for it.
        self.request_id.as_ref().is_some_and(|(header, _)| is_alias(header.as_str(), name))
    }

    /// The body that refusals of this exchange have.
    #[must_use]
    pub fn error_format(&self) -> ErrorFormat {
        self.api().map_or(ErrorFormat::Problem, |api| api.error_format)
    }

    /// Takes the verdict in.
    pub fn settle(&mut self, judgement: Judgement, target: Target) {
        let Judgement { operation, principal, outcome, shadow } = judgement;
        self.decided = Some(self.started.elapsed());
        self.stage = match (outcome, operation) {
            (Ok(permit), Some(matched)) => Stage::Permitted(Box::new(Permitted {
                permit,
                matched,
                principal,
                shadow,
                target,
                attempt: Attempt::default(),
                websocket: false,
                protocols: None,
                watch: None,
                body: BodyCount::default(),
                rate_limit: None,
                failed: None,
            })),
            (Ok(_), None) => {
                Stage::Refused(Box::new(Refused::early(Refusal::new(Reason::GatewayBroken))))
            }
            (Err(refusal), matched) => Stage::Refused(Box::new(Refused {
                refusal,
                matched,
                principal,
                shadow,
                rate_limit: None,
            })),
        };
    }

    /// Step 10: counts a permitted request; one over a limit is refused after all.
    pub async fn count(&mut self, store: &Store, now: Timestamp) {
        let Stage::Permitted(permitted) = &mut self.stage else { return };
        let rules = self.snapshot.rules();
        let counted =
            rules.counted(&permitted.matched, permitted.principal.as_ref(), self.address).collect();
        let (refusal, rate_limit) = match self.snapshot.counted.take(store, counted, now).await {
            Ok(rate_limit) => {
                permitted.rate_limit = rate_limit;
                return;
            }
            Err(refused) => refused,
        };
        self.revoke(refusal);
        if let Stage::Refused(refused) = &mut self.stage {
            refused.rate_limit = Some(rate_limit);
        }
    }

    /// Refuses after all what was permitted.
    pub fn revoke(&mut self, refusal: Refusal) {
        if let Stage::Permitted(permitted) = std::mem::replace(&mut self.stage, Stage::Received) {
            let Permitted { matched, principal, .. } = *permitted;
            // It is no rule that refuses now: what shadow rules say of it changes nothing.
            let refused = Refused {
                refusal,
                matched: Some(matched),
                principal,
                shadow: None,
                rate_limit: None,
            };
            self.stage = Stage::Refused(Box::new(refused));
        }
    }

    /// Ends it with a refusal before a verdict.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.decided.get_or_insert_with(|| self.started.elapsed());
        self.stage = Stage::Refused(Box::new(Refused::early(refusal)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_only_the_beginning_of_a_path_and_nothing_that_may_be_a_secret() {
        let secret = "s".repeat(43);
        for (path, kept) in [
            ("/", "/"),
            ("/api/now/table/incident", "/api/now/table/incident"),
            ("/api/now/table/incident/", "/api/now/table/incident/…"),
            ("/api/now/table/incident/7", "/api/now/table/incident/…"),
            (&format!("/reset/{secret}/x"), "/reset/…"),
            (
                &format!("/{0}/{0}/{0}/{0}", "a".repeat(40)),
                &format!("/{0}/{0}/{0}/…", "a".repeat(40)),
            ),
        ] {
            assert_eq!(Unmatched::of("h", path).path, kept);
        }
        assert_eq!(Unmatched::of(&"h".repeat(500), "/").host.len(), MAX_HOST);
    }
}
