//! The use of a configuration, as its store has it.

use super::store_access;
use crate::config::Config;
use crate::system::clock;
use crate::tooling::usage::{Day, Observed};

/// Reads what is known of the use of a configuration. Without a store nothing is known.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn observed(config: &Config) -> Result<Observed, String> {
    let Some(store) = store_access::existing(config)? else { return Ok(Observed::default()) };
    store.observed(Day::of(clock::now())).map_err(|fault| format!("store: {fault}"))
}
