//! What an operator asks of the policies before and after a change. Everything here calls the decision of [`policy`](crate::policy);
//! nothing decides itself.

pub mod access;
pub mod change;
pub mod coverage;
pub mod diff;
pub mod explain;
pub mod lint;
pub mod reading;
pub mod replay;
pub mod testing;

use crate::names::Timestamp;

/// A moment in words, RFC 3339 in UTC.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.0).map(|at| at.to_string()).unwrap_or_default()
}
