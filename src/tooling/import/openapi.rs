//! Makes APIs, auth scopes and tests from an OpenAPI document, and compares a document with the
//! policies in force.

mod apis;
mod bundle;
mod document;
mod drift;
mod policies;
mod sample;
mod security;
mod server;
mod shadow;

use std::collections::BTreeSet;

use serde::Serialize;

pub use bundle::bundle;
pub use drift::{Difference, Drift, drift};

use super::{HOST, ImportFault, Note, Trial, Upstream, shape, usable_name, usable_scope, yaml};
use crate::client::MAX_SCOPE_BYTES;
use crate::config::document::MAX_BYTES;
use crate::config::{Config, Fault, format};
use crate::names::{IssuerName, Timestamp};
use crate::policy::decide::Moment;
use crate::policy::route::OperationId;
use crate::policy::sample::{Presented, Sample, TokenSample};
use crate::reason::{Reason, Refusal};
use crate::tooling::replay::sent;
use crate::tooling::testing;
use apis::Api;
use document::{Access, Operation};

/// Options of an import, in addition to the document.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Key of the API; made from the title when left out.
    pub api: Option<String>,
    /// Key of the upstream; the API's when left out.
    pub upstream: Option<String>,
    /// Base path, instead of the one in the document's servers.
    pub base_path: Option<String>,
    /// Prefix of all scope names.
    pub scope_prefix: String,
    /// The client that the tests use.
    pub client: Option<String>,
    /// Where an operation asks for several scopes at once, each of them is enough.
    pub any_scope: bool,
    /// Operations without a scope get one for reading and one for writing.
    pub scopes_by_method: bool,
    /// A partial parameter becomes a whole segment.
    pub whole_segments: bool,
    /// Operations that the document opens to everybody become public.
    pub public: bool,
}

/// The result of an import.
#[derive(Debug, Serialize)]
pub struct Import {
    /// A file of policies.
    pub policies: String,
    /// Servers that gateway.yaml has to name.
    pub upstreams: Vec<Upstream>,
    /// Scopes that grant something.
    pub scopes: Vec<String>,
    /// Content that is missing or that differs from what one might expect.
    pub notes: Vec<Note>,
    /// Number of operations.
    pub operations: usize,
    /// Number of tests.
    pub tests: usize,
}

/// An operation in the policies made.
#[derive(Debug)]
struct Imported {
    about: String,
    method: &'static str,
    /// Requests for it, the likeliest first; some may match another operation.
    targets: Vec<String>,
    /// The first request that matches it.
    test: Option<String>,
    /// Its whole path, without parameter names.
    shape: String,
    /// The path of a request for it at the server, where the document says where that is.
    at_server: Option<String>,
    scopes: BTreeSet<String>,
    public: bool,
    /// The document opens it to everybody.
    for_all: bool,
}

/// The rules made from a document, before the tests.
struct Made {
    rules: String,
    upstreams: Vec<Upstream>,
    scopes: Vec<String>,
    notes: Vec<Note>,
    imported: Vec<Imported>,
    apis: Vec<String>,
    /// Host of the document's server.
    host: Option<String>,
}

/// Makes policies from a document.
///
/// # Errors
/// The text is not an OpenAPI document of these versions, or the options are not valid.
pub fn import(text: &str, options: &Options, now: Timestamp) -> Result<Import, ImportFault> {
    let Made { rules, upstreams, scopes, mut notes, imported, .. } = make(text, options, now)?;
    for operation in imported.iter().filter(|operation| operation.test.is_none()) {
        let message = "has no test: no example was found that leads to it and to no other path";
        notes.push(Note::new(&operation.about, message));
    }
    let (tests, count) = policies::tests(&imported, options);
    let policies = format!("{rules}{tests}");
    check_size(&policies)?;
    hold(&trial(&policies, &scopes, &upstreams, options, now)?, now)?;
    notes.sort();
    notes.dedup();
    Ok(Import { policies, upstreams, scopes, notes, operations: imported.len(), tests: count })
}

fn make(text: &str, options: &Options, now: Timestamp) -> Result<Made, ImportFault> {
    check(options)?;
    let mut document = document::read(text, options)?;
    let (title, descriptions) = (document.title.clone(), std::mem::take(&mut document.scopes));
    let mut notes = std::mem::take(&mut document.notes);
    let host = document
        .server
        .origin
        .as_deref()
        .and_then(|origin| url::Url::parse(origin).ok()?.host_str().map(str::to_owned));
    let all_closed = document.operations.iter().all(|operation| operation.access == Access::Closed);
    let apis = apis::of_document(document, options, &mut notes);
    if apis.is_empty() || all_closed {
        let reasons: Vec<String> = notes
            .iter()
            .take(5)
            .map(|note| format!("  {}: {}", note.about, note.message))
            .collect();
        return Err(ImportFault::Unreadable(format!(
            "no operation could be carried over:\n{}",
            reasons.join("\n")
        )));
    }
    let upstreams = apis::upstreams(&apis);
    let scopes = apis::scopes(&apis);
    let head = policies::head(&title, &upstreams);
    let rules = format!(
        "{head}{}{}",
        policies::apis(&apis),
        policies::scopes(&scopes, &descriptions, options)
    );
    let scopes: Vec<String> = scopes.into_keys().collect();
    check_size(&rules)?;
    let config = trial(&rules, &scopes, &upstreams, options, now)?;
    let imported = imported(&config, &apis, now);
    let apis = apis.into_iter().map(|api| api.key).collect();
    Ok(Made { rules, upstreams, scopes, notes, imported, apis, host })
}

fn check(options: &Options) -> Result<(), ImportFault> {
    let wrong = |flag: &str, fault: String| ImportFault::Unreadable(format!("{flag} {fault}"));
    for (flag, name) in
        [("--api", &options.api), ("--upstream", &options.upstream), ("--client", &options.client)]
    {
        if let Some(name) = name {
            usable_name(name).map_err(|fault| wrong(flag, fault))?;
        }
    }
    if let Some(path) = &options.base_path {
        format::check("base_path", path).map_err(|fault| wrong("--base-path", fault))?;
    }
    if !options.scope_prefix.is_empty() {
        usable_scope(&options.scope_prefix).map_err(|fault| wrong("--scope-prefix", fault))?;
    }
    Ok(())
}

fn check_size(policies: &str) -> Result<(), ImportFault> {
    if policies.len() > MAX_BYTES {
        let mib = MAX_BYTES >> 20;
        let message = format!(
            "what would come of it is larger than {mib} MiB: leave `--client` out, or take a part \
                of the document"
        );
        return Err(ImportFault::Unreadable(message));
    }
    Ok(())
}

/// Loads the result, with a client that has all scopes.
fn trial(
    policies: &str,
    scopes: &[String],
    upstreams: &[Upstream],
    options: &Options,
    now: Timestamp,
) -> Result<Config, ImportFault> {
    let mut clients = String::new();
    if let Some(client) = &options.client {
        let bytes: usize = scopes.iter().map(|scope| scope.len() + 1).sum();
        if bytes > MAX_SCOPE_BYTES {
            let message = format!(
                "one client cannot hold all of its scopes, {bytes} bytes of names: leave \
                    `--client` out"
            );
            return Err(ImportFault::Unreadable(message));
        }
        let (client, scopes) = (yaml::text(client), yaml::list(scopes.iter().map(String::as_str)));
        clients = format!(
            "clients:\n  {client}: {{ grants: [client_credentials], auth_scopes: {scopes} }}\n"
        );
    }
    Trial { policies, clients: &clients, users: "", upstreams }.load(now)
}

/// The operations made, each with requests that match it.
fn imported(config: &Config, apis: &[Api], now: Timestamp) -> Vec<Imported> {
    let mut imported = Vec::new();
    for api in apis {
        for offered in &api.operations {
            let method = offered.operation.method.as_str();
            let base_path = api.server.base_path.trim_end_matches('/');
            let targets: Vec<String> = targets(base_path, &offered.operation).collect();
            let leads = |target: &&String| {
                let found = lead_to(config, HOST, method, target, now)
                    .and_then(|id| config.rules.operation(id));
                found.is_some_and(|found| *found.resource == *offered.template)
            };
            let at_server =
                api.server.path.as_deref().zip(targets.first()).and_then(|(path, target)| {
                    Some(format!(
                        "{}{}",
                        path.trim_end_matches('/'),
                        target.strip_prefix(base_path)?
                    ))
                });
            imported.push(Imported {
                about: offered.operation.about.clone(),
                method,
                test: targets.iter().find(leads).cloned(),
                targets,
                at_server,
                shape: shape(&format!("{base_path}{}", offered.template)),
                scopes: offered.scopes.clone(),
                public: offered.public,
                for_all: offered.for_all,
            });
        }
    }
    imported
}

/// Targets of an operation, the likeliest first.
fn targets(base_path: &str, operation: &Operation) -> impl Iterator<Item = String> {
    let most = operation.samples.iter().map(Vec::len).max().unwrap_or(1);
    (0..most).map(move |round| {
        let mut samples = operation.samples.iter();
        let segments = operation.template.split('/').map(|part| {
            if !part.starts_with('{') {
                return part;
            }
            let values = samples.next().map(Vec::as_slice).unwrap_or_default();
            values.get(round).or_else(|| values.last()).map_or("1", String::as_str)
        });
        sent(format!("{base_path}{}", segments.collect::<Vec<_>>().join("/")))
    })
}

/// The operation that a request matches, for any caller.
fn lead_to(
    config: &Config,
    host: &str,
    method: &str,
    target: &str,
    now: Timestamp,
) -> Option<OperationId> {
    let case = Sample {
        method: method.to_owned(),
        target: target.to_owned(),
        method_override: None,
        host: Some(host.to_owned()),
        from: None,
        certificate: Vec::new(),
        token: Some(Presented::Sample(Box::new(TokenSample::of(IssuerName::new(""), None)))),
    };
    let read = |_: &_| Err(Refusal::new(Reason::TokenMissing));
    case.judge(&config.rules, host, read, Moment::at(now))
        .operation
        .map(|matched| matched.operation)
}

/// Runs the generated tests.
fn hold(config: &Config, now: Timestamp) -> Result<(), ImportFault> {
    let failed: Vec<String> = testing::faults(config, now).iter().map(Fault::to_line).collect();
    if failed.is_empty() { Ok(()) } else { Err(ImportFault::Broken(failed.join("\n"))) }
}
