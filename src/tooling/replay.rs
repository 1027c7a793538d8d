//! From a decision record back to its request, as far as possible: records keep the operation and
//! the parameters that rules check, never a whole path, a token or a query.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::names::{IssuerName, Timestamp};
use crate::policy::Rules;
use crate::policy::route::{Segment, parse_template};
use crate::policy::sample::{Presented, Sample, TokenSample};
use crate::reason::{Reason, Step};
use crate::scope::ScopeSet;

/// Version of the record format that is read here.
pub const VERSION: u32 = 1;

/// The fields that are read from a record.
#[derive(Clone, Debug, Deserialize)]
pub struct Recorded<'a> {
    /// Version of its format.
    pub v: u32,
    /// Decision id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Time of the request.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// Method as sent.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// API.
    #[serde(borrow, default)]
    pub api: Option<Cow<'a, str>>,
    /// Version of the API.
    #[serde(borrow, default)]
    pub version: Option<Cow<'a, str>>,
    /// Resource template.
    #[serde(borrow, default)]
    pub resource: Option<Cow<'a, str>>,
    /// Path parameters that rules checked.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Address of the caller.
    #[serde(default)]
    pub address: Option<std::net::IpAddr>,
    /// Issuer.
    #[serde(borrow, default)]
    pub issuer: Option<Cow<'a, str>>,
    /// Client.
    #[serde(borrow, default)]
    pub client: Option<Cow<'a, str>>,
    /// Subject.
    #[serde(borrow, default)]
    pub subject: Option<Cow<'a, str>>,
    /// Scopes of the token that the client held.
    #[serde(borrow, default)]
    pub scopes: Option<Cow<'a, str>>,
    /// Roles of the acting user.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Claims that the policy checked.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// `permit` or `refuse`.
    #[serde(borrow)]
    pub verdict: Cow<'a, str>,
    /// Reason of a refusal.
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    /// The rules that decided.
    #[serde(borrow, default)]
    pub rules: Vec<Cow<'a, str>>,
    /// The set that decided.
    #[serde(borrow, default)]
    pub set: Cow<'a, str>,
}

/// Why a record cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// It has another format version.
    Version,
    /// No operation matched, so the path is not in the record; or it is one of our own endpoints.
    NoOperation,
    /// Its operation is not in these rules.
    OtherRules,
    /// No caller was identified, and records keep no tokens.
    NoCaller,
    /// The rules check a parameter of the path that was not recorded.
    Parameter,
    /// Its time cannot be parsed.
    Time,
}

impl Gap {
    /// As text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Version => "records of another version",
            Self::NoOperation => "no operation was matched, or one of our own endpoints was asked",
            Self::OtherRules => "the operation is not in the set that it is put to",
            Self::NoCaller => "nobody was identified, and records keep no tokens",
            Self::Parameter => "a rule looks at a parameter of the path that is not in the record",
            Self::Time => "the time cannot be read",
        }
    }
}

impl Recorded<'_> {
    /// The request, rebuilt with the rules that have its operation and to be decided by `judges`,
    /// and its time.
    ///
    /// # Errors
    /// Returns the gap that prevents it.
    pub fn case(&self, rules: &Rules, judges: &[&Rules]) -> Result<(Sample, Timestamp), Gap> {
        if self.v != VERSION {
            return Err(Gap::Version);
        }
        let at = self.time.parse::<jiff::Timestamp>().map_err(|_| Gap::Time)?;
        let (Some(api), Some(resource)) = (&self.api, &self.resource) else {
            return Err(Gap::NoOperation);
        };
        let api =
            rules.apis().iter().find(|own| own.name.as_str() == api).ok_or(Gap::OtherRules)?;
        if !api.resources.iter().any(|own| &*own.template == resource) {
            return Err(Gap::OtherRules);
        }
        let version =
            self.version.as_ref().map(|version| format!("/{version}")).unwrap_or_default();
        let rest = fill(resource, |name| self.parameters.get(name)?.as_str().map(str::to_owned));
        // Public operations need no caller, whatever happened after the decision.
        let reason = self.reason.as_deref().and_then(Reason::from_label);
        let decided = reason
            .is_none_or(|reason| reason == Reason::TokenMissing || reason.step() >= Step::Limits);
        if self.issuer.is_none() && !decided {
            return Err(Gap::NoCaller);
        }
        let target = sent(format!("{}{version}{rest}", api.base_path));
        let host = api.host.as_deref().unwrap_or_default();
        let looked_at =
            judges.iter().flat_map(|judge| judge.conditions_at(host, &target)).flatten();
        if looked_at.into_iter().any(|(_, name, _)| !self.parameters.contains_key(name)) {
            return Err(Gap::Parameter);
        }
        let case = Sample {
            method: self.method.clone().into_owned(),
            target,
            method_override: None,
            host: api.host.clone(),
            from: self.address,
            certificate: Vec::new(),
            token: self
                .issuer
                .as_deref()
                .map(|issuer| Presented::Sample(Box::new(self.words(issuer, rules)))),
        };
        Ok((case, Timestamp(at.as_second())))
    }

    fn words(&self, issuer: &str, rules: &Rules) -> TokenSample {
        let issuer = IssuerName::new(issuer);
        let client = self.client.as_deref().and_then(|id| rules.registry().client(id));
        let claim = if issuer.is_own() {
            self.client.clone().map(Cow::into_owned)
        } else {
            // The record has the client id used here. An issuer's default client stands for all
            // unlisted claims.
            client
                .and_then(|client| client.external.iter().find(|(of, _)| *of == issuer))
                .map(|(_, value)| value.clone())
        };
        let raw = |role: &String| rules.issuer(issuer.as_str())?.value_of(role).cloned();
        TokenSample {
            subject: self.subject.clone().map(Cow::into_owned),
            scopes: self
                .scopes
                .as_deref()
                .and_then(|scopes| ScopeSet::parse_unbounded(scopes).ok()),
            // Our own issuer maps no roles.
            roles: self.roles.iter().filter_map(raw).collect(),
            claims: self.claims.clone(),
            ..TokenSample::of(issuer.clone(), claim)
        }
    }
}

/// A path that a template matches: parameters with their values, or with [`UNUSED`].
#[must_use]
pub fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let Ok(segments) = parse_template(template) else { return template.to_owned() };
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        match segment {
            Segment::Literal(text) => path.push_str(&text),
            Segment::Parameter(name) => {
                path.push_str(&encode(&value(&name).unwrap_or_else(|| UNUSED.to_owned())));
            }
            Segment::Suffixed(name, literal) => {
                path.push_str(&encode(&value(&name).unwrap_or_else(|| UNUSED.to_owned())));
                path.push_str(&literal);
            }
            Segment::Rest(name) => {
                path.push_str(&encode_rest(&value(&name).unwrap_or_else(|| UNUSED.to_owned())));
            }
        }
    }
    path
}

/// A path as it is sent: the root itself is a slash (RFC 9110 §4.2.3).
#[must_use]
pub fn sent(path: String) -> String {
    if path.is_empty() { "/".to_owned() } else { path }
}

/// The value of a parameter that no rule checks.
pub const UNUSED: &str = "any";

/// Encodes the value of a rest; its slashes separate segments.
#[must_use]
pub fn encode_rest(value: &str) -> String {
    value.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// Encodes a value as a segment (RFC 3986 §3.3): everything but unreserved characters is escaped.
#[must_use]
pub fn encode(value: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
    value.bytes().fold(String::new(), |mut text, byte| {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}
