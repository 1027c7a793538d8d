//! Signing keys: all in one value, replaced only if no other gateway has changed it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Shared, arguments, key};
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::audit::AuditRecord;
use crate::store::keys::StoredKey;

impl Shared {
    pub(in crate::store) fn keys(&self) -> Result<Vec<StoredKey>, StoreFault> {
        let store = self.clone();
        self.wait(async move { store.read_keys().await.map(|(_, keys)| keys) })
    }

    pub(in crate::store) fn change_keys(
        &self,
        change: impl Fn(&mut Vec<StoredKey>) + Send + Sync + 'static,
        record: Option<AuditRecord>,
    ) -> Result<(), StoreFault> {
        let store = self.clone();
        self.wait(async move {
            for _ in Self::tries() {
                let (before, keys) = store.read_keys().await?;
                let mut after = keys.clone();
                change(&mut after);
                if after == keys {
                    return Ok(());
                }
                let text = store.write_keys(&after)?;
                let arguments = arguments!["keys", before, text];
                let done: String =
                    store.change_recorded(record.as_ref(), "replace", arguments).await?;
                if done == "done" {
                    return Ok(());
                }
            }
            Err(store.fault("other gateways were faster again and again".to_owned()))
        })
    }

    /// The stored value, and its keys.
    async fn read_keys(&self) -> Result<(String, Vec<StoredKey>), StoreFault> {
        let found: Option<String> = self
            .run(|mut link| async move { link.ask(redis::cmd("GET").arg(key("keys"))).await })
            .await?;
        let Some(text) = found else { return Ok((String::new(), Vec::new())) };
        let values: Vec<Value> =
            serde_json::from_str(&text).map_err(|_| self.malformed("the set of signing keys"))?;
        let keys = values.iter().map(|value| self.read_key(value)).collect::<Result<_, _>>()?;
        Ok((text, keys))
    }

    fn read_key(&self, value: &Value) -> Result<StoredKey, StoreFault> {
        let malformed = || self.malformed("a signing key");
        let text = |name: &str| {
            value.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(malformed)
        };
        let number = |name: &str| value.get(name).and_then(Value::as_i64).ok_or_else(malformed);
        let public_jwk = text("public")?;
        let private_key = match value.get("private").and_then(Value::as_str) {
            None => None,
            Some(sealed) => {
                let sealed = STANDARD.decode(sealed).map_err(|_| malformed())?;
                let wrong = || {
                    self.fault(
                        "a signing key cannot be decrypted: `encryption_key` is another one"
                            .to_owned(),
                    )
                };
                Some(self.0.seal.open(&public_jwk, &sealed).ok_or_else(wrong)?)
            }
        };
        Ok(StoredKey {
            number: number("number")?,
            algorithm: text("algorithm")?,
            public_jwk,
            private_key,
            created_at: Timestamp(number("created_at")?),
            signs_from: Timestamp(number("signs_from")?),
            retired_at: value.get("retired_at").and_then(Value::as_i64).map(Timestamp),
        })
    }

    fn write_keys(&self, keys: &[StoredKey]) -> Result<String, StoreFault> {
        let mut values = Vec::new();
        for stored in keys {
            let sealed = match &stored.private_key {
                None => None,
                Some(private) => {
                    let sealed = self.0.seal.close(&stored.public_jwk, private);
                    Some(
                        STANDARD
                            .encode(sealed.ok_or_else(|| self.fault("no randomness".to_owned()))?),
                    )
                }
            };
            values.push(json!({
                "number": stored.number,
                "algorithm": stored.algorithm,
                "public": stored.public_jwk,
                "private": sealed,
                "created_at": stored.created_at.0,
                "signs_from": stored.signs_from.0,
                "retired_at": stored.retired_at.map(|at| at.0),
            }));
        }
        Ok(Value::Array(values).to_string())
    }
}
