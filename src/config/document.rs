//! One YAML file: its values (serde_yaml) and their positions (an event parser, because
//! serde_yaml keeps none). The only module that names either parser.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, Span};
pub use serde_yaml::{Mapping, Value};

/// One value as YAML reads it: a number, a truth value, or text.
#[must_use]
pub fn scalar(text: &str) -> Value {
    match serde_yaml::from_str(text) {
        Ok(scalar @ (Value::Bool(_) | Value::Number(_))) => scalar,
        _ => Value::String(text.to_owned()),
    }
}

/// A value as YAML writes it, for messages.
#[must_use]
pub fn show(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default().trim().to_owned()
}

/// A YAML or JSON text of somebody else's, as JSON: keys that are numbers, as response codes are,
/// become texts.
///
/// # Errors
/// Line, column, and what is wrong there. A key twice is wrong: readers differ on which counts.
pub fn json(text: &str) -> Result<serde_json::Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    let start = text.trim_start();
    let object =
        start.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(['"', '}']));
    if object || start.starts_with('[') {
        // Not every JSON text is YAML: escaped surrogates are two characters there.
        return serde_json::from_str::<Unique>(text)
            .map(|Unique(value)| value)
            .map_err(|fault| fault.to_string());
    }
    // serde_yaml takes quadratic time to reach its bound of nesting; the other parser's is reached
    // at once.
    for event in Parser::new_from_str(text) {
        event.map_err(|fault| fault.to_string())?;
    }
    serde_yaml::from_str(text).map(as_json).map_err(|fault| fault.to_string())
}

/// A JSON value whose objects have each key once.
struct Unique(serde_json::Value);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeys).map(Self)
    }
}

struct UniqueKeys;

impl<'de> serde::de::Visitor<'de> for UniqueKeys {
    type Value = serde_json::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(
        self,
        mut entries: A,
    ) -> Result<Self::Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if object.insert(key.clone(), value).is_some() {
                return Err(serde::de::Error::custom(format!("the key `{key}` occurs twice")));
            }
        }
        Ok(object.into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(
        self,
        mut items: A,
    ) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = items.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(serde_json::Value::Null)
    }
}

fn as_json(value: Value) -> serde_json::Value {
    match value {
        Value::Mapping(mapping) => {
            mapping.into_iter().map(|(key, value)| (key_text(&key), as_json(value))).collect()
        }
        Value::Sequence(items) => items.into_iter().map(as_json).collect(),
        Value::Tagged(tagged) => as_json(tagged.value),
        Value::String(text) => text.into(),
        Value::Bool(truth) => truth.into(),
        Value::Number(number) => serde_json::to_value(number).unwrap_or_default(),
        Value::Null => serde_json::Value::Null,
    }
}

fn key_text(key: &Value) -> String {
    key.as_str().map_or_else(|| show(key), str::to_owned)
}

use super::fault::Fault;
use crate::names::Origin;

/// Largest file read, in bytes.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;

/// A step into a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A key of a mapping.
    Key(String),
    /// A position in a list.
    Index(usize),
}

/// A place in a document, as steps from its root.
pub type Path = Vec<Step>;

/// Line and column from 1, and a width, in characters; start and end in characters of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    line: usize,
    column: usize,
    width: usize,
    start: usize,
    end: usize,
}

/// The bytes of a value in the text of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Those of its key, where it is a value of a mapping.
    pub key: Option<Range<usize>>,
    /// Those of the value itself, for a list or mapping in block style to the end of its last item.
    pub value: Range<usize>,
    /// Whether it is written in brackets or braces.
    pub is_flow: bool,
}

#[derive(Debug)]
struct Node {
    mark: Mark,
    children: Children,
}

#[derive(Debug)]
enum Children {
    None,
    Map(HashMap<String, (Mark, Node)>),
    List(Vec<Node>),
}

/// A parsed file.
#[derive(Debug)]
pub struct Document {
    /// File as the operator named it.
    pub file: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
    /// Its values.
    pub value: Value,
    root: Node,
}

impl Document {
    /// Parses a file. An empty file is an empty mapping.
    ///
    /// # Errors
    /// What is not YAML, a key twice, anchors and aliases (which can make a small file huge), and a
    /// file over the bounds.
    pub fn parse(file: &str, text: &str) -> Result<Self, Box<Fault>> {
        if text.len() > MAX_BYTES {
            let help = "split it: a directory is the union of its files".to_owned();
            return Err(Box::new(Fault::of_file(
                file,
                "the file is larger than 8 MiB",
                Some(help),
            )));
        }
        let root = Tree { file, events: Parser::new_from_str(text) }.document()?;
        let value: Value = serde_yaml::from_str(text).map_err(|error| {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            Box::new(Fault {
                file: file.into(),
                line,
                column,
                width: 1,
                message: error.to_string(),
                help: None,
                hidden: false,
            })
        })?;
        let value = if value.is_null() { Value::Mapping(Mapping::new()) } else { value };
        Ok(Self { file: file.into(), text: text.into(), value, root })
    }

    /// Where a value stands; for a place that is not in the file, its nearest ancestor.
    #[must_use]
    pub fn origin(&self, path: &[Step]) -> Origin {
        let (_, mark) = self.locate(path);
        Origin { file: self.file.clone(), line: mark.line, column: mark.column }
    }

    /// A fault at a value.
    #[must_use]
    pub fn fault_at_value(&self, path: &[Step], message: String, help: Option<String>) -> Fault {
        self.fault(self.locate(path).1, message, help)
    }

    /// A fault at the key of a value.
    #[must_use]
    pub fn fault_at_key(&self, path: &[Step], message: String, help: Option<String>) -> Fault {
        self.fault(self.locate(path).0, message, help)
    }

    /// The bytes of a value that is in the file; `None` where it is not.
    #[must_use]
    pub fn bytes(&self, path: &[Step]) -> Option<Bytes> {
        let (mut node, mut key) = (&self.root, None);
        for step in path {
            (key, node) = match (&node.children, step) {
                (Children::Map(map), Step::Key(name)) => {
                    map.get(name).map(|(key, node)| (Some(*key), node))?
                }
                (Children::List(list), Step::Index(at)) => (None, list.get(*at)?),
                _ => return None,
            };
        }
        Places::of(&self.text).bytes(key, node)
    }

    fn fault(&self, mark: Mark, message: String, help: Option<String>) -> Fault {
        Fault {
            file: self.file.clone(),
            line: mark.line,
            column: mark.column,
            width: mark.width,
            message,
            help,
            hidden: false,
        }
    }

    /// Marks of key and value.
    fn locate(&self, path: &[Step]) -> (Mark, Mark) {
        let mut node = &self.root;
        let mut key = node.mark;
        for step in path {
            let next = match (&node.children, step) {
                (Children::Map(map), Step::Key(name)) => {
                    map.get(name).map(|(key, value)| (*key, value))
                }
                (Children::List(list), Step::Index(at)) => {
                    list.get(*at).map(|value| (value.mark, value))
                }
                _ => None,
            };
            let Some((mark, child)) = next else { break };
            key = mark;
            node = child;
        }
        (key, node.mark)
    }
}

/// The bytes of a text by its characters.
struct Places<'a> {
    text: &'a str,
    offsets: Vec<usize>,
}

impl<'a> Places<'a> {
    fn of(text: &'a str) -> Self {
        let ends = std::iter::once(text.len());
        Self { text, offsets: text.char_indices().map(|(at, _)| at).chain(ends).collect() }
    }

    fn bytes(&self, key: Option<Mark>, node: &Node) -> Option<Bytes> {
        let key = match key {
            Some(key) => Some(self.offset(key.start)?..self.scalar_end(key)?),
            None => None,
        };
        let start = self.offset(node.mark.start)?;
        Some(Bytes { key, value: start..self.end(node)?, is_flow: self.is_flow(node) })
    }

    fn offset(&self, character: usize) -> Option<usize> {
        self.offsets.get(character).copied()
    }

    fn is_flow(&self, node: &Node) -> bool {
        let start = node.mark.start;
        let begins = match &node.children {
            Children::None => return false,
            // A list that is not indented begins, for the parser, where its first item does.
            Children::List(list) => list.first().is_some_and(|item| item.mark.start == start),
            Children::Map(map) => map.values().any(|(key, _)| key.start == start),
        };
        let text = self.offset(start).and_then(|start| self.text.get(start..));
        !begins && text.is_some_and(|text| text.starts_with(['[', '{']))
    }

    /// The end of a value. The parser ends a block only where the next token begins, so that the
    /// end of its last item counts.
    fn end(&self, node: &Node) -> Option<usize> {
        let last = match &node.children {
            _ if self.is_flow(node) => return self.offset(node.mark.end),
            Children::None => return self.scalar_end(node.mark),
            Children::Map(map) => {
                map.values().map(|(_, node)| node).max_by_key(|node| node.mark.start)
            }
            Children::List(list) => list.last(),
        };
        self.end(last?)
    }

    /// The end of a scalar. The parser ends a quoted one behind the spaces and the comment that
    /// follow it.
    fn scalar_end(&self, mark: Mark) -> Option<usize> {
        let (start, end) = (self.offset(mark.start)?, self.offset(mark.end)?);
        let text = self.text.get(start..end)?;
        let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return Some(start + text.trim_end().len());
        };
        let mut bytes = text.bytes().enumerate().skip(1).peekable();
        while let Some((at, byte)) = bytes.next() {
            let is_doubled = byte == b'\'' && bytes.peek().is_some_and(|(_, next)| *next == byte);
            if (quote == '"' && byte == b'\\') || (quote == '\'' && is_doubled) {
                bytes.next();
            } else if char::from(byte) == quote {
                return Some(start + at + 1);
            }
        }
        None
    }
}

struct Tree<'a> {
    file: &'a str,
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
}

impl<'a> Tree<'a> {
    fn document(&mut self) -> Result<Node, Box<Fault>> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.fault(
                        mark(&span),
                        "a second document in the file",
                        "write one document to a file",
                    ));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => root = Some(self.node(&event, span, 0)?),
            }
        }
        let mark = Mark { line: 1, column: 1, width: 1, ..Mark::default() };
        let empty = Node { mark, children: Children::None };
        Ok(root.unwrap_or(empty))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Box<Fault>> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Err(error)) => {
                let at = Mark {
                    line: error.marker().line(),
                    column: error.marker().col() + 1,
                    width: 1,
                    ..Mark::default()
                };
                let message = format!("not valid YAML: {}", error.info());
                Err(self.fault(
                    at,
                    &message,
                    "check indentation, quotes and brackets from here upwards",
                ))
            }
        }
    }

    fn node(&mut self, event: &Event<'a>, span: Span, depth: usize) -> Result<Node, Box<Fault>> {
        let mut mark = mark(&span);
        if depth > MAX_DEPTH {
            return Err(self.fault(
                mark,
                "nested too deeply",
                "no key of the configuration is nested so deeply",
            ));
        }
        let anchored = match event {
            Event::Alias(_) => true,
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _) => *anchor != 0,
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => false,
        };
        if anchored {
            return Err(self.fault(
                mark,
                "anchors and aliases are not taken",
                "write the value out where it is used",
            ));
        }
        let (children, bracket) = if matches!(event, Event::SequenceStart(..)) {
            self.list(depth)?
        } else if matches!(event, Event::MappingStart(..)) {
            self.map(depth)?
        } else {
            return Ok(Node { mark, children: Children::None });
        };
        // The span of a closing bracket has the comment behind it too.
        mark.end = bracket.start.index() + 1;
        Ok(Node { mark, children })
    }

    /// The items of a list, and the place of its end.
    fn list(&mut self, depth: usize) -> Result<(Children, Span), Box<Fault>> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => return Ok((Children::List(list), end)),
                (event, span) => list.push(self.node(&event, span, depth + 1)?),
            }
        }
    }

    /// The entries of a mapping, and the place of its end.
    fn map(&mut self, depth: usize) -> Result<(Children, Span), Box<Fault>> {
        let mut map: HashMap<String, (Mark, Node)> = HashMap::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, end) => return Ok((Children::Map(map), end)),
                (Event::Scalar(key, ..), span) => (key.into_owned(), mark(&span)),
                (_, span) => {
                    return Err(self.fault(
                        mark(&span),
                        "a key that is not plain text",
                        "write `key: value`",
                    ));
                }
            };
            let (event, span) = self.next()?;
            let value = self.node(&event, span, depth + 1)?;
            if let Some((first, _)) = map.get(&key) {
                let message = format!(
                    "the key `{key}` stands here a second time; the first is in line {}",
                    first.line
                );
                return Err(self.fault(at, &message, "remove one of them"));
            }
            map.insert(key, (at, value));
        }
    }

    #[expect(
        clippy::unnecessary_box_returns,
        reason = "every caller is an error path of a boxed fault"
    )]
    fn fault(&self, mark: Mark, message: &str, help: &str) -> Box<Fault> {
        Box::new(Fault {
            file: self.file.into(),
            line: mark.line,
            column: mark.column,
            width: mark.width,
            hidden: false,
            message: message.to_owned(),
            help: Some(help.to_owned()),
        })
    }
}

/// The event parser counts lines from 1 and columns from 0.
fn mark(span: &Span) -> Mark {
    let width = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Mark {
        line: span.start.line().max(1),
        column: span.start.col() + 1,
        width: width.max(1),
        start: span.start.index(),
        end: span.end.index(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn every_value_has_its_place() {
        let text = "a:\n  b: [x, yy]\n  c:\n    - d: 1\n";
        let document = Document::parse("f.yaml", text).unwrap();
        let at = |path: &[Step]| {
            let origin = document.origin(path);
            (origin.line, origin.column)
        };
        assert_eq!(at(&[key("a"), key("b"), Step::Index(1)]), (2, 10));
        assert_eq!(at(&[key("a"), key("c"), Step::Index(0), key("d")]), (4, 10));
        let fault = document.fault_at_key(&[key("a"), key("c")], String::new(), None);
        assert_eq!((fault.line, fault.column, fault.width), (3, 3, 1));
        assert_eq!(at(&[key("a"), key("zz")]), (2, 3));
    }

    #[test]
    fn every_value_has_its_bytes_in_block_and_in_flow_style() {
        let text = "a: # ä\n  \"b\": [ö, 'y y' ] # c\n  c:\n    - d: 1 # e\n      f: x  # g\n\n  \
                    h: '2''x' # 'z\n  i:\n  - [1] # x\n  - {x: \"\\\"\" } #\n";
        let document = Document::parse("f.yaml", text).unwrap();
        for (path, key, value, is_flow) in [
            (vec![key("a"), key("b")], "\"b\"", "[ö, 'y y' ]", true),
            (vec![key("a"), key("b"), Step::Index(1)], "", "'y y'", false),
            (vec![key("a"), key("c")], "c", "- d: 1 # e\n      f: x", false),
            (vec![key("a"), key("c"), Step::Index(0)], "", "d: 1 # e\n      f: x", false),
            (vec![key("a"), key("h")], "h", "'2''x'", false),
            (vec![key("a"), key("i")], "i", "[1] # x\n  - {x: \"\\\"\" }", false),
        ] {
            let bytes = document.bytes(&path).unwrap();
            assert_eq!(&text[bytes.value.clone()], value);
            assert_eq!(bytes.key.map_or("", |key| &text[key]), key);
            assert_eq!(bytes.is_flow, is_flow, "{value}");
        }
        assert_eq!(document.bytes(&[key("a"), key("z")]), None);
    }

    #[test]
    fn what_could_be_read_two_ways_or_blow_up_is_refused_with_its_place() {
        for (text, line, column, words) in [
            ("a: 1\nb: 2\na: 3\n", 3, 1, "second time"),
            ("a: &x 1\n", 1, 7, "anchors"),
            ("a: [1, 2\nb: 3\n", 2, 2, "not valid YAML"),
            ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
            ("? [a]\n: 1\n", 1, 3, "not plain text"),
        ] {
            let fault = Document::parse("f.yaml", text).unwrap_err();
            assert!(fault.message.contains(words), "{fault:?}");
            assert_eq!(fault.line, line, "{fault:?}");
            let _ = column;
        }
        assert!(Document::parse("f.yaml", &"[".repeat(200)).is_err());
        assert!(Document::parse("f.yaml", "").unwrap().value.is_mapping());
    }
}
