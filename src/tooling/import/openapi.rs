//! APIs, auth scopes and tests out of an OpenAPI document, and what a document and the policies in force do not agree on.

mod apis;
mod document;
mod drift;
mod sample;

use std::collections::BTreeMap;

use serde::Serialize;

pub use drift::{Difference, Drift, drift};

use super::{HOST, ImportFault, Note, Trial, Upstream, yaml};
use crate::config::document::MAX_BYTES;
use crate::config::{Config, format};
use crate::names::Timestamp;
use crate::policy::case::{Case, Presented, Words};
use crate::policy::decide::Moment;
use crate::policy::route::OperationId;
use crate::reason::{Reason, Refusal};
use crate::tooling::testing;
use apis::Api;
use document::{Access, Operation};

/// What an import is told beside the document.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Key of the API; made of the title when left out.
    pub api: Option<String>,
    /// Key of the upstream; that of the API when left out.
    pub upstream: Option<String>,
    /// Base path, in place of that of the document's servers.
    pub base_path: Option<String>,
    /// What all scopes' names are to begin with.
    pub scope_prefix: String,
    /// The client that tests are about.
    pub client: Option<String>,
    /// Where an operation asks for several scopes at once, each of them is enough.
    pub any_scope: bool,
    /// Operations for which no scope is asked get one for reading and one for writing.
    pub scopes_by_method: bool,
    /// A segment that is a parameter in part becomes one as a whole.
    pub whole_segments: bool,
    /// What the document says is for everybody is public.
    pub public: bool,
}

/// What was made of a document.
#[derive(Debug, Serialize)]
pub struct Import {
    /// A file of policies.
    pub policies: String,
    /// Servers that gateway.yaml has to name.
    pub upstreams: Vec<Upstream>,
    /// Scopes that grant something.
    pub scopes: Vec<String>,
    /// What is not in it, or otherwise than one might think.
    pub notes: Vec<Note>,
    /// How many operations are in it.
    pub operations: usize,
    /// How many tests.
    pub tests: usize,
    #[serde(skip)]
    imported: Vec<Imported>,
}

/// An operation that is in the policies made.
#[derive(Debug)]
struct Imported {
    about: String,
    /// `METHOD path`, for a request that is this operation.
    request: (String, String),
    scopes: Vec<String>,
    public: bool,
}

/// Makes policies of a document.
///
/// # Errors
/// A text that is no OpenAPI document of these versions, and options that do not fit.
pub fn import(text: &str, options: &Options, now: Timestamp) -> Result<Import, ImportFault> {
    check(options)?;
    let mut document = document::read(text, options)?;
    let (title, descriptions) = (document.title.clone(), std::mem::take(&mut document.scopes));
    let mut notes = std::mem::take(&mut document.notes);
    let mut apis = apis::group(document, options, &mut notes);
    if apis.is_empty() {
        let reasons: Vec<String> =
            notes.iter().take(5).map(|note| format!("  {}: {}", note.about, note.message)).collect();
        return Err(ImportFault::Unreadable(format!("no operation could be carried over:\n{}", reasons.join("\n"))));
    }
    let upstreams = apis::upstreams(&apis);
    let scopes = apis::scopes(&mut apis, options, &mut notes);
    let head = head(&title, &upstreams);
    let rules =
        format!("{head}{}{}", apis::apis_yaml(&apis, options), apis::scopes_yaml(&scopes, &descriptions, options));
    let clients = options.client.as_deref().map(|client| trial_client(client, scopes.keys())).unwrap_or_default();
    let trial = |policies: &str| Trial { policies, clients: &clients, users: "", upstreams: &upstreams }.load(now);
    let imported = requests(&trial(&rules)?, &apis, options, &mut notes, now);
    let (tests, count) = tests(&imported, options);
    let policies = format!("{rules}{tests}");
    if policies.len() > MAX_BYTES {
        let mib = MAX_BYTES >> 20;
        return Err(ImportFault::Unreadable(format!(
            "what would come of it is larger than {mib} MiB: import the document in parts"
        )));
    }
    hold(&trial(&policies)?, now)?;
    notes.sort();
    notes.dedup();
    let scopes = scopes.into_keys().collect();
    Ok(Import { policies, upstreams, scopes, notes, operations: imported.len(), tests: count, imported })
}

fn check(options: &Options) -> Result<(), ImportFault> {
    let key = |what: &str, name: &Option<String>| {
        let fits = |name: &String| {
            !name.is_empty()
                && name.len() <= 128
                && name.bytes().all(|b| b.is_ascii_graphic())
                && !name.starts_with("env:")
        };
        match name {
            Some(name) if !fits(name) => {
                Err(ImportFault::Unreadable(format!("{what} `{name}`: a key has visible ASCII, and no spaces")))
            }
            _ => Ok(()),
        }
    };
    key("--api", &options.api)?;
    key("--upstream", &options.upstream)?;
    key("--client", &options.client)?;
    if let Some(path) = &options.base_path {
        format::check("base_path", path).map_err(|fault| ImportFault::Unreadable(format!("--base-path {fault}")))?;
    }
    let prefix = &options.scope_prefix;
    if !prefix.is_empty() && (!crate::scope::is_scope_token(prefix) || prefix.starts_with("env:")) {
        return Err(ImportFault::Unreadable(format!(
            "--scope-prefix `{prefix}`: no characters of a scope (RFC 6749 §3.3)"
        )));
    }
    Ok(())
}

fn head(title: &str, upstreams: &[Upstream]) -> String {
    let mut head = yaml::comment(&format!("Made by `scopegate import openapi` of: {title}"));
    head.push_str("# gateway.yaml has to name, under `upstreams`:\n");
    for Upstream { name, server } in upstreams {
        let server = server.as_deref().unwrap_or("https://…");
        head.push_str(&yaml::comment(&format!("  {}: {{ servers: [{server}] }}", yaml::text(name))));
    }
    head
}

/// A client that has all scopes, for the trial alone.
fn trial_client<'a>(client: &str, scopes: impl Iterator<Item = &'a String>) -> String {
    format!(
        "clients:\n  {}: {{ grants: [client_credentials], auth_scopes: {} }}\n",
        yaml::text(client),
        yaml::list(scopes.map(String::as_str))
    )
}

/// A request for each operation that leads to it and to no other.
fn requests(config: &Config, apis: &[Api], options: &Options, notes: &mut Vec<Note>, now: Timestamp) -> Vec<Imported> {
    let mut imported = Vec::new();
    for api in apis {
        for offered in &api.operations {
            let found = candidates(&api.base_path, &offered.operation).find(|target| {
                let found = leads_to(config, HOST, offered.operation.method.as_str(), target, now);
                found
                    .and_then(|id| config.rules.operation(id))
                    .is_some_and(|found| *found.resource == *offered.template)
            });
            let about = offered.operation.about.clone();
            let Some(target) = found else {
                notes.push(Note::new(
                    about,
                    "has no test: no example was found that leads to it and to no path beside it",
                ));
                continue;
            };
            let public = options.public && offered.operation.access == Access::Public && offered.public;
            let request = (offered.operation.method.as_str().to_owned(), target);
            imported.push(Imported { about, request, scopes: offered.scopes.clone(), public });
        }
    }
    imported
}

/// Targets of an operation, the likeliest first.
fn candidates(base_path: &str, operation: &Operation) -> impl Iterator<Item = String> {
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
        let path = segments.collect::<Vec<_>>().join("/");
        if base_path == "/" { path } else { format!("{base_path}{path}") }
    })
}

/// The operation that a request without a token asks for.
fn leads_to(config: &Config, host: &str, method: &str, target: &str, now: Timestamp) -> Option<OperationId> {
    let case = Case {
        method: method.to_owned(),
        target: target.to_owned(),
        host: Some(host.to_owned()),
        from: None,
        certificate: Vec::new(),
        token: Some(Presented::Words(Box::new(Words::of(crate::names::IssuerName::new(""), None)))),
    };
    let read = |_: &_| Err(Refusal::new(Reason::TokenMissing));
    case.judge(&config.rules, host, read, Moment::at(now)).operation.map(|matched| matched.operation)
}

/// The tests: that each operation is closed to whoever shows nothing, and, with a client, that the scopes open it and nothing else does.
fn tests(imported: &[Imported], options: &Options) -> (String, usize) {
    let mut lines: BTreeMap<usize, String> = BTreeMap::new();
    let mut add = |request: &str, token: &str, expect: &str| {
        lines.insert(lines.len(), format!("  - {{ request: {}{token}, expect: {expect} }}\n", yaml::text(request)));
    };
    for Imported { request: (method, target), scopes, public, .. } in imported {
        let request = format!("{method} {target}");
        if *public {
            add(&request, "", "permit");
            continue;
        }
        add(&request, "", "token.missing");
        let Some(client) = options.client.as_deref().map(yaml::text) else { continue };
        for scope in scopes {
            let token = format!(", token: {{ client: {client}, scopes: {} }}", yaml::list([scope.as_str()]));
            add(&request, &token, "permit");
        }
        let without = if scopes.is_empty() { "scope.unscoped" } else { "scope.missing" };
        add(&request, &format!(", token: {{ client: {client}, scopes: [] }}"), without);
    }
    let count = lines.len();
    let text =
        if count == 0 { String::new() } else { format!("\ntests:\n{}", lines.into_values().collect::<String>()) };
    (text, count)
}

/// Runs the tests that were made.
fn hold(config: &Config, now: Timestamp) -> Result<(), ImportFault> {
    let failed: Vec<String> = testing::faults(config, now).iter().map(crate::config::Fault::to_line).collect();
    if failed.is_empty() { Ok(()) } else { Err(ImportFault::Broken(failed.join("\n"))) }
}
