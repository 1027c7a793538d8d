//! What the console works with: the shared state, sessions, and what is computed once for many
//! pages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::sessions::Sessions;
use crate::server::state::Shared;
use crate::store::StoreFault;
use crate::system::clock;
use crate::tooling::Workers;
use crate::tooling::access::{Access, access};
use crate::tooling::usage::{Counts, Day, Observed, Row, SecretUse};

/// How old the sums of use may be that pages show.
const MAX_USE_AGE: Duration = Duration::from_secs(15);
/// Days of a month on pages.
pub const MONTH_DAYS: i64 = 30;

/// The state of the console.
#[derive(Debug)]
pub struct Console {
    /// The state of all rooms.
    pub shared: Arc<Shared>,
    /// gateway.yaml, as the operator named it.
    pub gateway_file: PathBuf,
    /// Administrators who are signed in.
    pub(super) sessions: Sessions,
    /// Digest of a value that signs in once, and as whom: of the demo alone.
    once: Mutex<Option<([u8; 32], Arc<str>)>>,
    usage: Mutex<Option<Arc<Use>>>,
    /// One page computes it, others wait for that one.
    reading: tokio::sync::Mutex<()>,
    access: Mutex<Option<(Arc<str>, Arc<Access>)>>,
    computing: tokio::sync::Mutex<()>,
}

/// The use that is known, summed up for pages.
#[derive(Debug)]
pub struct Use {
    /// Sums by subject over all days that are kept.
    pub observed: Observed,
    /// Requests to APIs of each client in the last 30 days.
    pub month: BTreeMap<String, Counts>,
    /// Requests to APIs by day.
    pub days: BTreeMap<Day, Counts>,
    /// Requests by API in the last 30 days.
    pub apis: BTreeMap<String, Counts>,
    /// The APIs that each client was permitted to call in all days that are kept.
    pub used_apis: BTreeMap<String, BTreeSet<String>>,
    at: Instant,
}

impl Console {
    /// The console over the shared state. `once` signs an administrator in without a password, one
    /// time.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        gateway_file: PathBuf,
        once: Option<(String, Arc<str>)>,
    ) -> Self {
        let once = once.map(|(value, name)| (Sha256::digest(value.as_bytes()).into(), name));
        Self {
            shared,
            gateway_file,
            sessions: Sessions::default(),
            once: Mutex::new(once),
            usage: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            access: Mutex::default(),
            computing: tokio::sync::Mutex::default(),
        }
    }

    /// Uses up the value that signs in once; gives the administrator's name.
    pub(super) fn take_once(&self, value: &str) -> Option<Arc<str>> {
        let digest: [u8; 32] = Sha256::digest(value.as_bytes()).into();
        let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        once.take_if(|(right, _)| *right == digest).map(|(_, name)| name)
    }

    /// The use that is known, not older than a moment.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn usage(&self) -> Result<Arc<Use>, StoreFault> {
        let kept = || {
            let kept = self.usage.lock().unwrap_or_else(PoisonError::into_inner).clone();
            kept.filter(|kept| kept.at.elapsed() < MAX_USE_AGE)
        };
        if let Some(kept) = kept() {
            return Ok(kept);
        }
        let _turn = self.reading.lock().await;
        if let Some(kept) = kept() {
            return Ok(kept);
        }
        let store = self.shared.store.clone();
        let (today, pending) =
            (Day::of(clock::now()), self.shared.usage.peek(Day::of(clock::now())));
        let read = tokio::task::spawn_blocking(move || {
            let since = store.first_usage()?;
            let mut rows = store.usage_now(since.unwrap_or_default())?;
            rows.extend(pending);
            let secret = |(client, secret, last)| SecretUse {
                client,
                secret,
                last: Day::of(last),
                networks: None,
            };
            let secrets = store.secret_uses()?.into_iter().map(secret).collect();
            Ok(Use::of(since, rows, secrets, today))
        });
        let usage = match read.await {
            Ok(read) => Arc::new(read?),
            Err(_) => return Ok(Arc::new(Use::of(None, Vec::new(), Vec::new(), today))),
        };
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage.clone());
        Ok(usage)
    }

    /// Who can reach what by the set in force, computed once for each set. `None` where it takes
    /// longer than a page may wait; it is there for a later one.
    pub async fn access(self: &Arc<Self>, wait: Duration) -> Option<Arc<Access>> {
        let version = self.shared.snapshot().config.version.clone();
        let kept = |console: &Self| {
            let kept = console.access.lock().unwrap_or_else(PoisonError::into_inner).clone();
            kept.filter(|(of, _)| *of == version).map(|(_, access)| access)
        };
        if let Some(kept) = kept(self) {
            return Some(kept);
        }
        let console = self.clone();
        let computed = tokio::spawn(async move {
            let _turn = console.computing.lock().await;
            let snapshot = console.shared.snapshot();
            let version = snapshot.config.version.clone();
            {
                let kept = console.access.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((of, access)) = &*kept
                    && *of == version
                {
                    return Some(access.clone());
                }
            }
            let found = tokio::task::spawn_blocking(move || {
                access(snapshot.rules(), clock::now(), Workers::caller())
            });
            let found = Arc::new(found.await.ok()?);
            *console.access.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((version, found.clone()));
            Some(found)
        });
        tokio::time::timeout(wait, computed).await.ok()?.ok()?
    }
}

impl Use {
    fn of(since: Option<Day>, rows: Vec<Row>, secrets: Vec<SecretUse>, today: Day) -> Self {
        let month_begins = today.before(MONTH_DAYS - 1);
        let mut month: BTreeMap<String, Counts> = BTreeMap::new();
        let mut days: BTreeMap<Day, Counts> = BTreeMap::new();
        let mut apis: BTreeMap<String, Counts> = BTreeMap::new();
        let mut used_apis: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows.iter().filter(|row| !row.subject.api.is_empty()) {
            days.entry(row.day).or_default().add(row.counts);
            if row.day >= month_begins {
                month.entry(row.subject.client.clone()).or_default().add(row.counts);
                apis.entry(row.subject.api.clone()).or_default().add(row.counts);
            }
            if row.counts.permitted > 0 {
                let used = used_apis.entry(row.subject.client.clone()).or_default();
                used.insert(row.subject.api.clone());
            }
        }
        let since = since.or_else(|| rows.iter().map(|row| row.day).min());
        let observed = Observed::of(since, rows, secrets);
        Self { observed, month, days, apis, used_apis, at: Instant::now() }
    }
}
