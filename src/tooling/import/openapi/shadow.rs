//! Operations that are not carried over, and whose requests others would take: `/pets/{id}.json` beside `/pets/{id}`. What takes them
//! lets in only who may call both.

use super::document::{Access, Server};
use crate::request::method::Method;

/// An operation that is not carried over.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    /// Method and path as the document has them.
    pub(super) about: String,
    /// As which its requests are judged.
    pub(super) method: Method,
    /// Who may call it.
    pub(super) access: Access,
    /// Its path, base path included, by segments.
    segments: Vec<Piece>,
}

/// A segment of a path.
#[derive(Clone, Debug)]
enum Piece {
    /// The literals before, between and behind its parameters; one where there are none.
    Segment(Vec<String>),
    /// A parameter that may be several segments.
    Several,
}

impl Shadow {
    pub(super) fn new(about: &str, server: &Server, method: Method, access: Access, path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let full = format!("{}{path}", server.base_path.trim_end_matches('/'));
        Self { about: about.to_owned(), method, access, segments: full.split('/').map(piece).collect() }
    }

    /// Whether a path of it may be one of a template.
    pub(super) fn falls_on(&self, base_path: &str, template: &str) -> bool {
        let full = format!("{}{template}", base_path.trim_end_matches('/'));
        let segments: Vec<&str> = full.split('/').collect();
        if self.segments.iter().any(|piece| matches!(piece, Piece::Several)) {
            return segments.len() + 1 >= self.segments.len() && self.begins_like(&segments);
        }
        self.segments.len() == segments.len() && self.begins_like(&segments)
    }

    fn begins_like(&self, segments: &[&str]) -> bool {
        let ordinary = self.segments.iter().take_while(|piece| !matches!(piece, Piece::Several));
        ordinary.zip(segments).all(|(piece, segment)| match piece {
            Piece::Segment(literals) => segment.starts_with('{') || may_be(literals, segment),
            Piece::Several => true,
        })
    }
}

fn piece(segment: &str) -> Piece {
    if segment.contains("{+") || segment.contains("{*") || segment.contains("+}") || segment.contains("*}") {
        return Piece::Several;
    }
    let mut literals = Vec::new();
    let mut rest = segment;
    while let Some((before, behind)) = rest.split_once('{') {
        literals.push(before.to_owned());
        rest = behind.split_once('}').map_or("", |(_, behind)| behind);
    }
    literals.push(rest.to_owned());
    Piece::Segment(literals)
}

/// Whether a text has these literals in their order, at its begin and its end the outer ones.
fn may_be(literals: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = literals else { return literals.first().is_some_and(|only| only == text) };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return false;
    };
    for literal in middle {
        let Some((_, behind)) = rest.split_once(literal.as_str()) else { return false };
        rest = behind;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_take_its_requests_is_found() {
        let server = Server { origin: None, base_path: "/v1".to_owned() };
        for (path, template, falls) in [
            ("/pets/{id}.json", "/pets/{id}", true),
            ("/pets/{id}.json", "/pets/a.json", true),
            ("/pets/{id}.json", "/pets/a.xml", false),
            ("/pets/{id}.json", "/pets", false),
            ("/pets/{id}.json", "/pets/{id}/x", false),
            ("/pets/mine", "/pets/{id}", true),
            ("/pets/mine", "/pets/mine", true),
            ("/pets/mine", "/pets/yours", false),
            ("/{a}-{b}.{c}", "/x-y.z", true),
            ("/{a}-{b}.{c}", "/x.y-z", false),
            ("/pets#old", "/pets", true),
            ("/pets?x={y}", "/pets", true),
            ("/{+path}", "/pets/{id}", true),
            ("/a/{path*}", "/pets/{id}", false),
        ] {
            let shadow = Shadow::new("GET", &server, Method::Get, Access::Closed, path);
            assert_eq!(shadow.falls_on("/v1", template), falls, "{path} {template}");
            assert!(!shadow.falls_on("/v2", template), "{path} {template}");
        }
    }
}
