//! Claims: from a verified payload to [`Facts`], and the judgement of facts against the clock and
//! the issuer's rules.

use std::collections::BTreeSet;

use super::Facts;
use super::json::{Json, Object};
use super::jws::{Algorithm, Unverified};
use super::keyset::{KeyId, KeySet};
use crate::names::{IssuerName, Timestamp};
use crate::reason::TokenFault;
use crate::scope::ScopeSet;

/// Which audiences an issuer's tokens must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// One of these (RFC 7519 §4.1.3, RFC 8725 §3.9).
    OneOf(BTreeSet<String>),
    /// Any: written out by the operator as `any_audience: true`.
    Any,
}

/// Names of the claims that say who, what and in which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The client: `client_id` (RFC 9068 §2.2), `azp` elsewhere.
    pub client: String,
    /// The scopes: a space-separated string or an array.
    pub scopes: Option<String>,
    /// The roles.
    pub roles: Option<String>,
}

/// What is asked of one issuer's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// The configuration's name.
    pub name: IssuerName,
    /// `iss`, compared byte for byte.
    pub issuer: String,
    /// `aud`.
    pub audience: Audience,
    /// Allowed algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Claim names.
    pub claims: ClaimNames,
    /// Clock difference forgiven, in seconds, at most 60.
    pub leeway: i64,
    /// Claims that some profile looks at: the only ones that facts keep.
    pub kept: Vec<String>,
}

/// The claim of our own tokens that names the authorization they were issued for.
pub const AUTHORIZATION: &str = "authorization_id";

impl IssuerRules {
    /// Verifies a token of this issuer: algorithm, type, signature, then the form of the claims.
    /// Whether the facts hold now is [`judge`]'s.
    ///
    /// # Errors
    /// The precise fault.
    pub fn verify(&self, token: &Unverified<'_>, keys: &KeySet) -> Result<Facts, TokenFault> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenFault::Algorithm);
        }
        self.check_kind(token)?;
        let key = keys.verify(token)?;
        self.facts(&token.claims, Some(key))
    }

    /// Explicit typing (RFC 9068 §4, RFC 8725 §3.11): ours are `at+jwt` and nothing else; others
    /// may leave it out or say `jwt`.
    fn check_kind(&self, token: &Unverified<'_>) -> Result<(), TokenFault> {
        match token.kind.as_deref() {
            Some("at+jwt") => Ok(()),
            // `at_hash` and `c_hash` occur in ID tokens alone (OpenID Connect Core §3.1.3.6,
            // §3.3.2.11).
            None | Some("jwt")
                if !self.name.is_own()
                    && !token.claims.has("at_hash")
                    && !token.claims.has("c_hash") =>
            {
                Ok(())
            }
            _ => Err(TokenFault::Type),
        }
    }

    /// Reads the claims: a claim of the wrong type is a fault, never absent.
    pub(super) fn facts(
        &self,
        claims: &Object<'_>,
        key: Option<KeyId>,
    ) -> Result<Facts, TokenFault> {
        match claims.get("iss") {
            Some(Json::Text(issuer)) if *issuer == self.issuer => {}
            None | Some(Json::Text(_)) => return Err(TokenFault::Issuer),
            Some(_) => return Err(TokenFault::Claims),
        }
        let issued = date(claims, "iat")?;
        let id = text(claims, "jti")?;
        let client = self.client_of(claims)?;
        if self.name.is_own() && (issued.is_none() || id.is_none() || client.is_none()) {
            return Err(TokenFault::Claims);
        }
        let kept = self
            .kept
            .iter()
            .filter_map(|name| Some((name.clone(), find(claims, name)?.to_value())));
        Ok(Facts {
            issuer: self.name.clone(),
            key,
            subject: text(claims, "sub")?.ok_or(TokenFault::Claims)?,
            client,
            audience: strings(claims.get("aud"))?.unwrap_or_default(),
            expires: date(claims, "exp")?.ok_or(TokenFault::Claims)?,
            not_before: date(claims, "nbf")?,
            issued,
            id,
            authorization: if self.name.is_own() { text(claims, AUTHORIZATION)? } else { None },
            scopes: self.scopes(claims)?,
            roles: match &self.claims.roles {
                Some(name) => strings(find(claims, name))?.unwrap_or_default(),
                None => Vec::new(),
            },
            bound: claims.has("cnf"),
            claims: kept.collect(),
        })
    }

    /// The client claim.
    pub(super) fn client_of(&self, claims: &Object<'_>) -> Result<Option<String>, TokenFault> {
        match find(claims, &self.claims.client) {
            None => Ok(None),
            Some(Json::Text(client)) => Ok(Some(client.to_string())),
            Some(_) => Err(TokenFault::Claims),
        }
    }

    fn scopes(&self, claims: &Object<'_>) -> Result<Option<ScopeSet>, TokenFault> {
        let Some(name) = &self.claims.scopes else { return Ok(None) };
        let parsed = match find(claims, name) {
            // Declared and absent is no scope at all: never all that the client holds.
            None => return Ok(Some(ScopeSet::default())),
            Some(Json::Text(list)) => ScopeSet::parse_unbounded(list),
            Some(value) => {
                ScopeSet::parse_unbounded(&strings(Some(value))?.unwrap_or_default().join(" "))
            }
        };
        parsed.map(Some).map_err(|_| TokenFault::Claims)
    }
}

/// A claim by its name, or by a path of names with dots (`realm_access.roles`).
fn find<'a, 'b>(claims: &'a Object<'b>, name: &str) -> Option<&'a Json<'b>> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

pub(super) fn text(claims: &Object<'_>, name: &str) -> Result<Option<String>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Text(value)) => Ok(Some(value.to_string())),
        Some(_) => Err(TokenFault::Claims),
    }
}

/// A `NumericDate` (RFC 7519 §2): a number, possibly with a fraction, which is cut off.
pub(super) fn date(claims: &Object<'_>, name: &str) -> Result<Option<Timestamp>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Json::Number(number) = value else { return Err(TokenFault::Claims) };
    if let Some(seconds) = number.as_i64() {
        return Ok(Some(Timestamp(seconds)));
    }
    match number.as_f64() {
        // Beyond 2^53 a fraction is noise, and so is the date.
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the guard")]
        Some(seconds) if seconds.abs() < 9.0e15 => Ok(Some(Timestamp(seconds.floor() as i64))),
        _ => Err(TokenFault::Claims),
    }
}

/// A string or an array of strings.
fn strings(value: Option<&Json<'_>>) -> Result<Option<Vec<String>>, TokenFault> {
    match value {
        None => Ok(None),
        Some(Json::Text(one)) => Ok(Some(vec![one.to_string()])),
        Some(Json::List(list)) => list
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or(TokenFault::Claims))
            .collect::<Result<Vec<_>, _>>()
            .map(Some),
        Some(_) => Err(TokenFault::Claims),
    }
}

/// How far ahead of ours an issuer's clock may be, in seconds, whatever its leeway: gateways that
/// issue for each other differ too.
pub(super) const CLOCK_SKEW: i64 = 30;

/// Judges facts against the clock and the issuer's rules as they are now.
///
/// # Errors
/// `expired` on or after `exp` plus leeway (RFC 7519 §4.1.4), `not_yet_valid`, `audience`,
/// `binding` for a token with `cnf` presented as a plain bearer (RFC 7800 §3, RFC 9449 §7.2).
pub fn judge(facts: &Facts, rules: &IssuerRules, now: Timestamp) -> Result<(), TokenFault> {
    if now >= facts.expires.plus(rules.leeway) {
        return Err(TokenFault::Expired);
    }
    let horizon = now.plus(rules.leeway.max(CLOCK_SKEW));
    if facts.not_before.is_some_and(|from| from > horizon)
        || facts.issued.is_some_and(|at| at > horizon)
    {
        return Err(TokenFault::NotYetValid);
    }
    if let Audience::OneOf(ours) = &rules.audience
        && !facts.audience.iter().any(|audience| ours.contains(audience))
    {
        return Err(TokenFault::Audience);
    }
    if facts.bound {
        return Err(TokenFault::Binding);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
