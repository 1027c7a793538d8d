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

    /// Ready no longer; answers say that the connection closes; waits until nothing is under way, or the drain's time is up.
    async fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.0.fixed.edge.drain_timeout;
        let mut quiet_since = Instant::now();
        tracing::info!("draining");
        while Instant::now() < deadline {
            if self.0.in_flight.load(Ordering::Relaxed) > 0 {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() >= QUIET {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::warn!(in_flight = self.0.in_flight.load(Ordering::Relaxed), "the drain's time is up");
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
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
                // The library would drain and exit although no successor has taken the sockets over.
                _ = quit.recv() => tracing::warn!("SIGQUIT ignored: there is no successor to hand over to"),
            }
        }
        tokio::select! {
            () = self.drain() => ShutdownSignal::GracefulTerminate,
            _ = terminate.recv() => ShutdownSignal::FastShutdown,
            _ = interrupt.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

fn hear(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::error!(%error, "a signal cannot be heard")).ok()
}
