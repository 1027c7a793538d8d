//! What leaves the gateway about requests, in `gateway.yaml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::format::{HttpUrl, Rate, SecretRef};

/// What leaves the gateway about requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTelemetry {
    /// Traces and decision records for a collector of OpenTelemetry.
    pub otlp: Option<RawOtlp>,
}

/// A collector of OpenTelemetry, and what it gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOtlp {
    /// Where it is. Over http, `/v1/traces` and `/v1/logs` are put behind it.
    pub endpoint: HttpUrl,
    /// How it is spoken to, grpc by default.
    #[serde(default)]
    pub protocol: RawOtlpProtocol,
    /// The share of traces that is recorded, from 0 to 1; 0.01 by default. A trusted proxy's word
    /// on its own traces comes first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: Option<f64>,
    /// How many refused requests are recorded in any case, 10/s by default.
    pub refusals: Option<Rate>,
    /// Header fields of every request to it, by name; their values are secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretRef>,
    /// PEM file of CAs that it is verified with, besides the system's.
    pub ca: Option<String>,
    /// The proxy on the way to it; that of `HTTPS_PROXY` by default.
    pub proxy: Option<HttpUrl>,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawOtlpProtocol {
    /// gRPC over HTTP/2; mostly on port 4317.
    #[default]
    Grpc,
    /// Protobuf in the bodies of HTTP/1.1; mostly on port 4318.
    Http,
}
