//! A disk that is full, and one that fails to flush.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{fixed, issues};
use crate::authorization::{own_token, refresh, token, tokens};
use crate::support::{Gateway, judge, wait_for};

/// Nothing that has to be stored is given; what needs no store goes on.
fn gives_nothing(gateway: &Gateway, jwt: &str, refresh_token: &str) {
    for _ in 0..20 {
        let answer = token(gateway, "opaque", &[("grant_type", "client_credentials")]);
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (503, Some("temporarily_unavailable")),
            "{answer:?}"
        );
        assert_eq!(refresh(gateway, "web", refresh_token).status, 503);
        assert_eq!(gateway.get("/orders/1", Some(jwt)).verdict(), "permit");
    }
}

#[test]
fn a_full_disk_costs_tokens_that_must_be_stored_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let path = disk.display().to_string();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs", &path]).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("SKIPPED: a small disk needs the right to mount: {mounted:?}");
    }
    let gateway = Gateway::start(&fixed(Some(&disk.join("data"))));
    let jwt = own_token(&gateway, "machine");
    let (_, refresh_token) = tokens(&gateway, "web");
    let ballast = disk.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
    // What is preallocated may take a few more.
    wait_for("the disk to be full", || (!issues(&gateway)).then_some(()));
    gives_nothing(&gateway, &jwt, &refresh_token);
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let began = Instant::now();
    wait_for("tokens to be given again", || issues(&gateway).then_some(()));
    judge("tokens, given again", began.elapsed(), Duration::from_secs(5));
    assert_eq!(
        refresh(&gateway, "web", &refresh_token).status,
        200,
        "what was refused is as it was"
    );
    drop(gateway);
    assert!(Command::new("umount").arg(&path).status().unwrap().success());
}

/// Fails `fsync` and `fdatasync` while a file is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) {
  const char *path = getenv("FSYNC_FAILS");
  return path && access(path, F_OK) == 0;
}
int fsync(int fd) {
  if (fails()) { errno = EIO; return -1; }
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
  if (fails()) { errno = EIO; return -1; }
  return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

#[test]
fn a_flush_that_fails_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (source, shim, fails) =
        (folder.path().join("shim.c"), folder.path().join("shim.so"), folder.path().join("fails"));
    std::fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut setup = fixed(None);
    setup.environment = vec![
        ("LD_PRELOAD".into(), shim.display().to_string()),
        ("FSYNC_FAILS".into(), fails.display().to_string()),
    ];
    let mut gateway = Gateway::start(&setup);
    let jwt = own_token(&gateway, "machine");
    let (_, refresh_token) = tokens(&gateway, "web");
    std::fs::write(&fails, "").unwrap();
    gives_nothing(&gateway, &jwt, &refresh_token);
    std::fs::remove_file(&fails).unwrap();
    let began = Instant::now();
    wait_for("tokens to be given again", || issues(&gateway).then_some(()));
    judge("tokens, given again", began.elapsed(), Duration::from_secs(5));
    let next = refresh(&gateway, "web", &refresh_token);
    assert_eq!(next.status, 200, "what was refused is as it was");
    gateway.restart();
    assert_eq!(gateway.get("/orders/1", Some(&jwt)).verdict(), "permit");
}
