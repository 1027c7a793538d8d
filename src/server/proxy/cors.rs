//! What an API says with every answer: whose pages may read it (CORS), and that it will go (RFC
//! 9745, RFC 8594).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderName, LINK, VARY,
};
use http::{HeaderValue, StatusCode};
use pingora::Result;

use super::client::{Answer, Requester};
use super::exchange::{Exchange, Stage};
use super::lines::{Lines, OwnLines};
use crate::policy::decide::Preflight;
use crate::policy::definition::{Api, Deprecated};
use crate::server::oauth::Outcome;
use crate::telemetry::decision_id;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// All that only we say of other origins: an upstream does not know who asks.
pub const OURS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
];

/// Writes what the API of the exchange says.
///
/// # Errors
/// A value that cannot be one of a header, which the configuration does not let through.
pub fn announce(out: &mut impl Lines, exchange: &Exchange) -> Result<()> {
    if let Some((name, value)) = &exchange.request_id {
        out.put(name, value.as_bytes())?;
    }
    let Some(api) = exchange.api() else { return Ok(()) };
    share(out, exchange, api)?;
    api.deprecated.as_ref().map_or(Ok(()), |deprecated| deprecate(out, deprecated))
}

fn share(out: &mut impl Lines, exchange: &Exchange, api: &Api) -> Result<()> {
    let Some(cors) = &api.cors else { return Ok(()) };
    out.put(&VARY, b"origin")?;
    if let Some(origin) = &exchange.origin {
        out.put(&ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_bytes())?;
        out.put(&ACCESS_CONTROL_EXPOSE_HEADERS, cors.expose.as_bytes())?;
    }
    Ok(())
}

fn deprecate(out: &mut impl Lines, deprecated: &Deprecated) -> Result<()> {
    out.put(&DEPRECATION, format!("@{}", deprecated.since.0).as_bytes())?;
    if let Some(sunset) = deprecated.sunset {
        out.put(&SUNSET, http_date(sunset.0).as_bytes())?;
    }
    if let Some(link) = &deprecated.link {
        out.put(&LINK, format!("<{link}>; rel=\"deprecation\"").as_bytes())?;
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
pub async fn answer_preflight<C: Requester>(
    client: &mut C,
    exchange: &mut Exchange,
    preflight: &Preflight<'_>,
) -> Result<()> {
    exchange.stage = Stage::Endpoint("preflight", Outcome::default());
    let mut lines = OwnLines::default();
    lines.put(&decision_id::HEADER, &exchange.id.digits())?;
    lines.put(&VARY, b"origin, access-control-request-method, access-control-request-headers")?;
    if let Some(origin) = &exchange.origin {
        lines.put(&ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_bytes())?;
        lines.put(&ACCESS_CONTROL_ALLOW_METHODS, preflight.methods.as_bytes())?;
        lines.put(&ACCESS_CONTROL_ALLOW_HEADERS, preflight.cors.headers.as_bytes())?;
        lines.put(&ACCESS_CONTROL_MAX_AGE, preflight.cors.max_age.to_string().as_bytes())?;
    }
    let status = StatusCode::NO_CONTENT.as_u16();
    exchange.status = status;
    client.answer(Answer { status, lines, body: Vec::new(), close: false }).await
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
