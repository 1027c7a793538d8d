//! The registry: OAuth clients and users, as the YAML declares them.
//!
//! Owns clients and users, their rights, and how a client authenticates; knows nothing of
//! operations or policies.

pub mod made;
pub mod secret;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use crate::names::{
    ApiName, ClientId, IssuerName, Origin, RoleName, ScopeName, Timestamp, UserName,
};
use crate::scope::ScopeSet;
use crate::token::KeySet;
use made::{Creation, MadeAtLogin, MadeUsers};
use secret::ClientSecret;

/// Most bytes of scope names that a client may hold: a token lists its scopes, and a token is at
/// most 8 KiB.
pub const MAX_SCOPE_BYTES: usize = 4096;

/// A grant type that a client may use (RFC 6749 §1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrantType {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 6749 §4.1.
    AuthorizationCode,
    /// RFC 6749 §6.
    RefreshToken,
    /// RFC 6749 §4.3, only for migrating old integrations.
    Password,
    /// RFC 7523 §2.1.
    JwtBearer,
}

impl GrantType {
    /// Every grant type.
    pub const ALL: [Self; 5] = [
        Self::ClientCredentials,
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::Password,
        Self::JwtBearer,
    ];

    /// The name in the YAML, and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::Password => "password",
            Self::JwtBearer => "jwt_bearer",
        }
    }

    /// The `grant_type` parameter of a token request.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::ClientCredentials
            | Self::AuthorizationCode
            | Self::RefreshToken
            | Self::Password => self.as_str(),
        }
    }
}

/// The format of access tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenFormat {
    /// A JWT of RFC 9068.
    #[default]
    Jwt,
    /// A random string with a row in the store.
    Opaque,
}

/// An OAuth client.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: ClientId,
    /// Name for people.
    pub name: String,
    /// Its operator, for the consent page.
    pub provider: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Its logo, for the consent page.
    pub logo_url: Option<String>,
    /// Its external sign-in page.
    pub login_url: Option<String>,
    /// Inactive clients get no token, and their tokens are refused.
    pub active: bool,
    /// Grants it may use.
    pub grants: BTreeSet<GrantType>,
    /// Its secrets, including expired ones.
    pub secrets: Vec<ClientSecret>,
    /// Its public keys: for assertions that it signs (RFC 7523).
    pub keys: KeySet,
    /// Public clients have no secret (RFC 6749 §2.1).
    pub public: bool,
    /// The user that its client-credentials tokens act as.
    pub application_user: Option<UserName>,
    /// Roles of its own, where there is no application user.
    pub roles: HashSet<RoleName>,
    /// The scopes that it holds.
    pub scopes: HashSet<ScopeName>,
    /// `R`: it reaches only operations that its scopes grant.
    pub allow_only_selected_scopes: bool,
    /// `E`: it reaches only operations that a policy naming it admits.
    pub enforce_token_restriction: bool,
    /// The only APIs that it reaches, if set.
    pub limit_authorization: Option<HashSet<ApiName>>,
    /// Life of its access tokens, seconds.
    pub access_token_lifespan: u32,
    /// Life of its refresh tokens, seconds.
    pub refresh_token_lifespan: u32,
    /// The format of its access tokens.
    pub token_format: TokenFormat,
    /// Redirect URIs for the authorization endpoint.
    pub redirect_urls: Vec<String>,
    /// It gets no code without PKCE.
    pub require_pkce: bool,
    /// External identities that map to this client.
    pub external: Vec<(IssuerName, String)>,
    /// Its position in the config file.
    pub origin: Origin,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The name: `sub` of its tokens.
    pub name: UserName,
    /// Name for people.
    pub display_name: Option<String>,
    /// Argon2id of the password, as a PHC string; without one it cannot sign in here.
    pub password: Option<String>,
    /// Inactive users get no tokens; theirs are refused.
    pub active: bool,
    /// Locked out.
    pub locked: bool,
    /// Its roles now; those of a user made at login are in the registry.
    pub roles: HashSet<RoleName>,
    /// Its identities at the login provider.
    pub external: Vec<ExternalIdentity>,
    /// What it has besides if it was made at login.
    pub made: Option<MadeAtLogin>,
    /// Its position in the config file.
    pub origin: Origin,
}

/// A user at an OpenID provider: only issuer and subject together identify one (OpenID Connect Core
/// §5.7).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExternalIdentity {
    /// The provider's issuer.
    pub issuer: String,
    /// `sub` of its ID tokens.
    pub subject: String,
}

impl ExternalIdentity {
    /// The text for this identity in a session.
    #[must_use]
    pub fn label(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update((self.issuer.len() as u64).to_be_bytes());
        hash.update(&self.issuer);
        hash.update(&self.subject);
        format!("external {}", crate::names::hex(hash.finalize().get(..8).unwrap_or_default()))
    }
}

impl User {
    /// The text for the password in a session: another password has another text, which reveals
    /// nothing about it.
    #[must_use]
    pub fn password_label(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(self.password.as_deref().unwrap_or_default());
        crate::names::hex(digest.get(..8).unwrap_or_default())
    }

    /// Where the user comes from, for people: its place in the YAML, or its login.
    #[must_use]
    pub fn place(&self) -> String {
        match self.external.first().filter(|_| self.made.is_some()) {
            Some(identity) => format!("made at login at {}", identity.issuer),
            None => self.origin.to_string(),
        }
    }

    /// Whether tokens that act as this user are valid.
    #[must_use]
    pub const fn usable(&self) -> bool {
        self.active && !self.locked
    }
}

#[cfg(test)]
impl Client {
    /// A client that may nothing.
    pub(crate) fn of_tests(id: &str) -> Self {
        Self {
            id: ClientId::new(id),
            name: id.to_owned(),
            provider: None,
            owner: None,
            logo_url: None,
            login_url: None,
            active: true,
            grants: BTreeSet::new(),
            secrets: Vec::new(),
            keys: KeySet::default(),
            public: false,
            application_user: None,
            roles: HashSet::new(),
            scopes: HashSet::new(),
            allow_only_selected_scopes: true,
            enforce_token_restriction: false,
            limit_authorization: None,
            access_token_lifespan: 1_800,
            refresh_token_lifespan: 8_640_000,
            token_format: TokenFormat::Jwt,
            redirect_urls: Vec::new(),
            require_pkce: true,
            external: Vec::new(),
            origin: Origin::default(),
        }
    }
}

/// Clients and users by name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    clients: HashMap<ClientId, Arc<Client>>,
    users: HashMap<UserName, Arc<User>>,
    external: HashMap<IssuerName, HashMap<String, ClientId>>,
    defaults: HashMap<IssuerName, ClientId>,
    /// Scopes that are left out of what is asked for.
    ignored_scopes: HashSet<ScopeName>,
    identities: HashMap<ExternalIdentity, UserName>,
    /// The issuer of users made at login, and how they are made.
    creation: Option<(String, Creation)>,
    made: OnceLock<Arc<MadeUsers>>,
    slowest_secret: Option<ClientSecret>,
    slowest_password: Option<String>,
    login_pages: bool,
}

impl Registry {
    /// Builds the registry. The configuration ensures that ids are unique.
    #[must_use]
    pub fn new(
        clients: Vec<Client>,
        users: Vec<User>,
        defaults: Vec<(IssuerName, ClientId)>,
    ) -> Self {
        let mut external: HashMap<IssuerName, HashMap<String, ClientId>> = HashMap::new();
        for client in &clients {
            for (issuer, value) in &client.external {
                external
                    .entry(issuer.clone())
                    .or_default()
                    .insert(value.clone(), client.id.clone());
            }
        }
        let identities = users
            .iter()
            .flat_map(|user| {
                user.external.iter().map(|identity| (identity.clone(), user.name.clone()))
            })
            .collect();
        Self {
            identities,
            slowest_password: users
                .iter()
                .filter_map(|user| user.password.as_ref())
                .max_by_key(|phc| secret::cost_of(phc))
                .cloned(),
            login_pages: clients.iter().any(|client| client.login_url.is_some()),
            slowest_secret: clients
                .iter()
                .flat_map(|client| &client.secrets)
                .filter(|secret| secret.is_slow())
                .max_by_key(|secret| secret.cost())
                .cloned(),
            clients: clients
                .into_iter()
                .map(|client| (client.id.clone(), Arc::new(client)))
                .collect(),
            users: users.into_iter().map(|user| (user.name.clone(), Arc::new(user))).collect(),
            external,
            defaults: defaults.into_iter().collect(),
            ignored_scopes: HashSet::new(),
            creation: None,
            made: OnceLock::new(),
        }
    }

    /// The same, where users of this issuer are made at login.
    #[must_use]
    pub fn making(mut self, creation: Option<(String, Creation)>) -> Self {
        self.creation = creation;
        self
    }

    /// From now on these are the users made at login; until then there are none.
    pub fn follow(&self, made: Arc<MadeUsers>) {
        // They are the same for every configuration of a process.
        let _ = self.made.set(made);
    }

    /// The same, where these scopes are left out of what is asked for instead of refused.
    #[must_use]
    pub fn ignoring(mut self, scopes: impl IntoIterator<Item = ScopeName>) -> Self {
        self.ignored_scopes = scopes.into_iter().collect();
        self
    }

    /// What of asked scopes counts: those that are not ignored.
    #[must_use]
    pub fn without_ignored(&self, asked: &ScopeSet) -> ScopeSet {
        let asked = asked.as_slice().iter();
        asked.filter(|scope| !self.ignored_scopes.contains(*scope)).cloned().collect()
    }

    /// Edits a copy of a client, to evaluate what a change would do.
    pub fn edit_client(&mut self, id: &ClientId, edit: &dyn Fn(&mut Client)) {
        if let Some(client) = self.clients.get_mut(id) {
            edit(Arc::make_mut(client));
        }
    }

    /// The same for a user.
    pub fn edit_user(&mut self, name: &UserName, edit: &dyn Fn(&mut User)) {
        if let Some(user) = self.users.get_mut(name) {
            edit(Arc::make_mut(user));
        }
    }

    /// One of our clients by its id.
    #[must_use]
    pub fn client(&self, id: &str) -> Option<&Arc<Client>> {
        self.clients.get(id)
    }

    /// The costliest of the secrets that take milliseconds to check, if any: without its cost for
    /// every attempt, timing would reveal which clients exist.
    #[must_use]
    pub const fn slowest_secret(&self) -> Option<&ClientSecret> {
        self.slowest_secret.as_ref()
    }

    /// The costliest of all passwords.
    #[must_use]
    pub fn slowest_password(&self) -> Option<&str> {
        self.slowest_password.as_deref()
    }

    /// A user of the YAML by name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// A user by name, of the YAML or made at login. One that was made is nobody once users are
    /// made no more or of another provider, or a user of the YAML has its identity.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Arc<User>> {
        if let Some(user) = self.users.get(name) {
            return Some(user.clone());
        }
        let (issuer, _) = self.creation.as_ref()?;
        let user = self.made.get()?.user(name)?;
        let of_another = |identity: &ExternalIdentity| {
            identity.issuer != *issuer || self.identities.contains_key(identity)
        };
        (!user.external.iter().any(of_another)).then_some(user)
    }

    /// How users are made at login, if they are.
    #[must_use]
    pub fn creation(&self) -> Option<&Creation> {
        self.creation.as_ref().map(|(_, creation)| creation)
    }

    /// The users made at login, where somebody follows them.
    #[must_use]
    pub fn made_users(&self) -> Option<&Arc<MadeUsers>> {
        self.made.get()
    }

    /// Whether a user has a role now.
    #[must_use]
    pub fn has_role(&self, user: &User, role: &RoleName) -> bool {
        user.roles.contains(role) || self.mapped(user).any(|mapped| mapped == role)
    }

    /// The roles of a user now, sorted.
    #[must_use]
    pub fn roles(&self, user: &User) -> BTreeSet<RoleName> {
        user.roles.iter().chain(self.mapped(user)).cloned().collect()
    }

    /// The roles that the groups of a user made at login give now.
    fn mapped<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a RoleName> {
        let groups = user.made.iter().flat_map(|made| &made.groups);
        groups.filter_map(|group| self.creation.as_ref()?.1.roles.get(group))
    }

    /// The user of the YAML with an identity at the login provider.
    #[must_use]
    pub fn external_user(&self, identity: &ExternalIdentity) -> Option<&Arc<User>> {
        self.users.get(self.identities.get(identity)?)
    }

    /// Whether some client has an external sign-in page of its own.
    #[must_use]
    pub const fn has_login_pages(&self) -> bool {
        self.login_pages
    }

    /// Whether any user signs in with a password.
    #[must_use]
    pub const fn has_passwords(&self) -> bool {
        self.slowest_password.is_some()
    }

    /// The client of an external issuer's token: the one that lists the value, else the issuer's
    /// default. A bare value is never looked up among our own ids (decisions.md, "Issuers and
    /// clients").
    #[must_use]
    pub fn external_client(
        &self,
        issuer: &IssuerName,
        value: Option<&str>,
    ) -> Option<&Arc<Client>> {
        let listed = value.and_then(|value| self.external.get(issuer)?.get(value));
        self.clients.get(listed.or_else(|| self.defaults.get(issuer.declared()))?)
    }

    /// All clients, in the order of their ids.
    #[must_use]
    pub fn clients(&self) -> Vec<&Arc<Client>> {
        self.clients.iter().collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// All users, in the order of their names.
    #[must_use]
    pub fn users(&self) -> Vec<&Arc<User>> {
        self.users.iter().collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Reasons why a client cannot get a token with client credentials now; empty if there are
    /// none.
    #[must_use]
    pub fn obstacles(
        &self,
        client: &Client,
        enabled: &BTreeSet<GrantType>,
        now: Timestamp,
    ) -> Vec<String> {
        let mut obstacles = Vec::new();
        if !client.active {
            obstacles.push("it has `active: false`".to_owned());
        }
        if client.grants.is_empty() {
            obstacles.push("it lists no `grants`".to_owned());
        }
        for grant in client.grants.difference(enabled) {
            obstacles.push(format!(
                "its grant `{0}` is not in authorization_server.grants; add {0} there",
                grant.as_str()
            ));
        }
        if !client.public && client.secrets.is_empty() && client.keys.keys().is_empty() {
            obstacles.push(
                "it has neither secret nor `jwks_file` and is not a `public_client`".to_owned(),
            );
        } else if !client.public
            && !client.secrets.is_empty()
            && client.secrets.iter().all(|secret| secret.expired(now))
        {
            obstacles.push("all its secrets have expired; add a new one".to_owned());
        }
        if client.public && client.grants.contains(&GrantType::ClientCredentials) {
            obstacles
                .push("a public client cannot use client_credentials (RFC 6749 §4.4)".to_owned());
        }
        if client.grants.contains(&GrantType::JwtBearer) && client.keys.keys().is_empty() {
            obstacles.push("the grant `jwt_bearer` needs a `jwks_file`".to_owned());
        }
        if let Some(name) = &client.application_user
            && !self.user(name.as_str()).is_some_and(|user| user.usable())
        {
            obstacles.push(format!("its application user `{name}` is inactive or locked"));
        }
        obstacles
    }
}
