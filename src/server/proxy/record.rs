//! How an exchange ended: pingora's errors as reasons, and the one record and count of every
//! exchange.

use std::time::Duration;

use pingora::{Error, ErrorSource, ErrorType};
use serde_json::Value;

use super::exchange::{Exchange, Permitted, Refused, Stage};
use super::retry;
use super::trace::{self, Trace};
use crate::policy::gate::Grounds;
use crate::policy::principal::Principal;
use crate::policy::route::Matched;
use crate::reason::{Reason, Refusal, Verdict};
use crate::request::original::Dialect;
use crate::server::oauth::Outcome;
use crate::server::state::Shared;
use crate::system::clock;
use crate::telemetry::otlp::recorded::Conclusion;
use crate::telemetry::record::{Candidate, Record, Scopes, TraceId};
use crate::tooling::usage::{Counts, own};

/// The refusal that an error of the proxy amounts to; `None` when the client is gone. Notes it in
/// the exchange.
pub fn of_error(error: &Error, exchange: &mut Exchange) -> Option<Refusal> {
    if let Stage::Permitted(permitted) = &mut exchange.stage {
        let refusal = match permitted.failed.clone() {
            Some(refusal) => refusal,
            None => classify(error)?,
        };
        permitted.failed = Some(refusal.clone());
        return Some(refusal);
    }
    // A verdict that could not be written stays the verdict.
    if matches!(exchange.stage, Stage::Refused(_)) {
        return None;
    }
    let refusal = classify(error)?;
    exchange.refuse(refusal.clone());
    Some(refusal)
}

fn classify(error: &Error) -> Option<Refusal> {
    if retry::never_began(error) {
        return Some(Refusal::because(
            Reason::UpstreamUnavailable,
            "the server refused to begin with the request",
        ));
    }
    let reason = match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(_)) => {
            Reason::RequestMalformed
        }
        (ErrorSource::Downstream, _) => return None,
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
        ) => Reason::UpstreamTimeout,
        (
            ErrorSource::Upstream,
            ErrorType::InvalidHTTPHeader
            | ErrorType::H1Error
            | ErrorType::H2Error
            | ErrorType::InvalidH2,
        ) => Reason::UpstreamProtocol,
        (_, ErrorType::ConnectNoRoute)
        | (
            ErrorSource::Upstream,
            ErrorType::ConnectRefused | ErrorType::ConnectError | ErrorType::SocketError,
        ) => Reason::UpstreamUnavailable,
        (ErrorSource::Upstream, _) => Reason::UpstreamFailed,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Reason::GatewayBroken,
    };
    // The type of the error, never its context: that may hold bytes of the request.
    Some(Refusal::because(reason, error.etype().as_str()))
}

/// Counts and records the exchange. Called once for each.
pub fn record(shared: &Shared, exchange: &Exchange) {
    let total = exchange.started.elapsed();
    if let Some(decided) = exchange.decided {
        shared.metrics.requests.decision_duration.observe(decided);
    }
    count(shared, exchange, total);
    count_use(shared, exchange);
    let exported = exchange.trace.as_ref().and_then(|trace| {
        let is_refused = Ended::of(exchange).verdict == REFUSE;
        trace::is_recorded(exchange, is_refused).then_some(trace)
    });
    if shared.recorder.is_on() {
        write(shared, exchange, total, exported);
    }
    if let Some(trace) = exported {
        let Ended { verdict, reason, .. } = Ended::of(exchange);
        let fault = refusal(exchange).map_or("", |refusal| refusal.fault.label());
        let conclusion = Conclusion { verdict, reason, fault };
        shared.outbox.push(trace::recorded(exchange, trace, conclusion, total));
    }
}

const PERMIT: &str = "permit";
const REFUSE: &str = "refuse";

/// How an exchange ended, in the words of a record.
struct Ended<'a> {
    verdict: &'static str,
    reason: Option<&'static str>,
    fault: &'a str,
}

impl<'a> Ended<'a> {
    fn of(exchange: &'a Exchange) -> Self {
        let refusal = refusal(exchange);
        let token_error = match &exchange.stage {
            Stage::Endpoint(_, outcome) => outcome.error.as_ref(),
            Stage::Received | Stage::Permitted(_) | Stage::Refused(_) => None,
        };
        // Nothing was permitted, and nothing was answered.
        let is_unanswered = match &exchange.stage {
            Stage::Received => true,
            Stage::Endpoint(..) => exchange.status == 0,
            Stage::Permitted(_) | Stage::Refused(_) => false,
        };
        let is_refused = refusal.is_some() || token_error.is_some() || is_unanswered;
        Self {
            verdict: if is_refused { REFUSE } else { PERMIT },
            reason: refusal
                .map(|refusal| refusal.reason.label())
                .or(token_error.map(|(code, _)| code.label())),
            fault: refusal
                .map(|refusal| refusal.fault.text())
                .or(token_error.map(|(_, cause)| cause.as_str()))
                .or(is_unanswered.then_some("the client went away, or its request took too long"))
                .unwrap_or_default(),
        }
    }
}

/// The refusal an exchange ended in, if it did.
fn refusal(exchange: &Exchange) -> Option<&Refusal> {
    match &exchange.stage {
        Stage::Refused(refused) => Some(&refused.refusal),
        Stage::Permitted(permitted) => permitted.failed.as_ref(),
        Stage::Received | Stage::Endpoint(..) => None,
    }
}

fn count(shared: &Shared, exchange: &Exchange, total: Duration) {
    let snapshot = &exchange.snapshot;
    let operation = exchange.operation();
    let handles = operation.and_then(|id| snapshot.metrics(id));
    match handles {
        Some(handles) => handles.duration.observe(total),
        None => shared.metrics.requests.unmatched_duration(total),
    }
    match (refusal(exchange), handles) {
        (Some(refusal), _) => {
            let rules = snapshot.rules();
            let api = operation.and_then(|id| rules.api_of(id)).map_or("", |api| api.name.as_str());
            let label = operation
                .and_then(|id| rules.operation(id))
                .map_or("", |operation| &*operation.label);
            shared.metrics.requests.refused(api, label, refusal);
        }
        (None, Some(handles)) => handles.permitted.inc(),
        (None, None) => {}
    }
    let (shadow, permitted) = match &exchange.stage {
        Stage::Permitted(permitted) => (&permitted.shadow, true),
        Stage::Refused(refused) => (&refused.shadow, false),
        Stage::Received | Stage::Endpoint(..) => return,
    };
    let api =
        operation.and_then(|id| snapshot.rules().api_of(id)).map_or("", |api| api.name.as_str());
    match shadow {
        Some(verdict) if verdict.is_permit() != permitted => {
            let rule = operation.map_or("", |id| snapshot.rules().rule_of(id, *verdict, true));
            shared.metrics.requests.shadow(api, rule, *verdict);
        }
        Some(_) | None => {}
    }
    if let Some(difference) = &exchange.difference {
        shared.metrics.requests.shadow_difference(difference);
    }
}

/// Counts the exchange as use of what its client was granted.
fn count_use(shared: &Shared, exchange: &Exchange) {
    let mut counts = Counts::default();
    let failed = refusal(exchange).is_some();
    let (principal, shadow) = match &exchange.stage {
        Stage::Permitted(permitted) => (permitted.principal.as_ref(), permitted.shadow),
        Stage::Refused(refused) => (refused.principal.as_ref(), None),
        Stage::Endpoint(path, outcome) => return count_endpoint(shared, path, outcome),
        Stage::Received => return,
    };
    let Some(operation) = exchange.operation() else { return };
    let rules = exchange.snapshot.rules();
    let (Some(api), Some(operation)) = (rules.api_of(operation), rules.operation(operation)) else {
        return;
    };
    // What failed behind us was permitted: the right was used.
    if matches!(exchange.stage, Stage::Permitted(_)) {
        counts.permitted = 1;
        counts.for_users = u64::from(principal.is_some_and(acts_for_a_user));
        counts.shadow_refused =
            u64::from(!failed && shadow.is_some_and(|verdict| !verdict.is_permit()));
    } else {
        counts.refused = 1;
    }
    let client = principal.map_or("", |principal| principal.client().id.as_str());
    shared.usage.count(client, api.name.as_str(), &operation.label, counts);
}

/// Whether a user gave the authorization that a token of ours is from.
fn acts_for_a_user(principal: &Principal) -> bool {
    let facts = principal.facts();
    facts.issuer.is_own() && facts.authorization.is_some()
}

/// Counts a request for tokens: of the client that has authenticated, or is claimed.
fn count_endpoint(shared: &Shared, path: &str, outcome: &Outcome) {
    if !crate::metadata::is_token_path(path) {
        return;
    }
    let client = outcome.client.as_deref().or(outcome.claimed_client.as_deref());
    let Some(client) = client else { return };
    let refused = Counts { refused: 1, ..Counts::default() };
    let Some((_, cause)) = &outcome.error else {
        let issued = Counts { permitted: 1, ..Counts::default() };
        return shared.usage.count(client, "", own::TOKENS, issued);
    };
    shared.usage.count(client, "", own::TOKENS, refused);
    let cause = cause.as_str();
    if cause.starts_with(crate::grant::REFRESH_REPLAYED) {
        shared.usage.count(client, "", own::REFRESH_REPLAY, refused);
    }
    if cause.starts_with(crate::grant::CLIENT_INACTIVE) {
        shared.usage.count(client, "", own::INACTIVE, refused);
    }
}

/// The parts of a record that a verdict gives.
#[derive(Default)]
struct Judged<'a> {
    matched: Option<&'a Matched>,
    principal: Option<&'a Principal>,
    grounds: Option<&'a Grounds>,
    shadow: Option<&'a str>,
    endpoint: Option<(&'static str, &'a Outcome)>,
}

impl<'a> Judged<'a> {
    fn of(stage: &'a Stage) -> Self {
        match stage {
            Stage::Permitted(permitted) => {
                let Permitted { permit, matched, principal, shadow, .. } = &**permitted;
                let shadow = shadow.and_then(Verdict::reason).map(Reason::label);
                Self {
                    matched: Some(matched),
                    principal: principal.as_ref(),
                    grounds: Some(permit.grounds()),
                    shadow,
                    endpoint: None,
                }
            }
            Stage::Refused(refused) => {
                let Refused { matched, principal, shadow, .. } = &**refused;
                let shadow = shadow.filter(|shadow| shadow.is_permit()).map(Verdict::label);
                Self {
                    matched: matched.as_ref(),
                    principal: principal.as_ref(),
                    shadow,
                    ..Self::default()
                }
            }
            Stage::Endpoint(path, outcome) => {
                Self { endpoint: Some((path, outcome)), ..Self::default() }
            }
            Stage::Received => Self::default(),
        }
    }
}

fn write(shared: &Shared, exchange: &Exchange, total: Duration, exported: Option<&Trace>) {
    let rules = exchange.snapshot.rules();
    let judged = Judged::of(&exchange.stage);
    let operation = judged.matched.and_then(|matched| rules.operation(matched.operation));
    let Ended { verdict, reason, fault } = Ended::of(exchange);
    let facts = judged.principal.map(Principal::facts);
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let issued = judged.endpoint.map(|(_, outcome)| outcome);
    let time = clock::now_text();
    let record = Record {
        v: Record::version(),
        id: exchange.id,
        time: &time,
        trace_id: exported.map(|trace| TraceId(trace.told.trace)),
        request_id: exchange.request_id.as_ref().and_then(|(_, id)| id.to_str().ok()),
        method: &exchange.method,
        host: exchange.unmatched.as_ref().map(|asked| asked.host.as_str()),
        path: exchange.unmatched.as_ref().map(|asked| asked.path.as_str()),
        api: operation
            .and_then(|operation| rules.apis().get(operation.api))
            .map(|api| api.name.as_str()),
        version: operation
            .and_then(|operation| operation.version.as_ref())
            .map(crate::names::Version::as_str),
        resource: operation
            .map(|operation| &*operation.resource)
            .or(judged.endpoint.map(|(path, _)| path)),
        parameters: judged.matched.map_or(&[], |matched| &matched.parameters),
        address: exchange.address,
        issuer: facts.map(|facts| facts.issuer.as_str()),
        client: judged
            .principal
            .map(|principal| principal.client().id.as_str())
            .or_else(|| issued.and_then(|outcome| outcome.client.as_deref())),
        claimed_client: issued
            .filter(|outcome| outcome.client.is_none())
            .and_then(|outcome| outcome.claimed_client.as_deref()),
        subject: facts.map(|facts| facts.subject.as_str()),
        scopes: judged
            .principal
            .map(|principal| Scopes::Set(principal.scopes()))
            .or_else(|| issued.and_then(|outcome| outcome.scopes.as_deref().map(Scopes::Text))),
        roles: judged.principal.map(|principal| principal.roles(rules)).unwrap_or_default(),
        claims: claims(exchange, judged.principal),
        unread_claims: facts.map_or(&[], |facts| &facts.unread),
        verdict,
        reason,
        fault,
        rules: judged.grounds.map(|grounds| rules.describe(grounds)).unwrap_or_default(),
        shadow: judged.shadow,
        candidate: exchange.difference.as_ref().map(|difference| Candidate {
            verdict: difference.verdict.label(),
            rule: &difference.rule,
            set: &difference.set,
        }),
        asked_by: exchange.asked_by.map(Dialect::as_str),
        set: &exchange.snapshot.config.version,
        status: exchange.status,
        decision_us: exchange.decided.map_or(0, microseconds),
        total_us: microseconds(total),
    };
    shared.recorder.record(&record);
}

/// The claims that the operation's policy looks at, and no others.
fn claims<'a>(
    exchange: &'a Exchange,
    principal: Option<&'a Principal>,
) -> Vec<(&'a str, &'a Value)> {
    let (Some(operation), Some(principal)) = (exchange.operation(), principal) else {
        return Vec::new();
    };
    let names = exchange.snapshot.rules().claims_of(operation);
    names.filter_map(|name| Some((name, principal.facts().claims.get(name)?))).collect()
}
