//! `scopegate token`: inspects and revokes tokens. A token is read from standard input, so that it
//! is in no process list and no shell history; it is never printed.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::client::said;
use super::{Format, report, store_access, token_facts, wrong};
use crate::config::Config;
use crate::grant::opaque::Kind;
use crate::names::{IssuerName, Timestamp};
use crate::policy::principal;
use crate::store::revocations::{Revocation, Subject};
use crate::system::{clock, files};
use crate::token::jws::Decoded;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Say what a token on standard input is, and whether it would be taken now
    Inspect,
    /// Revoke tokens; running gateways on the same store refuse them within a second
    Revoke {
        #[command(flatten)]
        what: What,
        /// Only those issued before this time (RFC 3339, for instance 2026-11-22T10:00:00Z); with
        /// --client, --user or --all
        #[arg(long)]
        issued_before: Option<String>,
        /// Tokens of this issuer of the configuration: --client is its client claim then, --user
        /// its subject
        #[arg(long, conflicts_with = "stdin")]
        issuer: Option<String>,
    },
}

/// Which tokens.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct What {
    /// The one on standard input
    #[arg(long)]
    stdin: bool,
    /// The one with this id (`jti`)
    #[arg(long, allow_hyphen_values = true)]
    id: Option<String>,
    /// All that a client has
    #[arg(long, allow_hyphen_values = true)]
    client: Option<String>,
    /// All that act for a user, who is signed out too
    #[arg(long, allow_hyphen_values = true)]
    user: Option<String>,
    /// All that was issued until now
    #[arg(long)]
    all: bool,
}

pub(super) fn run(gateway: &Path, command: TokenCommand, format: Format) -> ExitCode {
    let outcome = match command {
        TokenCommand::Inspect => inspect(gateway, format),
        TokenCommand::Revoke { what, issued_before, issuer } => {
            revoke(gateway, what, issued_before.as_deref(), issuer.as_deref(), format)
        }
    };
    outcome.unwrap_or_else(|code| code)
}

fn read() -> Result<Zeroizing<String>, ExitCode> {
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().take(16 * 1024).read_to_string(&mut text);
    read.map_err(|fault| wrong(&format!("standard input: {fault}")))?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() { Err(wrong("no token on standard input")) } else { Ok(token) }
}

fn inspect(gateway: &Path, format: Format) -> Result<ExitCode, ExitCode> {
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let store = store_access::store(&config)?;
    let token = read()?;
    let facts = match token_facts::facts(&config, Some(&store), &token) {
        Ok(facts) => facts,
        Err(refusal) => {
            let fault = refusal.fault.text();
            said(format, &json!({ "active": false, "fault": fault }), || {
                format!("not good: {fault}")
            });
            return Ok(ExitCode::from(super::FINDINGS));
        }
    };
    let now = clock::now();
    let revocations = crate::server::tokens::revocations::Revocations::load(&store, now)
        .map_err(|fault| wrong(&fault.to_string()))?;
    let fault = if revocations.has(&facts, config.rules.registry()) {
        Some("token.invalid (revoked)".to_owned())
    } else {
        principal::identify(&config.rules, facts.clone(), now)
            .err()
            .map(|refusal| format!("{} ({})", refusal.reason.label(), refusal.fault.text()))
    };
    let described = json!({
        "active": fault.is_none(),
        "fault": fault,
        "issuer": facts.issuer.as_str(),
        "client": facts.client,
        "subject": facts.subject,
        "audience": facts.audience,
        "scope": facts.scopes.as_ref().map(crate::scope::ScopeSet::to_value),
        "issued": facts.issued.map(store_access::time),
        "expires": store_access::time(facts.expires),
        "id": facts.id,
        "authorization": facts.authorization,
    });
    said(format, &described, || serde_json::to_string_pretty(&described).unwrap_or_default());
    Ok(if fault.is_none() { ExitCode::SUCCESS } else { ExitCode::from(super::FINDINGS) })
}

/// A mistyped name must not look like success.
fn known(is: bool, name: &str) -> Result<(), ExitCode> {
    if is { Ok(()) } else { Err(wrong(&format!("there is no `{name}`: nothing was revoked"))) }
}

/// The latest issue time of the tokens to revoke.
fn until(what: &What, issued_before: Option<&str>, now: Timestamp) -> Result<Timestamp, ExitCode> {
    let until = match issued_before {
        None => now,
        Some(_) if what.stdin || what.id.is_some() => {
            return Err(wrong("--issued-before goes with --client, --user or --all"));
        }
        Some(text) => {
            let at: jiff::Timestamp = text.parse().map_err(|_| {
                wrong(&format!("`{text}` is not a time; write for instance 2026-11-22T10:00:00Z"))
            })?;
            // Up to the second before, not including it.
            Timestamp(at.as_second() - 1)
        }
    };
    if until > now {
        return Err(wrong("--issued-before lies ahead: tokens of the future cannot be revoked"));
    }
    Ok(until)
}

fn revoke(
    gateway: &Path,
    what: What,
    issued_before: Option<&str>,
    issuer: Option<&str>,
    format: Format,
) -> Result<ExitCode, ExitCode> {
    let now = clock::now();
    let until = until(&what, issued_before, now)?;
    let config = files::load(gateway).map_err(|fault| report(&fault, format))?;
    let mut issuer = config.rules.issuer_name(issuer.unwrap_or(IssuerName::OWN));
    let Some(found) = config.rules.issuer(issuer.as_str()) else {
        return Err(wrong(&format!("there is no issuer `{issuer}`: nothing was revoked")));
    };
    if found.rules.tenants.is_some() && issuer.tenant().is_none() && !what.all {
        // A subject is one only with its tenant.
        let text = format!("`{issuer}` has tenants: write --issuer {issuer}/TENANT, or --all");
        return Err(wrong(&text));
    }
    let registry = config.rules.registry();
    let subject = match what {
        What { stdin: true, .. } => {
            let (of, subject) = presented(&config)?;
            issuer = of;
            subject
        }
        What { id: Some(id), .. } if id.is_empty() => return Err(wrong("--id is empty")),
        What { id: Some(id), .. } => Subject::Token(id),
        What { client: Some(client), .. } => {
            known(!issuer.is_own() || registry.client(&client).is_some(), &client)?;
            Subject::Client(client)
        }
        What { user: Some(user), .. } => {
            let is_known = !issuer.is_own() || store_access::account(&config, &user)?.is_some();
            known(is_known, &user)?;
            Subject::User(user)
        }
        What { .. } => Subject::Everything,
    };
    let of = if issuer.is_own() { String::new() } else { format!(" of `{issuer}`") };
    let text = match &subject {
        Subject::Token(id) => format!("the token {id}{of} is"),
        Subject::Authorization(id) => format!("all tokens of the authorization {id} are"),
        Subject::Client(client) => format!("all tokens{of} that `{client}` has are"),
        Subject::User(user) => format!("all tokens{of} that act for `{user}` are"),
        Subject::Everything => format!("all tokens{of} issued until now are"),
    };
    store_access::revoke_in(&config, Revocation::until(issuer, subject, until, now))?;
    let until =
        issued_before.map(|text| format!(", as far as issued before {text}")).unwrap_or_default();
    said(format, &json!({ "refused": text, "issued_before": issued_before }), || {
        format!("From now on {text} refused{until}.")
    });
    Ok(ExitCode::SUCCESS)
}

/// The token on standard input: its issuer, and what revokes it. Another issuer's token is not
/// verified: its holder may want it revoked, and its keys are not here.
fn presented(config: &Config) -> Result<(IssuerName, Subject), ExitCode> {
    let own = IssuerName::new(IssuerName::OWN);
    let token = read()?;
    let decoded = Decoded::of(&token).ok();
    let parsed = decoded.as_ref().and_then(|decoded| decoded.read().ok());
    let text = |name: &str| parsed.as_ref()?.claims.get(name)?.as_str();
    let issuer =
        text("iss").and_then(|iss| Some(config.rules.issuer_by_claim(iss)?.rules.name_of(iss)));
    if let Some(issuer) = issuer.filter(|issuer| !issuer.is_own()) {
        let id = text("jti").ok_or_else(|| {
            wrong("the token has no jti: revoke with --issuer and --client or --user")
        })?;
        return Ok((issuer, Subject::Token(id.to_owned())));
    }
    let store = store_access::store(config)?;
    if let Some(digest) = Kind::Refresh.digest(&token) {
        let found = store.find_refresh(digest).map_err(|fault| wrong(&fault.to_string()))?;
        return Ok((
            own,
            Subject::Authorization(found.ok_or_else(|| wrong("no such refresh token"))?),
        ));
    }
    let facts = token_facts::facts(config, Some(&store), &token);
    let facts = facts.map_err(|refusal| wrong(&format!("the token: {}", refusal.fault.text())))?;
    Ok((own, Subject::Token(facts.id.clone().ok_or_else(|| wrong("the token has no id"))?)))
}
