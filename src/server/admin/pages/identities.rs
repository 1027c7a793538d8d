//! The pages about who there is and what deserves a look: overview, integrations, access, findings.

use super::activity::{decision_table, issuers, upstreams};
use super::block::{
    Block, Card, Cell, Chart, Fact, Field, Form, Kind, Page, Pager, Pre, Table, address,
    client_link, part,
};
use crate::server::admin::api::{FindingDetail, FindingRow, IntegrationDetail, ListQuery};
use crate::server::admin::entry::Caller;
use crate::server::admin::view::Listed;
use crate::server::admin::view::integrations::Integration;
use crate::server::admin::view::operations::{ApiRow, ReachRow};
use crate::server::admin::view::overview::Overview;

fn pager<T>(path: &str, list: &Listed<T>, query: &ListQuery) -> Block {
    let to = |page: usize| {
        let (page, per_page) = (page.to_string(), query.per_page.map(|rows| rows.to_string()));
        let members = [
            ("search", query.search.as_str()),
            ("filter", &query.filter),
            ("sort", &query.sort),
            ("client", &query.client),
            ("api", &query.api),
            ("page", &page),
            ("per_page", per_page.as_deref().unwrap_or_default()),
        ];
        address(path, &members)
    };
    let pages = list.total.div_ceil(list.per_page).max(1);
    Block::Pager(Pager {
        label: "Pages of the list",
        text: format!("{} in all, page {} of {pages}", list.total, list.page),
        before: (list.page > 1).then(|| to(list.page - 1)),
        after: list.has_more().then(|| to(list.page + 1)),
    })
}

pub(super) fn overview(overview: &Overview, caller: &Caller) -> Page {
    let mut page = Page::new("Overview", "/")
        .lead("Who can reach what, who does, and what deserves a look.")
        .link("New integration", "/integrations/new", true);
    let totals = overview.integrations;
    let findings = overview.findings;
    let window = &overview.window;
    let warn = |count: usize, tone| if count > 0 { tone } else { "" };
    page.add(Block::Cards(vec![
        Card::new("Machine identities", totals.all, format!("{} active", totals.active))
            .to("/integrations"),
        Card::new("Broad", totals.broad, "reach more than their scopes")
            .to("/integrations?filter=broad")
            .tone(warn(totals.broad, "warn")),
        Card::new("Unused", totals.unused, "no permitted call on record")
            .to("/integrations?filter=unused"),
        Card::new("Near expiry", totals.near_expiry, "a secret within 30 days")
            .to("/integrations?filter=near-expiry")
            .tone(warn(totals.near_expiry, "warn")),
        Card::new(
            "Warnings",
            findings.warnings,
            format!("{} notes, {} waived", findings.notes, findings.waived),
        )
        .to("/findings")
        .tone(warn(findings.warnings, "warn")),
        Card::new("Decisions", window.decisions, "the newest of the window").to("/decisions"),
        Card::new("Refused", window.refused, "of these").to("/decisions?verdict=refuse"),
        Card::new(
            "Decision, median",
            format!("{} µs", window.p50_us),
            format!("99 of 100 within {} µs", window.p99_us),
        ),
    ]));
    page.add(Block::Chart(Chart { caption: "Requests by day", days: overview.days.clone() }));
    page.heading("Refusals by reason");
    let columns = ["Reason", "#Count"];
    page.add(Block::Table(
        Table::new("Refusals by reason, among the newest decisions", &columns)
            .rows(window.reasons.iter().map(|row| {
                let to = address("/decisions", &[("verdict", "refuse"), ("reason", &row.reason)]);
                vec![Cell::from(&row.reason).to(to), row.count.into()]
            }))
            .empty("Nothing was refused."),
    ));
    page.heading("Behind it");
    let store_tone = if overview.store == "answers" { "good" } else { "bad" };
    page.add(Block::Facts(vec![
        Fact::new("Gateway", &overview.state),
        Fact::new("Store", Cell::from(&overview.store).tone(store_tone)),
        Fact::new("Set in force", Cell::from(&overview.set).tone("mono")),
        Fact::new("Loaded", &overview.loaded_at),
    ]));
    page.add(upstreams(&overview.upstreams));
    page.add(issuers(&overview.issuers));
    if caller.role.acts() {
        page.add(Form::act("reload", "/", "Read the files again", Vec::new()));
    }
    page
}

pub(super) fn integrations(list: &Listed<Integration>, query: &ListQuery) -> Page {
    let csv = address(
        "/integrations.csv",
        &[("search", &query.search), ("filter", &query.filter), ("sort", &query.sort)],
    );
    let mut page = Page::new("Inbound integrations", "/integrations")
        .lead("Every client that can get a token or call an API: none is left out.")
        .link("New integration", "/integrations/new", true)
        .link("CSV", csv, false);
    page.add(Form::filter(
        "/integrations",
        vec![
            Field::new(Kind::Text, "search", "Search", &*query.search),
            Field::new(Kind::Select, "filter", "Show", &*query.filter).options(&[
                ("", "all"),
                ("active", "active"),
                ("inactive", "inactive"),
                ("broad", "broad"),
                ("unused", "unused"),
                ("near-expiry", "near expiry"),
                ("findings", "with findings"),
            ]),
            Field::new(Kind::Select, "sort", "Order", &*query.sort).options(&[
                ("", "client id"),
                ("name", "name"),
                ("calls", "most calls"),
                ("last_call", "last call"),
                ("findings", "most findings"),
            ]),
        ],
    ));
    let columns = [
        "Client ID",
        "Name",
        "Provider",
        "Owner",
        "Active",
        "Grants",
        "Format",
        "Last token",
        "Last call",
        "#Calls, 30 days",
        "APIs used",
        "#Findings",
    ];
    let row = |row: &Integration| {
        let active = if row.active { Cell::from(true) } else { Cell::from("no").tone("warn") };
        let broad = if row.apis_granted == 0 { "muted" } else { "" };
        vec![
            client_link(&row.client_id),
            Cell::from(&row.name),
            row.provider_name.as_ref().into(),
            row.owner.as_ref().into(),
            active,
            Cell::list(&row.grants),
            Cell::from(&row.token_format),
            Cell::when(row.last_token.as_ref()),
            Cell::when(row.last_call.as_ref()),
            row.calls_30_days.into(),
            Cell::from(format!("{} of {}", row.apis_used, row.apis_granted)).tone(broad),
            Cell::from(row.findings).tone(if row.findings > 0 { "warn" } else { "" }),
        ]
    };
    page.add(Block::Table(
        Table::new("Inbound integrations", &columns)
            .rows(list.items.iter().map(row))
            .empty("No integration fits."),
    ));
    page.add(pager("/integrations", list, query));
    page
}

/// The rows as CSV (RFC 4180). A cell that a spreadsheet would take for a formula is quoted away.
pub(super) fn csv(list: &Listed<Integration>, with_head: bool, text: &mut String) {
    let field = |value: &str| {
        let value = if value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            format!("'{value}")
        } else {
            value.to_owned()
        };
        if value.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value
        }
    };
    if with_head {
        text.push_str(
            "client_id,name,provider_name,owner,active,public_client,grants,application_user,\
             token_format,access_token_lifespan,refresh_token_lifespan,auth_scopes,\
             limit_authorization,allow_only_selected_scopes,enforce_token_restriction,secrets,\
             last_token,last_call,calls_30_days,refused_30_days,apis_used,apis_granted,findings,at\
             \r\n",
        );
    }
    for row in &list.items {
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let secrets = row.secrets.iter().map(|secret| {
            let expires = secret.expires.as_deref().unwrap_or("never");
            format!("{} {} {expires}", secret.label, secret.state)
        });
        let fields = [
            row.client_id.clone(),
            row.name.clone(),
            optional(&row.provider_name),
            optional(&row.owner),
            row.active.to_string(),
            row.public_client.to_string(),
            row.grants.join(" "),
            optional(&row.application_user),
            row.token_format.clone(),
            row.access_token_lifespan.to_string(),
            row.refresh_token_lifespan.to_string(),
            row.auth_scopes.join(" "),
            row.limit_authorization.clone().unwrap_or_default().join(" "),
            row.allow_only_selected_scopes.to_string(),
            row.enforce_token_restriction.to_string(),
            secrets.collect::<Vec<_>>().join("; "),
            optional(&row.last_token),
            optional(&row.last_call),
            row.calls_30_days.to_string(),
            row.refused_30_days.to_string(),
            row.apis_used.to_string(),
            row.apis_granted.to_string(),
            row.findings.to_string(),
            row.at.clone(),
        ];
        text.push_str(&fields.map(|value| field(&value)).join(","));
        text.push_str("\r\n");
    }
}

pub(super) fn integration(detail: &IntegrationDetail, caller: &Caller) -> Page {
    let row = &detail.integration;
    let id = &row.client_id;
    let here = format!("/integrations/{}", part(id));
    let mut page = Page::new(row.name.clone(), "/integrations");
    if detail.blocked {
        let text = "It is blocked: every request of it is refused.".to_owned();
        page.notice = Some(super::block::Notice { bad: true, text });
    }
    page.heading("Details");
    page.add(Block::Facts(vec![
        Fact::new("Name", &row.name),
        Fact::new("Provider name", row.provider_name.as_ref()),
        Fact::new("Owner", row.owner.as_ref()),
        Fact::new("Client ID", Cell::from(id).tone("mono")),
        Fact::new("Active", row.active),
        Fact::new("Public client", row.public_client),
        Fact::new("Grants", Cell::list(&row.grants)),
        Fact::new("Application user", row.application_user.as_ref()),
        Fact::new("Redirect URLs", Cell::list(&row.redirect_urls)),
        Fact::new("Login URL", row.login_url.as_ref()),
        Fact::new("Logo URL", row.logo_url.as_ref()),
        Fact::new("Declared at", Cell::from(&row.at).tone("mono")),
    ]));
    page.heading("Auth scope");
    let limit = row.limit_authorization.as_ref();
    page.add(Block::Facts(vec![
        Fact::new("Auth scopes", Cell::list(&row.auth_scopes)),
        Fact::new(
            "Limit authorization",
            limit.map_or_else(|| "all APIs".into(), |apis| Cell::list(apis)),
        ),
        Fact::new("Allow access only to APIs in selected scope", row.allow_only_selected_scopes),
    ]));
    page.heading("Advanced options");
    page.add(Block::Facts(vec![
        Fact::new("Enforce token restriction", row.enforce_token_restriction),
        Fact::new("Token format", &row.token_format),
        Fact::new("Access token lifespan", format!("{} s", row.access_token_lifespan)),
        Fact::new("Refresh token lifespan", format!("{} s", row.refresh_token_lifespan)),
        Fact::new("Last token", row.last_token.as_ref()),
        Fact::new("Last call", row.last_call.as_ref()),
    ]));
    page.heading("Secrets");
    page.add(Block::Table(
        Table::new("Secrets", &["Secret", "State", "Expires", "Last used"])
            .rows(row.secrets.iter().map(|secret| {
                let tone = if secret.state == "live" { "good" } else { "warn" };
                let expires = match &secret.expires {
                    Some(day) => Cell::from(day),
                    None => Cell::from("never").tone("warn"),
                };
                vec![
                    Cell::from(&secret.label).tone("mono"),
                    Cell::from(&secret.state).tone(tone),
                    expires,
                    Cell::when(secret.last_used.as_ref()),
                ]
            }))
            .empty("It has no secret."),
    ));
    page.heading("Findings");
    page.add(finding_table(&detail.findings));
    page.heading("Use");
    let days = detail.usage.days.clone();
    page.add(Block::Chart(Chart { caption: "Its requests by day", days }));
    page.heading("What it can reach");
    match &detail.reach {
        Some(reach) => page.add(reach_table(reach, false)),
        None => page.add(Block::Text(
            "This is being computed for the set in force. Load the page again in a moment.".into(),
        )),
    }
    page.heading("Its last refusals");
    page.add(decision_table("Its last refusals", &detail.refusals));
    if caller.role.acts() {
        page.heading("Acts");
        page.add(Block::Text(format!(
            "What is done here is what the commands do, with an audit record of {}.",
            caller.name
        )));
        let whom = || vec![Field::hidden("kind", "client"), Field::hidden("value", id)];
        page.add(Form::act("revoke", &here, "Revoke its tokens", whom()));
        if detail.blocked {
            page.add(Form::act("unblock", &here, "End the block", whom()));
        } else {
            let mut fields = whom();
            fields.push(Field::new(Kind::Text, "reason", "Reason", ""));
            fields.push(Field::new(Kind::Text, "for", "For how long, for instance 1h", ""));
            page.add(Form::act("block", &here, "Block it", fields));
        }
        page.add(Form::act("clear-attempts", &here, "Forget its wrong attempts", whom()));
    }
    page
}

fn reach_table(rows: &[ReachRow], with_client: bool) -> Block {
    let mut columns = vec!["API", "Operation", "By", "Only", "#Permitted", "Last used"];
    if with_client {
        columns.insert(0, "Client");
    }
    let row = |row: &ReachRow| {
        let used = if row.permitted == 0 { "warn" } else { "" };
        let mut cells = vec![
            Cell::from(&row.api).to(address("/access", &[("api", &row.api)])),
            Cell::from(&row.operation).tone("mono"),
            Cell::list(&row.by),
            Cell::list(&row.only),
            Cell::from(row.permitted).tone(used),
            Cell::when(row.last_used.as_ref()),
        ];
        if with_client {
            let client = match &row.client {
                Some(client) => client_link(client),
                None => Cell::from("anybody").tone("warn"),
            };
            cells.insert(0, client);
        }
        cells
    };
    Block::Table(
        Table::new("What is within reach, and by which rule", &columns)
            .rows(rows.iter().map(row))
            .empty("Nothing is within reach."),
    )
}

pub(super) fn apis(list: &Listed<ApiRow>, query: &ListQuery) -> Page {
    let mut page = Page::new("API access", "/access")
        .lead("Who can call this, and why. Choose an API, or ask for a client.");
    page.add(Form::filter(
        "/access",
        vec![
            Field::new(Kind::Text, "search", "API", &*query.search),
            Field::new(Kind::Text, "client", "Client ID", &*query.client),
        ],
    ));
    let columns = [
        "API",
        "Base path",
        "Host",
        "Upstream",
        "#Operations",
        "#Clients",
        "#Calls, 30 days",
        "#Refused, 30 days",
    ];
    page.add(Block::Table(
        Table::new("APIs", &columns)
            .rows(list.items.iter().map(|row| {
                let name = Cell::from(&row.name).to(address("/access", &[("api", &row.name)]));
                let clients = if row.public {
                    Cell::from("anybody").tone("warn")
                } else {
                    row.clients.map_or_else(|| None.into(), Cell::from)
                };
                vec![
                    name,
                    Cell::from(&row.base_path).tone("mono"),
                    row.host.as_ref().into(),
                    Cell::from(&row.upstream),
                    row.operations.into(),
                    clients,
                    row.calls_30_days.into(),
                    row.refused_30_days.into(),
                ]
            }))
            .empty("No API fits."),
    ));
    page.add(pager("/access", list, query));
    page
}

pub(super) fn access(list: &Listed<ReachRow>, query: &ListQuery) -> Page {
    let title = match (query.client.is_empty(), query.api.is_empty()) {
        (true, _) => format!("Access to {}", query.api),
        (false, true) => format!("Access of {}", query.client),
        (false, false) => format!("Access of {} to {}", query.client, query.api),
    };
    let mut page = Page::new(title, "/access").link("All APIs", "/access", false);
    page.add(Form::filter(
        "/access",
        vec![
            Field::new(Kind::Text, "api", "API", &*query.api),
            Field::new(Kind::Text, "client", "Client ID", &*query.client),
            Field::new(Kind::Select, "filter", "Show", &*query.filter)
                .options(&[("", "all"), ("unused", "granted and not used")]),
        ],
    ));
    page.add(reach_table(&list.items, true));
    page.add(pager("/access", list, query));
    page
}

fn finding_table(rows: &[FindingRow]) -> Block {
    let columns = ["Severity", "Finding", "Rule", "On", "At"];
    let row = |row: &FindingRow| {
        let tone = if row.level == "warning" { "warn" } else { "muted" };
        let level = row.waived.as_ref().map_or_else(
            || Cell::from(&row.level).tone(tone),
            |_| Cell::from("waived").tone("muted"),
        );
        let to = format!("/findings/{}/{}", part(&row.rule), part(&row.on));
        vec![
            level,
            Cell::from(&row.message).to(to),
            Cell::from(&row.rule).tone("mono"),
            Cell::from(&row.on),
            Cell::from(&row.at).tone("mono"),
        ]
    };
    Block::Table(
        Table::new("Findings", &columns).rows(rows.iter().map(row)).empty("Nothing was found."),
    )
}

pub(super) fn findings(list: &Listed<FindingRow>, query: &ListQuery) -> Page {
    let mut page = Page::new("Findings", "/findings").lead(
        "Each with what was seen, why it matters, and where an edit of the YAML helps, that edit \
            with its effect.",
    );
    page.add(Form::filter(
        "/findings",
        vec![
            Field::new(Kind::Text, "search", "Rule or subject", &*query.search),
            Field::new(Kind::Select, "filter", "Show", &*query.filter).options(&[
                ("", "open"),
                ("waived", "waived"),
                ("all", "all"),
            ]),
        ],
    ));
    page.add(finding_table(&list.items));
    page.add(pager("/findings", list, query));
    page
}

pub(super) fn finding(detail: &FindingDetail) -> Page {
    let row = &detail.finding;
    let mut page =
        Page::new(row.message.clone(), "/findings").link("All findings", "/findings", false);
    page.add(Block::Facts(vec![
        Fact::new("Severity", &row.level),
        Fact::new("Rule", Cell::from(&row.rule).tone("mono")),
        Fact::new("On", &row.on),
        Fact::new("Client", row.client.as_ref().map_or_else(|| None.into(), |id| client_link(id))),
        Fact::new("Declared at", Cell::from(&row.at).tone("mono")),
        Fact::new("Why it matters", &row.why),
        Fact::new("What to do", &row.fix),
        Fact::new("Waived", row.waived.as_ref()),
    ]));
    page.heading("Evidence");
    page.add(Block::Table(
        Table::new("Evidence", &["Seen"])
            .rows(row.evidence.iter().map(|text| vec![Cell::from(text)]))
            .empty("The configuration itself is the evidence."),
    ));
    page.heading("Patch");
    match (&detail.patch, &detail.no_patch) {
        (Some(patch), _) => {
            page.add(Pre::block(format!("The edit of {}", patch.file), &*patch.diff));
            let effect = match (patch.refused.len(), patch.permitted.len()) {
                (0, 0) => "It changes nothing that anybody may call.".to_owned(),
                (refused, permitted) => format!(
                    "It refuses {refused} operations that are permitted, and permits {permitted} \
                        that are refused. Nothing that was used is among the refused."
                ),
            };
            page.add(Block::Text(effect));
            let lines = patch.refused.iter().map(|text| ("refused", text));
            let lines = lines.chain(patch.permitted.iter().map(|text| ("permitted", text)));
            page.add(Block::Table(
                Table::new("Effect of the patch", &["Afterwards", "Operation"])
                    .rows(lines.map(|(verdict, text)| vec![Cell::from(verdict), Cell::from(text)]))
                    .empty("No difference."),
            ));
        }
        (None, text) => {
            let text = text.as_deref().unwrap_or("there is none");
            page.add(Block::Text(format!("No patch: {text}.")));
        }
    }
    page
}
