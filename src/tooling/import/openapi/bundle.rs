//! Several files as one document: what `$ref` names in the folder of the document is put into it,
//! each file once, and the references lead there.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::config::document;
use crate::tooling::import::ImportFault;

/// The member of the document that holds the others.
const FILES: &str = "x-scopegate-files";
/// Most files beside the document.
const MOST_FILES: usize = 1_000;
/// Most bytes of all of them.
const MOST_BYTES: usize = 64 << 20;

/// A document with the files that its references name, as one text; unchanged where they name none.
/// `read` gives a file by its path relative to the document's folder, with slashes and without dot
/// segments. A file that cannot be read stays a reference to another file.
///
/// # Errors
/// The document cannot be read, or its files are too many or too large.
pub fn bundle(
    text: &str,
    read: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<String, ImportFault> {
    let mut root = document::json(text).map_err(ImportFault::Unreadable)?;
    let mut bundler = Bundler { files: BTreeMap::new(), wanted: Vec::new(), bytes: 0, read };
    bundler.lead(&mut root, "");
    while let Some(name) = bundler.wanted.pop() {
        let Some(Some(mut file)) = bundler.files.get(&name).cloned() else { continue };
        bundler.lead(&mut file, &name);
        bundler.files.insert(name, Some(file));
    }
    if bundler.files.len() > MOST_FILES || bundler.bytes > MOST_BYTES {
        return Err(ImportFault::Unreadable(format!(
            "its references name more than {MOST_FILES} files, or {} MiB",
            MOST_BYTES >> 20
        )));
    }
    let files: Map<String, Value> =
        bundler.files.into_iter().filter_map(|(name, file)| Some((name, file?))).collect();
    let (false, Value::Object(object)) = (files.is_empty(), &mut root) else {
        return Ok(text.to_owned());
    };
    object.insert(FILES.to_owned(), Value::Object(files));
    Ok(root.to_string())
}

struct Bundler<'r> {
    /// The files by their names; none for one that cannot be read.
    files: BTreeMap<String, Option<Value>>,
    /// Files whose own references are not yet led.
    wanted: Vec<String>,
    bytes: usize,
    read: &'r mut dyn FnMut(&str) -> Result<String, String>,
}

impl Bundler<'_> {
    /// Leads the references of one file, `from`, to where their targets will be; that of the
    /// document itself is the empty name.
    fn lead(&mut self, value: &mut Value, from: &str) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.lead(item, from)),
            Value::Object(object) => {
                let led = object
                    .get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|target| self.target(target, from));
                if let Some(led) = led {
                    object.insert("$ref".to_owned(), Value::String(led));
                }
                object.values_mut().for_each(|value| self.lead(value, from));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The reference in the one document; `None` where it stays as it is.
    fn target(&mut self, target: &str, from: &str) -> Option<String> {
        let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
        if file.is_empty() && from.is_empty() {
            return None;
        }
        let name = if file.is_empty() { from.to_owned() } else { joined(from, file)? };
        if !self.is_there(&name) {
            return None;
        }
        let key = name.replace('~', "~0").replace('/', "~1");
        Some(format!("#/{FILES}/{}{fragment}", utf8_percent_encode(&key, NON_ALPHANUMERIC)))
    }

    fn is_there(&mut self, name: &str) -> bool {
        if let Some(file) = self.files.get(name) {
            return file.is_some();
        }
        if self.files.len() > MOST_FILES || self.bytes > MOST_BYTES {
            return false;
        }
        let file = (self.read)(name).and_then(|text| {
            self.bytes += text.len();
            document::json(&text)
        });
        let file = file.ok();
        let is_there = file.is_some();
        self.files.insert(name.to_owned(), file);
        if is_there {
            self.wanted.push(name.to_owned());
        }
        is_there
    }
}

/// A path relative to the folder of the document, from one relative to the file that names it;
/// `None` where it leads out of the folder, or is a URL.
fn joined(from: &str, file: &str) -> Option<String> {
    let file = percent_decode_str(file).decode_utf8().ok()?;
    if file.contains(['\\', ':', '\0', '?']) || file.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_stays_in_the_folder() {
        for (from, file, expect) in [
            ("", "a.yaml", Some("a.yaml")),
            ("", "./paths/a.yaml", Some("paths/a.yaml")),
            ("paths/a.yaml", "../b%20c.yaml", Some("b c.yaml")),
            ("paths/a.yaml", "b.yaml", Some("paths/b.yaml")),
            ("", "../a.yaml", None),
            ("paths/a.yaml", "../../a.yaml", None),
            ("", "%2e%2e/a.yaml", None),
            ("", "/etc/passwd", None),
            ("", "https://a.example/b.yaml", None),
            ("", "..\\a.yaml", None),
            ("", ".", None),
        ] {
            assert_eq!(joined(from, file).as_deref(), expect, "{from} {file}");
        }
    }

    #[test]
    fn references_lead_to_one_copy_of_each_file() {
        let files = BTreeMap::from([
            ("paths/a.yaml", "get: { parameters: [{ $ref: '../shared.yaml#/Id' }] }"),
            (
                "shared.yaml",
                "Id: { $ref: '#/Real' }\nReal: { name: id, loop: { $ref: paths/a.yaml } }",
            ),
        ]);
        let mut reads = Vec::new();
        let text = bundle(
            "paths: { /a: { $ref: paths/a.yaml }, /b: { $ref: 'gone.yaml' }, /c: { $ref: '#/x' } }",
            &mut |name| {
                reads.push(name.to_owned());
                files.get(name).map(|text| (*text).to_owned()).ok_or_else(String::new)
            },
        );
        let root: Value = serde_json::from_str(&text.unwrap()).unwrap();
        assert_eq!(root.pointer("/paths/~1b/$ref"), Some(&"gone.yaml".into()));
        assert_eq!(root.pointer("/paths/~1c/$ref"), Some(&"#/x".into()));
        let follow = |value: &Value| {
            let target = value["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
            root.pointer(&percent_decode_str(target).decode_utf8_lossy()).unwrap().clone()
        };
        let id = follow(&follow(&root["paths"]["/a"])["get"]["parameters"][0]);
        assert_eq!(follow(&id)["name"], "id");
        assert_eq!(follow(&follow(&id)["loop"]), follow(&root["paths"]["/a"]));
        reads.sort_unstable();
        assert_eq!(reads, ["gone.yaml", "paths/a.yaml", "shared.yaml"]);
        assert_eq!(bundle("a: 1", &mut |_| unreachable!()).unwrap(), "a: 1");
    }
}
