//! The id of a decision: in the answer, in the record, to the operator.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};

/// The header that carries a decision id.
pub const HEADER: HeaderName = HeaderName::from_static("x-decision-id");

/// Makes the ids of one process.
#[derive(Debug)]
pub struct DecisionIds {
    process: u64,
    next: AtomicU64,
}

impl DecisionIds {
    /// Ids that begin with a number of the process: random, so that no two processes make the same
    /// ones.
    #[must_use]
    pub const fn new(process: u64) -> Self {
        Self { process, next: AtomicU64::new(1) }
    }

    /// How many exchanges this process has begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The next id.
    #[must_use]
    pub fn next(&self) -> DecisionId {
        DecisionId {
            process: self.process,
            count: self.next.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff,
        }
    }

    /// The number of the process as text: 16 hex digits.
    #[must_use]
    pub fn process(&self) -> String {
        format!("{:016x}", self.process)
    }
}

/// Names one decision: in the answer, in the log, to the operator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecisionId {
    process: u64,
    count: u64,
}

impl DecisionId {
    /// The id as text: 24 hex digits, of which the first sixteen are the process's.
    #[must_use]
    pub fn to_text(self) -> String {
        self.digits().into_iter().map(char::from).collect()
    }

    /// Its digits.
    #[must_use]
    pub fn digits(self) -> [u8; 24] {
        // Written digit by digit: formatting costs more than all of the decision.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let all = u128::from(self.process) << 32 | u128::from(self.count & 0xffff_ffff);
        let mut text = [b'0'; 24];
        for (at, place) in text.iter_mut().rev().enumerate() {
            let digit = usize::try_from(all >> (4 * at) & 15).unwrap_or(0);
            *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        }
        text
    }

    /// The id as a header value.
    #[must_use]
    pub fn to_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.digits()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}
