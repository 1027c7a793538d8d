//! Counters of use: a hash for each day.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Shared, arguments, key};
use crate::store::StoreFault;
use crate::store::usage::MAX_SUBJECTS;
use crate::tooling::usage::{Counts, Day, Row, Subject};

/// Between the parts of a field: in no name.
const SEPARATOR: char = '\u{1f}';
/// Rows that one script adds, so that it is short.
const SLICE: usize = 500;

impl Shared {
    pub(in crate::store) async fn add_usage(&self, rows: Vec<Row>) -> Result<(), StoreFault> {
        for slice in rows.chunks(SLICE) {
            let slice: Vec<serde_json::Value> = slice
                .iter()
                .map(|row| {
                    let Subject { client, api, operation } = &row.subject;
                    let Counts { permitted, refused, for_users, shadow_refused } = row.counts;
                    let field = format!("{client}{SEPARATOR}{api}{SEPARATOR}{operation}");
                    json!([
                        row.day.0,
                        field,
                        [permitted, refused, for_users, shadow_refused],
                        format!("{SEPARATOR}{api}{SEPARATOR}{}", crate::tooling::usage::OTHER)
                    ])
                })
                .collect();
            let most = (MAX_SUBJECTS * 4).to_string();
            self.change::<String>("add_usage", arguments![json!(slice), most]).await?;
        }
        Ok(())
    }

    pub(in crate::store) async fn usage(
        &self,
        since: Day,
        client: Option<String>,
    ) -> Result<Vec<Row>, StoreFault> {
        let mut rows = Vec::new();
        for day in self.usage_days().await?.into_iter().filter(|day| *day >= since) {
            let found: BTreeMap<String, u64> = self
                .run(move |mut link| async move {
                    link.ask(redis::cmd("HGETALL").arg(key(&format!("usage:{}", day.0)))).await
                })
                .await?;
            rows.extend(rows_of(day, &found, client.as_deref()));
        }
        Ok(rows)
    }

    pub(in crate::store) fn each_usage(
        &self,
        since: Day,
        take: &mut dyn FnMut(Row),
    ) -> Result<(), StoreFault> {
        let store = self.clone();
        let rows = self.wait(async move { store.usage(since, None).await })?;
        rows.into_iter().for_each(take);
        Ok(())
    }

    pub(in crate::store) fn first_usage(&self) -> Result<Option<Day>, StoreFault> {
        let store = self.clone();
        self.wait(async move { Ok(store.usage_days().await?.first().copied()) })
    }

    pub(in crate::store) async fn forget_usage(&self, before: Day) -> Result<bool, StoreFault> {
        self.operate::<String>("forget_usage", arguments![before.0.to_string()]).await?;
        Ok(false)
    }

    /// The days with counters, oldest first.
    async fn usage_days(&self) -> Result<Vec<Day>, StoreFault> {
        let days: Vec<i64> = self
            .run(|mut link| async move {
                let mut read = redis::cmd("ZRANGE");
                link.ask(read.arg(key("usage:days")).arg(0).arg(-1)).await
            })
            .await?;
        Ok(days.into_iter().map(Day).collect())
    }
}

/// The rows of one day. Fields are ordered: those of one subject follow each other.
fn rows_of(day: Day, found: &BTreeMap<String, u64>, client: Option<&str>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (field, count) in found {
        let mut parts = field.split(SEPARATOR);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (subject, kind) = (Subject { client: part(), api: part(), operation: part() }, part());
        if client.is_some_and(|client| client != subject.client) {
            continue;
        }
        if rows.last().is_none_or(|row| row.subject != subject) {
            rows.push(Row { subject, day, counts: Counts::default() });
        }
        let Some(row) = rows.last_mut() else { continue };
        match kind.as_str() {
            "1" => row.counts.permitted = *count,
            "2" => row.counts.refused = *count,
            "3" => row.counts.for_users = *count,
            "4" => row.counts.shadow_refused = *count,
            // Of a later version.
            _ => {}
        }
    }
    rows
}
