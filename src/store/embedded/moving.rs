//! Exports rows for another store.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::ValueRef;
use serde_json::Map;

use super::Embedded;
use crate::names::hex;
use crate::store::StoreFault;
use crate::store::moving::Row;

impl Embedded {
    /// Rows of a table after a number, in order. Nulls are left out; digests are hexadecimal,
    /// sealed values base64.
    pub(in crate::store) fn rows(
        &self,
        table: &'static str,
        after: i64,
        count: usize,
    ) -> Result<Vec<Row>, StoreFault> {
        self.read_now(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT rowid, * FROM {table} WHERE rowid > ?1 ORDER BY rowid LIMIT ?2"
            ))?;
            let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
            let mut rows = statement
                .query(rusqlite::params![after, i64::try_from(count).unwrap_or(i64::MAX)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let mut values = Map::new();
                for (at, name) in names.iter().enumerate().skip(1) {
                    let value = match row.get_ref(at)? {
                        ValueRef::Null => continue,
                        ValueRef::Integer(number) => number.into(),
                        ValueRef::Real(number) => number.into(),
                        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
                        ValueRef::Blob(bytes) if name == "successor" => {
                            STANDARD.encode(bytes).into()
                        }
                        ValueRef::Blob(bytes) => hex(bytes).into(),
                    };
                    values.insert(name.clone(), value);
                }
                found.push((row.get(0)?, values));
            }
            Ok(found)
        })
    }
}
