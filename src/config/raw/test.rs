//! `tests:` of the policies.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::config::format::{Address, HostText, Instant, SecretRef};
use crate::names::IssuerName;
use crate::policy::sample::{TokenSample, scope_set};
use crate::reason::{Reason, TokenFault};

/// A test of the policies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTest {
    /// What it shows, in words.
    pub name: Option<String>,
    /// `METHOD path`.
    pub request: String,
    /// The method that an X-HTTP-Method-Override header names.
    pub method_override: Option<String>,
    /// Host that is asked; that of `public_url` when left out.
    pub host: Option<HostText>,
    /// Address of the caller.
    pub from: Option<Address>,
    /// Names of the client certificate that was shown: DNS names, URIs, `sha256:` and a digest.
    pub certificate: Option<Vec<String>>,
    /// What the token says; or a real one, as env:NAME or file:PATH, whose issuer has its keys in a
    /// file. No token when left out.
    pub token: Option<RawTestToken>,
    /// When the request comes; the moment at which the test runs when left out.
    pub at: Option<Instant>,
    /// `permit`, or the reason of the refusal.
    pub expect: RawExpectation,
    /// What exactly is wrong with the token, where `token.invalid` is expected.
    pub fault: Option<RawTokenFault>,
}

/// A token of a test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawTestToken {
    /// A real one.
    Real(SecretRef),
    /// What it says.
    TokenSample(RawTokenSample),
}

/// What a token says. What is left out is as its issuer would give it to the client.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTokenSample {
    /// Who minted it: `self`, or one of `issuers`. `self` when left out.
    pub issuer: Option<String>,
    /// The client claim: the client id in our own tokens, in others a value under `external` of a
    /// client.
    pub client: Option<String>,
    /// `sub`: a user of `users.yaml` in our own tokens that act for one. The client when left out.
    pub subject: Option<String>,
    /// Scopes; all that the client holds when left out.
    pub scopes: Option<Vec<String>>,
    /// Values of the role claim of another issuer's token. Our own have none: roles are those of
    /// users and clients now.
    pub roles: Option<Vec<String>>,
    /// Claims that profiles look at.
    #[serde(default)]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// `aud`; one that is accepted when left out.
    pub audience: Option<Vec<String>>,
    /// `jti`.
    pub id: Option<String>,
    /// `exp`; five minutes after the request when left out.
    pub expires: Option<Instant>,
    /// `nbf`.
    pub not_before: Option<Instant>,
}

impl RawTokenSample {
    /// The token that they are about.
    ///
    /// # Errors
    /// The key of what is wrong, and what is.
    pub fn read(&self) -> Result<TokenSample, (&'static str, String)> {
        let issuer = IssuerName::new(self.issuer.as_deref().unwrap_or(IssuerName::OWN));
        // A client that is not there may be meant: `client.unknown`.
        if issuer.is_own() && self.client.is_none() {
            return Err((
                "",
                "a token of our own is of a client: write `client`, or `issuer`".to_owned(),
            ));
        }
        if issuer.is_own() && self.roles.is_some() {
            return Err((
                "roles",
                "a token of our own says nothing of roles: they are those of users and clients now"
                    .to_owned(),
            ));
        }
        let scopes = self.scopes.as_ref().map(|scopes| scope_set(scopes)).transpose();
        Ok(TokenSample {
            client: self.client.clone(),
            subject: self.subject.clone(),
            scopes: scopes.map_err(|message| ("scopes", message))?,
            roles: self.roles.clone().unwrap_or_default(),
            claims: self.claims.clone().into_iter().collect(),
            audience: self.audience.clone(),
            id: self.id.clone(),
            expires: self.expires.as_ref().map(|at| at.value),
            not_before: self.not_before.as_ref().map(|at| at.value),
            ..TokenSample::of(issuer, None)
        })
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident($target:ty), $read:expr, $all:expr, $about:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub $target);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $read(&text).map(Self).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is \
                    not one of the choices")))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let words: Vec<&str> = $all;
                json_schema!({ "type": "string", "enum": words, "description": $about })
            }
        }
    };
}

words!(
    /// `permit` (`None`), or the reason of a refusal.
    RawExpectation(Option<Reason>),
    |text: &str| match text {
        "permit" => Some(None),
        reason => Reason::from_label(reason).filter(|reason| reason.is_judged()).map(Some),
    },
    std::iter::once("permit")
        .chain(Reason::ALL.iter().filter(|reason| reason.is_judged()).map(|reason| reason.label()))
        .collect(),
    "permit, or the reason of the refusal. What depends on counters, stores and servers cannot be \
        expected."
);

words!(
    /// What is wrong with a token.
    RawTokenFault(TokenFault),
    TokenFault::from_label,
    TokenFault::ALL.iter().map(|fault| fault.label()).collect(),
    "What exactly is wrong with a token."
);
