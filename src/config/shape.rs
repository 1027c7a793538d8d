//! Holds a document against the schema: every fault of shape, each at its place, in one walk.
//!
//! What the walk can mend without guessing it takes out of the values (unknown keys, keys not built
//! yet), so that the rest of the file is still read and its other faults are found in the same run.
//! `env:NAME` is put in here too.

use serde_json::Value as Json;

use super::document::{self, Document, Path, Step, Value};
use super::fault::{self, Fault, suggestion};
use super::format;
use super::schema::{FORMAT, NOT_BUILT};

/// The environment, as an argument.
pub trait Lookup {
    /// A variable.
    fn env(&self, name: &str) -> Option<String>;
    /// A file that the configuration names, read whole.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn file(&self, path: &std::path::Path) -> Result<Vec<u8>, String>;
}

/// Walks the document and gives its faults; its values are substituted and pruned.
#[must_use]
pub fn check(document: &mut Document, schema: &Json, lookup: &dyn Lookup) -> Vec<Fault> {
    let mut value = std::mem::replace(&mut document.value, Value::Null);
    let mut walk = Walk { document, root: schema, lookup, faults: Vec::new(), path: Vec::new() };
    walk.value(schema, &mut value);
    let faults = walk.faults;
    document.value = value;
    faults
}

struct Walk<'a> {
    document: &'a Document,
    root: &'a Json,
    lookup: &'a dyn Lookup,
    faults: Vec<Fault>,
    path: Path,
}

/// Whether the value is to stay.
#[derive(PartialEq, Eq)]
enum Fate {
    Stay,
    Prune,
}

impl<'a> Walk<'a> {
    fn fault(&mut self, message: String, help: impl Into<String>) {
        self.faults.push(self.document.fault_at_value(&self.path, message, Some(help.into())));
    }

    /// Whether the value may be a secret that stands in the open: by its form, or by a key that
    /// leads to it.
    fn is_secret(&self, schema: &Json) -> bool {
        let form = schema.get(FORMAT).and_then(Json::as_str);
        let below = |step: &Step| matches!(step, Step::Key(key) if fault::is_secret(key));
        form.is_some_and(|form| matches!(form, "secret" | "sha256" | "argon2id"))
            || self.path.iter().any(below)
    }

    /// A fault of a value of this schema; one that may be a secret is not shown.
    fn fault_of(&mut self, schema: &Json, message: String, help: impl Into<String>) {
        let hidden = self.is_secret(schema);
        let fault = self.document.fault_at_value(&self.path, message, Some(help.into()));
        self.faults.push(Fault { hidden, ..fault });
    }

    /// What a value is, for messages; a text that may be a secret is not repeated.
    fn found(&self, schema: &Json, value: &Value) -> String {
        if value.is_string() && self.is_secret(schema) { "a text".to_owned() } else { found(value) }
    }

    fn value(&mut self, schema: &'a Json, value: &mut Value) -> Fate {
        if self.not_built(schema) {
            return Fate::Prune;
        }
        let schema = self.resolve(schema);
        if self.not_built(schema) {
            return Fate::Prune;
        }
        if !self.substitute(schema, value) {
            return Fate::Stay;
        }
        if let Some(branches) = branches(schema) {
            return self.choose(branches, value);
        }
        match schema.get("type").and_then(Json::as_str) {
            Some("object") => self.mapping(schema, value),
            Some("array") => self.list(schema, value),
            Some("string") => return self.text(schema, value),
            Some("integer") => self.integer(schema, value),
            Some("number") => self.number(schema, value),
            Some("boolean") if !value.is_bool() => self.mistyped(schema, value),
            _ => {}
        }
        Fate::Stay
    }

    fn not_built(&mut self, schema: &Json) -> bool {
        if schema.get(NOT_BUILT).is_none() {
            return false;
        }
        let name = match self.path.last() {
            Some(Step::Key(name)) => name.clone(),
            _ => schema.get("const").and_then(Json::as_str).unwrap_or("this").to_owned(),
        };
        self.not_built_named(&name);
        true
    }

    fn not_built_named(&mut self, name: &str) {
        let message = format!("`{name}` is documented and not built yet");
        let fault = self.document.fault_at_key(
            &self.path,
            message,
            Some("leave it out for now; see docs/configuration.md".into()),
        );
        self.faults.push(fault);
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let mut schema = schema;
        while let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            let definition =
                name.strip_prefix("#/$defs/").and_then(|name| self.root.get("$defs")?.get(name));
            match definition {
                Some(definition) => schema = definition,
                None => break,
            }
        }
        schema
    }

    /// Puts the environment in; false when a variable is missing, which is then a fault.
    fn substitute(&mut self, schema: &Json, value: &mut Value) -> bool {
        // A choice with a secret among them reads its own references.
        let is_secret = |schema: &Json| schema.get(FORMAT).and_then(Json::as_str) == Some("secret");
        if is_secret(schema)
            || branches(schema).into_iter().flatten().any(|branch| is_secret(self.resolve(branch)))
        {
            return true;
        }
        let Some(reference) = value.as_str().and_then(|text| text.strip_prefix("env:")) else {
            return true;
        };
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (reference, None),
        };
        let Some(text) = self.lookup.env(name).or(default) else {
            self.fault(
                format!("the environment has no variable `{name}`"),
                format!("set it, or write env:{name}:-default"),
            );
            return false;
        };
        let is_text = schema.get("type").and_then(Json::as_str) == Some("string");
        *value = if is_text { Value::String(text) } else { document::scalar(&text) };
        true
    }

    fn mapping(&mut self, schema: &'a Json, value: &mut Value) {
        let Value::Mapping(entries) = value else { return self.mistyped(schema, value) };
        let none = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Json::as_object);
        let additional =
            schema.get("additionalProperties").filter(|additional| additional.is_object());
        let open = schema.get("additionalProperties").and_then(Json::as_bool) == Some(true);
        let mut pruned = Vec::new();
        for (key, value) in entries.iter_mut() {
            let Some(name) = key.as_str().map(str::to_owned) else {
                let shown = document::show(key);
                self.path.push(Step::Key(shown.clone()));
                let message = format!("the key `{shown}` is not text");
                let fault = self.document.fault_at_key(
                    &self.path,
                    message,
                    Some("put it in quotes".to_owned()),
                );
                self.faults.push(fault);
                self.path.pop();
                pruned.push(key.clone());
                continue;
            };
            self.path.push(Step::Key(name.clone()));
            if let Some(schema) =
                properties.and_then(|properties| properties.get(&name)).or(additional)
            {
                if self.value(schema, value) == Fate::Prune {
                    pruned.push(key.clone());
                }
            } else if !open {
                let known: Vec<&str> =
                    properties.unwrap_or(&none).keys().map(String::as_str).collect();
                let help = suggestion(&name, known);
                let fault = self.document.fault_at_key(
                    &self.path,
                    format!("unknown key `{name}`"),
                    Some(help),
                );
                self.faults.push(fault);
                pruned.push(key.clone());
            }
            self.path.pop();
        }
        for name in schema
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            if !entries.contains_key(name) {
                let fault = self.document.fault_at_key(
                    &self.path,
                    format!("the key `{name}` is missing"),
                    Some(self.describe_key(schema, name)),
                );
                self.faults.push(fault);
            }
        }
        for key in pruned {
            entries.remove(&key);
        }
    }

    fn describe_key(&self, schema: &'a Json, name: &str) -> String {
        let property = schema.get("properties").and_then(|properties| properties.get(name));
        let about = property.and_then(|property| {
            property
                .get("description")
                .or_else(|| self.resolve(property).get("description"))
                .and_then(Json::as_str)
        });
        match about {
            Some(about) => format!("`{name}`: {}", about.lines().next().unwrap_or_default()),
            None => format!("add `{name}`"),
        }
    }

    fn list(&mut self, schema: &'a Json, value: &mut Value) {
        let Value::Sequence(items) = value else { return self.mistyped(schema, value) };
        if items.is_empty() && schema.get("minItems").is_some() {
            return self.fault("an empty list".to_owned(), "write at least one entry");
        }
        let Some(schema) = schema.get("items") else { return };
        let mut pruned = Vec::new();
        for (at, item) in items.iter_mut().enumerate() {
            self.path.push(Step::Index(at));
            if self.value(schema, item) == Fate::Prune {
                pruned.push(at);
            }
            self.path.pop();
        }
        // What is left is still read, so that one run finds the other faults of the entry too.
        if pruned.len() < items.len() {
            let mut at = 0..;
            items.retain(|_| at.next().is_none_or(|at| !pruned.contains(&at)));
        }
    }

    /// A text in a list may be taken out of it when it is wrong: see [`Walk::list`].
    fn text(&mut self, schema: &'a Json, value: &Value) -> Fate {
        let before = self.faults.len();
        match value.as_str() {
            None => self.mistyped(schema, value),
            Some(text) => self.check_text(schema, text),
        }
        let in_list = matches!(self.path.last(), Some(Step::Index(_)));
        if in_list && self.faults.len() > before { Fate::Prune } else { Fate::Stay }
    }

    fn check_text(&mut self, schema: &'a Json, text: &str) {
        if let Some(Json::Array(choices)) = schema.get("enum") {
            let choices: Vec<&str> = choices.iter().filter_map(Json::as_str).collect();
            if !choices.contains(&text) {
                return self.fault(
                    format!("`{text}` is not one of the choices"),
                    suggestion(text, choices),
                );
            }
        }
        if let Some(format) = schema.get(FORMAT).and_then(Json::as_str)
            && let Err(message) = format::check(format, text)
        {
            let about = schema
                .get("description")
                .and_then(Json::as_str)
                .unwrap_or("see docs/configuration.md");
            self.fault_of(schema, message, about.to_owned());
        }
    }

    fn integer(&mut self, schema: &'a Json, value: &Value) {
        let Some(number) = value.as_i64() else { return self.mistyped(schema, value) };
        let bound = |name: &str| schema.get(name).and_then(Json::as_i64);
        let (low, high) =
            (bound("minimum").unwrap_or(i64::MIN), bound("maximum").unwrap_or(i64::from(u32::MAX)));
        if number < low || number > high {
            self.fault(
                format!("{number} is out of range"),
                format!("write a whole number from {low} to {high}"),
            );
        }
    }

    fn number(&mut self, schema: &'a Json, value: &Value) {
        let Some(number) = value.as_f64() else { return self.mistyped(schema, value) };
        let bound = |name: &str, or: f64| schema.get(name).and_then(Json::as_f64).unwrap_or(or);
        let (low, high) = (bound("minimum", f64::MIN), bound("maximum", f64::MAX));
        if !(low..=high).contains(&number) {
            self.fault(
                format!("{number} is out of range"),
                format!("write a number from {low} to {high}"),
            );
        }
    }

    fn mistyped(&mut self, schema: &'a Json, value: &Value) {
        let message =
            format!("{} where {} is expected", self.found(schema, value), self.expected(schema));
        let help = match (value, schema.get("type").and_then(Json::as_str)) {
            (Value::Number(number), _) if is_duration(schema) && number.is_u64() => {
                format!("did you mean `{number}s`?")
            }
            (Value::Number(_) | Value::Bool(_), Some("string")) => "put it in quotes".to_owned(),
            (Value::Null, _) => "give the key a value, or leave it out".to_owned(),
            _ => schema
                .get("description")
                .and_then(Json::as_str)
                .unwrap_or("see docs/configuration.md")
                .to_owned(),
        };
        self.fault_of(schema, message, help);
    }

    /// The shapes of a choice, and of the choices among them.
    fn flat(&self, choice: &'a [Json]) -> Vec<&'a Json> {
        let mut shapes = Vec::new();
        for shape in choice.iter().map(|branch| self.resolve(branch)) {
            match branches(shape) {
                Some(inner) => shapes.extend(self.flat(inner)),
                None => shapes.push(shape),
            }
        }
        shapes
    }

    /// One of several shapes: texts by their words, mappings by their keys.
    fn choose(&mut self, branches: &'a [Json], value: &mut Value) -> Fate {
        let resolved = self.flat(branches);
        if let Some(text) = value.as_str() {
            let words = |schema: &&'a Json| -> Vec<&'a str> {
                let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
                schema.get("const").into_iter().chain(listed).filter_map(Json::as_str).collect()
            };
            if let Some(schema) = resolved.iter().find(|schema| words(schema).contains(&text)) {
                if schema.get(NOT_BUILT).is_some() {
                    let text = text.to_owned();
                    self.not_built_named(&text);
                    return Fate::Prune;
                }
                return Fate::Stay;
            }
            let is_free = |schema: &&&'a Json| {
                schema.get("type").and_then(Json::as_str) == Some("string")
                    && words(schema).is_empty()
            };
            if let Some(schema) = resolved.iter().find(is_free) {
                return self.text(schema, value);
            }
            let choices: Vec<&str> = resolved.iter().flat_map(words).collect();
            if choices.is_empty() {
                self.fault(
                    format!("the text `{text}` where {} is expected", self.any_of(&resolved)),
                    "see docs/configuration.md",
                );
            } else {
                self.fault(
                    format!("`{text}` is not one of the choices"),
                    suggestion(text, choices),
                );
            }
            return if matches!(self.path.last(), Some(Step::Index(_))) {
                Fate::Prune
            } else {
                Fate::Stay
            };
        }
        let objects: Vec<&'a Json> =
            resolved.iter().copied().filter(|schema| schema.get("properties").is_some()).collect();
        if let Some(entries) = value.as_mapping().filter(|_| !objects.is_empty()) {
            let keys: Vec<String> =
                entries.keys().filter_map(|key| key.as_str().map(str::to_owned)).collect();
            return self.choose_by_key(&objects, &keys, value);
        }
        let of_type = |kind: &str| {
            let is = |schema: &&&'a Json| schema.get("type").and_then(Json::as_str) == Some(kind);
            resolved.iter().find(is)
        };
        let schema = match value {
            Value::Sequence(_) => of_type("array"),
            Value::Bool(_) => of_type("boolean"),
            Value::Null
            | Value::Number(_)
            | Value::String(_)
            | Value::Mapping(_)
            | Value::Tagged(_) => None,
        };
        if let Some(schema) = schema {
            return self.value(schema, value);
        }
        self.fault(
            format!("{} where {} is expected", found(value), self.any_of(&resolved)),
            "see docs/configuration.md",
        );
        Fate::Stay
    }

    /// A mapping of one of several shapes: its key says which.
    fn choose_by_key(&mut self, objects: &[&'a Json], keys: &[String], value: &mut Value) -> Fate {
        let properties = |schema: &&'a Json| schema.get("properties").and_then(Json::as_object);
        let has = |schema: &&'a Json, key: &String| {
            properties(schema).is_some_and(|properties| properties.contains_key(key))
        };
        let known: Vec<&str> = objects
            .iter()
            .filter_map(properties)
            .flat_map(|map| map.keys())
            .map(String::as_str)
            .collect();
        if let [only] = objects {
            return self.branch(only, value);
        }
        let chosen: Vec<(&String, &'a Json)> = keys
            .iter()
            .filter_map(|key| Some((key, *objects.iter().find(|schema| has(schema, key))?)))
            .collect();
        match chosen.as_slice() {
            [] if keys.is_empty() => {
                self.fault("an empty mapping".to_owned(), suggestion("", known));
                Fate::Stay
            }
            [] => {
                let wrong = keys.first().cloned().unwrap_or_default();
                self.fault_at_key(
                    &wrong,
                    format!("unknown key `{wrong}`"),
                    suggestion(&wrong, known),
                );
                Fate::Stay
            }
            [(first, schema), others @ ..] => {
                // Keys of one branch may stand together, those of several exclude each other.
                if let Some((other, _)) = others.iter().find(|(key, _)| !has(schema, key)) {
                    let message = format!("`{other}` with `{first}`: they exclude each other");
                    self.fault_at_key(other, message, "write exactly one of them".to_owned());
                    return Fate::Stay;
                }
                self.branch(schema, value)
            }
        }
    }

    fn fault_at_key(&mut self, key: &str, message: String, help: String) {
        self.path.push(Step::Key(key.to_owned()));
        let fault = self.document.fault_at_key(&self.path, message, Some(help));
        self.faults.push(fault);
        self.path.pop();
    }

    /// A branch of an enum: when it is not built, its key says so.
    fn branch(&mut self, schema: &'a Json, value: &mut Value) -> Fate {
        if schema.get(NOT_BUILT).is_some() {
            let first =
                value.as_mapping().and_then(|entries| entries.keys().find_map(|key| key.as_str()));
            let name = first.unwrap_or("this").to_owned();
            self.path.push(Step::Key(name.clone()));
            self.not_built_named(&name);
            self.path.pop();
            return Fate::Prune;
        }
        self.value(schema, value)
    }

    fn any_of(&self, schemas: &[&'a Json]) -> String {
        let mut kinds: Vec<String> = schemas.iter().map(|schema| self.expected(schema)).collect();
        kinds.dedup();
        kinds.join(" or ")
    }

    fn expected(&self, schema: &'a Json) -> String {
        match self.resolve(schema).get("type").and_then(Json::as_str) {
            Some("object") => "a mapping".to_owned(),
            Some("array") => "a list".to_owned(),
            Some("integer") => "a whole number".to_owned(),
            Some("number") => "a number".to_owned(),
            Some("boolean") => "true or false".to_owned(),
            _ => "text".to_owned(),
        }
    }
}

fn branches(schema: &Json) -> Option<&[Json]> {
    schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Json::as_array).map(Vec::as_slice)
}

fn is_duration(schema: &Json) -> bool {
    matches!(schema.get(FORMAT).and_then(Json::as_str), Some("duration" | "grace"))
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(truth) => format!("`{truth}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{text}`"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(_) => "a YAML tag".to_owned(),
    }
}
