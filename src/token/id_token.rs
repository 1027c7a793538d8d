//! ID tokens of a login provider (OpenID Connect Core §2, §3.1.3.7): who has signed in there, and
//! that it was for us and now.

use subtle::ConstantTimeEq;

use super::claims::{CLOCK_SKEW, date, text};
use super::json::{Json, Object};
use super::jws::{Algorithm, Unverified};
use super::keyset::KeySet;
use crate::names::Timestamp;
use crate::reason::{TokenError, TokenFault};

/// Longest `sub` (OpenID Connect Core §2).
const MAX_SUBJECT: usize = 255;

/// What an ID token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `iss`, byte for byte.
    pub issuer: &'a str,
    /// `aud`: our client id there.
    pub client_id: &'a str,
    /// `nonce`: ties it to the request that we sent in this browser.
    pub nonce: &'a str,
    /// Allowed algorithms.
    pub algorithms: &'a [Algorithm],
}

impl Expected<'_> {
    /// Verifies an ID token and gives its subject.
    ///
    /// # Errors
    /// The precise fault. `binding` is a `nonce` of another request, `audience` a token that is not
    /// for us alone.
    pub fn verify(
        &self,
        token: &Unverified<'_>,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<String, TokenError> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenFault::Algorithm.into());
        }
        if !matches!(token.kind.as_deref(), None | Some("jwt")) {
            return Err(TokenFault::Type.into());
        }
        keys.verify(token)?;
        let claims = &token.claims;
        if text(claims, "iss")?.as_deref() != Some(self.issuer) {
            return Err(TokenFault::Issuer.into());
        }
        self.check_audience(claims)?;
        let (Some(expires), Some(issued)) = (date(claims, "exp")?, date(claims, "iat")?) else {
            return Err(TokenFault::Claims.into());
        };
        if now >= expires.plus(CLOCK_SKEW) {
            return Err(TokenFault::Expired.into());
        }
        let horizon = now.plus(CLOCK_SKEW);
        if issued > horizon || date(claims, "nbf")?.is_some_and(|from| from > horizon) {
            return Err(TokenFault::NotYetValid.into());
        }
        let nonce = text(claims, "nonce")?.ok_or(TokenFault::Binding)?;
        if !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(TokenFault::Binding.into());
        }
        text(claims, "sub")?
            .filter(|subject| !subject.is_empty() && subject.len() <= MAX_SUBJECT)
            .ok_or(TokenFault::Claims.into())
    }

    /// For us, and where others are named too, given to us (`azp`).
    fn check_audience(&self, claims: &Object<'_>) -> Result<(), TokenFault> {
        let for_us = match claims.get("aud") {
            Some(Json::Text(one)) => *one == self.client_id,
            Some(Json::List(list)) => {
                let us = list.iter().any(|one| one.as_str() == Some(self.client_id));
                us && (list.len() == 1 || claims.has("azp"))
            }
            _ => false,
        };
        let party = claims.get("azp").is_none_or(|party| party.as_str() == Some(self.client_id));
        if for_us && party { Ok(()) } else { Err(TokenFault::Audience) }
    }
}
