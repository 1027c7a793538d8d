//! The JSON API against its own description, by requests that schemathesis makes of it.

use std::process::Command;

use super::{Console, token_of};
use crate::clients::{installed, scripts};

/// Examples of each operation.
const MAX_EXAMPLES: &str = "20";

/// Sends what schemathesis makes of the description, with a viewer's token: acts are refused, and
/// so is the writing of files. Gives how many requests were answered as described.
fn answered_as_described(console: &Console, settings: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let common = std::fs::read_to_string(scripts().join("schemathesis.toml")).unwrap();
    std::fs::write(folder.path().join("schemathesis.toml"), common + settings).unwrap();
    let url = format!("http://{}", console.address);
    let output = Command::new(installed().join("venv-schemathesis/bin/schemathesis"))
        .args(["run", &format!("{url}/api/v1/openapi.json"), "--url", &url])
        .args(["--header", &format!("Authorization: Bearer {}", token_of("vera"))])
        .args(["--max-examples", MAX_EXAMPLES, "--workers", "1", "--no-color"])
        .args(["--suppress-health-check", "all", "--generation-deterministic"])
        // It never ends. The test of the pages in a browser follows it.
        .args(["--exclude-path", "/api/v1/decisions/tail"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let log = console.gateway.log();
    assert!(output.status.success() && !text.contains("FAILURES"), "{text}\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    let summary = text.lines().find_map(|line| line.trim().split_once(" generated, "));
    let (made, passed) = summary.unwrap_or_else(|| panic!("no summary: {text}"));
    let passed = passed.split(' ').next().unwrap();
    assert_eq!(made, passed, "{text}");
    passed.parse().unwrap()
}

#[test]
fn the_api_answers_as_it_describes_itself() {
    let console = Console::start().with_history();
    let token = console.gateway.token("crm");
    console.call("GET", "/orders/1", Some(&token));
    console.call("GET", "/stock/1", Some(&token));
    let refused = console.decision("ada", "client=crm&verdict=refuse");
    assert!(answered_as_described(&console, "") > 500);
    // And of things that there are.
    let id = refused["record"]["id"].as_str().unwrap();
    let named = format!(
        "
[[operations]]
include-name = \"GET /api/v1/integrations/{{id}}\"
parameters = {{ \"path.id\" = \"crm\" }}

[[operations]]
include-name = \"GET /api/v1/decisions/{{id}}\"
parameters = {{ \"path.id\" = \"{id}\" }}

[[operations]]
include-name = \"GET /api/v1/findings/{{rule}}/{{on}}\"
parameters = {{ \"path.rule\" = \"secret.expired\", \"path.on\" = \"crm abababab\" }}

[[operations]]
exclude-path-regex = \"[{{]\"
enabled = false
"
    );
    assert!(answered_as_described(&console, &named) > 20);
    for found in ["integrations/crm".to_owned(), format!("decisions/{id}")] {
        assert_eq!(console.api("vera", &found).status, 200);
    }
}

/// What is described is served, behind the guard.
#[test]
fn every_described_operation_is_served() {
    let console = Console::start();
    let answer = console.api("vera", "openapi.json");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 15, "{paths:?}");
    for (path, operations) in paths {
        let target = path.replace("{id}", "x").replace("{rule}", "x").replace("{on}", "x");
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            assert_eq!(console.ask(&method, &target, &[], None).status, 401, "{method} {path}");
            // One that is there and never ends.
            if path.ends_with("/tail") {
                continue;
            }
            let bearer = format!("Bearer {}", token_of("vera"));
            let lines = [("Authorization", bearer.as_str())];
            let json = (method == "POST").then_some(("application/json", "{}"));
            let answer = console.ask(&method, &target, &lines, json);
            let is_there =
                answer.status != 405 && !answer.body.contains("there is no such resource");
            assert!(is_there, "{method} {path}: {answer:?}");
        }
    }
}
