//! `scopegate store`: a copy of the embedded store while it serves, back from it, and on into a
//! shared one.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::client::said;
use super::{Format, complain, report, say, store_access, wrong};
use crate::config::{Config, StoreConfig};
use crate::store::Store;
use crate::system::{clock, files};

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Copy the embedded store into a new file, whole and at one time, also while a gateway serves
    /// from it
    Backup {
        /// The file to be made
        file: PathBuf,
    },
    /// Put a backup where the configuration says that the store is; never over one that is there
    Restore {
        /// A file that `backup` has made
        file: PathBuf,
    },
    /// Copy the embedded store into a shared one, also while gateways serve; once more for what
    /// they wrote meanwhile
    Move {
        /// The gateway.yaml with the shared store
        #[arg(long, value_name = "GATEWAY_YAML")]
        to: PathBuf,
    },
}

pub(super) fn run(gateway: &Path, command: StoreCommand, format: Format) -> ExitCode {
    let outcome = match command {
        StoreCommand::Backup { file } => backup(gateway, &file, format),
        StoreCommand::Restore { file } => restore(gateway, &file, format),
        StoreCommand::Move { to } => copy(gateway, &to, format),
    };
    outcome.unwrap_or_else(|code| code)
}

/// The folder of the store. A shared store is copied by its server.
fn folder(config: &Config) -> Result<&Path, ExitCode> {
    match &config.fixed.store {
        StoreConfig::Embedded(folder) => Ok(Path::new(folder)),
        StoreConfig::Shared(_) => Err(wrong(
            "the store is in Redis, which copies itself: see BGSAVE and its append-only file",
        )),
    }
}

fn backup(gateway: &Path, file: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    folder(&config)?;
    store_access::store(&config)?.backup(file).map_err(|fault| wrong(&fault.to_string()))?;
    let path = file.display().to_string();
    said(format, &json!({ "backup": path }), || {
        format!(
            "{path} has everything that was committed until now, the private signing keys \
                included: keep it as a secret."
        )
    });
    Ok(ExitCode::SUCCESS)
}

fn restore(gateway: &Path, file: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let folder = folder(&config)?;
    Store::restore(file, folder).map_err(|fault| wrong(&fault.to_string()))?;
    said(format, &json!({ "restored": folder.display().to_string() }), || {
        format!(
            "The store in {} is the backup now. What was used or revoked since the backup is not \
                known there: revoke once more\n\
             what must not come back, for instance with `scopegate token revoke --all`.",
            folder.display()
        )
    });
    Ok(ExitCode::SUCCESS)
}

fn copy(gateway: &Path, to: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let load = |file: &Path| files::load(file).map_err(|fault| report(&fault, format));
    let (from, to) = (load(gateway)?, load(to)?);
    folder(&from)?;
    if from.fixed.public_url != to.fixed.public_url {
        return Err(wrong(&format!(
            "public_url is {} here and {} there: tokens of the one would be none of the other",
            from.fixed.public_url, to.fixed.public_url
        )));
    }
    let wrong_store = |fault: crate::store::StoreFault| wrong(&fault.to_string());
    let (store, target) =
        (store_access::store(&from)?, Store::of(&to.fixed.store).map_err(wrong_store)?);
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let shows = std::io::stderr().is_terminal();
    let copied = store.copy_to(&target, clock::now(), |table, count| {
        counts.insert(table, count);
        if shows && count.is_multiple_of(10_000) {
            complain(&format!("{table}: {count}"));
        }
    });
    copied.map_err(wrong_store)?;
    let rows: Vec<serde_json::Value> =
        counts.iter().map(|(table, count)| json!({ "table": table, "rows": count })).collect();
    match format {
        Format::Json => say(&json!({ "moved": rows }).to_string()),
        Format::Text => {
            store_access::table(&rows, &["table", "rows"]);
            say("Start the gateways with the shared store now, then move once more: what the old \
                    ones wrote meanwhile comes too.");
        }
    }
    Ok(ExitCode::SUCCESS)
}
