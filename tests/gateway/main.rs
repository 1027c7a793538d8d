//! The whole gateway over real sockets.

mod architecture;
mod decisions;
mod deploy;
mod support;
