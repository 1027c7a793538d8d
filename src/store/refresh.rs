//! Refresh tokens: each use gives a successor, and a second use revokes the family.

use zeroize::Zeroizing;

use super::grants::Gift;
use super::revocations::Revocation;
use super::{Store, StoreFault, engine};
use crate::grant::GrantError;
use crate::grant::authorization::Authorization;
use crate::grant::opaque::{RANDOM, ValueDigest};
use crate::names::Timestamp;

/// The result of a refresh.
#[derive(Debug)]
pub enum Rotation<T> {
    /// The first use: the new token is stored.
    Done(T),
    /// Used within the grace period, and its successor has not been used: the successor's random
    /// bytes again.
    Again(T, Zeroizing<[u8; RANDOM]>, Timestamp),
    /// The client has no such token, or it has expired.
    Unknown,
    /// It had been used: the whole family is now revoked.
    Reused(Revocation),
    /// The check refused. The token is unchanged.
    Refused(GrantError),
}

/// One use of a refresh token.
pub struct Use {
    /// The token as presented.
    pub token: Zeroizing<String>,
    /// Its digest.
    pub digest: ValueDigest,
    /// The client that presents it.
    pub client: String,
    /// Random bytes of its successor.
    pub successor: Zeroizing<[u8; RANDOM]>,
    /// When the successor expires.
    pub expires: Timestamp,
    /// How long a used token gives the same successor again, seconds.
    pub grace: u32,
}

impl std::fmt::Debug for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Use").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Store {
    /// Uses a refresh token, if `check` accepts its authorization.
    ///
    /// # Errors
    /// The store cannot be written; then the token is unchanged.
    pub async fn rotate<T: Send + 'static>(
        &self,
        used: Use,
        now: Timestamp,
        check: impl FnOnce(&Authorization) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Rotation<T>, StoreFault> {
        engine!(self, await rotate(used, now, check))
    }

    /// The authorization of a refresh token that can be used now, with its expiry.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn refresh(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<(Authorization, Timestamp)>, StoreFault> {
        engine!(self, await refresh(digest))
    }

    /// The authorization of a refresh token, used or not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find_refresh(&self, digest: ValueDigest) -> Result<Option<String>, StoreFault> {
        engine!(self, find_refresh(digest))
    }

    /// Ends an authorization of a client by one of its refresh tokens, used or not; no effect if
    /// there is none.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub async fn revoke_refresh(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
    ) -> Result<Option<Revocation>, StoreFault> {
        engine!(self, await revoke_refresh(digest, client, now))
    }
}
