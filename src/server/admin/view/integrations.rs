//! Inbound integrations: every client with the fields of its form, and what it used.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::moment;
use crate::client::{Client, TokenFormat};
use crate::config::Config;
use crate::names::Timestamp;
use crate::server::admin::console::Use;
use crate::tooling::lint::Finding;
use crate::tooling::usage::own;

/// Days before its end in which something is near expiry.
const NEAR_EXPIRY_SECONDS: i64 = 30 * 86_400;

/// One client.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Integration {
    /// `client_id`.
    pub client_id: String,
    /// Name for people.
    pub name: String,
    /// Whose service is integrated.
    pub provider_name: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Whether it gets tokens.
    pub active: bool,
    /// It has no secret.
    pub public_client: bool,
    /// Grants.
    pub grants: Vec<String>,
    /// The user that its client-credentials tokens act as.
    pub application_user: Option<String>,
    /// `jwt` or `opaque`.
    pub token_format: String,
    /// Life of its access tokens, seconds.
    pub access_token_lifespan: u32,
    /// Life of its refresh tokens, seconds.
    pub refresh_token_lifespan: u32,
    /// Auth scopes it holds.
    pub auth_scopes: Vec<String>,
    /// APIs outside which it reaches nothing.
    pub limit_authorization: Option<Vec<String>>,
    /// It reaches only what scopes grant.
    pub allow_only_selected_scopes: bool,
    /// It reaches only what a policy that names it admits.
    pub enforce_token_restriction: bool,
    /// Where users may be sent back to.
    pub redirect_urls: Vec<String>,
    /// External login page.
    pub login_url: Option<String>,
    /// Logo on the consent page.
    pub logo_url: Option<String>,
    /// Its secrets.
    pub secrets: Vec<Secret>,
    /// The last day on which it got a token.
    pub last_token: Option<String>,
    /// The last day on which it called an API.
    pub last_call: Option<String>,
    /// Permitted requests in the last 30 days.
    pub calls_30_days: u64,
    /// Refused requests in the last 30 days.
    pub refused_30_days: u64,
    /// APIs that its scopes grant something on.
    pub apis_granted: usize,
    /// APIs that it was permitted to call.
    pub apis_used: usize,
    /// Findings about it that nobody has waived.
    pub findings: usize,
    /// Where it is declared.
    pub at: String,
}

/// A secret of a client.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Secret {
    /// The beginning of its digest.
    pub label: String,
    /// The day from which it is refused.
    pub expires: Option<String>,
    /// `live`, `near expiry` or `expired`.
    pub state: String,
    /// The day on which it last proved its client.
    pub last_used: Option<String>,
}

/// How many there are of a kind.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Totals {
    /// All clients.
    pub all: usize,
    /// Those that get tokens.
    pub active: usize,
    /// Those that reach operations which no scope grants.
    pub broad: usize,
    /// Those without a permitted call in all days that are kept.
    pub unused: usize,
    /// Those with a secret that expires within 30 days, or has.
    pub near_expiry: usize,
}

/// All clients, by id.
pub fn integrations(
    config: &Config,
    usage: &Use,
    findings: &[Finding],
    now: Timestamp,
) -> Vec<Integration> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.waived.is_none()) {
        *counts.entry(finding.client().unwrap_or_default()).or_default() += 1;
    }
    let granted = apis_by_scope(config);
    let clients = config.rules.registry().clients();
    let mut rows: Vec<Integration> = clients
        .into_iter()
        .map(|client| {
            let findings = counts.get(client.id.as_str()).copied().unwrap_or(0);
            integration(client, usage, &granted, findings, now)
        })
        .collect();
    rows.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    rows
}

/// The APIs on which each scope grants something.
fn apis_by_scope(config: &Config) -> BTreeMap<&str, HashSet<&str>> {
    let mut granted: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    let rules = &config.rules;
    for (at, api) in rules.apis().iter().enumerate() {
        for scope in rules.scopes_of(at) {
            granted.entry(scope).or_default().insert(api.name.as_str());
        }
    }
    granted
}

fn integration(
    client: &Client,
    usage: &Use,
    granted: &BTreeMap<&str, HashSet<&str>>,
    findings: usize,
    now: Timestamp,
) -> Integration {
    let id = client.id.as_str();
    let mut auth_scopes: Vec<String> = client.scopes.iter().map(ToString::to_string).collect();
    auth_scopes.sort_unstable();
    let apis: BTreeSet<&str> = auth_scopes
        .iter()
        .filter_map(|scope| granted.get(scope.as_str()))
        .flatten()
        .copied()
        .filter(|api| client.limit_authorization.as_ref().is_none_or(|limit| limit.contains(*api)))
        .collect();
    let month = usage.month.get(id).copied().unwrap_or_default();
    let tokens = usage.observed.own(id, own::TOKENS);
    let secrets = client.secrets.iter().map(|secret| {
        let label = secret.label();
        let used =
            usage.observed.secrets.iter().find(|used| used.client == id && used.secret == label);
        let state = match secret.expires {
            Some(expires) if now >= expires => "expired",
            Some(expires) if now.plus(NEAR_EXPIRY_SECONDS) >= expires => "near expiry",
            Some(_) | None => "live",
        };
        Secret {
            state: state.to_owned(),
            expires: secret.expires.map(|at| moment(at).chars().take(10).collect()),
            last_used: used.map(|used| used.last.text()),
            label,
        }
    });
    let limit = client.limit_authorization.as_ref().map(|apis| {
        let mut apis: Vec<String> = apis.iter().map(ToString::to_string).collect();
        apis.sort_unstable();
        apis
    });
    Integration {
        client_id: id.to_owned(),
        name: client.name.clone(),
        provider_name: client.provider.clone(),
        owner: client.owner.clone(),
        active: client.active,
        public_client: client.public,
        grants: client.grants.iter().map(|grant| grant.as_str().to_owned()).collect(),
        application_user: client.application_user.as_ref().map(ToString::to_string),
        token_format: match client.token_format {
            TokenFormat::Jwt => "jwt".to_owned(),
            TokenFormat::Opaque => "opaque".to_owned(),
        },
        access_token_lifespan: client.access_token_lifespan,
        refresh_token_lifespan: client.refresh_token_lifespan,
        auth_scopes,
        limit_authorization: limit,
        allow_only_selected_scopes: client.allow_only_selected_scopes,
        enforce_token_restriction: client.enforce_token_restriction,
        redirect_urls: client.redirect_urls.clone(),
        login_url: client.login_url.clone(),
        logo_url: client.logo_url.clone(),
        secrets: secrets.collect(),
        last_token: tokens.and_then(|sum| sum.last_permitted).map(crate::tooling::usage::Day::text),
        last_call: usage
            .observed
            .calls(id)
            .and_then(|sum| sum.last_permitted)
            .map(crate::tooling::usage::Day::text),
        calls_30_days: month.permitted,
        refused_30_days: month.refused,
        apis_granted: apis.len(),
        apis_used: usage.used_apis.get(id).map_or(0, BTreeSet::len),
        findings,
        at: client.origin.to_string(),
    }
}

/// Counts clients by kind.
#[must_use]
pub fn totals(rows: &[Integration]) -> Totals {
    let count = |is: &dyn Fn(&Integration) -> bool| rows.iter().filter(|row| is(row)).count();
    Totals {
        all: rows.len(),
        active: count(&|row| row.active),
        broad: count(&|row| !row.allow_only_selected_scopes && !row.enforce_token_restriction),
        unused: count(&|row| row.last_call.is_none()),
        near_expiry: count(&|row| row.secrets.iter().any(|secret| secret.state != "live")),
    }
}

/// Keeps the rows that a search and a filter ask for, in the order that is asked for.
///
/// # Errors
/// The filter or the order is none of these.
pub fn select(
    rows: &mut Vec<Integration>,
    search: &str,
    filter: &str,
    sort: &str,
) -> Result<(), String> {
    let search = search.trim().to_lowercase();
    if !search.is_empty() {
        rows.retain(|row| {
            let texts = [
                Some(&row.client_id),
                Some(&row.name),
                row.provider_name.as_ref(),
                row.owner.as_ref(),
                row.application_user.as_ref(),
            ];
            let has = |text: &&String| text.to_lowercase().contains(&search);
            texts.iter().flatten().any(&has) || row.auth_scopes.iter().any(|s| has(&s))
        });
    }
    match filter {
        "" | "all" => {}
        "active" => rows.retain(|row| row.active),
        "inactive" => rows.retain(|row| !row.active),
        "broad" => {
            rows.retain(|row| !row.allow_only_selected_scopes && !row.enforce_token_restriction);
        }
        "unused" => rows.retain(|row| row.last_call.is_none()),
        "near-expiry" => {
            rows.retain(|row| row.secrets.iter().any(|secret| secret.state != "live"));
        }
        "findings" => rows.retain(|row| row.findings > 0),
        _ => {
            return Err("filter is all, active, inactive, broad, unused, near-expiry or findings"
                .to_owned());
        }
    }
    match sort {
        "" | "client_id" => {}
        "name" => rows.sort_by_key(|row| row.name.to_lowercase()),
        "calls" => rows.sort_by_key(|row| std::cmp::Reverse(row.calls_30_days)),
        "last_call" => rows.sort_by(|a, b| b.last_call.cmp(&a.last_call)),
        "findings" => rows.sort_by_key(|row| std::cmp::Reverse(row.findings)),
        _ => return Err("sort is client_id, name, calls, last_call or findings".to_owned()),
    }
    Ok(())
}
