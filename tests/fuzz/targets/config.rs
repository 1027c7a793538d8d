//! The configuration's loader (F7): any four texts, no panic, every fault at a place that exists,
//! and the same text the same configuration.
#![no_main]

use std::path::Path;

use libfuzzer_sys::{Corpus, fuzz_target};
use scopegate::config::document::Document;
use scopegate::config::{Fault, Lookup, SourceFile, Sources, load, locations};
use scopegate::names::Timestamp;

/// Between the files, where an input has several.
const CUT: &str = "\n=====\n";

const GATEWAY: &str = "public_url: http://127.0.0.1:1\nlisteners: [{ address: '127.0.0.1:1' \
    }]\nstore: { embedded: { path: d } }\n\
                       policies: p\nclients: c\nusers: u\nauthorization_server: { grants: \
                       [client_credentials] }\n\
                       upstreams: { api: { servers: ['http://127.0.0.1:2'] } }\n";
const POLICIES: &str = "apis: { a: { base_path: /a, upstream: api, resources: { /x: [GET] } } \
    }\nauth_scopes: { s: { grants: [{ api: a }] } }\n";
const CLIENTS: &str = "clients: { c: { grants: [client_credentials], auth_scopes: [s] } }\n";
const USERS: &str = "users: { u: { roles: [r] } }\n";

/// An environment that gives back what it is asked for, and one file that is there.
struct Fake;

impl Lookup for Fake {
    fn env(&self, name: &str) -> Option<String> {
        (!name.starts_with('_')).then(|| format!("{name} from the environment"))
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        if path.ends_with("keys.json") {
            Ok(br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#
                .to_vec())
        } else {
            Err("is not there".to_owned())
        }
    }
}

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.to_owned() }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    let parts: Vec<&str> = text.split(CUT).collect();
    let texts = match parts[..] {
        [gateway, policies, clients, users] => [gateway, policies, clients, users],
        // One text stands next to three good ones, in the place that its first character names.
        [text] => match text.split_at_checked(1) {
            Some(("g", gateway)) => [gateway, POLICIES, CLIENTS, USERS],
            Some(("p", policies)) => [GATEWAY, policies, CLIENTS, USERS],
            Some(("c", clients)) => [GATEWAY, POLICIES, clients, USERS],
            Some(("u", users)) => [GATEWAY, POLICIES, CLIENTS, users],
            _ => return Corpus::Reject,
        },
        _ => return Corpus::Reject,
    };
    // What is no YAML is found sooner without the other files.
    for text in texts {
        if let Err(fault) = Document::parse("x.yaml", text) {
            check_fault(&fault, text);
            return Corpus::Keep;
        }
    }
    let [gateway, policies, clients, users] = texts;
    check(&Sources {
        gateway: Some(file("gateway.yaml", gateway)),
        policies: vec![file("policies.yaml", policies)],
        clients: vec![file("clients.yaml", clients)],
        users: vec![file("users.yaml", users)],
    });
    Corpus::Keep
});

/// A fault stands at a place that exists, and can be shown.
fn check_fault(fault: &Fault, text: &str) {
    assert!(fault.line >= 1 && fault.column >= 1 && !fault.message.is_empty(), "{fault:?}");
    // YAML ends lines with CR too (YAML 1.2.2 §5.4); what is missing at the end is missed in the
    // line behind it.
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
    assert!(fault.line <= lines + 1, "{fault:?} of {lines} lines");
    assert!(fault.to_line().contains(&fault.message));
    assert!(!fault.render(text, false).is_empty());
}

fn check(sources: &Sources) {
    if let Some(gateway) = &sources.gateway {
        let _ = locations(gateway, &Fake);
    }
    match load(sources, &Fake, Timestamp(1_800_000_000)) {
        Ok(config) => {
            let again = load(sources, &Fake, Timestamp(1_800_000_000))
                .expect("the same text, the same configuration");
            assert_eq!(config.version, again.version);
            assert!(config.fixed.differences(&again.fixed).is_empty());
            assert_eq!(config.key_sources, again.key_sources);
            assert_eq!(config.upstreams, again.upstreams);
            assert_eq!(config.rules.operations().len(), again.rules.operations().len());
            // Exposed to nobody by mistake: plain HTTP on loopback alone, or where the text says
            // otherwise.
            let said =
                sources.gateway.as_ref().is_some_and(|file| file.text.contains("behind_tls"));
            assert!(
                said || config
                    .fixed
                    .listeners
                    .iter()
                    .all(|listener| listener.tls || listener.address.ip().is_loopback())
            );
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without saying why");
            // Each is shown in time that grows with its file; the first ones stand for all.
            for fault in faults.into_iter().take(20) {
                let text = sources.text(&fault.file).expect("a file of the set");
                check_fault(&fault, text);
            }
        }
    }
}
