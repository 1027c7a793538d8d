//! Checks the file, copies it while it is in use, and restores a copy.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{Embedded, FILE, connect, schema};
use crate::store::StoreFault;

impl Embedded {
    /// Copies everything committed into a new file, readable only by its owner.
    pub(in crate::store) fn backup(&self, to: &Path) -> Result<(), StoreFault> {
        self.there()?;
        let io = |source| StoreFault::Io { path: to.to_owned(), source };
        // Created here, so that it is private before it has content; an existing file is never
        // used.
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(io)?;
        let sqlite = |source| StoreFault::Sqlite { path: to.to_owned(), source };
        let copied = connect(&self.0.path)
            .and_then(|connection| connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]))
            .map_err(sqlite)
            .and_then(|_| check(to))
            .and_then(|()| file.sync_all().map_err(io));
        if copied.is_err() {
            // An incomplete copy must not be taken for a backup.
            let _ = std::fs::remove_file(to);
        }
        copied
    }

    /// Whether the file's pages are consistent. Much faster than a check that compares indices too,
    /// and detects torn or overwritten pages.
    pub(in crate::store) fn examine(&self) -> Result<(), StoreFault> {
        let said: String = self.read_now(|connection| {
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        })?;
        if said == "ok" {
            return Ok(());
        }
        Err(StoreFault::Foreign { path: self.0.path.clone(), found: "the file is damaged" })
    }

    /// Restores a copy into a folder that has no store.
    pub(in crate::store) fn restore(from: &Path, folder: &Path) -> Result<(), StoreFault> {
        check(from)?;
        let path = folder.join(FILE);
        // The write-ahead log of another file would be applied to this one.
        for name in [
            FILE.to_owned(),
            format!("{FILE}-wal"),
            format!("{FILE}-shm"),
            format!("{FILE}-journal"),
        ] {
            let path = folder.join(name);
            if path.exists() {
                return Err(StoreFault::Foreign {
                    path,
                    found: "it is there already, and never replaced: move it away",
                });
            }
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreFault::Io { path, source }
        };
        // It gets its final name only once it is complete.
        let half = folder.join(format!("{FILE}.restoring"));
        super::make_folder(folder).map_err(io(folder))?;
        let mut source = std::fs::File::open(from).map_err(io(from))?;
        let options = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&half);
        let mut file = options.map_err(io(&half))?;
        std::io::copy(&mut source, &mut file).and_then(|_| file.sync_all()).map_err(io(&half))?;
        std::fs::rename(&half, &path).map_err(io(&path))?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))
    }
}

/// Checks that a file is an intact store of ours, of a known version.
fn check(path: &Path) -> Result<(), StoreFault> {
    let sqlite = |source| StoreFault::Sqlite { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    let foreign = |found| Err(StoreFault::Foreign { path: path.to_owned(), found });
    let whole: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
    if whole != "ok" {
        return foreign("the file is damaged");
    }
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    match found {
        0 => foreign("no store of ours"),
        found if found > schema::VERSION => {
            Err(StoreFault::Newer { path: path.to_owned(), found, known: schema::VERSION })
        }
        _ => Ok(()),
    }
}
