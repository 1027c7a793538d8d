//! `tests:` and `waivers:` of the policies.

use super::super::Waiver;
use super::super::raw::policy::RawWaiver;
use super::super::raw::test::{RawTest, RawTestToken, RawWords};
use super::{Builder, Named, Place};
use crate::names::IssuerName;
use crate::policy::case::{Case, Expectation, Presented, Test, Words, parse_line, scope_set};
use crate::reason::Reason;
use crate::request::credential::BearerToken;

impl Builder<'_> {
    pub(super) fn tests(&mut self) -> Vec<Test> {
        let mut tests = Vec::new();
        for (place, value) in Self::items(self.policies, "tests") {
            if let Some(raw) = self.read::<RawTest>(&place, value) {
                tests.extend(self.test(&raw, &place));
            }
        }
        tests
    }

    pub(super) fn waivers(&mut self) -> Vec<Waiver> {
        let mut waivers = Vec::new();
        for (place, value) in Self::items(self.policies, "waivers") {
            let Some(raw) = self.read::<RawWaiver>(&place, value) else { continue };
            waivers.push(Waiver {
                rule: raw.rule,
                on: raw.on,
                reason: raw.reason,
                until: raw.until.value,
                origin: place.origin(),
            });
        }
        waivers
    }

    fn test(&mut self, raw: &RawTest, place: &Place<'_>) -> Option<Test> {
        let line = parse_line(&raw.request).map_err(|message| {
            self.fault(&place.key("request"), message, "METHOD, a space, and the path as it is sent");
        });
        if raw.fault.is_some() && raw.expect.0 != Some(Reason::TokenInvalid) {
            self.fault(&place.key("fault"), "`fault` without `expect: token.invalid`", "only such tokens have one");
        }
        let token = match &raw.token {
            None => None,
            Some(token) => Some(self.token(token, &place.key("token"))?),
        };
        let (method, target) = line.ok()?;
        Some(Test {
            name: raw
                .name
                .clone()
                .unwrap_or_else(|| format!("{} → {}", raw.request, raw.expect.0.map_or("permit", Reason::label))),
            case: Case {
                method,
                target,
                host: raw.host.as_ref().map(|host| host.text().to_owned()),
                from: raw.from.as_ref().map(|from| from.value),
                certificate: raw.certificate.clone().unwrap_or_default(),
                token,
            },
            at: raw.at.as_ref().map(|at| at.value),
            expect: Expectation { reason: raw.expect.0, fault: raw.fault.map(|fault| fault.0) },
            origin: place.origin(),
        })
    }

    fn token(&mut self, raw: &RawTestToken, place: &Place<'_>) -> Option<Presented> {
        match raw {
            RawTestToken::Real(source) => {
                let secret = self.secret(&source.value, place)?;
                match BearerToken::parse(secret.expose()) {
                    Ok(token) => Some(Presented::Token(token)),
                    Err(refusal) => {
                        self.fault(
                            place,
                            format!("it is no token: {}", refusal.fault.text()),
                            "the token and nothing else",
                        );
                        None
                    }
                }
            }
            RawTestToken::Words(words) => self.words(words, place).map(|words| Presented::Words(Box::new(words))),
        }
    }

    fn words(&mut self, raw: &RawWords, place: &Place<'_>) -> Option<Words> {
        let issuer = IssuerName::new(raw.issuer.as_deref().unwrap_or(IssuerName::OWN));
        if !self.refer(&place.key("issuer"), Named::Issuer, issuer.as_str()) {
            return None;
        }
        if issuer.is_own() {
            // One that is not there may be meant: `client.unknown`.
            if raw.client.is_none() {
                self.fault(place, "a token of our own is of a client", "write `client`, or `issuer`");
            }
            if raw.roles.is_some() {
                let help = "they are those of users.yaml and of clients now; give them the roles, or write `issuer`";
                self.fault(&place.key("roles"), "a token of our own says nothing of roles", help);
            }
        }
        let scopes = raw.scopes.as_ref().map(|scopes| scope_set(scopes)).transpose();
        let scopes = scopes.map_err(|message| self.fault(&place.key("scopes"), message, "see `auth_scopes`")).ok()?;
        Some(Words {
            client: raw.client.clone(),
            subject: raw.subject.clone(),
            scopes,
            roles: raw.roles.clone().unwrap_or_default(),
            claims: raw.claims.clone().into_iter().collect(),
            audience: raw.audience.clone(),
            id: raw.id.clone(),
            expires: raw.expires.as_ref().map(|at| at.value),
            not_before: raw.not_before.as_ref().map(|at| at.value),
            ..Words::of(issuer, None)
        })
    }
}
