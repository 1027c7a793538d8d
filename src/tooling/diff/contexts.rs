//! Representative addresses, times, roles, claims and certificates: one for each way in which
//! conditions distinguish them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::names::{RoleName, Timestamp};
use crate::policy::Rules;
use crate::policy::definition::{Profile, RoleRequirement};
use crate::policy::route::OperationId;
use crate::policy::schedule::Schedule;

/// Most combinations of roles, claims and certificates for one operation.
pub(in crate::tooling) const MOST: usize = 512;
/// Half a year in seconds, to cover summer and winter time.
const HALF_A_YEAR: i64 = 182 * 86_400;

/// A week and a day, in seconds.
const A_WEEK: i64 = 8 * 86_400;

/// Further content of a token or connection, apart from its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tooling) struct Extras {
    /// Roles, by their names in the configuration.
    pub(in crate::tooling) roles: BTreeSet<RoleName>,
    /// Claims, each with one value.
    pub(in crate::tooling) claims: BTreeMap<String, String>,
    /// A name of the certificate.
    pub(in crate::tooling) certificate: Option<String>,
}

/// Conditions that one set has for an operation.
pub(in crate::tooling) struct Looked<'a> {
    profiles: &'a [Profile],
    acls: Vec<&'a RoleRequirement>,
}

impl<'a> Looked<'a> {
    /// The conditions for one operation.
    pub(in crate::tooling) fn of(rules: &'a Rules, operation: OperationId) -> Self {
        let definitions = rules.definitions();
        let policy =
            rules.operation(operation).and_then(crate::policy::route::Operation::deciding_policy);
        let profiles = policy
            .and_then(|at| definitions.policies.get(at))
            .map(|policy| policy.profiles.as_slice());
        let acls = rules
            .acls_of(operation)
            .iter()
            .filter_map(|at| Some(&definitions.acls.get(*at)?.roles));
        Self { profiles: profiles.unwrap_or_default(), acls: acls.collect() }
    }

    /// The networks that the conditions distinguish.
    pub(in crate::tooling) fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.profiles
            .iter()
            .filter_map(|profile| profile.from.as_ref())
            .flat_map(crate::request::address::Networks::networks)
    }

    /// The times that the conditions distinguish.
    pub(in crate::tooling) fn times(&self) -> impl Iterator<Item = &'a Schedule> {
        self.profiles.iter().filter_map(|profile| profile.between.as_ref())
    }

    /// The smallest sets of roles, claims and certificates that meet each profile and all ACLs:
    /// having more never fails a condition. `false` where some combinations were left out.
    pub(in crate::tooling) fn extras(&self) -> (BTreeSet<Extras>, bool) {
        let mut all = BTreeSet::new();
        let mut whole = true;
        let none = [None];
        let profiles = self
            .profiles
            .iter()
            .map(Some)
            .chain(none.into_iter().filter(|_| self.profiles.is_empty()));
        for profile in profiles {
            let mut found = BTreeSet::from([Extras::default()]);
            let mut multiply = |found: &mut BTreeSet<Extras>, made: BTreeSet<Extras>| {
                whole &= made.len() <= MOST;
                *found = made.into_iter().take(MOST).collect();
            };
            let roles = profile
                .and_then(|profile| profile.roles.as_ref())
                .into_iter()
                .chain(self.acls.iter().copied());
            for requirement in roles {
                let add = |extras: &mut Extras, roles: &Vec<RoleName>| {
                    extras.roles.extend(roles.iter().cloned());
                };
                let made = product(&found, &choices(requirement), add);
                multiply(&mut found, made);
            }
            for (name, values) in profile.into_iter().flat_map(|profile| &profile.claims) {
                let made = product(&found, values, |extras, value| {
                    drop(extras.claims.insert(name.clone(), value.clone()));
                });
                multiply(&mut found, made);
            }
            if let Some(names) = profile.and_then(|profile| profile.certificates.as_ref()) {
                let made =
                    product(&found, names, |extras, name| extras.certificate = Some(name.clone()));
                multiply(&mut found, made);
            }
            all.extend(found);
        }
        all.insert(Extras::default());
        (all, whole)
    }
}

/// Combines each with each choice, up to one more than [`MOST`], so that the caller sees when there
/// are too many.
fn product<T>(
    found: &BTreeSet<Extras>,
    choices: &[T],
    add: impl Fn(&mut Extras, &T),
) -> BTreeSet<Extras> {
    let mut made = BTreeSet::new();
    for (extras, choice) in
        found.iter().flat_map(|extras| choices.iter().map(move |choice| (extras, choice)))
    {
        let mut extras = extras.clone();
        add(&mut extras, choice);
        made.insert(extras);
        if made.len() > MOST {
            break;
        }
    }
    made
}

fn choices(requirement: &RoleRequirement) -> Vec<Vec<RoleName>> {
    match requirement {
        RoleRequirement::All(roles) => vec![roles.clone()],
        RoleRequirement::Any(roles) => roles.iter().map(|role| vec![role.clone()]).collect(),
    }
}

/// One address for each part into which the networks divide the space, and `None`.
pub(in crate::tooling) fn addresses(networks: &BTreeSet<IpNet>) -> Vec<Option<IpAddr>> {
    let mut candidates: BTreeSet<IpAddr> = BTreeSet::new();
    candidates.insert(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    if networks.iter().any(|network| matches!(network, IpNet::V6(_))) {
        candidates.insert(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
    }
    for network in networks {
        let (first, last) = (network.network(), network.broadcast());
        candidates.extend([first, last]);
        candidates.extend([before(first), after(last)].into_iter().flatten());
    }
    let mut seen = BTreeSet::new();
    let mut found = vec![None];
    for address in candidates {
        let inside: Vec<bool> = networks.iter().map(|network| network.contains(&address)).collect();
        // An address outside all networks is equivalent to none.
        if inside.contains(&true) && seen.insert(inside) {
            found.push(Some(address));
        }
    }
    found
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            address.to_bits().checked_sub(1).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
        }
        IpAddr::V6(address) => {
            address.to_bits().checked_sub(1).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            address.to_bits().checked_add(1).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
        }
        IpAddr::V6(address) => {
            address.to_bits().checked_add(1).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
    }
}

/// One time for each way in which schedules and ends of blocks can hold, starting with now.
pub(in crate::tooling) fn moments(
    times: &[&Schedule],
    ends: &BTreeSet<Timestamp>,
    now: Timestamp,
) -> Vec<Timestamp> {
    let mut candidates = vec![now];
    candidates.extend(ends.iter().flat_map(|end| [end.plus(-1), *end]));
    for between in times {
        candidates.extend(between.edges(now));
        candidates.extend(between.edges(now.plus(HALF_A_YEAR)));
        candidates.extend(
            ends.iter()
                .flat_map(|end| [end.plus(-A_WEEK), *end])
                .flat_map(|from| between.edges(from)),
        );
    }
    let mut seen = BTreeSet::new();
    candidates.retain(|at| {
        let holds: Vec<bool> = times.iter().map(|between| between.holds(*at)).collect();
        let ended: Vec<bool> = ends.iter().map(|end| at >= end).collect();
        seen.insert((holds, ended))
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_address_for_every_part_of_the_space() {
        let networks = |list: &[&str]| {
            list.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<IpNet>>()
        };
        for (list, parts) in [
            (&[][..], 1),
            (&["10.0.0.0/8"], 2),
            (&["10.0.0.0/8", "10.0.0.0/16"], 3),
            (&["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9"], 3),
            (&["0.0.0.0/0"], 2),
            (&["0.0.0.0/0", "255.255.255.255/32", "0.0.0.0/32"], 4),
            (&["2001:db8::/32", "10.0.0.0/8"], 3),
        ] {
            let found = addresses(&networks(list));
            assert_eq!(found.len(), parts, "{list:?}: {found:?}");
        }
    }
}
