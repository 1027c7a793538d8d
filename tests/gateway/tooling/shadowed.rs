//! `scopegate serve --shadow`: a candidate set besides the one in force.

use std::process::Command;

use serde_json::{Value, json};

use super::{CLIENTS, corp_token, example};
use crate::support::issuer::now;
use crate::support::{Gateway, Setup, wait_for};

/// A gateway with a candidate in a folder of its own.
fn relative_to(change: impl Fn(&mut Setup)) -> (Gateway, tempfile::TempDir, String) {
    let (mut setup, key) = example("");
    setup.clients =
        CLIENTS.replace("enforce_token_restriction: true", "enforce_token_restriction: false");
    // The set in force does not look at claims.
    setup.policies = setup.policies.replace(", claims: { dept: [it] }", "");
    // Both are the same issuer.
    setup.gateway.push_str("public_url: http://127.0.0.1:1\n");
    let folder = tempfile::tempdir().unwrap();
    let mut candidate = setup.clone();
    candidate.policies = super::POLICIES.to_owned();
    change(&mut candidate);
    let unused = "127.0.0.1:9".parse().unwrap();
    candidate.write(folder.path(), unused, "127.0.0.1:8".parse().unwrap(), unused);
    setup.arguments = vec!["--shadow".to_owned(), folder.path().display().to_string()];
    (Gateway::start(&setup), folder, corp_token(&key, now() + 300))
}

fn candidate(gateway: &Gateway, response: &crate::support::Response) -> Value {
    gateway.record(response.header("x-decision-id").unwrap())["candidate"].clone()
}

#[test]
fn what_a_candidate_would_change_is_counted_and_logged_and_never_decides() {
    let (gateway, folder, corp) = relative_to(|candidate| {
        candidate.policies = candidate
            .policies
            .replace("- { clients: [portal] }", "- { clients: [portal], from: [192.0.2.0/24] }")
            .replace("methods: [POST, PUT, PATCH] }", "methods: [POST, PUT, PATCH, DELETE] }")
            .replace("[itil_admin]", "[itil]");
    });
    let (portal, crm) = (gateway.token("portal"), gateway.token("crm-sync"));
    let refused = gateway.get("/api/now/table/incident", Some(&portal));
    assert_eq!(refused.status, 200);
    let would = candidate(&gateway, &refused);
    assert_eq!(
        (&would["verdict"], &would["rule"]),
        (&json!("policy.profile"), &json!("incident-callers"))
    );
    assert!(would["set"].is_string());
    // No address of the tests is inside the network that this client has to come from.
    assert_eq!(
        candidate(&gateway, &gateway.get("/api/now/table/incident", Some(&crm))),
        Value::Null
    );
    // Facts keep the claims that only the candidate looks at.
    let same = gateway.get("/api/now/table/incident", Some(&corp));
    assert_eq!((same.status, candidate(&gateway, &same)), (200, Value::Null));
    let series = "scopegate_candidate_total{api=\"incident\",reason=\"policy.profile\",rule=\"incident-callers\",verdict=\"refuse\"}";
    assert_eq!(gateway.metric(series), Some(1.0));
    for (target, token) in [
        ("/nowhere", Some(portal.as_str())),
        ("/api/now/table/incident", None),
        ("/api/now/table/incident", Some("x")),
    ] {
        assert_eq!(
            candidate(&gateway, &gateway.get(target, token)),
            Value::Null,
            "{target} {token:?}"
        );
    }

    // It is read again when it changes, and one with faults is not taken.
    let file = folder.path().join("policies.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "nonsense: 1\n").unwrap();
    gateway.wait_for_log(&["candidate refused"]);
    assert_ne!(
        candidate(&gateway, &gateway.get("/api/now/table/incident", Some(&portal))),
        Value::Null
    );
    std::fs::write(&file, good.replace(", from: [192.0.2.0/24]", "")).unwrap();
    wait_for("the candidate to be taken", || {
        (candidate(&gateway, &gateway.get("/api/now/table/incident", Some(&portal))) == Value::Null)
            .then_some(())
    });
}

#[test]
fn what_a_candidate_would_newly_permit_is_counted_too() {
    let (gateway, _folder, _) = relative_to(|candidate| {
        candidate.policies =
            candidate.policies.replace("clients: [portal] }", "clients: [portal, crm-sync] }");
    });
    let crm = gateway.token("crm-sync");
    let response = gateway.get("/api/now/table/incident", Some(&crm));
    assert_eq!(response.verdict(), "policy.profile");
    assert_eq!(candidate(&gateway, &response)["verdict"], "permit");
    let series = "scopegate_candidate_total{api=\"incident\",reason=\"\",rule=\"incident-callers\",verdict=\"permit\"}";
    wait_for("it to be counted", || {
        gateway.metric(series).filter(|count| (*count - 1.0).abs() < 0.1)
    });
}

#[test]
fn a_candidate_that_does_not_load_is_told_at_the_start() {
    let files = super::Files::of(&example("").0);
    for (path, code, words) in [("nowhere", 2, "nowhere"), (".", 1, "unknown key `nonsense`")] {
        if path == "." {
            let other = super::Files::of(&example("").0);
            other.write("policies.yaml", "nonsense: 1\n");
            let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
                .args(["serve", "--config"])
                .arg(files.0.path().join("gateway.yaml"))
                .arg("--shadow")
                .arg(other.0.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(code) && said.contains(words), "{said}");
        } else {
            let (got, _, said) = files.run(&["serve", "--shadow", path], "");
            assert!(got == code && said.contains(words), "{said}");
        }
    }
}
