//! Small configurations and their use, for tests.

use std::path::Path;

use super::usage::{Counts, Day, Row, SecretUse, Subject};
use crate::config::{Config, Fault, Lookup, SourceFile, Sources, load};
use crate::names::Timestamp;

/// The time of the tests: noon of 2026-12-01.
pub(super) const NOW: Timestamp = Timestamp(1_796_126_400);

/// A file system and environment without content.
pub(super) struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there are no files here".to_owned())
    }
}

/// The files of a configuration. `@1@` to `@9@` are digests of secrets.
pub(super) fn sources(policies: &str, clients: &str) -> Sources {
    let digests = (1..=9).fold(clients.to_owned(), |text, number| {
        text.replace(&format!("@{number}@"), &format!("a{number}").repeat(32))
    });
    let file = |name: &str, text: &str| SourceFile { name: name.to_owned(), text: text.to_owned() };
    let gateway = "public_url: https://gateway.example\nlisteners: [{ address: 127.0.0.1:1, \
                   behind_tls: true }]\ntrusted_proxies: [127.0.0.1/32]\nstore: { embedded: { \
                   path: data } }\npolicies: policies\nclients: clients\nauthorization_server: { \
                   grants: [client_credentials, authorization_code, refresh_token, password] }\n\
                   upstreams: { api: { servers: [\"http://127.0.0.1:2\"] } }\n";
    Sources {
        gateway: Some(file("gateway.yaml", gateway)),
        policies: vec![file("policies.yaml", policies)],
        clients: vec![file("clients.yaml", &digests)],
        users: Vec::new(),
    }
}

/// The configuration of files that load.
pub(super) fn config(sources: &Sources) -> Config {
    load(sources, &Nothing, NOW).unwrap_or_else(|faults| {
        panic!("{:?}", faults.iter().map(Fault::to_line).collect::<Vec<_>>())
    })
}

/// The day so many days before the time of the tests.
pub(super) fn ago(days: i64) -> Day {
    Day::of(NOW).before(days)
}

/// Permitted requests of a client on one day.
pub(super) fn row(client: &str, api: &str, operation: &str, days: i64, permitted: u64) -> Row {
    let subject = Subject { client: client.into(), api: api.into(), operation: operation.into() };
    Row { subject, day: ago(days), counts: Counts { permitted, ..Counts::default() } }
}

/// The use of the secret whose digest has this digit.
pub(super) fn secret(client: &str, digit: u8, days: i64, networks: Option<u32>) -> SecretUse {
    let secret = format!("a{digit}").repeat(4);
    SecretUse { client: client.to_owned(), secret, last: ago(days), networks }
}
