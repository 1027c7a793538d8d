//! Reads tokens for a command without a network: ours from the store, others' with keys from files.

use std::path::Path;
use std::sync::Arc;

use super::store_access;
use crate::config::{Config, StoreConfig};
use crate::grant::opaque::Kind;
use crate::names::IssuerName;
use crate::reason::{Reason, Refusal, TokenFault};
use crate::store::Store;
use crate::token::keyset::Key;
use crate::token::{Facts, KeySet};
use crate::tooling::offline_keys::Keys;

/// The facts of a token; whether they are acceptable now is for the decision.
pub(super) fn facts(
    config: &Config,
    store: Option<&Store>,
    token: &str,
) -> Result<Arc<Facts>, Refusal> {
    let failed = |fault: &dyn std::fmt::Display| {
        Refusal::because(Reason::StoreUnavailable, fault.to_string())
    };
    let mut keys = Keys::of_files(config);
    if let Some(store) = store {
        if let Some(digest) = Kind::Access.digest(token) {
            let found = store.find_access(digest).map_err(|fault| failed(&fault))?;
            return Ok(Arc::new(found.ok_or(Refusal::token(TokenFault::Inactive))?.into_facts()));
        }
        let own = store.keys().map_err(|fault| failed(&fault))?;
        let own = own
            .iter()
            .filter_map(|key| Key::parse(&serde_json::from_str(&key.public_jwk).ok()?).ok());
        keys = keys.with(IssuerName::new(IssuerName::OWN), KeySet::new(own.collect()));
    }
    keys.read(config, token)
}

/// The store, where there is one: reading a request needs none, and creates none.
pub(super) fn store(config: &Config) -> Option<Store> {
    match &config.fixed.store {
        StoreConfig::Embedded(folder) if !Path::new(folder).join("scopegate.db").exists() => None,
        StoreConfig::Embedded(_) | StoreConfig::Shared(_) => store_access::store(config).ok(),
    }
}
