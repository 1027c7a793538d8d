//! Limits that several gateways share.

use serde_json::{Value, json};

use super::{Shared, arguments};
use crate::store::StoreFault;
use crate::store::limits::Draw;

impl Shared {
    pub(in crate::store) async fn draw(&self, draws: Vec<Draw>) -> Result<Vec<u64>, StoreFault> {
        let entries: Vec<Value> = draws
            .iter()
            .map(|draw| match draw {
                Draw::Rate { key, count, each, ago } => {
                    json!({ "key": key, "n": count, "each": each, "ago": ago })
                }
                Draw::Quota { key, count, left, .. } => {
                    json!({ "key": key, "n": count, "left": left })
                }
            })
            .collect();
        // Does not wait for replicas: a failover loses only a moment of a limit.
        let answers: Vec<String> = self.operate("draw", arguments![Value::Array(entries)]).await?;
        let answers: Option<Vec<u64>> = answers.iter().map(|answer| answer.parse().ok()).collect();
        answers
            .filter(|answers| answers.len() == draws.len())
            .ok_or_else(|| self.malformed("a limit"))
    }

    pub(in crate::store) async fn gateways(&self, id: String) -> Result<u64, StoreFault> {
        self.operate("gateways", arguments![id]).await
    }
}
