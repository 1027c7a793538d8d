//! XML as a tree of elements, for exports of a few megabytes.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 32;

/// An element.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The first child with a name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// Parses a document and returns its root. Entities other than XML's own five are refused, and so
/// is a document type, which could define more.
pub(super) fn root(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = vec![Element::default()];
    loop {
        let at = reader.buffer_position();
        let wrong = |fault: &dyn std::fmt::Display| {
            let before = usize::try_from(at).ok().and_then(|at| text.get(..at)).unwrap_or_default();
            format!("line {}: {fault}", before.matches('\n').count() + 1)
        };
        let event = reader.read_event().map_err(|fault| wrong(&fault))?;
        match event {
            Event::Start(start) => {
                if open.len() > MAX_DEPTH {
                    return Err(wrong(&format!("nested deeper than {MAX_DEPTH} elements")));
                }
                open.push(begin(&start).map_err(|fault| wrong(&fault))?);
            }
            Event::Empty(start) => {
                let empty = begin(&start).map_err(|fault| wrong(&fault))?;
                open.last_mut().ok_or("an element outside of everything")?.children.push(empty);
            }
            Event::End(_) => {
                let (Some(done), Some(parent)) = (open.pop(), open.last_mut()) else {
                    return Err(wrong(&"an end without a beginning"));
                };
                parent.children.push(done);
            }
            Event::Text(words) => {
                add_text(&mut open, &words.decode().map_err(|fault| wrong(&fault))?);
            }
            Event::CData(words) => {
                add_text(&mut open, &words.decode().map_err(|fault| wrong(&fault))?);
            }
            Event::GeneralRef(reference) => {
                let named = reference.decode().map_err(|fault| wrong(&fault))?;
                let character = match &*named {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => reference.resolve_char_ref().map_err(|fault| wrong(&fault))?,
                };
                let character = character
                    .ok_or_else(|| wrong(&format!("`&{named};` is no entity of XML's own")))?;
                add_text(&mut open, character.encode_utf8(&mut [0; 4]));
            }
            Event::DocType(_) => return Err(wrong(&"a document type, which exports do not have")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let (Some(mut outer), true) = (open.pop(), open.is_empty()) else {
        return Err("it ends in the middle of an element".to_owned());
    };
    outer.children.pop().ok_or_else(|| "no element in it".to_owned())
}

fn add_text(open: &mut [Element], words: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(words);
    }
}

fn begin(start: &BytesStart<'_>) -> Result<Element, String> {
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let mut attributes = BTreeMap::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|fault| fault.to_string())?;
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .map_err(|fault| fault.to_string())?;
        attributes.insert(
            String::from_utf8_lossy(attribute.key.as_ref()).into_owned(),
            value.into_owned(),
        );
    }
    Ok(Element { name, attributes, ..Element::default() })
}
