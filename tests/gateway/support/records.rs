//! Every decision record that a test run writes has the form that is documented.

use std::path::Path;
use std::sync::LazyLock;

use scopegate::telemetry::record::Record;
use serde_json::Value;

static SCHEMA: LazyLock<Value> = LazyLock::new(Record::schema);

/// Checks every whole line of a log that begins as a record does.
pub fn check(log: &Path) {
    let Ok(bytes) = std::fs::read(log) else { return };
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines().filter(|line| line.starts_with("{\"v\"")) {
        let record = serde_json::from_str(line).unwrap_or(Value::Null);
        if let Err(fault) = fits(&SCHEMA, &record) {
            panic!("{}: {fault}: {line}", log.display());
        }
    }
}

/// Whether a value has the form of a schema, in the words of JSON Schema that ours use. Members
/// that it does not name are faults here: they are not documented.
fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    let schema = match schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        Some(name) => &SCHEMA["$defs"][name],
        None => schema,
    };
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
        return Err(format!("{value} is none of {}", schema["enum"]));
    }
    let is_typed = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => return Err(format!("a schema of type {other}")),
        None => true,
    };
    if !is_typed {
        return Err(format!("{value} is no {}", schema["type"]));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            return Err(format!("without {required}"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let of_member = schema["properties"].get(name).or(schema.get("additionalProperties"));
        let of_member = of_member.ok_or_else(|| format!("`{name}` is not documented"))?;
        fits(of_member, member).map_err(|fault| format!("{name}: {fault}"))?;
    }
    for item in value.as_array().into_iter().flatten() {
        fits(&schema["items"], item)?;
    }
    Ok(())
}

#[test]
fn what_is_not_a_record_is_found() {
    let record = serde_json::json!({ "v": 1, "id": "0", "time": "t", "method": "GET",
        "verdict": "permit", "set": "s", "status": 200, "decision_us": 1, "total_us": 2,
        "candidate": { "verdict": "permit", "rule": "r", "set": "s" },
        "claims": { "dept": [1, null] }, "scopes": "a b", "roles": ["r"], "address": "::1" });
    assert_eq!(fits(&SCHEMA, &record), Ok(()));
    for (name, wrong) in [
        ("v", serde_json::json!(2)),
        ("verdict", "perhaps".into()),
        ("status", "200".into()),
        ("unknown", 1.into()),
        ("roles", serde_json::json!([1])),
        ("candidate", serde_json::json!({ "verdict": "permit" })),
        ("method", Value::Null),
    ] {
        let mut record = record.clone();
        record[name] = wrong;
        assert!(fits(&SCHEMA, &record).is_err(), "{name}");
    }
    let mut record = record;
    record.as_object_mut().unwrap().remove("set");
    assert!(fits(&SCHEMA, &record).is_err());
}

/// Every member is explained in docs/logs.md, and no other is.
#[test]
fn the_page_of_logs_has_every_member_of_a_record() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logs.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let named: std::collections::BTreeSet<String> = rows
        .flat_map(|names| names.split(", ").map(|name| name.trim_matches('`').to_owned()))
        .collect();
    let members = SCHEMA["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(named, members);
}
