//! A refusal as an HTTP answer: the one place where the refusal table meets the wire.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use pingora::Result;

use super::client::{Answer, Requester};
use super::exchange::{Exchange, Stage};
use super::lines::{Lines, OwnLines};
use crate::policy::definition::ErrorFormat;
use crate::reason::{Refusal, Remedy, servicenow};
use crate::server::limits::quota::RateLimitStatus;
use crate::telemetry::decision_id;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The reason, for a host that shows no body.
pub const DECISION_REASON: HeaderName = HeaderName::from_static("x-decision-reason");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Writes a refusal and notes its status. The connection stays usable unless `close`.
///
/// # Errors
/// The client went away.
pub async fn refuse<C: Requester>(
    client: &mut C,
    exchange: &mut Exchange,
    refusal: &Refusal,
    close: bool,
) -> Result<()> {
    let row = refusal.reason.row();
    let id = exchange.id.to_text();
    let format = exchange.error_format();
    let grpc = client.is_grpc();
    let mut lines = OwnLines::default();
    let (status, body) = if grpc {
        let message = format!("{} ({}, {id})", refusal.detail(), refusal.reason.label());
        lines.put(&CONTENT_TYPE, b"application/grpc")?;
        lines.put(&GRPC_STATUS, grpc_status(row.status).as_bytes())?;
        lines.put(&GRPC_MESSAGE, message.as_bytes())?;
        (200, Vec::new())
    } else {
        lines.put(&CONTENT_TYPE, content_type(format).as_bytes())?;
        (row.status, body(refusal, &id, format).into_bytes())
    };
    lines.put(&CACHE_CONTROL, b"no-store")?;
    lines.put(&decision_id::HEADER, id.as_bytes())?;
    if client.is_host() {
        lines.put(&DECISION_REASON, refusal.reason.label().as_bytes())?;
    }
    if let Some(challenge) = refusal.challenge() {
        let value = format!("{challenge}, resource_metadata=\"{}\"", metadata(exchange));
        lines.put(&WWW_AUTHENTICATE, value.as_bytes())?;
    }
    match &refusal.remedy {
        Remedy::Allow(methods) => lines.put(&ALLOW, methods.as_bytes())?,
        Remedy::RetryAfter(seconds) => lines.put(&RETRY_AFTER, seconds.to_string().as_bytes())?,
        Remedy::None | Remedy::Scopes(_) | Remedy::Advice(_) => {}
    }
    if let Stage::Refused(refused) = &exchange.stage
        && let Some(rate_limit) = &refused.rate_limit
    {
        add_rate_limit(&mut lines, rate_limit)?;
    }
    super::cors::announce(&mut lines, exchange)?;
    exchange.status = row.status;
    client.answer(Answer { status, lines, body, close }).await
}

/// The status that a gRPC caller knows a refusal by (gRPC "Status codes and their use").
#[must_use]
pub const fn grpc_status(status: u16) -> &'static str {
    match status {
        400 => "3",
        401 => "16",
        403 => "7",
        404 | 405 => "12",
        413 | 414 | 429 | 431 => "8",
        502 | 503 => "14",
        504 => "4",
        _ => "13",
    }
}

/// How a limit stands (draft-ietf-httpapi-ratelimit-headers). Ours are the ones that count: an
/// upstream's say nothing here.
///
/// # Errors
/// A name that does not fit into a header, which the configuration does not let through.
pub fn add_rate_limit(out: &mut impl Lines, rate_limit: &RateLimitStatus) -> Result<()> {
    out.put(&RATELIMIT_POLICY, rate_limit.policy.as_bytes())?;
    out.put(&RATELIMIT, rate_limit.limit.as_bytes())
}

/// Where the API describes itself, so that a client finds out by itself where to get a token (RFC
/// 9728 §5.1).
fn metadata(exchange: &Exchange) -> String {
    let api =
        exchange.operation().and_then(|operation| exchange.snapshot.rules().api_of(operation));
    let path = api.filter(|api| api.resource.is_some()).map(|api| api.base_path.as_str());
    crate::metadata::resource_url(&exchange.snapshot.config.fixed.public_url, path)
}

const fn content_type(format: ErrorFormat) -> &'static str {
    match format {
        ErrorFormat::Problem => "application/problem+json",
        ErrorFormat::ServiceNow => "application/json",
    }
}

/// The body: RFC 9457 with our two members, or the form and the texts that callers of ServiceNow
/// parse, with three members of ours behind them.
fn body(refusal: &Refusal, id: &str, format: ErrorFormat) -> String {
    let row = refusal.reason.row();
    let label = refusal.reason.label();
    let detail = refusal.detail();
    // Neither the texts nor the names of scopes hold what JSON escapes (a test sees to it).
    match format {
        ErrorFormat::Problem => format!(
            "{{\"type\":\"urn:scopegate:reason:{label}\",\"title\":\"{}\",\"status\":{},\
             \"detail\":\"{}\",\"reason\":\"{label}\",\"decision_id\":\"{id}\"}}",
            row.title, row.status, detail
        ),
        ErrorFormat::ServiceNow => {
            let (message, theirs) = servicenow::texts(refusal);
            format!(
                "{{\"error\":{{\"message\":\"{message}\",\"detail\":\"{theirs}\"}},\
                 \"status\":\"failure\",\"reason\":\"{label}\",\"explanation\":\"{detail}\",\
                 \"decision_id\":\"{id}\"}}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn grpc_callers_get_the_status_that_says_the_same() {
        for reason in Reason::ALL {
            let status = reason.row().status;
            assert_ne!(grpc_status(status), "0", "{status}");
            assert_eq!(
                grpc_status(status) == "13",
                status == 500,
                "{status} has no gRPC status of its own"
            );
            // It goes into a header as it is.
            assert!(
                reason.row().detail.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '),
                "{:?}",
                reason.row().detail
            );
        }
    }

    #[test]
    fn advice_stands_in_the_place_of_the_detail() {
        let advice = Remedy::Advice("wrap nothing");
        let text =
            body(&Refusal::new(Reason::RequestMalformed).with(advice), "id7", ErrorFormat::Problem);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["detail"], "wrap nothing");
    }

    #[test]
    fn both_bodies_carry_reason_and_decision_id() {
        for format in [ErrorFormat::Problem, ErrorFormat::ServiceNow] {
            for reason in Reason::ALL {
                let text = body(&Refusal::new(*reason), "id7", format);
                let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
                let row = reason.row();
                let detail = match format {
                    ErrorFormat::Problem => {
                        assert_eq!(parsed["title"], row.title, "{text}");
                        &parsed["detail"]
                    }
                    ErrorFormat::ServiceNow => {
                        assert_eq!(parsed["status"], "failure", "{text}");
                        assert!(parsed["error"]["message"].is_string(), "{text}");
                        assert!(parsed["error"]["detail"].is_string(), "{text}");
                        &parsed["explanation"]
                    }
                };
                assert_eq!(detail, row.detail, "{text}");
                assert_eq!(parsed["reason"], reason.label(), "{text}");
                assert_eq!(parsed["decision_id"], "id7", "{text}");
            }
        }
        let text = body(
            &Refusal::because(Reason::GatewayBroken, "inner words"),
            "id7",
            ErrorFormat::Problem,
        );
        assert!(!text.contains("inner words"));
    }
}
