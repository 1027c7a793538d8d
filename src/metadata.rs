//! Documents that describe us to others, as values.

use serde_json::{Map, Value, json};

/// A JWK Set (RFC 7517 §5) of public keys.
#[must_use]
pub fn jwk_set<'a>(keys: impl Iterator<Item = &'a Map<String, Value>>) -> String {
    let keys: Vec<Value> = keys.map(|key| Value::Object(public_members(key))).collect();
    json!({ "keys": keys }).to_string()
}

/// Only members that are known to be public: a private one must not slip through (RFC 7517 §4, RFC 7518 §6).
fn public_members(key: &Map<String, Value>) -> Map<String, Value> {
    const PUBLIC: [&str; 9] = ["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"];
    key.iter()
        .filter(|(name, _)| PUBLIC.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_members_are_left_out() {
        let key = json!({"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": "secret", "kid": "k"});
        let set = jwk_set([key.as_object().unwrap()].into_iter());
        assert!(!set.contains("secret") && set.contains("\"kid\":\"k\""));
    }
}
