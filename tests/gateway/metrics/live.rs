//! A gateway with traffic of every kind, and a real Prometheus that reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::{alerts, expressions, metrics, promql, root};
use crate::support::browser::encode;
use crate::support::http::{Response, send_if_possible};
use crate::support::issuer::{Key, now};
use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Provider};
use crate::support::tls::Ca;
use crate::support::{GUARD, Gateway, Issuer, Setup, free_address, free_addresses, wait_for};

const POLICIES: &str = "
apis:
  items: { base_path: /items, upstream: api, resources: { '/{id}': [GET, DELETE] } }
  few: { base_path: /few, upstream: api, resources: { '/{id}': [GET] } }
  down: { base_path: /down, upstream: down, resources: { '/{id}': [GET] } }
auth_scopes:
  read: { grants: [{ api: items, methods: [GET] }, { api: few }, { api: down }] }
  delete: { grants: [{ api: items, methods: [DELETE] }] }
access_policies:
  draft: { api: items, mode: shadow, allow: [{ clients: [other] }] }
limits: [{ api: few, per: client, rate: 1/m }]
";
const CLIENTS: &str = "clients:
  app: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [read] }
  other: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [delete] }
";
/// The same for the gateway and its candidate; nobody asks for it.
const PUBLIC_URL: &str = "http://127.0.0.1:1";

/// A gateway that has counted something in every metric.
struct Bench {
    gateway: Gateway,
    _candidate: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let (good, gone) = (Key::p256("good"), Key::p256("gone"));
        let corp = Issuer::start(std::slice::from_ref(&good));
        let provider = Provider::start();
        let pair = Ca::new().issue(&["gateway.example"]);
        // Another address than the one on which the gateway gets free ports.
        let tls = format!("127.0.0.2:{}", free_address().port());
        let issuer = |name: &str, url: &str, more: &str| {
            format!("  {name}: {{ issuer: '{url}', audience: ['https://api.example'], {more} }}\n")
        };
        let keys = |url: &str| format!("algorithms: [ES256], keys: {{ jwks_url: '{url}/jwks' }}");
        let away = "http://127.0.0.1:1";
        let mut setup = Setup::new(POLICIES, CLIENTS);
        setup.gateway = format!(
            "public_url: {PUBLIC_URL}\n\
             listeners: [{{ address: \"@LISTEN@\" }}, {{ address: \"{tls}\", tls: {{ certificate: \
                tls.pem, key: tls.key }} }}]\n\
             authorization_server: {{ grants: [client_credentials, authorization_code], login: {{ \
                provider: {{ name: Corp, issuer: '{}', client_id: '{CLIENT_ID}', client_secret: \
                file:secret }} }} }}\n\
             upstreams:\n  api: {{ servers: [\"@UPSTREAM@\"] }}\n  \
                down: {{ servers: ['{away}', 'http://127.0.0.1:2'], retries: 1, ejection: {{ \
                after: 1 }} }}\n\
             issuers:\n{}{}{}",
            provider.url,
            issuer("corp", &corp.url, &keys(&corp.url)),
            issuer("away", "https://away.example", &keys(away)),
            issuer(
                "partner",
                "https://partner.example",
                &format!(
                    "token_prefix: pt_, introspection: {{ url: '{away}/ask', client_id: gw, \
                        client_secret: file:secret }}"
                ),
            ),
        );
        setup.files = vec![
            ("secret".to_owned(), format!("{CLIENT_SECRET}\n")),
            ("tls.pem".to_owned(), pair.certificate),
            ("tls.key".to_owned(), pair.key),
        ];
        let candidate = tempfile::tempdir().unwrap();
        let mut changed = setup.clone();
        changed.policies = POLICIES.replace("mode: shadow", "mode: enforce");
        let [one, two] = free_addresses();
        changed.write(candidate.path(), one, two, two);
        setup.arguments = vec!["--shadow".to_owned(), candidate.path().display().to_string()];
        let bench = Self { gateway: Gateway::start(&setup), _candidate: candidate };
        bench.traffic(&corp, &good, &gone);
        bench
    }

    fn traffic(&self, corp: &Issuer, good: &Key, gone: &Key) {
        let gateway = &self.gateway;
        let token = gateway.token("app");
        let verdict = |method: &str, target: &str, token: Option<&str>| {
            gateway.call(method, target, token).verdict()
        };
        assert_eq!(verdict("GET", "/items/1", Some(&token)), "permit");
        assert_eq!(verdict("GET", "/items/1", Some(&token)), "permit");
        assert_eq!(verdict("DELETE", "/items/1", Some(&token)), "scope.missing");
        assert_eq!(verdict("GET", "/few/1", Some(&token)), "permit");
        assert_eq!(verdict("GET", "/few/1", Some(&token)), "limit.rate");
        assert_eq!(verdict("GET", "/down/1", Some(&token)), "upstream.unavailable");
        assert_eq!(verdict("GET", "/items/1", None), "token.missing");
        assert_eq!(verdict("GET", "/items/1", Some("pt_opaque")), "issuer.unavailable");
        let mut claims = corp.claims(now());
        let forged = gone.token_with(&good.header(), &claims);
        assert_eq!(verdict("GET", "/items/1", Some(&forged)), "token.invalid");
        claims["iss"] = "https://away.example".into();
        assert_eq!(verdict("GET", "/items/1", Some(&gone.token(&claims))), "issuer.unavailable");
        assert_eq!(gateway.token_response("nobody", "").status, 401);
        assert_ne!(gateway.get("/oauth2/login/callback?state=made-up&code=1", None).status, 404);
    }
}

/// A Prometheus that reads one gateway and judges the alerts that ship.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(gateway: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let configuration = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s \
             }}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{ job_name: scopegate, static_configs: [{{ targets: ['{gateway}'] \
             }}] }}]\n",
            root().join("deploy/prometheus/alerts.yml").display()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let address = free_address();
        let child = command(&file, folder.path(), address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                assert!(
                    error.kind() != ErrorKind::NotFound,
                    "`prometheus` is missing; install it: apt-get install prometheus"
                );
                panic!("`prometheus` cannot be run: {error}")
            });
        let prometheus = Self { address, child, _folder: folder };
        wait_for("Prometheus", || {
            prometheus.ask("/-/ready").filter(|response| response.status == 200)
        });
        prometheus
    }

    /// HTTP/1.0, so that the answer ends with the connection.
    fn ask(&self, target: &str) -> Option<Response> {
        let text = format!("GET {target} HTTP/1.0\r\nHost: p\r\n\r\n");
        send_if_possible(self.address, text)
    }

    fn data(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let response = self.ask(&format!("{path}?{}", encode(parameters))).expect("an answer");
        let mut answer: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"].take()
    }

    /// How many series an expression has now.
    fn count(&self, expression: &str) -> usize {
        let found = self.data("/api/v1/query", &[("query", expression)]);
        found["result"].as_array().unwrap().len()
    }

    /// The metrics of the gateway with their labels.
    fn series(&self) -> BTreeMap<String, BTreeSet<String>> {
        let found = self.data("/api/v1/series", &[("match[]", "{job=\"scopegate\"}")]);
        let mut series = BTreeMap::<String, BTreeSet<String>>::new();
        for labels in found.as_array().unwrap() {
            let labels = labels.as_object().unwrap();
            let name = labels["__name__"].as_str().unwrap().to_owned();
            series.entry(name).or_default().extend(labels.keys().cloned());
        }
        series
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(file: &Path, folder: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=warn");
    command
}

/// An expression as Grafana would send it.
fn filled(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "1m")
        .replace("$instance", ".*")
        .replace("$api", ".*")
        .replace("$top", "10")
}

/// Names and labels of an expression that no series has.
fn unknown(expression: &str, series: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let named = promql::named(expression);
    let mut unknown = Vec::new();
    let mut all = BTreeSet::new();
    for (metric, labels) in &named.metrics {
        let Some(known) = series.get(metric) else {
            unknown.push(metric.clone());
            continue;
        };
        let missing = labels.iter().filter(|label| !known.contains(*label));
        unknown.extend(missing.map(|label| format!("{metric}{{{label}}}")));
        all.extend(known);
    }
    unknown.extend(named.grouped.iter().filter(|label| !all.contains(label)).cloned());
    unknown
}

#[test]
fn prometheus_has_every_metric_and_answers_every_panel_and_judges_every_alert() {
    let bench = Bench::start();
    let prometheus = Prometheus::start(bench.gateway.metrics);

    // Panels show something. Alerts are silent where all is well, so theirs are only evaluated, as
    // are those of the runbook.
    let (mut panels, others): (Vec<_>, Vec<_>) =
        expressions().into_iter().partition(|(place, _)| place.contains(".json"));
    assert!(panels.len() > 40 && others.len() > 15, "{} {}", panels.len(), others.len());
    let all = panels.clone();
    let began = Instant::now();
    wait_for("data for every panel", || {
        panels.retain(|(_, expression)| prometheus.count(&filled(expression)) == 0);
        assert!(panels.is_empty() || began.elapsed() < GUARD / 2, "without data: {panels:#?}");
        panels.is_empty().then_some(())
    });

    // Every metric of the page is scraped, and nothing is that the page does not have.
    let series = prometheus.series();
    let metrics = metrics();
    let documented: BTreeSet<&str> =
        metrics.families().iter().map(|family| family.name.as_str()).collect();
    // `up` and `scrape_…` are Prometheus' own.
    let own = |name: &&str| *name == "up" || name.starts_with("scrape_") || *name == "ALERTS";
    let scraped: BTreeSet<&str> = series
        .keys()
        .map(|name| promql::family(name))
        .filter(|name| !own(name) && *name != "ALERTS_FOR_STATE")
        .collect();
    assert_eq!(scraped, documented);
    let text = bench.gateway.metrics_text();
    for family in metrics.families() {
        let line = format!("# HELP {} {}\n", family.name, family.help);
        assert!(text.contains(&line), "{line}");
        let line = format!("# TYPE {} {}\n", family.name, family.kind);
        assert!(text.contains(&line), "{line}");
    }

    let places = all.iter().chain(&others);
    let unknown: Vec<(&String, Vec<String>)> = places
        .map(|(place, expression)| (place, unknown(expression, &series)))
        .filter(|(_, unknown)| !unknown.is_empty())
        .collect();
    assert!(unknown.is_empty(), "no series has: {unknown:#?}");

    for (_, expression) in &others {
        prometheus.count(expression);
    }

    wait_for("every alert to be judged", || {
        let groups = prometheus.data("/api/v1/rules", &[("type", "alert")]);
        let rules = groups["groups"][0]["rules"].as_array()?.clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
        let judged = rules.iter().filter(|rule| rule["health"] == "ok").count();
        (judged == alerts().len()).then_some(())
    });
}
