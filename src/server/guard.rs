//! Stands before the proxy library on every connection: reads each request head whole and strictly ([`Head`]), under one
//! deadline and one size limit, delimits each body, and caps connections.
//!
//! Only a head that passed is handed on, its target in canonical form. For one that did not, a harmless stand-in is handed on
//! and the refusal travels beside it, so that it is answered, counted and recorded where all refusals are.

use std::collections::HashMap;
use std::future::Future;
use std::io::{IoSlice, Result as IoResult};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType, http::ServerSession,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::Shared;
use crate::reason::{Reason, Refusal};
use crate::request::body::Body;
use crate::request::head::{self, Head, Limits};

/// What is handed on in the place of a refused head. The host cannot exist (RFC 6761 §6.4), so nothing could match it.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";
/// Room made for each read of a head: most heads fit.
const READ: usize = 2 * 1024;
/// Bytes read and thrown away after a refusal, so that the answer is not lost to a reset.
const LINGER_BYTES: usize = 64 * 1024;
/// Time for that.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What the guard and the proxy's filters know of one connection. Travels in the slot of the downstream `ProxyDigest`.
#[derive(Debug, Default)]
pub struct Conn {
    head: Mutex<Option<Result<Head, Refusal>>>,
    busy: AtomicBool,
}

impl Conn {
    /// The connection of a session.
    #[must_use]
    pub fn of(session: &ServerSession) -> Option<&Arc<Self>> {
        session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    /// The head that was read for the request now beginning; `None` means that the guard has seen none, and the request must not
    /// be served.
    #[must_use]
    pub fn take_head(&self) -> Option<Result<Head, Refusal>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_head(&self, head: Result<Head, Refusal>) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        self.busy.store(true, Ordering::Release);
    }

    /// The request is over: the next head may be handed on. What is left of this one's body is still its body.
    pub fn request_done(&self) {
        self.busy.store(false, Ordering::Release);
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Collecting a head.
    Head,
    /// Handing a body on, exactly to its end.
    Body(Body),
    /// A head was refused: nothing more is handed on.
    Refused,
    /// A body lost its framing: nothing more is handed on.
    Broken,
}

/// A connection with its requests delimited by us.
struct GuardIo {
    inner: Stream,
    conn: Arc<Conn>,
    digest: Arc<ProxyDigest>,
    shared: Arc<Shared>,
    limits: Limits,
    phase: Phase,
    /// Bytes read and not yet handed on, from `cursor`; up to `ready` they may be.
    buffer: Vec<u8>,
    cursor: usize,
    ready: usize,
    wait: Wait,
    alarm: Alarm,
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

/// A deadline that is set anew for every request and hardly ever reached: moving it costs nothing, because the timer below it
/// stays where it is until it fires, and is set anew only then.
struct Alarm {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    fn after(time: Duration) -> Self {
        let at = Instant::now() + time;
        Self { at, timer: Box::pin(sleep_until(at)) }
    }

    fn set(&mut self, time: Duration) {
        self.at = Instant::now() + time;
        if self.timer.deadline() > self.at {
            self.timer.as_mut().reset(self.at);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}

impl std::fmt::Debug for GuardIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardIo").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl GuardIo {
    /// Reads until a head is whole, too large or late. Ready with true when there is something to hand on, with false at the end
    /// of the connection. While a request is under way the next head waits: bytes of it are kept, not looked at.
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
            match poll_read_buf(Pin::new(&mut *self.inner), cx, &mut self.buffer) {
                Poll::Pending => return self.poll_deadline(cx),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Sets the deadline of what is waited for now.
    fn watch(&mut self) {
        let edge = &self.shared.fixed.edge;
        let (wait, time) = match (self.buffer.is_empty(), self.wait) {
            (true, Wait::Nothing) => (Wait::Next, edge.keep_alive_timeout),
            (false, Wait::Nothing | Wait::Next) => (Wait::Head, edge.header_timeout),
            _ => return,
        };
        self.wait = wait;
        self.alarm.set(time);
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<bool>> {
        if self.wait == Wait::Nothing {
            return Poll::Pending;
        }
        ready!(self.alarm.poll(cx));
        if self.wait == Wait::Head {
            self.shared.metrics.connection_cut("header_timeout");
        }
        // The end of the connection, as the proxy sees it: what was read of the head is never handed on.
        Poll::Ready(Ok(false))
    }

    /// Looks for the end of the head; true when it is decided what is handed on.
    fn inspect(&mut self) -> bool {
        let limit = self.limits.head_bytes;
        let verdict = match head::end(&self.buffer) {
            Some(end) if end > limit => Err(Refusal::new(Reason::RequestHeaders)),
            Some(end) => self.read_head(end),
            None if self.buffer.len() > limit => Err(Refusal::new(Reason::RequestHeaders)),
            None => return false,
        };
        if let Ok(head) = &verdict {
            self.delimit(head.body.clone());
        } else {
            self.buffer.clear();
            self.buffer.extend_from_slice(STAND_IN);
            self.ready = self.buffer.len();
            self.phase = Phase::Refused;
        }
        self.conn.put_head(verdict);
        true
    }

    /// Reads the head and puts the canonical target into it where it differs: what is judged is what the proxy parses.
    fn read_head(&mut self, end: usize) -> Result<Head, Refusal> {
        let bytes = self.buffer.get(..end).unwrap_or_default();
        let head = Head::parse(bytes, &self.limits)?;
        self.ready = end;
        let start = memchr::memchr(b' ', bytes).map_or(0, |at| at + 1);
        let line_end = memchr::memchr(b'\r', bytes).unwrap_or(end);
        let target_end = bytes.get(..line_end).and_then(|line| memchr::memrchr(b' ', line)).unwrap_or(line_end);
        let target = head.target.as_str().as_bytes();
        if bytes.get(start..target_end) != Some(target) {
            self.ready = end + target.len() - (target_end - start);
            self.buffer.splice(start..target_end, target.iter().copied());
        }
        if head.upgrade {
            // Upgrades are not offered: without the line the exchange is plain HTTP to every reader behind us.
            let kept = head::without_upgrade(self.buffer.get(..self.ready).unwrap_or_default());
            let length = kept.len();
            self.buffer.splice(..self.ready, kept);
            self.ready = length;
        }
        Ok(head)
    }

    /// Lets the part of the body that came with the head through, and no byte behind it.
    fn delimit(&mut self, mut body: Body) {
        match body.take(self.buffer.get(self.ready..).unwrap_or_default()) {
            Ok(count) => {
                self.ready += count;
                self.phase = if body.is_done() { Phase::Head } else { Phase::Body(body) };
            }
            Err(_) => self.break_off(),
        }
    }

    fn break_off(&mut self) {
        self.shared.metrics.connection_cut("chunk");
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
        ready!(Pin::new(&mut *self.inner).poll_read(cx, out))?;
        let Phase::Body(body) = &mut self.phase else { return Poll::Ready(Ok(())) };
        let got = out.filled().get(start..).unwrap_or_default();
        if let Ok(count) = body.take(got) {
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

    /// After a refusal: what still comes is read and thrown away.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        let mut space = [0_u8; 4 * 1024];
        for _ in 0..16 {
            let mut chunk = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *self.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for GuardIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        let me = &mut *self;
        loop {
            if me.cursor < me.ready {
                me.release(out);
                return Poll::Ready(Ok(()));
            }
            match me.phase {
                Phase::Head => {
                    if !ready!(me.poll_head(cx))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Phase::Body(_) => return me.poll_body(cx, out),
                Phase::Refused => return me.poll_discard(cx),
                Phase::Broken => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for GuardIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        Pin::new(&mut *self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        Pin::new(&mut *self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for GuardIo {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
        if self.phase == Phase::Head && self.buffer.is_empty() {
            return;
        }
        // Closing with unread bytes resets the connection, and the refusal might not arrive (RFC 9112 §9.6).
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
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for GuardIo {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for GuardIo {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for GuardIo {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[async_trait]
impl Peek for GuardIo {
    // Cleartext HTTP/2 is off on every listener: nothing asks.
    async fn try_peek(&mut self, _: &mut [u8]) -> IoResult<bool> {
        Ok(true)
    }
}

/// Open connections, in total and by address.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Connections {
    fn lock(&self) -> std::sync::MutexGuard<'_, (usize, HashMap<IpAddr, usize>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().0
    }
}

/// One open connection; counts itself out when dropped.
struct Place {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Place {
    /// Takes a place, unless a cap is reached. Trusted proxies stand for many clients: only the total counts for them.
    fn take(shared: &Arc<Shared>, address: Option<IpAddr>) -> Result<Self, &'static str> {
        let counted = address
            .filter(|address| !shared.snapshot.load().config.trusted_proxies.contains(*address))
            .map(crate::request::address::site);
        let edge = &shared.fixed.edge;
        let mut open = shared.connections.lock();
        if open.0 >= edge.max_connections {
            return Err("total");
        }
        if let Some(address) = counted {
            let count = open.1.entry(address).or_default();
            if *count >= edge.max_connections_per_address {
                return Err("address");
            }
            *count += 1;
        }
        open.0 += 1;
        Ok(Self { shared: shared.clone(), address: counted })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.connections.lock();
        open.0 = open.0.saturating_sub(1);
        if let Some(address) = self.address
            && let Some(count) = open.1.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.1.remove(&address);
            }
        }
    }
}

/// A [`ServerApp`] around another one whose connections it guards.
#[derive(Debug)]
pub struct Guard<A> {
    app: Arc<A>,
    shared: Arc<Shared>,
}

impl<A> Guard<A> {
    /// Guards an app.
    #[must_use]
    pub fn new(app: A, shared: Arc<Shared>) -> Self {
        Self { app: Arc::new(app), shared }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Guard<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer = stream.get_socket_digest().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        let _place = match Place::take(&self.shared, peer) {
            Ok(place) => place,
            Err(cap) => {
                self.shared.metrics.connection_refused(cap);
                return None;
            }
        };
        let conn = Arc::new(Conn::default());
        let head = Box::new(ResponseHeader::build_no_case(200, Some(0)).ok()?);
        let io = GuardIo {
            inner: stream,
            digest: Arc::new(ProxyDigest::new(head, Some(Box::new(conn.clone())))),
            conn,
            limits: self.shared.fixed.edge.limits,
            wait: Wait::Head,
            alarm: Alarm::after(self.shared.fixed.edge.header_timeout),
            shared: self.shared.clone(),
            phase: Phase::Head,
            buffer: Vec::with_capacity(READ),
            cursor: 0,
            ready: 0,
        };
        // The stream is not handed back for another round: the guard's place and state belong to this call.
        let mut stream: Option<Stream> = Some(Box::new(io));
        while let Some(next) = stream {
            stream = self.app.process_new(next, shutdown).await;
        }
        None
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
