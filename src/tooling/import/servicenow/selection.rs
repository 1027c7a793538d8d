//! The operations of an access policy or access scope record.

use super::records::Record;
use crate::config::format;
use crate::request::method::Method;
use crate::tooling::import::Template;

/// The path of the Table API, the only API where the position of the table in a path is known.
const TABLE_API: &str = "now/table";

/// The operations of a rule; a part that is left out means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// `api_path`; none for a global policy.
    pub(super) api: Option<String>,
    pub(super) method: Option<Method>,
    pub(super) version: Option<String>,
    /// A template below the API's base path.
    pub(super) resource: Option<String>,
    /// Tables, in place of the first parameter of the resource.
    pub(super) tables: Vec<String>,
}

impl Selection {
    /// All operations of an API.
    pub(super) fn whole(api: &str) -> Self {
        Self { api: Some(api.to_owned()), ..Self::default() }
    }
}

/// The operations of a record.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// With "apply to all" taken literally.
    pub(super) selection: Selection,
    /// With the values that are stored nevertheless, if any: in ServiceNow they may have applied.
    pub(super) narrow: Option<Selection>,
}

/// Reads the operations of a record, without tables.
///
/// # Errors
/// Says what is not valid or not known.
pub(super) fn said(record: &Record, global: bool) -> Result<Said, String> {
    let (method, stale_method) = pinned(record, "apply_all_methods", "http_method")?;
    let read = |method: Option<&str>| {
        method
            .map(|method| {
                let known = Method::parse(&method.to_ascii_uppercase());
                known.ok_or_else(|| format!("the method `{method}` cannot be named by a rule"))
            })
            .transpose()
    };
    let mut selection = Selection { method: read(method)?, ..Selection::default() };
    let mut narrow = Selection { method: read(method.or(stale_method))?, ..Selection::default() };
    if !global {
        let path = api_path(record)?;
        let (version, stale_version) = pinned(record, "apply_all_versions", "version")?;
        let (resource, stale_resource) = pinned(record, "apply_all_resources", "api_resource")?;
        let place = |selection: &mut Selection, version: Option<&str>, resource: Option<&str>| {
            selection.api = Some(path.clone());
            selection.version = version
                .map(|version| format::check("version", version).map(|()| version.to_owned()))
                .transpose()?;
            selection.resource =
                resource.map(|resource| below_namespace(&path, resource)).transpose()?;
            Ok::<(), String>(())
        };
        place(&mut selection, version, resource)?;
        place(&mut narrow, version.or(stale_version), resource.or(stale_resource))?;
    }
    let narrow = Some(narrow).filter(|narrow| *narrow != selection);
    Ok(Said { selection, narrow })
}

/// The API of a record.
///
/// # Errors
/// It has no API, or one that is not valid here.
pub(super) fn api_path(record: &Record) -> Result<String, String> {
    let path = record.get("api_path").map(|path| path.trim_matches('/')).unwrap_or_default();
    let path = path.strip_prefix("api/").unwrap_or(path);
    if path.is_empty() {
        return Err("no `api_path`: which API it is about is not known".to_owned());
    }
    format::check("base_path", &format!("/{path}"))?;
    Ok(path.to_owned())
}

/// The value of a field, or the value that is stored although the record applies to all.
fn pinned<'a>(
    record: &'a Record,
    switch: &str,
    field: &str,
) -> Result<(Option<&'a str>, Option<&'a str>), String> {
    let value = record.get(field);
    if record.is("apply_all") == Some(true) || record.is(switch) == Some(true) {
        return Ok((None, value));
    }
    value
        .map(|value| (Some(value), None))
        .ok_or_else(|| format!("neither `{switch}` nor a value of `{field}`: it is about nothing"))
}

/// `/now/table/{tableName}` as a template below `/api/now`.
fn below_namespace(path: &str, resource: &str) -> Result<String, String> {
    let namespace = path.split('/').next().unwrap_or_default();
    let bare =
        resource.strip_prefix("/api").filter(|bare| bare.starts_with('/')).unwrap_or(resource);
    let inside = bare
        .trim_start_matches('/')
        .strip_prefix(namespace)
        .filter(|inside| inside.starts_with('/'));
    let inside =
        inside.ok_or_else(|| format!("the resource `{resource}` is not below `/{namespace}`"))?;
    Ok(Template::of(inside, false).map_err(|fault| fault.to_string())?.text)
}

/// The tables of a policy; none for all tables.
///
/// # Errors
/// Their position in the path is not known, or they are not valid table names.
pub(super) fn tables(record: &Record, selection: &Selection) -> Result<Vec<String>, String> {
    let all = record.is("apply_all_tables") == Some(true);
    let of_tables = selection.api.as_deref() == Some(TABLE_API);
    let Some(listed) = record.get("api_tablename").filter(|_| !all && selection.api.is_some())
    else {
        if of_tables && !all {
            return Err(
                "which tables it is about (`apply_all_tables`, `api_tablename`) is not in \
                the files"
                    .to_owned(),
            );
        }
        return Ok(Vec::new());
    };
    let placed = selection.resource.as_ref().is_some_and(|resource| resource.contains('{'));
    if !of_tables || !placed {
        return Err(format!(
            "`api_tablename` is `{listed}`, and which part of the path is a table is known of \
                resources of the Table API alone"
        ));
    }
    let mut tables: Vec<String> = listed.split(',').map(|table| table.trim().to_owned()).collect();
    // Names, not display texts and not ids.
    let name = |table: &String| {
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let id = table.len() == 32 && table.bytes().all(|b| b.is_ascii_hexdigit());
        table.starts_with(|c: char| c.is_ascii_lowercase()) && table.bytes().all(lower) && !id
    };
    if let Some(odd) = tables.iter().find(|table| !name(table)) {
        return Err(format!("`{odd}` in `api_tablename` is no table's name"));
    }
    tables.sort_unstable();
    tables.dedup();
    Ok(tables)
}
