//! Step 5, the impure half: from a token's text to verified facts. The only await between a request and its verdict.

use std::sync::Arc;

use super::Shared;
use super::cache::{self, TokenDigest};
use super::introspection;
use super::snapshot::Snapshot;
use crate::grant::opaque::{Kind, ValueDigest};
use crate::keys::VerifyFault;
use crate::names::{IssuerName, Timestamp};
use crate::policy::decide::{Moment, Opened, judge, open};
use crate::policy::route::OperationId;
use crate::policy::{Issuer, Judgement};
use crate::reason::{Reason, Refusal, Remedy, TokenFault};
use crate::request::Request;
use crate::request::credential::BearerToken;
use crate::token::jws::Unverified;
use crate::token::{Facts, KeySet};

/// Seconds after which a caller may try again when an issuer cannot be asked.
const RETRY_AFTER: u32 = 5;

/// Steps 2 to 9: the decision, with the reading of the token where it is called for.
pub async fn decide(shared: &Arc<Shared>, snapshot: &Arc<Snapshot>, request: &Request, now: Timestamp) -> Judgement {
    match open(snapshot.rules(), request) {
        Opened::Decided(judgement) => *judgement,
        Opened::Token(matched, token) => match identify(shared, snapshot, token, Some(matched.operation), now).await {
            Ok(facts) => {
                let issuer = facts.issuer.clone();
                let blocks = shared.revocations.blocks();
                let moment = Moment { now, blocks: &blocks };
                let judgement = judge(snapshot.rules(), request, matched, facts, moment);
                if let Err(refusal) = &judgement.outcome {
                    shared.metrics.token_fault(issuer.as_str(), refusal);
                }
                judgement
            }
            Err(refusal) => Judgement::refused_at(matched, refusal),
        },
    }
}

/// Reads a token: out of the cache, or by its signature.
///
/// # Errors
/// `token.invalid` with its fault; `issuer.unavailable`, `store.unavailable` when keys or store cannot be asked.
pub async fn identify(
    shared: &Shared,
    snapshot: &Snapshot,
    token: &BearerToken,
    operation: Option<OperationId>,
    now: Timestamp,
) -> Result<Arc<Facts>, Refusal> {
    let facts = read(shared, snapshot, token, operation, now).await?;
    if shared.revocations.is_stale() {
        let text = format!("what has been revoked elsewhere is not known for {} s", shared.revocations.age().as_secs());
        let refusal = Refusal::because(Reason::StoreUnavailable, text);
        return Err(refusal.with(Remedy::RetryAfter(RETRY_AFTER)));
    }
    // Judged every time, whatever the cache says: a revocation bites on the next request.
    if shared.revocations.has(&facts, snapshot.rules().registry()) {
        return Err(refuse(shared, facts.issuer.as_str(), TokenFault::Revoked));
    }
    Ok(facts)
}

async fn read(
    shared: &Shared,
    snapshot: &Snapshot,
    token: &BearerToken,
    operation: Option<OperationId>,
    now: Timestamp,
) -> Result<Arc<Facts>, Refusal> {
    let digest = cache::digest(token.expose());
    let known = shared.cache.find(&digest, snapshot.issuers, now);
    let known = known.filter(|facts| is_signed(shared, snapshot, facts));
    if let Some(facts) = known.filter(|facts| is_asked(snapshot, facts, token, operation)) {
        shared.metrics.cache_hits.inc();
        return Ok(facts);
    }
    shared.metrics.cache_misses.inc();
    let rules = snapshot.rules();
    if let Some(stored) = Kind::Access.digest(token.expose()) {
        // A token with our own prefix never leaves (decisions.md, "Foreign opaque tokens").
        return opaque(shared, snapshot, digest, stored).await;
    }
    if let Some(issuer) = rules.issuer_by_prefix(token.expose()) {
        return ask(shared, snapshot, issuer, token, digest).await;
    }
    let parsed = match Unverified::parse(token.expose()) {
        Ok(parsed) => parsed,
        Err(fault) => {
            let issuer = issuer_of_opaque(snapshot, token, operation);
            let Some(issuer) = issuer else { return Err(refuse(shared, "", fault)) };
            return ask(shared, snapshot, issuer, token, digest).await;
        }
    };
    // The claim is not verified: it chooses whose keys are asked, and nothing else.
    let claimed = parsed.claims.get("iss").and_then(serde_json::Value::as_str);
    let Some(issuer) = claimed.and_then(|iss| rules.issuer_by_claim(iss)) else {
        return Err(refuse(shared, "", TokenFault::Issuer));
    };
    if looks_expired(&parsed, issuer, now) {
        return Err(refuse(shared, issuer.rules.name.as_str(), TokenFault::Expired));
    }
    if issuer.opaque.as_ref().is_some_and(|opaque| opaque.jwts_too) {
        return ask(shared, snapshot, issuer, token, digest).await;
    }
    let facts = verify(shared, snapshot, issuer, &parsed).await?;
    Ok(remember(shared, snapshot, digest, facts))
}

/// The issuer that is asked about a token which is neither ours nor a JWT, not even one that we cannot read.
fn issuer_of_opaque<'a>(
    snapshot: &'a Snapshot,
    token: &BearerToken,
    operation: Option<OperationId>,
) -> Option<&'a Issuer> {
    let text = token.expose();
    let own = Kind::ALL.iter().any(|kind| text.starts_with(kind.prefix()));
    // `{"` in base64url: the header of a JWS or JWE (RFC 7515 §7.1, RFC 7516 §7.1).
    let jwt = text.starts_with("eyJ") && text.contains('.');
    if own || jwt { None } else { snapshot.rules().issuer_of_opaque(text, operation?) }
}

/// Whether what an issuer said of an opaque token counts for this operation: where the operation chooses whom to ask, another one
/// may not have been asked.
fn is_asked(snapshot: &Snapshot, facts: &Facts, token: &BearerToken, operation: Option<OperationId>) -> bool {
    let issuer = snapshot.rules().issuer(facts.issuer.as_str());
    let by_operation = issuer.and_then(|issuer| issuer.opaque.as_ref()).is_some_and(|opaque| opaque.prefix.is_none());
    if !by_operation || facts.key.is_some() || token.expose().starts_with("eyJ") {
        return true;
    }
    issuer_of_opaque(snapshot, token, operation).is_some_and(|issuer| issuer.rules.name == facts.issuer)
}

/// A token of another issuer that only the issuer can read.
async fn ask(
    shared: &Shared,
    snapshot: &Snapshot,
    issuer: &Issuer,
    token: &BearerToken,
    digest: TokenDigest,
) -> Result<Arc<Facts>, Refusal> {
    let name = &issuer.rules.name;
    let Some(introspection) = snapshot.introspections.get(name) else {
        return Err(refuse(shared, name.as_str(), TokenFault::Issuer));
    };
    match introspection.ask(shared, &issuer.rules, token.expose(), digest, snapshot.issuers).await {
        Ok((facts, until)) => {
            shared.cache.put(digest, snapshot.issuers, facts.clone(), Some(until));
            Ok(facts)
        }
        Err(introspection::Fault::Token(fault)) => Err(refuse(shared, name.as_str(), fault)),
        Err(introspection::Fault::Unavailable(cause)) => {
            let refusal = Refusal::because(Reason::IssuerUnavailable, format!("`{name}` cannot be asked: {cause}"));
            Err(refusal.with(Remedy::RetryAfter(RETRY_AFTER)))
        }
    }
}

/// An opaque token of our own: what the store says of it.
async fn opaque(
    shared: &Shared,
    snapshot: &Snapshot,
    digest: TokenDigest,
    stored: ValueDigest,
) -> Result<Arc<Facts>, Refusal> {
    let found = shared.store.access(stored).await.map_err(|fault| {
        let refusal = Refusal::because(Reason::StoreUnavailable, fault.to_string());
        refusal.with(Remedy::RetryAfter(RETRY_AFTER))
    })?;
    let Some(found) = found else { return Err(refuse(shared, IssuerName::OWN, TokenFault::Inactive)) };
    Ok(remember(shared, snapshot, digest, found.into_facts()))
}

/// Refusing must be cheaper than serving: a token that says itself that it has expired is not worth a signature check.
fn looks_expired(parsed: &Unverified<'_>, issuer: &Issuer, now: Timestamp) -> bool {
    let expires = parsed.claims.get("exp").and_then(serde_json::Value::as_i64);
    expires.is_some_and(|expires| now.0 >= expires.saturating_add(issuer.rules.leeway))
}

fn remember(shared: &Shared, snapshot: &Snapshot, digest: TokenDigest, facts: Facts) -> Arc<Facts> {
    let facts = Arc::new(facts);
    shared.cache.put(digest, snapshot.issuers, facts.clone(), None);
    facts
}

async fn verify(
    shared: &Shared,
    snapshot: &Snapshot,
    issuer: &Issuer,
    parsed: &Unverified<'_>,
) -> Result<Facts, Refusal> {
    let name = &issuer.rules.name;
    let wrong = |fault| refuse(shared, name.as_str(), fault);
    let Some(keys) = snapshot.keys.get(name) else {
        return issuer.rules.verify(parsed, &keys_of(shared, snapshot, issuer)).map_err(wrong);
    };
    keys.verify(|keys| issuer.rules.verify(parsed, keys)).await.map_err(|fault| match fault {
        VerifyFault::Token(fault) => wrong(fault),
        VerifyFault::Unavailable => {
            let refusal =
                Refusal::because(Reason::IssuerUnavailable, format!("the keys of `{name}` cannot be fetched"));
            refusal.with(Remedy::RetryAfter(RETRY_AFTER))
        }
    })
}

/// Whether the key that signed is still one of the issuer's. Where it is not, the token is verified anew: the key may have been
/// removed, or the issuer's keys may not be there at all, which is our outage.
fn is_signed(shared: &Shared, snapshot: &Snapshot, facts: &Facts) -> bool {
    let issuer = snapshot.rules().issuer(facts.issuer.as_str());
    issuer.is_some_and(|issuer| facts.key.is_none_or(|key| keys_of(shared, snapshot, issuer).has(&key)))
}

/// The keys of an issuer as they are now, without waiting.
fn keys_of(shared: &Shared, snapshot: &Snapshot, issuer: &Issuer) -> Arc<KeySet> {
    if issuer.rules.name.is_own() {
        return shared.own_keys.now().set().clone();
    }
    snapshot.keys.get(&issuer.rules.name).map(|keys| keys.set()).unwrap_or_default()
}

fn refuse(shared: &Shared, issuer: &str, fault: TokenFault) -> Refusal {
    let refusal = Refusal::token(fault);
    shared.metrics.token_fault(issuer, &refusal);
    refusal
}
