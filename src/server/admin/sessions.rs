//! Sessions of administrators: in memory, so that none outlives the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::system::random;

/// How long a session lasts, and how long it may be idle.
const MAX_AGE: Duration = Duration::from_secs(12 * 3600);
const MAX_IDLE: Duration = Duration::from_secs(30 * 60);
/// Sessions at once; the one idle for longest makes room.
const MAX_SESSIONS: usize = 1_000;

/// Random bytes of a session and of its form token.
const RANDOM: usize = 32;

type Key = [u8; 32];

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The administrator.
    pub name: Arc<str>,
    /// The proof that was signed in with: with another one the session ends.
    pub proof: [u8; 32],
    /// The token that every form and every act has to show.
    pub form_token: Arc<str>,
    began: Instant,
    used: Instant,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Key, Session>>);

fn random_text() -> Option<String> {
    let mut bytes = [0_u8; RANDOM];
    random::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

fn key(value: &str) -> Key {
    Sha256::digest(value.as_bytes()).into()
}

impl Sessions {
    /// Begins a session; gives the value of its cookie. `None` without randomness.
    pub(super) fn begin(&self, name: Arc<str>, proof: [u8; 32]) -> Option<String> {
        let (value, form_token) = (random_text()?, random_text()?);
        let now = Instant::now();
        let session = Session { name, proof, form_token: form_token.into(), began: now, used: now };
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.is_alive(now));
        if sessions.len() >= MAX_SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        sessions.insert(key(&value), session);
        Some(value)
    }

    /// The session of a cookie, which is in use from now on.
    pub(super) fn find(&self, value: &str) -> Option<Session> {
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&key(value)).filter(|session| session.is_alive(now))?;
        session.used = now;
        Some(session.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, value: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(value));
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) < MAX_AGE
            && now.saturating_duration_since(self.used) < MAX_IDLE
    }

    /// Whether this is its form token.
    #[must_use]
    pub(super) fn has_sent(&self, token: &str) -> bool {
        token.as_bytes().ct_eq(self.form_token.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_ends_is_idle_or_too_old() {
        let sessions = Sessions::default();
        let value = sessions.begin("anna".into(), [7; 32]).unwrap();
        let session = sessions.find(&value).unwrap();
        assert_eq!((&*session.name, session.proof), ("anna", [7; 32]));
        assert!(session.has_sent(&session.form_token) && !session.has_sent(""));
        assert!(sessions.find("").is_none() && sessions.find(&session.form_token).is_none());
        let later = |idle: Duration, age: Duration| {
            let now = Instant::now() + age;
            Session { used: now.checked_sub(idle).unwrap(), ..session.clone() }.is_alive(now)
        };
        assert!(later(Duration::from_secs(60), Duration::from_secs(3600)));
        assert!(!later(MAX_IDLE, Duration::from_secs(3600)));
        assert!(!later(Duration::ZERO, MAX_AGE));
        sessions.end(&value);
        assert!(sessions.find(&value).is_none());
    }

    #[test]
    fn the_one_that_is_idle_for_longest_makes_room() {
        let sessions = Sessions::default();
        let first = sessions.begin("a".into(), [0; 32]).unwrap();
        let second = sessions.begin("b".into(), [0; 32]).unwrap();
        sessions.find(&first).unwrap();
        for _ in 0..MAX_SESSIONS - 1 {
            sessions.begin("c".into(), [0; 32]).unwrap();
        }
        assert!(sessions.find(&second).is_none());
        assert!(sessions.find(&first).is_some());
    }
}
