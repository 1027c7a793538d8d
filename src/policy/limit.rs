//! Limits on permitted requests (step 10): which limits apply, and the keys to count under. The
//! caller counts.

use std::net::IpAddr;

use super::Rules;
use super::definition::RateLimit;
use super::principal::Principal;
use super::route::Matched;
use crate::names::{ApiName, Origin};
use crate::request::address::site;

/// The key of a limit (decisions.md, "Limits").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// Issuer and client.
    Client,
    /// Issuer and subject.
    User,
    /// Each scope that the request uses.
    Scope,
    /// Client address.
    Address,
}

impl Per {
    /// Its name in the YAML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::User => "user",
            Self::Scope => "scope",
            Self::Address => "address",
        }
    }
}

/// A quota over a longer time: windows of a fixed length, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Requests in a window.
    pub count: u32,
    /// Length of a window, seconds.
    pub period: u32,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name in `RateLimit` headers.
    pub name: String,
    /// The API; all when left out.
    pub api: Option<ApiName>,
    /// Its key.
    pub per: Per,
    /// The rate.
    pub rate: Option<RateLimit>,
    /// The quota.
    pub quota: Option<Quota>,
    /// Its position in the config file.
    pub origin: Origin,
}

impl Rules {
    /// All limits.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.definitions.limits
    }

    /// The limits that a permitted request counts for, each with its key. Public operations have no
    /// caller: only limits per address apply, and none without a usable address.
    pub fn counted<'a>(
        &'a self,
        matched: &'a Matched,
        principal: Option<&'a Principal>,
        address: Option<IpAddr>,
    ) -> impl Iterator<Item = (usize, String)> + 'a {
        let api = self.operation(matched.operation).map(|operation| operation.api);
        let of_api =
            api.and_then(|api| self.limits_of_apis.get(api)).map(Vec::as_slice).unwrap_or_default();
        of_api.iter().flat_map(move |index| {
            let subjects =
                match (self.definitions.limits.get(*index).map(|limit| limit.per), principal) {
                    (Some(Per::Client), Some(principal)) => {
                        vec![format!("{} {}", principal.facts().issuer, principal.client().id)]
                    }
                    (Some(Per::User), Some(principal)) => {
                        vec![format!("{} {}", principal.facts().issuer, principal.facts().subject)]
                    }
                    (Some(Per::Scope), Some(principal)) => self
                        .scopes_used(matched, principal)
                        .into_iter()
                        .map(|scope| scope.as_str().to_owned())
                        .collect(),
                    (Some(Per::Address), _) => {
                        address.map(|address| site(address).to_string()).into_iter().collect()
                    }
                    (Some(Per::Client | Per::User | Per::Scope), None) | (None, _) => Vec::new(),
                };
            subjects.into_iter().map(|subject| (*index, subject))
        })
    }
}
