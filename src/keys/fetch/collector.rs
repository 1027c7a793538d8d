//! The client that gives messages to a collector of OpenTelemetry. Its connections are kept: a
//! message comes again and again.

use std::time::Duration;

use http_body_util::BodyExt as _;

use super::{FetchFault, builder, unreachable};
use crate::config::telemetry::{Collector, OtlpProtocol};
use crate::telemetry::cause::Signal;
use crate::telemetry::otlp::answer::{Answer, Delivery, over_grpc, over_http};
use crate::telemetry::otlp::spans::{PREFIX_BYTES, Payload};

/// Total time for a message and its answer.
const TOTAL: Duration = Duration::from_secs(10);
/// How long a connection is kept without a message.
const IDLE: Duration = Duration::from_secs(30);
/// How often a connection of HTTP/2 is asked whether it is still one.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The client of one collector.
#[derive(Clone, Debug)]
pub struct CollectorClient {
    client: reqwest::Client,
    declared: Collector,
}

impl CollectorClient {
    /// Builds the client.
    ///
    /// # Errors
    /// Certificates cannot be read, or a proxy is none, in words for the operator.
    pub fn new(declared: &Collector) -> Result<Self, String> {
        let is_confidential = !declared.headers.is_empty();
        let builder = builder(&declared.outbound, is_confidential)?
            .timeout(TOTAL)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2)
            .default_headers(declared.headers.iter().cloned().collect());
        let builder = match declared.protocol {
            OtlpProtocol::Http => builder.http1_only(),
            OtlpProtocol::Grpc => builder
                .http2_prior_knowledge()
                .http2_keep_alive_interval(PING_INTERVAL)
                .http2_keep_alive_timeout(TOTAL),
        };
        let client = builder.build().map_err(|error| super::chain(&error))?;
        Ok(Self { client, declared: declared.clone() })
    }

    /// Whether it is the client of this collector.
    #[must_use]
    pub fn is_of(&self, declared: &Collector) -> bool {
        self.declared == *declared
    }

    /// Sends a message, and says what became of it. `now` is in seconds since the epoch.
    pub async fn send(&self, signal: Signal, payload: &Payload, now: i64) -> Delivery {
        let answered = match self.declared.protocol {
            OtlpProtocol::Http => self.post(signal, payload).await.map(|it| over_http(&it, now)),
            OtlpProtocol::Grpc => self.call(signal, payload).await.map(|it| over_grpc(&it)),
        };
        answered.unwrap_or_else(|fault| match fault {
            FetchFault::TooLarge => {
                Delivery::Unwanted { why: "an answer over 65,536 bytes".to_owned() }
            }
            other @ (FetchFault::Unreachable(_)
            | FetchFault::Status(_)
            | FetchFault::Redirect(_)
            | FetchFault::Coding(_)) => Delivery::Again { after: None, why: other.to_string() },
        })
    }

    async fn post(&self, signal: Signal, payload: &Payload) -> Result<Answer, FetchFault> {
        let path = match signal {
            Signal::Spans => "/v1/traces",
            Signal::LogRecords => "/v1/logs",
        };
        let request = self
            .client
            .post(format!("{}{path}", self.declared.endpoint))
            .header("content-type", "application/x-protobuf")
            .body(payload.bytes.slice(PREFIX_BYTES.min(payload.bytes.len())..));
        read(request.send().await.map_err(unreachable)?).await
    }

    async fn call(&self, signal: Signal, payload: &Payload) -> Result<Answer, FetchFault> {
        let service = match signal {
            Signal::Spans => "trace.v1.TraceService",
            Signal::LogRecords => "logs.v1.LogsService",
        };
        let path = format!("/opentelemetry.proto.collector.{service}/Export");
        let request = self
            .client
            .post(format!("{}{path}", self.declared.endpoint))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", format!("{}S", TOTAL.as_secs()))
            .body(payload.bytes.clone());
        read(request.send().await.map_err(unreachable)?).await
    }
}

/// Reads an answer with what comes behind it.
async fn read(answer: reqwest::Response) -> Result<Answer, FetchFault> {
    let (parts, mut rest) = http::Response::<reqwest::Body>::from(answer).into_parts();
    let (mut body, mut trailers) = (Vec::new(), http::HeaderMap::new());
    while let Some(frame) = rest.frame().await {
        match frame.map_err(unreachable)?.into_data() {
            Ok(data) if body.len() + data.len() > MAX_ANSWER => return Err(FetchFault::TooLarge),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(Answer { status: parts.status.as_u16(), head: parts.headers, body, trailers })
}
