//! Keys: our own to sign with, other issuers' to verify with.
//!
//! Owns their creation, fetching and refreshing, always off the request path; knows nothing of
//! tokens' claims or of policies.

pub mod discovery;
pub mod fetch;
pub mod freshness;
pub mod own;
pub mod remote;

pub use own::OwnKeys;
pub use remote::{IssuerKeys, VerifyFault};
