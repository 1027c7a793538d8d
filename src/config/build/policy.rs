//! Policies: APIs, scopes, access policies, ACLs, limits and blocks.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Builder, Entry, Named, Place};
use crate::config::document::Document;
use crate::config::format::VersionText;
use crate::config::raw::policy::{
    RawAccessPolicy, RawAcl, RawApi, RawAuthScope, RawBlock, RawLimit, RawMethod, RawMode, RawPer,
    RawProfile, RawRoles, RawScopeGrant,
};
use crate::names::{
    ApiName, ClientId, IssuerName, PolicyName, RoleName, ScopeName, UserName, Version,
};
use crate::policy::block::Block;
use crate::policy::definition::{
    AccessPolicy, Acl, Api, AuthScope, Mode, Profile, RateLimit, RoleRequirement, ScopeGrant,
    Selector,
};
use crate::policy::limit::{Limit, Per, Quota};
use crate::policy::schedule::Schedule;
use crate::request::address::Networks;
use crate::request::method::MethodSet;

/// What the policy files declare.
pub(super) struct Policies {
    pub(super) apis: Vec<Api>,
    pub(super) scopes: Vec<AuthScope>,
    pub(super) access: Vec<AccessPolicy>,
    pub(super) acls: Vec<Acl>,
    pub(super) blocks: Vec<Block>,
    pub(super) address_limits: Vec<RateLimit>,
    pub(super) limits: Vec<Limit>,
}

/// The narrowing parts that policies, grants and ACLs share.
struct Narrowing<'r> {
    methods: Option<&'r [RawMethod]>,
    versions: Option<&'r [VersionText]>,
    resources: Option<&'r [String]>,
}

type ApiIndex = HashMap<String, Api>;

impl Builder<'_> {
    pub(super) fn policies(&mut self) -> Policies {
        let documents: &[Document] = self.policies;
        let mut apis = Vec::new();
        for Entry { name, place, value } in self.entries(documents, "apis") {
            if let Some(raw) = self.read::<RawApi>(&place, value) {
                apis.push(self.api(&name, &raw, &place));
            }
        }
        let index: ApiIndex = apis.iter().map(|api| (api.name.to_string(), api.clone())).collect();
        let mut scopes = Vec::new();
        for Entry { name, place, value } in self.entries(documents, "auth_scopes") {
            if !crate::scope::is_scope_token(&name) {
                let help =
                    "use visible ASCII without space, double quote and backslash (RFC 6749 §3.3)";
                self.fault_at_key(&place, format!("`{name}` is not a scope"), help);
            }
            if let Some(raw) = self.read::<RawAuthScope>(&place, value) {
                scopes.push(self.scope(&name, &raw, &place, &index));
            }
        }
        let mut policies = Vec::new();
        for Entry { name, place, value } in self.entries(documents, "access_policies") {
            if let Some(raw) = self.read::<RawAccessPolicy>(&place, value) {
                policies.extend(self.access_policy(&name, &raw, &place, &index));
            }
        }
        let mut acls = Vec::new();
        for (place, value) in Self::items(documents, "acls") {
            if let Some(raw) = self.read::<RawAcl>(&place, value) {
                acls.extend(self.acl(&raw, &place, &index));
            }
        }
        let blocks = self.blocks();
        let (address_limits, limits) = self.limits();
        Policies { apis, scopes, access: policies, acls, blocks, address_limits, limits }
    }

    /// The selector of a rule; every name in it must exist in the API.
    fn selector(
        &mut self,
        api: Option<&str>,
        narrowing: &Narrowing<'_>,
        place: &Place<'_>,
        index: &ApiIndex,
    ) -> Option<Selector> {
        if let Some(api) = api
            && !self.refer(&place.key("api"), Named::Api, api)
        {
            return None;
        }
        for (key, empty) in [
            ("methods", narrowing.methods.is_some_and(<[_]>::is_empty)),
            ("versions", narrowing.versions.is_some_and(<[_]>::is_empty)),
            ("resources", narrowing.resources.is_some_and(<[_]>::is_empty)),
        ] {
            if empty {
                self.fault(
                    &place.key(key),
                    "an empty list selects nothing",
                    "leave it out to mean all",
                );
            }
        }
        // An API with a fault of its own is known by name only: what it offers cannot be held
        // against the rule.
        let api_offer = api.and_then(|api| index.get(api));
        let mut versions = narrowing.versions.map(|_| BTreeSet::new());
        for (at, version) in narrowing.versions.unwrap_or_default().iter().enumerate() {
            let offered: Vec<&str> = api_offer
                .map(|api| api.versions.iter().map(Version::as_str).collect())
                .unwrap_or_default();
            if api_offer.is_some() && !offered.contains(&version.text()) {
                let message =
                    format!("`{}` has no version `{}`", api.unwrap_or_default(), version.text());
                self.fault(
                    &place.key("versions").at(at),
                    message,
                    super::suggestion(version.text(), offered),
                );
            }
            versions.get_or_insert_default().insert(Version::new(version.text()));
        }
        let mut resources = narrowing.resources.map(|_| BTreeSet::new());
        for (at, resource) in narrowing.resources.unwrap_or_default().iter().enumerate() {
            let offered: Vec<&str> = api_offer
                .map(|api| api.resources.iter().map(|own| &*own.template).collect())
                .unwrap_or_default();
            if api_offer.is_some() && !offered.contains(&resource.as_str()) {
                let message = format!(
                    "`{}` has no resource `{}`",
                    api.unwrap_or_default(),
                    crate::policy::route::written(resource)
                );
                self.fault(
                    &place.key("resources").at(at),
                    message,
                    super::suggestion(resource, offered),
                );
            }
            resources.get_or_insert_default().insert(Arc::from(resource.as_str()));
        }
        Some(Selector {
            api: api.map(ApiName::new),
            methods: narrowing.methods.map(method_set),
            versions,
            resources,
        })
    }

    fn scope(
        &mut self,
        name: &str,
        raw: &RawAuthScope,
        place: &Place<'_>,
        index: &ApiIndex,
    ) -> AuthScope {
        let mut grants = Vec::new();
        for (at, grant) in raw.grants.iter().enumerate() {
            grants.extend(self.scope_grant(grant, &place.key("grants").at(at), index));
        }
        AuthScope {
            name: ScopeName::new(name),
            description: raw.description.clone(),
            active: raw.active,
            grants,
            origin: place.origin(),
        }
    }

    fn scope_grant(
        &mut self,
        raw: &RawScopeGrant,
        place: &Place<'_>,
        index: &ApiIndex,
    ) -> Option<ScopeGrant> {
        let narrowing = Narrowing {
            methods: raw.methods.as_deref(),
            versions: raw.versions.as_deref(),
            resources: raw.resources.as_deref(),
        };
        let mut conditions = Vec::new();
        for (parameter, values) in &raw.conditions {
            if values.is_empty() {
                self.fault(
                    &place.key("where").key(parameter),
                    "an empty list never holds",
                    "write the values, or leave the parameter out",
                );
            }
            conditions.push((Arc::from(parameter.as_str()), values.clone()));
        }
        let selector = self.selector(Some(&raw.api), &narrowing, place, index)?;
        Some(ScopeGrant { selector, conditions, origin: place.origin() })
    }

    fn access_policy(
        &mut self,
        name: &str,
        raw: &RawAccessPolicy,
        place: &Place<'_>,
        index: &ApiIndex,
    ) -> Option<AccessPolicy> {
        let api = match (&raw.api, raw.all_apis) {
            (Some(api), false) => Some(api.as_str()),
            (None, true) => None,
            (None, false) | (Some(_), true) => {
                self.fault_at_key(
                    place,
                    "a policy is about one `api` or about `all_apis: true`",
                    "write exactly one of the two",
                );
                return None;
            }
        };
        if api.is_none() && (raw.versions.is_some() || raw.resources.is_some()) {
            let help = "a policy for all APIs can be narrowed by `methods` alone";
            self.fault_at_key(place, "versions and resources belong to one API", help);
        }
        let narrowing = Narrowing {
            methods: raw.methods.as_deref(),
            versions: raw.versions.as_deref().filter(|_| api.is_some()),
            resources: raw.resources.as_deref().filter(|_| api.is_some()),
        };
        let selector = self.selector(api, &narrowing, place, index)?;
        let mut profiles = Vec::new();
        for (at, profile) in raw.allow.iter().enumerate() {
            profiles.push(self.profile(profile, &place.key("allow").at(at)));
        }
        Some(AccessPolicy {
            name: PolicyName::new(name),
            selector,
            mode: mode(raw.mode),
            active: raw.active,
            profiles,
            origin: place.origin(),
        })
    }

    fn profile(&mut self, raw: &RawProfile, place: &Place<'_>) -> Profile {
        let empty = raw.issuers.is_none()
            && raw.clients.is_none()
            && raw.restricted_clients != Some(true)
            && raw.from.is_none()
            && raw.roles.is_none()
            && raw.claims.is_none()
            && raw.between.is_none()
            && raw.certificates.is_none();
        if empty {
            let help = "name at least one of issuers, clients, from, roles, claims, between, \
                certificates, restricted_clients";
            self.fault(place, "an empty profile would let everybody in", help);
        }
        for (key, empty) in [
            ("issuers", raw.issuers.as_ref().is_some_and(Vec::is_empty)),
            ("clients", raw.clients.as_ref().is_some_and(Vec::is_empty)),
            ("from", raw.from.as_ref().is_some_and(Vec::is_empty)),
            ("certificates", raw.certificates.as_ref().is_some_and(Vec::is_empty)),
            ("claims", raw.claims.as_ref().is_some_and(std::collections::BTreeMap::is_empty)),
        ] {
            if empty {
                self.fault(
                    &place.key(key),
                    "an empty list never holds",
                    "leave it out to mean any, or write the entries",
                );
            }
        }
        for (at, issuer) in raw.issuers.iter().flatten().enumerate() {
            self.refer(&place.key("issuers").at(at), Named::Issuer, issuer);
        }
        for (at, client) in raw.clients.iter().flatten().enumerate() {
            self.refer(&place.key("clients").at(at), Named::Client, client);
        }
        for (name, values) in raw.claims.iter().flatten() {
            if let Some(message) = super::issuer::unusable_claim(name) {
                let help = "a name, names with dots between, or a JSON Pointer";
                let message = format!("`{name}`: {message}");
                self.fault_at_key(&place.key("claims").key(name), message, help);
            }
            for issuer in raw.issuers.iter().flatten() {
                if self.any_tenant_of(issuer).is_some_and(|tenant| tenant != *name) {
                    let message =
                        format!("any tenant of `{issuer}` could write `{name}` into its tokens");
                    let help = "list the tenants under `tenants.allow`, or take the claim out";
                    self.fault_at_key(&place.key("claims").key(name), message, help);
                }
            }
            if values.is_empty() {
                self.fault(
                    &place.key("claims").key(name),
                    "an empty list never holds",
                    "write the values",
                );
            }
        }
        for (at, name) in raw.certificates.iter().flatten().enumerate() {
            let digest = name.strip_prefix("sha256:");
            if digest.is_some_and(|digest| {
                digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit())
            }) {
                let help = "`openssl x509 -in FILE -outform der | sha256sum` prints it";
                self.fault(
                    &place.key("certificates").at(at),
                    "a SHA-256 digest has 64 hex digits",
                    help,
                );
            }
        }
        let issuers: HashSet<IssuerName> = match &raw.issuers {
            None => HashSet::from([IssuerName::new(IssuerName::OWN)]),
            Some(issuers) => issuers.iter().map(|issuer| IssuerName::new(issuer)).collect(),
        };
        Profile {
            issuers,
            clients: raw
                .clients
                .as_ref()
                .map(|clients| clients.iter().map(|client| ClientId::new(client)).collect()),
            restricted_clients: raw.restricted_clients.unwrap_or(false),
            from: raw
                .from
                .as_ref()
                .map(|networks| Networks::new(networks.iter().map(|network| network.value))),
            roles: raw.roles.as_ref().map(|roles| self.roles(roles, &place.key("roles"))),
            certificates: raw.certificates.clone(),
            claims: raw
                .claims
                .iter()
                .flatten()
                .map(|(name, values)| (name.clone(), values.clone()))
                .collect(),
            between: raw.between.as_ref().and_then(|between| {
                match Schedule::parse(
                    between.days.as_deref(),
                    between.hours.as_deref(),
                    between.timezone.as_deref(),
                ) {
                    Ok(between) => Some(between),
                    Err(message) => {
                        self.fault(
                            &place.key("between"),
                            message,
                            "for instance { days: [mon, fri], hours: 08:00-18:00, timezone: \
                                Europe/Berlin }",
                        );
                        None
                    }
                }
            }),
            origin: place.origin(),
        }
    }

    fn roles(&mut self, raw: &RawRoles, place: &Place<'_>) -> RoleRequirement {
        let (RawRoles::All(names) | RawRoles::Any(names)) = raw;
        if names.is_empty() {
            self.fault(place, "an empty role list", "write at least one role");
        }
        let names = names.iter().map(|name| RoleName::new(name)).collect();
        match raw {
            RawRoles::All(_) => RoleRequirement::All(names),
            RawRoles::Any(_) => RoleRequirement::Any(names),
        }
    }

    fn acl(&mut self, raw: &RawAcl, place: &Place<'_>, index: &ApiIndex) -> Option<Acl> {
        let narrowing = Narrowing {
            methods: raw.methods.as_deref(),
            versions: raw.versions.as_deref(),
            resources: raw.resources.as_deref(),
        };
        let roles = self.roles(&raw.roles, &place.key("roles"));
        let selector = self.selector(Some(&raw.api), &narrowing, place, index)?;
        Some(Acl {
            selector,
            roles,
            mode: mode(raw.mode),
            active: raw.active,
            origin: place.origin(),
        })
    }

    fn blocks(&mut self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for (place, value) in Self::items(self.policies, "blocks") {
            let Some(raw) = self.read::<RawBlock>(&place, value) else { continue };
            if raw.from.is_empty()
                && raw.clients.is_empty()
                && raw.users.is_empty()
                && raw.tokens.is_empty()
            {
                self.fault(
                    &place,
                    "a block that blocks nothing",
                    "write at least one of from, clients, users, tokens",
                );
            }
            for (at, client) in raw.clients.iter().enumerate() {
                self.refer(&place.key("clients").at(at), Named::Client, client);
            }
            for (at, user) in raw.users.iter().enumerate() {
                self.refer(&place.key("users").at(at), Named::User, user);
            }
            blocks.push(Block {
                from: raw.from.iter().map(|network| network.value).collect(),
                clients: raw.clients.iter().map(|client| ClientId::new(client)).collect(),
                users: raw.users.iter().map(|user| UserName::new(user)).collect(),
                tokens: raw.tokens.clone(),
                until: raw.until.as_ref().map(|date| date.value),
                origin: place.origin(),
            });
        }
        blocks
    }

    /// Limits per address that count before anything else, and those on permitted requests.
    fn limits(&mut self) -> (Vec<RateLimit>, Vec<Limit>) {
        let (mut early, mut limits) = (Vec::new(), Vec::<Limit>::new());
        for (place, value) in Self::items(self.policies, "limits") {
            let Some(raw) = self.read::<RawLimit>(&place, value) else { continue };
            if raw.rate.is_none() && raw.quota.is_none() {
                self.fault(
                    &place,
                    "a limit without `rate` and `quota`",
                    "write for instance `rate: 100/s`",
                );
            }
            if raw.burst.is_some() && raw.rate.is_none() {
                self.fault(&place.key("burst"), "`burst` without `rate`", "a quota has no burst");
            }
            if let Some(api) = &raw.api {
                self.refer(&place.key("api"), Named::Api, api);
            }
            let rate = raw.rate.as_ref().map(|rate| rate.limit(raw.burst));
            let quota = raw
                .quota
                .as_ref()
                .map(|quota| Quota { count: quota.value.0, period: quota.value.1 });
            let per = per(raw.per);
            if let (Per::Address, None, None, Some(rate)) = (per, &raw.api, quota, rate) {
                early.push(rate);
                continue;
            }
            let stem = format!("{}-{}", raw.api.as_deref().unwrap_or("all"), per.as_str());
            let same = limits
                .iter()
                .filter(|limit| limit.name == stem || limit.name.starts_with(&format!("{stem}-")))
                .count();
            let name = if same == 0 { stem } else { format!("{stem}-{}", same + 1) };
            limits.push(Limit {
                name,
                api: raw.api.as_deref().map(ApiName::new),
                per,
                rate,
                quota,
                origin: place.origin(),
            });
        }
        (early, limits)
    }
}

const fn per(raw: RawPer) -> Per {
    match raw {
        RawPer::Client => Per::Client,
        RawPer::User => Per::User,
        RawPer::Scope => Per::Scope,
        RawPer::Address => Per::Address,
    }
}

pub(super) fn method_set(methods: &[RawMethod]) -> MethodSet {
    methods.iter().map(|raw| raw.0).collect()
}

const fn mode(raw: RawMode) -> Mode {
    match raw {
        RawMode::Enforce => Mode::Enforce,
        RawMode::Shadow => Mode::Shadow,
    }
}
