//! Events for other gateways: a stream, read on from the last known number over a connection of its
//! own.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use redis::streams::{StreamRangeReply, StreamReadReply};
use serde_json::{Value as Json, json};

use super::{Shared, arguments, key};
use crate::names::{IssuerName, Timestamp};
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::events::{ChangedUsers, News, Position};
use crate::store::revocations::{Revocation, Subject};

/// How long one read waits for events.
pub(super) const WAIT: Duration = Duration::from_millis(500);
/// Pause between two reads while there is no connection.
const AWAY: Duration = Duration::from_millis(200);
/// The kind of an event for changed blocks, or a changed user that it names, not for a revocation.
/// Gateways of earlier versions take a kind that they do not know for a revocation of everything.
pub(super) const BLOCKS: &str = "blocks";

/// One event of the stream.
struct Entry {
    number: i64,
    fields: HashMap<String, Value>,
}

impl Shared {
    pub(in crate::store) async fn revoke(
        &self,
        revocation: Revocation,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        let (kind, value) = revocation.subject.parts();
        let now = revocation.at;
        let arguments = arguments![kind, value, event(&revocation, now)];
        self.change_recorded::<i64>(record.as_ref(), "revoke", arguments).await.map(drop)
    }

    pub(in crate::store) fn revoke_now(
        &self,
        revocation: Revocation,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        let store = self.clone();
        self.wait(async move { store.revoke(revocation, record).await })
    }

    pub(in crate::store) async fn news(&self, after: Position) -> Result<News, StoreFault> {
        let Some((mut link, generation)) = self.0.links.news() else {
            tokio::time::sleep(AWAY).await;
            return Err(self.fault(self.0.links.fault()));
        };
        if generation != after.generation {
            // Possibly another server that has lost its last writes: it may reuse numbers that we
            // know.
            return self.all_news(generation).await;
        }
        let wait = self.0.runtime.spawn(async move {
            let mut read = redis::cmd("XREAD");
            read.arg("BLOCK").arg(u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX));
            read.arg("STREAMS").arg(key("events")).arg(format!("{}-0", after.number));
            let read: Option<StreamReadReply> = link.ask(&read).await?;
            let entries: Vec<Entry> = read
                .into_iter()
                .flat_map(|read| read.keys)
                .flat_map(|key| key.ids)
                .map(entry)
                .collect();
            let now = if entries.is_empty() {
                0
            } else {
                milliseconds(link.ask(&redis::cmd("TIME")).await?)
            };
            let last: Option<i64> = link.ask(redis::cmd("GET").arg(key("events:last"))).await?;
            Ok::<_, redis::RedisError>((entries, now, last.unwrap_or(0)))
        });
        match wait.await {
            // The server has fewer events than before: it has taken over without the last writes of
            // its predecessor.
            Ok(Ok((_, _, last))) if last < after.number => self.all_news(generation).await,
            Ok(Ok((entries, now, _))) => Ok(news(entries, generation, after.number, Some(now))),
            Ok(Err(error)) => {
                self.0.links.renew(generation);
                tokio::time::sleep(AWAY).await;
                Err(self.fault(error.to_string()))
            }
            Err(_) => Err(self.fault("the store's thread has ended".to_owned())),
        }
    }

    pub(in crate::store) fn news_now(&self) -> Result<News, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let generation = store.0.links.news().map_or(0, |(_, generation)| generation);
            store.all_news(generation).await
        })
    }

    /// All stored events.
    async fn all_news(&self, generation: u64) -> Result<News, StoreFault> {
        const SLICE: usize = 10_000;
        let (mut all, mut last) = (Vec::new(), 0_i64);
        loop {
            let from = format!("{}-0", last.saturating_add(1));
            let slice: StreamRangeReply = self
                .run(move |mut link| async move {
                    link.ask(
                        redis::cmd("XRANGE")
                            .arg(key("events"))
                            .arg(from)
                            .arg("+")
                            .arg("COUNT")
                            .arg(SLICE),
                    )
                    .await
                })
                .await?;
            let full = slice.ids.len() == SLICE;
            all.extend(slice.ids.into_iter().map(entry));
            last = all.last().map_or(last, |entry| entry.number);
            if !full {
                break;
            }
        }
        let mut news = news(all, generation, 0, None);
        news.blocks = true;
        news.users = ChangedUsers::All;
        Ok(news)
    }
}

fn entry(id: redis::streams::StreamId) -> Entry {
    let number = id.id.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    Entry { number, fields: id.map }
}

/// Milliseconds from the seconds and microseconds of the server's clock.
fn milliseconds((seconds, microseconds): (i64, i64)) -> i64 {
    seconds.saturating_mul(1_000).saturating_add(microseconds / 1_000)
}

fn news(entries: Vec<Entry>, generation: u64, last: i64, now: Option<i64>) -> News {
    let mut news = News { position: Position { number: last, generation }, ..News::default() };
    for Entry { number, fields } in entries {
        news.position.number = news.position.number.max(number);
        let text = |name: &str| {
            fields.get(name).and_then(|value| redis::from_redis_value::<String>(value.clone()).ok())
        };
        let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
        if let (Some(now), Some(ms)) = (now, number("ms")) {
            news.delays
                .push(Duration::from_millis(u64::try_from(now.saturating_sub(ms)).unwrap_or(0)));
        }
        let kind = text("kind").unwrap_or_default();
        if kind == BLOCKS {
            news.changed(text("value").unwrap_or_default());
            continue;
        }
        news.revocations.push(Revocation {
            issuer: IssuerName::new(text("issuer").as_deref().unwrap_or(IssuerName::OWN)),
            subject: Subject::of(&kind, text("value").unwrap_or_default()),
            at: Timestamp(number("at").unwrap_or(i64::MAX)),
            expires: Timestamp(number("expires").unwrap_or(i64::MAX)),
        });
    }
    news
}

/// The event of a revocation, as the scripts expect it.
pub(super) fn event(revocation: &Revocation, now: Timestamp) -> Json {
    json!({
        "at": revocation.at.0,
        "expires": revocation.expires.0,
        "issuer": revocation.issuer.as_str(),
        "now": now.0,
    })
}
