//! The recipes of docs/providers.md: each loads as it stands there, and what it makes of the
//! samples of tests/providers is what they and the page say, by `explain` and by a running
//! gateway. PyJWT and jose agree on signatures and claims.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::clients::installed;
use crate::support::{Gateway, Setup};
use crate::tooling::Files;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("tests/providers")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// What a fault begins with: its name, without what was seen.
fn label(fault: &str) -> &str {
    fault.split(':').next().unwrap_or_default()
}

/// A recipe with its keys and samples.
struct Provider {
    name: String,
    samples: Vec<Value>,
    documents: Vec<Value>,
}

impl Provider {
    fn all() -> Vec<Self> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(folder()).unwrap() {
            let entry = entry.unwrap();
            if entry.path().join("issuers.yaml").exists() {
                names.insert(entry.file_name().into_string().unwrap());
            }
        }
        assert!(names.len() >= 10, "{names:?}");
        names.into_iter().map(Self::read).collect()
    }

    fn read(name: String) -> Self {
        let file = folder().join(&name).join("samples.json");
        let whole: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let list = |member: &str| whole[member].as_array().unwrap().clone();
        let (samples, documents) = (list("samples"), list("documents"));
        let permitted = samples.iter().filter(|sample| text(sample, "verdict") == "permit").count();
        assert!(permitted >= 2 && samples.len() >= permitted + 3, "{name} has too few samples");
        Self { name, samples, documents }
    }

    fn file(&self, file: &str) -> String {
        std::fs::read_to_string(folder().join(&self.name).join(file)).unwrap()
    }

    /// The recipe as it stands.
    fn recipe(&self) -> Setup {
        let api = std::fs::read_to_string(folder().join("api.yaml")).unwrap();
        let policies = format!("{api}{}", self.file("policies.yaml"));
        let mut setup = Setup::new(&policies, &self.file("clients.yaml"));
        setup.gateway = self.file("issuers.yaml");
        setup.files = vec![("keys.json".to_owned(), self.file("keys.json"))];
        setup
    }

    /// The recipe with the test keys in the place of the provider's, and with what the sample
    /// changes.
    fn with_test_keys(&self, sample: &Value) -> Setup {
        let mut setup = self.recipe();
        if let Some(change) = sample["change"].as_array() {
            let (from, to) = (change[0].as_str().unwrap(), change[1].as_str().unwrap());
            assert!(setup.gateway.contains(from), "{}: there is no `{from}` to change", self.name);
            setup.gateway = setup.gateway.replace(from, to);
        }
        let lines = setup.gateway.lines().map(|line| {
            let is_keys = line.starts_with("    keys: ");
            if is_keys { "    keys: { jwks_file: keys.json }" } else { line }
        });
        let lines: Vec<&str> = lines.collect();
        setup.gateway = format!("{}\n", lines.join("\n"));
        setup
    }
}

#[test]
fn every_recipe_loads_as_it_stands_and_without_a_finding() {
    for provider in Provider::all() {
        let files = Files::of(&provider.recipe());
        let (code, output, complaints) = files.run(&["check", "--deny", "note"], "");
        assert_eq!(code, 0, "{}: {output}{complaints}", provider.name);
    }
}

/// With every fault as it is told there: `explain` has fewer words for an issuer that is not
/// known, and more for a token that is over.
#[test]
fn every_sample_is_explained_as_it_says() {
    for provider in Provider::all() {
        let unchanged = Files::of(&provider.with_test_keys(&Value::Null));
        for sample in &provider.samples {
            let name = format!("{} {}", provider.name, text(sample, "name"));
            let changed = sample.get("change").is_some();
            let changed = changed.then(|| Files::of(&provider.with_test_keys(sample)));
            let files = changed.as_ref().unwrap_or(&unchanged);
            let arguments = ["explain", text(sample, "request"), "--token"];
            let (code, told) = files.json(&arguments, text(sample, "token"));
            assert_eq!(code, 0, "{name}: {told}");
            let told = &told["explanation"];
            assert_eq!(text(told, "verdict"), text(sample, "verdict"), "{name}: {told}");
            let (said, wanted) = (text(told, "fault"), text(sample, "fault"));
            let may_differ = ["issuer", "expired"].contains(&label(wanted));
            // An unknown client is named, which samples do not repeat.
            let unknown = text(sample, "verdict") == "client.unknown";
            let named = unknown && said.starts_with("saw the client ");
            let agrees = said == wanted || (may_differ && label(said) == label(wanted)) || named;
            assert!(agrees, "{name}: {said}\nwanted: {wanted}");
        }
    }
}

#[test]
fn a_running_gateway_judges_every_sample_as_it_says() {
    for provider in Provider::all() {
        let gateway = Gateway::start(&provider.with_test_keys(&Value::Null));
        for sample in provider.samples.iter().filter(|sample| sample.get("change").is_none()) {
            let name = format!("{} {}", provider.name, text(sample, "name"));
            let (method, path) = text(sample, "request").split_once(' ').unwrap();
            let response = gateway.call(method, path, Some(text(sample, "token")));
            assert_eq!(response.verdict(), text(sample, "verdict"), "{name}: {response:?}");
            let record = gateway.record(response.header("x-decision-id").unwrap());
            let fault = text(&record, "fault");
            if text(sample, "verdict") == "client.unknown" {
                // It has the client's name, which samples do not repeat.
                assert!(fault.starts_with("saw the client "), "{name}: {record}");
            } else if text(sample, "fault") == "expired" {
                assert!(fault.starts_with("expired: exp is "), "{name}: {record}");
            } else {
                assert_eq!(fault, text(sample, "fault"), "{name}: {record}");
            }
            for (member, wanted) in sample["record"].as_object().into_iter().flatten() {
                assert_eq!(&record[member.as_str()], wanted, "{name}, {member}: {record}");
            }
        }
    }
}

/// The fenced blocks of the page that name a file or a sample: what stands behind the backticks,
/// and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        if let Some(label) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push((label.to_owned(), String::new()));
            }
        } else if open {
            let text = &mut blocks.last_mut().unwrap().1;
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(!open, "a block is not closed");
    blocks.retain(|(label, _)| label.starts_with("yaml ") || label.starts_with("json "));
    blocks
}

#[test]
fn the_page_shows_the_recipes_and_the_claims_and_says_what_the_gateway_says() {
    let page = std::fs::read_to_string(root().join("docs/providers.md")).unwrap();
    let mut blocks = blocks(&page);
    let mut take = |label: &str| {
        let at = blocks.iter().position(|(own, _)| own == label);
        let at = at.unwrap_or_else(|| panic!("docs/providers.md has no block `{label}`"));
        blocks.remove(at).1
    };
    let api = std::fs::read_to_string(folder().join("api.yaml")).unwrap();
    assert_eq!(take("yaml policies api.yaml"), api);
    let mut shown = Vec::new();
    for provider in Provider::all() {
        let name = &provider.name;
        for (kind, file) in
            [("gateway", "issuers"), ("clients", "clients"), ("policies", "policies")]
        {
            let block = take(&format!("yaml {kind} {name}/{file}.yaml"));
            assert_eq!(block, provider.file(&format!("{file}.yaml")), "{name}/{file}.yaml");
        }
        for document in &provider.documents {
            let reference = format!("{} ({})", text(document, "address"), text(document, "date"));
            assert!(page.contains(&reference), "{name}: the page lacks {reference}");
        }
        for sample in &provider.samples {
            let (about, verdict) = (text(sample, "about"), text(sample, "verdict"));
            if verdict != "permit" {
                let fault = match text(sample, "fault") {
                    "" => String::new(),
                    fault if fault.contains('`') => format!(", `` {fault} ``"),
                    fault => format!(", `{fault}`"),
                };
                let row = format!("\n| {about} | `{verdict}`{fault} | ");
                assert!(page.contains(&row), "{name}: the page lacks the row{row}");
            }
            let block = format!("json {name}/{}", text(sample, "name"));
            shown.push((name.clone(), block, sample["claims"].clone()));
        }
    }
    let mut seen = BTreeSet::new();
    for (label, json) in blocks {
        let sample = shown.iter().find(|(_, block, _)| *block == label);
        let (name, _, claims) = sample.unwrap_or_else(|| panic!("of what is the block `{label}`?"));
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(&json, claims, "{label}");
        seen.insert(name.clone());
    }
    let all: BTreeSet<String> = shown.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(seen, all, "recipes without a token on the page");
}

#[test]
fn pyjwt_and_jose_agree_on_signatures_and_claims() {
    let python = installed().join("venv/bin/python");
    for (program, script) in [(python, "check.py"), (PathBuf::from("node"), "check.mjs")] {
        let mut command = Command::new(program);
        let output =
            command.arg(folder().join(script)).env("CLIENTS", installed()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}:\n{said}{complaints}");
        let providers = said.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!(providers, Provider::all().len(), "{script}:\n{said}");
    }
}
