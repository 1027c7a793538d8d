//! Users that are made at their first login at the login provider. They are rows of the store; what
//! is known of them is kept in memory, and judged like that of users of the YAML.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{ExternalIdentity, User};
use crate::names::{Origin, RoleName, Timestamp, UserName};

/// What their names begin with, and no name of the YAML.
pub const PREFIX: char = '~';
/// How many users are made at most, unless the configuration says otherwise.
pub const MAX_USERS: u32 = 10_000;
/// Longest name for people, in characters.
const MAX_DISPLAY_NAME: usize = 128;
/// Longest part of a name that says which provider it is of, in characters.
const MAX_PROVIDER: usize = 64;
/// Characters of the digest in a name: 132 bits.
const DIGEST_LENGTH: usize = 22;

/// A user made at login, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeUser {
    /// The name, which [`name_of`] gives.
    pub name: UserName,
    /// Issuer and subject: what the user is found by, and nothing else.
    pub identity: ExternalIdentity,
    /// Name for people.
    pub display_name: Option<String>,
    /// Values of the roles claim at the last login, as far as they had a role then.
    pub groups: Vec<String>,
    /// Locked out by command.
    pub locked: bool,
    /// The first login.
    pub made: Timestamp,
    /// The last login.
    pub signed_in: Timestamp,
    /// Removed by command while locked: only the lock is left.
    pub removed: bool,
}

/// What a user made at login has besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeAtLogin {
    /// Values of the roles claim, which the registry maps.
    pub groups: Vec<String>,
    /// The last login.
    pub signed_in: Timestamp,
}

/// How the login provider's users become users here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Claims of the ID token with the groups; the first that is present counts.
    pub roles_claim: Vec<String>,
    /// Roles by group.
    pub roles: HashMap<String, RoleName>,
    /// Claims that a user must have, each with one of these values.
    pub require: Vec<(String, Vec<String>)>,
    /// How many users there are at most.
    pub max_users: u32,
}

/// The name of the user with an identity: `~`, the provider, and a digest of issuer and subject. It
/// has nothing of what the provider says of the user, so nobody can choose it.
#[must_use]
pub fn name_of(identity: &ExternalIdentity) -> UserName {
    let mut hash = Sha256::new();
    hash.update((identity.issuer.len() as u64).to_be_bytes());
    hash.update(&identity.issuer);
    hash.update(&identity.subject);
    let digest = URL_SAFE_NO_PAD.encode(hash.finalize());
    let digest = digest.get(..DIGEST_LENGTH).unwrap_or_default();
    UserName::new(&format!("{PREFIX}{}/{digest}", provider_of(&identity.issuer)))
}

/// The host of an issuer, as a name can have it.
fn provider_of(issuer: &str) -> String {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    host.chars().filter(plain).take(MAX_PROVIDER).collect()
}

/// A name for people out of a claim: one that is too long, or has characters that do not show or
/// that turn others around, is none.
#[must_use]
pub fn display_name(said: &str) -> Option<String> {
    let said = said.trim();
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let fits = !said.is_empty() && said.chars().count() <= MAX_DISPLAY_NAME;
    (fits && !said.chars().any(hidden)).then(|| said.to_owned())
}

impl MadeUser {
    /// The user that it is here.
    #[must_use]
    fn user(self) -> User {
        User {
            name: self.name,
            display_name: self.display_name,
            password: None,
            active: true,
            locked: self.locked,
            roles: std::collections::HashSet::new(),
            origin: Origin::default(),
            external: vec![self.identity],
            made: Some(MadeAtLogin { groups: self.groups, signed_in: self.signed_in }),
        }
    }
}

/// Users made at login, as far as this process knows them.
#[derive(Debug, Default)]
pub struct MadeUsers(RwLock<HashMap<UserName, Arc<User>>>);

impl MadeUsers {
    /// With all that the store has.
    #[must_use]
    pub fn new(all: Vec<MadeUser>) -> Self {
        let users = Self::default();
        users.replace(all);
        users
    }

    /// A user by name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Takes in what the store has of one now.
    pub fn put(&self, user: MadeUser) {
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if user.removed {
            users.remove(&user.name);
        } else {
            users.insert(user.name.clone(), Arc::new(user.user()));
        }
    }

    /// Forgets one that the store has no more.
    pub fn forget(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Takes in all that the store has.
    pub fn replace(&self, all: Vec<MadeUser>) {
        let users = all.into_iter().filter(|user| !user.removed);
        let users = users.map(|user| (user.name.clone(), Arc::new(user.user()))).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = users;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(issuer: &str, subject: &str) -> ExternalIdentity {
        ExternalIdentity { issuer: issuer.to_owned(), subject: subject.to_owned() }
    }

    #[test]
    fn a_name_is_that_of_one_identity_and_nobody_chooses_it() {
        let name = name_of(&identity("https://login.corp.example/t", "alice"));
        assert_eq!(name.as_str().len(), "~login.corp.example/".len() + DIGEST_LENGTH);
        assert!(name.as_str().starts_with("~login.corp.example/"), "{name}");
        for other in [
            identity("https://login.corp.example/t", "Alice"),
            identity("https://login.corp.example/t", "аlice"),
            identity("https://login.corp.example/", "talice"),
            identity("https://login.corp.example/ta", "lice"),
        ] {
            assert_ne!(name_of(&other), name, "{other:?}");
        }
        let long = name_of(&identity(&format!("https://{}.example", "a".repeat(300)), "\u{0}\n😀"));
        assert!(long.as_str().len() <= 128 && long.as_str().is_ascii(), "{long}");
    }

    #[test]
    fn a_name_for_people_shows_as_it_is_or_not_at_all() {
        assert_eq!(display_name(" Zoë Müller ").as_deref(), Some("Zoë Müller"));
        assert_eq!(display_name(&"ü".repeat(128)), Some("ü".repeat(128)));
        for hostile in
            ["", "  ", "a\u{0}b", "a\nb", "a\u{1b}[2Jb", "a\u{202e}b", "a\u{200b}b", "\u{feff}a"]
        {
            assert_eq!(display_name(hostile), None, "{hostile:?}");
        }
        assert_eq!(display_name(&"x".repeat(129)), None);
        assert_eq!(display_name(&"x".repeat(10_000)), None);
    }

    #[test]
    fn one_that_was_removed_is_nobody() {
        let made = |name: &str, removed| MadeUser {
            name: UserName::new(name),
            identity: identity("https://a.example", name),
            display_name: None,
            groups: Vec::new(),
            locked: removed,
            made: Timestamp(1),
            signed_in: Timestamp(1),
            removed,
        };
        let users = MadeUsers::new(vec![made("~a/1", false), made("~a/2", true)]);
        assert!(users.user("~a/1").is_some() && users.user("~a/2").is_none());
        users.put(made("~a/1", true));
        assert!(users.user("~a/1").is_none());
        users.put(made("~a/1", false));
        users.forget("~a/1");
        assert!(users.user("~a/1").is_none());
    }
}
