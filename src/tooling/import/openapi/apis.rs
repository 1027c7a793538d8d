//! From operations to APIs and auth scopes, and both as YAML.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Note, Upstream, slug, yaml};
use super::Options;
use super::document::{Access, Document, Operation, Server};
use crate::request::method::{Method, MethodSet};

/// An API to be: what one server serves below one base path.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) upstream: String,
    pub(super) origin: Option<String>,
    pub(super) base_path: String,
    pub(super) operations: Vec<Offered>,
}

/// An operation of one.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) operation: Operation,
    /// The template as its resource is written: operations of one shape share it, whatever their parameters are called.
    pub(super) template: String,
    /// The scopes one of which is enough.
    pub(super) scopes: Vec<String>,
    /// Every operation of its resource is for everybody.
    pub(super) public: bool,
}

/// Scopes with what each grants: API, template, methods.
pub(super) type Scopes = BTreeMap<String, BTreeMap<(String, String), MethodSet>>;

/// Groups operations by their servers. What two of them would both have goes to the first.
pub(super) fn group(document: Document, options: &Options, notes: &mut Vec<Note>) -> Vec<Api> {
    let Document { title, server, operations, .. } = document;
    // The document's own server comes first, whatever its first operation has.
    let mut apis = vec![new_api(&title, &[], &server, options)];
    // Who has a path already, whatever its parameters are called: the API, the template as written there, and the methods.
    let mut taken: BTreeMap<String, (usize, String, MethodSet)> = BTreeMap::new();
    for operation in operations {
        let Server { origin, base_path } = &operation.server;
        let at =
            apis.iter().position(|api| api.origin == *origin && api.base_path == *base_path).unwrap_or_else(|| {
                apis.push(new_api(&title, &apis, &operation.server, options));
                apis.len() - 1
            });
        let shape = shape(base_path, &operation.template);
        let (owner, template, methods) =
            taken.entry(shape).or_insert((at, operation.template.clone(), MethodSet::default()));
        let Some(api) = apis.get_mut(at) else { continue };
        if *owner != at {
            let message = "left out: another server has the same path, and a path here leads to one upstream; give the APIs different `host`s \
                           by hand";
            notes.push(Note::new(&operation.about, message));
        } else if methods.contains(operation.method) {
            let message = format!("left out: `{template}` is the same path here, and has the method already");
            notes.push(Note::new(&operation.about, message));
        } else {
            *methods = methods.with(operation.method);
            let template = template.clone();
            api.operations.push(Offered { operation, template, scopes: Vec::new(), public: false });
        }
    }
    apis.retain(|api| !api.operations.is_empty());
    for api in &mut apis {
        mark_public(api);
    }
    apis
}

fn new_api(title: &str, apis: &[Api], server: &Server, options: &Options) -> Api {
    let wanted = options.api.clone().unwrap_or_else(|| slug(title));
    let first = if wanted.is_empty() { "api".to_owned() } else { wanted };
    let host = server.origin.as_deref().and_then(|origin| origin.split("://").nth(1)).map(slug).unwrap_or_default();
    let unique = |wanted: String| {
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        std::iter::once(wanted.clone())
            .chain(numbered)
            .find(|key| apis.iter().all(|api| api.key != *key))
            .unwrap_or_default()
    };
    let key = match apis {
        [] => first,
        _ if host.is_empty() => unique(first),
        _ => unique(format!("{first}-{host}")),
    };
    // One upstream for each server, named for the first API that needs it.
    let same = apis.iter().find(|api| api.origin == server.origin).map(|api| api.upstream.clone());
    let named = options.upstream.clone().filter(|_| apis.is_empty());
    Api {
        upstream: same.or(named).unwrap_or_else(|| key.clone()),
        key,
        name: title.to_owned(),
        origin: server.origin.clone(),
        base_path: server.base_path.clone(),
        operations: Vec::new(),
    }
}

/// A path without the names of its parameters.
fn shape(base_path: &str, template: &str) -> String {
    let segments = template.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    format!("{}{}", base_path.trim_end_matches('/'), segments.collect::<Vec<_>>().join("/"))
}

/// `public` is said of a resource: only where all its operations are.
fn mark_public(api: &mut Api) {
    let closed: BTreeSet<String> = api
        .operations
        .iter()
        .filter(|offered| offered.operation.access != Access::Public)
        .map(|offered| offered.template.clone())
        .collect();
    for offered in &mut api.operations {
        offered.public = offered.operation.access == Access::Public && !closed.contains(&offered.template);
    }
}

/// The servers to be named.
pub(super) fn upstreams(apis: &[Api]) -> Vec<Upstream> {
    let mut upstreams: Vec<Upstream> = Vec::new();
    for api in apis {
        if upstreams.iter().all(|upstream| upstream.name != api.upstream) {
            upstreams.push(Upstream { name: api.upstream.clone(), server: api.origin.clone() });
        }
    }
    upstreams
}

/// Gives each operation the scopes that open it.
pub(super) fn scopes(apis: &mut [Api], options: &Options, notes: &mut Vec<Note>) -> Scopes {
    let mut scopes = Scopes::new();
    for api in apis {
        let (key, mut unnamed, mut everybody) = (api.key.clone(), 0_usize, 0_usize);
        for offered in &mut api.operations {
            offered.scopes = match &offered.operation.access {
                Access::Scopes(sets) => named(sets, &offered.operation.about, options, notes),
                Access::Public if options.public && offered.public => continue,
                Access::Public => {
                    everybody += 1;
                    by_method(&key, offered.operation.method, options)
                }
                Access::Unnamed => {
                    unnamed += 1;
                    by_method(&key, offered.operation.method, options)
                }
            };
            for scope in &offered.scopes {
                let grant = scopes
                    .entry(scope.clone())
                    .or_default()
                    .entry((key.clone(), offered.template.clone()))
                    .or_default();
                *grant = grant.with(offered.operation.method);
            }
        }
        let unopened = if options.scopes_by_method {
            ""
        } else {
            "; `--scopes-by-method` makes one for reading and one for writing"
        };
        if unnamed > 0 && !options.scopes_by_method {
            let message = format!(
                "{unnamed} operations for which the document asks for no scope: nothing opens them yet{unopened}"
            );
            notes.push(Note::new(format!("api {key}"), message));
        }
        if everybody > 0 {
            let message = format!(
                "{everybody} operations that the document opens to everybody ask for a token here; `--public` opens the resources of which all \
                 operations are{unopened}"
            );
            notes.push(Note::new(format!("api {key}"), message));
        }
    }
    scopes
}

/// Scopes one of which is enough: here a scope grants by itself, whatever else a token has.
fn named(sets: &[BTreeSet<String>], about: &str, options: &Options, notes: &mut Vec<Note>) -> Vec<String> {
    let mut enough = BTreeSet::new();
    for set in sets {
        if set.len() == 1 || options.any_scope {
            enough.extend(set.iter().map(|scope| format!("{}{scope}", options.scope_prefix)));
        } else {
            let all: Vec<&str> = set.iter().map(String::as_str).collect();
            let message = format!(
                "asks for {} scopes at once ({}); here one scope that grants an operation is enough, so none of them grants it. With `--any-scope` \
                 each does; many documents mean that",
                all.len(),
                all.join(", ")
            );
            notes.push(Note::new(about, message));
        }
    }
    enough.into_iter().collect()
}

fn by_method(api: &str, method: Method, options: &Options) -> Vec<String> {
    if !options.scopes_by_method {
        return Vec::new();
    }
    let what = match method {
        Method::Get | Method::Options => "read",
        Method::Post | Method::Put | Method::Patch | Method::Delete => "write",
    };
    vec![format!("{}{}.{what}", options.scope_prefix, slug(api))]
}

/// `apis:`.
pub(super) fn apis_yaml(apis: &[Api], options: &Options) -> String {
    let mut text = "apis:\n".to_owned();
    for api in apis {
        text.push_str(&format!("  {}:\n", yaml::text(&api.key)));
        if !api.name.trim().is_empty() {
            text.push_str(&format!("    name: {}\n", yaml::prose(&api.name)));
        }
        text.push_str(&format!(
            "    base_path: {}\n    upstream: {}\n    resources:\n",
            yaml::text(&api.base_path),
            yaml::text(&api.upstream)
        ));
        let mut resources: BTreeMap<&str, (MethodSet, bool)> = BTreeMap::new();
        for offered in &api.operations {
            let (methods, public) = resources.entry(&offered.template).or_default();
            *methods = methods.with(offered.operation.method);
            *public = offered.public && options.public;
        }
        for (template, (methods, public)) in resources {
            let methods = yaml::list(methods.iter().map(Method::as_str));
            let resource = if public { format!("{{ methods: {methods}, public: true }}") } else { methods };
            text.push_str(&format!("      {}: {resource}\n", yaml::text(template)));
        }
    }
    text
}

/// `auth_scopes:`.
pub(super) fn scopes_yaml(scopes: &Scopes, descriptions: &BTreeMap<String, String>, options: &Options) -> String {
    if scopes.is_empty() {
        return String::new();
    }
    let mut text = "\nauth_scopes:\n".to_owned();
    for (scope, granted) in scopes {
        text.push_str(&format!("  {}:\n", yaml::text(scope)));
        let words = scope.strip_prefix(&options.scope_prefix).and_then(|scope| descriptions.get(scope));
        if let Some(words) = words.filter(|words| !words.trim().is_empty()) {
            text.push_str(&format!("    description: {}\n", yaml::prose(words)));
        }
        text.push_str("    grants:\n");
        // One grant for all resources of an API of which a scope grants the same methods.
        let mut grants: BTreeMap<(&str, Vec<Method>), Vec<String>> = BTreeMap::new();
        for ((api, template), methods) in granted {
            grants.entry((api, methods.iter().collect())).or_default().push(template.clone());
        }
        for ((api, methods), resources) in grants {
            let methods = yaml::list(methods.into_iter().map(Method::as_str));
            text.push_str(&format!("      - api: {}\n        methods: {methods}\n", yaml::text(api)));
            text.push_str(&yaml::lines(8, "resources", &resources));
        }
    }
    text
}
