//! Files that change are read again, however they change, and nothing is lost meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::http::{Connection, request};
use crate::support::{Gateway, Setup, judge, many, replace, wait_for};

const CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read] } }\n";

/// A set that permits, or that refuses.
fn policies(permits: bool) -> String {
    let methods = if permits { "[GET]" } else { "[POST]" };
    format!(
        "apis: {{ api: {{ base_path: /api, upstream: api, resources: {{ /x: [GET, POST] }} }} }}\n\
         auth_scopes: {{ read: {{ grants: [{{ api: api, methods: {methods} }}] }} }}\n"
    )
}

fn gateway() -> Gateway {
    Gateway::start(&Setup::new(&policies(true), CLIENTS))
}

/// One whose upstream is shown a secret out of a file.
fn with_secret() -> Gateway {
    let mut setup = Setup::new(&policies(true), CLIENTS);
    setup.gateway =
        "upstreams: { api: { servers: ['@UPSTREAM@'], authorization: { replace: { bearer: \
            'file:secret' } } } }\n"
            .to_owned();
    setup.files = vec![("secret".to_owned(), "first\n".to_owned())];
    Gateway::start(&setup)
}

/// Waits until a connection that was open before sees what was changed; how long it took.
fn bites(connection: &mut Connection, token: &str, permits: bool) -> Duration {
    let start = Instant::now();
    wait_for("the change to bite", || {
        connection.write(request("GET", "/api/x", Some(token), &[]).as_bytes());
        let status = connection.read(false).expect("an answer on the same connection").status;
        (status == if permits { 200 } else { 403 }).then_some(())
    });
    start.elapsed()
}

/// What it is called, and what does it.
type Way<'a> = (&'a str, &'a dyn Fn(&str));

#[test]
fn every_way_in_which_files_change_is_seen() {
    let gateway = gateway();
    let token = gateway.token("app");
    let folder = gateway.folder.path();
    let file = folder.join("policies.yaml");
    let in_place = |text: &str| std::fs::write(&file, text).unwrap();
    let renamed = |text: &str| {
        std::fs::write(folder.join("new"), text).unwrap();
        std::fs::rename(folder.join("new"), &file).unwrap();
    };
    let made_anew = |text: &str| {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, text).unwrap();
    };
    // As the kubelet does: files are links to `..data/…`, and `..data` is a link to the folder of a
    // version.
    let version = std::cell::Cell::new(0);
    let swapped = |text: &str| {
        version.set(version.get() + 1);
        let data = format!("..version_{}", version.get());
        std::fs::create_dir(folder.join(&data)).unwrap();
        std::fs::write(folder.join(&data).join("policies.yaml"), text).unwrap();
        std::os::unix::fs::symlink(&data, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if !file.is_symlink() {
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("..data/policies.yaml", &file).unwrap();
        }
    };
    let ways: [Way<'_>; 4] = [
        ("in place", &in_place),
        ("renamed", &renamed),
        ("made anew", &made_anew),
        ("swapped", &swapped),
    ];
    let mut connection = Connection::open(gateway.address);
    let mut permits = true;
    let mut slowest = Duration::ZERO;
    for round in 0..many("ROUNDS", 2) {
        for (name, change) in &ways {
            permits = !permits;
            change(&policies(permits));
            let took = bites(&mut connection, &token, permits);
            slowest = slowest.max(took);
            judge(&format!("{name}, round {round}"), took, Duration::from_secs(5));
        }
    }
    println!("slowest: {slowest:?}");
}

#[test]
fn a_bad_set_is_refused_whole_and_says_why_once() {
    let gateway = gateway();
    let token = gateway.token("app");
    std::fs::write(
        gateway.folder.path().join("policies.yaml"),
        "apis: { api: { base_path: /api, upstream: nobody } }\n",
    )
    .unwrap();
    gateway.wait_for_log(&["configuration refused"]);
    assert_eq!(gateway.metric("scopegate_config_last_reload_successful"), Some(0.0));
    // It is not tried again and again while nothing changes.
    std::thread::park_timeout(Duration::from_millis(1600));
    let faults = gateway.log().matches("configuration refused").count();
    assert!(faults <= 2, "{}", gateway.log());
    assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);
    std::fs::write(gateway.folder.path().join("policies.yaml"), policies(true)).unwrap();
    wait_for("the good one", || {
        (gateway.metric("scopegate_config_last_reload_successful") == Some(1.0)).then_some(())
    });
}

#[test]
fn new_certificates_and_secrets_are_taken_without_a_signal() {
    let gateway = with_secret();
    let token = gateway.token("app");
    let presented = || {
        assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);
        gateway
            .upstream
            .last_head()
            .iter()
            .find_map(|line| line.strip_prefix("authorization: Bearer ").map(str::to_owned))
    };
    assert_eq!(presented().as_deref(), Some("first"));
    std::fs::write(gateway.folder.path().join("secret"), "second\n").unwrap();
    wait_for("the new secret", || (presented().as_deref() == Some("second")).then_some(()));
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_holds_nothing_up() {
    let gateway = with_secret();
    let secret = gateway.folder.path().join("secret");
    std::fs::remove_file(&secret).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&secret).status().unwrap().success());
    assert!(!gateway.reload());
    gateway.wait_for_log(&["not a regular file"]);
    std::fs::remove_file(&secret).unwrap();
    std::fs::write(&secret, "second\n").unwrap();
    assert!(gateway.reload());
}

#[test]
fn whoever_does_not_want_it_is_left_alone() {
    let mut setup = Setup::new(&policies(true), CLIENTS);
    setup.gateway = "watch_files: false\n".to_owned();
    let gateway = Gateway::start(&setup);
    let token = gateway.token("app");
    gateway.rewrite("policies.yaml", &policies(false));
    std::thread::park_timeout(Duration::from_millis(1800));
    assert_eq!(gateway.get("/api/x", Some(&token)).status, 200);
    assert!(gateway.reload());
    assert_eq!(gateway.get("/api/x", Some(&token)).status, 403);
}

/// `RELOADS` of them; `make lifecycle` runs a hundred in a minute.
#[test]
fn reloads_under_load_cost_no_request() {
    let gateway = gateway();
    let token = gateway.token("app");
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, served, token, address) =
                (stop.clone(), served.clone(), token.clone(), gateway.address);
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                while !stop.load(Ordering::Relaxed) {
                    connection.write(request("GET", "/api/x", Some(&token), &[]).as_bytes());
                    assert_eq!(connection.read(false).expect("an answer").status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let reloads = many("RELOADS", 10);
    for round in 0..reloads {
        let before = served.load(Ordering::Relaxed);
        comment(&gateway.folder.path().join("policies.yaml"), round);
        assert!(gateway.reload());
        wait_for("requests to be served", || {
            (served.load(Ordering::Relaxed) > before).then_some(())
        });
        std::thread::park_timeout(Duration::from_millis(if reloads > 50 { 500 } else { 50 }));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    println!("{reloads} reloads, {} requests, all 200", served.load(Ordering::Relaxed));
    assert!(served.load(Ordering::Relaxed) >= reloads);
}

fn comment(file: &Path, round: usize) {
    replace(file, &format!("{}# {round}\n", policies(true)));
}
