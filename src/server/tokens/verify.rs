//! Step 5, the impure half: from a token's text to verified facts.

use std::sync::Arc;

use super::cache::{self, TokenDigest};
use super::{Issuers, Tokens, introspection};
use crate::grant::opaque::{Kind, ValueDigest};
use crate::keys::VerifyFault;
use crate::names::{IssuerName, Timestamp};
use crate::policy::route::OperationId;
use crate::policy::{Issuer, Rules};
use crate::reason::{Reason, Refusal, Remedy, TokenError, TokenFault};
use crate::request::credential::BearerToken;
use crate::token::json::Json;
use crate::token::jws::{self, Decoded, Unverified};
use crate::token::{Facts, KeySet, unknown_issuer};

/// Seconds after which a caller may try again when an issuer cannot be asked.
const RETRY_AFTER: u32 = 5;

impl Tokens {
    /// Reads a token: out of the cache, or by its signature.
    ///
    /// # Errors
    /// `token.invalid` with its fault; `issuer.unavailable`, `store.unavailable` when keys or store
    /// cannot be asked.
    pub async fn verify(
        &self,
        issuers: &Issuers,
        rules: &Rules,
        token: &BearerToken,
        operation: Option<OperationId>,
        now: Timestamp,
    ) -> Result<Arc<Facts>, Refusal> {
        let facts = self.read(issuers, rules, token, operation, now).await?;
        if self.revocations.is_stale() {
            let text = format!(
                "what has been revoked elsewhere is not known for {} s",
                self.revocations.age().as_secs()
            );
            let refusal = Refusal::because(Reason::StoreUnavailable, text);
            return Err(refusal.with(Remedy::RetryAfter(RETRY_AFTER)));
        }
        // Judged every time, whatever the cache says: a revocation bites on the next request.
        if self.revocations.has(&facts, rules.registry()) {
            return Err(self.refuse(facts.issuer.declared(), TokenFault::Revoked));
        }
        Ok(facts)
    }

    async fn read(
        &self,
        issuers: &Issuers,
        rules: &Rules,
        token: &BearerToken,
        operation: Option<OperationId>,
        now: Timestamp,
    ) -> Result<Arc<Facts>, Refusal> {
        let digest = cache::digest(token.expose());
        let known = self.cache.find(&digest, issuers.settings, now);
        let known = known.filter(|facts| self.is_signed(issuers, rules, facts));
        if let Some(facts) = known.filter(|facts| is_asked(rules, facts, token, operation)) {
            self.metrics.tokens.cache_hits.inc();
            return Ok(facts);
        }
        self.metrics.tokens.cache_misses.inc();
        if let Some(stored) = Kind::Access.digest(token.expose()) {
            // A token with our own prefix never leaves (decisions.md, "Foreign opaque tokens").
            return Box::pin(self.read_opaque(issuers, digest, stored)).await;
        }
        if let Some(issuer) = rules.issuer_by_prefix(token.expose()) {
            return Box::pin(self.ask_issuer(issuers, issuer, token, digest)).await;
        }
        let decoded = Decoded::of(token.expose());
        let parsed = match decoded.as_ref().map_err(|fault| *fault).and_then(Decoded::read) {
            Ok(parsed) => parsed,
            Err(fault) => {
                let issuer = issuer_of_opaque(rules, token, operation);
                let described = || jws::described(token.expose(), fault);
                let Some(issuer) = issuer else { return Err(self.refuse("", described())) };
                return Box::pin(self.ask_issuer(issuers, issuer, token, digest)).await;
            }
        };
        // The claim is not verified: it chooses whose keys are asked, and nothing else.
        let claimed = parsed.claims.get("iss").and_then(Json::as_str);
        let Some(issuer) = claimed.and_then(|iss| rules.issuer_by_claim(iss)) else {
            return Err(self.refuse("", unknown_issuer(claimed)));
        };
        if let Some(exp) = looks_expired(&parsed, issuer, now) {
            let text = format!("exp is {exp}, the time is {}", now.0);
            let error = TokenError::because(TokenFault::Expired, text);
            return Err(self.refuse(issuer.rules.name.as_str(), error));
        }
        if issuer.opaque.as_ref().is_some_and(|opaque| opaque.jwts_too) {
            return Box::pin(self.ask_issuer(issuers, issuer, token, digest)).await;
        }
        let name = issuer.rules.name.as_str();
        let set = || issuers.settings ^ self.keys_of(issuers, issuer).fingerprint();
        if let Err(error) = issuer.rules.check_header(&parsed) {
            return Err(self.refuse(name, error));
        }
        if let Some(fault) = self.failed.find(&digest, set(), now) {
            // Its key may have been published since.
            issuers.keys.get(&issuer.rules.name).iter().for_each(|keys| keys.nudge());
            return Err(self.refuse(name, fault));
        }
        match Box::pin(self.verify_signature(issuers, issuer, &parsed)).await {
            Ok(facts) => Ok(self.remember(issuers, digest, facts)),
            Err(refusal) => {
                // Sent again, it is not worth another check before the issuer has other keys.
                if refusal.fault.label() == TokenFault::Signature.label() {
                    self.failed.put(digest, set(), TokenFault::Signature, None);
                }
                Err(refusal)
            }
        }
    }

    /// A token of another issuer that only the issuer can read.
    async fn ask_issuer(
        &self,
        issuers: &Issuers,
        issuer: &Issuer,
        token: &BearerToken,
        digest: TokenDigest,
    ) -> Result<Arc<Facts>, Refusal> {
        let name = &issuer.rules.name;
        let Some(introspection) = issuers.introspections.get(name) else {
            return Err(self.refuse(name.as_str(), TokenFault::Issuer));
        };
        match introspection
            .ask(&self.metrics, &issuer.rules, token.expose(), (digest, issuers.settings))
            .await
        {
            Ok((facts, until)) => {
                self.cache.put(digest, issuers.settings, facts.clone(), Some(until));
                Ok(facts)
            }
            Err(introspection::Fault::Token(fault)) => Err(self.refuse(name.as_str(), fault)),
            Err(introspection::Fault::Unavailable(cause)) => {
                let refusal = Refusal::because(
                    Reason::IssuerUnavailable,
                    format!("`{name}` cannot be asked: {cause}"),
                );
                Err(refusal.with(Remedy::RetryAfter(RETRY_AFTER)))
            }
        }
    }

    /// An opaque token of our own: what the store says of it.
    async fn read_opaque(
        &self,
        issuers: &Issuers,
        digest: TokenDigest,
        stored: ValueDigest,
    ) -> Result<Arc<Facts>, Refusal> {
        let found = self.store.access(stored).await.map_err(|fault| {
            let refusal = Refusal::because(Reason::StoreUnavailable, fault.to_string());
            refusal.with(Remedy::RetryAfter(RETRY_AFTER))
        })?;
        let Some(found) = found else {
            return Err(self.refuse(IssuerName::OWN, TokenFault::Inactive));
        };
        Ok(self.remember(issuers, digest, found.into_facts()))
    }

    fn remember(&self, issuers: &Issuers, digest: TokenDigest, facts: Facts) -> Arc<Facts> {
        let facts = Arc::new(facts);
        self.cache.put(digest, issuers.settings, facts.clone(), None);
        facts
    }

    async fn verify_signature(
        &self,
        issuers: &Issuers,
        issuer: &Issuer,
        parsed: &Unverified<'_>,
    ) -> Result<Facts, Refusal> {
        let name = &issuer.rules.name;
        let wrong = |error: TokenError| self.refuse(name.as_str(), error);
        let Some(keys) = issuers.keys.get(name) else {
            return issuer.rules.verify(parsed, &self.keys_of(issuers, issuer)).map_err(wrong);
        };
        let check = |keys: &KeySet| issuer.rules.verify(parsed, keys);
        let verified = keys.verify(parsed.key_id.as_deref(), check).await;
        verified.map_err(|fault| match fault {
            VerifyFault::Token(fault) => wrong(fault),
            VerifyFault::Unavailable(why) => {
                let text = format!("the keys of `{name}` cannot be fetched: {why}");
                let refusal = Refusal::because(Reason::IssuerUnavailable, text);
                refusal.with(Remedy::RetryAfter(RETRY_AFTER))
            }
        })
    }

    /// Whether the key that signed is still one of the issuer's. Where it is not, the token is
    /// verified anew: the key may have been removed, or the issuer's keys may not be there at all,
    /// which is our outage.
    fn is_signed(&self, issuers: &Issuers, rules: &Rules, facts: &Facts) -> bool {
        let issuer = rules.issuer(facts.issuer.as_str());
        issuer.is_some_and(|issuer| {
            facts.key.is_none_or(|key| self.keys_of(issuers, issuer).has(&key))
        })
    }

    /// The keys of an issuer as they are now, without waiting.
    fn keys_of(&self, issuers: &Issuers, issuer: &Issuer) -> Arc<KeySet> {
        if issuer.rules.name.is_own() {
            return self.own_keys.now().set().clone();
        }
        issuers.keys.get(&issuer.rules.name).map(|keys| keys.set()).unwrap_or_default()
    }

    fn refuse(&self, issuer: &str, error: impl Into<TokenError>) -> Refusal {
        let refusal = Refusal::token(error);
        self.metrics.tokens.fault(issuer, &refusal);
        refusal
    }
}

/// The issuer that is asked about a token which is neither ours nor a JWT, not even one that we
/// cannot read.
fn issuer_of_opaque<'a>(
    rules: &'a Rules,
    token: &BearerToken,
    operation: Option<OperationId>,
) -> Option<&'a Issuer> {
    let text = token.expose();
    let own = Kind::ALL.iter().any(|kind| text.starts_with(kind.prefix()));
    // `{"` in base64url: the header of a JWS or JWE (RFC 7515 §7.1, RFC 7516 §7.1).
    let jwt = text.starts_with("eyJ") && text.contains('.');
    if own || jwt { None } else { rules.issuer_of_opaque(text, operation?) }
}

/// Whether what an issuer said of an opaque token counts for this operation: where the operation
/// chooses whom to ask, another one may not have been asked.
fn is_asked(
    rules: &Rules,
    facts: &Facts,
    token: &BearerToken,
    operation: Option<OperationId>,
) -> bool {
    let issuer = rules.issuer(facts.issuer.as_str());
    let by_operation = issuer
        .and_then(|issuer| issuer.opaque.as_ref())
        .is_some_and(|opaque| opaque.prefix.is_none());
    if !by_operation || facts.key.is_some() || token.expose().starts_with("eyJ") {
        return true;
    }
    issuer_of_opaque(rules, token, operation)
        .is_some_and(|issuer| issuer.rules.name.as_str() == facts.issuer.declared())
}

/// Refusing must be cheaper than serving: a token that says itself that it has expired is not worth
/// a signature check.
fn looks_expired(parsed: &Unverified<'_>, issuer: &Issuer, now: Timestamp) -> Option<i64> {
    let expires = parsed.claims.get("exp").and_then(Json::as_i64);
    expires.filter(|expires| now.0 >= expires.saturating_add(issuer.rules.leeway))
}
