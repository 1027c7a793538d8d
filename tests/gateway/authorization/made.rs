//! Users that are made at their first login at the provider.

use serde_json::{Value, json};

use super::provider::{callback, parameters_of, sent_away};
use super::{PASSWORD, code, error, member, redeem, refresh, request, setup, token};
use crate::shared::command;
use crate::support::browser::Browser;
use crate::support::http::Response;
use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Lie, Provider};
use crate::support::{Gateway, Setup, wait_for};

/// Groups and their roles, as most tests have them.
pub const ROLES: &str = "roles_claim: groups, roles: { grp-clerk: clerk, grp-other: other }";

/// What is changed of the claims of an ID token.
type Says = fn(&mut Value);

/// A gateway's setup where users are made, with more keys of the provider.
pub fn making(provider: &Provider, keys: &str) -> Setup {
    let mut setup = setup(&format!(
        ", login: {{ provider: {{ name: Corp, issuer: '{}', client_id: '{CLIENT_ID}', \
            client_secret: file:provider, {keys} }} }}",
        provider.url
    ));
    setup.files = vec![("provider".into(), format!("{CLIENT_SECRET}\n"))];
    setup
}

fn bench(keys: &str) -> (Gateway, Provider) {
    let provider = Provider::start();
    (Gateway::start(&making(&provider, &format!("users: create, {keys}"))), provider)
}

/// What the provider says besides who somebody is.
pub fn says(provider: &Provider, change: Says) {
    provider.lie(Lie { claims: Some(change), ..Lie::default() });
}

/// Where somebody who signs in at the provider ends up here.
fn lands(gateway: &Gateway, provider: &Provider, subject: &str) -> (Browser, Response) {
    let (mut browser, url) = sent_away(gateway);
    let back = browser.get(&callback(&provider.sign_in(&url, subject)));
    (browser, back)
}

/// A browser in which somebody has signed in at the provider.
pub fn sign_in(gateway: &Gateway, provider: &Provider, subject: &str) -> Browser {
    let (browser, back) = lands(gateway, provider, subject);
    assert_eq!(back.status, 303, "{subject}: {back:?}");
    browser
}

/// An access token and a refresh token for who has signed in.
pub fn tokens_of(gateway: &Gateway, browser: &mut Browser) -> (String, String) {
    let code = code(browser, &request("web", &[]));
    let answer = redeem(gateway, "web", &code);
    (member(&answer, "access_token"), member(&answer, "refresh_token"))
}

/// The verdict on a call that needs the role of a clerk.
pub fn as_clerk(gateway: &Gateway, token: &str) -> String {
    gateway.call("POST", "/orders/1", Some(token)).verdict()
}

/// The users made at login, as `user list` has them.
pub fn made(gateway: &Gateway) -> Vec<Value> {
    let (code, text) = command(gateway, &["user", "list", "--format", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let all: Value = serde_json::from_str(&text).unwrap();
    let all = all["users"].as_array().unwrap();
    all.iter().filter(|user| user["user"].as_str().unwrap().starts_with('~')).cloned().collect()
}

/// The name of the only one.
pub fn only(gateway: &Gateway) -> String {
    let all = made(gateway);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]["user"].as_str().unwrap().to_owned()
}

fn acts(gateway: &Gateway) -> Vec<(String, String)> {
    let store = gateway.store();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let records = runtime.block_on(store.audit_after(0, 100)).unwrap();
    records.into_iter().map(|record| (record.record.act, record.record.on)).collect()
}

/// The subject that the upstream was told last.
fn subject_told(gateway: &Gateway) -> String {
    let head = gateway.upstream.last_head();
    let line = head.iter().find_map(|line| line.strip_prefix("x-auth-subject: "));
    line.unwrap_or_else(|| panic!("{head:?}")).to_owned()
}

/// The login page instead of the user's applications.
fn is_signed_out(browser: &mut Browser) -> bool {
    browser.get("/oauth2/connections").body.contains("Continue with")
}

#[test]
fn the_first_login_makes_a_user_with_the_roles_of_its_groups() {
    let (mut gateway, provider) = bench(ROLES);
    says(&provider, |claims| {
        claims["groups"] = json!(["grp-clerk", "grp-unmapped", "clerk", "grp-clerk"]);
        claims["name"] = json!("Zoë Müller");
    });
    let mut browser = sign_in(&gateway, &provider, "00u/zoe");
    assert!(browser.get("/oauth2/connections").body.contains("Zoë Müller"));
    let (access, refresh_token) = tokens_of(&gateway, &mut browser);
    assert_eq!(as_clerk(&gateway, &access), "permit");
    let name = only(&gateway);
    assert_eq!(subject_told(&gateway), name);
    assert!(gateway.upstream.last_head().contains(&"x-auth-roles: clerk".to_owned()));
    let host = provider.url.strip_prefix("http://").unwrap();
    assert!(name.starts_with(&format!("~{host}/")), "{name}");
    let row = &made(&gateway)[0];
    assert_eq!(
        (&row["name"], &row["roles"], &row["issuer"], &row["subject"], &row["locked"]),
        (
            &json!("Zoë Müller"),
            &json!(["clerk"]),
            &json!(provider.url),
            &json!("00u/zoe"),
            &json!(false)
        ),
        "{row}"
    );
    assert!(row["last_login"].as_str().unwrap().ends_with('Z'), "{row}");
    assert_eq!(acts(&gateway), [("make-user".to_owned(), format!("user {name}"))]);
    // Nothing of it is in memory alone.
    gateway.kill();
    gateway.restart();
    assert_eq!(as_clerk(&gateway, &access), "permit");
    let again = member(&refresh(&gateway, "web", &refresh_token), "access_token");
    assert_eq!(as_clerk(&gateway, &again), "permit");
    assert!(browser.get("/oauth2/connections").body.contains("Zoë Müller"));
    let (_, text) = command(&gateway, &["user", "list"]);
    assert!(text.contains("made at login") && text.contains("alice"), "{text}");
}

#[test]
fn a_group_taken_away_takes_the_role_at_the_next_login_and_a_mapping_at_once() {
    let (gateway, provider) = bench(ROLES);
    says(&provider, |claims| claims["groups"] = json!(["grp-clerk"]));
    let (access, refresh_token) = tokens_of(&gateway, &mut sign_in(&gateway, &provider, "00u/zoe"));
    assert_eq!(as_clerk(&gateway, &access), "permit");
    says(&provider, |claims| claims["groups"] = json!(["grp-other"]));
    sign_in(&gateway, &provider, "00u/zoe");
    assert_eq!(as_clerk(&gateway, &access), "acl.role", "the tokens of before too");
    let next = refresh(&gateway, "web", &refresh_token);
    assert_eq!(as_clerk(&gateway, &member(&next, "access_token")), "acl.role");
    says(&provider, |claims| claims["groups"] = json!("grp-clerk"));
    sign_in(&gateway, &provider, "00u/zoe");
    assert_eq!(as_clerk(&gateway, &access), "permit");
    assert_eq!(acts(&gateway).len(), 1, "it was made once");
    // What the configuration says of a group counts now.
    let file = std::fs::read_to_string(gateway.folder.path().join("gateway.yaml")).unwrap();
    gateway.rewrite("gateway.yaml", &file.replace("grp-clerk: clerk", "grp-third: clerk"));
    assert!(gateway.reload());
    assert_eq!(as_clerk(&gateway, &access), "acl.role");
    // And whether users are made at all.
    let listed = file.replace(ROLES, "").replace("users: create, ", "");
    assert_ne!(listed, file);
    gateway.rewrite("gateway.yaml", &listed);
    assert!(gateway.reload());
    assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "user.inactive");
    let (_, back) = lands(&gateway, &provider, "00u/zoe");
    assert!(back.status == 403 && back.body.contains("no account here"), "{back:?}");
}

#[test]
fn nobody_becomes_another_by_a_name() {
    let (gateway, provider) = bench(ROLES);
    // Subjects that are names of the users file, or look like one; claims that say the same.
    let subjects = ["alice", "ALICE", "аlice", "alice ", "ａｌｉｃｅ", "bob", "web", "locked"];
    says(&provider, |claims| {
        let subject = claims["sub"].clone();
        claims["name"] = json!("Alice Doe");
        for claim in ["preferred_username", "email", "upn"] {
            claims[claim] = subject.clone();
        }
        claims["groups"] = json!(["clerk", "alice"]);
    });
    let mut names = std::collections::BTreeSet::new();
    for subject in subjects {
        let mut browser = sign_in(&gateway, &provider, subject);
        let (access, _) = tokens_of(&gateway, &mut browser);
        assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "permit", "{subject}");
        let name = subject_told(&gateway);
        assert!(name.starts_with('~') && name.is_ascii(), "{subject}: {name}");
        assert_eq!(as_clerk(&gateway, &access), "acl.role", "{subject}");
        assert!(names.insert(name), "{subject} is one of its own");
    }
    assert_eq!(made(&gateway).len(), subjects.len());
    // Who is named like one of them cannot sign in with a password, and alice is still herself.
    let mut browser = Browser::new(gateway.address);
    let page = browser.get("/oauth2/connections");
    for name in names {
        let answer = browser.submit(&page, "login", &[("username", &name), ("password", "")]);
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
    let page = Browser::new(gateway.address).get("/oauth2/connections");
    assert!(page.body.contains("name=\"password\""), "{page:?}");
    let (access, _) = super::tokens(&gateway, "web");
    assert_eq!(as_clerk(&gateway, &access), "permit");
    assert_eq!(subject_told(&gateway), "alice");
}

#[test]
fn a_listed_identity_is_the_listed_user_and_was_made_or_not() {
    let (gateway, provider) = bench(ROLES);
    says(&provider, |claims| claims["groups"] = json!(["grp-clerk"]));
    let (access, refresh_token) = tokens_of(&gateway, &mut sign_in(&gateway, &provider, "00u/bob"));
    let name = only(&gateway);
    let users = std::fs::read_to_string(gateway.folder.path().join("users.yaml")).unwrap();
    let identity =
        format!("bob: {{ external: [{{ issuer: '{}', subject: 00u/bob }}], ", provider.url);
    gateway.rewrite("users.yaml", &users.replace("bob: { ", &identity));
    assert!(gateway.reload());
    assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "user.inactive");
    assert_eq!(error(&refresh(&gateway, "web", &refresh_token)), (400, "invalid_grant".into()));
    let (access, _) = tokens_of(&gateway, &mut sign_in(&gateway, &provider, "00u/bob"));
    assert_eq!(as_clerk(&gateway, &access), "acl.role", "its roles are those of the file");
    assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "permit");
    assert_eq!(subject_told(&gateway), "bob");
    assert_eq!(only(&gateway), name, "what was made is not merged");
}

#[test]
fn groups_that_cannot_be_read_give_nothing_and_the_log_says_why() {
    let (gateway, provider) = bench(ROLES);
    let cases: [(Says, &str, Option<&str>); 12] = [
        (|claims| claims["groups"] = json!(["grp-clerk"]), "permit", None),
        (|claims| claims["groups"] = json!("grp-clerk"), "permit", None),
        (|claims| claims["groups"] = json!({ "grp-clerk": {} }), "permit", None),
        (|_| {}, "acl.role", None),
        (|claims| claims["groups"] = Value::Null, "acl.role", None),
        (|claims| claims["groups"] = json!([]), "acl.role", None),
        (|claims| claims["groups"] = json!("grp-clerk grp-other"), "acl.role", None),
        (|claims| claims["groups"] = json!(["GRP-CLERK", "grp-clerk "]), "acl.role", None),
        (|claims| claims["groups"] = json!(7), "acl.role", Some("`groups` is a number, wants")),
        (|claims| claims["groups"] = json!(true), "acl.role", Some("`groups` is a boolean")),
        (
            |claims| claims["groups"] = json!(["grp-clerk", 7]),
            "acl.role",
            Some("with other items than texts"),
        ),
        (
            |claims| claims["_claim_names"] = json!({ "groups": "src1" }),
            "acl.role",
            Some("`groups` is not in the ID token but to be fetched elsewhere"),
        ),
    ];
    for (at, (change, verdict, logged)) in cases.into_iter().enumerate() {
        says(&provider, change);
        let (browser, back) = lands(&gateway, &provider, "00u/zoe");
        assert_eq!(back.status, 303, "{at}: {back:?}");
        let (access, _) = tokens_of(&gateway, &mut { browser });
        assert_eq!(as_clerk(&gateway, &access), verdict, "{at}");
        if let Some(logged) = logged {
            let id = back.header("x-decision-id").unwrap();
            let line = gateway.wait_for_log(&["cannot be read", id]);
            assert!(line.contains(logged) && line.contains("WARN"), "{line}");
        }
    }
    // A thousand groups are read, and those that have a role are kept.
    says(&provider, |claims| {
        let mut groups: Vec<String> = (0..999).map(|n| format!("g{n}")).collect();
        groups.push("grp-clerk".into());
        claims["groups"] = json!(groups);
    });
    let (access, _) = tokens_of(&gateway, &mut sign_in(&gateway, &provider, "00u/zoe"));
    assert_eq!(as_clerk(&gateway, &access), "permit");
    assert_eq!(gateway.store().made_users().unwrap()[0].groups, ["grp-clerk"]);
}

#[test]
fn names_for_people_that_would_not_show_are_left_out() {
    let (gateway, provider) = bench(ROLES);
    let cases: [(Says, Value); 7] = [
        (|claims| claims["name"] = json!("x".repeat(10_000)), Value::Null),
        (|claims| claims["name"] = json!("a\u{0}\u{1b}[2J\nb"), Value::Null),
        (|claims| claims["name"] = json!("ecilA\u{202e}"), Value::Null),
        (|claims| claims["name"] = json!(["Alice"]), Value::Null),
        (
            |claims| {
                claims["name"] = json!("\u{200b}");
                claims["preferred_username"] = json!("zoe");
            },
            json!("zoe"),
        ),
        (|claims| claims["name"] = json!("<b>Zoe</b> \"'&"), json!("<b>Zoe</b> \"'&")),
        (|_| {}, Value::Null),
    ];
    for (change, wanted) in cases {
        says(&provider, change);
        let mut browser = sign_in(&gateway, &provider, "00u/zoe");
        assert_eq!(made(&gateway)[0]["name"], wanted);
        let page = browser.get("/oauth2/connections").body;
        assert!(!page.contains("<b>Zoe") && !page.contains('\u{202e}'), "{page}");
    }
    assert_eq!(made(&gateway).len(), 1);
}

#[test]
fn two_logins_at_once_make_one_user() {
    let (gateway, provider) = bench("roles_claim: groups, roles: { g: clerk }, max_users: 1");
    let away: Vec<_> = (0..6)
        .map(|_| {
            let (browser, url) = sent_away(&gateway);
            (browser, callback(&provider.sign_in(&url, "00u/zoe")))
        })
        .collect();
    let together = std::sync::Barrier::new(away.len());
    std::thread::scope(|scope| {
        for (mut browser, target) in away {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                let back = browser.get(&target);
                assert_eq!(back.status, 303, "{back:?}");
                assert!(!is_signed_out(&mut browser));
            });
        }
    });
    let name = only(&gateway);
    assert_eq!(acts(&gateway), [("make-user".to_owned(), format!("user {name}"))]);
}

#[test]
fn no_more_are_made_than_there_may_be() {
    let (gateway, provider) = bench("roles_claim: groups, roles: { g: clerk }, max_users: 2");
    for subject in ["one", "two"] {
        sign_in(&gateway, &provider, subject);
    }
    let (mut browser, back) = lands(&gateway, &provider, "three");
    assert_eq!(back.status, 403, "{back:?}");
    assert!(back.body.contains("no more accounts can be made"), "{}", back.body);
    assert!(is_signed_out(&mut browser));
    let id = back.header("x-decision-id").unwrap();
    let line = gateway.wait_for_log(&["nobody was signed in", id]);
    assert!(line.contains("login.provider.max_users") && line.contains("WARN"), "{line}");
    let metrics = gateway.metrics_text();
    assert!(metrics.contains("scopegate_provider_logins_total{outcome=\"full\"} 1"), "{metrics}");
    sign_in(&gateway, &provider, "one");
    let first = made(&gateway)[0]["user"].as_str().unwrap().to_owned();
    assert_eq!(command(&gateway, &["user", "remove", &first]).0, Some(0));
    sign_in(&gateway, &provider, "three");
}

#[test]
fn a_lock_ends_sessions_and_tokens_and_outlives_the_removal() {
    let (gateway, provider) = bench(ROLES);
    let mut browser = sign_in(&gateway, &provider, "00u/zoe");
    let (access, refresh_token) = tokens_of(&gateway, &mut browser);
    let name = only(&gateway);
    let act = |act: &str| command(&gateway, &["user", act, &name]);
    assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "permit");
    let (code, text) = act("unlock");
    assert!(code == Some(2) && text.contains("is not locked"), "{text}");
    let (code, text) = act("lock");
    assert!(code == Some(0) && text.contains("is locked"), "{text}");
    wait_for("the token to be refused", || {
        (gateway.get("/orders/1", Some(&access)).verdict() == "token.invalid").then_some(())
    });
    assert_eq!(error(&refresh(&gateway, "web", &refresh_token)), (400, "invalid_grant".into()));
    assert!(is_signed_out(&mut browser));
    let refused = || {
        let (mut browser, back) = lands(&gateway, &provider, "00u/zoe");
        assert_eq!(back.status, 403, "{back:?}");
        assert!(back.body.contains("This account is locked or inactive"), "{}", back.body);
        assert!(is_signed_out(&mut browser));
    };
    refused();
    assert_eq!(made(&gateway)[0]["locked"], json!(true));
    let (code, text) = act("lock");
    assert!(code == Some(2) && text.contains("is locked already"), "{text}");
    assert_eq!(act("remove").0, Some(0));
    refused();
    assert_eq!(made(&gateway)[0]["removed"], json!(true));
    assert_eq!(act("unlock").0, Some(0));
    assert!(made(&gateway).is_empty());
    // What was given in the second of the removal ended with it.
    let access = wait_for("a login that is later than the removal", || {
        let mut browser = sign_in(&gateway, &provider, "00u/zoe");
        if is_signed_out(&mut browser) {
            return None;
        }
        let (access, _) = tokens_of(&gateway, &mut browser);
        (gateway.get("/orders/1", Some(&access)).verdict() == "permit").then_some(access)
    });
    assert_eq!(act("remove").0, Some(0));
    wait_for("the token to be refused", || {
        (gateway.get("/orders/1", Some(&access)).verdict() == "token.invalid").then_some(())
    });
    let (code, text) = act("lock");
    assert!(code == Some(2) && text.contains("there is no user"), "{text}");
    let acts: Vec<String> = acts(&gateway).into_iter().map(|(act, _)| act).collect();
    let wanted =
        ["make-user", "lock-user", "remove-user", "unlock-user", "make-user", "remove-user"];
    assert_eq!(acts, wanted);
    // Users of the file are changed there.
    for act in ["unlock", "remove"] {
        let (code, text) = command(&gateway, &["user", act, "alice"]);
        assert!(code == Some(2) && text.contains("users.yaml:2"), "{text}");
    }
    let (code, text) = command(&gateway, &["user", "lock", "alice"]);
    assert!(code == Some(0) && text.contains("locked: true"), "{text}");
}

#[test]
fn it_is_blocked_and_its_tokens_revoked_like_others() {
    let (gateway, provider) = bench(ROLES);
    let (access, _) = tokens_of(&gateway, &mut sign_in(&gateway, &provider, "00u/zoe"));
    let name = only(&gateway);
    let (code, text) = command(&gateway, &["block", "--user", &name]);
    assert_eq!(code, Some(0), "{text}");
    wait_for("the block", || {
        (gateway.get("/orders/1", Some(&access)).verdict() == "blocked.user").then_some(())
    });
    assert_eq!(command(&gateway, &["block", "--user", "~nobody"]).0, Some(2));
    assert_eq!(command(&gateway, &["unblock", "--user", &name]).0, Some(0));
    let explained = ["explain", "GET /orders/1", "--client", "web", "--subject", &name];
    let (_, text) = command(&gateway, &explained);
    assert!(text.contains(&format!("made at login at {}", provider.url)), "{text}");
    let (code, text) = command(&gateway, &["token", "revoke", "--user", &name]);
    assert_eq!(code, Some(0), "{text}");
    wait_for("the token to be refused", || {
        (gateway.get("/orders/1", Some(&access)).verdict() == "token.invalid").then_some(())
    });
}

#[test]
fn who_does_not_meet_what_is_required_is_not_made_and_does_not_stay() {
    let keys = "require: { department: [sales, '7'], /a/b: ['true'] }";
    let (gateway, provider) = bench(keys);
    let unmet: [Says; 6] = [
        |_| {},
        |claims| claims["department"] = json!("sales"),
        |claims| *claims = merged(claims, &json!({ "department": "Sales", "a": { "b": true } })),
        |claims| *claims = merged(claims, &json!({ "department": null, "a": { "b": true } })),
        |claims| {
            *claims = merged(claims, &json!({ "department": [["sales"]], "a": { "b": true } }));
        },
        |claims| {
            let elsewhere = json!({ "_claim_names": { "department": "s" }, "a": { "b": true } });
            *claims = merged(claims, &elsewhere);
        },
    ];
    for (at, change) in unmet.into_iter().enumerate() {
        says(&provider, change);
        let (mut browser, back) = lands(&gateway, &provider, "00u/zoe");
        assert_eq!(back.status, 403, "{at}: {back:?}");
        assert!(back.body.contains("no account here"), "{}", back.body);
        assert!(is_signed_out(&mut browser), "{at}");
    }
    assert!(made(&gateway).is_empty());
    let metrics = gateway.metrics_text();
    assert!(metrics.contains("scopegate_provider_logins_total{outcome=\"unmet\"} 6"), "{metrics}");
    says(&provider, |claims| {
        *claims = merged(claims, &json!({ "department": ["it", 7], "a": { "b": true } }));
    });
    let mut browser = sign_in(&gateway, &provider, "00u/zoe");
    let (access, refresh_token) = tokens_of(&gateway, &mut browser);
    assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "permit");
    // The provider says that it has left: what it had ends.
    says(&provider, |_| {});
    assert_eq!(lands(&gateway, &provider, "00u/zoe").1.status, 403);
    wait_for("the token to be refused", || {
        (gateway.get("/orders/1", Some(&access)).verdict() == "token.invalid").then_some(())
    });
    assert_eq!(error(&refresh(&gateway, "web", &refresh_token)), (400, "invalid_grant".into()));
    assert!(is_signed_out(&mut browser));
}

fn merged(claims: &Value, more: &Value) -> Value {
    let mut all = claims.as_object().unwrap().clone();
    all.extend(more.as_object().unwrap().clone());
    Value::Object(all)
}

#[test]
fn what_the_configuration_says_of_them_is_checked() {
    let provider = Provider::start();
    let check = |keys: &str, users: &str| {
        let mut setup = making(&provider, keys);
        setup.users.push_str(users);
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = crate::support::free_addresses();
        let file = setup.write(folder.path(), a, b, c);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["check", "--config"])
            .arg(file)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    for good in [
        format!("users: create, {ROLES}"),
        format!("users: create, {ROLES}, require: {{ department: [sales] }}, max_users: 5"),
        "users: create, require: { department: [sales] }".to_owned(),
        "users: create, roles_claim: [/a/b, realm_access.roles], roles: { g: clerk }".to_owned(),
        "users: listed".to_owned(),
    ] {
        let (code, text) = check(&good, "");
        assert_eq!(code, Some(0), "{good}: {text}");
        assert!(!text.contains("clerk"), "a role of the map is one that somebody has: {text}");
    }
    for (keys, wanted) in [
        ("users: create", "with neither `roles_claim` nor `require`"),
        ("users: create, roles_claim: groups", "`roles_claim` without `roles`"),
        ("users: create, require: { a: [b] }, roles: { g: r }", "`roles` without `roles_claim`"),
        ("users: create, roles_claim: /a~b, roles: { g: r }", "a `~` in a JSON Pointer"),
        ("users: create, roles_claim: '', roles: { g: r }", "an empty name"),
        ("users: create, require: { a: [] }", "an empty list: nobody could be made"),
        ("users: create, require: { '': [b] }", "an empty name"),
        ("users: create, require: { a: [b] }, max_users: 0", "max_users"),
        ("users: both", "`both`"),
        ("roles: { g: r }", "`roles` without `users: create`"),
        ("users: listed, roles_claim: groups", "`roles_claim` without `users: create`"),
        ("require: { a: [b] }", "`require` without `users: create`"),
        ("max_users: 5", "`max_users` without `users: create`"),
    ] {
        let (code, text) = check(keys, "");
        assert_eq!(code, Some(1), "{keys}: {text}");
        assert!(text.contains(wanted), "{keys}: wanted {wanted}: {text}");
    }
    let (code, text) = check(&format!("users: create, {ROLES}"), "  \"~corp/x\": {}\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("`~corp/x` begins with `~`"), "{text}");
}

#[test]
fn it_acts_for_nobody_whom_the_provider_did_not_name() {
    let (gateway, provider) = bench(ROLES);
    // An ID token that is wrong makes nobody.
    provider.lie(Lie { other_key: true, ..Lie::default() });
    assert_eq!(lands(&gateway, &provider, "00u/zoe").1.status, 502);
    says(&provider, |claims| claims["sub"] = json!("x".repeat(256)));
    assert_eq!(lands(&gateway, &provider, "00u/zoe").1.status, 502);
    assert!(made(&gateway).is_empty());
    says(&provider, |claims| claims["sub"] = json!("\u{0}\n\"ü".repeat(40)));
    sign_in(&gateway, &provider, "any");
    assert_eq!(made(&gateway)[0]["subject"], json!("\u{0}\n\"ü".repeat(40)));
    // Tokens of client credentials and passwords are as they were.
    let own = token(&gateway, "web", &[("grant_type", "client_credentials")]);
    assert_eq!(own.status, 200, "{own:?}");
    let (_, url) = sent_away(&gateway);
    assert_eq!(parameters_of(&url)["scope"], "openid");
    let mut browser = Browser::new(gateway.address);
    let page = browser.get("/oauth2/connections");
    browser.sign_in(&page, "alice", PASSWORD);
}
