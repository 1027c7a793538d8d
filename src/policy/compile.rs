//! From definitions to [`Rules`]: one table per operation. Ties and overlaps are found once, at
//! load.

use std::collections::HashMap;
use std::sync::Arc;

use super::block::{Block, Blocks};
use super::definition::{
    AccessPolicy, Acl, Api, AuthScope, Mode, RateLimit, Resource, ScopeGrant, Selector,
};
use super::gate::{Gates, ProfileIndex};
use super::route::{
    GrantEntry, Leaf, Offer, Operation, OperationId, Routes, parse_template, written,
};
use super::{Issuer, Rules};
use crate::client::Registry;
use crate::names::{ApiName, Origin, ScopeName, Version};

/// The definitions that rules are compiled from. The configuration checks references between them.
#[derive(Clone, Debug)]
pub struct Definitions {
    /// APIs.
    pub apis: Vec<Api>,
    /// Auth scopes.
    pub scopes: Vec<AuthScope>,
    /// Access policies.
    pub policies: Vec<AccessPolicy>,
    /// ACLs.
    pub acls: Vec<Acl>,
    /// Blocks.
    pub blocks: Vec<Block>,
    /// Limits per address.
    pub address_limits: Vec<RateLimit>,
    /// Limits on permitted requests.
    pub limits: Vec<super::limit::Limit>,
    /// Clients and users.
    pub registry: Registry,
    /// Issuers, our own among them.
    pub issuers: Vec<Issuer>,
    /// The scope that passes gate 2 everywhere.
    pub master_scope: ScopeName,
}

/// Why definitions do not compile: a rule that cannot be evaluated, or two that contradict each
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileFault {
    /// Its position in the config file.
    pub origin: Origin,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub help: String,
}

/// Compiles definitions; returns every fault, not only the first.
///
/// # Errors
/// Resources overlap, policies tie, a condition is on a parameter that the resource does not have,
/// or a rule is narrowed by version where a path need not have one.
pub fn compile(definitions: Definitions) -> Result<Rules, Vec<CompileFault>> {
    let mut compiler = Compiler::new(&definitions);
    compiler.lay_out();
    compiler.check_versions();
    compiler.grant();
    compiler.pick();
    let Compiler { routes, operations, mut faults, .. } = compiler;
    if !faults.is_empty() {
        faults.sort_by(|a, b| {
            (&a.origin.file, a.origin.line, a.origin.column).cmp(&(
                &b.origin.file,
                b.origin.line,
                b.origin.column,
            ))
        });
        faults.dedup();
        return Err(faults);
    }
    Ok(assemble(definitions, routes, operations))
}

/// The claims that any profile checks.
pub(super) fn claims_looked_at(policies: &[AccessPolicy]) -> Vec<String> {
    let names =
        policies.iter().flat_map(|policy| &policy.profiles).flat_map(|profile| &profile.claims);
    names
        .map(|(name, _)| name.clone())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn assemble(mut definitions: Definitions, routes: Routes, operations: Vec<Operation>) -> Rules {
    let kept = claims_looked_at(&definitions.policies);
    for issuer in &mut definitions.issuers {
        issuer.rules.kept.clone_from(&kept);
    }
    let limits_of = |api: &Api| {
        let limits = definitions.limits.iter().enumerate();
        limits
            .filter(|(_, limit)| limit.api.as_ref().is_none_or(|name| *name == api.name))
            .map(|(at, _)| at)
            .collect()
    };
    let limits_of_apis = definitions.apis.iter().map(limits_of).collect();
    Rules {
        blocks: Blocks::new(&definitions.blocks),
        inactive_scopes: definitions
            .scopes
            .iter()
            .filter(|scope| !scope.active)
            .map(|scope| scope.name.clone())
            .collect(),
        descriptions: definitions
            .scopes
            .iter()
            .filter_map(|scope| Some((scope.name.clone(), scope.description.clone()?)))
            .collect(),
        profile_index: definitions
            .policies
            .iter()
            .map(|policy| ProfileIndex::new(&policy.profiles))
            .collect(),
        issuer_names: definitions
            .issuers
            .iter()
            .flat_map(|issuer| {
                let texts = issuer.rules.issuers().into_iter();
                texts.map(|text| (text, issuer.rules.name.clone()))
            })
            .collect(),
        issuer_templates: definitions
            .issuers
            .iter()
            .filter(|issuer| issuer.rules.issuers().is_empty())
            .map(|issuer| (issuer.rules.issuer.clone(), issuer.rules.name.clone()))
            .collect(),
        prefixes: definitions
            .issuers
            .iter()
            .filter_map(|issuer| {
                Some((issuer.opaque.as_ref()?.prefix.clone()?, issuer.rules.name.clone()))
            })
            .collect(),
        issuers: definitions
            .issuers
            .iter()
            .map(|issuer| (issuer.rules.name.clone(), issuer.clone()))
            .collect(),
        operations,
        routes,
        limits_of_apis,
        definitions,
    }
}

struct Compiler<'a> {
    definitions: &'a Definitions,
    api_index: HashMap<&'a ApiName, usize>,
    routes: Routes,
    operations: Vec<Operation>,
    /// Operations of each API.
    of_api: Vec<Vec<usize>>,
    /// Leaves of each operation.
    leaves: Vec<Vec<usize>>,
    faults: Vec<CompileFault>,
}

impl<'a> Compiler<'a> {
    fn new(definitions: &'a Definitions) -> Self {
        Self {
            definitions,
            api_index: definitions
                .apis
                .iter()
                .enumerate()
                .map(|(at, api)| (&api.name, at))
                .collect(),
            routes: Routes::default(),
            operations: Vec::new(),
            of_api: vec![Vec::new(); definitions.apis.len()],
            leaves: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, origin: &Origin, message: String, help: impl Into<String>) {
        self.faults.push(CompileFault { origin: origin.clone(), message, help: help.into() });
    }

    /// One operation for each API, version, resource and method, and the paths that lead there.
    fn lay_out(&mut self) {
        let definitions = self.definitions;
        let mut owners: Vec<&Resource> = Vec::new();
        for (at, api) in definitions.apis.iter().enumerate() {
            let mut versions: Vec<Option<&Version>> = api.versions.iter().map(Some).collect();
            if api.default_version.is_none() {
                versions.push(None);
            }
            for resource in &api.resources {
                for version in &versions {
                    let offer = self.operations_of(at, api, resource, *version);
                    let mut prefixes = Vec::new();
                    match version {
                        Some(version) => prefixes.push(format!("{}/{version}", api.base_path)),
                        None => prefixes.push(api.base_path.clone()),
                    }
                    if version.is_some() && version.cloned() == api.default_version {
                        prefixes.push(api.base_path.clone());
                    }
                    for prefix in prefixes {
                        self.add_path(api, resource, &prefix, &offer, &mut owners);
                    }
                }
            }
        }
    }

    fn operations_of(
        &mut self,
        at: usize,
        api: &Api,
        resource: &Resource,
        version: Option<&Version>,
    ) -> Offer {
        let mut offer = Offer::default();
        for method in resource.methods.iter() {
            let index = self.operations.len();
            let Ok(id) = u32::try_from(index) else { break };
            self.operations.push(Operation {
                api: at,
                version: version.cloned(),
                resource: resource.template.clone(),
                method,
                label: format!("{} {}", method.as_str(), written(&resource.template)).into(),
                public: api.public || resource.public,
                enforced: Gates::default(),
                shadow: None,
                grants: Vec::new(),
            });
            self.leaves.push(Vec::new());
            if let Some(list) = self.of_api.get_mut(at) {
                list.push(index);
            }
            offer.push(method, OperationId(id));
        }
        offer
    }

    fn add_path(
        &mut self,
        api: &Api,
        resource: &'a Resource,
        prefix: &str,
        offer: &Offer,
        owners: &mut Vec<&'a Resource>,
    ) {
        let mut path = format!("{prefix}{}", resource.template);
        if path.is_empty() {
            // The root itself: an empty path is sent as a slash (RFC 9110 §4.2.3).
            path.push('/');
        }
        let segments = match parse_template(&path) {
            Ok(segments) => segments,
            Err(message) => {
                return self.fault(
                    &resource.origin,
                    message,
                    "see docs/configuration.md, `resources`",
                );
            }
        };
        let leaf =
            Leaf { offer: offer.clone(), segments: segments.clone(), wants_parameters: false };
        match self.routes.insert(api.host.as_deref(), &segments, leaf) {
            Ok(index) => {
                owners.push(resource);
                for id in offer.operations() {
                    if let Some(list) = self.leaves.get_mut(id.0 as usize) {
                        list.push(index);
                    }
                }
            }
            Err(taken) => {
                let other = owners.get(taken).map_or_else(String::new, |other| {
                    format!(" with the resource at {}", other.origin)
                });
                self.fault(
                    &resource.origin,
                    format!("the path `{path}` overlaps{other}: a request could mean either"),
                    "change one of the two paths, or give the APIs different hosts",
                );
            }
        }
    }

    /// Reports rules narrowed by version where a path need not name one: they cannot be evaluated.
    fn check_versions(&mut self) {
        let definitions = self.definitions;
        let selectors = definitions
            .policies
            .iter()
            .map(|policy| (&policy.selector, &policy.origin))
            .chain(definitions.acls.iter().map(|acl| (&acl.selector, &acl.origin)))
            .chain(definitions.scopes.iter().flat_map(|scope| {
                scope.grants.iter().map(|grant| (&grant.selector, &grant.origin))
            }));
        for (selector, origin) in selectors {
            let api = selector
                .api
                .as_ref()
                .and_then(|name| definitions.apis.get(*self.api_index.get(name)?));
            let Some(api) =
                api.filter(|api| selector.versions.is_some() && api.default_version.is_none())
            else {
                continue;
            };
            self.fault(
                origin,
                format!(
                    "this rule is narrowed by version, and a path of `{}` need not have one",
                    api.name
                ),
                format!(
                    "give `{}` a `default_version`, or leave `versions` out of the rule",
                    api.name
                ),
            );
        }
    }

    fn selected(&self, selector: &Selector) -> Vec<usize> {
        let all = |at: usize| self.of_api.get(at).cloned().unwrap_or_default();
        let candidates = match &selector.api {
            Some(name) => self.api_index.get(name).map(|at| all(*at)).unwrap_or_default(),
            None => (0..self.operations.len()).collect(),
        };
        let selects = |index: &usize| {
            self.operations.get(*index).is_some_and(|operation| selector.narrows_to(operation))
        };
        candidates.into_iter().filter(selects).collect()
    }

    fn grant(&mut self) {
        let definitions = self.definitions;
        for scope in definitions.scopes.iter().filter(|scope| scope.active) {
            for grant in &scope.grants {
                self.grant_one(scope, grant);
            }
        }
        for operation in &mut self.operations {
            operation.grants.sort_by(|a, b| a.scope.cmp(&b.scope));
        }
    }

    fn grant_one(&mut self, scope: &AuthScope, grant: &ScopeGrant) {
        let conditions: Arc<[(Arc<str>, Vec<String>)]> = grant.conditions.clone().into();
        for index in self.selected(&grant.selector) {
            let leaves = self.leaves.get(index).cloned().unwrap_or_default();
            for (parameter, _) in conditions.iter() {
                let has = leaves.iter().all(|leaf| {
                    self.routes.leaf_mut(*leaf).is_some_and(|leaf| {
                        leaf.wants_parameters = true;
                        leaf.segments.iter().any(|segment| segment.parameter() == Some(parameter))
                    })
                });
                if !has {
                    let resource = self
                        .operations
                        .get(index)
                        .map_or("", |operation| written(&operation.resource))
                        .to_owned();
                    self.fault(
                        &grant.origin,
                        format!(
                            "`where` names the parameter `{parameter}`, which the resource \
                                `{resource}` does not have"
                        ),
                        "narrow the grant with `resources` to those that have the parameter",
                    );
                }
            }
            if let Some(operation) = self.operations.get_mut(index) {
                operation
                    .grants
                    .push(GrantEntry { scope: scope.name.clone(), conditions: conditions.clone() });
            }
        }
    }

    /// Selects the policy (gate 1) and the ACLs (gate 3), twice: as they decide, and with the
    /// shadow rules in their places.
    fn pick(&mut self) {
        let enforced = self.gates(false);
        let with_shadow = self.gates(true);
        for (operation, (enforced, shadow)) in
            self.operations.iter_mut().zip(enforced.into_iter().zip(with_shadow))
        {
            operation.shadow = (shadow != enforced).then_some(shadow);
            operation.enforced = enforced;
        }
    }

    fn gates(&mut self, shadow: bool) -> Vec<Gates> {
        let definitions = self.definitions;
        let counts = |mode: Mode, active: bool| active && (shadow || mode == Mode::Enforce);
        let mut gates = vec![Gates::default(); self.operations.len()];
        let mut ties = Vec::new();
        for (at, policy) in definitions.policies.iter().enumerate() {
            if !counts(policy.mode, policy.active) {
                continue;
            }
            for index in self.selected(&policy.selector) {
                let Some(gates) = gates.get_mut(index) else { continue };
                let strength = policy.selector.strength();
                let picked = gates.policy.and_then(|picked| definitions.policies.get(picked));
                match picked.map(|picked| picked.selector.strength().cmp(&strength)) {
                    Some(std::cmp::Ordering::Greater) => {}
                    // A tie counts only if no stronger policy is found later.
                    Some(std::cmp::Ordering::Equal) => ties.push((index, gates.policy, at)),
                    None | Some(std::cmp::Ordering::Less) => gates.policy = Some(at),
                }
            }
        }
        self.report_ties(&gates, &ties);
        for (at, acl) in
            definitions.acls.iter().enumerate().filter(|(_, acl)| counts(acl.mode, acl.active))
        {
            for index in self.selected(&acl.selector) {
                if let Some(gates) = gates.get_mut(index) {
                    gates.acls.push(at);
                }
            }
        }
        gates
    }

    fn report_ties(&mut self, gates: &[Gates], ties: &[(usize, Option<usize>, usize)]) {
        let mut reported = std::collections::HashSet::new();
        for (index, first, second) in ties {
            let picked = gates.get(*index).and_then(|gates| gates.policy);
            if picked != *first || !reported.insert((*first, *second)) {
                continue;
            }
            let policy = |at: &usize| self.definitions.policies.get(*at);
            let (Some(first), Some(second)) = (first.as_ref().and_then(policy), policy(second))
            else {
                continue;
            };
            let operation = self.operations.get(*index);
            let api = operation
                .and_then(|operation| self.definitions.apis.get(operation.api))
                .map(|api| api.name.to_string());
            let label = operation.map(|operation| operation.label.to_string()).unwrap_or_default();
            let message = format!(
                "the access policies `{}` ({}) and `{}` are equally specific for `{label}` of \
                    `{}`: which one decides is not said",
                first.name,
                first.origin,
                second.name,
                api.unwrap_or_default()
            );
            let origin = second.origin.clone();
            self.fault(
                &origin,
                message,
                "merge their `allow` lists, or narrow one by methods, resources or versions",
            );
        }
    }
}
