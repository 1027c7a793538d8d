//! The whole gateway over real sockets.
#![expect(unreachable_pub, reason = "the modules of a test binary are its own: `pub` says what other modules use")]

mod architecture;
mod decisions;
mod deploy;
mod edge;
mod operations;
mod reference;
mod shipped;
mod support;
mod tokens;
mod token_endpoint;
mod vectors;
