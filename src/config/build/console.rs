//! The console of gateway.yaml: administrators, files that it may write, and how far back it looks.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gateway::relative_to;
use super::{Builder, Place};
use crate::config::console::{
    Administrator, AuditLog, Console, DecisionWindow, PersonalToken, Role, SHARED_TOKEN,
};
use crate::config::raw::console::{RawAdministrator, RawDecisions, RawRole, RawUsage};
use crate::config::raw::gateway::RawGateway;

/// How far back decisions are kept by default, and how many.
const DECISION_WINDOW: Duration = Duration::from_secs(3600);
const MAX_DECISIONS: u32 = 100_000;
/// How long use is kept by default.
const USAGE_RETENTION: Duration = Duration::from_secs(400 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);
/// Characters of a name that pages, logs and audit records show as it is.
const MAX_NAME: usize = 64;

impl Builder<'_> {
    /// Administrators and the console.
    pub(super) fn console(&mut self, raw: &RawGateway, place: &Place<'_>) -> Console {
        let declares = [
            ("administrators", !raw.administrators.is_empty()),
            ("console", raw.console.is_some()),
        ];
        for (key, _) in declares.iter().filter(|(_, is_there)| *is_there && raw.admin.is_none()) {
            let help = "write `admin: { address: 127.0.0.1:9090, token: file:secrets/admin }`";
            self.fault(
                &place.key(key),
                format!("`{key}` without `admin`: there is no listener for it"),
                help,
            );
        }
        let place_of = place.key("administrators");
        let administrators = raw
            .administrators
            .iter()
            .filter_map(|(name, raw)| self.administrator(name, raw, &place_of.key(name)))
            .collect();
        let write = raw.console.as_ref().and_then(|console| console.write.as_ref());
        if let Some(folder) = write
            && folder.trim_end_matches('/') != raw.clients.trim_end_matches('/')
        {
            let help = format!("write `write: {}`", raw.clients);
            self.fault(
                &place.key("console").key("write"),
                "the console writes client files alone, and this is not the folder of `clients`",
                help,
            );
        }
        let write = write.map(|folder| relative_to(&place.document.file, folder));
        Console {
            administrators,
            write,
            decisions: self.decisions(raw.decisions.as_ref(), &place.key("decisions")),
            usage_retention: self.usage(raw.usage.as_ref(), &place.key("usage")),
            audit_log: raw.audit_log.as_ref().map(|log| AuditLog { path: log.file.clone() }),
        }
    }

    fn administrator(
        &mut self,
        name: &str,
        raw: &RawAdministrator,
        place: &Place<'_>,
    ) -> Option<Administrator> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
            let help = "letters, digits and . - _ @ of ASCII, at most 64";
            self.fault(place, format!("`{name}` is no name of an administrator"), help);
            return None;
        }
        if name == SHARED_TOKEN {
            let help = "choose another name: audit records would not say which of the two it was";
            self.fault(place, "`token` is the administrator of the shared token", help);
            return None;
        }
        if raw.password.is_none() && raw.tokens.is_empty() {
            let help = "write `password: { argon2id: … }` (`scopegate user add` makes one), or \
                `tokens`";
            self.fault(place, format!("administrator `{name}` has no way to sign in"), help);
        }
        let mut names = BTreeSet::new();
        for (at, token) in raw.tokens.iter().enumerate() {
            if !names.insert(&token.name) {
                let place = place.key("tokens").at(at).key("name");
                let help = "audit records name the token: give each its own";
                self.fault(&place, format!("two tokens are called `{}`", token.name), help);
            }
        }
        let tokens = raw.tokens.iter().map(|token| PersonalToken {
            name: token.name.clone(),
            digest: token.sha256.value,
            expires: token.expires.as_ref().map(|day| day.value),
        });
        Some(Administrator {
            name: name.into(),
            role: match raw.role {
                RawRole::Viewer => Role::Viewer,
                RawRole::Operator => Role::Operator,
                RawRole::Auditor => Role::Auditor,
                RawRole::Editor => Role::Editor,
            },
            password: raw.password.as_ref().map(|password| password.argon2id.value.clone()),
            tokens: tokens.collect(),
        })
    }

    fn decisions(&mut self, raw: Option<&RawDecisions>, place: &Place<'_>) -> DecisionWindow {
        let window = raw.and_then(|raw| raw.window.as_ref());
        let window = window.map_or(DECISION_WINDOW, |window| window.value);
        if window > DAY {
            let help = "write at most 24h; `decision_log` keeps records for longer";
            self.fault(&place.key("window"), "a window of more than a day", help);
        }
        let max = raw.and_then(|raw| raw.max).unwrap_or(MAX_DECISIONS);
        DecisionWindow { window, max: usize::try_from(max).unwrap_or(usize::MAX) }
    }

    fn usage(&mut self, raw: Option<&RawUsage>, place: &Place<'_>) -> Duration {
        let retention = raw.and_then(|raw| raw.retention.as_ref());
        let retention = retention.map_or(USAGE_RETENTION, |retention| retention.value);
        if retention < DAY {
            let help = "write at least 1d: use is counted by day";
            self.fault(&place.key("retention"), "a retention of less than a day", help);
        }
        retention
    }
}
