//! The JSON API of the console. Whatever the pages can do, a script can do here;
//! `/api/v1/openapi.json` describes it.

mod rows;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Json, Path, Query, State};
use axum::middleware::map_response;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_stream::Stream;

use super::MAX_BODY;
use super::console::{Console, MONTH_DAYS, SPANS, Use};
use super::entry::{Caller, problem};
use super::view::decisions::{self, DecisionFilter, DecisionList, Explained, decisions_since};
use super::view::integrations::{self, Integration};
use super::view::operations::{self, ApiRow, BlockRow, ReachRow, UseReport};
use super::view::overview::{self, Overview};
use super::view::{Listed, PAGE_ROWS, moment};
use super::{acts, draft, openapi};
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::system::{clock, files};
use crate::tooling::Workers;
use crate::tooling::lint::{Finding, Rule};
use crate::tooling::patch::{Patch, Patcher};
use crate::tooling::usage::Day;
pub(super) use rows::{
    AuditList, AuditQuery, FindingDetail, FindingRow, IntegrationDetail, ListQuery, Operations,
    PatchRow, UseQuery, Whoami,
};

/// How long a page waits for what is being computed.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a request of the API does.
const API_PATIENCE: Duration = Duration::from_secs(20);
/// How often a live tail looks for further decisions.
const TAIL_INTERVAL: Duration = Duration::from_millis(500);
/// Longest time of use that is asked for, days: thirteen months.
const MAX_USE_DAYS: i64 = 400;

/// Why something cannot be shown.
#[derive(Debug)]
pub(super) enum NotShown {
    /// There is no such thing.
    Missing(String),
    /// It is asked for in a way that is not understood.
    Wrong(String),
    /// It is being computed.
    NotYet,
    /// The store does not answer.
    Store(StoreFault),
    /// The caller's role does not see it.
    Role(&'static str),
}

impl From<StoreFault> for NotShown {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl NotShown {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotYet | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Role(_) => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Missing(text) | Self::Wrong(text) => text.clone(),
            Self::NotYet => "it is being computed; ask again in a moment".to_owned(),
            Self::Store(fault) => format!("the store does not answer: {fault}"),
            Self::Role(text) => (*text).to_owned(),
        }
    }
}

impl IntoResponse for NotShown {
    fn into_response(self) -> Response {
        let mut response = problem(self.status(), &self.text());
        if matches!(self, Self::NotYet) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

type Shown<T> = Result<T, NotShown>;

/// The routes of the API.
pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/whoami", get(whoami))
        .route("/api/v1/overview", get(get_overview))
        .route("/api/v1/integrations", get(get_integrations).post(draft::create))
        .route("/api/v1/integrations/draft", post(draft::prepare))
        .route("/api/v1/integrations/{id}", get(get_integration))
        .route("/api/v1/apis", get(get_apis))
        .route("/api/v1/access", get(get_access))
        .route("/api/v1/findings", get(get_findings))
        .route("/api/v1/findings/{rule}/{on}", get(get_finding))
        .route("/api/v1/decisions", get(get_decisions))
        .route("/api/v1/decisions/tail", get(tail))
        .route("/api/v1/decisions/{id}", get(get_decision))
        .route("/api/v1/operations", get(get_operations))
        .route("/api/v1/usage", get(get_usage))
        .route("/api/v1/audit", get(get_audit))
        .route("/api/v1/acts", post(acts::act))
        .route("/api/{*rest}", get(no_such).post(no_such))
        .layer(map_response(as_problem))
}

/// What the router or an extractor refuses is said in text: as a problem, as everything else.
async fn as_problem(response: Response) -> Response {
    let of = response.headers().get(header::CONTENT_TYPE).and_then(|of| of.to_str().ok());
    let is_problem = of.is_some_and(|of| of.starts_with("application/problem+json"));
    if is_problem || !response.status().is_client_error() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let text = match (text.is_empty(), parts.status) {
        (true, StatusCode::METHOD_NOT_ALLOWED) => "there is no such method of it".into(),
        _ => String::from_utf8_lossy(&text),
    };
    let mut answer = problem(parts.status, &text);
    if let Some(methods) = parts.headers.get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, methods.clone());
    }
    answer
}

async fn no_such() -> Response {
    problem(StatusCode::NOT_FOUND, "there is no such resource: see /api/v1/openapi.json")
}

/// An answer with an entity tag (RFC 9110 §8.8.3); 304 where the caller has it already.
fn tagged<T: Serialize>(headers: &HeaderMap, body: &T) -> Response {
    let Ok(text) = serde_json::to_string(body) else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written");
    };
    let digest = Sha256::digest(text.as_bytes());
    let tag = format!("\"{}\"", crate::names::hex(digest.get(..12).unwrap_or_default()));
    let has = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let is_same =
        has.is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag || known == "*"));
    let mut response = if is_same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = text.into_response();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

async fn whoami(Extension(caller): Extension<Caller>) -> Json<Whoami> {
    Json(Whoami { name: caller.name.to_string(), role: caller.role, via: caller.via })
}

pub(super) async fn overview(console: &Arc<Console>) -> Shown<Overview> {
    let shared = &console.shared;
    let (known, now) = (console.known().await?, clock::now());
    let (usage, found) = (&known.usage, &known.findings);
    let snapshot = shared.snapshot();
    let rows = integrations::integrations(&snapshot.config, usage, found, now);
    let today = Day::of(now);
    let store = shared.store.clone();
    let store = tokio::task::spawn_blocking(move || store.ping()).await;
    let life = &shared.process.life;
    Ok(Overview {
        integrations: integrations::totals(&rows),
        findings: overview::finding_totals(found),
        window: overview::window_totals(&shared.recorder.decisions),
        days: operations::days(&usage.days, today.before(MONTH_DAYS - 1), today),
        issuers: operations::issuers(&snapshot),
        upstreams: operations::upstreams(&snapshot),
        store: match store {
            Ok(Ok(())) => "answers".to_owned(),
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "was not asked".to_owned(),
        },
        set: snapshot.config.version.to_string(),
        loaded_at: moment(Timestamp(shared.metrics.process.loaded_at())),
        state: match (life.is_draining(), life.is_serving()) {
            (true, _) => "draining",
            (false, true) => "serving",
            (false, false) => "starting",
        }
        .to_owned(),
    })
}

async fn get_overview(State(console): State<Arc<Console>>, headers: HeaderMap) -> Shown<Response> {
    Ok(tagged(&headers, &overview(&console).await?))
}

pub(super) async fn integrations(
    console: &Arc<Console>,
    query: &ListQuery,
) -> Shown<Listed<Integration>> {
    let known = console.known().await?;
    let (usage, found) = (&known.usage, &known.findings);
    let snapshot = console.shared.snapshot();
    let mut rows = integrations::integrations(&snapshot.config, usage, found, clock::now());
    integrations::select(&mut rows, &query.search, &query.filter, &query.sort)
        .map_err(NotShown::Wrong)?;
    Ok(query.page(rows))
}

async fn get_integrations(
    State(console): State<Arc<Console>>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &integrations(&console, &query).await?))
}

pub(super) async fn integration(
    console: &Arc<Console>,
    caller: &Caller,
    id: &str,
    wait: Duration,
) -> Shown<IntegrationDetail> {
    let missing = || NotShown::Missing(format!("there is no client `{id}`"));
    let (known, now) = (console.known().await?, clock::now());
    let (usage, found) = (&known.usage, &known.findings);
    let snapshot = console.shared.snapshot();
    let rows = integrations::integrations(&snapshot.config, usage, found, now);
    let integration = rows.into_iter().find(|row| row.client_id == id).ok_or_else(missing)?;
    let reach = console.access(wait).await;
    let reach = reach.map(|access| operations::reach(&access, usage, id, ""));
    let filter = DecisionFilter {
        client: id.to_owned(),
        verdict: "refuse".to_owned(),
        limit: Some(10),
        ..DecisionFilter::default()
    };
    let window = &console.shared.recorder.decisions;
    let refusals = decisions::decisions(window, &filter, caller.role.sees_people()).items;
    let found = found.iter().filter(|finding| finding.client() == Some(id));
    let findings = found.map(FindingRow::of).collect();
    let query = UseQuery { client: id.to_owned(), ..UseQuery::default() };
    let blocks = blocks(console).await?;
    let blocked = blocks.iter().any(|block| block.kind == "client" && block.value == id);
    let usage = usage_report(console, &query).await?;
    Ok(IntegrationDetail { integration, reach, refusals, findings, usage, blocked })
}

async fn get_integration(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &integration(&console, &caller, &id, API_PATIENCE).await?))
}

pub(super) async fn apis(
    console: &Arc<Console>,
    query: &ListQuery,
    wait: Duration,
) -> Shown<Listed<ApiRow>> {
    let known = console.known().await?;
    let access = console.access(wait).await;
    let snapshot = console.shared.snapshot();
    let mut rows = operations::apis(&snapshot.config, access.as_deref(), &known.usage);
    let search = query.search.trim().to_lowercase();
    if !search.is_empty() {
        rows.retain(|row| {
            row.name.to_lowercase().contains(&search) || row.base_path.contains(&search)
        });
    }
    Ok(query.page(rows))
}

async fn get_apis(
    State(console): State<Arc<Console>>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &apis(&console, &query, API_PATIENCE).await?))
}

pub(super) async fn access(
    console: &Arc<Console>,
    query: &ListQuery,
    wait: Duration,
) -> Shown<Listed<ReachRow>> {
    let known = console.known().await?;
    let access = console.access(wait).await.ok_or(NotShown::NotYet)?;
    let mut rows = operations::reach(&access, &known.usage, &query.client, &query.api);
    if query.filter == "unused" {
        rows.retain(|row| row.permitted == 0);
    }
    Ok(query.page(rows))
}

async fn get_access(
    State(console): State<Arc<Console>>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &access(&console, &query, API_PATIENCE).await?))
}

pub(super) async fn findings_page(
    console: &Arc<Console>,
    query: &ListQuery,
) -> Shown<Listed<FindingRow>> {
    let known = console.known().await?;
    let mut found: Vec<&Finding> = known.findings.iter().collect();
    match query.filter.as_str() {
        "" | "open" => found.retain(|finding| finding.waived.is_none()),
        "waived" => found.retain(|finding| finding.waived.is_some()),
        "all" => {}
        _ => return Err(NotShown::Wrong("filter is open, waived or all".to_owned())),
    }
    if !query.search.is_empty() {
        found.retain(|finding| {
            finding.rule.label().contains(&query.search) || finding.on.contains(&query.search)
        });
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Ok(query.page(found.into_iter().map(FindingRow::of).collect()))
}

async fn get_findings(
    State(console): State<Arc<Console>>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &findings_page(&console, &query).await?))
}

pub(super) async fn finding(console: &Arc<Console>, rule: &str, on: &str) -> Shown<FindingDetail> {
    let known = console.known().await?;
    let rule = Rule::from_label(rule)
        .ok_or_else(|| NotShown::Missing(format!("there is no rule `{rule}`")))?;
    let mut found = known.findings.iter();
    let finding = found.find(|finding| finding.rule == rule && finding.on == on);
    let finding = finding.ok_or_else(|| {
        NotShown::Missing(format!("nothing is found by `{}` on `{on}`", rule.label()))
    })?;
    let (row, finding) = (FindingRow::of(finding), finding.clone());
    let (gateway, snapshot) = (console.gateway_file.clone(), console.shared.snapshot());
    let made = tokio::task::spawn_blocking(move || {
        patch(&gateway, &snapshot.config.version, &finding, &known.usage)
    });
    let (patch, no_patch) = match made.await {
        Ok(Ok(Some(patch))) => (Some(PatchRow::of(&patch)), None),
        Ok(Ok(None)) => {
            let text = "no edit of a client's file mends it, or it would take away what was used";
            (None, Some(text.to_owned()))
        }
        Ok(Err(text)) => (None, Some(text)),
        Err(_) => (None, Some("the patch could not be made".to_owned())),
    };
    Ok(FindingDetail { finding: row, patch, no_patch })
}

/// The patch of a finding, where the files are those of the set in force.
fn patch(
    gateway: &std::path::Path,
    version: &str,
    finding: &Finding,
    usage: &Use,
) -> Result<Option<Patch>, String> {
    let sources = files::read(gateway)?;
    let lookup = files::System::default();
    let now = clock::now();
    let config = crate::config::load(&sources, &lookup, now)
        .map_err(|_| "the files on disk have faults: see `scopegate check`".to_owned())?;
    if *config.version != *version {
        return Err("the files on disk are not the set in force: reload first".to_owned());
    }
    let patcher = Patcher {
        sources: &sources,
        lookup: &lookup,
        config: &config,
        observed: &usage.observed,
        now,
    };
    Ok(patcher.patch(finding, Workers::caller()))
}

async fn get_finding(
    State(console): State<Arc<Console>>,
    Path((rule, on)): Path<(String, String)>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &finding(&console, &rule, &on).await?))
}

pub(super) fn decision_list(
    console: &Console,
    caller: &Caller,
    filter: &DecisionFilter,
) -> DecisionList {
    let window = &console.shared.recorder.decisions;
    decisions::decisions(window, filter, caller.role.sees_people())
}

async fn get_decisions(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<DecisionFilter>,
) -> Response {
    let listed = tokio::task::spawn_blocking(move || decision_list(&console, &caller, &filter));
    match listed.await {
        Ok(listed) => Json(listed).into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the decisions could not be read"),
    }
}

pub(super) async fn decision(
    console: &Arc<Console>,
    caller: &Caller,
    id: &str,
) -> Shown<Explained> {
    let missing = || {
        NotShown::Missing(format!(
            "there is no decision `{id}` in the window; the decision log may have it: `scopegate \
                explain --decision {id}`"
        ))
    };
    let (console, sees_people, wanted) =
        (console.clone(), caller.role.sees_people(), id.to_owned());
    let explained = tokio::task::spawn_blocking(move || {
        let snapshot = console.shared.snapshot();
        let window = &console.shared.recorder.decisions;
        decisions::explained(&snapshot.config, window, &wanted, sees_people)
    });
    explained.await.ok().flatten().ok_or_else(missing)
}

async fn get_decision(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &decision(&console, &caller, &id).await?))
}

/// The decisions that come from now on, as server-sent events.
async fn tail(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<DecisionFilter>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Event, Infallible>>(64);
    let drain = console.shared.process.life.drain();
    tokio::spawn(async move {
        let window = console.shared.recorder.decisions.clone();
        let mut next = window.next();
        while !*drain.borrow() {
            let (found, after) = decisions_since(&window, next, &filter, caller.role.sees_people());
            next = after;
            for decision in found {
                let Ok(text) = serde_json::to_string(&decision) else { continue };
                if sender.send(Ok(Event::default().event("decision").data(text))).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(TAIL_INTERVAL).await;
            if sender.is_closed() {
                return;
            }
        }
    });
    Sse::new(tokio_stream::wrappers::ReceiverStream::new(receiver))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))
}

async fn blocks(console: &Arc<Console>) -> Shown<Vec<BlockRow>> {
    let store = console.shared.store.clone();
    let read = tokio::task::spawn_blocking(move || store.blocks(clock::now()));
    let blocks = read.await.map_err(|_| NotShown::NotYet)??;
    Ok(operations::blocks(&blocks))
}

pub(super) async fn operations(console: &Arc<Console>) -> Shown<Operations> {
    let shared = &console.shared;
    let store = shared.store.clone();
    let keys = tokio::task::spawn_blocking(move || store.keys());
    let keys = keys.await.map_err(|_| NotShown::NotYet)??;
    let snapshot = shared.snapshot();
    let keep = shared.fixed.signing.keep_inactive;
    Ok(Operations {
        own_keys: operations::own_keys(&keys, keep, clock::now()),
        issuers: operations::issuers(&snapshot),
        upstreams: operations::upstreams(&snapshot),
        blocks: blocks(console).await?,
    })
}

async fn get_operations(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &operations(&console).await?))
}

pub(super) async fn usage_report(console: &Arc<Console>, query: &UseQuery) -> Shown<UseReport> {
    let days = query.days.unwrap_or(MONTH_DAYS);
    if !(1..=MAX_USE_DAYS).contains(&days) {
        return Err(NotShown::Wrong(format!("days is 1 to {MAX_USE_DAYS}")));
    }
    let today = Day::of(clock::now());
    let first = today.before(days - 1);
    let known = console.known().await?;
    let since = known.usage.observed.since;
    let span = SPANS.iter().position(|span| *span == days);
    if let (Some(span), true, true) = (span, query.client.is_empty(), query.api.is_empty()) {
        return Ok(operations::use_of_span(&known.usage, span, (first, today)));
    }
    let client = Some(query.client.clone()).filter(|client| !client.is_empty());
    let mut rows = console.shared.store.usage(first, client.clone()).await?;
    let pending = console.shared.usage.peek(today);
    rows.extend(
        pending
            .into_iter()
            .filter(|row| client.as_ref().is_none_or(|client| *client == row.subject.client)),
    );
    Ok(operations::use_report(since, rows.into_iter(), (first, today), &query.api))
}

async fn get_usage(
    State(console): State<Arc<Console>>,
    Query(query): Query<UseQuery>,
    headers: HeaderMap,
) -> Shown<Response> {
    Ok(tagged(&headers, &usage_report(&console, &query).await?))
}

pub(super) async fn audit(
    console: &Arc<Console>,
    caller: &Caller,
    query: &AuditQuery,
) -> Shown<AuditList> {
    if !(caller.role.acts() || caller.role.sees_people()) {
        return Err(NotShown::Role("audit records are for operators, editors and auditors"));
    }
    let limit = query.limit.unwrap_or(PAGE_ROWS).clamp(1, super::view::MAX_ROWS);
    let mut items = console.shared.store.audit(query.before.unwrap_or(i64::MAX), limit).await?;
    if !caller.role.sees_people() {
        for item in &mut items {
            item.record.from = None;
        }
    }
    let next_before =
        if items.len() == limit { items.last().map(|last| last.number) } else { None };
    Ok(AuditList { items, next_before })
}

async fn get_audit(
    State(console): State<Arc<Console>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<AuditQuery>,
) -> Shown<Response> {
    Ok(Json(audit(&console, &caller, &query).await?).into_response())
}

/// How long a page waits for what is being computed.
pub(super) const fn patience() -> Duration {
    PATIENCE
}
