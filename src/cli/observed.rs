//! The use of a configuration, as its store has it.

use super::store_access;
use crate::config::Config;
use crate::tooling::usage::{Day, Observed, SecretUse};

/// Reads what is known of the use of a configuration. Without a store nothing is known.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn observed(config: &Config) -> Result<Observed, String> {
    let Some(store) = store_access::existing(config)? else { return Ok(Observed::default()) };
    let uses = store.secret_uses().map_err(|fault| format!("store: {fault}"))?;
    let secret =
        |(client, secret, last)| SecretUse { client, secret, last: Day::of(last), networks: None };
    let fault = |fault| format!("store: {fault}");
    let since = store.first_usage().map_err(fault)?;
    let rows = store.usage_now(since.unwrap_or_default()).map_err(fault)?;
    Ok(Observed::of(since, rows, uses.into_iter().map(secret).collect()))
}
