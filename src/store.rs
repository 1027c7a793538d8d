//! The embedded store: SQLite in a folder of its own, readable by its owner alone.
//!
//! WAL, because during an upgrade two processes have it open at once; `synchronous=FULL`, because what was acknowledged must
//! survive a power cut. Holds the signing keys. Owns the schema and its migration; knows nothing of what the rows mean.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::names::Timestamp;

/// The schema that this version writes; a newer one is refused, an older one migrated.
const SCHEMA: i64 = 1;
/// The tables of [`SCHEMA`].
const TABLES: &str = "
    CREATE TABLE signing_key (
        id          INTEGER PRIMARY KEY,
        algorithm   TEXT    NOT NULL,
        public_jwk  TEXT    NOT NULL,
        private_key BLOB,
        created_at  INTEGER NOT NULL,
        retired_at  INTEGER,
        CHECK ((private_key IS NULL) = (retired_at IS NOT NULL))
    ) STRICT;
    CREATE UNIQUE INDEX one_current_key ON signing_key (retired_at IS NULL) WHERE retired_at IS NULL;
";
/// How long a retired key's public half stays published, seconds: 105 days, longer than any token lives.
pub const KEEP_RETIRED: i64 = 105 * 86_400;
/// How long to wait for the other process's write, during an upgrade.
const BUSY: Duration = Duration::from_secs(3);

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
    /// The file is there and is no store of ours.
    #[error("{path}: {found}; restore it from a backup, or move it away to begin with new keys")]
    Foreign {
        /// What.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// The file was written by a newer version.
    #[error("{path}: written by a newer version (schema {found}, this one knows {SCHEMA})")]
    Newer {
        /// What.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
}

/// A signing key as stored. Its `Debug` shows no key.
pub struct StoredKey {
    /// `ES256`, `RS256` or `EdDSA`.
    pub algorithm: String,
    /// The public key as a JWK.
    pub public_jwk: String,
    /// The private key; of the current key alone.
    pub private_key: Option<zeroize::Zeroizing<Vec<u8>>>,
}

/// A key pair to be stored.
pub struct NewKey {
    /// The public key as a JWK.
    pub public_jwk: String,
    /// The private key.
    pub private_key: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("public_jwk", &self.public_jwk).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKey")
            .field("algorithm", &self.algorithm)
            .field("public_jwk", &self.public_jwk)
            .finish_non_exhaustive()
    }
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens the store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// A folder or file that cannot be used, or is not ours; an existing file is never replaced.
    pub fn open(folder: &Path) -> Result<Self, StoreFault> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreFault::Io { path, source }
        };
        if !folder.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io(folder))?;
        }
        let path = folder.join("scopegate.db");
        // SQLite gives its journal files the mode of the database: it has to be private before the first write.
        let open = |create_new: bool| {
            std::fs::OpenOptions::new().read(true).append(true).create_new(create_new).mode(0o600).open(&path)
        };
        let (file, created) = match open(true) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (open(false).map_err(io(&path))?, false),
            Err(error) => return Err(io(&path)(error)),
        };
        let mode = file.metadata().map_err(io(&path))?.permissions().mode();
        if mode & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(io(&path))?;
        }
        drop(file);
        let connection = Self::connect(&path).map_err(|source| StoreFault::Sqlite { path: path.clone(), source })?;
        let store = Self { path, connection: Mutex::new(connection) };
        store.migrate(created)?;
        Ok(store)
    }

    fn connect(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // What is deleted is overwritten: a private key must not linger in free pages.
        connection.pragma_update(None, "secure_delete", true)?;
        Ok(connection)
    }

    /// Makes the tables in a file that this call created. One that was there and has none is not ours, unless another process has
    /// just created it and is about to fill it.
    fn migrate(&self, created: bool) -> Result<(), StoreFault> {
        let deadline = std::time::Instant::now() + BUSY;
        loop {
            let (found, tables) = self.with(|connection| Self::fill(connection, created))?;
            match (found, tables) {
                (0, 0) if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                (0, 0) => return Err(StoreFault::Foreign { path: self.path.clone(), found: "the store is empty" }),
                (0, _) => {
                    return Err(StoreFault::Foreign {
                        path: self.path.clone(),
                        found: "the database of another program",
                    });
                }
                (SCHEMA, _) => return Ok(()),
                (found, _) => return Err(StoreFault::Newer { path: self.path.clone(), found }),
            }
        }
    }

    /// The schema of the file and how many tables it has, after the tables were made if they are to be.
    fn fill(connection: &mut Connection, create: bool) -> rusqlite::Result<(i64, i64)> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = |transaction: &rusqlite::Transaction<'_>| -> rusqlite::Result<i64> {
            transaction.pragma_query_value(None, "user_version", |row| row.get(0))
        };
        if create && version(&transaction)? == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
        }
        let tables = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let found = version(&transaction)?;
        transaction.commit()?;
        Ok((found, tables))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreFault> {
        let mut connection = self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(&mut connection).map_err(|source| StoreFault::Sqlite { path: self.path.clone(), source })
    }

    /// All signing keys; the first is the current one of this algorithm. Makes it if there is none, in the same transaction, so
    /// that two processes that start together agree on one. A key it takes the place of loses its private half at once; its
    /// public half stays for [`KEEP_RETIRED`] seconds.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn signing_keys(
        &self,
        algorithm: &str,
        now: Timestamp,
        make: impl FnOnce() -> NewKey,
    ) -> Result<Vec<StoredKey>, StoreFault> {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let current: Option<String> = transaction
                .query_row("SELECT algorithm FROM signing_key WHERE retired_at IS NULL", [], |row| row.get(0))
                .optional()?;
            if current.as_deref() != Some(algorithm) {
                transaction.execute(
                    "UPDATE signing_key SET private_key = NULL, retired_at = ?1 WHERE retired_at IS NULL",
                    params![now.0],
                )?;
                let key = make();
                transaction.execute(
                    "INSERT INTO signing_key (algorithm, public_jwk, private_key, created_at) VALUES (?1, ?2, ?3, ?4)",
                    params![algorithm, key.public_jwk, key.private_key.as_slice(), now.0],
                )?;
            }
            transaction.execute("DELETE FROM signing_key WHERE retired_at < ?1", params![now.plus(-KEEP_RETIRED).0])?;
            let keys = {
                let mut statement = transaction.prepare(
                    "SELECT algorithm, public_jwk, private_key FROM signing_key ORDER BY retired_at IS NOT NULL, id DESC",
                )?;
                let rows = statement.query_map([], |row| {
                    let private_key = row.get::<_, Option<Vec<u8>>>(2)?.map(zeroize::Zeroizing::new);
                    Ok(StoredKey { algorithm: row.get(0)?, public_jwk: row.get(1)?, private_key })
                })?;
                rows.collect::<rusqlite::Result<Vec<_>>>()?
            };
            transaction.commit()?;
            Ok(keys)
        })
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// What it says instead.
    pub fn ping(&self) -> Result<(), StoreFault> {
        self.with(|connection| connection.query_row("SELECT count(*) FROM signing_key", [], |_| Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> NewKey {
        NewKey { public_jwk: format!("public {byte}"), private_key: vec![byte].into() }
    }

    fn keys(keys: &[StoredKey]) -> Vec<(&str, Option<u8>)> {
        keys.iter().map(|key| (key.public_jwk.as_str(), key.private_key.as_ref().map(|key| key[0]))).collect()
    }

    #[test]
    fn the_first_process_makes_the_key_and_the_second_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = Store::open(&path).unwrap();
        let second = Store::open(&path).unwrap();
        assert_eq!(keys(&first.signing_keys("ES256", Timestamp(1), || key(1)).unwrap()), [("public 1", Some(1))]);
        assert_eq!(keys(&second.signing_keys("ES256", Timestamp(2), || key(2)).unwrap()), [("public 1", Some(1))]);
    }

    #[test]
    fn a_retired_key_keeps_its_public_half_for_105_days_and_its_private_half_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let secret = || NewKey { public_jwk: "public 1".into(), private_key: b"planted-private-key".to_vec().into() };
        store.signing_keys("ES256", Timestamp(1), secret).unwrap();
        let after = store.signing_keys("EdDSA", Timestamp(2), || key(2)).unwrap();
        assert_eq!(keys(&after), [("public 2", Some(2)), ("public 1", None)]);
        let last = store.signing_keys("EdDSA", Timestamp(2 + KEEP_RETIRED), || key(3)).unwrap();
        assert_eq!(last.len(), 2);
        let gone = store.signing_keys("EdDSA", Timestamp(3 + KEEP_RETIRED), || key(3)).unwrap();
        assert_eq!(keys(&gone), [("public 2", Some(2))]);
        drop(store);
        let file = std::fs::read(folder.path().join("scopegate.db")).unwrap();
        assert!(!file.windows(19).any(|window| window == b"planted-private-key"));
    }

    #[test]
    fn its_files_are_private_also_where_the_folder_was_open() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        std::fs::set_permissions(folder.path().join("scopegate.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.signing_keys("ES256", Timestamp(1), || key(1)).unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_by_name_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scopegate.db");
        std::fs::write(&path, "not a database, and long enough to be looked at as one").unwrap();
        let fault = Store::open(folder.path()).unwrap_err().to_string();
        assert!(fault.contains("scopegate.db"), "{fault}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
    }

    #[test]
    fn an_emptied_file_or_another_programs_is_never_taken_for_a_new_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scopegate.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
        let fault = Store::open(folder.path()).unwrap_err().to_string();
        assert!(fault.contains("another program") && fault.contains("scopegate.db"), "{fault}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("scopegate.db"), b"").unwrap();
        let fault = Store::open(folder.path()).unwrap_err().to_string();
        assert!(fault.contains("is empty") && fault.contains("backup"), "{fault}");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.with(|connection| connection.pragma_update(None, "user_version", 99)).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreFault::Newer { found: 99, .. })));
    }
}
