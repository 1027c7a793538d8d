//! Changes of the configuration or of a request that would permit it. A change is reported only
//! after it was applied to a copy and the decision was made again.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::client::{Client, User};
use crate::names::{
    ApiName, ClientId, IssuerName, Origin, PolicyName, RoleName, ScopeName, UserName,
};
use crate::policy::block::Block;
use crate::policy::decide::{Judgement, Moment, decide};
use crate::policy::definition::{Api, AuthScope, Profile, RoleRequirement, ScopeGrant, Selector};
use crate::policy::findings::{Findings, Part, WayIn};
use crate::policy::route::Operation;
use crate::policy::{Definitions, Principal, Rules, compile};
use crate::reason::{Reason, Refusal, Step, TokenFault};
use crate::request::Request;
use crate::request::address::Networks;
use crate::request::certificate::CertificateFacts;
use crate::request::method::{Method, MethodSet};
use crate::token::Facts;

/// Number of changes after which the search ends.
const MOST: usize = 10;

/// A copy of everything that a verdict depends on.
#[derive(Clone, Debug)]
pub struct World {
    /// The rules before compilation.
    pub definitions: Definitions,
    /// The request.
    pub request: Request,
    /// The facts of its token.
    pub facts: Option<Facts>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another token of the same client that is valid now.
    FreshToken,
    /// A scope requested with the token.
    AskScope(ScopeName),
    /// A scope given to a client.
    GrantScope(ScopeName, ClientId, Origin),
    /// A scope that is to grant an operation.
    ExtendScope(ScopeName, Option<Origin>, ApiName, Method, Arc<str>),
    /// A client listed in a profile.
    ListClient(PolicyName, Origin, usize, ClientId),
    /// An issuer listed in a profile.
    ListIssuer(PolicyName, Origin, usize, IssuerName),
    /// A profile that admits clients with `enforce_token_restriction` without listing them.
    AdmitRestricted(PolicyName, Origin, usize),
    /// A separate profile for a client.
    AddProfile(PolicyName, Origin, IssuerName, ClientId),
    /// An address added to a profile.
    LetAddress(PolicyName, Origin, usize, IpAddr),
    /// `enforce_token_restriction` off.
    Unrestrict(ClientId, Origin),
    /// An API added to `limit_authorization`.
    Widen(ClientId, Origin, ApiName),
    /// A role given to a user.
    UserRole(RoleName, UserName, Origin),
    /// A role given to a client.
    ClientRole(RoleName, ClientId, Origin),
    /// A value of the role claim of another issuer's token.
    TokenRole(RoleName, IssuerName, String),
    /// A claim with a value.
    TokenClaim(String, String),
    /// A client certificate to present.
    Certificate(String),
    /// A client switched on.
    ActivateClient(ClientId, Origin),
    /// A user switched on, or let in again.
    ActivateUser(UserName, Origin),
    /// The end of maintenance.
    EndMaintenance(ApiName, Origin),
    /// A block removed.
    Unblock(Origin),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreshToken => write!(f, "get a new token"),
            Self::AskScope(scope) => {
                write!(f, "ask for the scope `{scope}` with the token: the client holds it")
            }
            Self::GrantScope(scope, client, at) => {
                write!(f, "grant `{scope}` to client `{client}` ({at})")
            }
            Self::ExtendScope(scope, at, api, method, resource) => {
                let (at, new) = match at {
                    Some(at) => (format!(" ({at})"), ""),
                    None => (String::new(), "new "),
                };
                write!(
                    f,
                    "let the {new}scope `{scope}`{at} grant {} {resource} of API `{api}`",
                    method.as_str()
                )
            }
            Self::ListClient(policy, at, profile, client) => {
                write!(
                    f,
                    "add `{client}` to `clients` of profile {} of policy `{policy}` ({at})",
                    profile + 1
                )
            }
            Self::ListIssuer(policy, at, profile, issuer) => {
                write!(
                    f,
                    "add `{issuer}` to `issuers` of profile {} of policy `{policy}` ({at})",
                    profile + 1
                )
            }
            Self::AdmitRestricted(policy, at, profile) => {
                write!(
                    f,
                    "write `restricted_clients: true` into profile {} of policy `{policy}` ({at})",
                    profile + 1
                )
            }
            Self::AddProfile(policy, at, issuer, client) => {
                let issuers =
                    if issuer.is_own() { String::new() } else { format!("issuers: [{issuer}], ") };
                write!(
                    f,
                    "add a profile `{{ {issuers}clients: [{client}] }}` to policy `{policy}` ({at})"
                )
            }
            Self::LetAddress(policy, at, profile, address) => write!(
                f,
                "call from a network under `from` of profile {} of policy `{policy}` ({at}), or \
                    add {address} to it",
                profile + 1
            ),
            Self::Unrestrict(client, at) => write!(
                f,
                "name client `{client}` in an access policy about the operation, or set its \
                    `enforce_token_restriction: false` ({at})"
            ),
            Self::Widen(client, at, api) => {
                write!(f, "add `{api}` to `limit_authorization` of client `{client}` ({at})")
            }
            Self::UserRole(role, user, at) => {
                write!(f, "give role `{role}` to user `{user}` ({at})")
            }
            Self::ClientRole(role, client, at) => {
                write!(f, "give role `{role}` to client `{client}` ({at})")
            }
            Self::TokenRole(role, issuer, value) => {
                write!(
                    f,
                    "have issuer `{issuer}` put `{value}` into the role claim, which is role \
                        `{role}` here"
                )
            }
            Self::TokenClaim(name, value) => {
                write!(f, "have the issuer set claim `{name}` to `{value}`")
            }
            Self::Certificate(name) => write!(f, "show the client certificate `{name}`"),
            Self::ActivateClient(client, at) => {
                write!(f, "set `active: true` of client `{client}` ({at})")
            }
            Self::ActivateUser(user, at) => {
                write!(f, "set `active: true` and `locked: false` of user `{user}` ({at})")
            }
            Self::EndMaintenance(api, at) => write!(f, "end `maintenance` of API `{api}` ({at})"),
            Self::Unblock(at) => write!(f, "take away the block ({at})"),
        }
    }
}

/// The nearest changes that together permit; `None` where none were found.
#[must_use]
pub fn nearest(mut world: World, moment: Moment<'_>) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    for _ in 0..MOST {
        let rules = compile(world.definitions.clone()).ok()?;
        let judgement = judge(&rules, &world, moment);
        let Err(refusal) = &judgement.outcome else { return Some(changes) };
        let change = propose(&rules, &world, &judgement, refusal, moment)?;
        change.make(&mut world);
        changes.push(change);
    }
    None
}

fn judge(rules: &Rules, world: &World, moment: Moment<'_>) -> Judgement {
    let unread = Refusal::because(Reason::TokenInvalid, "the token was not read");
    decide(rules, &world.request, |_| world.facts.clone().map(Arc::new).ok_or(unread), moment)
}

/// The change that removes one refusal.
fn propose(
    rules: &Rules,
    world: &World,
    judgement: &Judgement,
    refusal: &Refusal,
    moment: Moment<'_>,
) -> Option<Change> {
    let reason = refusal.reason;
    match reason.step() {
        Step::Operation if reason == Reason::OperationMaintenance => {
            let api = rules.api_of(judgement.operation.as_ref()?.operation)?;
            Some(Change::EndMaintenance(api.name.clone(), api.origin.clone()))
        }
        Step::Identity => of_identity(rules, world.facts.as_ref()?, refusal),
        Step::Network | Step::Blocks => {
            let block = world.definitions.blocks.iter().find(|block| {
                let live = block.until.is_none_or(|end| moment.now < end);
                live && blocks(block, world, rules)
            })?;
            Some(Change::Unblock(block.origin.clone()))
        }
        Step::Policy | Step::Scope | Step::Acl => {
            at_a_gate(rules, world, judgement, reason, moment)
        }
        Step::Request | Step::Operation | Step::Credential | Step::Limits | Step::Forward => None,
    }
}

/// The change that makes the token's client and user valid.
fn of_identity(rules: &Rules, facts: &Facts, refusal: &Refusal) -> Option<Change> {
    if refusal.reason == Reason::TokenInvalid {
        let curable = [
            TokenFault::Expired,
            TokenFault::NotYetValid,
            TokenFault::Audience,
            TokenFault::Revoked,
        ];
        return curable
            .iter()
            .any(|fault| fault.label() == refusal.fault.text())
            .then_some(Change::FreshToken);
    }
    let client = client_of(rules, facts)?;
    if refusal.reason == Reason::ClientInactive {
        return Some(Change::ActivateClient(client.id.clone(), client.origin.clone()));
    }
    let name = client.application_user.as_ref().filter(|_| facts.subject == client.id.as_str());
    let user = rules.registry().user(name.map_or(facts.subject.as_str(), UserName::as_str))?;
    (refusal.reason == Reason::UserInactive)
        .then(|| Change::ActivateUser(user.name.clone(), user.origin.clone()))
}

/// Whether a block applies to the request.
fn blocks(block: &Block, world: &World, rules: &Rules) -> bool {
    let address = world
        .request
        .address
        .is_some_and(|at| block.from.iter().any(|network| network.contains(&at)));
    let Some(facts) = &world.facts else { return address };
    let client = client_of(rules, facts);
    let user = client.filter(|_| facts.issuer.is_own()).and_then(|client| {
        let own = facts.subject == client.id.as_str();
        if own {
            client.application_user.as_ref().map(UserName::as_str)
        } else {
            Some(facts.subject.as_str())
        }
    });
    address
        || client.is_some_and(|client| block.clients.contains(&client.id))
        || user.is_some_and(|user| block.users.iter().any(|blocked| blocked.as_str() == user))
        || facts.id.as_ref().is_some_and(|id| block.tokens.contains(id))
}

fn client_of<'a>(rules: &'a Rules, facts: &Facts) -> Option<&'a Arc<Client>> {
    if facts.issuer.is_own() {
        rules.registry().client(facts.client.as_deref()?)
    } else {
        rules.registry().external_client(&facts.issuer, facts.client.as_deref())
    }
}

fn at_a_gate(
    rules: &Rules,
    world: &World,
    judgement: &Judgement,
    reason: Reason,
    moment: Moment<'_>,
) -> Option<Change> {
    let (matched, principal) = (judgement.operation.as_ref()?, judgement.principal.as_ref()?);
    let found = rules.findings(&world.request, matched, principal, moment.now)?;
    let (operation, api) = (rules.operation(matched.operation)?, rules.api_of(matched.operation)?);
    let client = principal.client();
    match reason.step() {
        Step::Policy if reason == Reason::PolicyNone => {
            Some(Change::Unrestrict(client.id.clone(), client.origin.clone()))
        }
        Step::Policy => way_in(rules, world, principal, &found),
        Step::Scope if reason == Reason::ScopeLimited => {
            Some(Change::Widen(client.id.clone(), client.origin.clone(), api.name.clone()))
        }
        Step::Scope if reason == Reason::ScopeMissing => {
            if let Some(held) = found.granting.iter().find(|scope| client.scopes.contains(*scope)) {
                return Some(Change::AskScope(held.clone()));
            }
            // The scope that grants the least in addition.
            let reach = |scope: &&ScopeName| {
                rules.scopes_in_use().filter(|used| *used == scope.as_str()).count()
            };
            let scope = found.granting.iter().min_by_key(reach)?;
            Some(Change::GrantScope(scope.clone(), client.id.clone(), client.origin.clone()))
        }
        Step::Acl if reason == Reason::AclRole => {
            let (at, _) = found.acls.iter().find(|(_, satisfied)| !satisfied)?;
            role(rules, principal, &world.definitions.acls.get(*at)?.roles)
        }
        Step::Scope | Step::Acl => {
            Some(name_operation(&world.definitions, principal, api, operation))
        }
        Step::Request
        | Step::Network
        | Step::Operation
        | Step::Credential
        | Step::Identity
        | Step::Blocks
        | Step::Limits
        | Step::Forward => None,
    }
}

/// A scope that names an operation: one that the caller has on this API, or a new one.
fn name_operation(
    definitions: &Definitions,
    principal: &Principal,
    api: &Api,
    operation: &Operation,
) -> Change {
    let held = principal.scopes();
    let here = |scope: &AuthScope, changes: Option<bool>| {
        let mut grants =
            scope.grants.iter().filter(|grant| grant.selector.api.as_ref() == Some(&api.name));
        let writes = |methods: &MethodSet| methods.iter().any(|method| !method.is_safe());
        let fits = |grant: &ScopeGrant, changes| {
            grant.selector.methods.as_ref().is_none_or(|set| writes(set) == changes)
        };
        grants.any(|grant| changes.is_none_or(|changes| fits(grant, changes)))
    };
    let of = |changes: Option<bool>| {
        let mut scopes = definitions.scopes.iter();
        scopes.find(|scope| {
            scope.active && held.contains(scope.name.as_str()) && here(scope, changes)
        })
    };
    // A scope for reading should not permit writing too.
    let scope = of(Some(!operation.method.is_safe())).or_else(|| of(None));
    let name = scope.map_or_else(
        || {
            ScopeName::new(&format!(
                "{}_{}",
                api.name,
                operation.method.as_str().to_ascii_lowercase()
            ))
        },
        |scope| scope.name.clone(),
    );
    let taken = definitions.scopes.iter().find(|scope| scope.name == name);
    let at = taken.map(|scope| scope.origin.clone());
    Change::ExtendScope(name, at, api.name.clone(), operation.method, operation.resource.clone())
}

/// The cost of making a part of a profile hold: where and how a client calls costs less than who it
/// is.
const fn weight(part: Part) -> u32 {
    match part {
        Part::From | Part::Claims | Part::Certificates | Part::Schedule => 1,
        Part::Roles | Part::Clients | Part::RestrictedClients => 2,
        Part::Issuers => 3,
    }
}

/// The change for the profile that admits the caller after the fewest changes: the first of these.
fn way_in(rules: &Rules, world: &World, principal: &Principal, found: &Findings) -> Option<Change> {
    let policy = world.definitions.policies.get(found.policy?)?;
    let (name, client) = (policy.name.clone(), &principal.client().id);
    // A caller cannot choose the time of a call, and without an address no network matches.
    let fixable = |way: &&WayIn| {
        !way.fails.contains(&Part::Schedule)
            && (world.request.address.is_some() || !way.fails.contains(&Part::From))
    };
    let weight = |way: &&WayIn| way.fails.iter().map(|part| weight(*part)).sum::<u32>();
    let Some(way) = found.ways.iter().filter(fixable).min_by_key(weight) else {
        return Some(Change::AddProfile(
            name,
            policy.origin.clone(),
            IssuerName::new(principal.facts().issuer.declared()),
            client.clone(),
        ));
    };
    let profile = policy.profiles.get(way.profile)?;
    let (at, origin) = (way.profile, profile.origin.clone());
    match way.fails.first()? {
        Part::Issuers => {
            let issuer = IssuerName::new(principal.facts().issuer.declared());
            Some(Change::ListIssuer(name, origin, at, issuer))
        }
        Part::Clients => Some(Change::ListClient(name, origin, at, client.clone())),
        Part::From => Some(Change::LetAddress(name, origin, at, world.request.address?)),
        Part::Roles => role(rules, principal, profile.roles.as_ref()?),
        Part::Claims => {
            let (claim, values) =
                profile.claims.iter().find(|(name, values)| !principal.claim_is(name, values))?;
            Some(Change::TokenClaim(claim.clone(), values.first()?.clone()))
        }
        Part::Certificates => {
            Some(Change::Certificate(profile.certificates.as_ref()?.first()?.clone()))
        }
        Part::RestrictedClients => Some(Change::AdmitRestricted(name, origin, at)),
        Part::Schedule => None,
    }
}

/// A role that the caller lacks, given where its roles are.
fn role(rules: &Rules, principal: &Principal, asked: &RoleRequirement) -> Option<Change> {
    let (RoleRequirement::All(roles) | RoleRequirement::Any(roles)) = asked;
    let role = roles.iter().find(|role| !principal.has_role(role, rules))?.clone();
    let facts = principal.facts();
    if !facts.issuer.is_own() {
        let values = &rules.issuer(facts.issuer.as_str())?.roles;
        let value = values.iter().filter(|(_, own)| **own == role).map(|(value, _)| value).min()?;
        return Some(Change::TokenRole(role, facts.issuer.clone(), value.clone()));
    }
    Some(match principal.user() {
        Some(user) => Change::UserRole(role, user.name.clone(), user.origin.clone()),
        None => Change::ClientRole(
            role,
            principal.client().id.clone(),
            principal.client().origin.clone(),
        ),
    })
}

impl Change {
    /// Applies the change to a copy.
    fn make(&self, world: &mut World) {
        let World { definitions, request, facts } = world;
        let mut client =
            |id: &ClientId, edit: &dyn Fn(&mut Client)| definitions.registry.edit_client(id, edit);
        match self {
            Self::FreshToken => {
                if let Some(facts) = facts {
                    *facts = fresh(definitions, facts);
                }
            }
            Self::AskScope(scope) => ask(facts, scope),
            Self::GrantScope(scope, id, _) => {
                client(id, &|client| {
                    client.scopes.insert(scope.clone());
                });
                ask(facts, scope);
            }
            // No client holds it yet: the next change grants it.
            Self::ExtendScope(scope, _, api, method, resource) => {
                extend(definitions, scope, api, *method, resource);
            }
            Self::ListClient(policy, _, at, id) => {
                edit_profile(definitions, policy, *at, |profile| {
                    profile.clients.get_or_insert_default().insert(id.clone());
                });
            }
            Self::ListIssuer(policy, _, at, issuer) => {
                edit_profile(definitions, policy, *at, |profile| {
                    profile.issuers.insert(issuer.clone());
                });
            }
            Self::AdmitRestricted(policy, _, at) => {
                edit_profile(definitions, policy, *at, |profile| profile.restricted_clients = true);
            }
            Self::LetAddress(policy, _, at, address) => {
                edit_profile(definitions, policy, *at, |profile| {
                    profile.from = Some(Networks::new([(*address).into()]));
                });
            }
            Self::AddProfile(policy, at, issuer, id) => {
                for found in definitions.policies.iter_mut().filter(|found| found.name == *policy) {
                    found.profiles.push(Profile {
                        issuers: [issuer.clone()].into(),
                        clients: Some([id.clone()].into()),
                        restricted_clients: false,
                        from: None,
                        roles: None,
                        claims: Vec::new(),
                        between: None,
                        certificates: None,
                        origin: at.clone(),
                    });
                }
            }
            Self::Unrestrict(id, _) => {
                client(id, &|client| client.enforce_token_restriction = false);
            }
            Self::Widen(id, _, api) => client(id, &|client| {
                client.limit_authorization.get_or_insert_default().insert(api.clone());
            }),
            Self::ClientRole(role, id, _) => client(id, &|client| {
                client.roles.insert(role.clone());
            }),
            Self::ActivateClient(id, _) => client(id, &|client| client.active = true),
            Self::UserRole(role, name, _) => {
                definitions.registry.edit_user(name, &|user: &mut User| {
                    user.roles.insert(role.clone());
                });
            }
            Self::ActivateUser(name, _) => {
                definitions.registry.edit_user(name, &|user: &mut User| {
                    (user.active, user.locked) = (true, false);
                });
            }
            Self::TokenRole(_, _, value) => {
                if let Some(facts) = facts {
                    facts.roles.push(value.clone());
                }
            }
            Self::TokenClaim(name, value) => {
                if let Some(facts) = facts {
                    facts.claims.insert(name.clone(), serde_json::Value::String(value.clone()));
                }
            }
            Self::Certificate(name) => {
                request.certificate = CertificateFacts::named(std::slice::from_ref(name));
            }
            Self::EndMaintenance(api, _) => {
                for found in definitions.apis.iter_mut().filter(|found| found.name == *api) {
                    found.maintenance = false;
                }
            }
            Self::Unblock(at) => definitions.blocks.retain(|block| block.origin != *at),
        }
    }
}

fn fresh(definitions: &Definitions, facts: &Facts) -> Facts {
    let issuer = definitions
        .issuers
        .iter()
        .find(|issuer| issuer.rules.name.as_str() == facts.issuer.declared());
    let mut fresh = facts.clone();
    fresh.audience = crate::policy::sample::audience(issuer);
    (fresh.expires, fresh.not_before, fresh.issued) =
        (crate::names::Timestamp(i64::MAX), None, None);
    fresh
}

/// Adds a scope to the token; where its issuer declares none, scopes follow from what the client
/// holds.
fn ask(facts: &mut Option<Facts>, scope: &ScopeName) {
    if let Some(scopes) = facts.as_mut().and_then(|facts| facts.scopes.as_mut()) {
        *scopes = scopes.as_slice().iter().cloned().chain([scope.clone()]).collect();
    }
}

fn extend(
    definitions: &mut Definitions,
    scope: &ScopeName,
    api: &ApiName,
    method: Method,
    resource: &Arc<str>,
) {
    let methods: MethodSet = [method].into_iter().collect();
    let selector = Selector {
        api: Some(api.clone()),
        methods: Some(methods),
        versions: None,
        resources: Some([resource.clone()].into()),
    };
    let grant = ScopeGrant { selector, conditions: Vec::new(), origin: Origin::default() };
    match definitions.scopes.iter_mut().find(|found| found.name == *scope) {
        Some(found) => {
            found.active = true;
            found.grants.push(grant);
        }
        None => definitions.scopes.push(AuthScope {
            name: scope.clone(),
            description: None,
            active: true,
            grants: vec![grant],
            origin: Origin::default(),
        }),
    }
}

fn edit_profile(
    definitions: &mut Definitions,
    policy: &PolicyName,
    at: usize,
    edit: impl FnOnce(&mut Profile),
) {
    let found = definitions.policies.iter_mut().find(|found| found.name == *policy);
    if let Some(profile) = found.and_then(|policy| policy.profiles.get_mut(at)) {
        edit(profile);
    }
}
