//! Values for path parameters in the generated tests: examples of the document first.

use std::collections::BTreeMap;

use oas3::spec;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::request::target::is_canonical_path;
use crate::tooling::import::with_literal;

/// Everything but unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Most examples tried per parameter.
const MOST: usize = 16;

/// The values of a path parameter.
#[derive(Debug)]
pub(super) struct Parameter {
    examples: Vec<String>,
    /// The type in its schema.
    kind: Option<String>,
    format: Option<String>,
}

impl Parameter {
    pub(super) fn new(read: &spec::Parameter, schema: Option<&Value>) -> Self {
        let of = |key: &str| {
            schema.and_then(|schema| schema.get(key)).and_then(Value::as_str).map(str::to_owned)
        };
        let examples = examples(read, schema).filter_map(scalar).take(MOST).collect();
        Self { examples, kind: of("type"), format: of("format") }
    }
}

/// Values for a segment, encoded, the likeliest first. There is always one.
pub(super) fn values(
    written: &str,
    name: &str,
    parameters: &BTreeMap<String, Parameter>,
) -> Vec<String> {
    match with_literal(written) {
        Some((inner, literal)) => {
            let values = of_parameter(name, parameters.get(inner)).into_iter();
            values.map(|value| value + literal).collect()
        }
        None => vec![in_part(written, parameters)],
    }
}

/// A segment that contains partial parameters.
fn in_part(written: &str, parameters: &BTreeMap<String, Parameter>) -> String {
    let mut parts = written.split('{');
    let mut value = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inner, literal) = part.split_once('}').unwrap_or((part, ""));
        value.push_str(
            of_parameter(inner, parameters.get(inner)).first().map_or("1", String::as_str),
        );
        value.push_str(literal);
    }
    value
}

fn of_parameter(name: &str, parameter: Option<&Parameter>) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        let encoded = utf8_percent_encode(text, RESERVED).to_string();
        // An example is used only if it can be one segment of a request.
        let fits = !encoded.is_empty()
            && encoded.len() <= 128
            && is_canonical_path(&format!("/{encoded}"));
        let allowed = ["%2F", "%25", "%3B"].iter().all(|escape| !encoded.contains(escape));
        if fits && allowed && !values.contains(&encoded) {
            values.push(encoded);
        }
    };
    if let Some(Parameter { examples, kind, format }) = parameter {
        for example in examples {
            add(example);
        }
        match (kind.as_deref(), format.as_deref()) {
            (Some("integer" | "number"), _) => add("1"),
            (Some("boolean"), _) => add("true"),
            (_, Some("uuid")) => add("3fa85f64-5717-4562-b3fc-2c963f66afa6"),
            (_, Some("date")) => add("2026-01-31"),
            _ => {}
        }
    }
    // A literal next to the parameter may equal any of these.
    for fallback in [name.to_owned(), "1".to_owned(), format!("{name}-1"), "x-1".to_owned()] {
        add(&fallback);
    }
    values
}

fn examples<'a>(
    read: &'a spec::Parameter,
    schema: Option<&'a Value>,
) -> impl Iterator<Item = &'a Value> {
    let named = read.examples.values().filter_map(|example| match example {
        spec::ObjectOrReference::Object(example) => example.value.as_ref(),
        spec::ObjectOrReference::Ref { .. } => None,
    });
    let single =
        ["example", "const", "default"].into_iter().filter_map(move |key| schema?.get(key));
    let listed = ["examples", "enum"]
        .into_iter()
        .filter_map(move |key| schema?.get(key)?.as_array())
        .flatten();
    read.example.iter().chain(named).chain(single).chain(listed)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
