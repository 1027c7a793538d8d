//! Clients and users.

use std::collections::{HashMap, HashSet};

use super::authorization_server::{Lifespans, grant_type, seconds};
use super::gateway::relative_to;
use super::{Builder, Entry, Named, Place};
use crate::client::secret::{ClientSecret, SecretDigest};
use crate::client::{Client, ExternalIdentity, MAX_SCOPE_BYTES, TokenFormat, User, made};
use crate::config::raw::client::{RawSecret, RawTokenFormat};
use crate::config::raw::gateway::RawGrant;
use crate::config::raw::{RawClient, RawUser};
use crate::grant::redirect;
use crate::names::{ApiName, ClientId, IssuerName, RoleName, ScopeName, UserName};
use crate::token::KeySet;

/// Secrets that may be live at once: the new one and the one it replaces.
const LIVE_SECRETS: usize = 2;

impl Builder<'_> {
    pub(super) fn users(&mut self) -> Vec<User> {
        let mut users = Vec::new();
        let mut seen = HashMap::new();
        for Entry { name, place, value } in self.entries(self.users, "users") {
            self.check_name(&place, &name);
            self.check_not_made(&place, &name);
            let Some(raw) = self.read::<RawUser>(&place, value) else { continue };
            let external = self.identities(&name, &raw, &place.key("external"), &mut seen);
            users.push(User {
                name: UserName::new(&name),
                display_name: raw.name,
                password: raw.password.map(|password| password.argon2id.value),
                active: raw.active,
                locked: raw.locked,
                roles: roles(&raw.roles),
                external,
                made: None,
                origin: place.origin(),
            });
        }
        users
    }

    fn identities(
        &mut self,
        name: &str,
        raw: &RawUser,
        place: &Place<'_>,
        seen: &mut HashMap<ExternalIdentity, String>,
    ) -> Vec<ExternalIdentity> {
        let mut identities = Vec::new();
        for (at, raw) in raw.external.iter().enumerate() {
            let (issuer, subject) = (raw.issuer.text().to_owned(), raw.subject.clone());
            let identity = ExternalIdentity { issuer, subject };
            if let Some(other) = seen.insert(identity.clone(), name.to_owned()) {
                let message = format!("`{}` there is already the user `{other}`", identity.subject);
                self.fault(
                    &place.at(at).key("subject"),
                    message,
                    "an external identity is one user",
                );
            }
            identities.push(identity);
        }
        identities
    }

    pub(super) fn clients(&mut self, lifespans: Lifespans) -> Vec<Client> {
        let mut clients = Vec::new();
        let mut externals: HashMap<(String, String), String> = HashMap::new();
        for Entry { name, place, value } in self.entries(self.clients, "clients") {
            self.check_name(&place, &name);
            self.check_not_made(&place, &name);
            if self.names_user(&name) {
                let help = "client ids and user names share one namespace, so that `sub` is never \
                    both; rename one";
                self.fault_at_key(&place, format!("`{name}` is a user's name too"), help);
            }
            let Some(raw) = self.read::<RawClient>(&place, value) else { continue };
            let external = self.external(&name, &raw, &place, &mut externals);
            clients.push(self.client(&name, &raw, &place, external, lifespans));
        }
        clients
    }

    fn client(
        &mut self,
        name: &str,
        raw: &RawClient,
        place: &Place<'_>,
        external: Vec<(IssuerName, String)>,
        lifespans: Lifespans,
    ) -> Client {
        self.check_client(raw, place);
        self.check_redirects(raw, place);
        self.check_scope_size(raw, place);
        if let Some(lifespan) = &raw.access_token_lifespan {
            self.lifespan(lifespan, &place.key("access_token_lifespan"));
        }
        if let Some(lifespan) = &raw.refresh_token_lifespan {
            self.whole_seconds(lifespan, &place.key("refresh_token_lifespan"));
        }
        for (at, scope) in raw.auth_scopes.iter().enumerate() {
            self.refer(&place.key("auth_scopes").at(at), Named::Scope, scope);
        }
        for (at, api) in raw.limit_authorization.iter().flatten().enumerate() {
            self.refer(&place.key("limit_authorization").at(at), Named::Api, api);
        }
        if let Some(user) = &raw.application_user {
            self.refer(&place.key("application_user"), Named::User, user);
        }
        Client {
            id: ClientId::new(name),
            name: raw.name.clone().unwrap_or_else(|| name.to_owned()),
            provider: raw.provider_name.clone(),
            owner: raw.owner.clone(),
            logo_url: raw.logo_url.as_ref().map(|url| url.text().to_owned()),
            login_url: raw.login_url.as_ref().map(|url| url.text().to_owned()),
            active: raw.active,
            grants: raw.grants.iter().copied().map(grant_type).collect(),
            secrets: self.secrets(&raw.secrets, &place.key("secrets")),
            keys: self.client_keys(raw, place),
            public: raw.public_client,
            application_user: raw.application_user.as_deref().map(UserName::new),
            roles: roles(raw.roles.as_deref().unwrap_or_default()),
            scopes: raw.auth_scopes.iter().map(|scope| ScopeName::new(scope)).collect(),
            allow_only_selected_scopes: raw.allow_only_selected_scopes,
            enforce_token_restriction: raw.enforce_token_restriction,
            limit_authorization: raw
                .limit_authorization
                .as_ref()
                .map(|apis| apis.iter().map(|api| ApiName::new(api)).collect()),
            access_token_lifespan: raw
                .access_token_lifespan
                .as_ref()
                .map_or(lifespans.access, |lifespan| seconds(lifespan.value)),
            refresh_token_lifespan: raw
                .refresh_token_lifespan
                .as_ref()
                .map_or(lifespans.refresh, |lifespan| seconds(lifespan.value)),
            token_format: match raw.token_format {
                RawTokenFormat::Jwt => TokenFormat::Jwt,
                RawTokenFormat::Opaque => TokenFormat::Opaque,
            },
            redirect_urls: raw.redirect_urls.clone().unwrap_or_default(),
            require_pkce: raw.public_client || raw.require_pkce.unwrap_or(true),
            external,
            origin: place.origin(),
        }
    }

    fn check_client(&mut self, raw: &RawClient, place: &Place<'_>) {
        if raw.application_user.is_some() && raw.roles.is_some() {
            self.fault(
                &place.key("roles"),
                "both `application_user` and `roles`",
                "the user's roles count; keep one of them",
            );
        }
        if raw.public_client && !raw.secrets.is_empty() {
            self.fault(
                &place.key("secrets"),
                "a public client with secrets",
                "remove `secrets`, or `public_client: true`",
            );
        }
        if raw.limit_authorization.as_ref().is_some_and(Vec::is_empty) {
            self.fault(
                &place.key("limit_authorization"),
                "an empty list",
                "leave it out, or switch the client off with `active: false`",
            );
        }
    }

    /// The keys of a client that signs: only public ones, read where the file says they are.
    fn client_keys(&mut self, raw: &RawClient, place: &Place<'_>) -> KeySet {
        let Some(path) = &raw.jwks_file else { return KeySet::default() };
        let file = relative_to(&place.document.file, path);
        let read = self.lookup.file(&file);
        let parsed =
            read.and_then(|contents| KeySet::parse(&contents).map_err(|fault| fault.to_string()));
        match parsed {
            Ok((keys, _)) => keys,
            Err(fault) => {
                let help = "a JWK Set is {\"keys\": [ … ]} with public keys; paths are relative to \
                    the file they stand in";
                self.fault(&place.key("jwks_file"), format!("{}: {fault}", file.display()), help);
                KeySet::default()
            }
        }
    }

    fn check_redirects(&mut self, raw: &RawClient, place: &Place<'_>) {
        let place = place.key("redirect_urls");
        for (at, url) in raw.redirect_urls.iter().flatten().enumerate() {
            if let Err(message) = redirect::check_registered(url, raw.public_client) {
                self.fault(
                    &place.at(at),
                    message,
                    "write for instance https://app.example/callback",
                );
            }
        }
        let none = raw.redirect_urls.as_ref().is_none_or(Vec::is_empty);
        if none && raw.grants.iter().any(|grant| matches!(grant, RawGrant::AuthorizationCode)) {
            let help = "write `redirect_urls: [https://app.example/callback]`";
            self.fault(&place, "the grant authorization_code without redirect_urls", help);
        }
    }

    /// A token names its scopes, and a token is at most 8 KiB.
    fn check_scope_size(&mut self, raw: &RawClient, place: &Place<'_>) {
        let bytes: usize = raw.auth_scopes.iter().map(|scope| scope.len() + 1).sum();
        if bytes > MAX_SCOPE_BYTES {
            let help = "give the client fewer scopes; one scope can grant several APIs";
            self.fault(
                &place.key("auth_scopes"),
                format!("{bytes} bytes of scope names do not fit into a token"),
                help,
            );
        }
    }

    fn secrets(&mut self, raw: &[RawSecret], place: &Place<'_>) -> Vec<ClientSecret> {
        let mut secrets = Vec::new();
        for (at, secret) in raw.iter().enumerate() {
            let digest = match (&secret.sha256, &secret.argon2id) {
                (Some(digest), None) => SecretDigest::Sha256(digest.value),
                (None, Some(phc)) => SecretDigest::Argon2id(phc.value.clone()),
                (None, None) | (Some(_), Some(_)) => {
                    self.fault(
                        &place.at(at),
                        "a secret is either `sha256` or `argon2id`",
                        "write exactly one of the two",
                    );
                    continue;
                }
            };
            secrets.push(ClientSecret {
                digest,
                expires: secret.expires.as_ref().map(|date| date.value),
            });
        }
        let live = secrets.iter().filter(|secret| !secret.expired(self.now)).count();
        if live > LIVE_SECRETS {
            self.fault(
                place,
                format!("{live} live secrets"),
                "keep the new one and the one it replaces",
            );
        }
        secrets
    }

    fn external(
        &mut self,
        name: &str,
        raw: &RawClient,
        place: &Place<'_>,
        seen: &mut HashMap<(String, String), String>,
    ) -> Vec<(IssuerName, String)> {
        let mut external = Vec::new();
        for (issuer, values) in &raw.external {
            let place = place.key("external").key(issuer);
            if issuer == IssuerName::OWN {
                self.fault_at_key(
                    &place,
                    "`self` is our own authorization server",
                    "its tokens name this client by its id",
                );
                continue;
            }
            let of = match self.tenant_reference(issuer) {
                Some(Ok(of)) => of,
                Some(Err(message)) => {
                    let help = "write `external: { issuer/tenant: [ … ] }`";
                    self.fault_at_key(&place, message, help);
                    continue;
                }
                None if self.refer_key(&place, Named::Issuer, issuer) => IssuerName::new(issuer),
                None => continue,
            };
            for (at, value) in values.iter().enumerate() {
                if let Some(other) = seen.insert((issuer.clone(), value.clone()), name.to_owned()) {
                    let message =
                        format!("`{value}` of `{issuer}` is already the client `{other}`");
                    self.fault(&place.at(at), message, "an external identity is one client");
                }
                external.push((of.clone(), value.clone()));
            }
        }
        external
    }

    /// Whether a user of this name is declared.
    fn names_user(&self, name: &str) -> bool {
        self.known.0.get(&Named::User).is_some_and(|users| users.contains(name))
    }

    /// Users made at login have names of a form of their own, so that none is ever a listed one's.
    fn check_not_made(&mut self, place: &Place<'_>, name: &str) {
        if name.starts_with(made::PREFIX) {
            let help = "names that begin with `~` are those of users made at login";
            self.fault_at_key(place, format!("`{name}` begins with `~`"), help);
        }
    }

    /// Client ids, user names and names of issuers: visible ASCII (RFC 6749 appendix A.1) that
    /// needs no escaping in headers and JSON.
    pub(super) fn check_name(&mut self, place: &Place<'_>, name: &str) {
        let valid = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b',');
        if name.is_empty() || name.len() > 128 || !name.bytes().all(valid) {
            let help = "use visible ASCII without space, comma, double quote and backslash, at \
                most 128 characters";
            self.fault_at_key(
                place,
                format!("`{name}` is not a name for a client, user or issuer"),
                help,
            );
        }
    }
}

fn roles(names: &[String]) -> HashSet<RoleName> {
    names.iter().map(|name| RoleName::new(name)).collect()
}
