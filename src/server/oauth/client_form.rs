//! A form that a client sends, with its credentials, to an endpoint that answers in JSON: read and
//! authenticated before the endpoint sees it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::FromRequest;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};

use super::authenticate::authenticate;
use super::{Caller, Outcome, Server, refuse};
use crate::client::Client;
use crate::grant::authentication::Credentials;
use crate::grant::form::{Form, MAX_BODY};
use crate::grant::{ErrorCode, GrantError, read_form};
use crate::names::Timestamp;
use crate::system::clock;

/// A form and the client that sent it.
pub(super) struct ClientForm {
    pub(super) server: Server,
    pub(super) caller: Caller,
    pub(super) client: Arc<Client>,
    pub(super) form: Form,
    /// When it was read.
    pub(super) now: Timestamp,
}

impl FromRequest<Server> for ClientForm {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, server: &Server) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        // Put there by the exchange that serves this request.
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        let mut claimed = None;
        let read = async {
            let form = form_of(&parts.uri, &parts.headers, body).await?;
            let authorization = parts.headers.get_all(header::AUTHORIZATION);
            let lines = authorization.iter().map(HeaderValue::as_bytes);
            let credentials = Credentials::parse(lines, &form)?;
            claimed = registered(&caller, &credentials);
            let now = clock::now();
            Ok((authenticate(server, &caller, credentials, now).await?, form, now))
        };
        match read.await {
            Ok((client, form, now)) => {
                Ok(Self { server: server.clone(), caller, client, form, now })
            }
            Err(error) => {
                let mut response = refuse(server, &caller, &error);
                let outcome = response.extensions_mut().get_or_insert_default::<Outcome>();
                outcome.claimed_client = claimed;
                Err(response)
            }
        }
    }
}

impl ClientForm {
    /// What the endpoint answers: its response, or the error the request ends in. Either way the
    /// record names the client.
    pub(super) fn answer(&self, answered: Result<Response, GrantError>) -> Response {
        let mut response =
            answered.unwrap_or_else(|error| refuse(&self.server, &self.caller, &error));
        let outcome = response.extensions_mut().get_or_insert_default::<Outcome>();
        outcome.client = Some(self.client.id.to_string());
        response
    }

    /// The token that a request to revoke or to introspect is about. `token_type_hint` is not
    /// needed: a token says what it is.
    ///
    /// # Errors
    /// `invalid_request` without one.
    pub(super) fn token(&self) -> Result<&str, GrantError> {
        self.form.value("token").ok_or_else(|| {
            GrantError::new(ErrorCode::InvalidRequest, "the parameter token is missing")
        })
    }
}

/// The client that credentials name, if it is one of ours: other names are a caller's own text,
/// and stay out of records.
fn registered(caller: &Caller, credentials: &Credentials) -> Option<String> {
    let client = caller.snapshot.rules().registry().client(credentials.claimed())?;
    Some(client.id.to_string())
}

async fn form_of(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<Form, GrantError> {
    let body = read_body(uri, body).await?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    read_form(content_type, &body)
}

/// The body of a request to an endpoint that takes forms.
///
/// # Errors
/// `invalid_request` for parameters in the URL, or a body that cannot be read.
pub(super) async fn read_body(uri: &Uri, body: Body) -> Result<Bytes, GrantError> {
    let invalid = |text: &'static str| GrantError::new(ErrorCode::InvalidRequest, text);
    // A secret in a URL is in logs by now (RFC 6749 §2.3.1): the client should hear of it, whatever
    // else it sent.
    if uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(invalid("send all parameters in the body, none in the URL"));
    }
    let read = axum::body::to_bytes(body, MAX_BODY).await;
    read.map_err(|_| invalid("the body could not be read, or is longer than 64 KiB"))
}
