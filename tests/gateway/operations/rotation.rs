//! The decision log while its file is moved, cut and rotated, under load.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::{CLIENTS, POLICIES};
use crate::support::http::{Connection, request};
use crate::support::{Gateway, Setup, Upstream, wait_for};

const CALLERS: usize = 3;
const REQUESTS: usize = 1_500;

fn start(log: &str) -> Gateway {
    let mut setup =
        Setup::new(&POLICIES.replace("upstream: api,", "upstream: api, public: true,"), CLIENTS);
    setup.gateway = log.to_owned();
    Gateway::start_with(&setup, Upstream::start())
}

/// Sends requests from several connections, and meanwhile does something again and again; gives
/// their decision ids.
fn under_load(gateway: &Gateway, mut meanwhile: impl FnMut(usize)) -> BTreeSet<String> {
    let done = AtomicUsize::new(0);
    let call = || {
        let mut connection = Connection::open(gateway.address);
        let mut ids = Vec::new();
        for _ in 0..REQUESTS {
            connection.write(request("GET", "/api/1", None, &[]).as_bytes());
            let answer = connection.read(false).unwrap();
            ids.push(answer.header("x-decision-id").unwrap().to_owned());
        }
        done.fetch_add(1, Ordering::Release);
        ids
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let mut turn = 0;
        while done.load(Ordering::Acquire) < CALLERS {
            turn += 1;
            meanwhile(turn);
            std::thread::park_timeout(std::time::Duration::from_millis(30));
        }
        assert!(turn > 3, "the load was over after {turn} turns");
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}

/// The ids of all records of the log and of what it was moved to. Every whole line is a record.
fn recorded(gateway: &Gateway) -> Vec<String> {
    let files =
        std::fs::read_dir(gateway.folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let is_log =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("decisions.jsonl");
    files.filter(is_log).flat_map(|path| ids_of(&path)).collect()
}

fn ids_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let id = |line: &str| {
        let record: Value = serde_json::from_str(line)
            .unwrap_or_else(|fault| panic!("{}: {fault}: {line}", path.display()));
        record["id"].as_str().unwrap().to_owned()
    };
    whole.lines().map(id).collect()
}

fn log_of(gateway: &Gateway) -> PathBuf {
    gateway.folder.path().join("decisions.jsonl")
}

fn assert_all_recorded(gateway: &Gateway, sent: &BTreeSet<String>) {
    wait_for("the last records", || (recorded(gateway).len() >= sent.len()).then_some(()));
    let mut written = recorded(gateway);
    written.sort_unstable();
    assert_eq!(written, sent.iter().cloned().collect::<Vec<_>>(), "each once");
    assert_eq!(gateway.metric("scopegate_decision_records_dropped_total "), Some(0.0));
}

#[test]
fn a_log_that_is_moved_and_made_anew_under_load_loses_and_cuts_no_record() {
    let gateway = start("");
    let log = log_of(&gateway);
    let sent = under_load(&gateway, |turn| {
        // As logrotate does with `create`; the signal comes, does not come, or comes as SIGHUP.
        std::fs::rename(&log, log.with_file_name(format!("decisions.jsonl-{turn}"))).unwrap();
        OpenOptions::new().write(true).create_new(true).mode(0o640).open(&log).unwrap();
        match turn % 3 {
            0 => gateway.signal("USR1"),
            1 => gateway.signal("HUP"),
            _ => {}
        }
    });
    assert_all_recorded(&gateway, &sent);
}

#[test]
fn a_log_that_is_copied_and_cut_under_load_has_whole_records() {
    let gateway = start("");
    let log = log_of(&gateway);
    let sent = under_load(&gateway, |turn| {
        // As logrotate does with `copytruncate`.
        std::fs::copy(&log, log.with_file_name(format!("decisions.jsonl-{turn}"))).unwrap();
        File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    });
    // Those between a copy and its cut are lost; no other is cut or made up.
    let written = recorded(&gateway);
    assert!(!written.is_empty() && written.iter().all(|id| sent.contains(id)));
}

#[test]
fn a_log_is_rotated_by_its_size_under_load_and_loses_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("decisions.jsonl");
    let gateway = start(&format!(
        "decision_log: {{ file: \"{}\", max_size: 64KiB, keep: 100 }}\n",
        own.display()
    ));
    let sent = under_load(&gateway, |_| {});
    let files = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let written = || files().iter().flat_map(|path| ids_of(path)).collect::<BTreeSet<_>>();
    wait_for("the last records", || (written().len() >= sent.len()).then_some(()));
    assert_eq!(written(), sent);
    assert!(files().len() > 5, "{:?}", files());
    for file in files() {
        let found = std::fs::metadata(&file).unwrap();
        assert!(found.len() <= 64 * 1024, "{file:?}: {}", found.len());
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn a_log_that_is_moved_away_comes_back_at_a_signal_and_without_one() {
    let gateway = start("");
    let log = log_of(&gateway);
    gateway.get("/api/1", None);
    for (signal, name) in [(Some("USR1"), "one"), (Some("HUP"), "two"), (None, "three")] {
        std::fs::rename(&log, log.with_file_name(name)).unwrap();
        if let Some(signal) = signal {
            gateway.signal(signal);
        }
        wait_for("the log", || {
            if signal.is_none() {
                gateway.get("/api/1", None);
            }
            log.exists().then_some(())
        });
        let mode = std::fs::metadata(&log).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let id = gateway.get("/api/1", None).header("x-decision-id").unwrap().to_owned();
    assert_eq!(gateway.record(&id)["verdict"], "permit");
}

#[test]
fn the_start_line_names_every_listener_and_the_log_has_the_form_that_was_asked_for() {
    let gateway = start("log_format: text\n");
    let log =
        wait_for("the start line", || Some(gateway.log()).filter(|log| log.contains(" serving")));
    let line = log.lines().find(|line| line.contains(" serving")).unwrap();
    let listeners = format!("listeners={}, {} (metrics)", gateway.address, gateway.metrics);
    assert!(line.contains(&listeners) && line.contains("INFO"), "{line}");
    assert!(serde_json::from_str::<Value>(line).is_err());

    let gateway = start("log_format: json\n");
    let log =
        wait_for("the start line", || Some(gateway.log()).filter(|log| log.contains("serving")));
    let line = log.lines().find(|line| line.contains("serving")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let listeners = format!("{}, {} (metrics)", gateway.address, gateway.metrics);
    assert_eq!((&line["message"], &line["listeners"]), (&"serving".into(), &listeners.into()));
}
