//! The result of a comparison, and its serialized form.

use std::collections::BTreeMap;

use serde::Serialize;

/// Which way a verdict changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Permitted before, refused now.
    Tightens,
    /// Refused before, permitted now.
    Widens,
}

/// A caller and an operation whose verdict changes, at least in some circumstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The client; none where no token is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The client, with the token's issuer and its user.
    pub caller: String,
    /// Method.
    pub method: &'static str,
    /// The API in the set that has the operation, the new one first.
    pub api: String,
    /// The path as the API writes it; as sent, where the sets have different templates.
    pub path: String,
    /// Direction of the change.
    pub direction: Direction,
    /// The verdict before.
    pub old: &'static str,
    /// The verdict now.
    pub new: &'static str,
    /// Scopes each of which alone causes the change; empty where scopes do not matter.
    pub scopes: Vec<String>,
    /// A request that shows the change.
    pub example: Example,
}

/// A request whose verdict changes, written with the keys of `tests:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Example {
    /// `METHOD path`.
    pub request: String,
    /// The method that a header names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method_override: Option<&'static str>,
    /// Host, where APIs differ by host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Address of the caller, where relevant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Time of the request, where relevant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// A name of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<[String; 1]>,
    /// The content of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<ExampleToken>,
}

/// The token of an example.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ExampleToken {
    /// The issuer.
    pub issuer: String,
    /// The client claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `sub`, if it is not the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Scopes, where the issuer declares some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Values of the role claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Claims.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// `aud`, where relevant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Vec<String>>,
    /// `jti`, where relevant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// All changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Sorted by caller, API, path and method.
    pub differences: Vec<Difference>,
    /// Operations with so many combinations of roles and claims that some were not checked.
    pub in_part: usize,
}

/// Merges to one difference per caller and operation: an operation has several paths where it has
/// versions and conditions.
pub(super) fn merge(differences: &mut Vec<Difference>) {
    let key = |found: &Difference| {
        (found.caller.clone(), found.api.clone(), found.path.clone(), found.method, found.direction)
    };
    differences.sort_by(|a, b| (key(a), &a.example).cmp(&(key(b), &b.example)));
    differences.dedup_by(|later, first| {
        let same = key(later) == key(first);
        // Where scopes do not matter for one, they do not matter for all.
        if same && (first.scopes.is_empty() || later.scopes.is_empty()) {
            first.scopes.clear();
        } else if same {
            first.scopes.append(&mut later.scopes);
            first.scopes.sort_unstable();
            first.scopes.dedup();
        }
        same
    });
}
