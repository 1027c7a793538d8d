//! Connections of HTTP/2: the library reads frames, we accept requests. Each gets a strict head of
//! the same facts as one of HTTP/1, and a form in which the proxy cannot tell it from one.
//!
//! The loop is ours and not the library's, which has no end for a client that does not acknowledge
//! a GOAWAY, and bounds streams but not the work that streams leave behind when they are reset.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Uri};
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::{Digest, GetProxyDigest, Stream as Transported};
use pingora_runtime::current_handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::EdgeState;
use super::conn::Conn;
use super::deadline::Pace;
use super::guard::GuardIo;
use crate::reason::{Reason, Refusal};
use crate::request::head::{Head, Limits};
use crate::telemetry::cause::{ConnectionCut, ConnectionRefused};

/// Streams at once that a client is told of (RFC 9113 §6.5.2).
const STREAMS: u32 = 100;
/// Requests of one connection that may be worked at, those included that the client has reset.
const WORK: usize = 2 * STREAMS as usize;
/// Malformed requests after which the connection is given up.
const MALFORMED: usize = 32;
/// Requests in a row that are above what an address may have under way, after which its connection
/// is given up: to go on costs us more than it.
const ABOVE: usize = 2 * STREAMS as usize;
/// How long a client that was told to go may take to say that it has heard.
const GOING: Duration = Duration::from_secs(2);
/// How often a stream is looked at for progress.
const LOOK: Duration = Duration::from_secs(5);
/// How long, and for how much, the rest of a body is waited for that was answered before its end.
const REST: (Duration, usize) = (Duration::from_secs(1), 64 * 1024);
/// What the guard has found of one request, and when it last went on. Travels in the extensions of
/// its head.
#[derive(Clone, Debug)]
pub struct Stream(Arc<StreamFacts>);

#[derive(Debug)]
struct StreamFacts {
    head: Mutex<Option<Result<Head, Refusal>>>,
    began: Instant,
    /// Milliseconds from the beginning.
    moved: AtomicU64,
    /// How fast its body comes.
    pace: Mutex<Pace>,
}

impl Stream {
    fn new(head: Result<Head, Refusal>) -> Self {
        let mut pace = Pace::default();
        pace.wait();
        let (head, pace) = (Mutex::new(Some(head)), Mutex::new(pace));
        Self(Arc::new(StreamFacts { head, began: Instant::now(), moved: AtomicU64::new(0), pace }))
    }

    /// The stream of a session; `None` on HTTP/1.
    #[must_use]
    pub fn of(session: &ServerSession) -> Option<&Self> {
        session.req_header().extensions.get()
    }

    /// Its head, once.
    #[must_use]
    pub fn take_head(&self) -> Option<Result<Head, Refusal>> {
        self.0.head.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Something of the request or its answer has moved.
    pub fn moved(&self) {
        let moved = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.moved.store(moved, Ordering::Relaxed);
    }

    /// So many bytes of the body have come; whether they come as fast as those of HTTP/1 must.
    #[must_use]
    pub fn came(&self, bytes: usize, patience: Duration) -> bool {
        self.moved();
        let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_time = pace.came(bytes, patience);
        pace.wait();
        is_in_time
    }

    fn still(&self) -> Duration {
        (self.0.began + Duration::from_millis(self.0.moved.load(Ordering::Relaxed))).elapsed()
    }

    /// Ready once nothing has moved for `most`. The library has no time for a body of HTTP/2 that
    /// does not come.
    async fn stalled(&self, most: Duration) {
        while self.still() < most {
            tokio::time::sleep(LOOK.min(most)).await;
        }
    }
}

/// Serves a connection until it closes, is quiet for too long, or the gateway drains.
pub async fn serve<P: HttpServerApp + Send + Sync + 'static>(
    proxy: &Arc<P>,
    state: &Arc<EdgeState>,
    io: GuardIo,
    conn: Arc<Conn>,
    deadline: Instant,
    never: &watch::Sender<bool>,
) {
    let edge = state.limits;
    let digest = Arc::new(Digest { proxy_digest: io.get_proxy_digest(), ..Digest::default() });
    let Ok(Ok(mut h2)) =
        timeout_at(deadline, handshake(Box::new(io), Some(options(&edge.limits)))).await
    else {
        return state.metrics.edge.connection_cut(ConnectionCut::Http2Preface);
    };
    let mut drain = state.process.life.drain();
    let work = Arc::new(Semaphore::new(WORK));
    let (mut malformed, mut above) = (0, 0);
    // When it ends for having been told to go, and whether requests under way hold that up.
    let mut going: Option<(Instant, bool)> = None;
    loop {
        let quiet = conn.quiet_until(edge.header_timeout, edge.keep_alive_timeout);
        let until = going.map(|(until, _)| until).or(quiet);
        let until = until.unwrap_or_else(|| Instant::now() + edge.keep_alive_timeout);
        tokio::select! {
            biased;
            () = async { drop(drain.wait_for(|drain| *drain).await) }, if going.is_none_or(|(_,
                waits)| waits) => {
                h2.graceful_shutdown();
                going = Some((Instant::now() + edge.drain_timeout, false));
            }
            accepted = HttpSession::from_h2_conn(&mut h2, digest.clone()) => match accepted {
                Ok(Some(H2Accept::Session(mut session))) => {
                    let Ok(place) = work.clone().try_acquire_owned() else {
                        state.metrics.edge.connection_cut(ConnectionCut::Http2Streams);
                        return give_up(h2).await;
                    };
                    let Ok(open) = conn.stream() else {
                        // Not begun, so that a client may send it again (RFC 9113 §8.7).
                        state.metrics.edge.connection_refused(ConnectionRefused::Streams);
                        session.shutdown_with_reason(h2::Reason::REFUSED_STREAM);
                        above += 1;
                        if above >= ABOVE {
                            state.metrics.edge.connection_cut(ConnectionCut::Http2Streams);
                            return give_up(h2).await;
                        }
                        continue;
                    };
                    above = 0;
                    let (proxy, state, watch) = (proxy.clone(), state.clone(), never.subscribe());
                    let conn = conn.clone();
                    current_handle().spawn(async move {
                        request(&proxy, &state, &conn, session, &watch).await;
                        drop((place, open));
                    });
                }
                Ok(Some(H2Accept::Rejected)) => {
                    state.metrics.requests.refused("", "", &Refusal::new(Reason::RequestMalformed));
                    malformed += 1;
                    if malformed >= MALFORMED {
                        state.metrics.edge.connection_cut(ConnectionCut::Http2Malformed);
                        return give_up(h2).await;
                    }
                }
                Ok(None) => return,
                Err(_) => return state.metrics.edge.connection_cut(ConnectionCut::Http2Protocol),
            },
            () = sleep_until(until) => match going {
                // A request that came while it was told to go is still answered.
                Some((_, true)) if quiet.is_none() => going = Some((Instant::now() + GOING, true)),
                Some(_) => return,
                None if quiet.is_some_and(|until| until <= Instant::now()) => {
                    h2.graceful_shutdown();
                    going = Some((Instant::now() + GOING, true));
                }
                None => {}
            },
        }
    }
}

/// Waits a little for the end of a body that was answered before it: with the session the stream is
/// reset, which is allowed after an answer (RFC 9113 §8.1), and which clients in the field take for
/// a failure.
pub async fn await_rest(session: &mut ServerSession) {
    if Stream::of(session).is_none() || session.is_body_done() {
        return;
    }
    let (time, most) = REST;
    let rest = async {
        let mut left = most;
        while let Ok(Some(bytes)) = session.read_request_body().await
            && left >= bytes.len()
        {
            left -= bytes.len();
        }
    };
    let _ = tokio::time::timeout(time, rest).await;
}

/// Ends a connection at once, and says so.
async fn give_up(mut h2: Connection<Transported, Bytes>) {
    h2.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
    let _ = tokio::time::timeout(GOING, poll_fn(|cx| h2.poll_closed(cx))).await;
}

fn options(limits: &Limits) -> H2Options {
    let mut options = default_h2_options();
    let list = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
    options
        .max_concurrent_streams(STREAMS)
        // Above our own limit, so that what is a little too large is refused by us, with a reason.
        .max_header_list_size(list.saturating_mul(2).max(64 * 1024))
        // What may wait in memory for clients that do not read, each stream of them.
        .max_send_buffer_size(64 * 1024)
        // One upload that stands still must not hold up the others.
        .initial_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024);
    options
}

/// One request, from its head to its answer.
async fn request<P: HttpServerApp + Send + Sync>(
    proxy: &Arc<P>,
    state: &EdgeState,
    conn: &Conn,
    session: HttpSession,
    watch: &watch::Receiver<bool>,
) {
    let mut session = ServerSession::new_http2(session);
    let header = session.req_header_mut();
    let head = if conn.had_fragment(header.raw_path()) {
        Err(Refusal::because(Reason::PathAmbiguous, "a fragment in the target"))
    } else {
        read(header, &state.limits.limits)
    };
    let stream = Stream::new(head);
    header.extensions_mut().insert(stream.clone());
    let most = state.policy.load().slowest_upstream + state.limits.body_timeout;
    tokio::select! {
        _ = proxy.process_new_http(session, watch) => {}
        // The exchange is recorded as it is dropped.
        () = stream.stalled(most) => state.metrics.edge.connection_cut(ConnectionCut::Http2Stalled),
    }
}

/// Reads the head, and gives it the form of one of HTTP/1.1: origin form, one Host, one Cookie line
/// (RFC 9113 §8.2.3).
fn read(header: &mut RequestHeader, limits: &Limits) -> Result<Head, Refusal> {
    let authority =
        header.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    let host = match authority {
        Some(authority) => Some(
            authority.map_err(|_| Refusal::because(Reason::RequestMalformed, "an :authority"))?,
        ),
        None => header.headers.get(HOST).cloned(),
    };
    let mut head = Head::of_http2(
        header.method.as_str(),
        header.raw_path(),
        host.as_ref().map(HeaderValue::as_bytes),
        header.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())),
        limits,
    )?;
    let target = Uri::try_from(&*head.target.carried());
    header.set_uri(
        target
            .map_err(|_| Refusal::because(Reason::RequestMalformed, "a target that is no URI"))?,
    );
    if let Some(host) = host {
        let inserted = header.insert_header(HOST, host);
        inserted.map_err(|_| Refusal::because(Reason::RequestMalformed, "an :authority"))?;
    }
    if let Some(cookie) = joined_cookie(&header.headers) {
        header.remove_header(&COOKIE);
        let inserted = header.insert_header(COOKIE, cookie);
        inserted.map_err(|_| Refusal::because(Reason::RequestMalformed, "a Cookie"))?;
    }
    if !header.headers.contains_key(CONTENT_LENGTH) {
        head.body = crate::request::body::Body::chunked();
    }
    Ok(head)
}

/// The cookies of several lines as one.
fn joined_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(COOKIE).iter();
    let (first, second) = (lines.next()?, lines.next()?);
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}
