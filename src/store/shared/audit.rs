//! Audit records: a list of lines; `audit:first` is the number of its first one.

use super::{Shared, arguments};
use crate::store::StoreFault;
use crate::store::audit::{AuditRecord, MAX_RECORDS, NumberedRecord, parse};

impl Shared {
    pub(in crate::store) async fn note_audit(&self, record: AuditRecord) -> Result<(), StoreFault> {
        let most = MAX_RECORDS.to_string();
        self.change::<String>("note_audit", arguments![record.line(), most]).await.map(drop)
    }

    pub(in crate::store) async fn audit(
        &self,
        before: i64,
        limit: usize,
    ) -> Result<Vec<NumberedRecord>, StoreFault> {
        // Numbers in a script are doubles.
        let before = before.min(1 << 52).to_string();
        self.numbered("audit_before", arguments![before, limit.to_string()]).await
    }

    pub(in crate::store) async fn audit_after(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<NumberedRecord>, StoreFault> {
        self.numbered("audit_after", arguments![after.to_string(), limit.to_string()]).await
    }

    async fn numbered(
        &self,
        operation: &'static str,
        arguments: Vec<Vec<u8>>,
    ) -> Result<Vec<NumberedRecord>, StoreFault> {
        let found: Vec<(i64, String)> = self.operate(operation, arguments).await?;
        Ok(found.iter().filter_map(|(number, line)| parse(*number, line)).collect())
    }

    /// Runs an operation together with the record of it, where there is one.
    pub(super) async fn change_recorded<T: redis::FromRedisValue + Send + 'static>(
        &self,
        record: Option<&AuditRecord>,
        operation: &'static str,
        arguments: Vec<Vec<u8>>,
    ) -> Result<T, StoreFault> {
        let Some(record) = record else { return self.change(operation, arguments).await };
        let mut all = arguments![record.line(), MAX_RECORDS.to_string(), operation];
        all.extend(arguments);
        self.change("recorded", all).await
    }
}
