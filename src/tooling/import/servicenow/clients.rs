//! Clients, the scopes that they hold, and the users that they act as.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{self, Line, Said, Telling};
use super::records::{Record, Records};
use super::scopes::{Scopes, UNHELD, scope_name};
use crate::client::MAX_SCOPE_BYTES;
use crate::tooling::import::{Note, usable_name, yaml};

/// The scope that passes gate 2 everywhere, by its name in ServiceNow and here.
const MASTER: &str = "useraccount";

/// A client.
#[derive(Debug)]
struct Client {
    /// The record, for messages.
    about: String,
    lines: Vec<Line>,
    grants: Vec<&'static str>,
    user: Option<String>,
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
    by_id: BTreeMap<String, Client>,
    /// Ids by the `sys_id`s of their records.
    ids: BTreeMap<String, String>,
    pub(super) users: BTreeMap<String, User>,
}

impl Clients {
    /// Reads clients. With `restricted`, tokens are restricted unless the records say that they are
    /// not.
    pub(super) fn of(records: &Records, restricted: bool, notes: &mut Vec<Note>) -> Self {
        let mut all = Self::default();
        let roles = roles(records, notes);
        for record in records.all("oauth_entity").chain(records.all("oauth_jwt")) {
            let mut telling = Telling { about: &record.about, notes };
            match client::said(records, record, restricted, &mut telling) {
                Ok(said) => all.add(records, record, said, &roles, &mut telling),
                Err(fault) => telling.say(format!("left out: {fault}")),
            }
        }
        for record in records.all("oauth_oidc_entity") {
            let message = "left out: tokens of another issuer. Name the issuer under `issuers` in \
                gateway.yaml, and the identities that are a \
                           client under its `external`";
            notes.push(Note::new(&record.about, message));
        }
        all.keep_apart(notes);
        all.hold(records, notes);
        all.tell_classic_scopes(records, notes);
        all
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The id of the client that a record became.
    pub(super) fn id_of(&self, record: &str) -> Option<&str> {
        self.ids.get(record).map(String::as_str)
    }

    /// Clients that need a secret.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.by_id
            .iter()
            .filter(|(_, client)| client.has_secret)
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn add(
        &mut self,
        records: &Records,
        record: &Record,
        said: Said,
        roles: &Roles<'_>,
        telling: &mut Telling<'_>,
    ) {
        let Said { id, public, mut grants, lines } = said;
        if let Some(other) = self.by_id.get(&id) {
            return telling.say(format!("left out: the client id is that of {} too", other.about));
        }
        let mut user = None;
        if grants.contains(&"client_credentials") {
            match self.application_user(records, record, roles, telling) {
                Ok(name) => user = Some(name),
                Err(fault) => {
                    grants.retain(|grant| *grant != "client_credentials");
                    telling.say(format!("the grant client_credentials is left out: {fault}"));
                }
            }
        }
        self.ids.insert(record.id().to_owned(), id.clone());
        let about = record.about.clone();
        let client =
            Client { about, lines, grants, user, scopes: BTreeSet::new(), has_secret: !public };
        self.by_id.insert(id, client);
    }

    /// The user that a client acts as, with the roles in the files.
    fn application_user(
        &mut self,
        records: &Records,
        record: &Record,
        roles: &Roles<'_>,
        telling: &mut Telling<'_>,
    ) -> Result<String, String> {
        let id = record
            .get("user")
            .ok_or("there is no OAuth application user, without whom there is no token there")?;
        let shown = record.shown("user").unwrap_or(id);
        let user = records.find("sys_user", id).ok_or_else(|| {
            format!(
                "it acts as the user `{shown}`, who is not in the files: export \
                sys_user, sys_user_has_role and sys_user_role too"
            )
        })?;
        let name = user.get("user_name").unwrap_or_default();
        usable_name(name).map_err(|fault| format!("it acts as the user `{shown}`: {fault}"))?;
        if !roles.known {
            telling.say(format!(
                "the roles of `{name}` are not in the files: export \
                sys_user_has_role and sys_user_role by the Table API"
            ));
        }
        let reset = user.is("password_needs_reset") == Some(true);
        let known = user.is("active").is_some() && user.is("locked_out").is_some();
        if !known || reset {
            telling.say(format!(
                "the user `{name}` is not active here: {}",
                if reset { "the password needs a reset" } else { "the files do not say" }
            ));
        }
        let user = User {
            name: user.get("name").unwrap_or(name).to_owned(),
            active: user.is("active") == Some(true) && known && !reset,
            locked: user.is("locked_out").unwrap_or(false),
            roles: roles.of_user.get(id).cloned().unwrap_or_default(),
        };
        self.users.insert(name.to_owned(), user);
        Ok(name.to_owned())
    }

    /// Client ids and user names share one namespace here, so that a `sub` is unambiguous.
    fn keep_apart(&mut self, notes: &mut Vec<Note>) {
        let taken: Vec<String> =
            self.users.keys().filter(|name| self.by_id.contains_key(*name)).cloned().collect();
        for name in taken {
            self.users.remove(&name);
            for client in
                self.by_id.values_mut().filter(|client| client.user.as_ref() == Some(&name))
            {
                client.user = None;
                client.grants.retain(|grant| *grant != "client_credentials");
                let message = format!(
                    "acts as the user `{name}`, which is a client id too: rename one, and write \
                        the grant client_credentials"
                );
                notes.push(Note::new(&client.about, message));
            }
        }
    }

    /// Reads the scopes that the clients hold.
    fn hold(&mut self, records: &Records, notes: &mut Vec<Note>) {
        for row in records
            .all("oauth_entity_auth_scope_mapping")
            .filter(|row| row.is("active") != Some(false))
        {
            let id = row.get("oauth_entity").and_then(|record| self.ids.get(record)).cloned();
            let client = id.and_then(|id| self.by_id.get_mut(&id));
            match (client, scope_name(records, row)) {
                (Some(client), Ok(name)) => {
                    client.scopes.insert(name);
                }
                (Some(client), Err(fault)) => {
                    notes.push(Note::new(&client.about, format!("does not hold a scope: {fault}")));
                }
                (None, _) => {
                    let client = row
                        .shown("oauth_entity")
                        .or_else(|| row.get("oauth_entity"))
                        .unwrap_or("nothing");
                    notes.push(Note::new(
                        &row.about,
                        format!("left out: the client `{client}` is not carried over"),
                    ));
                }
            }
        }
    }

    /// Reports scopes of the older list that the newer one lacks: in ServiceNow they grant nothing
    /// by themselves.
    fn tell_classic_scopes(&self, records: &Records, notes: &mut Vec<Note>) {
        for record in records.all("oauth_entity_scope") {
            let client =
                record.get("oauth_entity").and_then(|id| self.by_id.get(self.ids.get(id)?));
            let (Some(client), Some(name)) =
                (client, record.get("oauth_entity_scope").or_else(|| record.get("name")))
            else {
                continue;
            };
            if !client.scopes.contains(name) {
                let message = format!(
                    "has the scope `{name}` in oauth_entity_scope and not in \
                        oauth_entity_auth_scope_mapping, which alone opens APIs there: it does \
                     not hold it here"
                );
                notes.push(Note::new(&client.about, message));
            }
        }
    }

    /// `clients:`, and the scopes that they need.
    pub(super) fn yaml(&self, mut scopes: Scopes, notes: &mut Vec<Note>) -> (String, Scopes) {
        if self.by_id.is_empty() {
            return (String::new(), scopes);
        }
        let mut text = "clients:\n".to_owned();
        for (id, client) in &self.by_id {
            text.push_str(&format!(
                "  {}:\n    grants: {}\n",
                yaml::text(id),
                yaml::list(client.grants.iter().copied())
            ));
            for (key, value) in &client.lines {
                text.push_str(&format!("    {key}: {value}\n"));
            }
            if let Some(user) = &client.user {
                text.push_str(&format!("    application_user: {}\n", yaml::text(user)));
            }
            let held = client.held(&mut scopes, notes);
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
            text.push_str(&format!(
                "  {}:\n    name: {}\n",
                yaml::text(name),
                yaml::prose(&user.name)
            ));
            if !user.active {
                text.push_str("    active: false\n");
            }
            if user.locked {
                text.push_str("    locked: true\n");
            }
            text.push_str(&format!(
                "    roles: {}\n",
                yaml::list(user.roles.iter().map(String::as_str))
            ));
        }
        text
    }
}

impl Client {
    /// The scopes that it holds here.
    fn held<'a>(&'a self, scopes: &mut Scopes, notes: &mut Vec<Note>) -> BTreeSet<&'a str> {
        let mut held = BTreeSet::new();
        for scope in &self.scopes {
            if scope == UNHELD {
                notes
                    .push(Note::new(&self.about, format!("does not hold `{UNHELD}`: nobody does")));
                continue;
            }
            if scope == MASTER {
                notes.push(Note::new(
                    &self.about,
                    format!("holds `{MASTER}`, which passes every scope check, here as there"),
                ));
                scopes.entry(scope.clone()).or_default();
            } else if !scopes.contains_key(scope) {
                notes.push(Note::new(
                    &self.about,
                    format!("does not hold `{scope}`, which is not carried over"),
                ));
                continue;
            }
            held.insert(scope.as_str());
        }
        let bytes: usize = held.iter().map(|scope| scope.len() + 1).sum();
        if bytes > MAX_SCOPE_BYTES {
            let message = format!(
                "holds no scopes: {bytes} bytes of names do not fit into a token; give it fewer \
                    scopes"
            );
            notes.push(Note::new(&self.about, message));
            return BTreeSet::new();
        }
        held
    }
}

/// Roles by the users that have them.
struct Roles<'a> {
    of_user: BTreeMap<&'a str, BTreeSet<String>>,
    /// Whether the files have all roles.
    known: bool,
}

fn roles<'a>(records: &'a Records, notes: &mut Vec<Note>) -> Roles<'a> {
    let mut of_user: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in records.all("sys_user_has_role").filter(|row| row.get("state") != Some("inactive")) {
        let role =
            row.get("role").and_then(|role| records.find("sys_user_role", role)?.get("name"));
        match (row.get("user"), role.filter(|role| usable_name(role).is_ok())) {
            (Some(user), Some(role)) => {
                of_user.entry(user).or_default().insert(role.to_owned());
            }
            _ => {
                notes.push(Note::new(
                    &row.about,
                    "left out: its user or its role is not in the files, or no name here",
                ));
            }
        }
    }
    let known = records.has_whole("sys_user_has_role") && records.has_whole("sys_user_role");
    Roles { of_user, known }
}
