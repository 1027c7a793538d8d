//! Verifies a real token without network access, with keys from files.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Config, KeySource};
use crate::grant::opaque::Kind;
use crate::names::IssuerName;
use crate::reason::{Reason, Refusal};
use crate::token::json::Json;
use crate::token::jws::{Decoded, described};
use crate::token::{Facts, KeySet, unknown_issuer};

/// Keys that are available without a network.
#[derive(Clone, Debug, Default)]
pub struct Keys(HashMap<IssuerName, KeySet>);

impl Keys {
    /// The keys of key files.
    #[must_use]
    pub fn of_files(config: &Config) -> Self {
        let files = config.key_sources.iter().filter_map(|(name, source)| match source {
            KeySource::File(file) => Some((name.clone(), KeySet::parse(&file.contents).ok()?.0)),
            KeySource::Discover { .. } | KeySource::Url { .. } => None,
        });
        Self(files.collect())
    }

    /// Adds the keys of one more issuer.
    #[must_use]
    pub fn with(mut self, issuer: IssuerName, keys: KeySet) -> Self {
        self.0.insert(issuer, keys);
        self
    }

    /// Verifies a token. Whether its claims are acceptable now is for the decision.
    ///
    /// # Errors
    /// Returns `token.invalid` with its fault, or `issuer.unavailable` where the keys are not here.
    pub fn read(&self, config: &Config, token: &str) -> Result<Arc<Facts>, Refusal> {
        // Opaque tokens are recognised by their prefix: they are not JWTs and cannot be read here.
        if Kind::ALL.iter().any(|kind| token.starts_with(kind.prefix())) {
            return Err(Refusal::because(
                Reason::StoreUnavailable,
                "an opaque token of our own is in the store, which is not here",
            ));
        }
        if let Some(issuer) = config.rules.issuer_by_prefix(token) {
            let text = format!(
                "an opaque token of `{}`: only the issuer can say what it is",
                issuer.rules.name
            );
            return Err(Refusal::because(Reason::IssuerUnavailable, text));
        }
        let malformed = |fault| Refusal::token(described(token, fault));
        let decoded = Decoded::of(token).map_err(malformed)?;
        let parsed = decoded.read().map_err(malformed)?;
        let claimed = parsed.claims.get("iss").and_then(Json::as_str);
        let issuer = claimed.and_then(|iss| config.rules.issuer_by_claim(iss));
        let issuer = issuer.ok_or_else(|| Refusal::token(unknown_issuer(claimed)))?;
        let Some(keys) = self.0.get(&issuer.rules.name) else {
            let text = format!(
                "the keys of `{}` are not in a file: what it says cannot be verified here",
                issuer.rules.name
            );
            return Err(Refusal::because(Reason::IssuerUnavailable, text));
        };
        let facts = issuer.rules.verify(&parsed, keys).map_err(Refusal::token)?;
        Ok(Arc::new(facts))
    }
}
