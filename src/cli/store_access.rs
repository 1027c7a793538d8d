//! Shared by the commands over the store.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;

use super::{Format, report, say, wrong};
use crate::client::User;
use crate::client::made::{MadeUser, MadeUsers, PREFIX};
use crate::config::{Config, StoreConfig};
use crate::names::Timestamp;
use crate::store::Store;
use crate::store::audit::AuditRecord;
use crate::store::revocations::{Revocation, Subject};
use crate::system::{clock, files};

/// Opens the store of a configuration. A command never creates one: a wrong working directory would
/// leave an empty store behind.
pub(super) fn store(config: &Config) -> Result<Store, ExitCode> {
    let missing = || {
        let folder = match &config.fixed.store {
            StoreConfig::Embedded(folder) => folder.as_str(),
            StoreConfig::Shared(_) => "",
        };
        format!(
            "there is no store in {folder}; its path is relative to the working directory, and \
                `serve` makes it"
        )
    };
    let opened = existing(config).and_then(|store| store.ok_or_else(missing));
    opened.map_err(|fault| wrong(&fault))
}

/// The same; none where there is no store yet.
///
/// # Errors
/// The store cannot be opened or reached.
pub(super) fn existing(config: &Config) -> Result<Option<Store>, String> {
    if let StoreConfig::Embedded(folder) = &config.fixed.store
        && !Path::new(folder).join("scopegate.db").exists()
    {
        return Ok(None);
    }
    Store::of(&config.fixed.store).map(Some).map_err(|fault| format!("store: {fault}"))
}

/// The users made at login, in a configuration that makes some; from then on its registry has them.
pub(super) fn made_users(config: &Config) -> Result<Vec<MadeUser>, ExitCode> {
    if config.rules.registry().creation().is_none() {
        return Ok(Vec::new());
    }
    let store = existing(config).map_err(|fault| wrong(&fault))?;
    let Some(store) = store else { return Ok(Vec::new()) };
    let all = store.made_users().map_err(|fault| wrong(&format!("store: {fault}")))?;
    config.rules.registry().follow(Arc::new(MadeUsers::new(all.clone())));
    Ok(all)
}

/// Lets the registry have them, where the store can be read.
pub(super) fn follow_made_users(config: &Config) {
    let registry = config.rules.registry();
    if registry.creation().is_some()
        && let Ok(Some(store)) = existing(config)
        && let Ok(all) = store.made_users()
    {
        registry.follow(Arc::new(MadeUsers::new(all)));
    }
}

/// A user by name, of the YAML or made at login.
pub(super) fn account(config: &Config, name: &str) -> Result<Option<Arc<User>>, ExitCode> {
    if name.starts_with(PREFIX) {
        made_users(config)?;
    }
    Ok(config.rules.registry().account(name))
}

/// Revokes on every gateway of the store.
pub(super) fn revoke(gateway: &Path, subject: Subject, format: Format) -> Result<(), ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    revoke_in(&config, Revocation::now(subject, clock::now()))
}

/// The same with a configuration that has been read.
pub(super) fn revoke_in(config: &Config, revocation: Revocation) -> Result<(), ExitCode> {
    let (kind, value) = revocation.subject.parts();
    let record = record("revoke", format!("{kind} {value}").trim_end().to_owned(), clock::now());
    let revoked = store(config)?.revoke_now(revocation, Some(record));
    revoked.map_err(|fault| wrong(&format!("store: {fault}")))
}

/// The audit record of an act by a command.
pub(super) fn record(act: &str, on: String, now: Timestamp) -> AuditRecord {
    AuditRecord {
        at: now.0,
        who: crate::system::process::user(),
        via: "command".to_owned(),
        from: None,
        act: act.to_owned(),
        on,
        before: None,
        after: None,
        outcome: "done".to_owned(),
    }
}

/// A time in UTC, RFC 3339.
pub(super) fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.0).map(|at| at.to_string()).unwrap_or_default()
}

/// The same, only the day.
pub(super) fn day(at: Timestamp) -> String {
    time(at).split('T').next().unwrap_or_default().to_owned()
}

/// Rows as a table, with these columns.
pub(super) fn table(rows: &[Value], columns: &[&str]) {
    let cell = |row: &Value, column: &str| match row.get(column).unwrap_or(&Value::Null) {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        value @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => value.to_string(),
    };
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(ToString::to_string).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()));
    let mut widths = vec![0; columns.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say(cells.join("  ").trim_end());
    }
}
