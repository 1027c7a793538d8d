//! One exchange, from the head of a request to its record: admitted, forwarded or refused.

mod admit;
pub mod exchange;
pub mod trace;
pub mod lines;
pub mod client;
pub mod cors;
pub mod refusal;
pub mod answer;
pub mod identity_headers;
pub mod retry;
pub mod forward;
mod relay;
mod tunnel;
pub mod record;
pub mod under_way;
pub mod driver;
mod decide;
pub mod direct;
pub mod http2;

#[cfg(test)]
mod simulation;
