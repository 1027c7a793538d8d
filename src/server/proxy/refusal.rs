//! A refusal as an HTTP answer: the one place where the refusal table meets the wire.

use bytes::Bytes;
use http::StatusCode;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use serde_json::json;

use super::exchange::{Exchange, Stage};
use crate::policy::definition::ErrorFormat;
use crate::reason::{Refusal, Remedy};
use crate::server::edge;
use crate::server::limits::quota::RateLimitStatus;
use crate::telemetry::decision_id;

/// Writes a refusal and notes its status. The connection stays usable unless `close`.
///
/// # Errors
/// The client went away.
pub async fn refuse(
    session: &mut Session,
    exchange: &mut Exchange,
    refusal: &Refusal,
    close: bool,
) -> Result<()> {
    let row = refusal.reason.row();
    let id = exchange.id.to_text();
    let format = exchange.error_format();
    let grpc = is_grpc(session.req_header());
    let body = body(refusal, &id, format);
    let status = if grpc { 200 } else { row.status };
    let mut head = ResponseHeader::build(
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Some(8),
    )?;
    if grpc {
        head.insert_header("content-type", "application/grpc")?;
        head.insert_header("grpc-status", grpc_status(row.status))?;
        head.insert_header(
            "grpc-message",
            format!("{} ({}, {id})", row.detail, refusal.reason.label()),
        )?;
    } else {
        head.insert_header("content-type", content_type(format))?;
        head.insert_header("content-length", body.len().to_string())?;
    }
    head.insert_header("cache-control", "no-store")?;
    head.insert_header(decision_id::HEADER, id)?;
    if let Some(challenge) = refusal.challenge() {
        head.insert_header(
            "www-authenticate",
            format!("{challenge}, resource_metadata=\"{}\"", metadata(exchange)),
        )?;
    }
    match &refusal.remedy {
        Remedy::Allow(methods) => head.insert_header("allow", methods)?,
        Remedy::RetryAfter(seconds) => head.insert_header("retry-after", seconds.to_string())?,
        Remedy::None | Remedy::Scopes(_) => {}
    }
    if let Stage::Refused(refused) = &exchange.stage
        && let Some(rate_limit) = &refused.rate_limit
    {
        add_rate_limit(&mut head, rate_limit)?;
    }
    super::cors::announce(&mut head, exchange)?;
    exchange.status = row.status;
    let close = close || edge::has_more_than_is_worth_reading(session.req_header());
    if close {
        session.set_keepalive(None);
    }
    // A small body is read to its end, so that the answer arrives and the connection goes on.
    session.as_downstream_mut().set_close_on_response_before_downstream_finish(close);
    if grpc {
        // Trailers-Only: status and end in one frame.
        let written =
            session.write_response_tasks(vec![HttpTask::Header(Box::new(head), true)]).await;
        return written.map(|_| ()).map_err(pingora::Error::into_down);
    }
    let is_head = session.req_header().method == http::Method::HEAD;
    // pingora does not say whose fault a failed write is: it is the client's, who went away.
    session
        .write_response_header(Box::new(head), is_head)
        .await
        .map_err(pingora::Error::into_down)?;
    // On HTTP/2 an answer without a body is ended like one with it, or it would be taken back with
    // the stream.
    let body = (!is_head).then(|| Bytes::from(body));
    session.write_response_body(body, true).await.map_err(pingora::Error::into_down)
}

/// Whether the caller reads gRPC, and not HTTP statuses and bodies.
fn is_grpc(head: &RequestHeader) -> bool {
    let kind = head.headers.get(http::header::CONTENT_TYPE);
    head.version == http::Version::HTTP_2
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The status that a gRPC caller knows a refusal by (gRPC "Status codes and their use").
const fn grpc_status(status: u16) -> &'static str {
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
pub fn add_rate_limit(head: &mut ResponseHeader, rate_limit: &RateLimitStatus) -> Result<()> {
    head.insert_header("ratelimit-policy", &rate_limit.policy)?;
    head.insert_header("ratelimit", &rate_limit.limit)
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

/// The body: RFC 9457 with our two members, or the form that callers of ServiceNow parse.
fn body(refusal: &Refusal, id: &str, format: ErrorFormat) -> String {
    let row = refusal.reason.row();
    match format {
        ErrorFormat::Problem => json!({
            "type": format!("urn:scopegate:reason:{}", refusal.reason.label()),
            "title": row.title,
            "status": row.status,
            "detail": row.detail,
            "reason": refusal.reason.label(),
            "decision_id": id,
        })
        .to_string(),
        ErrorFormat::ServiceNow => json!({
            "error": { "message": row.title, "detail": format!("{} ({}, \
                {id})", row.detail, refusal.reason.label()) },
            "status": "failure",
        })
        .to_string(),
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
    fn both_bodies_carry_reason_and_decision_id() {
        for format in [ErrorFormat::Problem, ErrorFormat::ServiceNow] {
            let text = body(&Refusal::new(Reason::ScopeMissing), "id7", format);
            assert!(text.contains("scope.missing") && text.contains("id7"), "{text}");
        }
        let text = body(
            &Refusal::because(Reason::GatewayBroken, "inner words"),
            "id7",
            ErrorFormat::Problem,
        );
        assert!(!text.contains("inner words"));
    }
}
