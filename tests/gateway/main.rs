//! The whole gateway over real sockets.
#![expect(
    unreachable_pub,
    reason = "the modules of a test binary are its own: `pub` says what other modules use"
)]
#![expect(clippy::assigning_clones, reason = "a test's set-up reads better as assignments")]

mod architecture;
mod authorization;
mod clients;
mod commands;
mod config_faults;
mod console;
mod decisions;
mod deploy;
mod edge;
mod faults;
mod hosts;
mod limits;
mod links;
mod metrics;
mod operations;
mod providers;
mod reference;
mod shared;
mod shipped;
mod support;
mod telemetry;
mod tokens;
mod token_endpoint;
mod tooling;
mod upstreams;
mod vectors;
