//! `sys_auth_scope` and `sys_api_access_scope`: auth scopes and what they grant.

use std::collections::BTreeMap;

use super::apis::{self, Apis};
use super::records::{Record, Records};
use super::selection::{Selection, api_path, said};
use crate::tooling::import::{Note, usable_scope, yaml};

/// A scope that nobody holds. It is required where the scope of a record is not known: without it,
/// clients that are not restricted to their scopes would be let in.
pub(super) const UNHELD: &str = "servicenow.not-carried-over";

/// An auth scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    description: String,
    grants: Vec<Selection>,
}

/// Scopes by their names.
pub(super) type Scopes = BTreeMap<String, Scope>;

/// Reads the scopes with what they grant.
pub(super) fn of(records: &Records, apis: &mut Apis, notes: &mut Vec<Note>) -> Scopes {
    let mut scopes = Scopes::new();
    for record in records.all("sys_auth_scope") {
        let Some(name) = record.get("name") else {
            notes.push(Note::new(&record.about, "left out: no `name`"));
            continue;
        };
        match usable_scope(name) {
            Ok(()) => {
                let description = record.get("description").unwrap_or_default().to_owned();
                scopes.insert(name.to_owned(), Scope { description, grants: Vec::new() });
            }
            Err(fault) => notes.push(Note::new(&record.about, format!("left out: {fault}"))),
        }
    }
    for record in records.all("sys_api_access_scope") {
        if record.is("active") == Some(false) {
            notes.push(Note::new(&record.about, "left out: it is not active"));
        } else if let Err(fault) = grant(records, record, apis, &mut scopes, notes) {
            let closed = close(record, apis, &mut scopes);
            let what = if closed {
                format!("nobody is let in by it: it asks for `{UNHELD}` now")
            } else {
                "left out".to_owned()
            };
            notes.push(Note::new(&record.about, format!("{what}: {fault}")));
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
    let said = said(record, false)?;
    if record.is("disable_client_restriction") == Some(true) {
        notes.push(Note::new(
            &record.about,
            "`disable_client_restriction` is on, which has no place here",
        ));
    }
    if record.is("active").is_none() {
        return Err("whether it is active is not in the files".to_owned());
    }
    let name = scope_name(records, record)?;
    if !scopes.contains_key(&name) {
        return Err(format!("its scope `{name}` is not carried over"));
    }
    let wide = apis.register(record, said.selection)?;
    let Some(narrow) = said.narrow else {
        add(scopes, &name, wide);
        return Ok(());
    };
    let narrow = apis.register(record, narrow)?;
    add(scopes, &name, narrow);
    add(scopes, UNHELD, wide);
    let message = format!(
        "applies to all, and holds a value besides that: `{name}` grants for that value alone, and \
            for the rest `{UNHELD}` is asked for, which \
         nobody holds"
    );
    notes.push(Note::new(&record.about, message));
    Ok(())
}

/// Closes the operations of a record, or its whole API where they are not known; false where the
/// API is not known either.
fn close(record: &Record, apis: &mut Apis, scopes: &mut Scopes) -> bool {
    let exact =
        said(record, false).ok().and_then(|said| apis.register(record, said.selection).ok());
    let selection =
        exact.or_else(|| apis.register(record, Selection::whole(&api_path(record).ok()?)).ok());
    selection.is_some_and(|selection| {
        add(scopes, UNHELD, selection);
        true
    })
}

fn add(scopes: &mut Scopes, name: &str, selection: Selection) {
    let scope = scopes.entry(name.to_owned()).or_default();
    if name == UNHELD && scope.description.is_empty() {
        "Held by nobody: asked for where records of the instance could not be read"
            .clone_into(&mut scope.description);
    }
    if !scope.grants.contains(&selection) {
        scope.grants.push(selection);
    }
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

/// `auth_scopes:`.
pub(super) fn yaml(scopes: &Scopes, apis: &Apis) -> String {
    if scopes.is_empty() {
        return String::new();
    }
    let mut text = "\nauth_scopes:\n".to_owned();
    for (name, scope) in scopes {
        text.push_str(&format!("  {}:\n", yaml::text(name)));
        if !scope.description.trim().is_empty() {
            text.push_str(&format!("    description: {}\n", yaml::prose(&scope.description)));
        }
        text.push_str(if scope.grants.is_empty() { "    grants: []\n" } else { "    grants:\n" });
        for selection in &scope.grants {
            let resources = apis.resources(selection);
            text.push_str(&format!(
                "      - {}{}",
                apis.api_line(selection),
                apis::selector(selection, &resources, 8)
            ));
        }
    }
    text
}
