//! What a collector says of a message: taken, to be sent again, or not wanted (OTLP 1, "Failures").

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use super::spans::PREFIX_BYTES;

/// Longest wait that a collector may ask for.
const MAX_DELAY: Duration = Duration::from_secs(300);
/// Longest text of a collector that is repeated in our log, in characters.
const MAX_SAID: usize = 200;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken, but for so many of its items.
    Taken {
        /// Those that the collector did not want.
        rejected: u64,
        /// Why, in its words.
        why: String,
    },
    /// It is to be sent again.
    Again {
        /// After this time; after ours if none is said.
        after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// It is not wanted: sent again, it would not be either.
    Unwanted {
        /// Why.
        why: String,
    },
}

/// An answer, read as far as it may be.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// Its head.
    pub head: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// What came behind the body.
    pub trailers: HeaderMap,
}

/// Why some items were not wanted. Both signals have it in the same form.
fn taken(message: &[u8]) -> Delivery {
    // The first field is a message of a number and a text in the answers to traces and to logs.
    match ExportTraceServiceResponse::decode(message) {
        Ok(answer) => {
            let partial = answer.partial_success.unwrap_or_default();
            let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
            Delivery::Taken { rejected, why: bounded(&partial.error_message) }
        }
        Err(_) => Delivery::Unwanted { why: NO_COLLECTOR.to_owned() },
    }
}

const NO_COLLECTOR: &str = "its answer is none of OTLP: is `endpoint` a collector's, and \
    `protocol` the one of its port?";

/// What an answer over HTTP says. `now` is in seconds since the epoch.
#[must_use]
pub fn over_http(answer: &Answer, now: i64) -> Delivery {
    let why = || format!("status {}", answer.status);
    match answer.status {
        200..=299 => taken(&answer.body),
        429 | 502..=504 => Delivery::Again { after: retry_after(&answer.head, now), why: why() },
        _ => Delivery::Unwanted { why: why() },
    }
}

/// How long to wait (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(head: &HeaderMap, now: i64) -> Option<Duration> {
    let said = head.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = said.parse::<u64>().ok().or_else(|| {
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(said).ok()?;
        Some(u64::try_from(date.as_second() - now).unwrap_or(0))
    })?;
    Some(Duration::from_secs(seconds).min(MAX_DELAY))
}

/// What an answer of gRPC says.
#[must_use]
pub fn over_grpc(answer: &Answer) -> Delivery {
    // An answer without a message has its status in the head.
    let fields =
        if answer.trailers.contains_key("grpc-status") { &answer.trailers } else { &answer.head };
    let field = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = field("grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
        // Whatever stands between may answer in the collector's place.
        return match answer.status {
            429 | 502..=504 => {
                Delivery::Again { after: None, why: format!("status {}", answer.status) }
            }
            _ => Delivery::Unwanted { why: NO_COLLECTOR.to_owned() },
        };
    };
    let said = bounded(field("grpc-message").unwrap_or_default());
    let why = if said.is_empty() { format!("code {code}") } else { format!("code {code}: {said}") };
    let delay = || field("grpc-status-details-bin").and_then(retry_delay);
    match code {
        0 => match answer.body.split_at_checked(PREFIX_BYTES) {
            Some(([0, ..], message)) => taken(message),
            _ => Delivery::Unwanted { why: NO_COLLECTOR.to_owned() },
        },
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        1 | 4 | 10 | 11 | 14 | 15 => Delivery::Again { after: delay(), why },
        // Exhausted: for a while only if it says for how long.
        8 => match delay() {
            Some(after) => Delivery::Again { after: Some(after), why },
            None => Delivery::Unwanted { why },
        },
        _ => Delivery::Unwanted { why },
    }
}

/// A text of the collector as our log repeats it.
fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

/// `google.rpc.Status`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct StatusDetails {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// How long to wait, by the details of a status.
fn retry_delay(details: &str) -> Option<Duration> {
    let packed = STANDARD_NO_PAD.decode(details).or_else(|_| STANDARD.decode(details)).ok()?;
    let details = StatusDetails::decode(&*packed).ok()?.details;
    let info = details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay.unwrap_or_default();
    let (seconds, nanos) = (u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?);
    Some(Duration::new(seconds, nanos.min(999_999_999)).min(MAX_DELAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, head: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let fields = head
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        Answer { status, head: fields.collect(), body: body.to_vec(), trailers: HeaderMap::new() }
    }

    const TAKEN: Delivery = Delivery::Taken { rejected: 0, why: String::new() };

    fn partial() -> Vec<u8> {
        use opentelemetry_proto::tonic::collector::logs::v1::{
            ExportLogsPartialSuccess, ExportLogsServiceResponse,
        };
        let partial_success = Some(ExportLogsPartialSuccess {
            rejected_log_records: 3,
            error_message: "too\nold".to_owned(),
        });
        ExportLogsServiceResponse { partial_success }.encode_to_vec()
    }

    const PARTLY: fn() -> Delivery = || Delivery::Taken { rejected: 3, why: "tooold".to_owned() };

    fn again(after: Option<u64>, why: &str) -> Delivery {
        Delivery::Again { after: after.map(Duration::from_secs), why: why.to_owned() }
    }

    #[test]
    fn over_http_the_status_says_it_and_retry_after_how_long() {
        let said = |answer: &Answer| over_http(answer, 784_111_770);
        assert_eq!(said(&answer(200, &[], b"")), TAKEN);
        assert_eq!(said(&answer(200, &[], &partial())), PARTLY());
        assert!(matches!(said(&answer(200, &[], b"<html>")), Delivery::Unwanted { .. }));
        for (value, after) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("86400", Some(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:17 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let busy = answer(429, &[("retry-after", value)], b"");
            assert_eq!(said(&busy), again(after, "status 429"), "{value}");
        }
        for status in [502, 503, 504] {
            let why = format!("status {status}");
            assert_eq!(said(&answer(status, &[], b"")), again(None, &why));
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            let found = said(&answer(status, &[("retry-after", "1")], b""));
            assert!(matches!(found, Delivery::Unwanted { .. }), "{status}");
        }
    }

    #[test]
    fn over_grpc_the_code_says_it_and_its_details_how_long() {
        let details = |seconds, nanos| {
            let delay = Delay { seconds, nanos };
            let value = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
            let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
            let details = vec![
                Detail { type_url: "type.googleapis.com/else".to_owned(), value: vec![255] },
                Detail { type_url, value },
            ];
            STANDARD_NO_PAD.encode(StatusDetails { details }.encode_to_vec())
        };
        let framed = |message: &[u8]| [&[0, 0, 0, 0, 0][..], message].concat();
        let said = |fields: &[(&'static str, &str)], body: &[u8]| {
            let mut answer = answer(200, fields, body);
            let in_head = over_grpc(&answer);
            std::mem::swap(&mut answer.head, &mut answer.trailers);
            assert_eq!(in_head, over_grpc(&answer), "wherever the status is");
            in_head
        };
        assert_eq!(said(&[("grpc-status", "0")], &framed(b"")), TAKEN);
        assert_eq!(said(&[("grpc-status", "0")], &framed(&partial())), PARTLY());
        for (code, wait, delivery) in [
            ("14", None, again(None, "code 14: full")),
            ("14", Some((2, 0)), again(Some(2), "code 14: full")),
            ("8", Some((86_400, 0)), again(Some(300), "code 8: full")),
            ("8", None, Delivery::Unwanted { why: "code 8: full".to_owned() }),
            ("8", Some((-1, 0)), Delivery::Unwanted { why: "code 8: full".to_owned() }),
            ("16", Some((1, 0)), Delivery::Unwanted { why: "code 16: full".to_owned() }),
        ] {
            let wait = wait.map(|(seconds, nanos)| details(seconds, nanos));
            let mut fields = vec![("grpc-status", code), ("grpc-message", "full")];
            fields.extend(wait.as_deref().map(|wait| ("grpc-status-details-bin", wait)));
            assert_eq!(said(&fields, b""), delivery, "{code}");
        }
        let unwanted = |delivery| matches!(delivery, Delivery::Unwanted { .. });
        for body in [&b""[..], b"\0\0", b"\x01\0\0\0\0", &framed(b"<html>")] {
            assert!(unwanted(said(&[("grpc-status", "0")], body)), "{body:?}");
        }
        assert!(unwanted(said(&[("grpc-status", "x")], b"")));
        assert!(unwanted(over_grpc(&answer(200, &[], b"<html>"))));
        assert_eq!(over_grpc(&answer(503, &[], b"")), again(None, "status 503"));
        let nonsense = [("grpc-status", "14"), ("grpc-status-details-bin", "////")];
        assert_eq!(said(&nonsense, b""), again(None, "code 14"));
    }
}
