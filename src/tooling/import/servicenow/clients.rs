//! `oauth_entity` and what refers to it: clients, the scopes they hold, and the users they act as.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Note, yaml};
use super::Scopes;
use super::apis::scope_name;
use super::records::{Record, Records};
use crate::config::format;
use crate::grant::redirect;

/// The longest life of an access token here, seconds: 100 days.
const LONGEST_ACCESS: u64 = 8_640_000;
/// The longest life of a refresh token here, seconds: a hundred years.
const LONGEST_REFRESH: u64 = 3_153_600_000;
/// The scope that passes gate 2 everywhere, by its name there and here.
const MASTER: &str = "useraccount";

/// Fields that are read, or say how a record came to be.
const KNOWN: &[&str] = &[
    "access_token_lifespan",
    "active",
    "client_id",
    "client_secret",
    "client_type",
    "comments",
    "default_grant_type",
    "inbound_grant_type",
    "login_url",
    "logo_url",
    "name",
    "provider_name",
    "public_client",
    "redirect_url",
    "refresh_token_lifespan",
    "scope_restriction_status",
    "token_format",
    "type",
    "use_pkce",
    "user",
];

/// A client.
#[derive(Debug)]
struct Client {
    /// `sys_id` of its record.
    record: String,
    /// The record, for messages.
    about: String,
    lines: Vec<(&'static str, String)>,
    scopes: BTreeSet<String>,
    has_secret: bool,
}

/// A user that a client acts as.
#[derive(Debug)]
pub(super) struct User {
    name: String,
    active: bool,
    locked: bool,
    roles: BTreeSet<String>,
}

/// Clients by their ids, and the users they act as.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: BTreeMap<String, Client>,
    pub(super) users: BTreeMap<String, User>,
}

impl Clients {
    /// Reads them.
    pub(super) fn of(records: &Records, notes: &mut Vec<Note>) -> Self {
        let mut all = Self::default();
        for record in records.all("oauth_entity").chain(records.all("oauth_jwt")) {
            if let Err(fault) = all.client(records, record, notes) {
                notes.push(Note::new(&record.about, format!("left out: {fault}")));
            }
        }
        for record in records.all("oauth_oidc_entity") {
            let message = "left out: tokens of another issuer. Name the issuer under `issuers` in gateway.yaml, and the identities that are a \
                           client under its `external`";
            notes.push(Note::new(&record.about, message));
        }
        all.classic_scopes(records, notes);
        all.keep_apart(notes);
        all
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// The client that a record is.
    pub(super) fn id_of(&self, record: &str) -> Option<&str> {
        self.clients.iter().find(|(_, client)| client.record == record).map(|(id, _)| id.as_str())
    }

    /// Clients that need a secret.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.clients.iter().filter(|(_, client)| client.has_secret).map(|(id, _)| id.clone()).collect()
    }

    fn client(&mut self, records: &Records, record: &Record, notes: &mut Vec<Note>) -> Result<(), String> {
        if let Some(kind) = record.get("type").filter(|kind| *kind != "client") {
            return Err(format!("its type is `{kind}`: it is no client that calls in"));
        }
        let id = record.get("client_id").ok_or("no `client_id`")?;
        check_id(id)?;
        if let Some(other) = self.clients.get(id).filter(|other| other.record != record.id()) {
            return Err(format!("the client id is that of {} too", other.about));
        }
        let mut say = |message: String| notes.push(Note::new(&record.about, message));
        let public = record.is("public_client").unwrap_or(false);
        let redirects = redirects(record, &mut say);
        let grants = grants(records, record, public, !redirects.is_empty(), &mut say);
        let mut lines = named(record);
        if record.is("active") == Some(false) {
            lines.push(("active", "false".to_owned()));
        }
        lines.push(("grants", yaml::list(grants.iter().copied())));
        if public {
            lines.push(("public_client", "true".to_owned()));
        } else if record.is("use_pkce") == Some(false) && grants.contains(&"authorization_code") {
            lines.push(("require_pkce", "false".to_owned()));
        }
        if !redirects.is_empty() {
            lines.push(("redirect_urls", yaml::list(redirects.iter().map(String::as_str))));
        }
        if grants.contains(&"client_credentials") {
            lines.extend(
                self.application_user(records, record, &mut say).map(|user| ("application_user", yaml::text(&user))),
            );
        }
        restrictions(record, &mut lines, &mut say);
        tokens(record, &mut lines, &mut say);
        let has_secret = !public;
        unread(record, &mut say);
        let scopes = held(records, record.id(), notes);
        let about = record.about.clone();
        self.clients.insert(id.to_owned(), Client { record: record.id().to_owned(), about, lines, scopes, has_secret });
        Ok(())
    }

    /// The user that a client acts as, with the roles that the files tell.
    fn application_user(&mut self, records: &Records, record: &Record, say: &mut impl FnMut(String)) -> Option<String> {
        let id = record.get("user")?;
        let shown = record.shown("user").unwrap_or(id);
        let Some(user) = records.find("sys_user", id) else {
            say(format!(
                "acts as the user `{shown}`, who is not in the files: export sys_user, sys_user_has_role and sys_user_role too"
            ));
            return None;
        };
        let name = user.get("user_name").unwrap_or_default();
        if let Err(fault) = check_id(name) {
            say(format!("acts as the user `{shown}`: {fault}"));
            return None;
        }
        let rows = records.all("sys_user_has_role").filter(|row| row.get("user") == Some(id));
        let roles: Vec<&Record> = rows.filter_map(|row| records.find("sys_user_role", row.get("role")?)).collect();
        if !records.knows("sys_user_has_role") || !records.knows("sys_user_role") {
            say(format!("the roles of `{name}` are not in the files: export sys_user_has_role and sys_user_role too"));
        }
        let user = User {
            name: user.get("name").unwrap_or(name).to_owned(),
            active: user.is("active").unwrap_or(true),
            locked: user.is("locked_out").unwrap_or(false),
            roles: roles
                .into_iter()
                .filter_map(|role| role.get("name"))
                .filter(|role| !role.starts_with("env:"))
                .map(str::to_owned)
                .collect(),
        };
        self.users.insert(name.to_owned(), user);
        Some(name.to_owned())
    }

    /// Client ids and user names share one namespace here, so that a `sub` is never both.
    fn keep_apart(&mut self, notes: &mut Vec<Note>) {
        let clients = &mut self.clients;
        let taken: Vec<String> = self.users.keys().filter(|name| clients.contains_key(*name)).cloned().collect();
        for name in taken {
            self.users.remove(&name);
            let acting = ("application_user", yaml::text(&name));
            for client in clients.values_mut().filter(|client| client.lines.contains(&acting)) {
                client.lines.retain(|line| *line != acting);
                let message = format!(
                    "acts as the user `{name}`, which is a client id too: rename one, and write `application_user`"
                );
                notes.push(Note::new(&client.about, message));
            }
        }
    }

    /// Scopes of the older list open nothing there by themselves: they are told of where the newer one lacks them.
    fn classic_scopes(&self, records: &Records, notes: &mut Vec<Note>) {
        for record in records.all("oauth_entity_scope") {
            let Some(client) =
                record.get("oauth_entity").and_then(|id| self.clients.values().find(|client| client.record == id))
            else {
                continue;
            };
            let Some(name) = record.get("oauth_entity_scope").or_else(|| record.get("name")) else { continue };
            if !client.scopes.contains(name) {
                let message = format!(
                    "has the scope `{name}` in oauth_entity_scope and not in oauth_entity_auth_scope_mapping, which alone opens APIs there: it does \
                     not hold it here"
                );
                notes.push(Note::new(&client.about, message));
            }
        }
    }

    /// `clients:`, and the scopes that there have to be for them.
    pub(super) fn yaml(&self, mut scopes: Scopes, notes: &mut Vec<Note>) -> (String, Scopes) {
        if self.clients.is_empty() {
            return (String::new(), scopes);
        }
        let mut text = "clients:\n".to_owned();
        for (id, client) in &self.clients {
            text.push_str(&format!("  {}:\n", yaml::text(id)));
            for (key, value) in &client.lines {
                text.push_str(&format!("    {key}: {value}\n"));
            }
            let mut held = BTreeSet::new();
            for scope in &client.scopes {
                if scope == MASTER {
                    notes.push(Note::new(
                        &client.about,
                        format!("holds `{MASTER}`, which passes every scope check, here as there"),
                    ));
                    scopes.entry(scope.clone()).or_default();
                } else if !scopes.contains_key(scope) {
                    notes.push(Note::new(&client.about, format!("does not hold `{scope}`, which is not carried over")));
                    continue;
                }
                held.insert(scope.as_str());
            }
            text.push_str(&format!("    auth_scopes: {}\n", yaml::list(held)));
        }
        (text, scopes)
    }

    /// `users:`.
    pub(super) fn users_yaml(&self) -> String {
        if self.users.is_empty() {
            return String::new();
        }
        let mut text = "users:\n".to_owned();
        for (name, user) in &self.users {
            text.push_str(&format!("  {}:\n    name: {}\n", yaml::text(name), yaml::prose(&user.name)));
            if !user.active {
                text.push_str("    active: false\n");
            }
            if user.locked {
                text.push_str("    locked: true\n");
            }
            text.push_str(&format!("    roles: {}\n", yaml::list(user.roles.iter().map(String::as_str))));
        }
        text
    }
}

fn check_id(id: &str) -> Result<(), String> {
    let valid = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b',');
    if id.is_empty() || id.len() > 128 || !id.bytes().all(valid) || id.starts_with("env:") {
        return Err(format!(
            "`{id}` cannot be a name here: visible ASCII without comma, double quote and backslash, at most 128 characters"
        ));
    }
    Ok(())
}

/// What people are shown of a client.
fn named(record: &Record) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for (field, key) in [("name", "name"), ("provider_name", "provider_name")] {
        lines.extend(record.get(field).map(|words| (key, yaml::prose(words))));
    }
    for key in ["logo_url", "login_url"] {
        let url = record.get(key).filter(|url| format::check("url", url).is_ok());
        lines.extend(url.map(|url| (key, yaml::text(url))));
    }
    lines
}

/// The redirect URLs that could be registered here.
fn redirects(record: &Record, say: &mut impl FnMut(String)) -> Vec<String> {
    let mut redirects: Vec<String> = Vec::new();
    let listed = record.get("redirect_url").unwrap_or_default();
    for url in listed.split(|c: char| c.is_whitespace() || c == ',').filter(|url| !url.is_empty()) {
        match redirect::check_registered(url) {
            Ok(()) if !url.starts_with("env:") => redirects.push(url.to_owned()),
            Ok(()) => {}
            Err(fault) => say(format!("the redirect URL `{url}` is left out: {fault}")),
        }
    }
    redirects
}

/// The grants that a client may use.
fn grants(
    records: &Records,
    record: &Record,
    public: bool,
    has_redirect: bool,
    say: &mut impl FnMut(String),
) -> Vec<&'static str> {
    let of_profiles = || {
        let profiles =
            records.all("oauth_entity_profile").filter(|profile| profile.get("oauth_entity") == Some(record.id()));
        profiles.filter_map(|profile| profile.get("grant_type")).map(str::to_owned).collect::<Vec<_>>()
    };
    let declared = match record.get("inbound_grant_type") {
        Some("multiple") => of_profiles(),
        Some(one) => vec![one.to_owned()],
        None => record.get("default_grant_type").map(str::to_owned).into_iter().collect(),
    };
    if declared.is_empty() {
        say("which grants it may use is not in the files (`inbound_grant_type`, or oauth_entity_profile where that is `multiple`): it gets no token \
             until you write `grants`"
            .to_owned());
    }
    let mut grants = Vec::new();
    for grant in declared {
        match grant.as_str() {
            "client_credential" | "client_credentials" => grants.push("client_credentials"),
            "authz_code" | "authorization_code" if has_redirect => grants.push("authorization_code"),
            "authz_code" | "authorization_code" => {
                say("has no redirect URL that could be registered here, which the grant authorization_code needs: the grant is left out".to_owned());
            }
            "password" | "ropc" | "resource_owner_password_credential" => {
                say("uses the password grant, which is here for moving old integrations only".to_owned());
                grants.push("password");
            }
            "jwt" | "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                say("signs assertions: export its public keys, write `jwks_file` and add the grant `jwt_bearer`"
                    .to_owned());
            }
            "refresh_token" => {}
            other => say(format!("the grant `{other}` is not known and left out")),
        }
    }
    // There, clients with a secret get refresh tokens with these grants, public ones do not.
    if !public && grants.iter().any(|grant| matches!(*grant, "authorization_code" | "password")) {
        grants.push("refresh_token");
    }
    grants.sort_unstable();
    grants.dedup();
    grants
}

/// What a client is held to.
fn restrictions(record: &Record, lines: &mut Vec<(&'static str, String)>, say: &mut impl FnMut(String)) {
    match record.get("scope_restriction_status") {
        Some("restricted") => {}
        Some("unrestricted") => {
            lines.push(("allow_only_selected_scopes", "false".to_owned()));
            say("is broadly scoped: there it reached every API for which no scope was asked; here a policy or an ACL has to name what it reaches"
                .to_owned());
        }
        other => say(format!(
            "`scope_restriction_status` is {}: it reaches only what its scopes grant",
            other.map_or("not in the files".to_owned(), |other| format!("`{other}`"))
        )),
    }
    // What the column is called is nowhere documented.
    let mut restriction = record.filled().filter(|(key, _)| key.contains("token_restriction"));
    match restriction.next() {
        Some((key, _)) if record.is(key) == Some(true) => lines.push(("enforce_token_restriction", "true".to_owned())),
        Some((key, _)) if record.is(key) == Some(false) => {}
        Some((key, _)) => say(format!("`{key}` is neither on nor off: is its token restriction enforced?")),
        None => say("whether its token restriction is enforced is not in the files: if so, write `enforce_token_restriction: true`".to_owned()),
    }
}

/// Form and lives of a client's tokens.
fn tokens(record: &Record, lines: &mut Vec<(&'static str, String)>, say: &mut impl FnMut(String)) {
    match record.get("token_format") {
        Some("jwt") => lines.push(("token_format", "jwt".to_owned())),
        Some("opaque") => lines.push(("token_format", "opaque".to_owned())),
        Some(other) => say(format!("the token format `{other}` is not known; it gets JWTs")),
        None => {}
    }
    for (key, longest) in [("access_token_lifespan", LONGEST_ACCESS), ("refresh_token_lifespan", LONGEST_REFRESH)] {
        let Some(text) = record.get(key) else { continue };
        // The Table API's texts for people group digits.
        match text.replace(',', "").parse::<u64>() {
            Ok(seconds) if (1..=longest).contains(&seconds) => lines.push((key, format!("{seconds}s"))),
            _ => say(format!("`{key}` is `{text}`: the default is taken; at most {longest} seconds fit here")),
        }
    }
}

/// Fields that hold something and have no place here. Their values may be secret, so only their names are told.
fn unread(record: &Record, say: &mut impl FnMut(String)) {
    let known = |key: &str| KNOWN.contains(&key) || key.starts_with("sys_") || key.contains("token_restriction");
    let unread: Vec<&str> =
        record.filled().filter(|(key, value)| !known(key) && *value != "false").map(|(key, _)| key).collect();
    if !unread.is_empty() {
        say(format!("fields that are not carried over: {}", unread.join(", ")));
    }
}

/// The scopes that a client holds.
fn held(records: &Records, client: &str, notes: &mut Vec<Note>) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for row in records.all("oauth_entity_auth_scope_mapping").filter(|row| row.get("oauth_entity") == Some(client)) {
        match scope_name(records, row) {
            Ok(name) => {
                held.insert(name);
            }
            Err(fault) => notes.push(Note::new(&row.about, format!("left out: {fault}"))),
        }
    }
    held
}
