//! Records of ServiceNow.

use std::path::{Path, PathBuf};

use scopegate::tooling::import::servicenow::{self, Export, Options};
use serde_json::{Value, json};

use super::super::Files;
use super::{NOW, import, original};
use crate::support::Setup;

/// Records of ServiceNow, imported into a folder; what was said.
fn from_servicenow(folder: &Path, files: &[PathBuf]) -> (i32, String, String) {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    import(&[&["servicenow"], files.as_slice(), &["--output", folder.to_str().unwrap()]].concat())
}

fn shipped_records() -> Vec<PathBuf> {
    ["update-set.xml", "sys_user.json", "tables.json"].map(original).to_vec()
}

#[test]
fn records_become_clients_scopes_and_policies_and_what_they_lack_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (code, output, said) = from_servicenow(folder.path(), &shipped_records());
    assert_eq!((code, output.as_str()), (0, ""), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (policies, clients, users) = (
        read("policies/servicenow.yaml"),
        read("config/clients/servicenow.yaml"),
        read("config/users.yaml"),
    );
    let mut all = format!("{policies}{clients}{users}{said}");
    for (text, words) in [
        (
            &policies,
            "  table-get-api-access-policy:\n    api: now-table\n    methods: [GET]\n    \
                resources:\n      - /table/incident\n      - /table/problem\n    allow:\n      - { \
                clients: [\"4f1c0a9d2b7e4c6f8a1d3e5b7c9f0a2d\"] }\n",
        ),
        (&policies, "  table-api:\n    api: now-table\n    allow:\n      - { issuers: [self] }\n"),
        (
            &policies,
            "  incident_read:\n    description: \"Read incidents\"\n    grants:\n      - api: \
                now-table\n        methods: [GET]\n        resources:\n          \
                - \"/table/{tableName}\"\n          - /table/incident\n          - \
                /table/problem\n",
        ),
        (
            &clients,
            "    grants: [client_credentials]\n    name: \"CRM sync\"\n    \
                enforce_token_restriction: true\n    token_format: jwt\n    access_token_lifespan: \
                1800s\n",
        ),
        (
            &clients,
            "    grants: [authorization_code]\n    name: \"Self-service portal\"\n    \
                public_client: true\n    redirect_urls: [\"https://portal.example/callback\"]\n    \
                allow_only_selected_scopes: false\n    token_format: opaque\n",
        ),
        (&users, "  svc.crm:\n    name: \"CRM Integration\"\n    roles: [itil]\n"),
        (&said, "1 APIs, 2 scopes, 2 policies, 2 clients, 1 users"),
        (&said, "secret: 4f1c0a9d2b7e4c6f8a1d3e5b7c9f0a2d: its secret is not carried over"),
        (
            &said,
            "has the scope `table_all` in oauth_entity_scope and not in \
                oauth_entity_auth_scope_mapping",
        ),
        (&said, "`http://portal.example/old` is left out: plain http is for loopback alone"),
        (&said, "is broadly scoped"),
        (&said, "`Office network` has authentication policies"),
        (&said, "sys_api_access_scope Attachments, one day: left out: it is not active"),
        (&said, "its type is `oauth_provider`"),
        (&said, "fields that are not carried over: sub_claim"),
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let (code, json, _) =
        import(&["servicenow", original("update-set.xml").to_str().unwrap(), "--format", "json"]);
    assert_eq!(code, 0);
    all.push_str(&json);
    assert!(
        !all.contains("NOT-A-SECRET") && !all.contains("NOT-A-PASSWORD"),
        "a secret is in what was made"
    );
    // A second time, nothing is overwritten.
    let (code, _, said) = from_servicenow(folder.path(), &shipped_records());
    assert!(code == 2 && said.contains("nothing was written"), "{said}");
}

#[test]
fn what_was_made_of_records_decides_as_they_do() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(from_servicenow(folder.path(), &shipped_records()).0, 0);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let crm = "4f1c0a9d2b7e4c6f8a1d3e5b7c9f0a2d";
    let tests = [
        // The policy for its tables names the client, whose token is restricted to such.
        (crm, "GET /api/now/table/incident", "permit"),
        (crm, "GET /api/now/table/sys_user", "policy.profile"),
        (crm, "POST /api/now/table/incident", "policy.profile"),
        (crm, "GET /api/now/table/incident/7", "policy.profile"),
        // Another client: not where the policy names somebody else.
        ("portal", "GET /api/now/table/incident", "policy.profile"),
        ("portal", "GET /api/now/table/sys_user", "permit"),
        ("portal", "POST /api/now/table/incident", "permit"),
        ("portal", "DELETE /api/now/table/incident/7", "permit"),
        ("portal", "GET /api/now/attachment", "operation.unknown"),
    ];
    let lines: Vec<String> = tests
        .iter()
        .map(|(client, request, expect)| {
            let subject = if *client == "portal" { ", subject: svc.crm" } else { "" };
            format!(
                "  - {{ request: {request}, token: {{ client: \"{client}\"{subject} }}, \
                expect: {expect} }}\n"
            )
        })
        .collect();
    let mut setup = Setup::new(
        &format!("{}\ntests:\n{}", read("policies/servicenow.yaml"), lines.concat()),
        &read("config/clients/servicenow.yaml"),
    );
    setup.users = read("config/users.yaml");
    setup.gateway = "upstreams: { servicenow: { servers: [\"@UPSTREAM@\"] } \
        }\nauthorization_server: { grants: [client_credentials, authorization_code] }\n"
        .into();
    let files = Files::of(&setup);
    let (code, output, said) = files.run(&["test"], "");
    assert_eq!(code, 0, "{output}{said}");
    assert_eq!(files.run(&["check"], "").0, 0);
}

/// Makes configuration of records of the Table API, by table.
fn of_tables(tables: &Value) -> Result<(String, String, Vec<String>), String> {
    let export = Export { table: None, name: "all.json".into(), text: tables.to_string() };
    let made = servicenow::import(
        &[export],
        &Options { upstream: "sn".into(), tokens_unrestricted: false },
        NOW,
    )
    .map_err(|fault| fault.to_string())?;
    let notes = made.notes.iter().map(|note| format!("{}: {}", note.about, note.message)).collect();
    Ok((made.policies, made.clients, notes))
}

/// Records of one policy, one client, one profile and their mappings; to be changed.
fn tables() -> Value {
    json!({
        "sys_api_access_policy": [{ "sys_id": "p", "name": "P", "active": "true",
            "api_path": "now/table", "apply_all": "true", "apply_all_tables": "true" }],
        "oauth_entity": [
            { "sys_id": "c", "client_id": "app", "active": "true", "type": "client", "name": "App",
                "inbound_grant_type": "authz_code",
              "redirect_url": "https://app.example/cb", "scope_restriction_status": "unrestricted",
                  "enforce_token_restriction": "false" },
            { "sys_id": "d", "client_id": "other", "type": "client", "active": "true",
                "inbound_grant_type": "authz_code", "redirect_url": "https://app.example/cb",
              "scope_restriction_status": "unrestricted", "enforce_token_restriction": "false" },
        ],
        "sys_auth_profile_mapping": [{ "sys_id": "m", "api_access_policy": "p",
            "inbound_auth_profile": "f" }],
        "std_http_auth": [{ "sys_id": "f", "name": "F", "active": "true", "type": "oauth",
            "oauth_entity": "c" }],
        "auth_policy_mapping": [],
        "sys_auth_scope": [{ "sys_id": "s", "name": "read" }],
        "sys_api_access_scope": [],
        "oauth_entity_auth_scope_mapping": [],
    })
}

/// These records with some of them otherwise.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut tables = tables();
    for (pointer, value) in changes {
        if let Some(place) = tables.pointer_mut(pointer) {
            *place = value.clone();
        } else {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            tables.pointer_mut(parent).unwrap()[key] = value.clone();
        }
    }
    tables
}

/// The verdict on a request of a user with a client's token, by what is made of records.
fn verdict(tables: &Value, client: &str, request: &str) -> String {
    let (policies, clients, _) = of_tables(tables).unwrap();
    let tests = format!(
        "\ntests:\n  - {{ request: {request}, token: {{ client: {client}, subject: alice }}, \
            expect: permit }}\n"
    );
    let mut setup = Setup::new(&format!("{policies}{tests}"), &clients);
    setup.users = "users: { alice: {} }\n".into();
    setup.gateway = "upstreams: { sn: { servers: [\"@UPSTREAM@\"] } }\nauthorization_server: { \
        grants: [authorization_code, refresh_token] }\n"
        .into();
    let (_, told) = Files::of(&setup).json(&["test"], "");
    let failure = &told["tests"][0]["failure"];
    if failure.is_null() {
        "permit".to_owned()
    } else {
        failure["explanation"]["verdict"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_profile_that_cannot_be_told_whole_lets_nobody_in() {
    let id = "0123456789abcdef0123456789abcdef";
    let remove = Value::Null;
    for (changes, allow, why) in [
        (vec![], "allow:\n      - { clients: [app] }", ""),
        (vec![("/std_http_auth/0/type", json!("OAuth"))], "allow:\n      - { clients: [app] }", ""),
        (
            vec![("/std_http_auth/0/oauth_entity", json!(""))],
            "allow:\n      - { issuers: [self] }",
            "",
        ),
        (
            vec![("/auth_policy_mapping", json!([{ "sys_id": "x", "inbound_auth_profile": id }]))],
            "allow:\n      - { clients: [app] }",
            "",
        ),
        (
            vec![("/std_http_auth/0", json!({ "sys_id": "f", "active": "true", "type": "oauth" }))],
            "allow: []",
            "is not in the files",
        ),
        (
            vec![("/std_http_auth/0/oauth_entity", json!("elsewhere"))],
            "allow: []",
            "is not carried over",
        ),
        (
            vec![("/std_http_auth/0/type", json!("basic_auth"))],
            "allow: []",
            "only tokens are let in",
        ),
        (
            vec![("/std_http_auth/0/type", json!("id_token"))],
            "allow: []",
            "tokens of another issuer",
        ),
        (vec![("/std_http_auth/0/type", json!(""))], "allow: []", "export std_http_auth"),
        (vec![("/std_http_auth/0/active", json!("false"))], "allow: []", "is not active"),
        (
            vec![("/std_http_auth/0/active", json!(""))],
            "allow: []",
            "is active is not in the files",
        ),
        (vec![("/std_http_auth", json!([]))], "allow: []", "export std_http_auth too"),
        (
            vec![("/auth_policy_mapping", json!([{ "sys_id": "x", "inbound_auth_profile": "f" }]))],
            "allow: []",
            "has authentication policies",
        ),
        (
            vec![("/auth_policy_mapping", json!([{ "sys_id": "x", "some_column": "f" }]))],
            "allow: []",
            "has authentication policies",
        ),
        (
            vec![(
                "/auth_policy_mapping",
                json!([{ "sys_id": "x", "inbound_auth_profile": "by its name" }]),
            )],
            "allow: []",
            "names no profile by its id",
        ),
        (vec![("/sys_auth_profile_mapping", json!([]))], "allow: []", "no profile is mapped to it"),
        (vec![("/auth_policy_mapping", remove)], "allow: []", "export auth_policy_mapping"),
    ] {
        let mut records = with(&changes);
        records.as_object_mut().unwrap().retain(|_, rows| !rows.is_null());
        let (policies, clients, notes) = of_tables(&records).unwrap();
        assert!(policies.contains(allow), "{changes:?}: {policies}");
        assert!(notes.iter().any(|note| note.contains(why)), "{changes:?}: {notes:?}");
        assert!(clients.contains("auth_scopes: []"), "{clients}");
    }
}

#[test]
fn what_cannot_be_read_is_closed_and_not_left_open() {
    // `other` holds no scope and is held to none: what asks for one that cannot be told must still
    // ask.
    let scope = |changes: &[(&str, Value)]| {
        let mut record = json!({ "sys_id": "a", "active": "true", "api_path": "now/table",
            "api_resource": "/now/table/{tableName}", "apply_all_versions": "true",
            "http_method": "GET", "auth_scope": "s" });
        for (key, value) in changes {
            record[key] = value.clone();
        }
        with(&[
            ("/sys_api_access_scope", json!([record])),
            ("/std_http_auth/0/oauth_entity", json!("")),
        ])
    };
    for (changes, verdict_of_other) in [
        (vec![], "scope.missing"),
        (vec![("auth_scope", json!("nowhere"))], "scope.missing"),
        (vec![("api_resource", json!("/elsewhere/x"))], "scope.missing"),
        (vec![("api_resource", json!("/now/table/x{tableName}"))], "scope.missing"),
        (vec![("http_method", json!("ALL"))], "scope.missing"),
        (vec![("active", json!(""))], "scope.missing"),
        (vec![("active", json!("false"))], "permit"),
        (vec![("apply_all_methods", json!("true"))], "scope.missing"),
    ] {
        assert_eq!(
            verdict(&scope(&changes), "other", "GET /api/now/table/incident"),
            verdict_of_other,
            "{changes:?}"
        );
    }
    // Not even by a scope of that name.
    let mut named = scope(&[("auth_scope", json!("nowhere"))]);
    named["sys_auth_scope"] = json!([{ "sys_id": "s", "name": "servicenow.not-carried-over" }]);
    named["oauth_entity_auth_scope_mapping"] =
        json!([{ "sys_id": "1", "oauth_entity": "d", "auth_scope": "s" }]);
    assert_eq!(verdict(&named, "other", "GET /api/now/table/incident"), "scope.missing");
    let stale = scope(&[("apply_all_methods", json!("true"))]);
    assert_eq!(verdict(&stale, "other", "POST /api/now/table/incident"), "scope.missing");
    let named = with(&[
        ("/sys_auth_scope/0/name", json!("has a space")),
        (
            "/sys_api_access_scope",
            json!([{ "sys_id": "a", "active": "true", "api_path": "now/table", "apply_all": "true",
                "auth_scope": "s" }]),
        ),
    ]);
    assert_eq!(verdict(&named, "app", "GET /api/now/table/incident"), "scope.missing");
    // A policy of which it cannot be told what it is about closes its API.
    for changes in [
        vec![("/sys_api_access_policy/0/apply_all", json!("false"))],
        vec![("/sys_api_access_policy/0/active", json!(""))],
        vec![("/sys_api_access_policy/0/apply_all_tables", json!(""))],
        vec![(
            "/sys_api_access_policy/0",
            json!({ "sys_id": "p", "active": "true", "api_path": "now/table", "http_method": "ALL",
                "apply_all_versions": "true", "apply_all_resources": "true" }),
        )],
        vec![
            ("/sys_api_access_policy/0/api_tablename", json!("incident")),
            ("/sys_api_access_policy/0/apply_all_tables", json!("false")),
        ],
        vec![("/sys_api_access_policy/0/apply_all_tables", json!("false"))],
        vec![(
            "/sys_api_access_policy/0",
            json!({ "sys_id": "p", "active": "true", "api_path": "now/table",
                "api_resource": "/now/table/{tableName}", "apply_all_versions": "true",
                    "apply_all_methods": "true", "api_tablename": "Incident" }),
        )],
    ] {
        let mut records = with(&changes);
        let second = json!({ "sys_id": "q", "name": "Q", "active": "true", "api_path": "now/table",
            "http_method": "GET", "apply_all_versions": "true", "apply_all_resources": "true",
                "apply_all_tables": "true" });
        records["sys_api_access_policy"].as_array_mut().unwrap().push(second);
        records["sys_auth_profile_mapping"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "sys_id": "n", "api_access_policy": "q", "inbound_auth_profile": "f" }));
        let (policies, _, notes) = of_tables(&records).unwrap();
        assert!(
            policies.contains("  now-table-closed:\n    api: now-table\n    allow: []\n"),
            "{changes:?}: {policies}"
        );
        assert!(
            notes.iter().any(|note| note.contains("the API `now/table` is closed")),
            "{notes:?}"
        );
        assert_eq!(
            verdict(&records, "app", "GET /api/now/table/incident"),
            "policy.profile",
            "{changes:?}"
        );
    }
    assert_eq!(verdict(&tables(), "app", "GET /api/now/table/incident"), "permit");
}

#[test]
fn policies_that_neither_is_stronger_of_let_in_by_the_profiles_of_both() {
    let second = json!({ "sys_id": "q", "name": "Q", "active": "true", "api_path": "now/table",
        "apply_all": "true", "apply_all_tables": "true" });
    let mut records = tables();
    records["sys_api_access_policy"].as_array_mut().unwrap().push(second);
    let (policies, _, notes) = of_tables(&records).unwrap();
    assert!(
        policies.contains("  q:\n    api: now-table\n    active: false\n")
            && policies.matches("allow: []").count() == 2,
        "{policies}"
    );
    assert!(notes.iter().any(|note| note.contains("neither is more specific")), "{notes:?}");
    // A policy for some tables besides one for all: the tables are the first one's, the others the
    // second one's.
    let get = |id: &str, tables: &str| {
        json!({ "sys_id": id, "name": id, "active": "true", "api_path": "now/table",
            "api_resource": "/now/table/{tableName}", "http_method": "GET",
            "apply_all_versions": "true", "api_tablename": tables,
                "apply_all_tables": tables.is_empty().to_string() })
    };
    let maps = json!([
        { "sys_id": "1", "api_access_policy": "some", "inbound_auth_profile": "f" },
            { "sys_id": "2", "api_access_policy": "all", "inbound_auth_profile": "f" },
        { "sys_id": "3", "api_access_policy": "all", "inbound_auth_profile": "g" },
    ]);
    let mut records = with(&[
        ("/sys_api_access_policy", json!([get("some", "incident"), get("all", "")])),
        ("/sys_auth_profile_mapping", maps),
    ]);
    records["std_http_auth"] = json!([tables()["std_http_auth"][0], { "sys_id": "g", "name": "G",
        "active": "true", "type": "oauth", "oauth_entity": "" }]);
    let (policies, _, _) = of_tables(&records).unwrap();
    for words in [
        "  some:\n    api: now-table\n    methods: [GET]\n    resources: [/table/incident]\n    \
            allow:\n      - { clients: [app] }\n",
        "  all:\n    api: now-table\n    methods: [GET]\n    resources: \
            [\"/table/{tableName}\"]\n    allow:\n      - { clients: [app] }\n      - { issuers: \
            [self] }\n",
    ] {
        assert!(policies.contains(words), "{words}\n{policies}");
    }
    assert_eq!(verdict(&records, "other", "GET /api/now/table/incident"), "policy.profile");
    assert_eq!(verdict(&records, "other", "GET /api/now/table/problem"), "permit");
}

#[test]
fn clients_get_what_their_records_say_and_what_these_do_not_say_is_refused() {
    let user = |changes: &[(&str, Value)]| {
        let mut user = json!({ "sys_id": "u", "user_name": "svc", "name": "Service",
            "active": "true", "locked_out": "false" });
        for (key, value) in changes {
            user[key] = value.clone();
        }
        with(&[
            ("/oauth_entity/0/inbound_grant_type", json!("client_credential")),
            ("/oauth_entity/0/user", json!("u")),
            ("/sys_user", json!([user])),
        ])
    };
    let lines = |records: &Value| {
        let (_, clients, notes) = of_tables(records).unwrap();
        let (_, app) = clients.split_once("  app:\n").unwrap();
        (app.split("\n  other:").next().unwrap().to_owned(), notes.join("\n"))
    };
    for (records, has, lacks, told) in [
        (
            user(&[]),
            "application_user: svc",
            "active: false",
            "the roles of `svc` are not in the files",
        ),
        (
            user(&[("user_name", json!("other"))]),
            "grants: []",
            "application_user",
            "which is a client id too",
        ),
        (
            user(&[("user_name", json!("a b"))]),
            "grants: []",
            "application_user",
            "cannot be a name here",
        ),
        (
            with(&[
                ("/oauth_entity/0/inbound_grant_type", json!("client_credential")),
                ("/oauth_entity/0/user", json!("x")),
            ]),
            "grants: []",
            "application_user",
            "who is not in the files",
        ),
        (
            with(&[("/oauth_entity/0/inbound_grant_type", json!("client_credential"))]),
            "grants: []",
            "application_user",
            "there is no OAuth application user",
        ),
        (
            with(&[("/oauth_entity/0/inbound_grant_type", json!("multiple"))]),
            "grants: []",
            "refresh",
            "which grants it may use is not in the files",
        ),
        (
            with(&[
                ("/oauth_entity/0/inbound_grant_type", json!("multiple")),
                (
                    "/oauth_entity_profile",
                    json!([
                        { "sys_id": "1", "oauth_entity": "c", "grant_type": "authorization_code" },
                            { "sys_id": "2", "oauth_entity": "c", "grant_type": "password",
                                "active": "false" },
                    ]),
                ),
            ]),
            "grants: [authorization_code, refresh_token]",
            "password",
            "",
        ),
        (
            with(&[("/oauth_entity/0/inbound_grant_type", json!("jwt"))]),
            "grants: []",
            "jwt_bearer",
            "write `jwks_file`",
        ),
        (
            with(&[("/oauth_entity/0/redirect_url", json!("http://app.example/cb"))]),
            "grants: []",
            "redirect_urls",
            "has no redirect URL that could be registered",
        ),
        (
            with(&[(
                "/oauth_entity/0/redirect_url",
                json!("https://a.example/x,y, https://b.example/"),
            )]),
            "redirect_urls: [\"https://a.example/x,y\", \"https://b.example/\"]",
            "\"https://a.example/x\"",
            "",
        ),
        (
            with(&[("/oauth_entity/0/active", json!(""))]),
            "active: false",
            "public_client",
            "whether it is active is not in the files",
        ),
        (
            with(&[("/oauth_entity/0/enforce_token_restriction", json!(""))]),
            "enforce_token_restriction: true",
            "active: false",
            "taken as on; `--tokens-unrestricted`",
        ),
        (
            with(&[("/oauth_entity/0/scope_restriction_status", json!("useraccount"))]),
            "token_format: opaque",
            "allow_only_selected_scopes",
            "it reaches only what its scopes grant",
        ),
        (
            with(&[
                ("/oauth_entity/0/token_format", json!("saml")),
                ("/oauth_entity/0/access_token_lifespan", json!("1,800")),
                ("/oauth_entity/0/refresh_token_lifespan", json!("0")),
            ]),
            "token_format: opaque\n    access_token_lifespan: 1800s\n",
            "refresh_token_lifespan",
            "the token format `saml` is not known",
        ),
        (
            with(&[
                ("/oauth_entity/0/login_url", json!("https://l.example/")),
                ("/oauth_entity/0/shared_key", json!("hunter2")),
            ]),
            "name: \"App\"",
            "hunter2",
            "login_url, shared_key",
        ),
        (
            with(&[(
                "/oauth_entity_auth_scope_mapping",
                json!([{ "sys_id": "1", "oauth_entity": "c", "auth_scope": "s" }, { "sys_id": "2",
                    "oauth_entity": "gone", "auth_scope": "s" }]),
            )]),
            "auth_scopes: [read]",
            "useraccount",
            "the client `gone` is not carried over",
        ),
        (
            with(&[
                ("/sys_auth_scope/0/name", json!("useraccount")),
                (
                    "/oauth_entity_auth_scope_mapping",
                    json!([{ "sys_id": "1", "oauth_entity": "c", "auth_scope": "s" }]),
                ),
            ]),
            "auth_scopes: [useraccount]",
            "read",
            "which passes every scope check",
        ),
    ] {
        let (app, notes) = lines(&records);
        assert!(
            app.contains(has) && !app.contains(lacks) && notes.contains(told),
            "{has} / {lacks} / {told}\n{app}\n{notes}"
        );
    }
    let locked = of_tables(&user(&[("locked_out", json!(""))])).unwrap();
    assert!(
        locked.2.iter().any(|note| note.contains("the user `svc` is not active here")),
        "{:?}",
        locked.2
    );
    let untyped = of_tables(&with(&[("/oauth_entity/0/type", json!(""))])).unwrap();
    assert!(!untyped.1.contains("  app:"), "{}", untyped.1);
    let inactive = of_tables(&user(&[("password_needs_reset", json!("true"))])).unwrap();
    assert!(inactive.2.iter().any(|note| note.contains("the password needs a reset")));
    let oidc = with(&[
        ("/oauth_oidc_entity", json!([{ "sys_id": "o", "name": "Entra" }])),
        (
            "/oauth_jwt",
            json!([{ "sys_id": "j", "client_id": "signer", "type": "client", "active": "true",
                "inbound_grant_type": "jwt" }]),
        ),
    ]);
    let (_, clients, notes) = of_tables(&oidc).unwrap();
    assert!(
        clients.contains("  signer:\n    grants: []\n")
            && notes.iter().any(|note| note.contains("tokens of another issuer"))
    );
}

#[test]
fn global_policies_and_versions_are_carried_over_with_a_warning() {
    let global = json!({ "sys_id": "g", "name": "Global", "active": "true", "apply_global": "true",
        "http_method": "GET", "api_path": "now/x" });
    let versioned = json!({ "sys_id": "v", "name": "V2", "active": "true", "api_path": "now/table",
        "version": "v2", "apply_all_methods": "true", "apply_all_resources": "true",
            "apply_all_tables": "true" });
    let (policies, _, notes) =
        of_tables(&with(&[("/sys_api_access_policy", json!([global, versioned]))])).unwrap();
    for words in [
        "  global:\n    all_apis: true\n    methods: [GET]\n    allow: []\n",
        "  v2:\n    api: now-table\n    versions: [v2]\n    allow: []\n",
        "    versions: [latest, v2]\n    default_version: latest\n",
    ] {
        assert!(policies.contains(words), "{words}\n{policies}");
    }
    for words in [
        "every API of the gateway",
        "api_path of it count for nothing",
        "paths without a version are judged as `latest`",
    ] {
        assert!(notes.iter().any(|note| note.contains(words)), "{words}\n{notes:?}");
    }
    let (policies, _, notes) =
        of_tables(&with(&[("/sys_api_access_policy/0/http_method", json!("GET"))])).unwrap();
    assert!(policies.contains("  p:\n    api: now-table\n    allow:\n"), "{policies}");
    assert!(
        notes.iter().any(|note| note.contains("applies to all, and holds a value besides that")),
        "{notes:?}"
    );
}

#[test]
fn hostile_records_write_no_line_of_their_own() {
    let evil = "x\nacls: []\n#\" {} env:HOME";
    let odd = ["env:HOME", "a b", "a\"b", "a,b", "", "ä", "a\nb", "-", "null", "~"];
    let clients: Vec<Value> = odd
        .iter()
        .enumerate()
        .map(|(at, id)| {
            json!({ "sys_id": format!("c{at}"), "client_id": id, "name": evil,
            "provider_name": "env:HOME",
                "redirect_url": "javascript:alert(1) env:HOME\nhttps://a.example/*",
            "inbound_grant_type": evil, "token_format": evil, "access_token_lifespan": "-1",
                "refresh_token_lifespan": "999999999999999999999", "user": "u", "logo_url": evil,
                    "scope_restriction_status": evil })
        })
        .collect();
    let scopes: Vec<Value> = odd
        .iter()
        .enumerate()
        .map(|(at, name)| {
            json!({ "sys_id": format!("s{at}"), "name": name,
            "description": "env:HOME" })
        })
        .collect();
    let access: Vec<Value> = [
        "now/table",
        "../etc",
        "a//b",
        "env:HOME",
        "{x}",
        "a \
        b",
        "",
        "/",
        "now/{*rest}",
        "now",
        "-/-",
        "NOW/TABLE",
    ]
    .iter()
    .enumerate()
    .flat_map(|(at, path)| {
        [
            "",
            "/now/table/{tableName}",
            "/now/table/{name}",
            "/now/table/{a}/{a}",
            "/etc/x",
            "/now/../x",
            "/now/table/{x",
            "/now/table/a b",
        ]
        .iter()
        .enumerate()
        .map(move |(own, resource)| {
            json!({ "sys_id": format!("a{at}-{own}"), "name": "A",
                    "active": "true", "api_path": path, "api_resource": resource,
                    "apply_all_resources": resource.is_empty().to_string(),
                        "apply_all_methods": "false", "http_method": (["GET", "get", "TRACE",
                            "*"][own % 4]),
                    "version": (["v1", "env:X", "a/b", "latest"][own / 2]), "auth_scope": "s7",
                        "api": { "value": "x", "display_value": evil } })
        })
    })
    .collect();
    let policies: Vec<Value> = access
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row["name"] = json!(evil);
            row["api_tablename"] = json!("incident,a b,{x},../y");
            row
        })
        .collect();
    let user = json!({ "sys_id": "u", "user_name": "null", "name": evil });
    let tables = json!({ "oauth_entity": clients, "sys_auth_scope": scopes,
        "sys_api_access_scope": access, "sys_api_access_policy": policies, "sys_user": [user],
            "nonsense": [{}] });
    let (policies, clients, notes) = of_tables(&tables).unwrap();
    let text = format!("{policies}{clients}");
    assert!(
        !text.lines().any(|line| line.starts_with("acls")
            || line.contains(": env:")
            || line.contains("[env:")
            || line.contains("\"env:")),
        "{text}"
    );
    assert!(notes.len() > 50, "{notes:?}");
    for (tables, words) in [
        (json!({}), "nothing in the files"),
        (json!({ "oauth_entity": 7 }), "a list of records"),
        (json!({ "sys_user": [{ "sys_id": "1" }] }), "nothing in the files"),
    ] {
        assert!(of_tables(&tables).unwrap_err().contains(words), "{tables}");
    }
}
