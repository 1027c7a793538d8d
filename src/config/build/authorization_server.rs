//! `authorization_server:` of gateway.yaml: grants, lives of tokens, signing keys, and who signs
//! users in.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gateway::Settings;
use super::{Builder, Named, Place};
use crate::client::{Client, GrantType};
use crate::config::format::is_loopback;
use crate::config::raw::gateway::{
    RawAuthorizationServer, RawGrant, RawLogin, RawProvider, RawSigningAlgorithm,
};
use crate::config::{KeySource, Login, Provider};
use crate::names::ScopeName;
use crate::token::jws::Algorithm;
use crate::token::mint::Signing;

/// The longest life of an access token, seconds: a retired key is published for longer, and so is a
/// revocation kept.
const MAX_ACCESS: u64 = 100 * 86_400;
/// How often the signing key changes by default, seconds.
const ROTATE_EVERY: u32 = 90 * 86_400;
/// And how often at most.
const MIN_ROTATE: u32 = 3_600;
/// How long a retired key stays published by default, seconds.
const KEEP_INACTIVE: u32 = 105 * 86_400;
/// How long the predecessor of a refresh token gives the same successor again by default, seconds.
const REFRESH_GRACE: u32 = 10;
/// And at most.
const MAX_REFRESH_GRACE: u64 = 60;
/// The master scope by default.
const MASTER_SCOPE: &str = "useraccount";

/// What the section says.
pub(super) struct AuthorizationServer {
    pub(super) grants: BTreeSet<GrantType>,
    pub(super) master_scope: ScopeName,
    pub(super) lifespans: Lifespans,
    pub(super) refresh_grace: u32,
    pub(super) ignored_scopes: Vec<ScopeName>,
    pub(super) signing: Signing,
    pub(super) login: Login,
}

/// Lives of tokens, seconds, where a client says nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifespans {
    pub(super) access: u32,
    pub(super) refresh: u32,
}

impl Default for Lifespans {
    fn default() -> Self {
        Self { access: 1_800, refresh: 8_640_000 }
    }
}

pub(super) const fn grant_type(grant: RawGrant) -> GrantType {
    match grant {
        RawGrant::ClientCredentials => GrantType::ClientCredentials,
        RawGrant::AuthorizationCode => GrantType::AuthorizationCode,
        RawGrant::RefreshToken => GrantType::RefreshToken,
        RawGrant::Password => GrantType::Password,
        RawGrant::JwtBearer => GrantType::JwtBearer,
    }
}

/// Whole seconds, at least one.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs().max(1)).unwrap_or(u32::MAX)
}

impl Builder<'_> {
    /// The section, or what holds without one.
    pub(super) fn authorization_server(
        &mut self,
        raw: Option<&RawAuthorizationServer>,
        place: &Place<'_>,
    ) -> AuthorizationServer {
        let mut lifespans = Lifespans::default();
        if let Some(lifespan) = raw.and_then(|raw| raw.access_token_lifespan.as_ref()) {
            self.lifespan(lifespan, &place.key("access_token_lifespan"));
            lifespans.access = seconds(lifespan.value);
        }
        if let Some(lifespan) = raw.and_then(|raw| raw.refresh_token_lifespan.as_ref()) {
            self.whole_seconds(lifespan, &place.key("refresh_token_lifespan"));
            lifespans.refresh = seconds(lifespan.value);
        }
        let grace = raw.and_then(|raw| raw.refresh_grace.as_ref());
        if let Some(grace) = grace.filter(|grace| grace.value.as_secs() > MAX_REFRESH_GRACE) {
            let help = "it is there for a lost answer and a second tab; write at most 60s";
            self.fault(
                &place.key("refresh_grace"),
                format!("`{}` is too long", grace.text()),
                help,
            );
        }
        let master_scope = raw
            .and_then(|raw| raw.master_scope.as_ref())
            .map_or(MASTER_SCOPE, |scope| scope.text());
        AuthorizationServer {
            grants: raw
                .map(|raw| raw.grants.iter().copied().map(grant_type).collect())
                .unwrap_or_default(),
            master_scope: ScopeName::new(master_scope),
            lifespans,
            refresh_grace: grace
                .map_or(REFRESH_GRACE, |grace| u32::try_from(grace.value.as_secs()).unwrap_or(0)),
            ignored_scopes: self.ignored_scopes(raw, &place.key("ignored_scopes")),
            signing: self.signing(raw, &place.key("signing")),
            login: raw
                .and_then(|raw| raw.login.as_ref())
                .map(|login| self.login(login, &place.key("login")))
                .unwrap_or_default(),
        }
    }

    /// A scope that somebody holds or that grants something is never left out in silence.
    fn ignored_scopes(
        &mut self,
        raw: Option<&RawAuthorizationServer>,
        place: &Place<'_>,
    ) -> Vec<ScopeName> {
        let ignored = raw.map(|raw| raw.ignored_scopes.as_slice()).unwrap_or_default();
        let master = raw.and_then(|raw| raw.master_scope.as_ref());
        let master = master.map_or(MASTER_SCOPE, |scope| scope.text());
        let held: BTreeSet<&str> = self
            .clients
            .iter()
            .filter_map(|document| document.value.get("clients")?.as_mapping())
            .flat_map(|clients| clients.values())
            .filter_map(|client| client.get("auth_scopes")?.as_sequence())
            .flatten()
            .filter_map(|scope| scope.as_str())
            .collect();
        let is_held = |scope: &str| held.contains(scope) || scope == master;
        let wrong: Vec<usize> = (0..ignored.len())
            .filter(|at| {
                let scope = ignored.get(*at).map_or("", |scope| scope.text());
                is_held(scope) || self.known.names(Named::Scope, scope)
            })
            .collect();
        for at in wrong {
            let scope = ignored.get(at).map_or("", |scope| scope.text()).to_owned();
            let message = format!("`{scope}` is a scope of clients or of `auth_scopes` here");
            self.fault(&place.at(at), message, "ignore only what nobody here can hold");
        }
        ignored.iter().map(|scope| ScopeName::new(scope.text())).collect()
    }

    fn login(&mut self, raw: &RawLogin, place: &Place<'_>) -> Login {
        if raw.login_url.is_some() && raw.provider.is_some() {
            let help =
                "keep one: the page signs everybody in, or ours does with the provider's button";
            self.fault_at_key(&place.key("provider"), "both `login_url` and `provider`", help);
        }
        Login {
            page: raw.login_url.as_ref().map(|url| url.text().to_owned()),
            provider: raw
                .provider
                .as_ref()
                .and_then(|raw| self.provider(raw, &place.key("provider"))),
        }
    }

    fn provider(&mut self, raw: &RawProvider, place: &Place<'_>) -> Option<Provider> {
        if raw.issuer.value.scheme() != "https" && !is_loopback(&raw.issuer.value) {
            let help = "write an https URL";
            self.fault(
                &place.key("issuer"),
                "who signs users in over plain http could be replaced on the way",
                help,
            );
        }
        let algorithms = self.algorithms(raw.algorithms.as_deref(), &place.key("algorithms"));
        let outbound = self.outbound(raw.ca.as_deref(), raw.proxy.as_ref(), place);
        let mut keys =
            self.key_source(raw.issuer.text(), &raw.keys, outbound.clone(), &place.key("keys"));
        if let Some(KeySource::Discover { any_host, .. }) = &mut keys {
            *any_host = true;
        }
        let client_secret = self.secret(&raw.client_secret.value, &place.key("client_secret"));
        let creation = self.creation(raw, place);
        Some(Provider {
            name: raw.name.clone(),
            issuer: raw.issuer.text().to_owned(),
            client_id: raw.client_id.clone(),
            client_secret: client_secret?,
            algorithms,
            keys: keys?,
            outbound,
            creation,
        })
    }

    /// `expires_in` counts seconds (RFC 6749 §5.1).
    pub(super) fn whole_seconds(
        &mut self,
        duration: &crate::config::format::Duration,
        place: &Place<'_>,
    ) {
        if duration.value.subsec_nanos() != 0 {
            self.fault(
                place,
                format!("`{}` is not a whole number of seconds", duration.text()),
                "tokens live for seconds: write 1800s",
            );
        }
    }

    fn signing(&mut self, server: Option<&RawAuthorizationServer>, place: &Place<'_>) -> Signing {
        let raw = server.map(|server| &server.signing);
        let algorithm = match raw.map(|raw| raw.algorithm).unwrap_or_default() {
            RawSigningAlgorithm::Es256 => Algorithm::Es256,
            RawSigningAlgorithm::Rs256 => Algorithm::Rs256,
            RawSigningAlgorithm::EdDsa => Algorithm::EdDsa,
        };
        let rotate_every = raw
            .and_then(|raw| raw.rotate_every.as_ref())
            .map_or(ROTATE_EVERY, |every| seconds(every.value));
        if rotate_every < MIN_ROTATE {
            let help = "verifiers read our keys every few minutes; write at least 1h";
            self.fault(
                &place.key("rotate_every"),
                "the signing key would change more often than verifiers look",
                help,
            );
        }
        let keep = raw
            .and_then(|raw| raw.keep_inactive.as_ref())
            .map_or(KEEP_INACTIVE, |keep| seconds(keep.value));
        Signing { algorithm, rotate_every: i64::from(rotate_every), keep_inactive: i64::from(keep) }
    }

    /// Whoever signs users in elsewhere tells the admin listener.
    pub(super) fn check_login(&mut self, settings: &Settings, clients: &[Client]) {
        let elsewhere = settings.server.login.page.is_some()
            || clients.iter().any(|client| client.login_url.is_some());
        if elsewhere && settings.fixed.admin.is_none() {
            let help = "write `admin: { address: 127.0.0.1:9090, token: file:secrets/admin }`";
            self.fault(
                &Place::root(self.gateway),
                "`login_url` without `admin`: the page could tell nobody who has signed in",
                help,
            );
        }
    }

    /// A retired key has to stay published for as long as a token that it signed may live.
    pub(super) fn check_kept_keys(&mut self, signing: Signing, clients: &[Client]) {
        let longest = clients.iter().max_by_key(|client| client.access_token_lifespan);
        if let Some(client) =
            longest.filter(|client| i64::from(client.access_token_lifespan) > signing.keep_inactive)
        {
            let place = Place::root(self.gateway)
                .key("authorization_server")
                .key("signing")
                .key("keep_inactive");
            let message = format!(
                "access tokens of `{}` live longer than a retired key is published",
                client.id
            );
            let help = format!(
                "write at least {}s, or shorten access_token_lifespan",
                client.access_token_lifespan
            );
            self.fault(&place, message, help);
        }
    }

    /// The life of an access token: whole seconds, and not longer than keys and revocations are
    /// kept.
    pub(super) fn lifespan(
        &mut self,
        duration: &crate::config::format::Duration,
        place: &Place<'_>,
    ) {
        self.whole_seconds(duration, place);
        if duration.value.as_secs() > MAX_ACCESS {
            self.fault(
                place,
                format!("`{}` is longer than 100d", duration.text()),
                "write at most 100d",
            );
        }
    }
}
