//! Logins of users, and their consents.

use super::{Store, StoreFault, engine};
use crate::grant::opaque::ValueDigest;
use crate::names::Timestamp;
use crate::scope::ScopeSet;

/// A client with a user's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The client.
    pub client: String,
    /// The consented scopes.
    pub scopes: ScopeSet,
    /// The time of the first consent.
    pub since: Timestamp,
}

/// A login at an external page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The browser that began it: a digest of its cookie.
    pub browser: String,
    /// Where the browser is redirected next.
    pub back: String,
}

impl Store {
    /// Begins a login.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn begin_session(
        &self,
        digest: ValueDigest,
        signed_in: (String, String),
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await begin_session(digest, signed_in, now, expires))
    }

    /// The user of a login that has not expired, the proof it was made with, and when.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn session(
        &self,
        digest: ValueDigest,
        now: Timestamp,
    ) -> Result<Option<(String, String, Timestamp)>, StoreFault> {
        engine!(self, await session(digest, now))
    }

    /// Ends a login.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn end_session(&self, digest: ValueDigest) -> Result<(), StoreFault> {
        engine!(self, await end_session(digest))
    }

    /// Stores a login at an external page until the browser returns with it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn keep_login(
        &self,
        digest: ValueDigest,
        login: Login,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await keep_login(digest, login, now, expires))
    }

    /// Takes such a login; it can be taken once.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn take_login(
        &self,
        digest: ValueDigest,
        now: Timestamp,
    ) -> Result<Option<Login>, StoreFault> {
        engine!(self, await take_login(digest, now))
    }

    /// The scopes that a user has consented to for a client and a resource.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn consent(
        &self,
        user: String,
        client: String,
        resource: String,
    ) -> Result<Option<ScopeSet>, StoreFault> {
        engine!(self, await consent(user, client, resource))
    }

    /// Stores a consent, merged with earlier ones for the same client and resource.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn remember_consent(
        &self,
        user: String,
        client: String,
        resource: String,
        given: ScopeSet,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await remember_consent(user, client, resource, given, now))
    }

    /// The clients with consent of a user, by their ids.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn connected(&self, user: String) -> Result<Vec<Connected>, StoreFault> {
        engine!(self, await connected(user))
    }
}
