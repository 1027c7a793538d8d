//! Authorizations with their codes, and the tokens that their use gives.

use serde_json::{Value, json};

use super::access::to_json;
use super::events::event;
use super::{Shared, TRIES, arguments};
use crate::grant::GrantError;
use crate::grant::authorization::{Authorization, IssuedCode};
use crate::grant::opaque::ValueDigest;
use crate::grant::pkce::Challenge;
use crate::names::{Timestamp, hex};
use crate::scope::ScopeSet;
use crate::store::StoreFault;
use crate::store::grants::{Gift, Redemption};
use crate::store::revocations::Revocation;

impl Shared {
    pub(in crate::store) async fn issue_code(
        &self,
        digest: ValueDigest,
        code: IssuedCode,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        let mut stored = json!({ "digest": hex(&digest), "expires": expires.0 });
        put(&mut stored, "redirect", code.redirect_uri);
        put(
            &mut stored,
            "challenge",
            code.challenge.as_ref().map(|challenge| challenge.as_str().to_owned()),
        );
        let authorization = authorization_json(&code.authorization, expires);
        self.change::<String>("issue_code", arguments![now, authorization, stored]).await.map(drop)
    }

    pub(in crate::store) async fn redeem_code<T: Send + 'static>(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
        check: impl FnOnce(&IssuedCode) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Redemption<T>, StoreFault> {
        let found: Vec<String> = self.operate("code", arguments![digest]).await?;
        if found.is_empty() {
            return Ok(Redemption::Unknown);
        }
        let code = code_of(&found).ok_or_else(|| self.malformed("a code"))?;
        // Another client's code counts as unknown: this client must not end its authorization.
        if code.issued.authorization.client != client || (now >= code.expires && !code.used) {
            return Ok(Redemption::Unknown);
        }
        let revocation = Revocation::authorization(&code.issued.authorization.id, now);
        // A used code gives nothing: the check is not called.
        let (gift, value) = if code.used {
            (json!({ "expires": 0 }), None)
        } else {
            match check(&code.issued) {
                Ok(gift) => (gift_json(&gift), Some(gift.value)),
                Err(error) => return Ok(Redemption::Refused(error)),
            }
        };
        let done: String =
            self.change("redeem", arguments![digest, now, gift, event(&revocation, now)]).await?;
        match (done.as_str(), value) {
            ("done", Some(value)) => Ok(Redemption::Done(value)),
            ("reused", _) => Ok(Redemption::Reused(revocation)),
            _ => Ok(Redemption::Unknown),
        }
    }

    pub(in crate::store) async fn authorize(
        &self,
        authorization: Authorization,
        gift: Gift<()>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        let stored = authorization_json(&authorization, expires);
        self.change::<String>("authorize", arguments![now, stored, gift_json(&gift)])
            .await
            .map(drop)
    }

    pub(in crate::store) async fn disconnect(
        &self,
        user: String,
        client: String,
        now: Timestamp,
    ) -> Result<Vec<Revocation>, StoreFault> {
        let each = event(&Revocation::authorization("", now), now);
        let ids: Vec<String> = self.change("disconnect", arguments![user, client, each]).await?;
        Ok(ids.iter().map(|id| Revocation::authorization(id, now)).collect())
    }

    /// Ends an authorization; no effect if it has ended already.
    pub(super) async fn finish(&self, id: &str, now: Timestamp) -> Result<Revocation, StoreFault> {
        let revocation = Revocation::authorization(id, now);
        self.change::<String>("finish", arguments![id, event(&revocation, now)]).await?;
        Ok(revocation)
    }

    /// Attempts when other gateways write first.
    pub(super) const fn tries() -> std::ops::Range<usize> {
        0..TRIES
    }
}

struct Code {
    issued: IssuedCode,
    expires: Timestamp,
    used: bool,
}

fn code_of(fields: &[String]) -> Option<Code> {
    let [id, client, subject, scopes, resource, redirect, challenge, expires, used] = fields else {
        return None;
    };
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Some(Code {
        issued: IssuedCode {
            authorization: authorization_of([id, client, subject, scopes, resource])?,
            redirect_uri: text(redirect),
            challenge: text(challenge).map(Challenge::stored),
        },
        expires: Timestamp(expires.parse().ok()?),
        used: !used.is_empty(),
    })
}

pub(super) fn authorization_of(
    [id, client, subject, scopes, resource]: [&String; 5],
) -> Option<Authorization> {
    Some(Authorization {
        id: id.clone(),
        client: client.clone(),
        subject: subject.clone(),
        scopes: ScopeSet::parse_unbounded(scopes).ok()?,
        resource: Some(resource.clone()).filter(|resource| !resource.is_empty()),
    })
}

fn authorization_json(authorization: &Authorization, expires: Timestamp) -> Value {
    let mut value = json!({
        "id": authorization.id,
        "client": authorization.client,
        "subject": authorization.subject,
        "scopes": authorization.scopes.to_value(),
        "expires": expires.0,
    });
    put(&mut value, "resource", authorization.resource.clone());
    value
}

pub(super) fn gift_json<T>(gift: &Gift<T>) -> Value {
    let mut value = json!({ "expires": gift.expires.0 });
    if let Some(object) = value.as_object_mut() {
        if let Some(refresh) = &gift.refresh {
            object.insert(
                "refresh".to_owned(),
                json!({ "digest": hex(&refresh.digest), "expires": refresh.expires.0 }),
            );
        }
        if let Some(access) = &gift.access {
            object.insert("access".to_owned(), to_json(access));
        }
    }
    value
}

/// Absent rather than null, which scripts treat as a value.
fn put(value: &mut Value, name: &str, text: Option<String>) {
    if let (Some(text), Some(object)) = (text, value.as_object_mut()) {
        object.insert(name.to_owned(), text.into());
    }
}
