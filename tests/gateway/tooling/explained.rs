//! `scopegate explain`.

use serde_json::Value;

use super::{Files, corp_token, example};
use crate::support::Gateway;
use crate::support::issuer::now;

/// The steps and what came of them.
fn results(explanation: &Value) -> Vec<(String, String)> {
    let steps = explanation["steps"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps.iter().map(|step| (text(&step["step"]), text(&step["result"]))).collect()
}

#[test]
fn every_step_is_told_with_its_rules_and_what_would_permit() {
    let files = Files::of(&example("").0);
    let explain = |arguments: &[&str]| {
        let (code, told) = files.json(&[&["explain"], arguments].concat(), "");
        assert_eq!(code, 0, "{told}");
        told["explanation"].clone()
    };
    let permitted = explain(&[
        "GET /api/now/v1/table/incident/7",
        "--client",
        "crm-sync",
        "--from",
        "10.20.1.1",
    ]);
    assert_eq!(permitted["verdict"], "permit");
    assert!(results(&permitted).iter().all(|(_, result)| result == "passed"), "{permitted}");
    assert_eq!(
        permitted["rules"],
        serde_json::json!(["policy incident-callers (policies.yaml:16)", "scope incident_read"])
    );
    assert_eq!(permitted["nearest"], serde_json::json!([]));

    let refused = explain(&[
        "DELETE /api/now/table/incident/7",
        "--client",
        "crm-sync",
        "--from",
        "10.9.1.1",
    ]);
    assert_eq!(refused["verdict"], "policy.profile");
    assert_eq!(refused["rules"], serde_json::json!(["policy incident-callers (policies.yaml:13)"]));
    let results = results(&refused);
    let place = results.iter().position(|(step, _)| step == "access policy").unwrap();
    for (at, (step, result)) in results.iter().enumerate() {
        let expect = match at.cmp(&place) {
            std::cmp::Ordering::Less => "passed",
            std::cmp::Ordering::Equal => "refused",
            std::cmp::Ordering::Greater => "not_reached",
        };
        assert_eq!(result, expect, "{step}");
    }
    assert_eq!(
        refused["nearest"],
        serde_json::json!([
            "call from a network under `from` of profile 1 of policy `incident-callers` \
                (policies.yaml:16), or add 10.9.1.1 to it",
            "let the scope `incident_write` (policies.yaml:11) grant DELETE \
                /table/incident/{sys_id} of API `incident`",
            "give role `itil_admin` to user `svc.crm` (users.yaml:1)",
        ])
    );
    for (arguments, verdict, nearest) in [
        (
            vec!["POST /api/now/table/incident", "--client", "portal"],
            "scope.missing",
            "grant `incident_write` to client `portal` (clients.yaml:10)",
        ),
        (
            vec!["GET /api/now/table/incident", "--client", "portal", "--scopes", ""],
            "scope.missing",
            "ask for the scope `incident_read` with the token",
        ),
        (vec!["GET /api/now/table/incident", "--client", "nobody"], "client.unknown", ""),
        (vec!["GET /api/now/table/incident"], "token.missing", ""),
        (vec!["GET /nowhere", "--client", "portal"], "operation.unknown", ""),
        (vec!["GET /api/now/../x", "--client", "portal"], "path.ambiguous", ""),
        (
            vec![
                "GET /api/now/table/incident",
                "--issuer",
                "corp",
                "--client",
                "9a7b-crm",
                "--role",
                "grp-itil",
            ],
            "policy.profile",
            "have the issuer set claim `dept` to `it`",
        ),
    ] {
        let told = explain(&arguments);
        assert_eq!(told["verdict"], verdict, "{arguments:?}");
        assert!(
            told["nearest"].to_string().contains(nearest),
            "{arguments:?}: {}",
            told["nearest"]
        );
        assert_eq!(
            told["nearest"] == serde_json::json!([]),
            nearest.is_empty(),
            "{arguments:?}: {}",
            told["nearest"]
        );
    }
    // For people, with the marks.
    let (_, text, _) = files.run(
        &["explain", "GET /api/now/table/incident", "--client", "portal", "--scopes", "x"],
        "",
    );
    assert!(text.starts_with("scope.missing\n") && text.contains("REFUSED auth scope"), "{text}");
    for wrong in [
        vec!["explain", "nonsense"],
        vec!["explain"],
        vec!["explain", "GET /x", "--issuer", "nobody", "--client", "x"],
        vec!["explain", "GET /x", "--client", "x", "--claim", "y"],
    ] {
        assert_eq!(files.run(&wrong, "").0, 2, "{wrong:?}");
    }
}

#[test]
fn a_real_token_is_read_from_standard_input_and_never_printed() {
    let (mut setup, key) = example("");
    setup.clients = setup
        .clients
        .replace("enforce_token_restriction: true", "enforce_token_restriction: false");
    let gateway = Gateway::start(&setup);
    let token = gateway.token("portal");
    let files = Files(tempfile::tempdir().unwrap());
    let command = |input: &str, more: &[&str]| {
        use std::io::Write;
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["explain", "GET /api/now/table/incident", "--token", "--config"])
            .arg(gateway.folder.path().join("gateway.yaml"))
            .args(more)
            .current_dir(files.0.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains(input.trim()), "the token is printed: {text}");
        text
    };
    assert!(command(&token, &[]).starts_with("permit\n"));
    // Over a store that is shared, keys are there too; in any case the token that is revoked is
    // told as that.
    let corp = corp_token(&key, now() + 300);
    assert!(command(&corp, &["--from", "10.20.1.1"]).starts_with("permit\n"));
    let expired = command(&corp_token(&key, now() - 300), &[]);
    assert!(expired.starts_with("token.invalid (expired: exp is "), "{expired}");
    let other = crate::support::issuer::Key::p256("k1");
    assert!(
        command(&corp_token(&other, now() + 300), &[]).starts_with("token.invalid (signature)\n")
    );
    gateway
        .store()
        .revoke_now(
            scopegate::store::revocations::Revocation::now(
                scopegate::store::revocations::Subject::Client("portal".to_owned()),
                scopegate::system::clock::now(),
            ),
            None,
        )
        .unwrap();
    assert!(command(&token, &[]).starts_with("token.invalid (revoked)\n"));
}

#[test]
fn a_decision_is_explained_out_of_the_log_by_its_id() {
    let (setup, _) = example("");
    let gateway = Gateway::start(&setup);
    let token = gateway.token("portal");
    let refused = gateway.call("POST", "/api/now/table/incident", Some(&token));
    let permitted = gateway.get("/api/now/v2/table/incident/7", Some(&token));
    let unknown = gateway.get("/nowhere", Some(&token));
    let explain = |id: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["explain", "--decision", id, "--config"])
            .arg(gateway.folder.path().join("gateway.yaml"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let id =
        |response: &crate::support::Response| response.header("x-decision-id").unwrap().to_owned();
    for response in [&refused, &permitted, &unknown] {
        gateway.record(&id(response));
    }
    // A line that is no text, as a torn write leaves it, hides none behind it.
    let log = gateway.folder.path().join("decisions.jsonl");
    let whole = [b"\xff\xfe\n".as_slice(), &std::fs::read(&log).unwrap()].concat();
    std::fs::write(&log, whole).unwrap();
    let (code, told) = explain(&id(&refused));
    assert!(
        code == Some(0) && told.contains(": scope.missing\n") && told.contains("\nscope.missing\n"),
        "{told}"
    );
    assert!(told.contains("grant `incident_write` to client `portal`"), "{told}");
    let (code, told) = explain(&id(&permitted));
    assert!(
        code == Some(0) && told.contains("\npermit\n") && told.contains("version v2"),
        "{told}"
    );
    let (code, told) = explain(&id(&unknown));
    assert!(code == Some(0) && told.contains("no operation was matched"), "{told}");
    let (code, told) = explain("0000000000000000");
    assert!(code == Some(2) && told.contains("there is no decision"), "{told}");
}

#[test]
fn every_decision_is_explained_from_its_record_those_that_nobody_was_identified_for_too() {
    let (setup, _) = example("");
    let gateway = Gateway::start(&setup);
    let id =
        |response: &crate::support::Response| response.header("x-decision-id").unwrap().to_owned();
    let secret = "s".repeat(60);
    let long = format!("/nowhere/at/{secret}?token=1");
    let token_request = |client: &str| {
        let form =
            format!("grant_type=client_credentials&client_id={client}&client_secret={secret}");
        gateway.send(crate::support::http::form("/oauth2/token", &[], &form))
    };
    let (named, nobody) = (token_request("portal"), token_request("nobody"));
    let cases = [
        (gateway.get("/nowhere", None), "operation.unknown", "base_path", "/nowhere"),
        (gateway.get(&long, None), "operation.unknown", "base_path", "/nowhere/at/…"),
        (gateway.get("/api/now/table/incident", None), "token.missing", "Bearer TOKEN", "incident"),
        (
            gateway.get("/api/now/table/incident", Some("a.b.c")),
            "token.invalid",
            "fault: form",
            "not judged again",
        ),
        (named, "invalid_client", "rotate-secret", "claimed_client portal"),
        (nobody, "invalid_client", "rotate-secret", "/oauth2/token"),
    ];
    for (response, reason, helps, shown) in &cases {
        let record = gateway.record(&id(response));
        assert!(!record.to_string().contains(&secret) && !record.to_string().contains("nobody"));
        let told = explained(&gateway, &id(response), "text");
        for text in [*reason, *helps, *shown, "remedy: "] {
            assert!(told.contains(text), "{text}: {told}");
        }
    }
    let told: Value = serde_json::from_str(&explained(&gateway, &id(&cases[0].0), "json")).unwrap();
    assert_eq!((&told["record"]["path"], &told["explanation"]), (&"/nowhere".into(), &Value::Null));
    assert_eq!(told["record"]["host"], "127.0.0.1");
    assert!(told["remedy"].is_string() && told["not_judged_again"].is_string(), "{told}");
}

/// What `explain` tells of a decision, with the log on standard input.
fn explained(gateway: &Gateway, id: &str, format: &str) -> String {
    let log = std::fs::File::open(gateway.folder.path().join("decisions.jsonl")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["explain", "--decision", id, "--log", "-", "--format", format, "--config"])
        .arg(gateway.folder.path().join("gateway.yaml"))
        .stdin(log)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_running_gateway_explains_with_what_is_in_force_there() {
    let (mut setup, key) = example("");
    setup.clients = setup
        .clients
        .replace("enforce_token_restriction: true", "enforce_token_restriction: false");
    let [admin] = crate::support::free_addresses();
    setup.gateway.push_str(&format!("admin: {{ address: \"{admin}\", token: file:admin }}\n"));
    setup.files.push(("admin".to_owned(), "a".repeat(43)));
    let gateway = Gateway::start(&setup);
    let ask = |bearer: &str, body: &Value| {
        let body = body.to_string();
        let request = format!(
            "POST /explain HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \
                {bearer}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        crate::support::send(admin, request)
    };
    let told = |body: &Value| {
        let response = ask(&"a".repeat(43), body);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["explanation"].clone()
    };
    let question = |token: Value| {
        let mut question =
            serde_json::json!({ "request": "GET /api/now/table/incident", "from": "10.20.1.1" });
        question.as_object_mut().unwrap().extend(token.as_object().unwrap().clone());
        question
    };
    let portal = gateway.token("portal");
    let by_token = question(serde_json::json!({ "bearer": portal }));
    assert_eq!(told(&by_token)["verdict"], "permit");
    assert_eq!(
        told(&question(serde_json::json!({ "bearer": corp_token(&key, now() + 300) })))["verdict"],
        "permit"
    );
    let words = question(serde_json::json!({ "token": { "client": "portal", "scopes": [] } }));
    let explanation = told(&words);
    assert_eq!(explanation["verdict"], "scope.missing");
    assert!(
        explanation["nearest"][0]
            .as_str()
            .unwrap()
            .starts_with("ask for the scope `incident_read`"),
        "{explanation}"
    );
    assert_eq!(told(&question(serde_json::json!({})))["verdict"], "token.missing");
    // A block by command is in force here.
    let blocked = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["block", "--client", "portal", "--config"])
        .arg(gateway.folder.path().join("gateway.yaml"))
        .output()
        .unwrap();
    assert!(blocked.status.success(), "{blocked:?}");
    crate::support::wait_for("the block", || {
        (told(&by_token)["verdict"] == "blocked.client").then_some(())
    });

    assert_eq!(ask("wrong", &by_token).status, 401);
    let both = question(serde_json::json!({ "bearer": portal, "token": { "client": "x" } }));
    for (body, words) in [
        (both, "one of them"),
        (serde_json::json!({ "request": "nonsense" }), "is not a method and a path"),
        (
            serde_json::json!({ "request": "GET /x", "token": {} }),
            "a token of our own is of a client",
        ),
        (serde_json::json!({ "request": "GET /x", "bearer": "a b" }), "bearer"),
        (serde_json::json!({ "request": "GET /x", "nonsense": 1 }), ""),
    ] {
        let response = ask(&"a".repeat(43), &body);
        assert!(
            (400..500).contains(&response.status) && response.body.contains(words),
            "{body}: {response:?}"
        );
    }
    assert!(!gateway.log().contains(&portal), "a token is in the log");
}
