//! The counts of wrong attempts, and how finely addresses are told apart. A flood from many
//! addresses must neither fill memory and disk, nor open the door for guesses that are not counted,
//! nor lock out whoever is not near it: clients and users, IPv4 and IPv6 have room of their own,
//! and of IPv6 so has each /48, which is what one party may hold (RFC 6177 §2).

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use crate::request::address::site;
use crate::store::attempts::Account;

/// Names and addresses of one kind that are kept apart: beyond, each /16 of IPv4, or /32 of IPv6,
/// counts as one address.
pub(super) const MAX: usize = 100_000;
/// Names and addresses of one /48 of IPv6: beyond, it counts as one address.
pub(super) const MAX_OF_PARTY: usize = 2_000;

/// The attempts of one subject.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// When each wrong attempt no longer counts, by a clock that nobody sets.
    pub(super) ends: VecDeque<Instant>,
    /// Slow checks under way, which may all turn out wrong.
    pub(super) under_way: usize,
}

/// Counts by subject.
#[derive(Debug, Default)]
pub(super) struct Counts {
    of: HashMap<String, Count>,
    sizes: HashMap<Room, usize>,
}

/// What has room of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Room {
    V4(Account),
    V6(Account),
    Party(Account, Ipv6Addr),
    /// Browsers, and callers without an address.
    Other(Account),
}

impl Counts {
    pub(super) fn get(&self, subject: &str) -> Option<&Count> {
        self.of.get(subject)
    }

    pub(super) fn get_mut(&mut self, subject: &str) -> Option<&mut Count> {
        self.of.get_mut(subject)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Count)> {
        self.of.iter_mut()
    }

    /// The count of a subject, made if there is none.
    pub(super) fn entry(&mut self, subject: &str) -> &mut Count {
        if !self.of.contains_key(subject) {
            for room in rooms(subject) {
                *self.sizes.entry(room).or_default() += 1;
            }
        }
        self.of.entry(subject.to_owned()).or_default()
    }

    /// Forgets what no longer counts.
    pub(super) fn forget(&mut self, clock: Instant) {
        let sizes = &mut self.sizes;
        self.of.retain(|subject, count| {
            let keep = count.under_way > 0 || count.ends.back().is_some_and(|end| *end > clock);
            if !keep {
                for room in rooms(subject) {
                    sizes.entry(room).and_modify(|size| *size = size.saturating_sub(1));
                }
            }
            keep
        });
        sizes.retain(|_, size| *size > 0);
    }

    fn is_full(&self, room: Room, most: usize) -> bool {
        self.sizes.get(&room).is_some_and(|size| *size >= most)
    }

    /// What an address counts as, and whether that is more than itself.
    pub(super) fn place(&self, account: Account, address: IpAddr) -> (String, bool) {
        match site(address) {
            IpAddr::V4(address) if self.is_full(Room::V4(account), MAX) => {
                (format!("{}/16", Ipv4Addr::from_bits(address.to_bits() >> 16 << 16)), true)
            }
            IpAddr::V6(address) if self.is_full(Room::V6(account), MAX) => {
                (format!("{}/32", Ipv6Addr::from_bits(address.to_bits() >> 96 << 96)), true)
            }
            IpAddr::V6(address)
                if self.is_full(Room::Party(account, party(address)), MAX_OF_PARTY) =>
            {
                (format!("{}/48", party(address)), true)
            }
            own @ (IpAddr::V4(_) | IpAddr::V6(_)) => (own.to_string(), false),
        }
    }
}

/// The /48 of an address.
const fn party(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> 80 << 80)
}

/// The rooms that a subject takes of.
fn rooms(subject: &str) -> impl Iterator<Item = Room> {
    let account = Account::ALL.into_iter().find(|account| subject.starts_with(account.label()));
    let account = account.unwrap_or(Account::Code);
    let place = subject.rsplit(' ').next().unwrap_or_default();
    let rooms = match place.split('/').next().unwrap_or_default().parse() {
        Ok(IpAddr::V4(_)) => [Some(Room::V4(account)), None],
        Ok(IpAddr::V6(address)) => {
            [Some(Room::V6(account)), Some(Room::Party(account, party(address)))]
        }
        Err(_) => [Some(Room::Other(account)), None],
    };
    rooms.into_iter().flatten()
}
