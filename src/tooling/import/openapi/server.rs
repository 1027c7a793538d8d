//! The server of operations: the first of `servers`, of the operation, its path or the document.

use oas3::spec;
use serde_json::Value;

use super::document::keep;
use crate::config::format;

/// Longest address in characters, with variables filled in.
const LONGEST: usize = 2048;

/// The server of operations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    /// Scheme, host and port; none where the document leaves them open.
    pub(super) origin: Option<String>,
    /// Path before the templates, in the form of a base path: what the gateway answers on.
    pub(super) base_path: String,
    /// The same at the server itself, where the document says it.
    pub(super) path: Option<String>,
}

impl Server {
    /// The path that the upstream's servers have to have, where requests are forwarded without the
    /// base path: the server has its operations elsewhere.
    pub(super) fn moved(&self) -> Option<&str> {
        self.path.as_deref().filter(|path| *path != self.base_path)
    }
}

/// The server of a document, with `base_path` instead of its path; and the number of others with
/// another path.
///
/// # Errors
/// An address cannot be parsed, or its path cannot be a base path.
pub(super) fn of_document(
    root: &Value,
    base_path: Option<&str>,
) -> Result<(Server, usize), String> {
    let hint = |fault: String| format!("{fault}; or give `--base-path`");
    let all = root.get("servers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let first = all.first().map(read).transpose();
    let server = match base_path {
        Some(path) => {
            let first = first.ok().flatten();
            Server {
                path: first.as_ref().and_then(|server| server.path.clone()),
                origin: first.and_then(|server| server.origin),
                base_path: path.to_owned(),
            }
        }
        None => first.map_err(hint)?.unwrap_or(Server {
            origin: None,
            base_path: "/".to_owned(),
            path: None,
        }),
    };
    format::check("base_path", &server.base_path).map_err(hint)?;
    let others = all.iter().skip(1).filter_map(|other| read(other).ok());
    let others = if base_path.is_some() {
        0
    } else {
        others.filter(|other| other.base_path != server.base_path).count()
    };
    Ok((server, others))
}

/// The first server of a path or an operation.
///
/// # Errors
/// An address cannot be parsed.
pub(super) fn own(owner: &Value) -> Result<Option<Server>, String> {
    owner
        .get("servers")
        .and_then(Value::as_array)
        .and_then(|servers| servers.first())
        .map(read)
        .transpose()
}

fn read(server: &Value) -> Result<Server, String> {
    let mut server = server.clone();
    keep(&mut server, &["url", "variables"]);
    let server: spec::Server =
        serde_json::from_value(server).map_err(|fault| format!("`servers`: {fault}"))?;
    let address = address(&server)?;
    // Relative addresses depend on where the document is served: only the path can be known.
    let base = url::Url::parse("https://relative.invalid/").map_err(|fault| fault.to_string())?;
    let parsed = base.join(&address).map_err(|fault| format!("the server `{address}`: {fault}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("the server `{address}` is none of http or https"));
    }
    let relative = parsed.host_str() == base.host_str();
    let base_path = match parsed.path().trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    Ok(Server {
        origin: (!relative).then(|| parsed.origin().ascii_serialization()),
        path: Some(base_path.clone()),
        base_path,
    })
}

/// The address with its variables filled in, once: values are not expanded again.
fn address(server: &spec::Server) -> Result<String, String> {
    let mut address = String::new();
    let mut parts = server.url.split('{');
    address.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part
            .split_once('}')
            .ok_or_else(|| format!("the server `{}` has a brace too many", server.url))?;
        let variable = server.variables.get(name);
        let value = variable.ok_or_else(|| {
            format!("the server `{}` has the variable `{name}` without a default", server.url)
        })?;
        address.push_str(&value.default);
        address.push_str(rest);
        if address.len() > LONGEST {
            return Err(format!("the server's address is longer than {LONGEST} characters"));
        }
    }
    if address.contains(['{', '}']) {
        return Err(format!("the server `{address}` has a brace too many"));
    }
    Ok(address)
}
