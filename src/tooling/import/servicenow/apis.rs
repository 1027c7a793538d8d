//! APIs as named in records.
//!
//! The records do not list the resources of an API. An API that is named as a whole gets its path
//! and everything below it; a path that a record names becomes a resource, and so does a single
//! table.

use std::collections::{BTreeMap, BTreeSet};

use super::records::Record;
use super::selection::Selection;
use crate::config::format;
use crate::request::method::{Method, MethodSet};
use crate::tooling::import::{numbered, shape, slug, yaml};

/// The methods that `apply to all methods` covers.
const ALL_METHODS: [Method; 5] =
    [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
/// The version of a path without one.
const LATEST: &str = "latest";

#[derive(Debug, Default)]
struct Api {
    key: String,
    name: String,
    base_path: String,
    /// The API's own path below the base path; empty for none.
    prefix: String,
    /// Methods that records name for the whole API.
    whole: MethodSet,
    /// Resources that records name, with their methods.
    resources: BTreeMap<String, MethodSet>,
    /// The spelling of each resource, whatever its parameter names.
    spelled: BTreeMap<String, String>,
    /// Resources for single tables, by the resource that they are split from.
    tables: BTreeMap<String, BTreeSet<String>>,
    versions: BTreeSet<String>,
}

/// APIs by their `api_path`s.
#[derive(Debug, Default)]
pub(super) struct Apis {
    by_path: BTreeMap<String, Api>,
    keys: BTreeSet<String>,
    /// The API that owns a path, whatever its parameter names.
    owners: BTreeMap<String, String>,
}

impl Apis {
    pub(super) fn len(&self) -> usize {
        self.by_path.len()
    }

    /// APIs of which records name particular versions.
    pub(super) fn versioned(&self) -> impl Iterator<Item = &str> {
        self.by_path
            .iter()
            .filter(|(_, api)| !api.versions.is_empty())
            .map(|(path, _)| path.as_str())
    }

    /// Adds what a record names to its API; returns the selection as written here.
    ///
    /// # Errors
    /// The path or resource is not valid for an API here.
    pub(super) fn register(
        &mut self,
        record: &Record,
        selection: Selection,
    ) -> Result<Selection, String> {
        let mut selection = selection;
        let Some(path) = selection.api.clone() else { return Ok(selection) };
        let (base_path, prefix) = places(&path)?;
        if let Some(resource) = &mut selection.resource {
            if !resource
                .strip_prefix(&prefix)
                .is_some_and(|below| below.is_empty() || below.starts_with('/'))
            {
                return Err(format!(
                    "its resource `{resource}` is not below the API's path `{prefix}`"
                ));
            }
            let spelled = self.by_path.get(&path).and_then(|api| api.spelled.get(&shape(resource)));
            *resource = spelled.unwrap_or(resource).clone();
        }
        let named = templates(&prefix, &selection);
        for template in &named {
            let owner = self
                .owners
                .entry(format!("{base_path}{}", shape(template)))
                .or_insert_with(|| path.clone());
            if *owner != path {
                return Err(format!(
                    "`{template}` is a path of the API `{owner}` already, and a path leads to one \
                        API"
                ));
            }
        }
        let keys = &mut self.keys;
        let api = self.by_path.entry(path.clone()).or_insert_with(|| {
            let key = numbered(&slug(&path), "api", |key| keys.contains(key));
            keys.insert(key.clone());
            Api { key, base_path, prefix, ..Api::default() }
        });
        api.add(record, &selection, named);
        Ok(selection)
    }

    /// `apis:`.
    pub(super) fn yaml(&self, upstream: &str) -> String {
        if self.by_path.is_empty() {
            return String::new();
        }
        let mut text = "apis:\n".to_owned();
        for api in self.by_path.values() {
            text.push_str(&format!("  {}:\n", yaml::text(&api.key)));
            if !api.name.is_empty() {
                text.push_str(&format!("    name: {}\n", yaml::prose(&api.name)));
            }
            text.push_str(&format!(
                "    base_path: {}\n    upstream: {}\n",
                yaml::text(&api.base_path),
                yaml::text(upstream)
            ));
            if !api.versions.is_empty() {
                let versions = api
                    .versions
                    .iter()
                    .map(String::as_str)
                    .chain([LATEST])
                    .collect::<BTreeSet<_>>();
                text.push_str(&format!(
                    "    versions: {}\n    default_version: {LATEST}\n",
                    yaml::list(versions)
                ));
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

    /// The resources that a selection names; none for all of its API.
    pub(super) fn resources(&self, selection: &Selection) -> Vec<String> {
        let Some(api) = selection.api.as_ref().and_then(|path| self.by_path.get(path)) else {
            return Vec::new();
        };
        let Some(resource) = &selection.resource else { return Vec::new() };
        if !selection.tables.is_empty() {
            return templates(&api.prefix, selection);
        }
        // Resources split from it for single tables still belong to it.
        let cuts = api.tables.get(resource).into_iter().flatten();
        std::iter::once(resource).chain(cuts).cloned().collect()
    }

    /// `api: …` of a rule.
    pub(super) fn api_line(&self, selection: &Selection) -> String {
        match &selection.api {
            Some(path) => format!(
                "api: {}\n",
                yaml::text(self.by_path.get(path).map_or(path, |api| &api.key))
            ),
            None => "all_apis: true\n".to_owned(),
        }
    }
}

/// The operations of a rule in addition to its API: methods, versions, resources, one per line.
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

impl Api {
    fn add(&mut self, record: &Record, selection: &Selection, named: Vec<String>) {
        if self.name.is_empty() {
            record.shown("api").unwrap_or_default().clone_into(&mut self.name);
        }
        self.versions.extend(selection.version.clone());
        let methods = selection.method.map_or(ALL_METHODS.to_vec(), |method| vec![method]);
        let with = |set: MethodSet| methods.iter().copied().fold(set, MethodSet::with);
        let Some(resource) = &selection.resource else {
            self.whole = with(self.whole);
            return;
        };
        self.spelled.insert(shape(resource), resource.clone());
        for template in &named {
            let own = self.resources.entry(template.clone()).or_default();
            *own = with(*own);
        }
        if !selection.tables.is_empty() {
            self.tables.entry(resource.clone()).or_default().extend(named);
        }
    }

    /// Its resources with all methods that records name for them.
    fn offered(&self) -> BTreeMap<String, MethodSet> {
        let mut offered = self.resources.clone();
        let add = |methods: &mut MethodSet, more: MethodSet| {
            *methods = more.iter().fold(*methods, MethodSet::with);
        };
        for (resource, cuts) in &self.tables {
            let of_resource = self.resources.get(resource).copied().unwrap_or_default();
            let of_cuts = cuts.iter().filter_map(|cut| self.resources.get(cut)).fold(
                of_resource,
                |mut all, one| {
                    add(&mut all, *one);
                    all
                },
            );
            // A rule on the resource also covers the resources split from it, which need its
            // methods.
            for cut in cuts {
                add(offered.entry(cut.clone()).or_default(), of_resource);
            }
            add(offered.entry(resource.clone()).or_default(), of_cuts);
        }
        for methods in offered.values_mut() {
            add(methods, self.whole);
        }
        if !self.whole.is_empty() {
            for path in templates(&self.prefix, &Selection::default()) {
                add(offered.entry(path).or_default(), self.whole);
            }
        }
        offered
    }
}

/// Base path and the API's own path below it.
fn places(path: &str) -> Result<(String, String), String> {
    let (namespace, rest) = path.split_once('/').unwrap_or((path, ""));
    let base_path = format!("/api/{namespace}");
    format::check("base_path", &base_path)?;
    if rest.is_empty() {
        return Ok((base_path, String::new()));
    }
    let prefix = format!("/{rest}");
    format::check("base_path", &prefix)?;
    Ok((base_path, prefix))
}

/// The templates that a selection names, of an API with this path below its base path.
fn templates(prefix: &str, selection: &Selection) -> Vec<String> {
    let Some(resource) = &selection.resource else {
        let whole = [prefix.to_owned(), format!("{prefix}/{{*rest}}")];
        return whole.into_iter().filter(|path| !path.is_empty()).collect();
    };
    if selection.tables.is_empty() {
        return vec![resource.clone()];
    }
    let cut = |table: &String| {
        let mut segments: Vec<&str> = resource.split('/').collect();
        if let Some(first) = segments.iter_mut().find(|segment| segment.starts_with('{')) {
            *first = table;
        }
        segments.join("/")
    };
    selection.tables.iter().map(cut).collect()
}
