//! `issuers:` of gateway.yaml, and our own authorization server as one of them.

use std::collections::HashMap;

use super::super::format::HttpUrl;
use super::super::raw::RawIssuer;
use super::super::raw::issuer::{RawAlgorithm, RawKeys};
use super::super::{KeyFile, KeySource};
use super::gateway::{beside, is_loopback};
use super::{Builder, Entry, Named, Place};
use crate::names::{ClientId, IssuerName, RoleName};
use crate::policy::Issuer;
use crate::token::IssuerRules;
use crate::token::claims::{Audience, ClaimNames};
use crate::token::jws::Algorithm;

impl Builder<'_> {
    #[expect(clippy::type_complexity, reason = "three lists of one walk")]
    pub(super) fn issuers(
        &mut self,
        public_url: Option<&str>,
    ) -> (Vec<Issuer>, Vec<(IssuerName, KeySource)>, Vec<(IssuerName, ClientId)>) {
        let (mut issuers, mut sources, mut defaults) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen: HashMap<String, String> = HashMap::new();
        if let Some(url) = public_url {
            issuers.push(own_issuer(url));
            seen.insert(url.to_owned(), IssuerName::OWN.to_owned());
        }
        for Entry { name, place, value } in self.entries(std::slice::from_ref(self.gateway), "issuers") {
            self.check_name(&place, &name);
            if name == IssuerName::OWN {
                self.fault_at_key(&place, "`self` is our own authorization server", "choose another name");
                continue;
            }
            let Some(raw) = self.read::<RawIssuer>(&place, value) else { continue };
            if let Some(other) = seen.insert(raw.issuer.text().to_owned(), name.clone()) {
                let message = format!("`{}` is already the issuer `{other}`", raw.issuer.text());
                self.fault(&place.key("issuer"), message, "one entry for each issuer");
            }
            let name = IssuerName::new(&name);
            if let Some(client) = &raw.default_client
                && self.refer(&place.key("default_client"), Named::Client, client)
            {
                defaults.push((name.clone(), ClientId::new(client)));
            }
            let audience = self.audience(&raw, &place);
            if raw.keys.is_none() {
                let help = "write `keys: discover`, or { jwks_url: … }, or { jwks_file: … }";
                self.fault_at_key(&place, "the issuer has no `keys`", help);
            }
            let source = raw.keys.as_ref().and_then(|keys| self.key_source(&raw.issuer, keys, &place.key("keys")));
            sources.extend(source.map(|source| (name.clone(), source)));
            issuers.push(self.issuer(&raw, &place, name, audience));
        }
        (issuers, sources, defaults)
    }

    fn issuer(&mut self, raw: &RawIssuer, place: &Place<'_>, name: IssuerName, audience: Audience) -> Issuer {
        let leeway = raw.leeway.as_ref().map_or(30, |leeway| leeway.value.as_secs());
        if leeway > 60 {
            self.fault(
                &place.key("leeway"),
                "a leeway over 60s",
                "clocks that differ by more are broken; write at most 60s",
            );
        }
        let algorithms = self.algorithms(raw.algorithms.as_deref(), &place.key("algorithms"));
        Issuer {
            rules: IssuerRules {
                name,
                issuer: raw.issuer.text().to_owned(),
                audience,
                algorithms,
                claims: ClaimNames {
                    client: raw.claims.client.clone().unwrap_or_else(|| "client_id".to_owned()),
                    scopes: raw.claims.scopes.clone(),
                    roles: raw.claims.roles.clone(),
                },
                leeway: i64::try_from(leeway.min(60)).unwrap_or(60),
                kept: Vec::new(),
            },
            roles: raw.roles.iter().map(|(value, role)| (value.clone(), RoleName::new(role))).collect(),
        }
    }

    fn audience(&mut self, raw: &RawIssuer, place: &Place<'_>) -> Audience {
        match (&raw.audience, raw.any_audience) {
            (None, true) => Audience::Any,
            (Some(list), false) if !list.is_empty() => Audience::OneOf(list.clone()),
            (Some(_), true) => {
                self.fault(&place.key("any_audience"), "both `audience` and `any_audience: true`", "keep one of them");
                Audience::OneOf(Vec::new())
            }
            (None | Some(_), _) => {
                let help = "write `audience: [https://api.example.com]`; to accept tokens meant for anybody, `any_audience: true`";
                self.fault_at_key(
                    place,
                    "the issuer has no `audience`: tokens meant for others would be accepted",
                    help,
                );
                Audience::OneOf(Vec::new())
            }
        }
    }

    /// The algorithms that signatures may have.
    pub(super) fn algorithms(&mut self, raw: Option<&[RawAlgorithm]>, place: &Place<'_>) -> Vec<Algorithm> {
        match raw {
            None => vec![Algorithm::Rs256, Algorithm::Es256],
            Some([]) => {
                self.fault(place, "an empty list", "leave it out for RS256 and ES256");
                Vec::new()
            }
            Some(list) => list.iter().copied().map(algorithm).collect(),
        }
    }

    /// Where an issuer's keys are.
    pub(super) fn key_source(&mut self, issuer: &HttpUrl, raw: &RawKeys, place: &Place<'_>) -> Option<KeySource> {
        let (url, source) = match raw {
            RawKeys::JwksFile(path) => return self.key_file(path, place),
            RawKeys::Discover => {
                (&issuer.value, KeySource::Discover { issuer: issuer.text().to_owned(), any_host: false })
            }
            RawKeys::JwksUrl(url) => (&url.value, KeySource::Url(url.text().to_owned())),
        };
        if url.scheme() != "https" && !is_loopback(url) {
            self.fault(place, "keys over plain http could be replaced on the way", "write an https URL");
            return None;
        }
        Some(source)
    }

    fn key_file(&mut self, path: &str, place: &Place<'_>) -> Option<KeySource> {
        let file = beside(&self.gateway.file, path);
        let place = place.key("jwks_file");
        match self.lookup.file(&file) {
            Err(error) => {
                self.fault(
                    &place,
                    format!("{}: {error}", file.display()),
                    "paths are relative to the file they stand in",
                );
                None
            }
            Ok(contents) => {
                if let Err(fault) = crate::token::KeySet::parse(&contents) {
                    self.fault(
                        &place,
                        format!("{}: {fault}", file.display()),
                        "a JWK Set is {\"keys\": [ … ]} with public keys",
                    );
                }
                Some(KeySource::File(KeyFile { path: file.display().to_string(), contents }))
            }
        }
    }
}

/// Our own authorization server as an issuer: RFC 9068, no leeway on expiry because the clock is ours.
fn own_issuer(public_url: &str) -> Issuer {
    Issuer {
        rules: IssuerRules {
            name: IssuerName::new(IssuerName::OWN),
            issuer: public_url.to_owned(),
            audience: Audience::OneOf(vec![public_url.to_owned()]),
            algorithms: vec![Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256],
            claims: ClaimNames { client: "client_id".to_owned(), scopes: Some("scope".to_owned()), roles: None },
            leeway: 0,
            kept: Vec::new(),
        },
        roles: HashMap::new(),
    }
}

const fn algorithm(raw: RawAlgorithm) -> Algorithm {
    match raw {
        RawAlgorithm::Rs256 => Algorithm::Rs256,
        RawAlgorithm::Rs384 => Algorithm::Rs384,
        RawAlgorithm::Rs512 => Algorithm::Rs512,
        RawAlgorithm::Ps256 => Algorithm::Ps256,
        RawAlgorithm::Ps384 => Algorithm::Ps384,
        RawAlgorithm::Ps512 => Algorithm::Ps512,
        RawAlgorithm::Es256 => Algorithm::Es256,
        RawAlgorithm::Es384 => Algorithm::Es384,
        RawAlgorithm::EdDsa => Algorithm::EdDsa,
    }
}
