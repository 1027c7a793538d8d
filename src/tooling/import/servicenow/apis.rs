//! APIs as far as records name them, and the auth scopes that grant on them.
//!
//! The records do not say which resources an API has. One that is named whole has its path and everything below it; one that a record
//! names by itself is a resource of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Note, Template, slug, yaml};
use super::Scopes;
use super::records::{Record, Records};
use crate::config::format;
use crate::request::method::{Method, MethodSet};

/// What `apply to all methods` is about.
const ALL_METHODS: [Method; 5] = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
/// The version that a path without one means.
const LATEST: &str = "latest";

/// Which operations a record is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// `api_path`; nothing for a global policy.
    pub(super) api: Option<String>,
    pub(super) method: Option<Method>,
    pub(super) version: Option<String>,
    /// A template below the API's base path.
    pub(super) resource: Option<String>,
    /// Tables, in place of the first parameter of the resource.
    pub(super) tables: Vec<String>,
}

/// An auth scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) description: String,
    pub(super) grants: Vec<Selection>,
}

#[derive(Debug, Default)]
struct Api {
    name: String,
    base_path: String,
    /// The API's own path below the base path; empty for none.
    prefix: String,
    /// Methods that records name for the whole API.
    whole: MethodSet,
    /// Resources that records name, and the methods that they name for them.
    resources: BTreeMap<String, MethodSet>,
    /// Resources of one table, by the resource that they are cut out of.
    tables: BTreeMap<String, BTreeSet<String>>,
    versions: BTreeSet<String>,
}

/// APIs by their `api_path`s.
#[derive(Debug, Default)]
pub(super) struct Apis {
    apis: BTreeMap<String, Api>,
    /// Which API has a path, whatever its parameters are called.
    owners: BTreeMap<String, String>,
}

impl Apis {
    pub(super) fn len(&self) -> usize {
        self.apis.len()
    }

    fn key(path: &str) -> String {
        slug(path)
    }

    /// Notes what a record is about, so that there is an API which has it.
    ///
    /// # Errors
    /// A path or resource that no API here could have.
    pub(super) fn note(&mut self, record: &Record, selection: &mut Selection) -> Result<(), String> {
        let Some(path) = &selection.api else { return Ok(()) };
        let (namespace, rest) = path.split_once('/').unwrap_or((path, ""));
        let base_path = format!("/api/{namespace}");
        format::check("base_path", &base_path)?;
        let prefix = if rest.is_empty() { String::new() } else { format!("/{rest}") };
        if !prefix.is_empty() {
            format::check("base_path", &prefix)?;
        }
        if Self::key(path).is_empty() {
            return Err(format!("its path `{path}` has nothing that a key could be made of"));
        }
        let clash = self.apis.keys().find(|other| *other != path && Self::key(other) == Self::key(path));
        if let Some(other) = clash {
            return Err(format!("its path `{path}` differs from `{other}` in nothing that a key could have"));
        }
        if let Some(resource) = &mut selection.resource {
            if !resource.strip_prefix(&prefix).is_some_and(|below| below.is_empty() || below.starts_with('/')) {
                return Err(format!("its resource `{resource}` is not below the API's path `{prefix}`"));
            }
            // Whatever its parameters are called, it is one resource.
            let known = self.apis.get(path).into_iter().flat_map(|api| api.resources.keys().chain(api.tables.keys()));
            let spelled = known.into_iter().find(|known| shape(known) == shape(resource)).cloned();
            *resource = spelled.unwrap_or_else(|| resource.clone());
        }
        let named = templates(&prefix, selection);
        for template in &named {
            let owner = self.owners.entry(format!("{base_path}{}", shape(template))).or_insert_with(|| path.clone());
            if owner != path {
                return Err(format!(
                    "`{template}` is a path of the API `{owner}` already, and a path leads to one API"
                ));
            }
        }
        let api = self.apis.entry(path.clone()).or_insert_with(|| Api { base_path, prefix, ..Api::default() });
        if api.name.is_empty() {
            record.shown("api").unwrap_or_default().clone_into(&mut api.name);
        }
        let methods: MethodSet =
            selection.method.map_or_else(|| ALL_METHODS.into_iter().collect(), |method| [method].into_iter().collect());
        let with = |set: MethodSet| methods.iter().fold(set, MethodSet::with);
        if selection.resource.is_none() && selection.tables.is_empty() {
            api.whole = with(api.whole);
        } else {
            for template in &named {
                let own = api.resources.entry(template.clone()).or_default();
                *own = with(*own);
            }
            if let Some(resource) = selection.resource.as_ref().filter(|_| !selection.tables.is_empty()) {
                api.tables.entry(resource.clone()).or_default().extend(named);
            }
        }
        api.versions.extend(selection.version.clone());
        Ok(())
    }

    /// `apis:`.
    pub(super) fn yaml(&self, upstream: &str) -> String {
        if self.apis.is_empty() {
            return String::new();
        }
        let mut text = "apis:\n".to_owned();
        for (path, api) in &self.apis {
            text.push_str(&format!("  {}:\n", yaml::text(&Self::key(path))));
            if !api.name.is_empty() {
                text.push_str(&format!("    name: {}\n", yaml::prose(&api.name)));
            }
            text.push_str(&format!(
                "    base_path: {}\n    upstream: {}\n",
                yaml::text(&api.base_path),
                yaml::text(upstream)
            ));
            if !api.versions.is_empty() {
                let versions = api.versions.iter().map(String::as_str).chain([LATEST]).collect::<BTreeSet<_>>();
                text.push_str(&format!("    versions: {}\n    default_version: {LATEST}\n", yaml::list(versions)));
            }
            text.push_str("    error_format: servicenow\n    resources:\n");
            for (resource, methods) in api.offered() {
                text.push_str(&format!(
                    "      {}: {}\n",
                    yaml::text(&resource),
                    yaml::list(methods.iter().map(Method::as_str))
                ));
            }
        }
        text
    }

    /// What a rule says of its operations: methods, versions, resources, a line for each.
    pub(super) fn selector(selection: &Selection, resources: &[String], indent: usize) -> String {
        let space = " ".repeat(indent);
        let mut text = String::new();
        if let Some(method) = selection.method {
            text.push_str(&format!("{space}methods: [{}]\n", method.as_str()));
        }
        if let Some(version) = &selection.version {
            text.push_str(&format!("{space}versions: {}\n", yaml::list([version.as_str()])));
        }
        if !resources.is_empty() {
            text.push_str(&yaml::lines(indent, "resources", resources));
        }
        text
    }

    /// The resources that a selection names; none for all of its API.
    pub(super) fn resources(&self, selection: &Selection) -> Vec<String> {
        let Some(api) = selection.api.as_ref().and_then(|path| self.apis.get(path)) else { return Vec::new() };
        if !selection.tables.is_empty() {
            return cut(&api.prefix, selection.resource.as_deref(), &selection.tables);
        }
        let Some(resource) = &selection.resource else { return Vec::new() };
        // What was cut out of it for some tables is still of it.
        let cuts = api.tables.get(resource).into_iter().flatten();
        let own = std::iter::once(resource).filter(|own| api.resources.contains_key(*own));
        own.chain(cuts).cloned().collect()
    }

    /// `api: …` of a rule.
    pub(super) fn api_line(selection: &Selection) -> String {
        match &selection.api {
            Some(path) => format!("api: {}\n", yaml::text(&Self::key(path))),
            None => "all_apis: true\n".to_owned(),
        }
    }
}

impl Api {
    /// Its resources with all methods that some record names for them.
    fn offered(&self) -> BTreeMap<String, MethodSet> {
        let mut offered = self.resources.clone();
        for (resource, cuts) in &self.tables {
            let of_resource = self.resources.get(resource).copied().unwrap_or_default();
            for cut in cuts {
                let methods = offered.entry(cut.clone()).or_default();
                *methods = of_resource.iter().fold(*methods, MethodSet::with);
            }
        }
        for methods in offered.values_mut() {
            *methods = self.whole.iter().fold(*methods, MethodSet::with);
        }
        if !self.whole.is_empty() {
            for path in templates(&self.prefix, &Selection::default()) {
                let own = offered.entry(path).or_default();
                *own = self.whole.iter().fold(*own, MethodSet::with);
            }
        }
        offered
    }
}

/// The templates that a selection names, of an API with this path below its base path.
fn templates(prefix: &str, selection: &Selection) -> Vec<String> {
    if !selection.tables.is_empty() {
        return cut(prefix, selection.resource.as_deref(), &selection.tables);
    }
    match &selection.resource {
        Some(resource) => vec![resource.clone()],
        None => {
            [prefix.to_owned(), format!("{prefix}/{{*rest}}")].into_iter().filter(|path| !path.is_empty()).collect()
        }
    }
}

/// A template without the names of its parameters.
fn shape(template: &str) -> String {
    let segments = template.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    segments.collect::<Vec<_>>().join("/")
}

/// A resource with tables in place of its first parameter; of an API as a whole, the tables and everything below them.
fn cut(prefix: &str, resource: Option<&str>, tables: &[String]) -> Vec<String> {
    let mut cuts = Vec::new();
    for table in tables {
        let Some(resource) = resource else {
            cuts.extend([format!("{prefix}/{table}"), format!("{prefix}/{table}/{{*rest}}")]);
            continue;
        };
        let mut segments: Vec<&str> = resource.split('/').collect();
        if let Some(first) = segments.iter_mut().find(|segment| segment.starts_with('{')) {
            *first = table;
        }
        cuts.push(segments.join("/"));
    }
    cuts
}

/// Which operations a record of an access policy or an access scope is about, tables left aside.
pub(super) fn selection(record: &Record, global: bool, notes: &mut Vec<Note>) -> Result<Selection, String> {
    let all = record.is("apply_all") == Some(true);
    // "Apply to all" beside a value: there, the value may have counted all the same.
    let mut pinned = |switch: &str, field: &str| {
        let value = record.get(field);
        if all || record.is(switch) == Some(true) {
            if let Some(value) = value {
                let message = format!(
                    "`{switch}` is on and `{field}` holds `{value}`: taken as all here; there it may have counted for that value alone"
                );
                notes.push(Note::new(&record.about, message));
            }
            return Ok(None);
        }
        match value {
            Some(value) => Ok(Some(value.to_owned())),
            None => Err(format!("neither `{switch}` nor a value of `{field}`: it is about nothing")),
        }
    };
    let method = pinned("apply_all_methods", "http_method")?;
    let method = method.map(|method| {
        let known = Method::parse(&method.to_ascii_uppercase());
        known.ok_or_else(|| format!("the method `{method}` cannot be named by a rule"))
    });
    if global {
        return Ok(Selection { method: method.transpose()?, ..Selection::default() });
    }
    let version = pinned("apply_all_versions", "version")?;
    let resource = pinned("apply_all_resources", "api_resource")?;
    let path = record.get("api_path").ok_or("no `api_path`: which API it is about is not known")?;
    let path = path.trim_matches('/').to_owned();
    let resource = resource.map(|resource| below_namespace(&path, &resource)).transpose()?;
    if let Some(version) = &version {
        format::check("version", version)?;
    }
    Ok(Selection { api: Some(path), method: method.transpose()?, version, resource, tables: Vec::new() })
}

/// The tables that a policy is about; none for all of them.
pub(super) fn tables(record: &Record, selection: &Selection) -> Result<Vec<String>, String> {
    let all = record.is("apply_all") == Some(true) || record.is("apply_all_tables") == Some(true);
    let Some(listed) = record.get("api_tablename").filter(|_| !all && selection.api.is_some()) else {
        return Ok(Vec::new());
    };
    let has_parameter = selection.resource.as_ref().is_none_or(|resource| resource.contains('{'));
    if selection.api.as_deref() != Some("now/table") || !has_parameter {
        return Err(format!(
            "`api_tablename` is `{listed}`, and which part of the path is a table is known of the Table API alone"
        ));
    }
    let mut tables: Vec<String> =
        listed.split(',').map(str::trim).filter(|table| !table.is_empty()).map(str::to_owned).collect();
    if let Some(odd) = tables.iter().find(|table| !table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
        return Err(format!("`{odd}` is no table's name"));
    }
    tables.sort_unstable();
    tables.dedup();
    Ok(tables)
}

/// `/now/table/{tableName}` as a template below `/api/now`.
fn below_namespace(path: &str, resource: &str) -> Result<String, String> {
    let namespace = path.split('/').next().unwrap_or_default();
    let bare = resource.strip_prefix("/api").filter(|bare| bare.starts_with('/')).unwrap_or(resource);
    let inside = bare.trim_start_matches('/').strip_prefix(namespace).filter(|inside| inside.starts_with('/'));
    let inside = inside.ok_or_else(|| format!("the resource `{resource}` is not below `/{namespace}`"))?;
    Ok(Template::of(inside, false)?.text)
}

/// The auth scopes with what they grant.
pub(super) fn scopes(records: &Records, apis: &mut Apis, notes: &mut Vec<Note>) -> Scopes {
    let mut scopes = Scopes::new();
    for record in records.all("sys_auth_scope") {
        let Some(name) = record.get("name") else { continue };
        match check_scope(name) {
            Ok(()) => {
                let description = record.get("description").unwrap_or_default().to_owned();
                scopes.insert(name.to_owned(), Scope { description, grants: Vec::new() });
            }
            Err(fault) => notes.push(Note::new(&record.about, format!("left out: {fault}"))),
        }
    }
    for record in records.all("sys_api_access_scope") {
        if let Err(fault) = grant(records, record, apis, &mut scopes, notes) {
            notes.push(Note::new(&record.about, format!("left out: {fault}")));
        }
    }
    scopes
}

fn grant(
    records: &Records,
    record: &Record,
    apis: &mut Apis,
    scopes: &mut Scopes,
    notes: &mut Vec<Note>,
) -> Result<(), String> {
    if record.is("active") == Some(false) {
        return Err("it is not active".to_owned());
    }
    let name = scope_name(records, record)?;
    let scope = scopes.get_mut(&name).ok_or_else(|| format!("its scope `{name}` is not carried over"))?;
    let mut selection = selection(record, false, notes)?;
    apis.note(record, &mut selection)?;
    if !scope.grants.contains(&selection) {
        scope.grants.push(selection);
    }
    Ok(())
}

/// The name of the scope that a record refers to.
pub(super) fn scope_name(records: &Records, record: &Record) -> Result<String, String> {
    let id = record.get("auth_scope").ok_or("no `auth_scope`")?;
    let found = records.find("sys_auth_scope", id).and_then(|scope| scope.get("name"));
    found.map(str::to_owned).ok_or_else(|| {
        let shown = record.shown("auth_scope").unwrap_or(id);
        format!("its scope `{shown}` is not in the files: export sys_auth_scope too")
    })
}

fn check_scope(name: &str) -> Result<(), String> {
    if !crate::scope::is_scope_token(name) || name.starts_with("env:") {
        return Err(format!("`{name}` cannot be a scope here (RFC 6749 §3.3)"));
    }
    Ok(())
}

/// `auth_scopes:`.
pub(super) fn scopes_yaml(scopes: &Scopes, apis: &Apis) -> String {
    if scopes.is_empty() {
        return String::new();
    }
    let mut text = "\nauth_scopes:\n".to_owned();
    for (name, scope) in scopes {
        let mut lines = String::new();
        if !scope.description.trim().is_empty() {
            lines.push_str(&format!("    description: {}\n", yaml::prose(&scope.description)));
        }
        if scope.grants.is_empty() {
            lines.push_str("    grants: []\n");
        } else {
            lines.push_str("    grants:\n");
        }
        for selection in &scope.grants {
            let resources = apis.resources(selection);
            lines.push_str(&format!(
                "      - {}{}",
                Apis::api_line(selection),
                Apis::selector(selection, &resources, 8)
            ));
        }
        text.push_str(&format!("  {}:\n{lines}", yaml::text(name)));
    }
    text
}
