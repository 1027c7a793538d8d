//! A verdict that another set of policies would change.

use std::sync::Arc;

use crate::reason::Reason;

/// A verdict that the candidate would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowDifference {
    /// API in the candidate; nothing where it has no operation for the request.
    pub api: String,
    /// The policy that would decide, or the gate where it is none.
    pub rule: String,
    /// The reason of the refusal; a permit without.
    pub reason: Option<Reason>,
    /// The set.
    pub set: Arc<str>,
}
