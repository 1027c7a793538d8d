//! Reads an OpenAPI document, 3.0, 3.1 or 3.2: its operations with servers, paths, security and
//! examples.
//!
//! The parser gets only the parts that policies need. Most real documents have a schema or URL that
//! a strict parser refuses, in places that do not affect who may call what.

use std::collections::BTreeMap;

use oas3::spec;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::security::Security;
use super::shadow::Shadow;
use super::{Options, sample, server};
use crate::config::{document, format};
use crate::request::method::Method;
use crate::tooling::import::{ImportFault, Note, Template, TemplateFault};

pub(super) use super::security::Access;
pub(super) use super::server::Server;

/// Longest chain of `$ref`.
const MAX_HOPS: usize = 32;
/// Keys of a path item that are not operations.
const OTHER_KEYS: [&str; 5] = ["$ref", "description", "parameters", "servers", "summary"];

/// The parts of a document that policies are made from.
#[derive(Debug)]
pub(super) struct Document {
    /// `info.title`.
    pub(super) title: String,
    /// Its server.
    pub(super) server: Server,
    /// Operations, in the order of the document.
    pub(super) operations: Vec<Operation>,
    /// Operations that are left out and whose requests others would match.
    pub(super) shadows: Vec<Shadow>,
    /// Descriptions of scopes.
    pub(super) scopes: BTreeMap<String, String>,
    /// Content that is left out.
    pub(super) notes: Vec<Note>,
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// Method and path as in the document.
    pub(super) about: String,
    /// The server.
    pub(super) server: Server,
    /// Its template below the server's path.
    pub(super) template: String,
    /// The template matches more than the operation.
    pub(super) widened: bool,
    /// Its method.
    pub(super) method: Method,
    /// Who may call it.
    pub(super) access: Access,
    /// Values for the parameters of the template, in order, the likeliest first.
    pub(super) samples: Vec<Vec<String>>,
}

/// Reads a document.
pub(super) fn read(text: &str, options: &Options) -> Result<Document, ImportFault> {
    let root = document::json(text).map_err(ImportFault::Unreadable)?;
    let wrong = |message: String| ImportFault::Unreadable(message);
    check_version(&root).map_err(wrong)?;
    let paths = root.get("paths").and_then(Value::as_object);
    let Some(paths) = paths.filter(|paths| !paths.is_empty()) else {
        return Err(wrong(
            "there are no `paths`: without operations there is nothing to write policies about"
                .to_owned(),
        ));
    };
    let (server, others) =
        server::of_document(&root, options.base_path.as_deref()).map_err(wrong)?;
    let title = root.pointer("/info/title").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut notes = Vec::new();
    if others > 0 {
        notes.push(Note::new(
            "servers",
            format!("the first of them is taken; {others} with another path are not"),
        ));
    }
    let (security, scopes) = Security::of(&root, &options.scope_prefix, &mut notes);
    let (operations, shadows, empty) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader =
        Reader { root: &root, options, security: &security, operations, shadows, empty, notes };
    for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
        reader.path(path, item, &server);
    }
    reader.close_empty(&server);
    let Reader { operations, shadows, notes, .. } = reader;
    Ok(Document { title, server, operations, shadows, scopes, notes })
}

fn check_version(root: &Value) -> Result<(), String> {
    match root.get("openapi") {
        Some(Value::String(version))
            if ["3.0.", "3.1.", "3.2."].iter().any(|begin| version.starts_with(begin)) =>
        {
            Ok(())
        }
        Some(version) => Err(format!(
            "`openapi: {version}`; 3.0.x, 3.1.x and 3.2.x are read, as a text of three numbers"
        )),
        None if root.get("swagger").is_some() => {
            Err("Swagger 2.0; convert the document to OpenAPI 3 first, for instance with \
                swagger2openapi"
                .to_owned())
        }
        None => Err("this is no OpenAPI document: it does not say `openapi: 3.0.x`, `3.1.x` or \
            `3.2.x`"
            .to_owned()),
    }
}

/// Follows `$ref` inside the document.
pub(super) fn resolve<'a>(root: &'a Value, value: &'a Value) -> Result<&'a Value, String> {
    let mut value = value;
    for _ in 0..MAX_HOPS {
        let Some(target) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
        let Some(fragment) = target.strip_prefix('#') else {
            return Err(format!(
                "`{target}` is another file, and none in the folder of the document that could be \
                    read: bundle them into one first, for instance with `redocly bundle`"
            ));
        };
        let pointer = percent_decode_str(fragment).decode_utf8_lossy();
        value =
            root.pointer(&pointer).ok_or_else(|| format!("`{target}` is not in the document"))?;
    }
    Err("its `$ref` leads round in a circle".to_owned())
}

/// Removes all other keys from an object.
pub(super) fn keep(object: &mut Value, keys: &[&str]) {
    if let Value::Object(object) = object {
        object.retain(|key, _| keys.contains(&key.as_str()));
    }
}

struct Reader<'a> {
    root: &'a Value,
    options: &'a Options,
    security: &'a Security<'a>,
    operations: Vec<Operation>,
    shadows: Vec<Shadow>,
    /// Paths without an operation that is converted.
    empty: Vec<String>,
    notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    fn note(&mut self, about: &str, message: impl AsRef<str>) {
        self.notes.push(Note::new(about, message));
    }

    fn path(&mut self, path: &str, item: &'a Value, server: &Server) {
        let merged = match self.item(item) {
            Ok(item) => item,
            Err(fault) => return self.close_path(path, server, &fault),
        };
        let item = Value::Object(merged);
        let before = self.operations.len();
        for (key, operation) in item.as_object().into_iter().flatten() {
            let name = key.to_ascii_uppercase();
            let about = format!("{name} {path}");
            let is_method = key.bytes().all(|b| b.is_ascii_lowercase());
            match name.as_str() {
                "GET" | "PUT" | "POST" | "DELETE" | "OPTIONS" | "HEAD" | "PATCH" if is_method => {
                    self.operation(&about, path, &item, operation, server);
                }
                "QUERY" if is_method && self.is_32() => {
                    self.operation(&about, path, &item, operation, server);
                }
                "ADDITIONALOPERATIONS" if self.is_32() && key == "additionalOperations" => {
                    self.additional(path, &item, operation, server);
                }
                "TRACE" if is_method => self.note(&about, "left out: no rule can name TRACE"),
                _ if OTHER_KEYS.contains(&key.as_str()) || key.starts_with("x-") => {}
                _ => self.note(path, format!("`{key}` is no method, and left out")),
            }
        }
        if self.operations.len() == before && Template::of(path, false).is_ok() {
            self.empty.push(path.to_owned());
        }
    }

    fn is_32(&self) -> bool {
        let version = self.root.get("openapi").and_then(Value::as_str);
        version.is_some_and(|version| version.starts_with("3.2."))
    }

    /// Operations by the names of their methods (OpenAPI 3.2, Path Item Object).
    fn additional(&mut self, path: &str, item: &Value, operations: &Value, server: &Server) {
        for (name, operation) in operations.as_object().into_iter().flatten() {
            let about = format!("{name} {path}");
            if Method::parse(name).is_some() {
                self.operation(&about, path, item, operation, server);
            } else {
                self.note(&about, format!("left out: no rule can name {name}"));
            }
        }
    }

    /// Closes paths without an operation that others would match.
    fn close_empty(&mut self, server: &Server) {
        for path in std::mem::take(&mut self.empty) {
            let shadow = Shadow::new(&path, server, Method::Get, Access::Closed, &path);
            if self
                .operations
                .iter()
                .any(|operation| shadow.falls_on(&operation.server, &operation.template))
            {
                self.close_path(&path, server, "it has no operation that can be carried over");
            }
        }
    }

    /// A path item merged with its reference: members next to `$ref` count (3.1) and take
    /// precedence.
    fn item(&self, item: &'a Value) -> Result<Map<String, Value>, String> {
        let own = item.as_object().ok_or("a path holds an object")?;
        let target = resolve(self.root, item)?.as_object().ok_or("a path holds an object")?;
        let mut merged = target.clone();
        merged.extend(
            own.iter()
                .filter(|(key, _)| *key != "$ref")
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        merged.remove("$ref");
        Ok(merged)
    }

    /// Closes a path without a known operation: nothing grants it, and no other path matches its
    /// requests.
    fn close_path(&mut self, path: &str, server: &Server, fault: &str) {
        self.note(path, format!("nothing opens it: {fault}"));
        let methods = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
        match Template::of(path, false) {
            Ok(template) => self.operations.extend(methods.map(|method| {
                Operation {
                    about: format!("{} {path}", method.as_str()),
                    server: server.clone(),
                    template: template.text.clone(),
                    widened: false,
                    method,
                    access: Access::Closed,
                    samples: template
                        .parameters
                        .iter()
                        .map(|(written, own)| sample::values(written, own, &BTreeMap::new()))
                        .collect(),
                }
            })),
            Err(TemplateFault::Impossible(_)) => {}
            Err(_) => {
                self.shadows.extend(
                    methods.map(|method| Shadow::new(path, server, method, Access::Closed, path)),
                );
            }
        }
    }

    /// Reads an operation; it is converted, or becomes a shadow on those that would match its
    /// requests.
    fn operation(
        &mut self,
        about: &str,
        path: &str,
        item: &Value,
        operation: &Value,
        server: &Server,
    ) {
        let name = about.split(' ').next().unwrap_or_default();
        let Some(method) = Method::judged(name) else { return };
        let access =
            self.security.access(about, operation, &mut self.notes).unwrap_or_else(|fault| {
                self.note(about, format!("nothing opens it: {fault}"));
                Access::Closed
            });
        let own = server::own(operation).and_then(|own| match own {
            Some(own) => Ok(own),
            None => Ok(server::own(item)?.unwrap_or_else(|| server.clone())),
        });
        let own = own.and_then(|own| format::check("base_path", &own.base_path).map(|()| own));
        let own = match own {
            Ok(own) => own,
            Err(fault) => {
                self.shadows.push(Shadow::new(about, server, method, access, path));
                return self.note(about, format!("left out: {fault}"));
            }
        };
        if name == "HEAD" {
            let get = item.get("get").map(|get| {
                server::own(get).ok().flatten().or_else(|| server::own(item).ok().flatten())
            });
            match get {
                None => self.note(
                    about,
                    "left out: HEAD is judged as GET, which the document does not offer here",
                ),
                Some(get) if get.as_ref().unwrap_or(server) != &own => {
                    return self.note(
                        about,
                        "left out: HEAD is judged as GET, which another server has here",
                    );
                }
                Some(_) => {}
            }
            return self.shadows.push(Shadow::new(about, &own, method, access, path));
        }
        match Template::of(path, self.options.whole_segments) {
            Ok(template) => {
                let widened = Template::of(path, false).is_err();
                let samples = self.samples(about, item, operation, &template);
                let (about, template) = (about.to_owned(), template.text);
                self.operations.push(Operation {
                    about,
                    server: own,
                    template,
                    widened,
                    method,
                    access,
                    samples,
                });
            }
            Err(fault) => {
                let hint = match &fault {
                    TemplateFault::InPart(_) => "; `--whole-segments` lets it be that",
                    TemplateFault::Unusable(_) | TemplateFault::Impossible(_) => "",
                };
                self.note(about, format!("left out: {fault}{hint}"));
                if !matches!(fault, TemplateFault::Impossible(_)) {
                    self.shadows.push(Shadow::new(about, &own, method, access, path));
                }
            }
        }
    }

    fn samples(
        &mut self,
        about: &str,
        item: &Value,
        operation: &Value,
        template: &Template,
    ) -> Vec<Vec<String>> {
        let parameters = self.parameters(item, operation).unwrap_or_else(|fault| {
            self.note(about, format!("its parameters are not read: {fault}"));
            BTreeMap::new()
        });
        template
            .parameters
            .iter()
            .map(|(written, own)| sample::values(written, own, &parameters))
            .collect()
    }

    /// The path parameters of an operation by name, including its path's.
    fn parameters(
        &self,
        item: &Value,
        operation: &Value,
    ) -> Result<BTreeMap<String, sample::Parameter>, String> {
        let mut parameters = BTreeMap::new();
        for owner in [item, operation] {
            for value in owner.get("parameters").and_then(Value::as_array).into_iter().flatten() {
                let value = resolve(self.root, value)?;
                if value.get("in").and_then(Value::as_str) != Some("path") {
                    continue;
                }
                if value.get("style").and_then(Value::as_str) == Some("matrix") {
                    return Err(
                        "a parameter of the style `matrix` is sent with a semicolon, which the API \
                            has to allow"
                            .to_owned(),
                    );
                }
                // A schema that cannot be resolved only gives no examples.
                let schema = value.get("schema").and_then(|schema| resolve(self.root, schema).ok());
                let mut value = value.clone();
                keep(&mut value, &["name", "in", "required", "example", "examples"]);
                let read: spec::Parameter = serde_json::from_value(value)
                    .map_err(|fault| format!("`parameters`: {fault}"))?;
                parameters.insert(read.name.clone(), sample::Parameter::new(&read, schema));
            }
        }
        Ok(parameters)
    }
}
