//! Signing keys.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreFault};
use crate::names::Timestamp;

/// How long a retired key's public half stays published, seconds: 105 days, longer than any token lives.
pub const KEEP_RETIRED: i64 = 105 * 86_400;

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

impl Store {
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
        make: impl FnOnce() -> NewKey + Send + 'static,
    ) -> Result<Vec<StoredKey>, StoreFault> {
        let algorithm = algorithm.to_owned();
        self.write_now(move |transaction| {
            let current: Option<String> = transaction
                .query_row("SELECT algorithm FROM signing_key WHERE retired_at IS NULL", [], |row| row.get(0))
                .optional()?;
            if current.as_deref() != Some(algorithm.as_str()) {
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
            let mut statement = transaction.prepare(
                "SELECT algorithm, public_jwk, private_key FROM signing_key ORDER BY retired_at IS NOT NULL, id DESC",
            )?;
            let rows = statement.query_map([], |row| {
                let private_key = row.get::<_, Option<Vec<u8>>>(2)?.map(zeroize::Zeroizing::new);
                Ok(StoredKey { algorithm: row.get(0)?, public_jwk: row.get(1)?, private_key })
            })?;
            rows.collect()
        })
    }
}
