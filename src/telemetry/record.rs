//! The decision record: one JSON line for each exchange, written without ever blocking a request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::config::DecisionLog;
use crate::config::schema::schema_of_output;
use crate::names::RoleName;
use crate::policy::Ground;
use crate::scope::ScopeSet;
use crate::telemetry::decision_id::DecisionId;
use crate::telemetry::decisions::{DecisionSink, Decisions};
use crate::telemetry::lines::LineWriter;
use crate::telemetry::log_file::LogFile;

/// Version of the record's form.
const VERSION: u32 = 1;
/// The name of the thread that writes.
const THREAD: &str = "decision log";
/// The name of the thread that keeps the last ones.
const WINDOW_THREAD: &str = "decisions";

/// A decision of scopegate: one line of the decision log. Never a token, a secret or a query. A
/// later release of the same version may have more members; none goes, and none changes its
/// meaning, without another version.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Record<'a> {
    /// Version of this form.
    #[schemars(extend("const" = VERSION))]
    pub v: u32,
    /// Decision id: 16 hexadecimal digits, as in `X-Decision-Id`.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub id: DecisionId,
    /// When, RFC 3339.
    pub time: &'a str,
    /// The trace that it is in, where a collector gets its spans: 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub trace_id: Option<TraceId>,
    /// The id that the caller and the upstream know the request by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// Method as sent.
    pub method: &'a str,
    /// Host that was asked, without port, where no operation was matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// Beginning of the path, where no operation was matched: at most four segments and 128 bytes,
    /// none of more than 40; `…` at the end for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
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
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_object")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub parameters: &'a [(Arc<str>, String)],
    /// Client address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Issuer, by its name here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    /// Client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'a str>,
    /// The client that a failed request to our own endpoints named, if it is registered. It has not
    /// authenticated: anybody can name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_client: Option<&'a str>,
    /// Subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// Scopes of the token that the client holds; of a token request, those granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub scopes: Option<Scopes<'a>>,
    /// Roles of the acting user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub roles: Vec<RoleName>,
    /// Claims that the operation's policy looks at.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_object")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub claims: Vec<(&'a str, &'a serde_json::Value)>,
    /// Claims that were to give scopes or roles and gave nothing: their form cannot be read.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unread_claims: &'a [String],
    /// `permit` or `refuse`.
    #[schemars(extend("enum" = ["permit", "refuse"]))]
    pub verdict: &'a str,
    /// Reason of a refusal, or the error code of an endpoint of our own (RFC 6749 §5.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// The precise fault.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub fault: &'a str,
    /// The rules that decided, with their places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(serialize_with = "as_texts")]
    #[schemars(with = "Vec<String>")]
    pub rules: Vec<Ground<'a>>,
    /// What the shadow rules would have said, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<&'a str>,
    /// What the candidate set would have said, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate<'a>>,
    /// The host proxy that asked, and forwards: its dialect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<&'a str>,
    /// The set that decided.
    pub set: &'a str,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// Microseconds until the verdict.
    pub decision_us: u64,
    /// Microseconds in all.
    pub total_us: u64,
}

/// The id of a trace, as records write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

/// What a candidate set would have said.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Candidate<'a> {
    /// `permit`, or the reason of the refusal.
    pub verdict: &'a str,
    /// The policy that would decide, or the gate where it is none.
    pub rule: &'a str,
    /// The set.
    pub set: &'a str,
}

/// Scopes as a record has them: separated by spaces.
#[derive(Clone, Debug)]
pub enum Scopes<'a> {
    /// Of a token.
    Set(ScopeSet),
    /// Granted, as they were answered.
    Text(&'a str),
}

impl Serialize for Scopes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(set) => serializer.collect_str(set),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

fn as_text<S: Serializer>(id: &DecisionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(std::str::from_utf8(&id.digits()).unwrap_or_default())
}

fn as_object<N: AsRef<str>, V: Serialize, S: Serializer>(
    members: impl AsRef<[(N, V)]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(members.as_ref().iter().map(|(name, value)| (name.as_ref(), value)))
}

fn as_texts<S: Serializer>(grounds: &[Ground<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    let mut texts = serializer.serialize_seq(Some(grounds.len()))?;
    for ground in grounds {
        texts.serialize_element(&format_args!("{ground}"))?;
    }
    texts.end()
}

thread_local! {
    /// Where records are written, again and again: it grows to the longest.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Record<'_> {
    /// The version of this form.
    #[must_use]
    pub const fn version() -> u32 {
        VERSION
    }

    /// The JSON Schema of this form, which `scopegate schema decision-record` prints.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schema_of_output::<Self>()
    }
}

/// Writes records, where somebody reads them: into the log, and into the window of the console.
#[derive(Clone, Debug)]
pub struct Recorder {
    log: Option<LineWriter>,
    window: Option<LineWriter>,
    /// The last decisions; empty without a window.
    pub decisions: Decisions,
}

impl Recorder {
    /// Opens the log and starts its thread; and the window's, where there is to be one. `dropped`
    /// counts the records that were not written.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(log: &DecisionLog, has_window: bool, dropped: IntCounter) -> Result<Self, String> {
        let decisions = Decisions::default();
        let sink = DecisionSink::new(decisions.clone());
        let window = has_window
            .then(|| LineWriter::start(WINDOW_THREAD, move || Ok(sink), dropped.clone()))
            .transpose()
            .map_err(|error| format!("decisions: {error}"))?;
        let log = Self::open(log, dropped)?;
        Ok(Self { log, window, decisions })
    }

    fn open(log: &DecisionLog, dropped: IntCounter) -> Result<Option<LineWriter>, String> {
        let started = match log {
            DecisionLog::Off => return Ok(None),
            DecisionLog::Stdout => LineWriter::start(THREAD, || Ok(std::io::stdout()), dropped),
            DecisionLog::File { path, rotation } => {
                let (path, rotation) = (PathBuf::from(path), *rotation);
                LineWriter::start(THREAD, move || LogFile::open(path, rotation), dropped)
            }
        };
        let place = match log {
            DecisionLog::File { path, .. } => format!("{path}: "),
            DecisionLog::Stdout | DecisionLog::Off => String::new(),
        };
        started.map(Some).map_err(|error| format!("decision_log: {place}{error}"))
    }

    /// Whether anybody reads records.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.log.is_some() || self.window.is_some()
    }

    /// Has the file opened again before the next record. Waits for nothing.
    pub fn reopen(&self) {
        if let Some(writer) = &self.log {
            writer.reopen();
        }
    }

    /// Waits until what was recorded has been written, at most so long.
    pub fn flush(&self, longest: Duration) {
        if let Some(writer) = &self.log {
            writer.flush(longest);
        }
    }

    fn writers(&self) -> impl Iterator<Item = &LineWriter> {
        self.log.iter().chain(&self.window)
    }

    /// Hands a record to the writers, which never wait.
    pub fn record(&self, record: &Record<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            match serde_json::to_writer(&mut *scratch, record) {
                Ok(()) => {
                    scratch.push(b'\n');
                    for writer in self.writers() {
                        writer.write(scratch.clone());
                    }
                }
                Err(_) => self.writers().for_each(|writer| writer.dropped().inc()),
            }
        });
    }
}
