//! `issuers:` of gateway.yaml, and our own authorization server as one of them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::gateway::relative_to;
use super::{Builder, Entry, Named, Place};
use crate::config::format::{self, is_loopback};
use crate::config::raw::RawIssuer;
use crate::config::raw::issuer::{
    RawAlgorithm, RawAllow, RawClaimNames, RawIntrospection, RawKeyPlace, RawKeys, RawTenants,
};
use crate::config::{Introspection, KeyFile, KeySource, Outbound};
use crate::grant::opaque::Kind;
use crate::names::{ClientId, IssuerName, RoleName};
use crate::policy::{Issuer, Opaque};
use crate::token::IssuerRules;
use crate::token::claims::{Audience, ClaimNames};
use crate::token::jws::Algorithm;
use crate::token::tenant::{self, Allowed, Tenants};

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

fn names(raw: Option<&RawClaimNames>, default: &[&str]) -> Vec<String> {
    let default = || default.iter().map(|name| (*name).to_owned()).collect();
    raw.map_or_else(default, |names| names.names().to_vec())
}

/// Why no claim can have this name.
pub(super) fn unusable_claim(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("an empty name");
    }
    if name.len() > 256 {
        return Some("a name of more than 256 bytes");
    }
    let pointer = name.strip_prefix('/')?;
    let is_escaped = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    (!is_escaped).then_some("a `~` in a JSON Pointer is `~0` or begins `~1` (RFC 6901 §3)")
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
            let tenants = self.tenants(&raw, &place);
            self.check_names_apart(&place, &name, &raw, &all.rules);
            let is_ours_alike = |own: &str| {
                let url = url::Url::parse(raw.issuer.text());
                own != raw.issuer.text() && url.is_ok_and(|url| is_alike(own, &url))
            };
            if public_url.is_some_and(is_ours_alike) {
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
            let outbound = self.outbound(raw.ca.as_deref(), raw.proxy.as_ref(), &place);
            self.check_outbound(&raw, &place);
            let introspection = introspection.and_then(|raw| {
                self.introspection(raw, outbound.clone(), &place.key("introspection"))
            });
            all.introspections
                .extend(introspection.map(|introspection| (name.clone(), introspection)));
            self.check_prefix(&raw, &place.key("token_prefix"), &all.rules);
            let source = raw.keys.as_ref().and_then(|keys| {
                self.key_source(raw.issuer.text(), keys, outbound, &place.key("keys"))
            });
            all.sources.extend(source.map(|source| (name.clone(), source)));
            let issuer = self.issuer(&raw, &place, (name, tenants), audience);
            for iss in issuer.rules.issuers() {
                if let Some(other) = seen.insert(iss.clone(), issuer.rules.name.to_string()) {
                    let message = format!("`{iss}` is already the issuer `{other}`");
                    self.fault(&place.key("issuer"), message, "one entry for each issuer");
                }
            }
            self.check_templates_apart(&place, &issuer, &all.rules);
            all.rules.push(issuer);
        }
        all
    }

    fn issuer(
        &mut self,
        raw: &RawIssuer,
        place: &Place<'_>,
        (name, tenants): (IssuerName, Option<Tenants>),
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
        self.check_claim_names(raw, &place.key("claims"));
        self.check_any_tenant(raw, place);
        Issuer {
            rules: IssuerRules {
                name,
                issuer: raw.issuer.text().to_owned(),
                tenants,
                audience,
                algorithms,
                types: self.token_types(raw, &place.key("token_types")),
                id_tokens: raw.id_tokens,
                claims: ClaimNames {
                    client: names(raw.claims.client.as_ref(), &["client_id"]),
                    subject: names(raw.claims.subject.as_ref(), &["sub"]),
                    scopes: names(raw.claims.scopes.as_ref(), &[]),
                    roles: names(raw.claims.roles.as_ref(), &[]),
                    separator: self.separator(raw, place),
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

    /// Tenants and the place that they have in `iss` (decisions.md, "Tenants").
    fn tenants(&mut self, raw: &RawIssuer, place: &Place<'_>) -> Option<Tenants> {
        let placeholders = raw.issuer.text().matches(tenant::PLACEHOLDER).count();
        let Some(tenants) = &raw.tenants else {
            if raw.issuer.text().contains(['{', '}']) {
                let help = "write the issuer as its tokens do, or `{tenant}` in it and \
                    `tenants: { claim: tid, allow: [ … ] }`";
                let message = format!("`{}`: no token says so", raw.issuer.text());
                self.fault(&place.key("issuer"), message, help);
            }
            return None;
        };
        if placeholders != 1
            || raw.issuer.text().replace(tenant::PLACEHOLDER, "").contains(['{', '}'])
        {
            let message = format!("`{}` has no place for the tenant", raw.issuer.text());
            let help = "with `tenants` the issuer has `{tenant}` in it once: \
                https://login.example/{tenant}/v2.0";
            self.fault(&place.key("issuer"), message, help);
        }
        if raw.keys.as_ref().is_none_or(is_discovered) {
            let help = "write `keys: { jwks_url: … }`, or { jwks_file: … }";
            self.fault(&place.key("tenants"), "tenants need their keys written out", help);
        }
        if raw.introspection.is_some() {
            let help = "leave `introspection` out, or write one entry for each tenant";
            self.fault(
                &place.key("introspection"),
                "an opaque token does not say of which tenant it is",
                help,
            );
        }
        let place = place.key("tenants");
        if let Some(message) = unusable_claim(&tenants.claim) {
            let message = format!("`{}`: {message}", tenants.claim);
            self.fault(&place.key("claim"), message, "the claim that names the tenant: tid");
        }
        let allowed = self.allowed_tenants(tenants, &place.key("allow"));
        Some(Tenants { claim: tenants.claim.clone(), allowed })
    }

    fn allowed_tenants(&mut self, raw: &RawTenants, place: &Place<'_>) -> Allowed {
        let RawAllow::OneOf(tenants) = &raw.allow else { return Allowed::Any };
        if tenants.is_empty() {
            let help = "write the tenants, or `any`";
            self.fault(place, "an empty list: no token would be taken", help);
        }
        for (at, name) in tenants.iter().enumerate() {
            if !tenant::is_tenant(name) {
                let help = "letters, digits, dots and dashes, at most 64";
                self.fault(&place.at(at), format!("`{name}` is no tenant"), help);
            }
        }
        Allowed::OneOf(tenants.iter().cloned().collect())
    }

    /// No issuer may have the name that a tenant of another has.
    fn check_names_apart(
        &mut self,
        place: &Place<'_>,
        name: &str,
        raw: &RawIssuer,
        others: &[Issuer],
    ) {
        let of_tenant = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.starts_with('/'))
        };
        for other in others {
            let known = other.rules.name.as_str();
            let has_tenants = other.rules.tenants.is_some();
            if (raw.tenants.is_some() && of_tenant(known, name))
                || (has_tenants && of_tenant(name, known))
            {
                let message =
                    format!("`{name}` and `{known}`: one is named as a tenant of the other");
                self.fault_at_key(place, message, "choose another name");
            }
        }
    }

    /// No token may be of two issuers with any tenant.
    fn check_templates_apart(&mut self, place: &Place<'_>, issuer: &Issuer, others: &[Issuer]) {
        let any = |issuer: &Issuer| {
            issuer.rules.tenants.as_ref().is_some_and(|known| known.allowed == Allowed::Any)
        };
        let template = &issuer.rules.issuer;
        for other in others.iter().filter(|other| any(issuer) && any(other)) {
            if tenant::overlap(template, &other.rules.issuer) {
                let message = format!("a token may be of `{}` too", other.rules.name);
                self.fault(&place.key("issuer"), message, "list the tenants of one of them");
            }
        }
    }

    /// With any tenant, what their administrators write into tokens decides nothing here
    /// (decisions.md, "Tenants").
    fn check_any_tenant(&mut self, raw: &RawIssuer, place: &Place<'_>) {
        if !raw.tenants.as_ref().is_some_and(|known| matches!(known.allow, RawAllow::Any(_))) {
            return;
        }
        let help = "list the tenants under `tenants.allow`, or leave it out";
        if !raw.roles.is_empty() {
            let message = "any tenant could give itself these roles";
            self.fault(&place.key("roles"), message, help);
        }
        if raw.claims.scopes.is_none() {
            let help = "write `claims: { scopes: … }`, or list the tenants under `tenants.allow`";
            let message =
                "without a scopes claim, any tenant's token has all that its client holds";
            self.fault_at_key(place, message, help);
        }
    }

    /// The claim that names the tenant, of an issuer with any tenant.
    pub(super) fn any_tenant_of(&self, issuer: &str) -> Option<&str> {
        let tenants = self.gateway.value.get("issuers")?.get(issuer)?.get("tenants")?;
        tenants.get("allow")?.as_str()?;
        tenants.get("claim")?.as_str()
    }

    /// An issuer that a rule refers to: its name, or where it has tenants, that of one of them.
    pub(super) fn tenant_reference(&self, text: &str) -> Option<Result<IssuerName, String>> {
        let issuers = self.gateway.value.get("issuers")?;
        let tenants = |name: &str| issuers.get(name)?.get("tenants");
        if issuers.get(text).is_some() {
            return tenants(text).map(|_| {
                Err(format!("`{text}` has tenants: a client there is one of `{text}/TENANT`"))
            });
        }
        let (name, one) = text.rsplit_once('/')?;
        let allow = tenants(name)?.get("allow")?;
        let is_allowed = tenant::is_tenant(one)
            && allow
                .as_sequence()
                .is_none_or(|listed| listed.iter().any(|listed| listed.as_str() == Some(one)));
        Some(if is_allowed {
            Ok(IssuerName::new(name).of_tenant(one))
        } else {
            Err(format!("`{one}` is no tenant of `{name}`"))
        })
    }

    /// A name that no claim can have is a mistake that would show as a refusal of every token.
    fn check_claim_names(&mut self, raw: &RawIssuer, place: &Place<'_>) {
        let claims = &raw.claims;
        for (key, names) in [
            ("client", &claims.client),
            ("subject", &claims.subject),
            ("scopes", &claims.scopes),
            ("roles", &claims.roles),
        ] {
            let names = names.as_ref().map(RawClaimNames::names).unwrap_or_default();
            for name in names {
                if let Some(message) = unusable_claim(name) {
                    let help = "a name, names with dots between (`realm_access.roles`), or a JSON \
                        Pointer (`/resource_access/my.client/roles`)";
                    self.fault(&place.key(key), format!("`{name}`: {message}"), help);
                }
            }
            let mut sorted: Vec<&String> = names.iter().collect();
            sorted.sort();
            if let Some(twice) = sorted.windows(2).find(|pair| pair.first() == pair.last()) {
                let name = twice.first().map_or("", |name| name.as_str());
                self.fault(&place.key(key), format!("`{name}` twice"), "each name once");
            }
        }
    }

    fn token_types(&mut self, raw: &RawIssuer, place: &Place<'_>) -> Vec<String> {
        let default = || vec!["at+jwt".to_owned(), "jwt".to_owned()];
        let Some(types) = &raw.token_types else { return default() };
        for kind in types {
            let is_type = !kind.is_empty()
                && kind
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-./_".contains(&byte));
            if !is_type {
                let message = format!("`{kind}` is no media type, and no token can have it");
                let help = "write the tokens' `typ`: at+jwt, JWT, JOSE, …";
                self.fault(place, message, help);
            }
        }
        let plain = |kind: &String| {
            let kind = kind.to_ascii_lowercase();
            kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind)
        };
        types.iter().map(plain).collect()
    }

    fn separator(&mut self, raw: &RawIssuer, place: &Place<'_>) -> char {
        let Some(text) = &raw.scope_separator else { return ' ' };
        let place = place.key("scope_separator");
        if raw.claims.scopes.is_none() {
            let help = "write `claims: { scopes: … }`, or leave it out";
            self.fault(&place, "there is no scopes claim to separate", help);
        }
        match text.as_str() {
            "," => ',',
            ";" => ';',
            "|" => '|',
            "+" => '+',
            _ => {
                let message = format!("`{text}` separates no scopes");
                self.fault(
                    &place,
                    message,
                    "write one of \",\", \";\", \"|\", \"+\"; a space is the default",
                );
                ' '
            }
        }
    }

    fn introspection(
        &mut self,
        raw: &RawIntrospection,
        outbound: Outbound,
        place: &Place<'_>,
    ) -> Option<Introspection> {
        if raw.url.value.scheme() != "https" && !is_loopback(&raw.url.value) && !raw.plain_http {
            let help = "write an https URL; inside a network that you trust, `plain_http: true`";
            self.fault(&place.key("url"), "tokens and our secret would go over plain http", help);
        }
        let cache = raw.cache.as_ref().map_or(INTROSPECTION_CACHE, |cache| cache.value);
        if cache > MAX_INTROSPECTION_CACHE {
            let help = "a token revoked there is good here for so long; write at most 300s";
            self.fault(&place.key("cache"), "answers would be kept for too long", help);
        }
        let client_secret = self.secret(&raw.client_secret.value, &place.key("client_secret"))?;
        let (url, client_id) = (raw.url.text().to_owned(), raw.client_id.clone());
        Some(Introspection { url, client_id, client_secret, cache, outbound })
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
        if raw.id_tokens && raw.any_audience {
            let message = "ID tokens that were made for any client would be accepted";
            let help = "write `audience: [client id]` of the clients whose ID tokens are taken";
            self.fault(&place.key("id_tokens"), message, help);
        }
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
        issuer: &str,
        raw: &RawKeys,
        outbound: Outbound,
        place: &Place<'_>,
    ) -> Option<KeySource> {
        let raw = key_place(raw);
        let help = "write exactly one of `discover`, { jwks_url: … } and { jwks_file: … }";
        if raw.discover == Some(false) {
            self.fault(&place.key("discover"), "`discover: false` is no place of keys", help);
            return None;
        }
        let (url, source) = match (raw.discover, &raw.jwks_url, &raw.jwks_file) {
            (None, None, Some(path)) => return self.key_file(path, place),
            (Some(_), None, None) => (
                self.metadata_url(issuer, place)?,
                KeySource::Discover { issuer: issuer.to_owned(), any_host: false, outbound },
            ),
            (None, Some(url), None) => {
                (url.value.clone(), KeySource::Url { url: url.text().to_owned(), outbound })
            }
            (None, None, None) => {
                self.fault(place, "no place of keys", help);
                return None;
            }
            _ => {
                self.fault(place, "several places of keys", help);
                return None;
            }
        };
        if url.scheme() != "https" && !is_loopback(&url) && !raw.plain_http {
            let help = "write an https URL; inside a network that you trust, `keys: { …, \
                plain_http: true }`";
            self.fault(place, "keys over plain http could be replaced on the way", help);
            return None;
        }
        Some(source)
    }

    /// How servers are reached; `place` is where `ca` and `proxy` stand.
    pub(super) fn outbound(
        &mut self,
        ca: Option<&str>,
        proxy: Option<&format::HttpUrl>,
        place: &Place<'_>,
    ) -> Outbound {
        Outbound {
            ca: ca.and_then(|path| self.authorities(path, &place.key("ca"))),
            proxy: proxy.map(|proxy| proxy.text().to_owned()),
        }
    }

    /// Settings of the way out that nothing goes.
    fn check_outbound(&mut self, raw: &RawIssuer, place: &Place<'_>) {
        let keys = raw.keys.as_ref().map(key_place);
        let is_file = keys.as_ref().is_none_or(|keys| keys.jwks_file.is_some());
        for (key, is_there) in [("ca", raw.ca.is_some()), ("proxy", raw.proxy.is_some())] {
            if is_there && is_file && raw.introspection.is_none() {
                let help = "leave it out: keys are in a file";
                self.fault(&place.key(key), "nothing is fetched of this issuer", help);
            }
        }
        if keys.is_some_and(|keys| keys.jwks_file.is_some() && keys.plain_http) {
            let help = "leave it out: keys are in a file";
            self.fault(&place.key("keys").key("plain_http"), "nothing is fetched over http", help);
        }
        let is_plain =
            raw.introspection.as_ref().is_some_and(|raw| raw.url.value.scheme() == "http");
        if raw.proxy.is_some() && is_plain {
            let help = "ask over https: a proxy would read tokens and our secret";
            let message = "a proxy is not used for a plain http endpoint with credentials";
            self.fault(&place.key("proxy"), message, help);
        }
    }

    /// Metadata are found from a URL alone (RFC 8414 §2: https, without query and fragment).
    fn metadata_url(&mut self, issuer: &str, place: &Place<'_>) -> Option<url::Url> {
        // A placeholder has its own fault.
        if issuer.contains('{') {
            return None;
        }
        let url = format::check("url", issuer).ok().and_then(|()| url::Url::parse(issuer).ok());
        if url.is_none() {
            let message = format!("`{issuer}` is no URL from which metadata could be fetched");
            let help = "write `keys: { jwks_url: … }`, or { jwks_file: … }";
            self.fault(place, message, help);
        }
        url
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

fn is_discovered(raw: &RawKeys) -> bool {
    key_place(raw).discover == Some(true)
}

/// The same, written out.
fn key_place(raw: &RawKeys) -> RawKeyPlace {
    match raw {
        RawKeys::Word(_) => RawKeyPlace { discover: Some(true), ..RawKeyPlace::default() },
        RawKeys::Place(place) => place.clone(),
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
            tenants: None,
            audience: Audience::OneOf(BTreeSet::from([public_url.to_owned()])),
            algorithms: vec![Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256],
            types: vec!["at+jwt".to_owned()],
            id_tokens: false,
            claims: ClaimNames {
                client: names(None, &["client_id"]),
                subject: names(None, &["sub"]),
                scopes: names(None, &["scope"]),
                roles: Vec::new(),
                separator: ' ',
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
