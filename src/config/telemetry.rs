//! What leaves the gateway about requests, and where to.

use http::{HeaderName, HeaderValue};

use super::Outbound;
use crate::policy::definition::RateLimit;
use crate::request::trace::Share;

/// A collector of OpenTelemetry, and what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where it is.
    pub collector: Collector,
    /// What is recorded.
    pub sampling: Sampling,
}

/// Where a collector is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Its URL, without a slash at the end.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Fields of every request to it; their values are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How it is reached.
    pub outbound: Outbound,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
}

/// Which requests are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The share of traces that begin here.
    pub share: Share,
    /// How many refused requests besides.
    pub refusals: RateLimit,
}
