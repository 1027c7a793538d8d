//! The rules of findings: a closed list, with the level of each, why it matters and how to mend it.

use serde::Serialize;

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
    /// The configuration and the calendar: only [`findings`](super::findings) judge it, so that no
    /// check fails by the passing of time.
    Review,
    /// Counted use: only [`findings`](super::findings) judge it, once enough days were counted.
    Use,
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
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
            "nobody passes the rule", "give the role to a user or client, map it from an issuer, \
                or mend its name";
        /// A granting scope that no client holds.
        ScopeUnobtainable = "scope.unobtainable", Warning,
            "what it grants is out of everybody's reach", "list it in `auth_scopes` of a client, \
                or remove it";
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
        /// Hosts that ask and are not trusted.
        HostUntrusted = "host.untrusted", Warning,
            "nobody who asks there is answered", "name the addresses of the hosts under \
                `trusted_proxies`, or listen on a Unix socket";
        /// An API that asks for what no host that asks holds.
        HostUnheld = "host.unheld", Warning,
            "its requests are 500 where a host asks about them", "leave the key out, or have \
                clients of this API come to a listener without `decide`";
        /// A path of an API that is below the base path of another one with another upstream.
        HostPaths = "host.paths", Warning,
            "a host that forwards by base path would go elsewhere than was judged, and is refused \
                with 500", "give the APIs base paths that are not inside each other, or one \
                upstream";
        /// An issuer whose ID tokens are taken.
        IssuerIdTokens = "issuer.id_tokens", Warning,
            "an ID token says who signed in at a client, and that client can pass it on as an \
                access token", "have callers send access tokens, and remove `id_tokens`";
        /// An issuer whose tokens are taken whoever they are for.
        IssuerAnyAudience = "issuer.any_audience", Warning,
            "a token that was made for another API comes in here, and whoever gets it there can \
                send it on", "have the issuer name this API in `aud`, and write `audience`";
        /// An issuer whose unlisted clients have all that the default client holds.
        IssuerUnscoped = "issuer.unscoped_default", Warning,
            "any client of the issuer, new ones too, has all that the default client holds, \
                whatever its token is limited to", "write `claims: { scopes: … }`, or list the \
                clients under `external` in the place of `default_client`";
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
