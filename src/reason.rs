//! Why a request is refused.
//!
//! Owns the closed list of reasons (decisions.md, "Order"), the precise faults behind them, and the
//! refusal table: status, error code, challenge, title, detail, metric label. Knows nothing of
//! connections. What the caller may see ([`table::Row`]) and what the log may see ([`Fault`]) are
//! different types.

pub mod servicenow;
pub mod table;

use std::borrow::Cow;
use std::fmt;

use self::table::Challenge;
use crate::names::ScopeName;

macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire, in logs and as a metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The value with this label.
            #[must_use]
            pub fn from_label(label: &str) -> Option<Self> {
                match label { $($label => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

#[cfg(feature = "server")]
pub(crate) use closed_list;

closed_list! {
    /// The closed list of reasons, in the order in which the steps of a decision may give them.
    Reason {
        /// Framing, Host, method or header syntax that no strict reader accepts (RFC 9112 §3, §5,
        /// §6).
        RequestMalformed = "request.malformed",
        /// A path that two readers could understand differently.
        PathAmbiguous = "path.ambiguous",
        /// A body over the limit.
        RequestBody = "request.body",
        /// A request target over the limit.
        RequestTarget = "request.target",
        /// A header section over the limit.
        RequestHeaders = "request.headers",
        /// The caller's network is blocked.
        BlockedNetwork = "blocked.network",
        /// The limit per address is used up.
        LimitAddress = "limit.address",
        /// No API names this path.
        OperationUnknown = "operation.unknown",
        /// The resource exists, not with this method.
        OperationMethod = "operation.method",
        /// The API is in maintenance.
        OperationMaintenance = "operation.maintenance",
        /// No bearer token.
        TokenMissing = "token.missing",
        /// More than one credential.
        TokenSeveral = "token.several",
        /// A token in the query string.
        TokenInQuery = "token.in_query",
        /// The Authorization header is not a bearer token's.
        TokenMalformed = "token.malformed",
        /// The token did not verify; the fault says why, in the log.
        TokenInvalid = "token.invalid",
        /// A verified token of a client nobody registered.
        ClientUnknown = "client.unknown",
        /// The client is switched off.
        ClientInactive = "client.inactive",
        /// The user is switched off or locked.
        UserInactive = "user.inactive",
        /// The issuer's keys or introspection cannot be asked.
        IssuerUnavailable = "issuer.unavailable",
        /// Our store cannot be asked.
        StoreUnavailable = "store.unavailable",
        /// The client is blocked.
        BlockedClient = "blocked.client",
        /// The user is blocked.
        BlockedUser = "blocked.user",
        /// The token is blocked.
        BlockedToken = "blocked.token",
        /// Token restriction is enforced and no policy names the operation.
        PolicyNone = "policy.none",
        /// No profile of the policy covers the token.
        PolicyProfile = "policy.profile",
        /// The client is limited to other APIs.
        ScopeLimited = "scope.limited",
        /// A scope that grants the operation is not in the token.
        ScopeMissing = "scope.missing",
        /// No scope grants the operation and the client reaches only what scopes grant.
        ScopeUnscoped = "scope.unscoped",
        /// The acting user lacks a role.
        AclRole = "acl.role",
        /// No rule names the operation for this caller.
        AclNone = "acl.none",
        /// A rate limit is used up.
        LimitRate = "limit.rate",
        /// A quota is used up.
        LimitQuota = "limit.quota",
        /// The upstream refused or broke the connection.
        UpstreamFailed = "upstream.failed",
        /// The upstream answered something that is not HTTP.
        UpstreamProtocol = "upstream.protocol",
        /// No server of the upstream can be reached.
        UpstreamUnavailable = "upstream.unavailable",
        /// The upstream did not answer in time.
        UpstreamTimeout = "upstream.timeout",
        /// A bug of ours.
        GatewayBroken = "gateway.broken",
    }
}

/// A step of the decision (decisions.md, "Order").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// 0: framing, sizes, the canonical target.
    Request,
    /// 1: blocked networks, limits per address.
    Network,
    /// 2: the operation.
    Operation,
    /// 4: the credential. (3, public, refuses nothing.)
    Credential,
    /// 5: the token, its client and its user.
    Identity,
    /// 6: blocked clients, users, tokens.
    Blocks,
    /// 7: gate 1.
    Policy,
    /// 8: gate 2.
    Scope,
    /// 9: gate 3.
    Acl,
    /// 10: rate limits and quotas.
    Limits,
    /// 11: forwarding.
    Forward,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Self; 11] = [
        Self::Request,
        Self::Network,
        Self::Operation,
        Self::Credential,
        Self::Identity,
        Self::Blocks,
        Self::Policy,
        Self::Scope,
        Self::Acl,
        Self::Limits,
        Self::Forward,
    ];

    /// Its number, and what it judges.
    const fn about(self) -> (u8, &'static str) {
        match self {
            Self::Request => (
                0,
                "framing and sizes; the request target is made canonical once, and what is matched \
                 is byte for byte what is forwarded",
            ),
            Self::Network => (
                1,
                "blocked networks, limits per address; before the token endpoints and public APIs \
                 too",
            ),
            Self::Operation => {
                (2, "the operation: API, version, resource, method; HEAD is judged as GET")
            }
            Self::Credential => (4, "exactly one bearer token, in the Authorization header"),
            Self::Identity => (
                5,
                "the token is verified, its client and user are found; our own outage is never a \
                 401",
            ),
            Self::Blocks => (6, "blocked clients, users, tokens"),
            Self::Policy => (7, "gate 1, access policy"),
            Self::Scope => (8, "gate 2, auth scope"),
            Self::Acl => (9, "gate 3, ACL of the acting user"),
            Self::Limits => (10, "rate limits and quotas of client, user, scope"),
            Self::Forward => (11, "forward"),
        }
    }

    /// Its name for people and machines.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Network => "network",
            Self::Operation => "operation",
            Self::Credential => "credential",
            Self::Identity => "identity",
            Self::Blocks => "blocks",
            Self::Policy => "access policy",
            Self::Scope => "auth scope",
            Self::Acl => "ACL",
            Self::Limits => "limits",
            Self::Forward => "forward",
        }
    }
}

impl Reason {
    /// The step that refuses for this reason.
    #[must_use]
    pub const fn step(self) -> Step {
        match self {
            Self::RequestMalformed
            | Self::PathAmbiguous
            | Self::RequestBody
            | Self::RequestTarget
            | Self::RequestHeaders => Step::Request,
            Self::BlockedNetwork | Self::LimitAddress => Step::Network,
            Self::OperationUnknown | Self::OperationMethod | Self::OperationMaintenance => {
                Step::Operation
            }
            Self::TokenMissing | Self::TokenSeveral | Self::TokenInQuery | Self::TokenMalformed => {
                Step::Credential
            }
            Self::TokenInvalid
            | Self::ClientUnknown
            | Self::ClientInactive
            | Self::UserInactive
            | Self::IssuerUnavailable
            | Self::StoreUnavailable => Step::Identity,
            Self::BlockedClient | Self::BlockedUser | Self::BlockedToken => Step::Blocks,
            Self::PolicyNone | Self::PolicyProfile => Step::Policy,
            Self::ScopeLimited | Self::ScopeMissing | Self::ScopeUnscoped => Step::Scope,
            Self::AclRole | Self::AclNone => Step::Acl,
            Self::LimitRate | Self::LimitQuota => Step::Limits,
            Self::UpstreamFailed
            | Self::UpstreamProtocol
            | Self::UpstreamUnavailable
            | Self::UpstreamTimeout
            | Self::GatewayBroken => Step::Forward,
        }
    }

    /// Whether the pure decision gives it, from a request and a token alone: not from counters,
    /// bodies, stores or servers.
    #[must_use]
    pub fn is_judged(self) -> bool {
        let counted = matches!(
            self,
            Self::RequestBody | Self::LimitAddress | Self::TokenSeveral | Self::TokenMalformed
        );
        let asked = matches!(self, Self::IssuerUnavailable | Self::StoreUnavailable);
        !counted && !asked && self.step() < Step::Limits
    }
}

closed_list! {
    /// What exactly was wrong with a token: for the log and the metrics, never for the caller.
    TokenFault {
        /// Not a compact JWS of the strict form (RFC 7515 §7.1, RFC 8725 §3.14).
        Form = "form",
        /// The signature does not verify.
        Signature = "signature",
        /// `exp` has passed (RFC 7519 §4.1.4).
        Expired = "expired",
        /// `nbf` or `iat` lies ahead.
        NotYetValid = "not_yet_valid",
        /// No issuer of ours is called so.
        Issuer = "issuer",
        /// The token is for somebody else (RFC 7519 §4.1.3).
        Audience = "audience",
        /// An algorithm that is not allowed for the issuer or the key (RFC 8725 §3.1).
        Algorithm = "algorithm",
        /// The `typ` of another kind of token (RFC 8725 §3.11).
        Type = "type",
        /// No key of the issuer has this `kid`.
        KeyUnknown = "key_unknown",
        /// Revoked.
        Revoked = "revoked",
        /// Introspection says inactive.
        Inactive = "inactive",
        /// Bound to a key that the caller did not prove (`cnf`).
        Binding = "binding",
        /// A required claim is absent, doubled, or of the wrong type.
        Claims = "claims",
    }
}

/// What was wrong with a token, with what was seen and what was wanted: for the log, never for the
/// caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    /// The fault.
    pub fault: TokenFault,
    /// The fault's label and what there is to say of it; nothing beyond the label.
    text: Option<Box<str>>,
}

/// Longest part of a token that a text quotes, in characters.
const MAX_QUOTE: usize = 100;

impl TokenError {
    /// A fault with what was seen and what was wanted.
    #[must_use]
    pub fn because(fault: TokenFault, detail: impl fmt::Display) -> Self {
        Self { fault, text: Some(format!("{}: {detail}", fault.label()).into()) }
    }

    /// The fault as the log names it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or(self.fault.label())
    }
}

impl From<TokenFault> for TokenError {
    fn from(fault: TokenFault) -> Self {
        Self { fault, text: None }
    }
}

/// A part of a token as a text may quote it: short, and without control characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted: String =
        text.chars().take(MAX_QUOTE).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MAX_QUOTE).is_some() {
        quoted.push('…');
    }
    quoted
}

/// The step of the rules that a fault belongs to, for the log: never sent to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing beyond the reason.
    #[default]
    None,
    /// What was wrong with the token.
    Token(TokenError),
    /// What was wrong with the request, or what failed, in our words.
    Text(Cow<'static, str>),
}

impl Fault {
    /// The fault as the log and the metrics name it; texts may be long, see [`Fault::label`].
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::None => "",
            Self::Token(error) => error.text(),
            Self::Text(text) => text,
        }
    }

    /// The metric label: closed.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Token(error) => error.fault.label(),
            Self::None | Self::Text(_) => "",
        }
    }
}

/// What the answer carries besides the table's row.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Remedy {
    /// Nothing.
    #[default]
    None,
    /// The `Allow` header (RFC 9110 §15.5.6).
    Allow(String),
    /// The scopes one of which would do (RFC 6750 §3).
    Scopes(Vec<ScopeName>),
    /// Seconds for `Retry-After`.
    RetryAfter(u32),
    /// What to do about it, in the place of the table's `detail`. As there, neither quotes nor
    /// backslashes.
    Advice(&'static str),
}

/// A verdict without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may be forwarded.
    Permit,
    /// It may not, for this reason.
    Refuse(Reason),
}

impl Verdict {
    /// The verdict of a decision.
    #[must_use]
    pub fn of<T>(outcome: &Result<T, Refusal>) -> Self {
        outcome.as_ref().map_or_else(|refusal| Self::Refuse(refusal.reason), |_| Self::Permit)
    }

    /// Whether it is a permit.
    #[must_use]
    pub const fn is_permit(self) -> bool {
        matches!(self, Self::Permit)
    }

    /// `permit` or `refuse`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        if self.is_permit() { "permit" } else { "refuse" }
    }

    /// The reason of a refusal.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Permit => None,
            Self::Refuse(reason) => Some(reason),
        }
    }

    /// `permit`, or the reason of the refusal.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.reason().map_or("permit", Reason::label)
    }
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, out of the closed list.
    pub reason: Reason,
    /// For the log alone.
    pub fault: Fault,
    /// For the answer.
    pub remedy: Remedy,
}

impl Refusal {
    /// A refusal of which everything is said by its reason.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self { reason, fault: Fault::None, remedy: Remedy::None }
    }

    /// A refusal with a text for the log.
    #[must_use]
    pub fn because(reason: Reason, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, fault: Fault::Text(text.into()), remedy: Remedy::None }
    }

    /// `token.invalid` with its fault.
    #[must_use]
    pub fn token(error: impl Into<TokenError>) -> Self {
        let fault = Fault::Token(error.into());
        Self { reason: Reason::TokenInvalid, fault, remedy: Remedy::None }
    }

    /// The same refusal with a remedy.
    #[must_use]
    pub fn with(mut self, remedy: Remedy) -> Self {
        self.remedy = remedy;
        self
    }

    /// RFC 9457 `detail`: what the caller is told to do.
    #[must_use]
    pub const fn detail(&self) -> &'static str {
        match self.remedy {
            Remedy::Advice(text) => text,
            Remedy::None | Remedy::Allow(_) | Remedy::Scopes(_) | Remedy::RetryAfter(_) => {
                self.reason.row().detail
            }
        }
    }

    /// The `WWW-Authenticate` value, where the row has one. Scope names are `scope-token`s, so they
    /// need no escaping inside a quoted string (RFC 6750 §3).
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        let row = self.reason.row();
        let error = match row.challenge {
            Challenge::None => return None,
            Challenge::Bare => return Some(format!("Bearer realm=\"{REALM}\"")),
            Challenge::InvalidRequest => "invalid_request",
            Challenge::InvalidToken => "invalid_token",
            Challenge::InsufficientScope => "insufficient_scope",
        };
        let mut value = format!(
            "Bearer realm=\"{REALM}\", error=\"{error}\", error_description=\"{}\"",
            row.detail
        );
        if let Remedy::Scopes(scopes) = &self.remedy {
            let names: Vec<&str> = scopes.iter().map(ScopeName::as_str).collect();
            value.push_str(", scope=\"");
            value.push_str(&names.join(" "));
            value.push('"');
        }
        Some(value)
    }
}

/// The realm of every challenge.
pub const REALM: &str = "scopegate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_leads_back_to_its_reason() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_label(reason.label()), Some(*reason));
        }
    }

    #[test]
    fn every_401_has_a_challenge_and_only_scope_missing_asks_for_scope() {
        for reason in Reason::ALL {
            let challenge = Refusal::new(*reason).challenge();
            if reason.row().status == 401 {
                assert!(
                    challenge.as_deref().is_some_and(|c| c.starts_with("Bearer ")),
                    "{reason:?}"
                );
            }
            let insufficient = challenge.is_some_and(|c| c.contains("insufficient_scope"));
            assert_eq!(insufficient, *reason == Reason::ScopeMissing, "{reason:?}");
        }
    }

    #[test]
    fn no_detail_breaks_out_of_the_quotes_of_a_challenge() {
        for reason in Reason::ALL {
            assert!(
                reason
                    .row()
                    .detail
                    .bytes()
                    .all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\')
            );
        }
    }

    #[test]
    fn a_missing_token_is_challenged_without_an_error_code() {
        assert_eq!(
            Refusal::new(Reason::TokenMissing).challenge().unwrap(),
            "Bearer realm=\"scopegate\""
        );
    }
}
