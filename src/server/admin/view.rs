//! What the console shows, as data: the JSON API answers with it, and the pages are made of it.

pub mod decisions;
pub mod integrations;
pub mod operations;
pub mod overview;

use schemars::JsonSchema;
use serde::Serialize;

use crate::names::Timestamp;

/// Rows of one page of a list.
pub const PAGE_ROWS: usize = 50;
/// Most rows that a request may ask for.
pub const MAX_ROWS: usize = 500;

/// One page of a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Listed<T> {
    /// The rows.
    pub items: Vec<T>,
    /// All rows that fit the filter.
    pub total: usize,
    /// This page; the first one is 1.
    pub page: usize,
    /// Rows of a page.
    pub per_page: usize,
}

impl<T> Listed<T> {
    /// A page of all rows.
    #[must_use]
    pub fn of(rows: Vec<T>, page: usize, per_page: usize) -> Self {
        let (page, per_page) = (page.max(1), per_page.clamp(1, MAX_ROWS));
        let total = rows.len();
        let first = (page - 1).saturating_mul(per_page);
        let items = rows.into_iter().skip(first).take(per_page).collect();
        Self { items, total, page, per_page }
    }

    /// Whether there are rows behind this page.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.page.saturating_mul(self.per_page) < self.total
    }
}

/// A time as RFC 3339 in UTC.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    crate::tooling::moment(at)
}
