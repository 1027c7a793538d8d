//! Used assertions and secrets.

use super::sessions::lifetime;
use super::{Shared, arguments, key};
use crate::names::Timestamp;
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

    pub(in crate::store) async fn record_secret_use(
        &self,
        client: String,
        secret: String,
        day: Timestamp,
    ) -> Result<(), StoreFault> {
        let field = format!("{client} {secret}");
        self.operate::<String>("secret_use", arguments![field, day]).await.map(drop)
    }

    pub(in crate::store) async fn record_secret_network(
        &self,
        client: String,
        secret: String,
        period: i64,
        group: u8,
    ) -> Result<(), StoreFault> {
        let arguments = arguments![format!("{client} {secret} {group}"), period.to_string()];
        self.operate::<String>("secret_network", arguments).await.map(drop)
    }

    pub(in crate::store) fn secret_networks(
        &self,
        period: i64,
    ) -> Result<Vec<(String, String, u8)>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let mut all = Vec::new();
            for period in [period, period + 1] {
                let found: Vec<String> = store
                    .run(move |mut link| async move {
                        let name = key(&format!("secret_networks:{period}"));
                        link.ask(redis::cmd("SMEMBERS").arg(name)).await
                    })
                    .await?;
                all.extend(found.iter().filter_map(|member| {
                    let (rest, group) = member.rsplit_once(' ')?;
                    let (client, secret) = rest.rsplit_once(' ')?;
                    Some((client.to_owned(), secret.to_owned(), group.parse().ok()?))
                }));
            }
            all.sort();
            all.dedup();
            Ok(all)
        })
    }

    pub(in crate::store) fn secret_uses(
        &self,
    ) -> Result<Vec<(String, String, Timestamp)>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let found: Vec<(String, i64)> = store
                .run(|mut link| async move {
                    link.ask(redis::cmd("HGETALL").arg(key("secret_use"))).await
                })
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
}
