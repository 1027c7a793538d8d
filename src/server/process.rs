//! The process: how it hears signals, hands its sockets to a successor, drains and ends.

pub mod lifecycle;
pub mod sockets;
pub mod successor;
pub mod handover;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use crate::config::Fixed;
use crate::telemetry::decision_id::DecisionIds;
use crate::telemetry::logs::Logs;
use handover::Offer;
use lifecycle::Life;
use successor::Program;

/// What the process knows of itself.
#[derive(Debug)]
pub struct Process {
    /// Settings that a reload does not change.
    pub fixed: Arc<Fixed>,
    /// How far it is from its end.
    pub life: Life,
    /// Our sockets, for a successor.
    pub offer: OnceLock<Offer>,
    /// How a successor is started.
    pub program: OnceLock<Program>,
    /// Exchanges under way.
    pub in_flight: AtomicUsize,
    /// Names every exchange.
    pub decision_ids: DecisionIds,
    /// Flushed at the end.
    pub logs: Logs,
}

impl Process {
    /// A process that begins, with a random number of its own.
    #[must_use]
    pub fn new(fixed: Arc<Fixed>, number: u64, logs: Logs) -> Self {
        Self {
            fixed,
            life: Life::default(),
            offer: OnceLock::new(),
            program: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
            decision_ids: DecisionIds::new(number),
            logs,
        }
    }
}
