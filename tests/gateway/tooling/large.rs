//! The commands over sets as large as anybody's: `APIS` APIs and as many clients, `LINES` records
//! of traffic. With `STRICT=1` (a release build) the bounds of time hold; without, that the answers
//! are right.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use scopegate::names::Timestamp;
use scopegate::policy::sample::{Presented, Sample, TokenSample};
use scopegate::policy::{Moment, decide};
use scopegate::system::files;
use serde_json::{Value, json};

use crate::support::{judge, many};

/// What of the clients and policies is otherwise in a set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit {
    None,
    /// A third of the clients is no longer restricted.
    Clients,
    /// Every client holds a scope less, and every policy asks for its roles otherwise.
    All,
}

/// Writes a set of `n` APIs with five operations each, two scopes, a policy with three profiles and
/// an ACL, and of `n` clients with ten scopes each.
fn write_set(folder: &Path, n: usize, edit: Edit) -> PathBuf {
    std::fs::create_dir_all(folder.join("policies")).unwrap();
    let gateway = "public_url: http://127.0.0.1:8080\nlisteners: [{ address: 127.0.0.1:8080 \
        }]\nstore: { embedded: { path: data } }\n\
                   policies: policies\nclients: clients.yaml\nauthorization_server: { grants: \
                   [client_credentials] }\n\
                   upstreams: { u: { servers: [\"http://127.0.0.1:9\"] } }\n";
    std::fs::write(folder.join("gateway.yaml"), gateway).unwrap();
    let mut clients = "clients:\n".to_owned();
    for client in 0..n {
        let held = if edit == Edit::All { 1..10 } else { 0..10 };
        let scopes: Vec<String> = held
            .map(|k| format!("api{}_{}", api_of(client, k, n), ["write", "read"][k % 2]))
            .collect();
        let restricted = client % 3 == 0 && edit != Edit::Clients;
        clients.push_str(&format!(
            "  client{client}: {{ grants: [client_credentials], secrets: [{{ \
                sha256: \"{client:064x}\", expires: 2099-01-01 }}], \
             auth_scopes: [{}], roles: [role{}], enforce_token_restriction: {restricted} }}\n",
            scopes.join(", "),
            client % 20,
        ));
    }
    std::fs::write(folder.join("clients.yaml"), clients).unwrap();
    let any = if edit == Edit::All { "all" } else { "any" };
    for api in 0..n {
        let listed: Vec<String> =
            (0..10).map(|k| format!("client{}", (api * 13 + k * 17) % n)).collect();
        let text = format!(
            "apis:\n  api{api}:\n    base_path: /api{api}\n    versions: [v1]\n    \
                default_version: v1\n    upstream: u\n    resources:\n      \
             /items: [GET, POST]\n      /items/{{id}}: [GET, PUT, DELETE]\n\
             auth_scopes:\n  api{api}_read: {{ grants: [{{ api: api{api}, methods: [GET] }}] }}\n  \
             api{api}_write: {{ grants: [{{ api: api{api}, methods: [POST, PUT] }}] }}\n\
             access_policies:\n  p{api}:\n    api: api{api}\n    allow: [{{ clients: [{}], from: \
             [10.{}.0.0/16] }}, \
             {{ roles: {{ {any}: [role{}] }} }}, {{ restricted_clients: true, roles: {{ any: \
             [role{}] }} }}]\n\
             acls:\n  - {{ api: api{api}, methods: [DELETE], roles: {{ all: [role{}] }} }}\n",
            listed.join(", "),
            api % 250,
            api % 20,
            (api + 1) % 20,
            (api + 2) % 20,
        );
        std::fs::write(folder.join(format!("policies/api{api}.yaml")), text).unwrap();
    }
    folder.join("gateway.yaml")
}

/// The API that a client's `k`th scope is of.
fn api_of(client: usize, k: usize, n: usize) -> usize {
    (client * 7 + k * 131) % n
}

/// Writes records of requests as the set decides them.
fn write_log(gateway: &Path, file: &Path, n: usize, lines: usize) -> usize {
    let config = files::load(gateway).unwrap_or_else(|fault| panic!("{:?}", fault.lines()));
    let at = Timestamp(1_795_000_000);
    let mut out = BufWriter::new(std::fs::File::create(file).unwrap());
    let mut permitted = 0;
    for line in 0..lines {
        let client = (line * 31) % n;
        // Every other record is of an operation that the client's role and scope are for, where it
        // has such.
        let meant =
            (0..10).find(|k| [0, 1].contains(&((client + 20 - api_of(client, *k, n) % 20) % 20)));
        let k = meant.filter(|_| line % 2 == 0).unwrap_or(line % 10);
        let api = api_of(client, k, n);
        let (method, resource) = [("POST", "/items"), ("GET", "/items"), ("GET", "/items/{id}")]
            [if k % 2 == 0 { 0 } else { 1 + line % 2 }];
        let (id, address) =
            (format!("client{client}"), format!("10.{}.1.{}", api % 250, line % 250));
        let words = TokenSample::of_client(&id.as_str().into());
        let case = Sample {
            method_override: None,
            method: method.to_owned(),
            target: format!("/api{api}/v1{}", resource.replace("{id}", "7")),
            host: None,
            from: Some(address.parse().unwrap()),
            certificate: Vec::new(),
            token: Some(Presented::Sample(Box::new(words.clone()))),
        };
        let facts = words.facts(&config.rules, at);
        let scopes = facts.scopes.as_ref().map(scopegate::scope::ScopeSet::to_value);
        let request = case.request(&config.fixed.public_host).unwrap();
        let judgement =
            decide(&config.rules, &request, |_| Ok(std::sync::Arc::new(facts)), Moment::at(at));
        let (verdict, reason) = match &judgement.outcome {
            Ok(_) => ("permit", None),
            Err(refusal) => ("refuse", Some(refusal.reason.label())),
        };
        permitted += usize::from(reason.is_none());
        let mut record = json!({
            "v": 1, "id": format!("{line:024x}"), "time": "2026-11-22T10:00:00.000Z",
                "method": method, "api": format!("api{api}"),
            "version": "v1", "resource": resource, "address": address, "issuer": "self",
                "client": id, "subject": id, "scopes": scopes,
            "roles": [format!("role{}", client % 20)], "verdict": verdict, "set": &*config.version,
                "decision_us": 12, "total_us": 340,
        });
        if let Some(reason) = reason {
            record["reason"] = reason.into();
        }
        writeln!(out, "{record}").unwrap();
    }
    out.flush().unwrap();
    permitted
}

/// Runs a command; its exit code, what it told, and how long it took.
fn timed(what: &str, arguments: &[&str], longest: Duration) -> (i32, Value) {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(arguments)
        .args(["--format", "json"])
        .output()
        .unwrap();
    let took = begun.elapsed();
    judge(what, took, longest);
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), told)
}

#[test]
fn a_thousand_apis_and_clients_are_checked_compared_and_listed() {
    let n = many("APIS", 60);
    let lines = many("LINES", 6_000);
    let folder = tempfile::tempdir().unwrap();
    let sets = [Edit::None, Edit::Clients, Edit::All].map(|edit| {
        let own = folder.path().join(["none", "clients", "all"][edit as usize]);
        write_set(&own, n, edit).display().to_string()
    });
    let [old, clients, all] = &sets;
    let log = folder.path().join("log.jsonl").display().to_string();
    let permitted = write_log(Path::new(old), Path::new(&log), n, lines);
    println!("{n} APIs, {n} clients, {lines} records, {permitted} of them permitted");
    assert!(permitted * 20 > lines && permitted < lines, "{permitted} permitted");

    let (code, told) = timed("check", &["check", "--config", old], Duration::from_secs(2));
    assert_eq!((code, &told["faults"]), (0, &json!([])));
    let (code, told) = timed("access", &["access", "--config", old], Duration::from_secs(5));
    let reach = told["access"]["reach"].as_array().unwrap().len();
    assert!(code == 0 && reach > n, "{reach} rows");
    let (code, told) =
        timed("diff, nothing changed", &["diff", old, old, "--log", &log], Duration::from_secs(40));
    assert_eq!((code, &told["differences"]), (0, &json!([])));
    let traffic = &told["traffic"];
    assert_eq!(
        (&traffic["replayed"], &traffic["drifted"], &traffic["unreadable"]),
        (&json!(lines), &json!(0), &json!(0))
    );
    for (what, new) in
        [("diff, a third of the clients changed", clients), ("diff, everything changed", all)]
    {
        let (code, told) = timed(what, &["diff", old, new], Duration::from_secs(10));
        let differences = told["differences"].as_array().unwrap();
        assert!(code == 1 && differences.len() > n / 10, "{what}: {}", differences.len());
        println!("{what}: {} differences", differences.len());
    }
    let (code, told) = timed(
        "diff with recorded traffic",
        &["diff", old, all, "--log", &log],
        Duration::from_secs(40),
    );
    assert_eq!((code, &told["traffic"]["replayed"]), (1, &json!(lines)));
    assert!(!told["traffic"]["changed"].as_array().unwrap().is_empty());
}
