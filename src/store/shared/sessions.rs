//! Logins of users, and their consents.

use serde_json::{Value, json};

use super::{Shared, arguments, key};
use crate::grant::opaque::ValueDigest;
use crate::names::{Timestamp, hex};
use crate::scope::ScopeSet;
use crate::store::StoreFault;
use crate::store::sessions::{Connected, Login};

impl Shared {
    pub(in crate::store) async fn begin_session(
        &self,
        digest: ValueDigest,
        (user, proof): (String, String),
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        let arguments = arguments![digest, user, proof, now, expires];
        self.operate::<String>("begin_session", arguments).await.map(drop)
    }

    pub(in crate::store) async fn session(
        &self,
        digest: ValueDigest,
        now: Timestamp,
    ) -> Result<Option<(String, String, Timestamp)>, StoreFault> {
        let found: Vec<String> = self.operate("session", arguments![digest]).await?;
        let [user, proof, began, expires] = found.as_slice() else { return Ok(None) };
        let alive = expires.parse().is_ok_and(|expires| now < Timestamp(expires));
        // One that does not say when it began, began long ago.
        let began = Timestamp(began.parse().unwrap_or(0));
        Ok(alive.then(|| (user.clone(), proof.clone(), began)))
    }

    pub(in crate::store) async fn end_session(
        &self,
        digest: ValueDigest,
    ) -> Result<(), StoreFault> {
        let name = key(&format!("session:{}", hex(&digest)));
        self.run(move |mut link| async move { link.ask(redis::cmd("DEL").arg(name)).await }).await
    }

    pub(in crate::store) async fn keep_login(
        &self,
        digest: ValueDigest,
        login: Login,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        let name = key(&format!("login:{}", hex(&digest)));
        let value = json!({ "user": login.user, "browser": login.browser, "back": login.back,
            "expires": expires.0 })
        .to_string();
        self.run(move |mut link| async move {
            link.ask(redis::cmd("SET").arg(name).arg(value).arg("EX").arg(lifetime(now, expires)))
                .await
        })
        .await
    }

    pub(in crate::store) async fn take_login(
        &self,
        digest: ValueDigest,
        now: Timestamp,
    ) -> Result<Option<Login>, StoreFault> {
        let name = key(&format!("login:{}", hex(&digest)));
        let found: Option<String> = self
            .run(move |mut link| async move { link.ask(redis::cmd("GETDEL").arg(name)).await })
            .await?;
        let Some(found) = found else { return Ok(None) };
        let value: Value = serde_json::from_str(&found).map_err(|_| self.malformed("a login"))?;
        let text =
            |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let alive = value
            .get("expires")
            .and_then(Value::as_i64)
            .is_some_and(|expires| now < Timestamp(expires));
        Ok(alive.then(|| Login {
            user: text("user"),
            browser: text("browser"),
            back: text("back"),
        }))
    }

    pub(in crate::store) async fn consent(
        &self,
        user: String,
        client: String,
        resource: String,
    ) -> Result<Option<ScopeSet>, StoreFault> {
        let (name, field) = (key(&format!("consent:{user}")), field(&client, &resource));
        let found: Option<String> =
            self.run(move |mut link| async move {
                link.ask(redis::cmd("HGET").arg(name).arg(field)).await
            })
            .await?;
        found
            .map(|found| {
                given(&found).map(|(_, scopes)| scopes).ok_or_else(|| self.malformed("a consent"))
            })
            .transpose()
    }

    pub(in crate::store) async fn remember_consent(
        &self,
        user: String,
        client: String,
        resource: String,
        given: ScopeSet,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let field = field(&client, &resource);
        self.change::<String>("remember_consent", arguments![user, field, given.to_value(), now])
            .await
            .map(drop)
    }

    pub(in crate::store) async fn connected(
        &self,
        user: String,
    ) -> Result<Vec<Connected>, StoreFault> {
        let name = key(&format!("consent:{user}"));
        let found: Vec<(String, String)> = self
            .run(move |mut link| async move { link.ask(redis::cmd("HGETALL").arg(name)).await })
            .await?;
        let mut all: std::collections::BTreeMap<String, Connected> =
            std::collections::BTreeMap::new();
        for (field, value) in found {
            let client = field.split(' ').next().unwrap_or_default().to_owned();
            let (since, scopes) = given(&value).ok_or_else(|| self.malformed("a consent"))?;
            let entry = all.entry(client.clone()).or_insert_with(|| Connected {
                client,
                scopes: ScopeSet::default(),
                since,
            });
            entry.scopes =
                entry.scopes.as_slice().iter().chain(scopes.as_slice()).cloned().collect();
            entry.since = Timestamp(entry.since.0.min(since.0));
        }
        Ok(all.into_values().collect())
    }
}

/// Seconds that a key lives: a little longer than its value, which has its own times.
pub(super) fn lifetime(now: Timestamp, expires: Timestamp) -> i64 {
    (expires.0 - now.0).max(1) + 60
}

/// Client and resource of a consent; neither has a space.
fn field(client: &str, resource: &str) -> String {
    format!("{client} {resource}")
}

/// The time of the first consent, and its scopes.
fn given(text: &str) -> Option<(Timestamp, ScopeSet)> {
    let (since, scopes) = text.split_once(' ')?;
    Some((Timestamp(since.parse().ok()?), ScopeSet::parse_unbounded(scopes).ok()?))
}
