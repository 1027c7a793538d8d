//! Requests as spans and log records of OTLP, with the names of OpenTelemetry's semantic
//! conventions for HTTP; what they have no name for begins with `scopegate.`.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use prost::Message;

use super::recorded::{Call, Interval, Recorded, Target};
use crate::policy::definition::Api;
use crate::policy::route::Operation;

/// The prefix of a message in gRPC: whether it is packed, and its length.
pub const PREFIX_BYTES: usize = 5;
/// The version of the semantic conventions that the names are of.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.27.0";
/// The name of the program, in every export.
const SERVICE: &str = "scopegate";
/// The name of the event that a log record is.
const REFUSED: &str = "scopegate.refused";
/// Methods that the conventions know; every other one is `_OTHER`.
const METHODS: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// A message that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The message, behind the prefix of [`PREFIX_BYTES`].
    pub bytes: Bytes,
    /// How many spans or log records are in it.
    pub count: u64,
}

/// What is the same of all requests of a process.
#[derive(Clone, Debug)]
pub struct Process {
    /// The scheme that clients use.
    pub scheme: &'static str,
    /// The host of `public_url`.
    pub host: String,
    /// Tells processes apart.
    pub instance: String,
}

/// The spans of requests, and the log records of those that were refused.
#[must_use]
pub fn encode(process: &Process, batch: &[Box<Recorded>]) -> (Option<Payload>, Option<Payload>) {
    let (mut spans, mut log_records) = (Vec::with_capacity(4 * batch.len()), Vec::new());
    for recorded in batch {
        let described = Described::of(process, recorded);
        described.add_spans(&mut spans);
        if recorded.is_refused() {
            log_records.push(described.log_record());
        }
    }
    (spans_payload(process, spans), log_payload(process, log_records))
}

fn spans_payload(process: &Process, spans: Vec<Span>) -> Option<Payload> {
    let count = spans.len();
    let scope_spans =
        vec![ScopeSpans { scope: Some(scope()), spans, schema_url: SCHEMA_URL.to_owned() }];
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource(process)),
        scope_spans,
        schema_url: SCHEMA_URL.to_owned(),
    }];
    payload(&ExportTraceServiceRequest { resource_spans }, count)
}

fn log_payload(process: &Process, log_records: Vec<LogRecord>) -> Option<Payload> {
    let count = log_records.len();
    let scope_logs =
        vec![ScopeLogs { scope: Some(scope()), log_records, schema_url: SCHEMA_URL.to_owned() }];
    let resource_logs = vec![ResourceLogs {
        resource: Some(resource(process)),
        scope_logs,
        schema_url: SCHEMA_URL.to_owned(),
    }];
    payload(&ExportLogsServiceRequest { resource_logs }, count)
}

/// A message, unless nothing is in it.
fn payload(message: &impl Message, count: usize) -> Option<Payload> {
    if count == 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + message.encoded_len());
    // Not packed, and the length.
    bytes.push(0);
    bytes.extend_from_slice(&u32::try_from(message.encoded_len()).ok()?.to_be_bytes());
    // A vector grows: there is always room.
    message.encode(&mut bytes).ok()?;
    Some(Payload { bytes: bytes.into(), count: u64::try_from(count).unwrap_or(u64::MAX) })
}

fn resource(process: &Process) -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", SERVICE);
    attributes.text("service.version", env!("CARGO_PKG_VERSION"));
    attributes.text("service.instance.id", &process.instance);
    Resource { attributes: attributes.0, ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SERVICE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Attributes of a span or a log record.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.put(key, Value::StringValue(value.to_owned()));
        }
    }

    fn number(&mut self, key: &str, value: impl Into<i64>) {
        self.put(key, Value::IntValue(value.into()));
    }
}

/// A request, with what its spans say of it looked up.
struct Described<'a> {
    process: &'a Process,
    recorded: &'a Recorded,
    /// Its beginning, nanoseconds since the epoch.
    began: u64,
    operation: Option<(&'a Operation, &'a Api)>,
    route: Option<String>,
}

impl<'a> Described<'a> {
    fn of(process: &'a Process, recorded: &'a Recorded) -> Self {
        let operation = match &recorded.target {
            Target::Operation(rules, id) => rules.operation(*id).zip(rules.api_of(*id)),
            Target::Endpoint(_) | Target::Unmatched { .. } | Target::Unread => None,
        };
        let route = match (&recorded.target, operation) {
            (Target::Endpoint(path), _) => Some((*path).to_owned()),
            (_, Some((operation, api))) => Some(route(operation, api)),
            _ => None,
        };
        let began = recorded.ended.saturating_sub(nanoseconds(recorded.total));
        Self { process, recorded, began, operation, route }
    }

    fn method(&self) -> &'a str {
        let method = self.recorded.method.as_str();
        METHODS.into_iter().find(|known| *known == method).unwrap_or("_OTHER")
    }

    fn add_spans(&self, spans: &mut Vec<Span>) {
        let Recorded { spans: ids, decided, identified, call, told, .. } = self.recorded;
        spans.push(self.server());
        if let Some(decided) = *decided {
            spans.push(self.decide(Interval { from: Duration::ZERO, to: decided }));
        }
        if let Some(identified) = *identified {
            let mut attributes = Attributes::default();
            let issuer = self.recorded.issuer.as_ref().map(crate::names::IssuerName::as_str);
            attributes.text("scopegate.issuer", issuer.unwrap_or_default());
            spans.push(self.span(ids.identify, ids.decide, "identify", identified, attributes));
        }
        if let Some(call) = call {
            spans.push(self.upstream(told.span, call));
        }
    }

    /// A span within the gateway.
    fn span(
        &self,
        id: u64,
        parent: u64,
        name: &str,
        time: Interval,
        attributes: Attributes,
    ) -> Span {
        let Recorded { told, state, .. } = self.recorded;
        let known = SpanFlags::ContextHasIsRemoteMask as u32;
        Span {
            trace_id: told.trace.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: parent.to_be_bytes().to_vec(),
            trace_state: state.as_deref().unwrap_or_default().to_owned(),
            flags: u32::from(told.flags()) | known,
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.began.saturating_add(nanoseconds(time.from)),
            end_time_unix_nano: self.began.saturating_add(nanoseconds(time.to)),
            attributes: attributes.0,
            ..Span::default()
        }
    }

    fn server(&self) -> Span {
        let Recorded { parent, spans, total, status, http2, .. } = self.recorded;
        let mut attributes = Attributes(Vec::with_capacity(16));
        self.describe(&mut attributes);
        attributes.text("url.scheme", self.process.scheme);
        attributes.text("server.address", self.host());
        attributes.text("network.protocol.version", if *http2 { "2" } else { "1.1" });
        let failed = *status == 0 || *status >= 500;
        if failed {
            self.error_type(&mut attributes, *status);
        }
        let name = match &self.route {
            Some(route) => format!("{} {route}", self.method()),
            None if self.method() == "_OTHER" => "HTTP".to_owned(),
            None => self.method().to_owned(),
        };
        let time = Interval { from: Duration::ZERO, to: *total };
        let span = self.span(spans.server, 0, &name, time, attributes);
        let remote = if parent.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
        Span {
            parent_span_id: parent
                .map(|parent| parent.span.to_be_bytes().to_vec())
                .unwrap_or_default(),
            flags: span.flags | remote,
            kind: SpanKind::Server.into(),
            status: failed.then(error),
            ..span
        }
    }

    fn decide(&self, time: Interval) -> Span {
        let Recorded { spans, conclusion, .. } = self.recorded;
        let mut attributes = Attributes::default();
        attributes.text("scopegate.verdict", conclusion.verdict);
        attributes.text("scopegate.reason", conclusion.reason.unwrap_or_default());
        self.span(spans.decide, spans.server, "decide", time, attributes)
    }

    fn upstream(&self, id: u64, call: &Call) -> Span {
        let mut attributes = Attributes(Vec::with_capacity(8));
        attributes.text("http.request.method", self.method());
        let authority = call.authority.to_str().unwrap_or_default();
        attributes.text("server.address", host(authority));
        attributes.number("server.port", call.port);
        if let Some((_, api)) = self.operation {
            attributes.text("scopegate.upstream", api.upstream.as_str());
        }
        if let Some(status) = call.status {
            attributes.number("http.response.status_code", status);
        }
        if call.resends > 0 {
            attributes.number("http.request.resend_count", call.resends);
        }
        let failed = call.status.is_none_or(|status| status >= 400);
        if failed {
            self.error_type(&mut attributes, call.status.unwrap_or(0));
        }
        let parent = self.recorded.spans.server;
        let span = self.span(id, parent, self.method(), call.time, attributes);
        Span { kind: SpanKind::Client.into(), status: failed.then(error), ..span }
    }

    /// What span and log record have of a request.
    fn describe(&self, attributes: &mut Attributes) {
        let Recorded { conclusion, address, status, issuer, client, decision, .. } = self.recorded;
        attributes.text("http.request.method", self.method());
        match (&self.route, &self.recorded.target) {
            (Some(route), _) => attributes.text("http.route", route),
            (None, Target::Unmatched { path, .. }) => attributes.text("url.path", path),
            (None, _) => {}
        }
        if *status != 0 {
            attributes.number("http.response.status_code", *status);
        }
        if let Some(address) = address {
            attributes.text("client.address", &address.to_string());
        }
        attributes.text("scopegate.decision.id", &decision.to_text());
        attributes.text("scopegate.verdict", conclusion.verdict);
        attributes.text("scopegate.reason", conclusion.reason.unwrap_or_default());
        if let Some((_, api)) = self.operation {
            attributes.text("scopegate.api", api.name.as_str());
        }
        let issuer = issuer.as_ref().map(crate::names::IssuerName::as_str);
        attributes.text("scopegate.issuer", issuer.unwrap_or_default());
        attributes.text("scopegate.client", client.as_deref().unwrap_or_default());
        attributes.text("scopegate.set", &self.recorded.set);
    }

    /// The host that was asked.
    fn host(&self) -> &str {
        let of_api = self.operation.and_then(|(_, api)| api.host.as_deref());
        match &self.recorded.target {
            Target::Unmatched { host, .. } => host,
            Target::Operation(..) | Target::Endpoint(_) | Target::Unread => {
                of_api.unwrap_or(&self.process.host)
            }
        }
    }

    /// Of a closed list: our reason, or else the status.
    fn error_type(&self, attributes: &mut Attributes, status: u16) {
        match self.recorded.conclusion.reason {
            Some(reason) => attributes.text("error.type", reason),
            None if status == 0 => attributes.text("error.type", "_OTHER"),
            None => attributes.text("error.type", &status.to_string()),
        }
    }

    fn log_record(&self) -> LogRecord {
        let Recorded { conclusion, told, spans, ended, status, .. } = self.recorded;
        let mut attributes = Attributes(Vec::with_capacity(16));
        self.describe(&mut attributes);
        attributes.text("scopegate.fault", conclusion.fault);
        let (severity, word) = if *status >= 500 {
            (SeverityNumber::Error, "ERROR")
        } else {
            (SeverityNumber::Warn, "WARN")
        };
        let reason = conclusion.reason.unwrap_or("unanswered");
        LogRecord {
            time_unix_nano: *ended,
            observed_time_unix_nano: *ended,
            severity_number: severity.into(),
            severity_text: word.to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(format!("refused: {reason}"))) }),
            attributes: attributes.0,
            flags: u32::from(told.flags()),
            trace_id: told.trace.to_be_bytes().to_vec(),
            span_id: spans.server.to_be_bytes().to_vec(),
            event_name: REFUSED.to_owned(),
            ..LogRecord::default()
        }
    }
}

fn error() -> Status {
    Status { code: StatusCode::Error.into(), ..Status::default() }
}

/// The template of an operation's path.
fn route(operation: &Operation, api: &Api) -> String {
    let version = operation.version.as_ref().map_or("", crate::names::Version::as_str);
    let slash = if version.is_empty() { "" } else { "/" };
    format!("{}{slash}{version}{}", api.base_path, operation.resource)
}

/// A `host[:port]` without the port.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
