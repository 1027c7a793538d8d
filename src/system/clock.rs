//! The one place that reads the wall clock.

use crate::names::Timestamp;

/// Seconds since the epoch, now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The time now as RFC 3339 in UTC with milliseconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_text() -> String {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}
