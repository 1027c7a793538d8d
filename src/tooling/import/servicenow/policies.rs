//! `sys_api_access_policy` and the profiles mapped to it.

use std::collections::BTreeSet;

use super::super::{Note, slug, yaml};
use super::apis::{Apis, Selection, selection, tables};
use super::clients::Clients;
use super::records::{Record, Records};

/// An access policy.
#[derive(Debug)]
pub(super) struct Policy {
    key: String,
    about: String,
    selection: Selection,
    active: bool,
    /// Profiles as they are written.
    allow: BTreeSet<String>,
    /// Resources that are another policy's.
    except: BTreeSet<String>,
}

impl Policy {
    fn resources(&self, apis: &Apis) -> Vec<String> {
        apis.resources(&self.selection).into_iter().filter(|resource| !self.except.contains(resource)).collect()
    }
}

/// Reads the policies.
pub(super) fn of(records: &Records, apis: &mut Apis, clients: &Clients, notes: &mut Vec<Note>) -> Vec<Policy> {
    let mut policies: Vec<Policy> = Vec::new();
    for record in records.all("sys_api_access_policy") {
        let global = record.is("apply_global") == Some(true);
        let read = selection(record, global, notes).and_then(|mut selection| {
            let tables = tables(record, &selection);
            selection.tables = tables.clone().unwrap_or_default();
            apis.note(record, &mut selection).map(|()| (selection, tables.err()))
        });
        let (selection, fault) = match read {
            Ok(read) => read,
            Err(fault) => {
                let message = format!("left out, so that whom it would refuse is not refused by it: {fault}");
                notes.push(Note::new(&record.about, message));
                continue;
            }
        };
        let key = key(record, &policies);
        let mut allow = profiles(records, record, clients, notes);
        if let Some(fault) = fault {
            allow.clear();
            let message = format!("lets nobody in, for all tables, until you have written it by hand: {fault}");
            notes.push(Note::new(&record.about, message));
        }
        let active = record.is("active").unwrap_or(true);
        policies.push(Policy { key, about: record.about.clone(), selection, active, allow, except: BTreeSet::new() });
    }
    untie(&mut policies, apis, notes);
    policies
}

fn key(record: &Record, policies: &[Policy]) -> String {
    let wanted = match slug(record.get("name").unwrap_or_default()) {
        slug if slug.is_empty() => "policy".to_owned(),
        slug => slug,
    };
    let free = |key: &String| policies.iter().all(|policy| policy.key != *key);
    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
    std::iter::once(wanted.clone()).chain(numbered).find(free).unwrap_or_default()
}

/// The ways in, as lines of `allow`.
fn profiles(records: &Records, policy: &Record, clients: &Clients, notes: &mut Vec<Note>) -> BTreeSet<String> {
    let mut allow = BTreeSet::new();
    let rows: Vec<&Record> = records
        .all("sys_auth_profile_mapping")
        .filter(|row| row.get("api_access_policy") == Some(policy.id()))
        .collect();
    if rows.is_empty() {
        let message = "no profile is mapped to it in the files (sys_auth_profile_mapping): it lets nobody in";
        notes.push(Note::new(&policy.about, message));
    }
    for row in rows {
        match profile(records, row, clients) {
            Ok(profile) => {
                allow.insert(profile);
            }
            Err(fault) => notes.push(Note::new(&policy.about, format!("a profile is left out: {fault}"))),
        }
    }
    if !allow.is_empty() && !records.knows("auth_policy_mapping") {
        let message = "whether its profiles have authentication policies (networks, roles, groups) is not in the files: they have none here. Export \
                       auth_policy_mapping to know";
        notes.push(Note::new(&policy.about, message));
    }
    allow
}

fn profile(records: &Records, row: &Record, clients: &Clients) -> Result<String, String> {
    let id = row.get("inbound_auth_profile").ok_or("no `inbound_auth_profile`")?;
    let shown = row.shown("inbound_auth_profile").unwrap_or(id);
    // The part with the type and the client is a table of its own.
    let found = records.find("std_http_auth", id).or_else(|| records.find("inbound_auth_profile", id));
    let profile = found.ok_or_else(|| format!("`{shown}` is not in the files: export std_http_auth too"))?;
    let name = profile.get("name").unwrap_or(shown);
    if profile.is("active") == Some(false) {
        return Err(format!("`{name}` is not active"));
    }
    let conditions = records
        .all("auth_policy_mapping")
        .filter(|row| row.filled().any(|(key, value)| key != "sys_id" && value == id))
        .count();
    if conditions > 0 {
        return Err(format!(
            "`{name}` has {conditions} authentication policies (networks, roles, groups), which are not read: write it with `from` and `roles`"
        ));
    }
    let kind = profile.get("type").map(|kind| kind.to_ascii_lowercase().replace([' ', '-'], "_")).unwrap_or_default();
    match kind.as_str() {
        "oauth" | "oauth2" | "oauth_2_0" => {}
        "" => return Err(format!("what `{name}` asks for is not in the files: export std_http_auth")),
        "id_token" | "idtoken" | "oidc" => {
            return Err(format!(
                "`{name}` is about tokens of another issuer: name it under `issuers`, and here as `- {{ issuers: […] }}`"
            ));
        }
        other => return Err(format!("`{name}` is of the type `{other}`; only tokens are let in here")),
    }
    match profile.get("oauth_entity") {
        // Covers every client of ours, and names none.
        None => Ok("{ issuers: [self] }".to_owned()),
        Some(entity) => match clients.id_of(entity) {
            Some(client) => Ok(format!("{{ clients: {} }}", yaml::list([client]))),
            None => Err(format!(
                "the client `{}` of `{name}` is not carried over",
                profile.shown("oauth_entity").unwrap_or(entity)
            )),
        },
    }
}

/// Two policies of one strength on one operation: which of them counts there is not documented, so here only who is let in by both is.
fn untie(policies: &mut [Policy], apis: &Apis, notes: &mut Vec<Note>) {
    for at in 0..policies.len() {
        let (before, rest) = policies.split_at_mut(at);
        let Some(later) = rest.first_mut() else { continue };
        for earlier in before.iter_mut() {
            if let Some(message) = untie_two(earlier, later, apis) {
                notes.push(Note::new(&later.about, message));
            }
        }
    }
}

/// Has one of two policies decide where both would; what was done, where something was.
fn untie_two(earlier: &mut Policy, later: &mut Policy, apis: &Apis) -> Option<String> {
    let (of_earlier, of_later) = (earlier.resources(apis), later.resources(apis));
    let shared: BTreeSet<String> = of_earlier.iter().filter(|resource| of_later.contains(resource)).cloned().collect();
    let pinned =
        |policy: &Policy| (policy.selection.api.clone(), policy.selection.method, policy.selection.version.clone());
    let both_whole = of_earlier.is_empty() && of_later.is_empty();
    if !(earlier.active && later.active && pinned(earlier) == pinned(later) && (both_whole || !shared.is_empty())) {
        return None;
    }
    let both: BTreeSet<String> = earlier.allow.intersection(&later.allow).cloned().collect();
    let why = format!(
        "is about operations that `{}` ({}) is about too, and neither is more specific",
        earlier.key, earlier.about
    );
    if both_whole || of_later.len() == shared.len() && of_earlier.len() == shared.len() {
        earlier.allow = both;
        later.active = false;
        return Some(format!(
            "{why}: that one lets in whom both do, and this one is switched off until you have decided"
        ));
    }
    // The one with the fewer operations decides about those that both have.
    let (narrow, wide) = if of_later.len() <= of_earlier.len() { (later, earlier) } else { (earlier, later) };
    narrow.allow = both;
    wide.except.extend(shared);
    if wide.resources(apis).is_empty() {
        wide.active = false;
    }
    Some(format!("{why}: about those, `{}` decides here, and lets in whom both do", narrow.key))
}

/// `access_policies:`.
pub(super) fn yaml(policies: &[Policy], apis: &Apis) -> String {
    if policies.is_empty() {
        return String::new();
    }
    let mut text = "\naccess_policies:\n".to_owned();
    for policy in policies {
        // What another policy has taken over is named still where nothing else is left: switched off, it is about it no more.
        let left = policy.resources(apis);
        let resources = if left.is_empty() { apis.resources(&policy.selection) } else { left };
        text.push_str(&format!("  {}:\n    {}", yaml::text(&policy.key), Apis::api_line(&policy.selection)));
        text.push_str(&Apis::selector(&policy.selection, &resources, 4));
        if !policy.active {
            text.push_str("    active: false\n");
        }
        if policy.allow.is_empty() {
            text.push_str("    allow: []\n");
        } else {
            text.push_str("    allow:\n");
            for profile in &policy.allow {
                text.push_str(&format!("      - {profile}\n"));
            }
        }
    }
    text
}
