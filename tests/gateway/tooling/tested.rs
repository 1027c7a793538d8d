//! `scopegate test`, and tests at load.

use serde_json::Value;

use super::{Files, corp_token, example};
use crate::support::Gateway;
use crate::support::issuer::now;

const TESTS: &str = "tests:
  - { request: GET /api/now/table/incident, from: 10.20.1.1, token: { client: crm-sync, scopes: \
    [incident_read] }, expect: permit }
  - { request: DELETE /api/now/table/incident/7, from: 10.20.1.1, token: { client: crm-sync }, \
    expect: scope.unscoped }
  - { request: GET /api/now/table/incident/%2e%2e/sys_user, from: 10.20.1.1, token: { client: \
    crm-sync }, expect: path.ambiguous }
  - { request: GET /api/now/table/incident, expect: token.missing }
  - { request: GET /api/now/table/incident?access_token=x, expect: token.in_query }
  - { request: TRACE /api/now/table/incident, expect: operation.method }
  - { request: GET /api/now/table/incident, token: { client: nobody }, expect: client.unknown }
  - { request: GET /api/now/table/incident, token: { client: portal, subject: nobody }, expect: \
    user.inactive }
  - { request: GET /api/now/table/incident, at: 2026-11-22T10:00:00Z, token: { client: portal, \
    expires: 2026-11-22T09:00:00Z }, expect: token.invalid, fault: expired }
  - { request: GET /api/now/table/incident, token: { client: portal, audience: [x] }, expect: \
    token.invalid, fault: audience }
  - { request: POST /api/now/v2/table/incident, token: { client: portal }, expect: scope.missing }
  - { request: GET /api/now/table/incident, token: { issuer: corp, client: 9a7b-crm, roles: \
    [grp-itil], claims: { dept: it } }, expect: policy.profile }
  - { request: GET /api/now/table/incident, token: { issuer: corp, client: other }, expect: \
    client.unknown }
";

#[test]
fn the_tests_of_the_specification_pass_and_each_fails_when_it_expects_something_else() {
    let (setup, _) = example(TESTS);
    let files = Files::of(&setup);
    let (code, output, complaints) = files.run(&["test"], "");
    assert_eq!(
        (code, output.lines().next()),
        (0, Some("13 passed, 0 failed")),
        "{output}{complaints}"
    );
    for (at, line) in TESTS.lines().enumerate().skip(1) {
        // Whatever a test expects, another expectation makes it fail.
        let (before, _) = line.split_once("expect: ").unwrap();
        let other = if line.contains("expect: permit") { "acl.none" } else { "permit" };
        let changed: Vec<String> =
            TESTS
                .lines()
                .enumerate()
                .map(|(own, text)| {
                    if own == at { format!("{before}expect: {other} }}") } else { text.to_owned() }
                })
                .collect();
        files.write("policies.yaml", &format!("{}{}\n", super::POLICIES, changed.join("\n")));
        let (code, result) = files.json(&["test"], "");
        let failed: Vec<usize> =
            (0..13).filter(|own| result["tests"][own]["passed"] == false).collect();
        assert_eq!((code, failed, &result["failed"]), (1, vec![at - 1], &Value::from(1)), "{line}");
    }
}

#[test]
fn a_failure_shows_the_step_and_the_rule_in_every_form() {
    let failing = "tests:\n  - { name: the CRM writes, request: POST /api/now/table/incident, \
        from: 10.21.1.1, token: { client: crm-sync }, expect: permit }\n";
    let files = Files::of(&example(failing).0);
    let (code, output, _) = files.run(&["test"], "");
    assert_eq!(code, 1);
    for words in [
        "FAILED policies.yaml:22: the CRM writes",
        "POST /api/now/table/incident: expected permit, got policy.profile",
        "REFUSED access policy the most specific policy is `incident-callers` (policies.yaml:13)",
        "profile 1 (policies.yaml:16) does not: 10.21.1.1 is outside `from`",
        "profile 3 (policies.yaml:18) does not: `issuers` has corp, not `self`; claim `dept` is \
            absent, not it",
        "0 passed, 1 failed",
    ] {
        assert!(output.contains(words), "{words}\n{output}");
    }
    let (code, junit, _) = files.run(&["test", "--format", "junit"], "");
    assert_eq!(code, 1);
    for words in [
        "failures=\"1\"",
        "<testcase name=\"the CRM writes\" classname=\"policies.yaml\" line=\"22\">",
        "<failure message=\"expected permit, got policy.profile\">",
    ] {
        assert!(junit.contains(words), "{words}\n{junit}");
    }
    let (_, json) = files.json(&["test"], "");
    let failure = &json["tests"][0]["failure"];
    assert_eq!(failure["explanation"]["verdict"], "policy.profile");
    assert!(
        failure["explanation"]["nearest"][0].as_str().unwrap().starts_with("call from a network"),
        "{failure}"
    );
}

#[test]
fn coverage_tells_what_no_test_reaches_and_can_be_asked_for() {
    let one = "tests:\n  - { request: GET /api/now/table/incident, from: 10.20.1.1, token: { \
        client: crm-sync, scopes: [incident_read] }, expect: permit }\n";
    let files = Files::of(&example(one).0);
    let items = |files: &Files| -> Vec<(String, bool)> {
        let (_, result) = files.json(&["test"], "");
        let items = result["coverage"]["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| (item["what"].as_str().unwrap().to_owned(), item["reached"] == true))
            .collect()
    };
    let reached: Vec<String> =
        items(&files).into_iter().filter(|(_, reached)| *reached).map(|(what, _)| what).collect();
    assert_eq!(
        reached,
        [
            "`GET /table/incident` of `incident` is permitted",
            "profile 1 of policy `incident-callers` admits",
            "scope `incident_read` grants",
        ]
    );
    let (code, output, _) = files.run(&["test", "--coverage", "--min-coverage", "50"], "");
    assert!(code == 1 && output.contains("coverage is below 50 %"), "{output}");
    assert!(output.contains("not reached: policies.yaml:20: the ACL refuses"), "{output}");
    assert!(output.contains("not reached: `scope.missing` is given"), "{output}");
    assert_eq!(files.run(&["test", "--min-coverage", "5"], "").0, 0);
    // All that there is can be reached.
    let all = "tests:
  - { request: GET /api/now/table/incident, from: 10.20.1.1, token: { client: crm-sync }, expect: \
    permit }
  - { request: POST /api/now/table/incident, from: 10.20.1.1, token: { client: crm-sync }, expect: \
    permit }
  - { request: GET /api/now/table/incident, token: { client: portal, scopes: [] }, expect: \
    scope.missing }
  - { request: POST /api/now/table/incident, token: { client: crm-sync }, expect: policy.profile }
  - { request: GET /api/now/table/incident/7, token: { client: portal }, expect: permit }
  - { request: GET /api/now/table/incident/7, expect: token.missing }
  - { request: PUT /api/now/table/incident/7, from: 10.20.1.1, token: { client: crm-sync }, \
    expect: permit }
  - { request: PUT /api/now/table/incident/7, expect: token.missing }
  - { request: PATCH /api/now/table/incident/7, from: 10.20.1.1, token: { client: crm-sync }, \
    expect: permit }
  - { request: PATCH /api/now/table/incident/7, expect: token.missing }
  - { request: DELETE /api/now/table/incident/7, token: { client: portal }, expect: scope.unscoped }
  - { request: DELETE /api/now/table/incident/7, token: { client: open }, expect: acl.role }
  - { request: DELETE /api/now/table/incident/7, token: { client: admin }, expect: permit }
  - { request: GET /api/now/table/incident, token: { client: limited }, expect: scope.limited }
  - { request: GET /api/now/table/incident/7, token: { issuer: corp, client: crm, roles: \
    [grp-itil], claims: { dept: it } }, expect: permit }
  - { request: GET /other, token: { client: crm-sync }, expect: policy.none }
  - { request: GET /other, token: { client: portal }, expect: permit }
";
    let policies = super::POLICIES
        .replace(
            "apis:\n",
            "apis:\n  other: { base_path: /other, upstream: api, resources: { /: [GET] } }\n"
                .replace("/: [GET]", "\"\": [GET]")
                .replace("\"\"", "/x")
                .as_str(),
        )
        .replace("clients: [portal]", "clients: [portal, open, admin, limited]")
        .replace("incident_read: { grants: [", "incident_read: { grants: [{ api: other }, ");
    let all = all.replace("GET /other", "GET /other/x");
    files.write("policies.yaml", &format!("{policies}{all}"));
    let clients = std::fs::read_to_string(files.0.path().join("clients.yaml")).unwrap();
    let more = "  open: { grants: [], public_client: true, allow_only_selected_scopes: false }
  admin: { grants: [], public_client: true, allow_only_selected_scopes: false, roles: [itil_admin] }
  limited: { grants: [], public_client: true, limit_authorization: [other] }
  by-corp: { grants: [], public_client: true, auth_scopes: [incident_read], external: { corp: \
    [crm] } }
";
    files.write("clients.yaml", &format!("{clients}{more}"));
    let missed: Vec<(String, bool)> =
        items(&files).into_iter().filter(|(_, reached)| !reached).collect();
    assert_eq!(missed, []);
    assert_eq!(files.run(&["test", "--min-coverage", "100"], "").0, 0);
}

#[test]
fn a_real_token_is_verified_with_keys_out_of_a_file() {
    let real = "tests:\n  - { request: GET /api/now/table/incident, from: 10.20.1.1, token: \
        file:token.jwt, expect: @EXPECT@ }\n";
    let (mut setup, key) = example(&real.replace("@EXPECT@", "permit"));
    setup.clients = setup
        .clients
        .replace("enforce_token_restriction: true", "enforce_token_restriction: false");
    setup.files.push(("token.jwt".to_owned(), corp_token(&key, now() + 300)));
    let files = Files::of(&setup);
    let (code, output, complaints) = files.run(&["test"], "");
    assert_eq!(code, 0, "{output}{complaints}");
    let other = crate::support::issuer::Key::p256("k1");
    for (token, fault) in [
        (corp_token(&key, now() - 300), "expired"),
        (corp_token(&other, now() + 300), "signature"),
        (corp_token(&key, now() + 300).replace('.', ".."), "form"),
    ] {
        files.write("token.jwt", &token);
        files.write(
            "policies.yaml",
            &format!(
                "{}{}",
                super::POLICIES,
                real.replace("@EXPECT@", &format!("token.invalid, fault: {fault}"))
            ),
        );
        let (code, output, complaints) = files.run(&["test"], "");
        assert_eq!(code, 0, "{fault}: {output}{complaints}");
        let shown = [output, complaints, files.run(&["check"], "").1].concat();
        assert!(!shown.contains(&token), "a token is printed");
    }
}

#[test]
fn tests_at_load_refuse_a_set_that_fails_them_and_the_old_one_serves() {
    let (mut setup, _) = example(TESTS);
    setup.gateway.push_str("run_tests_at_load: true\n");
    let gateway = Gateway::start(&setup);
    let good = std::fs::read_to_string(gateway.folder.path().join("policies.yaml")).unwrap();
    gateway.rewrite("policies.yaml", &good.replace("methods: [GET] }] }", "methods: [POST] }] }"));
    assert!(!gateway.reload());
    gateway.wait_for_log(&["fails: expected permit, got scope."]);
    let token = gateway.token("portal");
    assert_eq!(gateway.get("/api/now/table/incident", Some(&token)).status, 200);
    // `check` says so too, at the test; `test` itself shows it as a failure.
    let run = |command: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args([command, "--config", "gateway.yaml"])
            .current_dir(gateway.folder.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = run("check");
    assert!(
        code == Some(1) && said.contains("policies.yaml:22") && said.contains("got scope."),
        "{said}"
    );
    let (code, said) = run("test");
    assert!(code == Some(1) && said.contains("FAILED policies.yaml:22"), "{said}");
    gateway.rewrite("policies.yaml", &good);
    assert!(gateway.reload());
}

#[test]
fn what_no_test_could_mean_is_a_fault_at_its_place() {
    let files = Files::of(&example("").0);
    for (test, words) in [
        ("{ request: /api/now, expect: permit }", "is not a method and a path"),
        ("{ request: \"GET /a\\r\\nX: y\", expect: permit }", "control characters"),
        ("{ request: GET /a, expect: limit.rate }", "`limit.rate` is not one of the choices"),
        ("{ request: GET /a, expect: permitt }", "did you mean `permit`?"),
        (
            "{ request: GET /a, expect: permit, fault: expired }",
            "`fault` without `expect: token.invalid`",
        ),
        (
            "{ request: GET /a, expect: permit, token: { client: a, roles: [x] } }",
            "says nothing of roles",
        ),
        ("{ request: GET /a, expect: permit, token: {} }", "a token of our own is of a client"),
        (
            "{ request: GET /a, expect: permit, token: { issuer: cor, client: x } }",
            "there is no issuer `cor`",
        ),
        (
            "{ request: GET /a, expect: permit, token: { client: a, scopes: [\"a b\"] } }",
            "`a b` is not a scope",
        ),
        ("{ request: GET /a, expect: permit, from: 10.0.0.0/8 }", "is not an IP address"),
        ("{ request: GET /a, expect: permit, at: tomorrow }", "is not a moment"),
        ("{ request: GET /a, expect: permit, token: eyJhbGciOiJub25lIn0.e30. }", "secret"),
        ("{ request: GET /a, expect: permit, token: file:nowhere }", "nowhere"),
        // Read as a reference to a secret: what stands there is no token, and it is not repeated.
        ("{ request: GET /a, expect: permit, token: env:PATH }", "it is no token"),
        (
            "{ request: GET /a, expect: permit, token: env:NO_SUCH_VARIABLE }",
            "no variable `NO_SUCH_VARIABLE`",
        ),
    ] {
        files.write("policies.yaml", &format!("{}tests:\n  - {test}\n", super::POLICIES));
        let (code, _, complaints) = files.run(&["test"], "");
        assert!(code == 1 && complaints.contains(words), "{test}: {code} {complaints}");
        assert!(complaints.contains("policies.yaml:22"), "{complaints}");
    }
}
