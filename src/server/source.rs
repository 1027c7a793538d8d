//! Reads the configuration's files and the environment, for the pure loader.

use std::path::{Path, PathBuf};

use super::clock;
use crate::config::document::MAX_BYTES;
use crate::config::{self, Config, Fault, Locations, Lookup, SourceFile, Sources};

/// The process's environment and disk.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Lookup for System {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| error.to_string())
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadFault {
    /// A file could not be read.
    Unreadable(String),
    /// The files have faults.
    Faults(Box<Sources>, Vec<Fault>),
}

impl LoadFault {
    /// One text for each fault.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Unreadable(text) => vec![text.clone()],
            Self::Faults(_, faults) => faults.iter().map(Fault::to_line).collect(),
        }
    }
}

/// Reads and loads a configuration.
///
/// # Errors
/// A file that cannot be read, or every fault in them.
pub fn load(gateway: &Path) -> Result<Config, LoadFault> {
    let sources = read(gateway).map_err(LoadFault::Unreadable)?;
    config::load(&sources, &System, clock::now()).map_err(|faults| LoadFault::Faults(Box::new(sources), faults))
}

/// The directory of client files, where `clients` is one: a new client can have a file of its own there.
#[must_use]
pub fn clients_folder(gateway: &Path) -> Option<PathBuf> {
    let locations = config::locations(&read_file(gateway).ok()?, &System);
    let folder = gateway.parent().unwrap_or_else(|| Path::new("")).join(locations.clients?);
    folder.is_dir().then_some(folder)
}

/// Reads all files that a gateway.yaml leads to.
///
/// # Errors
/// The first that cannot be read.
pub fn read(gateway: &Path) -> Result<Sources, String> {
    let file = read_file(gateway)?;
    let Locations { policies, clients, users } = config::locations(&file, &System);
    let base = gateway.parent().unwrap_or_else(|| Path::new(""));
    let files = |key: &str, location: Option<String>| match location {
        Some(location) => {
            read_all(&base.join(&location)).map_err(|error| format!("{}: `{key}`: {error}", gateway.display()))
        }
        // The loader says that the key is missing.
        None => Ok(Vec::new()),
    };
    Ok(Sources {
        policies: files("policies", policies)?,
        clients: files("clients", clients)?,
        users: files("users", users)?,
        gateway: Some(file),
    })
}

/// A file, or the YAML files of a directory in the order of their names.
fn read_all(path: &Path) -> Result<Vec<SourceFile>, String> {
    if !path.is_dir() {
        return Ok(vec![read_file(path)?]);
    }
    let unreadable = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> Result<SourceFile, String> {
    let name = path.display().to_string();
    let length = std::fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
    if length > MAX_BYTES as u64 {
        return Err(format!("{name}: larger than 8 MiB"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{name}: not UTF-8 text"))?;
    Ok(SourceFile { name, text })
}
