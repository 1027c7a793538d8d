//! Configuration out of what others have written down: OpenAPI documents, records of ServiceNow. What cannot be carried over is told,
//! never guessed; what is made is loaded and tried by the decision that serves before anybody gets it.

pub mod openapi;
pub mod servicenow;
mod yaml;

use std::path::Path;

use serde::Serialize;

use crate::config::{self, Config, Fault, Lookup, SourceFile, Sources};
use crate::names::Timestamp;
use crate::policy::route::parse_template;

/// Host of the configuration that what was made is tried in.
pub const HOST: &str = "gateway.example";

/// Something that is not in the files made, or is in them otherwise than one might think.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// What it is about, as the original names it.
    pub about: String,
    /// What became of it, and what to do.
    pub message: String,
}

impl Note {
    fn new(about: impl Into<String>, message: impl Into<String>) -> Self {
        Self { about: about.into(), message: message.into() }
    }
}

/// A server that APIs are forwarded to, which gateway.yaml has to name under `upstreams`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Its key.
    pub name: String,
    /// Its scheme, host and port, where the original says them.
    pub server: Option<String>,
}

/// Why nothing was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportFault {
    /// The original is not what it is said to be.
    #[error("{0}")]
    Unreadable(String),
    /// What was made does not load, or its tests fail: a bug here.
    #[error("what was made does not hold, which is a fault of this command, not of yours:\n{0}")]
    Broken(String),
}

/// A configuration that has nothing but what was made, to try it in.
struct Trial<'a> {
    policies: &'a str,
    clients: &'a str,
    users: &'a str,
    upstreams: &'a [Upstream],
}

impl Trial<'_> {
    /// Loads it.
    fn load(&self, now: Timestamp) -> Result<Config, ImportFault> {
        let upstreams: Vec<String> = self
            .upstreams
            .iter()
            .map(|upstream| format!("  {}: {{ servers: [http://127.0.0.1:1] }}\n", yaml::text(&upstream.name)))
            .collect();
        let gateway = format!(
            "public_url: https://{HOST}\nlisteners: [{{ address: 127.0.0.1:1, behind_tls: true }}]\n\
             store: {{ embedded: {{ path: data }} }}\npolicies: policies\nclients: clients\nusers: users\n\
             authorization_server: {{ grants: [{}] }}\nupstreams:\n{}",
            "client_credentials, authorization_code, refresh_token, password, jwt_bearer",
            upstreams.concat(),
        );
        let file = |name: &str, text: &str| SourceFile { name: name.to_owned(), text: text.to_owned() };
        let some = |name: &str, text: &str| if text.is_empty() { Vec::new() } else { vec![file(name, text)] };
        let sources = Sources {
            gateway: Some(file("gateway.yaml", &gateway)),
            policies: some("policies.yaml", self.policies),
            clients: some("clients.yaml", self.clients),
            users: some("users.yaml", self.users),
        };
        config::load(&sources, &Nothing, now).map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(Fault::to_line).collect();
            ImportFault::Broken(lines.join("\n"))
        })
    }
}

/// No environment and no files.
struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there are no files here".to_owned())
    }
}

/// A key out of words: lower case, digits and hyphens.
fn slug(words: &str) -> String {
    let mut slug = String::new();
    for c in words.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= 48 {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// A path of somebody else's as a template of ours.
struct Template {
    text: String,
    /// Its parameters: the segment as it was written, and the name here.
    parameters: Vec<(String, String)>,
}

impl Template {
    /// Reads a path whose parameters are `{name}`. With `whole`, a segment that is a parameter in part becomes one as a whole.
    fn of(path: &str, whole: bool) -> Result<Self, String> {
        if path.contains(['?', '#']) {
            return Err("a query or fragment never decides which operation is meant".to_owned());
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut segments = Vec::new();
        for part in path.split('/') {
            if !part.contains(['{', '}']) {
                segments.push(part.to_owned());
                continue;
            }
            let name = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'))
                .filter(|name| !name.contains(['{', '}']));
            if name.is_none() && !whole {
                return Err(format!(
                    "`{part}` is a parameter in part; here one is a whole segment, which is more than this operation"
                ));
            }
            let written = name.unwrap_or_else(|| part.trim_matches(['{', '}']));
            let mut own: String = written.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            while own.is_empty() || parameters.iter().any(|(_, taken)| *taken == own) {
                own.push('_');
            }
            segments.push(format!("{{{own}}}"));
            parameters.push((part.to_owned(), own));
        }
        let text = segments.join("/");
        parse_template(&text)?;
        Ok(Self { text, parameters })
    }
}
