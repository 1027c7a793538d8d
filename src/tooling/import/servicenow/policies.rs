//! `sys_api_access_policy` and its mapped profiles.

use std::collections::{BTreeMap, BTreeSet};

use super::apis::{self, Apis};
use super::clients::Clients;
use super::records::{Record, Records};
use super::selection::{Selection, api_path, said, tables};
use crate::tooling::import::{Note, numbered, slug, yaml};

/// An access policy.
#[derive(Debug)]
pub(super) struct Policy {
    key: String,
    about: String,
    selection: Selection,
    active: bool,
    /// Profiles as written in the YAML.
    allow: BTreeSet<String>,
    /// Resources that another policy decides.
    except: BTreeSet<String>,
}

impl Policy {
    fn resources(&self, apis: &Apis) -> Vec<String> {
        apis.resources(&self.selection)
            .into_iter()
            .filter(|resource| !self.except.contains(resource))
            .collect()
    }
}

/// Reads the policies.
pub(super) fn of(
    records: &Records,
    apis: &mut Apis,
    clients: &Clients,
    notes: &mut Vec<Note>,
) -> Vec<Policy> {
    let profiles = Profiles::of(records, clients);
    let mut policies: Vec<Policy> = Vec::new();
    let mut keys: BTreeSet<String> = BTreeSet::new();
    let mut closed: BTreeMap<String, String> = BTreeMap::new();
    for record in records.all("sys_api_access_policy") {
        let active = record.is("active") != Some(false);
        let known = record
            .is("active")
            .map(|_| ())
            .ok_or_else(|| "whether it is active is not in the files".to_owned());
        let selection = match known.and_then(|()| selection(record, apis, notes)) {
            Ok(selection) => selection,
            Err(fault) if !active => {
                notes.push(Note::new(
                    &record.about,
                    format!("left out: it is not active, and {fault}"),
                ));
                continue;
            }
            Err(fault) => {
                let api = api_path(record)
                    .ok()
                    .filter(|path| apis.register(record, Selection::whole(path)).is_ok());
                let what = match &api {
                    Some(api) => {
                        format!("the API `{api}` is closed until you have written it by hand")
                    }
                    None => {
                        "left out, so that whom it would refuse is not refused by it".to_owned()
                    }
                };
                notes.push(Note::new(&record.about, format!("{what}: {fault}")));
                closed.extend(api.map(|api| (api, record.about.clone())));
                continue;
            }
        };
        if !selection.tables.is_empty() {
            let message = "tables are compared letter by letter: what the instance takes for the \
                same name in other letters is not";
            notes.push(Note::new(&record.about, message));
        }
        if selection.api.is_none() {
            let narrowed = ["api_path", "api_resource", "version", "api_tablename"]
                .into_iter()
                .filter(|field| record.get(field).is_some());
            let narrowed: Vec<&str> = narrowed.collect();
            let further = if narrowed.is_empty() {
                String::new()
            } else {
                format!("; {} of it count for nothing", narrowed.join(", "))
            };
            let message = format!(
                "is about all APIs: here that is every API of the gateway, not the instance's \
                    alone{further}"
            );
            notes.push(Note::new(&record.about, message));
        }
        let key = new_key(&slug(record.get("name").unwrap_or_default()), &mut keys);
        let allow = profiles.allowed(record, notes);
        policies.push(Policy {
            key,
            about: record.about.clone(),
            selection,
            active,
            allow,
            except: BTreeSet::new(),
        });
    }
    untie(&mut policies, apis, notes);
    for (api, about) in closed {
        // The API stays closed whatever the others say: which of them would have applied is not
        // known.
        policies
            .iter_mut()
            .filter(|policy| policy.selection.api.as_ref() == Some(&api))
            .for_each(|policy| policy.active = false);
        let key = new_key(&format!("{}-closed", slug(&api)), &mut keys);
        let selection = Selection::whole(&api);
        policies.push(Policy {
            key,
            about,
            selection,
            active: true,
            allow: BTreeSet::new(),
            except: BTreeSet::new(),
        });
    }
    policies
}

fn new_key(wanted: &str, keys: &mut BTreeSet<String>) -> String {
    let key = numbered(wanted, "policy", |key| keys.contains(key));
    keys.insert(key.clone());
    key
}

/// The operations of a policy, as far as known.
fn selection(record: &Record, apis: &mut Apis, notes: &mut Vec<Note>) -> Result<Selection, String> {
    let said = said(record, record.is("apply_global") == Some(true))?;
    let mut selection = said.selection;
    selection.tables = tables(record, &selection)?;
    if said.narrow.is_some() {
        let message = "applies to all, and holds a value besides that: taken as all, as instances \
            do that normalise such records (property \
                       glide.rest.policy.normalize_apply_all_fields); on others it counts for the \
                       value alone";
        notes.push(Note::new(&record.about, message));
    }
    apis.register(record, selection)
}

/// The profiles that policies name.
struct Profiles<'a> {
    records: &'a Records,
    clients: &'a Clients,
    /// The mappings of each policy.
    mapped: BTreeMap<&'a str, Vec<&'a Record>>,
    /// All values in records of authentication policies.
    conditions: BTreeSet<&'a str>,
    /// A record of authentication policies names no known profile.
    astray: bool,
}

impl<'a> Profiles<'a> {
    fn of(records: &'a Records, clients: &'a Clients) -> Self {
        let mut mapped: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for row in
            records.all("sys_auth_profile_mapping").filter(|row| row.is("active") != Some(false))
        {
            mapped.entry(row.get("api_access_policy").unwrap_or_default()).or_default().push(row);
        }
        let refers = |row: &'a Record| {
            row.filled().filter(|(key, _)| !key.starts_with("sys_")).map(|(_, value)| value)
        };
        let profile = |id: &str| {
            ["std_http_auth", "inbound_auth_profile"]
                .iter()
                .any(|table| records.find(table, id).is_some())
        };
        let id = |value: &str| value.len() == 32 && value.bytes().all(|b| b.is_ascii_hexdigit());
        let astray = records.all("auth_policy_mapping").any(|row| {
            let said = row.get("inbound_auth_profile");
            !said.map_or_else(|| refers(row).any(profile), |said| profile(said) || id(said))
        });
        let conditions = records.all("auth_policy_mapping").flat_map(refers).collect();
        Self { records, clients, mapped, conditions, astray }
    }

    /// The profiles of a policy, as lines of `allow`.
    fn allowed(&self, policy: &Record, notes: &mut Vec<Note>) -> BTreeSet<String> {
        let Some(rows) = self.mapped.get(policy.id()) else {
            let message = "no profile is mapped to it in the files (sys_auth_profile_mapping): it \
                lets nobody in";
            notes.push(Note::new(&policy.about, message));
            return BTreeSet::new();
        };
        let mut allow = BTreeSet::new();
        for row in rows {
            match self.profile(row) {
                Ok(profile) => {
                    allow.insert(profile);
                }
                Err(fault) => {
                    notes.push(Note::new(&policy.about, format!("a profile is left out: {fault}")));
                }
            }
        }
        allow
    }

    fn profile(&self, row: &Record) -> Result<String, String> {
        let id = row.get("inbound_auth_profile").ok_or("no `inbound_auth_profile`")?;
        let shown = row.shown("inbound_auth_profile").unwrap_or(id);
        // The part with the type and the client is in a table of its own.
        let found = self
            .records
            .find("std_http_auth", id)
            .or_else(|| self.records.find("inbound_auth_profile", id));
        let profile = found
            .ok_or_else(|| format!("`{shown}` is not in the files: export std_http_auth too"))?;
        let name = profile.get("name").unwrap_or(shown);
        match profile.is("active") {
            Some(true) => {}
            Some(false) => return Err(format!("`{name}` is not active")),
            None => return Err(format!("whether `{name}` is active is not in the files")),
        }
        if self.conditions.contains(id) {
            return Err(format!(
                "`{name}` has authentication policies (networks, roles, groups), which are not \
                    read: write it with `from` and `roles`"
            ));
        }
        if self.astray {
            return Err(format!(
                "whether `{name}` has authentication policies cannot be told: a record of \
                    auth_policy_mapping names no profile by its id"
            ));
        }
        if !self.records.has_whole("auth_policy_mapping") {
            return Err(format!(
                "whether `{name}` has authentication policies (networks, roles, groups) is not in \
                    the files: export auth_policy_mapping by the \
                 Table API"
            ));
        }
        let kind = profile
            .get("type")
            .map(|kind| kind.to_ascii_lowercase().replace([' ', '-'], "_"))
            .unwrap_or_default();
        match kind.as_str() {
            "oauth" | "oauth2" | "oauth_2_0" => self.covers(profile, name),
            "" => Err(format!("what `{name}` asks for is not in the files: export std_http_auth")),
            "id_token" | "idtoken" | "oidc" => Err(format!(
                "`{name}` is about tokens of another issuer: name it under `issuers`, and here as \
                    `- {{ issuers: […] }}`"
            )),
            other => Err(format!("`{name}` is of the type `{other}`; only tokens are let in here")),
        }
    }

    /// The callers that a profile of type OAuth admits.
    fn covers(&self, profile: &Record, name: &str) -> Result<String, String> {
        match profile.get("oauth_entity") {
            None if !profile.has("oauth_entity") => {
                Err(format!("whose tokens `{name}` is about (`oauth_entity`) is not in the files"))
            }
            // It covers all our clients, but names none.
            None => Ok("{ issuers: [self] }".to_owned()),
            Some(entity) => match self.clients.id_of(entity) {
                Some(client) => Ok(format!("{{ clients: {} }}", yaml::list([client]))),
                None => Err(format!(
                    "the client `{}` of `{name}` is not carried over",
                    profile.shown("oauth_entity").unwrap_or(entity)
                )),
            },
        }
    }
}

/// Two policies of one strength on one operation: ServiceNow does not document which applies, so
/// only the profiles of both count here.
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

/// Lets one of two policies decide shared operations; returns a note if it changed anything.
fn untie_two(earlier: &mut Policy, later: &mut Policy, apis: &Apis) -> Option<String> {
    let (one, other) = (&earlier.selection, &later.selection);
    let alike = one.api == other.api && one.method == other.method && one.version == other.version;
    if !(alike
        && earlier.active
        && later.active
        && one.resource.is_some() == other.resource.is_some())
    {
        return None;
    }
    let (of_earlier, of_later) = (earlier.resources(apis), later.resources(apis));
    let shared: BTreeSet<String> =
        of_earlier.iter().filter(|resource| of_later.contains(resource)).cloned().collect();
    let both_whole = of_earlier.is_empty() && of_later.is_empty();
    if !both_whole && shared.is_empty() {
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
            "{why}: that one has the profiles that both have, and this one is switched off until \
                you have decided"
        ));
    }
    // The policy with fewer operations decides the shared ones.
    let (narrow, wide) =
        if of_later.len() <= of_earlier.len() { (later, earlier) } else { (earlier, later) };
    narrow.allow = both;
    wide.except.extend(shared);
    Some(format!(
        "{why}: about those, `{}` decides here, with the profiles that both have",
        narrow.key
    ))
}

/// `access_policies:`.
pub(super) fn yaml(policies: &[Policy], apis: &Apis) -> String {
    if policies.is_empty() {
        return String::new();
    }
    let mut text = "\naccess_policies:\n".to_owned();
    for policy in policies {
        text.push_str(&format!(
            "  {}:\n    {}",
            yaml::text(&policy.key),
            apis.api_line(&policy.selection)
        ));
        text.push_str(&apis::selector(&policy.selection, &policy.resources(apis), 4));
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
