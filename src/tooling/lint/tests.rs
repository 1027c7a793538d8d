use std::collections::BTreeSet;

use super::*;
use crate::tooling::edit::Change;
use crate::tooling::usage::{Counts, OTHER, Row, SecretUse, own};
use crate::tooling::worlds::{NOW, ago, config, row, secret, sources};

const POLICIES: &str = "apis:
  orders: { base_path: /orders, upstream: api, resources: { /a: [GET, POST], /b: [GET] } }
  past: { base_path: /past, upstream: api, resources: { /x: [GET], /y: [GET] } }
auth_scopes:
  read: { grants: [{ api: orders, methods: [GET] }] }
  write: { grants: [{ api: orders, methods: [POST] }] }
  past: { grants: [{ api: past }] }
access_policies:
  strict: { api: orders, resources: [/b], mode: shadow, allow: [] }
";

const CALM: &str = "owner: t, roles: [r], grants: [client_credentials]";

/// Findings that the configuration alone does not have, as rule and subject.
fn found(policies: &str, clients: &str, observed: &Observed) -> BTreeSet<(&'static str, String)> {
    let found = findings(&config(&sources(policies, clients)), observed, NOW).into_iter();
    let found = found.filter(|finding| finding.rule.basis() != Basis::Check);
    found.map(|finding| (finding.rule.label(), finding.on)).collect()
}

fn observed(since: i64, rows: Vec<Row>, secrets: Vec<SecretUse>) -> Observed {
    Observed::of(Some(ago(since)), rows, secrets)
}

/// Calls of `crm` that give no finding.
fn calls(client: &str) -> Vec<Row> {
    let all = ["GET /a", "POST /a", "GET /b"].map(|label| row(client, "orders", label, 1, 5));
    all.into_iter()
        .chain(["GET /x", "GET /y"].map(|label| row(client, "past", label, 1, 5)))
        .collect()
}

fn own_row(operation: &str, days: i64, counts: Counts) -> Row {
    Row { counts, ..row("crm", "", operation, days, 0) }
}

#[test]
fn use_and_its_absence_are_findings_where_enough_was_counted() {
    let one = |more: &str| format!("clients: {{ crm: {{ {CALM}, {more} }} }}\n");
    let scopes = "auth_scopes: [read, write, past]";
    let two = "secrets: [{ sha256: @1@ }, { sha256: @2@ }]";
    let refused = |refused| Counts { refused, ..Counts::default() };
    let with = |more: Vec<Row>| [calls("crm"), more].concat();
    for (sentence, clients, seen, expect) in [
        ("all is used", one(scopes), observed(400, calls("crm"), vec![]), vec![]),
        ("nothing was counted", one(scopes), Observed::default(), vec![]),
        (
            "no request of the client in 100 days",
            one(scopes),
            observed(
                400,
                [calls("erp"), vec![row("crm", "orders", "GET /a", 100, 1)]].concat(),
                vec![],
            ),
            vec![("client.idle", "crm")],
        ),
        (
            "a request 99 days ago: only scopes are unused",
            one(scopes),
            observed(
                400,
                [calls("erp"), vec![row("crm", "orders", "GET /a", 99, 1)]].concat(),
                vec![],
            ),
            vec![("client.unused_scope", "crm write"), ("client.unused_scope", "crm past")],
        ),
        (
            "a secret that was used is a request",
            one("secrets: [{ sha256: @1@ }]"),
            observed(400, calls("erp"), vec![secret("crm", 1, 3, None)]),
            vec![],
        ),
        (
            "no request ever, in 30 counted days",
            one(scopes),
            observed(30, calls("erp"), vec![]),
            vec![("client.never_used", "crm")],
        ),
        ("29 counted days are too few", one(scopes), observed(29, calls("erp"), vec![]), vec![]),
        (
            "what had no room of its own may be anything",
            one(scopes),
            observed(400, vec![row("", "", OTHER, 1, 1)], vec![]),
            vec![],
        ),
        (
            "a refused call uses no scope, and is a request",
            one(scopes),
            observed(
                40,
                vec![Row { counts: refused(1), ..row("crm", "orders", "GET /a", 1, 0) }],
                vec![],
            ),
            vec![
                ("client.unused_scope", "crm past"),
                ("client.unused_scope", "crm read"),
                ("client.unused_scope", "crm write"),
            ],
        ),
        (
            "a client that is switched off and calls",
            one("active: false"),
            observed(5, with(vec![own_row(own::INACTIVE, 3, refused(2))]), vec![]),
            vec![("client.disabled_calls", "crm")],
        ),
        (
            "and one that did so long ago",
            one("active: false"),
            observed(200, with(vec![own_row(own::INACTIVE, 30, refused(2))]), vec![]),
            vec![],
        ),
        (
            "a replay of refresh tokens",
            one(scopes),
            observed(5, with(vec![own_row(own::REFRESH_REPLAY, 3, refused(1))]), vec![]),
            vec![("client.refresh_replay", "crm")],
        ),
        (
            "people and programs in one client",
            one(scopes),
            observed(
                5,
                with(vec![Row {
                    counts: Counts { permitted: 2, for_users: 2, ..Counts::default() },
                    ..row("crm", "orders", "GET /a", 2, 0)
                }]),
                vec![],
            ),
            vec![("client.mixed_use", "crm")],
        ),
        (
            "a shadow policy that would refuse",
            one(scopes),
            observed(
                5,
                with(vec![Row {
                    counts: Counts { permitted: 2, shadow_refused: 2, ..Counts::default() },
                    ..row("crm", "orders", "GET /b", 2, 0)
                }]),
                vec![],
            ),
            vec![("policy.shadow_refuses", "strict")],
        ),
        (
            "shadow refusals of an operation that has no shadow rule any more",
            one(scopes),
            observed(
                5,
                with(vec![Row {
                    counts: Counts { permitted: 2, shadow_refused: 2, ..Counts::default() },
                    ..row("crm", "orders", "GET /a", 2, 0)
                }]),
                vec![],
            ),
            vec![],
        ),
        (
            "an operation and an API that nobody calls",
            one("auth_scopes: [read]"),
            observed(
                100,
                vec![row("crm", "orders", "GET /a", 1, 1), row("", "orders", "GET /b", 1, 1)],
                vec![],
            ),
            vec![("operation.unused", "orders POST /a"), ("operation.unused", "past")],
        ),
        (
            "the older secret is still used",
            one(two),
            observed(5, calls("crm"), vec![secret("crm", 1, 6, None), secret("crm", 2, 0, None)]),
            vec![("secret.old_in_use", "crm a1a1a1a1")],
        ),
        (
            "the older secret is the one that ends first",
            one("secrets: [{ sha256: @1@, expires: 2027-08-01 }, { sha256: @2@, expires: \
                 2027-06-01 }]"),
            observed(5, calls("crm"), vec![secret("crm", 1, 6, None), secret("crm", 2, 0, None)]),
            vec![("secret.old_in_use", "crm a2a2a2a2")],
        ),
        (
            "the older secret is not used any more",
            one(two),
            observed(5, calls("crm"), vec![secret("crm", 1, 30, None), secret("crm", 2, 0, None)]),
            vec![("secret.old_unused", "crm a1a1a1a1")],
        ),
        (
            "a new secret that is not used yet is not an old one",
            one(two),
            observed(400, calls("crm"), vec![secret("crm", 1, 0, None)]),
            vec![],
        ),
        (
            "a secret from many networks",
            one("secrets: [{ sha256: @3@ }]"),
            observed(5, calls("crm"), vec![secret("crm", 3, 1, Some(9))]),
            vec![("secret.many_networks", "crm a3a3a3a3")],
        ),
        (
            "and one from eight",
            one("secrets: [{ sha256: @3@ }]"),
            observed(5, calls("crm"), vec![secret("crm", 3, 1, Some(8))]),
            vec![],
        ),
        (
            "secrets that end, soon and long ago",
            one("secrets: [{ sha256: @1@, expires: 2026-12-31 }, { sha256: @2@, expires: \
                 2026-11-30 }]"),
            Observed::default(),
            vec![("secret.expires_soon", "crm a1a1a1a1"), ("secret.expired", "crm a2a2a2a2")],
        ),
        (
            "a secret that ends soon has a next one",
            one("secrets: [{ sha256: @1@, expires: 2026-12-31 }, { sha256: @2@, expires: \
                 2027-11-30 }]"),
            Observed::default(),
            vec![],
        ),
        (
            "nobody answers for a client, and its codes go to a device",
            "clients: { crm: { grants: [authorization_code], provider_name: p, secrets: [{ \
             sha256: @1@ }], redirect_urls: ['http://127.0.0.1/cb'] } }\n"
                .to_owned(),
            Observed::default(),
            vec![("client.no_owner", "crm"), ("client.loopback_redirect", "crm")],
        ),
        (
            "loopback is the right place for an application without a secret",
            "clients: { crm: { owner: t, grants: [authorization_code], public_client: true, \
             redirect_urls: ['http://127.0.0.1/cb'] } }\n"
                .to_owned(),
            Observed::default(),
            vec![],
        ),
    ] {
        let expect: BTreeSet<_> =
            expect.into_iter().map(|(rule, on)| (rule, on.to_owned())).collect();
        assert_eq!(found(POLICIES, &clients, &seen), expect, "{sentence}");
    }
}

#[test]
fn a_check_neither_has_findings_about_use_nor_calls_their_waivers_unused() {
    let policies = format!(
        "{POLICIES}waivers:\n  - {{ rule: client.idle, on: crm, reason: a year's end, until: \
         2099-01-01 }}\n  - {{ rule: client.no_owner, on: erp, reason: r, until: 2099-01-01 }}\n  \
         - {{ rule: client.broad, on: crm, reason: r, until: 2099-01-01 }}\n"
    );
    let clients = format!("clients: {{ crm: {{ {CALM}, auth_scopes: [read, write, past] }} }}\n");
    let config = config(&sources(&policies, &clients));
    let waivers = |found: Vec<Finding>| -> Vec<String> {
        let unused = found.into_iter().filter(|finding| finding.rule == Rule::WaiverUnused);
        unused.map(|finding| finding.on).collect()
    };
    let checked = lint(&config, NOW);
    assert!(checked.iter().all(|finding| finding.rule.basis() == Basis::Check));
    assert!(checked.iter().all(|finding| finding.evidence.is_empty()));
    assert_eq!(waivers(checked), ["client.broad on crm"]);
    // Without counters nobody knows whether the client is idle.
    let unknown = findings(&config, &Observed::default(), NOW);
    assert_eq!(waivers(unknown), ["client.no_owner on erp", "client.broad on crm"]);
    let used = findings(&config, &observed(400, calls("crm"), Vec::new()), NOW);
    assert_eq!(
        waivers(used),
        ["client.idle on crm", "client.no_owner on erp", "client.broad on crm"]
    );
    let idle = vec![row("crm", "orders", "GET /a", 200, 1)];
    let idle = findings(&config, &observed(400, idle, Vec::new()), NOW);
    let waived = idle.iter().find(|finding| finding.rule == Rule::ClientIdle).unwrap();
    assert_eq!(waived.waived.as_deref(), Some("a year's end"));
    assert_eq!(
        waived.evidence,
        [
            "requests are counted since 2025-10-27 (400 days ago)",
            "last request on 2026-05-15 (200 days ago)"
        ]
    );
}

#[test]
fn findings_about_the_configuration_have_the_use_of_the_client_and_its_remedy() {
    let clients = "clients: { crm: { owner: t, roles: [r], grants: [client_credentials, \
                   password], allow_only_selected_scopes: false, auth_scopes: [useraccount] } }\n";
    let config = config(&sources(
        &format!("{POLICIES}  x: {{ api: past, allow: [] }}\n")
            .replace("auth_scopes:", "auth_scopes:\n  useraccount: {}"),
        clients,
    ));
    let edits = |observed: &Observed| -> Vec<(Rule, Option<Change>)> {
        let found = findings(&config, observed, NOW).into_iter();
        let ours = [Rule::ClientBroad, Rule::ClientMasterScope, Rule::ClientPasswordGrant];
        let found = found.filter(|finding| ours.contains(&finding.rule));
        found.map(|finding| (finding.rule, finding.edit.map(|edit| edit.change))).collect()
    };
    let broad = Change::Set("allow_only_selected_scopes", true);
    let master = Change::RemoveScope("useraccount".to_owned());
    assert_eq!(
        edits(&observed(30, calls("crm"), Vec::new())),
        [
            (Rule::ClientBroad, Some(broad.clone())),
            (Rule::ClientMasterScope, Some(master.clone())),
            (
                Rule::ClientPasswordGrant,
                Some(Change::RemoveGrant(crate::client::GrantType::Password))
            ),
        ]
    );
    let counts = Counts { permitted: 1, for_users: 1, ..Counts::default() };
    let for_users = Row { counts, ..row("crm", "orders", "GET /a", 3, 0) };
    let edited = edits(&observed(30, vec![for_users], Vec::new()));
    assert_eq!(edited.last(), Some(&(Rule::ClientPasswordGrant, None)));
    assert!(edits(&observed(29, calls("crm"), Vec::new())).iter().all(|(_, edit)| edit.is_none()));
    assert!(edits(&Observed::default()).iter().all(|(_, edit)| edit.is_none()));
    let found = findings(&config, &observed(30, calls("crm"), Vec::new()), NOW);
    let broad = found.iter().find(|finding| finding.rule == Rule::ClientBroad).unwrap();
    assert_eq!(broad.evidence, ["25 calls permitted; last request on 2026-11-30 (yesterday)"]);
}
