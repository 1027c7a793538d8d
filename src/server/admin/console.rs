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
use crate::tooling::lint::{Finding, findings};
use crate::tooling::usage::{Counts, Day, Observed, Row, Subject};

/// How old what is known may be that pages show; longer where it takes long to learn.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How many times as old as it took to learn: a twentieth of one core at most.
const AGE_FACTOR: u32 = 20;
/// What takes longer to learn is learnt behind the page, which shows what was known.
const QUICK: Duration = Duration::from_millis(100);
/// The times that use is summed up over, days.
pub const SPANS: [i64; 4] = [1, MONTH_DAYS, 90, 395];
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
    known: Mutex<Option<Arc<Known>>>,
    /// One page learns it, others wait for that one.
    learning: tokio::sync::Mutex<()>,
    access: Mutex<Option<(Arc<str>, Arc<Access>)>>,
    computing: tokio::sync::Mutex<()>,
}

/// What is known of the set in force and its use.
#[derive(Debug)]
pub struct Known {
    /// The use.
    pub usage: Use,
    /// Findings about both.
    pub findings: Vec<Finding>,
    /// The set.
    version: Arc<str>,
    at: Instant,
    /// How long it took to learn.
    took: Duration,
}

/// The use that is known, summed up for pages.
#[derive(Debug, Default)]
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
    /// Requests by subject in each of the [`SPANS`].
    pub spans: BTreeMap<Subject, [Counts; SPANS.len()]>,
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
            known: Mutex::default(),
            learning: tokio::sync::Mutex::default(),
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

    /// What is known of the set in force and its use, not older than a moment, or than it takes to
    /// learn it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn known(self: &Arc<Self>) -> Result<Arc<Known>, StoreFault> {
        match self.kept() {
            Some(known) if known.is_fresh() => Ok(known),
            Some(known) if known.took > QUICK => {
                let console = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = console.learn().await {
                        tracing::warn!(%error, "the use of the configuration cannot be read");
                    }
                });
                Ok(known)
            }
            Some(_) | None => self.learn().await,
        }
    }

    /// What is known of the set in force, however old.
    fn kept(&self) -> Option<Arc<Known>> {
        let kept = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.filter(|kept| kept.version == self.shared.snapshot().config.version)
    }

    async fn learn(self: &Arc<Self>) -> Result<Arc<Known>, StoreFault> {
        let _turn = self.learning.lock().await;
        if let Some(known) = self.kept().filter(|known| known.is_fresh()) {
            return Ok(known);
        }
        let console = self.clone();
        let learnt = tokio::task::spawn_blocking(move || console.learn_now());
        let known = match learnt.await {
            Ok(learnt) => Arc::new(learnt?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }

    /// Reads the store, and looks for findings; for a thread that may wait.
    fn learn_now(&self) -> Result<Known, StoreFault> {
        let (began, now) = (Instant::now(), clock::now());
        let (store, today) = (&self.shared.store, Day::of(now));
        // First what was not stored yet: what is stored meanwhile is missed by one page, never
        // counted twice.
        let pending = self.shared.usage.peek(today);
        let since = store.first_usage()?;
        let mut usage = Use::default();
        store.each_usage(since.unwrap_or_default(), &mut |row| usage.add(&row, today))?;
        for row in &pending {
            usage.add(row, today);
        }
        usage.observed.since = since.or_else(|| (!pending.is_empty()).then_some(today));
        usage.observed.secrets = store.used_secrets(today)?;
        let snapshot = self.shared.snapshot();
        let findings = findings(&snapshot.config, &usage.observed, now);
        let version = snapshot.config.version.clone();
        Ok(Known { usage, findings, version, at: Instant::now(), took: began.elapsed() })
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

impl Known {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < MAX_AGE.max(self.took * AGE_FACTOR)
    }
}

impl Use {
    fn add(&mut self, row: &Row, today: Day) {
        let spans = match self.spans.get_mut(&row.subject) {
            Some(spans) => spans,
            None => self.spans.entry(row.subject.clone()).or_default(),
        };
        for (counts, days) in spans.iter_mut().zip(SPANS) {
            if row.day >= today.before(days - 1) {
                counts.add(row.counts);
            }
        }
        self.observed.add(row);
        let Subject { client, api, .. } = &row.subject;
        if api.is_empty() {
            return;
        }
        self.days.entry(row.day).or_default().add(row.counts);
        if row.day >= today.before(MONTH_DAYS - 1) {
            sum_of(&mut self.month, client).add(row.counts);
            sum_of(&mut self.apis, api).add(row.counts);
        }
        if row.counts.permitted > 0 {
            let used = sum_of(&mut self.used_apis, client);
            if !used.contains(api) {
                used.insert(api.clone());
            }
        }
    }
}

/// The entry of a name.
fn sum_of<'a, T: Default>(sums: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    sums.entry(name.to_owned()).or_default()
}
