//! `scopegate store`: a copy of the embedded store while it serves, and back from it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::client::said;
use super::{Format, report, state, wrong};
use crate::config::{Config, StoreConfig};
use crate::server::source;
use crate::store::Store;

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Copy the embedded store into a new file, whole and at one time, also while a gateway serves from it
    Backup {
        /// The file to be made
        file: PathBuf,
    },
    /// Put a backup where the configuration says that the store is; never over one that is there
    Restore {
        /// A file that `backup` has made
        file: PathBuf,
    },
}

pub(super) fn run(gateway: &Path, command: StoreCommand, format: Format) -> ExitCode {
    let outcome = match command {
        StoreCommand::Backup { file } => backup(gateway, &file, format),
        StoreCommand::Restore { file } => restore(gateway, &file, format),
    };
    outcome.unwrap_or_else(|code| code)
}

/// The folder of the store. A shared one is its server's to copy.
fn folder(config: &Config) -> Result<&Path, ExitCode> {
    match &config.fixed.store {
        StoreConfig::Embedded(folder) => Ok(Path::new(folder)),
        StoreConfig::Shared(_) => {
            Err(wrong("the store is in Redis, which copies itself: see BGSAVE and its append-only file"))
        }
    }
}

fn backup(gateway: &Path, file: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = source::load(gateway).map_err(|fault| report(&fault, format))?;
    folder(&config)?;
    state::store(&config)?.backup(file).map_err(|fault| wrong(&fault.to_string()))?;
    let path = file.display().to_string();
    said(format, &json!({ "backup": path }), || {
        format!(
            "{path} has everything that was committed until now, the private signing keys included: keep it as a secret."
        )
    });
    Ok(ExitCode::SUCCESS)
}

fn restore(gateway: &Path, file: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = source::load(gateway).map_err(|fault| report(&fault, format))?;
    let folder = folder(&config)?;
    Store::restore(file, folder).map_err(|fault| wrong(&fault.to_string()))?;
    said(format, &json!({ "restored": folder.display().to_string() }), || {
        format!(
            "The store in {} is the backup now. What was used or revoked since the backup is not known there: revoke once more\n\
             what must not come back, for instance with `scopegate token revoke --all`.",
            folder.display()
        )
    });
    Ok(ExitCode::SUCCESS)
}
