//! What the guard and the proxy's filters know of one connection.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pingora::protocols::http::ServerSession;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::admission::{Full, Place};
use super::http2::Stream;
use crate::reason::Refusal;
use crate::request::address::Networks;
use crate::request::certificate::CertificateFacts;
use crate::request::head::Head;
use crate::request::original::Dialect;

/// Paths with a fragment that one connection may have.
const MAX_FRAGMENTS: usize = 32;

/// One connection. Travels in the slot of the downstream `ProxyDigest`.
#[derive(Debug)]
pub struct Conn {
    /// Who is at its other end: the TCP peer, or whom a trusted proxy names by the PROXY protocol;
    /// nobody with an address over a Unix socket.
    pub peer: Option<IpAddr>,
    /// The certificate that the client has shown and that was verified.
    pub certificate: Option<Arc<CertificateFacts>>,
    /// It speaks HTTP/2.
    pub http2: bool,
    /// Its listener decides, for a host that asks in this dialect.
    pub decides: Option<Dialect>,
    head: Mutex<Option<Result<Head, Refusal>>>,
    /// Paths that came with a fragment over HTTP/2, up to it: the library cuts it off.
    fragments: Mutex<Vec<Vec<u8>>>,
    busy: AtomicBool,
    began: Instant,
    /// Requests under way.
    active: AtomicUsize,
    /// Milliseconds from the beginning until the last request ended.
    quiet: AtomicU64,
    served: AtomicBool,
    /// A handshake has made a tunnel of it.
    tunnel: AtomicBool,
    /// The tunnel is to end.
    end: CancellationToken,
    /// Its place among all: streams of HTTP/2 outlive the connection that they came on.
    place: Place,
}

impl Conn {
    /// A connection that begins now.
    #[must_use]
    pub fn new(
        place: Place,
        peer: Option<IpAddr>,
        certificate: Option<Arc<CertificateFacts>>,
        http2: bool,
    ) -> Self {
        Self {
            place,
            peer,
            certificate,
            http2,
            decides: None,
            head: Mutex::default(),
            fragments: Mutex::default(),
            busy: AtomicBool::default(),
            began: Instant::now(),
            active: AtomicUsize::default(),
            quiet: AtomicU64::default(),
            served: AtomicBool::default(),
            tunnel: AtomicBool::default(),
            end: CancellationToken::new(),
        }
    }

    /// Whether who is at its other end speaks for clients: one of these, or who may write to a Unix
    /// socket of ours.
    #[must_use]
    pub fn speaks_for_clients(&self, trusted: &Networks) -> bool {
        self.peer.is_none_or(|peer| trusted.contains(peer))
    }

    /// The connection of a session.
    #[must_use]
    pub fn of(session: &ServerSession) -> Option<&Arc<Self>> {
        session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    /// The head that was read for the request now beginning; `None` means that the guard has seen
    /// none, and the request must not be served.
    #[must_use]
    pub fn take_head(&self, session: &ServerSession) -> Option<Result<Head, Refusal>> {
        if self.http2 {
            return Stream::of(session)?.take_head();
        }
        self.head.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes a path that came with a fragment; false where there are more of them than a client
    /// that means well sends.
    pub(super) fn note_fragment(&self, path: Vec<u8>) -> bool {
        let mut fragments = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
        if !fragments.contains(&path) {
            fragments.push(path);
        }
        fragments.len() <= MAX_FRAGMENTS
    }

    /// Whether a path came with a fragment on this connection. Which of several requests for it had
    /// one cannot be told: none is taken.
    pub(super) fn had_fragment(&self, path: &[u8]) -> bool {
        let fragments = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
        fragments.iter().any(|found| found == path)
    }

    pub(super) fn put_head(&self, head: Result<Head, Refusal>) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        self.busy.store(true, Ordering::Release);
    }

    /// The request is over: the next head may be handed on. What is left of this one's body is
    /// still its body.
    pub fn request_done(&self) {
        self.busy.store(false, Ordering::Release);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// A request of this connection is under way until what this gives is dropped. HTTP/2 has many
    /// at once; an address may have as many as it may have connections.
    ///
    /// # Errors
    /// It has.
    pub fn stream(self: &Arc<Self>) -> Result<OpenStream, Full> {
        self.place.open_stream()?;
        self.active.fetch_add(1, Ordering::AcqRel);
        self.served.store(true, Ordering::Release);
        Ok(OpenStream(self.clone()))
    }

    /// From now on its bytes are no HTTP.
    pub fn become_tunnel(&self) {
        self.tunnel.store(true, Ordering::Release);
    }

    /// Whether its bytes are no HTTP any more.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Acquire)
    }

    /// Ends the tunnel.
    pub fn end_tunnel(&self) {
        self.end.cancel();
    }

    /// Done once the tunnel is to end.
    pub fn tunnel_end(&self) -> WaitForCancellationFutureOwned {
        self.end.clone().cancelled_owned()
    }

    /// When a connection without a request under way has been quiet for too long: `first` from its
    /// beginning if it never had one, else `between` from the end of the last. `None` while one is
    /// under way.
    pub(super) fn quiet_until(&self, first: Duration, between: Duration) -> Option<Instant> {
        if self.active.load(Ordering::Acquire) > 0 {
            return None;
        }
        if !self.served.load(Ordering::Acquire) {
            return Some(self.began + first);
        }
        Some(self.began + Duration::from_millis(self.quiet.load(Ordering::Acquire)) + between)
    }
}

/// A request under way on a connection.
#[derive(Debug)]
pub struct OpenStream(Arc<Conn>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let quiet = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet.store(quiet, Ordering::Release);
        self.0.active.fetch_sub(1, Ordering::AcqRel);
        self.0.place.close_stream();
    }
}
