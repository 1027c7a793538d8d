//! `scopegate findings`.

use std::process::Command;

use super::Files;
use crate::support::Setup;

const POLICIES: &str = "apis: { one: { base_path: /one, upstream: api, resources: { /a: [GET] } } }
auth_scopes: { s: { grants: [{ api: one }] } }
";

const CLIENTS: &str = "clients:
  # of the night shift
  crm:
    name: CRM # nightly
    grants: [client_credentials]
    roles: [reader]
    secrets:
      - sha256: @SHA256@
        expires: 2099-01-01
      - sha256: abababababababababababababababababababababababababababababababab
        expires: 2020-01-01 # the first one
    auth_scopes: [s]
";

const DIFF: &str = "--- clients.yaml
+++ clients.yaml
@@ -7,6 +7,4 @@
     secrets:
       - sha256: @SHA256@
         expires: 2099-01-01
-      - sha256: abababababababababababababababababababababababababababababababab
-        expires: 2020-01-01 # the first one
     auth_scopes: [s]
";

/// The digest that the files have in the place of the mark.
fn with_digest(files: &Files, text: &str) -> String {
    let clients = std::fs::read_to_string(files.path("clients.yaml")).unwrap();
    let digest = clients.split("sha256: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    text.replace("@SHA256@", &digest)
}

#[test]
fn findings_have_their_evidence_and_a_patch_that_applies() {
    let files = Files::of(&Setup::new(POLICIES, CLIENTS));
    let (code, answer) = files.json(&["findings"], "");
    assert_eq!((code, &answer["counted_since"]), (1, &serde_json::Value::Null), "{answer}");
    let found = answer["findings"].as_array().unwrap();
    let rules: Vec<&str> = found.iter().map(|one| one["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["client.no_owner", "secret.expired"]);
    assert_eq!(found[0].get("patch"), None);
    let expired = &found[1];
    assert_eq!((&expired["on"], &expired["level"]), (&"crm abababab".into(), &"note".into()));
    assert_eq!(expired["evidence"], serde_json::json!(["it ended on 2020-01-01"]));
    let patch = &expired["patch"];
    let diff = with_digest(&files, DIFF);
    assert_eq!((&patch["file"], &patch["diff"]), (&"clients.yaml".into(), &diff.clone().into()));
    assert_eq!(
        patch["effect"],
        serde_json::json!({ "refused": [], "permitted": [], "in_part": 0 })
    );

    files.write("the.diff", &diff);
    let applied = Command::new("git")
        .args(["apply", "-p0", "the.diff"])
        .env("GIT_CEILING_DIRECTORIES", files.0.path().parent().unwrap())
        .current_dir(files.0.path())
        .status()
        .unwrap();
    assert!(applied.success());
    let text = std::fs::read_to_string(files.path("clients.yaml")).unwrap();
    assert_eq!(patch["text"], text);
    let (_, answer) = files.json(&["findings"], "");
    assert_eq!(answer["findings"].as_array().unwrap().len(), 1, "{answer}");
}

#[test]
fn findings_are_text_for_people_and_end_with_their_number() {
    let files = Files::of(&Setup::new(POLICIES, CLIENTS));
    let (code, text, complaints) = files.run(&["findings"], "");
    assert_eq!((code, complaints.as_str()), (1, ""));
    let diff = with_digest(&files, DIFF);
    let diff = diff.lines().fold(String::new(), |diff, line| format!("{diff}    {line}\n"));
    let expected = format!(
        "note secret.expired on crm abababab (clients.yaml:3)\n  the secret `abababab` of client \
         `crm` has expired\n  seen: it ended on 2020-01-01\n  why: it is refused, and hides which \
         secrets count\n  fix: remove it\n  patch:\n{diff}  effect: no verdict changes\n\nrequests \
         are not counted: nothing is called unused\n2 findings, 0 waived\n"
    );
    assert!(text.ends_with(&expected), "{text}\n{expected}");
    assert!(!files.run(&["findings", "--no-patches"], "").1.contains("patch:"));
}

#[test]
fn waived_findings_are_left_out_and_what_cannot_be_read_is_another_code() {
    let waivers = "waivers:
  - { rule: client.no_owner, on: crm, reason: the team dissolves, until: 2099-01-01 }
  - { rule: secret.expired, on: crm abababab, reason: r, until: 2099-01-01 }
  - { rule: client.idle, on: crm, reason: r, until: 2099-01-01 }
";
    let files = Files::of(&Setup::new(&format!("{POLICIES}{waivers}"), CLIENTS));
    let (code, text, _) = files.run(&["findings"], "");
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("\n0 findings, 2 waived\n"), "{text}");
    let (code, text, _) = files.run(&["findings", "--all"], "");
    assert!(code == 0 && text.contains("  waived: the team dissolves\n"), "{text}");
    // A check knows none of these rules' findings and calls no waiver of theirs unused.
    let (code, text, _) = files.run(&["check", "--deny", "note"], "");
    assert_eq!(code, 0, "{text}");

    files.write("policies.yaml", "apis: 1\n");
    assert_eq!(files.run(&["findings"], "").0, 2);
    std::fs::remove_file(files.path("policies.yaml")).unwrap();
    assert_eq!(files.run(&["findings"], "").0, 2);
}
