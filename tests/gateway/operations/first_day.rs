//! `scopegate init` and `completion`: what somebody begins with.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::http::{form, request, send};
use crate::support::{Upstream, free_addresses, wait_for};

const OPENAPI: &str = "openapi: 3.0.3
info: { title: Shop, version: '1' }
servers: [{ url: 'https://shop.example/v2' }]
paths:
  /orders/{id}:
    get: { responses: { '200': { description: ok } } }
    delete: { responses: { '204': { description: gone } } }
";

fn scopegate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(all).unwrap()
}

/// A gateway over a folder that `init` has made, at addresses of its own.
struct Begun(Child, SocketAddr);

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(folder: &Path) -> Begun {
    let [address, metrics] = free_addresses();
    let file = folder.join("config/gateway.yaml");
    let made = std::fs::read_to_string(&file).unwrap();
    let moved = made.replace("127.0.0.1:8080", &address.to_string());
    std::fs::write(&file, moved.replace("127.0.0.1:9091", &metrics.to_string())).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .arg("serve")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Begun(child, address);
    wait_for("the gateway to listen", || std::net::TcpStream::connect(address).ok());
    begun
}

/// The secret that `init` has shown.
fn secret(shown: &str) -> &str {
    let after = shown.split("days:").nth(1).unwrap_or_else(|| panic!("{shown}"));
    after.split_whitespace().next().unwrap()
}

fn token(address: SocketAddr, secret: &str) -> String {
    let body = format!("grant_type=client_credentials&client_id=first&client_secret={secret}");
    let answer = send(address, form("/oauth2/token", &[("Connection", "close")], &body));
    answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[test]
fn a_folder_of_init_passes_check_and_test_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), OPENAPI).unwrap();
    for (name, more, path, other) in [
        ("plain", &[][..], "/orders/7", "/anything/else"),
        ("made", &["--openapi", "shop.yaml"], "/v2/orders/7", "/v2/invoices"),
    ] {
        let upstream = Upstream::start();
        let url = format!("http://{}", upstream.address);
        let arguments = [&["init", name, "--upstream", &url][..], more].concat();
        let made = scopegate(folder.path(), &arguments);
        assert!(made.status.success(), "{}", text(&made));
        let inside = folder.path().join(name);
        let checked = scopegate(&inside, &["check", "--deny", "warning"]);
        assert!(checked.status.success(), "{}", text(&checked));
        let tested = scopegate(&inside, &["test"]);
        assert!(tested.status.success(), "{}", text(&tested));
        assert!(text(&tested).contains(" passed, 0 failed"), "{}", text(&tested));
        let begun = serve(&inside);
        let shown = text(&made);
        let token = token(begun.1, secret(&shown));
        let ask = |method: &str, path: &str, token: Option<&str>| {
            send(begun.1, request(method, path, token, &[("Connection", "close")])).status
        };
        assert_eq!(ask("GET", path, Some(&token)), 200);
        assert_eq!(ask("GET", path, None), 401);
        assert_eq!(ask("GET", other, Some(&token)), if name == "plain" { 200 } else { 404 });
        // The secret is in no file.
        let grep = Command::new("grep").args(["-r", secret(&shown)]).arg(&inside).output().unwrap();
        assert_eq!(grep.status.code(), Some(1), "{}", text(&grep));
    }
}

#[test]
fn init_writes_over_nothing_and_leaves_nothing_that_does_not_load() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "mine").unwrap();
    let refused = scopegate(folder.path(), &["init", "full", "--upstream", "http://127.0.0.1:1"]);
    assert!(!refused.status.success() && text(&refused).contains("not empty"), "{refused:?}");
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    std::fs::write(folder.path().join("no.yaml"), "openapi: 3.0.3\npaths: 7\n").unwrap();
    for arguments in [
        &["--upstream", "ftp://x"][..],
        &["--upstream", "http://user:password@x"],
        &["--upstream", "\"], evil: [\""],
        &["--upstream", "http://x\n  evil: { servers: [] }"],
        &["--upstream", ""],
        &["--upstream", "http://127.0.0.1:1", "--openapi", "missing.yaml"],
        &["--upstream", "http://127.0.0.1:1", "--openapi", "no.yaml"],
    ] {
        let refused = scopegate(folder.path(), &[&["init", "new"], arguments].concat());
        assert!(!refused.status.success(), "{arguments:?}");
        assert!(text(&refused).contains("error"), "{arguments:?}: {}", text(&refused));
        assert!(!folder.path().join("new").exists(), "{arguments:?}");
    }
}

#[test]
fn a_shell_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scopegate(folder.path(), &["completion", shell]);
        assert!(script.status.success() && text(&script).contains("scopegate"), "{shell}");
        std::fs::write(folder.path().join(shell), script.stdout).unwrap();
    }
    let asked = |words: &str, last: usize| {
        let script = format!(
            "source ./bash; COMP_WORDS=({words}); COMP_CWORD={last}; _scopegate scopegate \
             \"${{COMP_WORDS[{last}]}}\" \"\"; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &script]).current_dir(&folder).output();
        text(&output.unwrap()).trim().to_owned()
    };
    assert_eq!(asked("scopegate in", 1), "init integrate");
    assert!(asked("scopegate integrate ''", 2).contains("envoy"));
    assert!(asked("scopegate serve --up", 2).contains("--upgrade"));
}
