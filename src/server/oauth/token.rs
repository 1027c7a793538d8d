//! The token endpoint: `/oauth_token.do`, `/oauth2/token`.

use std::sync::Arc;

use axum::response::Response;
use zeroize::Zeroizing;

use super::authenticate::{SignIn, USED_BEFORE, audiences, check_password, use_once};
use super::client_form::ClientForm;
use super::issue::{Draft, new_id, random, unavailable};
use super::{Caller, Outcome, Server, json, no_store};
use crate::client::{Client, GrantType};
use crate::grant::assertion;
use crate::grant::authorization;
use crate::grant::opaque::{Kind, RANDOM};
use crate::grant::{
    ErrorCode, GrantError, Granted, REFRESH_REPLAYED, TokenRequest, TokenResponse,
    client_credentials,
};
use crate::names::Timestamp;
use crate::server::limits::guessing::Origin;
use crate::store::StoreFault;
use crate::store::grants::{Gift, NewRefresh, Redemption};
use crate::store::refresh::{Rotation, Use};
use crate::store::revocations::Revocation;
use crate::token::mint::expiry;

/// A refresh token for the answer.
struct Refresh {
    text: Zeroizing<String>,
    /// Its life in seconds.
    life: i64,
}

/// What a token request is answered with.
struct Issue {
    draft: Draft,
    granted: Granted,
    refresh: Option<Refresh>,
}

pub(super) async fn token(asked: ClientForm) -> Response {
    let request = TokenRequest::of(&asked.form);
    let issued = issue(&asked, request).await;
    asked.answer(issued)
}

async fn issue(asked: &ClientForm, request: TokenRequest) -> Result<Response, GrantError> {
    let ClientForm { server, caller, client, now, .. } = asked;
    let kind = request.grant(&caller.snapshot.config.grants)?;
    let turn = Turn { server, caller, client, now: *now };
    let Issue { draft, granted, refresh } = match kind {
        GrantType::ClientCredentials => turn.client_credentials(&request).await?,
        GrantType::AuthorizationCode => turn.redeem(request).await?,
        GrantType::RefreshToken => turn.refresh(request).await?,
        GrantType::Password => turn.password(request).await?,
        GrantType::JwtBearer => turn.assertion(request).await?,
    };
    let token = draft.finish(&server.shared, &granted, *now)?;
    server.shared.metrics.oauth.issued(kind);
    turn.answer(&token, &granted, refresh.as_ref())
}

/// One authenticated token request.
struct Turn<'a> {
    server: &'a Server,
    caller: &'a Caller,
    client: &'a Arc<Client>,
    now: Timestamp,
}

impl Turn<'_> {
    async fn client_credentials(&self, request: &TokenRequest) -> Result<Issue, GrantError> {
        let rules = self.caller.snapshot.rules();
        let granted = client_credentials::grant(
            self.client,
            rules,
            request,
            &self.server.shared.fixed.public_url,
        )?;
        let draft = Draft::new(self.client.token_format)?;
        if let Some(row) = draft.stub().row(&granted, self.now) {
            self.server.shared.store.put_access(row).await.map_err(|fault| stored(&fault))?;
        }
        Ok(Issue { draft, granted, refresh: None })
    }

    async fn redeem(&self, request: TokenRequest) -> Result<Issue, GrantError> {
        let unknown =
            || GrantError::new(ErrorCode::InvalidGrant, "the code is unknown or has expired");
        let code = request.code.as_ref();
        let code = code.ok_or_else(|| {
            GrantError::new(ErrorCode::InvalidRequest, "the parameter code is missing")
        })?;
        let digest = Kind::Code.digest(code).ok_or_else(unknown)?;
        let draft = Draft::new(self.client.token_format)?;
        let refresh = self.new_refresh()?;
        let stored_refresh = refresh.as_ref().and_then(|Refresh { text, life }| {
            Some(NewRefresh { digest: Kind::Refresh.digest(text)?, expires: self.now.plus(*life) })
        });
        let (stub, now, client) = (draft.stub(), self.now, self.client.clone());
        let (snapshot, public_url) =
            (self.caller.snapshot.clone(), self.server.shared.fixed.public_url.clone());
        let redemption =
            self.server.shared.store.redeem_code(digest, client.id.to_string(), now, move |code| {
                let registry = snapshot.rules().registry();
                let granted =
                    authorization::redeem(code, &client, registry, &request, &public_url, now)?;
                Ok(Gift {
                    expires: life_end(&granted, now),
                    access: stub.row(&granted, now),
                    refresh: stored_refresh,
                    value: granted,
                })
            });
        match redemption.await.map_err(|fault| stored(&fault))? {
            Redemption::Done(granted) => Ok(Issue { draft, granted, refresh }),
            Redemption::Unknown => Err(unknown()),
            Redemption::Refused(error) => Err(error),
            Redemption::Reused(revocation) => {
                Err(self.reused(&revocation, "the code has been used before"))
            }
        }
    }

    async fn refresh(&self, request: TokenRequest) -> Result<Issue, GrantError> {
        let unknown = || {
            GrantError::new(
                ErrorCode::InvalidGrant,
                "the refresh token is unknown, has expired or was revoked",
            )
        };
        let token = request.refresh_token.clone().ok_or_else(|| {
            GrantError::new(ErrorCode::InvalidRequest, "the parameter refresh_token is missing")
        })?;
        let digest = Kind::Refresh.digest(&token).ok_or_else(unknown)?;
        let draft = Draft::new(self.client.token_format)?;
        let (successor, life) =
            (random::<RANDOM>()?, i64::from(self.client.refresh_token_lifespan));
        let used = Use {
            token,
            digest,
            client: self.client.id.to_string(),
            successor: successor.clone(),
            expires: self.now.plus(life),
            grace: self.caller.snapshot.config.refresh_grace,
        };
        let (stub, now, client) = (draft.stub(), self.now, self.client.clone());
        let (snapshot, public_url) =
            (self.caller.snapshot.clone(), self.server.shared.fixed.public_url.clone());
        let rotation = self.server.shared.store.rotate(used, now, move |given| {
            let registry = snapshot.rules().registry();
            let granted =
                authorization::refresh(given, &client, registry, &request, &public_url, now)?;
            Ok(Gift {
                expires: life_end(&granted, now),
                access: stub.row(&granted, now),
                refresh: None,
                value: granted,
            })
        });
        match rotation.await.map_err(|fault| stored(&fault))? {
            Rotation::Done(granted) => Ok(Issue {
                draft,
                granted,
                refresh: Some(Refresh { text: Kind::Refresh.make(&successor), life }),
            }),
            Rotation::Again(granted, successor, expires) => {
                let refresh =
                    Refresh { text: Kind::Refresh.make(&successor), life: expires.0 - now.0 };
                Ok(Issue { draft, granted, refresh: Some(refresh) })
            }
            Rotation::Unknown => Err(unknown()),
            Rotation::Refused(error) => Err(error),
            Rotation::Reused(revocation) => Err(self.reused(&revocation, REFRESH_REPLAYED)),
        }
    }

    async fn password(&self, request: TokenRequest) -> Result<Issue, GrantError> {
        authorization::may_use(self.client, GrantType::Password)?;
        let missing = |name| {
            GrantError::new(ErrorCode::InvalidRequest, format!("the parameter {name} is missing"))
        };
        let username = request.username.as_deref().ok_or_else(|| missing("username"))?;
        let password = request.password.clone().ok_or_else(|| missing("password"))?;
        let from = (Origin::Address(self.caller.address), self.now);
        let user = check_password(self.server, self.caller, username, password, from).await?;
        let user = match user {
            SignIn::As(user) => user,
            SignIn::Refused(text) => return Err(GrantError::new(ErrorCode::InvalidGrant, text)),
        };
        let refresh = self.new_refresh()?;
        self.authorize(user.name.as_str(), &request, refresh).await
    }

    /// Never with a refresh token: the client signs another assertion instead (RFC 7521 §4.1).
    async fn assertion(&self, request: TokenRequest) -> Result<Issue, GrantError> {
        authorization::may_use(self.client, GrantType::JwtBearer)?;
        let invalid = |text: &'static str| GrantError::new(ErrorCode::InvalidGrant, text);
        let text = request.assertion.as_ref();
        let text = text.ok_or_else(|| {
            GrantError::new(ErrorCode::InvalidRequest, "the parameter assertion is missing")
        })?;
        let audiences = audiences(&self.server.shared.fixed.public_url);
        let audiences: Vec<&str> = audiences.iter().map(String::as_str).collect();
        let assertion =
            assertion::verify(text, assertion::GRANT_KIND, self.client, &audiences, self.now)
                .map_err(invalid)?;
        if !self
            .caller
            .snapshot
            .rules()
            .registry()
            .account(&assertion.subject)
            .is_some_and(|user| user.usable())
        {
            return Err(invalid(
                "the assertion's sub is no user here, or one that is inactive or locked",
            ));
        }
        if !use_once(self.server, &assertion).await? {
            return Err(invalid(USED_BEFORE));
        }
        self.authorize(&assertion.subject, &request, None).await
    }

    async fn authorize(
        &self,
        subject: &str,
        request: &TokenRequest,
        refresh: Option<Refresh>,
    ) -> Result<Issue, GrantError> {
        let Self { server, caller, client, now } = self;
        let (rules, public_url) = (caller.snapshot.rules(), &server.shared.fixed.public_url);
        let (given, granted) =
            authorization::direct(client, subject, new_id()?, rules, request, public_url, *now)?;
        let draft = Draft::new(self.client.token_format)?;
        let stored_refresh = refresh.as_ref().and_then(|Refresh { text, life }| {
            Some(NewRefresh { digest: Kind::Refresh.digest(text)?, expires: self.now.plus(*life) })
        });
        let expires = life_end(&granted, self.now);
        let gift = Gift {
            value: (),
            expires,
            refresh: stored_refresh,
            access: draft.stub().row(&granted, self.now),
        };
        let store = &self.server.shared.store;
        store.authorize(given, gift, self.now, expires).await.map_err(|fault| stored(&fault))?;
        Ok(Issue { draft, granted, refresh })
    }

    /// A refresh token, where client and server use them.
    fn new_refresh(&self) -> Result<Option<Refresh>, GrantError> {
        let grant = GrantType::RefreshToken;
        if !self.client.grants.contains(&grant)
            || !self.caller.snapshot.config.grants.contains(&grant)
        {
            return Ok(None);
        }
        let life = i64::from(self.client.refresh_token_lifespan);
        Ok(Some(Refresh { text: Kind::Refresh.make(&*random::<RANDOM>()?), life }))
    }

    /// Somebody has a copy: what the authorization gave is dead from here on (RFC 6749 §4.1.2, RFC
    /// 9700 §4.14.2).
    fn reused(&self, revocation: &Revocation, text: &'static str) -> GrantError {
        self.server.shared.tokens.revocations.add(revocation);
        self.server.shared.metrics.oauth.reuse.inc();
        tracing::warn!(client = %self.client.id, id = ?self.caller.id, "{text}: all that was given \
            for it is revoked");
        GrantError::new(
            ErrorCode::InvalidGrant,
            format!("{text}; everything that was given for it is revoked"),
        )
    }

    fn answer(
        &self,
        token: &str,
        granted: &Granted,
        refresh: Option<&Refresh>,
    ) -> Result<Response, GrantError> {
        let scope = granted.scopes.to_value();
        let body = TokenResponse {
            access_token: token,
            token_type: "Bearer",
            expires_in: granted.lifespan,
            scope: &scope,
            refresh_token: refresh.map(|refresh| refresh.text.as_str()),
            refresh_token_expires_in: refresh.map(|refresh| refresh.life),
        };
        let body = serde_json::to_string(&body)
            .map_err(|_| unavailable("the answer could not be written"))?;
        let mut response = no_store(json(http::StatusCode::OK, body, self.caller));
        response.extensions_mut().insert(Outcome { scopes: Some(scope), ..Outcome::default() });
        Ok(response)
    }
}

/// When the access token expires.
fn life_end(granted: &Granted, now: Timestamp) -> Timestamp {
    expiry(now, granted.lifespan)
}

/// A store that does not answer is our outage, never the client's mistake.
pub(super) fn stored(fault: &StoreFault) -> GrantError {
    tracing::error!(error = %fault, "the store does not answer");
    unavailable("the store does not answer")
}
