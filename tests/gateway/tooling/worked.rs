//! docs/policies.md: its worked example is gone through as it stands there, and its tables are
//! those of the program.

use std::path::Path;
use std::process::Command;

use scopegate::tooling::lint::Rule;

use super::Files;
use crate::support::{Gateway, Setup, wait_for};

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policies.md")).unwrap()
}

/// The block with this name.
fn block(name: &str) -> String {
    let page = page();
    let start =
        page.find(&format!(" {name}\n")).unwrap_or_else(|| panic!("there is no block `{name}`"));
    let rest = &page[start + name.len() + 2..];
    rest[..rest.find("```").unwrap()].to_owned()
}

fn diff(gateway: &Gateway, old: &Files) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .arg("diff")
        .args([old.0.path(), gateway.folder.path()])
        .arg("--log")
        .arg(gateway.folder.path().join("decisions.jsonl"))
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn the_worked_example_goes_as_it_is_told() {
    let before = Setup::new(&block("before/policies.yaml"), &block("clients.yaml"));
    let old = Files::of(&before);
    let gateway = Gateway::start(&before);
    let clients = ["shop-web", "warehouse", "billing"];
    let tokens = clients.map(|client| gateway.token(client));
    let call = |client: usize| gateway.get("/shop/orders", Some(&tokens[client]));
    let set = |name: &str| {
        gateway
            .rewrite("policies.yaml", &format!("{}{}", block("before/policies.yaml"), block(name)));
    };
    let ids: Vec<String> =
        (0..3).map(|at| call(at).header("x-decision-id").unwrap().to_owned()).collect();
    for id in &ids {
        gateway.record(id);
    }

    // The draft is compared, and never loaded.
    set("draft");
    let (code, told) = diff(&gateway, &old);
    assert_eq!(code, Some(1));
    assert!(told.starts_with(&block("diff")), "{told}");
    assert!(
        told.contains("2 of 3 recorded requests change") && told.contains("- 1 of billing: "),
        "{told}"
    );

    set("shadow");
    assert!(gateway.reload());
    let responses = [0, 1, 2].map(call);
    assert!(responses.iter().all(|response| response.status == 200), "shadow rules never decide");
    let series = block("metrics");
    let (series, count) = series.trim().rsplit_once(' ').unwrap();
    let count: f64 = count.parse().unwrap();
    wait_for("the would-be refusal to be counted", || {
        gateway.metric(series).filter(|seen| (seen - count).abs() < 0.1)
    });
    let record = gateway.record(responses[2].header("x-decision-id").unwrap());
    assert_eq!(
        (&record["client"], &record["shadow"]),
        (&"billing".into(), &"policy.profile".into())
    );

    set("enforced");
    let (code, told) = diff(&gateway, &old);
    assert!(code == Some(0) && told.starts_with("no verdict changes\n"), "{told}");
    let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["test", "--config"])
        .arg(gateway.folder.path().join("gateway.yaml"))
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("2 passed, 0 failed\n"),
        "{output:?}"
    );
    assert!(gateway.reload());
    assert!([0, 1, 2].map(call).iter().all(|response| response.status == 200));
}

#[test]
fn the_table_of_the_lint_is_that_of_the_program() {
    let page = page();
    for rule in Rule::ALL {
        let row = format!("| `{}` | {} |", rule.label(), rule.level().label());
        assert!(page.contains(&row), "docs/policies.md lacks the row: {row}");
    }
    let rows =
        page.lines().filter(|line| line.starts_with("| `") && line.split('|').count() == 5).count();
    assert_eq!(rows, Rule::ALL.len(), "docs/policies.md has rows of rules that are none");
}
