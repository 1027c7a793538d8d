//! Reads an OpenAPI document, 3.0 or 3.1: its operations with their servers, paths, security and examples.
//!
//! Only what policies are made of is given to the parser. Most documents in the wild have a schema or a URL somewhere that no strict
//! parser takes, in places that have no say in who may call what.

use std::collections::{BTreeMap, BTreeSet};

use oas3::spec;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::super::{ImportFault, Note, Template};
use super::{Options, sample};
use crate::config::{document, format};
use crate::request::method::Method;

/// Longest chain of `$ref`.
const MAX_HOPS: usize = 32;

/// A document, as far as policies are made of it.
#[derive(Debug)]
pub(super) struct Document {
    /// `info.title`.
    pub(super) title: String,
    /// Its server.
    pub(super) server: Server,
    /// Operations, in the order of the document.
    pub(super) operations: Vec<Operation>,
    /// Descriptions of scopes.
    pub(super) scopes: BTreeMap<String, String>,
    /// What is not among the operations.
    pub(super) notes: Vec<Note>,
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// Method and path as the document has them.
    pub(super) about: String,
    /// Where it is served.
    pub(super) server: Server,
    /// Its template below the server's path.
    pub(super) template: String,
    /// Its method.
    pub(super) method: Method,
    /// Who may call it.
    pub(super) access: Access,
    /// Values for the parameters of the template, in their order, each the likeliest first.
    pub(super) samples: Vec<Vec<String>>,
}

/// Where operations are served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    /// Scheme, host and port; not where the document leaves it to whoever serves it.
    pub(super) origin: Option<String>,
    /// Path before the templates, as a base path is written.
    pub(super) base_path: String,
}

/// Who may call an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody, and the document says so of this operation.
    Public,
    /// Nobody that is named: no scope is asked for.
    Unnamed,
    /// Whoever has all scopes of one of the sets.
    Scopes(Vec<BTreeSet<String>>),
}

/// Reads a document.
pub(super) fn read(text: &str, options: &Options) -> Result<Document, ImportFault> {
    let base_path = options.base_path.as_deref();
    let root = document::json(text).map_err(ImportFault::Unreadable)?;
    let wrong = |message: String| ImportFault::Unreadable(message);
    check_version(&root).map_err(wrong)?;
    let paths = root.get("paths").and_then(Value::as_object);
    let Some(paths) = paths.filter(|paths| !paths.is_empty()) else {
        return Err(wrong(
            "there are no `paths`: without operations there is nothing to write policies about".to_owned(),
        ));
    };
    let server = match base_path {
        Some(path) => servers(&root).ok().flatten().map(|server| Server { base_path: path.to_owned(), ..server }),
        None => servers(&root).map_err(|fault| wrong(format!("{fault}; or give `--base-path`")))?,
    };
    let server = server.unwrap_or(Server { origin: None, base_path: base_path.unwrap_or("/").to_owned() });
    format::check("base_path", &server.base_path).map_err(|fault| wrong(format!("{fault}; or give `--base-path`")))?;
    let title = root.pointer("/info/title").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut reader = Reader {
        root: &root,
        whole: options.whole_segments,
        schemes: BTreeMap::new(),
        operations: Vec::new(),
        notes: Vec::new(),
    };
    let scopes = reader.schemes();
    for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
        reader.path(path, item, &server);
    }
    let Reader { operations, notes, .. } = reader;
    Ok(Document { title, server, operations, scopes, notes })
}

fn check_version(root: &Value) -> Result<(), String> {
    let version = root.get("openapi").and_then(Value::as_str);
    match version {
        Some(version) if version.starts_with("3.0.") || version.starts_with("3.1.") => Ok(()),
        Some(version) => Err(format!("OpenAPI `{version}`; 3.0 and 3.1 are read")),
        None if root.get("swagger").is_some() => {
            Err("Swagger 2.0; convert the document to OpenAPI 3 first, for instance with swagger2openapi".to_owned())
        }
        None => Err("this is no OpenAPI document: it does not begin with `openapi: 3.0.x` or `3.1.x`".to_owned()),
    }
}

/// Follows `$ref` inside the document.
fn resolve<'a>(root: &'a Value, value: &'a Value) -> Result<&'a Value, String> {
    let mut value = value;
    for _ in 0..MAX_HOPS {
        let Some(target) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
        let Some(fragment) = target.strip_prefix('#') else {
            return Err(format!(
                "`{target}` is another file: bundle the document into one first, for instance with `redocly bundle`"
            ));
        };
        let pointer = percent_decode_str(fragment).decode_utf8_lossy();
        value = root.pointer(&pointer).ok_or_else(|| format!("`{target}` is not in the document"))?;
    }
    Err("its `$ref` leads round in a circle".to_owned())
}

/// The server that a document, path or operation names first.
fn servers(owner: &Value) -> Result<Option<Server>, String> {
    let Some(first) = owner.get("servers").and_then(Value::as_array).and_then(|servers| servers.first()) else {
        return Ok(None);
    };
    let mut first = first.clone();
    keep(&mut first, &["url", "variables"]);
    let server: spec::Server = serde_json::from_value(first).map_err(|fault| format!("`servers`: {fault}"))?;
    let mut address = server.url.clone();
    for (name, variable) in &server.variables {
        address = address.replace(&format!("{{{name}}}"), &variable.default);
    }
    if address.contains(['{', '}']) {
        return Err(format!("the server `{address}` has a variable without a default"));
    }
    // Relative ones are relative to where the document is served, which only its path can be known of.
    let base = url::Url::parse("http://relative.invalid/").map_err(|fault| fault.to_string())?;
    let parsed = base.join(&address).map_err(|fault| format!("the server `{address}`: {fault}"))?;
    let relative = parsed.host_str() == base.host_str();
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("the server `{address}` is none of http or https"));
    }
    let base_path = match parsed.path().trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    Ok(Some(Server { origin: (!relative).then(|| parsed.origin().ascii_serialization()), base_path }))
}

/// Keeps these keys of an object and drops the others.
fn keep(object: &mut Value, keys: &[&str]) {
    if let Value::Object(object) = object {
        object.retain(|key, _| keys.contains(&key.as_str()));
    }
}

struct Reader<'a> {
    root: &'a Value,
    /// Whether a segment that is a parameter in part becomes one as a whole.
    whole: bool,
    /// Whether a security scheme's tokens have scopes.
    schemes: BTreeMap<String, bool>,
    operations: Vec<Operation>,
    notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    fn note(&mut self, about: &str, message: impl Into<String>) {
        self.notes.push(Note::new(about, message));
    }

    /// Reads the security schemes; the descriptions of their scopes.
    fn schemes(&mut self) -> BTreeMap<String, String> {
        let mut scopes = BTreeMap::new();
        let declared = self.root.pointer("/components/securitySchemes").and_then(Value::as_object);
        for (name, value) in declared.into_iter().flatten() {
            let scheme = resolve(self.root, value).and_then(|value| {
                let mut value = value.clone();
                put_aside_urls(&mut value);
                serde_json::from_value::<spec::SecurityScheme>(value).map_err(|fault| fault.to_string())
            });
            match scheme {
                Ok(spec::SecurityScheme::OAuth2 { flows, .. }) => {
                    self.schemes.insert(name.clone(), true);
                    scopes.extend(declared_scopes(flows));
                }
                Ok(spec::SecurityScheme::OpenIdConnect { .. }) => {
                    self.schemes.insert(name.clone(), true);
                }
                Ok(
                    spec::SecurityScheme::ApiKey { .. }
                    | spec::SecurityScheme::Http { .. }
                    | spec::SecurityScheme::MutualTls { .. },
                ) => {
                    self.schemes.insert(name.clone(), false);
                }
                Err(fault) => self.note(&format!("securitySchemes.{name}"), format!("left out: {fault}")),
            }
        }
        scopes
    }

    fn path(&mut self, path: &str, item: &'a Value, server: &Server) {
        let item = match resolve(self.root, item) {
            Ok(item) => item,
            Err(fault) => return self.note(path, format!("left out: {fault}")),
        };
        for (key, operation) in item.as_object().into_iter().flatten() {
            let name = key.to_ascii_uppercase();
            if !matches!(name.as_str(), "GET" | "PUT" | "POST" | "DELETE" | "OPTIONS" | "HEAD" | "PATCH" | "TRACE") {
                continue;
            }
            let about = format!("{name} {path}");
            match self.operation(&about, path, item, operation, server) {
                Ok(operation) => self.operations.extend(operation),
                Err(fault) => self.note(&about, format!("left out: {fault}")),
            }
        }
    }

    /// Reads an operation; none where another one stands for it.
    fn operation(
        &mut self,
        about: &str,
        path: &str,
        item: &Value,
        operation: &Value,
        server: &Server,
    ) -> Result<Option<Operation>, String> {
        let method = about.split(' ').next().unwrap_or_default();
        if method == "HEAD" && item.get("get").is_some() {
            return Ok(None);
        }
        let Some(method) = Method::parse(method) else {
            return Err(match method {
                "HEAD" => "HEAD is judged as GET, which the document does not offer here".to_owned(),
                _ => format!("no rule can name {method}"),
            });
        };
        let Template { text: template, parameters: places } = Template::of(path, self.whole).map_err(|fault| {
            let widened = if self.whole { "" } else { "; `--whole-segments` lets it be that" };
            if path.contains(['?', '#']) { fault } else { format!("{fault}{widened}") }
        })?;
        let server = match servers(operation)? {
            Some(own) => own,
            None => servers(item)?.unwrap_or_else(|| server.clone()),
        };
        format::check("base_path", &server.base_path)?;
        let parameters = self.parameters(item, operation)?;
        let samples = places.iter().map(|(written, own)| sample::values(written, own, &parameters)).collect();
        let access = self.access(about, operation)?;
        Ok(Some(Operation { about: about.to_owned(), server, template, method, access, samples }))
    }

    /// The path parameters of an operation by their names, those of its path among them.
    fn parameters(&self, item: &Value, operation: &Value) -> Result<BTreeMap<String, sample::Parameter>, String> {
        let mut parameters = BTreeMap::new();
        for owner in [item, operation] {
            for value in owner.get("parameters").and_then(Value::as_array).into_iter().flatten() {
                let value = resolve(self.root, value)?;
                if value.get("in").and_then(Value::as_str) != Some("path") {
                    continue;
                }
                // A schema that cannot be resolved gives no examples, and that is all.
                let schema = value.get("schema").and_then(|schema| resolve(self.root, schema).ok());
                let mut value = value.clone();
                keep(&mut value, &["name", "in", "required", "example", "examples"]);
                let read: spec::Parameter =
                    serde_json::from_value(value).map_err(|fault| format!("`parameters`: {fault}"))?;
                parameters.insert(read.name.clone(), sample::Parameter { read, schema: schema.cloned() });
            }
        }
        Ok(parameters)
    }

    fn access(&mut self, about: &str, operation: &Value) -> Result<Access, String> {
        let own = operation.get("security");
        let Some(value) = own.or_else(|| self.root.get("security")) else { return Ok(Access::Unnamed) };
        let requirements: Vec<spec::SecurityRequirement> =
            serde_json::from_value(value.clone()).map_err(|fault| format!("`security`: {fault}"))?;
        if (requirements.is_empty() && own.is_some()) || requirements.iter().any(|requirement| requirement.0.is_empty())
        {
            return Ok(Access::Public);
        }
        let mut sets = Vec::new();
        for spec::SecurityRequirement(schemes) in &requirements {
            let mut set = BTreeSet::new();
            let mut beside = Vec::new();
            for (scheme, scopes) in schemes {
                match self.schemes.get(scheme) {
                    Some(true) => set.extend(scopes.iter().cloned()),
                    Some(false) => beside.push(scheme.as_str()),
                    None => return Err(format!("`security` names `{scheme}`, which is not among `securitySchemes`")),
                }
            }
            if let Some(bad) =
                set.iter().find(|scope| !crate::scope::is_scope_token(scope) || scope.starts_with("env:"))
            {
                return Err(format!("`{bad}` cannot be a scope here (RFC 6749 §3.3)"));
            }
            if !set.is_empty() && !beside.is_empty() {
                let message =
                    format!("asks for `{}` beside scopes; that is for the upstream to check", beside.join("`, `"));
                self.note(about, message);
            }
            if !set.is_empty() && !sets.contains(&set) {
                sets.push(set);
            }
        }
        Ok(if sets.is_empty() { Access::Unnamed } else { Access::Scopes(sets) })
    }
}

/// Where users sign in elsewhere has no say here, and is often no absolute URL, which the parser asks for.
fn put_aside_urls(scheme: &mut Value) {
    let flows = scheme.get_mut("flows").and_then(Value::as_object_mut);
    for flow in flows.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        flow.remove("refreshUrl");
        for key in ["authorizationUrl", "tokenUrl"] {
            flow.insert(key.to_owned(), "https://put.aside.invalid/".into());
        }
    }
}

fn declared_scopes(flows: spec::Flows) -> impl Iterator<Item = (String, String)> {
    let spec::Flows { implicit, password, client_credentials, authorization_code, .. } = flows;
    let scopes = [
        implicit.map(|flow| flow.scopes),
        password.map(|flow| flow.scopes),
        client_credentials.map(|flow| flow.scopes),
        authorization_code.map(|flow| flow.scopes),
    ];
    scopes.into_iter().flatten().flatten()
}
