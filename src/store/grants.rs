//! Authorizations with their codes, and the tokens that their use gives. Each use of a single-use
//! value is one write: of concurrent uses, one is first.

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

/// The result of redeeming a code.
#[derive(Debug)]
pub enum Redemption<T> {
    /// The first use, with the value of the check.
    Done(T),
    /// The code does not exist or has expired.
    Unknown,
    /// It had been used: everything that it gave is now revoked.
    Reused(Revocation),
    /// The check refused. The code is unchanged.
    Refused(GrantError),
}

/// What a successful check stores in the same write.
#[derive(Debug)]
pub struct Gift<T> {
    /// The value for the caller.
    pub value: T,
    /// When the access token expires, whatever its format: the authorization must be kept until
    /// then, so that revoking it ends the token.
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
    /// The store cannot be written; then neither is stored.
    pub async fn issue_code(
        &self,
        digest: ValueDigest,
        code: IssuedCode,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await issue_code(digest, code, now, expires))
    }

    /// Uses a code, if `check` accepts it.
    ///
    /// # Errors
    /// The store cannot be written; then the code is unchanged.
    pub async fn redeem_code<T: Send + 'static>(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
        check: impl FnOnce(&IssuedCode) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Redemption<T>, StoreFault> {
        engine!(self, await redeem_code(digest, client, now, check))
    }

    /// Stores an authorization that needs no code, with its tokens.
    ///
    /// # Errors
    /// The store cannot be written; then nothing is stored.
    pub async fn authorize(
        &self,
        authorization: Authorization,
        gift: Gift<()>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await authorize(authorization, gift, now, expires))
    }

    /// Ends all authorizations of a user for a client, and the consent.
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
