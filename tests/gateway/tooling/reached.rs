//! `scopegate access`.

use std::process::Command;

use serde_json::{Value, json};

use super::{Files, example};
use crate::support::Setup;

/// The example, with somebody whose token another issuer mints, and a name that is no name.
fn setup() -> Setup {
    let (mut setup, _) = example("");
    setup.clients.push_str(
        "  \"by-<script>alert(1)</script>\":\n    public_client: true\n    grants: []\n    \
            auth_scopes: [incident_read]\n    external: { corp: [c1] }\n",
    );
    setup
}

/// A log in which the portal has read one record.
fn log() -> String {
    let record = |time: &str, method: &str, verdict: &str| {
        json!({
            "v": 1, "id": "x", "time": time, "method": method, "api": "incident",
                "resource": "/table/incident",
            "issuer": "self", "client": "portal", "subject": "portal", "scopes": "incident_read",
                "verdict": verdict,
            "rules": ["policy incident-callers (policies.yaml:17)", "scope \
                incident_read"], "set": "x",
        })
        .to_string()
    };
    [
        record("2026-01-20T10:00:00Z", "GET", "permit"),
        record("2026-01-21T10:00:00Z", "HEAD", "permit"),
        record("2026-01-22T10:00:00Z", "GET", "refuse"),
    ]
    .join("\n")
}

fn rows(access: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reach = access["access"]["reach"].as_array().unwrap();
    reach
        .iter()
        .map(|row| {
            format!("{} {} {}", text(&row["caller"]), text(&row["method"]), text(&row["resource"]))
        })
        .collect()
}

#[test]
fn what_each_caller_reaches_is_told_with_rules_and_circumstances() {
    let files = Files::of(&setup());
    let (code, told) = files.json(&["access"], "");
    assert_eq!(code, 0);
    let unversioned: Vec<Value> = told["access"]["reach"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["version"].is_null())
        .cloned()
        .collect();
    let told = json!({ "access": { "reach": unversioned } });
    let rest = "by-<script>alert(1)</script> by corp";
    assert_eq!(
        rows(&told),
        [
            format!("{rest} GET /table/incident"),
            format!("{rest} GET /table/incident/{{sys_id}}"),
            "crm-sync GET /table/incident".to_owned(),
            "crm-sync POST /table/incident".to_owned(),
            "crm-sync GET /table/incident/{sys_id}".to_owned(),
            "crm-sync PATCH /table/incident/{sys_id}".to_owned(),
            "crm-sync PUT /table/incident/{sys_id}".to_owned(),
            "portal GET /table/incident".to_owned(),
            "portal GET /table/incident/{sys_id}".to_owned(),
        ]
    );
    let row = &told["access"]["reach"][3];
    assert_eq!(
        row["by"],
        json!(["policy incident-callers (policies.yaml:16)", "scope incident_write"])
    );
    assert_eq!((&row["only"], &row["roles"]), (&json!(["from 10.20.0.0/16"]), &json!(["itil"])));
    let row = &told["access"]["reach"][0];
    assert_eq!(
        (&row["only"], &row["roles"]),
        (&json!(["roles: any of itil", "claim dept: it"]), &json!(["itil"]))
    );

    let count =
        |arguments: &[&str]| rows(&files.json(&[&["access"], arguments].concat(), "").1).len();
    assert_eq!(count(&["--client", "portal"]), 6);
    assert_eq!(count(&["--role", "itil"]), 21);
    for (filter, name) in [("--api", "API"), ("--client", "client"), ("--role", "role")] {
        let (code, _, complaints) = files.run(&["access", filter, "other"], "");
        assert!(
            code == 2 && complaints.contains(&format!("there is no {name} `other`")),
            "{complaints}"
        );
    }
    let (_, text, _) = files.run(&["access", "--client", "crm-sync"], "");
    assert!(
        text.starts_with(
            "crm-sync\n  incident: GET,POST /table/incident; GET,PATCH,PUT \
            /table/incident/{sys_id}; GET,POST /v1/table/incident; "
        ),
        "{text}"
    );
}

#[test]
fn what_is_granted_and_not_made_use_of_is_told_from_a_log() {
    let files = Files::of(&setup());
    files.write("log", &log());
    let (_, told) = files.json(&["access", "--log", "log", "--client", "portal"], "");
    let used: Vec<&Value> =
        told["access"]["reach"].as_array().unwrap().iter().map(|row| &row["used"]).collect();
    // The log does not tell versions apart that a client might use: the record names none.
    assert!(
        used.iter().any(|used| **used == json!({ "requests": 2, "last": "2026-01-21T10:00:00Z" })),
        "{used:?}"
    );
    assert!(used.iter().any(|used| **used == json!({ "requests": 0 })), "{used:?}");
    assert_eq!(told["access"]["idle"], Value::Null);
    let (_, told) = files.json(&["access", "--log", "log"], "");
    let idle: Vec<String> = told["access"]["idle"]
        .as_array()
        .unwrap()
        .iter()
        .map(|idle| {
            format!("{} {}", idle["client"].as_str().unwrap(), idle["scope"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        idle,
        [
            "by-<script>alert(1)</script> incident_read",
            "crm-sync incident_read",
            "crm-sync incident_write"
        ]
    );
    let (_, text, _) = files.run(&["access", "--log", "log", "--unused"], "");
    assert!(
        text.contains("(from 10.20.0.0/16; not used)")
            && text.contains("crm-sync: incident_read, incident_write"),
        "{text}"
    );
    // Long ago is not lately: the records are from the past whenever this runs.
    let (_, told) =
        files.json(&["access", "--log", "log", "--days", "1", "--client", "portal"], "");
    let lately = told["access"]["reach"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["used"]["requests"] != 0)
        .count();
    assert_eq!(lately, 0, "{told}");
    let (_, told) =
        files.json(&["access", "--log", "log", "--days", "65535", "--client", "portal"], "");
    assert!(
        told["access"]["reach"].as_array().unwrap().iter().any(|row| row["used"]["requests"] == 2),
        "{told}"
    );
    assert_eq!(files.run(&["access", "--log", "nowhere"], "").0, 2);
    assert_eq!(files.run(&["access", "--days", "3"], "").0, 2);
}

#[test]
fn what_is_reached_at_other_times_from_other_places_and_with_some_values_is_told() {
    let mut setup = Setup::new(
        "apis:
  a: { base_path: /a, upstream: api, resources: { \"/{t}\": [GET], \"/f/{*rest}\": [GET] } }
auth_scopes:
  some: { grants: [{ api: a, resources: [\"/{t}\"], where: { t: [p, q r] } }] }
  all: { grants: [{ api: a, resources: [\"/{t}\"] }] }
  files: { grants: [{ api: a, resources: [\"/f/{*rest}\"] }] }
access_policies:
  p:
    api: a
    allow:
      - { clients: [night], between: { days: [@DAY@], hours: \"02:00-03:00\" } }
      - { clients: [inside], from: [10.20.0.0/16] }
      - { clients: [one, both] }
blocks: [{ from: [10.20.0.0/24] }]
",
        "clients:
  night: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [all] }
  inside: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [all] }
  one: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [some, files] }
  both: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [all, some] }
",
    );
    // Not today, whenever this runs.
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).weekday();
    let day = if today == jiff::civil::Weekday::Monday { "thu" } else { "mon" };
    setup.policies = setup.policies.replace("@DAY@", day);
    let (code, told) = Files::of(&setup).json(&["access"], "");
    assert_eq!((code, &told["access"]["in_part"]), (0, &json!(0)));
    let row = |row: &Value| {
        format!("{} {} {}", row["caller"], row["resource"], row["only"]).replace('"', "")
    };
    let rows: Vec<String> = told["access"]["reach"].as_array().unwrap().iter().map(row).collect();
    assert_eq!(
        rows,
        [
            "both /{t} null",
            "inside /{t} [from 10.20.0.0/16]",
            "night /{t} [at the times of the profile]",
            "one /f/{*rest} null",
            "one /{t} [t: p, q r]",
        ]
    );
}

#[test]
fn the_page_can_be_read_and_searched_in_a_real_browser() {
    let mut setup = setup();
    setup.policies = setup.policies.replace("    versions: [v1, v2]\n", "");
    let files = Files::of(&setup);
    files.write("log", &log());
    let (code, page, complaints) = files.run(&["access", "--log", "log", "--format", "html"], "");
    assert_eq!(code, 0, "{complaints}");
    assert!(
        page.contains("by-&#60;script&#62;alert(1)&#60;/script&#62;")
            && !page.contains("<script>alert"),
        "{page}"
    );
    files.write("access.html", &page);
    let shots = tempfile::tempdir().unwrap();
    let output = Command::new(crate::clients::installed().join("venv/bin/python"))
        .arg(crate::clients::scripts().join("access.py"))
        .env("PAGE", files.0.path().join("access.html"))
        .env("SHOTS", shots.path())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{text}");
    crate::clients::keep(shots.path(), &["access.png"]);
}
