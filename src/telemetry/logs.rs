//! The two logs of the process, and their end.

use std::time::Duration;

use super::lines::LineWriter;
use super::record::Recorder;

/// What writes decision records and the gateway's own log.
#[derive(Clone, Debug)]
pub struct Logs {
    /// Decision records.
    pub recorder: Recorder,
    /// The gateway's own log.
    pub log: Option<LineWriter>,
}

impl Logs {
    /// Has the decision log open its file again: a program that rotates logs has moved it. Waits
    /// for nothing. The gateway's own log is standard error, which has no name.
    pub fn reopen(&self) {
        self.recorder.reopen();
    }

    /// Waits until decision records and log lines have been written, at most so long for each.
    pub fn flush(&self, longest: Duration) {
        self.recorder.flush(longest);
        if let Some(log) = &self.log {
            log.flush(longest);
        }
    }
}
