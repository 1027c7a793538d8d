//! The rows of decisions.md, each on the pure function and through the running gateway, with E and
//! R where the row says any, and with no ACL, one that the caller satisfies, and one that it does
//! not.

mod agreement;
mod overridden;
mod properties;
mod settled;

use std::sync::Arc;

use scopegate::config::{Config, Lookup, SourceFile, Sources, load};
use scopegate::names::{IssuerName, Timestamp};
use scopegate::policy::{Moment, decide};
use scopegate::reason::Refusal;
use scopegate::request::Request;
use scopegate::request::credential::BearerToken;
use scopegate::request::head::{Head, Limits};
use scopegate::scope::ScopeSet;
use scopegate::token::Facts;

use crate::support::{Gateway, Setup, secret_digest, wait_for};

/// What a row says about the result.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Permit, unless an ACL forbids.
    Permit,
    /// Gate 3 decides: permit only if an ACL names the operation and is satisfied.
    Acl,
    /// This refusal, whatever the ACLs.
    Refuse(&'static str),
}

struct Row {
    number: u32,
    /// Policies besides the API.
    policies: &'static str,
    /// Scopes that the client holds.
    scopes: &'static str,
    /// E and R, where the row names them.
    enforce: Option<bool>,
    restrict: Option<bool>,
    request: (&'static str, &'static str),
    expect: Expect,
}

const API: &str = "
apis:
  items:
    base_path: /api
    upstream: api
    resources:
      /table/{tableName}: [GET, POST]
";

const SCOPES_A_B: &str = "
auth_scopes:
  A: { grants: [{ api: items }] }
  B: {}
  useraccount: {}
";

const SCOPES_NONE: &str = "
auth_scopes:
  A: {}
  B: {}
  useraccount: {}
";

const GET: (&str, &str) = ("GET", "/api/table/incident");
const POST: (&str, &str) = ("POST", "/api/table/incident");

const fn row(
    number: u32,
    policies: &'static str,
    scopes: &'static str,
    e: Option<bool>,
    r: Option<bool>,
    expect: Expect,
) -> Row {
    Row { number, policies, scopes, enforce: e, restrict: r, request: GET, expect }
}

const OFF: Option<bool> = Some(false);
const ON: Option<bool> = Some(true);
const ANY: Option<bool> = None;

fn rows() -> Vec<Row> {
    const A_ON_GET: &str =
        "auth_scopes: { A: { grants: [{ api: items, methods: [GET] }] }, B: {}, useraccount: {} }";
    const UNION: &str = "auth_scopes: { A: { grants: [{ api: items }] }, B: { grants: [{ api: \
        items }] }, useraccount: {} }";
    const NAMED_NONE: &str = "auth_scopes: { A: {}, B: {}, useraccount: {} }\naccess_policies: { \
        p: { api: items, allow: [{ clients: [@CLIENTS@] }] } }";
    const NAMED_A: &str = "auth_scopes: { A: { grants: [{ api: items }] }, B: {}, useraccount: {} \
        }\naccess_policies: { p: { api: items, allow: [{ clients: [@CLIENTS@] }] } }";
    const OTHER: &str = "auth_scopes: { A: { grants: [{ api: items }] }, B: {}, useraccount: {} \
        }\naccess_policies: { p: { api: items, allow: [{ clients: [other] }] } }";
    const NOBODY: &str = "auth_scopes: { A: { grants: [{ api: items }] }, B: {}, useraccount: {} \
        }\naccess_policies: { p: { api: items, allow: [] } }";
    const NETWORK: &str = "auth_scopes: { A: { grants: [{ api: items }] }, B: {}, useraccount: {} \
        }\naccess_policies: { p: { api: items, allow: [{ clients: [@CLIENTS@], from: \
        [192.0.2.0/24] }] } }";
    const SPECIFIC: &str = "auth_scopes: { A: { grants: [{ api: items }] }, B: {}, useraccount: {} \
        }\naccess_policies: { p: { api: items, allow: [{ clients: [@CLIENTS@] }] }, all: { \
        all_apis: true, allow: [] } }";
    const INACTIVE: &str =
        "auth_scopes: { A: { active: false, grants: [{ api: items }] }, B: {}, useraccount: {} }";
    const WHERE: &str = "auth_scopes: { A: { grants: [{ api: items, where: { tableName: [incident] \
        } }] }, B: {}, useraccount: {} }";
    const SHADOW: &str = "auth_scopes: { A: { grants: [{ api: items }] }, B: {}, useraccount: {} \
        }\naccess_policies: { p: { api: items, mode: shadow, allow: [] } }";
    use Expect::{Acl, Permit, Refuse};
    vec![
        row(1, SCOPES_NONE, "", OFF, OFF, Acl),
        row(2, SCOPES_NONE, "", OFF, ON, Refuse("scope.unscoped")),
        row(3, SCOPES_A_B, "", OFF, OFF, Refuse("scope.missing")),
        row(4, SCOPES_A_B, "A", OFF, ANY, Permit),
        row(5, SCOPES_NONE, "A", OFF, OFF, Acl),
        row(6, SCOPES_NONE, "A", OFF, ON, Refuse("scope.unscoped")),
        row(7, UNION, "B", OFF, ANY, Permit),
        Row { request: POST, ..row(8, A_ON_GET, "A", OFF, OFF, Acl) },
        Row { request: POST, ..row(9, A_ON_GET, "A", OFF, ON, Refuse("scope.unscoped")) },
        row(10, SCOPES_A_B, "A", ON, ANY, Refuse("policy.none")),
        row(11, NAMED_NONE, "", ON, OFF, Permit),
        row(12, NAMED_A, "", ON, ANY, Refuse("scope.missing")),
        row(13, OTHER, "A", ANY, ANY, Refuse("policy.profile")),
        row(14, NOBODY, "A", ANY, ANY, Refuse("policy.profile")),
        row(15, NETWORK, "A", ANY, ANY, Refuse("policy.profile")),
        row(16, SPECIFIC, "A", OFF, ANY, Permit),
        row(17, SCOPES_A_B, "useraccount", OFF, ANY, Acl),
        row(18, INACTIVE, "A", OFF, ON, Refuse("scope.unscoped")),
        Row {
            request: ("GET", "/api/table/problem"),
            ..row(19, WHERE, "A", OFF, ON, Refuse("scope.unscoped"))
        },
        row(20, SHADOW, "A", OFF, ANY, Permit),
    ]
}

/// The ACLs that each row is tried with, and what then comes of it.
const ACLS: [(&str, &str); 3] = [
    ("none", ""),
    ("satisfied", "\nacls: [{ api: items, roles: { all: [worker] } }]\n"),
    ("not satisfied", "\nacls: [{ api: items, roles: { all: [chief] } }]\n"),
];

fn expected(expect: Expect, acl: &str) -> &'static str {
    match (expect, acl) {
        (Expect::Refuse(reason), _) => reason,
        (_, "not satisfied") => "acl.role",
        (Expect::Permit, _) | (Expect::Acl, "satisfied") => "permit",
        (Expect::Acl, _) => "acl.none",
    }
}

/// One client for each setting of E and R that the row covers, and one that other rules name.
fn clients(row: &Row) -> Vec<(String, bool, bool)> {
    let mut clients = Vec::new();
    for enforce in [false, true] {
        for restrict in [false, true] {
            if row.enforce.is_none_or(|e| e == enforce)
                && row.restrict.is_none_or(|r| r == restrict)
            {
                clients.push((
                    format!("e{}r{}", u8::from(enforce), u8::from(restrict)),
                    enforce,
                    restrict,
                ));
            }
        }
    }
    clients
}

fn setup(row: &Row, acl: &str) -> Setup {
    let names: Vec<String> = clients(row).into_iter().map(|(name, ..)| name).collect();
    let mut text = "clients:\n  other: {}\n".to_owned();
    for (name, enforce, restrict) in clients(row) {
        text.push_str(&format!(
            "  {name}: {{ grants: [client_credentials], roles: [worker], secrets: [{{ sha256: \
                @SHA256@ }}], auth_scopes: [{}], \
             enforce_token_restriction: {enforce}, allow_only_selected_scopes: {restrict} }}\n",
            row.scopes
        ));
    }
    Setup::new(
        &format!("{API}\n{}\n{acl}", row.policies.replace("@CLIENTS@", &names.join(", "))),
        &text,
    )
}

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &std::path::Path) -> Result<Vec<u8>, String> {
        Err(format!("{} is not there", path.display()))
    }
}

pub fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.replace("@SHA256@", &secret_digest()) }
}

const GATEWAY: &str = "
public_url: http://127.0.0.1:1
listeners: [{ address: '127.0.0.1:1' }]
store: { embedded: { path: data } }
policies: p
clients: c
users: u
authorization_server: { grants: [client_credentials] }
upstreams: { api: { servers: ['http://127.0.0.1:2'] } }
";

pub fn config_of(setup: &Setup) -> Config {
    let sources = Sources {
        gateway: Some(file("gateway.yaml", &format!("{GATEWAY}{}", setup.gateway))),
        policies: vec![file("policies.yaml", &setup.policies)],
        clients: vec![file("clients.yaml", &setup.clients)],
        users: vec![file("users.yaml", &setup.users)],
    };
    load(&sources, &Nothing, Timestamp(0)).unwrap_or_else(|faults| {
        panic!(
            "{}",
            faults.iter().map(scopegate::config::Fault::to_line).collect::<Vec<_>>().join("\n")
        )
    })
}

pub fn request_to(method: &str, target: &str, address: Option<&str>) -> Request {
    request_with(method, target, address, "")
}

/// A request with further lines in its head.
pub fn request_with(method: &str, target: &str, address: Option<&str>, fields: &str) -> Request {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n");
    let head = Head::parse(head.as_bytes(), &Limits::default()).unwrap();
    Request::new(head, address.map(|address| address.parse().unwrap()), BearerToken::parse("token"))
}

/// Facts of a token of ours as the token endpoint gives it to a client.
pub fn own_facts(client: &str, scopes: &str) -> Facts {
    Facts {
        issuer: IssuerName::new("self"),
        key: None,
        subject: client.to_owned(),
        client: Some(client.to_owned()),
        audience: vec!["http://127.0.0.1:1".to_owned()],
        expires: Timestamp(1_000),
        not_before: None,
        issued: Some(Timestamp(0)),
        id: Some("id".to_owned()),
        authorization: None,
        scopes: Some(ScopeSet::parse(scopes).unwrap()),
        roles: Vec::new(),
        bound: false,
        claims: serde_json::Map::new(),
        unread: Vec::new(),
    }
}

pub fn verdict(outcome: &Result<scopegate::policy::Permit, Refusal>) -> String {
    match outcome {
        Ok(_) => "permit".to_owned(),
        Err(refusal) => refusal.reason.label().to_owned(),
    }
}

pub fn decide_own(config: &Config, request: &Request, client: &str, scopes: &str) -> String {
    let judgement = decide(
        &config.rules,
        request,
        |_| Ok(Arc::new(own_facts(client, scopes))),
        Moment::at(Timestamp(10)),
    );
    verdict(&judgement.outcome)
}

#[test]
fn every_row_comes_out_so_on_the_pure_function() {
    let mut wrong = Vec::new();
    for row in rows() {
        for (acl, text) in ACLS {
            let config = config_of(&setup(&row, text));
            let request = request_to(row.request.0, row.request.1, Some("127.0.0.1"));
            for (client, ..) in clients(&row) {
                let (got, expect) =
                    (decide_own(&config, &request, &client, row.scopes), expected(row.expect, acl));
                if got != expect {
                    wrong.push(format!(
                        "row {} {client}, ACL {acl}: {got} instead of {expect}",
                        row.number
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn through_the_gateway(acl: &str, text: &str) {
    let mut wrong = Vec::new();
    for row in rows() {
        let gateway = Gateway::start(&setup(&row, text));
        for (client, ..) in clients(&row) {
            gateway.upstream.clear();
            let response =
                gateway.call(row.request.0, row.request.1, Some(&gateway.token(&client)));
            let (got, expect) = (response.verdict(), expected(row.expect, acl));
            let forwarded = gateway.upstream.requests().len();
            if got != expect || forwarded != usize::from(expect == "permit") {
                wrong.push(format!(
                    "row {} {client}, ACL {acl}: {got} instead of {expect}, {forwarded} forwarded",
                    row.number
                ));
            }
        }
        if row.number == 20 && acl == "none" {
            let series = "scopegate_shadow_total{api=\"items\",reason=\"policy.profile\",rule=\"p\",verdict=\"refuse\"}";
            // Counted once the answer is out, so perhaps a moment after it.
            wait_for("both would-be refusals to be counted", || {
                gateway.metric(series).filter(|count| (*count - 2.0).abs() < 0.1)
            });
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_comes_out_so_through_the_gateway_without_acl() {
    through_the_gateway(ACLS[0].0, ACLS[0].1);
}

#[test]
fn every_row_comes_out_so_through_the_gateway_with_an_acl_that_is_satisfied() {
    through_the_gateway(ACLS[1].0, ACLS[1].1);
}

#[test]
fn every_row_comes_out_so_through_the_gateway_with_an_acl_that_is_not() {
    through_the_gateway(ACLS[2].0, ACLS[2].1);
}
