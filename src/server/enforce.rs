//! Steps 1 to 9 of the decision, for every face of the gateway: the proxy, the watch of WebSockets,
//! and those to come. It takes facts of a request and no session. Nothing is counted: the limits of
//! steps 1 and 10 are calls of their own, for a request that is about to be forwarded.

use std::time::Instant;

use super::state::Shared;
use super::state::snapshot::Snapshot;
use crate::names::Timestamp;
use crate::policy::Judgement;
use crate::policy::decide::{Moment, Opened, check_network, judge, open};
use crate::request::Request;

/// What came of a request.
#[derive(Debug)]
pub struct Enforced {
    /// The judgement.
    pub judgement: Judgement,
    /// While its token was read, where somebody wants to know.
    pub identified: Option<(Instant, Instant)>,
}

impl From<Judgement> for Enforced {
    fn from(judgement: Judgement) -> Self {
        Self { judgement, identified: None }
    }
}

/// Judges a request, and reads its token where one is called for: the only await between a request
/// and its verdict.
pub async fn enforce(
    shared: &Shared,
    snapshot: &Snapshot,
    request: &Request,
    now: Timestamp,
) -> Enforced {
    let rules = snapshot.rules();
    let network = {
        let blocks = shared.tokens.revocations.blocks();
        check_network(rules, request.address, Moment { now, blocks: &blocks })
    };
    if let Err(refusal) = network {
        return Judgement::refused(refusal).into();
    }
    let (matched, token) = match open(rules, request) {
        Opened::Decided(judgement) => return (*judgement).into(),
        Opened::Token(matched, token) => (matched, token),
    };
    let begun = snapshot.otlp.as_ref().map(|_| Instant::now());
    let verified =
        shared.tokens.verify(&snapshot.issuers, rules, token, Some(matched.operation), now).await;
    let identified = begun.map(|begun| (begun, Instant::now()));
    let facts = match verified {
        Ok(facts) => facts,
        Err(refusal) => {
            return Enforced { judgement: Judgement::refused_at(matched, refusal), identified };
        }
    };
    let issuer = facts.issuer.clone();
    let blocks = shared.tokens.revocations.blocks();
    let judgement = judge(rules, request, matched, facts, Moment { now, blocks: &blocks });
    if let Err(refusal) = &judgement.outcome {
        shared.metrics.tokens.fault(issuer.declared(), refusal);
    }
    Enforced { judgement, identified }
}
