//! Limits: requests of an address, rates and quotas of permitted requests, guesses of secrets.

pub mod address;
pub mod quota;
pub mod guessing;
