//! A queue that is fair to addresses: one of many that has much to ask waits for itself, and
//! whoever comes new waits for one turn of each of the others at most. Of IPv6 a /48 is one party,
//! and each /64 in it has its share of that.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use crate::request::address::site;

/// Jobs that may wait in all.
const MAX: usize = 1_024;

/// Jobs in rings: each turn goes to the next party of addresses, in it to the next place, and there
/// to the oldest job. A place (an address, or an owner at one) has so many waiting at most.
#[derive(Debug)]
pub(super) struct FairQueue<J> {
    most: usize,
    groups: Ring<Option<IpAddr>, Ring<String, VecDeque<J>>>,
    length: usize,
}

/// What became of a job that was to be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put<J> {
    /// It waits.
    Waits,
    /// It waits, in the place of this one of a party that has more waiting than anybody.
    InPlaceOf(J),
    /// Its place has as many waiting as it may have.
    Full(J),
}

/// Values by key, and whose turn is next.
#[derive(Debug)]
struct Ring<K, V> {
    order: VecDeque<K>,
    values: HashMap<K, V>,
}

impl<K, V> Default for Ring<K, V> {
    fn default() -> Self {
        Self { order: VecDeque::new(), values: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Ring<K, V> {
    fn entry(&mut self, key: K) -> &mut V {
        self.values.entry(key).or_insert_with_key(|key| {
            self.order.push_back(key.clone());
            V::default()
        })
    }

    /// The first value in turn of which something can be taken; its key goes to the end, or away
    /// where nothing is left of it.
    fn take<T>(
        &mut self,
        mut take: impl FnMut(&mut V) -> Option<T>,
        is_empty: impl Fn(&V) -> bool,
    ) -> Option<T> {
        for at in 0..self.order.len() {
            let Some(value) = self.values.get_mut(self.order.get(at)?) else { continue };
            if let Some(taken) = take(value) {
                let key = self.order.remove(at)?;
                if is_empty(value) {
                    self.values.remove(&key);
                } else {
                    self.order.push_back(key);
                }
                return Some(taken);
            }
        }
        None
    }
}

impl<J> FairQueue<J> {
    /// An empty one, with this many jobs of a place at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, groups: Ring::default(), length: 0 }
    }

    /// Puts a job in.
    pub(super) fn put(&mut self, address: Option<IpAddr>, place: String, job: J) -> Put<J> {
        let group = address.map(party);
        let places = self.groups.values.get(&group);
        let waiting = places.and_then(|places| places.values.get(&place)).map_or(0, VecDeque::len);
        if waiting >= self.most {
            return Put::Full(job);
        }
        let dropped = if self.length < MAX {
            None
        } else {
            match self.drop_of_largest(waiting) {
                Some(dropped) => Some(dropped),
                None => return Put::Full(job),
            }
        };
        self.groups.entry(group).entry(place).push_back(job);
        self.length += 1;
        dropped.map_or(Put::Waits, Put::InPlaceOf)
    }

    /// The youngest job of the place with most of them, if these are more than `than` and one.
    fn drop_of_largest(&mut self, than: usize) -> Option<J> {
        let places = self.groups.values.values_mut().flat_map(|places| places.values.values_mut());
        let jobs = places.max_by_key(|jobs| jobs.len()).filter(|jobs| jobs.len() > than + 1)?;
        let dropped = jobs.pop_back();
        self.length -= usize::from(dropped.is_some());
        dropped
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// The next job in turn that is ready.
    pub(super) fn take(&mut self, mut is_ready: impl FnMut(&J) -> bool) -> Option<J> {
        let of_site = |jobs: &mut VecDeque<J>, is_ready: &mut dyn FnMut(&J) -> bool| {
            let at = jobs.iter().position(is_ready)?;
            jobs.remove(at)
        };
        let taken = self.groups.take(
            |sites| sites.take(|jobs| of_site(jobs, &mut is_ready), VecDeque::is_empty),
            |sites| sites.values.is_empty(),
        )?;
        self.length -= 1;
        Some(taken)
    }
}

/// What one party may hold of addresses: one of IPv4, a /48 of IPv6 (RFC 6177 §2).
fn party(address: IpAddr) -> IpAddr {
    match site(address) {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 80 << 80)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    const MOST: usize = 10;

    /// Each address is a place.
    fn put<J>(queue: &mut FairQueue<J>, address: Option<IpAddr>, job: J) -> Put<J> {
        queue.put(address, format!("{:?}", address.map(site)), job)
    }

    fn order(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.take(|_| true)).collect()
    }

    #[test]
    fn addresses_take_turns_whatever_each_has_waiting() {
        let mut queue = FairQueue::new(MOST);
        for (address, job) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2"), (3, "c1")] {
            assert_eq!(put(&mut queue, Some(v4(address)), job), Put::Waits);
        }
        assert_eq!(queue.take(|_| true), Some("a1"));
        assert_eq!(put(&mut queue, Some(v4(4)), "d1"), Put::Waits);
        assert_eq!(order(&mut queue), ["b1", "c1", "a2", "d1", "b2", "a3"]);
        assert!(
            queue.groups.order.is_empty() && queue.groups.values.is_empty() && queue.length == 0
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_party_however_many_addresses_it_asks_from() {
        let address =
            |net: u16, host: u16| Some(IpAddr::from([0x2001, 0xdb8, net, host, 0, 0, 0, host]));
        let mut queue = FairQueue::new(MOST);
        for (address, job) in [
            (address(1, 1), "a1"),
            (address(1, 2), "a2"),
            (address(1, 3), "a3"),
            (address(1, 1), "a4"),
            (Some(v4(9)), "b1"),
            (None, "c1"),
            (Some(v4(9)), "b2"),
        ] {
            assert_eq!(put(&mut queue, address, job), Put::Waits);
        }
        assert_eq!(order(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }

    #[test]
    fn a_job_that_is_not_ready_lets_others_by_and_keeps_its_place() {
        let mut queue = FairQueue::new(MOST);
        for (address, job) in [(1, "a1"), (1, "a2"), (2, "b1")] {
            put(&mut queue, Some(v4(address)), job);
        }
        assert_eq!(queue.take(|job| *job != "a1"), Some("a2"));
        assert_eq!(queue.take(|job| *job == "none"), None);
        assert_eq!(order(&mut queue), ["b1", "a1"]);
    }

    #[test]
    fn a_full_queue_makes_room_for_those_who_have_less_waiting() {
        let mut queue = FairQueue::new(MOST);
        for at in 0..MOST {
            assert_eq!(put(&mut queue, Some(v4(1)), at), Put::Waits);
        }
        assert_eq!(put(&mut queue, Some(v4(1)), 99), Put::Full(99));
        for at in 0..MAX - MOST {
            let address = Some(IpAddr::from([
                10,
                1,
                u8::try_from(at / 250).unwrap(),
                u8::try_from(at % 250).unwrap(),
            ]));
            assert_eq!(put(&mut queue, address, 1_000 + at), Put::Waits);
        }
        assert_eq!(put(&mut queue, Some(v4(2)), 100), Put::InPlaceOf(MOST - 1));
        // One with as many waiting as anybody is not let in for another.
        for _ in 0..MOST - 2 {
            assert!(matches!(put(&mut queue, Some(v4(3)), 101), Put::InPlaceOf(_) | Put::Full(_)));
        }
        assert_eq!(queue.length, MAX);
        let sites = queue.groups.values.values().flat_map(|sites| sites.values.values());
        assert!(sites.map(VecDeque::len).max() <= Some(MOST));
    }
}
