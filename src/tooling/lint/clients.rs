//! Findings about clients, users and gateway.yaml.

use super::{Finding, Rule};
use crate::client::{Client, GrantType, Registry};
use crate::config::format::is_loopback;
use crate::config::{Config, KeySource};
use crate::grant::redirect::private_scheme;
use crate::names::{Origin, Timestamp};
use crate::token::claims::Audience;
use crate::tooling::edit::{Change, Edit};

pub(super) fn lint(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let registry = config.rules.registry();
    for client in registry.clients() {
        of_client(config, registry, client, now, &mut findings);
    }
    let provider = config.login.provider.as_ref().map(|provider| provider.issuer.as_str());
    for user in registry.users() {
        for identity in
            user.external.iter().filter(|identity| provider != Some(identity.issuer.as_str()))
        {
            let known = provider
                .map_or_else(|| "there is none".to_owned(), |known| format!("it is `{known}`"));
            let text = format!(
                "user `{}`: `{}` is not the login provider's issuer ({known})",
                user.name, identity.issuer
            );
            findings.push(Finding::new(Rule::UserUnknownIssuer, &user.name, &user.origin, text));
        }
    }
    for issuer in config.rules.issuers().filter(|issuer| issuer.rules.id_tokens) {
        let name = &issuer.rules.name;
        let text = format!("issuer `{name}`: its ID tokens are taken as access tokens");
        findings.push(Finding::new(Rule::IssuerIdTokens, name, &gateway(config), text));
    }
    for issuer in config.rules.issuers().filter(|issuer| !issuer.rules.name.is_own()) {
        let (name, rules) = (&issuer.rules.name, &issuer.rules);
        let mut say = |rule, text| findings.push(Finding::new(rule, name, &gateway(config), text));
        if rules.audience == Audience::Any {
            let text = format!("issuer `{name}`: its tokens are taken whoever they are for");
            say(Rule::IssuerAnyAudience, text);
        }
        let default = registry.external_client(name, None);
        if let Some(default) = default.filter(|_| rules.claims.scopes.is_empty()) {
            let text = format!(
                "issuer `{name}`: unlisted clients have all that `{}` holds, for want of a scopes \
                    claim",
                default.id
            );
            say(Rule::IssuerUnscoped, text);
        }
    }
    plain_http(config, &mut findings);
    let behind_tls = config.fixed.listeners.iter().any(|listener| listener.behind_tls);
    if behind_tls && config.trusted_proxies.is_empty() {
        let text =
            "a listener is `behind_tls` and no proxy is named under `trusted_proxies`".to_owned();
        findings.push(Finding::new(
            Rule::ProxyUntrusted,
            &"trusted_proxies",
            &gateway(config),
            text,
        ));
    }
    findings
}

/// gateway.yaml, by the path that was given.
fn gateway(config: &Config) -> Origin {
    Origin { file: config.gateway_file.clone(), line: 1, column: 1 }
}

fn of_client(
    config: &Config,
    registry: &Registry,
    client: &Client,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) {
    let id = &client.id;
    let mut say = |rule, text: String| findings.push(Finding::new(rule, id, &client.origin, text));
    let obstacles = registry.obstacles(client, &config.grants, now);
    // A client of another issuer needs no token of ours.
    let needs_one = !client.grants.is_empty() || !is_external(registry, config, client);
    if needs_one && !obstacles.is_empty() {
        say(Rule::ClientNoToken, format!("client `{id}` gets no token: {}", obstacles.join("; ")));
    }
    if !client.active {
        return;
    }
    let schemes = client.redirect_urls.iter().filter_map(|url| private_scheme(url));
    for scheme in schemes.filter(|scheme| !scheme.contains('.')) {
        let text =
            format!("client `{id}`: the scheme `{scheme}:` of a redirect URL is nobody's own");
        say(Rule::ClientPrivateScheme, text);
    }
    if !client.allow_only_selected_scopes && !client.enforce_token_restriction {
        let text = "has `allow_only_selected_scopes: false` and no `enforce_token_restriction`";
        say(Rule::ClientBroad, format!("client `{id}` {text}"));
    }
    let master = config.rules.master_scope();
    if client.scopes.contains(master) {
        say(
            Rule::ClientMasterScope,
            format!("client `{id}` holds `{master}`, which passes the scope gate of every API"),
        );
    }
    if client.grants.contains(&GrantType::Password) {
        say(Rule::ClientPasswordGrant, format!("client `{id}` has the grant `password`"));
    }
    if client.grants.contains(&GrantType::AuthorizationCode) && client.provider.is_none() {
        let text = format!("client `{id}` acts for users and has no `provider_name`");
        say(Rule::ClientNoProvider, text);
    }
    let as_nobody = client.application_user.is_none() && client.roles.is_empty();
    if client.grants.contains(&GrantType::ClientCredentials) && as_nobody {
        say(Rule::ClientNoUser, format!("client `{id}` has no `application_user` and no `roles`"));
    }
    if client.secrets.iter().any(|secret| secret.expires.is_none()) {
        say(Rule::SecretNoExpiry, format!("a secret of client `{id}` has no `expires`"));
    }
    let mut inactive: Vec<_> = client.scopes.intersection(config.rules.inactive_scopes()).collect();
    inactive.sort_unstable();
    for scope in inactive {
        let text = format!("client `{id}` holds `{scope}`, which has `active: false`");
        let edit = Edit { client: id.to_string(), change: Change::RemoveScope(scope.to_string()) };
        let finding = Finding::new(Rule::InactiveReliedOn, id, &client.origin, text);
        findings.push(finding.mended_by(Some(edit)));
    }
    let mut say = |rule, text: String| findings.push(Finding::new(rule, id, &client.origin, text));
    let user = client.application_user.as_ref().and_then(|name| registry.user(name.as_str()));
    if let Some(user) = user.filter(|user| !user.usable()) {
        say(
            Rule::InactiveReliedOn,
            format!("client `{id}` acts as user `{}`, which is inactive or locked", user.name),
        );
    }
}

/// Whether tokens of other issuers map to this client.
fn is_external(registry: &Registry, config: &Config, client: &Client) -> bool {
    let default = |issuer: &&crate::policy::Issuer| {
        !issuer.rules.name.is_own()
            && registry
                .external_client(&issuer.rules.name, None)
                .is_some_and(|default| default.id == client.id)
    };
    !client.external.is_empty() || config.rules.issuers().any(|issuer| default(&issuer))
}

/// Issuers whose keys come, or who are asked, over plain http on a network.
fn plain_http(config: &Config, findings: &mut Vec<Finding>) {
    let is_plain = |url: &str| {
        url::Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
    };
    let provider = config.login.provider.as_ref();
    let provider = provider.map(|provider| ("login.provider", &provider.keys));
    let sources = config.key_sources.iter().map(|(name, source)| (name.as_str(), source));
    for (name, source) in sources.chain(provider) {
        let (KeySource::Discover { issuer: url, .. } | KeySource::Url { url, .. }) = source else {
            continue;
        };
        if is_plain(url) {
            let text = format!("issuer `{name}`: its keys are fetched over plain http from {url}");
            findings.push(Finding::new(Rule::IssuerPlainHttp, &name, &gateway(config), text));
        }
    }
    for (name, declared) in &config.introspections {
        if is_plain(&declared.url) {
            let url = &declared.url;
            let text = format!("issuer `{name}`: it is asked over plain http at {url}");
            findings.push(Finding::new(Rule::IssuerPlainHttp, name, &gateway(config), text));
        }
    }
}
