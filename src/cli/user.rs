//! `scopegate user`: users of the login page, and those made at login. The users file is never
//! rewritten: lines to paste are printed. Users made at login are in the store, and changed there.

use std::path::Path;
use std::process::ExitCode;

use argon2::{Argon2, PasswordHasher};
use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::client::said;
use super::standard_input::read_line;
use super::{Format, report, say, store_access, wrong};
use crate::client::User;
use crate::client::made::{MadeUser, PREFIX};
use crate::config::Config;
use crate::names::RoleName;
use crate::store::made_users::{UserAct, UserChange};
use crate::store::revocations::Subject;
use crate::system::clock;
use crate::system::files::{self, Addition};

/// Shortest password allowed, in characters (NIST SP 800-63B §3.1.1.2 requires at least eight).
const MIN_PASSWORD: usize = 8;

/// What to do with users.
#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Print the line of a new user; the password is read from standard input
    Add {
        /// Name to sign in with
        name: String,
        /// Name for people
        #[arg(long)]
        display_name: Option<String>,
        /// Roles
        #[arg(long, value_delimiter = ',')]
        roles: Vec<String>,
        /// Who it is at the login provider, in place of a password
        #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"])]
        external: Option<Vec<String>>,
    },
    /// List all users: those of the users file, and those made at login
    List,
    /// End every token of a user and sign it out now. One made at login is kept out; for one of the
    /// users file the line that does so is printed
    Lock {
        /// Its name, as `list` prints it
        name: String,
    },
    /// Let a user that was made at login, and locked, in again
    Unlock {
        /// Its name, as `list` prints it
        name: String,
    },
    /// End every token of a user that was made at login, sign it out and forget it. If it is
    /// locked, it stays so; else it is made anew at its next login
    Remove {
        /// Its name, as `list` prints it
        name: String,
    },
}

pub(super) fn run(gateway: &Path, command: UserCommand, format: Format) -> ExitCode {
    let outcome = match command {
        UserCommand::Add { name, display_name, roles, external } => {
            let user =
                NewUser { name: &name, display_name: display_name.as_deref(), roles: &roles };
            add(gateway, &user, external.as_deref(), format)
        }
        UserCommand::List => list(gateway, format),
        UserCommand::Lock { name } if !name.starts_with(PREFIX) => lock(gateway, &name, format),
        UserCommand::Lock { name } => change(gateway, UserAct::Lock, &name, format),
        UserCommand::Unlock { name } => change(gateway, UserAct::Unlock, &name, format),
        UserCommand::Remove { name } => change(gateway, UserAct::Remove, &name, format),
    };
    outcome.unwrap_or_else(|code| code)
}

struct NewUser<'a> {
    name: &'a str,
    display_name: Option<&'a str>,
    roles: &'a [String],
}

fn add(
    gateway: &Path,
    user: &NewUser<'_>,
    external: Option<&[String]>,
    format: Format,
) -> Result<ExitCode, ExitCode> {
    let NewUser { name, display_name, roles } = *user;
    // Without it the configuration may have faults: clients that act as the user already.
    check_free(gateway, name)?;
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b',' | b'\'');
    if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
        return Err(wrong(
            "a user name is visible ASCII without comma, quotes and backslash, at most 128 \
                characters",
        ));
    }
    if [name]
        .into_iter()
        .chain(display_name)
        .chain(roles.iter().map(String::as_str))
        .chain(external.into_iter().flatten().map(String::as_str))
        .any(|text| text.starts_with("env:"))
    {
        return Err(wrong("what begins with env: would be read from the environment"));
    }
    let proof = if let Some([issuer, subject]) = external {
        // Judged as it will be, the proof itself aside.
        let config = judge(gateway, name, roles, format)?;
        let provider = config.login.provider.as_ref().map(|provider| provider.issuer.as_str());
        if provider != Some(issuer.as_str()) {
            let known = provider
                .map_or_else(|| "none is configured".to_owned(), |known| format!("it is {known}"));
            return Err(wrong(&format!("`{issuer}` is not the login provider's issuer: {known}")));
        }
        format!("external: [{{ issuer: {}, subject: {} }}]", json!(issuer), json!(subject))
    } else {
        let hash = Argon2::default()
            .hash_password(password()?.as_bytes())
            .map_err(|fault| wrong(&format!("the password cannot be hashed: {fault}")))?;
        format!("password: {{ argon2id: '{hash}' }}")
    };
    let display = display_name.map(|name| format!("name: {}, ", json!(name))).unwrap_or_default();
    let roles = if roles.is_empty() { String::new() } else { format!("roles: {}, ", json!(roles)) };
    let line = format!("{}: {{ {display}{roles}{proof} }}", json!(name));
    files::load_with(gateway, Addition::User, &format!("users:\n  {line}\n"))
        .map_err(|fault| report(&fault, format))?;
    said(format, &json!({ "user": name, "paste": line }), || match files::users_file(gateway) {
        Some(file) if file.exists() => format!(
            "Add this line below `users:` in {}, and tell the gateway with SIGHUP:\n\n  {line}",
            file.display()
        ),
        Some(file) => {
            format!("Write this as {}, which is not there yet:\n\nusers:\n  {line}", file.display())
        }
        None => format!(
            "Write this as users.yaml, and name it with `users: users.yaml` in {}:\n\n\
                    users:\n  {line}",
            gateway.display()
        ),
    });
    Ok(ExitCode::SUCCESS)
}

/// The configuration with the user in it.
fn judge(gateway: &Path, name: &str, roles: &[String], format: Format) -> Result<Config, ExitCode> {
    let text = format!("users: {{ {}: {{ roles: {} }} }}\n", json!(name), json!(roles));
    files::load_with(gateway, Addition::User, &text).map_err(|fault| report(&fault, format))
}

/// Whether nobody has the name yet, as far as the configuration can be read without the user.
fn check_free(gateway: &Path, name: &str) -> Result<(), ExitCode> {
    let Ok(config) = files::load_untested(gateway) else { return Ok(()) };
    let registry = config.rules.registry();
    if let Some(user) = registry.user(name) {
        return Err(wrong(&format!("the user `{name}` is there already, at {}", user.origin)));
    }
    let Some(client) = registry.client(name) else { return Ok(()) };
    Err(wrong(&format!(
        "`{name}` is a client, at {}: client ids and user names share one namespace",
        client.origin
    )))
}

/// The new password.
fn password() -> Result<Zeroizing<String>, ExitCode> {
    let password = read_line("Password")?;
    if password.chars().count() < MIN_PASSWORD || password.len() > crate::client::secret::MAX {
        return Err(wrong("a password has 8 characters at least, and 512 bytes at most"));
    }
    Ok(password)
}

fn list(gateway: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let mut rows: Vec<serde_json::Value> =
        config.rules.registry().users().into_iter().map(|user| listed(user)).collect();
    rows.extend(store_access::made_users(&config)?.iter().map(|user| made(&config, user)));
    match format {
        Format::Json => say(&json!({ "users": rows }).to_string()),
        Format::Text => {
            store_access::table(
                &rows,
                &["user", "name", "active", "locked", "signs_in", "roles", "last_login", "at"],
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The row of a user of the YAML.
fn listed(user: &User) -> serde_json::Value {
    let mut roles: Vec<&str> = user.roles.iter().map(RoleName::as_str).collect();
    roles.sort_unstable();
    json!({
        "user": user.name.as_str(),
        "name": user.display_name,
        "active": user.active,
        "locked": user.locked,
        "signs_in": user.password.is_some() || !user.external.is_empty(),
        "roles": roles,
        "at": user.place(),
    })
}

/// The row of a user made at login; it is active where the configuration still makes such users.
fn made(config: &Config, made: &MadeUser) -> serde_json::Value {
    let registry = config.rules.registry();
    let user = registry.account(made.name.as_str());
    let roles = user.as_ref().map(|user| registry.roles(user)).unwrap_or_default();
    json!({
        "user": made.name.as_str(),
        "name": made.display_name,
        "active": user.is_some(),
        "locked": made.locked,
        "signs_in": user.is_some_and(|user| user.usable()),
        "roles": roles,
        "issuer": made.identity.issuer,
        "subject": made.identity.subject,
        "first_login": store_access::time(made.made),
        "last_login": store_access::time(made.signed_in),
        "removed": made.removed,
        "at": if made.removed { "removed while locked" } else { "made at login" },
    })
}

/// Does something to a user made at login.
fn change(gateway: &Path, act: UserAct, name: &str, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    if let Some(user) = config.rules.registry().user(name) {
        let edit = if act == UserAct::Remove { "take it away" } else { "write `locked: false`" };
        return Err(wrong(&format!(
            "`{name}` is a user of the users file: {edit} there ({}), and tell the gateway with \
                SIGHUP",
            user.origin
        )));
    }
    let now = clock::now();
    let record = store_access::record(act.label(), format!("user {name}"), now);
    let changed = store_access::store(&config)?.change_made(act, name, now, record);
    match changed.map_err(|fault| wrong(&format!("store: {fault}")))? {
        UserChange::Done => {}
        UserChange::Same => {
            let state = if act == UserAct::Lock { "is locked already" } else { "is not locked" };
            return Err(wrong(&format!("the user `{name}` {state}")));
        }
        UserChange::Unknown => {
            return Err(wrong(&format!(
                "there is no user `{name}`; `scopegate user list` prints all"
            )));
        }
    }
    let text = match act {
        UserAct::Lock => {
            "is locked: it is signed out, every token that acts for it is refused, \
            and it cannot sign in until `scopegate user unlock`"
        }
        UserAct::Unlock => "is not locked any more: it can sign in again",
        UserAct::Remove => {
            "is removed: it is signed out, and every token that acts for it is \
            refused. If it was locked it stays so; else it is made anew when it signs in again"
        }
    };
    said(format, &json!({ "user": name, "done": act.label() }), || format!("`{name}` {text}"));
    Ok(ExitCode::SUCCESS)
}

fn lock(gateway: &Path, name: &str, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let Some(user) = config.rules.registry().user(name).cloned() else {
        return Err(wrong(&format!("there is no user `{name}`; `scopegate user list` prints all")));
    };
    store_access::revoke(gateway, Subject::User(name.to_owned()), format)?;
    said(
        format,
        &json!({ "user": name, "paste": "locked: true", "at": user.origin.to_string() }),
        || {
            format!(
                "Every token that acts for `{name}` is refused from now on, and it is signed out. \
                    It can sign in again until you\n\
             add this to it ({}) and tell the gateway with SIGHUP:\n\n    locked: true",
                user.origin
            )
        },
    );
    Ok(ExitCode::SUCCESS)
}
