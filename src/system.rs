//! The clock, randomness, configuration files and the environment: only these modules read them.

pub mod clock;
pub mod random;
pub mod environment;
pub mod files;
