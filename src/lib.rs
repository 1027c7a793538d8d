#![doc = include_str!("ARCHITECTURE.md")]
#![deny(
    clippy::dbg_macro,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::todo,
    clippy::unimplemented
)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unreachable
    )
)]
#![deny(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm
)]

// The order of these lines is the order of dependencies: a module uses only modules above it.
// tests/gateway/architecture.rs reads it.

// ── inner ring: pure; no async, clock, randomness or I/O ──
pub mod names;
pub mod scope;
pub mod reason;
pub mod request;
pub mod token;
pub mod client;
pub mod policy;
pub mod grant;
pub mod metadata;
pub mod config;
pub mod tooling;

// ── outer ring: pingora, tokio, clock, disk, network ──
#[cfg(feature = "server")]
pub mod system;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod cli;
