//! The YAML that ships: every file loads, names its schema, and every block of README.md and
//! docs/configuration.md is what it says it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use scopegate::config::document::Document;
use scopegate::config::schema::{Kind, NOT_BUILT, schema};
use scopegate::config::{Fault, Lookup, shape};
use scopegate::system::files;
use serde_json::Value as Json;

/// The configurations that ship, by their gateway.yaml.
const CONFIGURATIONS: [&str; 2] = ["config/gateway.yaml", "deploy/compose/gateway.yaml"];
/// The folders in which YAML ships.
const FOLDERS: [&str; 3] = ["config", "policies", "deploy/compose"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below the folders with this extension, relative to the root.
fn files(folders: &[&str], extension: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.insert(path);
            }
        }
    }
    found
}

/// `scopegate check` in a folder, without the environment of whoever runs the tests.
fn check(folder: &Path, gateway: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scopegate"));
    command.current_dir(folder).env_clear().args(["check", "--config", gateway]).output().unwrap()
}

fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn every_shipped_configuration_loads() {
    for gateway in CONFIGURATIONS {
        let output = check(root(), gateway);
        assert_eq!(
            output.status.code(),
            Some(0),
            "scopegate check --config {gateway}:\n{}",
            printed(&output)
        );
    }
}

#[test]
fn every_shipped_yaml_belongs_to_a_configuration_that_loads() {
    let mut read = BTreeSet::new();
    for gateway in CONFIGURATIONS {
        let sources = files::read(&root().join(gateway)).unwrap();
        for file in sources
            .gateway
            .iter()
            .chain(&sources.policies)
            .chain(&sources.clients)
            .chain(&sources.users)
        {
            let path = std::fs::canonicalize(&file.name).unwrap();
            read.insert(
                path.strip_prefix(std::fs::canonicalize(root()).unwrap()).unwrap().to_owned(),
            );
        }
    }
    let mut shipped = files(&FOLDERS, "yaml");
    shipped.extend(files(&FOLDERS, "yml"));
    assert!(shipped.len() > 6, "{shipped:?}");
    assert_eq!(shipped, read);
}

#[test]
fn every_shipped_yaml_names_its_schema_in_its_first_line() {
    for file in files(&["config", "policies"], "yaml") {
        let kind = match (
            file.parent().and_then(Path::to_str),
            file.file_stem().and_then(|stem| stem.to_str()),
        ) {
            (Some("config"), Some("gateway")) => Kind::Gateway,
            (Some("config"), Some("users")) => Kind::Users,
            (Some("config/clients"), _) => Kind::Clients,
            (Some("policies"), _) => Kind::Policies,
            _ => panic!("{}: of what kind is it?", file.display()),
        };
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let named = first.strip_prefix("# yaml-language-server: $schema=");
        let named = named.unwrap_or_else(|| {
            panic!("{}: the first line names no schema: {first}", file.display())
        });
        let named = std::fs::canonicalize(root().join(&file).with_file_name(named))
            .unwrap_or_else(|error| panic!("{}: {named}: {error}", file.display()));
        let expected = root().join(format!("config/schema/{}.json", kind.as_str()));
        assert_eq!(named, std::fs::canonicalize(expected).unwrap(), "{}", file.display());
    }
}

/// A fenced block of a page: its line, what stands behind the backticks, its text.
struct Block {
    line: usize,
    label: String,
    text: String,
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (at, line) in page.lines().enumerate() {
        if let Some(label) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push(Block { line: at + 1, label: label.to_owned(), text: String::new() });
            }
        } else if open {
            let text = &mut blocks.last_mut().unwrap().text;
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(!open, "a block is not closed");
    blocks
}

/// No environment, no files: blocks stand for themselves.
struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        Err(format!("{} is not there", path.display()))
    }
}

/// The faults of a block: it is a part of a file, so what else the file must have is not asked
/// for.
fn faults(block: &Block) -> String {
    let words: Vec<&str> = block.label.split(' ').collect();
    let kind = Kind::ALL.into_iter().find(|kind| words.get(1) == Some(&kind.as_str()));
    let kind =
        kind.unwrap_or_else(|| panic!("docs/configuration.md:{}: yaml of what kind?", block.line));
    let mut schema = schema(kind);
    schema.as_object_mut().unwrap().remove("required");
    let text = format!("{}{}", "\n".repeat(block.line), block.text);
    match Document::parse("docs/configuration.md", &text) {
        Err(fault) => fault.to_line(),
        Ok(mut document) => {
            let faults = shape::check(&mut document, &schema, &Nothing);
            faults.iter().map(Fault::to_line).collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn every_block_of_the_page_has_the_form_of_its_schema() {
    let blocks = blocks(&page());
    let yaml: Vec<&Block> = blocks.iter().filter(|block| block.label.starts_with("yaml")).collect();
    assert!(yaml.len() > 15);
    for block in yaml {
        let (faults, wrong) = (faults(block), block.label.ends_with(" wrong"));
        assert_eq!(!faults.is_empty(), wrong, "docs/configuration.md:{}: {faults}", block.line);
    }
}

#[test]
fn the_readme_shows_yaml_that_is_right_and_the_refusal_table_that_the_code_has() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = blocks(&readme);
    let yaml: Vec<&Block> = blocks.iter().filter(|block| block.label.starts_with("yaml")).collect();
    assert!(!yaml.is_empty());
    for block in yaml {
        assert_eq!(faults(block), "", "README.md:{}", block.line);
    }
    assert!(
        readme.contains(scopegate::reason::table::refusals().trim()),
        "README.md: the refusal table is not tests/golden/refusals.md"
    );
    let decisions = std::fs::read_to_string(root().join("docs/decisions.md")).unwrap();
    assert!(
        decisions.contains(scopegate::reason::table::steps().trim()),
        "docs/decisions.md: the table of steps is not tests/golden/steps.md"
    );
}

#[test]
fn the_faults_on_the_page_are_what_check_prints() {
    let blocks = blocks(&page());
    let wrong = blocks.iter().position(|block| block.label == "yaml policies wrong").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in files(&["config", "policies"], "yaml") {
        let copy = folder.path().join(&file);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(root().join(&file), copy).unwrap();
    }
    std::fs::write(folder.path().join("policies/invoices.yaml"), &blocks[wrong].text).unwrap();
    let output = check(folder.path(), "config/gateway.yaml");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), blocks[wrong + 1].text);
}

/// Keys and values of a schema that are marked as not built.
fn not_built(schema: &Json, names: &mut BTreeSet<String>) {
    let marked = |schema: &Json| schema.get(NOT_BUILT).is_some();
    let properties = || schema["properties"].as_object().into_iter().flatten();
    names.extend(properties().filter(|(_, property)| marked(property)).map(|(key, _)| key.clone()));
    if marked(schema) {
        names.extend(schema["const"].as_str().map(str::to_owned));
        // Of a choice between mappings the key is what is not built; a property says so itself.
        if schema.get("additionalProperties") == Some(&Json::Bool(false)) {
            names.extend(properties().map(|(key, _)| key.clone()));
        }
    }
    match schema {
        Json::Object(members) => members.values().for_each(|inner| not_built(inner, names)),
        Json::Array(items) => items.iter().for_each(|inner| not_built(inner, names)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[test]
fn the_page_lists_exactly_what_is_not_built() {
    let page = page();
    let section = page.split("\n## Not built yet\n").nth(1).unwrap();
    for kind in Kind::ALL {
        let mut listed = BTreeSet::new();
        for row in section.lines().filter(|line| line.starts_with(&format!("| {}", kind.as_str())))
        {
            let keys = row.split('|').nth(2).unwrap();
            listed.extend(keys.split('`').skip(1).step_by(2).map(str::to_owned));
        }
        let mut marked = BTreeSet::new();
        not_built(&schema(kind), &mut marked);
        assert_eq!(listed, marked, "{}", kind.as_str());
    }
}
