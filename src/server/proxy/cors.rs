//! What an API says with every answer: whose pages may read it (CORS), and that it will go (RFC
//! 9745, RFC 8594).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderName, LINK, VARY,
};
use http::{HeaderValue, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::exchange::{Exchange, Stage};
use crate::policy::decide::Preflight;
use crate::policy::definition::{Api, Deprecated};
use crate::server::oauth::Outcome;
use crate::telemetry::decision_id;

/// All that only we say of other origins: an upstream does not know who asks.
const OURS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
];

/// Puts in what the API of the exchange says.
///
/// # Errors
/// A value that cannot be one of a header, which the configuration does not let through.
pub fn announce(head: &mut ResponseHeader, exchange: &Exchange) -> Result<()> {
    if let Some((name, value)) = &exchange.request_id {
        head.insert_header(name.clone(), value)?;
    }
    let Some(api) = exchange.api() else { return Ok(()) };
    share(head, exchange, api)?;
    api.deprecated.as_ref().map_or(Ok(()), |deprecated| deprecate(head, deprecated))
}

fn share(head: &mut ResponseHeader, exchange: &Exchange, api: &Api) -> Result<()> {
    let Some(cors) = &api.cors else { return Ok(()) };
    for name in OURS {
        head.remove_header(name);
    }
    head.append_header(VARY, "origin")?;
    if let Some(origin) = &exchange.origin {
        head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin)?;
        head.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose)?;
    }
    Ok(())
}

fn deprecate(head: &mut ResponseHeader, deprecated: &Deprecated) -> Result<()> {
    head.insert_header(HeaderName::from_static("deprecation"), format!("@{}", deprecated.since.0))?;
    if let Some(sunset) = deprecated.sunset {
        head.insert_header(HeaderName::from_static("sunset"), http_date(sunset.0))?;
    }
    if let Some(link) = &deprecated.link {
        head.append_header(LINK, format!("<{link}>; rel=\"deprecation\""))?;
    }
    Ok(())
}

fn http_date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Answers a preflight: it needs no token, and is never forwarded. To an origin that may not,
/// nothing is allowed.
///
/// # Errors
/// The client went away.
pub async fn answer_preflight(
    session: &mut Session,
    exchange: &mut Exchange,
    preflight: &Preflight<'_>,
) -> Result<()> {
    exchange.stage = Stage::Endpoint("preflight", Outcome::default());
    exchange.status = StatusCode::NO_CONTENT.as_u16();
    let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, Some(8))?;
    head.insert_header(decision_id::HEADER, exchange.id.to_value())?;
    head.insert_header(
        VARY,
        "origin, access-control-request-method, access-control-request-headers",
    )?;
    if let Some(origin) = &exchange.origin {
        head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin)?;
        head.insert_header(ACCESS_CONTROL_ALLOW_METHODS, &preflight.methods)?;
        head.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, &preflight.cors.headers)?;
        head.insert_header(ACCESS_CONTROL_MAX_AGE, preflight.cors.max_age.to_string())?;
    }
    session.write_response_header(Box::new(head), true).await.map_err(pingora::Error::into_down)?;
    session.write_response_body(None, true).await.map_err(pingora::Error::into_down)
}

/// The origin to name in answers: the request's own, if its pages may read them; `*` where all may.
#[must_use]
pub fn admitted(api: &Api, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    let (cors, origin) = (api.cors.as_ref()?, origin?);
    if cors.origins.is_none() {
        return Some(HeaderValue::from_static("*"));
    }
    cors.admits(origin.to_str().ok()?).then(|| origin.clone())
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(super::http_date(1_735_689_600), "Wed, 01 Jan 2025 00:00:00 GMT");
    }
}
