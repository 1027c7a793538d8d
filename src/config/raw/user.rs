//! `users.yaml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::yes;
use crate::config::format::{Argon2idText, HttpUrl};

/// config/users.yaml: users and their roles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsers {
    /// Users by name; names and client ids share one namespace.
    pub users: BTreeMap<String, RawUser>,
}

/// A user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUser {
    /// Name for people.
    pub name: Option<String>,
    /// Switched off, its tokens are refused.
    #[serde(default = "yes")]
    pub active: bool,
    /// Locked out, its tokens are refused.
    #[serde(default)]
    pub locked: bool,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Password for the login page.
    pub password: Option<RawPassword>,
    /// Who the user is at the login provider.
    #[serde(default)]
    pub external: Vec<RawIdentity>,
}

/// A user at an OpenID provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIdentity {
    /// The provider's issuer.
    pub issuer: HttpUrl,
    /// `sub` of its ID tokens.
    #[schemars(length(min = 1, max = 255))]
    pub subject: String,
}

/// A password's digest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPassword {
    /// Argon2id as a PHC string.
    pub argon2id: Argon2idText,
}
