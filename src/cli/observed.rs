//! The use of a configuration, as its store has it.

use super::store_access;
use crate::config::Config;
use crate::tooling::usage::{Day, Observed, Row, SecretUse};

/// Reads what is known of the use of a configuration. Without a store nothing is known.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn observed(config: &Config) -> Result<Observed, String> {
    let Some(store) = store_access::existing(config)? else { return Ok(Observed::default()) };
    let uses = store.secret_uses().map_err(|fault| format!("store: {fault}"))?;
    let secret =
        |(client, secret, last)| SecretUse { client, secret, last: Day::of(last), networks: None };
    // Requests are not counted in the store yet: the first day and the rows belong here.
    let (since, rows): (Option<Day>, Vec<Row>) = (None, Vec::new());
    Ok(Observed::of(since, rows, uses.into_iter().map(secret).collect()))
}
