//! Paths that stand for all: one for each way in which templates of two sets can meet.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::policy::Rules;
use crate::policy::route::Segment;
use crate::tooling::replay::encode;

/// Rounds of meeting at most; templates that meet in more ways than this are rare enough to be told of.
const ROUNDS: usize = 3;
/// Values of parameters in one template at most, over all combinations.
const VALUES: usize = 64;

/// A segment of a shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Literal(String),
    Parameter,
    Rest,
}

type Shape = Vec<Part>;

/// A path to ask about, on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tooling) struct Path {
    /// The host; any that no API names when left out.
    pub(in crate::tooling) host: Option<String>,
    /// The path, canonical.
    pub(in crate::tooling) path: String,
}

/// Paths for all ways in which requests can be matched by the two sets.
pub(in crate::tooling) fn paths(old: &Rules, new: &Rules) -> Vec<Path> {
    let mut shapes: BTreeMap<Option<String>, BTreeSet<Shape>> = BTreeMap::new();
    let mut literals: HashSet<String> = HashSet::new();
    for (host, segments) in old.paths().chain(new.paths()) {
        let shape: Shape = segments.iter().map(part).collect();
        literals.extend(shape.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Parameter | Part::Rest => None,
        }));
        shapes.entry(host.map(str::to_owned)).or_default().insert(shape);
    }
    let anywhere = shapes.get(&None).cloned().unwrap_or_default();
    for (host, own) in &mut shapes {
        // A host falls back to the APIs that name none.
        if host.is_some() {
            own.extend(meets(own, &anywhere));
        }
        for _ in 0..ROUNDS {
            let found = meets(own, own);
            let before = own.len();
            own.extend(found);
            if own.len() == before {
                break;
            }
        }
    }
    let unused = unused(&literals);
    let mut paths = BTreeSet::new();
    for (host, shapes) in &shapes {
        for shape in shapes {
            for path in concrete(shape, host.as_deref(), &unused, [old, new]) {
                paths.insert(Path { host: host.clone(), path });
            }
        }
    }
    paths.into_iter().collect()
}

fn part(segment: &Segment) -> Part {
    match segment {
        Segment::Literal(text) => Part::Literal(text.clone()),
        Segment::Parameter(_) => Part::Parameter,
        Segment::Rest(_) => Part::Rest,
    }
}

/// A segment that no template has.
fn unused(literals: &HashSet<String>) -> String {
    let mut name = crate::tooling::replay::UNUSED.to_owned();
    while literals.contains(&name) {
        name.push('_');
    }
    name
}

/// The shapes of paths that a shape of each side matches. Shapes that begin with different literals do not meet.
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
            Some(_) => by_first.get(&first).into_iter().flatten().chain(&everywhere).copied().collect(),
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
            (Some(Part::Literal(text)), Some(Part::Parameter)) | (Some(Part::Parameter), Some(Part::Literal(text)))
                if !text.is_empty() =>
            {
                shape.push(Part::Literal(text.clone()));
            }
            _ => return None,
        }
    }
}

/// What is left of the other where one is a rest, which takes at least a character.
fn tail<'a>(mut shape: Shape, first: &Part, rest: impl Iterator<Item = &'a Part>) -> Option<Shape> {
    let mut left: Shape = vec![first.clone()];
    left.extend(rest.cloned());
    if matches!(left.as_slice(), [Part::Literal(text)] if text.is_empty()) {
        return None;
    }
    shape.extend(left);
    Some(shape)
}

/// Paths of a shape: parameters with every value that a condition of a set looks at, and with another.
fn concrete(shape: &[Part], host: Option<&str>, unused: &str, sets: [&Rules; 2]) -> Vec<String> {
    let plain = write(shape, &BTreeMap::new(), unused);
    let mut values: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for rules in sets {
        for (at, value) in rules.values_at(host.unwrap_or_default(), &plain) {
            values.entry(at).or_default().insert(value);
        }
    }
    let mut choices: Vec<BTreeMap<usize, &str>> = vec![BTreeMap::new()];
    for (at, values) in &values {
        let mut more = Vec::new();
        for choice in &choices {
            for value in values.iter().take(VALUES) {
                let mut next = choice.clone();
                next.insert(*at, value);
                more.push(next);
            }
        }
        choices.extend(more);
        choices.truncate(VALUES);
    }
    choices.iter().map(|choice| write(shape, choice, unused)).collect()
}

fn write(shape: &[Part], values: &BTreeMap<usize, &str>, unused: &str) -> String {
    let mut path = String::new();
    for (at, part) in shape.iter().enumerate() {
        path.push('/');
        match part {
            Part::Literal(text) => path.push_str(text),
            Part::Parameter => path.push_str(&values.get(&at).map_or_else(|| unused.to_owned(), |value| encode(value))),
            Part::Rest => {
                let value = values.get(&at).copied().unwrap_or(unused);
                path.push_str(&value.split('/').map(encode).collect::<Vec<_>>().join("/"));
            }
        }
    }
    path
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
        ] {
            assert_eq!(meet(&shape(a), &shape(b)), both.map(shape), "{a} {b}");
            assert_eq!(meet(&shape(b), &shape(a)), both.map(shape), "{b} {a}");
        }
    }
}
