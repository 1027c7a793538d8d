//! All findings of the gates, to explain a verdict: the same checks as [`gate`](super::gate),
//! including those after the one that decided.

use super::Rules;
use super::definition::Profile;
use super::gate::{Inquiry, applies};
use super::principal::Principal;
use super::route::Matched;
use crate::names::{ScopeName, Timestamp};
use crate::request::Request;

/// A part of a profile, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The issuer of the token.
    Issuers,
    /// The client.
    Clients,
    /// The caller's address.
    From,
    /// The roles.
    Roles,
    /// The claims.
    Claims,
    /// The time.
    Schedule,
    /// The certificate.
    Certificates,
    /// The client has `enforce_token_restriction`, and the profile neither lists it nor has
    /// `restricted_clients`.
    RestrictedClients,
}

impl Part {
    /// Every part of a profile that narrows it.
    pub(super) const NARROWING: [Self; 7] = [
        Self::Issuers,
        Self::Clients,
        Self::From,
        Self::Roles,
        Self::Claims,
        Self::Schedule,
        Self::Certificates,
    ];

    /// The key in the YAML.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Issuers => "issuers",
            Self::Clients => "clients",
            Self::From => "from",
            Self::Roles => "roles",
            Self::Claims => "claims",
            Self::Schedule => "between",
            Self::Certificates => "certificates",
            Self::RestrictedClients => "restricted_clients",
        }
    }
}

/// A profile of the selected policy, and its parts that do not hold; it admits the caller when
/// there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayIn {
    /// Its position in the policy.
    pub profile: usize,
    /// The parts that do not hold.
    pub fails: Vec<Part>,
}

/// The findings of the gates for one caller and operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The selected policy, by its position in the definitions.
    pub policy: Option<usize>,
    /// Its profiles.
    pub ways: Vec<WayIn>,
    /// The API is not in the client's `limit_authorization`.
    pub limited: bool,
    /// G: the scopes that grant the operation.
    pub granting: Vec<ScopeName>,
    /// G ∩ S.
    pub used: Vec<ScopeName>,
    /// The master scope is in S.
    pub master: bool,
    /// The ACLs on the operation, by position, and whether the caller satisfies each.
    pub acls: Vec<(usize, bool)>,
}

impl Rules {
    /// The findings of the gates. `None` for an operation of other rules.
    #[must_use]
    pub fn findings(
        &self,
        request: &Request,
        matched: &Matched,
        principal: &Principal,
        now: Timestamp,
    ) -> Option<Findings> {
        let operation = self.operation(matched.operation)?;
        let (address, certificate) = (request.address, request.certificate.as_deref());
        let inquiry =
            Inquiry { rules: self, operation, matched, principal, address, certificate, now };
        let gates = &operation.enforced;
        let policy = gates.policy.and_then(|at| self.definitions.policies.get(at));
        let profiles = policy.map(|policy| policy.profiles.as_slice()).unwrap_or_default();
        let ways = profiles
            .iter()
            .enumerate()
            .map(|(at, profile)| WayIn { profile: at, fails: fails(&inquiry, profile) });
        let mut granting: Vec<ScopeName> = operation
            .grants
            .iter()
            .filter(|grant| applies(grant, matched))
            .map(|grant| grant.scope.clone())
            .collect();
        granting.dedup();
        let acls = gates.acls.iter().filter_map(|at| {
            let roles = &self.definitions.acls.get(*at)?.roles;
            Some((*at, roles.satisfied(|role| principal.has_role(role, self))))
        });
        Some(Findings {
            policy: gates.policy,
            ways: ways.collect(),
            limited: inquiry.is_limited(),
            granting,
            used: self.scopes_used(matched, principal).into_iter().cloned().collect(),
            master: inquiry.has_master(),
            acls: acls.collect(),
        })
    }
}

fn fails(inquiry: &Inquiry<'_>, profile: &Profile) -> Vec<Part> {
    let mut fails: Vec<Part> =
        Part::NARROWING.into_iter().filter(|part| !inquiry.holds_part(*part, profile)).collect();
    if !inquiry.names(profile) {
        fails.push(Part::RestrictedClients);
    }
    fails
}
