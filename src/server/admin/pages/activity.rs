//! The pages about what happens: decisions, keys and issuers, use, audit.

use serde_json::{Map, Value};

use super::block::{
    Block, Cell, Chart, Fact, Field, Form, Kind, Page, Pager, Step, Table, address, client_link,
    part,
};
use crate::names::Timestamp;
use crate::server::admin::api::{AuditList, Operations, UseQuery};
use crate::server::admin::entry::Caller;
use crate::server::admin::view::decisions::{Decision, DecisionFilter, DecisionList, Explained};
use crate::server::admin::view::moment;
use crate::server::admin::view::operations::{IssuerState, UpstreamState, UseReport};

fn text<'a>(record: &'a Map<String, Value>, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn decision_table(caption: &str, decisions: &[Decision]) -> Block {
    let columns = ["Time", "Decision", "Request", "API", "Client", "Verdict", "#Status"];
    let row = |decision: &Decision| {
        let record = &decision.record;
        let resource = ["resource", "path"].map(|name| text(record, name));
        let resource = resource.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let client = ["client", "claimed_client"].map(|name| text(record, name));
        let client = client.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let verdict = match (text(record, "verdict"), text(record, "reason")) {
            ("permit", _) => Cell::from("permit").tone("good"),
            (_, "") => Cell::from("refused").tone("bad"),
            (_, reason) => Cell::from(reason).tone("bad"),
        };
        let id = text(record, "id");
        vec![
            Cell::from(text(record, "time")).tone("when"),
            Cell::from(id).to(format!("/decisions/{}", part(id))).tone("mono"),
            Cell::from(format!("{} {resource}", text(record, "method"))),
            Cell::from(text(record, "api")),
            Cell::from(client),
            verdict,
            record.get("status").and_then(Value::as_u64).unwrap_or(0).into(),
        ]
    };
    let mut table = Table::new(caption, &columns)
        .rows(decisions.iter().map(row))
        .empty("No decision of the window fits.");
    table.id = Some("decisions");
    Block::Table(table)
}

pub(super) fn decisions(list: &DecisionList, filter: &DecisionFilter) -> Page {
    let mut page = Page::new("Decisions", "/decisions").lead(
        "The last decisions of this gateway. Older ones are in the decision log: `scopegate \
            explain --decision ID`.",
    );
    page.add(Form::filter(
        "/decisions",
        vec![
            Field::new(Kind::Text, "client", "Client ID", &*filter.client),
            Field::new(Kind::Text, "api", "API", &*filter.api),
            Field::new(Kind::Select, "verdict", "Verdict", &*filter.verdict).options(&[
                ("", "all"),
                ("permit", "permitted"),
                ("refuse", "refused"),
            ]),
            Field::new(Kind::Text, "reason", "Reason", &*filter.reason),
            Field::new(Kind::Text, "id", "Decision id", &*filter.id),
        ],
    ));
    let members = [
        ("client", filter.client.as_str()),
        ("api", &filter.api),
        ("verdict", &filter.verdict),
        ("reason", &filter.reason),
    ];
    page.add(Block::Live(address("/api/v1/decisions/tail", &members)));
    page.add(decision_table("Decisions, newest first", &list.items));
    let before = list.next_before.map(|before| before.to_string());
    let after = before.as_deref().map(|before| {
        let mut members = members.to_vec();
        members.push(("before", before));
        address("/decisions", &members)
    });
    let newest = filter.before.map(|_| address("/decisions", &members));
    page.add(Block::Pager(Pager {
        label: "Pages of the list",
        text: format!("{} shown", list.items.len()),
        before: newest,
        after,
    }));
    page
}

pub(super) fn decision(id: &str, explained: &Explained) -> Page {
    let record = &explained.record;
    let verdict = match (text(record, "verdict"), text(record, "reason")) {
        ("permit", _) => "permit",
        (_, "") => "refused",
        (_, reason) => reason,
    };
    let mut page = Page::new(format!("Decision {id}"), "/decisions")
        .lead(&format!("Verdict: {verdict}"))
        .link("All decisions", "/decisions", false);
    let mut facts = Vec::new();
    if let Some(remedy) = explained.remedy {
        facts.push(Fact::new("What helps", remedy));
    }
    if !text(record, "fault").is_empty() {
        facts.push(Fact::new("Fault", text(record, "fault")));
    }
    if !facts.is_empty() {
        page.add(Block::Facts(facts));
    }
    page.heading("Every step");
    match (&explained.explanation, explained.not_judged_again) {
        (Some(explanation), _) => {
            page.add(Block::Text(format!("Judged again by the set in force, {}.", explained.set)));
            page.add(Block::Steps(steps(explanation)));
            let nearest = list_of(explanation, "nearest");
            if !nearest.is_empty() {
                page.heading("The nearest change that would permit it");
                page.add(Block::Table(
                    Table::new("The nearest change", &["Change"])
                        .rows(nearest.iter().map(|text| vec![Cell::from(text)])),
                ));
            }
        }
        (None, gap) => {
            page.add(Block::Text(format!("Not judged again: {}.", gap.unwrap_or("no steps"))));
        }
    }
    page.heading("Record");
    let rows = record.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        vec![Cell::from(name).tone("mono"), Cell::from(value)]
    });
    page.add(Block::Table(Table::new("Record", &["Member", "Value"]).rows(rows)));
    page
}

fn list_of(value: &Value, name: &str) -> Vec<String> {
    let items = value.get(name).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn steps(explanation: &Value) -> Vec<Step> {
    let steps = explanation.get("steps").and_then(Value::as_array);
    let step = |step: &Value| {
        let text =
            |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let result = text("result");
        let tone = match result.as_str() {
            "passed" => "good",
            "refused" => "bad",
            _ => "",
        };
        Step {
            name: text("step"),
            result: result.replace('_', " "),
            tone,
            facts: list_of(step, "facts"),
        }
    };
    steps.into_iter().flatten().map(step).collect()
}

pub(super) fn operations(found: &Operations, caller: &Caller) -> Page {
    let mut page = Page::new("Keys and issuers", "/operations").lead(
        "Our keys and when each goes, the keys of others, upstreams, and blocks set by acts.",
    );
    page.heading("Our keys");
    let columns = ["Key", "Algorithm", "State", "Signs from", "Retired", "Goes"];
    page.add(Block::Table(Table::new("Our keys", &columns).rows(found.own_keys.iter().map(
        |key| {
            let tone = if key.state == "current" { "good" } else { "" };
            vec![
                Cell::from(&key.kid).tone("mono"),
                Cell::from(&key.algorithm),
                Cell::from(&key.state).tone(tone),
                Cell::from(&key.signs_from).tone("when"),
                Cell::when(key.retired_at.as_ref()),
                Cell::when(key.goes_at.as_ref()),
            ]
        },
    ))));
    if caller.role.acts() {
        page.add(Form::act("rotate-key", "/operations", "Make another key", Vec::new()));
        let kid = Field::new(Kind::Text, "value", "Key", "")
            .required()
            .help("What it signed is refused from then on.");
        page.add(Form::act("revoke-key", "/operations", "Remove a key", vec![kid]));
    }
    page.heading("Issuers");
    page.add(issuers(&found.issuers));
    page.heading("Upstreams");
    page.add(upstreams(&found.upstreams));
    page.heading("Blocks");
    let columns = ["Of", "Value", "Reason", "Since", "Until"];
    page.add(Block::Table(
        Table::new("Blocks set by acts", &columns)
            .rows(found.blocks.iter().map(|block| {
                vec![
                    Cell::from(&block.kind),
                    Cell::from(&block.value),
                    block.reason.as_ref().into(),
                    Cell::from(&block.since).tone("when"),
                    Cell::when(block.until.as_ref()),
                ]
            }))
            .empty("Nobody is blocked."),
    ));
    if caller.role.acts() {
        let kinds = [
            ("client", "client"),
            ("user", "user"),
            ("token", "token (jti)"),
            ("network", "network"),
        ];
        let whom = || {
            vec![
                Field::new(Kind::Select, "kind", "Whom", "client").options(&kinds),
                Field::new(Kind::Text, "value", "Name, jti or network", "").required(),
            ]
        };
        let mut fields = whom();
        fields.push(Field::new(Kind::Text, "reason", "Reason", ""));
        fields.push(Field::new(Kind::Text, "for", "For how long", ""));
        page.add(Form::act("block", "/operations", "Block", fields));
        page.add(Form::act("unblock", "/operations", "End a block", whom()));
    }
    page
}

pub(super) fn usage(report: &UseReport, query: &UseQuery) -> Page {
    let mut page = Page::new("Usage", "/usage").lead(
        "Counted by integration, API, operation and day, refusals too. Pictures can be read as \
            tables.",
    );
    let days = query.days.unwrap_or(30).to_string();
    page.add(Form::filter(
        "/usage",
        vec![
            Field::new(Kind::Text, "client", "Client ID", &*query.client),
            Field::new(Kind::Text, "api", "API", &*query.api),
            Field::new(Kind::Select, "days", "Time", days).options(&[
                ("1", "today"),
                ("30", "30 days"),
                ("90", "90 days"),
                ("395", "13 months"),
            ]),
        ],
    ));
    if let Some(since) = &report.since {
        page.add(Block::Text(format!("Counted since {since}.")));
    }
    page.add(Block::Chart(Chart { caption: "Requests by day", days: report.days.clone() }));
    let columns = ["Client", "API", "Operation", "#Permitted", "#Refused", "Last"];
    let rows = report.subjects.iter().map(|row| {
        let client = if row.client.is_empty() {
            Cell::from("none").tone("muted")
        } else {
            client_link(&row.client)
        };
        let api = if row.api.is_empty() { "our endpoints" } else { row.api.as_str() };
        vec![
            client,
            Cell::from(api),
            Cell::from(&row.operation).tone("mono"),
            row.permitted.into(),
            Cell::from(row.refused).tone(if row.refused > 0 { "warn" } else { "" }),
            Cell::from(&row.last).tone("when"),
        ]
    });
    page.add(Block::Table(
        Table::new("Use by integration, API and operation", &columns)
            .rows(rows)
            .empty("Nothing was counted in this time."),
    ));
    if report.total_subjects > report.subjects.len() {
        let (shown, all) = (report.subjects.len(), report.total_subjects);
        page.add(Block::Text(format!("The {shown} most used of {all}.")));
    }
    page
}

pub(super) fn audit(list: &AuditList) -> Page {
    let mut page = Page::new("Audit", "/audit").lead(
        "Who did what: acts of administrators and of commands, each written with the act itself.",
    );
    let columns = ["Time", "Who", "By", "From", "Act", "On", "After", "Outcome"];
    page.add(Block::Table(
        Table::new("Audit records, newest first", &columns)
            .rows(list.items.iter().map(|item| {
                let record = &item.record;
                let tone = if record.outcome == "done" { "" } else { "bad" };
                vec![
                    Cell::from(moment(Timestamp(record.at))).tone("when"),
                    Cell::from(&record.who),
                    Cell::from(&record.via),
                    record.from.as_ref().into(),
                    Cell::from(&record.act),
                    Cell::from(&record.on),
                    record.after.as_ref().into(),
                    Cell::from(&record.outcome).tone(tone),
                ]
            }))
            .empty("Nobody did anything yet."),
    ));
    page.add(Block::Pager(Pager {
        label: "Pages of the list",
        text: format!("{} shown", list.items.len()),
        before: None,
        after: list.next_before.map(|before| format!("/audit?before={before}")),
    }));
    page
}

pub(super) fn upstreams(rows: &[UpstreamState]) -> Block {
    let columns = ["Upstream", "#Usable", "#Left out", "#Down", "#Requests under way"];
    Block::Table(Table::new("Upstreams", &columns).rows(rows.iter().map(|row| {
        vec![
            Cell::from(&row.name),
            row.usable.into(),
            row.ejected.into(),
            Cell::from(row.down).tone(if row.down > 0 { "bad" } else { "" }),
            row.under_way.into(),
        ]
    })))
}

pub(super) fn issuers(rows: &[IssuerState]) -> Block {
    let columns = ["Issuer", "Keys from", "Keys", "#Age, seconds", "State"];
    Block::Table(
        Table::new("Other issuers", &columns)
            .rows(rows.iter().map(|row| {
                let tone = if row.state == "never fetched" { "bad" } else { "" };
                vec![
                    Cell::from(&row.name),
                    Cell::from(&row.from),
                    Cell::list(&row.keys).tone("mono"),
                    row.age_seconds.map_or_else(|| None.into(), Cell::from),
                    Cell::from(&row.state).tone(tone),
                ]
            }))
            .empty("No tokens of other issuers are accepted."),
    )
}
