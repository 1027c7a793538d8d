//! What verification counts: tokens, keys, revocations.

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::{Registrar, Scrape, whole};
use crate::names::IssuerName;
use crate::reason::Refusal;
use crate::token::keyset::{KeyFault, LeftOut};

/// Buckets of the way of a revocation, seconds.
const DELAY_BUCKETS: [f64; 11] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The metrics of verification.
#[derive(Debug)]
pub struct TokenMetrics {
    faults: IntCounterVec,
    /// Look-ups in the verified-token cache that hit.
    pub cache_hits: IntCounter,
    /// And those that missed.
    pub cache_misses: IntCounter,
    cache_entries: IntGauge,
    /// From a revocation or block at one gateway to its being known at this one, seconds.
    pub revocation_delay: Histogram,
    revocation_age: Gauge,
    revocations: IntGauge,
    introspections: IntCounterVec,
    jwks_age: IntGaugeVec,
    jwks_fetches: IntCounterVec,
    jwks_left_out: IntGaugeVec,
}

impl TokenMetrics {
    pub(super) fn register(to: &Registrar<'_>) -> Result<Self> {
        let lookups = to.counters(
            "scopegate_token_cache_lookups_total",
            "Look-ups in the verified-token cache",
            &["result"],
        )?;
        Ok(Self {
            faults: to.counters(
                "scopegate_token_faults_total",
                "Tokens refused, by what was wrong",
                &["issuer", "fault"],
            )?,
            cache_hits: lookups.with_label_values(&["hit"]),
            cache_misses: lookups.with_label_values(&["miss"]),
            cache_entries: to
                .gauge("scopegate_token_cache_entries", "Entries of the verified-token cache")?,
            revocation_delay: to.histogram(
                "scopegate_revocation_propagation_seconds",
                "From a revocation or block at one gateway to its being known at this one",
                &DELAY_BUCKETS,
            )?,
            revocation_age: to.seconds(
                "scopegate_revocations_age_seconds",
                "Since the store was last heard: what was revoked elsewhere since is not known",
            )?,
            revocations: to.gauge("scopegate_revocations", "Revocations kept in memory")?,
            introspections: to.counters(
                "scopegate_introspections_total",
                "Questions to other issuers about their tokens, by what came of them",
                &["issuer", "result"],
            )?,
            jwks_age: to.gauges(
                "scopegate_jwks_age_seconds",
                "Age of an issuer's fetched keys; absent before the first success",
                &["issuer"],
            )?,
            jwks_fetches: to.counters(
                "scopegate_jwks_fetches_total",
                "Fetches of issuers' keys",
                &["issuer", "result"],
            )?,
            jwks_left_out: to.gauges(
                "scopegate_jwks_unusable_keys",
                "Keys of an issuer's set that are of no use here, by the reason",
                &["issuer", "reason"],
            )?,
        })
    }

    /// The series of an issuer whose keys are fetched.
    pub fn announce_issuer(&self, issuer: &IssuerName) {
        for result in ["ok", "failed"] {
            self.jwks_fetches.with_label_values(&[issuer.as_str(), result]);
        }
    }

    /// Counts what was wrong with a token; the issuer is empty where none was found.
    pub fn fault(&self, issuer: &str, refusal: &Refusal) {
        let fault = refusal.fault.label();
        if !fault.is_empty() {
            self.faults.with_label_values(&[issuer, fault]).inc();
        }
    }

    /// Counts a fetch of keys.
    pub fn jwks_fetch(&self, issuer: &IssuerName, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.jwks_fetches.with_label_values(&[issuer.as_str(), result]).inc();
    }

    /// Notes the keys that were left out of an issuer's set.
    pub fn jwks_left_out(&self, issuer: &IssuerName, left_out: &[LeftOut]) {
        for fault in KeyFault::ALL {
            let count = left_out.iter().filter(|key| key.fault == fault).count();
            let labels = [issuer.as_str(), fault.label()];
            self.jwks_left_out.with_label_values(&labels).set(whole(count));
        }
    }

    /// Counts what came of the wish to ask an issuer about a token.
    pub fn introspection(&self, issuer: &IssuerName, result: &str) {
        self.introspections.with_label_values(&[issuer.as_str(), result]).inc();
    }

    pub(super) fn set(&self, scrape: &Scrape) {
        self.cache_entries.set(whole(scrape.cache_entries));
        self.revocations.set(whole(scrape.revocations));
        self.revocation_age.set(scrape.revocations_age.as_secs_f64());
        self.jwks_age.reset();
        for (issuer, age) in &scrape.jwks {
            let Some(age) = age else { continue };
            let age = i64::try_from(*age).unwrap_or(i64::MAX);
            self.jwks_age.with_label_values(&[issuer.as_str()]).set(age);
        }
    }
}
