//! Bearer tokens: the strict form, the signature, the claims, and the facts that remain of them.
//!
//! Owns everything between a token's text and [`Facts`]; knows nothing of clients, policies or the
//! network. Time is an argument.

pub mod claims;
pub mod id_token;
pub mod introspection;
pub mod json;
pub mod jws;
pub mod keyset;
pub mod mint;
pub mod tenant;

use crate::names::{IssuerName, Timestamp};
use crate::scope::ScopeSet;

pub use claims::{IssuerRules, check_claims, unknown_issuer};
pub use keyset::{KeyId, KeySet};

/// What a verified token says. These facts, and only these, are cached: whether they are good
/// enough now is judged anew on each request.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The configuration's name of the issuer, with the tenant where it has several.
    pub issuer: IssuerName,
    /// The key that signed it; a removed key ends its tokens. `None` for tokens that were not
    /// verified by a key.
    pub key: Option<KeyId>,
    /// `sub`.
    pub subject: String,
    /// The client claim's value; what client it is, the registry says.
    pub client: Option<String>,
    /// `aud`, one or several (RFC 7519 §4.1.3).
    pub audience: Vec<String>,
    /// `exp`.
    pub expires: Timestamp,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
    /// `iat`.
    pub issued: Option<Timestamp>,
    /// `jti`.
    pub id: Option<String>,
    /// The authorization that one of our own tokens was issued for.
    pub authorization: Option<String>,
    /// The scopes claim; `None` where the issuer declares none.
    pub scopes: Option<ScopeSet>,
    /// The roles claim's values, not yet mapped.
    pub roles: Vec<String>,
    /// Whether the token is bound to a key (`cnf`, RFC 7800).
    pub bound: bool,
    /// The claims that profiles look at, by the names these use.
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// Claims that were to give scopes or roles and have a form that cannot be read: they give
    /// nothing.
    pub unread: Vec<String>,
}
