//! The clock, randomness and the files of a configuration: the only readers of them.

pub mod clock;
pub mod random;
pub mod files;
