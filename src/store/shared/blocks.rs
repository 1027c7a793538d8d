//! Blocks set by command.

use serde_json::{Value, json};

use super::{Shared, arguments, key};
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::blocks::{Blocked, CommandedBlock};

impl Shared {
    pub(in crate::store) fn block(
        &self,
        block: &CommandedBlock,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        let value = json!({
            "reason": block.reason,
            "since": block.since.0,
            "until": block.until.map(|until| until.0),
        });
        let store = self.clone();
        let field = field(&block.blocked);
        let since = block.since;
        self.wait(async move {
            let arguments = arguments![field, value, since];
            store.change_recorded::<i64>(record.as_ref(), "block", arguments).await.map(drop)
        })
    }

    pub(in crate::store) fn unblock(
        &self,
        blocked: &Blocked,
        now: Timestamp,
        record: Option<AuditRecord>,
    ) -> Result<bool, StoreFault> {
        let store = self.clone();
        let field = field(blocked);
        self.wait(async move {
            let arguments = arguments![field, now];
            let removed: i64 = store.change_recorded(record.as_ref(), "unblock", arguments).await?;
            Ok(removed > 0)
        })
    }

    pub(in crate::store) fn blocks(
        &self,
        now: Timestamp,
    ) -> Result<Vec<CommandedBlock>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            let found: Vec<(String, String)> =
                store
                    .run(|mut link| async move {
                        link.ask(redis::cmd("HGETALL").arg(key("blocks"))).await
                    })
                    .await?;
            let mut blocks = Vec::new();
            for (field, value) in found {
                let block = block_of(&field, &value).ok_or_else(|| store.malformed("a block"))?;
                if block.until.is_none_or(|until| until > now) {
                    blocks.push(block);
                }
            }
            blocks.sort_by(|a, b| a.blocked.cmp(&b.blocked));
            Ok(blocks)
        })
    }
}

fn field(blocked: &Blocked) -> String {
    format!("{} {}", blocked.kind(), blocked.value())
}

fn block_of(field: &str, value: &str) -> Option<CommandedBlock> {
    let (kind, subject) = field.split_once(' ')?;
    let value: Value = serde_json::from_str(value).ok()?;
    Some(CommandedBlock {
        blocked: Blocked::parse(kind, subject)?,
        reason: value.get("reason").and_then(Value::as_str).map(str::to_owned),
        since: Timestamp(value.get("since")?.as_i64()?),
        until: value.get("until").and_then(Value::as_i64).map(Timestamp),
    })
}
