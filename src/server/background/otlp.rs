//! Exports what was recorded to a collector of OpenTelemetry: in batches, each within a deadline,
//! again and again for a while where the collector is away or busy. No request, no reload and no
//! end of the process waits for it; what comes meanwhile waits in a bounded queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::keys::fetch::collector::CollectorClient;
use crate::server::state::Shared;
use crate::system::clock;
use crate::telemetry::cause::NotExported;
use crate::telemetry::otlp::answer::Delivery;
use crate::telemetry::otlp::outbox::UnderWay;
use crate::telemetry::otlp::spans::{Process, encode};

/// How often what was recorded is looked for.
const INTERVAL: Duration = Duration::from_millis(200);
/// Requests in one batch: some 500 KB of spans, where collectors take 4 MiB.
const BATCH: usize = 256;
/// The first wait before a message is sent again; each one after it is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest of these waits.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// How long a message is sent again and again.
const PATIENCE: Duration = Duration::from_secs(120);

/// The background service.
#[derive(Debug)]
pub struct Exporter(Arc<Shared>);

impl Exporter {
    /// The service over the shared state.
    #[must_use]
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn export(&self) {
        let shared = &*self.0;
        let process = process(shared);
        let mut under_way = shared.outbox.under_way.lock().await;
        loop {
            tokio::time::sleep(INTERVAL).await;
            while next_batch(shared, &process, &mut under_way) {
                let [spans, log_records] = &mut *under_way;
                // Of a backlog one batch goes out after the other; those of the signals together.
                tokio::join!(deliver(shared, spans), deliver(shared, log_records));
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Exporter {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.export() => {}
            // What is left, a batch under way included, is exported at the end.
            _ = shutdown.changed() => {}
        }
    }
}

/// Exports what is left at the end of the process, each message once; true where nothing is left.
pub async fn export_rest(shared: &Shared) -> bool {
    let Some(client) = client(shared) else { return true };
    let process = process(shared);
    let mut under_way = shared.outbox.under_way.lock().await;
    loop {
        for one in &mut *under_way {
            // Away or busy: so it would be for all that is left.
            if one.payload.is_some() && try_once(shared, &client, one).await.is_err() {
                return false;
            }
            one.payload = None;
        }
        if !next_batch(shared, &process, &mut under_way) {
            return true;
        }
    }
}

/// What is the same of all requests.
fn process(shared: &Shared) -> Process {
    Process {
        scheme: shared.scheme(),
        host: shared.fixed.public_host.clone(),
        instance: shared.process.decision_ids.process(),
    }
}

fn client(shared: &Shared) -> Option<Arc<CollectorClient>> {
    shared.snapshot().otlp.as_ref().map(|otlp| otlp.client.clone())
}

/// Makes the next batch of what waits; false where nothing does.
fn next_batch(shared: &Shared, process: &Process, under_way: &mut [UnderWay; 2]) -> bool {
    let batch = shared.outbox.take(BATCH);
    if batch.is_empty() {
        return false;
    }
    let [spans, log_records] = under_way;
    (spans.payload, log_records.payload) = encode(process, &batch);
    true
}

/// Sends a message until it is taken, or not wanted, or nobody has taken it for too long.
async fn deliver(shared: &Shared, under_way: &mut UnderWay) {
    let (began, mut delay) = (Instant::now(), FIRST_DELAY);
    while let Some(payload) = &under_way.payload {
        let (signal, count) = (under_way.signal, payload.count);
        let dropped = |cause| shared.metrics.otlp.dropped(signal, cause, count);
        // That of the configuration in force: a reload may have brought a better one.
        let Some(client) = client(shared) else {
            dropped(NotExported::Undeclared);
            break;
        };
        let reloaded = shared.reloaded.notified();
        let Err(after) = try_once(shared, &client, under_way).await else { break };
        if began.elapsed() > PATIENCE {
            dropped(NotExported::Unreachable);
            break;
        }
        let ours = delay.mul_f64(0.5 + fastrand::f64() / 2.0);
        delay = (2 * delay).min(MAX_DELAY);
        tokio::select! {
            () = tokio::time::sleep(after.unwrap_or(ours)) => {}
            () = reloaded => {}
        }
    }
    under_way.payload = None;
}

/// Sends a message once, and counts what became of it.
///
/// # Errors
/// It is to be sent again, after this time if one is said.
async fn try_once(
    shared: &Shared,
    client: &CollectorClient,
    under_way: &mut UnderWay,
) -> Result<(), Option<Duration>> {
    let UnderWay { signal, payload: Some(payload), is_failing } = under_way else { return Ok(()) };
    let (signal, metrics) = (*signal, &shared.metrics.otlp);
    let (what, count) = (signal.label(), payload.count);
    let delivery = client.send(signal, payload, clock::now().0).await;
    // Said once, until it is over: a collector that is away must not fill the log.
    let is_taken = matches!(delivery, Delivery::Taken { rejected: 0, .. });
    let is_news = !std::mem::replace(is_failing, !is_taken);
    match delivery {
        Delivery::Taken { rejected, why } => {
            let rejected = rejected.min(count);
            metrics.sent(signal, count - rejected);
            metrics.dropped(signal, NotExported::Rejected, rejected);
            if rejected > 0 && is_news {
                tracing::warn!(%why, rejected, "the collector did not take some {what}");
            }
            Ok(())
        }
        Delivery::Unwanted { why } => {
            metrics.dropped(signal, NotExported::Rejected, count);
            if is_news {
                tracing::warn!(%why, dropped = count, "the collector does not take {what}");
            }
            Ok(())
        }
        Delivery::Again { after, why } => {
            if is_news {
                tracing::warn!(%why, "the collector cannot be given {what} now; they are kept and \
                    tried again");
            }
            Err(after)
        }
    }
}
