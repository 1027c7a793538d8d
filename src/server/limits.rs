//! Limits: requests of an address, rates and quotas of permitted requests, guesses of secrets,
//! requests that are recorded for a collector.

pub mod address;
pub mod quota;
pub mod guessing;
pub mod sampling;
