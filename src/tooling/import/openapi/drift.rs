//! What a document and the policies in force do not agree on, both ways. The document is asked by way of what an import would make of it:
//! both sides are rules, and the same router says which operation a request is.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use super::super::{ImportFault, Note};
use super::{Import, Imported, Options, import, leads_to};
use crate::config::Config;
use crate::names::Timestamp;
use crate::policy::route::OperationId;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `operation.undeclared`, `operation.undocumented`, `scope.undeclared`, `scope.undocumented`, `public.undeclared`,
    /// `public.undocumented`.
    pub kind: &'static str,
    /// The operation.
    pub operation: String,
    /// In one line.
    pub message: String,
    /// Where the policies have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// All differences.
#[derive(Debug, Serialize)]
pub struct Drift {
    /// In the order of the document, then of the policies.
    pub differences: Vec<Difference>,
    /// Operations that both have.
    pub compared: usize,
    /// What of the document could not be compared, and why.
    pub notes: Vec<Note>,
}

/// Compares.
///
/// # Errors
/// See [`import`].
pub fn drift(text: &str, options: &Options, config: &Config, now: Timestamp) -> Result<Drift, ImportFault> {
    let Import { imported, notes, .. } = import(text, options, now)?;
    let mut found = Vec::new();
    let mut documented: HashSet<usize> = HashSet::new();
    let mut apis: BTreeSet<usize> = (0..config.rules.apis().len())
        .filter(|at| is_meant(config, options, *at))
        .filter(|_| options.api.is_some())
        .collect();
    let mut compared = 0;
    for operation in &imported {
        let Some(id) = lookup(config, options, operation, now) else {
            let message = "the document has it, the policies have not".to_owned();
            found.push(Difference {
                kind: "operation.undeclared",
                operation: operation.about.clone(),
                message,
                at: None,
            });
            continue;
        };
        compared += 1;
        documented.insert(id.index());
        apis.extend(config.rules.operation(id).map(|operation| operation.api));
        compare(config, operation, id, &mut found);
    }
    undocumented(config, &apis, &documented, &mut found);
    Ok(Drift { differences: found, compared, notes })
}

/// Whether an API is one that the document is about.
fn is_meant(config: &Config, options: &Options, api: usize) -> bool {
    options.api.as_ref().is_none_or(|key| config.rules.apis().get(api).is_some_and(|api| api.name.as_str() == key))
}

/// The operation of the policies that a request of the document is, on any host that an API has.
fn lookup(config: &Config, options: &Options, operation: &Imported, now: Timestamp) -> Option<OperationId> {
    let mut hosts: Vec<&str> = config.rules.apis().iter().filter_map(|api| api.host.as_deref()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let (method, target) = &operation.request;
    let meant =
        |id: &OperationId| config.rules.operation(*id).is_some_and(|found| is_meant(config, options, found.api));
    let hosts = std::iter::once(config.fixed.public_host.as_str()).chain(hosts);
    hosts.filter_map(|host| leads_to(config, host, method, target, now)).find(meant)
}

fn compare(config: &Config, operation: &Imported, id: OperationId, found: &mut Vec<Difference>) {
    let rules = &config.rules;
    let at = rules.api_of(id).map(|api| api.origin.to_string());
    let mut say = |kind, message| {
        found.push(Difference { kind, operation: operation.about.clone(), message, at: at.clone() });
    };
    let public = rules.operation(id).is_some_and(|operation| operation.public);
    if public != operation.public {
        if public {
            say("public.undocumented", "the policies open it to everybody, the document does not".to_owned());
        } else {
            say("public.undeclared", "the document opens it to everybody, the policies do not".to_owned());
        }
    }
    let granting: BTreeSet<&str> = rules.grants_of(id).into_iter().map(|(scope, _)| scope.as_str()).collect();
    let named: BTreeSet<&str> = operation.scopes.iter().map(String::as_str).collect();
    for scope in named.difference(&granting) {
        say(
            "scope.undeclared",
            format!("the document names the scope `{scope}`, which does not grant it in the policies"),
        );
    }
    for scope in granting.difference(&named) {
        say(
            "scope.undocumented",
            format!("the scope `{scope}` grants it in the policies, and the document does not name it"),
        );
    }
}

/// Operations of the policies that the document lacks, each once whatever its versions.
fn undocumented(config: &Config, apis: &BTreeSet<usize>, documented: &HashSet<usize>, found: &mut Vec<Difference>) {
    let rules = &config.rules;
    let key = |at: usize| rules.operations().get(at).map(|operation| (operation.api, &*operation.label));
    let known: HashSet<(usize, &str)> = documented.iter().filter_map(|at| key(*at)).collect();
    let mut told: HashSet<(usize, &str)> = HashSet::new();
    for (at, operation) in rules.operations().iter().enumerate().filter(|(_, operation)| apis.contains(&operation.api))
    {
        let Some(key) = key(at).filter(|key| !known.contains(key)) else { continue };
        let Some(api) = rules.apis().get(operation.api).filter(|_| told.insert(key)) else { continue };
        let resource = api.resources.iter().find(|resource| resource.template == operation.resource);
        found.push(Difference {
            kind: "operation.undocumented",
            operation: format!("{} of api {}", operation.label, api.name),
            message: "the policies have it, the document has not".to_owned(),
            at: resource.map(|resource| resource.origin.to_string()),
        });
    }
}
