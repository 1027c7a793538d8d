//! Signals and the end: stop cleanly on SIGTERM, at once on SIGINT, and on nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Shared;

/// How long nothing must be under way before the gateway takes the drain for finished.
const QUIET: Duration = Duration::from_millis(500);
/// How long connections are told to close while new ones are still served; then nothing new is accepted.
pub const ANNOUNCE: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// Counts and logs panics; each costs one request, never the process.
pub fn count_panics(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    std::panic::set_hook(Box::new(move |info| {
        if let Some(shared) = shared.upgrade() {
            shared.metrics.panics.inc();
        }
        // The place, not the payload: that may hold parts of a request.
        let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        tracing::error!(%place, "a request panicked");
    }));
}

/// Listens to signals for the proxy library.
#[derive(Debug)]
pub struct Signals(Arc<Shared>);

impl Signals {
    /// Over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Ready no longer; every answer says that its connection closes. True when nothing is under way any more, false when
    /// there still is after [`ANNOUNCE`].
    async fn drain(&self) -> bool {
        self.0.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.0.fixed.edge.drain_timeout.min(ANNOUNCE);
        let mut quiet_since = Instant::now();
        tracing::info!("draining");
        while Instant::now() < deadline {
            if self.0.in_flight.load(Ordering::Relaxed) > 0 {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() >= QUIET {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::info!(in_flight = self.0.in_flight.load(Ordering::Relaxed), "accepting no more connections");
        false
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Some(mut terminate), Some(mut interrupt), Some(mut quit)) =
            (hear(SignalKind::terminate()), hear(SignalKind::interrupt()), hear(SignalKind::quit()))
        else {
            return ShutdownSignal::FastShutdown;
        };
        // Heard so that they do not end the process: tools that rotate logs send them to whoever they find.
        let _stray = (hear(SignalKind::user_defined1()), hear(SignalKind::user_defined2()));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
                // The library would drain and exit although no successor has taken the sockets over.
                _ = quit.recv() => tracing::warn!("SIGQUIT ignored: there is no successor to hand over to"),
            }
        }
        tokio::select! {
            // Nothing under way: nothing to wait for.
            quiet = self.drain() => if quiet { ShutdownSignal::FastShutdown } else { ShutdownSignal::GracefulTerminate },
            _ = terminate.recv() => ShutdownSignal::FastShutdown,
            _ = interrupt.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

fn hear(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::error!(%error, "a signal cannot be heard")).ok()
}
