//! `issuers:` of gateway.yaml, and our own authorization server as one of them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::gateway::{is_loopback, relative_to};
use super::{Builder, Entry, Named, Place};
use crate::config::format::HttpUrl;
use crate::config::raw::RawIssuer;
use crate::config::raw::issuer::{RawAlgorithm, RawIntrospection, RawKeys};
use crate::config::{Introspection, KeyFile, KeySource};
use crate::grant::opaque::Kind;
use crate::names::{ClientId, IssuerName, RoleName};
use crate::policy::{Issuer, Opaque};
use crate::token::IssuerRules;
use crate::token::claims::{Audience, ClaimNames};
use crate::token::jws::Algorithm;

/// How long an introspection's answer is taken for true by default.
const INTROSPECTION_CACHE: Duration = Duration::from_secs(30);
/// And at most.
const MAX_INTROSPECTION_CACHE: Duration = Duration::from_secs(300);

/// What the section says.
#[derive(Default)]
pub(super) struct Issuers {
    pub(super) rules: Vec<Issuer>,
    pub(super) sources: Vec<(IssuerName, KeySource)>,
    pub(super) introspections: Vec<(IssuerName, Introspection)>,
    pub(super) defaults: Vec<(IssuerName, ClientId)>,
}

impl Builder<'_> {
    pub(super) fn issuers(&mut self, public_url: Option<&str>) -> Issuers {
        let mut all = Issuers::default();
        let mut seen: HashMap<String, String> = HashMap::new();
        if let Some(url) = public_url {
            all.rules.push(own_issuer(url));
            seen.insert(url.to_owned(), IssuerName::OWN.to_owned());
        }
        for Entry { name, place, value } in
            self.entries(std::slice::from_ref(self.gateway), "issuers")
        {
            self.check_name(&place, &name);
            if name == IssuerName::OWN {
                self.fault_at_key(
                    &place,
                    "`self` is our own authorization server",
                    "choose another name",
                );
                continue;
            }
            let Some(raw) = self.read::<RawIssuer>(&place, value) else { continue };
            if let Some(other) = seen.insert(raw.issuer.text().to_owned(), name.clone()) {
                let message = format!("`{}` is already the issuer `{other}`", raw.issuer.text());
                self.fault(&place.key("issuer"), message, "one entry for each issuer");
            }
            if public_url
                .is_some_and(|own| own != raw.issuer.text() && is_alike(own, &raw.issuer.value))
            {
                let message =
                    format!("`{}` is our own `public_url` in another spelling", raw.issuer.text());
                let help = "our own tokens are those of `self`, which needs no entry; an external \
                    issuer has another URL";
                self.fault(&place.key("issuer"), message, help);
            }
            let name = IssuerName::new(&name);
            if let Some(client) = &raw.default_client
                && self.refer(&place.key("default_client"), Named::Client, client)
            {
                all.defaults.push((name.clone(), ClientId::new(client)));
            }
            let audience = self.audience(&raw, &place);
            if raw.keys.is_none() && raw.introspection.is_none() {
                let help = "write `keys: discover`, or { jwks_url: … }, or { jwks_file: … }; or \
                    `introspection`";
                self.fault_at_key(&place, "the issuer has no `keys`", help);
            }
            let introspection = raw.introspection.as_ref();
            let introspection =
                introspection.and_then(|raw| self.introspection(raw, &place.key("introspection")));
            all.introspections
                .extend(introspection.map(|introspection| (name.clone(), introspection)));
            self.check_prefix(&raw, &place.key("token_prefix"), &all.rules);
            let source = raw
                .keys
                .as_ref()
                .and_then(|keys| self.key_source(&raw.issuer, keys, &place.key("keys")));
            all.sources.extend(source.map(|source| (name.clone(), source)));
            let issuer = self.issuer(&raw, &place, name, audience);
            all.rules.push(issuer);
        }
        all
    }

    fn issuer(
        &mut self,
        raw: &RawIssuer,
        place: &Place<'_>,
        name: IssuerName,
        audience: Audience,
    ) -> Issuer {
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
            roles: raw
                .roles
                .iter()
                .map(|(value, role)| (value.clone(), RoleName::new(role)))
                .collect(),
            opaque: raw
                .introspection
                .as_ref()
                .map(|_| Opaque { prefix: raw.token_prefix.clone(), jwts_too: raw.keys.is_none() }),
        }
    }

    fn introspection(
        &mut self,
        raw: &RawIntrospection,
        place: &Place<'_>,
    ) -> Option<Introspection> {
        if raw.url.value.scheme() != "https" && !is_loopback(&raw.url.value) {
            let help = "write an https URL";
            self.fault(&place.key("url"), "tokens and our secret would go over plain http", help);
        }
        let cache = raw.cache.as_ref().map_or(INTROSPECTION_CACHE, |cache| cache.value);
        if cache > MAX_INTROSPECTION_CACHE {
            let help = "a token revoked there is good here for so long; write at most 300s";
            self.fault(&place.key("cache"), "answers would be kept for too long", help);
        }
        let client_secret = self.secret(&raw.client_secret.value, &place.key("client_secret"))?;
        let (url, client_id) = (raw.url.text().to_owned(), raw.client_id.clone());
        Some(Introspection { url, client_id, client_secret, cache })
    }

    /// A prefix has to tell its issuer's tokens from all others.
    fn check_prefix(&mut self, raw: &RawIssuer, place: &Place<'_>, others: &[Issuer]) {
        let Some(prefix) = &raw.token_prefix else { return };
        let begins_alike =
            |other: &str| prefix.starts_with(other) || other.starts_with(prefix.as_str());
        if raw.introspection.is_none() {
            self.fault(
                place,
                "`token_prefix` without `introspection`",
                "write where these tokens are asked about",
            );
        }
        if begins_alike("eyJ") {
            self.fault(
                place,
                format!("`{prefix}` is how JWTs begin"),
                "JWTs are told by their `iss`; leave it out",
            );
        }
        if Kind::ALL.iter().any(|kind| begins_alike(kind.prefix())) {
            self.fault(
                place,
                format!("`{prefix}` is how our own tokens begin"),
                "they never leave; choose the issuer's own",
            );
        }
        for other in others {
            if let Some(known) = other.opaque.as_ref().and_then(|opaque| opaque.prefix.as_ref())
                && begins_alike(known)
            {
                let message = format!(
                    "`{prefix}` and `{known}` of the issuer `{}` begin alike",
                    other.rules.name
                );
                self.fault(
                    place,
                    message,
                    "a token would belong to both; choose prefixes of which none begins another",
                );
            }
        }
    }

    fn audience(&mut self, raw: &RawIssuer, place: &Place<'_>) -> Audience {
        match (&raw.audience, raw.any_audience) {
            (None, true) => Audience::Any,
            (Some(list), false) if !list.is_empty() => {
                Audience::OneOf(list.iter().cloned().collect())
            }
            (Some(_), true) => {
                self.fault(
                    &place.key("any_audience"),
                    "both `audience` and `any_audience: true`",
                    "keep one of them",
                );
                Audience::OneOf(BTreeSet::new())
            }
            (None | Some(_), _) => {
                let help = "write `audience: [https://api.example.com]`; to accept tokens meant \
                    for anybody, `any_audience: true`";
                self.fault_at_key(
                    place,
                    "the issuer has no `audience`: tokens meant for others would be accepted",
                    help,
                );
                Audience::OneOf(BTreeSet::new())
            }
        }
    }

    /// The algorithms that signatures may have.
    pub(super) fn algorithms(
        &mut self,
        raw: Option<&[RawAlgorithm]>,
        place: &Place<'_>,
    ) -> Vec<Algorithm> {
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
    pub(super) fn key_source(
        &mut self,
        issuer: &HttpUrl,
        raw: &RawKeys,
        place: &Place<'_>,
    ) -> Option<KeySource> {
        let (url, source) = match raw {
            RawKeys::JwksFile(path) => return self.key_file(path, place),
            RawKeys::Discover => (
                &issuer.value,
                KeySource::Discover { issuer: issuer.text().to_owned(), any_host: false },
            ),
            RawKeys::JwksUrl(url) => (&url.value, KeySource::Url(url.text().to_owned())),
        };
        if url.scheme() != "https" && !is_loopback(url) {
            self.fault(
                place,
                "keys over plain http could be replaced on the way",
                "write an https URL",
            );
            return None;
        }
        Some(source)
    }

    fn key_file(&mut self, path: &str, place: &Place<'_>) -> Option<KeySource> {
        let file = relative_to(&self.gateway.file, path);
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

/// Our own authorization server as an issuer: RFC 9068, no leeway on expiry because the clock is
/// ours. Whether a URL differs from another in nothing but what servers and people take for the
/// same: slashes at the end, the case of scheme and host, a default port, a dot behind the host.
pub(super) fn is_alike(own: &str, other: &url::Url) -> bool {
    let parts = |url: &url::Url| {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
        (
            host,
            url.port_or_known_default(),
            url.path().trim_end_matches('/').to_owned(),
            url.query().map(str::to_owned),
        )
    };
    url::Url::parse(own).is_ok_and(|own| parts(&own) == parts(other))
}

fn own_issuer(public_url: &str) -> Issuer {
    Issuer {
        rules: IssuerRules {
            name: IssuerName::new(IssuerName::OWN),
            issuer: public_url.to_owned(),
            audience: Audience::OneOf(BTreeSet::from([public_url.to_owned()])),
            algorithms: vec![Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256],
            claims: ClaimNames {
                client: "client_id".to_owned(),
                scopes: Some("scope".to_owned()),
                roles: None,
            },
            leeway: 0,
            kept: Vec::new(),
        },
        roles: HashMap::new(),
        opaque: None,
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
