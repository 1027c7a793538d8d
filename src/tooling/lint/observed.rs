//! Findings about clients and their use: rights that nobody uses, and use that looks wrong.

use std::collections::BTreeSet;

use super::{Finding, Rule, rules};
use crate::client::{Client, GrantType};
use crate::config::Config;
use crate::config::format::is_loopback;
use crate::names::{ScopeName, Timestamp};
use crate::tooling::edit::{Change, Edit};
use crate::tooling::usage::{Counts, Day, OTHER, Observed, Subject, Sum, own};

/// Days without a request after which a client is idle, and an operation unused.
pub(in crate::tooling) const IDLE_DAYS: i64 = 100;
/// Days that must have been counted before a right is called unused.
const COUNTED_DAYS: i64 = 30;
/// Days for which an event is worth a finding.
pub(super) const RECENT_DAYS: i64 = 30;

/// A configuration, and all that is known of its use.
pub(super) struct Review<'a> {
    pub(super) config: &'a Config,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) today: Day,
    /// Counters for which there was no room of their own.
    pooled: Vec<&'a Subject>,
}

impl<'a> Review<'a> {
    pub(super) fn new(config: &'a Config, observed: &'a Observed, now: Timestamp) -> Self {
        let pooled = observed.sums.keys().filter(|subject| subject.operation == OTHER).collect();
        Self { config, observed, now, today: Day::of(now), pooled }
    }

    /// Whether so many days were counted.
    pub(super) fn is_counted(&self, days: i64) -> bool {
        self.observed.since.is_some_and(|since| since <= self.today.before(days))
    }

    /// Whether enough days were counted for every rule about use.
    pub(super) fn is_counted_long(&self) -> bool {
        self.is_counted(IDLE_DAYS)
    }

    pub(super) fn is_recent(&self, day: Day, days: i64) -> bool {
        day > self.today.before(days)
    }

    /// A day, with its distance from today.
    pub(super) fn ago(&self, day: Day) -> String {
        let ago = match self.today.0.saturating_sub(day.0) {
            ..=0 => "today".to_owned(),
            1 => "yesterday".to_owned(),
            days => format!("{days} days ago"),
        };
        format!("{} ({ago})", day.text())
    }

    pub(super) fn counted_since(&self) -> Option<String> {
        let since = self.observed.since?;
        Some(format!("requests are counted since {}", self.ago(since)))
    }

    /// Whether requests of a client or to an API, where they are named, may be counted among those
    /// without room of their own. Then nothing is known to be unused.
    pub(super) fn is_pooled(&self, client: Option<&str>, api: Option<&str>) -> bool {
        let may_be = |counted: &str, name: Option<&str>| {
            counted.is_empty() || counted == OTHER || name.is_none_or(|name| name == counted)
        };
        self.pooled
            .iter()
            .any(|subject| may_be(&subject.client, client) && may_be(&subject.api, api))
    }

    /// The day of the last request of a client, to whichever endpoint, or with one of its secrets.
    fn last_request(&self, client: &str) -> Option<Day> {
        let counted = self.observed.of_client(client);
        let days = counted.filter(|(subject, _)| !is_inactive(subject)).map(|(_, sum)| sum.last);
        let secrets = self.observed.secrets.iter().filter(|secret| secret.client == client);
        days.chain(secrets.map(|secret| secret.last)).max()
    }

    /// Adds the use of their clients to findings about the configuration: as evidence, and as a
    /// remedy where enough was counted.
    pub(super) fn complete(&self, findings: &mut [Finding]) {
        let registry = self.config.rules.registry();
        for finding in findings {
            let label = finding.rule.label();
            if !label.starts_with("client.") && !label.starts_with("secret.") {
                continue;
            }
            let Some(client) = registry.client(&finding.on) else { continue };
            finding.evidence.extend(self.use_of(client));
            let change = self.narrowing(finding.rule, client);
            let edit = change.map(|change| Edit { client: client.id.to_string(), change });
            finding.edit = finding.edit.take().or(edit);
        }
    }

    /// The use of a client, in one line; none where nothing is known of it.
    fn use_of(&self, client: &Client) -> Option<String> {
        let last = self.last_request(client.id.as_str()).map(|last| self.ago(last));
        let Some(since) = self.observed.since else {
            return last.map(|last| format!("a secret was last used on {last}"));
        };
        let Some(last) = last else {
            return Some(format!("no request since {}", self.ago(since)));
        };
        let calls = self.observed.calls(client.id.as_str());
        let permitted = calls.map_or(0, |calls| calls.counts.permitted);
        Some(format!("{permitted} calls permitted; last request on {last}"))
    }

    /// The change that narrows a client to the rights that it is known to use.
    fn narrowing(&self, rule: Rule, client: &Client) -> Option<Change> {
        let id = client.id.as_str();
        if !self.is_counted(COUNTED_DAYS) || self.is_pooled(Some(id), None) {
            return None;
        }
        if rule == Rule::ClientBroad {
            return Some(Change::Set("allow_only_selected_scopes", true));
        }
        if rule == Rule::ClientMasterScope {
            return Some(Change::RemoveScope(self.config.rules.master_scope().to_string()));
        }
        // Tokens of the grant act for users: where no request did, it is not used.
        let is_used = self.observed.of_client(id).any(|(_, sum)| sum.counts.for_users > 0);
        (rule == Rule::ClientPasswordGrant && client.grants.len() > 1 && !is_used)
            .then_some(Change::RemoveGrant(GrantType::Password))
    }

    /// All findings about clients, except those about their secrets.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for client in self.config.rules.registry().clients() {
            if client.active {
                self.registered(client, &mut findings);
                self.used(client, &mut findings);
            } else {
                findings.extend(self.disabled(client));
            }
        }
        findings
    }

    /// The registration of a client.
    fn registered(&self, client: &Client, findings: &mut Vec<Finding>) {
        let id = &client.id;
        let mut say = |rule, text| {
            let finding = Finding::new(rule, id, &client.origin, text);
            findings.push(finding.seen(self.use_of(client)));
        };
        if client.owner.is_none() {
            say(Rule::ClientNoOwner, format!("client `{id}` has no `owner`"));
        }
        let on_loopback = |url: &&String| url::Url::parse(url).is_ok_and(|url| is_loopback(&url));
        for url in client.redirect_urls.iter().filter(on_loopback).filter(|_| !client.public) {
            let text = format!("client `{id}` has a secret and is sent codes at {url}");
            say(Rule::ClientLoopback, text);
        }
    }

    /// A client that is switched off.
    fn disabled(&self, client: &Client) -> Option<Finding> {
        let id = &client.id;
        let sum = self.observed.own(id.as_str(), own::INACTIVE)?;
        if sum.counts.total() == 0 || !self.is_recent(sum.last, RECENT_DAYS) {
            return None;
        }
        let text = format!("client `{id}` has `active: false` and still calls");
        let evidence =
            format!("{} requests, the last on {}", sum.counts.total(), self.ago(sum.last));
        let finding = Finding::new(Rule::ClientDisabledCalls, id, &client.origin, text);
        Some(finding.seen([evidence]))
    }

    /// The use of an active client.
    fn used(&self, client: &Client, findings: &mut Vec<Finding>) {
        let id = &client.id;
        match self.unused(client) {
            Some(finding) => findings.push(finding),
            None => self.scopes(client, findings),
        }
        let calls = self.observed.calls(id.as_str()).unwrap_or_else(none);
        let Counts { permitted, for_users, .. } = calls.counts;
        if for_users > 0 && permitted > for_users {
            let text = format!("client `{id}` acts for users, and without one");
            let evidence = format!(
                "{for_users} calls for users and {} without one, the last on {}",
                permitted - for_users,
                self.ago(calls.last)
            );
            let finding = Finding::new(Rule::ClientMixedUse, id, &client.origin, text);
            findings.push(finding.seen([evidence]));
        }
        let replay = self.observed.own(id.as_str(), own::REFRESH_REPLAY);
        let is_replay =
            |sum: &&Sum| sum.counts.refused > 0 && self.is_recent(sum.last, RECENT_DAYS);
        if let Some(sum) = replay.filter(is_replay) {
            let text = format!("refresh tokens of client `{id}` were used a second time");
            let evidence =
                format!("{} times, the last on {}", sum.counts.refused, self.ago(sum.last));
            let finding = Finding::new(Rule::ClientRefreshReplay, id, &client.origin, text);
            findings.push(finding.seen([evidence]));
        }
    }

    /// A client without requests.
    fn unused(&self, client: &Client) -> Option<Finding> {
        let id = &client.id;
        if self.is_pooled(Some(id.as_str()), None) {
            return None;
        }
        let last = self.last_request(id.as_str());
        let (rule, text, evidence) = match last {
            Some(last) if self.is_counted(IDLE_DAYS) && !self.is_recent(last, IDLE_DAYS) => (
                Rule::ClientIdle,
                format!("client `{id}` has made no request for {IDLE_DAYS} days"),
                format!("last request on {}", self.ago(last)),
            ),
            None if self.is_counted(COUNTED_DAYS) => (
                Rule::ClientNeverUsed,
                format!("client `{id}` has made no request since requests are counted"),
                "a client that was added since then looks the same".to_owned(),
            ),
            Some(_) | None => return None,
        };
        let edit = Edit { client: id.to_string(), change: Change::Set("active", false) };
        let finding = Finding::new(rule, id, &client.origin, text);
        let evidence = self.counted_since().into_iter().chain([evidence]);
        Some(finding.seen(evidence).mended_by(Some(edit)))
    }

    /// Scopes that a client holds and does not use.
    fn scopes(&self, client: &Client, findings: &mut Vec<Finding>) {
        if !self.is_counted(COUNTED_DAYS) {
            return;
        }
        let rules = &self.config.rules;
        let held = |name: &ScopeName| client.scopes.contains(name) && name != rules.master_scope();
        for scope in &rules.definitions().scopes {
            if !scope.active || !held(&scope.name) {
                continue;
            }
            let granted: BTreeSet<(&str, &str)> = scope
                .grants
                .iter()
                .flat_map(|grant| rules::selected(rules, &grant.selector))
                .filter_map(|operation| {
                    Some((rules.apis().get(operation.api)?.name.as_str(), &*operation.label))
                })
                .collect();
            let is_used = |(api, label): &(&str, &str)| {
                self.is_pooled(Some(client.id.as_str()), Some(api))
                    || self.permitted(client, api, label) > 0
            };
            if granted.is_empty() || granted.iter().any(is_used) {
                continue;
            }
            let (id, scope) = (&client.id, &scope.name);
            let text = format!("client `{id}` holds `{scope}` and uses nothing that it grants");
            let evidence = self
                .counted_since()
                .into_iter()
                .chain([format!("none of the {} operations that `{scope}` grants", granted.len())]);
            let change = Change::RemoveScope(scope.to_string());
            let on = format!("{id} {scope}");
            let finding = Finding::new(Rule::ClientUnusedScope, &on, &client.origin, text);
            let edit = Edit { client: id.to_string(), change };
            findings.push(finding.seen(evidence.chain(self.use_of(client))).mended_by(Some(edit)));
        }
    }

    fn permitted(&self, client: &Client, api: &str, operation: &str) -> u64 {
        let subject = Subject {
            client: client.id.to_string(),
            api: api.to_owned(),
            operation: operation.to_owned(),
        };
        self.observed.sums.get(&subject).map_or(0, |sum| sum.counts.permitted)
    }
}

fn is_inactive(subject: &Subject) -> bool {
    subject.api.is_empty() && subject.operation == own::INACTIVE
}

/// No request.
const fn none() -> Sum {
    Sum {
        counts: Counts { permitted: 0, refused: 0, for_users: 0, shadow_refused: 0 },
        last_permitted: None,
        last: Day(0),
    }
}
