//! The store: what must outlive a process. One interface over two engines: SQLite in a folder for
//! one gateway, Redis for several.
//!
//! Every operation is one whole thing that has a meaning (redeem, rotate, revoke): it is done or it
//! is not, in either engine. What was acknowledged is there. What the engines keep it in is theirs
//! alone.

pub mod access;
pub mod attempts;
pub mod blocks;
mod embedded;
pub mod events;
pub mod grants;
pub mod keys;
pub mod limits;
pub mod moving;
pub mod refresh;
pub mod revocations;
pub mod sessions;
mod shared;
pub mod uses;

use std::path::{Path, PathBuf};

use crate::config::StoreConfig;
use crate::names::Timestamp;
use embedded::Embedded;
use shared::Shared;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The folder or file cannot be made or read.
    #[error("{path}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite says so.
    #[error("{path}: {source}")]
    Sqlite {
        /// What.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// What was to be written could not be committed: none of it is there.
    #[error("{path}: {cause}")]
    Commit {
        /// What.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The shared store, or the way to it.
    #[error("{server}: {cause}")]
    Shared {
        /// Which, without its password.
        server: String,
        /// Why.
        cause: String,
    },
    /// More is waiting to be written than can be soon.
    #[error("{path}: too many writes are waiting")]
    Busy {
        /// What.
        path: PathBuf,
    },
    /// The disk does not answer. What was to be written may be written yet.
    #[error("{path}: the disk has not answered within {seconds} s")]
    Slow {
        /// What.
        path: PathBuf,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The file is there and is no store of ours.
    #[error("{path}: {found}; restore it from a backup, or move it away to begin with new keys")]
    Foreign {
        /// What.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// The file is not where it was: it was moved, removed or replaced under us.
    #[error(
        "{path}: the file is gone or another one; what is written now would be lost. Put it back \
            and restart"
    )]
    Gone {
        /// What.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("{path}: written by a newer version (schema {found}, this one knows {known})")]
    Newer {
        /// What.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
}

/// The open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Engine);

#[derive(Clone, Debug)]
enum Engine {
    Embedded(Embedded),
    Shared(Shared),
}

/// Hands an operation to the engine.
macro_rules! engine {
    ($store:ident, await $operation:ident($($argument:expr),*)) => {
        match &$store.0 {
            $crate::store::Engine::Embedded(engine) => engine.$operation($($argument),*).await,
            $crate::store::Engine::Shared(engine) => engine.$operation($($argument),*).await,
        }
    };
    ($store:ident, $operation:ident($($argument:expr),*)) => {
        match &$store.0 {
            $crate::store::Engine::Embedded(engine) => engine.$operation($($argument),*),
            $crate::store::Engine::Shared(engine) => engine.$operation($($argument),*),
        }
    };
}
use engine;

impl Store {
    /// Opens the store that a configuration names.
    ///
    /// # Errors
    /// It cannot be used; see [`Store::open`] for a folder. A server has to answer within five
    /// seconds, and to keep what it has.
    pub fn of(declared: &StoreConfig) -> Result<Self, StoreFault> {
        match declared {
            StoreConfig::Embedded(folder) => Self::open(Path::new(folder)),
            StoreConfig::Shared(declared) => {
                Shared::open(declared).map(|shared| Self(Engine::Shared(shared)))
            }
        }
    }

    /// Opens the store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// A folder or file that cannot be used, or is not ours; an existing file is never replaced.
    pub fn open(folder: &Path) -> Result<Self, StoreFault> {
        Embedded::open(folder).map(|embedded| Self(Engine::Embedded(embedded)))
    }

    /// Looks whether what is open is still what is to be written: if it is not, nothing is read or
    /// written any more, for an acknowledgement would be for something that the next start does not
    /// find.
    ///
    /// # Errors
    /// It is not.
    pub fn look(&self) -> Result<(), StoreFault> {
        engine!(self, look())
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// What it says instead.
    pub fn ping(&self) -> Result<(), StoreFault> {
        engine!(self, ping())
    }

    /// At the end of a process: what is written stands in the one file, which can then be copied or
    /// moved.
    ///
    /// # Errors
    /// It could not be; nothing is lost, for the next start does it.
    pub fn settle(&self) -> Result<(), StoreFault> {
        engine!(self, settle())
    }

    /// Looks through the whole store before anything is served from it: damage is found at the
    /// start, and not by the request that meets it.
    ///
    /// # Errors
    /// What is damaged.
    pub fn examine(&self) -> Result<(), StoreFault> {
        engine!(self, examine())
    }

    /// Copies everything committed into a new file, while others read and write.
    ///
    /// # Errors
    /// The file is there already or cannot be written; or the store is a shared one, which its
    /// server copies.
    pub fn backup(&self, to: &Path) -> Result<(), StoreFault> {
        engine!(self, backup(to))
    }

    /// Puts such a copy into a folder that has no store.
    ///
    /// # Errors
    /// There is a store, or the file is damaged, none of ours, or of a newer version. Nothing is
    /// changed then.
    pub fn restore(from: &Path, folder: &Path) -> Result<(), StoreFault> {
        Embedded::restore(from, folder)
    }

    /// Removes a slice of what has expired; true when there may be more.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn sweep(&self, now: Timestamp) -> Result<bool, StoreFault> {
        engine!(self, await sweep(now))
    }
}

#[cfg(test)]
mod tests;
