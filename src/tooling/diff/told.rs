//! What a comparison tells, and the form in which machines read it.

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

/// A caller and an operation whose verdict changes, in some circumstances at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The client; nobody where no token is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The client, and by whom and for whom its token is.
    pub caller: String,
    /// Method.
    pub method: &'static str,
    /// The API in the set that has the operation, the new one first.
    pub api: String,
    /// The path as the API writes it; as it is sent, where the sets have different templates for
    /// it.
    pub path: String,
    /// Which way.
    pub direction: Direction,
    /// The verdict before.
    pub old: &'static str,
    /// The verdict now.
    pub new: &'static str,
    /// Scopes with one of which alone it changes; nothing where that does not matter.
    pub scopes: Vec<String>,
    /// One request that shows it.
    pub example: Example,
}

/// A request whose verdict changes, with the keys of `tests:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Example {
    /// `METHOD path`.
    pub request: String,
    /// Host, where APIs differ by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Address, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// When, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// A name of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<[String; 1]>,
    /// What the token says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<ExampleToken>,
}

/// The token of an example.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ExampleToken {
    /// Who minted it.
    pub issuer: String,
    /// The client claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `sub`, where it is not the client.
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
    /// `aud`, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Vec<String>>,
    /// `jti`, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// All that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// By caller, API, path and method.
    pub differences: Vec<Difference>,
    /// Operations with so many combinations of roles and claims that not all were gone through.
    pub in_part: usize,
}

/// One for each caller and operation: an operation has several paths where it has versions and
/// conditions.
pub(super) fn merge(differences: &mut Vec<Difference>) {
    let key = |found: &Difference| {
        (found.caller.clone(), found.api.clone(), found.path.clone(), found.method, found.direction)
    };
    differences.sort_by(|a, b| (key(a), &a.example).cmp(&(key(b), &b.example)));
    differences.dedup_by(|later, first| {
        let same = key(later) == key(first);
        // Where scopes do not matter for one, they do not for the whole.
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
