//! What the JSON API is asked and answers with, besides what is shown of a part of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::server::admin::view::decisions::Decision;
use crate::server::admin::view::integrations::Integration;
use crate::server::admin::view::operations::{
    BlockRow, IssuerState, OwnKey, ReachRow, UpstreamState, UseReport,
};
use crate::server::admin::view::{Listed, PAGE_ROWS};
use crate::store::audit::NumberedRecord;
use crate::tooling::lint::Finding;
use crate::tooling::patch::Patch;

/// What a list is asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::server::admin) struct ListQuery {
    /// Text that a row has to contain.
    pub(in crate::server::admin) search: String,
    /// A kind of rows.
    pub(in crate::server::admin) filter: String,
    /// The order.
    pub(in crate::server::admin) sort: String,
    /// The client.
    pub(in crate::server::admin) client: String,
    /// The API.
    pub(in crate::server::admin) api: String,
    /// The page; the first one is 1.
    pub(in crate::server::admin) page: Option<usize>,
    /// Rows of a page, at most 500.
    pub(in crate::server::admin) per_page: Option<usize>,
}

impl ListQuery {
    pub(super) fn page<T>(&self, rows: Vec<T>) -> Listed<T> {
        Listed::of(rows, self.page.unwrap_or(1), self.per_page.unwrap_or(PAGE_ROWS))
    }
}

/// A finding with its id in the API.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::server::admin) struct FindingRow {
    /// The rule.
    pub(in crate::server::admin) rule: String,
    /// What it is about: a client, a policy, a scope.
    pub(in crate::server::admin) on: String,
    /// The client that it is about, where it is about one.
    pub(in crate::server::admin) client: Option<String>,
    /// `warning` or `note`.
    pub(in crate::server::admin) level: String,
    /// Where it is declared.
    pub(in crate::server::admin) at: String,
    /// What was found.
    pub(in crate::server::admin) message: String,
    /// What was seen.
    pub(in crate::server::admin) evidence: Vec<String>,
    /// Why it matters.
    pub(in crate::server::admin) why: String,
    /// What to do.
    pub(in crate::server::admin) fix: String,
    /// The reason why it was waived.
    pub(in crate::server::admin) waived: Option<String>,
}

impl FindingRow {
    pub(in crate::server::admin) fn of(finding: &Finding) -> Self {
        Self {
            rule: finding.rule.label().to_owned(),
            on: finding.on.clone(),
            client: finding.client().map(str::to_owned),
            level: finding.level.label().to_owned(),
            at: finding.at.clone(),
            message: finding.message.clone(),
            evidence: finding.evidence.clone(),
            why: finding.why.to_owned(),
            fix: finding.fix.to_owned(),
            waived: finding.waived.clone(),
        }
    }
}

/// A finding with its patch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::server::admin) struct FindingDetail {
    /// The finding.
    pub(in crate::server::admin) finding: FindingRow,
    /// The edit of the YAML that is its remedy.
    pub(in crate::server::admin) patch: Option<PatchRow>,
    /// Why there is none.
    pub(in crate::server::admin) no_patch: Option<String>,
}

/// A patch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::server::admin) struct PatchRow {
    /// The file.
    pub(in crate::server::admin) file: String,
    /// The change, as a unified diff.
    pub(in crate::server::admin) diff: String,
    /// What is refused afterwards and was permitted.
    pub(in crate::server::admin) refused: Vec<String>,
    /// What is permitted afterwards and was refused.
    pub(in crate::server::admin) permitted: Vec<String>,
}

impl PatchRow {
    pub(super) fn of(patch: &Patch) -> Self {
        let text = |found: &crate::tooling::diff::Difference| {
            serde_json::to_value(found).map_or_else(
                |_| String::new(),
                |value| {
                    let part = |name: &str| {
                        value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default()
                    };
                    format!("{} {}", part("caller"), part("operation")).trim().to_owned()
                },
            )
        };
        Self {
            file: patch.file.clone(),
            diff: patch.diff.clone(),
            refused: patch.effect.refused.iter().map(text).collect(),
            permitted: patch.effect.permitted.iter().map(text).collect(),
        }
    }
}

/// One integration with all that is known of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::server::admin) struct IntegrationDetail {
    /// Its fields and totals.
    pub(in crate::server::admin) integration: Integration,
    /// What it can reach, by which rule, and what of that it used; none while that is computed.
    pub(in crate::server::admin) reach: Option<Vec<ReachRow>>,
    /// Its last refusals in the window.
    pub(in crate::server::admin) refusals: Vec<Decision>,
    /// Findings about it.
    pub(in crate::server::admin) findings: Vec<FindingRow>,
    /// Its use in the last 30 days.
    pub(in crate::server::admin) usage: UseReport,
    /// Whether it is blocked by an act.
    pub(in crate::server::admin) blocked: bool,
}

/// Our keys, those of issuers, upstreams and blocks.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::server::admin) struct Operations {
    /// Our own keys.
    pub(in crate::server::admin) own_keys: Vec<OwnKey>,
    /// Other issuers.
    pub(in crate::server::admin) issuers: Vec<IssuerState>,
    /// Upstreams.
    pub(in crate::server::admin) upstreams: Vec<UpstreamState>,
    /// Blocks set by acts.
    pub(in crate::server::admin) blocks: Vec<BlockRow>,
}

/// Audit records, newest first.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::server::admin) struct AuditList {
    /// The records.
    pub(in crate::server::admin) items: Vec<NumberedRecord>,
    /// The `before` of the next page; none on the last one.
    pub(in crate::server::admin) next_before: Option<i64>,
}

/// What the use is asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::server::admin) struct UseQuery {
    /// The client; all when left out.
    pub(in crate::server::admin) client: String,
    /// The API; all when left out.
    pub(in crate::server::admin) api: String,
    /// Days before today, 30 by default, at most 400.
    pub(in crate::server::admin) days: Option<i64>,
}

/// What audit records are asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::server::admin) struct AuditQuery {
    /// Only records with numbers below this one.
    pub(in crate::server::admin) before: Option<i64>,
    /// How many, at most 500.
    pub(in crate::server::admin) limit: Option<usize>,
}

/// The caller, as the API names him.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::server::admin) struct Whoami {
    /// The administrator.
    pub(super) name: String,
    /// The role.
    pub(super) role: crate::config::console::Role,
    /// How he came in.
    pub(super) via: String,
}
