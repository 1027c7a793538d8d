//! The JSON Schemas in an editor: the real YAML language server completes and checks with them, as
//! docs/editors.md says.

use std::path::Path;
use std::process::Command;

use scopegate::config::schema::{Kind, schema};
use serde_json::Value;

#[test]
fn the_language_server_completes_describes_and_marks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("node")
        .arg(crate::clients::scripts().join("editor.mjs"))
        .env("CLIENTS", crate::clients::installed())
        .env("SCHEMA", root.join("config/schema/policies.json"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let labels = |key: &str| -> Vec<String> {
        told[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["label"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        labels("top"),
        ["apis", "auth_scopes", "access_policies", "acls", "limits", "blocks", "tests", "waivers"]
    );
    let page = std::fs::read_to_string(root.join("docs/editors.md")).unwrap();
    for item in told["profile"].as_array().unwrap() {
        let row = format!(
            "| `{}` | {} |",
            item["label"].as_str().unwrap(),
            item["about"].as_str().unwrap()
        );
        assert!(page.contains(&row), "docs/editors.md lacks the row: {row}");
    }
    assert_eq!(labels("profile").len(), 8);
    let expectations = labels("expect");
    assert!(
        expectations.contains(&"permit".to_owned())
            && expectations.contains(&"scope.missing".to_owned()),
        "{expectations:?}"
    );
    assert!(!expectations.contains(&"limit.rate".to_owned()), "{expectations:?}");
    assert!(
        told["hover"].as_str().unwrap().contains("Only counted and logged."),
        "{}",
        told["hover"]
    );
    let faults = told["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(
        (&faults[0]["message"], &faults[0]["line"]),
        (&"Property mod is not allowed.".into(), &5.into())
    );
    assert!(page.contains("Property mod is not allowed."));
}

/// The keys without a description below a schema.
fn silent(owner: &str, schema: &Value, found: &mut Vec<String>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        if property["description"].as_str().is_none_or(str::is_empty) {
            found.push(format!("{owner}.{key}"));
        }
        silent(&format!("{owner}.{key}"), property, found);
    }
    for nested in ["items", "additionalProperties"]
        .map(|key| &schema[key])
        .into_iter()
        .filter(|nested| nested.is_object())
    {
        silent(owner, nested, found);
    }
    for branch in schema["anyOf"].as_array().into_iter().chain(schema["oneOf"].as_array()).flatten()
    {
        silent(owner, branch, found);
    }
}

#[test]
fn every_key_of_the_schemas_has_a_description() {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let schema = schema(kind);
        silent(kind.as_str(), &schema, &mut found);
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            silent(name, definition, &mut found);
        }
    }
    assert_eq!(found, [""; 0]);
}
