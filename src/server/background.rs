//! Loops alongside the requests: what is read, fetched or checked again and again.

pub mod usage;
pub mod upstream_tokens;
pub mod resolve;
pub mod health;
pub mod idle_connections;
pub mod issuer_keys;
pub mod store_follower;
pub mod limit_sync;
pub mod otlp;
pub mod reload;
