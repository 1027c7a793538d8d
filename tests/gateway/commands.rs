//! The commands over the registry and the state, next to a running gateway.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::authorization::{
    PASSWORD, alice, code, member, redeem, refresh, request, setup, tokens,
};
use crate::support::http::form;
use crate::support::{Browser, Gateway, wait_for};

/// Runs a command over the gateway's files; its exit code, output and complaints.
pub fn run(gateway: &Gateway, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(arguments)
        .args(["--config".as_ref(), gateway.folder.path().join("gateway.yaml").as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The same with JSON as its output.
fn json(gateway: &Gateway, group: &str, arguments: &[&str], input: &str) -> (i32, Value) {
    let mut all = vec![group];
    all.extend_from_slice(arguments);
    all.extend_from_slice(&["--format", "json"]);
    let (code, output, complaints) = run(gateway, &all, input);
    (
        code,
        serde_json::from_str(&output)
            .unwrap_or_else(|_| panic!("{arguments:?}: {output}{complaints}")),
    )
}

/// The gateway, with its clients in a directory.
fn gateway() -> Gateway {
    let gateway = Gateway::start(&setup(""));
    let folder = gateway.folder.path();
    std::fs::create_dir(folder.join("clients")).unwrap();
    std::fs::rename(folder.join("clients.yaml"), folder.join("clients/clients.yaml")).unwrap();
    let text = std::fs::read_to_string(folder.join("gateway.yaml")).unwrap();
    std::fs::write(
        folder.join("gateway.yaml"),
        text.replace("clients: clients.yaml", "clients: clients"),
    )
    .unwrap();
    assert!(gateway.reload());
    gateway
}

fn is_refused_soon(gateway: &Gateway, token: &str) {
    wait_for("the token to be refused", || {
        (gateway.get("/orders/1", Some(token)).verdict() == "token.invalid").then_some(())
    });
}

#[test]
fn a_new_client_is_a_new_file_and_its_secret_gets_a_token() {
    let gateway = gateway();
    let (code, made) = json(
        &gateway,
        "client",
        &["add", "nightly", "--name", "Nightly: \"sync\"", "--scopes", "orders_read"],
        "",
    );
    assert_eq!(code, 0);
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 43);
    let url = format!("http://127.0.0.1:{}", gateway.address.port());
    assert_eq!(
        made["curl"],
        format!(
            "curl -X POST '{url}/oauth_token.do' -u 'nightly:{secret}' -d \
                grant_type=client_credentials"
        )
    );
    let file = std::fs::read_to_string(gateway.folder.path().join("clients/nightly.yaml")).unwrap();
    assert!(!file.contains(secret) && file.contains("sha256: "), "{file}");
    assert!(gateway.reload());
    let body = format!("grant_type=client_credentials&client_id=nightly&client_secret={secret}");
    let access = member(&gateway.send(form("/oauth2/token", &[], &body)), "access_token");
    assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);

    let (_, listed) = json(&gateway, "client", &["list"], "");
    let row = listed["clients"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["client"] == "nightly")
        .unwrap()
        .clone();
    assert!(
        row["at"].as_str().unwrap().contains("nightly.yaml") && row["secret_last_used"].is_string(),
        "{row}"
    );

    // The day on which the secret was used is evidence.
    let (code, found) = json(&gateway, "findings", &[], "");
    assert_eq!(code, 1);
    let ours = found["findings"].as_array().unwrap().iter();
    let ours = ours.filter(|one| one["rule"] == "client.no_owner" && one["on"] == "nightly");
    let evidence: Vec<&str> = ours.map(|one| one["evidence"][0].as_str().unwrap()).collect();
    assert!(
        matches!(evidence.as_slice(), [one] if one.starts_with("a secret was last used on ")),
        "{found}"
    );

    let again = run(&gateway, &["client", "add", "nightly"], "");
    assert!(again.0 == 2 && again.2.contains("is there already"), "{again:?}");
    for (arguments, words) in [
        (vec!["client", "add", "../evil"], "letters, digits"),
        (vec!["client", "add", ""], "letters, digits"),
        (vec!["client", "add", "x", "--name", "env:HOME"], "environment"),
        (vec!["client", "add", "x", "--owner", "env:HOME"], "environment"),
        (vec!["user", "add", "a: b"], "visible ASCII"),
        (vec!["user", "add", "x", "--roles", "env:HOME"], "environment"),
        (vec!["client", "add", "bad", "--scopes", "nothing"], "no auth scope `nothing`"),
        (vec!["client", "add", "bad", "--grants", "magic"], "not one of the choices"),
        (vec!["client", "add", "alice"], "user's name too"),
        (vec!["client", "rotate-secret", "nobody"], "there is no client"),
        (vec!["client", "rotate-secret", "native"], "public client"),
    ] {
        let (code, _, complaints) = run(&gateway, &arguments, "");
        assert!(code != 0 && complaints.contains(words), "{arguments:?}: {code} {complaints}");
    }
    assert!(
        !gateway.folder.path().join("clients/bad.yaml").exists(),
        "what does not load is not kept"
    );
    let (code, rotated) = json(&gateway, "client", &["rotate-secret", "nightly"], "");
    assert!(
        code == 0
            && rotated["paste"].as_str().unwrap().starts_with("- { sha256: ")
            && rotated["secret"] != secret
    );
}

/// A client that moves in keeps its id and its secret.
#[test]
fn a_secret_that_a_client_has_already_is_digested_by_its_length() {
    let gateway = gateway();
    for (secret, begin) in [("hunter2", "argon2id: '$argon2id$"), (&"s".repeat(43), "sha256: ")] {
        let (code, told) = json(&gateway, "client", &["digest-secret"], &format!("{secret}\n"));
        assert_eq!(code, 0);
        let line = told["paste"].as_str().unwrap();
        assert!(line.starts_with(&format!("- {{ {begin}")) && !line.contains(secret), "{line}");
        let id = format!("{:032x}", secret.len());
        let (code, output, complaints) =
            run(&gateway, &["client", "add", &id, "--own-secret"], secret);
        assert_eq!(code, 0, "{complaints}");
        assert!(!output.contains(secret) && output.contains(&format!("'{id}:CLIENT_SECRET'")));
        assert!(gateway.reload());
        let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        assert_eq!(gateway.send(form("/oauth2/token", &[], &body)).status, 200, "{secret}");
    }
    for secret in ["\n", &"s".repeat(513)] {
        let (code, _, complaints) = run(&gateway, &["client", "digest-secret"], secret);
        assert!(code == 2 && complaints.contains("1 to 512 bytes"), "{code} {complaints}");
    }
}

#[test]
fn a_disabled_client_and_a_locked_user_lose_their_tokens_at_once() {
    let gateway = gateway();
    for (arguments, client) in
        [(["client", "disable", "web"], "web"), (["user", "lock", "alice"], "opaque")]
    {
        let (access, refresh_token) = tokens(&gateway, client);
        let (code, output, complaints) = run(&gateway, &arguments, "");
        assert!(code == 0 && output.contains("yaml:"), "{output}{complaints}");
        is_refused_soon(&gateway, &access);
        assert_eq!(refresh(&gateway, client, &refresh_token).status, 400);
    }
}

#[test]
fn a_locked_user_is_locked_for_the_clients_that_act_as_it() {
    let gateway = gateway();
    let own = |client: &str| {
        member(
            &crate::authorization::token(&gateway, client, &[("grant_type", "client_credentials")]),
            "access_token",
        )
    };
    let (acting, other) = (own("acting"), own("machine"));
    assert_eq!(gateway.get("/orders/1", Some(&acting)).status, 200);
    assert_eq!(run(&gateway, &["user", "lock", "bob"], "").0, 0);
    is_refused_soon(&gateway, &acting);
    assert_eq!(gateway.get("/orders/1", Some(&other)).status, 200);
}

#[test]
fn a_user_made_by_command_signs_in() {
    let gateway = gateway();
    let (code, made) = json(
        &gateway,
        "user",
        &["add", "carol", "--display-name", "Carol", "--roles", "clerk"],
        PASSWORD,
    );
    assert_eq!(code, 0);
    let path = gateway.folder.path().join("users.yaml");
    let users = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{users}  {}\n", made["paste"].as_str().unwrap())).unwrap();
    assert!(gateway.reload());
    let mut browser = Browser::new(gateway.address);
    let page = browser.get(&request("web", &[]));
    assert!(browser.sign_in(&page, "carol", PASSWORD).body.contains("Carol"));
    let external = ["user", "add", "erin", "--external", "https://id.example", "00u1"];
    let refused = run(&gateway, &external, "");
    assert!(refused.0 == 2 && refused.2.contains("none is configured"), "{}", refused.2);
    let gateway_file = gateway.folder.path().join("gateway.yaml");
    let provider = "] , login: { provider: { name: P, issuer: 'https://id.example', client_id: c, \
        client_secret: file:log } } }";
    let text = std::fs::read_to_string(&gateway_file).unwrap().replacen(
        "refresh_token] }",
        &format!("refresh_token{provider}"),
        1,
    );
    std::fs::write(&gateway_file, text).unwrap();
    let (code, made) = json(&gateway, "user", &external[1..], "");
    assert_eq!(code, 0, "{made}");
    let users = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{users}  {}\n", made["paste"].as_str().unwrap())).unwrap();
    let (_, listed) = json(&gateway, "user", &["list"], "");
    let erin =
        listed["users"].as_array().unwrap().iter().find(|user| user["user"] == "erin").unwrap();
    assert_eq!(erin["signs_in"], true, "{listed}");
    assert!(run(&gateway, &["user", "add", "dave"], "short").2.contains("8 characters"));
    let (_, listed) = json(&gateway, "user", &["list"], "");
    assert!(!listed.to_string().contains("argon2"), "{listed}");
}

#[test]
fn tokens_are_inspected_and_revoked_in_every_way() {
    let gateway = gateway();
    let subject = |access: &str| json(&gateway, "token", &["inspect"], access);
    let (access, _) = tokens(&gateway, "web");
    let (code, known) = subject(&access);
    assert_eq!(
        (code, known["active"].as_bool(), known["subject"].as_str()),
        (0, Some(true), Some("alice"))
    );
    let id = known["id"].as_str().unwrap();
    assert_eq!(run(&gateway, &["token", "revoke", "--id", id], "").0, 0);
    is_refused_soon(&gateway, &access);
    let (code, known) = subject(&access);
    assert!(code == 1 && known["fault"].as_str().unwrap().contains("revoked"), "{known}");
    for (client, arguments, by_token) in [
        ("web", vec!["token", "revoke", "--stdin"], true),
        ("opaque", vec!["token", "revoke", "--stdin"], true),
        ("web", vec!["token", "revoke", "--client", "web"], false),
        ("opaque", vec!["token", "revoke", "--user", "alice"], false),
        ("opaque", vec!["token", "revoke", "--all"], false),
    ] {
        let (access, refresh_token) = tokens_after_the_second(&gateway, client);
        assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200, "{arguments:?}");
        let (code, _, complaints) = run(&gateway, &arguments, if by_token { &access } else { "" });
        assert_eq!(code, 0, "{complaints}");
        is_refused_soon(&gateway, &access);
        if by_token {
            let (code, ..) = run(&gateway, &arguments, &refresh_token);
            assert_eq!(code, 0);
        }
        assert_eq!(refresh(&gateway, client, &refresh_token).status, 400, "{arguments:?}");
    }
    let (access, refresh_token) = tokens_after_the_second(&gateway, "web");
    let before =
        |time: &str| run(&gateway, &["token", "revoke", "--all", "--issued-before", time], "");
    assert_eq!(before("2026-01-01T00:00:00Z").0, 0, "long before it was issued");
    for wrong in ["yesterday", "2999-01-01T00:00:00Z", ""] {
        assert_eq!(before(wrong).0, 2, "{wrong}");
    }
    // So that the second it was issued in is over.
    std::thread::park_timeout(std::time::Duration::from_millis(1_100));
    assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);
    let next = refresh(&gateway, "web", &refresh_token);
    let soon = jiff::Timestamp::from_second(scopegate::system::clock::now().0).unwrap().to_string();
    std::thread::park_timeout(std::time::Duration::from_millis(1_100));
    let later = alice(&gateway);
    assert!(later.cookie.is_some());
    assert_eq!(before(&soon).0, 0);
    is_refused_soon(&gateway, &access);
    assert_eq!(refresh(&gateway, "web", &member(&next, "refresh_token")).status, 400);
    assert_eq!(run(&gateway, &["token", "revoke"], "").0, 2, "which?");
    for (kind, name) in [("--client", "wbe"), ("--user", "alcie"), ("--id", "")] {
        let (code, _, complaints) = run(&gateway, &["token", "revoke", kind, name], "");
        assert!(code == 2 && complaints.contains("error: "), "{kind} {name}: {complaints}");
    }
    assert_eq!(subject("nonsense").0, 1);
}

/// Revocations by time take all of their second: the next tokens are issued in another one.
fn tokens_after_the_second(gateway: &Gateway, client: &str) -> (String, String) {
    std::thread::park_timeout(std::time::Duration::from_millis(1_100));
    let mut browser = alice(gateway);
    let code = code(&mut browser, &request(client, &[]));
    let response = redeem(gateway, client, &code);
    (member(&response, "access_token"), member(&response, "refresh_token"))
}

#[test]
fn keys_are_rotated_without_an_end_to_tokens_and_revoked_with_one() {
    let gateway = gateway();
    let (first, refresh_token) = tokens(&gateway, "web");
    let kids = || -> Vec<String> {
        let jwks = gateway.get("/.well-known/jwks.json", None).json();
        jwks["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let compromised = kids().remove(0);
    assert_eq!(run(&gateway, &["key", "rotate"], "").0, 0);
    wait_for("the next key to be published", || (kids().len() == 2).then_some(()));
    assert_eq!(kids()[0], compromised, "and it does not sign yet");
    assert_eq!(run(&gateway, &["key", "rotate", "--now"], "").0, 0);
    wait_for("the new key to sign", || (kids()[0] != compromised).then_some(()));
    assert_eq!(kids().len(), 2, "the one that was to come gave way");
    assert_eq!(
        gateway.get("/orders/1", Some(&first)).status,
        200,
        "what the old one signed stays good"
    );
    let (_, listed) = json(&gateway, "key", &["list"], "");
    let states: Vec<&str> = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["retired", "current"], "{listed}");
    let second = member(&refresh(&gateway, "web", &refresh_token), "access_token");

    assert_eq!(run(&gateway, &["key", "revoke", &compromised], "").0, 0);
    is_refused_soon(&gateway, &first);
    assert_eq!(gateway.get("/orders/1", Some(&second)).status, 200);
    let current = kids().remove(0);
    assert_eq!(run(&gateway, &["key", "revoke", &current], "").0, 0);
    is_refused_soon(&gateway, &second);
    wait_for("another key", || (kids() != [current.clone()] && kids().len() == 1).then_some(()));
    assert_eq!(gateway.get("/orders/1", Some(&tokens(&gateway, "web").0)).status, 200);
    assert_eq!(run(&gateway, &["key", "revoke", "nothing"], "").0, 2);
}

/// Ids of keys and tokens are random: one in 64 begins with a hyphen.
#[test]
fn what_begins_with_a_hyphen_is_no_flag() {
    let gateway = gateway();
    for (arguments, code, words) in [
        (&["key", "revoke", "-x-nothing"][..], 2, "-x-nothing"),
        (&["token", "revoke", "--id", "-x-token"], 0, ""),
        (&["block", "--token", "-x-token", "--reason", "abuse"], 0, ""),
        (&["unblock", "--token", "-x-token"], 0, ""),
        (&["block", "--client", "-x-client"], 2, "-x-client"),
        (&["client", "rotate-secret", "-x-client"], 2, "there is no client `-x-client`"),
    ] {
        let (status, output, complaints) = run(&gateway, arguments, "");
        assert_eq!(status, code, "{arguments:?}: {output}{complaints}");
        assert!(
            complaints.contains(words) && !complaints.contains("Usage"),
            "{arguments:?}: {complaints}"
        );
    }
}

#[test]
fn kill_9_during_rotations_leaves_exactly_one_key_that_signs() {
    let mut gateway = gateway();
    for round in 0..20 {
        let config = gateway.folder.path().join("gateway.yaml");
        let mut rotation = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["key", "rotate", "--now", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Another moment each round, from before it has begun until after it has ended.
        std::thread::park_timeout(std::time::Duration::from_millis(round * 3));
        let _ = rotation.kill();
        let _ = rotation.wait();
        gateway.restart();
        let (_, listed) = json(&gateway, "key", &["list"], "");
        let current = listed["keys"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|key| key["state"] == "current")
            .count();
        assert_eq!(current, 1, "round {round}: {listed}");
        let access = member(
            &crate::authorization::token(
                &gateway,
                "machine",
                &[("grant_type", "client_credentials")],
            ),
            "access_token",
        );
        assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200, "round {round}");
    }
}

#[test]
fn a_backup_made_while_serving_is_put_back_whole_and_never_over_a_store() {
    let gateway = gateway();
    let (access, refresh_token) = tokens(&gateway, "opaque");
    let copy = gateway.folder.path().join("copy.db");
    let path = copy.to_str().unwrap();
    if gateway.redis.is_some() {
        assert!(run(&gateway, &["store", "backup", path], "").2.contains("copies itself"));
        return;
    }
    let (code, said, _) = run(&gateway, &["store", "backup", path], "");
    assert!(code == 0 && said.contains("secret"), "{said}");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        run(&gateway, &["store", "backup", path], "").0,
        2,
        "never over a file that is there"
    );
    let later = member(
        &crate::authorization::token(&gateway, "opaque", &[("grant_type", "client_credentials")]),
        "access_token",
    );
    let (code, _, complaint) = run(&gateway, &["store", "restore", path], "");
    assert!(code == 2 && complaint.contains("never replaced"), "{complaint}");

    let file = gateway.folder.path().join("gateway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let elsewhere = text.replace("/data", "/restored");
    let mut gateway = gateway;
    gateway.kill();
    std::fs::write(&file, &elsewhere).unwrap();
    let whole = std::fs::read(&copy).unwrap();
    for (damage, words) in [
        (&whole[..whole.len() / 2], "copy.db"),
        (&b"not a database at all, but long enough"[..], "copy.db"),
    ] {
        std::fs::write(&copy, damage).unwrap();
        let (code, _, complaint) = run(&gateway, &["store", "restore", path], "");
        assert!(code == 2 && complaint.contains(words), "{complaint}");
        assert!(
            !gateway.folder.path().join("restored/scopegate.db").exists(),
            "nothing is half there"
        );
    }
    std::fs::write(&copy, &whole).unwrap();
    let (code, said, complaint) = run(&gateway, &["store", "restore", path], "");
    assert!(code == 0 && said.contains("since the backup"), "{said}{complaint}");
    gateway.restart();
    assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "permit");
    assert_eq!(
        gateway.get("/orders/1", Some(&later)).verdict(),
        "token.invalid",
        "given after the backup"
    );
    assert_eq!(refresh(&gateway, "opaque", &refresh_token).status, 200);
}

#[test]
fn the_keys_of_other_issuers_are_shown_as_they_are_fetched() {
    use crate::support::Issuer;
    use crate::support::issuer::{Key, Mode};
    let issuer = Issuer::start(&[Key::p256("k-one"), Key::ed25519("k-two")]);
    let mut setup = setup("");
    setup.gateway.push_str(&format!(
        "issuers: {{ corp: {{ issuer: '{0}', any_audience: true, keys: discover }}, gone: {{ \
            issuer: 'http://127.0.0.1:9', any_audience: true, keys: discover }} }}\n",
        issuer.url
    ));
    let gateway = Gateway::start(&setup);
    let (code, shown) = json(&gateway, "key", &["issuers"], "");
    assert_eq!(code, 1, "one of them is not there");
    let rows = shown["issuers"].as_array().unwrap();
    assert_eq!(
        (&rows[0]["keys"], &rows[0]["fault"]),
        (&serde_json::json!(["k-one", "k-two"]), &Value::Null)
    );
    assert!(rows[1]["fault"].as_str().unwrap().contains("127.0.0.1:9"), "{shown}");
    issuer.set_mode(Mode::Answer(500, Vec::new()));
    assert!(run(&gateway, &["key", "issuers"], "").1.contains("status 500"));
}

/// Rules may name a client, and a client its user, before they are there.
#[test]
fn a_client_and_a_user_are_judged_as_if_they_were_there_and_need_no_users_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    std::fs::create_dir(path("clients")).unwrap();
    write(
        "gateway.yaml",
        "public_url: http://127.0.0.1:1\nlisteners: [{ address: \"127.0.0.1:1\" }]\n\
         store: { embedded: { path: data } }\npolicies: p.yaml\nclients: clients\n\
         users: users.yaml\nupstreams: { a: { servers: [\"http://127.0.0.1:2\"] } }\n\
         authorization_server: { grants: [client_credentials] }\n",
    );
    let policies = "apis: { a: { base_path: /a, upstream: a, resources: { /x: [GET] } } }\n\
                    access_policies: { p: { api: a, allow: [{ clients: [later] }] } }\n";
    write("p.yaml", policies);
    let run = |arguments: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(arguments)
            .env("SCOPEGATE_CONFIG", path("gateway.yaml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(told).unwrap())
    };
    let (code, told) = run(&["client", "add", "later", "--application-user", "svc"]);
    assert!(code == 1 && told.contains("svc") && !path("clients/later.yaml").exists(), "{told}");
    let (code, told) = run(&["client", "add", "other"]);
    assert!(code == 1 && told.contains("later"), "what else is wrong is told: {told}");
    let (code, told) = run(&["user", "add", "svc"]);
    assert!(code == 1 && told.contains("later"), "{told}");
    let (code, told) = run(&["client", "add", "later"]);
    assert!(code == 0 && path("clients/later.yaml").exists(), "{told}");
    let (code, told) = run(&["user", "add", "svc"]);
    assert!(code == 0 && told.contains("users.yaml, which is not there yet"), "{told}");
    let lines = told.split_once("\n\n").unwrap().1;
    write("users.yaml", lines);
    assert_eq!(run(&["check"]).0, 0);
    let (code, told) = run(&["user", "add", "svc"]);
    assert!(code == 2 && told.contains("is there already"), "{told}");
    let (code, told) = run(&["client", "add", "third", "--application-user", "svc"]);
    assert_eq!(code, 0, "{told}");
}
