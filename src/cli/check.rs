//! `scopegate check`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Format, report, say};
use crate::client::Registry;
use crate::config::Config;
use crate::server::{clock, source};

pub(super) fn run(gateway: &Path, format: Format) -> ExitCode {
    let config = match source::load(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, format),
    };
    let clients = obstacles(&config);
    match format {
        Format::Json => {
            let warnings = warnings(&config);
            let value = json!({ "faults": [], "set": &*config.version, "warnings": warnings, "clients": clients });
            say(&value.to_string());
        }
        Format::Text => text(&config, &clients),
    }
    ExitCode::SUCCESS
}

/// What of the whole deserves a second look.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.fixed.listeners.iter().any(|listener| listener.behind_tls) && config.trusted_proxies.is_empty() {
        let text = "a listener is `behind_tls` and no proxy is named under `trusted_proxies`: all callers have one address, and limits \
             on guessing shut them out together";
        warnings.push(text.to_owned());
    }
    let provider = config.login.provider.as_ref().map(|provider| provider.issuer.as_str());
    for user in config.rules.registry().users() {
        for identity in user.external.iter().filter(|identity| provider != Some(identity.issuer.as_str())) {
            let (name, origin, issuer) = (&user.name, &user.origin, &identity.issuer);
            let known = provider.map_or_else(|| "there is none".to_owned(), |known| format!("it is `{known}`"));
            warnings.push(format!("{origin}: user `{name}`: `{issuer}` is not the login provider's issuer ({known})"));
        }
    }
    warnings
}

/// What keeps each client from getting a token now.
fn obstacles(config: &Config) -> Vec<serde_json::Value> {
    let registry = config.rules.registry();
    let now = clock::now();
    let clients = registry.clients().into_iter().map(|client| {
        let obstacles = registry.obstacles(client, &config.grants, now);
        let notes = Registry::notes(client, config.rules.master_scope(), config.rules.inactive_scopes());
        json!({ "client": client.id.as_str(), "at": client.origin.to_string(), "obstacles": obstacles, "notes": notes })
    });
    clients.collect()
}

fn text(config: &Config, clients: &[serde_json::Value]) {
    let rules = &config.rules;
    say(&format!(
        "ok: {} APIs, {} operations, {} clients, {} issuers; set {}",
        rules.apis().len(),
        rules.operations().len(),
        clients.len(),
        rules.issuers().count(),
        config.version
    ));
    for warning in warnings(config) {
        say(&format!("warning: {warning}"));
    }
    for client in clients {
        let texts = |key: &str| -> Vec<&str> {
            client[key].as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect()
        };
        let (name, at) = (client["client"].as_str().unwrap_or_default(), client["at"].as_str().unwrap_or_default());
        let obstacles = texts("obstacles");
        if !obstacles.is_empty() {
            say(&format!("note: {at}: client `{name}` gets no token: {}", obstacles.join("; ")));
        }
        for note in texts("notes") {
            say(&format!("warning: {at}: client `{name}`: {note}"));
        }
    }
}
