//! `scopegate doctor`: what it sees of a gateway that is well, and of each thing that is not.

use serde_json::Value;

use crate::commands::run;
use crate::support::{Gateway, Setup, free_addresses, on_redis};

use super::{CLIENTS, POLICIES};

/// What was found: the exit code, and each thing with its state.
fn doctor(gateway: &Gateway) -> (i32, Vec<(String, String, String)>) {
    let (code, output, complaints) = run(gateway, &["doctor", "--format", "json"], "");
    let told: Value =
        serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}{complaints}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let each = told["found"].as_array().unwrap().iter();
    let found =
        each.map(|found| (text(&found["what"]), text(&found["state"]), text(&found["seen"])));
    (code, found.collect())
}

/// The state of a thing.
fn state<'a>(found: &'a [(String, String, String)], what: &str) -> (&'a str, &'a str) {
    let found = found.iter().find(|(name, ..)| name.starts_with(what));
    let (_, state, seen) = found.unwrap_or_else(|| panic!("{what} was not looked at"));
    (state, seen)
}

#[test]
fn a_gateway_that_is_well_is_told_so() {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = "watch_files: false\n".to_owned();
    let gateway = Gateway::start(&setup);
    gateway.token("app");
    let now = jiff::Timestamp::now();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    gateway
        .upstream
        .answer(format!("HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Length: 0\r\n\r\n", date.unwrap()));
    let (code, found) = doctor(&gateway);
    assert_eq!(code, 0, "{found:?}");
    for what in
        ["configuration", "open files", "store", "signing key", "server", "clock", "listener"]
    {
        assert_eq!(state(&found, what).0, "good", "{what}: {found:?}");
    }
    let (ready, seen) = state(&found, "/readyz");
    assert!(ready == "good" && seen.starts_with("ready, with set "), "{seen}");
    // Files that the gateway has not read.
    gateway.rewrite("policies.yaml", &POLICIES.replace("[GET]", "[GET, POST]"));
    assert_eq!(state(&doctor(&gateway).1, "/readyz").0, "warning");
}

#[test]
fn each_thing_that_is_not_well_is_named_with_its_remedy() {
    let [nobody, metadata] = free_addresses();
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = format!(
        "upstreams: {{ api: {{ servers: ['http://{nobody}'] }}, odd: {{ servers: \
         ['http://nowhere.invalid:1', '@UPSTREAM@'] }} }}
issuers: {{ corp: {{ issuer: 'https://corp.example', audience: [x], keys: {{ jwks_url: \
         'http://{metadata}/keys' }} }} }}
"
    );
    let gateway = Gateway::start(&setup);
    gateway.upstream.answer(
        "HTTP/1.1 200 OK\r\nDate: Tue, 01 Dec 2020 03:46:07 GMT\r\nContent-Length: 0\r\n\r\n",
    );
    let (code, found) = doctor(&gateway);
    assert_eq!(code, 1, "{found:?}");
    assert_eq!(state(&found, &format!("server {nobody}")).0, "fault");
    assert_eq!(state(&found, "server nowhere.invalid").0, "fault");
    assert_eq!(state(&found, "keys of corp").0, "fault");
    let (clock, seen) = state(&found, "clock");
    assert!(clock == "warning" && seen.contains(" s beside that of "), "{seen}");
    // In words, each fault is followed by what to do.
    let (code, words, _) = run(&gateway, &["doctor"], "");
    assert_eq!(code, 1);
    let lines: Vec<&str> = words.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("fault")) {
        assert!(lines[at + 1].trim_start().starts_with('→'), "{line}\n{words}");
    }
}

#[test]
fn a_store_that_is_damaged_or_not_there_is_seen() {
    if on_redis() {
        println!("skipped over Redis: this is about the files of the embedded store");
        return;
    }
    let mut gateway = Gateway::start(&Setup::new(POLICIES, CLIENTS));
    gateway.kill();
    let (_, found) = doctor(&gateway);
    assert_eq!(state(&found, "store").0, "good");
    assert_eq!(state(&found, "listener").0, "unknown");
    let file = gateway.folder.path().join("data/scopegate.db");
    for name in ["scopegate.db-wal", "scopegate.db-shm"] {
        let _ = std::fs::remove_file(file.with_file_name(name));
    }
    std::fs::write(&file, "no database, whatever its name says, and long enough to be one")
        .unwrap();
    let (code, found) = doctor(&gateway);
    assert_eq!((code, state(&found, "store").0), (1, "fault"), "{found:?}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(state(&doctor(&gateway).1, "store").0, "unknown");
    // A configuration that does not load is the first thing to mend.
    gateway.rewrite("policies.yaml", "apis: 7\n");
    let (code, found) = doctor(&gateway);
    assert_eq!((code, state(&found, "configuration").0), (1, "fault"));
}
