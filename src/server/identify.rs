//! Step 5, the impure half: from a token's text to verified facts. The only await between a request and its verdict.

use std::sync::Arc;

use super::Shared;
use super::cache::{self, TokenDigest};
use super::snapshot::Snapshot;
use crate::grant::opaque::{Kind, ValueDigest};
use crate::keys::VerifyFault;
use crate::names::IssuerName;
use crate::policy::Issuer;
use crate::reason::{Reason, Refusal, Remedy, TokenFault};
use crate::request::credential::BearerToken;
use crate::token::jws::Unverified;
use crate::token::{Facts, KeySet};

/// Seconds after which a caller may try again when an issuer cannot be asked.
const RETRY_AFTER: u32 = 5;

/// Reads a token: out of the cache, or by its signature.
///
/// # Errors
/// `token.invalid` with its fault; `issuer.unavailable`, `store.unavailable` when keys or store cannot be asked.
pub async fn identify(shared: &Shared, snapshot: &Snapshot, token: &BearerToken) -> Result<Arc<Facts>, Refusal> {
    let facts = read(shared, snapshot, token).await?;
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

async fn read(shared: &Shared, snapshot: &Snapshot, token: &BearerToken) -> Result<Arc<Facts>, Refusal> {
    let digest = cache::digest(token.expose());
    if let Some(facts) = shared.cache.find(&digest, snapshot.issuers).filter(|facts| is_signed(shared, snapshot, facts))
    {
        shared.metrics.cache_hits.inc();
        return Ok(facts);
    }
    shared.metrics.cache_misses.inc();
    if let Some(stored) = Kind::Access.digest(token.expose()) {
        // A token with our own prefix never leaves (decisions.md, "Foreign opaque tokens").
        return opaque(shared, snapshot, digest, stored).await;
    }
    let parsed = match Unverified::parse(token.expose()) {
        Ok(parsed) => parsed,
        Err(fault) => return Err(refuse(shared, "", fault)),
    };
    // The claim is not verified: it chooses whose keys are asked, and nothing else.
    let issuer = parsed
        .claims
        .get("iss")
        .and_then(serde_json::Value::as_str)
        .and_then(|iss| snapshot.rules().issuer_by_claim(iss));
    let Some(issuer) = issuer else { return Err(refuse(shared, "", TokenFault::Issuer)) };
    if looks_expired(&parsed, issuer) {
        return Err(refuse(shared, issuer.rules.name.as_str(), TokenFault::Expired));
    }
    let facts = verify(shared, snapshot, issuer, &parsed).await?;
    Ok(remember(shared, snapshot, digest, facts))
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
fn looks_expired(parsed: &Unverified<'_>, issuer: &Issuer) -> bool {
    let expires = parsed.claims.get("exp").and_then(serde_json::Value::as_i64);
    expires.is_some_and(|expires| super::clock::now().0 >= expires.saturating_add(issuer.rules.leeway))
}

fn remember(shared: &Shared, snapshot: &Snapshot, digest: TokenDigest, facts: Facts) -> Arc<Facts> {
    let facts = Arc::new(facts);
    shared.cache.put(digest, snapshot.issuers, facts.clone());
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
