//! Documents that describe us: keys (RFC 7517), the server (RFC 8414), the APIs as protected
//! resources (RFC 9728).

use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};

use super::{Caller, Server, json};
use crate::metadata;

/// Documents may be kept for so long, seconds: a new key is published longer before it signs.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

pub(super) async fn jwks(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
) -> Response {
    document(server.shared.own_keys.now().jwks().to_owned(), &caller)
}

pub(super) async fn server(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let config = &caller.snapshot.config;
    document(
        metadata::authorization_server(
            &server.shared.fixed.public_url,
            &config.grants,
            &config.rules,
        ),
        &caller,
    )
}

pub(super) async fn openid(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let config = &caller.snapshot.config;
    let public_url = &server.shared.fixed.public_url;
    document(metadata::openid_configuration(public_url, &config.grants, &config.rules), &caller)
}

pub(super) async fn resource(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Response {
    let path =
        uri.path().strip_prefix(metadata::RESOURCE).unwrap_or_default().trim_end_matches('/');
    let rules = caller.snapshot.rules();
    match metadata::protected_resource(&server.shared.fixed.public_url, path, rules) {
        Some(text) => document(text, &caller),
        None => nothing(Extension(caller)).await,
    }
}

/// No API of ours is called so.
pub(super) async fn nothing(Extension(caller): Extension<Caller>) -> Response {
    json(StatusCode::NOT_FOUND, r#"{"error":"not_found"}"#.to_owned(), &caller)
}

fn document(body: String, caller: &Caller) -> Response {
    let mut response = json(StatusCode::OK, body, caller);
    response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
    response
}
