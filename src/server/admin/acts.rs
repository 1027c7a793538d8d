//! Acts: what commands do to the state, done here by a named administrator, each with its audit
//! record. What only takes away (block, revoke, remove a key) is done even when its record cannot
//! be written, and the answer says so.

use std::sync::Arc;

use axum::extract::{Json, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::console::Console;
use super::entry::{Caller, problem, said};
use crate::keys::own::fresh;
use crate::names::Timestamp;
use crate::request::address::{parse_network, site};
use crate::request::credential::BearerToken;
use crate::store::attempts::{Account, Cleared};
use crate::store::audit::AuditRecord;
use crate::store::blocks::{Blocked, CommandedBlock};
use crate::store::revocations::{Revocation, Subject};
use crate::store::{Store, StoreFault};
use crate::system::clock;

/// How long a new key is published before it signs, seconds: as long as verifiers keep key sets.
const KEY_LEAD_SECONDS: i64 = 600;
/// Longest reason of a block.
const MAX_REASON: usize = 200;

/// An act.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Act {
    /// Refuses a caller or a network, before all policies.
    Block {
        /// `client`, `user`, `token` or `network`.
        kind: String,
        /// Its name, its `jti`, or the network.
        value: String,
        /// Why, for those who review it later.
        #[serde(default)]
        reason: String,
        /// How long, for instance `1h`; until it is ended when left out.
        #[serde(default, rename = "for")]
        lasting: String,
    },
    /// Ends a block.
    Unblock {
        /// `client`, `user`, `token` or `network`.
        kind: String,
        /// Its name, its `jti`, or the network.
        value: String,
    },
    /// Revokes tokens.
    Revoke {
        /// `client`, `user`, `token` (by its `jti`), `authorization` or `all`.
        kind: String,
        /// Its name or id.
        #[serde(default)]
        value: String,
    },
    /// Forgets wrong attempts to authenticate.
    ClearAttempts {
        /// `client`, `user`, `from` or `all`.
        kind: String,
        /// Its name, or the address.
        #[serde(default)]
        value: String,
    },
    /// Makes another signing key.
    RotateKey {},
    /// Removes a signing key: what it signed is refused.
    RevokeKey {
        /// Its `kid`.
        value: String,
    },
    /// Has the files read again.
    Reload {},
}

/// What became of an act.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// What was done, for people.
    pub(super) done: String,
    /// Whether its audit record was written.
    pub(super) recorded: bool,
}

/// Why an act was not done.
#[derive(Debug)]
pub(super) enum NotDone {
    /// The caller's role has no acts.
    Role,
    /// It names something that is not there, or in a way that is not understood.
    Wrong(String),
    /// The store does not answer: nothing was done.
    Store(StoreFault),
}

impl NotDone {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Role => StatusCode::FORBIDDEN,
            Self::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Role => "your role reads; acts need `operator` or `editor`".to_owned(),
            Self::Wrong(text) => text.clone(),
            Self::Store(fault) => format!("the store does not answer, nothing was done: {fault}"),
        }
    }
}

/// An act of the JSON API.
pub(super) async fn act(
    State(console): State<Arc<Console>>,
    axum::Extension(caller): axum::Extension<Caller>,
    Json(act): Json<Act>,
) -> Response {
    match perform(&console, &caller, act).await {
        Ok(done) => Json(done).into_response(),
        Err(not_done) => problem(not_done.status(), &not_done.text()),
    }
}

/// Does what is asked, if the caller may.
pub(super) async fn perform(
    console: &Arc<Console>,
    caller: &Caller,
    act: Act,
) -> Result<Done, NotDone> {
    if !caller.role.acts() {
        return Err(NotDone::Role);
    }
    let now = clock::now();
    let shared = console.shared.clone();
    match act {
        Act::Block { kind, value, reason, lasting } => {
            let blocked = blocked(&kind, &value)?;
            known(console, &blocked)?;
            let until = end_of(&lasting, now)?;
            let reason = Some(reason.trim().chars().take(MAX_REASON).collect::<String>());
            let reason = reason.filter(|reason| !reason.is_empty());
            let text = format!("{} `{}`", blocked.kind(), blocked.value());
            let mut record = caller.record("block", text.clone());
            record.after = Some(until.map_or_else(
                || "until it is ended".to_owned(),
                |until| format!("until {}", crate::tooling::moment(until)),
            ));
            let block = CommandedBlock { blocked, reason, since: now, until };
            let recorded = taking_away(&shared.store, record, move |store, record| {
                store.block(&block, record)
            })
            .await?;
            Ok(Done { done: format!("Blocked: {text}."), recorded })
        }
        Act::Unblock { kind, value } => {
            let blocked = blocked(&kind, &value)?;
            let text = format!("{} `{}`", blocked.kind(), blocked.value());
            let record = caller.record("unblock", text.clone());
            let store = shared.store.clone();
            let ended = run(move || store.unblock(&blocked, now, Some(record))).await?;
            if !ended {
                return Err(NotDone::Wrong(format!("no block of the {text} was set by an act")));
            }
            Ok(Done { done: format!("Not blocked any more: {text}."), recorded: true })
        }
        Act::Revoke { kind, value } => {
            let subject = match (kind.as_str(), value.is_empty()) {
                ("all", _) => Subject::Everything,
                (_, true) => return Err(NotDone::Wrong("whose tokens? `value` is empty".into())),
                ("client", _) => Subject::Client(value.clone()),
                ("user", _) => Subject::User(value.clone()),
                ("token", _) => Subject::Token(value.clone()),
                ("authorization", _) => Subject::Authorization(value.clone()),
                _ => {
                    let text = "`kind` is client, user, token, authorization or all";
                    return Err(NotDone::Wrong(text.to_owned()));
                }
            };
            let text = format!("{kind} {value}").trim_end().to_owned();
            let recorded = revoke_recorded(console, caller, subject).await?;
            Ok(Done { done: format!("Revoked until now: {text}."), recorded })
        }
        Act::ClearAttempts { kind, value } => {
            let cleared = match kind.as_str() {
                "client" => Cleared::Name(Account::Client, value.clone()),
                "user" => Cleared::Name(Account::User, value.clone()),
                "from" => {
                    let address = value
                        .parse()
                        .map_err(|_| NotDone::Wrong(format!("`{value}` is no address")))?;
                    Cleared::Place(site(address).to_string())
                }
                "all" => Cleared::All,
                _ => {
                    let text = "`kind` is client, user, from or all";
                    return Err(NotDone::Wrong(text.to_owned()));
                }
            };
            let on = format!("{kind} {value}").trim_end().to_owned();
            let record = Some(caller.record("clear-attempts", on));
            let count = shared.store.clear_attempts(&cleared, now, record).await;
            let count = count.map_err(NotDone::Store)?;
            Ok(Done { done: format!("{count} wrong attempts count no more."), recorded: true })
        }
        Act::RotateKey {} => {
            let algorithm = shared.fixed.signing.algorithm;
            let key = fresh(algorithm)
                .ok_or_else(|| NotDone::Wrong("no key could be made".to_owned()))?;
            let from = now.plus(KEY_LEAD_SECONDS);
            let record = caller.record("rotate-key", algorithm.as_str().to_owned());
            let store = shared.store.clone();
            let name = algorithm.as_str();
            run(move || store.add_key(name, key, now, from, Some(record))).await?;
            let text = format!("A new key signs from {} on.", crate::tooling::moment(from));
            Ok(Done { done: text, recorded: true })
        }
        Act::RevokeKey { value } => revoke_key(console, caller, value).await,
        Act::Reload {} => {
            let record = caller.record("reload", "configuration".to_owned());
            shared.store.note_audit(record).await.map_err(NotDone::Store)?;
            shared.reload_due.notify_one();
            let text = "The files are being read again; the set in force shows the outcome.";
            Ok(Done { done: text.to_owned(), recorded: true })
        }
    }
}

async fn revoke_key(console: &Arc<Console>, caller: &Caller, kid: String) -> Result<Done, NotDone> {
    let (shared, now) = (console.shared.clone(), clock::now());
    let algorithm = shared.fixed.signing.algorithm;
    let (store, wanted) = (shared.store.clone(), kid.clone());
    let keys = run(move || store.keys()).await?;
    let number = keys.iter().find(|key| key.kid() == wanted).map(|key| key.number);
    let number = number.ok_or_else(|| NotDone::Wrong(format!("there is no key `{kid}`")))?;
    let instead =
        fresh(algorithm).ok_or_else(|| NotDone::Wrong("no key could be made".to_owned()))?;
    let record = caller.record("revoke-key", kid.clone());
    let recorded = taking_away(&shared.store, record, move |store, record| {
        store.drop_key(number, algorithm.as_str(), instead.clone(), now, record)
    })
    .await?;
    Ok(Done { done: format!("The key {kid} is gone: what it signed is refused."), recorded })
}

/// Revokes with a record, here and on all gateways; whether it was recorded.
async fn revoke_recorded(
    console: &Arc<Console>,
    caller: &Caller,
    subject: Subject,
) -> Result<bool, NotDone> {
    let shared = &console.shared;
    let revocation = Revocation::now(subject, clock::now());
    let (kind, value) = revocation.subject.parts();
    let record = caller.record("revoke", format!("{kind} {value}").trim_end().to_owned());
    let with_record = shared.store.revoke(revocation.clone(), Some(record.clone())).await;
    let recorded = with_record.is_ok();
    if !recorded {
        shared.store.revoke(revocation.clone(), None).await.map_err(NotDone::Store)?;
        unrecorded(&record);
    }
    shared.tokens.revocations.add(&revocation);
    Ok(recorded)
}

/// Does something that only takes away: with its record, or else without.
async fn taking_away(
    store: &Store,
    record: AuditRecord,
    act: impl Fn(&Store, Option<AuditRecord>) -> Result<(), StoreFault> + Send + 'static,
) -> Result<bool, NotDone> {
    let store = store.clone();
    run(move || match act(&store, Some(record.clone())) {
        Ok(()) => Ok(true),
        Err(_) => act(&store, None).map(|()| {
            unrecorded(&record);
            false
        }),
    })
    .await
}

fn unrecorded(record: &AuditRecord) {
    tracing::error!(
        record = record.line(),
        "an act was done whose audit record could not be stored"
    );
}

/// Runs what waits for the store on a thread that may wait.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreFault> + Send + 'static,
) -> Result<T, NotDone> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(NotDone::Store),
        Err(_) => Err(NotDone::Wrong("the act ended without an outcome".to_owned())),
    }
}

fn blocked(kind: &str, value: &str) -> Result<Blocked, NotDone> {
    let value = value.trim();
    if value.is_empty() {
        return Err(NotDone::Wrong("whom? `value` is empty".to_owned()));
    }
    Ok(match kind {
        "client" => Blocked::Client(value.to_owned()),
        "user" => Blocked::User(value.to_owned()),
        "token" => Blocked::Token(value.to_owned()),
        "network" => Blocked::Network(parse_network(value).map_err(NotDone::Wrong)?),
        _ => {
            let text = "`kind` is client, user, token or network";
            return Err(NotDone::Wrong(text.to_owned()));
        }
    })
}

/// A mistyped name must not look like success.
fn known(console: &Console, blocked: &Blocked) -> Result<(), NotDone> {
    let snapshot = console.shared.snapshot();
    let registry = snapshot.rules().registry();
    let is_known = match blocked {
        Blocked::Client(id) => registry.client(id).is_some(),
        Blocked::User(name) => registry.account(name).is_some(),
        Blocked::Token(_) | Blocked::Network(_) => true,
    };
    if is_known {
        return Ok(());
    }
    let text = format!("there is no {} `{}`: nobody was blocked", blocked.kind(), blocked.value());
    Err(NotDone::Wrong(text))
}

fn end_of(text: &str, now: Timestamp) -> Result<Option<Timestamp>, NotDone> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let time = crate::config::format::duration(text.trim())
        .map_err(|fault| NotDone::Wrong(format!("for: {fault}")))?;
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    if seconds > 0 {
        Ok(Some(now.plus(seconds)))
    } else {
        Err(NotDone::Wrong("for: at least a second".to_owned()))
    }
}

/// Which tokens to revoke: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Revoke {
    /// An access token of ours.
    Token(zeroize::Zeroizing<String>),
    /// The token with this `jti`.
    Id(String),
    /// All of an authorization.
    Authorization(String),
    /// All that a client has.
    Client(String),
    /// All that act for a user.
    User(String),
    /// All issued until now.
    All(bool),
}

/// Revokes for a script, in the form that scripts know from the start.
pub(super) async fn revoke(
    State(console): State<Arc<Console>>,
    axum::Extension(caller): axum::Extension<Caller>,
    Json(what): Json<Revoke>,
) -> Response {
    if !caller.role.acts() {
        return said(StatusCode::FORBIDDEN, &NotDone::Role.text());
    }
    let shared = &console.shared;
    let subject = match what {
        Revoke::Token(token) => {
            let snapshot = shared.snapshot();
            let Ok(token) = BearerToken::parse(&token) else {
                return said(StatusCode::BAD_REQUEST, "no token");
            };
            let facts = shared
                .tokens
                .verify(&snapshot.issuers, snapshot.rules(), &token, None, clock::now())
                .await
                .ok();
            let id = facts.filter(|facts| facts.issuer.is_own()).and_then(|facts| facts.id.clone());
            match id {
                Some(id) => Subject::Token(id),
                None => {
                    return said(
                        StatusCode::BAD_REQUEST,
                        "the token is none of ours, or is not good any more",
                    );
                }
            }
        }
        Revoke::Id(id) => Subject::Token(id),
        Revoke::Authorization(id) => Subject::Authorization(id),
        Revoke::Client(client) => Subject::Client(client),
        Revoke::User(user) => Subject::User(user),
        Revoke::All(true) => Subject::Everything,
        Revoke::All(false) => {
            return said(StatusCode::BAD_REQUEST, "all is true, or something else is named");
        }
    };
    match revoke_recorded(&console, &caller, subject).await {
        Ok(recorded) => Json(json!({ "revoked": true, "recorded": recorded })).into_response(),
        Err(error) => {
            tracing::error!(error = error.text(), "a revocation could not be stored");
            said(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer: nothing was revoked")
        }
    }
}
