//! Edits of a client in the text of its file. Everything that an edit is not about stays as it is,
//! byte for byte.
//!
//! An edit is made twice, in the text and in the values that were read from it; where the new text
//! does not read as the new values, there is no edit.

use std::ops::Range;

use crate::client::GrantType;
use crate::config::document::{Bytes, Document, Step, Value};

/// An edit of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The client.
    pub client: String,
    /// The change of it.
    pub change: Change,
}

/// A change of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key that is true or false.
    Set(&'static str, bool),
    /// Removes a scope from `auth_scopes`.
    RemoveScope(String),
    /// Removes a grant from `grants`.
    RemoveGrant(GrantType),
    /// Removes the secret at this position of `secrets`.
    RemoveSecret(usize),
}

/// A replacement of some bytes of a text.
type Splice = (Range<usize>, String);

/// The text with an edit; `None` where its form is not one that is edited safely, or there is
/// nothing to change.
#[must_use]
pub fn apply(file: &str, text: &str, edit: &Edit) -> Option<String> {
    let document = Document::parse(file, text).ok()?;
    let mut values = document.value.clone();
    let client = values.get_mut("clients")?.get_mut(&edit.client)?;
    let path = vec![key("clients"), key(&edit.client)];
    let splices = match &edit.change {
        Change::Set(name, value) => set(&document, path, client, name, *value)?,
        Change::RemoveScope(scope) => {
            remove(&document, path, client, "auth_scopes", &|_, item| {
                item.as_str() == Some(scope.as_str())
            })?
        }
        Change::RemoveGrant(grant) => remove(&document, path, client, "grants", &|_, item| {
            item.as_str() == Some(grant.as_str())
        })?,
        Change::RemoveSecret(position) => {
            remove(&document, path, client, "secrets", &|at, _| at == *position)?
        }
    };
    let text = splice(text, splices)?;
    let edited = Document::parse(file, &text).ok()?;
    (edited.value == values).then_some(text)
}

fn key(name: &str) -> Step {
    Step::Key(name.to_owned())
}

/// Replaces bytes, from the last to the first.
fn splice(text: &str, mut splices: Vec<Splice>) -> Option<String> {
    splices.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = text.to_owned();
    for (range, new) in splices {
        text.get(range.clone())?;
        text.replace_range(range, &new);
    }
    Some(text)
}

/// Sets a key of the client, in its values and in its text.
fn set(
    document: &Document,
    mut path: Vec<Step>,
    client: &mut Value,
    name: &str,
    value: bool,
) -> Option<Vec<Splice>> {
    let before = client.as_mapping_mut()?.insert(name.into(), Value::Bool(value));
    let new = value.to_string();
    match before {
        // A value of the environment is another's to change.
        Some(Value::Bool(before)) if before != value => {
            path.push(key(name));
            let bytes = document.bytes(&path)?.value;
            let written = document.text.get(bytes.clone())?;
            matches!(written, "true" | "false").then(|| vec![(bytes, new)])
        }
        Some(_) => None,
        None => insert(document, &path, client, &format!("{name}: {new}")),
    }
}

/// Inserts an entry as the second of the client's mapping, or as the first where the first one is
/// more than a line.
fn insert(document: &Document, path: &[Step], client: &Value, entry: &str) -> Option<Vec<Splice>> {
    let text = &*document.text;
    let mapping = document.bytes(path)?;
    let entries = client.as_mapping()?.keys().filter_map(Value::as_str);
    let entries = entries.filter_map(|name| document.bytes(&[path, &[key(name)]].concat()));
    let Some(first) = entries.min_by_key(|entry| entry.value.start) else {
        let inside = mapping.is_flow.then(|| mapping.value.start + 1)?;
        return Some(vec![(inside..inside, format!(" {entry} "))]);
    };
    let start = first.key?.start;
    if mapping.is_flow {
        return Some(vec![(start..start, format!("{entry}, "))]);
    }
    let indent = text.get(line_start(text, start)..start)?;
    if !indent.bytes().all(|byte| byte == b' ') {
        return None;
    }
    let end = line_end(text, first.value.end);
    let is_one_line = line_start(text, first.value.end) == line_start(text, start)
        && is_rest(text.get(first.value.end..end)?)
        && text.get(..end)?.ends_with('\n');
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let at = if is_one_line { end } else { line_start(text, start) };
    Some(vec![(at..at, format!("{indent}{entry}{line_break}"))])
}

/// Removes the one item of a list of the client that is meant, from its values and from its text.
fn remove(
    document: &Document,
    mut path: Vec<Step>,
    client: &mut Value,
    name: &str,
    is_meant: &dyn Fn(usize, &Value) -> bool,
) -> Option<Vec<Splice>> {
    let items = client.get_mut(name)?.as_sequence_mut()?;
    let mut meant = items.iter().enumerate().filter(|(at, item)| is_meant(*at, item));
    let (at, None) = (meant.next()?.0, meant.next()) else { return None };
    items.remove(at);
    let left = items.len();
    path.push(key(name));
    let list = document.bytes(&path)?;
    path.push(Step::Index(at));
    let item = document.bytes(&path)?.value;
    let neighbour = |at: usize| {
        let mut path = path.clone();
        path.pop();
        path.push(Step::Index(at));
        document.bytes(&path)
    };
    if list.is_flow {
        let range = if at < left {
            item.start..neighbour(at + 1)?.value.start
        } else if let Some(before) = at.checked_sub(1) {
            neighbour(before)?.value.end..item.end
        } else {
            item
        };
        // A comment between two items is of one of them: which, is not known.
        let is_plain = !document.text.get(range.clone())?.contains('#');
        return is_plain.then(|| vec![(range, String::new())]);
    }
    block_item(&document.text, &list, item, left == 0)
}

/// Removes the lines of an item of a list in block style. A list without items is `[]`.
fn block_item(text: &str, list: &Bytes, item: Range<usize>, is_last: bool) -> Option<Vec<Splice>> {
    let start = line_start(text, item.start);
    let dash = text.get(start..item.start)?.trim_matches(' ');
    let end = line_end(text, item.end);
    if dash != "-" || !is_rest(text.get(item.end..end)?) {
        return None;
    }
    let mut splices = vec![(start..end, String::new())];
    if is_last {
        let colon = list.key.as_ref()?.end;
        if !text.get(colon..)?.starts_with(':') {
            return None;
        }
        splices.push((colon + 1..colon + 1, " []".to_owned()));
    }
    Some(splices)
}

/// The beginning of the line of a byte.
fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// The end of the line of a byte, with its line break.
fn line_end(text: &str, at: usize) -> usize {
    let rest = text.get(at..).and_then(|rest| rest.find('\n'));
    rest.map_or(text.len(), |found| at + found + 1)
}

/// Whether the rest of a line is nothing but a comment.
fn is_rest(rest: &str) -> bool {
    let trimmed = rest.trim();
    trimmed.is_empty() || (trimmed.starts_with('#') && rest.starts_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, change: Change) -> Option<String> {
        apply("c.yaml", text, &Edit { client: "crm".to_owned(), change })
    }

    fn scope(name: &str) -> Change {
        Change::RemoveScope(name.to_owned())
    }

    #[test]
    fn an_edit_changes_its_lines_and_no_other_byte() {
        let off = || Change::Set("active", false);
        for (sentence, before, change, after) in [
            (
                "a key is added behind the first one, at its indentation",
                "# all\nclients:\n  crm: # CRM\n    # of the team\n    name: x  # y\n    grants: \
                 []\n",
                off(),
                "# all\nclients:\n  crm: # CRM\n    # of the team\n    name: x  # y\n    active: \
                 false\n    grants: []\n",
            ),
            (
                "or before it, where it is a list of its own lines",
                "clients:\n  crm:\n      grants:\n        - a\n      name: x\n",
                off(),
                "clients:\n  crm:\n      active: false\n      grants:\n        - a\n      name: \
                 x\n",
            ),
            (
                "a file without a last line break gets none",
                "clients:\n  crm:\n    name: x",
                off(),
                "clients:\n  crm:\n    active: false\n    name: x",
            ),
            (
                "line breaks of Windows stay what they are",
                "clients:\r\n  crm:\r\n    name: x\r\n",
                off(),
                "clients:\r\n  crm:\r\n    name: x\r\n    active: false\r\n",
            ),
            (
                "a value is replaced where it is",
                "clients: { crm: { name: \u{fc}, active: true } } # x\n",
                off(),
                "clients: { crm: { name: \u{fc}, active: false } } # x\n",
            ),
            (
                "a mapping in braces gets the key first",
                "clients:\n  crm: { name: x }\n  b: {}\n",
                Change::Set("allow_only_selected_scopes", true),
                "clients:\n  crm: { allow_only_selected_scopes: true, name: x }\n  b: {}\n",
            ),
            (
                "also an empty one",
                "clients: { crm: {} }\n",
                off(),
                "clients: { crm: { active: false } }\n",
            ),
            (
                "the first scope of a list in brackets goes with its comma",
                "clients: { crm: { auth_scopes: [a, b, c] } }\n",
                scope("a"),
                "clients: { crm: { auth_scopes: [b, c] } }\n",
            ),
            (
                "so does the last one",
                "clients: { crm: { auth_scopes: [a, b,\n  c ] } }\n",
                scope("c"),
                "clients: { crm: { auth_scopes: [a, b ] } }\n",
            ),
            (
                "and the only one",
                "clients: { crm: { auth_scopes: [\"a\"] } }\n",
                scope("a"),
                "clients: { crm: { auth_scopes: [] } }\n",
            ),
            (
                "a scope on a line of its own goes with the line",
                "clients:\n  crm:\n    auth_scopes: # s\n    - a  # 1\n    # of b\n    - b\n    - \
                 c\n\n    name: x\n",
                scope("c"),
                "clients:\n  crm:\n    auth_scopes: # s\n    - a  # 1\n    # of b\n    - b\n\n    \
                 name: x\n",
            ),
            (
                "a list of lines that is empty afterwards is written in brackets",
                "clients:\n  crm:\n    auth_scopes: # s\n      - a\n    name: x\n",
                scope("a"),
                "clients:\n  crm:\n    auth_scopes: [] # s\n    name: x\n",
            ),
            (
                "a secret of two lines goes with both",
                "clients:\n  crm:\n    secrets:\n      - sha256: aa\n        expires: 2027-01-01 # \
                 old\n      - sha256: bb\n",
                Change::RemoveSecret(0),
                "clients:\n  crm:\n    secrets:\n      - sha256: bb\n",
            ),
            (
                "a secret in braces goes alone",
                "clients:\n  crm: { secrets: [{ sha256: aa, expires: 2027-01-01 }, { sha256: bb }] \
                 }\n",
                Change::RemoveSecret(1),
                "clients:\n  crm: { secrets: [{ sha256: aa, expires: 2027-01-01 }] }\n",
            ),
            (
                "a grant is removed by its name",
                "clients: { crm: { grants: [client_credentials, password] } }\n",
                Change::RemoveGrant(GrantType::Password),
                "clients: { crm: { grants: [client_credentials] } }\n",
            ),
        ] {
            assert_eq!(edited(before, change).as_deref(), Some(after), "{sentence}");
        }
    }

    #[test]
    fn a_form_that_cannot_be_edited_safely_is_not_edited() {
        for (sentence, text, change) in [
            ("no such client", "clients: { erp: {} }\n", Change::Set("active", false)),
            (
                "it is so already",
                "clients: { crm: { active: false } }\n",
                Change::Set("active", false),
            ),
            (
                "the environment has the value",
                "clients: { crm: { active: env:CRM } }\n",
                Change::Set("active", false),
            ),
            ("a client without a mapping", "clients:\n  crm:\n", Change::Set("active", false)),
            ("an anchor", "clients:\n  crm: &c\n    auth_scopes: [a]\n", scope("a")),
            ("no such scope", "clients: { crm: { auth_scopes: [b] } }\n", scope("a")),
            ("the scope is there twice", "clients: { crm: { auth_scopes: [a, a] } }\n", scope("a")),
            (
                "a comment between items in brackets",
                "clients: { crm: { auth_scopes: [a, # of which\n  b] } }\n",
                scope("a"),
            ),
            (
                "an item on the line of another list",
                "clients:\n  crm:\n    secrets:\n      - - a\n",
                Change::RemoveSecret(1),
            ),
            (
                "a comma behind the only item",
                "clients: { crm: { auth_scopes: [a,] } }\n",
                scope("a"),
            ),
        ] {
            assert_eq!(edited(text, change), None, "{sentence}");
        }
    }

    /// A list in one of the forms that people write: in brackets, on lines, on lines without an
    /// indentation; each item with or without quotes and, on lines, a comment.
    fn list(style: u8, items: &[(u8, bool)]) -> String {
        let item = |at: usize, quotes: u8| match quotes {
            0 => format!("s{at}"),
            1 => format!("'s{at}'"),
            _ => format!("\"s{at}\""),
        };
        let all = items.iter().enumerate();
        if style == 0 {
            let all: Vec<String> = all.map(|(at, (quotes, _))| item(at, *quotes)).collect();
            return format!(" [{}]", all.join(", "));
        }
        let indent = if style == 1 { "      " } else { "    " };
        all.fold(String::new(), |list, (at, (quotes, has_comment))| {
            let comment = if *has_comment { "  # it's \"s\"" } else { "" };
            format!("{list}\n{indent}- {}{comment}", item(at, *quotes))
        })
    }

    proptest::proptest! {
        /// In every form the item goes, and the rest is the text before and after it.
        #[test]
        fn an_item_is_removed_from_every_form_of_a_list(
            style in 0..3_u8,
            items in proptest::collection::vec((0..3_u8, proptest::bool::ANY), 2..5),
            at in 0..5_usize,
            is_windows in proptest::bool::ANY,
        ) {
            let at = at % items.len();
            let list = list(style, &items);
            let text = format!("# \u{e4}\nclients:\n  crm:\n    auth_scopes:{list}\n    x: 1 #\n");
            let text = if is_windows { text.replace('\n', "\r\n") } else { text };
            let name = format!("s{at}");
            let new = edited(&text, scope(&name)).unwrap();
            proptest::prop_assert!(!new.contains(&name), "{}", new);
            let same = text.bytes().zip(new.bytes()).take_while(|(old, new)| old == new).count();
            proptest::prop_assert!(text.as_bytes().ends_with(&new.as_bytes()[same..]));
        }
    }
}
