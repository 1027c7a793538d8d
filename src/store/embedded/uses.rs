//! Used assertions and secrets.

use rusqlite::params;

use super::Embedded;
use crate::names::Timestamp;
use crate::store::StoreFault;

impl Embedded {
    pub(in crate::store) async fn use_assertion(
        &self,
        id: String,
        _now: Timestamp,
        expires: Timestamp,
    ) -> Result<bool, StoreFault> {
        self.write(move |connection| {
            let added = connection
                .prepare_cached("INSERT INTO assertion VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![id, expires.0])?;
            Ok(added == 1)
        })
        .await
    }

    pub(in crate::store) async fn record_secret_use(
        &self,
        client: String,
        secret: String,
        day: Timestamp,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO secret_use VALUES (?1, ?2, ?3)
                     ON CONFLICT (client, secret) DO UPDATE SET day = max(day, excluded.day)",
                )?
                .execute(params![client, secret, day.0])
                .map(drop)
        })
        .await
    }

    pub(in crate::store) async fn record_secret_network(
        &self,
        client: String,
        secret: String,
        period: i64,
        group: u8,
    ) -> Result<(), StoreFault> {
        self.write(move |connection| {
            connection
                .prepare_cached("DELETE FROM secret_network WHERE period < ?1 - 1")?
                .execute([period])?;
            connection
                .prepare_cached(
                    "INSERT INTO secret_network (client, secret, period, grouped) VALUES (?1, ?2, \
                        ?3, ?4) ON CONFLICT DO NOTHING",
                )?
                .execute(params![client, secret, period, group])
                .map(drop)
        })
        .await
    }

    pub(in crate::store) fn secret_networks(
        &self,
        period: i64,
    ) -> Result<Vec<(String, String, u8)>, StoreFault> {
        self.read_now(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT DISTINCT client, secret, grouped FROM secret_network WHERE period >= ?1",
            )?;
            let rows =
                statement.query_map([period], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        })
    }

    pub(in crate::store) fn secret_uses(
        &self,
    ) -> Result<Vec<(String, String, Timestamp)>, StoreFault> {
        self.read_now(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT client, secret, day FROM secret_use ORDER BY client")?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, Timestamp(row.get(2)?))))?;
            rows.collect()
        })
    }
}
