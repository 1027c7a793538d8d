//! The core: the operator's definitions, compiled into one table per operation, and the pure
//! decision over them.
//!
//! Owns steps 1 to 9 of decisions.md except reading a token and counting a limit, which the caller
//! does. Knows nothing of sockets, files or clocks: the same inputs give the same verdict in
//! `serve`, `check` and every tool.

pub mod schedule;
pub mod block;
pub mod sample;
pub mod compile;
pub mod decide;
pub mod definition;
pub mod findings;
pub mod gate;
pub mod limit;
pub mod principal;
pub mod route;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::client::Registry;
use crate::names::{ClientId, IssuerName, Origin, PolicyName, RoleName, ScopeName};
use crate::reason::{Reason, Step, Verdict};
use crate::token::IssuerRules;
use crate::token::tenant;
use block::Blocks;
use definition::{Api, RateLimit};
use route::{Operation, OperationId, Routes};

pub use compile::{CompileFault, Definitions, compile};
pub use decide::{Judgement, Moment, Permit, decide};
pub use principal::Principal;

/// One issuer, as decisions use it.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The requirements on its tokens.
    pub rules: IssuerRules,
    /// Its role values and the roles they map to. Unmapped values are ignored.
    pub roles: HashMap<String, RoleName>,
    /// How its opaque tokens are recognised, if it offers introspection.
    pub opaque: Option<Opaque>,
}

impl Issuer {
    /// The first value of the role claim that maps to this role.
    #[must_use]
    pub fn value_of(&self, role: &str) -> Option<&String> {
        self.roles.iter().filter(|(_, own)| own.as_str() == role).map(|(value, _)| value).min()
    }
}

/// Opaque tokens of another issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Their prefix. Without one they are accepted on operations whose policy names only this
    /// issuer.
    pub prefix: Option<String>,
    /// It has no keys: its JWTs are introspected too.
    pub jwts_too: bool,
}

/// Path parameters with their allowed values.
pub type Conditions = [(Arc<str>, Vec<String>)];

/// Everything that a decision uses, compiled: immutable, shared, replaced as a whole on reload.
#[derive(Debug)]
pub struct Rules {
    definitions: Definitions,
    operations: Vec<Operation>,
    routes: Routes,
    issuers: HashMap<IssuerName, Issuer>,
    /// By `iss`; an issuer whose tenants are listed has several.
    issuer_names: HashMap<String, IssuerName>,
    /// Issuers with any tenant, by the text that `{tenant}` stands in; none overlap.
    issuer_templates: Vec<(String, IssuerName)>,
    /// Prefixes of opaque tokens; none is the beginning of another.
    prefixes: Vec<(String, IssuerName)>,
    blocks: Blocks,
    /// Indices of limits, by API.
    limits_of_apis: Vec<Vec<usize>>,
    profile_index: Vec<gate::ProfileIndex>,
    inactive_scopes: HashSet<ScopeName>,
    descriptions: HashMap<ScopeName, String>,
}

/// A rule behind a permit.
#[derive(Clone, Copy, Debug)]
pub enum Ground<'a> {
    /// A profile of an access policy, and where it is written.
    Policy(&'a PolicyName, &'a Origin),
    /// An auth scope.
    Scope(&'a ScopeName),
    /// An ACL, by where it is written.
    Acl(&'a Origin),
    /// The operation is public.
    Public,
}

impl fmt::Display for Ground<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name, origin) => write!(f, "policy {name} ({origin})"),
            Self::Scope(scope) => write!(f, "scope {scope}"),
            Self::Acl(origin) => write!(f, "acl ({origin})"),
            Self::Public => f.write_str("public"),
        }
    }
}

impl Rules {
    /// The definitions they were compiled from.
    #[must_use]
    pub const fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The APIs, in the order of [`Operation::api`].
    #[must_use]
    pub fn apis(&self) -> &[Api] {
        &self.definitions.apis
    }

    /// The API of an operation.
    #[must_use]
    pub fn api_of(&self, operation: OperationId) -> Option<&Api> {
        self.definitions.apis.get(self.operation(operation)?.api)
    }

    /// One operation.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.get(id.0 as usize)
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Clients and users.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.definitions.registry
    }

    /// One issuer by its name here, which may name one of its tenants.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.get(name).or_else(|| Some(self.issuer_and_tenant(name)?.0))
    }

    fn issuer_and_tenant<'a>(&self, name: &'a str) -> Option<(&Issuer, &'a str)> {
        let (declared, tenant) = name.rsplit_once('/')?;
        let issuer = self.issuers.get(declared)?;
        let tenants = issuer.rules.tenants.as_ref()?;
        tenants.allow(tenant).then_some((issuer, tenant))
    }

    /// The name of an issuer, or of one of its tenants, from its text.
    #[must_use]
    pub fn issuer_name(&self, text: &str) -> IssuerName {
        let found = self.issuer_and_tenant(text).filter(|_| !self.issuers.contains_key(text));
        let name = found.map(|(issuer, tenant)| issuer.rules.name.of_tenant(tenant));
        name.unwrap_or_else(|| IssuerName::new(text))
    }

    /// The issuer that a token's `iss` names, compared byte for byte. The claim is not yet
    /// verified: it only selects the keys.
    #[must_use]
    pub fn issuer_by_claim(&self, iss: &str) -> Option<&Issuer> {
        let by_template = || {
            let mut templates = self.issuer_templates.iter();
            templates.find(|(template, _)| tenant::tenant_of(template, iss).is_some())
        };
        let name = self.issuer_names.get(iss).or_else(|| Some(&by_template()?.1))?;
        self.issuers.get(name)
    }

    /// The issuer that introspects a token which is neither ours nor a JWT: by its prefix, or by
    /// the operation's policy (decisions.md, "Foreign opaque tokens"). A token is sent to no other
    /// issuer.
    #[must_use]
    pub fn issuer_of_opaque(&self, token: &str, operation: OperationId) -> Option<&Issuer> {
        let asked = |issuer: &&Issuer| issuer.opaque.is_some();
        let by_prefix = self.issuer_by_prefix(token);
        by_prefix.or_else(|| {
            let policy =
                self.definitions.policies.get(self.operation(operation)?.enforced.policy?)?;
            let names: HashSet<&IssuerName> =
                policy.profiles.iter().flat_map(|profile| &profile.issuers).collect();
            let mut named =
                names.into_iter().filter_map(|name| self.issuers.get(name)).filter(asked);
            let one = named.next()?;
            let bare = one.opaque.as_ref().is_some_and(|opaque| opaque.prefix.is_none());
            (bare && named.next().is_none()).then_some(one)
        })
    }

    /// The issuer whose prefix this opaque token has.
    #[must_use]
    pub fn issuer_by_prefix(&self, token: &str) -> Option<&Issuer> {
        self.prefixes
            .iter()
            .find(|(prefix, _)| token.starts_with(prefix))
            .and_then(|(_, name)| self.issuers.get(name))
    }

    /// All issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.values()
    }

    /// Limits per address.
    #[must_use]
    pub fn address_limits(&self) -> &[RateLimit] {
        &self.definitions.address_limits
    }

    /// The profiles of a policy that can name this client: those that list it, and those that list
    /// none.
    fn profiles(
        &self,
        policy: usize,
        client: &ClientId,
    ) -> impl Iterator<Item = (usize, &definition::Profile)> {
        let profiles = self
            .definitions
            .policies
            .get(policy)
            .map(|policy| policy.profiles.as_slice())
            .unwrap_or_default();
        let candidates =
            self.profile_index.get(policy).into_iter().flat_map(move |index| index.of(client));
        candidates.filter_map(move |at| Some((at, profiles.get(at)?)))
    }

    /// The scope that passes gate 2 everywhere.
    #[must_use]
    pub const fn master_scope(&self) -> &ScopeName {
        &self.definitions.master_scope
    }

    /// Scopes that are inactive.
    #[must_use]
    pub const fn inactive_scopes(&self) -> &HashSet<ScopeName> {
        &self.inactive_scopes
    }

    /// The scopes that grant something on an API, by its index.
    pub fn scopes_of(&self, api: usize) -> impl Iterator<Item = &str> {
        let operations = self.operations.iter().filter(move |operation| operation.api == api);
        operations.flat_map(|operation| &operation.grants).map(|grant| grant.scope.as_str())
    }

    /// The scopes that grant something.
    pub fn scopes_in_use(&self) -> impl Iterator<Item = &str> {
        self.operations
            .iter()
            .flat_map(|operation| &operation.grants)
            .map(|grant| grant.scope.as_str())
    }

    /// What a scope permits, as text, where there is a description.
    #[must_use]
    pub fn description(&self, scope: &ScopeName) -> Option<&str> {
        self.descriptions.get(scope).map(String::as_str)
    }

    /// Whether one of our own tokens is for the API: its audience is all of our APIs, or this one
    /// (RFC 8707 §2).
    fn is_for(&self, facts: &crate::token::Facts, api: &Api) -> bool {
        let named = |name: &str| facts.audience.iter().any(|audience| audience == name);
        self.issuer(facts.issuer.as_str()).is_some_and(|own| named(&own.rules.issuer))
            || api.resource.as_deref().is_some_and(named)
    }

    /// The rules behind a permit, each with its position, for the record.
    #[must_use]
    pub fn describe<'a>(&'a self, grounds: &'a gate::Grounds) -> Vec<Ground<'a>> {
        let mut rules = Vec::with_capacity(2);
        if let Some((policy, profile)) = grounds.profile.and_then(|(policy, at)| {
            let policy = self.definitions.policies.get(policy)?;
            Some((policy, policy.profiles.get(at)?))
        }) {
            rules.push(Ground::Policy(&policy.name, &profile.origin));
        }
        rules.extend(grounds.scope.as_ref().map(Ground::Scope));
        let acls = grounds.acls.iter().filter_map(|at| self.definitions.acls.get(*at));
        rules.extend(acls.map(|acl| Ground::Acl(&acl.origin)));
        if grounds.public {
            rules.push(Ground::Public);
        }
        rules
    }

    /// The ACLs that apply to an operation, by their positions in the definitions.
    #[must_use]
    pub fn acls_of(&self, operation: OperationId) -> &[usize] {
        self.operation(operation)
            .map(|operation| operation.enforced.acls.as_slice())
            .unwrap_or_default()
    }

    /// The scopes that grant an operation, each with the parameters and values that it requires.
    #[must_use]
    pub fn grants_of(&self, operation: OperationId) -> Vec<(&ScopeName, &Conditions)> {
        let grants = self
            .operation(operation)
            .map(|operation| operation.grants.as_slice())
            .unwrap_or_default();
        grants.iter().map(|grant| (&grant.scope, &*grant.conditions)).collect()
    }

    /// Every path that leads to an operation: its host, if it has one, and its segments.
    pub fn paths(&self) -> impl Iterator<Item = (Option<&str>, &[route::Segment])> {
        self.routes.paths()
    }

    /// The segments of the template that a path matches.
    #[must_use]
    pub fn template_at(&self, host: &str, path: &str) -> Option<&[route::Segment]> {
        Some(self.routes.find(host, path)?.segments.as_slice())
    }

    /// The conditions on the segments of a path, one list for each grant that has conditions: the
    /// position of the segment, its parameter, and the values that it may have.
    #[must_use]
    pub fn conditions_at(&self, host: &str, path: &str) -> Vec<Vec<(usize, &str, &[String])>> {
        let Some(leaf) = self.routes.find(host, path) else { return Vec::new() };
        let at = |name: &str| {
            let named =
                |segment: &route::Segment| segment.parameter().is_some_and(|own| &**own == name);
            leaf.segments.iter().position(named)
        };
        let operations = leaf.offer.operations().iter().filter_map(|id| self.operation(*id));
        let grants = operations
            .flat_map(|operation| &operation.grants)
            .filter(|grant| !grant.conditions.is_empty());
        let conditions = grants.map(|grant| {
            grant
                .conditions
                .iter()
                .filter_map(|(name, values)| Some((at(name)?, &**name, values.as_slice())))
                .collect()
        });
        conditions.collect()
    }

    /// The methods that a path offers.
    #[must_use]
    pub fn methods_at(&self, host: &str, path: &str) -> crate::request::method::MethodSet {
        self.routes.find(host, path).map(route::Leaf::methods).unwrap_or_default()
    }

    /// The characters that segments of a path may hold where it leads to an API.
    #[must_use]
    pub fn allowances_at(&self, host: &str, path: &str) -> crate::request::target::Allowances {
        let leaf = self.routes.find(host, path);
        let any = leaf.and_then(route::Leaf::any);
        any.and_then(|id| self.api_of(id)).map(|api| api.allow).unwrap_or_default()
    }

    /// The operations that a path leads to, one for each method.
    pub fn operations_at(&self, host: &str, path: &str) -> impl Iterator<Item = OperationId> {
        let leaf = self.routes.find(host, path);
        leaf.into_iter().flat_map(|leaf| leaf.offer.operations().iter().copied())
    }

    /// The scopes that grant a matched operation, for any caller.
    #[must_use]
    pub fn granting(&self, matched: &route::Matched) -> Vec<&ScopeName> {
        let grants = self
            .operation(matched.operation)
            .map(|operation| operation.grants.as_slice())
            .unwrap_or_default();
        let mut scopes: Vec<&ScopeName> = grants
            .iter()
            .filter(|grant| gate::applies(grant, matched))
            .map(|grant| &grant.scope)
            .collect();
        scopes.dedup();
        scopes
    }

    /// The rule that gives an operation its verdict: the name of a policy, or the gate where it is
    /// not a policy. `shadow` puts the shadow rules in their places.
    #[must_use]
    pub fn rule_of(&self, operation: OperationId, verdict: Verdict, shadow: bool) -> &str {
        let Some(operation) = self.operation(operation) else { return "" };
        let gates = operation.shadow.as_ref().filter(|_| shadow).unwrap_or(&operation.enforced);
        let policy = gates
            .policy
            .and_then(|at| self.definitions.policies.get(at))
            .map_or("", |policy| policy.name.as_str());
        match verdict.reason().map(Reason::step) {
            // Where no policy applies, scopes and ACLs decide.
            None if policy.is_empty() => Step::Scope.label(),
            None | Some(Step::Policy) => policy,
            Some(step) => step.label(),
        }
    }

    /// The claims that any policy checks.
    #[must_use]
    pub fn claims_looked_at(&self) -> Vec<String> {
        compile::claims_looked_at(&self.definitions.policies)
    }

    /// Makes facts keep further claims, for policies that are evaluated in parallel with these.
    pub fn keep_claims(&mut self, names: &[String]) {
        for issuer in self.issuers.values_mut() {
            issuer.rules.kept.extend(names.iter().cloned());
            issuer.rules.kept.sort_unstable();
            issuer.rules.kept.dedup();
        }
    }

    /// The claims that the policy of an operation checks.
    pub fn claims_of(&self, operation: OperationId) -> impl Iterator<Item = &str> {
        let policy = self
            .operation(operation)
            .and_then(|operation| self.definitions.policies.get(operation.enforced.policy?));
        let profiles = policy.map(|policy| policy.profiles.as_slice()).unwrap_or_default();
        profiles.iter().flat_map(|profile| &profile.claims).map(|(name, _)| name.as_str())
    }
}
