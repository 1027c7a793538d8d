//! docs/reference.yaml is complete and true, by its own marks: every key of the schema stands in it
//! with a comment, what it marks as not built is refused by name at that line, the rest loads. And
//! the generated files that ship are the ones generated now.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use scopegate::config::document::{Document, Step, Value};
use scopegate::config::schema::{Kind, NOT_BUILT, schema};
use scopegate::config::{Config, Edge, Fault, Lookup, SourceFile, Sources, load, shape};
use scopegate::names::Timestamp;
use scopegate::telemetry::record::Record;
use serde_json::Value as Json;

use crate::support::tls::{Ca, Pair};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Marks a line whose key or value is refused at load.
const MARK: &str = "# not built yet: ";
/// Begins another way to write the entry above it.
const ALTERNATIVE: &str = "# or: ";
/// The parts of the file, in order, with the line that heads each.
const PARTS: [(Kind, &str); 4] = [
    (Kind::Gateway, "# ── config/gateway.yaml ──"),
    (Kind::Clients, "# ── config/clients/*.yaml ──"),
    (Kind::Users, "# ── config/users.yaml ──"),
    (Kind::Policies, "# ── policies/*.yaml ──"),
];

static PAIR: OnceLock<Pair> = OnceLock::new();

/// What the file names besides itself.
struct Surroundings;

impl Lookup for Surroundings {
    fn env(&self, name: &str) -> Option<String> {
        (name == "SCOPEGATE_WORKERS").then(|| "2".to_owned())
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        if path == Path::new("secrets/redis") {
            return Ok(b"rediss://gateway:password@redis.example:6379/0\n".to_vec());
        }
        if path == Path::new("secrets/sn_login") {
            return Ok(b"user:password\n".to_vec());
        }
        let secrets = [
            "secrets/admin",
            "secrets/login",
            "secrets/store",
            "secrets/sentinel",
            "secrets/partner",
            "secrets/collector",
        ];
        if secrets.iter().any(|name| path == Path::new(name)) {
            return Ok(b"a-token-of-at-least-thirty-two-characters\n".to_vec());
        }
        let pair = PAIR.get_or_init(|| Ca::new().issue(&["api.example.com"]));
        match path.to_str().unwrap() {
            "tls/gateway.pem" | "tls/portal.pem" | "tls/clients.pem" | "tls/ca.pem"
            | "tls/our.pem" => {
                return Ok(pair.certificate.clone().into());
            }
            "tls/gateway.key" | "tls/portal.key" | "tls/our.key" => {
                return Ok(pair.key.clone().into());
            }
            _ => {}
        }
        // The P-256 key of RFC 7517, appendix A.1.
        let set = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
        let known = ["corp.jwks.json", "crm-sync.jwks.json", "tls/redis-ca.pem"]
            .iter()
            .any(|name| path == Path::new(name));
        known.then(|| set.into()).ok_or_else(|| "No such file".to_owned())
    }
}

/// The lines of the file, or of a variant of it. Line numbers stay those of the file: what goes is
/// left empty.
#[derive(Clone)]
struct Lines(Vec<String>);

/// Another way to write an entry: where it stands, and the lines whose place it takes.
struct Alternative {
    lines: Range<usize>,
    replaces: Range<usize>,
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What stands before the comment.
fn content(line: &str) -> &str {
    let comment = if line.trim_start().starts_with('#') { Some(0) } else { line.find(" #") };
    line[..comment.unwrap_or(line.len())].trim()
}

fn is_marked(line: &str) -> bool {
    !content(line).is_empty() && line.contains(MARK)
}

impl Lines {
    fn read() -> Self {
        let text = std::fs::read_to_string(Path::new(ROOT).join("docs/reference.yaml")).unwrap();
        Self(text.lines().map(str::to_owned).collect())
    }

    /// The entry that begins here, with what is nested below it.
    fn entry(&self, start: usize) -> Range<usize> {
        let below =
            |line: &&String| content(line).is_empty() || indent(line) > indent(&self.0[start]);
        start..start + 1 + self.0[start + 1..].iter().take_while(below).count()
    }

    /// Without the contents of these lines; comments stay.
    fn without(mut self, lines: Range<usize>) -> Self {
        for line in &mut self.0[lines] {
            if !content(line).is_empty() {
                line.clear();
            }
        }
        self
    }

    fn marked(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|at| is_marked(&self.0[*at])).collect()
    }

    /// What is built: without the marked lines and what is nested below them.
    fn built(&self) -> Self {
        self.marked().into_iter().fold(self.clone(), |lines, at| {
            let entry = self.entry(at);
            lines.without(entry)
        })
    }

    fn alternatives(&self) -> Vec<Alternative> {
        let begins = |at: &usize| self.0[*at].trim_start().starts_with(ALTERNATIVE);
        (0..self.0.len()).filter(begins).map(|at| self.alternative(at)).collect()
    }

    fn alternative(&self, at: usize) -> Alternative {
        let column = indent(&self.0[at]);
        let continues =
            |line: &&String| indent(line) == column && line.trim_start().starts_with("#   ");
        let lines = at..at + 1 + self.0[at + 1..].iter().take_while(continues).count();
        let above = (0..at).rev().find(|above| {
            !content(&self.0[*above]).is_empty() && indent(&self.0[*above]) <= column
        });
        let above = above.filter(|above| indent(&self.0[*above]) == column);
        let above = above.unwrap_or_else(|| {
            panic!("docs/reference.yaml:{}: no entry above it to stand for", at + 1)
        });
        Alternative { lines, replaces: self.entry(above) }
    }

    /// With an alternative in the place of the entry above it.
    fn with(&self, alternative: &Alternative) -> Self {
        let mut lines = self.clone().without(alternative.replaces.clone());
        for line in &mut lines.0[alternative.lines.clone()] {
            *line = line.replacen(ALTERNATIVE, "", 1).replacen(
                "# ",
                "",
                usize::from(!line.contains(ALTERNATIVE)),
            );
        }
        lines
    }

    /// The file, and the file with each of its alternatives.
    fn variants(&self) -> Vec<Self> {
        let mut variants = vec![self.clone()];
        variants.extend(self.alternatives().iter().map(|alternative| self.with(alternative)));
        variants
    }

    /// The parts as files of their own, each after as many empty lines as stand before it.
    fn parts(&self) -> Vec<(Kind, SourceFile)> {
        let mut starts = vec![0];
        starts.extend((0..self.0.len()).filter(|at| self.0[*at] == "---").map(|at| at + 1));
        assert_eq!(starts.len(), PARTS.len(), "one part for each kind of file");
        let mut parts = Vec::new();
        for (at, (kind, heading)) in PARTS.into_iter().enumerate() {
            let end = starts.get(at + 1).map_or(self.0.len(), |next| next - 1);
            let lines = &self.0[starts[at]..end];
            assert!(
                lines.iter().any(|line| line == heading),
                "the part {} is headed by `{heading}`",
                at + 1
            );
            let text = format!("{}{}\n", "\n".repeat(starts[at]), lines.join("\n"));
            parts.push((kind, SourceFile { name: format!("{}.yaml", kind.as_str()), text }));
        }
        parts
    }

    fn load(&self) -> Result<Config, Vec<Fault>> {
        let mut sources = Sources::default();
        for (kind, file) in self.parts() {
            match kind {
                Kind::Gateway => sources.gateway = Some(file),
                Kind::Clients => sources.clients.push(file),
                Kind::Users => sources.users.push(file),
                Kind::Policies => sources.policies.push(file),
            }
        }
        load(&sources, &Surroundings, Timestamp(0))
    }

    /// The faults of a load, each of which must say of something in its line that it is not built
    /// yet.
    fn not_built(&self) -> Vec<usize> {
        let faults = self.load().err().unwrap_or_default();
        for fault in &faults {
            let what = fault.message.strip_suffix(" is documented and not built yet");
            let named = what.is_some_and(|what| {
                match what.strip_prefix('`').and_then(|what| what.strip_suffix('`')) {
                    Some(name) => content(&self.0[fault.line - 1]).contains(name),
                    None => self.0[fault.line - 1].contains(what),
                }
            });
            assert!(
                named,
                "docs/reference.yaml:{}:{}: {}",
                fault.line, fault.column, fault.message
            );
        }
        faults.iter().map(|fault| fault.line).collect()
    }
}

fn numbers(lines: impl IntoIterator<Item = usize>) -> Vec<usize> {
    lines.into_iter().map(|at| at + 1).collect()
}

#[test]
fn what_the_reference_marks_as_not_built_is_refused_there_and_nothing_else_is() {
    let lines = Lines::read();
    let marked = lines.marked();
    let mut found = lines.not_built();
    // The faults come file by file in the order of their names, the parts in the order of the
    // product.
    found.sort_unstable();
    let marked = numbers(marked);
    let without = |lines: &[usize], others: &[usize]| -> Vec<usize> {
        lines.iter().copied().filter(|line| !others.contains(line)).collect()
    };
    let (unmarked, taken) = (without(&found, &marked), without(&marked, &found));
    assert!(
        found == marked,
        "refused and not marked: {unmarked:?}; marked and not refused: {taken:?}; refused: \
            {found:?}"
    );
}

#[test]
fn what_the_reference_does_not_mark_loads() {
    let built = Lines::read().built();
    let config = built.load().unwrap_or_else(|faults| panic!("{}", text_of(&faults)));
    assert_eq!(config.fixed.workers, 2, "taken from the environment");
    assert_eq!(
        config.fixed.edge,
        Edge::default(),
        "the limits of the edge stand there with their defaults"
    );
    assert_eq!(
        (config.rules.apis().len(), config.upstreams.len(), config.key_sources.len()),
        (2, 1, 3)
    );
    assert_eq!(config.rules.registry().clients().len(), 3);
}

#[test]
fn every_other_way_of_writing_loads_or_is_marked() {
    let lines = Lines::read().built();
    let alternatives = lines.alternatives();
    assert!(alternatives.len() > 10);
    for alternative in alternatives {
        let variant = lines.with(&alternative);
        let marked = alternative.lines.clone().filter(|at| is_marked(&variant.0[*at]));
        assert_eq!(
            variant.not_built(),
            numbers(marked),
            "docs/reference.yaml:{}",
            alternative.lines.start + 1
        );
    }
}

fn text_of(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_line).collect::<Vec<_>>().join("\n")
}

/// What is not built is not looked into by a load, so it is held against the schema here as if it
/// were.
#[test]
fn what_is_not_built_has_the_form_that_the_schema_gives_it() {
    fn as_if_built(schema: &mut Json) {
        match schema {
            Json::Object(members) => {
                members.remove(NOT_BUILT);
                // Facts of a token in `tests` are free in form.
                if members.get("additionalProperties") == Some(&Json::Bool(true)) {
                    members.insert(
                        "additionalProperties".to_owned(),
                        Json::Object(serde_json::Map::new()),
                    );
                }
                members.values_mut().for_each(as_if_built);
            }
            Json::Array(items) => items.iter_mut().for_each(as_if_built),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
    let lines = Lines::read();
    for variant in lines.variants() {
        for (kind, file) in variant.parts() {
            let mut schema = schema(kind);
            as_if_built(&mut schema);
            let mut document = Document::parse(&file.name, &file.text).unwrap();
            let faults = shape::check(&mut document, &schema, &Surroundings);
            assert!(faults.is_empty(), "{}", text_of(&faults));
        }
    }
}

/// Everything that a schema has a name for: `RawApi.host`, `RawMode = shadow`.
fn named(kind: Kind) -> BTreeSet<String> {
    fn collect(owner: &str, schema: &Json, names: &mut BTreeSet<String>) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            names.insert(format!("{owner}.{key}"));
            collect(&format!("{owner}.{key}"), property, names);
        }
        // What tests expect are the reasons and faults of docs/decisions.md, all of them: one here
        // stands for the others.
        if !matches!(owner, "RawExpectation" | "RawTokenFault") {
            names.extend(words(schema).map(|word| format!("{owner} = {word}")));
        }
        let nested =
            branches(schema).iter().chain([&schema["items"], &schema["additionalProperties"]]);
        nested.filter(|inner| inner.is_object()).for_each(|inner| collect(owner, inner, names));
    }
    let schema = schema(kind);
    let mut names = BTreeSet::new();
    collect(kind.as_str(), &schema, &mut names);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        collect(name, definition, &mut names);
    }
    names
}

fn words(schema: &Json) -> impl Iterator<Item = &str> {
    schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .chain([&schema["const"]])
        .filter_map(Json::as_str)
}

fn branches(schema: &Json) -> &[Json] {
    schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()).map_or(&[], Vec::as_slice)
}

/// Walks a part with its schema and collects the names that it has a comment for.
struct Coverage<'a> {
    lines: &'a Lines,
    document: &'a Document,
    root: &'a Json,
    names: BTreeSet<String>,
    path: Vec<Step>,
}

impl<'a> Coverage<'a> {
    fn of(lines: &Lines, kind: Kind, file: &SourceFile) -> BTreeSet<String> {
        let (document, root) = (Document::parse(&file.name, &file.text).unwrap(), schema(kind));
        let mut walk = Coverage {
            lines,
            document: &document,
            root: &root,
            names: BTreeSet::new(),
            path: Vec::new(),
        };
        walk.value(kind.as_str(), &root, &document.value);
        walk.names
    }

    /// The comment of the line in which the place stands: behind it, or else above it.
    fn comment(&self) -> Option<&'a str> {
        let at = self.document.fault_at_key(&self.path, String::new(), None).line - 1;
        let (line, above) = (&self.lines.0[at], &self.lines.0[at - 1]);
        let above =
            above.trim_start().strip_prefix("# ").filter(|above| !above.starts_with("or: "));
        line.find(" # ").map(|comment| &line[comment..]).or(above)
    }

    fn value(&mut self, owner: &str, schema: &'a Json, value: &'a Value) {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
            return self.value(name, &self.root["$defs"][name], value);
        }
        if let Some(text) = value.as_str() {
            // The words of a choice stand in the comment, or are the value.
            let comment = self.comment().unwrap_or_default();
            let split = || comment.split(|c: char| !c.is_alphanumeric() && c != '_');
            let said = |word: &str| {
                split().any(|said| said == word) || comment.contains(&format!("\"{word}\""))
            };
            let choices = branches(schema).iter().flat_map(words).chain(words(schema));
            self.names.extend(
                choices
                    .filter(|word| *word == text || said(word))
                    .map(|word| format!("{owner} = {word}")),
            );
        }
        for branch in branches(schema) {
            self.value(owner, branch, value);
        }
        match value {
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    let key = key.as_str().unwrap();
                    self.path.push(Step::Key(key.to_owned()));
                    if let Some(property) = schema["properties"].get(key) {
                        let name = format!("{owner}.{key}");
                        self.value(&name, property, value);
                        self.names.extend(self.comment().map(|_| name));
                    } else if let Some(entry) =
                        schema.get("additionalProperties").filter(|entry| entry.is_object())
                    {
                        self.value(owner, entry, value);
                    }
                    self.path.pop();
                }
            }
            Value::Sequence(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(at));
                    self.value(owner, &schema["items"], item);
                    self.path.pop();
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Tagged(_) => {}
        }
    }
}

/// Names of the schemas that the file does not explain.
fn unexplained(lines: &Lines) -> BTreeSet<String> {
    let mut missing: BTreeSet<String> = Kind::ALL.into_iter().flat_map(named).collect();
    for variant in lines.variants() {
        for (kind, file) in variant.parts() {
            for name in Coverage::of(&variant, kind, &file) {
                missing.remove(&name);
            }
        }
    }
    missing
}

#[test]
fn every_key_and_every_choice_of_the_schemas_stands_in_the_reference_with_a_comment() {
    let lines = Lines::read();
    assert_eq!(unexplained(&lines), BTreeSet::new());
    // The check can fail: a key that goes, a comment that goes, a choice that goes, an alternative
    // that goes.
    let find = |text: &str| lines.0.iter().position(|line| line.contains(text)).unwrap();
    for (text, name) in [
        ("write_timeout: 30s", "RawEdge.write_timeout"),
        ("token_prefix: pt_", "RawIssuer.token_prefix"),
        ("# or: login_url:", "RawLogin.login_url"),
        ("log_level: info", "RawLogLevel = debug"),
    ] {
        let mut lines = lines.clone();
        lines.0[find(text)].clear();
        assert!(unexplained(&lines).contains(name), "{name}");
    }
    let mut silent = lines.clone();
    let at = find("write_timeout: 30s");
    silent.0[at] = format!("  {}", content(&lines.0[at]));
    assert_eq!(unexplained(&silent), BTreeSet::from(["RawEdge.write_timeout".to_owned()]));
}

/// Compares a file with what is generated; with `UPDATE=1` it writes the file.
pub fn golden(path: &str, generated: &str) {
    let file = Path::new(ROOT).join(path);
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, generated).unwrap();
    }
    let stands = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(stands == generated, "{path} is not what is generated now; `make golden` writes it");
}

#[test]
fn golden_schemas_are_the_generated_ones() {
    for kind in Kind::ALL {
        let text = serde_json::to_string_pretty(&schema(kind)).unwrap();
        golden(&format!("config/schema/{}.json", kind.as_str()), &format!("{text}\n"));
    }
    let record = serde_json::to_string_pretty(&Record::schema()).unwrap();
    golden("config/schema/decision-record.json", &format!("{record}\n"));
}

#[test]
fn golden_refusal_table_is_the_generated_one() {
    golden("tests/golden/refusals.md", &scopegate::reason::table::refusals());
    golden("tests/golden/steps.md", &scopegate::reason::table::steps());
}

#[test]
fn golden_page_of_headers_is_the_generated_one() {
    golden("docs/headers.md", &scopegate::request::headers::page());
}
