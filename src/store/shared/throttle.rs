//! Attempts to authenticate.

use super::sessions::lifetime;
use super::{Shared, arguments, key};
use crate::names::{Timestamp, hex};
use crate::store::StoreFault;

impl Shared {
    pub(in crate::store) async fn use_assertion(
        &self,
        id: String,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<bool, StoreFault> {
        let seconds = lifetime(now, expires).to_string();
        Ok(self.change::<i64>("once", arguments![format!("assertion:{id}"), seconds]).await? == 1)
    }

    pub(in crate::store) async fn record_failures(
        &self,
        subjects: [String; 2],
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(|_| self.fault("no randomness".to_owned()))?;
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

    pub(in crate::store) async fn record_secret_use(
        &self,
        client: String,
        secret: String,
        day: Timestamp,
    ) -> Result<(), StoreFault> {
        let field = format!("{client} {secret}");
        self.operate::<String>("secret_use", arguments![field, day]).await.map(drop)
    }

    pub(in crate::store) fn secret_uses(&self) -> Result<Vec<(String, String, Timestamp)>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let found: Vec<(String, i64)> = store
                .run(|mut link| async move { link.ask(redis::cmd("HGETALL").arg(key("secret_use"))).await })
                .await?;
            let parts = |(field, day): (String, i64)| {
                let (client, secret) = field.split_once(' ')?;
                Some((client.to_owned(), secret.to_owned(), Timestamp(day)))
            };
            let mut uses: Vec<_> = found.into_iter().filter_map(parts).collect();
            uses.sort();
            Ok(uses)
        })
    }

    pub(in crate::store) fn failures(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let found: Vec<String> = store
                .run(move |mut link| async move {
                    link.ask(redis::cmd("ZRANGEBYSCORE").arg(key("failures")).arg(format!("({}", now.0)).arg("+inf"))
                        .await
                })
                .await?;
            let parts = |text: &String| {
                let mut parts = text.splitn(3, ' ');
                let at = parts.next()?.parse().ok()?;
                Some((parts.nth(1)?.to_owned(), Timestamp(at)))
            };
            let mut failures: Vec<_> = found.iter().filter_map(parts).collect();
            failures.sort_by_key(|(_, at)| *at);
            Ok(failures)
        })
    }
}
