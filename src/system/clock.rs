//! The one place that reads the wall clock.

use std::cell::RefCell;

use crate::names::Timestamp;

/// The current time, in seconds since the epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The current time, in nanoseconds since the epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_nanoseconds() -> u64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The current time as RFC 3339 in UTC with milliseconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_text() -> String {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    thread_local! {
        /// The last second that was written, and its text up to the point.
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != seconds {
            let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
            *text = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            *second = seconds;
        }
        format!("{text}.{:03}Z", since.subsec_millis())
    })
}
