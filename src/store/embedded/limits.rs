//! Counts of quotas. Rates are local to this gateway.

use rusqlite::{OptionalExtension, params};

use super::Embedded;
use crate::store::StoreFault;
use crate::store::limits::Draw;

impl Embedded {
    pub(in crate::store) async fn draw(&self, draws: Vec<Draw>) -> Result<Vec<u64>, StoreFault> {
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO quota (key, used, expires_at) VALUES (?1, ?2, unixepoch() + ?3)
                 ON CONFLICT (key) DO UPDATE SET used = used + excluded.used RETURNING used",
            )?;
            let mut asks = connection.prepare_cached("SELECT used FROM quota WHERE key = ?1")?;
            let mut answers = Vec::with_capacity(draws.len());
            for draw in &draws {
                answers.push(match draw {
                    Draw::Rate { count, each, .. } => count.saturating_mul(*each),
                    Draw::Quota { key, count: 0, .. } => asks
                        .query_row([key], |row| row.get::<_, i64>(0))
                        .optional()?
                        .unwrap_or(0)
                        .unsigned_abs(),
                    Draw::Quota { key, count, left, .. } => {
                        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
                        let used: i64 = statement
                            .query_row(params![key, number(*count), number(*left)], |row| {
                                row.get(0)
                            })?;
                        used.unsigned_abs()
                    }
                });
            }
            Ok(answers)
        })
        .await
    }

    /// Two processes on one file are an old and a new one: they count as one gateway.
    #[expect(clippy::unused_self, reason = "as the other engine's")]
    pub(in crate::store) fn gateways(
        &self,
        _id: String,
    ) -> std::future::Ready<Result<u64, StoreFault>> {
        std::future::ready(Ok(1))
    }
}
