//! Signals and the end: stop cleanly on SIGTERM, at once on SIGINT, and on nothing else.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Shared;

/// How long nothing must be under way before the gateway takes the drain for finished.
const QUIET: Duration = Duration::from_millis(500);
/// How long requests may still finish once nothing new is accepted.
pub const GRACE: Duration = Duration::from_secs(2);
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
pub struct Signals {
    shared: Arc<Shared>,
    temporary: Mutex<Option<TempDir>>,
}

impl Signals {
    /// Over the shared state; `temporary` is a folder that is to vanish with the process.
    #[must_use]
    pub const fn new(shared: Arc<Shared>, temporary: Option<TempDir>) -> Self {
        Self { shared, temporary: Mutex::new(temporary) }
    }

    /// Ends the process now. The library's own way stops its runtimes under listeners that were not told, which then try to
    /// accept for ever.
    fn exit(&self) -> ! {
        drop(self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.shared.recorder.flush(QUIET);
        std::process::exit(0)
    }

    /// Ready no longer; every answer says that its connection closes, and new connections are still served. Waits until nothing
    /// is under way, or the drain's time but for [`GRACE`] is up.
    async fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.shared.fixed.edge.drain_timeout.saturating_sub(GRACE);
        let mut quiet_since = Instant::now();
        tracing::info!("draining");
        while Instant::now() < deadline {
            if self.shared.in_flight.load(Ordering::Relaxed) > 0 {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() >= QUIET {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::info!(in_flight = self.shared.in_flight.load(Ordering::Relaxed), "accepting no more connections");
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Some(mut terminate), Some(mut interrupt), Some(mut quit)) =
            (hear(SignalKind::terminate()), hear(SignalKind::interrupt()), hear(SignalKind::quit()))
        else {
            self.exit()
        };
        // Heard so that they do not end the process: tools that rotate logs send them to whoever they find.
        let _stray = (hear(SignalKind::user_defined1()), hear(SignalKind::user_defined2()));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => self.exit(),
                // The library would drain and exit although no successor has taken the sockets over.
                _ = quit.recv() => tracing::warn!("SIGQUIT ignored: there is no successor to hand over to"),
            }
        }
        tokio::select! {
            () = self.drain() => ShutdownSignal::GracefulTerminate,
            _ = terminate.recv() => self.exit(),
            _ = interrupt.recv() => self.exit(),
        }
    }
}

fn hear(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::error!(%error, "a signal cannot be heard")).ok()
}
