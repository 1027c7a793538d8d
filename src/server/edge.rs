//! The edge: every connection of clients, from the listening socket to the request that the proxy
//! library is given.
//!
//! Owns listeners, caps, the PROXY protocol, TLS, deadlines and the strict reading of heads; knows
//! nothing of rules.

pub mod accepting;
pub mod admission;
pub mod bridge;
pub mod conn;
pub mod deadline;
pub mod guard;
pub mod http2;
pub mod side;
pub mod tls;
pub mod transport;

use std::io::{ErrorKind, Result as IoResult};
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora_runtime::current_handle;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, Config, Listener};
use crate::request::address::Networks;
use crate::request::fields::Fields;
use crate::request::original::Dialect;
use crate::server::process::Process;
use crate::server::process::handover::{self, Predecessor};
use crate::server::process::lifecycle::Stop;
use crate::server::process::sockets::{self, Listening};
use crate::telemetry::cause::{ConnectionCut, ConnectionRefused};
use crate::telemetry::metrics::Metrics;
use accepting::{Accepted, Accepting};
use admission::{Connections, Place};
use conn::Conn;
use guard::GuardIo;
use tls::Tls;
use transport::{Handshake, Transport};

/// How long nothing is accepted after the process has run out of descriptors or memory for it.
const RECOVER: Duration = Duration::from_millis(200);

/// How long a tunnel that is to end may take to.
pub const TUNNEL: Duration = Duration::from_millis(500);

/// How long the rest of a refused request's body may take, before the connection is given up.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a client may be silent before the kernel asks whether it is there.
const SILENT: Duration = Duration::from_secs(60);

/// Largest body of a refused request that is read so that its connection stays usable.
const WORTH_READING: u64 = 64 * 1024;

/// What the edge works with.
#[derive(Debug)]
pub struct EdgeState {
    /// Times and sizes.
    pub limits: config::Edge,
    /// Open connections of clients.
    pub connections: Arc<Connections>,
    /// Of the configuration in force, what connections are judged by.
    pub policy: ArcSwap<EdgePolicy>,
    /// Whether listeners go on accepting.
    pub process: Arc<Process>,
    /// Connections refused and cut.
    pub metrics: Arc<Metrics>,
}

/// What connections are judged by, of one configuration.
#[derive(Debug)]
pub struct EdgePolicy {
    /// Proxies that speak for clients.
    trusted_proxies: Networks,
    /// An API forwards WebSocket handshakes.
    tunnels: bool,
    /// How long the slowest upstream may take.
    slowest_upstream: Duration,
    /// TLS of each listener.
    tls: Vec<Option<Tls>>,
    /// TLS of the admin listener.
    admin_tls: Option<Tls>,
}

impl EdgePolicy {
    /// That of a configuration. Certificates that have not changed are taken over from the one
    /// before.
    ///
    /// # Errors
    /// The TLS library refuses what was read, in words for the operator.
    pub fn new(config: &Config, before: Option<&Self>) -> Result<Self, String> {
        Ok(Self {
            trusted_proxies: config.trusted_proxies.clone(),
            tunnels: config.rules.apis().iter().any(|api| api.websocket),
            slowest_upstream: config
                .upstreams
                .iter()
                .map(|upstream| upstream.response)
                .max()
                .unwrap_or_default(),
            tls: tls::build(&config.tls, before.map_or(&[], |before| &before.tls))?,
            admin_tls: tls::one(
                config.admin_tls.as_ref(),
                before.and_then(|before| before.admin_tls.as_ref()),
            )?,
        })
    }

    fn tls(&self, door: &Door) -> Option<Arc<rustls::ServerConfig>> {
        let tls = match door.declared {
            Some(at) => self.tls.get(at)?.as_ref(),
            None => self.admin_tls.as_ref().filter(|_| door.listener.tls),
        };
        tls.map(|tls| tls.config.clone())
    }
}

/// What serves the requests of connections.
#[async_trait]
pub trait Application: Send + Sync + 'static {
    /// Serves one connection, from its first request to its end. The first head must be there by
    /// `deadline`.
    async fn serve(&self, io: GuardIo, conn: Arc<Conn>, deadline: Instant);
}

/// A listener, and what its connections begin with.
#[derive(Clone, Debug)]
struct Door {
    listener: Listener,
    /// Which of the declared listeners it is; `None` for those of the people who run the gateway.
    declared: Option<usize>,
}

/// An application with the connections that it has.
struct Inner<A> {
    state: Arc<EdgeState>,
    connections: Arc<Connections>,
    application: Arc<A>,
}

impl<A> Clone for Inner<A> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            connections: self.connections.clone(),
            application: self.application.clone(),
        }
    }
}

/// What serves the requests of the declared listeners, over both versions of HTTP.
struct Public<P, A> {
    state: Arc<EdgeState>,
    /// What serves requests of HTTP/2.
    proxy: Arc<P>,
    /// What serves connections of HTTP/1.
    http1: A,
    /// Never says anything: the proxy library drops connections that wait for a request when told
    /// of a shutdown.
    never: watch::Sender<bool>,
}

#[async_trait]
impl<P: HttpServerApp + Send + Sync + 'static, A: Application> Application for Public<P, A> {
    async fn serve(&self, io: GuardIo, conn: Arc<Conn>, deadline: Instant) {
        if conn.http2 {
            return http2::serve(&self.proxy, &self.state, io, conn, deadline, &self.never).await;
        }
        self.http1.serve(io, conn, deadline).await;
    }
}

/// The service that accepts the connections of clients.
pub struct Edge<P, A> {
    inner: Inner<Public<P, A>>,
    sockets: Vec<(Listener, Listening)>,
    /// Told once everything here serves.
    predecessor: Option<Predecessor>,
    threads: usize,
}

impl<P, A> std::fmt::Debug for Edge<P, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").finish_non_exhaustive()
    }
}

impl<P, A> Edge<P, A> {
    /// The service over bound sockets, of what serves HTTP/2 and what serves HTTP/1.
    #[must_use]
    pub fn new(
        state: Arc<EdgeState>,
        proxy: Arc<P>,
        http1: A,
        sockets: Vec<(Listener, Listening)>,
        predecessor: Option<Predecessor>,
        threads: usize,
    ) -> Self {
        let connections = state.connections.clone();
        let public =
            Public { state: state.clone(), proxy, http1, never: watch::Sender::new(false) };
        let inner = Inner { state, connections, application: Arc::new(public) };
        Self { inner, sockets, predecessor, threads }
    }
}

#[async_trait]
impl<P: HttpServerApp + Send + Sync + 'static, A: Application> Service for Edge<P, A> {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let process = self.inner.state.process.clone();
        let mut loops = Vec::new();
        for (at, (listener, socket)) in self.sockets.drain(..).enumerate() {
            process.life.opened();
            let door = Door { listener, declared: Some(at) };
            loops.push(current_handle().spawn(accept(self.inner.clone(), door, socket)));
        }
        handover::serving(&process, self.predecessor.take()).await;
        for accepting in loops {
            let _ = accepting.await;
        }
        // Told when everything under way is over (process/lifecycle.rs): those that wait for a
        // request are closed.
        while !*shutdown.borrow() && shutdown.changed().await.is_ok() {}
        self.inner.application.proxy.http_cleanup().await;
    }

    fn name(&self) -> &'static str {
        "edge"
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

/// Accepts until the gateway stops; the listener is closed then.
async fn accept<A: Application>(inner: Inner<A>, door: Door, socket: Listening) {
    let process = inner.state.process.clone();
    let mut stop = process.life.stop();
    let address = &door.listener.address;
    match Accepting::new(socket) {
        Ok(socket) => {
            while *stop.borrow() == Stop::Not {
                tokio::select! {
                    accepted = socket.accept() => inner.take(&door, accepted).await,
                    _ = stop.changed() => {}
                }
            }
            // One socket is several processes': nobody closes what a successor has, or is about to
            // have.
            let taken_over = stop.borrow().takes(address) || process.life.is_handing_over();
            if !taken_over && let Err(error) = socket.turn_away(address) {
                tracing::debug!(%error, "connections on their way to a listener that closes may be \
                    reset");
            }
            let last = Instant::now() + sockets::LAST;
            while !taken_over && let Ok(accepted) = timeout_at(last, socket.accept()).await {
                inner.take(&door, accepted).await;
            }
        }
        Err(error) => tracing::error!(%address, %error, "not served"),
    }
    process.life.closed();
}

/// Serves a listener for those who run the gateway, until the process ends or a successor accepts
/// on it: with the deadlines and the strict reading of all listeners, and with connections of its
/// own.
pub async fn serve_side<A: Application>(
    state: &Arc<EdgeState>,
    listener: Listener,
    socket: &StdListener,
    application: A,
    mut shutdown: ShutdownWatch,
) {
    let (most, most_per_address) = admission::SIDE;
    let connections = Arc::new(Connections::new(most, most_per_address));
    let inner = Inner { state: state.clone(), connections, application: Arc::new(application) };
    let socket = socket.try_clone().and_then(|socket| Accepting::new(Listening::Tcp(socket)));
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(address = %listener.address, %error, "not served"),
    };
    let door = Door { listener, declared: None };
    let mut stop = state.process.life.stop();
    while !matches!(*stop.borrow(), Stop::Successor(_)) {
        tokio::select! {
            accepted = socket.accept() => inner.take(&door, accepted).await,
            _ = stop.changed() => {}
            _ = shutdown.changed() => return,
        }
    }
}

/// Why a connection did not come to HTTP.
enum NotOpened {
    /// It was ended, and is still to be counted.
    Cut(ConnectionCut),
    /// Its address has too many.
    OverCap,
}

/// A connection ready for HTTP.
struct Opened {
    transport: Transport,
    conn: Conn,
    begin: Vec<u8>,
}

impl<A: Application> Inner<A> {
    /// Serves an accepted connection in a task of its own, on any thread.
    async fn take(&self, door: &Door, accepted: IoResult<Accepted>) {
        let metrics = &self.state.metrics;
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics.edge.connection_refused(ConnectionRefused::Accept);
                // That one was gone again. With anything else (no descriptors, no memory) the next
                // attempt fails as well.
                if !matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted
                        | ErrorKind::ConnectionReset
                        | ErrorKind::Interrupted
                ) {
                    tracing::warn!(address = %door.listener.address, %error, "nothing accepted for \
                        a moment");
                    tokio::time::sleep(RECOVER).await;
                }
                return;
            }
        };
        match Place::take(&self.connections) {
            Ok(place) => {
                let (inner, door) = (self.clone(), door.clone());
                current_handle().spawn(async move { inner.serve(&door, accepted, place).await });
            }
            Err(cap) => metrics.edge.connection_refused(cap),
        }
    }

    async fn serve(&self, door: &Door, accepted: Accepted, place: Place) {
        let state = &self.state;
        // One deadline from accept to the end of the first head, whatever comes before it.
        let deadline = Instant::now() + state.limits.header_timeout;
        // On the heap only while it lasts: a connection that waits for a request is small.
        let opening = Box::pin(self.open(door, accepted, place));
        let opened = match timeout_at(deadline, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(NotOpened::Cut(cause))) => return state.metrics.edge.connection_cut(cause),
            Ok(Err(NotOpened::OverCap)) => return,
            Err(_) => return state.metrics.edge.connection_cut(ConnectionCut::HeaderTimeout),
        };
        let conn = Arc::new(opened.conn);
        let io =
            GuardIo::new(opened.transport, conn.clone(), state.clone(), opened.begin, deadline);
        let Ok(io) = io else { return };
        self.application.serve(io, conn, deadline).await;
    }

    /// Everything before HTTP.
    ///
    /// # Errors
    /// Why there is no connection; one that is over a cap has been counted.
    async fn open(
        &self,
        door: &Door,
        accepted: Accepted,
        mut place: Place,
    ) -> Result<Opened, NotOpened> {
        let listener = &door.listener;
        let (mut transport, handshake, peer) = match accepted {
            Accepted::Tcp(stream, peer) => self.open_tcp(door, stream, peer, &mut place).await?,
            Accepted::Unix(stream) => (Transport::unix(stream), Handshake::default(), None),
        };
        let (http2, begin) = if listener.h2c {
            guard::begins_http2(&mut transport)
                .await
                .map_err(|_| NotOpened::Cut(ConnectionCut::NoRequest))?
        } else {
            (handshake.http2, Vec::new())
        };
        if listener.decide.is_some_and(|dialect| http2 != (dialect == Dialect::EnvoyGrpc)) {
            // Each dialect is of one version of HTTP.
            return Err(NotOpened::Cut(ConnectionCut::NoRequest));
        }
        let mut conn = Conn::new(place, peer, handshake.certificate, http2);
        conn.decides = listener.decide;
        Ok(Opened { transport, conn, begin })
    }

    /// What comes over TCP before HTTP: the PROXY protocol, caps by address, TLS.
    ///
    /// # Errors
    /// As [`Inner::open`].
    async fn open_tcp(
        &self,
        door: &Door,
        mut stream: TcpStream,
        peer: SocketAddr,
        place: &mut Place,
    ) -> Result<(Transport, Handshake, Option<IpAddr>), NotOpened> {
        let Door { listener, declared } = door;
        let policy = self.state.policy.load_full();
        let mut peer = peer.ip().to_canonical();
        // Answers go out when they are written, not when the client has acknowledged what came
        // before.
        let _ = stream.set_nodelay(true);
        if policy.tunnels {
            // A tunnel may be silent for long: that its client is still there is the kernel's to
            // find out.
            let probe = TcpKeepalive::new().with_time(SILENT).with_interval(SILENT / 4);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&probe);
        }
        if listener.proxy_protocol && policy.trusted_proxies.contains(peer) {
            peer = transport::proxied(&mut stream)
                .await
                .map_err(|_| NotOpened::Cut(ConnectionCut::ProxyProtocol))?
                .unwrap_or(peer);
        }
        // A trusted proxy stands for many clients, but not before the people who run the gateway.
        let counts = declared.is_none() || !policy.trusted_proxies.contains(peer);
        if counts && let Err(cap) = place.of(peer) {
            self.state.metrics.edge.connection_refused(cap);
            return Err(NotOpened::OverCap);
        }
        let (transport, handshake) = match policy.tls(door) {
            Some(config) => Transport::tls(stream, config).await.map_err(|error| {
                tracing::debug!(%error, "a TLS handshake failed");
                NotOpened::Cut(ConnectionCut::TlsHandshake)
            })?,
            None if listener.tls => return Err(NotOpened::Cut(ConnectionCut::TlsHandshake)),
            None => (Transport::plain(stream), Handshake::default()),
        };
        Ok((transport, handshake, Some(peer)))
    }
}

/// Sets a session's times and whether its connection is kept, before its request is looked at.
pub fn prepare_session(session: &mut ServerSession, state: &EdgeState) {
    let edge = &state.limits;
    // Only where the client's version and Connection line allow it (RFC 9112 §9.3).
    let wanted = session.get_keepalive().is_some()
        // The library reads the first line alone.
        && !session.req_header().headers.names("connection", b"close")
        && !state.process.life.is_draining();
    // Without an end of its own: the guard watches how long a kept connection waits.
    session.set_keepalive(wanted.then_some(0));
    session.set_read_timeout(Some(edge.body_timeout));
    // Over HTTP/1 the guard beneath sees that nothing is taken, and counts it; two clocks for one
    // time would race.
    session.set_write_timeout(session.is_http2().then_some(edge.write_timeout));
    session.set_total_drain_timeout(Some(DRAIN));
}

/// Whether a request has more than is read of it for an answer that does not need it: a large or
/// endless body is not, and one that waits for `100 Continue` may never come.
#[must_use]
pub fn has_more_than_is_worth_reading(fields: &impl Fields) -> bool {
    fields.lines().any(|(name, value)| match name {
        "content-length" => {
            let length =
                std::str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
            length.is_none_or(|length| length > WORTH_READING)
        }
        "transfer-encoding" | "expect" => true,
        _ => false,
    })
}
