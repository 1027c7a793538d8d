//! The edge: every connection of clients, from the listening socket to the request that the proxy library is given.
//!
//! Owns listeners, caps, the PROXY protocol, TLS, deadlines and the strict reading of heads; knows nothing of rules.

pub mod admission;
pub mod conn;
pub mod deadline;
pub mod guard;
pub mod handover;
pub mod http2;
pub mod listen;
pub mod side;
pub mod successor;
pub mod tls;
pub mod transport;

use std::io::{ErrorKind, Result as IoResult};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora_runtime::current_handle;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::gateway::Gateway;
use super::lifecycle::Stop;
use crate::config::Listener;
use admission::{Connections, Place};
use conn::Conn;
use guard::GuardIo;
use handover::Predecessor;
use transport::{Handshake, Transport};

/// How long nothing is accepted after the process has run out of descriptors or memory for it.
const RECOVER: Duration = Duration::from_millis(200);

/// How long a tunnel that is to end may take to.
const TUNNEL: Duration = Duration::from_millis(500);

/// How long the rest of a refused request's body may take, before the connection is given up.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a client may be silent before the kernel asks whether it is there.
const SILENT: Duration = Duration::from_secs(60);

/// What serves the requests of connections.
#[async_trait]
pub trait Application: Send + Sync + 'static {
    /// Serves one connection, from its first request to its end. The first head must be there by `deadline`.
    async fn serve(&self, io: GuardIo, conn: Arc<Conn>, deadline: Instant);
}

/// A listener, and what its connections begin with.
#[derive(Clone, Copy, Debug)]
struct Door {
    listener: Listener,
    /// Which of the declared listeners it is; `None` for those of the people who run the gateway.
    declared: Option<usize>,
}

/// An application with the connections that it has.
struct Inner<A> {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    application: Arc<A>,
}

impl<A> Clone for Inner<A> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            connections: self.connections.clone(),
            application: self.application.clone(),
        }
    }
}

/// The proxy behind the declared listeners.
struct Public {
    shared: Arc<Shared>,
    proxy: Arc<HttpProxy<Gateway>>,
    /// Never says anything: the proxy library drops connections that wait for a request when told of a shutdown.
    never: watch::Sender<bool>,
}

#[async_trait]
impl Application for Public {
    async fn serve(&self, io: GuardIo, conn: Arc<Conn>, deadline: Instant) {
        if conn.http2 {
            return http2::serve(&self.proxy, &self.shared, io, conn, deadline, &self.never).await;
        }
        let ended = async {
            conn.tunnel_end().await;
            tokio::time::sleep(TUNNEL).await;
        };
        let never = self.never.subscribe();
        tokio::select! {
            _ = self.proxy.process_new(Box::new(io), &never) => {}
            // A tunnel whose upstream takes nothing is not looked at by the proxy any more.
            () = ended => {}
        }
    }
}

/// The service that accepts the connections of clients.
pub struct Edge {
    inner: Inner<Public>,
    sockets: Vec<(Listener, StdListener)>,
    /// Told once everything here serves.
    predecessor: Option<Predecessor>,
    threads: usize,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").finish_non_exhaustive()
    }
}

impl Edge {
    /// The service over bound sockets.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        proxy: HttpProxy<Gateway>,
        sockets: Vec<(Listener, StdListener)>,
        predecessor: Option<Predecessor>,
        threads: usize,
    ) -> Self {
        let connections = shared.connections.clone();
        let proxy = Arc::new(proxy);
        let public = Public { shared: shared.clone(), proxy, never: watch::Sender::new(false) };
        let inner = Inner { shared, connections, application: Arc::new(public) };
        Self { inner, sockets, predecessor, threads }
    }
}

#[async_trait]
impl Service for Edge {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let shared = self.inner.shared.clone();
        let mut loops = Vec::new();
        for (at, (listener, socket)) in self.sockets.drain(..).enumerate() {
            shared.life.opened();
            let door = Door { listener, declared: Some(at) };
            loops.push(current_handle().spawn(accept(self.inner.clone(), door, socket)));
        }
        handover::serving(&shared, self.predecessor.take()).await;
        for accepting in loops {
            let _ = accepting.await;
        }
        // Told when everything under way is over (lifecycle.rs): those that wait for a request are closed.
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
async fn accept(inner: Inner<Public>, door: Door, socket: StdListener) {
    let shared = inner.shared.clone();
    let mut stop = shared.life.stop();
    let address = door.listener.address;
    let kept = socket.try_clone();
    match (TcpListener::from_std(socket), kept) {
        (Ok(socket), Ok(kept)) => {
            while *stop.borrow() == Stop::Not {
                tokio::select! {
                    accepted = socket.accept() => inner.take(door, accepted).await,
                    _ = stop.changed() => {}
                }
            }
            // One socket is several processes': nobody closes what a successor has, or is about to have.
            let taken_over = stop.borrow().takes(address) || shared.life.is_handing_over();
            if !taken_over && let Err(error) = listen::turn_away(&kept) {
                tracing::debug!(%error, "connections on their way to a listener that closes may be reset");
            }
            let last = Instant::now() + listen::LAST;
            while !taken_over && let Ok(accepted) = timeout_at(last, socket.accept()).await {
                inner.take(door, accepted).await;
            }
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!(%address, %error, "not served"),
    }
    shared.life.closed();
}

/// Serves a listener for those who run the gateway, until the process ends or a successor accepts on it: with the deadlines and the
/// strict reading of all listeners, and with connections of its own.
pub async fn serve_side<A: Application>(
    shared: &Arc<Shared>,
    address: SocketAddr,
    socket: &StdListener,
    application: A,
    mut shutdown: ShutdownWatch,
) {
    let (most, most_per_address) = admission::SIDE;
    let connections = Arc::new(Connections::new(most, most_per_address));
    let inner = Inner { shared: shared.clone(), connections, application: Arc::new(application) };
    let socket = match socket.try_clone().and_then(TcpListener::from_std) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%address, %error, "not served"),
    };
    let door = Door { listener: Listener::side(address), declared: None };
    let mut stop = shared.life.stop();
    while !matches!(*stop.borrow(), Stop::Successor(_)) {
        tokio::select! {
            accepted = socket.accept() => inner.take(door, accepted).await,
            _ = stop.changed() => {}
            _ = shutdown.changed() => return,
        }
    }
}

/// A connection ready for HTTP.
struct Opened {
    transport: Transport,
    conn: Conn,
    begin: Vec<u8>,
}

impl<A: Application> Inner<A> {
    /// Serves an accepted connection in a task of its own, on any thread.
    async fn take(&self, door: Door, accepted: IoResult<(TcpStream, SocketAddr)>) {
        let metrics = &self.shared.metrics;
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics.connection_refused("accept");
                // That one was gone again. With anything else (no descriptors, no memory) the next attempt fails as well.
                if !matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
                ) {
                    tracing::warn!(address = %door.listener.address, %error, "nothing accepted for a moment");
                    tokio::time::sleep(RECOVER).await;
                }
                return;
            }
        };
        match Place::take(&self.connections) {
            Ok(place) => {
                let inner = self.clone();
                current_handle().spawn(async move { inner.serve(door, stream, peer, place).await });
            }
            Err(cap) => metrics.connection_refused(cap),
        }
    }

    async fn serve(&self, door: Door, stream: TcpStream, peer: SocketAddr, place: Place) {
        let shared = &self.shared;
        // One deadline from accept to the end of the first head, whatever comes before it.
        let deadline = Instant::now() + shared.fixed.edge.header_timeout;
        let opened = match timeout_at(deadline, self.open(door, stream, peer, place)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(cause)) => return cause.into_iter().for_each(|cause| shared.metrics.connection_cut(cause)),
            Err(_) => return shared.metrics.connection_cut("header_timeout"),
        };
        let conn = Arc::new(opened.conn);
        let io = GuardIo::new(opened.transport, conn.clone(), shared.clone(), opened.begin, deadline);
        let Ok(io) = io else { return };
        self.application.serve(io, conn, deadline).await;
    }

    /// Everything before HTTP. In the place of an error, what is still to be counted.
    async fn open(
        &self,
        Door { listener, declared }: Door,
        mut stream: TcpStream,
        peer: SocketAddr,
        mut place: Place,
    ) -> Result<Opened, Option<&'static str>> {
        let shared = &self.shared;
        let snapshot = shared.snapshot.load_full();
        let mut peer = peer.ip().to_canonical();
        // Answers go out when they are written, not when the client has acknowledged what came before.
        let _ = stream.set_nodelay(true);
        if snapshot.tunnels {
            // A tunnel may be silent for long: that its client is still there is the kernel's to find out.
            let probe = TcpKeepalive::new().with_time(SILENT).with_interval(SILENT / 4);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&probe);
        }
        if listener.proxy_protocol && snapshot.config.trusted_proxies.contains(peer) {
            peer = transport::proxied(&mut stream).await.map_err(|_| Some("proxy_protocol"))?.unwrap_or(peer);
        }
        // A trusted proxy stands for many clients, but not before the people who run the gateway.
        let counts = declared.is_none() || !snapshot.config.trusted_proxies.contains(peer);
        if counts && let Err(cap) = place.of(peer) {
            shared.metrics.connection_refused(cap);
            return Err(None);
        }
        let (mut transport, handshake) = match declared.and_then(|at| snapshot.tls(at)) {
            Some(config) => Transport::tls(stream, config).await.map_err(|error| {
                tracing::debug!(%error, "a TLS handshake failed");
                Some("tls_handshake")
            })?,
            None if listener.tls => return Err(Some("tls_handshake")),
            None => (Transport::plain(stream), Handshake::default()),
        };
        let (http2, begin) = if listener.h2c {
            guard::begins_http2(&mut transport).await.map_err(|_| Some("no_request"))?
        } else {
            (handshake.http2, Vec::new())
        };
        Ok(Opened { transport, conn: Conn::new(place, peer, handshake.certificate, http2), begin })
    }
}

/// Sets a session's times and whether its connection is kept, before its request is looked at.
pub fn prepare_session(session: &mut ServerSession, shared: &Shared) {
    let edge = &shared.fixed.edge;
    // Only where the client's version and Connection line allow it (RFC 9112 §9.3).
    let wanted = session.get_keepalive().is_some() && !says_close(session.req_header()) && !shared.life.is_draining();
    // Without an end of its own: the guard watches how long a kept connection waits.
    session.set_keepalive(wanted.then_some(0));
    session.set_read_timeout(Some(edge.body_timeout));
    // Over HTTP/1 the guard beneath sees that nothing is taken, and counts it; two clocks for one time would race.
    session.set_write_timeout(session.is_http2().then_some(edge.write_timeout));
    session.set_total_drain_timeout(Some(DRAIN));
}

/// Whether any Connection line says `close`; the library reads the first alone.
fn says_close(head: &RequestHeader) -> bool {
    names(&head.headers.get_all(http::header::CONNECTION), b"close")
}

/// Whether one of these lines names something in its list, in any case.
#[must_use]
pub fn names(lines: &http::header::GetAll<'_, http::HeaderValue>, name: &[u8]) -> bool {
    let mut named = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    named.any(|found| found.trim_ascii().eq_ignore_ascii_case(name))
}
