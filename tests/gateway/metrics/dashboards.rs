//! The dashboards of `deploy/grafana`, as tables of which their JSON is made.

use serde_json::{Value, json};

/// One dashboard, one file.
pub struct Dashboard {
    pub file: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    /// Variables besides the data source and the gateway.
    pub variables: &'static [Variable],
    pub panels: &'static [Panel],
}

/// A choice at the top of a dashboard: its name, the word before it, where the choices come from.
pub struct Variable(pub &'static str, pub &'static str, pub Choices);

pub enum Choices {
    /// The values of a label.
    Label(&'static str),
    /// These.
    Numbers(&'static str),
}

pub struct Panel {
    pub title: &'static str,
    pub about: &'static str,
    pub unit: &'static str,
    pub form: Form,
    /// Expressions, each with the legend of its series.
    pub queries: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One number.
    Number,
    /// Lines over time.
    Lines,
    /// A table of the values now.
    Table,
}

const API: Variable =
    Variable("api", "API", Choices::Label("label_values(scopegate_requests_total, api)"));
const TOP: Variable = Variable("top", "Top", Choices::Numbers("5,10,20"));

const fn panel(
    title: &'static str,
    about: &'static str,
    unit: &'static str,
    form: Form,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, about, unit, form, queries }
}

use Form::{Lines, Number, Table};

pub const DASHBOARDS: [Dashboard; 6] = [OVERVIEW, ONE_API, CLIENTS, ISSUERS, STORE, UPSTREAMS];

const OVERVIEW: Dashboard = Dashboard {
    file: "overview.json",
    title: "scopegate: overview",
    about: "Whether callers are served, and what the gateways use.",
    variables: &[TOP],
    panels: &[
        panel(
            "Gateways that answer",
            "Targets of the job that Prometheus reaches.",
            "short",
            Number,
            &[("sum(up{job=\"scopegate\", instance=~\"$instance\"})", "up")],
        ),
        panel(
            "Requests",
            "Requests a second, permitted and refused.",
            "reqps",
            Number,
            &[(
                "sum(rate(scopegate_requests_total{instance=~\"$instance\"}[$__rate_interval]))",
                "requests",
            )],
        ),
        panel(
            "Refused",
            "Share of requests that the caller was refused, for any reason.",
            "percentunit",
            Number,
            &[(
                "sum(rate(scopegate_requests_total{instance=~\"$instance\", verdict=\"refuse\"}[$__rate_interval])) / sum(rate(scopegate_requests_total{instance=~\"$instance\"}[$__rate_interval]))",
                "refused",
            )],
        ),
        panel(
            "Failed by us or by APIs",
            "Share of requests that failed though the caller did nothing wrong.",
            "percentunit",
            Number,
            &[(
                "(sum(rate(scopegate_requests_total{instance=~\"$instance\", reason=~\"gateway\\\\.broken|store\\\\.unavailable|issuer\\\\.unavailable|upstream\\\\..+\"}[$__rate_interval])) or vector(0)) / sum(rate(scopegate_requests_total{instance=~\"$instance\"}[$__rate_interval]))",
                "failed",
            )],
        ),
        panel(
            "Requests by API",
            "The APIs with the most requests. No name: no operation was found for them.",
            "reqps",
            Lines,
            &[(
                "topk($top, sum by (api) (rate(scopegate_requests_total{instance=~\"$instance\"}[$__rate_interval])))",
                "{{api}}",
            )],
        ),
        panel(
            "Refusals by reason",
            "The most frequent reasons; the README has a table of all of them.",
            "reqps",
            Lines,
            &[(
                "topk($top, sum by (reason) (rate(scopegate_requests_total{instance=~\"$instance\", verdict=\"refuse\"}[$__rate_interval])))",
                "{{reason}}",
            )],
        ),
        panel(
            "Duration of requests",
            "From the head to the end of the answer, the API's time included.",
            "s",
            Lines,
            &[
                (
                    "histogram_quantile(0.5, sum by (le) (rate(scopegate_request_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                    "half",
                ),
                (
                    "histogram_quantile(0.95, sum by (le) (rate(scopegate_request_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                    "95 %",
                ),
                (
                    "histogram_quantile(0.99, sum by (le) (rate(scopegate_request_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                    "99 %",
                ),
            ],
        ),
        panel(
            "Duration of decisions",
            "From the head to the verdict. Waiting for an issuer or the store counts.",
            "s",
            Lines,
            &[
                (
                    "histogram_quantile(0.5, sum by (le) (rate(scopegate_decision_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                    "half",
                ),
                (
                    "histogram_quantile(0.99, sum by (le) (rate(scopegate_decision_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                    "99 %",
                ),
            ],
        ),
        panel(
            "Open connections",
            "Of clients, by gateway.",
            "short",
            Lines,
            &[("scopegate_connections_open{instance=~\"$instance\"}", "{{instance}}")],
        ),
        panel(
            "Connections refused and cut",
            "By cause. Refused: at a limit. Cut: slow or malformed.",
            "cps",
            Lines,
            &[
                (
                    "sum by (cause) (rate(scopegate_connections_refused_total{instance=~\"$instance\"}[$__rate_interval]))",
                    "refused: {{cause}}",
                ),
                (
                    "sum by (cause) (rate(scopegate_connections_cut_total{instance=~\"$instance\"}[$__rate_interval]))",
                    "cut: {{cause}}",
                ),
            ],
        ),
        panel(
            "Processor",
            "Seconds of processor time a second: 2 are two cores in full use.",
            "short",
            Lines,
            &[(
                "rate(process_cpu_seconds_total{job=\"scopegate\", instance=~\"$instance\"}[$__rate_interval])",
                "{{instance}}",
            )],
        ),
        panel(
            "Memory",
            "Resident memory.",
            "bytes",
            Lines,
            &[(
                "process_resident_memory_bytes{job=\"scopegate\", instance=~\"$instance\"}",
                "{{instance}}",
            )],
        ),
        panel(
            "File descriptors",
            "Share of those that the process may have open.",
            "percentunit",
            Lines,
            &[(
                "process_open_fds{job=\"scopegate\", instance=~\"$instance\"} / \
                 process_max_fds{job=\"scopegate\", instance=~\"$instance\"}",
                "{{instance}}",
            )],
        ),
        panel(
            "Panics and lost lines",
            "In the last hour. A panic is a bug; lost records are gaps in the audit.",
            "short",
            Lines,
            &[
                (
                    "increase(scopegate_panics_total{instance=~\"$instance\"}[1h])",
                    "panics, {{instance}}",
                ),
                (
                    "increase(scopegate_decision_records_dropped_total{instance=~\"$instance\"}[1h])",
                    "decision records, {{instance}}",
                ),
                (
                    "increase(scopegate_log_lines_dropped_total{instance=~\"$instance\"}[1h])",
                    "lines of the log, {{instance}}",
                ),
            ],
        ),
        panel(
            "Spans and log records",
            "A second, to the collector of OpenTelemetry; none where none is declared.",
            "short",
            Lines,
            &[
                (
                    "sum by (signal) (rate(scopegate_otlp_sent_total{instance=~\"$instance\"}[$__rate_interval]))",
                    "sent: {{signal}}",
                ),
                (
                    "sum by (signal, cause) (rate(scopegate_otlp_dropped_total{instance=~\"$instance\"}[$__rate_interval]))",
                    "dropped: {{signal}}, {{cause}}",
                ),
            ],
        ),
        panel(
            "Program",
            "Which version each gateway runs.",
            "short",
            Table,
            &[(
                "max by (instance, version) (scopegate_build_info{instance=~\"$instance\"})",
                "{{instance}} {{version}}",
            )],
        ),
        panel(
            "Configuration",
            "The set in force. Two sets for long: one gateway did not take the new one.",
            "short",
            Table,
            &[(
                "max by (instance, version) (scopegate_config_info{instance=~\"$instance\"})",
                "{{instance}} {{version}}",
            )],
        ),
        panel(
            "Last load taken",
            "1 where it was, 0 where an edit is not in force.",
            "short",
            Lines,
            &[("scopegate_config_last_reload_successful{instance=~\"$instance\"}", "{{instance}}")],
        ),
        panel(
            "Ages",
            "Since the start, and since the configuration in force was loaded.",
            "s",
            Lines,
            &[
                (
                    "time() - process_start_time_seconds{job=\"scopegate\", instance=~\"$instance\"}",
                    "process, {{instance}}",
                ),
                (
                    "time() - scopegate_config_last_reload_timestamp_seconds{instance=~\"$instance\"}",
                    "configuration, {{instance}}",
                ),
            ],
        ),
        panel(
            "Certificates",
            "Until the first certificate of a listener expires.",
            "s",
            Table,
            &[(
                "scopegate_certificate_expiry_timestamp_seconds{instance=~\"$instance\"} - time()",
                "{{listener}}, {{instance}}",
            )],
        ),
    ],
};

const ONE_API: Dashboard = Dashboard {
    file: "api.json",
    title: "scopegate: one API",
    about: "Who is served by one API and who is refused, why, and how long it takes.",
    variables: &[API, TOP],
    panels: &[
        panel(
            "Requests by verdict",
            "Requests a second.",
            "reqps",
            Lines,
            &[(
                "sum by (verdict) (rate(scopegate_requests_total{instance=~\"$instance\", api=~\"$api\"}[$__rate_interval]))",
                "{{verdict}}",
            )],
        ),
        panel(
            "Refusals by reason",
            "The most frequent ones.",
            "reqps",
            Lines,
            &[(
                "topk($top, sum by (reason) (rate(scopegate_requests_total{instance=~\"$instance\", api=~\"$api\", verdict=\"refuse\"}[$__rate_interval])))",
                "{{reason}}",
            )],
        ),
        panel(
            "Requests by operation",
            "The operations with the most requests.",
            "reqps",
            Lines,
            &[(
                "topk($top, sum by (operation) (rate(scopegate_requests_total{instance=~\"$instance\", api=~\"$api\"}[$__rate_interval])))",
                "{{operation}}",
            )],
        ),
        panel(
            "Duration",
            "From the head of a request to the end of its answer.",
            "s",
            Lines,
            &[
                (
                    "histogram_quantile(0.5, sum by (le) (rate(scopegate_request_duration_seconds_bucket{instance=~\"$instance\", api=~\"$api\"}[$__rate_interval])))",
                    "half",
                ),
                (
                    "histogram_quantile(0.95, sum by (le) (rate(scopegate_request_duration_seconds_bucket{instance=~\"$instance\", api=~\"$api\"}[$__rate_interval])))",
                    "95 %",
                ),
                (
                    "histogram_quantile(0.99, sum by (le) (rate(scopegate_request_duration_seconds_bucket{instance=~\"$instance\", api=~\"$api\"}[$__rate_interval])))",
                    "99 %",
                ),
            ],
        ),
        panel(
            "Operations refused most",
            "Operation and reason, in the last hour.",
            "short",
            Table,
            &[(
                "topk($top, sum by (operation, reason) (increase(scopegate_requests_total{instance=~\"$instance\", api=~\"$api\", verdict=\"refuse\"}[1h])))",
                "{{operation}} {{reason}}",
            )],
        ),
        panel(
            "Shadow rules",
            "What rules in shadow mode would have changed, in the last hour.",
            "short",
            Table,
            &[(
                "sum by (rule, verdict, reason) (increase(scopegate_shadow_total{instance=~\"$instance\", api=~\"$api\"}[1h]))",
                "{{rule}} {{verdict}} {{reason}}",
            )],
        ),
        panel(
            "Candidate set",
            "What the set of `serve --shadow` would have changed, in the last hour.",
            "short",
            Table,
            &[(
                "sum by (rule, verdict, reason) (increase(scopegate_candidate_total{instance=~\"$instance\", api=~\"$api\"}[1h]))",
                "{{rule}} {{verdict}} {{reason}}",
            )],
        ),
    ],
};

const CLIENTS: Dashboard = Dashboard {
    file: "clients.json",
    title: "scopegate: clients",
    about: "Tokens and refusals. One client is found in the decision records alone.",
    variables: &[TOP],
    panels: &[
        panel(
            "Tokens issued",
            "Access tokens a second, by grant.",
            "ops",
            Lines,
            &[(
                "sum by (grant) (rate(scopegate_tokens_issued_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{grant}}",
            )],
        ),
        panel(
            "Token requests refused",
            "By error code of RFC 6749.",
            "ops",
            Lines,
            &[(
                "sum by (error) (rate(scopegate_token_errors_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{error}}",
            )],
        ),
        panel(
            "Refused for what they are",
            "Requests without a good token, of inactive or blocked clients and users.",
            "reqps",
            Lines,
            &[(
                "topk($top, sum by (api, reason) (rate(scopegate_requests_total{instance=~\"$instance\", reason=~\"token\\\\..+|client\\\\..+|user\\\\..+|blocked\\\\..+\"}[$__rate_interval])))",
                "{{api}} {{reason}}",
            )],
        ),
        panel(
            "Refused for what they may",
            "Requests that a policy, scope or ACL did not permit.",
            "reqps",
            Lines,
            &[(
                "topk($top, sum by (api, reason) (rate(scopegate_requests_total{instance=~\"$instance\", reason=~\"policy\\\\..+|scope\\\\..+|acl\\\\..+\"}[$__rate_interval])))",
                "{{api}} {{reason}}",
            )],
        ),
        panel(
            "Refused at limits",
            "Rates, quotas and the limits of addresses.",
            "reqps",
            Lines,
            &[(
                "topk($top, sum by (api, reason) (rate(scopegate_requests_total{instance=~\"$instance\", reason=~\"limit\\\\..+\"}[$__rate_interval])))",
                "{{api}} {{reason}}",
            )],
        ),
        panel(
            "Used twice",
            "Codes and refresh tokens, in the last hour: a broken client, or a thief.",
            "short",
            Number,
            &[(
                "sum(increase(scopegate_token_reuse_total{instance=~\"$instance\"}[1h]))",
                "used twice",
            )],
        ),
        panel(
            "Sign-ins at the provider",
            "Browsers back from the login provider, by outcome.",
            "ops",
            Lines,
            &[(
                "sum by (outcome) (rate(scopegate_provider_logins_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{outcome}}",
            )],
        ),
    ],
};

const ISSUERS: Dashboard = Dashboard {
    file: "issuers.json",
    title: "scopegate: issuers and keys",
    about: "Whether tokens can be verified, and what is wrong with refused ones.",
    variables: &[TOP],
    panels: &[
        panel(
            "Age of keys",
            "Fetched every five minutes. An issuer whose keys never came has no line.",
            "s",
            Lines,
            &[("scopegate_jwks_age_seconds{instance=~\"$instance\"}", "{{issuer}}, {{instance}}")],
        ),
        panel(
            "Fetches of keys",
            "In the last hour, by result.",
            "short",
            Lines,
            &[(
                "sum by (issuer, result) (increase(scopegate_jwks_fetches_total{instance=~\"$instance\"}[1h]))",
                "{{issuer}} {{result}}",
            )],
        ),
        panel(
            "Keys of no use",
            "Keys in an issuer's set that verify nothing here, by the reason.",
            "short",
            Table,
            &[(
                "max by (issuer, reason) (scopegate_jwks_unusable_keys{instance=~\"$instance\"})",
                "{{issuer}} {{reason}}",
            )],
        ),
        panel(
            "Tokens refused",
            "By issuer and fault. No issuer: the token names none of ours.",
            "ops",
            Lines,
            &[(
                "topk($top, sum by (issuer, fault) (rate(scopegate_token_faults_total{instance=~\"$instance\"}[$__rate_interval])))",
                "{{issuer}} {{fault}}",
            )],
        ),
        panel(
            "Questions about opaque tokens",
            "Introspection at other issuers, by result.",
            "ops",
            Lines,
            &[(
                "sum by (issuer, result) (rate(scopegate_introspections_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{issuer}} {{result}}",
            )],
        ),
        panel(
            "Requests that could not be verified",
            "503 `issuer.unavailable`, by API.",
            "reqps",
            Lines,
            &[(
                "sum by (api) (rate(scopegate_requests_total{instance=~\"$instance\", reason=\"issuer.unavailable\"}[$__rate_interval]))",
                "{{api}}",
            )],
        ),
        panel(
            "Known tokens",
            "Share of look-ups that found the token verified before.",
            "percentunit",
            Lines,
            &[(
                "sum by (instance) (rate(scopegate_token_cache_lookups_total{instance=~\"$instance\", result=\"hit\"}[$__rate_interval])) / sum by (instance) (rate(scopegate_token_cache_lookups_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{instance}}",
            )],
        ),
        panel(
            "Tokens in memory",
            "Entries of the cache of verified tokens.",
            "short",
            Lines,
            &[("scopegate_token_cache_entries{instance=~\"$instance\"}", "{{instance}}")],
        ),
    ],
};

const STORE: Dashboard = Dashboard {
    file: "store.json",
    title: "scopegate: store",
    about: "Whether the store is heard, and how fast revocations travel.",
    variables: &[],
    panels: &[
        panel(
            "Since the store was heard",
            "Normally below a second. What was revoked elsewhere since is not known here.",
            "s",
            Lines,
            &[("scopegate_revocations_age_seconds{instance=~\"$instance\"}", "{{instance}}")],
        ),
        panel(
            "Refused for want of the store",
            "503 `store.unavailable`.",
            "reqps",
            Lines,
            &[(
                "sum(rate(scopegate_requests_total{instance=~\"$instance\", reason=\"store.unavailable\"}[$__rate_interval])) or vector(0)",
                "requests",
            )],
        ),
        panel(
            "Token requests that failed by us",
            "`temporarily_unavailable`.",
            "ops",
            Lines,
            &[(
                "sum by (instance) (rate(scopegate_token_errors_total{instance=~\"$instance\", error=\"temporarily_unavailable\"}[$__rate_interval]))",
                "{{instance}}",
            )],
        ),
        panel(
            "Revocations in memory",
            "They are dropped when the tokens would have expired.",
            "short",
            Lines,
            &[("scopegate_revocations{instance=~\"$instance\"}", "{{instance}}")],
        ),
        panel(
            "Way of a revocation",
            "From one gateway to another; 99 of 100 were faster. Empty while nothing is revoked.",
            "s",
            Lines,
            &[(
                "histogram_quantile(0.99, sum by (le, instance) (rate(scopegate_revocation_propagation_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))",
                "{{instance}}",
            )],
        ),
        panel(
            "Revocations heard",
            "Revocations and blocks a second.",
            "ops",
            Lines,
            &[(
                "sum by (instance) (rate(scopegate_revocation_propagation_seconds_count{instance=~\"$instance\"}[$__rate_interval]))",
                "{{instance}}",
            )],
        ),
    ],
};

const UPSTREAMS: Dashboard = Dashboard {
    file: "upstreams.json",
    title: "scopegate: upstreams",
    about: "The servers behind the gateway: which get requests, and how they fail.",
    variables: &[API],
    panels: &[
        panel(
            "Servers",
            "Usable; ejected because requests to them failed; down by their health checks.",
            "short",
            Lines,
            &[(
                "sum by (upstream, state) (scopegate_upstream_servers{instance=~\"$instance\"})",
                "{{upstream}} {{state}}",
            )],
        ),
        panel(
            "Ejections",
            "Servers left out for a while, in the last hour.",
            "short",
            Lines,
            &[(
                "sum by (upstream) (increase(scopegate_upstream_ejections_total{instance=~\"$instance\"}[1h]))",
                "{{upstream}}",
            )],
        ),
        panel(
            "Retries",
            "Requests tried again at another server.",
            "reqps",
            Lines,
            &[(
                "sum by (upstream) (rate(scopegate_upstream_retries_total{instance=~\"$instance\"}[$__rate_interval]))",
                "{{upstream}}",
            )],
        ),
        panel(
            "Failures",
            "By API and reason.",
            "reqps",
            Lines,
            &[(
                "sum by (api, reason) (rate(scopegate_requests_total{instance=~\"$instance\", api=~\"$api\", reason=~\"upstream\\\\..+\"}[$__rate_interval]))",
                "{{api}} {{reason}}",
            )],
        ),
        panel(
            "Share that failed",
            "By API.",
            "percentunit",
            Lines,
            &[(
                "sum by (api) (rate(scopegate_requests_total{instance=~\"$instance\", api=~\"$api\", reason=~\"upstream\\\\..+\"}[$__rate_interval])) / sum by (api) (rate(scopegate_requests_total{instance=~\"$instance\", api=~\"$api\"}[$__rate_interval]))",
                "{{api}}",
            )],
        ),
        panel(
            "Duration",
            "95 of 100 requests were faster; the gateway's own part is on the overview.",
            "s",
            Lines,
            &[(
                "histogram_quantile(0.95, sum by (le, api) (rate(scopegate_request_duration_seconds_bucket{instance=~\"$instance\", api=~\"$api\"}[$__rate_interval])))",
                "{{api}}",
            )],
        ),
    ],
};

const DATASOURCE: &str = "${datasource}";

impl Dashboard {
    /// As Grafana reads it.
    pub fn json(&self) -> Value {
        let mut variables = vec![
            json!({
                "name": "datasource", "label": "Prometheus", "type": "datasource",
                "query": "prometheus",
            }),
            chosen("instance", "Gateway", "label_values(scopegate_build_info, instance)"),
        ];
        variables.extend(self.variables.iter().map(
            |Variable(name, label, choices)| match choices {
                Choices::Label(query) => chosen(name, label, query),
                Choices::Numbers(list) => json!({
                    "name": name, "label": label, "type": "custom", "query": list,
                    "current": { "text": "10", "value": "10" },
                }),
            },
        ));
        let (mut x, mut y, mut row) = (0, 0, 0);
        let panels: Vec<Value> = self
            .panels
            .iter()
            .zip(1..)
            .map(|(panel, id)| {
                let (width, height) = panel.form.size();
                if x + width > 24 {
                    (x, y, row) = (0, y + row, 0);
                }
                let place = json!({ "x": x, "y": y, "w": width, "h": height });
                (x, row) = (x + width, row.max(height));
                panel.json(id, &place)
            })
            .collect();
        json!({
            "uid": format!("scopegate-{}", self.file.trim_end_matches(".json")),
            "title": self.title,
            "description": self.about,
            "tags": ["scopegate"],
            "schemaVersion": 39,
            "editable": true,
            "refresh": "30s",
            "time": { "from": "now-3h", "to": "now" },
            "timezone": "browser",
            "links": [{
                "type": "dashboards", "title": "scopegate", "tags": ["scopegate"],
                "asDropdown": true, "keepTime": true, "includeVars": true,
            }],
            "templating": { "list": variables },
            "panels": panels,
        })
    }
}

/// A variable with the values of a label, several or all of them.
fn chosen(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query",
        "datasource": { "type": "prometheus", "uid": DATASOURCE },
        "query": { "query": query, "refId": name }, "refresh": 2, "sort": 1,
        "multi": true, "includeAll": true, "allValue": ".*",
        "current": { "text": "All", "value": "$__all" },
    })
}

impl Form {
    const fn size(self) -> (u32, u32) {
        match self {
            Self::Number => (6, 4),
            Self::Lines | Self::Table => (12, 8),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Number => "stat",
            Self::Lines => "timeseries",
            Self::Table => "table",
        }
    }
}

impl Panel {
    fn json(&self, id: u32, place: &Value) -> Value {
        let instant = self.form == Table;
        let targets: Vec<Value> = self
            .queries
            .iter()
            .zip('A'..)
            .map(|((query, legend), name)| {
                json!({
                    "refId": name.to_string(), "expr": query, "legendFormat": legend,
                    "instant": instant, "range": !instant,
                    "format": if instant { "table" } else { "time_series" },
                    "datasource": { "type": "prometheus", "uid": DATASOURCE },
                })
            })
            .collect();
        json!({
            "id": id,
            "type": self.form.name(),
            "title": self.title,
            "description": self.about,
            "gridPos": place,
            "datasource": { "type": "prometheus", "uid": DATASOURCE },
            "fieldConfig": { "defaults": { "unit": self.unit, "min": 0 }, "overrides": [] },
            "options": {},
            "targets": targets,
        })
    }
}
