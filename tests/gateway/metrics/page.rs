//! docs/metrics.md, made of the metrics of the code, of the dashboards and of the alerts.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use scopegate::client::GrantType;
use scopegate::grant::ErrorCode;
use scopegate::reason::{Reason, TokenFault};
use scopegate::telemetry::cause::{ConnectionCut, ConnectionRefused, NotExported, Signal};
use scopegate::token::keyset::KeyFault;

use super::dashboards::DASHBOARDS;
use super::{alerts, metrics, promql};

const BEGINNING: &str = "# Metrics

Made of the code, the dashboards and the alerts that ship (`make golden` writes it).

Prometheus reads them at `/metrics` of the [metrics listener](configuration.md#public_url-listeners-metrics-trusted_proxies-run_folder),
in its text format. [deploy/README.md](../deploy/README.md#prometheus) says how to set up
Prometheus, the alerts and the dashboards; the [runbook](runbook.md) says what to do when an alert
fires.

No client can make a series: label values are names of the configuration or words of closed lists.
So no metric has a client's, user's or address's name; for those, read the
[decision records](../README.md#metrics-and-records).

A series with a label may be absent until it is counted for the first time. Counters begin at 0 with
each process: use `rate` or `increase`. Times are seconds, sizes are bytes; a histogram has the
series `_bucket`, `_sum` and `_count`.

## All metrics

| metric | type | labels | what it is |
|---|---|---|---|
";

const USED: &str = "
## Who uses them

Panels by dashboard of `deploy/grafana`; alerts of `deploy/prometheus/alerts.yml`, with their place
in the runbook.

| metric | panels | alerts |
|---|---|---|
";

const LABELS: &str = "
## Labels

Prometheus adds `job` and `instance`.

| label | values |
|---|---|
";

pub fn page() -> String {
    let mut page = BEGINNING.to_owned();
    let metrics = metrics();
    let families = metrics.families();
    for family in families {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let (name, kind, help) = (&family.name, family.kind, &family.help);
        writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    page.push_str(USED);
    for family in families {
        writeln!(
            page,
            "| `{0}` | {1} | {2} |",
            family.name,
            panels(&family.name),
            told(&family.name)
        )
        .unwrap();
    }
    page.push_str(LABELS);
    let labels: BTreeSet<&String> = families.iter().flat_map(|family| &family.labels).collect();
    for label in labels {
        writeln!(page, "| `{label}` | {} |", values(label)).unwrap();
    }
    page
}

fn names(expression: &str, metric: &str) -> bool {
    promql::named(expression).metrics.keys().any(|name| promql::family(name) == metric)
}

/// The panels that show a metric, by dashboard.
fn panels(metric: &str) -> String {
    let mut shown = Vec::new();
    for dashboard in &DASHBOARDS {
        let titles: Vec<&str> = dashboard
            .panels
            .iter()
            .filter(|panel| panel.queries.iter().any(|(query, _)| names(query, metric)))
            .map(|panel| panel.title)
            .collect();
        if !titles.is_empty() {
            let name = dashboard.file.trim_end_matches(".json");
            shown.push(format!("{name}: {}", titles.join(", ")));
        }
    }
    if shown.is_empty() { "–".to_owned() } else { shown.join("; ") }
}

/// The alerts that watch a metric.
fn told(metric: &str) -> String {
    let watching = alerts().into_iter().filter(|alert| names(&alert.expression, metric));
    let links: Vec<String> = watching
        .map(|alert| format!("[{}](runbook.md#{})", alert.name, alert.name.to_lowercase()))
        .collect();
    if links.is_empty() { "–".to_owned() } else { links.join(", ") }
}

fn listed<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    values.into_iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
}

/// The words that a label may have; `None` where they are names of the configuration.
pub fn words(label: &str) -> Option<Vec<&'static str>> {
    Some(match label {
        "cause" => {
            let refused = ConnectionRefused::ALL.iter().map(|cause| cause.label());
            let cut = ConnectionCut::ALL.iter().map(|cause| cause.label());
            refused.chain(cut).chain(NotExported::ALL.iter().map(|cause| cause.label())).collect()
        }
        "error" => ErrorCode::ALL.iter().map(|code| code.label()).collect(),
        "fault" => TokenFault::ALL.iter().map(|fault| fault.label()).collect(),
        "grant" => GrantType::ALL.iter().map(|grant| grant.as_str()).collect(),
        "reason" => Reason::ALL.iter().map(|reason| reason.label()).collect(),
        "result" => vec!["hit", "miss", "ok", "failed", "active", "inactive", "cached", "refused"],
        "signal" => Signal::ALL.iter().map(|signal| signal.label()).collect(),
        "state" => vec!["usable", "ejected", "down"],
        "verdict" => vec!["permit", "refuse"],
        "job" => vec!["scopegate"],
        _ => return None,
    })
}

/// The values of a label.
fn values(label: &str) -> String {
    match label {
        "api" => "an API of the policies; empty where no operation was found".to_owned(),
        "cause" => format!(
            "refused: {}; cut: {}; not exported: {}",
            listed(ConnectionRefused::ALL.iter().map(|cause| cause.label())),
            listed(ConnectionCut::ALL.iter().map(|cause| cause.label())),
            listed(NotExported::ALL.iter().map(|cause| cause.label()))
        ),
        "error" => listed(ErrorCode::ALL.iter().map(|code| code.label())),
        "fault" => listed(TokenFault::ALL.iter().map(|fault| fault.label())),
        "grant" => listed(GrantType::ALL.iter().map(|grant| grant.as_str())),
        "issuer" => {
            "an issuer of the configuration, `self` for our own tokens; empty where the token \
             names none of them"
                .to_owned()
        }
        "listener" => "the address of a listener".to_owned(),
        "operation" => {
            "method and resource template, `GET /items/{id}`; empty where none was found".to_owned()
        }
        "outcome" => listed([
            "signed_in",
            "state",
            "too_long",
            "denied",
            "code",
            "too_many",
            "unavailable",
            "answer",
            "stranger",
            "unusable",
        ]),
        "reason" => format!(
            "of requests: the [reasons of refusals](../README.md#refusals), empty for a permitted \
             one; of keys: {}",
            listed(KeyFault::ALL.iter().map(|fault| fault.label()))
        ),
        "result" => format!(
            "of the cache: {}; of fetches: {}; of introspections: {}",
            listed(["hit", "miss"]),
            listed(["ok", "failed"]),
            listed(["active", "inactive", "cached", "refused", "failed"])
        ),
        "rule" => "the policy that would decide, or the gate where it is none".to_owned(),
        "signal" => listed(Signal::ALL.iter().map(|signal| signal.label())),
        "state" => listed(["usable", "ejected", "down"]),
        "upstream" => "an upstream of the configuration".to_owned(),
        "verdict" => listed(["permit", "refuse"]),
        "version" => "of the program, or of the configuration in force".to_owned(),
        _ => panic!("say in this list what values the label `{label}` has"),
    }
}
