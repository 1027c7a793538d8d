//! The decision record: one JSON line for each exchange, written without ever blocking a request.

use std::net::IpAddr;
use std::time::Duration;

use prometheus::IntCounter;
use serde::Serialize;

use crate::config::DecisionLog;
use crate::telemetry::lines::LineWriter;

/// Version of the record's form.
const VERSION: u32 = 1;
/// The name of the thread that writes.
const THREAD: &str = "decision log";

/// One decision record. Never a token, a secret or a query.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// Version of this form.
    pub v: u32,
    /// Decision id.
    pub id: &'a str,
    /// When, RFC 3339.
    pub time: &'a str,
    /// The id that the caller and the upstream know the request by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// Method as sent.
    pub method: &'a str,
    /// API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<&'a str>,
    /// Version of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    /// Resource template; for our own endpoints, the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<&'a str>,
    /// Path parameters that rules look at.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// Client address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Issuer, by its name here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    /// Client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'a str>,
    /// Subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// Scopes of the token that the client holds; of a token request, those granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<String>,
    /// Roles of the acting user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Claims that the operation's policy looks at.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// `permit` or `refuse`.
    pub verdict: &'a str,
    /// Reason of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// The precise fault.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub fault: &'a str,
    /// The rules that decided, with their places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What the shadow rules would have said, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<&'a str>,
    /// What the candidate set would have said, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate<'a>>,
    /// The set that decided.
    pub set: &'a str,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// Microseconds until the verdict.
    pub decision_us: u64,
    /// Microseconds in all.
    pub total_us: u64,
}

/// What a candidate set would have said.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Candidate<'a> {
    /// `permit`, or the reason of the refusal.
    pub verdict: &'a str,
    /// The policy that would decide, or the gate where it is none.
    pub rule: &'a str,
    /// The set.
    pub set: &'a str,
}

impl Record<'_> {
    /// The version of this form.
    #[must_use]
    pub const fn version() -> u32 {
        VERSION
    }
}

/// Writes records, where somebody reads them.
#[derive(Clone, Debug)]
pub struct Recorder(Option<LineWriter>);

impl Recorder {
    /// Opens the log and starts its thread. `dropped` counts the records that were not written.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(log: &DecisionLog, dropped: IntCounter) -> Result<Self, String> {
        let started = match log {
            DecisionLog::Off => return Ok(Self(None)),
            DecisionLog::Stdout => LineWriter::start(THREAD, || Ok(std::io::stdout()), dropped),
            DecisionLog::File(path) => {
                let file = path.clone();
                let open = move || std::fs::OpenOptions::new().append(true).create(true).open(file);
                LineWriter::start(THREAD, open, dropped)
            }
        };
        let place =
            if let DecisionLog::File(path) = log { format!("{path}: ") } else { String::new() };
        Ok(Self(Some(started.map_err(|error| format!("decision_log: {place}{error}"))?)))
    }

    /// Whether anybody reads records.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Waits until what was recorded has been written, at most so long.
    pub fn flush(&self, longest: Duration) {
        if let Some(writer) = &self.0 {
            writer.flush(longest);
        }
    }

    /// Hands a record to the writer, which never waits.
    pub fn record(&self, record: &Record<'_>) {
        let Some(writer) = &self.0 else { return };
        match serde_json::to_vec(record) {
            Ok(mut line) => {
                line.push(b'\n');
                writer.write(line);
            }
            Err(_) => writer.dropped().inc(),
        }
    }
}
