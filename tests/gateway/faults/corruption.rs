//! A store whose bytes have changed is refused by name, or is as it was: never silently empty.

use std::process::{Command, Stdio};

use super::{families, fixed};
use crate::authorization::own_token;
use crate::support::{Gateway, free_addresses, many};

#[test]
fn corrupted_files_are_refused_by_name_or_lose_nothing() {
    let rounds = many("ROUNDS", 12).max(12);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("data");
    let setup = fixed(Some(&store));
    let mut gateway = Gateway::start(&setup);
    let opaque: Vec<String> = (0..200).map(|_| own_token(&gateway, "opaque")).collect();
    drop(families(&gateway, 2));
    gateway.signal("TERM");
    gateway.wait();
    let good = std::fs::read(store.join("scopegate.db")).unwrap();
    let log = std::fs::metadata(store.join("scopegate.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "a clean end leaves everything in one file");
    let (mut refused, mut served) = (0, 0);
    for round in 0..rounds {
        let mut bad = good.clone();
        let at = (round * 7_919 + 13) % bad.len();
        match round % 4 {
            0 => bad[at] ^= 0xff,
            1 => bad.truncate(at),
            2 => bad[at..(at + 4096).min(good.len())].fill(0),
            _ => bad[at..(at + 512).min(good.len())].fill(0xa5),
        }
        for name in ["scopegate.db-wal", "scopegate.db-shm"] {
            let _ = std::fs::remove_file(store.join(name));
        }
        std::fs::write(store.join("scopegate.db"), &bad).unwrap();
        let work = tempfile::tempdir().unwrap();
        let [address, metrics, upstream] = free_addresses();
        let file = setup.write(work.path(), address, metrics, upstream);
        let mut child = Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["serve", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let listens = || std::net::TcpStream::connect(address).is_ok();
        let ended =
            crate::support::wait_for("an end or a listener", || match child.try_wait().unwrap() {
                Some(status) => Some(Some(status)),
                None => listens().then_some(None),
            });
        if let Some(status) = ended {
            let mut text = String::new();
            std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut text).unwrap();
            assert_eq!(status.code(), Some(2), "round {round}: {text}");
            assert!(text.contains("scopegate.db"), "round {round}: {text}");
            assert!(!text.contains("panicked"), "round {round}: {text}");
            refused += 1;
        } else {
            // It serves: then every token is there or its look-up is an outage, and none is
            // unknown.
            for token in opaque.iter().step_by(20) {
                let answer = crate::support::send(
                    address,
                    crate::support::http::request("GET", "/orders/1", Some(token), &[]),
                );
                let verdict = answer.json()["reason"].as_str().unwrap_or("permit").to_owned();
                assert!(verdict != "token.invalid", "round {round}: a token is silently gone");
            }
            served += 1;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let now = std::fs::metadata(store.join("scopegate.db")).unwrap().len();
        assert!(now >= bad.len() as u64 || ended.is_none(), "round {round}: the file was replaced");
    }
    println!(
        "{rounds} corruptions: {refused} refused by name, {served} served with nothing missing"
    );
}
