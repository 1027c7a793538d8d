//! A verdict that another set of policies would change.

use std::sync::Arc;

use crate::reason::Verdict;

/// A verdict that the candidate would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowDifference {
    /// API in the candidate; nothing where it has no operation for the request.
    pub api: String,
    /// The policy that would decide, or the gate where it is none.
    pub rule: String,
    /// What it would be.
    pub verdict: Verdict,
    /// The set.
    pub set: Arc<str>,
}
