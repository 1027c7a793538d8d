//! The description of the JSON API: OpenAPI 3.1, made from the types that it answers with.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::api::{
    AuditList, AuditQuery, FindingDetail, FindingRow, IntegrationDetail, ListQuery, Operations,
    UseQuery, Whoami,
};
use super::view::Listed;
use super::view::decisions::{DecisionFilter, DecisionList, Explained};
use super::view::integrations::Integration;
use super::view::operations::{ApiRow, ReachRow, UseReport};
use super::view::overview::Overview;
use super::{acts, draft};
use crate::tooling::draft::ClientDraft;

/// A value in a path: whatever servers read in one way alone. The rest is refused before it is
/// routed.
const PART: &str = r"^(?!\.\.?$)[^\x00-\x1f\x7f-\x9f/\\%;]+$";

/// The description.
pub(super) async fn document() -> Response {
    let mut response = describe().to_string().into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Builds the description of each path.
struct Paths {
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
}

/// The parameters of an operation's query.
type QueryOf = Vec<Value>;

impl Paths {
    fn schema<T: JsonSchema>(&mut self) -> Value {
        self.schemas.subschema_for::<T>().to_value()
    }

    /// The members of a type, each a parameter of the query.
    fn query<T: JsonSchema>(&mut self) -> QueryOf {
        let schema = self.schemas.root_schema_for::<T>().to_value();
        let mut parameters = Vec::new();
        let members = schema.get("properties").and_then(Value::as_object);
        for (name, member) in members.into_iter().flatten() {
            let mut member = member.clone();
            let text = member.as_object_mut().and_then(|member| member.remove("description"));
            parameters.push(json!({ "name": name, "in": "query", "required": false,
                "description": text, "schema": member }));
        }
        parameters
    }

    fn get<T: JsonSchema>(&mut self, path: &str, text: &str, query: QueryOf) {
        let schema = self.schema::<T>();
        let operation = operation(path, text, query, None, "200", &schema);
        self.add(path, "get", operation);
    }

    fn post<B: JsonSchema, T: JsonSchema>(&mut self, path: &str, text: &str, status: &str) {
        let (body, schema) = (self.schema::<B>(), self.schema::<T>());
        let operation = operation(path, text, Vec::new(), Some(body), status, &schema);
        self.add(path, "post", operation);
    }

    fn add(&mut self, path: &str, method: &str, operation: Value) {
        let path = self.paths.entry(path.to_owned()).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(method.to_owned(), operation);
        }
    }
}

fn operation(
    path: &str,
    text: &str,
    query: QueryOf,
    body: Option<Value>,
    status: &str,
    schema: &Value,
) -> Value {
    let mut parameters = query;
    for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        parameters.push(json!({ "name": name, "in": "path", "required": true,
            "schema": { "type": "string", "pattern": PART } }));
    }
    let problem = |text: &str| {
        json!({ "description": text, "content": {
        "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } })
    };
    let mut responses = Map::new();
    responses.insert(
        status.to_owned(),
        json!({ "description": text, "content": {
        "application/json": { "schema": schema } } }),
    );
    for (status, text) in [
        ("400", "The request is malformed"),
        ("401", "No token, or one that is not right"),
        ("403", "The role does not allow it"),
        ("404", "There is no such thing"),
        ("409", "The files are not the set in force"),
        ("415", "The body is no JSON"),
        ("422", "A value is not understood"),
        ("503", "The store does not answer, or it is being computed"),
    ] {
        responses.insert(status.to_owned(), problem(text));
    }
    // A head that is not good enough to be routed is refused in text.
    let content = responses.get_mut("400").and_then(|answer| answer.get_mut("content"));
    if let Some(content) = content.and_then(Value::as_object_mut) {
        content.insert("text/plain".to_owned(), json!({ "schema": { "type": "string" } }));
    }
    let mut operation = json!({ "summary": text, "parameters": parameters,
        "responses": responses, "security": [{ "bearer": [] }] });
    if let (Some(body), Some(operation)) = (body, operation.as_object_mut()) {
        operation.insert(
            "requestBody".to_owned(),
            json!({ "required": true, "content": { "application/json": { "schema": body } } }),
        );
    }
    operation
}

/// The description of the whole API.
#[must_use]
pub(super) fn describe() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut paths = Paths { schemas: settings.into_generator(), paths: Map::new() };
    let none = Vec::new;
    let list = paths.query::<ListQuery>();
    paths.get::<Listed<Integration>>("/api/v1/integrations", "Inbound integrations", list);
    paths.get::<Overview>("/api/v1/overview", "How things are", none());
    paths.get::<Whoami>("/api/v1/whoami", "The caller", none());
    paths.get::<IntegrationDetail>("/api/v1/integrations/{id}", "One integration", none());
    let list = paths.query::<ListQuery>();
    paths.get::<Listed<ApiRow>>("/api/v1/apis", "APIs", list);
    let list = paths.query::<ListQuery>();
    paths.get::<Listed<ReachRow>>("/api/v1/access", "Who can call what, and why", list);
    let list = paths.query::<ListQuery>();
    paths.get::<Listed<FindingRow>>("/api/v1/findings", "Findings", list);
    paths.get::<FindingDetail>(
        "/api/v1/findings/{rule}/{on}",
        "One finding, with its patch",
        none(),
    );
    let filter = paths.query::<DecisionFilter>();
    paths.get::<DecisionList>("/api/v1/decisions", "The last decisions, newest first", filter);
    paths.get::<Explained>("/api/v1/decisions/{id}", "One decision, with every step", none());
    paths.get::<Operations>("/api/v1/operations", "Keys, issuers, upstreams, blocks", none());
    let query = paths.query::<UseQuery>();
    paths.get::<UseReport>("/api/v1/usage", "Use by day and subject", query);
    let query = paths.query::<AuditQuery>();
    paths.get::<AuditList>("/api/v1/audit", "Who did what, newest first", query);
    paths.post::<acts::Act, acts::Done>("/api/v1/acts", "Does something", "200");
    paths.post::<ClientDraft, draft::Prepared>(
        "/api/v1/integrations/draft",
        "Prepares a new integration, and writes nothing",
        "200",
    );
    paths.post::<ClientDraft, draft::Prepared>(
        "/api/v1/integrations",
        "Writes the file of a new integration, as an editor",
        "201",
    );
    let filter = paths.query::<DecisionFilter>();
    let mut tail = operation(
        "/api/v1/decisions/tail",
        "The decisions that come, as server-sent events",
        filter,
        None,
        "200",
        &json!({ "type": "string" }),
    );
    if let Some(content) = tail.pointer_mut("/responses/200/content") {
        *content = json!({ "text/event-stream": { "schema": { "type": "string" } } });
    }
    paths.add("/api/v1/decisions/tail", "get", tail);
    let mut schemas = paths.schemas.take_definitions(true);
    schemas.insert(
        "Problem".to_owned(),
        json!({ "type": "object", "required": ["title", "status", "detail"], "properties": {
            "type": { "type": "string" }, "title": { "type": "string" },
            "status": { "type": "integer" }, "detail": { "type": "string" } } }),
    );
    json!({
        "openapi": "3.1.0",
        "info": { "title": "scopegate console", "version": env!("CARGO_PKG_VERSION"),
            "description": "What the console shows and does. Acts need the role operator or \
                editor; every act is an audit record." },
        "paths": paths.paths,
        "components": { "schemas": schemas,
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_description_resolves() {
        fn walk(value: &Value, root: &Value, seen: &mut usize) {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(root.pointer(pointer).is_some(), "{reference}");
                        *seen += 1;
                    }
                    members.values().for_each(|value| walk(value, root, seen));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, root, seen)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = describe();
        let mut seen = 0;
        walk(&document, &document, &mut seen);
        assert!(seen > 30, "{seen}");
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.keys().all(|path| path.starts_with("/api/v1/")), "{paths:?}");
    }
}
