//! The properties of decisions.md, over random policy sets.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use scopegate::config::{Config, Sources, load};
use scopegate::names::Timestamp;
use scopegate::policy::{Moment, decide};

use crate::support::Setup;

use super::{GATEWAY, Nothing, config_of, decide_own, file, own_facts, request_to, verdict};

pub const SCOPES: [&str; 3] = ["s0", "s1", "s2"];
pub const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
pub const RESOURCES: [&str; 4] = ["/a", "/b/{id}", "/b/{id}:x", ""];
pub const PATHS: [&str; 8] =
    ["/one/a", "/one/b/7", "/one/b/7:x", "/one", "/two/a", "/two/b/x", "/two/b/x:x", "/two"];
/// The API whose requests may name their method in a header.
const OVERRIDING: &str = "one";
const ROLES: [&str; 2] = ["r0", "r1"];
pub const CLIENTS: [&str; 3] = ["c0", "c1", "c2"];

/// A narrowing: methods and resources, or none.
fn narrowing() -> impl Strategy<Value = String> {
    (proptest::option::of(0..METHODS.len()), proptest::option::of(0..RESOURCES.len())).prop_map(
        |(method, resource)| {
            let mut text = String::new();
            if let Some(at) = method {
                text.push_str(&format!(", methods: [{}]", METHODS[at]));
            }
            if let Some(at) = resource {
                text.push_str(&format!(", resources: [\"{}\"]", RESOURCES[at]));
            }
            text
        },
    )
}

fn api() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("one"), Just("two")]
}

fn profile() -> impl Strategy<Value = String> {
    (
        proptest::option::of(vec(0..3_usize, 1..3)),
        proptest::option::of(0..2_usize),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(clients, role, restricted, inside)| {
            let mut parts = Vec::new();
            if let Some(clients) = clients {
                let names: BTreeSet<&str> = clients.into_iter().map(|at| CLIENTS[at]).collect();
                parts.push(format!(
                    "clients: [{}]",
                    names.into_iter().collect::<Vec<_>>().join(", ")
                ));
            }
            if let Some(at) = role {
                parts.push(format!("roles: {{ any: [{}] }}", ROLES[at]));
            }
            if !inside {
                parts.push("from: [192.0.2.0/24]".to_owned());
            }
            // A profile that names nothing is a load error.
            if restricted || parts.is_empty() {
                parts.push("restricted_clients: true".to_owned());
            }
            format!("{{ {} }}", parts.join(", "))
        })
}

/// The rules of a random set, each as text, so that they can be put into files in any order.
#[derive(Clone, Debug)]
pub struct Set {
    pub grants: Vec<(usize, String)>,
    pub policies: Vec<String>,
    pub acls: Vec<String>,
    pub clients: Vec<(Vec<usize>, bool, bool, usize)>,
}

pub fn set() -> impl Strategy<Value = Set> {
    let grant = (0..3_usize, api(), narrowing())
        .prop_map(|(scope, api, narrowing)| (scope, format!("{{ api: {api}{narrowing} }}")));
    let policy = (proptest::option::of(api()), narrowing(), any::<bool>(), vec(profile(), 0..3))
        .prop_map(|(api, narrowing, shadow, profiles)| {
            let about = match api {
                Some(api) => format!("api: {api}{narrowing}"),
                None => "all_apis: true".to_owned(),
            };
            let mode = if shadow { "shadow" } else { "enforce" };
            format!("{{ {about}, mode: {mode}, allow: [{}] }}", profiles.join(", "))
        });
    let acl = (api(), narrowing(), 0..2_usize).prop_map(|(api, narrowing, role)| {
        format!("{{ api: {api}{narrowing}, roles: {{ all: [{}] }} }}", ROLES[role])
    });
    let client = (vec(0..3_usize, 0..3), any::<bool>(), any::<bool>(), 0..3_usize);
    (vec(grant, 0..4), vec(policy, 0..3), vec(acl, 0..3), vec(client, 3))
        .prop_map(|(grants, policies, acls, clients)| Set { grants, policies, acls, clients })
}

impl Set {
    /// The files; `reversed` turns the order of files and of rules in them round.
    pub fn files(&self, reversed: bool) -> (Vec<String>, String) {
        let apis = ["one", "two"].map(|name| {
            format!(
                "  {name}: {{ base_path: /{name}, upstream: api, method_override: {}, resources: \
                {{ \"/a\": [GET, POST, DELETE], \"/b/{{id}}\": [GET, POST, DELETE], \
                \"/b/{{id}}:x\": [POST, DELETE], \"\": [GET, POST, DELETE] }} }}\n",
                name == OVERRIDING
            )
        });
        let mut scopes: Vec<String> = SCOPES
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let mut grants: Vec<&str> = self
                    .grants
                    .iter()
                    .filter(|(scope, _)| *scope == at)
                    .map(|(_, text)| text.as_str())
                    .collect();
                if reversed {
                    grants.reverse();
                }
                format!("  {name}: {{ grants: [{}] }}\n", grants.join(", "))
            })
            .collect();
        let mut policies: Vec<String> = self
            .policies
            .iter()
            .enumerate()
            .map(|(at, text)| format!("  p{at}: {text}\n"))
            .collect();
        let mut acls: Vec<String> = self.acls.iter().map(|text| format!("  - {text}\n")).collect();
        if reversed {
            scopes.reverse();
            policies.reverse();
            acls.reverse();
        }
        let section = |name: &str, entries: Vec<String>| {
            if entries.is_empty() {
                String::new()
            } else {
                format!("{name}:\n{}", entries.concat())
            }
        };
        let mut files = vec![
            section("apis", apis.to_vec()),
            section("auth_scopes", scopes),
            section("access_policies", policies),
            section("acls", acls),
        ];
        if reversed {
            files.reverse();
        }
        (files, self.clients_file())
    }

    fn clients_file(&self) -> String {
        let mut text = "clients:\n".to_owned();
        for (name, (scopes, enforce, restrict, role)) in CLIENTS.iter().zip(&self.clients) {
            let scopes: BTreeSet<&str> = scopes.iter().map(|at| SCOPES[*at]).collect();
            let roles = ROLES.get(*role).copied().unwrap_or_default();
            text.push_str(&format!(
                "  {name}: {{ grants: [client_credentials], secrets: [{{ sha256: @SHA256@ }}], \
                    auth_scopes: [{}], roles: [{roles}], \
                 enforce_token_restriction: {enforce}, allow_only_selected_scopes: {restrict} }}\n",
                scopes.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        text
    }

    /// The set compiled; `None` where two policies tie, which is a load error and no set.
    pub fn config(&self, reversed: bool) -> Option<Config> {
        let (files, clients) = self.files(reversed);
        let sources = Sources {
            gateway: Some(file("gateway.yaml", GATEWAY)),
            policies: files
                .iter()
                .enumerate()
                .map(|(at, text)| file(&format!("{at}.yaml"), text))
                .collect(),
            clients: vec![file("clients.yaml", &clients)],
            users: vec![file("users.yaml", "users: {}")],
        };
        match load(&sources, &Nothing, Timestamp(0)) {
            Ok(config) => Some(config),
            Err(faults) => {
                assert!(
                    faults.iter().all(|fault| fault.message.contains("equally specific")),
                    "{faults:?}"
                );
                None
            }
        }
    }

    pub fn held(&self, client: usize) -> BTreeSet<&'static str> {
        self.clients[client].0.iter().map(|at| SCOPES[*at]).collect()
    }
}

fn verdicts(config: &Config, set: &Set) -> Vec<String> {
    let mut verdicts = Vec::new();
    for (at, client) in CLIENTS.iter().enumerate() {
        let scopes: Vec<&str> = set.held(at).into_iter().collect();
        for path in PATHS {
            for method in METHODS {
                let request = request_to(method, path, Some("127.0.0.1"));
                verdicts.push(format!(
                    "{client} {method} {path}: {}",
                    decide_own(config, &request, client, &scopes.join(" "))
                ));
            }
        }
    }
    verdicts
}

/// Decision by the words of decisions.md, over the declarations, without tables: slow and plain.
pub mod naive {
    use std::collections::BTreeSet;

    use super::{CLIENTS, OVERRIDING, RESOURCES, ROLES, SCOPES, Set};
    use serde_json::Value;

    /// The API and the resource of a path.
    pub fn meant(path: &str) -> (&str, &'static str) {
        let (api, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let resource = match rest.split_once('/') {
            None if rest.is_empty() => RESOURCES[3],
            None => RESOURCES[0],
            Some((_, id)) if id.len() > 2 && id.ends_with(":x") => RESOURCES[2],
            Some(_) => RESOURCES[1],
        };
        (api, resource)
    }

    /// The method that a request to an API is judged as, with the one that a header names.
    pub fn judged<'m>(
        api: &str,
        method: &'m str,
        named: Option<&'m str>,
    ) -> Result<&'m str, &'static str> {
        match named {
            Some(named) if api == OVERRIDING => Ok(named),
            Some(_) => Err("request.malformed"),
            None => Ok(method),
        }
    }

    fn parse(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    fn has(list: &Value, name: &str) -> bool {
        list.as_array().is_none_or(|list| list.iter().any(|own| own == name))
    }

    fn selects(rule: &Value, api: &str, method: &str, resource: &str) -> bool {
        (rule["all_apis"] == true || rule["api"] == api)
            && has(&rule["methods"], method)
            && has(&rule["resources"], resource)
    }

    fn strength(rule: &Value) -> u8 {
        let part = |key: &str| !rule[key].is_null();
        match (part("api"), part("methods"), part("resources")) {
            (true, true, true) => 6,
            (true, false, true) => 5,
            (true, true, false) => 4,
            (true, false, false) => 3,
            (false, true, _) => 2,
            (false, false, _) => 1,
        }
    }

    /// `scopes` are those of the token, `inside` whether it comes from 192.0.2.0/24.
    pub fn decide(
        set: &Set,
        client: usize,
        (api, method, resource): (&str, &str, &str),
        scopes: &BTreeSet<&str>,
        inside: bool,
    ) -> &'static str {
        if resource == RESOURCES[2] && method == "GET" {
            return "operation.method";
        }
        let (_, enforce, restrict, role) = &set.clients[client];
        let role = ROLES.get(*role).copied();
        let covers = |profile: &&Value| {
            has(&profile["clients"], CLIENTS[client])
                && profile["roles"]["any"]
                    .as_array()
                    .is_none_or(|roles| roles.iter().any(|own| Some(own.as_str().unwrap()) == role))
                && (profile["from"].is_null() || inside)
        };
        let policies: Vec<Value> = set.policies.iter().map(|text| parse(text)).collect();
        let picked = policies
            .iter()
            .filter(|policy| policy["mode"] == "enforce" && selects(policy, api, method, resource))
            .max_by_key(|policy| strength(policy));
        let mut named = false;
        match picked {
            None if *enforce => return "policy.none",
            None => {}
            Some(policy) => {
                let profiles = policy["allow"].as_array().unwrap();
                let covering: Vec<&Value> = profiles.iter().filter(covers).collect();
                let naming = covering.iter().any(|profile| {
                    !profile["clients"].is_null() || profile["restricted_clients"] == true
                });
                if covering.is_empty() || (*enforce && !naming) {
                    return "policy.profile";
                }
                named = !policy["api"].is_null();
            }
        }
        let granting: Vec<&str> = set
            .grants
            .iter()
            .filter(|(_, grant)| selects(&parse(grant), api, method, resource))
            .map(|(scope, _)| SCOPES[*scope])
            .collect();
        let held = set.held(client);
        if granting.iter().any(|scope| held.contains(scope) && scopes.contains(scope)) {
            named = true;
        } else if !granting.is_empty() {
            return "scope.missing";
        } else if *restrict {
            return "scope.unscoped";
        }
        let acls: Vec<Value> = set
            .acls
            .iter()
            .map(|text| parse(text))
            .filter(|acl| selects(acl, api, method, resource))
            .collect();
        if acls.iter().any(|acl| {
            acl["roles"]["all"]
                .as_array()
                .unwrap()
                .iter()
                .any(|own| Some(own.as_str().unwrap()) != role)
        }) {
            return "acl.role";
        }
        if acls.is_empty() && !named { "acl.none" } else { "permit" }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_compiled_tables_agree_with_a_naive_reading(set in set()) {
        if let Some(config) = set.config(false) {
            for (at, client) in CLIENTS.iter().enumerate() {
                for path in PATHS {
                    let (api, resource) = naive::meant(path);
                    for method in METHODS {
                        let scopes: Vec<&str> = set.held(at).into_iter().collect();
                        let got = decide_own(&config, &request_to(method, path, Some("127.0.0.1")),
                            client, &scopes.join(" "));
                        prop_assert_eq!(got, naive::decide(&set, at, (api, method, resource),
                            &set.held(at), false), "{} {} {}", client, method, path);
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_of_files_and_rules_does_not_matter(set in set()) {
        let (forward, backward) = (set.config(false), set.config(true));
        prop_assert_eq!(forward.is_some(), backward.is_some());
        if let (Some(forward), Some(backward)) = (forward, backward) {
            prop_assert_eq!(verdicts(&forward, &set), verdicts(&backward, &set));
        }
    }

    #[test]
    fn more_scopes_never_lose_a_permit(set in set(), more in 0..3_usize) {
        if let Some(config) = set.config(false) {
            for client in CLIENTS {
                for path in PATHS {
                    let request = request_to("GET", path, Some("127.0.0.1"));
                    let token = |scopes: &str| {
                        let judgement = decide(&config.rules, &request,
                            |_| Ok(Arc::new(own_facts(client, scopes))), Moment::at(Timestamp(10)));
                        verdict(&judgement.outcome)
                    };
                    if token("s0") == "permit" {
                        prop_assert_eq!(token(&format!("s0 {}", SCOPES[more])), "permit");
                    }
                    if token("") == "permit" {
                        prop_assert_eq!(token(SCOPES[more]), "permit");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_else_that_a_client_sends_changes_what_is_matched(path in 0..3_usize,
        query in "[!$-;=?-~]{0,20}") {
        let config = config_of(&Setup::new("apis: { one: { base_path: /one, upstream: api, public: \
            true, resources: { \"/a\": [GET], \"/b/{id}\": [GET], \"/b/{id}:x\": [GET] } } }",
            "clients: {}"));
        let judge = |target: &str| {
            let request = request_to("GET", target, None);
            decide(&config.rules, &request, |_| unreachable!("a public API reads no \
                token"), Moment::at(Timestamp(0))).operation.map(|matched| matched.operation)
        };
        prop_assert_eq!(judge(PATHS[path]), judge(&format!("{}?{query}", PATHS[path])));
    }
}
