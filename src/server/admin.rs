//! The listeners for those who run the gateway: metrics and probes, and the admin interface.

pub mod api;
pub mod probes;
