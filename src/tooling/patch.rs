//! Patches: the edit of a file that is the remedy of a finding, and its effect on verdicts. A patch
//! is offered only where the edited files load, and where no call that was made is lost.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::diff::{Difference, Direction, compare};
use super::edit::apply;
use super::lint::{Finding, IDLE_DAYS, Rule};
use super::replay::sent;
use super::usage::{Day, Observed};
use super::{Workers, testing};
use crate::config::{self, Config, Lookup, Sources};
use crate::names::Timestamp;
use crate::policy::Rules;

/// Lines of a diff around the changed ones.
const CONTEXT_LINES: usize = 3;

/// An edit of a file that is the remedy of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Patch {
    /// The file, as the operator named it.
    pub file: String,
    /// The change, as a unified diff.
    pub diff: String,
    /// The whole text of the file afterwards.
    pub text: String,
    /// Its effect.
    pub effect: Effect,
}

/// The verdicts that a patch changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Permitted before, refused afterwards.
    pub refused: Vec<Difference>,
    /// Refused before, permitted afterwards.
    pub permitted: Vec<Difference>,
    /// Operations with so many combinations of roles and claims that some were not compared.
    pub in_part: usize,
}

/// Makes the patches of findings about one configuration.
pub struct Patcher<'a> {
    /// The files that the configuration was loaded from.
    pub sources: &'a Sources,
    /// Reads further files and the environment.
    pub lookup: &'a dyn Lookup,
    /// The configuration.
    pub config: &'a Config,
    /// Its use.
    pub observed: &'a Observed,
    /// The time.
    pub now: Timestamp,
}

impl std::fmt::Debug for Patcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patcher").finish_non_exhaustive()
    }
}

impl Patcher<'_> {
    /// The patch of a finding. `None` where no edit is its remedy, the text has a form that is not
    /// edited safely, the edited files do not load or fail their tests, or the edit would take away
    /// what was used.
    #[must_use]
    pub fn patch(&self, finding: &Finding, workers: Workers<'_>) -> Option<Patch> {
        let edit = finding.edit.as_ref()?;
        let client = self.config.rules.registry().client(&edit.client)?;
        let mut sources = self.sources.clone();
        let mut files = sources.clients.iter_mut();
        let file = files.find(|file| file.name == *client.origin.file)?;
        let text = apply(&file.name, &file.text, edit)?;
        let old = std::mem::replace(&mut file.text, text.clone());
        let name = file.name.clone();
        let new = config::load(&sources, self.lookup, self.now).ok()?;
        if new.run_tests_at_load && !testing::faults(&new, self.now).is_empty() {
            return None;
        }
        let effect = self.effect(&new.rules, workers);
        // A client that is idle used its rights longer ago.
        let since = (finding.rule == Rule::ClientIdle).then(|| Day::of(self.now).before(IDLE_DAYS));
        if self.takes_used(&edit.client, &effect, since) {
            return None;
        }
        Some(Patch { diff: unified(&name, &old, &text), file: name, text, effect })
    }

    fn effect(&self, new: &Rules, workers: Workers<'_>) -> Effect {
        let found = compare(&self.config.rules, new, self.now, workers);
        let (refused, permitted) =
            found.differences.into_iter().partition(|found| found.direction == Direction::Tightens);
        Effect { refused, permitted, in_part: found.in_part }
    }

    /// Whether something is taken away that was used, after a day where one is given. Where that is
    /// not known, it is.
    fn takes_used(&self, client: &str, effect: &Effect, since: Option<Day>) -> bool {
        let used = self.observed.of_client(client).filter(|(subject, sum)| {
            let last = sum.last_permitted.filter(|last| since.is_none_or(|since| *last > since));
            !subject.api.is_empty() && sum.counts.permitted > 0 && last.is_some()
        });
        let used: BTreeSet<(&str, &str)> =
            used.map(|(of, _)| (of.api.as_str(), of.operation.as_str())).collect();
        let is_used = |lost: &Difference| {
            let labels = self.labels(lost);
            labels.is_empty() || labels.iter().any(|label| used.contains(&(&*lost.api, label)))
        };
        let is_other = |lost: &Difference| lost.client.as_deref() != Some(client);
        effect.refused.iter().any(is_other)
            || (!used.is_empty() && (effect.in_part > 0 || effect.refused.iter().any(is_used)))
    }

    /// The names that the operations of a difference are counted by.
    fn labels(&self, lost: &Difference) -> BTreeSet<&str> {
        let rules = &self.config.rules;
        // `POST as PUT` is counted as PUT.
        let method = lost.method.rsplit(' ').next().unwrap_or_default();
        let operations = rules.operations().iter().filter(|operation| {
            let api = rules.apis().get(operation.api);
            let path = api.filter(|api| api.name.as_str() == lost.api).map(|api| {
                let version = operation.version.as_ref().map(|version| format!("/{version}"));
                let version = version.unwrap_or_default();
                sent(format!("{}{version}{}", api.base_path, operation.resource))
            });
            operation.method.as_str() == method && path.as_deref() == Some(lost.path.as_str())
        });
        operations.map(|operation| &*operation.label).collect()
    }
}

/// The difference of two texts as a unified diff, of one hunk.
fn unified(name: &str, old: &str, new: &str) -> String {
    let lines = |text: &'_ str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (lines(old), lines(new));
    let same = |pairs: &mut dyn Iterator<Item = (&String, &String)>| {
        pairs.take_while(|(old, new)| old == new).count()
    };
    let before = same(&mut old.iter().zip(&new));
    let most = old.len().min(new.len()).saturating_sub(before);
    let after = same(&mut old.iter().rev().zip(new.iter().rev())).min(most);
    let start = before.saturating_sub(CONTEXT_LINES);
    let trailing = after.min(CONTEXT_LINES);
    let range = |lines: &[String]| {
        let count = lines.len().saturating_sub(after).saturating_sub(start) + trailing;
        // A range without lines names the line before it.
        let first = if count == 0 { start } else { start + 1 };
        format!("{first},{count}")
    };
    let mut diff = format!("--- {name}\n+++ {name}\n@@ -{} +{} @@\n", range(&old), range(&new));
    let mut write = |sign: char, lines: &[String], from: usize, to: usize| {
        for line in lines.get(from..to).unwrap_or_default() {
            let end = if line.ends_with('\n') { "" } else { "\n\\ No newline at end of file\n" };
            let _ = write!(diff, "{sign}{line}{end}");
        }
    };
    let (old_end, new_end) = (old.len().saturating_sub(after), new.len().saturating_sub(after));
    write(' ', &old, start, before);
    write('-', &old, before, old_end);
    write('+', &new, before, new_end);
    write(' ', &old, old_end, old_end + trailing);
    diff
}

#[cfg(test)]
mod tests;
