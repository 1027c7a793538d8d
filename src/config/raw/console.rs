//! The console in `gateway.yaml`: administrators, and how far back it looks.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::format::{Argon2idText, Date, Duration, Sha256Text};

/// An administrator of the admin listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAdministrator {
    /// What he may do.
    pub role: RawRole,
    /// The password for the pages.
    pub password: Option<RawAdministratorPassword>,
    /// Tokens for the API.
    #[serde(default)]
    pub tokens: Vec<RawPersonalToken>,
}

/// What an administrator may do.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawRole {
    /// Reads; records without addresses and subjects.
    Viewer,
    /// Reads, and does what commands do: block, revoke, rotate, clear.
    Operator,
    /// Reads, records with addresses and subjects included.
    Auditor,
    /// An operator who may also have client files written.
    Editor,
}

/// The password of an administrator: its digest, never the password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAdministratorPassword {
    /// Argon2id, as a PHC string.
    pub argon2id: Argon2idText,
}

/// A token for the API: its digest, never the token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPersonalToken {
    /// Its name, in audit records.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// SHA-256 of a token of at least 43 random characters.
    pub sha256: Sha256Text,
    /// From this day on it is refused.
    pub expires: Option<Date>,
}

/// What the console may do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConsole {
    /// The folder of `clients`, in which an editor may have a file created. By default the console
    /// writes nothing.
    pub write: Option<String>,
}

/// The decisions that the console and `explain` can look back on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDecisions {
    /// Their largest age, 1h by default, at most 24h.
    pub window: Option<Duration>,
    /// Their largest number, 100000 by default; 0 keeps none.
    #[schemars(range(max = 10_000_000))]
    pub max: Option<u32>,
}

/// Use per client, API, operation and day.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsage {
    /// How long it is kept, 400d by default.
    pub retention: Option<Duration>,
}

/// An export of audit records.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuditLog {
    /// Appended to, one JSON line for each record; made with mode 0600, relative to the working
    /// directory.
    pub file: String,
}
