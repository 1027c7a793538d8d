//! Every act has its record, whoever does it and however.

use serde_json::{Value, json};

use super::{Console, SHARED};
use crate::commands::run;
use crate::support::wait_for;

/// The records but for their time and number.
fn text(record: &Value) -> String {
    let part = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
    let parts = ["who", "via", "from", "act", "on", "outcome"].map(part);
    parts.join(" | ")
}

#[test]
fn every_act_of_the_console_and_of_commands_has_its_record_and_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.jsonl");
    let console = Console::start_with(|setup| {
        setup.gateway.push_str(&format!("audit_log: {{ file: \"{}\" }}\n", log.display()));
    });
    // The export begins with the records that come after its first look.
    wait_for("the export to have begun", || {
        console.sign_in("otto");
        std::fs::metadata(&log).ok().filter(|file| file.len() > 0).map(drop)
    });
    let before = console.audit().len();
    let done = |act: Value| {
        let answer = console.act("otto", &act);
        assert_eq!(answer.status, 200, "{act}: {answer:?}");
        let answer = answer.json();
        assert_eq!(answer["recorded"], true, "{answer}");
    };
    let by =
        |act: &str, on: &str| format!("otto | token pipeline | 127.0.0.1 | {act} | {on} | done");
    let mut expected = Vec::new();
    let acts = [
        (
            json!({ "act": "block", "kind": "client", "value": "crm", "reason": "leaked",
                "for": "1h" }),
            by("block", "client `crm`"),
        ),
        (
            json!({ "act": "unblock", "kind": "client", "value": "crm" }),
            by("unblock", "client `crm`"),
        ),
        (
            json!({ "act": "block", "kind": "network", "value": "198.51.100.0/24" }),
            by("block", "network `198.51.100.0/24`"),
        ),
        (json!({ "act": "revoke", "kind": "client", "value": "crm" }), by("revoke", "client crm")),
        (json!({ "act": "revoke", "kind": "all" }), by("revoke", "everything")),
        (
            json!({ "act": "clear-attempts", "kind": "client", "value": "crm" }),
            by("clear-attempts", "client crm"),
        ),
        (json!({ "act": "rotate-key" }), by("rotate-key", "ES256")),
    ];
    for (act, line) in acts {
        done(act);
        expected.push(line);
    }
    let keys = console.api("otto", "operations").json()["own_keys"].clone();
    let next = keys.as_array().unwrap().iter().find(|key| key["state"] == "next").unwrap();
    let kid = next["kid"].as_str().unwrap();
    done(json!({ "act": "revoke-key", "value": kid }));
    expected.push(by("revoke-key", kid));
    done(json!({ "act": "reload" }));
    expected.push(by("reload", "configuration"));
    let answer = console.post_api("eddi", "integrations", &super::draft("new-one"));
    assert_eq!(answer.status, 201, "{answer:?}");
    let created = "eddi | token pipeline | 127.0.0.1 | create-client | new-one.yaml | done";
    expected.push(created.to_owned());
    // From a page, and by the shared token.
    let session = console.sign_in("otto");
    expected.push("otto | password | 127.0.0.1 | sign-in | console | done".to_owned());
    let fields = [("act", "block"), ("kind", "client"), ("value", "off")];
    assert_eq!(session.post("/acts", &fields).status, 303);
    expected.push("otto | session | 127.0.0.1 | block | client `off` | done".to_owned());
    session.post("/sign-out", &[]);
    expected.push("otto | session | 127.0.0.1 | sign-out | console | done".to_owned());
    let shared = format!("Bearer {SHARED}");
    let body = Some(("application/json", "{\"client\":\"off\"}"));
    let answer = console.ask("POST", "/revoke", &[("Authorization", &shared)], body);
    assert_eq!(answer.status, 200, "{answer:?}");
    expected.push("token | shared token | 127.0.0.1 | revoke | client off | done".to_owned());
    let listed =
        |records: &[Value]| -> Vec<String> { records.iter().skip(before).map(text).collect() };
    assert_eq!(listed(&console.audit()), expected);

    // What is refused leaves no record of having been done.
    for act in [
        json!({ "act": "block", "kind": "client", "value": "nobody" }),
        json!({ "act": "block", "kind": "client", "value": "crm", "for": "0s" }),
        json!({ "act": "block", "kind": "planet", "value": "crm" }),
        json!({ "act": "unblock", "kind": "client", "value": "crm" }),
        json!({ "act": "revoke-key", "value": "nothing" }),
        json!({ "act": "revoke", "kind": "client" }),
        json!({ "act": "block", "kind": "client", "value": "crm", "also": "x" }),
        json!({ "act": "explode" }),
    ] {
        let answer = console.act("otto", &act);
        assert_eq!(answer.status, 422, "{act}: {answer:?}");
        let of = answer.header("content-type");
        assert_eq!(of, Some("application/problem+json"), "{act}: {answer:?}");
    }
    assert_eq!(console.act("vera", &json!({ "act": "reload" })).status, 403);
    assert_eq!(listed(&console.audit()), expected);

    // The commands, by whoever is signed in to the system.
    let user = scopegate::system::process::user();
    for (arguments, act, on) in [
        (vec!["block", "--client", "crm", "--reason", "drill"], "block", "client `crm`"),
        (vec!["unblock", "--client", "crm"], "unblock", "client `crm`"),
        (vec!["token", "revoke", "--client", "crm"], "revoke", "client crm"),
        (vec!["key", "rotate"], "rotate-key", "ES256"),
        (vec!["attempts", "clear", "--all"], "clear-attempts", "all"),
    ] {
        let (code, output, complaints) = run(&console.gateway, &arguments, "");
        assert_eq!(code, 0, "{arguments:?}: {output}{complaints}");
        expected.push(format!("{user} | command | - | {act} | {on} | done"));
    }
    let keys = console.api("otto", "operations").json()["own_keys"].clone();
    let next = keys.as_array().unwrap().iter().find(|key| key["state"] == "next").unwrap();
    let kid = next["kid"].as_str().unwrap();
    let (code, output, complaints) = run(&console.gateway, &["key", "revoke", kid], "");
    assert_eq!(code, 0, "{output}{complaints}");
    expected.push(format!("{user} | command | - | revoke-key | {kid} | done"));
    assert_eq!(listed(&console.audit()), expected);

    // The export has the same, in the same order.
    let exported = wait_for("the export", || {
        let text = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.iter().rev().take(expected.len()).rev();
        let last: Vec<String> = last.map(self::text).collect();
        (last == expected).then_some(lines)
    });
    assert!(exported.iter().all(|record| record["at"].as_i64() > Some(1_700_000_000)));
}

/// What an act says is done is done: to the requests of the public listener.
#[test]
fn acts_take_effect_on_requests() {
    let console = Console::start();
    let token = console.gateway.token("crm");
    let verdict = |wanted: &str| {
        wait_for(wanted, || {
            (console.call("GET", "/orders/1", Some(&token)).verdict() == wanted).then_some(())
        });
    };
    verdict("permit");
    let act = |act: Value| assert_eq!(console.act("otto", &act).status, 200, "{act}");
    act(json!({ "act": "block", "kind": "client", "value": "crm" }));
    verdict("blocked.client");
    let page = console.sign_in("vera").get("/integrations/crm");
    assert!(page.body.contains("It is blocked"), "{}", page.body);
    act(json!({ "act": "unblock", "kind": "client", "value": "crm" }));
    verdict("permit");
    act(json!({ "act": "revoke", "kind": "client", "value": "crm" }));
    verdict("token.invalid");
}

/// Where the store takes no record, nothing is done that is not on record; but whoever has to stop
/// somebody can.
#[test]
fn what_only_takes_away_goes_through_without_a_record_and_all_else_is_refused() {
    let console = Console::start();
    let block = json!({ "act": "block", "kind": "client", "value": "off" });
    assert_eq!(console.act("eddi", &block).status, 200);
    let before = console.audit();
    let database =
        rusqlite::Connection::open(console.gateway.folder.path().join("data/scopegate.db"))
            .unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'full'); END",
        )
        .unwrap();
    for act in [
        json!({ "act": "block", "kind": "client", "value": "crm" }),
        json!({ "act": "revoke", "kind": "client", "value": "crm" }),
    ] {
        let answer = console.act("eddi", &act);
        assert_eq!(answer.status, 200, "{act}: {answer:?}");
        assert_eq!(answer.json()["recorded"], false, "{act}: {answer:?}");
    }
    let blocks = console.api("eddi", "operations").json()["blocks"].clone();
    assert_eq!(blocks.as_array().unwrap().len(), 2, "{blocks}");
    console.gateway.wait_for_log(&["audit record could not be stored", "eddi", "block"]);
    // The page says it, too.
    let session = console.sign_in("eddi");
    let fields = [("act", "block"), ("kind", "client"), ("value", "nightly")];
    let answer = session.post("/acts", &fields);
    let location = answer.header("location").unwrap();
    assert!(location.contains("record+could+not+be+written"), "{location}");

    let keys = console.api("eddi", "operations").json()["own_keys"].clone();
    for act in [
        json!({ "act": "unblock", "kind": "client", "value": "off" }),
        json!({ "act": "rotate-key" }),
        json!({ "act": "clear-attempts", "kind": "all" }),
        json!({ "act": "reload" }),
    ] {
        let answer = console.act("eddi", &act);
        assert_eq!(answer.status, 503, "{act}: {answer:?}");
    }
    let answer = console.post_api("eddi", "integrations", &super::draft("new-one"));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!console.gateway.folder.path().join("clients/new-one.yaml").exists());
    let now = console.api("eddi", "operations").json();
    assert_eq!(now["own_keys"], keys);
    let blocked = now["blocks"].as_array().unwrap().iter();
    assert!(blocked.clone().any(|block| block["value"] == "off"), "{now}");
    assert_eq!(console.audit(), before);
}
