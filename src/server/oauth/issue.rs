//! Makes access tokens: JWTs, or random strings with a row in the store. Both say the same.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::client::TokenFormat;
use crate::grant::opaque::{Kind, RANDOM, ValueDigest};
use crate::grant::{ErrorCode, GrantError, Granted};
use crate::names::Timestamp;
use crate::server::state::Shared;
use crate::store::access::StoredAccess;
use crate::system::random;
use crate::token::mint::{AccessClaims, expiry};

/// Random bytes from the operating system.
///
/// # Errors
/// There are none to be had.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, GrantError> {
    let mut bytes = Zeroizing::new([0_u8; N]);
    random::fill(bytes.as_mut_slice()).map_err(|_| unavailable("no randomness"))?;
    Ok(bytes)
}

/// A random id: 160 bits, base64url.
///
/// # Errors
/// No randomness.
pub(super) fn new_id() -> Result<String, GrantError> {
    Ok(URL_SAFE_NO_PAD.encode(random::<20>()?.as_slice()))
}

/// Our outage: the client may try again, and nothing was given.
#[must_use]
pub(super) const fn unavailable(cause: &'static str) -> GrantError {
    GrantError {
        code: ErrorCode::TemporarilyUnavailable,
        description: std::borrow::Cow::Borrowed("the request could not be answered; try again"),
        cause: Some(cause),
        retry_after: None,
    }
}

/// An access token about to be made: its randomness is drawn before anything is written.
pub(super) struct Draft {
    id: String,
    opaque: Option<Zeroizing<String>>,
}

impl Draft {
    /// Draws what a token of this format needs.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new(format: TokenFormat) -> Result<Self, GrantError> {
        let opaque = match format {
            TokenFormat::Jwt => None,
            TokenFormat::Opaque => Some(Kind::Access.make(&*random::<RANDOM>()?)),
        };
        Ok(Self { id: new_id()?, opaque })
    }

    /// What the store needs to know of it, by way of which the row can be made inside a write.
    #[must_use]
    pub(super) fn stub(&self) -> Stub {
        let digest = self.opaque.as_ref().and_then(|token| Kind::Access.digest(token));
        Stub { id: self.id.clone(), digest }
    }

    /// The token's text.
    ///
    /// # Errors
    /// It cannot be signed.
    pub(super) fn finish(
        self,
        shared: &Shared,
        granted: &Granted,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, GrantError> {
        if let Some(token) = self.opaque {
            return Ok(token);
        }
        let scope = granted.scopes.to_value();
        let claims = AccessClaims {
            iss: &shared.fixed.public_url,
            sub: &granted.subject,
            aud: &granted.audience,
            exp: expiry(now, granted.lifespan).0,
            iat: now.0,
            jti: &self.id,
            client_id: &granted.client,
            authorization_id: granted.authorization.as_deref(),
            scope: &scope,
        };
        let token = shared
            .own_keys
            .now()
            .current()
            .sign(&claims)
            .map_err(|_| unavailable("the token could not be signed"))?;
        Ok(token.into())
    }
}

/// What the store needs to know of a draft.
#[derive(Clone, Debug)]
pub(super) struct Stub {
    id: String,
    digest: Option<ValueDigest>,
}

impl Stub {
    /// The row of an opaque token; a JWT has none.
    #[must_use]
    pub(super) fn row(self, granted: &Granted, now: Timestamp) -> Option<StoredAccess> {
        Some(StoredAccess {
            digest: self.digest?,
            id: self.id,
            authorization: granted.authorization.clone(),
            client: granted.client.clone(),
            subject: granted.subject.clone(),
            scopes: granted.scopes.clone(),
            audience: granted.audience.clone(),
            issued: now,
            expires: expiry(now, granted.lifespan),
        })
    }
}
