//! What the console is configured with: who may enter, and how far back it looks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::names::Timestamp;

/// The name under which acts with the shared token are recorded.
pub const SHARED_TOKEN: &str = "token";

/// What the console is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Named administrators.
    pub administrators: Vec<Administrator>,
    /// The folder in which it may create client files; none by default.
    pub write: Option<PathBuf>,
    /// How far back decisions are kept.
    pub decisions: DecisionWindow,
    /// How long use is kept.
    pub usage_retention: Duration,
    /// Where audit records are exported to.
    pub audit_log: Option<AuditLog>,
}

/// An export of audit records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLog {
    /// The file.
    pub path: String,
}

/// How far back decisions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionWindow {
    /// Their largest age.
    pub window: Duration,
    /// Their largest number; 0 keeps none.
    pub max: usize,
}

/// A named administrator.
#[derive(Clone, PartialEq, Eq)]
pub struct Administrator {
    /// The name.
    pub name: Arc<str>,
    /// The role.
    pub role: Role,
    /// Argon2id of the password, as a PHC string; without one no page is entered.
    pub password: Option<String>,
    /// Tokens for the API.
    pub tokens: Vec<PersonalToken>,
}

impl std::fmt::Debug for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Administrator")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A token of an administrator, for the API.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonalToken {
    /// Its name, in audit records.
    pub name: String,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// When it expires.
    pub expires: Option<Timestamp>,
}

impl std::fmt::Debug for PersonalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PersonalToken").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an administrator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads pages; records without addresses and subjects.
    Viewer,
    /// Reads, and does what commands do.
    Operator,
    /// Reads, records with addresses and subjects included.
    Auditor,
    /// An operator who may also write client files.
    Editor,
}

impl Role {
    /// Its name in the YAML.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Editor => "editor",
        }
    }

    /// Whether it may block, unblock, revoke and the like.
    #[must_use]
    pub const fn acts(self) -> bool {
        matches!(self, Self::Operator | Self::Editor)
    }

    /// Whether it may have client files written.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Editor)
    }

    /// Whether it sees addresses and subjects of people.
    #[must_use]
    pub const fn sees_people(self) -> bool {
        matches!(self, Self::Auditor)
    }
}
