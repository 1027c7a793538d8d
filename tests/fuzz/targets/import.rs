//! Imports: any text as an OpenAPI document and as records of ServiceNow, no panic; and what is
//! made always loads, its tests hold, and the document has no drift from it.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use scopegate::names::Timestamp;
use scopegate::tooling::import::openapi::{self, Options};
use scopegate::tooling::import::servicenow::{self, Export};
use scopegate::tooling::import::{ImportFault, Note};

const NOW: Timestamp = Timestamp(1_800_000_000);

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((flags, text)) = bytes.split_first() else { return Corpus::Reject };
    let Ok(text) = std::str::from_utf8(text) else { return Corpus::Reject };
    if flags & 1 == 0 {
        of_document(*flags, text)
    } else {
        of_records(*flags, text)
    }
    Corpus::Keep
});

fn of_document(flags: u8, text: &str) {
    let has = |bit: u8| flags & (1 << bit) != 0;
    let options = Options {
        client: has(1).then(|| "app".to_owned()),
        any_scope: has(2),
        scopes_by_method: has(3),
        whole_segments: has(4),
        public: has(5),
        scope_prefix: if has(6) { "x:".to_owned() } else { String::new() },
        base_path: has(7).then(|| "/base".to_owned()),
        ..Options::default()
    };
    match openapi::import(text, &options, NOW) {
        Ok(import) => check(&import.policies, &import.notes),
        Err(fault) => refused(&fault, text),
    }
}

fn of_records(flags: u8, text: &str) {
    let export = Export {
        table: (flags & 2 != 0).then(|| "oauth_entity".to_owned()),
        name: "tables.json".to_owned(),
        text: text.to_owned(),
    };
    let options =
        servicenow::Options { upstream: "sn".to_owned(), tokens_unrestricted: flags & 4 != 0 };
    match servicenow::import(&[export], &options, NOW) {
        Ok(import) => check(&import.policies, &import.notes),
        Err(fault) => refused(&fault, text),
    }
}

fn check(policies: &str, notes: &[Note]) {
    assert!(
        !policies.lines().any(|line| line.contains(": env:") || line.contains("[env:")),
        "{policies}"
    );
    for note in notes {
        assert!(!note.about.chars().chain(note.message.chars()).any(char::is_control), "{note:?}");
    }
}

fn refused(fault: &ImportFault, text: &str) {
    assert!(matches!(fault, ImportFault::Unreadable(_)), "{fault}\n{text}");
}
