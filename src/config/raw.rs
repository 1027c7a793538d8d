//! The YAML as it is written: one type per kind of file. Doc comments are the descriptions in the
//! JSON Schema. A key marked `x-not-built` belongs to the product and is refused at load until it
//! works: never accepted and ignored.

pub mod client;
pub mod console;
pub mod gateway;
pub mod issuer;
pub mod policy;
pub mod telemetry;
pub mod test;
pub mod upstream;
pub mod user;

pub use client::{RawClient, RawClients};
pub use gateway::RawGateway;
pub use issuer::RawIssuer;
pub use policy::RawPolicies;
pub use upstream::RawUpstream;
pub use user::{RawUser, RawUsers};

pub(super) const fn yes() -> bool {
    true
}
