//! From operations to APIs, and who may call each.

use std::collections::{BTreeMap, BTreeSet};

use super::Options;
use super::document::{Access, Document, Operation, Server};
use super::shadow::Shadow;
use crate::request::method::{Method, MethodSet};
use crate::tooling::import::{Note, Upstream, numbered, shape, slug};

/// An API to be made: the operations of one server below one base path.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) upstream: String,
    pub(super) server: Server,
    pub(super) operations: Vec<Offered>,
}

/// An operation of an API.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) operation: Operation,
    /// The template as its resource is written: operations of one shape share it, whatever their
    /// parameter names.
    pub(super) template: String,
    /// The document opens it to everybody.
    pub(super) for_all: bool,
    /// It is public here.
    pub(super) public: bool,
    /// The scopes, each of which is enough.
    pub(super) scopes: BTreeSet<String>,
}

/// Scopes and their grants: API, template, methods.
pub(super) type Scopes = BTreeMap<String, BTreeMap<(String, String), MethodSet>>;

/// Groups operations by their servers, and determines who may call each.
pub(super) fn of_document(
    document: Document,
    options: &Options,
    notes: &mut Vec<Note>,
) -> Vec<Api> {
    let Document { title, server, operations, mut shadows, .. } = document;
    let mut apis = group(&title, &server, operations, &mut shadows, options, notes);
    for api in &mut apis {
        let key = api.key.clone();
        for offered in &mut api.operations {
            let about = offered.operation.about.as_str();
            (offered.for_all, offered.scopes) = let_in(
                &offered.operation.access,
                &key,
                offered.operation.method,
                about,
                options,
                Some(notes),
            );
        }
        narrow(api, &shadows, options, notes);
        decide_public(api, options, notes);
        tell_shared(api, options, notes);
    }
    apis
}

/// Reports scopes made by method that have the name of a scope in the document: its holders would
/// reach more than the document says.
fn tell_shared(api: &Api, options: &Options, notes: &mut Vec<Note>) {
    let own: BTreeSet<String> = Method::ALL
        .iter()
        .copied()
        .flat_map(|method| by_method(&api.key, method, options))
        .collect();
    let said = api.operations.iter().filter_map(|offered| match &offered.operation.access {
        Access::Said { sets, .. } => Some(sets),
        Access::Closed | Access::Unnamed => None,
    });
    let said: BTreeSet<String> =
        said.flatten().flatten().map(|scope| format!("{}{scope}", options.scope_prefix)).collect();
    for scope in own.intersection(&said) {
        let message = format!(
            "`{scope}` is a scope of the document too, and opens what `--scopes-by-method` opens: \
                give another `--api`"
        );
        notes.push(Note::new(format!("api {}", api.key), message));
    }
}

/// Groups operations by their servers. Of two with the same path, the first keeps it.
fn group(
    title: &str,
    server: &Server,
    mut operations: Vec<Operation>,
    shadows: &mut Vec<Shadow>,
    options: &Options,
    notes: &mut Vec<Note>,
) -> Vec<Api> {
    // The document's own server comes first, whatever the first operation has; and exact templates
    // come before widened ones.
    let mut apis = vec![new_api(title, &[], server, options)];
    operations.sort_by_key(|operation| operation.widened);
    // The owner of each path, whatever its parameter names: the API, its spelling of the template,
    // and the methods.
    let mut taken: BTreeMap<String, (usize, String, MethodSet)> = BTreeMap::new();
    for operation in operations {
        let own = &operation.server;
        let at = apis.iter().position(|api| api.server == *own).unwrap_or_else(|| {
            apis.push(new_api(title, &apis, own, options));
            apis.len() - 1
        });
        let shape =
            shape(&format!("{}{}", own.base_path.trim_end_matches('/'), operation.template));
        let (owner, template, methods) =
            taken.entry(shape).or_insert((at, operation.template.clone(), MethodSet::default()));
        let Some(api) = apis.get_mut(at) else { continue };
        if *owner != at {
            let message = "left out: another server has the same path, and a path here leads to \
                one upstream; give the APIs different `host`s \
                           by hand";
            notes.push(Note::new(&operation.about, message));
        } else if methods.contains(operation.method) {
            let message =
                format!("left out: `{template}` is the same path here, and has the method already");
            notes.push(Note::new(&operation.about, message));
            let Operation { about, server, method, access, template, .. } = operation;
            shadows.push(Shadow::new(&about, &server, method, access, &template));
        } else {
            *methods = methods.with(operation.method);
            let template = template.clone();
            api.operations.push(Offered {
                operation,
                template,
                for_all: false,
                public: false,
                scopes: BTreeSet::new(),
            });
        }
    }
    apis.retain(|api| !api.operations.is_empty());
    apis
}

fn new_api(title: &str, apis: &[Api], server: &Server, options: &Options) -> Api {
    let wanted = options.api.clone().unwrap_or_else(|| slug(title));
    let host = server
        .origin
        .as_deref()
        .and_then(|origin| origin.split("://").nth(1))
        .map(slug)
        .unwrap_or_default();
    let wish = if apis.is_empty() || host.is_empty() { wanted } else { format!("{wanted}-{host}") };
    let key = numbered(&wish, "api", |key| apis.iter().any(|api| api.key == key));
    // One upstream for each server, named after the first API that uses it.
    let is_same =
        |api: &&Api| api.server.origin == server.origin && api.server.moved() == server.moved();
    let same = apis.iter().find(is_same).map(|api| api.upstream.clone());
    let named = options.upstream.clone().filter(|_| apis.is_empty());
    Api {
        upstream: same.or(named).unwrap_or_else(|| key.clone()),
        key,
        name: title.to_owned(),
        server: server.clone(),
        operations: Vec::new(),
    }
}

/// Who may call an operation: everybody, or holders of one of the scopes.
fn let_in(
    access: &Access,
    api: &str,
    method: Method,
    about: &str,
    options: &Options,
    notes: Option<&mut Vec<Note>>,
) -> (bool, BTreeSet<String>) {
    match access {
        Access::Closed => (false, BTreeSet::new()),
        Access::Unnamed => (false, by_method(api, method, options)),
        Access::Said { public, sets } => {
            let scopes = named(sets, about, options, notes);
            (
                *public,
                if scopes.is_empty() && *public { by_method(api, method, options) } else { scopes },
            )
        }
    }
}

/// Scopes each of which is enough: here one scope grants by itself.
fn named(
    sets: &[BTreeSet<String>],
    about: &str,
    options: &Options,
    mut notes: Option<&mut Vec<Note>>,
) -> BTreeSet<String> {
    let mut enough = BTreeSet::new();
    for set in sets {
        if set.len() == 1 || options.any_scope {
            enough.extend(set.iter().map(|scope| format!("{}{scope}", options.scope_prefix)));
        } else if let Some(notes) = notes.as_deref_mut() {
            let all: Vec<&str> = set.iter().map(String::as_str).collect();
            let message = format!(
                "asks for {} scopes at once ({}); here one scope that grants an operation is \
                    enough, so none of them grants it. With `--any-scope` \
                 each does; many documents mean that",
                all.len(),
                all.join(", ")
            );
            notes.push(Note::new(about, message));
        }
    }
    enough
}

fn by_method(api: &str, method: Method, options: &Options) -> BTreeSet<String> {
    let what = if method.is_safe() { "read" } else { "write" };
    let scope = format!("{}{}.{what}", options.scope_prefix, slug(api));
    if options.scopes_by_method { BTreeSet::from([scope]) } else { BTreeSet::new() }
}

/// Restricts operations that match the requests of others to callers who may call both.
fn narrow(api: &mut Api, shadows: &[Shadow], options: &Options, notes: &mut Vec<Note>) {
    let (key, server) = (api.key.clone(), api.server.clone());
    for offered in &mut api.operations {
        let method = offered.operation.method;
        for shadow in shadows
            .iter()
            .filter(|shadow| shadow.method == method && shadow.falls_on(&server, &offered.template))
        {
            let (for_all, scopes) =
                let_in(&shadow.access, &key, method, &shadow.about, options, None);
            let both = match (offered.for_all, for_all) {
                (_, true) => continue,
                (true, false) => scopes,
                (false, false) => offered.scopes.intersection(&scopes).cloned().collect(),
            };
            if offered.for_all || both != offered.scopes {
                let message = format!(
                    "takes requests of `{}` too, and lets in only who may call both",
                    shadow.about
                );
                notes.push(Note::new(&offered.operation.about, message));
            }
            offered.for_all = false;
            offered.scopes = both;
        }
    }
}

/// `public` applies to a resource: it is set only where all its operations are open to everybody,
/// and the option asks for it.
fn decide_public(api: &mut Api, options: &Options, notes: &mut Vec<Note>) {
    let closed: BTreeSet<String> = api
        .operations
        .iter()
        .filter(|offered| !offered.for_all)
        .map(|offered| offered.template.clone())
        .collect();
    let (mut unnamed, mut everybody) = (0_usize, 0_usize);
    for offered in &mut api.operations {
        offered.public = options.public && offered.for_all && !closed.contains(&offered.template);
        if offered.public {
            offered.scopes.clear();
        } else if offered.for_all {
            everybody += 1;
        } else if offered.operation.access == Access::Unnamed {
            unnamed += 1;
        }
    }
    let hint = if options.scopes_by_method {
        ""
    } else {
        "; `--scopes-by-method` makes one for reading and one for writing"
    };
    let about = format!("api {}", api.key);
    if unnamed > 0 && !options.scopes_by_method {
        let message = format!(
            "{unnamed} operations for which the document asks for no scope: nothing opens them \
                yet{hint}"
        );
        notes.push(Note::new(&about, message));
    }
    if everybody > 0 {
        let how = if options.public {
            ", for not all operations of their resources do"
        } else {
            "; `--public` opens the resources of which all operations are"
        };
        let message = format!(
            "{everybody} operations that the document opens to everybody ask for a token \
                here{how}{hint}"
        );
        notes.push(Note::new(&about, message));
    }
}

/// The upstreams that gateway.yaml has to name.
pub(super) fn upstreams(apis: &[Api]) -> Vec<Upstream> {
    let mut upstreams: Vec<Upstream> = Vec::new();
    for api in apis {
        if upstreams.iter().all(|upstream| upstream.name != api.upstream) {
            let path = api.server.moved().unwrap_or_default().trim_end_matches('/');
            upstreams.push(Upstream {
                name: api.upstream.clone(),
                server: api.server.origin.clone(),
                path: path.to_owned(),
            });
        }
    }
    upstreams
}

/// The scopes with their grants.
pub(super) fn scopes(apis: &[Api]) -> Scopes {
    let mut scopes = Scopes::new();
    for api in apis {
        for offered in &api.operations {
            for scope in &offered.scopes {
                let granted = scopes.entry(scope.clone()).or_default();
                let methods =
                    granted.entry((api.key.clone(), offered.template.clone())).or_default();
                *methods = methods.with(offered.operation.method);
            }
        }
    }
    scopes
}
