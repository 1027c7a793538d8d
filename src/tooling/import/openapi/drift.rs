//! Differences between a document and the policies in force, both ways. The document is compared in
//! the form that an import would make of it: both sides are rules, and the same router matches
//! their operations.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use super::{Imported, Made, Options, lead_to, make};
use crate::config::Config;
use crate::names::Timestamp;
use crate::policy::definition::Api;
use crate::policy::route::{OperationId, Segment};
use crate::tooling::import::{ImportFault, Note};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `operation.undeclared`, `operation.undocumented`, `scope.undeclared`, `scope.undocumented`,
    /// `public.undeclared`, `public.undocumented`, `server.path`.
    pub kind: &'static str,
    /// The operation.
    pub operation: String,
    /// In one line.
    pub message: String,
    /// The position in the policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// The result of the comparison.
#[derive(Debug, Serialize)]
pub struct Drift {
    /// Ordered by the document, then by the policies.
    pub differences: Vec<Difference>,
    /// Number of operations in both.
    pub compared: usize,
    /// Parts of the document that could not be compared, and why.
    pub notes: Vec<Note>,
}

/// Compares a document with the policies.
///
/// # Errors
/// As for [`import`](super::import()); also if the requested API does not exist.
pub fn drift(
    text: &str,
    options: &Options,
    config: &Config,
    now: Timestamp,
) -> Result<Drift, ImportFault> {
    let Made { imported, mut notes, apis, host, .. } = make(text, options, now)?;
    let side = Side {
        config,
        keys: &apis,
        meant: meant(config, options, &apis)?,
        hosts: hosts(config, host),
        now,
    };
    let mut found = Vec::new();
    let mut documented: HashSet<usize> = HashSet::new();
    let mut compared = 0;
    for operation in &imported {
        let ids = side.lookup(operation);
        if ids.is_empty() {
            let message = "the document has it, the policies have not".to_owned();
            found.push(Difference {
                kind: "operation.undeclared",
                operation: operation.about.clone(),
                message,
                at: None,
            });
            continue;
        }
        compared += 1;
        for id in ids {
            documented.insert(id.index());
            side.compare(operation, id, &mut found);
        }
    }
    side.undocumented(&documented, options.api.is_some(), &mut found);
    notes.sort();
    notes.dedup();
    found.dedup();
    Ok(Drift { differences: found, compared, notes })
}

/// The APIs that the document is about, if given.
fn meant(
    config: &Config,
    options: &Options,
    keys: &[String],
) -> Result<Option<HashSet<usize>>, ImportFault> {
    let Some(asked) = &options.api else { return Ok(None) };
    let apis = config.rules.apis().iter().enumerate();
    let meant: HashSet<usize> = apis
        .filter(|(_, api)| keys.iter().any(|key| api.name.as_str() == key))
        .map(|(at, _)| at)
        .collect();
    if meant.is_empty() {
        return Err(ImportFault::Unreadable(format!("the policies have no API `{asked}`")));
    }
    Ok(Some(meant))
}

/// The hosts that the policies distinguish, the document server's host first.
fn hosts(config: &Config, first: Option<String>) -> Vec<String> {
    let own = config.rules.apis().iter().filter_map(|api| api.host.clone());
    let mut hosts: Vec<String> =
        first.into_iter().chain([config.fixed.public_host.clone()]).collect();
    hosts.extend(own.collect::<BTreeSet<_>>());
    hosts
}

/// The path that the servers of an API's upstream have before what is forwarded to them.
fn base_of<'c>(config: &'c Config, api: &Api) -> &'c str {
    let upstream = config.upstreams.iter().find(|upstream| upstream.name == api.upstream);
    upstream.and_then(|upstream| upstream.servers.first()).map_or("", |server| &server.base)
}

/// The policies in force.
struct Side<'a> {
    config: &'a Config,
    /// Keys of the APIs that an import makes; those of other servers begin with the first key.
    keys: &'a [String],
    meant: Option<HashSet<usize>>,
    hosts: Vec<String>,
    now: Timestamp,
}

impl Side<'_> {
    /// The operations of the policies that match a request of the document: one for each host where
    /// it differs.
    fn lookup(&self, operation: &Imported) -> Vec<OperationId> {
        let mut ids: Vec<OperationId> = Vec::new();
        for host in &self.hosts {
            let mut found = operation.targets.iter().filter_map(|target| {
                let id = lead_to(self.config, host, operation.method, target, self.now)?;
                let api = self.config.rules.operation(id)?.api;
                let meant = self.meant.as_ref().is_none_or(|meant| meant.contains(&api));
                meant.then(|| (id, self.is_shaped(host, target, &operation.shape)))
            });
            // Prefer a resource written the same way to one with the example as a literal, or with
            // a rest.
            let first = found.next();
            let exact = first.into_iter().chain(found).find(|(_, exact)| *exact).or(first);
            ids.extend(exact.map(|(id, _)| id).filter(|id| !ids.contains(id)));
        }
        ids
    }

    fn is_shaped(&self, host: &str, target: &str, shape: &str) -> bool {
        let segments = self.config.rules.template_at(host, target).unwrap_or_default();
        let own: Vec<String> = segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.clone(),
                Segment::Suffixed(_, literal) => format!("{{}}{literal}"),
                Segment::Parameter(_) => "{}".to_owned(),
                Segment::Rest(_) => "{*}".to_owned(),
            })
            .collect();
        shape.strip_prefix('/') == Some(own.join("/").as_str())
    }

    /// The path by which the upstream gets a request for an API.
    fn forwarded(&self, api: &Api, target: &str) -> String {
        let rest = target.strip_prefix(api.strip_prefix.as_str()).unwrap_or(target);
        format!("{}{rest}", base_of(self.config, api))
    }

    fn compare(&self, operation: &Imported, id: OperationId, found: &mut Vec<Difference>) {
        let rules = &self.config.rules;
        let at = rules.api_of(id).map(|api| api.origin.to_string());
        if let (Some(api), Some(expected), Some(target)) =
            (rules.api_of(id), &operation.at_server, operation.targets.first())
        {
            let forwarded = self.forwarded(api, target);
            if forwarded != *expected {
                found.push(Difference {
                    kind: "server.path",
                    operation: operation.about.clone(),
                    message: format!(
                        "the document has it at `{expected}` of its server, the policies forward \
                            it as `{forwarded}`"
                    ),
                    at: at.clone(),
                });
            }
        }
        let mut say = |kind, message| {
            found.push(Difference {
                kind,
                operation: operation.about.clone(),
                message,
                at: at.clone(),
            });
        };
        let public = rules.operation(id).is_some_and(|operation| operation.public);
        if public && !operation.for_all {
            say(
                "public.undocumented",
                "the policies open it to everybody, the document does not".to_owned(),
            );
        }
        if operation.public && !public {
            say(
                "public.undeclared",
                "the document opens it to everybody, the policies do not".to_owned(),
            );
        }
        if public {
            return;
        }
        let grants = rules.grants_of(id);
        let some: BTreeSet<&str> = grants.iter().map(|(scope, _)| scope.as_str()).collect();
        let whole: BTreeSet<&str> = grants
            .iter()
            .filter(|(_, only)| only.is_empty())
            .map(|(scope, _)| scope.as_str())
            .collect();
        let named: BTreeSet<&str> = operation.scopes.iter().map(String::as_str).collect();
        for scope in named.difference(&whole) {
            let only = if some.contains(scope) {
                "grants it for some parameters only"
            } else {
                "does not grant it"
            };
            say(
                "scope.undeclared",
                format!("the document names the scope `{scope}`, which {only} in the policies"),
            );
        }
        for scope in some.difference(&named).filter(|_| !operation.for_all) {
            say(
                "scope.undocumented",
                format!(
                    "the scope `{scope}` grants it in the policies, by the document it is not \
                        enough"
                ),
            );
        }
    }

    /// Operations of the policies that the document lacks, each once; a version that it lacks
    /// entirely is listed once.
    fn undocumented(&self, documented: &HashSet<usize>, asked: bool, found: &mut Vec<Difference>) {
        let rules = &self.config.rules;
        let apis = self.about(documented, asked);
        let mut versions: BTreeMap<usize, BTreeSet<Option<&str>>> = BTreeMap::new();
        for operation in documented.iter().filter_map(|at| rules.operations().get(*at)) {
            versions
                .entry(operation.api)
                .or_default()
                .insert(operation.version.as_ref().map(crate::names::Version::as_str));
        }
        let mut noted: HashSet<(usize, String)> = HashSet::new();
        for (at, operation) in rules.operations().iter().enumerate() {
            if documented.contains(&at) || !apis.contains(&operation.api) {
                continue;
            }
            let version = operation.version.as_ref().map(crate::names::Version::as_str);
            let known = versions.get(&operation.api).is_none_or(|known| known.contains(&version));
            let what = if known {
                operation.label.to_string()
            } else {
                format!("version {}", version.unwrap_or("none"))
            };
            let Some(api) = rules
                .apis()
                .get(operation.api)
                .filter(|_| noted.insert((operation.api, what.clone())))
            else {
                continue;
            };
            let resource =
                api.resources.iter().find(|resource| resource.template == operation.resource);
            found.push(Difference {
                kind: "operation.undocumented",
                operation: format!("{what} of api {}", api.name),
                message: "the policies have it, the document has not".to_owned(),
                at: Some(
                    resource
                        .filter(|_| known)
                        .map_or(&api.origin, |resource| &resource.origin)
                        .to_string(),
                ),
            });
        }
    }

    /// The APIs that a document is about: those requested, or those that have one of its
    /// operations, and those below their paths.
    fn about(&self, documented: &HashSet<usize>, asked: bool) -> HashSet<usize> {
        if let Some(meant) = self.meant.as_ref().filter(|_| asked) {
            return meant.clone();
        }
        let rules = &self.config.rules;
        let mut about: HashSet<usize> = documented
            .iter()
            .filter_map(|at| rules.operations().get(*at))
            .map(|operation| operation.api)
            .collect();
        let bases: Vec<(Option<&str>, &str)> = about
            .iter()
            .filter_map(|at| rules.apis().get(*at))
            .map(|api| (api.host.as_deref(), api.base_path.as_str()))
            .collect();
        let below = |host: Option<&str>, path: &str| {
            bases.iter().any(|(own, base)| {
                !base.is_empty()
                    && *own == host
                    && path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
            })
        };
        // APIs that an import made for other servers, or that the document no longer has.
        let first = self.keys.first().map(|first| format!("{first}-")).unwrap_or_default();
        let inside = rules.apis().iter().enumerate().filter(|(_, api)| {
            below(api.host.as_deref(), &api.base_path)
                || !first.is_empty() && api.name.as_str().starts_with(&first)
        });
        about.extend(inside.map(|(at, _)| at).collect::<Vec<_>>());
        about
    }
}
