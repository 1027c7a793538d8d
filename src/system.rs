//! The clock, randomness and configuration files: only these modules read them.

pub mod clock;
pub mod random;
pub mod files;
