//! Opaque access tokens.

use serde_json::json;

use super::{Shared, arguments};
use crate::grant::opaque::ValueDigest;
use crate::names::Timestamp;
use crate::scope::ScopeSet;
use crate::store::StoreFault;
use crate::store::access::StoredAccess;

impl Shared {
    pub(in crate::store) async fn put_access(
        &self,
        access: StoredAccess,
    ) -> Result<(), StoreFault> {
        self.change::<String>("put_access", arguments![access.issued, to_json(&access)])
            .await
            .map(drop)
    }

    pub(in crate::store) async fn access(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<StoredAccess>, StoreFault> {
        let found: Vec<String> = self.operate("access", arguments![digest]).await?;
        if found.is_empty() {
            return Ok(None);
        }
        from_fields(digest, &found).map(Some).ok_or_else(|| self.malformed("an access token"))
    }

    pub(in crate::store) fn find_access(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<StoredAccess>, StoreFault> {
        let store = self.clone();
        self.wait(async move { store.access(digest).await })
    }
}

fn from_fields(digest: ValueDigest, fields: &[String]) -> Option<StoredAccess> {
    let [id, authorization, client, subject, scopes, audience, issued, expires] = fields else {
        return None;
    };
    Some(StoredAccess {
        digest,
        id: id.clone(),
        authorization: Some(authorization.clone()).filter(|id| !id.is_empty()),
        client: client.clone(),
        subject: subject.clone(),
        scopes: ScopeSet::parse_unbounded(scopes).ok()?,
        audience: audience.clone(),
        issued: Timestamp(issued.parse().ok()?),
        expires: Timestamp(expires.parse().ok()?),
    })
}

pub(super) fn to_json(access: &StoredAccess) -> serde_json::Value {
    let mut value = json!({
        "digest": crate::names::hex(&access.digest),
        "id": access.id,
        "client": access.client,
        "subject": access.subject,
        "scopes": access.scopes.to_value(),
        "audience": access.audience,
        "issued": access.issued.0,
        "expires": access.expires.0,
    });
    // Absent rather than null, which scripts treat as a value.
    if let (Some(authorization), Some(object)) = (&access.authorization, value.as_object_mut()) {
        object.insert("auth".to_owned(), authorization.as_str().into());
    }
    value
}
