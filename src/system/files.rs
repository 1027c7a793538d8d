//! Reads the configuration's files and the environment, for the pure loader.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::clock;
use crate::config::document::MAX_BYTES;
use crate::config::{self, Config, Fault, Locations, Lookup, SourceFile, Sources};
use crate::tooling::testing;

/// The process's environment and disk. Records which files were read.
#[derive(Debug, Default)]
pub struct System {
    read: RefCell<BTreeMap<PathBuf, Digest>>,
}

/// SHA-256 of a file's contents; zeros where it could not be read.
type Digest = [u8; 32];

impl Lookup for System {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.read.borrow_mut().insert(path.to_owned(), Digest::default());
        // Reading a pipe would wait for its writer, and a device may have no end.
        let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
        if !found.is_file() {
            return Err("not a regular file".to_owned());
        }
        if found.len() > MAX_BYTES as u64 {
            return Err("larger than 8 MiB".to_owned());
        }
        let contents = std::fs::read(path).map_err(|error| error.to_string())?;
        self.read.borrow_mut().insert(path.to_owned(), Sha256::digest(&contents).into());
        Ok(contents)
    }
}

/// The sources of a configuration: files, and directories of files.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    paths: BTreeSet<PathBuf>,
    /// Contents of the files that the YAML names: secrets, certificates, key sets. The YAML itself
    /// is part of the version of the configuration.
    named: BTreeMap<PathBuf, Digest>,
}

/// The state of files at one time: which exist, and in which version. Contents are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<PathBuf, Option<Version>>);

/// Inode, length, modification time (nanoseconds), and change time, which cannot be set back.
type Version = (u64, u64, i64, i64, i64);

impl Origins {
    /// The union of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        self
    }

    /// Whether both are the same files and directories.
    #[must_use]
    pub fn has_same_paths(&self, other: &Self) -> bool {
        self.paths == other.paths
    }

    /// Whether the files that the YAML names had the same contents.
    #[must_use]
    pub fn has_same_contents(&self, other: &Self) -> bool {
        self.named == other.named
    }

    /// The current state. Links are followed, so that a changed link is another file (as Kubernetes
    /// updates mounted configuration).
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut files = BTreeMap::new();
        for path in &self.paths {
            let entries = if path.is_dir() {
                yaml_files(path).unwrap_or_default()
            } else {
                vec![path.clone()]
            };
            for file in entries {
                let version = std::fs::metadata(&file).ok().map(|found| {
                    (
                        found.ino(),
                        found.len(),
                        found.mtime_nsec(),
                        found.ctime(),
                        found.ctime_nsec(),
                    )
                });
                files.insert(file, version);
            }
        }
        Fingerprint(files)
    }
}

/// Why no configuration was loaded.
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
/// A file cannot be read, or has faults: all are returned.
pub fn load(gateway: &Path) -> Result<Config, LoadFault> {
    load_noting(gateway).0
}

/// The same without running the tests of the policies, for commands that run or skip them.
///
/// # Errors
/// A file cannot be read, or has faults: all are returned.
pub fn load_untested(gateway: &Path) -> Result<Config, LoadFault> {
    load_sources(gateway).0.map(|(config, _)| config)
}

/// The same, with the files that it was read from, as far as known.
pub fn load_noting(gateway: &Path) -> (Result<Config, LoadFault>, Origins) {
    let (loaded, origins) = load_sources(gateway);
    let tested = loaded.and_then(|(config, sources)| {
        let failed = if config.run_tests_at_load {
            testing::faults(&config, clock::now())
        } else {
            Vec::new()
        };
        if failed.is_empty() { Ok(config) } else { Err(LoadFault::Faults(sources, failed)) }
    });
    (tested, origins)
}

/// The gateway.yaml for a path: itself, or one in the folder.
///
/// # Errors
/// The folder has none.
pub fn gateway_file(path: &Path) -> Result<PathBuf, String> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let places = ["gateway.yaml", "config/gateway.yaml"].map(|place| path.join(place));
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| {
        format!("{}: there is no gateway.yaml and no config/gateway.yaml", path.display())
    })
}

/// Loads a configuration from a copy of its folder. Files that the copy lacks, such as secrets, are
/// read from the original.
///
/// # Errors
/// A file cannot be read, or has faults: all are returned.
pub fn load_beside(copy: &Path, inside: &Path, original: &Path) -> Result<Config, LoadFault> {
    let reader =
        Beside { system: System::default(), copy: copy.to_owned(), original: original.to_owned() };
    let sources = Box::new(read_with(&copy.join(inside), &reader).map_err(LoadFault::Unreadable)?);
    config::load(&sources, &reader, clock::now())
        .map_err(|faults| LoadFault::Faults(sources, faults))
}

/// The disk, with the original's files in place of those missing in a copy.
struct Beside {
    system: System,
    copy: PathBuf,
    original: PathBuf,
}

impl Lookup for Beside {
    fn env(&self, name: &str) -> Option<String> {
        self.system.env(name)
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        match path.strip_prefix(&self.copy) {
            Ok(inside) if !path.exists() => self.system.file(&self.original.join(inside)),
            _ => self.system.file(path),
        }
    }
}

fn load_sources(gateway: &Path) -> (Result<(Config, Box<Sources>), LoadFault>, Origins) {
    let system = System::default();
    let mut origins = BTreeSet::from([gateway.to_owned()]);
    if let Ok(file) = read_file(gateway) {
        let Locations { policies, clients, users } = config::locations(&file, &system);
        let base = gateway.parent().unwrap_or_else(|| Path::new(""));
        origins.extend(
            [policies, clients, users].into_iter().flatten().map(|location| base.join(location)),
        );
    }
    let loaded = read(gateway).map_err(LoadFault::Unreadable).and_then(|sources| {
        let sources = Box::new(sources);
        match config::load(&sources, &system, clock::now()) {
            Ok(config) => Ok((config, sources)),
            Err(faults) => Err(LoadFault::Faults(sources, faults)),
        }
    });
    let named = system.read.take();
    origins.extend(named.keys().cloned());
    (loaded, Origins { paths: origins, named })
}

/// Which of the files an entry is to be added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addition {
    /// A client.
    Client,
    /// A user.
    User,
}

/// Loads a configuration, its tests included, as if one more file of clients or users were there. A
/// users file that does not exist yet has no users.
///
/// # Errors
/// A file cannot be read, or has faults: all are returned.
pub fn load_with(gateway: &Path, kind: Addition, text: &str) -> Result<Config, LoadFault> {
    let system = System::default();
    let mut sources = read_allowing(gateway, &system, true).map_err(LoadFault::Unreadable)?;
    let (name, files) = match kind {
        Addition::Client => ("the new client", &mut sources.clients),
        Addition::User => ("the new user", &mut sources.users),
    };
    files.push(SourceFile { name: name.to_owned(), text: text.to_owned() });
    let sources = Box::new(sources);
    let config = match config::load(&sources, &system, clock::now()) {
        Ok(config) => config,
        Err(faults) => return Err(LoadFault::Faults(sources, faults)),
    };
    let failed =
        if config.run_tests_at_load { testing::faults(&config, clock::now()) } else { Vec::new() };
    if failed.is_empty() { Ok(config) } else { Err(LoadFault::Faults(sources, failed)) }
}

/// The users file that a configuration names; `None` where it names none, or cannot be read.
#[must_use]
pub fn users_file(gateway: &Path) -> Option<PathBuf> {
    let locations = config::locations(&read_file(gateway).ok()?, &System::default());
    Some(gateway.parent().unwrap_or_else(|| Path::new("")).join(locations.users?))
}

/// The directory of client files, where `clients` is one: a new client gets its own file there.
#[must_use]
pub fn clients_folder(gateway: &Path) -> Option<PathBuf> {
    let locations = config::locations(&read_file(gateway).ok()?, &System::default());
    let folder = gateway.parent().unwrap_or_else(|| Path::new("")).join(locations.clients?);
    folder.is_dir().then_some(folder)
}

/// Reads all files of a configuration.
///
/// # Errors
/// Reports the first file that cannot be read.
pub fn read(gateway: &Path) -> Result<Sources, String> {
    read_with(gateway, &System::default())
}

fn read_with(gateway: &Path, lookup: &dyn Lookup) -> Result<Sources, String> {
    read_allowing(gateway, lookup, false)
}

/// The same; `without_users` takes a users file that does not exist for an empty one.
fn read_allowing(
    gateway: &Path,
    lookup: &dyn Lookup,
    without_users: bool,
) -> Result<Sources, String> {
    let file = read_file(gateway)?;
    let Locations { policies, clients, users } = config::locations(&file, lookup);
    let base = gateway.parent().unwrap_or_else(|| Path::new(""));
    let files = |key: &str, location: Option<String>| match location {
        Some(location) if key == "users" && without_users && !base.join(&location).exists() => {
            Ok(Vec::new())
        }
        Some(location) => read_all(&base.join(&location))
            .map_err(|error| format!("{}: `{key}`: {error}", gateway.display())),
        // The loader reports the missing key.
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
    let paths = yaml_files(path).map_err(|error| format!("{}: {error}", path.display()))?;
    paths.iter().map(|path| read_file(path)).collect()
}

/// The YAML files of a directory, in the order of their names. Hidden ones are unfinished or
/// replaced files.
fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let yaml =
            path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_has_changed_is_seen_although_the_yaml_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "gateway.yaml",
            "public_url: http://127.0.0.1:1\nlisteners: [{ address: \"127.0.0.1:1\" }]\n\
             store: { embedded: { path: data } }\npolicies: p.yaml\nclients: c.yaml\n\
             upstreams: { a: { servers: [\"http://127.0.0.1:2\"], authorization: \
             { replace: { bearer: file:secret } } } }\n",
        );
        write("p.yaml", "apis: { a: { base_path: /a, upstream: a, resources: { /x: [GET] } } }\n");
        write("c.yaml", "clients: {}\n");
        let load = || {
            let (loaded, origins) = load_noting(&folder.path().join("gateway.yaml"));
            (loaded.map_err(|fault| fault.lines()).unwrap().version, origins)
        };
        write("secret", "first");
        let (version, first) = load();
        let (_, again) = load();
        assert!(first.has_same_contents(&again) && first.has_same_paths(&again));
        write("secret", "other");
        let (same, second) = load();
        assert_eq!(version, same);
        assert!(!first.has_same_contents(&second) && first.has_same_paths(&second));
    }
}
