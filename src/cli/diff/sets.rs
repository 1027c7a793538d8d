//! Loads a configuration by its file, its folder or a git revision.

use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::config::Config;
use crate::system::files::{self, LoadFault};

/// Why no configuration was loaded.
pub(super) enum Fault {
    /// It has faults.
    Load(LoadFault),
    /// It was not found.
    Text(String),
}

/// Loads a configuration. `inside` is the path of gateway.yaml in a git revision.
pub(super) fn load(name: &str, inside: &Path) -> Result<Config, Fault> {
    let path = Path::new(name);
    if path.is_file() {
        return files::load_untested(path).map_err(Fault::Load);
    }
    if path.is_dir() {
        let file = files::gateway_file(path).map_err(Fault::Text)?;
        return files::load_untested(&file).map_err(Fault::Load);
    }
    if inside.is_absolute() || inside.components().any(|part| matches!(part, Component::ParentDir))
    {
        return Err(Fault::Text(format!(
            "--config {}: a path inside the revision",
            inside.display()
        )));
    }
    let (folder, top) = revision(name).map_err(Fault::Text)?;
    // Files that are not in the revision, such as keys and certificates, are read as they are now.
    files::load_beside(folder.path(), inside, &top).map_err(|fault| match fault {
        LoadFault::Unreadable(text) => {
            Fault::Text(text.replace(&format!("{}/", folder.path().display()), &format!("{name}:")))
        }
        LoadFault::Faults(..) => Fault::Load(fault),
    })
}

/// The files of a revision in a temporary folder, and the path of the repository.
fn revision(name: &str) -> Result<(TempDir, PathBuf), String> {
    let neither =
        |why: &str| format!("`{name}` is no file, no folder and no git revision here: {why}");
    // A name that began with a dash would be an option.
    if name.starts_with('-') {
        return Err(neither("it begins with a dash"));
    }
    let top = git(&["rev-parse", "--show-toplevel"]).map_err(|why| neither(&why))?;
    let commit = git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")])
        .map_err(|_| neither("git does not know it"))?;
    let folder = tempfile::tempdir().map_err(|fault| format!("a folder for {name}: {fault}"))?;
    let mut archive = Command::new("git")
        .args(["-C", &top, "archive", "--format=tar", &commit])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|fault| format!("git: {fault}"))?;
    let tar = archive.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let unpacked = Command::new("tar").arg("-x").arg("-C").arg(folder.path()).stdin(tar).status();
    let archived = archive.wait().map_err(|fault| format!("git archive: {fault}"))?;
    let unpacked = unpacked.map_err(|fault| format!("tar: {fault}"))?;
    if archived.success() && unpacked.success() {
        Ok((folder, PathBuf::from(top)))
    } else {
        Err(format!(
            "the files of {name} could not be read: git archive {archived}, tar {unpacked}"
        ))
    }
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new("git").args(arguments).output().map_err(|fault| format!("git: {fault}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
