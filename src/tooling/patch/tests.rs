use proptest::prelude::*;

use super::*;
use crate::tooling::access::access;
use crate::tooling::lint::findings;
use crate::tooling::usage::Row;
use crate::tooling::worlds::{NOW, Nothing, ago, config, row, secret, sources};

const POLICIES: &str = "apis:
  a: { base_path: /a, upstream: api, versions: [v1, v2], resources: { /x: [GET, POST], '/y/{id}': \
                        [GET] } }
  b: { base_path: /b, upstream: api, resources: { '': [GET], /z: [PUT] } }
  c: { base_path: /c, upstream: api, resources: { /w: [GET] } }
auth_scopes:
  read: { grants: [{ api: a, methods: [GET] }] }
  write: { grants: [{ api: a, methods: [POST] }, { api: b }] }
  one: { grants: [{ api: a, resources: ['/y/{id}'], where: { id: ['1'] } }] }
  useraccount: {}
acls:
  - { api: b, roles: { any: [r] } }
  - { api: c, roles: { any: [r] } }
";
/// Operations as they are counted.
const OPERATIONS: [(&str, &str); 6] = [
    ("a", "GET /x"),
    ("a", "POST /x"),
    ("a", "GET /y/{id}"),
    ("b", "GET /"),
    ("b", "PUT /z"),
    ("c", "GET /w"),
];
const SCOPES: [&str; 4] = ["read", "write", "one", "useraccount"];

/// The patches of all findings, by rule and subject.
fn patches(sources: &Sources, observed: &Observed) -> Vec<(Rule, String, Patch)> {
    let config = config(sources);
    let patcher = Patcher { sources, lookup: &Nothing, config: &config, observed, now: NOW };
    let found = findings(&config, observed, NOW);
    let patch = |finding: Finding| {
        let patch = patcher.patch(&finding, Workers::caller())?;
        Some((finding.rule, finding.on, patch))
    };
    found.into_iter().filter_map(patch).collect()
}

/// Client, API and operation of everything within reach.
fn reach(config: &Config) -> BTreeSet<(String, String, String)> {
    let reach = access(&config.rules, NOW, Workers::caller()).reach.into_iter();
    reach
        .map(|reach| {
            let operation =
                format!("{} {}", reach.method, crate::policy::route::written(&reach.resource));
            (reach.client.unwrap_or_default(), reach.api, operation)
        })
        .collect()
}

#[test]
fn a_patch_is_a_diff_with_the_text_and_its_effect() {
    let clients = "clients:\n  crm: # CRM\n    owner: t\n    grants: [client_credentials]\n    \
                   auth_scopes:\n      - read # all\n      - write\n    roles: [r]\n  # the end\n";
    let sources = sources(POLICIES, clients);
    let rows = vec![row("crm", "a", "GET /x", 2, 4)];
    let made = patches(&sources, &Observed::of(Some(ago(50)), rows, Vec::new()));
    let [(rule, on, patch)] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!((*rule, on.as_str()), (Rule::ClientUnusedScope, "crm write"));
    assert_eq!(patch.file, "clients.yaml");
    assert_eq!(
        patch.diff,
        "--- clients.yaml\n+++ clients.yaml\n@@ -4,6 +4,5 @@\n     grants: [\
         client_credentials]\n     auth_scopes:\n       - read # all\n-      - write\n     roles: \
         [r]\n   # the end\n"
    );
    assert_eq!(patch.text, clients.replace("      - write\n", ""));
    let lost: Vec<_> =
        patch.effect.refused.iter().map(|lost| (lost.method, lost.path.as_str())).collect();
    assert_eq!(
        lost,
        [
            ("POST", "/a/v1/x"),
            ("POST", "/a/v2/x"),
            ("POST", "/a/x"),
            ("GET", "/b"),
            ("PUT", "/b/z")
        ]
    );
    assert!(patch.effect.permitted.is_empty());
}

#[test]
fn every_kind_of_edit_makes_a_patch_and_none_takes_away_what_is_used() {
    let two = "secrets: [{ sha256: @1@ }, { sha256: @2@ }]";
    let used = |days| vec![row("crm", "a", "GET /x", days, 4)];
    for (sentence, client, rows, expect) in [
        (
            "a client that is idle is switched off, although it called long ago",
            "auth_scopes: [read]",
            used(150),
            vec![("client.idle", "{ active: false, owner: t")],
        ),
        (
            "a client that never called is",
            "auth_scopes: [read]",
            vec![],
            vec![("client.never_used", "{ active: false, owner: t")],
        ),
        (
            "a broad client is narrowed where its scopes grant what it calls",
            "allow_only_selected_scopes: false, auth_scopes: [read]",
            used(3),
            vec![("client.broad", "allow_only_selected_scopes: true")],
        ),
        (
            "and not where they do not",
            "allow_only_selected_scopes: false, auth_scopes: [read]",
            vec![row("crm", "c", "GET /w", 3, 1), row("crm", "a", "GET /x", 3, 1)],
            vec![],
        ),
        (
            "the master scope goes where others grant what is used",
            "auth_scopes: [useraccount, read]",
            used(3),
            vec![("client.master_scope", "auth_scopes: [read]")],
        ),
        (
            "and stays where it alone does",
            "auth_scopes: [useraccount]",
            vec![row("crm", "b", "PUT /z", 3, 1)],
            vec![],
        ),
        (
            "the old secret goes",
            two,
            used(3),
            vec![("secret.old_unused", "secrets: [{ sha256: a2")],
        ),
        (
            "a grant of passwords goes where no user calls",
            "grants: [client_credentials, password], auth_scopes: [read]",
            used(3),
            vec![("client.password_grant", "grants: [client_credentials]")],
        ),
    ] {
        let grants = if client.contains("grants:") { "" } else { "grants: [client_credentials], " };
        let clients = format!("clients: {{ crm: {{ owner: t, {grants}roles: [r], {client} }} }}\n");
        let secrets = vec![secret("crm", 1, 40, None), secret("crm", 2, 0, None)];
        let secrets = if client == two { secrets } else { Vec::new() };
        let observed = Observed::of(Some(ago(160)), rows, secrets);
        let made = patches(&sources(POLICIES, &clients), &observed);
        let rules: Vec<&str> = made.iter().map(|(rule, ..)| rule.label()).collect();
        let expected: Vec<&str> = expect.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(rules, expected, "{sentence}");
        for ((_, _, patch), (_, text)) in made.iter().zip(&expect) {
            assert!(patch.text.contains(text), "{sentence}: {}", patch.text);
        }
    }
}

#[test]
fn a_patch_that_would_not_load_or_fails_the_tests_is_none() {
    let clients = "clients: { crm: { owner: t, roles: [r], grants: [client_credentials], \
                   auth_scopes: [read, write] } }\n";
    let tests = "tests:\n  - { request: POST /a/v1/x, token: { client: crm }, expect: permit }\n";
    let mut sources = sources(&format!("{POLICIES}{tests}"), clients);
    let rows = || vec![row("crm", "a", "GET /x", 2, 4)];
    let observed = Observed::of(Some(ago(50)), rows(), Vec::new());
    assert_eq!(patches(&sources, &observed).len(), 1);
    if let Some(gateway) = &mut sources.gateway {
        gateway.text.push_str("run_tests_at_load: true\n");
    }
    assert_eq!(patches(&sources, &observed), []);
}

#[test]
fn a_diff_names_the_end_of_a_file_without_a_line_break() {
    for (old, new, diff) in [
        (
            "a\nb",
            "a\nc",
            "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n\\ No newline \
                          at end of file\n",
        ),
        ("", "a\n", "@@ -0,0 +1,1 @@\n+a\n"),
        ("a\na\n", "a\n", "@@ -1,2 +1,1 @@\n a\n-a\n"),
        (
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
            "1\n2\n3\n4\n5\nx\n7\n8\n9\n",
            "@@ -3,7 +3,7 @@\n 3\n 4\n 5\n-6\n+x\n 7\n 8\n 9\n",
        ),
    ] {
        assert_eq!(unified("f", old, new), format!("--- f\n+++ f\n{diff}"));
    }
}

/// A client: its scopes, whether it reaches only what they grant, and how its YAML is written.
type Registered = (Vec<&'static str>, bool, bool);

fn registered() -> impl Strategy<Value = Registered> {
    (proptest::sample::subsequence(SCOPES.to_vec(), 0..=4), any::<bool>(), any::<bool>())
}

fn written(clients: &[Registered]) -> String {
    let mut text = "clients:\n".to_owned();
    for (at, (scopes, only, block)) in clients.iter().enumerate() {
        let list = if *block && !scopes.is_empty() {
            scopes.iter().fold(String::new(), |list, scope| format!("{list}\n      - {scope} # s"))
        } else {
            format!(" [{}]", scopes.join(", "))
        };
        let _ = write!(
            text,
            "  c{at}:\n    grants: [client_credentials]\n    roles: [r]\n    \
             allow_only_selected_scopes: {only}\n    auth_scopes:{list}\n"
        );
    }
    text
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0..3_usize, 0..OPERATIONS.len(), 0..200_i64, 0..3_u64).prop_map(
        |(client, operation, days, permitted)| {
            let (api, label) = OPERATIONS[operation];
            row(&format!("c{client}"), api, label, days, permitted)
        },
    );
    proptest::collection::vec(row, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// For all small worlds and all use: whatever a client used and reaches, it reaches with any
    /// patch applied. Only an idle client loses what it used more than a hundred days ago.
    #[test]
    fn no_patch_takes_away_what_was_used(
        clients in proptest::collection::vec(registered(), 3),
        rows in rows(),
        since in 0..400_i64,
    ) {
        let before = sources(POLICIES, &written(&clients));
        let observed = Observed::of(Some(ago(since)), rows, Vec::new());
        let reached = reach(&config(&before));
        for (rule, on, patch) in patches(&before, &observed) {
            let mut after = before.clone();
            after.clients[0].text.clone_from(&patch.text);
            let left = reach(&config(&after));
            for (subject, sum) in observed.sums.iter().filter(|(_, sum)| sum.counts.permitted > 0) {
                let long_ago = sum.last_permitted.is_none_or(|last| last <= ago(IDLE_DAYS));
                let operation =
                    (subject.client.clone(), subject.api.clone(), subject.operation.clone());
                prop_assert!(
                    !reached.contains(&operation)
                        || left.contains(&operation)
                        || (rule == Rule::ClientIdle && long_ago),
                    "{} on {on} takes {operation:?} away:\n{}", rule.label(), patch.diff
                );
            }
        }
    }
}
