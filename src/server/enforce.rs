//! Steps 2 to 9 of the decision, for every face of the gateway: the proxy, the watch of WebSockets, and whoever else asks. No session
//! is needed, and nothing is counted.

use super::state::Shared;
use super::state::snapshot::Snapshot;
use crate::names::Timestamp;
use crate::policy::Judgement;
use crate::policy::decide::{Moment, Opened, judge, open};
use crate::request::Request;

/// Judges a request, and reads its token where one is called for: the only await between a request and its verdict.
pub async fn enforce(shared: &Shared, snapshot: &Snapshot, request: &Request, now: Timestamp) -> Judgement {
    let rules = snapshot.rules();
    let (matched, token) = match open(rules, request) {
        Opened::Decided(judgement) => return *judgement,
        Opened::Token(matched, token) => (matched, token),
    };
    let facts = match shared.tokens.verify(&snapshot.issuers, rules, token, Some(matched.operation), now).await {
        Ok(facts) => facts,
        Err(refusal) => return Judgement::refused_at(matched, refusal),
    };
    let issuer = facts.issuer.clone();
    let blocks = shared.tokens.revocations.blocks();
    let judgement = judge(rules, request, matched, facts, Moment { now, blocks: &blocks });
    if let Err(refusal) = &judgement.outcome {
        shared.metrics.token_fault(issuer.as_str(), refusal);
    }
    judgement
}
