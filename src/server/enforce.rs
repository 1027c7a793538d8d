//! Steps 1 to 9 of the decision, for every face of the gateway: the proxy, the watch of WebSockets,
//! and those to come. It takes facts of a request and no session. Nothing is counted: the limits of
//! steps 1 and 10 are calls of their own, for a request that is about to be forwarded.

use super::state::Shared;
use super::state::snapshot::Snapshot;
use crate::names::Timestamp;
use crate::policy::Judgement;
use crate::policy::decide::{Moment, Opened, check_network, judge, open};
use crate::request::Request;

/// Judges a request, and reads its token where one is called for: the only await between a request
/// and its verdict.
pub async fn enforce(
    shared: &Shared,
    snapshot: &Snapshot,
    request: &Request,
    now: Timestamp,
) -> Judgement {
    let rules = snapshot.rules();
    let network = {
        let blocks = shared.tokens.revocations.blocks();
        check_network(rules, request.address, Moment { now, blocks: &blocks })
    };
    if let Err(refusal) = network {
        return Judgement::refused(refusal);
    }
    let (matched, token) = match open(rules, request) {
        Opened::Decided(judgement) => return *judgement,
        Opened::Token(matched, token) => (matched, token),
    };
    let facts = match shared
        .tokens
        .verify(&snapshot.issuers, rules, token, Some(matched.operation), now)
        .await
    {
        Ok(facts) => facts,
        Err(refusal) => return Judgement::refused_at(matched, refusal),
    };
    let issuer = facts.issuer.clone();
    let blocks = shared.tokens.revocations.blocks();
    let judgement = judge(rules, request, matched, facts, Moment { now, blocks: &blocks });
    if let Err(refusal) = &judgement.outcome {
        shared.metrics.tokens.fault(issuer.declared(), refusal);
    }
    judgement
}
