//! Which metrics and labels an expression of Prometheus names: as much of its grammar as the
//! dashboards and alerts use.

use std::collections::{BTreeMap, BTreeSet};

/// What one expression names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Metrics, each with the labels that it is chosen by.
    pub metrics: BTreeMap<String, BTreeSet<String>>,
    /// Values that a label is compared with: of a regular expression, its alternatives.
    pub values: BTreeSet<(String, String)>,
    /// Labels that the expression groups or joins by.
    pub grouped: BTreeSet<String>,
}

/// Words before a list of labels in brackets.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that are neither metrics nor functions.
const WORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

pub fn named(expression: &str) -> Named {
    let mut named = Named::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '$' {
            rest = rest[1..].trim_start_matches(is_name);
        } else if first == '"' {
            rest = behind_text(&rest[1..]);
        } else if first == '[' {
            rest = rest.split_once(']').expect("a bracket that is closed").1;
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '.');
        } else if is_name(first) {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = take(word, behind, &mut named);
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    named
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Takes a word and what belongs to it; gives what follows.
fn take<'a>(word: &str, behind: &'a str, named: &mut Named) -> &'a str {
    let next = behind.trim_start();
    if LISTS.contains(&word) {
        let Some(list) = next.strip_prefix('(') else { return next };
        let (list, rest) = list.split_once(')').expect("a list that is closed");
        let labels = list.split(',').map(str::trim).filter(|label| !label.is_empty());
        named.grouped.extend(labels.map(str::to_owned));
        return rest;
    }
    if WORDS.contains(&word) || next.starts_with('(') || AGGREGATIONS.contains(&word) {
        return next;
    }
    let labels = named.metrics.entry(word.to_owned()).or_default();
    let Some(mut rest) = next.strip_prefix('{') else { return next };
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if let Some(rest) = rest.strip_prefix('}') {
            return rest;
        }
        let end = rest.find(|c| !is_name(c)).expect("a matcher");
        let label = &rest[..end];
        labels.insert(label.to_owned());
        let text = rest.split_once('"').expect("the text of a matcher").1;
        rest = behind_text(text);
        let text = text[..text.len() - rest.len() - 1].replace("\\\\", "\\");
        let values = text.split('|').map(|value| (label.to_owned(), value.to_owned()));
        named.values.extend(values);
    }
}

/// Aggregations, which may have their labels before the bracket.
const AGGREGATIONS: [&str; 7] = ["sum", "max", "min", "count", "avg", "topk", "bottomk"];

/// What follows a text whose quote is behind us.
fn behind_text(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return &text[at + 1..],
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    panic!("a text that does not end: {text}");
}

/// The metric that a name of a series belongs to: histograms have three names.
pub fn family(series: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end)).unwrap_or(series)
}

#[test]
fn metrics_and_labels_are_found_and_nothing_else_is() {
    let found = named(
        "topk($top, sum by (api, le) (rate(a_total{reason=~\"x\\\\.y|\\\"z}\", api=\"b\"}[5m]))) / 2.5e3 \
         unless on (instance) b > bool 0 and absent(up{job=\"c\"}) - time()",
    );
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found.grouped, set(&["api", "le", "instance"]));
    let metrics = [("a_total", set(&["reason", "api"])), ("b", set(&[])), ("up", set(&["job"]))];
    let value = |label: &str, value: &str| (label.to_owned(), value.to_owned());
    let values =
        [value("reason", "x\\.y"), value("reason", "\\\"z}"), value("api", "b"), value("job", "c")];
    assert_eq!(found.values, values.into());
    assert_eq!(found.metrics, metrics.map(|(name, labels)| (name.to_owned(), labels)).into());
    assert_eq!(family("a_seconds_bucket"), "a_seconds");
}
