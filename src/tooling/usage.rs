//! Use of the configured rights, counted by client, API, operation and day. The counters come from
//! the store; findings and the console read them here.
//!
//! Owns the form of the counters and their sums; knows nothing of how they are kept.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::names::Timestamp;

/// Seconds of a day.
const DAY_SECONDS: i64 = 86_400;

/// A day in UTC: days since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

impl Day {
    /// The day of a time.
    #[must_use]
    pub const fn of(at: Timestamp) -> Self {
        Self(at.0.div_euclid(DAY_SECONDS))
    }

    /// Its first second.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(DAY_SECONDS))
    }

    /// The day so many days earlier.
    #[must_use]
    pub const fn before(self, days: i64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// As `YYYY-MM-DD`.
    #[must_use]
    pub fn text(self) -> String {
        let text = super::moment(self.start());
        text.split_once('T').map_or(String::new(), |(date, _)| date.to_owned())
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// Operations of our own endpoints: the API of their counters is empty.
pub mod own {
    /// Requests to the token endpoint.
    pub const TOKENS: &str = "tokens";
    /// Refresh tokens that were used a second time (RFC 9700 §4.14.2).
    pub const REFRESH_REPLAY: &str = "refresh_replay";
    /// Requests of a client that is not active.
    pub const INACTIVE: &str = "inactive";
}

/// The operation of counters for which there was no more room of their own.
pub const OTHER: &str = "other";

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subject {
    /// The client id; empty where no client is known.
    pub client: String,
    /// The API; empty for our own endpoints.
    pub api: String,
    /// Method and resource, as in the metrics; [`own`] and [`OTHER`] have further ones.
    pub operation: String,
}

/// Numbers of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Permitted.
    pub permitted: u64,
    /// Refused.
    pub refused: u64,
    /// Of the permitted ones, those that acted for a user.
    pub for_users: u64,
    /// Of the permitted ones, those that shadow rules would have refused.
    pub shadow_refused: u64,
}

impl Counts {
    /// The sum with others.
    pub const fn add(&mut self, other: Self) {
        self.permitted = self.permitted.saturating_add(other.permitted);
        self.refused = self.refused.saturating_add(other.refused);
        self.for_users = self.for_users.saturating_add(other.for_users);
        self.shadow_refused = self.shadow_refused.saturating_add(other.shadow_refused);
    }

    /// All requests.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.permitted.saturating_add(self.refused)
    }
}

/// The counters of one subject and day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was counted.
    #[serde(flatten)]
    pub subject: Subject,
    /// The day.
    pub day: Day,
    /// How often.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Use of one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretUse {
    /// The client.
    pub client: String,
    /// The secret: the beginning of its digest, as the store has it.
    pub secret: String,
    /// The day on which it last proved its client.
    pub last: Day,
    /// About how many networks (/24, /48) it was used from; none where that is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<u32>,
}

/// A small sketch of the networks that something came from: which of 64 groups they fall into. No
/// address can be read out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkSketch(pub u64);

impl NetworkSketch {
    /// The time that one sketch is for, days: networks of long ago do not add up.
    const PERIOD_DAYS: i64 = 30;

    /// The number of the time that a day is in.
    #[must_use]
    pub const fn period(day: Day) -> i64 {
        day.0.div_euclid(Self::PERIOD_DAYS)
    }

    /// The group of the network of an address: its /24 or, of IPv6, its /48.
    #[must_use]
    pub fn group(address: IpAddr) -> u8 {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits() >> 8),
            IpAddr::V6(address) => address.to_bits() >> 80 | 1 << 127,
        };
        let digest = Sha256::digest(network.to_be_bytes());
        digest.first().copied().unwrap_or_default() % 64
    }

    /// Adds a group; whether it is a new one.
    pub const fn add(&mut self, group: u8) -> bool {
        let bit = 1 << (group % 64);
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }

    /// About how many networks there were, by linear counting; more than some two hundred cannot be
    /// told apart.
    #[must_use]
    pub fn estimate(self) -> u32 {
        // 64 · ln(64 / empty groups), rounded.
        const ESTIMATES: [u32; 65] = [
            266, 266, 222, 196, 177, 163, 151, 142, 133, 126, 119, 113, 107, 102, 97, 93, 89, 85,
            81, 78, 74, 71, 68, 65, 63, 60, 58, 55, 53, 51, 48, 46, 44, 42, 40, 39, 37, 35, 33, 32,
            30, 28, 27, 25, 24, 23, 21, 20, 18, 17, 16, 15, 13, 12, 11, 10, 9, 7, 6, 5, 4, 3, 2, 1,
            0,
        ];
        let empty = usize::try_from(self.0.count_zeros()).unwrap_or(0);
        ESTIMATES.get(empty).copied().unwrap_or(0)
    }
}

/// The sums of one subject over all days that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How often.
    #[serde(flatten)]
    pub counts: Counts,
    /// The last day with a permitted request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_permitted: Option<Day>,
    /// The last day with any request.
    pub last: Day,
}

/// All that is known of the use of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The first day that was counted; none if nothing was counted, which says nothing of use.
    pub since: Option<Day>,
    /// Sums by subject.
    pub sums: BTreeMap<Subject, Sum>,
    /// Secrets.
    pub secrets: Vec<SecretUse>,
}

impl Observed {
    /// The sums of rows, in any order. `since` is the first day on which anything was counted,
    /// whether or not its rows are among these.
    #[must_use]
    pub fn of(
        since: Option<Day>,
        rows: impl IntoIterator<Item = Row>,
        secrets: Vec<SecretUse>,
    ) -> Self {
        let mut observed = Self { since, sums: BTreeMap::new(), secrets };
        rows.into_iter().for_each(|row| observed.add(&row));
        observed
    }

    /// Adds a row.
    pub fn add(&mut self, row: &Row) {
        let sum = match self.sums.get_mut(&row.subject) {
            Some(sum) => sum,
            None => self.sums.entry(row.subject.clone()).or_insert(Sum {
                counts: Counts::default(),
                last_permitted: None,
                last: row.day,
            }),
        };
        sum.counts.add(row.counts);
        sum.last = sum.last.max(row.day);
        if row.counts.permitted > 0 {
            sum.last_permitted = sum.last_permitted.max(Some(row.day));
        }
    }

    /// The subjects of a client, with their sums.
    pub fn of_client(&self, client: &str) -> impl Iterator<Item = (&Subject, &Sum)> {
        let first =
            Subject { client: client.to_owned(), api: String::new(), operation: String::new() };
        let client = client.to_owned();
        self.sums.range(first..).take_while(move |(subject, _)| subject.client == client)
    }

    /// The sum of one of our own endpoints' counters ([`own`]) for a client.
    #[must_use]
    pub fn own(&self, client: &str, operation: &str) -> Option<&Sum> {
        let (client, operation) = (client.to_owned(), operation.to_owned());
        self.sums.get(&Subject { client, api: String::new(), operation })
    }

    /// The sum of a client's requests to APIs.
    #[must_use]
    pub fn calls(&self, client: &str) -> Option<Sum> {
        let mut calls: Option<Sum> = None;
        for (_, sum) in self.of_client(client).filter(|(subject, _)| !subject.api.is_empty()) {
            match &mut calls {
                None => calls = Some(*sum),
                Some(calls) => {
                    calls.counts.add(sum.counts);
                    calls.last = calls.last.max(sum.last);
                    calls.last_permitted = calls.last_permitted.max(sum.last_permitted);
                }
            }
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(client: &str, api: &str, operation: &str, day: i64, permitted: u64) -> Row {
        let subject =
            Subject { client: client.into(), api: api.into(), operation: operation.into() };
        let counts = Counts { permitted, refused: 1, ..Counts::default() };
        Row { subject, day: Day(day), counts }
    }

    #[test]
    fn a_day_has_its_date_and_its_first_second() {
        for (at, day, text) in
            [(0, 0, "1970-01-01"), (86_399, 0, "1970-01-01"), (1_796_083_200, 20_788, "2026-12-01")]
        {
            assert_eq!((Day::of(Timestamp(at)), Day(day).text().as_str()), (Day(day), text));
        }
        assert_eq!(Day::of(Timestamp(-1)), Day(-1));
        assert_eq!(Day(20_788).start(), Timestamp(1_796_083_200));
    }

    #[test]
    fn a_sketch_counts_networks_about_right_and_not_addresses() {
        for networks in [0_u8, 1, 5, 20, 60] {
            let mut sketch = NetworkSketch::default();
            for address in (0..networks).flat_map(|net| [[10, 1, net, 1], [10, 1, net, 200]]) {
                sketch.add(NetworkSketch::group(IpAddr::from(address)));
            }
            let (least, most) = (u32::from(networks) * 3 / 4, u32::from(networks) * 5 / 4 + 1);
            let estimate = sketch.estimate();
            assert!((least..=most).contains(&estimate), "{networks}: {estimate}");
        }
        let mut sketch = NetworkSketch::default();
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert!(sketch.add(NetworkSketch::group(mapped)));
        assert!(!sketch.add(NetworkSketch::group("10.1.2.77".parse().unwrap())));
        assert_eq!(NetworkSketch(u64::MAX).estimate(), 266);
        assert_eq!(NetworkSketch::period(Day(29)), 0);
        assert_eq!(NetworkSketch::period(Day(30)), 1);
    }

    #[test]
    fn rows_add_up_by_client_and_a_client_is_no_other_whose_name_begins_alike() {
        let rows = [
            row("crm", "a", "GET /x", 3, 2),
            row("crm", "a", "GET /x", 5, 0),
            row("crm", "b", "GET /y", 4, 7),
            row("crm", "", own::TOKENS, 9, 1),
            row("crm2", "a", "GET /x", 8, 100),
        ];
        let observed = Observed::of(Some(Day(1)), rows, Vec::new());
        let calls = observed.calls("crm").unwrap();
        assert_eq!((calls.counts.permitted, calls.counts.refused), (9, 3));
        assert_eq!((calls.last, calls.last_permitted), (Day(5), Some(Day(4))));
        assert_eq!(observed.own("crm", own::TOKENS).unwrap().last, Day(9));
        assert_eq!(observed.own("crm2", own::TOKENS), None);
        assert_eq!(observed.calls("cr"), None);
    }
}
