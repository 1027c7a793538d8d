//! `tests:` and `waivers:` of the policies.

use super::{Builder, Named, Place};
use crate::config::Waiver;
use crate::config::raw::policy::RawWaiver;
use crate::config::raw::test::{RawTest, RawTestToken, RawTokenSample};
use crate::names::IssuerName;
use crate::policy::sample::{
    Expectation, Presented, Sample, Test, TokenSample, check_override, parse_line,
};
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
            self.fault(
                &place.key("request"),
                message,
                "METHOD, a space, and the path as it is sent",
            );
        });
        if raw.fault.is_some() && raw.expect.0 != Some(Reason::TokenInvalid) {
            self.fault(
                &place.key("fault"),
                "`fault` without `expect: token.invalid`",
                "only such tokens have one",
            );
        }
        if let Some(Err(message)) = raw.method_override.as_deref().map(check_override) {
            let help = "PUT, PATCH or DELETE, where the request is a POST";
            self.fault(&place.key("method_override"), message, help);
        }
        let token = match &raw.token {
            None => None,
            Some(token) => Some(self.token(token, &place.key("token"))?),
        };
        let (method, target) = line.ok()?;
        Some(Test {
            name: raw.name.clone().unwrap_or_else(|| {
                format!("{} → {}", raw.request, raw.expect.0.map_or("permit", Reason::label))
            }),
            case: Sample {
                method,
                target,
                method_override: raw.method_override.clone(),
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
            RawTestToken::TokenSample(words) => {
                self.words(words, place).map(|words| Presented::Sample(Box::new(words)))
            }
        }
    }

    fn words(&mut self, raw: &RawTokenSample, place: &Place<'_>) -> Option<TokenSample> {
        let issuer = raw.issuer.as_deref().unwrap_or(IssuerName::OWN);
        let is_tenant = matches!(self.tenant_reference(issuer), Some(Ok(_)));
        if !is_tenant && !self.refer(&place.key("issuer"), Named::Issuer, issuer) {
            return None;
        }
        let read = raw.read().map_err(|(key, message)| {
            let place = if key.is_empty() { place.clone() } else { place.key(key) };
            self.fault(&place, message, "see docs/reference.yaml, `tests`");
        });
        read.ok()
    }
}
