//! The order of steps. `serve` calls [`check_network`], [`open`] and [`judge`], and reads the token
//! between them; [`decide`] does all three in one call.

use std::sync::Arc;

use super::Rules;
use super::block::Blocks;
use super::definition::{Api, Cors};
use super::gate::{Grounds, Inquiry};
use super::principal::{Principal, identify};
use super::route::{Matched, Operation, OperationId, is_same_leaf, parameters};
use crate::names::Timestamp;
use crate::reason::{Reason, Refusal, Remedy, TokenError, TokenFault, Verdict, quoted};
use crate::request::credential::BearerToken;
use crate::request::headers::{OVERRIDING, override_refused};
use crate::request::method::Method;
use crate::request::target::{Allowances, QueryAllowances};
use crate::request::{Asked, Request};
use crate::token::Facts;

/// The proof that a rule named the operation and nothing forbade it. Forwarding requires one; only
/// this module creates them.
#[derive(Clone, Debug)]
pub struct Permit {
    operation: OperationId,
    grounds: Grounds,
}

impl Permit {
    /// The operation it is for.
    #[must_use]
    pub const fn operation(&self) -> OperationId {
        self.operation
    }

    /// The rules that gave it.
    #[must_use]
    pub const fn grounds(&self) -> &Grounds {
        &self.grounds
    }
}

/// A verdict with the intermediate results.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The operation, once matched.
    pub operation: Option<Matched>,
    /// The caller, once identified.
    pub principal: Option<Principal>,
    /// The verdict.
    pub outcome: Result<Permit, Refusal>,
    /// The verdict with the shadow rules in their places, where the operation has any.
    pub shadow: Option<Verdict>,
}

impl Judgement {
    /// A refusal before an operation was matched.
    #[must_use]
    pub const fn refused(refusal: Refusal) -> Self {
        Self { operation: None, principal: None, outcome: Err(refusal), shadow: None }
    }

    /// A refusal of a matched operation.
    #[must_use]
    pub const fn refused_at(operation: Matched, refusal: Refusal) -> Self {
        Self { operation: Some(operation), principal: None, outcome: Err(refusal), shadow: None }
    }
}

/// The inputs of a decision that depend on the moment, in addition to the rules.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The time.
    pub now: Timestamp,
    /// Blocks set by command: they apply together with those of the rules.
    pub blocks: &'a Blocks,
}

impl Moment<'static> {
    /// A time, without blocks set by command.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        static NONE: std::sync::LazyLock<Blocks> = std::sync::LazyLock::new(Blocks::default);
        Self { now, blocks: &NONE }
    }
}

/// Step 1, blocked networks. Limits per address are counted by the caller, right after it.
///
/// # Errors
/// Returns `blocked.network`.
pub fn check_network(
    rules: &Rules,
    address: Option<std::net::IpAddr>,
    moment: Moment<'_>,
) -> Result<(), Refusal> {
    let Some(address) = address else { return Ok(()) };
    rules.blocks.check_network(address, moment.now)?;
    moment.blocks.check_network(address, moment.now)
}

/// A request after steps 2 to 4.
#[derive(Debug)]
pub enum Opened<'a> {
    /// Decided already: public, or refused.
    Decided(Box<Judgement>),
    /// A token has to be read.
    Token(Matched, &'a BearerToken),
}

/// A browser's preflight request (CORS), with the data for its answer.
#[derive(Debug)]
pub struct Preflight<'a> {
    /// The operation that the page wants to call.
    pub operation: OperationId,
    /// The CORS rules of its API.
    pub cors: &'a Cors,
    /// The methods of the resource.
    pub methods: String,
}

/// Step 2 for a preflight on an API with `cors`: decided by the method that it asks for, without a
/// token, and never forwarded. `None` where the request is not a preflight.
///
/// # Errors
/// No operation matches.
#[must_use]
pub fn preflight<'a>(
    rules: &'a Rules,
    request: &Request,
) -> Option<Result<Preflight<'a>, Box<Judgement>>> {
    if request.asked == Asked::Nothing || request.method != Some(Method::Options) {
        return None;
    }
    let leaf = rules.routes.find(&request.host, request.target.path())?;
    let api = rules.api_of(leaf.any()?)?;
    let cors = api.cors.as_ref()?;
    let method = match request.asked {
        // A page asks for POST where a header of its request is to name the method.
        Asked::Method(Method::Post) if api.method_override && cors.lists_override() => {
            let mut all = [Method::Post].into_iter().chain(OVERRIDING);
            all.find(|method| leaf.operation(*method).is_some())
        }
        Asked::Method(method) => Some(method),
        Asked::Nothing | Asked::Unknown => None,
    };
    let request = Request { method, ..request.clone() };
    let methods = leaf.methods().allow();
    Some(find(rules, &request).map(|matched| Preflight {
        operation: matched.operation,
        cors,
        methods,
    }))
}

/// Steps 2 to 4: match, public, credential.
#[must_use]
pub fn open<'a>(rules: &Rules, request: &'a Request) -> Opened<'a> {
    let matched = match find(rules, request) {
        Ok(matched) => matched,
        Err(judgement) => return Opened::Decided(judgement),
    };
    if rules.operation(matched.operation).is_some_and(|operation| operation.public) {
        let permit = Permit {
            operation: matched.operation,
            grounds: Grounds { public: true, ..Grounds::default() },
        };
        return Opened::Decided(Box::new(Judgement {
            operation: Some(matched),
            principal: None,
            outcome: Ok(permit),
            shadow: None,
        }));
    }
    // A query that carries a token is refused whatever the header has: the token has already leaked
    // into logs.
    let credential = match &request.credential {
        Err(refusal) if refusal.reason == Reason::TokenSeveral => Err(refusal.clone()),
        _ if request.target.has_token_in_query() => Err(Refusal::new(Reason::TokenInQuery)),
        Err(refusal) => Err(refusal.clone()),
        Ok(token) => Ok(token),
    };
    match credential {
        Ok(token) => Opened::Token(matched, token),
        Err(refusal) => Opened::Decided(Box::new(Judgement::refused_at(matched, refusal))),
    }
}

/// The method that the request is judged, counted, recorded and forwarded as: the one that a header
/// names where the API at its path lets it, its own where no header names one.
///
/// # Errors
/// `request.malformed`: a header names a method, and no API there lets it.
pub fn method_judged(rules: &Rules, request: &Request) -> Result<Option<Method>, Refusal> {
    let leaf = rules.routes.find(&request.host, request.target.path());
    method_at(request, leaf.and_then(|leaf| rules.api_of(leaf.any()?)))
}

fn method_at(request: &Request, api: Option<&Api>) -> Result<Option<Method>, Refusal> {
    match request.overriding {
        None => Ok(request.method),
        Some(named) if api.is_some_and(|api| api.method_override) => Ok(Some(named)),
        Some(named) => Err(override_refused(named)),
    }
}

/// Step 2.
fn find(rules: &Rules, request: &Request) -> Result<Matched, Box<Judgement>> {
    let refused = |refusal| Box::new(Judgement::refused(refusal));
    let ambiguous = || {
        refused(Refusal::because(
            Reason::PathAmbiguous,
            "a character that the API does not allow in a segment",
        ))
    };
    let path = request.target.path();
    let used = request.target.used();
    let found = rules.routes.find(&request.host, path);
    if request.target.has_escaped_reserved()
        && !is_same_leaf(found, rules.routes.find_decoded(&request.host, path))
    {
        let text = "an escape of a character that a more specific resource has as it is";
        return Err(refused(Refusal::because(Reason::PathAmbiguous, text)));
    }
    let Some(leaf) = found else {
        method_at(request, None).map_err(refused)?;
        request.target.check_query(QueryAllowances::default()).map_err(refused)?;
        return Err(if used == Allowances::default() {
            refused(Refusal::new(Reason::OperationUnknown))
        } else {
            ambiguous()
        });
    };
    let methods = leaf.methods();
    let api = leaf
        .any()
        .and_then(|id| rules.api_of(id))
        .ok_or_else(|| refused(Refusal::new(Reason::GatewayBroken)))?;
    if !api.allow.covers(used) {
        return Err(ambiguous());
    }
    request.target.check_query(api.query).map_err(refused)?;
    let method = method_at(request, Some(api)).map_err(refused)?;
    let Some(operation) = method.and_then(|method| leaf.operation(method)) else {
        return Err(refused(
            Refusal::new(Reason::OperationMethod).with(Remedy::Allow(methods.allow())),
        ));
    };
    let parameters =
        if leaf.wants_parameters { parameters(&leaf.segments, path) } else { Vec::new() };
    let matched = Matched { operation, parameters };
    if api.maintenance {
        let refusal = Refusal::new(Reason::OperationMaintenance).with(Remedy::RetryAfter(60));
        return Err(Box::new(Judgement::refused_at(matched, refusal)));
    }
    Ok(matched)
}

/// Steps 5 to 9, with the facts of a verified token.
#[must_use]
pub fn judge(
    rules: &Rules,
    request: &Request,
    matched: Matched,
    facts: Arc<Facts>,
    moment: Moment<'_>,
) -> Judgement {
    let now = moment.now;
    let principal = match identify(rules, facts, now) {
        Ok(principal) => principal,
        Err(refusal) => return Judgement::refused_at(matched, refusal),
    };
    let api = rules.api_of(matched.operation);
    if principal.facts().issuer.is_own()
        && !api.is_some_and(|api| rules.is_for(principal.facts(), api))
    {
        let seen = quoted(&principal.facts().audience.join(", "));
        let text = format!("saw {seen}, which is not for this API");
        let error = TokenError::because(TokenFault::Audience, text);
        return Judgement::refused_at(matched, Refusal::token(error));
    }
    let (outcome, shadow) =
        match (check_blocks(rules, &principal, moment), rules.operation(matched.operation)) {
            (Err(refusal), _) => (Err(refusal), None),
            (Ok(()), None) => (Err(Refusal::new(Reason::GatewayBroken)), None),
            (Ok(()), Some(operation)) => {
                gates(rules, request, operation, &matched, &principal, now)
            }
        };
    Judgement { operation: Some(matched), principal: Some(principal), outcome, shadow }
}

type Gated = (Result<Permit, Refusal>, Option<Verdict>);

fn gates(
    rules: &Rules,
    request: &Request,
    operation: &Operation,
    matched: &Matched,
    principal: &Principal,
    now: Timestamp,
) -> Gated {
    let (address, certificate) = (request.address, request.certificate.as_deref());
    let inquiry = Inquiry { rules, operation, matched, principal, address, certificate, now };
    let outcome = inquiry.pass(&operation.enforced);
    let shadow = operation.shadow.as_ref().map(|gates| Verdict::of(&inquiry.pass(gates)));
    (outcome.map(|grounds| Permit { operation: matched.operation, grounds }), shadow)
}

/// Step 6.
fn check_blocks(rules: &Rules, principal: &Principal, moment: Moment<'_>) -> Result<(), Refusal> {
    rules.blocks.check(principal, moment.now)?;
    moment.blocks.check(principal, moment.now)
}

/// The whole decision. `read` turns the bearer token into verified facts; `serve` awaits there.
pub fn decide(
    rules: &Rules,
    request: &Request,
    read: impl FnOnce(&BearerToken) -> Result<Arc<Facts>, Refusal>,
    moment: Moment<'_>,
) -> Judgement {
    if let Err(refusal) = check_network(rules, request.address, moment) {
        return Judgement::refused(refusal);
    }
    match open(rules, request) {
        Opened::Decided(judgement) => *judgement,
        Opened::Token(matched, token) => match read(token) {
            Ok(facts) => judge(rules, request, matched, facts, moment),
            Err(refusal) => Judgement::refused_at(matched, refusal),
        },
    }
}
