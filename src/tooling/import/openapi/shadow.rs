//! Operations that are not converted and whose requests others would match: `/pets/{id}.json` next
//! to `/pets/{id}`. The matching operation is restricted to callers who may call both.

use std::cmp::Ordering;

use super::document::{Access, Server};
use crate::policy::route::before;
use crate::request::method::Method;
use crate::tooling::import::{end_of_path, has_plain_names, segments, with_literal};

/// An operation that is not converted.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    /// Method and path as in the document.
    pub(super) about: String,
    /// The method with which its requests are decided.
    pub(super) method: Method,
    /// Who may call it.
    pub(super) access: Access,
    /// The server.
    origin: Option<String>,
    /// Its path as segments, including the base path.
    path: Vec<Piece>,
}

/// A segment of a path.
#[derive(Clone, Debug)]
enum Piece {
    /// The literals around its parameters; a single one if it has none.
    Segment(Vec<String>),
    /// A parameter that may match several segments.
    Several,
}

impl Shadow {
    pub(super) fn new(
        about: &str,
        server: &Server,
        method: Method,
        access: Access,
        path: &str,
    ) -> Self {
        let path = path.get(..end_of_path(path)).unwrap_or_default();
        let base = server.base_path.trim_end_matches('/');
        let pieces = segments(base)
            .into_iter()
            .chain(segments(path).into_iter().skip(1))
            .map(Piece::of)
            .collect();
        Self {
            about: about.to_owned(),
            method,
            access,
            origin: server.origin.clone(),
            path: pieces,
        }
    }

    /// Whether a template that is not more specific matches its requests: concrete paths of a
    /// document take precedence (OpenAPI 3.1, Paths Object).
    pub(super) fn falls_on(&self, server: &Server, template: &str) -> bool {
        let full = format!("{}{template}", server.base_path.trim_end_matches('/'));
        let theirs: Vec<&str> = full.split('/').collect();
        let several = self.path.iter().position(|piece| matches!(piece, Piece::Several));
        let fits = match several {
            None => self.path.len() == theirs.len(),
            Some(at) => theirs.len() > at,
        };
        if self.origin != server.origin || !fits {
            return false;
        }
        let (mut stronger, mut weaker) = (false, false);
        for (at, segment) in theirs.iter().enumerate() {
            let piece = self
                .path
                .get(several.map_or(at, |several| at.min(several)))
                .unwrap_or(&Piece::Several);
            if !piece.may_be(segment) {
                return false;
            }
            match strength(segment).cmp(&piece.strength()) {
                Ordering::Greater => stronger = true,
                Ordering::Less => weaker = true,
                Ordering::Equal => {}
            }
        }
        weaker || !stronger
    }
}

/// How specific a segment of our templates is.
fn strength(segment: &str) -> u8 {
    match with_literal(segment) {
        Some((_, "")) => 1,
        Some(_) => 2,
        None => 3,
    }
}

impl Piece {
    fn of(segment: &str) -> Self {
        if !has_plain_names(segment) {
            return Self::Several;
        }
        let mut literals = Vec::new();
        let mut rest = segment;
        while let Some((before, behind)) = rest.split_once('{') {
            literals.push(before.to_owned());
            rest = behind.split_once('}').map_or("", |(_, behind)| behind);
        }
        literals.push(rest.to_owned());
        Self::Segment(literals)
    }

    /// How specific it is: several segments, a parameter, a partial parameter, a literal.
    fn strength(&self) -> u8 {
        match self {
            Self::Several => 0,
            Self::Segment(literals) if literals.len() == 1 => 3,
            Self::Segment(literals) if literals.iter().all(String::is_empty) => 1,
            Self::Segment(_) => 2,
        }
    }

    /// Whether it may match a segment of our templates.
    fn may_be(&self, segment: &str) -> bool {
        let Self::Segment(literals) = self else { return true };
        if let Some((_, literal)) = with_literal(segment) {
            // Only of their ends is it known that they differ.
            return literals.last().is_none_or(|last| match literals.len() {
                1 => before(last, literal).is_some() || literal.is_empty(),
                _ => last.ends_with(literal) || literal.ends_with(last.as_str()),
            });
        }
        let [first, middle @ .., last] = literals.as_slice() else {
            return literals.first().is_some_and(|only| only == segment);
        };
        let inner =
            segment.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()));
        let Some(mut rest) = inner else { return false };
        for literal in middle {
            let Some((_, behind)) = rest.split_once(literal.as_str()) else { return false };
            rest = behind;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_its_requests_and_is_not_more_specific_is_found() {
        let server =
            |base_path: &str| Server { origin: None, base_path: base_path.to_owned(), path: None };
        for (path, template, falls) in [
            ("/pets/{id}.json", "/pets/{id}", true),
            ("/pets/{id}.json", "/pets/{id}.json", true),
            ("/pets/{id}.json", "/pets/{id}.xml", false),
            ("/pets/a.json", "/pets/{id}.json", true),
            ("/pets/a.xml", "/pets/{id}.json", false),
            ("/pets/{id}.json", "/pets/a.json", false),
            ("/pets/{id}.json", "/pets/a.xml", false),
            ("/pets/{id}.json", "/pets", false),
            ("/pets/{id}.json", "/pets/{id}/x", false),
            ("/pets/{id}.json", "/{kind}/{id}", true),
            ("/pets/mine", "/pets/{id}", true),
            ("/pets/{a}", "/pets/{b}", true),
            ("/pets/mine", "/pets/yours", false),
            ("/{a}-{b}.{c}", "/{x}", true),
            ("/a/{x}", "/{y}/b", true),
            ("/pets#old", "/pets", true),
            ("/pets?x={y}", "/pets", true),
            ("/{proxy+}", "/pets/{id}", false),
            ("/{proxy+}", "/{a}", false),
            ("/f/{...p}", "/{a}/{b}/{c}", true),
            ("/f/{p:[^/?]+}", "/{a}/{b}", true),
            ("/f/{p}", "/{a}/{b}/{c}", false),
            ("/f/{p+}", "/f/x/{c}", false),
            ("/f/{p+}", "/f", false),
            ("/a/{path*}", "/pets/{id}", false),
        ] {
            let shadow = Shadow::new("GET", &server("/v1"), Method::Get, Access::Closed, path);
            assert_eq!(shadow.falls_on(&server("/v1"), template), falls, "{path} {template}");
            assert!(!shadow.falls_on(&server("/v2"), template), "{path} {template}");
            let elsewhere = Server {
                origin: Some("https://b.example".to_owned()),
                base_path: "/v1".to_owned(),
                path: None,
            };
            assert!(!shadow.falls_on(&elsewhere, template), "{path} {template}");
        }
    }
}
