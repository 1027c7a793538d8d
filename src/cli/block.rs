//! `scopegate block`, `scopegate unblock`: who is blocked now, on every gateway of the store,
//! without an edit of the YAML.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::client::said;
use super::{Format, report, say, store_access, wrong};
use crate::names::Timestamp;
use crate::store::blocks::{Blocked, CommandedBlock};
use crate::system::{clock, files};

/// Whom.
#[derive(Args, Debug)]
#[group(required = false, multiple = false)]
pub(super) struct Whom {
    /// A client, by its id
    #[arg(long, allow_hyphen_values = true)]
    client: Option<String>,
    /// A user, by its name
    #[arg(long, allow_hyphen_values = true)]
    user: Option<String>,
    /// A token, by its id (`jti`)
    #[arg(long, value_name = "JTI", allow_hyphen_values = true)]
    token: Option<String>,
    /// A network in CIDR notation, or one address
    #[arg(long)]
    network: Option<String>,
}

/// What `scopegate block` takes.
#[derive(Args, Debug)]
pub(super) struct BlockArguments {
    #[command(flatten)]
    whom: Whom,
    /// Why, for those who look later
    #[arg(long)]
    reason: Option<String>,
    /// For how long, for instance 30m, 2h or 7d; without an end when left out
    #[arg(long, value_name = "TIME")]
    r#for: Option<String>,
    /// Print the blocks that hold now
    #[arg(long, conflicts_with_all = ["client", "user", "token", "network", "reason", "for"])]
    list: bool,
}

pub(super) fn block(gateway: &Path, arguments: BlockArguments, format: Format) -> ExitCode {
    let outcome = if arguments.list {
        list(gateway, format)
    } else {
        set(gateway, arguments.whom, arguments.reason, arguments.r#for.as_deref(), format)
    };
    outcome.unwrap_or_else(|code| code)
}

pub(super) fn unblock(gateway: &Path, whom: Whom, format: Format) -> ExitCode {
    end(gateway, whom, format).unwrap_or_else(|code| code)
}

fn set(
    gateway: &Path,
    whom: Whom,
    reason: Option<String>,
    time: Option<&str>,
    format: Format,
) -> Result<ExitCode, ExitCode> {
    let blocked = blocked(whom)?;
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let registry = config.rules.registry();
    let known = match &blocked {
        Blocked::Client(id) => registry.client(id).is_some(),
        Blocked::User(name) => store_access::account(&config, name)?.is_some(),
        Blocked::Token(id) => !id.is_empty(),
        Blocked::Network(_) => true,
    };
    if !known {
        // A mistyped name must not look like success.
        return Err(wrong(&format!(
            "there is no {} `{}`: nobody was blocked",
            blocked.kind(),
            blocked.value()
        )));
    }
    let since = clock::now();
    let until = time.map(|time| end_of(time, since)).transpose()?;
    let text = format!("{} `{}`", blocked.kind(), blocked.value());
    let mut record = store_access::record("block", text.clone(), since);
    record.after.clone_from(&reason);
    let block = CommandedBlock { blocked, reason, since, until };
    let store = store_access::store(&config)?;
    store.block(&block, Some(record)).map_err(|fault| wrong(&fault.to_string()))?;
    let end = until.map_or_else(
        || "until `scopegate unblock`".to_owned(),
        |until| format!("until {}", store_access::time(until)),
    );
    said(format, &json!({ "blocked": text, "until": until.map(store_access::time) }), || {
        format!("Blocked: {text}, {end}.")
    });
    Ok(ExitCode::SUCCESS)
}

fn end(gateway: &Path, whom: Whom, format: Format) -> Result<ExitCode, ExitCode> {
    let blocked = blocked(whom)?;
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let text = format!("{} `{}`", blocked.kind(), blocked.value());
    let store = store_access::store(&config)?;
    let now = clock::now();
    let record = store_access::record("unblock", text.clone(), now);
    let ended = store.unblock(&blocked, now, Some(record));
    if !ended.map_err(|fault| wrong(&fault.to_string()))? {
        return Err(wrong(&format!(
            "no command has blocked the {text}; blocks in policy files are edited there"
        )));
    }
    said(format, &json!({ "unblocked": text }), || format!("Not blocked any more: {text}."));
    Ok(ExitCode::SUCCESS)
}

fn list(gateway: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let blocks = store_access::store(&config)?
        .blocks(clock::now())
        .map_err(|fault| wrong(&fault.to_string()))?;
    let rows: Vec<serde_json::Value> = blocks
        .iter()
        .map(|block| {
            json!({
                "kind": block.blocked.kind(),
                "blocked": block.blocked.value(),
                "since": store_access::time(block.since),
                "until": block.until.map(store_access::time),
                "reason": block.reason,
            })
        })
        .collect();
    match format {
        Format::Json => say(&json!({ "blocks": rows }).to_string()),
        Format::Text => {
            store_access::table(&rows, &["kind", "blocked", "since", "until", "reason"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn blocked(whom: Whom) -> Result<Blocked, ExitCode> {
    Ok(match whom {
        Whom { client: Some(client), .. } => Blocked::Client(client),
        Whom { user: Some(user), .. } => Blocked::User(user),
        Whom { token: Some(token), .. } => Blocked::Token(token),
        Whom { network: None, .. } => {
            return Err(wrong("whom? --client, --user, --token or --network"));
        }
        Whom { network: Some(text), .. } => {
            let parsed = crate::request::address::parse_network(&text);
            Blocked::Network(parsed.map_err(|fault| wrong(&format!("--network: {fault}")))?)
        }
    })
}

fn end_of(text: &str, now: Timestamp) -> Result<Timestamp, ExitCode> {
    let time =
        crate::config::format::duration(text).map_err(|fault| wrong(&format!("--for: {fault}")))?;
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    if seconds > 0 { Ok(now.plus(seconds)) } else { Err(wrong("--for: at least a second")) }
}
