//! `scopegate access`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use askama::Template;
use clap::ValueEnum;
use serde_json::json;

use super::observed::observed;
use super::{Format, progress, report, say, wrong};
use crate::config::Config;
use crate::policy::route::written;
use crate::system::{clock, files};
use crate::tooling::access::{Access, Idle, Reach, Usage, access, apply_observed};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AccessFormat {
    /// For people
    Text,
    /// For machines
    Json,
    /// One page that needs nothing else, to read and to search
    Html,
}

/// What `access` is asked.
#[derive(clap::Args, Debug)]
pub(super) struct AccessArguments {
    /// Only this client
    #[arg(long, allow_hyphen_values = true)]
    client: Option<String>,
    /// Only this API
    #[arg(long)]
    api: Option<String>,
    /// Only who has this role
    #[arg(long)]
    role: Option<String>,
    /// A decision log, for what was made use of
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Of the log, only so many days before now
    #[arg(long, value_name = "DAYS", requires = "log",
        value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
    /// Only what is granted and was not used; without a log, by the counters of the store
    #[arg(long)]
    unused: bool,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = AccessFormat::Text)]
    format: AccessFormat,
}

pub(super) fn run(gateway: &Path, arguments: &AccessArguments) -> ExitCode {
    let machine = if arguments.format == AccessFormat::Json { Format::Json } else { Format::Text };
    let config = match files::load_untested(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, machine),
    };
    if let Err(unknown) = known(&config, arguments) {
        return wrong(&unknown);
    }
    let now = clock::now();
    let mut found = progress::during("asking", |workers| access(&config.rules, now, workers));
    if let Some(log) = &arguments.log {
        let since = arguments.days.map(|days| now.plus(-i64::from(days) * 86_400));
        let mut usage = Usage::since(since);
        if let Err(fault) = progress::lines("reading", log, |line| usage.line(line)) {
            return wrong(&fault);
        }
        usage.apply(&mut found, &config.rules);
    }
    if arguments.log.is_none() && arguments.unused {
        match observed(&config) {
            Ok(observed) if observed.since.is_some() => apply_observed(&mut found, &observed),
            Ok(_) => {
                return wrong("the store has counted no use yet: name a decision log with --log");
            }
            Err(fault) => return wrong(&fault),
        }
    }
    narrow(&mut found, arguments);
    match arguments.format {
        AccessFormat::Text => text(&found),
        AccessFormat::Json => say(&json!({ "set": &*config.version, "access": found }).to_string()),
        AccessFormat::Html => match page(&config, &found, arguments) {
            Ok(page) => say(&page),
            Err(fault) => return wrong(&format!("the page: {fault}")),
        },
    }
    ExitCode::SUCCESS
}

/// A mistyped name must not look like a caller without access.
fn known(config: &Config, arguments: &AccessArguments) -> Result<(), String> {
    let rules = &config.rules;
    let there = |what: &str, name: &Option<String>, is: &dyn Fn(&str) -> bool| match name {
        Some(name) if !is(name) => Err(format!("there is no {what} `{name}`")),
        Some(_) | None => Ok(()),
    };
    let definitions = rules.definitions();
    let role = |name: &str| {
        let clients = rules.registry().clients();
        let users = rules.registry().users();
        clients.iter().any(|client| client.roles.contains(name))
            || users.iter().any(|user| user.roles.contains(name))
            || definitions
                .issuers
                .iter()
                .any(|issuer| issuer.roles.values().any(|role| role.as_str() == name))
    };
    there("client", &arguments.client, &|name| rules.registry().client(name).is_some())?;
    there("API", &arguments.api, &|name| rules.apis().iter().any(|api| api.name.as_str() == name))?;
    there("role", &arguments.role, &role)
}

fn narrow(found: &mut Access, arguments: &AccessArguments) {
    let client =
        |name: Option<&str>| arguments.client.is_none() || arguments.client.as_deref() == name;
    found.reach.retain(|reach| {
        client(reach.client.as_deref())
            && arguments.api.as_ref().is_none_or(|api| *api == reach.api)
            && arguments.role.as_ref().is_none_or(|role| reach.roles.contains(role))
            && (!arguments.unused || reach.is_unused())
    });
    found.idle.retain(|idle| client(Some(&idle.client)));
}

/// What one caller reaches of one API, with similar lines merged.
fn lines(found: &Access) -> Vec<(&str, &str, Vec<String>)> {
    let mut groups: BTreeMap<(&str, &str), BTreeMap<String, Vec<&Reach>>> = BTreeMap::new();
    for reach in &found.reach {
        groups
            .entry((&reach.caller, &reach.api))
            .or_default()
            .entry(circumstances(reach))
            .or_default()
            .push(reach);
    }
    let lines = groups.into_iter().map(|((caller, api), alike)| {
        let lines = alike.into_iter().map(|(circumstances, reaches)| {
            let mut paths: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for reach in reaches {
                let version =
                    reach.version.as_ref().map(|version| format!("/{version}")).unwrap_or_default();
                let methods = paths.entry(format!("{version}{}", reach.resource)).or_default();
                if !methods.contains(&reach.method) {
                    methods.push(reach.method);
                }
            }
            let paths: Vec<String> = paths
                .into_iter()
                .map(|(path, methods)| format!("{} {}", methods.join(","), written(&path)))
                .collect();
            format!("{}{circumstances}", paths.join("; "))
        });
        (caller, api, lines.collect())
    });
    lines.collect()
}

fn circumstances(reach: &Reach) -> String {
    let mut words = reach.only.clone();
    if reach.is_unused() {
        words.push("not used".to_owned());
    }
    if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) }
}

fn text(found: &Access) {
    let mut last = "";
    for (caller, api, lines) in lines(found) {
        if caller != last {
            say(caller);
            last = caller;
        }
        for line in lines {
            say(&format!("  {api}: {line}"));
        }
    }
    if found.reach.is_empty() {
        say("nobody reaches anything");
    }
    if found.in_part > 0 {
        let count = found.in_part;
        say(&format!(
            "{count} operations have more combinations of roles, claims and values than were gone \
                through"
        ));
    }
    if !found.idle.is_empty() {
        say("\nscopes that are held and were not used:");
        let mut by_client: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Idle { client, scope } in &found.idle {
            by_client.entry(client).or_default().push(scope);
        }
        for (client, scopes) in by_client {
            say(&format!("  {client}: {}", scopes.join(", ")));
        }
    }
}

/// The HTML page.
#[derive(Template)]
#[template(path = "access.html")]
struct Page<'a> {
    gateway: &'a str,
    set: &'a str,
    made: String,
    callers: usize,
    apis: usize,
    reach: &'a [Reach],
    idle: &'a [Idle],
    in_part: usize,
    log: bool,
    days: Option<u16>,
}

fn page(
    config: &Config,
    found: &Access,
    arguments: &AccessArguments,
) -> Result<String, askama::Error> {
    let count = |name: fn(&Reach) -> &str| {
        found.reach.iter().map(name).collect::<std::collections::BTreeSet<_>>().len()
    };
    let page = Page {
        gateway: &config.fixed.public_url,
        set: &config.version,
        made: crate::tooling::moment(clock::now()),
        callers: count(|reach| &reach.caller),
        apis: count(|reach| &reach.api),
        reach: &found.reach,
        idle: &found.idle,
        in_part: found.in_part,
        log: arguments.log.is_some(),
        days: arguments.days,
    };
    page.render()
}
