//! Everything that says something of a request says the same: the decision, `test`, `explain`, the
//! running gateway, a naive reading; and `diff` tells of a change exactly where some request has
//! another verdict. `PAIRS` sets how many pairs of policies and requests are tried, `SERVED` how
//! many of them by the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use scopegate::config::Config;
use scopegate::names::{IssuerName, Origin, Timestamp};
use scopegate::policy::sample::{Expectation, Presented, Sample, Test, TokenSample};
use scopegate::policy::{Moment, decide};
use scopegate::reason::Reason;
use scopegate::scope::ScopeSet;
use scopegate::tooling::Workers;
use scopegate::tooling::access::access;
use scopegate::tooling::diff::{Direction, compare};
use scopegate::tooling::explain::{self, Question};
use scopegate::tooling::testing;

use super::properties::{CLIENTS, METHODS, PATHS, SCOPES, Set, naive, set};
use super::{own_facts, request_with, verdict};
use crate::support::http::{Connection, request};
use crate::support::{Gateway, Setup, many};

const ADDRESSES: [Option<&str>; 3] = [None, Some("192.0.2.77"), Some("10.1.2.3")];
const NOW: Timestamp = Timestamp(10);

/// One request to one set.
#[derive(Clone, Copy, Debug)]
struct Ask {
    client: usize,
    path: &'static str,
    method: &'static str,
    /// The method that a header names.
    named: Option<&'static str>,
    address: Option<&'static str>,
    /// Bits of [`SCOPES`].
    scopes: usize,
}

impl Ask {
    fn all() -> impl Iterator<Item = Self> {
        let mut all = Vec::new();
        for client in 0..CLIENTS.len() {
            for path in PATHS {
                let own = METHODS.map(|method| (method, None));
                for (method, named) in own.into_iter().chain([("POST", Some("DELETE"))]) {
                    for address in ADDRESSES {
                        all.extend((0..1 << SCOPES.len()).map(|scopes| Self {
                            client,
                            path,
                            method,
                            named,
                            address,
                            scopes,
                        }));
                    }
                }
            }
        }
        all.into_iter()
    }

    fn scopes(self) -> BTreeSet<&'static str> {
        (0..SCOPES.len()).filter(|at| self.scopes & (1 << at) != 0).map(|at| SCOPES[at]).collect()
    }

    fn value(self) -> String {
        self.scopes().into_iter().collect::<Vec<_>>().join(" ")
    }

    fn request(self) -> scopegate::request::Request {
        let named = self.named.map(|method| format!("X-HTTP-Method-Override: {method}\r\n"));
        request_with(self.method, self.path, self.address, &named.unwrap_or_default())
    }

    fn decided(self, config: &Config) -> String {
        let request = self.request();
        let facts = own_facts(CLIENTS[self.client], &self.value());
        verdict(&decide(&config.rules, &request, |_| Ok(Arc::new(facts)), Moment::at(NOW)).outcome)
    }

    fn explained(self, config: &Config) -> &'static str {
        let question = Question {
            request: Ok(self.request()),
            facts: Some(Ok(Arc::new(own_facts(CLIENTS[self.client], &self.value())))),
        };
        let told = explain::steps(&config.rules, &question, Moment::at(NOW));
        let refused =
            told.steps.iter().filter(|stage| stage.result == explain::Outcome::Refused).count();
        assert_eq!(refused, usize::from(told.verdict != "permit"), "{told:?}");
        told.verdict
    }

    fn naive(self, set: &Set) -> &'static str {
        let (api, resource) = naive::meant(self.path);
        let inside = self.address.is_some_and(|address| address.starts_with("192.0.2."));
        match naive::judged(api, self.method, self.named) {
            Ok(method) => {
                naive::decide(set, self.client, (api, method, resource), &self.scopes(), inside)
            }
            Err(reason) => reason,
        }
    }

    fn test(self, expect: &str) -> Test {
        let words = TokenSample {
            scopes: Some(ScopeSet::parse(&self.value()).unwrap_or_default()),
            ..TokenSample::of(IssuerName::new("self"), Some(CLIENTS[self.client].to_owned()))
        };
        Test {
            name: String::new(),
            case: Sample {
                method: self.method.to_owned(),
                target: self.path.to_owned(),
                method_override: self.named.map(str::to_owned),
                host: None,
                from: self.address.map(|address| address.parse().unwrap()),
                certificate: Vec::new(),
                token: Some(Presented::Sample(Box::new(words))),
            },
            at: Some(NOW),
            expect: Expectation { reason: Reason::from_label(expect), fault: None },
            origin: Origin::default(),
        }
    }
}

#[test]
fn decision_test_explain_and_a_naive_reading_agree() {
    let mut runner = TestRunner::deterministic();
    let (mut pairs, mut permitted) = (0, 0);
    while pairs < many("PAIRS", 100_000) {
        let set = set().new_tree(&mut runner).unwrap().current();
        let Some(mut config) = set.config(false) else { continue };
        let mut tests = Vec::new();
        for ask in Ask::all() {
            let decided = ask.decided(&config);
            assert_eq!(decided, ask.naive(&set), "{ask:?} {set:?}");
            assert_eq!(decided, ask.explained(&config), "{ask:?} {set:?}");
            permitted += usize::from(decided == "permit");
            tests.push(ask.test(&decided));
            pairs += 1;
        }
        config.tests = tests;
        let runs = testing::run(&config, Timestamp(0));
        let failed = runs.iter().find_map(|run| run.failure.as_ref());
        assert!(failed.is_none(), "{failed:?} {set:?}");
    }
    println!("{pairs} pairs agree, {permitted} of them permitted");
    assert!(permitted * 50 > pairs, "{permitted} of {pairs}: the sets refuse nearly everything");
}

/// The requests to a set for which our own authorization server gives a token, each once, with the
/// scopes that it has.
fn served(set: &Set) -> BTreeMap<(usize, String), Vec<Ask>> {
    let mut served: BTreeMap<(usize, String), Vec<Ask>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for mut ask in Ask::all() {
        let held = set.held(ask.client);
        // A token has no scope that its client does not hold, and one without scopes only a client
        // without any gets.
        ask.scopes &= (0..SCOPES.len())
            .filter(|at| held.contains(SCOPES[*at]))
            .fold(0, |bits, at| bits | 1 << at);
        if (ask.scopes != 0 || held.is_empty())
            && seen.insert((ask.client, ask.path, ask.method, ask.named, ask.address, ask.scopes))
        {
            served.entry((ask.client, ask.value())).or_default().push(ask);
        }
    }
    served
}

/// Asks the gateway over a connection of its own.
fn serve(gateway: &Gateway, asks: &[(&str, Ask)]) -> Vec<String> {
    let mut connection = Connection::open(gateway.address);
    let mut verdicts = Vec::new();
    for (token, ask) in asks {
        let from = ask.address.map(|address| ("X-Forwarded-For", address));
        let named = ask.named.map(|method| ("x_http_method", method));
        let fields: Vec<(&str, &str)> = from.into_iter().chain(named).collect();
        connection.write(request(ask.method, ask.path, Some(token), &fields).as_bytes());
        verdicts.push(
            connection.read(false).unwrap_or_else(|| panic!("no answer to {ask:?}")).verdict(),
        );
    }
    verdicts
}

/// `SERVED` sets how many: the same process takes every set by a reload, and verifies real tokens
/// of its own.
#[test]
fn the_running_gateway_and_a_naive_reading_agree() {
    let mut runner = TestRunner::deterministic();
    let mut gateway: Option<Gateway> = None;
    let (mut pairs, mut permitted) = (0, 0);
    while pairs < many("SERVED", 20_000) {
        let set = set().new_tree(&mut runner).unwrap().current();
        if set.config(false).is_none() {
            continue;
        }
        let (files, clients) = set.files(false);
        let policies = files.concat();
        let running = match gateway.take() {
            None => {
                let mut setup = Setup::new(&policies, &clients);
                setup.gateway = "trusted_proxies: [127.0.0.1/32]\n".into();
                Gateway::start(&setup)
            }
            Some(running) => {
                running.rewrite("policies.yaml", &policies);
                running.rewrite("clients.yaml", &clients);
                assert!(running.reload(), "{}", running.log());
                running
            }
        };
        let served = served(&set);
        let tokens: BTreeMap<&(usize, String), String> =
            served.keys().map(|key| (key, token(&running, CLIENTS[key.0], &key.1))).collect();
        let asks: Vec<(&str, Ask)> = served
            .iter()
            .flat_map(|(key, asks)| asks.iter().map(|ask| (tokens[key].as_str(), *ask)))
            .collect();
        let (one, other) = asks.split_at(asks.len() / 2);
        let verdicts = std::thread::scope(|scope| {
            let other = scope.spawn(|| serve(&running, other));
            [serve(&running, one), other.join().unwrap()].concat()
        });
        for ((_, ask), verdict) in asks.iter().zip(&verdicts) {
            assert_eq!(verdict, ask.naive(&set), "{ask:?} {set:?}\n{policies}\n{clients}");
            permitted += usize::from(verdict == "permit");
        }
        pairs += asks.len();
        gateway = Some(running);
    }
    println!("{pairs} pairs served, {permitted} of them permitted");
    assert!(permitted * 50 > pairs, "{permitted} of {pairs}: the sets refuse nearly everything");
}

fn token(gateway: &Gateway, client: &str, scopes: &str) -> String {
    let extra = if scopes.is_empty() {
        String::new()
    } else {
        format!("&scope={}", scopes.replace(' ', "+"))
    };
    let response = gateway.token_response(client, &extra);
    response.json()["access_token"].as_str().unwrap_or_else(|| panic!("{response:?}")).to_owned()
}

#[test]
fn access_lists_exactly_what_some_request_is_permitted() {
    let mut runner = TestRunner::deterministic();
    let mut pairs = 0;
    while pairs < many("PAIRS", 100_000) / 4 {
        let set = set().new_tree(&mut runner).unwrap().current();
        let Some(config) = set.config(false) else { continue };
        let listed: BTreeSet<(String, String, &str, String)> =
            access(&config.rules, NOW, Workers::caller())
                .reach
                .into_iter()
                .map(|reach| (reach.caller, reach.api, reach.method, reach.resource))
                .collect();
        let mut permitted = BTreeSet::new();
        for ask in Ask::all() {
            pairs += 1;
            if ask.decided(&config) == "permit" {
                let (api, resource) = naive::meant(ask.path);
                permitted.insert((
                    CLIENTS[ask.client].to_owned(),
                    api.to_owned(),
                    naive::judged(api, ask.method, ask.named).unwrap(),
                    resource.to_owned(),
                ));
            }
        }
        assert_eq!(listed, permitted, "{set:?}");
    }
}

/// A set and one like it: some of its parts are those of another.
fn edited() -> impl Strategy<Value = (Set, Set)> {
    (set(), set(), 0..6_usize).prop_map(|(set, other, part)| {
        let mut new = set.clone();
        match part {
            0 => new.grants = other.grants,
            1 => new.policies = other.policies,
            2 => new.acls = other.acls,
            3 => new.clients[0] = other.clients[0].clone(),
            4 => new.policies.extend(other.policies),
            _ => new.grants.extend(other.grants),
        }
        (set, new)
    })
}

#[test]
fn diff_tells_of_a_change_exactly_where_a_request_has_another_verdict() {
    let mut runner = TestRunner::deterministic();
    let (mut pairs, mut told, mut silent) = (0, 0, 0);
    while pairs < many("PAIRS", 200_000) {
        let (old, new) = edited().new_tree(&mut runner).unwrap().current();
        let (Some(before), Some(after)) = (old.config(false), new.config(false)) else { continue };
        let comparison = compare(&before.rules, &after.rules, NOW, Workers::caller());
        let found: BTreeSet<(String, &str, String, Direction)> = comparison
            .differences
            .iter()
            .map(|found| (found.caller.clone(), found.method, found.path.clone(), found.direction))
            .collect();
        let mut changed = BTreeSet::new();
        // What a header names is told with the method itself, where both sets let it.
        for ask in Ask::all().filter(|ask| ask.named.is_none()) {
            pairs += 1;
            let (old, new) = (ask.decided(&before) == "permit", ask.decided(&after) == "permit");
            if old == new {
                continue;
            }
            let (api, resource) = naive::meant(ask.path);
            let template = format!("/{api}{resource}");
            let direction = if old { Direction::Tightens } else { Direction::Widens };
            changed.insert((CLIENTS[ask.client].to_owned(), ask.method, template, direction));
        }
        assert_eq!(found, changed, "{old:?}\n{new:?}\n{comparison:#?}");
        if changed.is_empty() { silent += 1 } else { told += 1 }
    }
    println!("{pairs} pairs: {told} comparisons tell of changes, {silent} of none, each rightly");
    assert!(told > 20 && silent > 20, "{told} {silent}");
}
