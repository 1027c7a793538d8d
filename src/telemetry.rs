//! What the gateway reports of itself: decision ids, decision records, metrics, and the threads
//! that write lines. Knows no exchange: its callers say what happened, in labels.

pub mod decision_id;
pub mod shadow_difference;
pub mod lines;
pub mod log_file;
pub mod decisions;
pub mod record;
pub mod usage;
pub mod logs;
pub mod cause;
pub mod metrics;
pub mod otlp;
