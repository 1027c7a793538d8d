//! Imports rows of an embedded store.

use serde_json::Value;

use super::{Shared, arguments};
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::moving::Row;

impl Shared {
    pub(in crate::store) fn end_move(&self) -> Result<(), StoreFault> {
        let store = self.clone();
        self.wait(async move { store.change::<String>("end_move", arguments![]).await.map(drop) })
    }

    pub(in crate::store) fn take_rows(
        &self,
        table: &'static str,
        rows: Vec<Row>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let rows = rows.into_iter().map(|(number, mut row)| {
            row.insert("rowid".to_owned(), number.into());
            Value::Object(row)
        });
        let (store, rows) = (self.clone(), Value::Array(rows.collect()));
        self.wait(async move {
            store.change::<String>("take_rows", arguments![table, now, rows]).await.map(drop)
        })
    }
}
