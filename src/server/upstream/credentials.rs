//! The token that the gateway presents to an upstream in the place of the caller's: got with client
//! credentials (RFC 6749 §4.4) ahead of need, so that no request waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use serde::Deserialize;

use super::Servers;
use super::health::now;
use crate::config::{UpstreamAuthorization, UpstreamClient};
use crate::keys::fetch::Fetch;

/// Between two attempts at most.
const SLOWEST: u64 = 30_000;
/// Between two attempts at first, and after an upstream has refused a token.
const AGAIN: u64 = 500;
/// After a token was got, the soonest that another one is.
const SOONEST: u64 = 1_000;
/// What a token without `expires_in` lives.
const UNSAID: u64 = 300;

/// The token of one upstream, if it has one.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Arc<State>);

#[derive(Debug, Default)]
struct State {
    token: ArcSwapOption<Token>,
    /// When the next one is to be got, milliseconds; 0 is at once.
    next: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Token {
    /// `Bearer …`, marked as sensitive.
    value: HeaderValue,
    until: u64,
    got: u64,
}

impl Credentials {
    /// The header to send; `None` while there is no token that is good.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        let token = self.0.token.load();
        token.as_ref().filter(|token| token.until > now()).map(|token| token.value.clone())
    }

    /// The upstream has refused it: another one is got soon, unless this one is new.
    pub fn refused(&self) {
        let old = self
            .0
            .token
            .load()
            .as_ref()
            .is_some_and(|token| now().saturating_sub(token.got) > 10 * AGAIN);
        if old {
            self.0.next.store(now(), Ordering::Relaxed);
        }
    }

    async fn refresh(&self, fetch: &Fetch, servers: &Servers, client: &UpstreamClient) {
        match get(fetch, client).await {
            Ok(token) => {
                // Ahead of need: at four fifths of its life.
                let life = token.until.saturating_sub(token.got);
                self.0.next.store(token.got + (life / 5 * 4).max(SOONEST), Ordering::Relaxed);
                self.0.failures.store(0, Ordering::Relaxed);
                self.0.token.store(Some(Arc::new(token)));
            }
            Err(fault) => {
                let failures = self.0.failures.fetch_add(1, Ordering::Relaxed).min(8);
                self.0.next.store(now() + (AGAIN << failures).min(SLOWEST), Ordering::Relaxed);
                tracing::warn!(upstream = %servers.declared.name, fault, "no token for an \
                    upstream");
            }
        }
    }
}

/// A token response (RFC 6749 §5.1), as far as it matters here.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

impl Servers {
    fn client(&self) -> Option<&UpstreamClient> {
        match &self.declared.authorization {
            UpstreamAuthorization::ClientCredentials(client) => Some(client),
            UpstreamAuthorization::Strip
            | UpstreamAuthorization::Keep
            | UpstreamAuthorization::Value(_) => None,
        }
    }

    /// Whether it needs a token and has none that is good.
    #[must_use]
    pub fn lacks_token(&self) -> bool {
        self.client().is_some() && self.credentials.header().is_none()
    }

    /// Whether another token is to be got now; if so, not again until it was.
    #[must_use]
    pub fn token_is_due(&self) -> bool {
        let next = &self.credentials.0.next;
        let due = self.client().is_some() && next.load(Ordering::Relaxed) <= now();
        if due {
            next.store(u64::MAX, Ordering::Relaxed);
        }
        due
    }

    /// Gets a token, where one is needed.
    pub async fn fetch_token(&self, fetch: &Fetch) {
        if let Some(client) = self.client() {
            self.credentials.refresh(fetch, self, client).await;
        }
    }
}

async fn get(fetch: &Fetch, client: &UpstreamClient) -> Result<Token, String> {
    let mut form = "grant_type=client_credentials".to_owned();
    if !client.scope.is_empty() {
        let scope: String = url::form_urlencoded::byte_serialize(client.scope.as_bytes()).collect();
        form.push_str("&scope=");
        form.push_str(&scope);
    }
    let credentials = Some((client.client_id.as_str(), client.client_secret.expose()));
    let asked = now();
    let (status, body) = fetch
        .post_form(&client.token_url, credentials, &form)
        .await
        .map_err(|fault| fault.to_string())?;
    if status != 200 {
        return Err(format!("status {status} instead of 200"));
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| "an answer that is no token response".to_owned())?;
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err("a token that is no bearer token".to_owned());
    }
    let token = zeroize::Zeroizing::new(answer.access_token);
    let mut value = HeaderValue::from_str(&format!("Bearer {}", *token))
        .map_err(|_| "a token that is no header".to_owned())?;
    value.set_sensitive(true);
    let life = answer.expires_in.unwrap_or(UNSAID);
    if life == 0 {
        return Err("a token that has expired already".to_owned());
    }
    Ok(Token { value, until: asked.saturating_add(life.saturating_mul(1000)), got: asked })
}
