//! Refresh tokens. The change is written only if the checked state is unchanged: if another gateway
//! was faster, it is tried again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::grants::{authorization_of, gift_json};
use super::{Shared, arguments};
use crate::grant::GrantError;
use crate::grant::authorization::Authorization;
use crate::grant::opaque::{Kind, RANDOM, ValueDigest, seal};
use crate::names::Timestamp;
use crate::store::StoreFault;
use crate::store::grants::{Gift, NewRefresh};
use crate::store::refresh::{Rotation, Use};
use crate::store::revocations::Revocation;

/// A refresh token as stored.
struct Stored {
    authorization: Authorization,
    expires: Timestamp,
    used: Option<Timestamp>,
    successor: Option<[u8; RANDOM]>,
}

impl Shared {
    pub(in crate::store) async fn rotate<T: Send + 'static>(
        &self,
        used: Use,
        now: Timestamp,
        check: impl FnOnce(&Authorization) -> Result<Gift<T>, GrantError> + Send + 'static,
    ) -> Result<Rotation<T>, StoreFault> {
        let mut check = Some(check);
        let mut gift = None;
        for _ in Self::tries() {
            let Some(stored) = self.stored_refresh(used.digest).await? else {
                return Ok(Rotation::Unknown);
            };
            if stored.authorization.client != used.client || now >= stored.expires {
                return Ok(Rotation::Unknown);
            }
            let again = match (stored.used, stored.successor) {
                (None, _) => None,
                (Some(at), Some(sealed)) => {
                    match self.unused_successor(&used, at, &sealed, now).await? {
                        Some(successor) => Some(successor),
                        None => {
                            return self
                                .finish(&stored.authorization.id, now)
                                .await
                                .map(Rotation::Reused);
                        }
                    }
                }
                (Some(_), None) => {
                    return self.finish(&stored.authorization.id, now).await.map(Rotation::Reused);
                }
            };
            // The check's input is the same in every attempt.
            if let Some(check) = check.take() {
                match check(&stored.authorization) {
                    Ok(made) => gift = Some(made),
                    Err(error) => return Ok(Rotation::Refused(error)),
                }
            }
            let Some(made) = &mut gift else { return Ok(Rotation::Unknown) };
            let successor = Kind::Refresh.make(&used.successor);
            let done: String = if let Some((_, digest, _)) = &again {
                made.refresh = None;
                self.change("again", arguments![used.digest, *digest, now, gift_json(made)]).await?
            } else {
                made.refresh = Kind::Refresh
                    .digest(&successor)
                    .map(|digest| NewRefresh { digest, expires: used.expires });
                let sealed = STANDARD.encode(seal(&used.token, &used.successor));
                self.change("rotate", arguments![used.digest, now, sealed, gift_json(made)]).await?
            };
            match (done.as_str(), again, gift.take()) {
                ("done", Some((random, _, expires)), Some(gift)) => {
                    return Ok(Rotation::Again(gift.value, random, expires));
                }
                ("done", None, Some(gift)) => return Ok(Rotation::Done(gift.value)),
                ("changed", _, made) => gift = made,
                _ => return Ok(Rotation::Unknown),
            }
        }
        Err(self.fault("other gateways were faster again and again".to_owned()))
    }

    pub(in crate::store) async fn refresh(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<(Authorization, Timestamp)>, StoreFault> {
        let stored = self.stored_refresh(digest).await?;
        let unused = stored.filter(|stored| stored.used.is_none());
        Ok(unused.map(|stored| (stored.authorization, stored.expires)))
    }

    pub(in crate::store) fn find_refresh(
        &self,
        digest: ValueDigest,
    ) -> Result<Option<String>, StoreFault> {
        let store = self.clone();
        self.wait(async move {
            Ok(store.stored_refresh(digest).await?.map(|stored| stored.authorization.id))
        })
    }

    pub(in crate::store) async fn revoke_refresh(
        &self,
        digest: ValueDigest,
        client: String,
        now: Timestamp,
    ) -> Result<Option<Revocation>, StoreFault> {
        match self.stored_refresh(digest).await? {
            Some(stored) if stored.authorization.client == client => {
                self.finish(&stored.authorization.id, now).await.map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    async fn stored_refresh(&self, digest: ValueDigest) -> Result<Option<Stored>, StoreFault> {
        let found: Vec<String> = self.operate("refresh", arguments![digest]).await?;
        if found.is_empty() {
            return Ok(None);
        }
        stored_of(&found).map(Some).ok_or_else(|| self.malformed("a refresh token"))
    }

    /// The successor of a token used within the grace period, if it has not been used itself.
    async fn unused_successor(
        &self,
        used: &Use,
        at: Timestamp,
        sealed: &[u8; RANDOM],
        now: Timestamp,
    ) -> Result<Option<(Zeroizing<[u8; RANDOM]>, ValueDigest, Timestamp)>, StoreFault> {
        if now >= at.plus(i64::from(used.grace)) {
            return Ok(None);
        }
        let random = Zeroizing::new(seal(&used.token, sealed));
        let Some(digest) = Kind::Refresh.digest(&Kind::Refresh.make(&random)) else {
            return Ok(None);
        };
        let unused = self.refresh(digest).await?;
        Ok(unused.map(|(_, expires)| (random, digest, expires)))
    }
}

fn stored_of(fields: &[String]) -> Option<Stored> {
    let [id, client, subject, scopes, resource, expires, used, successor] = fields else {
        return None;
    };
    let used = if used.is_empty() { None } else { Some(Timestamp(used.parse().ok()?)) };
    let successor = if successor.is_empty() {
        None
    } else {
        Some(STANDARD.decode(successor).ok()?.try_into().ok()?)
    };
    Some(Stored {
        authorization: authorization_of([id, client, subject, scopes, resource])?,
        expires: Timestamp(expires.parse().ok()?),
        used,
        successor,
    })
}
