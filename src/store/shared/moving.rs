//! Rows of an embedded store, taken in.

use serde_json::Value;

use super::{Shared, arguments};
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::moving::Row;

impl Shared {
    /// Whether nothing was moved here before.
    pub(in crate::store) fn begin_move(&self) -> Result<bool, StoreFault> {
        let store = self.clone();
        self.wait(async move { Ok(store.operate::<i64>("begin_move", arguments![]).await? == 1) })
    }

    pub(in crate::store) fn end_move(&self) -> Result<(), StoreFault> {
        let store = self.clone();
        self.wait(async move { store.change::<String>("end_move", arguments![]).await.map(drop) })
    }

    pub(in crate::store) fn take_rows(
        &self,
        table: &'static str,
        rows: Vec<Row>,
        now: Timestamp,
        first: bool,
    ) -> Result<(), StoreFault> {
        let rows = rows.into_iter().map(|(number, mut row)| {
            row.insert("rowid".to_owned(), number.into());
            Value::Object(row)
        });
        let (store, rows) = (self.clone(), Value::Array(rows.collect()));
        let first = if first { "1" } else { "0" };
        self.wait(
            async move { store.change::<String>("take_rows", arguments![table, now, first, rows]).await.map(drop) },
        )
    }
}
