//! Serves an axum router from a pingora session, in process, streaming both ways.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Extensions, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::BodyExt;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::ServiceExt;

type Chunk = std::io::Result<Bytes>;

/// The upload, while the handler still listens to it.
struct Upload {
    sender: Option<mpsc::Sender<Chunk>>,
    seen: usize,
    max: usize,
}

impl Upload {
    /// One step: wait for room first, then read, so that a cancelled `select!` loses no bytes.
    async fn step(&mut self, session: &mut ServerSession) {
        let Some(sender) = self.sender.clone() else { return std::future::pending().await };
        let Ok(permit) = sender.reserve().await else {
            self.sender = None;
            return;
        };
        let last = match session.read_request_body().await {
            Ok(Some(bytes)) => {
                self.seen += bytes.len();
                let fits = self.seen <= self.max;
                permit.send(if fits {
                    Ok(bytes)
                } else {
                    Err(std::io::Error::other("body too large"))
                });
                !fits
            }
            Ok(None) => true,
            Err(error) => {
                permit.send(Err(std::io::Error::other(error.to_string())));
                true
            }
        };
        if last {
            self.sender = None;
        }
    }
}

/// Runs the router for the request of the session and streams its response back; gives its status
/// and extensions. `extension` is put into the request.
///
/// # Errors
/// The client went away, or the handler's body failed.
pub async fn serve<E>(
    router: &Router,
    session: &mut ServerSession,
    max_body: usize,
    extension: E,
) -> Result<(u16, Extensions)>
where
    E: Clone + Send + Sync + 'static,
{
    let (sender, receiver) = mpsc::channel::<Chunk>(1);
    // Dropped where there is no body: a sender that lives on would keep the handler waiting for
    // one.
    let sender = Some(sender).filter(|_| !session.is_body_empty());
    let mut upload = Upload { sender, seen: 0, max: max_body };
    let request = to_request(session, receiver, extension)?;
    let is_head = request.method() == http::Method::HEAD;
    let expects = expects_continue(&request) && upload.sender.is_some();
    continue_if(expects, session).await?;
    let version = request.version();
    let response = {
        let mut answer = std::pin::pin!(router.clone().oneshot(request));
        loop {
            tokio::select! {
                biased;
                response = &mut answer => break response.unwrap_or_else(|never| match never {}),
                () = upload.step(session) => {}
            }
        }
    };
    let mut response = response;
    let (status, extensions) =
        (response.status().as_u16(), std::mem::take(response.extensions_mut()));
    write(session, response, version, is_head, &mut upload).await?;
    Ok((status, extensions))
}

fn to_request<E>(
    session: &ServerSession,
    receiver: mpsc::Receiver<Chunk>,
    extension: E,
) -> Result<Request<Body>>
where
    E: Clone + Send + Sync + 'static,
{
    let mut parts = session.req_header().as_owned_parts();
    if let (Some(authority), false) =
        (parts.uri.authority(), parts.headers.contains_key(header::HOST))
    {
        // HTTP/2 has `:authority`; handlers expect Host.
        let host = HeaderValue::from_str(authority.as_str())
            .or_err(ErrorType::InvalidHTTPHeader, "authority")?;
        parts.headers.insert(header::HOST, host);
    }
    parts.extensions.insert(extension);
    Ok(Request::from_parts(parts, Body::from_stream(ReceiverStream::new(receiver).fuse())))
}

fn expects_continue(request: &Request<Body>) -> bool {
    let expect = request.headers().get(header::EXPECT);
    request.version() == Version::HTTP_11
        && expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// pingora never answers `Expect: 100-continue` for local responses, and takes the connection for
/// unusable after a 1xx.
async fn continue_if(expected: bool, session: &mut ServerSession) -> Result<()> {
    if expected && session.as_http1().is_some() {
        let keepalive = session.get_keepalive();
        session.write_continue_response().await?;
        session.set_keepalive(keepalive);
    }
    Ok(())
}

async fn write(
    session: &mut ServerSession,
    response: Response,
    version: Version,
    is_head: bool,
    upload: &mut Upload,
) -> Result<()> {
    let (mut parts, mut body) = response.into_parts();
    parts.version = version;
    let no_body =
        is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !no_body && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        match http_body::Body::size_hint(&body).exact() {
            Some(length) => {
                parts.headers.insert(header::CONTENT_LENGTH, length.into());
            }
            // Without this pingora delimits the body by closing the connection.
            None if session.as_http1().is_some() && version == Version::HTTP_11 => {
                parts
                    .headers
                    .insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            None => {}
        }
    }
    session.write_response_header(Box::new(ResponseHeader::from(parts))).await?;
    if no_body {
        return session.write_response_body(Bytes::new(), true).await;
    }
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = upload.step(session) => continue,
        };
        match frame {
            None => break,
            Some(Err(error)) => {
                return Error::e_because(ErrorType::InternalError, "handler body", error);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => session.write_response_body(data, false).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return session.write_response_trailers(trailers).await;
                    }
                }
            },
        }
    }
    session.write_response_body(Bytes::new(), true).await
}
