//! Limits on permitted requests (step 10): what is limited, and what a request counts as. The
//! counting itself is the caller's.

use std::net::IpAddr;

use super::Rules;
use super::definition::RateLimit;
use super::principal::Principal;
use super::route::Matched;
use crate::names::{ApiName, Origin};
use crate::request::address::site;

/// What a limit counts by (decisions.md, "Limits").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// Issuer and client.
    Client,
    /// Issuer and subject.
    User,
    /// Each scope that the request makes use of.
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

/// How much in a longer time: windows of a fixed length, in UTC.
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
    /// The API; all without one.
    pub api: Option<ApiName>,
    /// What it counts by.
    pub per: Per,
    /// The rate.
    pub rate: Option<RateLimit>,
    /// The quota.
    pub quota: Option<Quota>,
    /// Where it stands.
    pub origin: Origin,
}

impl Rules {
    /// All limits.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.definitions.limits
    }

    /// The limits that a permitted request counts for, each with what it is counted under. Public
    /// operations have no caller: only limits per address count there, and without a usable address
    /// none.
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
