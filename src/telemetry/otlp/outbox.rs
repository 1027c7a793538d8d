//! The queue between requests and the task that exports: bounded, and nobody waits at it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::recorded::Recorded;
use super::spans::Payload;
use crate::telemetry::cause::{NotExported, Signal};
use crate::telemetry::metrics::otlp::OtlpMetrics;

/// Requests that may wait to be exported.
const MAX_WAITING: usize = 8_192;

/// What waits to be exported.
#[derive(Debug)]
pub struct Outbox {
    sender: SyncSender<Box<Recorded>>,
    receiver: Mutex<Receiver<Box<Recorded>>>,
    /// What is being sent: it outlives the task that sends it, for the end of the process.
    pub under_way: tokio::sync::Mutex<[UnderWay; 2]>,
    metrics: OtlpMetrics,
}

/// What of one signal is being sent.
#[derive(Debug)]
pub struct UnderWay {
    /// The signal.
    pub signal: Signal,
    /// The message.
    pub payload: Option<Payload>,
    /// The one before was not taken, which was said in the log.
    pub is_failing: bool,
}

impl UnderWay {
    const fn of(signal: Signal) -> Self {
        Self { signal, payload: None, is_failing: false }
    }
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(metrics: OtlpMetrics) -> Self {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let under_way = [Signal::Spans, Signal::LogRecords].map(UnderWay::of);
        Self {
            sender,
            receiver: Mutex::new(receiver),
            under_way: tokio::sync::Mutex::new(under_way),
            metrics,
        }
    }

    /// Hands a request over; drops and counts it where too many wait. Wakes nobody: a wake costs
    /// more than the rest of it.
    pub fn push(&self, recorded: Recorded) {
        if let Err(refused) = self.sender.try_send(Box::new(recorded)) {
            use std::sync::mpsc::TrySendError::{Disconnected, Full};
            let (Full(recorded) | Disconnected(recorded)) = refused;
            let cause = NotExported::Queue;
            self.metrics.dropped(Signal::Spans, cause, recorded.span_count());
            if recorded.is_refused() {
                self.metrics.dropped(Signal::LogRecords, cause, 1);
            }
        }
    }

    /// The oldest that wait, at most so many.
    pub fn take(&self, most: usize) -> Vec<Box<Recorded>> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.try_iter().take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::request::trace::TraceParent;
    use crate::telemetry::decision_id::DecisionIds;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::metrics::Scrape;
    use crate::telemetry::otlp::recorded::{Conclusion, Spans, Target};

    fn recorded(verdict: &'static str, at: u64) -> Recorded {
        Recorded {
            parent: None,
            state: None,
            told: TraceParent::new(1, 1, true),
            spans: Spans { server: 1, decide: 2, identify: 3 },
            ended: at,
            total: Duration::ZERO,
            decided: Some(Duration::ZERO),
            identified: None,
            call: None,
            decision: DecisionIds::new(1).next(),
            method: "GET".to_owned(),
            http2: false,
            address: None,
            target: Target::Unread,
            issuer: None,
            client: None,
            conclusion: Conclusion { verdict, reason: None, fault: "" },
            set: "set".into(),
            status: 200,
        }
    }

    #[test]
    fn so_many_wait_and_the_rest_is_dropped_and_counted() {
        let metrics = Metrics::new(None).unwrap();
        let outbox = Outbox::new(metrics.otlp.clone());
        for at in 0..MAX_WAITING {
            outbox.push(recorded("permit", at as u64));
        }
        let count = |signal: &str| {
            let text = String::from_utf8(metrics.render(&Scrape::default()).unwrap()).unwrap();
            let series =
                format!("scopegate_otlp_dropped_total{{cause=\"queue\",signal=\"{signal}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned));
            line.unwrap().parse::<u64>().unwrap()
        };
        assert_eq!((count("spans"), count("log_records")), (0, 0));
        outbox.push(recorded("permit", 0));
        outbox.push(recorded("refuse", 0));
        assert_eq!((count("spans"), count("log_records")), (4, 1), "two spans of each");
        // The oldest come first, and make room.
        let first: Vec<u64> = outbox.take(3).iter().map(|recorded| recorded.ended).collect();
        assert_eq!(first, [0, 1, 2]);
        outbox.push(recorded("permit", 0));
        assert_eq!(count("spans"), 4);
        assert_eq!(outbox.take(usize::MAX).len(), MAX_WAITING - 2);
        assert!(outbox.take(1).is_empty());
    }
}
