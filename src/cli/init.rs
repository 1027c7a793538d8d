//! `scopegate init`: a set that loads, passes its tests and serves, to begin with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client::new_secret;
use super::import::{read_document, shell, tell_notes, write_new};
use super::{Format, complain, report, say, wrong};
use crate::system::{clock, files};
use crate::tooling::draft::ClientDraft;
use crate::tooling::import::openapi;
use crate::tooling::testing;
use crate::tooling::usage::Day;

const GATEWAY: &str = include_str!("init/gateway.yaml");
const POLICIES: &str = include_str!("init/policies.yaml");
/// The client, which tests are about.
const CLIENT: &str = "first";
/// Days that its secret is good for.
const DAYS: i64 = 90;

/// Where a set is made, and of what.
#[derive(clap::Args, Debug)]
pub(super) struct InitArguments {
    /// Folder, which must be empty or not there yet
    folder: PathBuf,
    /// Server of the API, for instance http://127.0.0.1:9000; a path of it is put before every path
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// OpenAPI document of the API, of which policies are made; all paths of the server are one
    /// resource without
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
}

pub(super) fn run(arguments: &InitArguments) -> ExitCode {
    match init(arguments) {
        Ok(code) => code,
        Err(fault) => wrong(&fault),
    }
}

fn init(arguments: &InitArguments) -> Result<ExitCode, String> {
    let folder = &arguments.folder;
    let said = |fault: std::io::Error| format!("{}: {fault}", folder.display());
    let is_new = !folder.exists();
    if !is_new && std::fs::read_dir(folder).map_err(said)?.next().is_some() {
        return Err(format!("{} is not empty; nothing was written", folder.display()));
    }
    let imported = arguments.openapi.as_deref().map(import).transpose()?;
    let scopes = imported
        .as_ref()
        .map_or_else(|| vec!["read".to_owned(), "write".to_owned()], |it| it.scopes.clone());
    let (secret, digest) = new_secret()?;
    let today = Day::of(clock::now());
    let draft = ClientDraft {
        id: CLIENT.to_owned(),
        name: Some("First client".to_owned()),
        auth_scopes: scopes,
        expires: Some(Day(today.0 + DAYS).text()),
        ..ClientDraft::default()
    };
    // In quotes it is one text of YAML, whatever is in it.
    let upstream = serde_json::to_string(&arguments.upstream).map_err(|fault| fault.to_string())?;
    let written = [
        ("config/gateway.yaml", GATEWAY.replace("@UPSTREAM@", &upstream)),
        ("policies/api.yaml", imported.as_ref().map_or(POLICIES, |it| &it.policies).to_owned()),
        ("config/clients/first.yaml", draft.yaml(Some(&digest))),
        (".gitignore", "/data/\n/config/secrets/\n".to_owned()),
    ];
    for (name, text) in &written {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(said)?;
        write_new(&path, text)?;
    }
    let gateway = folder.join("config/gateway.yaml");
    let config = match files::load_untested(&gateway) {
        Ok(config) => config,
        Err(fault) => {
            let code = report(&fault, Format::Text);
            take_back(folder, is_new);
            complain("Nothing was left there.");
            return Ok(code);
        }
    };
    let runs = testing::run(&config, clock::now());
    let failed = runs.iter().filter(|run| run.failure.is_some()).count();
    for (name, _) in &written {
        complain(&format!("Wrote {}.", folder.join(name).display()));
    }
    complain(&format!("{} tests passed, {failed} failed", runs.len() - failed));
    if let Some(imported) = &imported {
        tell_notes(&imported.notes);
    }
    tell(folder, &draft, &secret, &config.fixed.public_url);
    Ok(ExitCode::SUCCESS)
}

/// Policies out of an OpenAPI document.
fn import(document: &Path) -> Result<openapi::Import, String> {
    let options = openapi::Options {
        upstream: Some("api".to_owned()),
        client: Some(CLIENT.to_owned()),
        scopes_by_method: true,
        ..openapi::Options::default()
    };
    let text = read_document(document)?;
    openapi::import(&text, &options, clock::now())
        .map_err(|fault| format!("{}: {fault}", document.display()))
}

/// Takes away what was written: the folder was empty.
fn take_back(folder: &Path, is_new: bool) {
    for name in ["config", "policies"] {
        let _ = std::fs::remove_dir_all(folder.join(name));
    }
    let _ = std::fs::remove_file(folder.join(".gitignore"));
    if is_new {
        let _ = std::fs::remove_dir(folder);
    }
}

fn tell(folder: &Path, draft: &ClientDraft, secret: &str, public_url: &str) {
    let curl = draft.curl(public_url, Some(secret)).unwrap_or_default();
    say(&format!(
        "The secret of the client `{CLIENT}`, shown this once; it ends in {DAYS} days:\n\n    \
         {secret}\n\nNow:\n\n    cd {}\n    scopegate check\n    scopegate test\n    scopegate \
         serve\n\nand beside it:\n\n    {curl}",
        shell(&folder.display().to_string())
    ));
}
