//! A new integration: what may be prepared, and what may be written.

use serde_json::{Value, json};

use super::{Console, draft};
use crate::support::http::{Response, form};
use crate::support::wait_for;

/// Files of the configuration, with their text.
fn files(console: &Console) -> Vec<(String, String)> {
    let folder = console.gateway.folder.path();
    let mut found = Vec::new();
    for folder in [folder.to_owned(), folder.join("clients"), folder.join("..")] {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains("yaml") {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

fn token(console: &Console, id: &str, secret: &str) -> Response {
    let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    console.gateway.send(form("/oauth2/token", &[], &body))
}

/// Waits until a new client is in force; a token of it.
fn first_token(console: &Console, made: &Value) -> String {
    let (id, secret) = (made["file"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let id = id.strip_suffix(".yaml").unwrap();
    wait_for("the new client to get a token", || {
        let answer = token(console, id, secret);
        (answer.status == 200).then(|| answer.json()["access_token"].as_str().unwrap().to_owned())
    })
}

#[test]
fn a_draft_shows_its_effect_and_writes_nothing() {
    let console = Console::start();
    let before = files(&console);
    let answer = console.post_api("vera", "integrations/draft", &draft("new-one"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let made = answer.json();
    assert_eq!((&made["opens_operations"], &made["opens_apis"]), (&1.into(), &1.into()));
    assert_eq!(made["opens"][0]["operation"], "GET /{id}", "{made}");
    let (yaml, secret) = (made["yaml"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert!(secret.len() == 43 && !yaml.contains(secret), "{made}");
    assert!(made["merge_request"].as_str().unwrap().contains("stock GET /{id}"), "{made}");
    assert_eq!(files(&console), before);
    assert_eq!(token(&console, "new-one", secret).status, 401);
    // Its file is whole: put where clients are, it gets a token.
    std::fs::write(console.gateway.folder.path().join("clients/new-one.yaml"), yaml).unwrap();
    assert!(console.gateway.reload());
    let token = first_token(&console, &made);
    assert_eq!(console.call("GET", "/stock/1", Some(&token)).status, 200);
    assert_eq!(console.call("GET", "/orders/1", Some(&token)).status, 403);
}

#[test]
fn a_file_is_written_once_and_its_client_gets_a_token() {
    let console = Console::start();
    let answer = console.post_api("eddi", "integrations", &draft("new-one"));
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = answer.json();
    let file = console.gateway.folder.path().join("clients/new-one.yaml");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), made["yaml"].as_str().unwrap());
    let access = first_token(&console, &made);
    assert_eq!(console.call("GET", "/stock/1", Some(&access)).status, 200);
    let page = console.sign_in("vera").get("/integrations/new-one");
    assert_eq!(page.status, 200);
    // Neither once more, nor over a file that declares others.
    let before = files(&console);
    let again = console.post_api("eddi", "integrations", &draft("new-one"));
    assert!(again.status == 422 && again.body.contains("is there already"), "{again:?}");
    let over = console.post_api("eddi", "integrations", &draft("all"));
    assert_eq!(over.status, 409, "{over:?}");
    assert_eq!(files(&console), before);
    let records = console.audit();
    let last = records.last().unwrap();
    assert!(last["on"] == "all.yaml" && last["outcome"] != "done", "{last}");
}

/// Of many at once one is told that it was done, and what it was told holds.
#[test]
fn two_editors_at_once_do_not_mix_their_files() {
    let console = Console::start();
    for round in 0..8 {
        let id = format!("twice-{round}");
        let answers: Vec<Response> = std::thread::scope(|scope| {
            let write = || console.post_api("eddi", "integrations", &draft(&id));
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(write)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let made: Vec<&Response> = answers.iter().filter(|one| one.status == 201).collect();
        assert_eq!(made.len(), 1, "{answers:?}");
        let refused = answers.iter().filter(|one| matches!(one.status, 409 | 422));
        assert_eq!(refused.count(), 5, "{answers:?}");
        let file = console.gateway.folder.path().join(format!("clients/{id}.yaml"));
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(text, made[0].json()["yaml"].as_str().unwrap(), "{answers:?}");
        first_token(&console, &made[0].json());
    }
    let names: Vec<String> = files(&console).into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| !name.starts_with('.')), "nothing is left over: {names:?}");
}

#[test]
fn no_draft_leads_out_of_its_folder_or_reads_the_environment() {
    let console = Console::start();
    let before = files(&console);
    let session = console.sign_in("eddi");
    let with = |id: &str, name: &str, value: Value| {
        let mut draft = draft(id);
        draft[name] = value;
        draft
    };
    let drafts = [
        draft("../outside"),
        draft("/tmp/outside"),
        draft("sub/inside"),
        draft("..\\outside"),
        draft(".hidden"),
        draft(".."),
        draft("."),
        draft(""),
        draft("a\u{0}b"),
        draft("a b"),
        draft("%2e%2e%2foutside"),
        draft("ä"),
        draft(&"x".repeat(300)),
        with("x", "name", json!("env:PATH")),
        with("x", "owner", json!("env:HOME")),
        with("env:HOME", "owner", json!("x")),
        with("x", "auth_scopes", json!(["env:HOME"])),
        with("x", "redirect_urls", json!(["env:HOME"])),
        with("x", "logo_url", json!("file:../gateway.yaml")),
        with("x", "name", json!("a\nclients:\n  evil: {}")),
        with("x", "auth_scopes", json!(["nothing"])),
        with("x", "grants", json!(["magic"])),
        with("x", "expires", json!("tomorrow")),
        with("x", "token_format", json!("xml")),
        with("x", "secrets", json!([])),
        with("crm", "name", json!("A second one")),
    ];
    for draft in drafts {
        for (name, target) in [("vera", "integrations/draft"), ("eddi", "integrations")] {
            let answer = console.post_api(name, target, &draft);
            assert_eq!(answer.status, 422, "{target} {draft}: {answer:?}");
            let of = answer.header("content-type");
            assert_eq!(of, Some("application/problem+json"), "{draft}: {answer:?}");
            assert!(!answer.body.contains(super::SHARED), "{answer:?}");
        }
        let (id, name) = (draft["id"].as_str().unwrap(), draft["name"].as_str().unwrap());
        if draft.get("secrets").is_none() && name == "New one" && draft["owner"] != "env:HOME" {
            let fields = [("id", id), ("name", name), ("do", "write")];
            let answer = session.post("/integrations/new", &fields);
            let is_same = draft == self::draft(id) && id.trim() == id;
            assert!(!is_same || answer.status == 422, "{draft}: {answer:?}");
        }
    }
    let written: Vec<(String, String)> =
        files(&console).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(written.iter().all(|(name, _)| name == "x.yaml"), "{written:?}");
}

#[test]
fn the_master_scope_is_given_by_hand_and_nothing_is_written_over_changes() {
    let console = Console::start();
    let master = |id: &str| {
        let mut draft = draft(id);
        draft["auth_scopes"] = json!(["useraccount"]);
        draft
    };
    let answer = console.post_api("eddi", "integrations", &master("mighty"));
    assert!(answer.status == 403 && answer.body.contains("master scope"), "{answer:?}");
    let session = console.sign_in("eddi");
    let fields =
        [("id", "mighty"), ("name", "Mighty"), ("auth_scopes", "useraccount"), ("do", "write")];
    let page = session.post("/integrations/new", &fields);
    assert!(page.status == 403 && page.body.contains("master scope"), "{page:?}");

    // Files that are not the set in force are somebody's work in progress.
    let before = files(&console);
    let text =
        std::fs::read_to_string(console.gateway.folder.path().join("policies.yaml")).unwrap();
    console.gateway.rewrite("policies.yaml", &format!("{text}# in progress\n"));
    let answer = console.post_api("eddi", "integrations", &draft("new-one"));
    assert!(answer.status == 409 && answer.body.contains("not the set in force"), "{answer:?}");
    console.gateway.rewrite("policies.yaml", "apis: 1\n");
    let answer = console.post_api("eddi", "integrations", &draft("new-one"));
    assert!(matches!(answer.status, 409 | 422), "{answer:?}");
    console.gateway.rewrite("policies.yaml", &text);
    assert_eq!(files(&console), before);
    let answer = console.post_api("eddi", "integrations", &draft("new-one"));
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[test]
fn a_console_that_may_not_write_writes_nothing() {
    let console = Console::start_with(|setup| {
        setup.gateway = setup.gateway.replace("console: { write: clients }\n", "");
    });
    let before = files(&console);
    let answer = console.post_api("eddi", "integrations", &draft("new-one"));
    assert!(answer.status == 403 && answer.body.contains("console: { write"), "{answer:?}");
    let session = console.sign_in("eddi");
    assert!(!session.get("/integrations/new").body.contains("value=\"write\""));
    let fields = [("id", "new-one"), ("name", "New one"), ("do", "write")];
    assert_eq!(session.post("/integrations/new", &fields).status, 403);
    assert_eq!(files(&console), before);
}
