//! `scopegate attempts`: lists wrong attempts to authenticate that count now, and clears them, on
//! every gateway of the store.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::said;
use super::{Format, report, say, store_access, wrong};
use crate::config::Config;
use crate::names::Timestamp;
use crate::request::address::site;
use crate::store::attempts::{
    Account, Attempt, Cleared, MAX_PER_NAME, MAX_PER_PLACE, WINDOW_SECONDS, digest_of,
};
use crate::system::{clock, files};

/// What is done with attempts.
#[derive(Subcommand, Debug)]
pub(super) enum AttemptsCommand {
    /// Print the wrong attempts that count now, by name and by where they came from
    List,
    /// Forget wrong attempts, which ends the lock-out on every gateway within a second
    Clear(Whose),
}

/// Whose attempts.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// Those on a client's secrets, by its id
    #[arg(long, allow_hyphen_values = true)]
    client: Option<String>,
    /// Those on a user's password, by its name
    #[arg(long, allow_hyphen_values = true)]
    user: Option<String>,
    /// Those from an address, whatever the name; of IPv6 its /64
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// All of them
    #[arg(long)]
    all: bool,
}

pub(super) fn run(gateway: &Path, command: AttemptsCommand, format: Format) -> ExitCode {
    let outcome = match command {
        AttemptsCommand::List => list(gateway, format),
        AttemptsCommand::Clear(whose) => clear(gateway, whose, format),
    };
    outcome.unwrap_or_else(|code| code)
}

/// The attempts of one subject, oldest first.
fn list(gateway: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let now = clock::now();
    let attempts =
        store_access::store(&config)?.attempts(now).map_err(|fault| wrong(&fault.to_string()))?;
    let mut by_subject: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| !attempt.is_known()) {
        by_subject.entry(&attempt.subject).or_default().push(attempt);
    }
    let names = names(&config);
    let rows: Vec<serde_json::Value> =
        by_subject.values().filter_map(|attempts| row(attempts, &names, now)).collect();
    match format {
        Format::Json => say(&json!({ "attempts": rows }).to_string()),
        Format::Text if rows.is_empty() => say("No wrong attempts count now."),
        Format::Text => {
            store_access::table(
                &rows,
                &["account", "name", "from", "wrong", "of", "locked", "until"],
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(
    attempts: &[&Attempt],
    names: &HashMap<String, String>,
    now: Timestamp,
) -> Option<serde_json::Value> {
    let named = attempts.first()?.named()?;
    let limit = if named.digest.is_some() { MAX_PER_NAME } else { MAX_PER_PLACE };
    let locked = attempts.len() >= limit;
    // Locked until fewer than the limit are left; otherwise, until the last one no longer counts.
    let last = if locked { attempts.get(attempts.len() - limit) } else { attempts.last() }?;
    let left = i64::try_from(last.left(now).as_secs()).unwrap_or(WINDOW_SECONDS);
    let name = named.digest.map(|digest| {
        let known = names.get(&format!("{} {digest}", named.account)).cloned();
        known.unwrap_or_else(|| format!("unknown ({})", digest.get(..8).unwrap_or(digest)))
    });
    Some(json!({
        "account": named.account,
        "name": name,
        "from": named.place,
        "wrong": attempts.len(),
        "of": limit,
        "locked": locked,
        "until": store_access::time(now.plus(left)),
    }))
}

/// Names by the digest in the store.
fn names(config: &Config) -> HashMap<String, String> {
    let registry = config.rules.registry();
    let key = |account: Account, name: &str| format!("{} {}", account.label(), digest_of(name));
    let clients = registry.clients().into_iter().map(|client| client.id.to_string());
    let users = registry.users().into_iter().map(|user| user.name.to_string());
    let administrators = config.console.administrators.iter();
    let administrators = administrators.map(|administrator| administrator.name.to_string());
    clients
        .map(|id| (key(Account::Client, &id), id))
        .chain(users.map(|name| (key(Account::User, &name), name)))
        .chain(administrators.map(|name| (key(Account::Administrator, &name), name)))
        .collect()
}

fn clear(gateway: &Path, whose: Whose, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let registry = config.rules.registry();
    let unknown = |kind: &str, name: &str| {
        wrong(&format!(
            "there is no {kind} `{name}`; --from and --all clear attempts on unknown names"
        ))
    };
    let (cleared, of, text) = match whose {
        Whose { client: Some(id), .. } if registry.client(&id).is_none() => {
            return Err(unknown("client", &id));
        }
        Whose { user: Some(name), .. } if registry.user(&name).is_none() => {
            return Err(unknown("user", &name));
        }
        Whose { client: Some(id), .. } => {
            let cleared = Cleared::Name(Account::Client, id.clone());
            (cleared, format!("client {id}"), format!("on client `{id}`"))
        }
        Whose { user: Some(name), .. } => {
            let cleared = Cleared::Name(Account::User, name.clone());
            (cleared, format!("user {name}"), format!("on user `{name}`"))
        }
        Whose { from: Some(address), .. } => {
            let place = site(address).to_string();
            (Cleared::Place(place.clone()), format!("from {place}"), format!("from {place}"))
        }
        Whose { .. } => (Cleared::All, "all".to_owned(), "of all".to_owned()),
    };
    let now = clock::now();
    let record = store_access::record("clear-attempts", of, now);
    let store = store_access::store(&config)?;
    let count = store.clear_attempts_now(&cleared, now, Some(record));
    let count = count.map_err(|fault| wrong(&fault.to_string()))?;
    said(format, &json!({ "cleared": count }), || format!("Wrong attempts {text} count no more."));
    Ok(ExitCode::SUCCESS)
}
