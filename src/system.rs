//! The clock, randomness, configuration files, the environment and what the kernel says of the
//! process: only these modules read them.

pub mod clock;
pub mod random;
pub mod environment;
pub mod files;
pub mod process;
