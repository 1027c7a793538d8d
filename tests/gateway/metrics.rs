//! Metrics as those who watch them meet them: docs/metrics.md, the dashboards and the alerts are
//! made of, or held against, the metrics that the gateway really has; a real Prometheus answers
//! their expressions.

mod dashboards;
mod live;
mod page;
mod promql;
mod runbook;

use std::path::{Path, PathBuf};

use prometheus::IntCounter;
use scopegate::telemetry::metrics::Metrics;
use scopegate::telemetry::metrics::process::log_lines_dropped;

use dashboards::DASHBOARDS;

use crate::reference::golden;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Every metric of a gateway.
fn metrics() -> Metrics {
    let dropped: IntCounter = log_lines_dropped().unwrap();
    Metrics::new(Some(&dropped)).unwrap()
}

/// An alert of deploy/prometheus/alerts.yml.
struct Alert {
    name: String,
    expression: String,
    severity: String,
    runbook: String,
}

fn alerts() -> Vec<Alert> {
    let text = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    let file: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let text = |value: &serde_yaml::Value| value.as_str().unwrap_or_default().to_owned();
    let rules = file["groups"].as_sequence().unwrap().iter();
    rules
        .flat_map(|group| group["rules"].as_sequence().unwrap())
        .map(|rule| Alert {
            name: text(&rule["alert"]),
            expression: text(&rule["expr"]),
            severity: text(&rule["labels"]["severity"]),
            runbook: text(&rule["annotations"]["runbook_url"]),
        })
        .collect()
}

/// Every expression of panels and alerts, with where it is.
fn expressions() -> Vec<(String, String)> {
    let panels = DASHBOARDS.iter().flat_map(|dashboard| {
        dashboard.panels.iter().flat_map(|panel| {
            let place = format!("{}, \"{}\"", dashboard.file, panel.title);
            panel.queries.iter().map(move |(query, _)| (place.clone(), (*query).to_owned()))
        })
    });
    let alerts = alerts().into_iter().map(|alert| (alert.name, alert.expression));
    panels.chain(alerts).chain(runbook::expressions()).collect()
}

#[test]
fn expressions_compare_labels_with_words_that_they_may_have() {
    let mut wrong = Vec::new();
    for (place, expression) in expressions() {
        for (label, value) in promql::named(&expression).values {
            let Some(words) = page::words(&label) else { continue };
            let value = value.replace("\\.", ".");
            let is_there = match value.strip_suffix(".+") {
                Some(beginning) => words.iter().any(|word| word.starts_with(beginning)),
                None => words.contains(&value.as_str()),
            };
            if !is_there {
                wrong.push(format!("{place}: {label}=\"{value}\""));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn golden_dashboards_are_the_generated_ones() {
    for dashboard in &DASHBOARDS {
        let text = serde_json::to_string_pretty(&dashboard.json()).unwrap();
        golden(&format!("deploy/grafana/{}", dashboard.file), &format!("{text}\n"));
    }
    let files = std::fs::read_dir(root().join("deploy/grafana")).unwrap();
    let json = files.filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "json")
    });
    assert_eq!(json.count(), DASHBOARDS.len(), "a dashboard that nothing generates any more");
}

#[test]
fn golden_page_of_metrics_is_the_generated_one() {
    golden("docs/metrics.md", &page::page());
}
