//! The JSON Schema of the YAML, made from the types that read it.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::raw::{RawClients, RawGateway, RawPolicies, RawUsers};

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// gateway.yaml.
    Gateway,
    /// clients/*.yaml.
    Clients,
    /// users.yaml.
    Users,
    /// policies/*.yaml.
    Policies,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Clients, Self::Users, Self::Policies];

    /// The name on the command line and of the schema's file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Clients => "clients",
            Self::Users => "users",
            Self::Policies => "policies",
        }
    }
}

/// The key under which the schema says that something is not built yet.
pub const NOT_BUILT: &str = "x-not-built";
/// The key under which the schema names a text's format.
pub const FORMAT: &str = "x-format";

/// The schema of one kind of file.
#[must_use]
pub fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Gateway => of::<RawGateway>(),
        Kind::Clients => of::<RawClients>(),
        Kind::Users => of::<RawUsers>(),
        Kind::Policies => of::<RawPolicies>(),
    }
}

fn of<T: JsonSchema>() -> Value {
    made::<T>(SchemaSettings::draft2020_12())
}

/// The schema of what a type is written as.
#[must_use]
pub fn schema_of_output<T: JsonSchema>() -> Value {
    made::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn made<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let generator = settings
        .with_transform(WithoutNull)
        .with_transform(Described)
        .with_transform(Unwrapped)
        .into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// A key is there with a value or not there: `key:` with nothing behind it is a mistake, not an
/// absence.
#[derive(Clone, Debug)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        let is_null = |value: &Value| value.get("type").and_then(Value::as_str) == Some("null");
        if let Some(object) = schema.as_object_mut() {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|branch| !is_null(branch));
                if let [Value::Object(only)] = branches.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            if let Some(Value::Array(values)) = object.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
        }
        transform_subschemas(self, schema);
    }
}

/// A choice that is written as a key is described where editors look for a key's description.
#[derive(Clone, Debug)]
struct Described;

impl Transform for Described {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(branches)) = schema.get_mut("oneOf") {
            for branch in branches.iter_mut().filter_map(Value::as_object_mut) {
                let Some(text) = branch.get("description").cloned() else { continue };
                let properties = branch.get_mut("properties").and_then(Value::as_object_mut);
                for property in properties
                    .into_iter()
                    .flat_map(|keys| keys.values_mut())
                    .filter_map(Value::as_object_mut)
                {
                    property.entry("description").or_insert_with(|| text.clone());
                }
            }
        }
        transform_subschemas(self, schema);
    }
}

/// Descriptions are wrapped where the source is; editors wrap them where they like. A paragraph is
/// one line.
#[derive(Clone, Debug)]
struct Unwrapped;

impl Transform for Unwrapped {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            let paragraphs: Vec<String> =
                text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
            *text = paragraphs.join("\n\n");
        }
        transform_subschemas(self, schema);
    }
}
