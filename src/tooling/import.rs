//! Makes configuration from other formats: OpenAPI documents, ServiceNow records. Content that
//! cannot be converted is reported, never guessed; the result is loaded and tested by the decision
//! that serves before it is returned.

pub mod openapi;
pub mod servicenow;
mod yaml;

use std::path::Path;

use serde::Serialize;

use crate::config::{self, Config, Fault, Lookup, SourceFile, Sources};
use crate::names::Timestamp;
use crate::policy::route::parse_template;

/// Host of the configuration in which results are tested.
pub const HOST: &str = "gateway.example";

/// Something that is missing from the files made, or that differs from what one might expect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// Its subject, as the original names it.
    pub about: String,
    /// What was done, and what to do next.
    pub message: String,
}

impl Note {
    /// Both contain text of the original: it must stay on one line.
    fn new(about: impl AsRef<str>, message: impl AsRef<str>) -> Self {
        Self { about: yaml::line(about.as_ref()), message: yaml::line(message.as_ref()) }
    }
}

/// A server that APIs are forwarded to, which gateway.yaml has to name under `upstreams`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Its key.
    pub name: String,
    /// Its scheme, host and port, where the original says them.
    pub server: Option<String>,
    /// The path below which its servers have the operations, where requests are forwarded without
    /// the API's base path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

impl Upstream {
    /// The line of gateway.yaml, below `upstreams`.
    #[must_use]
    pub fn line(&self) -> String {
        let server = self.server.as_deref().unwrap_or("https://…");
        format!("{}: {{ servers: [{server}{}] }}", yaml::text(&self.name), self.path)
    }
}

/// Why no files were made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportFault {
    /// The original is not in the expected format.
    #[error("{0}")]
    Unreadable(String),
    /// The result does not load, or its tests fail: a bug here.
    #[error("what was made does not hold, which is a fault of this command, not of yours:\n{0}")]
    Broken(String),
}

/// A configuration that has only the result, to test it.
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
            .map(|upstream| {
                format!("  {}: {{ servers: [http://127.0.0.1:1] }}\n", yaml::text(&upstream.name))
            })
            .collect();
        let gateway = format!(
            "public_url: https://{HOST}\nlisteners: [{{ address: 127.0.0.1:1, behind_tls: true \
                }}]\n\
             store: {{ embedded: {{ path: data }} }}\npolicies: policies\nclients: clients\nusers: \
             users\n\
             authorization_server: {{ grants: [{}] }}\n{}",
            "client_credentials, authorization_code, refresh_token, password, jwt_bearer",
            if upstreams.is_empty() {
                String::new()
            } else {
                format!("upstreams:\n{}", upstreams.concat())
            },
        );
        let file =
            |name: &str, text: &str| SourceFile { name: name.to_owned(), text: text.to_owned() };
        let some = |name: &str, text: &str| {
            if text.is_empty() { Vec::new() } else { vec![file(name, text)] }
        };
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

/// A file system and environment without content.
struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there are no files here".to_owned())
    }
}

/// A key made from text: lower case, digits and hyphens.
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

/// An unused key: as wished, or with a number appended.
fn numbered(wish: &str, otherwise: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let wish = if wish.is_empty() { otherwise } else { wish };
    let numbered = (2..).map(|number| format!("{wish}-{number}"));
    std::iter::once(wish.to_owned()).chain(numbered).find(|key| !is_taken(key)).unwrap_or_default()
}

/// Whether a foreign name can be a key here: of a client, a user, an API or an upstream.
fn usable_name(name: &str) -> Result<(), String> {
    let valid = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b',');
    if name.is_empty() || name.len() > 128 || !name.bytes().all(valid) || name.starts_with("env:") {
        return Err(format!(
            "`{name}` cannot be a name here: visible ASCII without comma, double quote and \
                backslash, at most 128 characters"
        ));
    }
    Ok(())
}

/// Whether a foreign scope is valid here (RFC 6749 §3.3).
fn usable_scope(scope: &str) -> Result<(), String> {
    if !crate::scope::is_scope_token(scope) || scope.len() > 256 || scope.starts_with("env:") {
        return Err(format!(
            "`{scope}` cannot be a scope here: visible ASCII without double quote and backslash, \
                at most 256 characters"
        ));
    }
    Ok(())
}

/// A template without the names of its parameters.
fn shape(template: &str) -> String {
    let segments = template.split('/').map(|part| match part.split_once('}') {
        Some((_, literal)) if part.starts_with('{') => format!("{{}}{literal}"),
        Some(_) | None => part.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Longest path that is read, and most parameters in it.
const LONGEST_PATH: usize = 512;
const MOST_PARAMETERS: usize = 32;

/// Why a path of the original cannot be a template here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum TemplateFault {
    /// A parameter is only part of a segment.
    #[error(
        "`{0}` has more than a parameter and a literal behind it; here that is a whole segment, \
            which is more than this operation"
    )]
    InPart(String),
    /// It is no template here, and other operations may match its requests.
    #[error("{0}")]
    Unusable(String),
    /// No request could have such a path.
    #[error("{0}")]
    Impossible(String),
}

/// The segments of a path with parameters in braces, unchanged: a slash in braces does not split.
fn segments(path: &str) -> Vec<&str> {
    let (mut segments, mut depth, mut begin) = (Vec::new(), 0_usize, 0);
    for (at, c) in path.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' if depth == 0 => {
                segments.push(path.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    segments.push(path.get(begin..).unwrap_or_default());
    segments
}

/// Where the query or fragment of a path begins; characters in braces do not count.
fn end_of_path(path: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in path.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '?' | '#' if depth == 0 => return at,
            _ => {}
        }
    }
    path.len()
}

/// Whether all braces in a segment hold plain names: with operators, patterns or dots they may
/// match several segments.
fn has_plain_names(segment: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~' | '$' | ' ');
    segment.split('{').skip(1).all(|part| {
        let name = part.split('}').next().unwrap_or_default();
        !name.is_empty()
            && name.chars().all(plain)
            && !name.starts_with('.')
            && !name.contains("..")
    })
}

/// The parameter that a segment begins with, and the literal behind it; `None` where the segment is
/// more than that.
fn with_literal(segment: &str) -> Option<(&str, &str)> {
    let (name, literal) = segment.strip_prefix('{')?.split_once('}')?;
    let is_one = !name.contains('{') && parse_template(&format!("/{{x}}{literal}")).is_ok();
    is_one.then_some((name, literal))
}

/// A path of the original as a template.
#[derive(Debug)]
struct Template {
    text: String,
    /// Its parameters: the segment as written, and the name here.
    parameters: Vec<(String, String)>,
}

impl Template {
    /// Parses a path whose parameters are `{name}`. With `whole`, a partial parameter becomes a
    /// whole segment.
    fn of(path: &str, whole: bool) -> Result<Self, TemplateFault> {
        let unusable = |fault: &str| Err(TemplateFault::Unusable(fault.to_owned()));
        if end_of_path(path) < path.len() {
            return unusable("a query or fragment never decides which operation is meant");
        }
        if path.len() > LONGEST_PATH || path.matches('{').count() > MOST_PARAMETERS {
            return unusable(
                "the path is longer than 512 characters, or has more than 32 parameters",
            );
        }
        if path.contains(';') || path.contains("%2F") || path.contains("%25") {
            let message = "segments with `;`, `%2F` or `%25` have to be allowed by the API (`path: \
                { allow: […] }`): write it by hand";
            return Err(TemplateFault::Impossible(message.to_owned()));
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut own_segments = Vec::new();
        for part in segments(path) {
            if !part.contains(['{', '}']) {
                own_segments.push(part.to_owned());
                continue;
            }
            if !has_plain_names(part) {
                return unusable(&format!(
                    "`{part}` may be several segments, or asks for a pattern"
                ));
            }
            let name = with_literal(part);
            if name.is_none() && !whole {
                return Err(TemplateFault::InPart(part.to_owned()));
            }
            if part.chars().any(char::is_control) {
                return Err(TemplateFault::Impossible(
                    "a control character in the path".to_owned(),
                ));
            }
            let (written, literal) = name.unwrap_or_else(|| (part.trim_matches(['{', '}']), ""));
            let mut own: String =
                written.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            while parameters.iter().any(|(_, taken)| *taken == own) {
                own.push('_');
            }
            own_segments.push(format!("{{{own}}}{literal}"));
            parameters.push((part.to_owned(), own));
        }
        let text = own_segments.join("/");
        parse_template(&text).map_err(TemplateFault::Impossible)?;
        Ok(Self { text, parameters })
    }
}
