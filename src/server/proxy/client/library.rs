//! A client whose requests the proxy library reads: all of HTTP/2, and the handshakes of
//! WebSockets.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::{Answer, Client, Extent, Requester};
use crate::request::answer::AnswerHead;
use crate::request::method::Method;
use crate::server::edge::conn::Conn;
use crate::server::edge::http2::Stream;
use crate::server::edge::{EdgeState, has_more_than_is_worth_reading};
use crate::server::proxy::answer;
use crate::server::proxy::exchange::Exchange;

/// How long the rest of a body over HTTP/1 is read that was answered before its end.
pub const REST: Duration = Duration::from_secs(5);

/// A session of the library, and what is on its way to its client.
pub struct Library<'a> {
    session: &'a mut Session,
    edge: Arc<EdgeState>,
    interim: Vec<ResponseHeader>,
    tasks: Vec<HttpTask>,
    extent: Extent,
    is_tunnel: bool,
}

impl std::fmt::Debug for Library<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

impl<'a> Library<'a> {
    /// The client of a session.
    pub const fn new(session: &'a mut Session, edge: Arc<EdgeState>) -> Self {
        Self {
            session,
            edge,
            interim: Vec::new(),
            tasks: Vec::new(),
            extent: Extent::Nothing,
            is_tunnel: false,
        }
    }
}

/// Whether a final answer has begun.
pub fn has_answered(session: &Session) -> bool {
    let written = session.response_written();
    written.is_some_and(|head| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    })
}

/// Notes that so much of a body has come.
///
/// # Errors
/// It comes too slowly. Of HTTP/1 the guard sees that.
pub fn keep_pace(session: &Session, came: usize, patience: Duration) -> Result<()> {
    match Stream::of(session.as_downstream()) {
        Some(stream) if !stream.came(came, patience) => {
            Err(Error::new_down(ErrorType::ReadTimedout))
        }
        Some(_) | None => Ok(()),
    }
}

/// Makes the head of an answer the one that the client of a session gets.
///
/// # Errors
/// A value that cannot be one of a header; none is known.
pub fn prepare(
    head: &mut ResponseHeader,
    session: &mut Session,
    edge: &EdgeState,
    exchange: &mut Exchange,
) -> Result<()> {
    exchange.status = head.status.as_u16();
    if edge.process.life.is_draining() {
        session.set_keepalive(None);
    }
    // The version is ours to say, whatever the upstream speaks (RFC 9112 §2.3).
    head.set_version(http::Version::HTTP_11);
    if session.req_header().version == http::Version::HTTP_10 {
        // Such a client knows no chunks: the end of the connection ends the body (RFC 9112 §6.1).
        head.remove_header(&TRANSFER_ENCODING);
        head.set_version(http::Version::HTTP_10);
        session.set_keepalive(None);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(conn) = Conn::of(session.as_downstream())
    {
        conn.become_tunnel();
        session.set_read_timeout(None);
    }
    Ok(())
}

impl Requester for Library<'_> {
    type Fields = HeaderMap;

    fn fields(&self) -> &HeaderMap {
        &self.session.req_header().headers
    }

    fn is_grpc(&self) -> bool {
        let head = self.session.req_header();
        let kind = head.headers.get(http::header::CONTENT_TYPE);
        head.version == http::Version::HTTP_2
            && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    }

    fn is_host(&self) -> bool {
        false
    }

    fn become_method(&mut self, method: Method) {
        if let Ok(method) = http::Method::from_bytes(method.as_str().as_bytes()) {
            self.session.req_header_mut().set_method(method);
        }
    }

    fn forget_upgrade(&mut self) {
        self.session.req_header_mut().remove_header(&UPGRADE);
    }

    fn close(&mut self) {
        self.session.set_keepalive(None);
    }

    async fn answer(&mut self, answer: Answer) -> Result<()> {
        let is_head = self.session.req_header().method == http::Method::HEAD;
        let mut lines = HeaderMap::with_capacity(answer.lines.0.len() + 1);
        for (name, value) in answer.lines.0 {
            let value = http::HeaderValue::from_maybe_shared(Bytes::from(value))
                .map_err(|_| Error::new_in(ErrorType::InvalidHTTPHeader))?;
            lines.append(name, value);
        }
        // A gRPC answer of head alone: status and end in one frame (Trailers-Only).
        let is_bare = self.is_grpc() || answer.status == StatusCode::NO_CONTENT.as_u16();
        if !is_bare {
            lines.insert(CONTENT_LENGTH, answer.body.len().into());
        }
        let head = Box::new(with_lines(answer.status, lines)?);
        let close = answer.close || has_more_than_is_worth_reading(self.fields());
        if close {
            self.session.set_keepalive(None);
        }
        // A small body is read to its end, so that the answer arrives and the connection goes on.
        self.session.as_downstream_mut().set_close_on_response_before_downstream_finish(close);
        if self.is_grpc() {
            let written = self.session.write_response_tasks(vec![HttpTask::Header(head, true)]);
            return written.await.map(|_| ()).map_err(Error::into_down);
        }
        // The library does not say whose fault a failed write is: it is the client's, who went
        // away.
        let without = is_bare || is_head;
        self.session.write_response_header(head, without).await.map_err(Error::into_down)?;
        // On HTTP/2 an answer without a body is ended like one with it, or it would be taken back
        // with the stream.
        let body = (!without).then(|| Bytes::from(answer.body));
        self.session.write_response_body(body, true).await.map_err(Error::into_down)
    }
}

impl Client for Library<'_> {
    fn is_http2(&self) -> bool {
        self.session.is_http2()
    }

    fn is_http_11(&self) -> bool {
        self.session.req_header().version != http::Version::HTTP_10
    }

    fn is_body_empty(&mut self) -> bool {
        self.session.as_mut().is_body_empty()
    }

    fn is_body_done(&mut self) -> bool {
        !self.is_tunnel && self.session.as_mut().is_body_done()
    }

    fn has_answered(&self) -> bool {
        has_answered(self.session)
    }

    async fn body(&mut self, idle: bool) -> Result<Option<Bytes>> {
        let body = self.session.as_mut().read_body_or_idle(idle).await.map_err(Error::into_down)?;
        if body.is_some() && !self.is_body_done() {
            let came = body.as_ref().map_or(0, Bytes::len);
            keep_pace(self.session, came, self.edge.limits.body_timeout)?;
        }
        Ok(body)
    }

    fn head(
        &mut self,
        head: &AnswerHead<'_>,
        extent: Extent,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let mut lines = HeaderMap::new();
        answer::write_lines(head, exchange, head.status, &mut lines)?;
        if extent == Extent::Unknown && !self.is_http2() {
            // So that the client's connection need not end with it.
            lines.insert(TRANSFER_ENCODING, http::HeaderValue::from_static("chunked"));
        }
        let mut built = with_lines(head.status, lines)?;
        built.set_reason_phrase(Some(head.reason)).map_err(Error::into_up)?;
        prepare(&mut built, self.session, &self.edge, exchange)?;
        self.is_tunnel = built.status == StatusCode::SWITCHING_PROTOCOLS;
        if built.status.is_informational() && !self.is_tunnel {
            self.interim.push(built);
        } else {
            self.extent = extent;
            self.tasks.push(HttpTask::Header(Box::new(built), extent == Extent::Nothing));
        }
        Ok(())
    }

    fn data(&mut self, inbox: &mut BytesMut, length: usize, data: Range<usize>) {
        let data = inbox.split_to(length.min(inbox.len())).freeze().slice(data);
        if data.is_empty() {
            return;
        }
        self.tasks.push(if self.is_tunnel {
            HttpTask::UpgradedBody(Some(data), false)
        } else {
            HttpTask::Body(Some(data), false)
        });
    }

    fn end(&mut self) {
        self.tasks.push(match self.extent {
            _ if self.is_tunnel => HttpTask::UpgradedBody(None, true),
            Extent::Unknown => HttpTask::Body(None, true),
            Extent::Nothing | Extent::Length => HttpTask::Done,
        });
    }

    async fn flush(&mut self) -> Result<()> {
        for head in self.interim.drain(..) {
            let keepalive = self.session.get_keepalive();
            let written = self.session.write_response_header(Box::new(head), false).await;
            written.map_err(Error::into_down)?;
            // The library takes a connection for unusable after an interim answer.
            self.session.set_keepalive(keepalive);
        }
        if self.tasks.is_empty() {
            return Ok(());
        }
        // Whoever watches the exchange sees that it goes on.
        if let Some(stream) = Stream::of(self.session.as_downstream()) {
            stream.moved();
        }
        let tasks = std::mem::take(&mut self.tasks);
        self.session.write_response_tasks(tasks).await.map(drop).map_err(Error::into_down)
    }

    async fn finish(&mut self) -> Result<()> {
        // Over HTTP/2 the rest is waited for once the exchange is over.
        if !self.session.is_http2() && !self.is_tunnel && !self.session.as_mut().is_body_done() {
            let session = self.session.as_mut();
            let rest = async { while let Ok(Some(_)) = session.read_request_body().await {} };
            let _ = timeout(REST, rest).await;
        }
        self.session.as_mut().finish_body().await.map(drop).map_err(Error::into_down)
    }
}

/// A head of these lines.
fn with_lines(status: u16, lines: HeaderMap) -> Result<ResponseHeader> {
    let mut parts = http::response::Parts::from(ResponseHeader::build_no_case(status, Some(0))?);
    parts.headers = lines;
    Ok(ResponseHeader::from(parts))
}
