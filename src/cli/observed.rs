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
    let mut observed = Observed::of(since, Vec::new(), uses.into_iter().map(secret).collect());
    let first = since.unwrap_or_default();
    store.each_usage(first, &mut |row| observed.add(&row)).map_err(fault)?;
    Ok(observed)
}
