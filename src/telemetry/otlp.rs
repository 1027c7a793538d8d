//! Traces and refused decisions for a collector of OpenTelemetry (OTLP 1): what a request leaves
//! behind for them, the queue to the task that exports, and the form in which they are sent.
//!
//! Nothing here is on the path of a request but [`outbox::Outbox::push`], which never waits.

pub mod recorded;
pub mod outbox;
pub mod spans;
pub mod answer;
