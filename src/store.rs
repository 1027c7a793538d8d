//! The store: state that must outlive a process. One interface over two engines: SQLite in a folder
//! for one gateway, Redis for several.
//!
//! Every operation is one atomic, meaningful step (redeem, rotate, revoke): in either engine it is
//! done completely or not at all. Acknowledged writes are durable. Only the engines know their
//! storage format.

pub mod access;
pub mod attempts;
pub mod audit;
pub mod blocks;
mod embedded;
pub mod events;
pub mod grants;
pub mod keys;
pub mod limits;
pub mod made_users;
pub mod moving;
pub mod refresh;
pub mod revocations;
pub mod sessions;
mod shared;
pub mod usage;
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
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// SQLite reports an error.
    #[error("{path}: {source}")]
    Sqlite {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The write could not be committed: nothing of it is stored.
    #[error("{path}: {cause}")]
    Commit {
        /// The path.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// The shared store or its connection failed.
    #[error("{server}: {cause}")]
    Shared {
        /// The server, without its password.
        server: String,
        /// The cause.
        cause: String,
    },
    /// Too many writes are waiting.
    #[error("{path}: too many writes are waiting")]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The disk does not answer. The write may still be done.
    #[error("{path}: the disk has not answered within {seconds} s")]
    Slow {
        /// The path.
        path: PathBuf,
        /// The time waited, in seconds.
        seconds: u64,
    },
    /// The file exists and is not a store of ours.
    #[error("{path}: {found}; restore it from a backup, or move it away to begin with new keys")]
    Foreign {
        /// The path.
        path: PathBuf,
        /// Its actual format.
        found: &'static str,
    },
    /// The file was moved, removed or replaced while open.
    #[error(
        "{path}: the file is gone or another one; what is written now would be lost. Put it back \
            and restart"
    )]
    Gone {
        /// The path.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("{path}: written by a newer version (schema {found}, this one knows {known})")]
    Newer {
        /// The path.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema of this version.
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

/// Passes an operation to the engine.
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
    /// seconds, and must not evict keys.
    pub fn of(declared: &StoreConfig) -> Result<Self, StoreFault> {
        match declared {
            StoreConfig::Embedded(folder) => Self::open(Path::new(folder)),
            StoreConfig::Shared(declared) => {
                Shared::open(declared).map(|shared| Self(Engine::Shared(shared)))
            }
        }
    }

    /// Opens the store in a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// The folder or file cannot be used, or is not ours; an existing file is never replaced.
    pub fn open(folder: &Path) -> Result<Self, StoreFault> {
        Embedded::open(folder).map(|embedded| Self(Engine::Embedded(embedded)))
    }

    /// Checks that the open file is still the store's file. If not, all reads and writes fail from
    /// then on: the next start would not find what was acknowledged.
    ///
    /// # Errors
    /// The file was moved, removed or replaced.
    pub fn look(&self) -> Result<(), StoreFault> {
        engine!(self, look())
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// The store does not answer, or reports an error.
    pub fn ping(&self) -> Result<(), StoreFault> {
        engine!(self, ping())
    }

    /// Writes everything into the one file at the end of a process, so that it can be copied or
    /// moved.
    ///
    /// # Errors
    /// It failed; nothing is lost, because the next start repeats it.
    pub fn settle(&self) -> Result<(), StoreFault> {
        engine!(self, settle())
    }

    /// Checks the whole store before it is used, so that damage is found at the start and not by a
    /// request.
    ///
    /// # Errors
    /// The store is damaged.
    pub fn examine(&self) -> Result<(), StoreFault> {
        engine!(self, examine())
    }

    /// Copies everything committed into a new file, while others read and write.
    ///
    /// # Errors
    /// The file exists already or cannot be written; or the store is shared, which its server
    /// copies.
    pub fn backup(&self, to: &Path) -> Result<(), StoreFault> {
        engine!(self, backup(to))
    }

    /// Restores such a copy into a folder that has no store.
    ///
    /// # Errors
    /// The folder has a store, or the file is damaged, not ours, or of a newer version. Nothing is
    /// changed then.
    pub fn restore(from: &Path, folder: &Path) -> Result<(), StoreFault> {
        Embedded::restore(from, folder)
    }

    /// Removes a batch of expired rows; true when there may be more.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn sweep(&self, now: Timestamp) -> Result<bool, StoreFault> {
        engine!(self, await sweep(now))
    }
}

#[cfg(test)]
mod tests;
