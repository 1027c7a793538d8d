//! The embedded engine: SQLite in a folder that only its owner can read.
//!
//! WAL, because during an upgrade two processes have it open at once; `synchronous=FULL`, because
//! acknowledged writes must survive a power cut. One thread writes, and commits waiting writes
//! together; readers work in parallel. Owns the schema and its migration.

mod access;
mod attempts;
mod audit;
mod backup;
mod blocks;
mod events;
mod grants;
mod keys;
mod limits;
mod made_users;
mod moving;
mod refresh;
mod revocations;
mod schema;
mod sessions;
mod usage;
mod uses;
mod writer;

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreFault;
use crate::names::Timestamp;
use writer::Writer;

/// The file's name in its folder.
const FILE: &str = "scopegate.db";
/// How long to wait for the other process's write, during an upgrade.
const BUSY: Duration = Duration::from_secs(3);
/// Free pages released at once, and the number that is kept.
const FREE_PAGES: i64 = 512;
/// Longest wait of a request for the disk.
const LIMIT: Duration = Duration::from_secs(10);
/// Connections that read in parallel; further readers wait.
const READERS: usize = 8;

/// The open file. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Embedded(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Device and inode of the open file.
    file: (u64, u64),
    gone: AtomicBool,
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
    reading: Arc<tokio::sync::Semaphore>,
}

impl Embedded {
    /// Opens the store in a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// The folder or file cannot be used, or is not ours; an existing file is never replaced.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreFault> {
        let (path, created) = Self::prepare(folder)?;
        let sqlite = |source| StoreFault::Sqlite { path: path.clone(), source };
        let mut connection = connect(&path).map_err(sqlite)?;
        schema::migrate(&mut connection, &path, created)?;
        let writer = Writer::start(connection)
            .map_err(|source| StoreFault::Io { path: path.clone(), source })?;
        let file =
            identity(&path).map_err(|source| StoreFault::Io { path: path.clone(), source })?;
        Ok(Self(Arc::new(Inner {
            path,
            file,
            gone: AtomicBool::new(false),
            writer,
            readers: Mutex::new(Vec::new()),
            reading: Arc::new(tokio::sync::Semaphore::new(READERS)),
        })))
    }

    /// Creates folder and file with the required modes; returns whether the file is new.
    fn prepare(folder: &Path) -> Result<(PathBuf, bool), StoreFault> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreFault::Io { path, source }
        };
        make_folder(folder).map_err(io(folder))?;
        let path = folder.join(FILE);
        // SQLite creates its journal files with the mode of the database: it has to be private
        // before the first write.
        let open = |create_new: bool| {
            std::fs::OpenOptions::new()
                .read(true)
                .append(true)
                .create_new(create_new)
                .mode(0o600)
                .open(&path)
        };
        let (file, created) = match open(true) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                (open(false).map_err(io(&path))?, false)
            }
            Err(error) => return Err(io(&path)(error)),
        };
        let mode = file.metadata().map_err(io(&path))?.permissions().mode();
        if mode & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(io(&path))?;
        }
        Ok((path, created))
    }

    /// Writes in a transaction that other writes may share; returns once it is on the disk. If the
    /// disk takes longer than [`LIMIT`], the write is not acknowledged, although it may still be
    /// done.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreFault> {
        self.there()?;
        let answer = self.0.writer.submit(work).map_err(|fault| self.name(fault))?;
        let answer = tokio::time::timeout(LIMIT, answer).await.map_err(|_| self.slow())?;
        answer.unwrap_or(Err(writer::Fault::Stopped)).map_err(|fault| self.name(fault))
    }

    /// The same, blocking: before serving begins, and in commands.
    fn write_now<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreFault> {
        self.there()?;
        let answer = self.0.writer.submit(work).map_err(|fault| self.name(fault))?;
        answer
            .blocking_recv()
            .unwrap_or(Err(writer::Fault::Stopped))
            .map_err(|fault| self.name(fault))
    }

    /// Reads in parallel with the writer, on a blocking thread, for at most [`LIMIT`].
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreFault> {
        let busy = || StoreFault::Busy { path: self.0.path.clone() };
        let read = async {
            let turn = self.0.reading.clone().acquire_owned().await.map_err(|_| busy())?;
            let store = self.clone();
            let read = tokio::task::spawn_blocking(move || {
                // Kept until the thread is done with the disk, even if the caller has stopped
                // waiting.
                let _turn = turn;
                store.read_now(work)
            });
            read.await.map_err(|_| busy())?
        };
        tokio::time::timeout(LIMIT, read).await.unwrap_or_else(|_| Err(self.slow()))
    }

    fn slow(&self) -> StoreFault {
        StoreFault::Slow { path: self.0.path.clone(), seconds: LIMIT.as_secs() }
    }

    fn read_now<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreFault> {
        self.there()?;
        let pool = || self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = pool().pop();
        let read = || {
            let connection = idle.map_or_else(|| reader(&self.0.path), Ok)?;
            let result = work(&connection)?;
            pool().push(connection);
            Ok(result)
        };
        read().map_err(|source| StoreFault::Sqlite { path: self.0.path.clone(), source })
    }

    /// Copies the write-ahead log into the file. On its own connection: the writer is in a
    /// transaction.
    pub(super) fn settle(&self) -> Result<(), StoreFault> {
        let sqlite = |source| StoreFault::Sqlite { path: self.0.path.clone(), source };
        let connection = connect(&self.0.path).map_err(sqlite)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(sqlite)
    }

    fn there(&self) -> Result<(), StoreFault> {
        if self.0.gone.load(Ordering::Relaxed) {
            Err(StoreFault::Gone { path: self.0.path.clone() })
        } else {
            Ok(())
        }
    }

    /// Checks that the open file still has its path. If not, all reads and writes fail from then
    /// on: the next start would not find what was acknowledged.
    ///
    /// # Errors
    /// The file was moved, removed or replaced.
    pub(super) fn look(&self) -> Result<(), StoreFault> {
        let same = identity(&self.0.path).is_ok_and(|file| file == self.0.file);
        self.0.gone.store(!same, Ordering::Relaxed);
        self.there()
    }

    fn name(&self, fault: writer::Fault) -> StoreFault {
        let path = self.0.path.clone();
        match fault {
            writer::Fault::Work(source) => StoreFault::Sqlite { path, source },
            writer::Fault::Commit(cause) => StoreFault::Commit { path, cause },
            writer::Fault::Full => StoreFault::Busy { path },
            writer::Fault::Stopped => {
                StoreFault::Commit { path, cause: "the writer has stopped".to_owned() }
            }
        }
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// The store does not answer, or reports an error.
    pub(super) fn ping(&self) -> Result<(), StoreFault> {
        self.read_now(|connection| {
            connection.query_row("SELECT count(*) FROM signing_key", [], |_| Ok(()))
        })
    }

    /// Removes a batch of expired rows; true when there may be more.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) async fn sweep(&self, now: Timestamp) -> Result<bool, StoreFault> {
        self.write(move |connection| {
            let mut more = false;
            for statement in schema::SWEEPS {
                let removed =
                    connection.prepare_cached(statement)?.execute([now.0, schema::SLICE])?;
                more |= i64::try_from(removed).is_ok_and(|removed| removed == schema::SLICE);
            }
            more |= give_back(connection)?;
            Ok(more)
        })
        .await
    }
}

/// Creates the folder, readable only by its owner.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Releases a batch of free pages where they are more than a third of the file, so that it also
/// shrinks. True when there may be more.
fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma: &str| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, pragma, |row| row.get(0))
    };
    let (all, free) = (number("page_count")?, number("freelist_count")?);
    if number("auto_vacuum")? == 0 || free < FREE_PAGES || free * 3 < all {
        return Ok(false);
    }
    // Each step frees one page: the statement has to be stepped to its end.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({FREE_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // Only has an effect in a file without tables: expired rows then give their space back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Deleted data is overwritten: a private key must not linger in free pages.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

#[cfg(test)]
mod tests;
