//! Representative paths: one for each way in which templates of the two sets can overlap.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::policy::Rules;
use crate::policy::route::{Segment, before};
use crate::tooling::replay::{encode, encode_rest};

/// Most rounds of intersecting; each starts from the shapes found before.
const ROUNDS: usize = 8;
/// Most combinations of values in one template.
const VALUES: usize = 4_096;
/// Most segments tried for a rest parameter.
const DEPTH: usize = 8;

/// A segment of a shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Literal(String),
    /// A parameter with a literal behind it.
    Suffixed(String),
    Parameter,
    Rest,
}

type Shape = Vec<Part>;

/// A path to compare, on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tooling) struct Path {
    /// The host; none means a host that no API names.
    pub(in crate::tooling) host: Option<String>,
    /// The path, canonical.
    pub(in crate::tooling) path: String,
}

/// Paths for all ways in which the two sets can match requests. The second result counts the
/// templates with more combinations of values than were used.
pub(in crate::tooling) fn paths(old: &Rules, new: &Rules) -> (Vec<Path>, usize) {
    let mut shapes: BTreeMap<Option<String>, BTreeSet<Shape>> = BTreeMap::new();
    let mut literals: HashSet<String> = HashSet::new();
    let mut suffixes: BTreeSet<String> = BTreeSet::new();
    for (host, segments) in old.paths().chain(new.paths()) {
        let shape: Shape = segments.iter().map(part).collect();
        literals.extend(shape.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Suffixed(_) | Part::Parameter | Part::Rest => None,
        }));
        suffixes.extend(shape.iter().filter_map(|part| match part {
            Part::Suffixed(literal) => Some(literal.clone()),
            Part::Literal(_) | Part::Parameter | Part::Rest => None,
        }));
        shapes.entry(host.map(str::to_owned)).or_default().insert(shape);
    }
    let mut cut = 0;
    let anywhere = shapes.get(&None).cloned().unwrap_or_default();
    for (host, own) in &mut shapes {
        // A host falls back to the APIs without a host.
        if host.is_some() {
            own.extend(meets(own, &anywhere));
        }
        let grew = (0..ROUNDS).all(|_| {
            let (found, before) = (meets(own, own), own.len());
            own.extend(found);
            own.len() > before
        });
        cut += usize::from(grew);
    }
    let longest = shapes.values().flatten().map(Vec::len).max().unwrap_or_default();
    let writer = Writer {
        unused: unused(&literals, &suffixes),
        depth: longest.min(DEPTH) + 1,
        sets: [old, new],
    };
    let mut paths = BTreeSet::new();
    for (host, shapes) in &shapes {
        for shape in shapes {
            let (found, whole) = writer.concrete(shape, host.as_deref());
            cut += usize::from(!whole);
            paths.extend(found.into_iter().map(|path| Path { host: host.clone(), path }));
        }
    }
    (paths.into_iter().collect(), cut)
}

fn part(segment: &Segment) -> Part {
    match segment {
        Segment::Literal(text) => Part::Literal(text.clone()),
        Segment::Suffixed(_, literal) => Part::Suffixed(literal.to_string()),
        Segment::Parameter(_) => Part::Parameter,
        Segment::Rest(_) => Part::Rest,
    }
}

/// A segment that is in no template, and that stays the parameter in front of each literal that one
/// has behind a parameter.
fn unused(literals: &HashSet<String>, suffixes: &BTreeSet<String>) -> String {
    let is_free = |name: &String| {
        let whole = |literal: &String| {
            let segment = format!("{name}{literal}");
            let longer = |other: &&String| other.len() > literal.len();
            !literals.contains(&segment)
                && !suffixes.iter().filter(longer).any(|other| before(&segment, other).is_some())
        };
        !literals.contains(name)
            && !suffixes.iter().any(|literal| before(name, literal).is_some())
            && suffixes.iter().all(whole)
    };
    let begin = crate::tooling::replay::UNUSED;
    let underscores = (0..=literals.len()).map(|count| format!("{begin}{}", "_".repeat(count)));
    let letters =
        (b'a'..=b'z').chain(b'0'..=b'9').map(|last| format!("{begin}-{}", char::from(last)));
    underscores.chain(letters).find(is_free).unwrap_or_else(|| begin.to_owned())
}

/// The shapes of paths that a shape of each side matches. Shapes that begin with different literals
/// have none in common.
fn meets(a: &BTreeSet<Shape>, b: &BTreeSet<Shape>) -> BTreeSet<Shape> {
    let mut by_first: BTreeMap<Option<&Part>, Vec<&Shape>> = BTreeMap::new();
    for shape in b {
        let first = shape.first().filter(|part| matches!(part, Part::Literal(_)));
        by_first.entry(first).or_default().push(shape);
    }
    let everywhere = by_first.get(&None).cloned().unwrap_or_default();
    let mut found = BTreeSet::new();
    for shape in a {
        let first = shape.first().filter(|part| matches!(part, Part::Literal(_)));
        let alike: Vec<&Shape> = match first {
            Some(_) => {
                by_first.get(&first).into_iter().flatten().chain(&everywhere).copied().collect()
            }
            None => b.iter().collect(),
        };
        found.extend(alike.into_iter().filter_map(|other| meet(shape, other)));
    }
    found
}

/// The shape of the paths that both match.
fn meet(a: &[Part], b: &[Part]) -> Option<Shape> {
    let mut shape = Shape::new();
    let (mut a, mut b) = (a.iter(), b.iter());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Some(shape),
            (Some(Part::Rest), Some(other)) => return tail(shape, other, b),
            (Some(other), Some(Part::Rest)) => return tail(shape, other, a),
            (Some(Part::Literal(one)), Some(Part::Literal(other))) if one == other => {
                shape.push(Part::Literal(one.clone()));
            }
            (Some(Part::Parameter), Some(Part::Parameter)) => shape.push(Part::Parameter),
            (Some(Part::Literal(text)), Some(Part::Parameter))
            | (Some(Part::Parameter), Some(Part::Literal(text)))
                if !text.is_empty() =>
            {
                shape.push(Part::Literal(text.clone()));
            }
            (Some(Part::Literal(text)), Some(Part::Suffixed(literal)))
            | (Some(Part::Suffixed(literal)), Some(Part::Literal(text)))
                if before(text, literal).is_some() =>
            {
                shape.push(Part::Literal(text.clone()));
            }
            (Some(Part::Suffixed(literal)), Some(Part::Parameter))
            | (Some(Part::Parameter), Some(Part::Suffixed(literal))) => {
                shape.push(Part::Suffixed(literal.clone()));
            }
            (Some(Part::Suffixed(one)), Some(Part::Suffixed(other)))
                if one.ends_with(other.as_str()) || other.ends_with(one.as_str()) =>
            {
                let longer = if one.len() > other.len() { one } else { other };
                shape.push(Part::Suffixed(longer.clone()));
            }
            _ => return None,
        }
    }
}

/// The remainder of the other shape where one is a rest, which takes at least one character.
fn tail<'a>(mut shape: Shape, first: &Part, rest: impl Iterator<Item = &'a Part>) -> Option<Shape> {
    let mut left: Shape = vec![first.clone()];
    left.extend(rest.cloned());
    if matches!(left.as_slice(), [Part::Literal(text)] if text.is_empty()) {
        return None;
    }
    shape.extend(left);
    Some(shape)
}

/// Writes paths for shapes.
struct Writer<'a> {
    /// A segment that is in no template.
    unused: String,
    /// Most segments tried for a rest.
    depth: usize,
    sets: [&'a Rules; 2],
}

type Values<'a> = BTreeMap<usize, &'a str>;

impl Writer<'_> {
    /// Paths of a shape: with values that no condition names; with each combination that makes a
    /// conditional grant apply; with the special characters that an API allows; a rest with one
    /// segment and with more. `false` where some combinations are missing.
    fn concrete(&self, shape: &[Part], host: Option<&str>) -> (BTreeSet<String>, bool) {
        let host = host.unwrap_or(super::ELSEWHERE);
        let mut paths: BTreeSet<String> = BTreeSet::new();
        for rest in self.rests(shape) {
            paths.insert(self.write(shape, &Values::new(), &rest));
        }
        let mut whole = true;
        for plain in paths.clone() {
            for rules in self.sets {
                for grant in rules.conditions_at(host, &plain) {
                    let (choices, all) = choices(&grant);
                    whole &= all;
                    paths.extend(
                        choices.iter().map(|values| self.write(shape, values, &self.unused)),
                    );
                }
                let allowed = rules.allowances_at(host, &plain);
                let marks = [
                    (allowed.semicolon, ";"),
                    (allowed.encoded_slash, "%2F"),
                    (allowed.encoded_percent, "%25"),
                    (allowed.non_utf8, "%E9"),
                ];
                for (_, mark) in marks.into_iter().filter(|(allowed, _)| *allowed) {
                    let marked = format!("{0}{mark}{0}", self.unused);
                    let at = shape.iter().position(|part| !matches!(part, Part::Literal(_)));
                    paths.extend(at.map(|at| {
                        self.write_raw(shape, &Values::new(), &self.unused, Some((at, &marked)))
                    }));
                }
            }
        }
        (paths, whole)
    }

    /// The values tried for a rest; a single value where the shape has no rest.
    fn rests(&self, shape: &[Part]) -> Vec<String> {
        if !matches!(shape.last(), Some(Part::Rest)) {
            return vec![self.unused.clone()];
        }
        let deep = (1..=self.depth).map(|segments| vec![self.unused.as_str(); segments].join("/"));
        deep.flat_map(|rest| [format!("{rest}/"), rest]).collect()
    }

    fn write(&self, shape: &[Part], values: &Values<'_>, rest: &str) -> String {
        self.write_raw(shape, values, rest, None)
    }

    /// `raw` is a position and the text to write there unescaped.
    fn write_raw(
        &self,
        shape: &[Part],
        values: &Values<'_>,
        rest: &str,
        raw: Option<(usize, &str)>,
    ) -> String {
        let mut path = String::new();
        for (at, part) in shape.iter().enumerate() {
            path.push('/');
            if let Some((_, text)) = raw.filter(|(place, _)| *place == at) {
                path.push_str(text);
                if let Part::Suffixed(literal) = part {
                    path.push_str(literal);
                }
                continue;
            }
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Parameter | Part::Suffixed(_) => {
                    path.push_str(
                        &values.get(&at).map_or_else(|| self.unused.clone(), |value| encode(value)),
                    );
                    if let Part::Suffixed(literal) = part {
                        path.push_str(literal);
                    }
                }
                Part::Rest => path.push_str(&encode_rest(values.get(&at).copied().unwrap_or(rest))),
            }
        }
        path
    }
}

/// Every combination of the values that one grant requires.
fn choices<'v>(grant: &[(usize, &str, &'v [String])]) -> (Vec<Values<'v>>, bool) {
    let mut choices = vec![Values::new()];
    let mut whole = true;
    for (at, _, values) in grant {
        let pairs =
            choices.iter().flat_map(|choice| values.iter().map(move |value| (choice, value)));
        let mut next: Vec<Values<'v>> = pairs
            .take(VALUES + 1)
            .map(|(choice, value)| {
                let mut choice = choice.clone();
                choice.insert(*at, value);
                choice
            })
            .collect();
        whole &= next.len() <= VALUES;
        next.truncate(VALUES);
        choices = next;
    }
    (choices, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::parse_template;

    fn shape(template: &str) -> Shape {
        parse_template(template).unwrap().iter().map(part).collect()
    }

    #[test]
    fn templates_meet_where_a_path_is_matched_by_both() {
        for (a, b, both) in [
            ("/a/{x}", "/a/b", Some("/a/b")),
            ("/a/{x}/c", "/a/b/{y}", Some("/a/b/c")),
            ("/{*rest}", "/a/{x}", Some("/a/{x}")),
            ("/a/{*rest}", "/{x}/b/c", Some("/a/b/c")),
            ("/a/{*x}", "/a/{*y}", Some("/a/{*x}")),
            ("/a/b", "/a/c", None),
            ("/a/{x}", "/a/", None),
            ("/a/{*x}", "/a/", None),
            ("/a", "/a/{*x}", None),
            ("/a/{x}", "/a/{x}/y", None),
            ("/a/{x}:v", "/a/{y}", Some("/a/{x}:v")),
            ("/a/{x}:v", "/a/7:v", Some("/a/7:v")),
            ("/a/{x}:v", "/a/:v", None),
            ("/a/{x}:v", "/a/{x}:w", None),
            ("/a/{x}:v", "/a/{x}:u:v", Some("/a/{x}:u:v")),
            ("/a/{x}:v", "/a/{*y}", Some("/a/{x}:v")),
        ] {
            assert_eq!(meet(&shape(a), &shape(b)), both.map(shape), "{a} {b}");
            assert_eq!(meet(&shape(b), &shape(a)), both.map(shape), "{b} {a}");
        }
    }
}
