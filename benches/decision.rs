//! The decision alone, over a token whose facts are known: the same cost at ten operations, scopes,
//! policies and clients and at a hundred thousand.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use scopegate::config::{Config, Lookup, SourceFile, Sources, load};
use scopegate::names::{IssuerName, Timestamp};
use scopegate::policy::{Moment, decide};
use scopegate::request::Request;
use scopegate::request::credential::BearerToken;
use scopegate::request::head::{Head, Limits};
use scopegate::scope::ScopeSet;
use scopegate::token::Facts;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &std::path::Path) -> Result<Vec<u8>, String> {
        Err("no files".to_owned())
    }
}

const GATEWAY: &str = "public_url: http://127.0.0.1:1\nlisteners: [{ address: '127.0.0.1:1' \
    }]\nstore: { embedded: { path: d } }\npolicies: p\nclients: c\nupstreams: { api: { servers: \
    ['http://127.0.0.1:2'] } }\n";

/// A set with this many operations, scopes, policies and clients, in files of a thousand.
fn config(size: usize) -> Config {
    let file = |name: String, text: String| SourceFile { name, text };
    let (mut policies, mut clients) = (Vec::new(), Vec::new());
    for (part, first) in (0..size).step_by(1_000).enumerate() {
        let (mut apis, mut scopes, mut rules, mut own) =
            (String::new(), String::new(), String::new(), String::new());
        for n in first..size.min(first + 1_000) {
            apis.push_str(&format!(
                "  a{n}: {{ base_path: /a{n}, upstream: api, resources: {{ '/items/{{id}}': [GET] \
                    }} }}\n"
            ));
            scopes.push_str(&format!("  s{n}: {{ grants: [{{ api: a{n}, methods: [GET] }}] }}\n"));
            rules.push_str(&format!(
                "  p{n}: {{ api: a{n}, allow: [{{ clients: [c{n}], from: [10.0.0.0/8] }}] }}\n"
            ));
            own.push_str(&format!("  c{n}: {{ auth_scopes: [s{n}] }}\n"));
        }
        policies.push(file(
            format!("p{part}"),
            format!("apis:\n{apis}auth_scopes:\n{scopes}access_policies:\n{rules}"),
        ));
        clients.push(file(format!("c{part}"), format!("clients:\n{own}")));
    }
    let gateway = Some(file("gateway".to_owned(), GATEWAY.to_owned()));
    load(&Sources { gateway, policies, clients, users: Vec::new() }, &Nothing, Timestamp(0))
        .unwrap()
}

fn benchmark(criterion: &mut Criterion) {
    for size in [10, 1_000, 100_000] {
        let config = config(size);
        let n = size / 2;
        let head = format!("GET /a{n}/items/7 HTTP/1.1\r\nHost: api.example\r\n\r\n");
        let head = Head::parse(head.as_bytes(), &Limits::default()).unwrap();
        let request =
            Request::new(head, Some("10.1.2.3".parse().unwrap()), BearerToken::parse("token"));
        let facts = Arc::new(Facts {
            issuer: IssuerName::new("self"),
            key: None,
            subject: format!("c{n}"),
            client: Some(format!("c{n}")),
            audience: vec!["http://127.0.0.1:1".to_owned()],
            expires: Timestamp(1_000),
            not_before: None,
            issued: Some(Timestamp(0)),
            id: Some("id".to_owned()),
            authorization: None,
            scopes: Some(ScopeSet::parse(&format!("s{n}")).unwrap()),
            roles: Vec::new(),
            bound: false,
            claims: serde_json::Map::new(),
            unread: Vec::new(),
        });
        let judge = || {
            decide(
                &config.rules,
                black_box(&request),
                |_| Ok(facts.clone()),
                Moment::at(Timestamp(10)),
            )
        };
        assert!(judge().outcome.is_ok());
        criterion
            .bench_function(&format!("decide, {size} operations"), |bencher| bencher.iter(judge));
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
