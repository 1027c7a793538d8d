//! Converts one `oauth_entity` record to the lines of a client.

use super::records::{Record, Records};
use crate::config::format;
use crate::grant::redirect;
use crate::tooling::import::{Note, usable_name, yaml};

/// The longest life of an access token here, seconds: 100 days.
const LONGEST_ACCESS: u64 = 8_640_000;
/// The longest life of a refresh token here, seconds: a hundred years.
const LONGEST_REFRESH: u64 = 3_153_600_000;

/// Fields that are read, or that are only metadata of the record.
const KNOWN: &[&str] = &[
    "access_token_lifespan",
    "active",
    "client_id",
    "client_secret",
    "client_type",
    "comments",
    "default_grant_type",
    "inbound_grant_type",
    "logo_url",
    "name",
    "provider_name",
    "public_client",
    "redirect_url",
    "refresh_token_lifespan",
    "scope_restriction_status",
    "token_format",
    "type",
    "use_pkce",
    "user",
];

/// A line of a client: its key, and its value as YAML writes it.
pub(super) type Line = (&'static str, String);

/// The content of one client record.
pub(super) struct Said {
    pub(super) id: String,
    pub(super) public: bool,
    pub(super) grants: Vec<&'static str>,
    pub(super) lines: Vec<Line>,
}

/// Collects notes about a client.
pub(super) struct Telling<'a> {
    pub(super) about: &'a str,
    pub(super) notes: &'a mut Vec<Note>,
}

impl Telling<'_> {
    pub(super) fn say(&mut self, message: impl AsRef<str>) {
        self.notes.push(Note::new(self.about, message));
    }
}

/// Reads a record.
///
/// # Errors
/// Says why it cannot be a client here.
pub(super) fn said(
    records: &Records,
    record: &Record,
    restricted: bool,
    telling: &mut Telling<'_>,
) -> Result<Said, String> {
    match record.get("type") {
        Some("client") => {}
        Some(kind) => return Err(format!("its type is `{kind}`: it is no client that calls in")),
        None => return Err("whether it calls in (`type`) is not in the files".to_owned()),
    }
    let id = record.get("client_id").ok_or("no `client_id`")?;
    usable_name(id)?;
    let public = record.is("public_client").unwrap_or(false);
    let redirects = redirects(record, public, telling);
    let grants = grants(records, record, public, !redirects.is_empty(), telling);
    let mut lines = named(record, telling);
    match record.is("active") {
        Some(true) => {}
        Some(false) => lines.push(("active", "false".to_owned())),
        None => {
            telling.say("whether it is active is not in the files: it is not");
            lines.push(("active", "false".to_owned()));
        }
    }
    if public {
        lines.push(("public_client", "true".to_owned()));
    } else if record.is("use_pkce") == Some(false) && grants.contains(&"authorization_code") {
        lines.push(("require_pkce", "false".to_owned()));
    }
    if !redirects.is_empty() {
        lines.push(("redirect_urls", yaml::list(redirects.iter().map(String::as_str))));
    }
    restrictions(record, restricted, &mut lines, telling);
    tokens(record, &mut lines, telling);
    unread(record, telling);
    Ok(Said { id: id.to_owned(), public, grants, lines })
}

/// The names of a client for people.
fn named(record: &Record, telling: &mut Telling<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    for key in ["name", "provider_name"] {
        lines.extend(record.get(key).map(|words| (key, yaml::prose(words))));
    }
    match record.get("logo_url") {
        Some(url) if format::check("url", url).is_ok() => lines.push(("logo_url", yaml::text(url))),
        Some(_) => telling.say("`logo_url` is no http or https URL, and left out"),
        None => {}
    }
    lines
}

/// The redirect URLs that are valid here.
fn redirects(record: &Record, public: bool, telling: &mut Telling<'_>) -> Vec<String> {
    let mut listed: Vec<String> = Vec::new();
    for part in record.get("redirect_url").unwrap_or_default().split([' ', '\t', '\r', '\n', ',']) {
        // A URL may contain a comma: text that does not begin like a URL belongs to the one before.
        match listed.last_mut() {
            _ if part.is_empty() => {}
            Some(before) if !part.contains(':') => before.push_str(&format!(",{part}")),
            _ => listed.push(part.to_owned()),
        }
    }
    listed.retain(|url| {
        let fault = redirect::check_registered(url, public)
            .err()
            .or_else(|| url.starts_with("env:").then(|| "no URL".to_owned()));
        if let Some(fault) = &fault {
            telling.say(format!("the redirect URL `{url}` is left out: {fault}"));
        }
        fault.is_none()
    });
    listed
}

/// The grants that a client may use.
fn grants(
    records: &Records,
    record: &Record,
    public: bool,
    has_redirect: bool,
    telling: &mut Telling<'_>,
) -> Vec<&'static str> {
    let of_profiles = || {
        let profiles = records
            .all("oauth_entity_profile")
            .filter(|profile| profile.get("oauth_entity") == Some(record.id()));
        let active = profiles.filter(|profile| profile.is("active") != Some(false));
        active
            .filter_map(|profile| profile.get("grant_type"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let declared = match record.get("inbound_grant_type") {
        Some("multiple") => of_profiles(),
        Some(one) => vec![one.to_owned()],
        None => record.get("default_grant_type").map(str::to_owned).into_iter().collect(),
    };
    if declared.is_empty() {
        telling.say(
            "which grants it may use is not in the files (`inbound_grant_type`, or \
                oauth_entity_profile where that is `multiple`): it gets no \
             token until you write `grants`",
        );
    }
    let mut grants = Vec::new();
    for grant in declared {
        match grant.as_str() {
            "client_credential" | "client_credentials" => grants.push("client_credentials"),
            "authz_code" | "authorization_code" if has_redirect => {
                grants.push("authorization_code");
            }
            "authz_code" | "authorization_code" => {
                telling.say(
                    "has no redirect URL that could be registered here, which \
                    authorization_code needs: the grant is left out",
                );
            }
            "password" | "ropc" | "resource_owner_password_credential" => {
                telling
                    .say("uses the password grant, which is here for moving old integrations only");
                grants.push("password");
            }
            "jwt" | "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                telling.say(
                    "signs assertions: export its public keys, write `jwks_file` and add the \
                        grant `jwt_bearer`",
                );
            }
            "refresh_token" => {}
            other => telling.say(format!("the grant `{other}` is not known and left out")),
        }
    }
    // In ServiceNow, clients with a secret get refresh tokens with these grants, public ones do
    // not.
    if !public && grants.iter().any(|grant| matches!(*grant, "authorization_code" | "password")) {
        grants.push("refresh_token");
    }
    grants.sort_unstable();
    grants.dedup();
    grants
}

/// The restrictions of a client; `restricted` applies where the record does not say.
fn restrictions(
    record: &Record,
    restricted: bool,
    lines: &mut Vec<Line>,
    telling: &mut Telling<'_>,
) {
    match record.get("scope_restriction_status") {
        Some("restricted") => {}
        Some("unrestricted") => {
            lines.push(("allow_only_selected_scopes", "false".to_owned()));
            telling.say(
                "is broadly scoped: there it reached every API for which no scope was asked; here \
                    a policy or an ACL has to name what it reaches",
            );
        }
        other => telling.say(format!(
            "`scope_restriction_status` is {}: it reaches only what its scopes grant",
            other.map_or("not in the files".to_owned(), |other| format!("`{other}`"))
        )),
    }
    // The name of the column is not documented.
    let said = record
        .filled()
        .find(|(key, _)| key.contains("token_restriction"))
        .map(|(key, _)| record.is(key));
    if said.flatten().is_none() {
        let taken = if restricted {
            "taken as on; `--tokens-unrestricted` takes it as off"
        } else {
            "taken as off"
        };
        telling
            .say(format!("whether its token restriction is enforced is not in the files: {taken}"));
    }
    if said.flatten().unwrap_or(restricted) {
        lines.push(("enforce_token_restriction", "true".to_owned()));
    }
}

/// Format and lifespans of a client's tokens.
fn tokens(record: &Record, lines: &mut Vec<Line>, telling: &mut Telling<'_>) {
    let format = match record.get("token_format") {
        Some("jwt") => "jwt",
        Some("opaque") | None => "opaque",
        Some(other) => {
            telling.say(format!(
                "the token format `{other}` is not known: its tokens are opaque, as they are there \
                    by default"
            ));
            "opaque"
        }
    };
    lines.push(("token_format", format.to_owned()));
    for (key, longest) in
        [("access_token_lifespan", LONGEST_ACCESS), ("refresh_token_lifespan", LONGEST_REFRESH)]
    {
        let Some(text) = record.get(key) else { continue };
        // Display texts of the Table API group digits.
        match text.replace(',', "").parse::<u64>() {
            Ok(seconds) if (1..=longest).contains(&seconds) => {
                lines.push((key, format!("{seconds}s")));
            }
            _ => telling.say(format!(
                "`{key}` is `{text}`: the default is taken; at most {longest} seconds fit here"
            )),
        }
    }
}

/// Reports fields with a value that are not converted. Values may be secret, so only names are
/// listed.
fn unread(record: &Record, telling: &mut Telling<'_>) {
    let known = |key: &str| {
        KNOWN.contains(&key) || key.starts_with("sys_") || key.contains("token_restriction")
    };
    let unread: Vec<&str> = record
        .filled()
        .filter(|(key, value)| !known(key) && *value != "false")
        .map(|(key, _)| key)
        .collect();
    if !unread.is_empty() {
        telling.say(format!("fields that are not carried over: {}", unread.join(", ")));
    }
}
