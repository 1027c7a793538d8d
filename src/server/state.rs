//! What all exchanges share: the configuration in force, the candidate set, and the state of every
//! room above.

pub mod shadow;
pub mod snapshot;

use std::sync::Arc;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use http::HeaderName;
use tokio::sync::Notify;

use super::edge::EdgeState;
use super::edge::admission::{self, Connections};
use super::limits::guessing::Guessing;
use super::login::Login;
use super::process::Process;
use super::tokens::Tokens;
use super::tokens::cache::{self, Cache, TokenCache};
use super::tokens::revocations::Revocations;
use crate::client::made::MadeUsers;
use crate::config::{Config, Fixed, Outbound};
use crate::keys::OwnKeys;
use crate::keys::fetch::Fetch;
use crate::names::{ClientId, Timestamp};
use crate::store::Store;
use crate::system::{clock, random};
use crate::telemetry::lines::LineWriter;
use crate::telemetry::logs::Logs;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp::outbox::Outbox;
use crate::telemetry::record::Recorder;
use crate::telemetry::usage::UsageCounters;
use crate::tooling::usage::NetworkSketch;
use shadow::Candidate;
use snapshot::Snapshot;

/// The state of all rooms, and what they share.
#[derive(Debug)]
pub struct Shared {
    /// Settings that a reload does not change.
    pub fixed: Arc<Fixed>,
    /// The configuration in force.
    snapshot: ArcSwap<Snapshot>,
    /// The process: life, sockets, logs.
    pub process: Arc<Process>,
    /// Connections of clients.
    pub edge: Arc<EdgeState>,
    /// Verification of tokens.
    pub tokens: Tokens,
    /// Login elsewhere.
    pub login: Login,
    /// Wrong attempts to authenticate, and checks that take their turns.
    pub guessing: Arc<Guessing>,
    /// Users made at login, as far as this process knows.
    pub made_users: Arc<MadeUsers>,
    /// A set of policies that is judged alongside.
    pub candidate: Candidate,
    /// The day on which each secret was last used, as far as this process knows.
    pub secret_days: DashMap<(ClientId, String), Timestamp>,
    /// The networks that each secret was used from in a time, as far as this process knows.
    pub secret_networks: DashMap<(ClientId, String), (i64, NetworkSketch)>,
    /// Our own keys.
    pub own_keys: Arc<OwnKeys>,
    /// What asks others.
    pub fetch: Fetch,
    /// The store.
    pub store: Store,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Decision records.
    pub recorder: Recorder,
    /// What waits to be exported to a collector.
    pub outbox: Outbox,
    /// Use that was not stored yet.
    pub usage: UsageCounters,
    /// Notified when the files are to be read again.
    pub reload_due: Notify,
    /// Notified when the configuration in force has changed.
    pub reloaded: Notify,
    /// The header that carries the id of a request.
    pub request_id: Option<HeaderName>,
}

impl Shared {
    /// Builds the state over an opened store.
    ///
    /// # Errors
    /// What cannot be had, in words for the operator.
    pub fn new(
        mut config: Config,
        candidate: Candidate,
        log: Option<LineWriter>,
    ) -> Result<Self, String> {
        candidate.check(&config.fixed.public_url)?;
        config.keep_claims(&candidate.claims());
        let fixed = Arc::new(config.fixed.clone());
        let store = Store::of(&fixed.store).map_err(|fault| format!("store: {fault}"))?;
        store.examine().map_err(|fault| format!("store: {fault}"))?;
        let own_keys = OwnKeys::load(&store, fixed.signing, clock::now())
            .map_err(|fault| format!("store: {fault}"))?;
        let own_keys = Arc::new(own_keys);
        let fetch =
            Fetch::new(&Outbound::default()).map_err(|fault| format!("outgoing TLS: {fault}"))?;
        let metrics = Metrics::new(log.as_ref().map(LineWriter::dropped))
            .map_err(|fault| format!("metrics: {fault}"))?;
        let metrics = Arc::new(metrics);
        let has_window = fixed.admin.is_some() && config.console.decisions.max > 0;
        let recorder = Recorder::start(
            &fixed.decision_log,
            has_window,
            metrics.process.records_dropped.clone(),
        )?;
        recorder.decisions.bound(config.console.decisions);
        let revocations =
            Revocations::load(&store, clock::now()).map_err(|fault| format!("store: {fault}"))?;
        let made_users = store.made_users().map_err(|fault| format!("store: {fault}"))?;
        let made_users = Arc::new(MadeUsers::new(made_users));
        config.rules.registry().follow(made_users.clone());
        candidate.follow(made_users.clone());
        let guessing = Guessing::start(&store, clock::now())?;
        let (most, most_per_address) = admission::affordable(
            fixed.edge.max_connections,
            fixed.edge.max_connections_per_address,
        )?;
        let mut number = [0_u8; 8];
        random::fill(&mut number).map_err(|fault| fault.to_string())?;
        let logs = Logs { recorder: recorder.clone(), log };
        let process = Arc::new(Process::new(fixed.clone(), u64::from_be_bytes(number), logs));
        metrics.process.loaded(true, &config.version, clock::now().0);
        let snapshot = Snapshot::new(config, None, &metrics)?;
        let edge = EdgeState {
            limits: fixed.edge,
            connections: Arc::new(Connections::new(most, most_per_address)),
            policy: ArcSwap::new(snapshot.edge.clone()),
            process: process.clone(),
            metrics: metrics.clone(),
        };
        Ok(Self {
            tokens: Tokens {
                cache: TokenCache::new(cache::CAPACITY),
                failed: Cache::new(cache::FAILED_CAPACITY),
                revocations,
                own_keys: own_keys.clone(),
                store: store.clone(),
                metrics: metrics.clone(),
            },
            login: Login {
                public_url: fixed.public_url.clone(),
                own_keys: own_keys.clone(),
                store: store.clone(),
                guessing: guessing.clone(),
            },
            snapshot: ArcSwap::from_pointee(snapshot),
            edge: Arc::new(edge),
            process,
            own_keys,
            outbox: Outbox::new(metrics.otlp.clone()),
            metrics,
            recorder,
            usage: UsageCounters::default(),
            guessing,
            secret_days: DashMap::new(),
            secret_networks: DashMap::new(),
            fetch,
            store,
            made_users,
            candidate,
            reload_due: Notify::new(),
            reloaded: Notify::new(),
            request_id: fixed.request_id_header.clone(),
            fixed,
        })
    }

    /// The configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a configuration in force, for exchanges and connections that begin from now on.
    pub fn put_in_force(&self, snapshot: Arc<Snapshot>) {
        self.recorder.decisions.bound(snapshot.config.console.decisions);
        self.edge.policy.store(snapshot.edge.clone());
        self.snapshot.store(snapshot);
        self.reloaded.notify_waiters();
    }

    /// The scheme that clients use: that of `public_url`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.fixed.public_url.starts_with("https:") { "https" } else { "http" }
    }
}
