//! The JSON API against its own description, by requests that schemathesis makes of it.

use std::process::Command;

use super::{Console, token_of};
use crate::clients::{installed, scripts};

/// Examples of each operation.
const MAX_EXAMPLES: &str = "20";

#[test]
fn the_api_answers_as_it_describes_itself() {
    let console = Console::start().with_history();
    let token = console.gateway.token("crm");
    console.call("GET", "/orders/1", Some(&token));
    console.call("GET", "/stock/1", Some(&token));
    console.decision("ada", "client=crm&verdict=refuse");
    let url = format!("http://{}", console.address);
    // Examples of failures are kept beside where it runs.
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(installed().join("venv-schemathesis/bin/schemathesis"))
        .args(["--config-file"])
        .arg(scripts().join("schemathesis.toml"))
        .args(["run", &format!("{url}/api/v1/openapi.json"), "--url", &url])
        // A viewer's token: acts are refused, and so is the writing of files.
        .args(["--header", &format!("Authorization: Bearer {}", token_of("vera"))])
        .args(["--max-examples", MAX_EXAMPLES, "--seed", "7", "--workers", "1", "--no-color"])
        .args(["--suppress-health-check", "all", "--generation-deterministic"])
        // It never ends: the test of the live tail in the browser is its own.
        .args(["--exclude-path", "/api/v1/decisions/tail"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}\n{}", console.gateway.log());
    assert!(text.contains("No issues found"), "{text}");
    assert!(!console.gateway.log().contains("panicked"), "{}", console.gateway.log());
}

/// What is described is served, and the other way round: the description names each route.
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
            // Without a token: that it is asked for one says that the guard stands before it.
            assert_eq!(console.ask(&method, &target, &[], None).status, 401, "{method} {path}");
            if !path.ends_with("/tail") {
                let bearer = format!("Bearer {}", token_of("vera"));
                let lines = [("Authorization", bearer.as_str())];
                let json = (method == "POST").then_some(("application/json", "{}"));
                let answer = console.ask(&method, &target, &lines, json);
                let is_there = answer.status != 405
                    && !answer.body.contains("there is no such resource");
                assert!(is_there, "{method} {path}: {answer:?}");
            }
        }
    }
}
