//! `scopegate import`: what is made of others' documents and records serves as they say, and
//! nothing more.

mod openapi;
mod servicenow;

use std::path::{Path, PathBuf};
use std::process::Command;

use scopegate::config::Config;
use scopegate::names::Timestamp;
use scopegate::system::files;
use scopegate::tooling::import::Upstream;

use crate::support::Setup;

pub const NOW: Timestamp = Timestamp(1_795_000_000);

pub fn original(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports").join(name)
}

/// Runs `scopegate import`; its exit code, output and complaints.
pub fn import(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .arg("import")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Policies as a gateway with these upstreams has them.
pub fn loaded(policies: &str, upstreams: &[Upstream]) -> Config {
    let servers: Vec<String> = upstreams
        .iter()
        .map(|upstream| format!("  {}: {{ servers: [http://127.0.0.1:9] }}\n", upstream.name))
        .collect();
    let mut setup = Setup::new(policies, "clients: {}\n");
    setup.gateway = format!("upstreams:\n{}", servers.concat());
    let files = super::Files::of(&setup);
    files::load(&files.0.path().join("gateway.yaml"))
        .unwrap_or_else(|fault| panic!("{}\n{policies}", fault.lines().join("\n")))
}
