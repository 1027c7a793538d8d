//! The files of `deploy/`, read by the tools that will read them in earnest and by the gateway
//! itself.
//!
//! A tool that is missing fails its test and says what to install: a skipped check looks like one
//! that passed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GATEWAY: &str = env!("CARGO_BIN_EXE_scopegate");

/// A file or folder of `deploy/`.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// A folder of one test's own, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("deploy-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in target/tmp harms nobody, and a panic here would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool that a Debian package brings.
fn run(package: &str, command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        let tool = command.get_program().to_string_lossy();
        assert!(
            error.kind() != ErrorKind::NotFound,
            "`{tool}` is missing; install it: apt-get install {package}"
        );
        panic!("`{tool}` cannot be run: {error}");
    })
}

/// Everything a tool printed.
fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn promtool(arguments: &[&str], file: &str) {
    let output = run("prometheus", Command::new("promtool").args(arguments).arg(deploy(file)));
    assert!(
        output.status.success(),
        "promtool {} deploy/{file}:\n{}",
        arguments.join(" "),
        printed(&output)
    );
}

#[test]
fn the_service_unit_has_no_key_that_systemd_does_not_know() {
    let folder = Folder::new("unit");
    let unit = std::fs::read_to_string(deploy("systemd/scopegate.service")).unwrap();
    // systemd looks whether the programs are there; the one under test is, though not where it gets
    // installed.
    let copy = folder.0.join("scopegate.service");
    std::fs::write(&copy, unit.replace("/usr/bin/scopegate", GATEWAY)).unwrap();

    // No man pages: the unit names none. No recursion: the exit code is about this unit, not about
    // those it is ordered after.
    let arguments = ["verify", "--man=no", "--recursive-errors=no"];
    let output = run("systemd", Command::new("systemd-analyze").args(arguments).arg(&copy));
    let printed = printed(&output);
    // A key that is unknown or does not parse is ignored with a line like these, so any line is a
    // fault. Harmless are only lines that begin with the path of another unit: it was loaded from
    // this machine for a dependency, and its faults are not ours.
    let of_another =
        |line: &str| line.starts_with('/') && !line.starts_with(&*copy.to_string_lossy());
    let faults: Vec<&str> =
        printed.lines().filter(|line| !line.trim().is_empty() && !of_another(line)).collect();
    assert!(
        output.status.success() && faults.is_empty(),
        "systemd-analyze verify deploy/systemd/scopegate.service:\n{printed}"
    );
}

#[test]
fn the_service_unit_is_hardened() {
    let unit = deploy("systemd/scopegate.service");
    // Out of 100; the unit has 16, and the distance is for differences between versions of systemd.
    let arguments = ["security", "--offline=yes", "--no-pager", "--threshold=25"];
    let output = run("systemd", Command::new("systemd-analyze").args(arguments).arg(unit));
    assert!(output.status.success(), "systemd-analyze security:\n{}", printed(&output));
}

#[test]
fn prometheus_takes_the_configuration() {
    promtool(&["check", "config", "--lint-fatal"], "prometheus/prometheus.yml");
}

#[test]
fn prometheus_takes_the_alerts() {
    promtool(&["check", "rules", "--lint-fatal"], "prometheus/alerts.yml");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    promtool(&["test", "rules"], "prometheus/alerts_test.yml");
}

#[test]
fn every_alert_tells_how_bad_it_is_and_what_to_do() {
    let text = std::fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        let severity = ["labels: { severity: critical }", "labels: { severity: warning }"]
            .iter()
            .any(|label| alert.contains(label));
        assert!(severity, "{name}: no severity, or one that is neither critical nor warning");
        assert!(
            alert.contains("summary: ") && alert.contains("description: "),
            "{name}: no summary or no description"
        );
    }
}

#[test]
fn the_gateway_takes_the_configuration_of_compose() {
    // In a folder of its own: the store's path is relative to the working directory.
    let folder = Folder::new("compose");
    let configuration = deploy("compose/gateway.yaml");
    let output = Command::new(GATEWAY)
        .current_dir(&folder.0)
        .args(["check", "--config"])
        .arg(configuration)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "scopegate check --config deploy/compose/gateway.yaml:\n{}",
        printed(&output)
    );
}
