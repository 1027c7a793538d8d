//! Signals and the end: stop cleanly on SIGTERM, SIGINT or once a successor serves, at once on a
//! second SIGINT, and on nothing else. SIGUSR1 opens the logs again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use sd_notify::NotifyState;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Process;
use crate::config::ListenAddress;
use crate::telemetry::metrics::Metrics;

/// How long nothing must be under way before the gateway takes the drain for finished.
const QUIET: Duration = Duration::from_millis(500);
/// How long requests may still finish once nothing new is accepted, within the drain's time.
const GRACE: Duration = Duration::from_secs(2);
/// Exit code of a process that did not wait for its requests: as that of one which SIGINT ends.
const ABORTED: i32 = 130;
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// Whether listeners go on accepting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// They do.
    #[default]
    Not,
    /// The gateway ends, and nobody accepts after it.
    End,
    /// A successor accepts on these addresses.
    Successor(Vec<ListenAddress>),
}

impl Stop {
    /// Whether a successor accepts on an address.
    #[must_use]
    pub fn takes(&self, address: &ListenAddress) -> bool {
        matches!(self, Self::Successor(taken) if taken.contains(address))
    }
}

/// How far the process is from its end.
#[derive(Debug, Default)]
pub struct Life {
    drain: watch::Sender<bool>,
    stop: watch::Sender<Stop>,
    /// Listeners that accept.
    listeners: AtomicUsize,
    serving: AtomicBool,
    /// A successor has been given the sockets, and has not said yet that it serves.
    handing_over: AtomicBool,
}

impl Life {
    /// Whether all listeners accept, or have.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Whether the gateway drains: no longer ready, and every answer says that its connection
    /// closes.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Told when the gateway drains.
    #[must_use]
    pub fn drain(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// Told when listeners stop.
    #[must_use]
    pub fn stop(&self) -> watch::Receiver<Stop> {
        self.stop.subscribe()
    }

    /// A successor serves: this process ends once what it has under way is over.
    pub fn succeeded(&self, taken: Vec<ListenAddress>) {
        self.drain.send_replace(true);
        self.stop.send_replace(Stop::Successor(taken));
    }

    /// Whether a successor has the sockets already, and does not serve yet.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.handing_over.load(Ordering::Acquire)
    }

    /// Notes that a successor has the sockets, or that it has failed.
    pub fn hands_over(&self, now: bool) {
        self.handing_over.store(now, Ordering::Release);
    }

    /// A listener accepts.
    pub fn opened(&self) {
        self.listeners.fetch_add(1, Ordering::AcqRel);
    }

    /// A listener is closed.
    pub fn closed(&self) {
        self.listeners.fetch_sub(1, Ordering::AcqRel);
    }

    /// All listeners accept.
    pub fn serves(&self) {
        self.serving.store(true, Ordering::Release);
    }
}

/// How long systemd may take to take a notice.
const NOTICE: Duration = Duration::from_millis(200);

/// Tells systemd, where it listens. One that does not read is not waited for.
pub fn tell(state: NotifyState<'static>) {
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    let notify = move || {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "systemd could not be told");
        }
        let _ = done.try_send(());
    };
    match std::thread::Builder::new().name("sd_notify".to_owned()).spawn(notify) {
        Ok(_) if ended.recv_timeout(NOTICE).is_err() => {
            tracing::warn!("systemd does not take notices");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "systemd could not be told"),
    }
}

/// Takes the signals that are dealt with later from their defaults, which would end the process:
/// for one that comes while the gateway starts. Gives those that ask for a reload; one that comes
/// before anybody waits is kept.
///
/// # Errors
/// No signals can be heard.
pub fn hear_signals() -> Result<Signal, String> {
    let said = |fault: std::io::Error| format!("signals: {fault}");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(said)?;
    let _runtime = runtime.enter();
    for kind in [SignalKind::quit(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
        drop(signal(kind).map_err(said)?);
    }
    signal(SignalKind::hangup()).map_err(said)
}

/// Counts and logs panics; each costs one request, never the process.
pub fn count_panics(metrics: &Metrics) {
    let panics = metrics.process.panics.clone();
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        // The place, not the payload: that may hold parts of a request.
        let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        tracing::error!(%place, "a request panicked");
    }));
}

/// Listens to signals for the proxy library.
pub struct Signals {
    process: Arc<Process>,
    temporary: Mutex<Option<TempDir>>,
    /// How many connections of clients are open.
    open_connections: Box<dyn Fn() -> usize + Send + Sync>,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// For a process; `temporary` is a folder that is to vanish with it.
    #[must_use]
    pub fn new(
        process: Arc<Process>,
        temporary: Option<TempDir>,
        open_connections: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Self {
        Self {
            process,
            temporary: Mutex::new(temporary),
            open_connections: Box::new(open_connections),
        }
    }

    /// Ends the process now, requests under way or not. The library's own way stops its runtimes
    /// under listeners that were not told, which then try to accept for ever.
    fn abort(&self) -> ! {
        drop(self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.process.logs.flush(QUIET);
        std::process::exit(ABORTED)
    }

    /// Ready once a second SIGINT comes. Others are ignored: whoever asks twice for a clean end
    /// still wants a clean one.
    async fn heard_twice(
        &self,
        terminate: &mut Signal,
        interrupt: &mut Signal,
        mut interrupted: bool,
    ) {
        loop {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM ignored: already ending"),
                _ = interrupt.recv() => {
                    if std::mem::replace(&mut interrupted, true) {
                        return;
                    }
                    tracing::warn!("already ending; another SIGINT ends at once, requests under \
                        way are lost");
                }
            }
        }
    }

    /// Ready no longer; every answer says that its connection closes, and new connections are still
    /// served, until nothing is under way or the drain's time but for [`GRACE`] is up. Then
    /// listeners close, and what they had accepted is served.
    async fn drain(&self) {
        let (process, edge) = (&self.process, &self.process.fixed.edge);
        tell(NotifyState::Stopping);
        process.life.drain.send_replace(true);
        let began = Instant::now();
        tracing::info!("draining");
        tokio::time::sleep(edge.drain_delay.min(edge.drain_timeout)).await;
        self.quiet(began + edge.drain_timeout.saturating_sub(GRACE), || 0).await;
        process.life.stop.send_replace(Stop::End);
        tracing::info!(
            in_flight = process.in_flight.load(Ordering::Relaxed),
            "accepting no more connections"
        );
        let listeners = || process.life.listeners.load(Ordering::Acquire);
        self.quiet(Instant::now() + GRACE, listeners).await;
    }

    /// A successor accepts: what is connected here is served until it has gone over, or the drain's
    /// time is up.
    async fn hand_on(&self) {
        tracing::info!("a successor serves; ending once nothing is connected");
        let process = &self.process;
        let open = || (self.open_connections)() + process.life.listeners.load(Ordering::Acquire);
        self.quiet(Instant::now() + process.fixed.edge.drain_timeout, open).await;
    }

    /// Waits until no request has been under way for a moment and nothing is left of what `left`
    /// counts, or the deadline.
    async fn quiet(&self, deadline: Instant, left: impl Fn() -> usize) {
        let (mut quiet_since, mut begun) = (Instant::now(), self.process.decision_ids.begun());
        while Instant::now() < deadline {
            // Requests that came and went between two looks count too.
            let before = std::mem::replace(&mut begun, self.process.decision_ids.begun());
            if before != begun || self.process.in_flight.load(Ordering::Relaxed) + left() > 0 {
                quiet_since = Instant::now();
            } else if quiet_since.elapsed() >= QUIET {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Some(mut terminate), Some(mut interrupt), Some(mut quit)) = (
            hear(SignalKind::terminate()),
            hear(SignalKind::interrupt()),
            hear(SignalKind::quit()),
        ) else {
            self.abort()
        };
        // As long as the process runs, draining too.
        if let Some(mut rotated) = hear(SignalKind::user_defined1()) {
            let logs = self.process.logs.clone();
            tokio::spawn(async move {
                while rotated.recv().await.is_some() {
                    tracing::info!("SIGUSR1: the decision log is opened again");
                    logs.reopen();
                }
            });
        }
        // Heard so that it does not end the process: tools that rotate logs send it to whoever
        // they find.
        let _stray = hear(SignalKind::user_defined2());
        let mut stop = self.process.life.stop();
        let (succeeded, interrupted) = loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop != Stop::Not) => break (true, false),
                _ = terminate.recv() => break (false, false),
                _ = interrupt.recv() => break (false, true),
                // An upgrade is asked for by the successor, and only once it can serve.
                _ = quit.recv() => tracing::warn!("SIGQUIT ignored: `scopegate upgrade` starts a \
                    successor"),
            }
        };
        let over = async { if succeeded { self.hand_on().await } else { self.drain().await } };
        tokio::select! {
            () = over => ShutdownSignal::GracefulTerminate,
            () = self.heard_twice(&mut terminate, &mut interrupt, interrupted) => self.abort(),
        }
    }
}

fn hear(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::error!(%error, "a signal cannot be heard")).ok()
}
