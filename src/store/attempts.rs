//! Attempts to authenticate: wrong ones count across restarts, and the places of successful
//! sign-ins are remembered.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::audit::AuditRecord;
use super::{Store, StoreFault, engine};
use crate::names::{Timestamp, hex};

/// How long a wrong attempt counts, seconds.
pub const WINDOW_SECONDS: i64 = 15 * 60;
/// Wrong attempts allowed on one name from one place in that time.
pub const MAX_PER_NAME: usize = 5;
/// Wrong attempts allowed from one place over all names.
pub const MAX_PER_PLACE: usize = 50;
/// How long a sign-in of a name from an address is remembered, seconds.
pub const KNOWN_SECONDS: i64 = 30 * 86_400;
/// How far the clock of another gateway may be ahead, seconds.
const MAX_AHEAD_SECONDS: i64 = 60;
/// Prefix of the subject of a sign-in.
const KNOWN: &str = "known ";

/// The kind of name that is guessed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// A client's secret.
    Client,
    /// A user's password.
    User,
    /// A code of the login provider.
    Code,
    /// An administrator's password.
    Administrator,
}

impl Account {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Client, Self::User, Self::Code, Self::Administrator];

    /// Its label in the store and in messages.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::User => "user",
            Self::Code => "code",
            Self::Administrator => "administrator",
        }
    }
}

/// A short key for a name, which may be of any length and secret-like: the beginning of its
/// SHA-256.
#[must_use]
pub fn digest_of(name: &str) -> String {
    use sha2::{Digest, Sha256};
    hex(Sha256::digest(name.as_bytes()).get(..16).unwrap_or_default())
}

/// The subjects that one attempt counts for: its place, and the name together with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    place: String,
    name: String,
    known: String,
}

impl Subjects {
    /// The subjects of an attempt on a name, from an address or browser.
    #[must_use]
    pub fn new(account: Account, name: &str, place: &str) -> Self {
        let name = format!("{}{place}", Self::beginning(account, name));
        Self {
            place: format!("{} {place}", account.label()),
            known: format!("{KNOWN}{name}"),
            name,
        }
    }

    /// The prefix of a name's subjects, for all places.
    #[must_use]
    pub fn beginning(account: Account, name: &str) -> String {
        format!("{} {} ", account.label(), digest_of(name))
    }

    /// The subjects of wrong attempts, each with its limit.
    pub fn limits(&self) -> impl Iterator<Item = (&str, usize)> {
        [(self.place.as_str(), MAX_PER_PLACE), (self.name.as_str(), MAX_PER_NAME)].into_iter()
    }

    /// The same, as stored.
    #[must_use]
    pub fn counted(&self) -> Vec<String> {
        vec![self.place.clone(), self.name.clone()]
    }

    /// The subject of a sign-in.
    #[must_use]
    pub fn known(&self) -> &str {
        &self.known
    }
}

/// A stored attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its subject.
    pub subject: String,
    /// Its time.
    pub at: Timestamp,
}

/// The parts of a wrong attempt's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The kind of name.
    pub account: &'a str,
    /// The digest of the name; `None` for all attempts from the place.
    pub digest: Option<&'a str>,
    /// The address or browser.
    pub place: &'a str,
}

impl Attempt {
    /// Whether it is a successful sign-in, not a wrong attempt.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.subject.starts_with(KNOWN)
    }

    /// How long it still counts. A time further ahead than the clocks of gateways may differ does
    /// not count: after each start it would count for a whole window again.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Duration {
        let whole = if self.is_known() { KNOWN_SECONDS } else { WINDOW_SECONDS };
        if self.at.0.saturating_sub(now.0) > MAX_AHEAD_SECONDS {
            return Duration::ZERO;
        }
        let left = self.at.0.saturating_add(whole).saturating_sub(now.0);
        Duration::from_secs(left.clamp(0, whole).unsigned_abs())
    }

    /// The parts of a wrong attempt.
    #[must_use]
    pub fn named(&self) -> Option<Named<'_>> {
        if self.is_known() {
            return None;
        }
        let (account, rest) = self.subject.split_once(' ')?;
        Some(match rest.split_once(' ') {
            Some((digest, place)) => Named { account, digest: Some(digest), place },
            None => Named { account, digest: None, place: rest },
        })
    }
}

/// Which attempts to clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// Those on a name, from any place.
    Name(Account, String),
    /// Those from an address, for any name, and those from a network that contains it.
    Place(String),
    /// All of them.
    All,
}

impl Cleared {
    /// Whether a subject is cleared. Successful sign-ins never are.
    #[must_use]
    pub fn covers(&self, subject: &str) -> bool {
        let of_account = Account::ALL.iter().any(|account| {
            subject.strip_prefix(account.label()).is_some_and(|rest| rest.starts_with(' '))
        });
        of_account
            && match self {
                Self::Name(account, name) => {
                    subject.starts_with(&Subjects::beginning(*account, name))
                }
                Self::Place(place) => {
                    subject.rsplit(' ').next().is_some_and(|of| of == place || is_in(place, of))
                }
                Self::All => true,
            }
    }
}

/// Whether an address is in a network.
fn is_in(address: &str, network: &str) -> bool {
    let (Ok(network), Ok(address)) = (network.parse::<IpNet>(), address.parse()) else {
        return false;
    };
    network.contains::<&IpAddr>(&address)
}

impl Store {
    /// Stores an attempt for these subjects until it no longer counts.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn note_attempts(
        &self,
        subjects: Vec<String>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        engine!(self, await note_attempts(subjects, at, expires))
    }

    /// The attempts that still count, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn attempts(&self, now: Timestamp) -> Result<Vec<Attempt>, StoreFault> {
        engine!(self, attempts(now))
    }

    /// Deletes wrong attempts and notifies all gateways; returns their number.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn clear_attempts(
        &self,
        cleared: &Cleared,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<usize, StoreFault> {
        engine!(self, await clear_attempts(cleared, now, record))
    }

    /// The same, blocking.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn clear_attempts_now(
        &self,
        cleared: &Cleared,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<usize, StoreFault> {
        engine!(self, clear_attempts_now(cleared, now, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cleared_is_what_was_named_and_no_sign_in() {
        let subjects = Subjects::new(Account::Client, "crm", "10.0.0.1");
        let name = Cleared::Name(Account::Client, "crm".to_owned());
        let place = Cleared::Place("10.0.0.1".to_owned());
        let [of_place, of_name] = <[String; 2]>::try_from(subjects.counted()).unwrap();
        for (cleared, subject, covers) in [
            (&name, of_name.as_str(), true),
            (&name, of_place.as_str(), false),
            (&place, of_name.as_str(), true),
            (&place, of_place.as_str(), true),
            (&place, "client 110.0.0.1", false),
            (&place, "client abc 10.0.0.0/16", true),
            (&place, "client 10.1.0.0/16", false),
            (&place, "user 10.0.0.1", true),
            (&Cleared::All, of_place.as_str(), true),
            (&Cleared::All, subjects.known(), false),
            (&place, subjects.known(), false),
            (&name, subjects.known(), false),
            (&Cleared::Name(Account::User, "crm".to_owned()), of_name.as_str(), false),
        ] {
            assert_eq!(cleared.covers(subject), covers, "{cleared:?} {subject}");
        }
    }

    #[test]
    fn a_clock_that_jumped_makes_no_attempt_count_longer_than_its_window() {
        let attempt = |at| Attempt { subject: "client 10.0.0.1".to_owned(), at: Timestamp(at) };
        for (at, now, left) in [
            (100, 100, 900),
            (100, 400, 600),
            (100, 1_000, 0),
            (11_000, 200, 0),
            (100, 50, 900),
            (161, 100, 0),
        ] {
            assert_eq!(attempt(at).left(Timestamp(now)).as_secs(), left, "{at} {now}");
        }
        let known = Attempt { subject: "known user abc 10.0.0.1".to_owned(), at: Timestamp(0) };
        assert_eq!(known.left(Timestamp(0)).as_secs(), 30 * 86_400);
    }
}
