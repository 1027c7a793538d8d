//! An exchange under way: counted in while it lasts, and recorded once, however it ends.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::exchange::Exchange;
use super::record;
use crate::reason::{Reason, Refusal};
use crate::server::state::Shared;
use crate::server::state::snapshot::Snapshot;

/// The context of one request: its exchange, and the duty to record it.
#[derive(Debug)]
pub struct UnderWay {
    exchange: Exchange,
    shared: Arc<Shared>,
    is_recorded: bool,
}

impl UnderWay {
    /// Begins an exchange under a configuration.
    #[must_use]
    pub fn begin(shared: &Arc<Shared>, snapshot: Arc<Snapshot>) -> Self {
        shared.process.in_flight.fetch_add(1, Ordering::Relaxed);
        let exchange = Exchange::new(shared.process.decision_ids.next(), snapshot);
        Self { exchange, shared: shared.clone(), is_recorded: false }
    }

    /// Counts and records it, once.
    pub fn record(&mut self) {
        if !std::mem::replace(&mut self.is_recorded, true) {
            record::record(&self.shared, &self.exchange);
        }
    }
}

impl Deref for UnderWay {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

impl DerefMut for UnderWay {
    fn deref_mut(&mut self) -> &mut Exchange {
        &mut self.exchange
    }
}

/// An exchange that nobody ended was cut short by a panic or by the gateway's own end: it is
/// recorded all the same.
impl Drop for UnderWay {
    fn drop(&mut self) {
        // Where an answer had begun, it was the client or the end of a tunnel.
        if !self.is_recorded && self.exchange.status == 0 {
            let cut = Refusal::because(Reason::GatewayBroken, "the exchange was cut short");
            self.exchange.refuse(cut);
        }
        self.record();
        self.shared.process.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
