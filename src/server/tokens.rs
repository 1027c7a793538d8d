//! Tokens of callers: verified ones remembered, revoked ones refused, those of others looked up at
//! their issuer.

pub mod cache;
pub mod introspection;
pub mod revocations;
pub mod verify;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::config::Config;
use crate::keys::fetch::Fetch;
use crate::keys::{IssuerKeys, OwnKeys};
use crate::names::IssuerName;
use crate::reason::TokenFault;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use cache::{Cache, TokenCache};
use introspection::Introspection;
use revocations::Revocations;

/// What verifying tokens works with.
#[derive(Debug)]
pub struct Tokens {
    /// Verified ones.
    pub cache: TokenCache,
    /// Those whose signature has failed, until their issuer's keys change.
    pub failed: Cache<TokenFault>,
    /// What has been revoked, and who is blocked by command.
    pub revocations: Revocations,
    /// Our own keys.
    pub own_keys: Arc<OwnKeys>,
    /// Opaque tokens of our own.
    pub store: Store,
    /// Faults, hits and misses.
    pub metrics: Arc<Metrics>,
}

/// The other issuers of one configuration.
#[derive(Debug)]
pub struct Issuers {
    /// Their keys.
    pub keys: HashMap<IssuerName, Arc<IssuerKeys>>,
    /// Those that are asked about their opaque tokens.
    pub introspections: HashMap<IssuerName, Arc<Introspection>>,
    /// Names the settings of issuers that cached facts depend on.
    pub settings: u64,
}

impl Issuers {
    /// Those of a configuration. Keys that its sources did not change are taken over from the one
    /// before.
    ///
    /// # Errors
    /// The TLS library refuses an issuer's CAs, in words for the operator.
    pub fn new(config: &Config, before: Option<&Self>) -> Result<Self, String> {
        let mut keys = HashMap::new();
        for (name, source) in &config.key_sources {
            let kept = before
                .and_then(|before| before.keys.get(name))
                .filter(|keys| keys.source() == source);
            let of_issuer = if let Some(kept) = kept {
                kept.clone()
            } else {
                let fetch = Fetch::new(source.outbound())?;
                Arc::new(IssuerKeys::new(name.clone(), source.clone(), fetch))
            };
            keys.insert(name.clone(), of_issuer);
        }
        let mut introspections = HashMap::new();
        for (name, declared) in &config.introspections {
            let kept = before.and_then(|before| before.introspections.get(name));
            let of_issuer = match kept.filter(|kept| kept.declared == *declared) {
                Some(kept) => kept.clone(),
                None => Arc::new(Introspection::new(declared.clone())?),
            };
            introspections.insert(name.clone(), of_issuer);
        }
        Ok(Self { keys, introspections, settings: hash_of_settings(config) })
    }
}

/// Issuers' settings decide how claims are read: other settings, other facts.
fn hash_of_settings(config: &Config) -> u64 {
    let issuers =
        config.rules.issuers().map(|issuer| format!("{:?} {:?}", issuer.rules, issuer.opaque));
    let asked = config
        .introspections
        .iter()
        .map(|(name, introspection)| format!("{name} {introspection:?}"));
    let mut settings: Vec<String> = issuers.chain(asked).collect();
    settings.sort();
    let mut hasher = DefaultHasher::new();
    settings.hash(&mut hasher);
    hasher.finish()
}
