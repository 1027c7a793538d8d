//! What is behind a gateway that runs: keys, issuers, upstreams, blocks, use, APIs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::moment;
use crate::config::{Config, KeySource};
use crate::names::Timestamp;
use crate::server::admin::console::Use;
use crate::server::state::snapshot::Snapshot;
use crate::store::blocks::CommandedBlock;
use crate::store::keys::{StoredKey, current};
use crate::tooling::access::{Access, Reach};
use crate::tooling::usage::{Counts, Day, Row, Subject};

/// Subjects of one report.
const MAX_SUBJECTS: usize = 500;

/// One of our own keys.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OwnKey {
    /// Its `kid`.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: String,
    /// `current`, `next` or `retired`.
    pub state: String,
    /// When it begins to sign.
    pub signs_from: String,
    /// When it was retired.
    pub retired_at: Option<String>,
    /// When a retired one is no longer published.
    pub goes_at: Option<String>,
}

/// The keys of another issuer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct IssuerState {
    /// Its name here.
    pub name: String,
    /// Where its keys come from.
    pub from: String,
    /// Their names.
    pub keys: Vec<String>,
    /// Seconds since they were fetched; none for a file, or before the first fetch.
    pub age_seconds: Option<u64>,
    /// `fresh`, `file` or `never fetched`.
    pub state: String,
}

/// The servers of an upstream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UpstreamState {
    /// Its name.
    pub name: String,
    /// Servers that get requests.
    pub usable: usize,
    /// Servers that are left out for a while.
    pub ejected: usize,
    /// Servers whose health check fails.
    pub down: usize,
    /// Requests under way.
    pub under_way: usize,
}

/// A block set by an act.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BlockRow {
    /// `client`, `user`, `token` or `network`.
    pub kind: String,
    /// Its value.
    pub value: String,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: String,
    /// Until when; until it is ended without one.
    pub until: Option<String>,
}

/// Use of one day.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DayUse {
    /// The day.
    pub day: String,
    /// Permitted requests.
    pub permitted: u64,
    /// Refused requests.
    pub refused: u64,
}

/// Use of one subject.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SubjectUse {
    /// The client; empty where none is known.
    pub client: String,
    /// The API; empty for our own endpoints.
    pub api: String,
    /// The operation.
    pub operation: String,
    /// Permitted requests.
    pub permitted: u64,
    /// Refused requests.
    pub refused: u64,
    /// The last day with one of them.
    pub last: String,
}

/// Use, by day and by subject.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UseReport {
    /// The first day that was counted.
    pub since: Option<String>,
    /// By day, oldest first: every day of the time that was asked for.
    pub days: Vec<DayUse>,
    /// By subject, most used first, at most 500.
    pub subjects: Vec<SubjectUse>,
    /// How many subjects there are.
    pub total_subjects: usize,
}

/// One API.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ApiRow {
    /// Its name.
    pub name: String,
    /// Its base path.
    pub base_path: String,
    /// Its host, where it has one of its own.
    pub host: Option<String>,
    /// Its upstream.
    pub upstream: String,
    /// It needs no token.
    pub public: bool,
    /// Operations.
    pub operations: usize,
    /// Clients that can reach something of it; none while that is being computed.
    pub clients: Option<usize>,
    /// Permitted requests in the last 30 days.
    pub calls_30_days: u64,
    /// Refused requests in the last 30 days.
    pub refused_30_days: u64,
}

/// Something within reach.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReachRow {
    /// The client; none where no token is needed.
    pub client: Option<String>,
    /// The caller, with issuer and user.
    pub caller: String,
    /// The API.
    pub api: String,
    /// Method and resource.
    pub operation: String,
    /// The rules that permit it.
    pub by: Vec<String>,
    /// Further conditions.
    pub only: Vec<String>,
    /// Permitted requests in all days that are kept.
    pub permitted: u64,
    /// The last of those days with one.
    pub last_used: Option<String>,
}

/// Our own keys.
#[must_use]
pub fn own_keys(stored: &[StoredKey], keep_seconds: i64, now: Timestamp) -> Vec<OwnKey> {
    let signs = current(stored, now).map(|key| key.number);
    let row = |key: &StoredKey| {
        let state = match (Some(key.number) == signs, key.private_key.is_some()) {
            (true, _) => "current",
            (false, true) if key.signs_from > now => "next",
            (false, _) => "retired",
        };
        OwnKey {
            kid: key.kid(),
            algorithm: key.algorithm.clone(),
            state: state.to_owned(),
            signs_from: moment(key.signs_from),
            retired_at: key.retired_at.map(moment),
            goes_at: key.retired_at.map(|at| moment(at.plus(keep_seconds))),
        }
    };
    stored.iter().map(row).collect()
}

/// The issuers whose keys are fetched or read.
pub fn issuers(snapshot: &Snapshot) -> Vec<IssuerState> {
    let mut rows: Vec<IssuerState> = snapshot
        .all_keys()
        .map(|keys| {
            let (from, is_file) = match keys.source() {
                KeySource::Discover { issuer, .. } => (format!("the metadata of {issuer}"), false),
                KeySource::Url { url, .. } => (url.clone(), false),
                KeySource::File(file) => (file.path.clone(), true),
            };
            let age_seconds = keys.age();
            let state = match (is_file, age_seconds) {
                (true, _) => "file",
                (false, Some(_)) => "fresh",
                (false, None) => "never fetched",
            };
            let set = keys.set();
            let name = |key: &crate::token::keyset::Key| {
                key.name.clone().unwrap_or_else(|| format!("(no kid) {}", key.id.to_text()))
            };
            IssuerState {
                name: keys.name().to_string(),
                from,
                keys: set.keys().iter().map(name).collect(),
                age_seconds,
                state: state.to_owned(),
            }
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// The upstreams.
pub fn upstreams(snapshot: &Snapshot) -> Vec<UpstreamState> {
    let mut rows: Vec<UpstreamState> = snapshot
        .all_servers()
        .map(|servers| {
            let [usable, ejected, down] = servers.count();
            let name = servers.declared.name.to_string();
            UpstreamState { name, usable, ejected, down, under_way: servers.under_way() }
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Blocks set by acts.
#[must_use]
pub fn blocks(blocks: &[CommandedBlock]) -> Vec<BlockRow> {
    let row = |block: &CommandedBlock| BlockRow {
        kind: block.blocked.kind().to_owned(),
        value: block.blocked.value(),
        reason: block.reason.clone(),
        since: moment(block.since),
        until: block.until.map(moment),
    };
    blocks.iter().map(row).collect()
}

/// The days from `first` to `today`, those without a request too.
#[must_use]
pub fn days(counts: &BTreeMap<Day, Counts>, first: Day, today: Day) -> Vec<DayUse> {
    (first.0..=today.0)
        .map(|day| {
            let counts = counts.get(&Day(day)).copied().unwrap_or_default();
            let Counts { permitted, refused, .. } = counts;
            DayUse { day: Day(day).text(), permitted, refused }
        })
        .collect()
}

/// A report of rows: those of one client, or of all.
pub fn use_report(
    since: Option<Day>,
    rows: impl Iterator<Item = Row>,
    (first, today): (Day, Day),
    api: &str,
) -> UseReport {
    let mut by_day: BTreeMap<Day, Counts> = BTreeMap::new();
    let mut subjects = BTreeMap::new();
    for row in rows.filter(|row| row.day >= first && (api.is_empty() || row.subject.api == api)) {
        if !row.subject.api.is_empty() {
            by_day.entry(row.day).or_default().add(row.counts);
        }
        let (counts, last) = subjects.entry(row.subject).or_insert((Counts::default(), row.day));
        counts.add(row.counts);
        *last = (*last).max(row.day);
    }
    report(
        since,
        days(&by_day, first, today),
        subjects.iter().map(|(of, (counts, last))| (of, *counts, *last)),
    )
}

/// A report of one of the spans, of all clients and APIs, from what is summed up already.
#[must_use]
pub fn use_of_span(usage: &Use, span: usize, (first, today): (Day, Day)) -> UseReport {
    let subjects = usage.spans.iter().filter_map(|(subject, spans)| {
        let counts = spans.get(span).copied().filter(|counts| counts.total() > 0)?;
        Some((subject, counts, usage.observed.sums.get(subject)?.last))
    });
    report(usage.observed.since, days(&usage.days, first, today), subjects)
}

fn report<'a>(
    since: Option<Day>,
    days: Vec<DayUse>,
    subjects: impl Iterator<Item = (&'a Subject, Counts, Day)>,
) -> UseReport {
    let mut subjects: Vec<_> = subjects.collect();
    subjects.sort_by_key(|(_, counts, _)| std::cmp::Reverse(counts.total()));
    let total_subjects = subjects.len();
    let row = |(subject, counts, last): (&Subject, Counts, Day)| SubjectUse {
        client: subject.client.clone(),
        api: subject.api.clone(),
        operation: subject.operation.clone(),
        permitted: counts.permitted,
        refused: counts.refused,
        last: last.text(),
    };
    let subjects = subjects.into_iter().take(MAX_SUBJECTS).map(row).collect();
    UseReport { since: since.map(Day::text), days, subjects, total_subjects }
}

/// All APIs.
pub fn apis(config: &Config, access: Option<&Access>, usage: &Use) -> Vec<ApiRow> {
    let rules = &config.rules;
    let mut clients: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for reach in access.iter().flat_map(|access| &access.reach) {
        let client = reach.client.as_deref().unwrap_or_default();
        clients.entry(reach.api.as_str()).or_default().insert(client);
    }
    let mut operations: BTreeMap<usize, usize> = BTreeMap::new();
    for operation in rules.operations() {
        *operations.entry(operation.api).or_default() += 1;
    }
    let row = |(at, api): (usize, &crate::policy::definition::Api)| {
        let used = usage.apis.get(api.name.as_str()).copied().unwrap_or_default();
        ApiRow {
            name: api.name.to_string(),
            base_path: api.base_path.clone(),
            host: api.host.clone(),
            upstream: api.upstream.to_string(),
            public: api.public,
            operations: operations.get(&at).copied().unwrap_or(0),
            clients: access
                .map(|_| clients.get(api.name.as_str()).map_or(0, std::collections::BTreeSet::len)),
            calls_30_days: used.permitted,
            refused_30_days: used.refused,
        }
    };
    let mut rows: Vec<ApiRow> = rules.apis().iter().enumerate().map(row).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// What is within reach of a client, or of all, with its use.
#[must_use]
pub fn reach(access: &Access, usage: &Use, client: &str, api: &str) -> Vec<ReachRow> {
    let fits = |reach: &&Reach| {
        (client.is_empty() || reach.client.as_deref() == Some(client))
            && (api.is_empty() || reach.api == api)
    };
    let row = |reach: &Reach| {
        let version = reach.version.as_deref().map_or_else(String::new, |v| format!(" ({v})"));
        let label = format!("{} {}", reach.method, reach.resource);
        let subject = Subject {
            client: reach.client.clone().unwrap_or_default(),
            api: reach.api.clone(),
            operation: label.clone(),
        };
        let sum = usage.observed.sums.get(&subject);
        ReachRow {
            client: reach.client.clone(),
            caller: reach.caller.clone(),
            api: reach.api.clone(),
            operation: format!("{label}{version}"),
            by: reach.by.clone(),
            only: reach.only.clone(),
            permitted: sum.map_or(0, |sum| sum.counts.permitted),
            last_used: sum.and_then(|sum| sum.last_permitted).map(Day::text),
        }
    };
    access.reach.iter().filter(fits).map(row).collect()
}
