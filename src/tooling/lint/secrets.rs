//! Findings about the secrets of clients: their end, and their use.

use super::observed::Review;
use super::{Finding, Rule};
use crate::client::Client;
use crate::client::secret::ClientSecret;
use crate::names::Timestamp;
use crate::tooling::edit::{Change, Edit};
use crate::tooling::usage::{Day, SecretUse};

/// Days before its end from which on a secret ends soon.
const SOON_DAYS: i64 = 30;
/// Days within which a secret counts as in use.
const IN_USE_DAYS: i64 = 7;
/// Days after which a secret counts as not used any more.
const UNUSED_DAYS: i64 = 30;
/// Networks from which one secret is used at most.
const MAX_NETWORKS: u32 = 8;

pub(super) fn lint(review: &Review<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for client in review.config.rules.registry().clients() {
        if client.active {
            let secrets = Secrets { review, client };
            secrets.ends(&mut findings);
            findings.extend(secrets.rotation());
            secrets.networks(&mut findings);
        }
    }
    findings
}

/// The secrets of a client.
struct Secrets<'a> {
    review: &'a Review<'a>,
    client: &'a Client,
}

impl Secrets<'_> {
    fn use_of(&self, secret: &ClientSecret) -> Option<&SecretUse> {
        let label = secret.label();
        let mut uses = self.review.observed.secrets.iter();
        uses.find(|used| used.client == self.client.id.as_str() && used.secret == label)
    }

    fn finding(&self, rule: Rule, secret: &ClientSecret, words: &str) -> Finding {
        let (id, label) = (&self.client.id, secret.label());
        let text = format!("the secret `{label}` of client `{id}` {words}");
        Finding::new(rule, &format!("{id} {label}"), &self.client.origin, text)
            .seen(self.last_use(secret))
    }

    fn last_use(&self, secret: &ClientSecret) -> Option<String> {
        let used = self.use_of(secret)?;
        Some(format!("`{}` was last used on {}", used.secret, self.review.ago(used.last)))
    }

    fn removal(&self, at: usize) -> Option<Edit> {
        // Without its only secret a client is another kind of client.
        let change = (self.client.secrets.len() > 1).then_some(Change::RemoveSecret(at))?;
        Some(Edit { client: self.client.id.to_string(), change })
    }

    /// Secrets that have ended or end soon.
    fn ends(&self, findings: &mut Vec<Finding>) {
        let soon = self.review.now.plus(SOON_DAYS * 86_400);
        let lasts = |secret: &ClientSecret| secret.expires.is_none_or(|end| end > soon);
        let has_next = self.client.secrets.iter().any(lasts);
        for (at, secret) in self.client.secrets.iter().enumerate() {
            let Some(end) = secret.expires.filter(|end| *end <= soon) else { continue };
            let day = Day::of(end).text();
            if secret.expired(self.review.now) {
                let finding = self.finding(Rule::SecretExpired, secret, "has expired");
                let finding = finding.seen([format!("it ended on {day}")]);
                findings.push(finding.mended_by(self.removal(at)));
                continue;
            }
            let is_used = self.is_used(secret, IN_USE_DAYS);
            if has_next && !is_used {
                continue;
            }
            let words =
                if has_next { "ends soon and is still used" } else { "ends soon, without a next" };
            let finding = self.finding(Rule::SecretExpiresSoon, secret, words);
            let days = Day::of(end).0.saturating_sub(self.review.today.0);
            findings.push(finding.seen([format!("it ends on {day}, in {days} days")]));
        }
    }

    fn is_used(&self, secret: &ClientSecret, days: i64) -> bool {
        self.use_of(secret).is_some_and(|used| self.review.is_recent(used.last, days))
    }

    /// The older of two live secrets: used still, or not any more, while the newer one is.
    fn rotation(&self) -> Option<Finding> {
        let now = self.review.now;
        let secrets = self.client.secrets.iter().enumerate();
        let live: Vec<_> = secrets.filter(|(_, secret)| !secret.expired(now)).collect();
        let [first, second] = *live.as_slice() else { return None };
        let ((at, old), (_, new)) =
            if is_older(second.1, first.1) { (second, first) } else { (first, second) };
        let (old_use, new_use) = (self.use_of(old)?, self.use_of(new)?);
        let evidence =
            format!("`{}` was last used on {}", new_use.secret, self.review.ago(new_use.last));
        if self.review.is_recent(old_use.last, IN_USE_DAYS) {
            let words = "is still used, although a newer one is";
            return Some(self.finding(Rule::SecretOldInUse, old, words).seen([evidence]));
        }
        if self.review.is_recent(old_use.last, UNUSED_DAYS) {
            return None;
        }
        let words = "is not used any more: a newer one is";
        let finding = self.finding(Rule::SecretOldUnused, old, words).seen([evidence]);
        Some(finding.mended_by(self.removal(at)))
    }

    fn networks(&self, findings: &mut Vec<Finding>) {
        for secret in &self.client.secrets {
            let networks = self.use_of(secret).and_then(|used| used.networks);
            if let Some(networks) = networks.filter(|count| *count > MAX_NETWORKS) {
                let finding =
                    self.finding(Rule::SecretManyNetworks, secret, "is used from many networks");
                findings.push(finding.seen([format!("about {networks} networks (/24, /48)")]));
            }
        }
    }
}

/// Whether a secret is older than the one before it in the file. A new one is added at the end;
/// where both say when they end, the older one ends first.
fn is_older(secret: &ClientSecret, before: &ClientSecret) -> bool {
    let ends: Option<(Timestamp, Timestamp)> = secret.expires.zip(before.expires);
    ends.is_some_and(|(end, other)| end < other)
}
