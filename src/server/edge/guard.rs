//! Stands before the proxy library on every connection. Of HTTP/1 it reads each request head whole
//! and strictly ([`Head`]), under one deadline and one size limit, and delimits each body. Frames
//! of HTTP/2 pass (`http2.rs` reads their requests).
//!
//! A head that passed is taken by the gateway's own loop ([`GuardIo::take_head`]), or handed on to
//! the library, its target in canonical form. For one that did not pass the library gets a harmless
//! stand-in and the refusal travels with it, so that it is answered, counted and recorded where all
//! refusals are.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result as IoResult};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::EdgeState;
use super::conn::Conn;
use super::deadline::{Alarm, Pace, Stall};
use super::transport::Transport;
use crate::reason::{Reason, Refusal};
use crate::request::body::Body;
use crate::request::fields::{HeadText, Line};
use crate::request::frames::{Finding, FrameWatch};
use crate::request::head::{self, Head, Limits};
use crate::telemetry::cause::ConnectionCut;

/// What is handed on in the place of a refused head. The host cannot exist (RFC 6761 §6.4), so
/// nothing could match it.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";
/// Room made for each read of a head: most heads fit.
const READ: usize = 2 * 1024;
/// Room made for each read of a body that comes fast.
const ROOM: usize = 64 * 1024;
/// Bytes read and thrown away after a refusal, so that the answer is not lost to a reset.
const LINGER_BYTES: usize = 64 * 1024;
/// Time for that.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What a client that speaks HTTP/2 begins with (RFC 9113 §3.4). No HTTP/1 request begins like it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// HTTP/2: frames pass as they are, watched.
    Frames,
    /// Collecting a head.
    Head,
    /// Handing a body on, exactly to its end.
    Body(Body),
    /// Behind a handshake of another protocol: bytes pass as they are, until the tunnel is to end.
    Tunnel,
    /// A head was refused: nothing more is handed on.
    Refused,
    /// A body lost its framing: nothing more is handed on.
    Broken,
}

/// A connection with its requests delimited by us.
pub struct GuardIo {
    inner: Transport,
    conn: Arc<Conn>,
    digest: Arc<ProxyDigest>,
    state: Arc<EdgeState>,
    limits: Limits,
    phase: Phase,
    /// Bytes read and not yet handed on, from `cursor`; up to `ready` they may be.
    buffer: Vec<u8>,
    cursor: usize,
    ready: usize,
    /// A head that was read and is neither taken nor handed on yet: where it ends, and its lines.
    verdict: Option<Result<Head, Refusal>>,
    end: usize,
    lines: Vec<Line>,
    /// Room made for the next read of a body.
    room: usize,
    wait: Wait,
    alarm: Alarm,
    stall: Stall,
    pace: Pace,
    tunnel_end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// On HTTP/2, what the library does not pass on of heads.
    frames: Option<Box<FrameWatch>>,
}

/// What the connection waits for under a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing: a request is under way.
    Nothing,
    /// The first byte of the next head, on a kept connection.
    Next,
    /// The rest of a head: from its first byte on, and from accept on for the first.
    Head,
}

impl std::fmt::Debug for GuardIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardIo").field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// Whether a connection begins with HTTP/2, and what was read to find out.
///
/// # Errors
/// The client went away.
pub async fn begins_http2(inner: &mut Transport) -> IoResult<(bool, Vec<u8>)> {
    let mut begin = Vec::with_capacity(READ);
    loop {
        if inner.read_buf(&mut begin).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let same = begin.iter().zip(PREFACE).all(|(got, expected)| got == expected);
        if !same || begin.len() >= PREFACE.len() {
            return Ok((same, begin));
        }
    }
}

impl GuardIo {
    /// Guards a connection of which `begin` was read already, and whose first request must be there
    /// by `deadline`.
    ///
    /// # Errors
    /// Never, as far as is known: a header of our own that the proxy library cannot make.
    pub fn new(
        inner: Transport,
        conn: Arc<Conn>,
        state: Arc<EdgeState>,
        begin: Vec<u8>,
        deadline: Instant,
    ) -> pingora::Result<Self> {
        let head = Box::new(ResponseHeader::build_no_case(200, Some(0))?);
        let http2 = conn.http2;
        Ok(Self {
            inner,
            digest: Arc::new(ProxyDigest::new(head, Some(Box::new(conn.clone())))),
            conn,
            limits: state.limits.limits,
            wait: Wait::Head,
            alarm: Alarm::at(deadline),
            phase: if http2 { Phase::Frames } else { Phase::Head },
            cursor: 0,
            // Of HTTP/2 everything may be handed on; of HTTP/1 nothing before it was looked at.
            ready: if http2 { begin.len() } else { 0 },
            buffer: begin,
            verdict: None,
            end: 0,
            lines: Vec::new(),
            room: READ,
            stall: Stall::default(),
            pace: Pace::default(),
            tunnel_end: None,
            frames: http2.then(|| {
                Box::new(FrameWatch::new(state.limits.limits.head_bytes.saturating_mul(2)))
            }),
            state,
        })
    }

    /// Reads until a head is whole, too large or late. Ready with true when there is something to
    /// hand on, with false at the end of the connection. While a request is under way the next head
    /// waits: bytes of it are kept, not looked at.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<bool>> {
        loop {
            let busy = self.conn.is_busy();
            if !busy && self.inspect() {
                self.wait = Wait::Nothing;
                return Poll::Ready(Ok(true));
            }
            if busy && self.buffer.len() > self.limits.head_bytes {
                return Poll::Pending;
            }
            if !busy {
                self.watch();
            }
            self.buffer.reserve(READ);
            match poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.buffer) {
                Poll::Pending => return self.poll_deadline(cx),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Sets the deadline of what is waited for now.
    fn watch(&mut self) {
        let edge = &self.state.limits;
        let (wait, time) = match (self.buffer.is_empty(), self.wait) {
            (true, Wait::Nothing) => (Wait::Next, edge.keep_alive_timeout),
            (false, Wait::Nothing | Wait::Next) => (Wait::Head, edge.header_timeout),
            _ => return,
        };
        self.wait = wait;
        self.alarm.set(Instant::now() + time);
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<bool>> {
        if self.wait == Wait::Nothing {
            return Poll::Pending;
        }
        ready!(self.alarm.poll(cx));
        if self.wait == Wait::Head {
            self.state.metrics.edge.connection_cut(ConnectionCut::HeaderTimeout);
        }
        // The end of the connection, as the proxy sees it: what was read of the head is never
        // handed on.
        Poll::Ready(Ok(false))
    }

    /// Looks for the end of the head; true when it is read, or refused.
    fn inspect(&mut self) -> bool {
        if self.verdict.is_some() {
            return true;
        }
        let limit = self.limits.head_bytes;
        let verdict = match head::end(&self.buffer) {
            Some(end) if end > limit => Err(head::too_large(&self.limits)),
            Some(end) => self.read_head(end),
            None if self.buffer.len() > limit => Err(head::too_large(&self.limits)),
            None => return false,
        };
        if verdict.is_err() {
            self.buffer.clear();
            self.lines.clear();
            self.phase = Phase::Refused;
        }
        self.verdict = Some(verdict);
        true
    }

    fn read_head(&mut self, end: usize) -> Result<Head, Refusal> {
        let (bytes, rest) = self.buffer.split_at_checked(end).unwrap_or_default();
        let head = Head::parse_lines(bytes, &self.limits, &mut self.lines)?;
        // A chunk that is wrong and already here is refused with the head: nothing of it is
        // forwarded.
        head.body.clone().take(rest).map_err(|_| {
            Refusal::because(Reason::RequestMalformed, "a chunk that readers delimit differently")
        })?;
        self.end = end;
        Ok(head)
    }

    /// Hands the head on to the library, with the part of the body that came with it: the canonical
    /// target in its place where it differs, so that what is judged is what the library parses.
    fn hand_on(&mut self) {
        let Some(verdict) = self.verdict.take() else { return };
        if let Ok(head) = &verdict {
            self.make_canonical(head);
            let mut body = head.body.clone();
            // Looked at before: it cannot be wrong.
            self.ready += body.take(self.buffer.get(self.ready..).unwrap_or_default()).unwrap_or(0);
            self.begin_body(body);
        } else {
            self.buffer.extend_from_slice(STAND_IN);
            self.ready = self.buffer.len();
        }
        self.conn.put_head(verdict);
    }

    fn make_canonical(&mut self, head: &Head) {
        let end = self.end;
        let bytes = self.buffer.get(..end).unwrap_or_default();
        self.ready = end;
        let start = memchr::memchr(b' ', bytes).map_or(0, |at| at + 1);
        let line_end = memchr::memchr(b'\r', bytes).unwrap_or(end);
        let target_end =
            bytes.get(..line_end).and_then(|line| memchr::memrchr(b' ', line)).unwrap_or(line_end);
        let target = head.target.carried();
        let target = target.as_bytes();
        if bytes.get(start..target_end) != Some(target) {
            self.ready = end + target.len() - (target_end - start);
            self.buffer.splice(start..target_end, target.iter().copied());
        }
        if head.upgrade && !head.websocket {
            // No other upgrade is offered: without the line the exchange is plain HTTP to every
            // reader behind us.
            let kept = head::without_upgrade(self.buffer.get(..self.ready).unwrap_or_default());
            let length = kept.len();
            self.buffer.splice(..self.ready, kept);
            self.ready = length;
        }
    }

    /// No byte behind a body belongs to it.
    fn begin_body(&mut self, body: Body) {
        self.pace = Pace::default();
        self.room = READ;
        self.phase = if body.is_done() { Phase::Head } else { Phase::Body(body) };
    }

    fn break_off(&mut self) {
        self.state.metrics.edge.connection_cut(ConnectionCut::Chunk);
        self.phase = Phase::Broken;
    }

    /// Hands buffered bytes on.
    fn release(&mut self, out: &mut ReadBuf<'_>) {
        let rest = self.buffer.get(self.cursor..self.ready).unwrap_or_default();
        let count = rest.len().min(out.remaining());
        out.put_slice(rest.get(..count).unwrap_or_default());
        self.cursor += count;
        if self.cursor >= self.ready {
            self.buffer.drain(..self.ready);
            (self.cursor, self.ready) = (0, 0);
        }
    }

    /// Hands body bytes on as they come; what comes behind the body is kept for the next head.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        let start = out.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, out) {
            Poll::Pending => {
                self.pace.wait();
                return Poll::Pending;
            }
            Poll::Ready(read) => read?,
        }
        let Phase::Body(body) = &mut self.phase else { return Poll::Ready(Ok(())) };
        let got = out.filled().get(start..).unwrap_or_default();
        if !self.pace.came(got.len(), self.state.limits.body_timeout) {
            out.set_filled(start);
            self.state.metrics.edge.connection_cut(ConnectionCut::BodyPace);
            self.phase = Phase::Broken;
        } else if let Ok(count) = body.take(got) {
            let done = body.is_done();
            self.buffer.extend_from_slice(got.get(count..).unwrap_or_default());
            if done {
                self.phase = Phase::Head;
            }
            out.set_filled(start + count);
        } else {
            out.set_filled(start);
            self.break_off();
        }
        Poll::Ready(Ok(()))
    }

    /// Hands frames on as they come.
    fn poll_frames(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        let start = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, out))?;
        self.watch_frames(out, start);
        Poll::Ready(Ok(()))
    }

    /// Looks at frames before the library does. What no head may have ends the connection: nothing
    /// of it is handed on.
    fn watch_frames(&mut self, out: &mut ReadBuf<'_>, start: usize) {
        let Some(frames) = &mut self.frames else { return };
        let findings = frames.take(out.filled().get(start..).unwrap_or_default());
        let good = findings.is_ok_and(|findings| {
            findings.into_iter().all(|finding| match finding {
                Finding::Fragment(path) => self.conn.note_fragment(path),
                Finding::PseudoTrailer => false,
            })
        });
        if !good {
            out.set_filled(start);
            self.state.metrics.edge.connection_cut(ConnectionCut::Http2Malformed);
            self.phase = Phase::Broken;
        }
    }

    /// After a refusal: what still comes is read and thrown away.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        let mut space = [0_u8; 4 * 1024];
        for _ in 0..16 {
            let mut chunk = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What the gateway's own loop takes, without the library.
impl GuardIo {
    /// The connection's facts.
    #[must_use]
    pub const fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Waits for the next head, and leaves it where it is; `None` at the end of the connection.
    pub async fn next_head(&mut self) -> Option<&Result<Head, Refusal>> {
        let read = std::future::poll_fn(|cx| self.poll_head(cx)).await;
        if read.unwrap_or(false) { self.verdict.as_ref() } else { None }
    }

    /// Takes the head that was waited for, and puts its lines into `text`. What comes next is its
    /// body.
    pub fn take_head(&mut self, text: &mut HeadText) -> Option<Result<Head, Refusal>> {
        let verdict = self.verdict.take()?;
        let Ok(head) = &verdict else {
            text.put(&mut Vec::new(), &mut Vec::new());
            return Some(verdict);
        };
        if self.buffer.len() == self.end {
            text.put(&mut self.buffer, &mut self.lines);
        } else {
            let rest = self.buffer.split_off(self.end);
            let mut whole = std::mem::replace(&mut self.buffer, rest);
            text.put(&mut whole, &mut self.lines);
        }
        self.begin_body(head.body.clone());
        Some(verdict)
    }

    /// Whether everything of the body has been taken.
    #[must_use]
    pub const fn is_body_done(&self) -> bool {
        !matches!(self.phase, Phase::Body(_))
    }

    /// The next data of the body, its framing taken off; `None` at its end.
    ///
    /// # Errors
    /// The connection ended before the body, which came too slowly or lost its framing.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<Option<Bytes>>> {
        loop {
            if let Some(data) = self.data()? {
                return Poll::Ready(Ok(Some(data)));
            }
            match self.phase {
                Phase::Body(_) => {}
                Phase::Broken => return Poll::Ready(Err(ErrorKind::InvalidData.into())),
                Phase::Frames | Phase::Head | Phase::Tunnel | Phase::Refused => {
                    return Poll::Ready(Ok(None));
                }
            }
            self.buffer.reserve(self.room);
            let room = self.buffer.capacity() - self.buffer.len();
            let count = match poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.buffer) {
                Poll::Pending => {
                    self.pace.wait();
                    return Poll::Pending;
                }
                Poll::Ready(count) => count?,
            };
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            if count == room {
                self.room = ROOM;
            }
            if !self.pace.came(count, self.state.limits.body_timeout) {
                self.state.metrics.edge.connection_cut(ConnectionCut::BodyPace);
                self.phase = Phase::Broken;
            }
        }
    }

    /// Data of the body that is here already.
    fn data(&mut self) -> IoResult<Option<Bytes>> {
        let Phase::Body(body) = &mut self.phase else { return Ok(None) };
        let (mut taken, mut data) = (0, BytesMut::new());
        loop {
            let rest = self.buffer.get(taken..).unwrap_or_default();
            let Ok(piece) = body.next(rest) else {
                self.break_off();
                return Err(ErrorKind::InvalidData.into());
            };
            if piece.length == 0 {
                break;
            }
            if taken == 0 && piece.data == (0..self.buffer.len()) {
                // All of it: not copied.
                data = Bytes::from(std::mem::take(&mut self.buffer)).into();
                break;
            }
            data.extend_from_slice(rest.get(piece.data).unwrap_or_default());
            taken += piece.length;
        }
        self.buffer.drain(..taken.min(self.buffer.len()));
        if body.is_done() {
            self.phase = Phase::Head;
        }
        Ok(Some(data.freeze()).filter(|data| !data.is_empty()))
    }

    /// Ready once the client has gone away, while nothing of it is waited for. What it sends
    /// meanwhile is kept for the next head, up to the size of one.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.buffer.len() <= self.limits.head_bytes {
            self.buffer.reserve(READ);
            match ready!(poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.buffer)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for GuardIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<IoResult<()>> {
        let me = &mut *self;
        loop {
            if me.cursor < me.ready {
                let start = out.filled().len();
                me.release(out);
                me.watch_frames(out, start);
                return Poll::Ready(Ok(()));
            }
            match me.phase {
                Phase::Frames => return me.poll_frames(cx, out),
                Phase::Head if me.conn.is_tunnel() => {
                    // What came behind the handshake belongs to what follows it.
                    (me.phase, me.ready) = (Phase::Tunnel, me.buffer.len());
                }
                Phase::Tunnel => {
                    if me.poll_tunnel_end(cx).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    return Pin::new(&mut me.inner).poll_read(cx, out);
                }
                Phase::Head => {
                    if !ready!(me.poll_head(cx))? {
                        return Poll::Ready(Ok(()));
                    }
                    me.hand_on();
                }
                Phase::Body(_) => return me.poll_body(cx, out),
                Phase::Refused => return me.poll_discard(cx),
                Phase::Broken => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl GuardIo {
    /// Ready once the tunnel is to end.
    fn poll_tunnel_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let conn = &self.conn;
        self.tunnel_end.get_or_insert_with(|| Box::pin(conn.tunnel_end())).as_mut().poll(cx)
    }

    /// Notes what came of a write: a client that takes nothing is cut off.
    fn written<T>(
        &mut self,
        written: Poll<IoResult<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<IoResult<T>> {
        if self.phase == Phase::Tunnel && self.poll_tunnel_end(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let written = self.stall.watch(written, self.state.limits.write_timeout, cx);
        if let Poll::Ready(Err(error)) = &written
            && error.kind() == ErrorKind::TimedOut
        {
            self.state.metrics.edge.connection_cut(ConnectionCut::WriteTimeout);
        }
        written
    }
}

impl Drop for GuardIo {
    fn drop(&mut self) {
        // What was written of an answer that broke off is sent as far as the socket takes it: the
        // client is to see that it broke off.
        let waker = futures_util::task::noop_waker();
        let _ = Pin::new(&mut self.inner).poll_flush(&mut Context::from_waker(&waker));
    }
}

impl AsyncWrite for GuardIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<IoResult<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        let written = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(written, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        let written = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for GuardIo {
    async fn shutdown(&mut self) {
        // What cannot be sent any more is lost with the connection.
        let _ = AsyncWriteExt::shutdown(self).await;
        if matches!(self.phase, Phase::Frames | Phase::Tunnel)
            || (self.phase == Phase::Head && self.buffer.is_empty())
        {
            return;
        }
        // Closing with unread bytes resets the connection, and the refusal might not arrive (RFC
        // 9112 §9.6).
        let mut space = [0_u8; 4 * 1024];
        let mut left = LINGER_BYTES;
        let drain = async {
            while left > 0 {
                match self.inner.read(&mut space).await {
                    Ok(count) if count > 0 => left = left.saturating_sub(count),
                    _ => break,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER_TIME, drain).await;
    }
}

impl UniqueID for GuardIo {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for GuardIo {
    // What of TLS matters is in `Conn`.
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        None
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.conn.http2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for GuardIo {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for GuardIo {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for GuardIo {
    // Addresses are in `Conn` too.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

#[async_trait]
impl Peek for GuardIo {
    // Which protocol it is was found out before: nothing asks.
    async fn try_peek(&mut self, _: &mut [u8]) -> IoResult<bool> {
        Err(Error::from(ErrorKind::Unsupported))
    }
}
