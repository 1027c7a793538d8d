//! From a canonical path to its operation.
//!
//! One tree of segments per host. Literal beats parameter with a literal behind it beats parameter
//! beats rest, decided segment by segment from the left; of literals behind a parameter the longest
//! wins. Two templates that this does not order have the same shape, and that is a fault at load.
//! (A radix router such as matchit refuses `/a/{x}` next to `/a/{*rest}`, which decisions.md
//! orders; hence our own tree.)

use std::collections::HashMap;
use std::sync::Arc;

use super::gate::Gates;
use crate::names::{ScopeName, Version};
use crate::request::method::{Method, MethodSet};
use crate::request::target::decode_reserved;

/// Position of an operation in its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperationId(pub(super) u32);

impl OperationId {
    /// The position as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// API + version + resource + method, with all rules for it.
#[derive(Debug)]
pub struct Operation {
    /// Index of its API.
    pub api: usize,
    /// Its version, defaults applied.
    pub version: Option<Version>,
    /// Template below base path and version.
    pub resource: Arc<str>,
    /// Method.
    pub method: Method,
    /// `GET /table/{name}`: its name in metrics and logs.
    pub label: Arc<str>,
    /// Needs no token.
    pub public: bool,
    /// The rules that decide.
    pub(super) enforced: Gates,
    /// The same with the shadow rules in their places, where that differs.
    pub(super) shadow: Option<Gates>,
    /// The scopes that grant it, sorted by name; one name may occur with several conditions.
    pub(super) grants: Vec<GrantEntry>,
}

impl Operation {
    /// The policy for it, by its position in the definitions.
    #[must_use]
    pub const fn deciding_policy(&self) -> Option<usize> {
        self.enforced.policy
    }

    /// That policy, and the one with the shadow rules in their places.
    pub fn policies(&self) -> impl Iterator<Item = usize> {
        self.enforced.policy.into_iter().chain(self.shadow.as_ref().and_then(|gates| gates.policy))
    }

    /// Whether shadow rules would decide it otherwise than the deciding ones may.
    #[must_use]
    pub const fn has_shadow(&self) -> bool {
        self.shadow.is_some()
    }

    /// Whether a scope grants it without conditions on parameters.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.grants.iter().any(|grant| grant.conditions.is_empty())
    }

    /// Whether an ACL applies to it.
    #[must_use]
    pub fn has_acl(&self) -> bool {
        !self.enforced.acls.is_empty()
    }

    /// Whether a scope or an ACL names it.
    #[must_use]
    pub fn is_named(&self) -> bool {
        !self.grants.is_empty() || !self.enforced.acls.is_empty()
    }
}

/// A scope's grant on one operation.
#[derive(Clone, Debug)]
pub(super) struct GrantEntry {
    pub(super) scope: ScopeName,
    /// Path parameters and their allowed values; empty when unconditional.
    pub(super) conditions: Arc<[(Arc<str>, Vec<String>)]>,
}

/// Path parameters that conditions check.
pub type Parameters = Vec<(Arc<str>, String)>;

/// A matched operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matched {
    /// The operation.
    pub operation: OperationId,
    /// Its parameters that a rule checks, decoded.
    pub parameters: Parameters,
}

/// The operations of one resource in one version, one for each of its methods.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    methods: MethodSet,
    /// In the order of the methods.
    operations: Vec<OperationId>,
}

impl Offer {
    /// Adds the operation of a method; methods come in their order.
    pub(super) fn push(&mut self, method: Method, operation: OperationId) {
        self.methods = self.methods.with(method);
        self.operations.push(operation);
    }

    /// The operations.
    pub(super) fn operations(&self) -> &[OperationId] {
        &self.operations
    }
}

/// The operations of a path, one for each method.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    pub(super) offer: Offer,
    /// The whole template, base path and version included.
    pub(super) segments: Vec<Segment>,
    /// Whether a condition checks one of its parameters.
    pub(super) wants_parameters: bool,
}

impl Leaf {
    pub(super) const fn methods(&self) -> MethodSet {
        self.offer.methods
    }

    pub(super) fn operation(&self, method: Method) -> Option<OperationId> {
        let methods = self.offer.methods;
        let at = methods.contains(method).then(|| methods.rank(method))?;
        self.offer.operations.get(at).copied()
    }

    /// One of its operations, whichever: all are of one resource.
    pub(super) fn any(&self) -> Option<OperationId> {
        self.offer.operations.first().copied()
    }
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Matches itself.
    Literal(String),
    /// `{name}`: one segment that is not empty.
    Parameter(Arc<str>),
    /// `{name}:literal`: one segment that ends with the literal and has at least one character
    /// before it, which is the parameter. The literal holds no escape.
    Suffixed(Arc<str>, Box<str>),
    /// `{*name}`: the rest of the path, at least one character; only last.
    Rest(Arc<str>),
}

impl Segment {
    /// The name of its parameter, if it has one.
    #[must_use]
    pub const fn parameter(&self) -> Option<&Arc<str>> {
        match self {
            Self::Literal(_) => None,
            Self::Parameter(name) | Self::Suffixed(name, _) | Self::Rest(name) => Some(name),
        }
    }
}

/// The part of a segment before a literal that it ends with: at least one character, and whole
/// escapes.
#[must_use]
pub fn before<'s>(segment: &'s str, literal: &str) -> Option<&'s str> {
    let value = segment.strip_suffix(literal)?;
    let cut = value.ends_with('%') || value.rfind('%').is_some_and(|at| at + 2 == value.len());
    (!value.is_empty() && !cut).then_some(value)
}

/// A template as it is written in YAML: the empty one, the base path itself, is `""`.
#[must_use]
pub const fn written(template: &str) -> &str {
    if template.is_empty() { "\"\"" } else { template }
}

/// Parses a template; the empty one is the base path itself.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn parse_template(template: &str) -> Result<Vec<Segment>, String> {
    if template.is_empty() {
        return Ok(Vec::new());
    }
    let Some(body) = template.strip_prefix('/') else {
        return Err(format!("`{template}` does not begin with a slash; write `/{template}`"));
    };
    let mut segments = Vec::new();
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut parts = body.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let segment = parse_segment(part, last)?;
        if let Some(name) = segment.parameter() {
            if names.contains(name) {
                return Err(format!("the parameter `{name}` occurs twice"));
            }
            names.push(name.clone());
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn parse_segment(part: &str, last: bool) -> Result<Segment, String> {
    let Some(inner) = part.strip_prefix('{') else { return parse_literal(part, last) };
    let Some((name, literal)) = inner.split_once('}') else {
        return Err(format!("`{part}`: the parameter has no closing brace"));
    };
    let (name, rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!("`{part}`: a parameter's name has letters, digits and underscores"));
    }
    if rest && !(last && literal.is_empty()) {
        return Err(format!(
            "`{part}`: a rest can only be the last segment, with nothing behind it"
        ));
    }
    if literal.is_empty() {
        return Ok(if rest { Segment::Rest(name.into()) } else { Segment::Parameter(name.into()) });
    }
    parse_suffix(part, literal)?;
    Ok(Segment::Suffixed(name.into(), literal.into()))
}

fn parse_literal(part: &str, last: bool) -> Result<Segment, String> {
    if part.contains(['{', '}']) {
        return Err(format!(
            "`{part}`: a parameter begins its segment, for instance `/{{id}}` or `/{{id}}:cancel`"
        ));
    }
    if (part.is_empty() && !last) || !crate::request::target::is_canonical_path(&format!("/{part}"))
    {
        return Err(format!("`{part}` is not a canonical path segment; no request could match it"));
    }
    Ok(Segment::Literal(part.to_owned()))
}

/// Checks the literal behind a parameter: readers must not differ on where it begins.
fn parse_suffix(part: &str, literal: &str) -> Result<(), String> {
    if literal.contains(['{', '}']) {
        return Err(format!("`{part}`: a segment has one parameter, and literals behind it only"));
    }
    if literal.contains(['%', ';']) {
        return Err(format!(
            "`{part}`: the literal behind a parameter holds no escape and no semicolon"
        ));
    }
    if !crate::request::target::is_canonical_path(&format!("/x{literal}")) {
        return Err(format!("`{part}`: no request could have `{literal}` in a segment"));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    /// The literals with an escaped reserved character, by their decoded text.
    decoded: Vec<(Box<str>, usize)>,
    /// Parameters by the literals behind them.
    suffixed: HashMap<Box<str>, usize>,
    /// The lengths of those literals, the longest first.
    lengths: Vec<usize>,
    parameter: Option<usize>,
    leaf: Option<usize>,
    rest: Option<usize>,
}

impl Node {
    /// The node after a literal; `next` where it is new.
    fn literal(&mut self, text: &str, next: usize) -> usize {
        let at = *self.literals.entry(text.into()).or_insert(next);
        let decoded = decode_reserved(text);
        if at == next && decoded != text {
            self.decoded.push((decoded.into(), next));
        }
        at
    }

    /// The node after a parameter with this literal behind it; `next` where it is new.
    fn suffix(&mut self, literal: &str, next: usize) -> usize {
        if !self.lengths.contains(&literal.len()) {
            self.lengths.push(literal.len());
            self.lengths.sort_unstable_by(|one, other| other.cmp(one));
        }
        *self.suffixed.entry(literal.into()).or_insert(next)
    }

    /// The nodes after parameters whose literal the segment ends with, the longest first.
    fn suffixes(&self, segment: &str) -> impl Iterator<Item = usize> {
        self.lengths.iter().filter_map(move |length| {
            let (_, literal) = segment.split_at_checked(segment.len().checked_sub(*length)?)?;
            let at = self.suffixed.get(literal)?;
            before(segment, literal).map(|_| *at)
        })
    }

    /// The nodes after literals that equal a segment once both are decoded.
    fn decoded(&self, decoded: &str) -> impl Iterator<Item = usize> {
        let plain = self.literals.get(decoded).copied();
        let escaped = self
            .decoded
            .iter()
            .filter(move |(literal, _)| **literal == *decoded)
            .map(|(_, at)| *at);
        plain.into_iter().chain(escaped)
    }
}

/// A tree of templates with one leaf index each.
#[derive(Debug)]
struct Tree(Vec<Node>);

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl Tree {
    /// Adds a template.
    ///
    /// # Errors
    /// The leaf already there, when another template has the same shape.
    fn insert(&mut self, segments: &[Segment], leaf: usize) -> Result<(), usize> {
        let mut at = 0;
        for segment in segments {
            let next = self.0.len();
            let Some(node) = self.0.get_mut(at) else { return Ok(()) };
            at = match segment {
                Segment::Literal(text) => node.literal(text, next),
                Segment::Suffixed(_, literal) => node.suffix(literal, next),
                Segment::Parameter(_) => *node.parameter.get_or_insert(next),
                Segment::Rest(_) => return occupy(&mut node.rest, leaf),
            };
            if at == next {
                self.0.push(Node::default());
            }
        }
        self.0.get_mut(at).map_or(Ok(()), |node| occupy(&mut node.leaf, leaf))
    }

    /// The leaf for the remaining path at this node; `path` is the part after the last slash.
    fn find(&self, at: usize, path: &str) -> Option<usize> {
        let node = self.0.get(at)?;
        let (segment, rest) =
            path.split_once('/').map_or((path, None), |(segment, rest)| (segment, Some(rest)));
        let step = |next: usize| match rest {
            Some(rest) => self.find(next, rest),
            None => self.0.get(next)?.leaf,
        };
        node.literals
            .get(segment)
            .copied()
            .and_then(step)
            .or_else(|| node.suffixes(segment).find_map(step))
            .or_else(|| node.parameter.filter(|_| !segment.is_empty()).and_then(step))
            .or_else(|| node.rest.filter(|_| !path.is_empty()))
    }

    /// The leaf for a server that treats an escaped reserved character as the character: a literal
    /// may match by its decoded text too.
    fn find_decoded(&self, at: usize, path: &str) -> Option<usize> {
        let node = self.0.get(at)?;
        let (segment, rest) =
            path.split_once('/').map_or((path, None), |(segment, rest)| (segment, Some(rest)));
        let step = |next: usize| match rest {
            Some(rest) => self.find_decoded(next, rest),
            None => self.0.get(next)?.leaf,
        };
        let decoded = decode_reserved(segment);
        let literal = node.literals.get(segment).copied().into_iter().chain(node.decoded(&decoded));
        // A literal behind a parameter holds no escape: what ends with it does so once decoded too.
        literal
            .chain(node.suffixes(&decoded))
            .find_map(step)
            .or_else(|| node.parameter.filter(|_| !segment.is_empty()).and_then(step))
            .or_else(|| node.rest.filter(|_| !path.is_empty()))
    }
}

fn occupy(place: &mut Option<usize>, leaf: usize) -> Result<(), usize> {
    if let Some(taken) = place {
        Err(*taken)
    } else {
        *place = Some(leaf);
        Ok(())
    }
}

/// Every path of every host.
#[derive(Debug, Default)]
pub(super) struct Routes {
    hosts: HashMap<String, Tree>,
    any_host: Tree,
    leaves: Vec<Leaf>,
    /// The host of each leaf.
    hosts_of: Vec<Option<String>>,
}

impl Routes {
    /// Adds a path; returns the leaf's index, or that of the existing leaf with its shape.
    pub(super) fn insert(
        &mut self,
        host: Option<&str>,
        segments: &[Segment],
        leaf: Leaf,
    ) -> Result<usize, usize> {
        let index = self.leaves.len();
        let tree = match host {
            Some(host) => self.hosts.entry(host.to_owned()).or_default(),
            None => &mut self.any_host,
        };
        tree.insert(segments, index)?;
        self.leaves.push(leaf);
        self.hosts_of.push(host.map(str::to_owned));
        Ok(index)
    }

    pub(super) fn leaf_mut(&mut self, index: usize) -> Option<&mut Leaf> {
        self.leaves.get_mut(index)
    }

    /// Every path: its host, and its segments.
    pub(super) fn paths(&self) -> impl Iterator<Item = (Option<&str>, &[Segment])> {
        self.hosts_of
            .iter()
            .map(Option::as_deref)
            .zip(self.leaves.iter().map(|leaf| leaf.segments.as_slice()))
    }

    /// The leaf for a canonical path: in the host's own tree first, then in the tree of APIs
    /// without a host.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&Leaf> {
        let path = path.strip_prefix('/')?;
        let own = self.hosts.get(host).and_then(|tree| tree.find(0, path));
        self.leaves.get(own.or_else(|| self.any_host.find(0, path))?)
    }

    /// The leaf where escapes of reserved characters count as the characters: if it differs from
    /// [`Routes::find`], it is more specific.
    pub(super) fn find_decoded(&self, host: &str, path: &str) -> Option<&Leaf> {
        let path = path.strip_prefix('/')?;
        let own = self.hosts.get(host).and_then(|tree| tree.find_decoded(0, path));
        self.leaves.get(own.or_else(|| self.any_host.find_decoded(0, path))?)
    }
}

/// Whether two readings of a path match the same leaf.
pub(super) fn is_same_leaf(one: Option<&Leaf>, other: Option<&Leaf>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => std::ptr::eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Reads the parameters of a path that matched these segments; values are percent-decoded.
pub(super) fn parameters(segments: &[Segment], path: &str) -> Parameters {
    let mut found = Vec::new();
    let mut rest = path.strip_prefix('/').unwrap_or(path);
    for segment in segments {
        let (value, tail) = rest.split_once('/').unwrap_or((rest, ""));
        match segment {
            Segment::Literal(_) => {}
            Segment::Parameter(name) => found.push((name.clone(), decode(value))),
            Segment::Suffixed(name, literal) => {
                found.push((name.clone(), decode(before(value, literal).unwrap_or(value))));
            }
            Segment::Rest(name) => found.push((name.clone(), decode(rest))),
        }
        rest = tail;
    }
    found
}

fn decode(value: &str) -> String {
    if !value.contains('%') {
        return value.to_owned();
    }
    // A value that is not UTF-8 gets replacement characters, which equal no configured value by
    // accident: a condition on it does not hold.
    percent_decode(value)
}

fn percent_decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digits = (byte == b'%').then(|| (rest.next(), rest.next()));
        let digit = |b: Option<u8>| {
            b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok())
        };
        match digits {
            Some((high, low)) => {
                bytes.push(digit(high).unwrap_or(0) << 4 | digit(low).unwrap_or(0));
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(templates: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for (leaf, template) in templates.iter().enumerate() {
            tree.insert(&parse_template(template).unwrap(), leaf).unwrap();
        }
        tree
    }

    fn find(templates: &[&str], path: &str) -> Option<usize> {
        tree(templates).find(0, path.strip_prefix('/').unwrap())
    }

    #[test]
    fn literal_beats_parameter_beats_rest_whatever_the_order() {
        let templates = ["/a/{*rest}", "/a/{x}", "/a/b", "/a/{x}/c", "/{y}/b/d", "/"];
        for (path, expect) in [
            ("/a/b", Some(2)),
            ("/a/c", Some(1)),
            ("/a/b/c", Some(3)),
            ("/a/b/d", Some(0)),
            ("/z/b/d", Some(4)),
            ("/a/b/c/d", Some(0)),
            ("/a/", None),
            ("/a", None),
            ("/a/b/", Some(0)),
            ("/", Some(5)),
            ("/A/b", None),
        ] {
            assert_eq!(find(&templates, path), expect, "{path}");
            let reversed: Vec<&str> = templates.iter().rev().copied().collect();
            assert_eq!(find(&reversed, path), expect.map(|leaf| 5 - leaf), "reversed {path}");
        }
    }

    #[test]
    fn a_dead_end_goes_back_to_the_weaker_template() {
        assert_eq!(find(&["/a/b/x", "/a/{p}/y"], "/a/b/y"), Some(1));
        assert_eq!(find(&["/a/b/x", "/{*rest}"], "/a/b/y"), Some(1));
    }

    #[test]
    fn an_escape_is_read_as_its_character_where_a_literal_has_it() {
        let decoded = |templates: &[&str], path: &str| {
            tree(templates).find_decoded(0, path.strip_prefix('/').unwrap())
        };
        let templates = ["/orders/$batch", "/orders/{id}", "/a/%24x/$y", "/a/%24x/{z}", "/{*rest}"];
        for (path, expect) in [
            ("/orders/%24batch", 0),
            ("/orders/$batch", 0),
            ("/orders/%24other", 1),
            ("/a/%24x/%24y", 2),
            // An escaped literal also matches the character.
            ("/a/$x/%24y", 2),
            ("/a/%24x/%3A", 3),
            ("/b/%24", 4),
        ] {
            assert_eq!(decoded(&templates, path), Some(expect), "{path}");
        }
        assert_eq!(find(&templates, "/orders/%24batch"), Some(1));
        assert_eq!(decoded(&["/a/$x"], "/a/%20"), None);
    }

    #[test]
    fn a_literal_behind_a_parameter_is_between_literal_and_parameter_and_the_longest_wins() {
        let templates = [
            "/o/{id}",
            "/o/{id}:x",
            "/o/{id}:y:x",
            "/o/me:x",
            "/o/{id}:x/s",
            "/o/{id}/t",
            "/p/{f}0",
            "/{*rest}",
        ];
        for (path, expect) in [
            ("/o/7:x", 1),
            ("/o/7:y:x", 2),
            ("/o/:y:x", 1),
            ("/o/me:x", 3),
            ("/o/:x", 0),
            ("/o/7:X", 0),
            ("/o/7:xx", 0),
            ("/o/7:x/s", 4),
            // A dead end goes back to the parameter.
            ("/o/7:x/t", 5),
            ("/o/7:x/", 7),
            ("/p/a0", 6),
            // The escape of a space does not end with a zero.
            ("/p/a%20", 7),
            ("/p/%200", 6),
            ("/p/0", 7),
        ] {
            assert_eq!(find(&templates, path), Some(expect), "{path}");
            let reversed: Vec<&str> = templates.iter().rev().copied().collect();
            assert_eq!(find(&reversed, path), Some(7 - expect), "reversed {path}");
        }
        let decoded =
            |path: &str| tree(&templates).find_decoded(0, path.strip_prefix('/').unwrap());
        assert_eq!(decoded("/o/7%3Ax"), Some(1));
        assert_eq!(decoded("/o/7%3Ay:x"), Some(2));
        assert_eq!(decoded("/o/%3Ax"), Some(0));
        assert_eq!(decoded("/o/me%3Ax"), Some(3));
    }

    #[test]
    fn the_parameter_is_what_is_before_the_literal() {
        let segments = parse_template("/o/{id}:x/{*rest}").unwrap();
        let found = parameters(&segments, "/o/a%3Ab:x/c");
        assert_eq!((found[0].1.as_str(), found[1].1.as_str()), ("a:b", "c"));
        assert_eq!(parse_template(""), Ok(Vec::new()));
    }

    #[test]
    fn the_same_shape_twice_is_a_conflict() {
        let mut tree = tree(&["/a/{x}"]);
        assert_eq!(tree.insert(&parse_template("/a/{y}").unwrap(), 1), Err(0));
        assert_eq!(tree.insert(&parse_template("/a/{*y}").unwrap(), 1), Ok(()));
        assert_eq!(tree.insert(&parse_template("/a/{*z}").unwrap(), 2), Err(1));
        assert_eq!(tree.insert(&parse_template("/a/{x}:v").unwrap(), 2), Ok(()));
        assert_eq!(tree.insert(&parse_template("/a/{y}:v").unwrap(), 3), Err(2));
    }

    #[test]
    fn templates_that_nothing_could_match_are_refused() {
        for bad in [
            "a", "/{x", "/x{y}", "/{}", "/{*a}/b", "/{a}/{a}", "/a//b", "/a/../b", "/a b", "/%61",
            "/{a-b}", "/ä", "/{a}%3Ab", "/{a};b", "/{a}:{b}", "/{*a}:b", "/{a}}", "/{a}b?",
            "/{a} b",
        ] {
            assert!(parse_template(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_decoded_once() {
        let segments = parse_template("/t/{name}/{*rest}").unwrap();
        let found = parameters(&segments, "/t/a%20b/c/%252F");
        assert_eq!(found[0].1, "a b");
        assert_eq!(found[1].1, "c/%2F");
    }
}
