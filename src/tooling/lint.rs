//! Parts of a valid configuration that deserve review: rules without effect, unused rights, and
//! rights wider than they look. [`lint`] judges by the configuration alone, [`findings`] by its use
//! too.

mod clients;
mod observed;
mod rules;
mod secrets;

use serde::Serialize;

use super::edit::Edit;
use super::usage::Observed;
use crate::config::fault::suggestion;
use crate::config::{Config, Waiver};
use crate::names::{Origin, Timestamp};
pub(super) use observed::IDLE_DAYS;
use observed::Review;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Worth changing, or waiving with a reason.
    Warning,
}

impl Level {
    /// Its label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// The facts by which a rule is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The configuration: every `check` judges it.
    Check,
    /// The configuration and the calendar: only [`findings`] judge it, so that no check fails by
    /// the passing of time.
    Review,
    /// Counted use: only [`findings`] judge it, once enough days were counted.
    Use,
}

macro_rules! rules {
    ($($basis:ident { $($(#[$doc:meta])* $variant:ident = $label:literal, $level:ident,
        $why:literal, $fix:literal;)* })*) => {
        /// The rules of findings: a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule { $($($(#[$doc])* $variant,)*)* }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// Its label, in findings and waivers.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $($(Self::$variant => $label,)*)* }
            }

            /// The rule with this label.
            #[must_use]
            pub fn from_label(label: &str) -> Option<Self> {
                match label { $($($label => Some(Self::$variant),)*)* _ => None }
            }

            /// Its severity.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $($(Self::$variant => Level::$level,)*)* }
            }

            /// The facts by which it is judged.
            #[must_use]
            pub const fn basis(self) -> Basis {
                match self { $($(Self::$variant => Basis::$basis,)*)* }
            }

            /// Why it matters.
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self { $($(Self::$variant => $why,)*)* }
            }

            /// How to fix it.
            #[must_use]
            pub const fn fix(self) -> &'static str {
                match self { $($(Self::$variant => $fix,)*)* }
            }
        }
    };
}

rules! {
    Check {
        /// A policy that is selected for no operation.
        PolicyUnreachable = "policy.unreachable", Warning,
            "it looks like protection and decides nothing", "remove it, or narrow the more \
                specific ones that stand before it";
        /// A policy that admits no caller.
        PolicyNobody = "policy.nobody", Note,
            "every call of its operations is refused", "write profiles, or take the resources out \
                of the API";
        /// A policy for all APIs that lists no clients.
        PolicyAnyone = "policy.anyone", Warning,
            "every client may call every API that has no policy of its own, new ones included",
            "list \
                `clients` in its profiles, or write a policy for each API";
        /// A profile that no token can meet.
        ProfileUnreachable = "profile.unreachable", Warning,
            "it looks like a way in and is none", "remove it, or mend the part that cannot hold";
        /// An ACL that protects no operation.
        AclUnreachable = "acl.unreachable", Warning,
            "it looks like protection and protects nothing",
            "remove it, or change what it is about";
        /// A grant that matches no operation.
        GrantUnreachable = "grant.unreachable", Warning,
            "the scope gives less than it says", "remove it, or change what it is about";
        /// An operation that no rule names.
        OperationUnreachable = "operation.unreachable", Warning,
            "every call is refused, by default deny", "name it in a scope, a policy or an ACL, or \
                take it out of the API";
        /// A role that a rule requires and no caller has.
        RoleUnheld = "role.unheld", Warning,
            "nobody passes the rule", "give the role to a user or client, map it from an issuer,
            or \
                mend its name";
        /// A granting scope that no client holds.
        ScopeUnobtainable = "scope.unobtainable", Warning,
            "what it grants is out of everybody's reach", "list it in `auth_scopes` of a client,
            or \
                remove it";
        /// A scope that a client holds and that grants nothing.
        ScopeUnused = "scope.unused", Warning,
            "its holders believe that they may something", "give it grants, or take it from the \
                clients";
        /// A scope that grants everything on several APIs.
        ScopeWildcard = "scope.wildcard", Warning,
            "whoever holds it may do everything on several APIs", "narrow its grants by methods or \
                resources, or split it";
        /// A client that gets no token.
        ClientNoToken = "client.no_token", Note,
            "its owner will call you", "mend what is named, or set `active: false`";
        /// A client that reaches operations that no scope grants.
        ClientBroad = "client.broad", Warning,
            "policies and ACLs are all that stands before it", "`allow_only_selected_scopes: \
                true`, with the scopes that it needs";
        /// A client that may pass gate 2 everywhere.
        ClientMasterScope = "client.master_scope", Warning,
            "the scope gate is open to it on every API", "give it the scopes that it needs instead";
        /// A client with the password grant.
        ClientPasswordGrant = "client.password_grant", Warning,
            "it is shown users' passwords (RFC 9700 §2.4)", "move it to authorization_code";
        /// A client that users give consent to, and of which nobody is named.
        ClientNoProvider = "client.no_provider", Note,
            "the consent page does not say whose application it is", "write `provider_name`";
        /// A client that calls as nobody.
        ClientNoUser = "client.no_user", Note,
            "its client-credentials tokens have no roles, and every ACL refuses them", "write \
                `application_user`, or `roles` of its own";
        /// A redirect URL with a scheme that is nobody's own.
        ClientPrivateScheme = "client.private_scheme", Warning,
            "any application on the user's device may take the scheme, and the code with it", "an \
                https URL, loopback, or a scheme with the vendor's domain (com.example.app)";
        /// A secret without an expiry.
        SecretNoExpiry = "secret.no_expiry", Warning,
            "a secret that leaks is good for ever", "write `expires`; `scopegate client \
                rotate-secret` makes the next one";
        /// Something inactive that something else depends on.
        InactiveReliedOn = "inactive.relied_on", Warning,
            "what relies on it does not work", "switch it on, or remove what relies on it";
        /// Callers behind a proxy that is not trusted.
        ProxyUntrusted = "proxy.untrusted", Warning,
            "all callers have the proxy's address, and limits on guessing shut them out \
                together", "name the proxy under `trusted_proxies`";
        /// An issuer whose ID tokens are taken.
        IssuerIdTokens = "issuer.id_tokens", Warning,
            "an ID token says who signed in at a client, and that client can pass it on as an \
                access token", "have callers send access tokens, and remove `id_tokens`";
        /// An issuer that is reached over plain http.
        IssuerPlainHttp = "issuer.plain_http", Warning,
            "whoever is on the way can put in keys of their own, or read tokens and our secret",
            "give \
                its server TLS, with `ca` for a CA of your own, and write https";
        /// A user of an issuer where users do not sign in.
        UserUnknownIssuer = "user.unknown_issuer", Warning,
            "the user cannot sign in that way", "write the issuer of `login.provider`";
        /// A waiver that has ended.
        WaiverExpired = "waiver.expired", Warning,
            "what it waived is due", "mend that, or write a new date with a reason";
        /// A waiver without a finding.
        WaiverUnused = "waiver.unused", Note,
            "it would hide the next finding of its kind", "remove it";
    }
    Review {
        /// A client for which nobody answers.
        ClientNoOwner = "client.no_owner", Note,
            "nobody is asked when it misbehaves, and nobody notices when it is not needed any \
                more", "write `owner`";
        /// A client with a secret that users are sent back to on their own device.
        ClientLoopback = "client.loopback_redirect", Note,
            "codes go to a program on the user's device, where its secret is none", "an https \
                URL, or `public_client: true` without secrets";
        /// A secret that ends soon.
        SecretExpiresSoon = "secret.expires_soon", Warning,
            "from that day on it is refused", "`scopegate client rotate-secret` makes the next \
                one";
        /// A secret that has ended.
        SecretExpired = "secret.expired", Note,
            "it is refused, and hides which secrets count", "remove it";
    }
    Use {
        /// A client without a request for a long time.
        ClientIdle = "client.idle", Warning,
            "rights that nobody uses are of use to a thief alone", "ask its owner, then `active: \
                false`";
        /// A client without any request.
        ClientNeverUsed = "client.never_used", Note,
            "rights that nobody uses are of use to a thief alone", "ask its owner whether it is \
                still to come, else `active: false`";
        /// A scope of a client that it does not use.
        ClientUnusedScope = "client.unused_scope", Warning,
            "it may do more than it does", "take the scope from it; its requests for tokens must \
                not name the scope any more";
        /// A client that is switched off and calls.
        ClientDisabledCalls = "client.disabled_calls", Warning,
            "somebody relies on it, or has its credentials", "find out who calls: its owner, or \
                somebody else";
        /// A client that people and programs share.
        ClientMixedUse = "client.mixed_use", Warning,
            "records cannot distinguish a person's act from a program's", "one client for each of \
                the two";
        /// A client whose refresh tokens were used twice.
        ClientRefreshReplay = "client.refresh_replay", Warning,
            "two parties have the same token: one of them may be a thief (RFC 9700 §4.14.2)",
            "find out whether the client repeats requests; if not, rotate its secret";
        /// The older of two secrets, still used.
        SecretOldInUse = "secret.old_in_use", Warning,
            "the rotation is not complete, and the old secret cannot be removed", "have all \
                installations of the client use the new one";
        /// The older of two secrets, not used any more.
        SecretOldUnused = "secret.old_unused", Note,
            "a secret that nobody uses is of use to a thief alone", "remove it";
        /// A secret that is used from many networks.
        SecretManyNetworks = "secret.many_networks", Warning,
            "it is shared, or was copied", "a client and a secret for each installation";
        /// A shadow rule that would refuse requests.
        PolicyShadowRefuses = "policy.shadow_refuses", Note,
            "callers lose what they do today once it decides", "change the rule, or these callers, \
                before `mode: enforce`";
        /// An operation that nobody calls.
        OperationUnused = "operation.unused", Note,
            "what nobody calls is attacked and not watched", "take it out of the API";
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Its severity.
    pub level: Level,
    /// Its subject: a name for waivers.
    pub on: String,
    /// Its position in the config file.
    pub at: String,
    /// The finding.
    pub message: String,
    /// Observations behind it: days, counts, ages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Why it matters.
    pub why: &'static str,
    /// How to fix it.
    pub fix: &'static str,
    /// The reason of the waiver that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waived: Option<String>,
    #[serde(skip)]
    origin: Origin,
    /// The edit that is its remedy, where one is.
    #[serde(skip)]
    pub(super) edit: Option<Edit>,
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

impl Finding {
    fn new(rule: Rule, on: &dyn std::fmt::Display, origin: &Origin, message: String) -> Self {
        Self {
            rule,
            level: rule.level(),
            on: on.to_string(),
            at: origin.to_string(),
            message,
            evidence: Vec::new(),
            why: rule.why(),
            fix: rule.fix(),
            waived: None,
            origin: origin.clone(),
            edit: None,
        }
    }

    fn seen(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    fn mended_by(mut self, edit: Option<Edit>) -> Self {
        self.edit = edit;
        self
    }
}

/// Checks a configuration. Waived findings are included, and marked.
#[must_use]
pub fn lint(config: &Config, now: Timestamp) -> Vec<Finding> {
    finish(of_configuration(config, now), config, now, &|rule| rule.basis() == Basis::Check)
}

/// Checks a configuration and its use. Waived findings are included, and marked.
///
/// Where nothing was counted, nothing is called unused.
#[must_use]
pub fn findings(config: &Config, observed: &Observed, now: Timestamp) -> Vec<Finding> {
    let review = Review::new(config, observed, now);
    let mut findings = of_configuration(config, now);
    review.complete(&mut findings);
    findings.extend(review.findings());
    findings.extend(secrets::lint(&review));
    finish(findings, config, now, &|rule| rule.basis() != Basis::Use || review.is_counted_long())
}

fn of_configuration(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = rules::lint(&config.rules);
    findings.extend(clients::lint(config, now));
    findings
}

/// Applies the waivers and sorts. `is_judged`: whether all findings of a rule are among these.
fn finish(
    mut findings: Vec<Finding>,
    config: &Config,
    now: Timestamp,
    is_judged: &dyn Fn(Rule) -> bool,
) -> Vec<Finding> {
    let waivers = waive(&mut findings, &config.waivers, now, is_judged);
    findings.extend(waivers);
    findings.sort_by(|a, b| {
        let key =
            |finding: &Finding| (finding.origin.file.clone(), finding.origin.line, finding.rule);
        key(a).cmp(&key(b)).then_with(|| a.on.cmp(&b.on))
    });
    findings
}

/// Marks waived findings; returns findings about the waivers themselves.
fn waive(
    findings: &mut [Finding],
    waivers: &[Waiver],
    now: Timestamp,
    is_judged: &dyn Fn(Rule) -> bool,
) -> Vec<Finding> {
    let mut said = Vec::new();
    for waiver in waivers {
        let name = format!("{} on {}", waiver.rule, waiver.on);
        let covered =
            |finding: &&mut Finding| finding.rule.label() == waiver.rule && finding.on == waiver.on;
        if now >= waiver.until {
            let text = format!("the waiver of `{}` on `{}` has ended", waiver.rule, waiver.on);
            said.push(Finding::new(Rule::WaiverExpired, &name, &waiver.origin, text));
            continue;
        }
        let mut any = false;
        for finding in findings.iter_mut().filter(covered) {
            (finding.waived, any) = (Some(waiver.reason.clone()), true);
        }
        let rule = Rule::from_label(&waiver.rule);
        if !any && rule.is_none_or(is_judged) {
            let text = if rule.is_some() {
                format!("there is no finding `{}` on `{}`", waiver.rule, waiver.on)
            } else {
                let labels = Rule::ALL.iter().map(|rule| rule.label());
                format!(
                    "there is no rule `{}`: {}",
                    waiver.rule,
                    suggestion(&waiver.rule, labels.collect::<Vec<_>>())
                )
            };
            said.push(Finding::new(Rule::WaiverUnused, &name, &waiver.origin, text));
        }
    }
    said
}

#[cfg(test)]
mod tests;
