//! Authorizations with their codes, and what their use gives. Each use of a single-use value is one
//! write: of many that come at once, one is first.

use super::access::StoredAccess;
use super::revocations::Revocation;
use super::{Store, StoreFault, engine};
use crate::grant::GrantError;
use crate::grant::authorization::{Authorization, IssuedCode};
use crate::grant::opaque::ValueDigest;
use crate::names::Timestamp;

/// A refresh token to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewRefresh {
    /// Its digest.
    pub digest: ValueDigest,
    /// When it expires.
    pub expires: Timestamp,
}

/// How the redemption of a code ended.
#[derive(Debug)]
pub enum Redemption<T> {
    /// The first use: what the check gave.
    Done(T),
    /// No such code, or it has expired.
    Unknown,
    /// It had been used: everything that it gave has been revoked.
    Reused(Revocation),
    /// The check said no. The code is as it was.
    Refused(GrantError),
}

/// What a successful check leaves to be done in the same write.
#[derive(Debug)]
pub struct Gift<T> {
    /// For the caller.
    pub value: T,
    /// When the access token expires, whatever its format: for so long the authorization must be
    /// known, so that it can end it.
    pub expires: Timestamp,
    /// A refresh token.
    pub refresh: Option<NewRefresh>,
    /// An opaque access token.
    pub access: Option<StoredAccess>,
}

impl Store {
    /// Stores an authorization with the code for it.
    ///
    /// # Errors
    /// The store cannot be written; then neither is there.
    pub async fn issue_code(
        &self,
        digest: ValueDigest,
        code: IssuedCode,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await issue_code(digest, code, now, expires))
    }

    /// Uses a code, if `check` says yes to it.
    ///
    /// # Errors
    /// The store cannot be written; then the code is as it was.
    pub async fn redeem_code<T: Send + 'static>(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
        check: impl FnOnce(&IssuedCode) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Redemption<T>, StoreFault> {
        engine!(self, await redeem_code(digest, client, now, check))
    }

    /// Stores an authorization that needs no code, with what it gives.
    ///
    /// # Errors
    /// The store cannot be written; then nothing of it is there.
    pub async fn authorize(
        &self,
        authorization: Authorization,
        gift: Gift<()>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await authorize(authorization, gift, now, expires))
    }

    /// Ends everything that a user allowed a client, the consent included.
    ///
    /// # Errors
    /// The store cannot be written: nothing is revoked.
    pub async fn disconnect(
        &self,
        user: String,
        client: String,
        now: Timestamp,
    ) -> Result<Vec<Revocation>, StoreFault> {
        engine!(self, await disconnect(user, client, now))
    }
}
