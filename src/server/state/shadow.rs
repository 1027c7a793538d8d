//! A candidate set of policies, judged alongside the one in force (`serve --shadow`): what it would
//! change is counted and logged, and never decides.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use crate::client::made::MadeUsers;
use crate::config::Config;
use crate::policy::decide::{Judgement, Moment, Opened, check_network, judge, open};
use crate::policy::{Principal, Rules};
use crate::reason::{Step, Verdict};
use crate::request::Request;
use crate::system::files::{self, LoadFault, Origins};
use crate::telemetry::shadow_difference::ShadowDifference;

/// The candidate, where there is one.
#[derive(Debug, Default)]
pub struct Candidate {
    /// Its gateway.yaml. Only the policies, clients, users and issuers of it count.
    file: Option<PathBuf>,
    set: ArcSwapOption<Set>,
    made_users: OnceLock<Arc<MadeUsers>>,
}

#[derive(Debug)]
struct Set {
    public_url: String,
    rules: Arc<Rules>,
    version: Arc<str>,
}

impl Candidate {
    /// The candidate of a file or folder.
    ///
    /// # Errors
    /// It does not load.
    pub fn load(path: &Path) -> Result<Self, LoadFault> {
        let file = files::gateway_file(path).map_err(LoadFault::Unreadable)?;
        let candidate = Self { file: Some(file), ..Self::default() };
        candidate.take(candidate.read().0?);
        Ok(candidate)
    }

    /// These are the users made at login, for it too.
    pub fn follow(&self, made: Arc<MadeUsers>) {
        if let Some(set) = self.set.load().as_ref() {
            set.rules.registry().follow(made.clone());
        }
        // They are the same for every configuration of a process.
        let _ = self.made_users.set(made);
    }

    /// Reads it again, where there is one; and what it was read from.
    pub fn read(&self) -> (Result<Option<Config>, LoadFault>, Origins) {
        let Some(file) = &self.file else { return (Ok(None), Origins::default()) };
        let (loaded, origins) = files::load_noting(file);
        (loaded.map(Some), origins)
    }

    /// Judges this one from now on.
    pub fn take(&self, config: Option<Config>) {
        let Some(config) = config else { return };
        if let Some(made) = self.made_users.get() {
            config.rules.registry().follow(made.clone());
        }
        let set = Set {
            public_url: config.fixed.public_url,
            rules: config.rules,
            version: config.version,
        };
        tracing::info!(version = %set.version, "candidate judged in parallel");
        self.set.store(Some(Arc::new(set)));
    }

    /// Whether it is for the same issuer: tokens for another one would all be refused, whatever its
    /// policies.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, public_url: &str) -> Result<(), String> {
        match self.set.load().as_ref() {
            Some(set) if set.public_url != public_url => Err(format!(
                "--shadow: its public_url is {}, ours is {public_url}: both must be the same",
                set.public_url
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The file that a successor is to read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The claims that its policies look at: facts have to keep them.
    #[must_use]
    pub fn claims(&self) -> Vec<String> {
        self.set.load().as_ref().map(|set| set.rules.claims_looked_at()).unwrap_or_default()
    }

    /// What it would change in a verdict. Nothing where the verdict is the same, and where it
    /// cannot be known: the token was not read where the candidate asks for one, or did not verify.
    #[must_use]
    pub fn difference(
        &self,
        request: &Request,
        judgement: &Judgement,
        moment: Moment<'_>,
    ) -> Option<ShadowDifference> {
        let set = self.set.load();
        let set = set.as_ref()?;
        let real = Verdict::of(&judgement.outcome);
        if real.reason().is_some_and(|reason| reason.step() == Step::Identity) {
            return None;
        }
        let (judged, operation) = Self::judge(set, request, judgement.principal.as_ref(), moment)?;
        let verdict = Verdict::of(&judged.outcome);
        if verdict.is_permit() == real.is_permit() {
            return None;
        }
        let api = operation.and_then(|id| set.rules.api_of(id)).map(|api| api.name.to_string());
        let rule = operation.map(|id| set.rules.rule_of(id, verdict, false));
        Some(ShadowDifference {
            api: api.unwrap_or_default(),
            rule: rule.unwrap_or_default().to_owned(),
            verdict,
            set: set.version.clone(),
        })
    }

    fn judge(
        set: &Set,
        request: &Request,
        principal: Option<&Principal>,
        moment: Moment<'_>,
    ) -> Option<(Judgement, Option<crate::policy::route::OperationId>)> {
        if let Err(refusal) = check_network(&set.rules, request.address, moment) {
            return Some((Judgement::refused(refusal), None));
        }
        match open(&set.rules, request) {
            Opened::Decided(judgement) => {
                let operation = judgement.operation.as_ref().map(|matched| matched.operation);
                Some((*judgement, operation))
            }
            Opened::Token(matched, _) => {
                let operation = matched.operation;
                let facts = principal?.shared_facts();
                Some((judge(&set.rules, request, matched, facts, moment), Some(operation)))
            }
        }
    }
}
