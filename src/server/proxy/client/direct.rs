//! A client of HTTP/1 whose requests the gateway reads by itself: its head stays the bytes that
//! came, and its answer is written as bytes, head and first data in one.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Write};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, StatusCode};
use pingora::protocols::Shutdown;
use pingora::{Error, ErrorType, Result};
use tokio::io::AsyncWrite;
use tokio::time::timeout;

use super::library::REST;
use super::{Answer, Client, Extent, Requester};
use crate::reason::Refusal;
use crate::request::answer::AnswerHead;
use crate::request::fields::{Fields, HeadText};
use crate::request::head::Head;
use crate::request::method::Method;
use crate::request::original::Dialect;
use crate::server::edge::conn::Conn;
use crate::server::edge::guard::GuardIo;
use crate::server::edge::{EdgeState, has_more_than_is_worth_reading};
use crate::server::proxy::answer;
use crate::server::proxy::exchange::Exchange;
use crate::server::proxy::lines::Wire;

/// Data up to this size is copied behind what goes before it, in bytes; more goes as it came.
const COPIED: usize = 4 * 1024;
/// Room for the next answer that is kept, in bytes.
const KEPT: usize = 4 * 1024;
/// Parts that are written at once.
const PARTS: usize = 16;
/// The status that a host is told besides one that it understands.
const DECISION_STATUS: HeaderName = HeaderName::from_static("x-decision-status");
/// How long the rest of a small body may take that was refused.
const DRAIN: Duration = Duration::from_secs(2);

/// One connection, and the request that is under way on it.
pub struct Direct {
    io: GuardIo,
    edge: Arc<EdgeState>,
    text: HeadText,
    /// What is to be written before `out`, and how much of the whole is.
    parts: VecDeque<Bytes>,
    out: Vec<u8>,
    written: usize,
    request: Request,
    /// The body of the answer goes in chunks.
    chunked: bool,
    answered: bool,
    closes: bool,
}

/// What of its request bears on how it is answered.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    http_11: bool,
    is_head: bool,
    has_body: bool,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Direct {
    /// The client of a connection.
    #[must_use]
    pub fn new(io: GuardIo, edge: Arc<EdgeState>) -> Self {
        Self {
            io,
            edge,
            text: HeadText::default(),
            parts: VecDeque::new(),
            out: Vec::new(),
            written: 0,
            request: Request::default(),
            chunked: false,
            answered: false,
            closes: false,
        }
    }

    /// Its connection.
    #[must_use]
    pub const fn conn(&self) -> &Arc<Conn> {
        self.io.conn()
    }

    /// Waits for the next head, and leaves it where it is; `None` at the end of the connection.
    pub async fn next_head(&mut self) -> Option<&std::result::Result<Head, Refusal>> {
        self.io.next_head().await
    }

    /// Begins the request whose head was waited for.
    pub fn begin(&mut self) -> Option<std::result::Result<Head, Refusal>> {
        let head = self.io.take_head(&mut self.text)?;
        (self.answered, self.chunked, self.closes) = (false, false, true);
        self.request = Request { http_11: true, ..Request::default() };
        if let Ok(head) = &head {
            self.request = Request {
                http_11: head.http_11,
                is_head: head.method == "HEAD",
                has_body: !head.body.is_done(),
            };
            self.closes = !head.http_11
                || self.text.names("connection", b"close")
                || self.edge.process.life.is_draining();
        }
        Some(head)
    }

    /// The target as it came.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.text.target()
    }

    /// Whether the connection can have another request.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.closes && self.answered && self.is_flushed() && self.io.is_body_done()
    }

    /// The connection under it, between two requests.
    #[must_use]
    pub fn into_io(self) -> GuardIo {
        self.io
    }

    /// Ends the connection, so that what was written arrives.
    pub async fn shutdown(&mut self) {
        self.io.shutdown().await;
    }

    fn begin_answer(&mut self, status: u16, reason: &str) {
        self.out.reserve(KEPT / 2);
        let version = if self.request.http_11 { "1.1" } else { "1.0" };
        // Into memory: it cannot fail.
        let _ = write!(self.out, "HTTP/{version} {status:03} {reason}\r\n");
    }

    fn end_head(&mut self) {
        if self.closes {
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn is_flushed(&self) -> bool {
        self.parts.is_empty() && self.out.is_empty()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.is_flushed() {
            let count = if self.parts.is_empty() {
                let rest = self.out.get(self.written..).unwrap_or_default();
                ready!(Pin::new(&mut self.io).poll_write(cx, rest))?
            } else {
                let mut slices = [IoSlice::new(&[]); PARTS];
                let all = self.parts.iter().map(|part| &**part).chain([&*self.out]);
                let mut used = 0;
                for (slice, part) in slices.iter_mut().zip(all) {
                    *slice = IoSlice::new(part);
                    used += 1;
                }
                let slices = slices.get(..used).unwrap_or_default();
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?
            };
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.wrote(count);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Takes off what was written.
    fn wrote(&mut self, mut count: usize) {
        while let Some(part) = self.parts.front_mut() {
            let taken = part.len().min(count);
            part.advance(taken);
            count -= taken;
            if !part.is_empty() {
                return;
            }
            self.parts.pop_front();
            if count == 0 {
                return;
            }
        }
        self.written += count;
        if self.written >= self.out.len() {
            self.written = 0;
            self.out.clear();
            if self.out.capacity() > KEPT {
                self.out = Vec::new();
            }
        }
    }
}

fn gone<T>(failed: std::io::Result<T>, kind: ErrorType) -> Result<T> {
    failed.map_err(|error| {
        let late = error.kind() == ErrorKind::TimedOut;
        let kind = if late { ErrorType::WriteTimedout } else { kind };
        Error::because(kind, "the client", error).into_down()
    })
}

impl Requester for Direct {
    type Fields = HeadText;

    fn fields(&self) -> &HeadText {
        &self.text
    }

    fn is_grpc(&self) -> bool {
        false
    }

    fn is_host(&self) -> bool {
        self.conn().decides.is_some()
    }

    // Its request line is written anew.
    fn become_method(&mut self, _: Method) {}

    // It is for one hop, and not kept.
    fn forget_upgrade(&mut self) {}

    fn close(&mut self) {
        self.closes = true;
    }

    async fn answer(&mut self, mut answer: Answer) -> Result<()> {
        if self.conn().decides == Some(Dialect::Nginx)
            && !matches!(answer.status, 200..=299 | 401 | 403)
        {
            // It knows no others: what was meant goes in a header.
            let status = answer.status.to_string();
            answer.lines.0.push((DECISION_STATUS, status.into_bytes()));
            answer.status = StatusCode::FORBIDDEN.as_u16();
        }
        self.closes |= answer.close || has_more_than_is_worth_reading(&self.text);
        let status = StatusCode::from_u16(answer.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
        self.begin_answer(answer.status, reason);
        let mut out = Wire(&mut self.out);
        for (name, value) in &answer.lines.0 {
            crate::server::proxy::lines::Lines::put(&mut out, name, value)?;
        }
        if answer.status != StatusCode::NO_CONTENT.as_u16() {
            let _ = write!(self.out, "content-length: {}\r\n", answer.body.len());
        }
        self.end_head();
        if !self.request.is_head {
            self.out.extend_from_slice(&answer.body);
        }
        self.answered = true;
        self.flush().await?;
        if !self.closes && !self.io.is_body_done() {
            // A small body is read to its end, so that the connection goes on.
            let rest = async { while let Ok(Some(_)) = self.body(false).await {} };
            let _ = timeout(DRAIN, rest).await;
        }
        Ok(())
    }
}

impl Client for Direct {
    fn is_http2(&self) -> bool {
        false
    }

    fn is_http_11(&self) -> bool {
        self.request.http_11
    }

    fn is_body_empty(&mut self) -> bool {
        !self.request.has_body
    }

    fn is_body_done(&mut self) -> bool {
        self.io.is_body_done()
    }

    fn has_answered(&self) -> bool {
        self.answered
    }

    async fn body(&mut self, idle: bool) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| {
            if idle {
                ready!(self.io.poll_gone(cx));
                return Poll::Ready(Err(Error::new_down(ErrorType::ConnectionClosed)));
            }
            Poll::Ready(gone(ready!(self.io.poll_data(cx)), ErrorType::ReadError))
        })
        .await
    }

    fn head(
        &mut self,
        head: &AnswerHead<'_>,
        extent: Extent,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.status = head.status;
        let is_interim = (100..200).contains(&head.status);
        self.begin_answer(head.status, head.reason);
        answer::write_lines(head, exchange, head.status, &mut Wire(&mut self.out))?;
        if is_interim {
            self.out.extend_from_slice(b"\r\n");
            return Ok(());
        }
        self.answered = true;
        self.closes |= self.edge.process.life.is_draining();
        if extent == Extent::Unknown {
            // So that the connection need not end with it; clients of HTTP/1.0 know no chunks (RFC
            // 9112 §6.1).
            self.chunked = self.request.http_11;
            if self.chunked {
                self.out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            }
        }
        self.end_head();
        Ok(())
    }

    fn data(&mut self, inbox: &mut BytesMut, length: usize, data: Range<usize>) {
        let size = data.len();
        if self.chunked && size > 0 {
            let _ = write!(self.out, "{size:x}\r\n");
        }
        if size > COPIED {
            let mut before = std::mem::take(&mut self.out);
            before.drain(..std::mem::take(&mut self.written));
            self.parts.push_back(Bytes::from(before));
            self.parts.push_back(inbox.split_to(length.min(inbox.len())).freeze().slice(data));
        } else {
            self.out.extend_from_slice(inbox.get(data).unwrap_or_default());
            inbox.advance(length.min(inbox.len()));
        }
        if self.chunked && size > 0 {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn end(&mut self) {
        if self.chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    async fn flush(&mut self) -> Result<()> {
        gone(std::future::poll_fn(|cx| self.poll_flush(cx)).await, ErrorType::WriteError)
    }

    async fn finish(&mut self) -> Result<()> {
        if !self.io.is_body_done() {
            let rest = async { while let Ok(Some(_)) = self.body(false).await {} };
            let _ = timeout(REST, rest).await;
        }
        Ok(())
    }
}
