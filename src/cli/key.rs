//! `scopegate key`: our own signing keys. A running gateway applies a change within a second.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::client::said;
use super::{Format, report, say, store_access, wrong};
use crate::config::{Config, KeySource};
use crate::keys::IssuerKeys;
use crate::keys::fetch::Fetch;
use crate::keys::own::fresh;
use crate::names::{IssuerName, Timestamp};
use crate::store::keys::{NewKey, current};
use crate::system::{clock, files};

/// How long a key made by command is published before it signs, seconds: verifiers may cache our
/// key set for five minutes.
const LEAD: i64 = 600;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// List all keys: the current one, the next and the retired ones
    List,
    /// Fetch the keys of every issuer whose tokens are taken, and say how that went
    Issuers,
    /// Make the next key now; it signs in ten minutes, when verifiers have read it
    Rotate {
        /// Sign with it at once: verifiers that have not read it refuse its tokens for some minutes
        #[arg(long)]
        now: bool,
    },
    /// Remove a compromised key: what it signed is refused, and another signs at once
    Revoke {
        /// Its `kid`, as `key list` prints it; it may begin with a hyphen
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

pub(super) fn run(gateway: &Path, command: KeyCommand, format: Format) -> ExitCode {
    let outcome = match command {
        KeyCommand::List => list(gateway, format),
        KeyCommand::Issuers => issuers(gateway, format),
        KeyCommand::Rotate { now } => rotate(gateway, now, format),
        KeyCommand::Revoke { kid } => revoke(gateway, &kid, format),
    };
    outcome.unwrap_or_else(|code| code)
}

fn list(gateway: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let keys = store_access::store(&config)?.keys().map_err(|fault| wrong(&fault.to_string()))?;
    let now = clock::now();
    let signs = current(&keys, now).map(|key| key.number);
    let rows: Vec<serde_json::Value> = keys
        .iter()
        .map(|key| {
            let state = match (Some(key.number) == signs, key.private_key.is_some()) {
                (true, _) => "current",
                (false, true) if key.signs_from > now => "next",
                (false, _) => "retired",
            };
            json!({
                "kid": key.kid(),
                "algorithm": key.algorithm,
                "state": state,
                "signs_from": store_access::time(key.signs_from),
                "retired_at": key.retired_at.map(store_access::time),
            })
        })
        .collect();
    match format {
        Format::Json => say(&json!({ "keys": rows }).to_string()),
        Format::Text => {
            store_access::table(&rows, &["kid", "algorithm", "state", "signs_from", "retired_at"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn make(algorithm: crate::token::jws::Algorithm) -> Result<NewKey, ExitCode> {
    fresh(algorithm).ok_or_else(|| wrong("no key could be made"))
}

/// Fetches the keys of other issuers from this machine, as a gateway here would. Metrics report how
/// old the keys of a running gateway are.
fn issuers(gateway: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let fetched = fetch_all(&config).map_err(|fault| wrong(&fault))?;
    let rows: Vec<serde_json::Value> = fetched
        .into_iter()
        .map(|Fetched { issuer, from, keys, outcome }| {
            json!({
                "issuer": issuer,
                "from": from,
                "keys": keys,
                "of_no_use": outcome.as_ref().ok().map(Vec::len),
                "left_out": outcome.as_ref().ok(),
                "fault": outcome.as_ref().err(),
            })
        })
        .collect();
    let failed = rows.iter().any(|row| !row["fault"].is_null());
    match format {
        Format::Json => say(&json!({ "issuers": rows }).to_string()),
        Format::Text => {
            store_access::table(&rows, &["issuer", "from", "keys", "left_out", "fault"]);
        }
    }
    Ok(if failed { ExitCode::from(super::FINDINGS) } else { ExitCode::SUCCESS })
}

/// The keys of an issuer, fetched once.
pub(super) struct Fetched {
    /// Its name here.
    pub(super) issuer: String,
    /// Where they are.
    pub(super) from: String,
    /// Those that can be used, by name.
    pub(super) keys: Vec<String>,
    /// What was left out and why; or why there are none.
    pub(super) outcome: Result<Vec<String>, String>,
}

/// Fetches the keys of every issuer of a configuration, and of the login provider.
///
/// # Errors
/// Nothing can be fetched from this process.
pub(super) fn fetch_all(config: &Config) -> Result<Vec<Fetched>, String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| format!("no runtime: {fault}"))?;
    let provider = config
        .login
        .provider
        .as_ref()
        .map(|provider| (IssuerName::new("login provider"), provider.keys.clone()));
    let mut fetched = Vec::new();
    for (name, source) in config.key_sources.iter().cloned().chain(provider) {
        let from = match &source {
            KeySource::Discover { issuer, .. } => format!("the metadata of {issuer}"),
            KeySource::Url { url, .. } => url.clone(),
            KeySource::File(file) => file.path.clone(),
        };
        let fetch = Fetch::new(source.outbound())?;
        let keys = IssuerKeys::new(name.clone(), source, fetch);
        let outcome = runtime.block_on(keys.fetch_once());
        let set = keys.set();
        let names: Vec<String> = set
            .keys()
            .iter()
            .map(|key| key.name.clone().unwrap_or_else(|| format!("(no kid) {}", key.id.to_text())))
            .collect();
        let outcome =
            outcome.map(|left_out| left_out.iter().map(ToString::to_string).collect::<Vec<_>>());
        fetched.push(Fetched { issuer: name.as_str().to_owned(), from, keys: names, outcome });
    }
    Ok(fetched)
}

fn rotate(gateway: &Path, at_once: bool, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let (store, algorithm, now) =
        (store_access::store(&config)?, config.fixed.signing.algorithm, clock::now());
    let from: Timestamp = if at_once { now } else { now.plus(LEAD) };
    let record = store_access::record("rotate-key", algorithm.as_str().to_owned(), now);
    let added = store.add_key(algorithm.as_str(), make(algorithm)?, now, from, Some(record));
    added.map_err(|fault| wrong(&fault.to_string()))?;
    said(format, &json!({ "signs_from": store_access::time(from) }), || {
        format!(
            "A new {} key signs from {} on. The old one's tokens stay good.",
            algorithm.as_str(),
            store_access::time(from)
        )
    });
    Ok(ExitCode::SUCCESS)
}

fn revoke(gateway: &Path, wanted: &str, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let (store, algorithm, now) =
        (store_access::store(&config)?, config.fixed.signing.algorithm, clock::now());
    let keys = store.keys().map_err(|fault| wrong(&fault.to_string()))?;
    let Some(key) = keys.iter().find(|key| key.kid() == wanted) else {
        return Err(wrong(&format!("there is no key `{wanted}`; `scopegate key list` prints all")));
    };
    let record = Some(store_access::record("revoke-key", wanted.to_owned(), now));
    let removed = store.drop_key(key.number, algorithm.as_str(), make(algorithm)?, now, record);
    removed.map_err(|fault| wrong(&fault.to_string()))?;
    said(format, &json!({ "revoked": wanted }), || {
        format!(
            "The key {wanted} is gone: gateways on this store refuse what it signed within a \
                second. Others that verify our\n\
             tokens by themselves do so once they read our key set again, which they may keep for \
             five minutes."
        )
    });
    Ok(ExitCode::SUCCESS)
}
