//! docs/runbook.md has a section for each alert, and each alert leads there.

use super::{alerts, root};

/// What each section says, in this order.
const PARTS: [&str; 3] = ["**What it means.**", "**What to look at.**", "**What to do.**"];

/// The expressions of its blocks, one a line.
pub fn expressions() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    let blocks = page.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines);
    lines.map(|line| ("docs/runbook.md".to_owned(), line.to_owned())).collect()
}

#[test]
fn every_alert_leads_to_its_section_of_the_runbook_and_every_section_is_of_an_alert() {
    let page = std::fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    let alerts = alerts();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let names: Vec<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(headings, names, "the sections are in the order of alerts.yml");
    for alert in &alerts {
        let name = &alert.name;
        assert_eq!(alert.runbook, format!("docs/runbook.md#{}", name.to_lowercase()), "{name}");
        let section = page.split(&format!("### {name}\n")).nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
        let places: Vec<usize> = PARTS
            .iter()
            .map(|part| section.find(part).unwrap_or_else(|| panic!("{name}: no {part}")))
            .collect();
        assert!(places.is_sorted(), "{name}: the parts are in another order");
        let first = section.trim_start().lines().next().unwrap();
        assert!(first.contains(&alert.severity), "{name}: the first line names the severity");
    }
}
