//! One exchange, from the head of a request to its record: admitted, forwarded or refused.

pub mod exchange;
pub mod cors;
pub mod refusal;
pub mod answer;
pub mod identity_headers;
pub mod retry;
pub mod forward;
pub mod record;
pub mod under_way;
pub mod driver;
