//! Claims: from a verified payload to [`Facts`], and the judgement of facts against the clock and
//! the issuer's rules.

use std::collections::BTreeSet;

use super::Facts;
use super::json::{Json, Object};
use super::jws::{Algorithm, Unverified};
use super::keyset::{KeyId, KeySet};
use super::tenant::{self, Tenants};
use crate::names::{IssuerName, Timestamp};
use crate::reason::{TokenError, TokenFault, quoted};
use crate::scope::ScopeSet;

/// Which audiences an issuer's tokens must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// One of these (RFC 7519 §4.1.3, RFC 8725 §3.9).
    OneOf(BTreeSet<String>),
    /// Any: written out by the operator as `any_audience: true`.
    Any,
}

/// Names of the claims that say who, what and in which role. Of several names the first that is
/// present counts, alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The client: `client_id` (RFC 9068 §2.2), `azp` elsewhere.
    pub client: Vec<String>,
    /// The subject: `sub`.
    pub subject: Vec<String>,
    /// The scopes: a text or a list; no name where the issuer declares none.
    pub scopes: Vec<String>,
    /// The roles: a text, a list, or an object whose names are the list.
    pub roles: Vec<String>,
    /// What separates scopes in a text.
    pub separator: char,
}

/// What is asked of one issuer's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// The configuration's name.
    pub name: IssuerName,
    /// `iss`, compared byte for byte; with `{tenant}` in it where there are tenants.
    pub issuer: String,
    /// Its tenants, each of which is an issuer of its own.
    pub tenants: Option<Tenants>,
    /// `aud`.
    pub audience: Audience,
    /// Allowed algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Values of `typ` that are taken, in lower case and without `application/`; a token without
    /// one is a `jwt`.
    pub types: Vec<String>,
    /// ID tokens are taken too.
    pub id_tokens: bool,
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
    /// Every `iss` that its tokens may have; none where it has any tenant.
    #[must_use]
    pub fn issuers(&self) -> Vec<String> {
        self.tenants.as_ref().map_or_else(
            || vec![self.issuer.clone()],
            |tenants| tenants.listed().map(|one| tenant::issuer_of(&self.issuer, one)).collect(),
        )
    }

    /// The name of the issuer of a token with this `iss`, with its tenant. Nothing is verified.
    #[must_use]
    pub fn name_of(&self, iss: &str) -> IssuerName {
        let tenant = self.tenants.as_ref().and_then(|_| tenant::tenant_of(&self.issuer, iss));
        tenant.map_or_else(|| self.name.clone(), |tenant| self.name.of_tenant(tenant))
    }

    /// Verifies a token of this issuer: algorithm, type, signature, then the form of the claims.
    /// Whether the facts hold now is [`check_claims`]'s.
    ///
    /// # Errors
    /// The precise fault.
    pub fn verify(&self, token: &Unverified<'_>, keys: &KeySet) -> Result<Facts, TokenError> {
        self.check_header(token)?;
        let key = keys.verify(token).map_err(|fault| match (fault, token.key_id.as_deref()) {
            (TokenFault::KeyUnknown, Some(kid)) => {
                TokenError::because(fault, format_args!("no key has the kid `{}`", quoted(kid)))
            }
            (TokenFault::Issuer, _) => {
                TokenError::because(fault, "the key is published for another issuer")
            }
            _ => fault.into(),
        })?;
        self.facts(&token.claims, Some(key))
    }

    /// What of a token is wrong whatever keys its issuer has: algorithm and type.
    ///
    /// # Errors
    /// `algorithm` or `type`.
    pub fn check_header(&self, token: &Unverified<'_>) -> Result<(), TokenError> {
        if !self.algorithms.contains(&token.algorithm) {
            let wanted: Vec<&str> = self.algorithms.iter().map(|one| one.as_str()).collect();
            let seen = token.algorithm.as_str();
            let text = format!("saw {seen}, wants one of {}", wanted.join(", "));
            return Err(TokenError::because(TokenFault::Algorithm, text));
        }
        self.check_kind(token)
    }

    /// Explicit typing (RFC 9068 §4, RFC 8725 §3.11). A token without `typ` is a `jwt` (RFC 7519
    /// §5.1).
    fn check_kind(&self, token: &Unverified<'_>) -> Result<(), TokenError> {
        let kind = token.kind.as_deref().unwrap_or("jwt");
        if !self.types.iter().any(|known| known == kind) {
            let seen = token.kind.as_deref().map_or_else(|| "no typ".to_owned(), quoted);
            let text = format!("saw {seen}, wants one of {}", self.types.join(", "));
            return Err(TokenError::because(TokenFault::Type, text));
        }
        match mark_of_id_token(&token.claims) {
            Some(mark) if !self.id_tokens => {
                let text = format!("{mark}: it is an ID token, wants an access token");
                Err(TokenError::because(TokenFault::Type, text))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Reads the claims. One that the verdict rests on and that has a wrong type is a fault, never
    /// absent; one that only feeds scopes and roles then gives nothing, and is named in the record
    /// (decisions.md, "Settled questions").
    pub(super) fn facts(
        &self,
        claims: &Object<'_>,
        key: Option<KeyId>,
    ) -> Result<Facts, TokenError> {
        let issuer = self.issuer_of(claims)?;
        let issued = date(claims, "iat")?;
        let id = text(claims, "jti")?;
        let client = self.client_of(claims)?;
        if self.name.is_own() {
            let needed = [("iat", issued.is_some()), ("jti", id.is_some())];
            let needed = needed.into_iter().chain([("client_id", client.is_some())]);
            if let Some((name, _)) = needed.into_iter().find(|(_, is_there)| !is_there) {
                return Err(missing(name));
            }
        }
        let subject = match text_of(claims, &self.claims.subject)? {
            Some(subject) => subject,
            // Nobody but the client, for which it stands.
            None if !self.name.is_own() => client.clone().ok_or_else(|| missing("sub"))?,
            None => return Err(missing("sub")),
        };
        let audience = audience(claims)?;
        // For whom of several it is, an ID token says in `azp` (OpenID Connect Core §2).
        if self.id_tokens && audience.len() > 1 && claims.present("azp").is_none() {
            let text = "an ID token for several audiences without azp";
            return Err(TokenError::because(TokenFault::Claims, text));
        }
        let mut unread = Vec::new();
        let scopes = self.scopes(claims, &mut unread);
        let roles = self.roles(claims, &mut unread);
        if let Some(name) = unread.first().filter(|_| self.name.is_own()) {
            let text = format!("{name} has a form that we do not write");
            return Err(TokenError::because(TokenFault::Claims, text));
        }
        let kept =
            self.kept.iter().filter_map(|name| Some((name.clone(), kept(find(claims, name)?))));
        Ok(Facts {
            issuer,
            key,
            subject,
            client,
            audience,
            expires: date(claims, "exp")?.ok_or_else(|| missing("exp"))?,
            not_before: date(claims, "nbf")?,
            issued,
            id,
            authorization: if self.name.is_own() { text(claims, AUTHORIZATION)? } else { None },
            scopes,
            roles,
            bound: claims.present("cnf").is_some(),
            claims: kept.collect(),
            unread,
        })
    }

    /// The name of the issuer, with its tenant: the claim and `iss` must say the same.
    fn issuer_of(&self, claims: &Object<'_>) -> Result<IssuerName, TokenError> {
        let seen = text(claims, "iss")?.unwrap_or_default();
        let (name, wanted) = match &self.tenants {
            None => (self.name.clone(), self.issuer.clone()),
            Some(tenants) => {
                let tenant = tenant_in(claims, tenants)?;
                (self.name.of_tenant(&tenant), tenant::issuer_of(&self.issuer, &tenant))
            }
        };
        if seen != wanted {
            let text = format!("saw {}, wants {wanted}", quoted(&seen));
            return Err(TokenError::because(TokenFault::Issuer, text));
        }
        Ok(name)
    }

    /// The client claim. Of several that are there, all must say the same.
    pub(super) fn client_of(&self, claims: &Object<'_>) -> Result<Option<String>, TokenError> {
        let client = text_of(claims, &self.claims.client)?;
        for name in &self.claims.client {
            let other = find(claims, name).map(|value| text_in(name, value)).transpose()?;
            if let (Some(client), Some(other)) = (&client, other)
                && *client != other
            {
                let (one, other) = (quoted(client), quoted(other));
                let text = format!("{name} says `{other}`, another client claim `{one}`");
                return Err(TokenError::because(TokenFault::Claims, text));
            }
        }
        Ok(client)
    }

    /// `None` where the issuer declares no scopes. Declared and absent is no scope at all: never
    /// all that the client holds.
    fn scopes(&self, claims: &Object<'_>, unread: &mut Vec<String>) -> Option<ScopeSet> {
        if self.claims.scopes.is_empty() {
            return None;
        }
        let Some((name, value)) = first_of(claims, &self.claims.scopes) else {
            return Some(ScopeSet::default());
        };
        let separator = self.claims.separator;
        let split = |names: Vec<&str>| {
            let all = names.iter().flat_map(|names| names.split(separator));
            ScopeSet::of(all.map(|name| name.trim_matches(' '))).ok()
        };
        let scopes = list_of(value).and_then(split);
        if scopes.is_none() {
            unread.push(name.to_owned());
        }
        Some(scopes.unwrap_or_default())
    }

    fn roles(&self, claims: &Object<'_>, unread: &mut Vec<String>) -> Vec<String> {
        let Some((name, value)) = first_of(claims, &self.claims.roles) else { return Vec::new() };
        let roles = list_of(value);
        if roles.is_none() {
            unread.push(name.to_owned());
        }
        roles.unwrap_or_default().into_iter().map(str::to_owned).collect()
    }
}

/// The tenant that a token names, if its tokens are taken.
fn tenant_in(claims: &Object<'_>, tenants: &Tenants) -> Result<String, TokenError> {
    let name = &tenants.claim;
    let tenant = text_in(name, find(claims, name).ok_or_else(|| missing(name))?)?;
    if tenants.allow(tenant) {
        return Ok(tenant.to_owned());
    }
    let text = format!("the tenant `{}` is none of `tenants`", quoted(tenant));
    Err(TokenError::because(TokenFault::Issuer, text))
}

/// The text of the first of these claims that is there.
fn text_of(claims: &Object<'_>, names: &[String]) -> Result<Option<String>, TokenError> {
    let found = first_of(claims, names);
    found.map(|(name, value)| text_in(name, value).map(str::to_owned)).transpose()
}

/// What ID tokens alone have: hashes (OpenID Connect Core §3.1.3.6, §3.3.2.11), or what Cognito and
/// Keycloak write into them. A `nonce` alone is none: access tokens have it too.
fn mark_of_id_token(claims: &Object<'_>) -> Option<&'static str> {
    let says = |name, value| claims.get(name).and_then(Json::as_str) == Some(value);
    [
        ("it has at_hash", claims.present("at_hash").is_some()),
        ("it has c_hash", claims.present("c_hash").is_some()),
        ("token_use is id", says("token_use", "id")),
        ("the claim typ is ID", says("typ", "ID")),
    ]
    .into_iter()
    .find_map(|(mark, is_there)| is_there.then_some(mark))
}

/// The first of these claims that is there.
fn first_of<'a, 'b>(
    claims: &'a Object<'b>,
    names: &'a [String],
) -> Option<(&'a str, &'a Json<'b>)> {
    names.iter().find_map(|name| Some((name.as_str(), find(claims, name)?)))
}

/// A text, or a list of texts; an object's names are its list. Nothing is in another shape.
#[must_use]
pub fn list_of<'a>(value: &'a Json<'_>) -> Option<Vec<&'a str>> {
    match value {
        Json::List(items) => items.iter().map(Json::as_str).collect(),
        Json::Object(object) => Some(object.names().collect()),
        Json::Text(one) => Some(vec![one]),
        Json::Null | Json::Bool(_) | Json::Number(_) => None,
    }
}

/// The fault of a token whose issuer nobody here is.
#[must_use]
pub fn unknown_issuer(claimed: Option<&str>) -> TokenError {
    let seen = claimed.map_or_else(|| "no iss".to_owned(), quoted);
    TokenError::because(TokenFault::Issuer, format!("saw {seen}, which is no issuer's here"))
}

/// A claim as it is looked at later: of an object its names alone.
fn kept(value: &Json<'_>) -> serde_json::Value {
    value.as_object().map_or_else(
        || value.to_value(),
        |object| {
            let names = object.names().map(|name| (name.to_owned(), serde_json::Value::Null));
            serde_json::Value::Object(names.collect())
        },
    )
}

/// A claim by its name: whole, or by its dots (`realm_access.roles`), whatever of these belong to
/// names; one that begins with `/` is a JSON Pointer (RFC 6901). One that is `null` is absent.
#[must_use]
pub fn find<'a, 'b>(claims: &'a Object<'b>, name: &str) -> Option<&'a Json<'b>> {
    if let Some(pointer) = name.strip_prefix('/') {
        return pointed(claims, pointer);
    }
    if let Some(value) = claims.present(name) {
        return Some(value);
    }
    // The longest name first: what is there whole is meant.
    name.rmatch_indices('.').find_map(|(dot, _)| {
        let (first, rest) = (name.get(..dot)?, name.get(dot + 1..)?);
        find(claims.present(first)?.as_object()?, rest).filter(|_| !rest.starts_with('/'))
    })
}

fn pointed<'a, 'b>(claims: &'a Object<'b>, pointer: &str) -> Option<&'a Json<'b>> {
    let mut names = pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
    let mut value = claims.present(&names.next()?)?;
    for name in names {
        value = match value {
            Json::Object(object) => object.present(&name)?,
            Json::List(items) => items.get(index(&name)?).filter(|item| **item != Json::Null)?,
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => return None,
        };
    }
    Some(value)
}

/// The index of an item: digits without a leading zero (RFC 6901 §4).
fn index(text: &str) -> Option<usize> {
    let is_index = text == "0" || !text.starts_with(['0', '+']);
    is_index.then(|| text.parse().ok()).flatten()
}

fn missing(name: &str) -> TokenError {
    TokenError::because(TokenFault::Claims, format_args!("{name} is missing"))
}

fn of_wrong_kind(name: &str, value: &Json<'_>, wanted: &str) -> TokenError {
    let text = format!("{name} is {}, wants {wanted}", value.kind());
    TokenError::because(TokenFault::Claims, text)
}

fn text_in<'a>(name: &str, value: &'a Json<'_>) -> Result<&'a str, TokenError> {
    value.as_str().ok_or_else(|| of_wrong_kind(name, value, "a text"))
}

pub(super) fn text(claims: &Object<'_>, name: &str) -> Result<Option<String>, TokenError> {
    claims.present(name).map(|value| text_in(name, value).map(str::to_owned)).transpose()
}

/// A `NumericDate` (RFC 7519 §2): a number, possibly with a fraction, which is cut off.
pub(super) fn date(claims: &Object<'_>, name: &str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.present(name) else { return Ok(None) };
    let Json::Number(number) = value else {
        return Err(of_wrong_kind(name, value, "a number of seconds"));
    };
    if let Some(seconds) = number.as_i64() {
        return Ok(Some(Timestamp(seconds)));
    }
    match number.as_f64() {
        // Beyond 2^53 a fraction is noise, and so is the date.
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the guard")]
        Some(seconds) if seconds.abs() < 9.0e15 => Ok(Some(Timestamp(seconds.floor() as i64))),
        _ => {
            let text = format!("{name} is {number}, no date in seconds");
            Err(TokenError::because(TokenFault::Claims, text))
        }
    }
}

/// `aud`: a text or a list of texts (RFC 7519 §4.1.3).
fn audience(claims: &Object<'_>) -> Result<Vec<String>, TokenError> {
    let wrong = |value| of_wrong_kind("aud", value, "a text or a list of texts");
    match claims.present("aud") {
        None => Ok(Vec::new()),
        Some(Json::Text(one)) => Ok(vec![one.to_string()]),
        Some(value @ Json::List(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| {
                let text = format!("aud is {} with other items than texts", value.kind());
                TokenError::because(TokenFault::Claims, text)
            })
        }
        Some(value) => Err(wrong(value)),
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
pub fn check_claims(facts: &Facts, rules: &IssuerRules, now: Timestamp) -> Result<(), TokenError> {
    if now >= facts.expires.plus(rules.leeway) {
        let text = format!("exp is {}, the time is {}", facts.expires.0, now.0);
        return Err(TokenError::because(TokenFault::Expired, text));
    }
    let horizon = now.plus(rules.leeway.max(CLOCK_SKEW));
    for (name, from) in [("nbf", facts.not_before), ("iat", facts.issued)] {
        if let Some(from) = from.filter(|from| *from > horizon) {
            let text = format!("{name} is {}, the time is {}", from.0, now.0);
            return Err(TokenError::because(TokenFault::NotYetValid, text));
        }
    }
    if let Audience::OneOf(ours) = &rules.audience
        && !facts.audience.iter().any(|audience| ours.contains(audience))
    {
        let wanted = ours.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let seen = match facts.audience.join(", ") {
            seen if seen.is_empty() => "none".to_owned(),
            seen => quoted(&seen),
        };
        let text = format!("saw {seen}, wants one of {wanted}");
        return Err(TokenError::because(TokenFault::Audience, text));
    }
    if facts.bound {
        let text = "it has cnf: bound to a key, which a bearer does not prove";
        return Err(TokenError::because(TokenFault::Binding, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
