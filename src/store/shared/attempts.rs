//! Attempts to authenticate.

use serde_json::json;

use super::{Shared, arguments, key};
use crate::names::{Timestamp, hex};
use crate::store::StoreFault;
use crate::store::attempts::{Attempt, Cleared};
use crate::store::audit::AuditRecord;
use crate::system::random;

impl Shared {
    pub(in crate::store) async fn note_attempts(
        &self,
        subjects: Vec<String>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        let mut random = [0_u8; 8];
        random::fill(&mut random).map_err(|_| self.fault("no randomness".to_owned()))?;
        let unique = hex(&random);
        self.run(move |mut link| async move {
            let mut add = redis::cmd("ZADD");
            add.arg(key("failures"));
            for subject in &subjects {
                add.arg(expires.0).arg(format!("{} {unique} {subject}", at.0));
            }
            link.ask(&add).await
        })
        .await
    }

    pub(in crate::store) fn attempts(&self, now: Timestamp) -> Result<Vec<Attempt>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let mut attempts: Vec<Attempt> =
                store.members(now).await?.iter().filter_map(|member| attempt(member)).collect();
            attempts.sort_by_key(|attempt| attempt.at);
            Ok(attempts)
        })
    }

    pub(in crate::store) async fn clear_attempts(
        &self,
        cleared: &Cleared,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<usize, StoreFault> {
        let members = self.members(now).await?;
        let covered = |member: &String| {
            attempt(member).is_some_and(|attempt| cleared.covers(&attempt.subject))
        };
        let covered: Vec<String> = members.into_iter().filter(covered).collect();
        let count = covered.len();
        let arguments = arguments![json!(covered), now];
        self.change_recorded::<i64>(record.as_ref(), "clear_attempts", arguments).await?;
        Ok(count)
    }

    pub(in crate::store) fn clear_attempts_now(
        &self,
        cleared: &Cleared,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<usize, StoreFault> {
        let (store, cleared) = (self.clone(), cleared.clone());
        self.wait(async move { store.clear_attempts(&cleared, now, record).await })
    }

    async fn members(&self, now: Timestamp) -> Result<Vec<String>, StoreFault> {
        self.run(move |mut link| async move {
            link.ask(
                redis::cmd("ZRANGEBYSCORE")
                    .arg(key("failures"))
                    .arg(format!("({}", now.0))
                    .arg("+inf"),
            )
            .await
        })
        .await
    }
}

/// Parses a time, a unique part, and the subject.
fn attempt(member: &str) -> Option<Attempt> {
    let mut parts = member.splitn(3, ' ');
    let at = parts.next()?.parse().ok()?;
    Some(Attempt { subject: parts.nth(1)?.to_owned(), at: Timestamp(at) })
}
