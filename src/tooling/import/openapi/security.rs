//! `security` of an OpenAPI document: who may call an operation.

use std::collections::{BTreeMap, BTreeSet};

use oas3::spec;
use serde_json::{Map, Value};

use super::document::resolve;
use crate::tooling::import::{Note, usable_scope};

/// The usual name of the master scope, which passes every scope check.
const MASTER: &str = "useraccount";

/// Who may call an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// No caller: its `security` cannot be converted.
    Closed,
    /// No caller is named: no scope is required.
    Unnamed,
    /// As the document declares for this operation.
    Said {
        /// Everybody.
        public: bool,
        /// Callers that have all scopes of one of the sets.
        sets: Vec<BTreeSet<String>>,
    },
}

/// The security schemes of a document.
pub(super) struct Security<'a> {
    root: &'a Value,
    /// Prefix of scope names here.
    prefix: &'a str,
    /// Whether a scheme's tokens have scopes.
    schemes: BTreeMap<String, bool>,
}

impl<'a> Security<'a> {
    /// Reads the security schemes, and the descriptions of their scopes.
    pub(super) fn of(
        root: &'a Value,
        prefix: &'a str,
        notes: &mut Vec<Note>,
    ) -> (Self, BTreeMap<String, String>) {
        let (mut scopes, mut schemes) = (BTreeMap::new(), BTreeMap::new());
        let declared = root.pointer("/components/securitySchemes").and_then(Value::as_object);
        for (name, value) in declared.into_iter().flatten() {
            let scheme = resolve(root, value).and_then(|value| {
                let mut value = value.clone();
                put_aside_urls(&mut value);
                serde_json::from_value::<spec::SecurityScheme>(value)
                    .map_err(|fault| fault.to_string())
            });
            match scheme {
                Ok(spec::SecurityScheme::OAuth2 { flows, .. }) => {
                    schemes.insert(name.clone(), true);
                    scopes.extend(declared_scopes(flows));
                }
                Ok(spec::SecurityScheme::OpenIdConnect { .. }) => {
                    schemes.insert(name.clone(), true);
                }
                Ok(
                    spec::SecurityScheme::ApiKey { .. }
                    | spec::SecurityScheme::Http { .. }
                    | spec::SecurityScheme::MutualTls { .. },
                ) => {
                    schemes.insert(name.clone(), false);
                }
                Err(fault) => notes.push(Note::new(
                    format!("securitySchemes.{name}"),
                    format!("left out: {fault}"),
                )),
            }
        }
        (Self { root, prefix, schemes }, scopes)
    }

    /// Who may call an operation.
    ///
    /// # Errors
    /// Says which part of its `security` cannot be converted.
    pub(super) fn access(
        &self,
        about: &str,
        operation: &Value,
        notes: &mut Vec<Note>,
    ) -> Result<Access, String> {
        if !operation.is_object() {
            return Err("an operation is an object".to_owned());
        }
        let own = operation.get("security");
        let Some(value) = own.or_else(|| self.root.get("security")) else {
            return Ok(Access::Unnamed);
        };
        let requirements: Vec<spec::SecurityRequirement> = serde_json::from_value(value.clone())
            .map_err(|fault| format!("`security`: {fault}"))?;
        // An empty document-wide `security` is often not intended: it opens nothing.
        let nothing = requirements.is_empty() && own.is_some();
        let public = nothing || requirements.iter().any(|requirement| requirement.0.is_empty());
        let (mut sets, mut others) = (Vec::new(), Vec::new());
        for spec::SecurityRequirement(schemes) in
            requirements.iter().filter(|requirement| !requirement.0.is_empty())
        {
            let set = self.requirement(about, schemes, notes)?;
            if set.is_empty() {
                others.push(schemes.keys().cloned().collect::<Vec<_>>().join("` and `"));
            } else if !sets.contains(&set) {
                sets.push(set);
            }
        }
        if !sets.is_empty() && !others.is_empty() {
            let message = format!(
                "may also be called with `{}` and no scope; here only its scopes open it",
                others.join("`, `")
            );
            notes.push(Note::new(about, message));
        }
        if !public && sets.is_empty() {
            return Ok(Access::Unnamed);
        }
        Ok(Access::Said { public, sets })
    }

    /// The scopes of one security requirement.
    fn requirement<'s>(
        &self,
        about: &str,
        schemes: impl IntoIterator<Item = (&'s String, &'s Vec<String>)>,
        notes: &mut Vec<Note>,
    ) -> Result<BTreeSet<String>, String> {
        let (mut set, mut others) = (BTreeSet::new(), Vec::new());
        for (scheme, scopes) in schemes {
            match self.schemes.get(scheme) {
                Some(true) => set.extend(scopes.iter().cloned()),
                Some(false) => others.push(scheme.as_str()),
                None => {
                    return Err(format!(
                        "`security` names `{scheme}`, which is not among `securitySchemes`"
                    ));
                }
            }
        }
        for scope in &set {
            let full = format!("{}{scope}", self.prefix);
            usable_scope(&full)?;
            if full == MASTER {
                return Err(format!(
                    "`{MASTER}` is the scope that passes every scope check here: give \
                        `--scope-prefix`"
                ));
            }
        }
        if !set.is_empty() && !others.is_empty() {
            let message = format!(
                "asks for `{}` besides scopes; that is for the upstream to check",
                others.join("`, `")
            );
            notes.push(Note::new(about, message));
        }
        Ok(set)
    }
}

/// Replaces the sign-in URLs of a scheme: they do not matter here, and are often not absolute, as
/// the parser requires.
fn put_aside_urls(scheme: &mut Value) {
    let flows = scheme.get_mut("flows").and_then(Value::as_object_mut);
    for flow in flows.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        flow.remove("refreshUrl");
        for key in ["authorizationUrl", "tokenUrl"] {
            flow.insert(key.to_owned(), "https://put.aside.invalid/".into());
        }
    }
}

fn declared_scopes(flows: spec::Flows) -> impl Iterator<Item = (String, String)> {
    let spec::Flows { implicit, password, client_credentials, authorization_code, .. } = flows;
    let scopes = [
        implicit.map(|flow| flow.scopes),
        password.map(|flow| flow.scopes),
        client_credentials.map(|flow| flow.scopes),
        authorization_code.map(|flow| flow.scopes),
    ];
    scopes.into_iter().flatten().flatten()
}
