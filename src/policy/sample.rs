//! A request as people write it, for tests, explanations and comparisons: from text to the facts
//! that the decision takes.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::decide::{Judgement, Moment, Permit, decide};
use super::{Issuer, Rules};
use crate::names::{ClientId, IssuerName, Origin, ScopeName, Timestamp};
use crate::reason::{Reason, Refusal, TokenFault};
use crate::request::Request;
use crate::request::certificate::CertificateFacts;
use crate::request::credential::BearerToken;
use crate::request::head::{Head, Limits};
use crate::scope::ScopeSet;
use crate::token::Facts;
use crate::token::claims::Audience;
use crate::token::tenant;

/// Default lifetime of a token, in seconds.
const LIFE: i64 = 300;

/// A request as text.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Method as sent.
    pub method: String,
    /// Target as sent: path and query.
    pub target: String,
    /// The value of an X-HTTP-Method-Override header.
    pub method_override: Option<String>,
    /// Host as sent; that of `public_url` when left out.
    pub host: Option<String>,
    /// Address of the caller.
    pub from: Option<IpAddr>,
    /// Names of the presented client certificate: DNS names, URIs, `sha256:` and a digest.
    pub certificate: Vec<String>,
    /// The token in the Authorization header.
    pub token: Option<Presented>,
}

/// A token of a sample.
#[derive(Clone, Debug)]
pub enum Presented {
    /// A description of its facts.
    Sample(Box<TokenSample>),
    /// A real token.
    Token(BearerToken),
}

/// The facts of a token. A part that is left out has the issuer's default for the client.
#[derive(Clone, Debug)]
pub struct TokenSample {
    /// The issuer.
    pub issuer: IssuerName,
    /// The client claim: of our own tokens the client id.
    pub client: Option<String>,
    /// `sub`; the client when left out.
    pub subject: Option<String>,
    /// The scopes; all that the client holds when left out.
    pub scopes: Option<ScopeSet>,
    /// Values of the role claim, of another issuer's token.
    pub roles: Vec<String>,
    /// Claims that profiles check.
    pub claims: Map<String, Value>,
    /// `aud`; an accepted one when left out.
    pub audience: Option<Vec<String>>,
    /// `jti`.
    pub id: Option<String>,
    /// `exp`; five minutes after the time of the request when left out.
    pub expires: Option<Timestamp>,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
}

impl TokenSample {
    /// A token of our own for a client, with all its scopes.
    #[must_use]
    pub fn of_client(client: &ClientId) -> Self {
        Self::of(IssuerName::new(IssuerName::OWN), Some(client.to_string()))
    }

    /// A token of an issuer, with this client claim.
    #[must_use]
    pub fn of(issuer: IssuerName, client: Option<String>) -> Self {
        Self {
            issuer,
            client,
            subject: None,
            scopes: None,
            roles: Vec::new(),
            claims: Map::new(),
            audience: None,
            id: None,
            expires: None,
            not_before: None,
        }
    }

    /// The facts of such a token.
    #[must_use]
    pub fn facts(&self, rules: &Rules, now: Timestamp) -> Facts {
        let issuer = rules.issuer(self.issuer.as_str());
        let name = self.issuer_name(rules, issuer);
        let subject = self.subject.clone().or_else(|| self.client.clone()).unwrap_or_default();
        let audience = self.audience.clone().unwrap_or_else(|| audience(issuer));
        Facts {
            issuer: name.clone(),
            key: None,
            client: self.client.clone(),
            expires: self.expires.unwrap_or_else(|| now.plus(LIFE)),
            not_before: self.not_before,
            issued: Some(now),
            id: self.id.clone(),
            authorization: None,
            scopes: self.scopes_of(rules, issuer, &name),
            roles: self.roles.clone(),
            bound: false,
            unread: Vec::new(),
            claims: self.claims_of(issuer, &name, &subject, &audience),
            subject,
            audience,
        }
    }

    /// The claims, including the standard ones that profiles check, which follow from the rest.
    fn claims_of(
        &self,
        issuer: Option<&Issuer>,
        name: &IssuerName,
        subject: &str,
        audience: &[String],
    ) -> Map<String, Value> {
        let mut claims = self.claims.clone();
        let Some(rules) = issuer.map(|issuer| &issuer.rules) else { return claims };
        let tenant = name.tenant();
        let iss = tenant.map(|tenant| tenant::issuer_of(&rules.issuer, tenant));
        let standard = [
            (
                rules.tenants.as_ref().map_or("", |tenants| tenants.claim.as_str()),
                tenant.map(Value::from),
            ),
            ("iss", Some(Value::from(iss.as_deref().unwrap_or(&rules.issuer)))),
            ("sub", Some(Value::from(subject))),
            ("aud", Some(Value::from(audience.to_vec()))),
            (
                rules.claims.client.first().map_or("", String::as_str),
                self.client.as_deref().map(Value::from),
            ),
        ];
        for (name, value) in standard {
            if let Some(value) = value.filter(|_| rules.kept.iter().any(|kept| kept == name)) {
                claims.entry(name).or_insert(value);
            }
        }
        claims
    }

    /// The name with a tenant: the one that is named, or the first that is listed.
    fn issuer_name(&self, rules: &Rules, issuer: Option<&Issuer>) -> IssuerName {
        let name = rules.issuer_name(self.issuer.as_str());
        let tenants = issuer.and_then(|issuer| issuer.rules.tenants.as_ref());
        match tenants.filter(|_| name.tenant().is_none()).and_then(|known| known.listed().next()) {
            Some(tenant) => name.of_tenant(tenant),
            None => name,
        }
    }

    fn scopes_of(
        &self,
        rules: &Rules,
        issuer: Option<&Issuer>,
        name: &IssuerName,
    ) -> Option<ScopeSet> {
        // An issuer without a scopes claim declares no scopes.
        issuer?.rules.claims.scopes.first()?;
        Some(self.scopes.clone().unwrap_or_else(|| {
            let registry = rules.registry();
            let client = if self.issuer.is_own() {
                self.client.as_deref().and_then(|id| registry.client(id))
            } else {
                registry.external_client(name, self.client.as_deref())
            };
            client
                .map(|client| client.scopes.iter().cloned().collect::<ScopeSet>())
                .unwrap_or_default()
        }))
    }
}

/// An accepted audience for an issuer's tokens.
#[must_use]
pub fn audience(issuer: Option<&Issuer>) -> Vec<String> {
    match issuer.map(|issuer| &issuer.rules.audience) {
        Some(Audience::OneOf(ours)) => ours.first().cloned().into_iter().collect(),
        Some(Audience::Any) | None => Vec::new(),
    }
}

impl Sample {
    /// The request, parsed as strictly as on the wire.
    ///
    /// # Errors
    /// Strict parsing refuses it.
    pub fn request(&self, public_host: &str) -> Result<Request, Refusal> {
        let host = self.host.as_deref().unwrap_or(public_host);
        let named = self.method_override.as_ref();
        let named = named.map(|method| format!("X-HTTP-Method-Override: {method}\r\n"));
        let text = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\n{}\r\n",
            self.method,
            self.target,
            named.unwrap_or_default()
        );
        let head = Head::parse(text.as_bytes(), &Limits::default())?;
        let credential = match &self.token {
            None => Err(Refusal::new(Reason::TokenMissing)),
            // A placeholder for the described token; it is not read.
            Some(Presented::Sample(_)) => BearerToken::parse("words"),
            Some(Presented::Token(token)) => Ok(token.clone()),
        };
        let mut request = Request::new(head, self.from, credential);
        request.certificate = CertificateFacts::named(&self.certificate);
        Ok(request)
    }

    /// The verdict. `read` reads a real token.
    pub fn judge(
        &self,
        rules: &Rules,
        public_host: &str,
        read: impl FnOnce(&BearerToken) -> Result<Arc<Facts>, Refusal>,
        moment: Moment<'_>,
    ) -> Judgement {
        let request = match self.request(public_host) {
            Ok(request) => request,
            Err(refusal) => return Judgement::refused(refusal),
        };
        let read = |token: &BearerToken| match &self.token {
            Some(Presented::Sample(words)) => Ok(Arc::new(words.facts(rules, moment.now))),
            Some(Presented::Token(_)) | None => read(token),
        };
        decide(rules, &request, read, moment)
    }
}

/// The expected result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The reason of the refusal; a permit when left out.
    pub reason: Option<Reason>,
    /// The exact fault of the token, if given.
    pub fault: Option<TokenFault>,
}

impl Expectation {
    /// Whether a verdict is the expected one.
    #[must_use]
    pub fn is(&self, outcome: &Result<Permit, Refusal>) -> bool {
        match (self.reason, outcome) {
            (None, Ok(_)) => true,
            (Some(reason), Err(refusal)) => {
                reason == refusal.reason
                    && self.fault.is_none_or(|fault| fault.label() == refusal.fault.label())
            }
            (None, Err(_)) | (Some(_), Ok(_)) => false,
        }
    }
}

/// A request with its expected verdict.
#[derive(Clone, Debug)]
pub struct Test {
    /// The property that it shows.
    pub name: String,
    /// The request.
    pub case: Sample,
    /// The time of the request; now when left out.
    pub at: Option<Timestamp>,
    /// The expected result.
    pub expect: Expectation,
    /// Its position in the config file.
    pub origin: Origin,
}

/// Checks the value of an X-HTTP-Method-Override header: one line, which the head's grammar reads.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn check_override(value: &str) -> Result<(), String> {
    if value.chars().any(char::is_control) {
        return Err("a method has no control characters; write for instance PATCH".to_owned());
    }
    Ok(())
}

/// Parses `METHOD target`.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn parse_line(line: &str) -> Result<(String, String), String> {
    if line.chars().any(char::is_control) {
        return Err("a request line has no control characters".to_owned());
    }
    match line.split_once(' ') {
        Some((method, target)) if !method.is_empty() && target.starts_with('/') => {
            Ok((method.to_owned(), target.to_owned()))
        }
        _ => Err(format!(
            "`{line}` is not a method and a path; write for instance `GET /api/now/table/incident`"
        )),
    }
}

/// Parses the scopes of a token.
///
/// # Errors
/// One is not a valid scope (RFC 6749 §3.3).
pub fn scope_set(names: &[String]) -> Result<ScopeSet, String> {
    match names.iter().find(|name| !crate::scope::is_scope_token(name)) {
        Some(name) => Err(format!("`{name}` is not a scope")),
        None => Ok(names.iter().map(|name| ScopeName::new(name)).collect()),
    }
}
