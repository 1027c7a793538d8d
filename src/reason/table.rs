//! The only translation of reasons into HTTP: the refusal table, and the table of steps, as the
//! documents print them.

use super::{Reason, Step};

/// The kind of `WWW-Authenticate` a refusal carries (RFC 6750 §3, §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// None: a new token would not help.
    None,
    /// Without an error code: no credential was sent.
    Bare,
    /// `invalid_request`.
    InvalidRequest,
    /// `invalid_token`.
    InvalidToken,
    /// `insufficient_scope`.
    InsufficientScope,
}

/// One row of the refusal table: what the caller may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// HTTP status.
    pub status: u16,
    /// The challenge.
    pub challenge: Challenge,
    /// RFC 9457 `title`.
    pub title: &'static str,
    /// RFC 9457 `detail`: what to do, without anything about the rules. Neither quotes nor
    /// backslashes, so that it may stand in a challenge too.
    pub detail: &'static str,
}

const fn row(status: u16, title: &'static str, detail: &'static str) -> Row {
    Row { status, challenge: Challenge::None, title, detail }
}

const fn challenge(
    status: u16,
    challenge: Challenge,
    title: &'static str,
    detail: &'static str,
) -> Row {
    Row { status, challenge, title, detail }
}

impl Reason {
    /// The row of the refusal table.
    #[must_use]
    pub const fn row(self) -> Row {
        match self {
            Self::RequestMalformed => row(
                400,
                "Malformed request",
                "the request is not valid HTTP, or has a form this gateway does not accept",
            ),
            Self::PathAmbiguous => row(
                400,
                "Ambiguous path",
                "the path has a dot segment, an empty segment or an escape that servers read \
                    differently",
            ),
            Self::RequestBody => row(
                413,
                "Body too large",
                "the body is larger than this gateway accepts (max_body_size)",
            ),
            Self::RequestTarget => row(
                414,
                "Target too long",
                "the request target is longer than this gateway accepts (edge.max_target_size)",
            ),
            Self::RequestHeaders => row(
                431,
                "Header fields too large",
                "the header section is larger than this gateway accepts (edge.max_header_size, \
                 edge.max_header_fields)",
            ),
            Self::BlockedNetwork => {
                row(403, "Network blocked", "requests from this network are blocked")
            }
            Self::LimitAddress => {
                row(429, "Too many requests", "this address has used up its limit")
            }
            Self::OperationUnknown => {
                row(404, "Unknown operation", "no API of this gateway has this path")
            }
            Self::OperationMethod => {
                row(405, "Method not allowed", "the resource does not offer this method")
            }
            Self::OperationMaintenance => row(503, "In maintenance", "the API is in maintenance"),
            Self::TokenMissing => challenge(
                401,
                Challenge::Bare,
                "Token missing",
                "send a bearer token in the Authorization header",
            ),
            Self::TokenSeveral => challenge(
                400,
                Challenge::InvalidRequest,
                "Several credentials",
                "send exactly one credential",
            ),
            Self::TokenInQuery => challenge(
                400,
                Challenge::InvalidRequest,
                "Token in the query",
                "send the token in the Authorization header, never in the URL",
            ),
            Self::TokenMalformed => challenge(
                401,
                Challenge::InvalidToken,
                "Malformed token",
                "the Authorization header is not of the form Bearer token, or the token is longer \
                 than edge.max_token_size",
            ),
            Self::TokenInvalid => challenge(
                401,
                Challenge::InvalidToken,
                "Invalid token",
                "the token is expired, revoked, malformed or not for this gateway; get a new one",
            ),
            Self::ClientUnknown => challenge(
                401,
                Challenge::InvalidToken,
                "Unknown client",
                "the client of this token is not registered here",
            ),
            Self::ClientInactive => challenge(
                401,
                Challenge::InvalidToken,
                "Client inactive",
                "the client of this token is not active",
            ),
            Self::UserInactive => challenge(
                401,
                Challenge::InvalidToken,
                "User inactive",
                "the user of this token is not active",
            ),
            Self::IssuerUnavailable => row(
                503,
                "Issuer unavailable",
                "the token cannot be verified at the moment; try again",
            ),
            Self::StoreUnavailable => row(
                503,
                "Store unavailable",
                "the token cannot be looked up at the moment; try again",
            ),
            Self::BlockedClient => row(403, "Client blocked", "this client is blocked"),
            Self::BlockedUser => row(403, "User blocked", "this user is blocked"),
            Self::BlockedToken => row(403, "Token blocked", "this token is blocked"),
            Self::PolicyNone => row(
                403,
                "Not allowed by policy",
                "this client may call only APIs whose access policy names it",
            ),
            Self::PolicyProfile => row(
                403,
                "Not allowed by policy",
                "the access policy of this API does not admit this caller",
            ),
            Self::ScopeLimited => row(
                403,
                "API outside the limit of the client",
                "this client is limited to other APIs",
            ),
            Self::ScopeMissing => challenge(
                403,
                Challenge::InsufficientScope,
                "Scope missing",
                "the token lacks a scope that grants this operation",
            ),
            Self::ScopeUnscoped => row(
                403,
                "No scope grants this",
                "no scope grants this operation, and this client reaches only what scopes grant",
            ),
            Self::AclRole => {
                row(403, "Role missing", "the acting user lacks a role that this operation needs")
            }
            Self::AclNone => {
                row(403, "Nothing grants this", "no rule names this operation for this caller")
            }
            Self::LimitRate => row(429, "Too many requests", "the rate limit is used up"),
            Self::LimitQuota => row(429, "Quota used up", "the quota is used up"),
            Self::UpstreamFailed => {
                row(502, "Upstream failed", "the API behind this gateway did not answer")
            }
            Self::UpstreamProtocol => row(
                502,
                "Upstream failed",
                "the API behind this gateway gave an answer that is not valid HTTP",
            ),
            Self::UpstreamUnavailable => row(
                503,
                "Upstream unavailable",
                "no server of the API behind this gateway can be reached",
            ),
            Self::UpstreamTimeout => {
                row(504, "Upstream timed out", "the API behind this gateway did not answer in time")
            }
            Self::GatewayBroken => row(
                500,
                "Gateway error",
                "the gateway failed; the decision id helps to find out why",
            ),
        }
    }
}

/// The refusal table as Markdown, for the README and its golden file.
#[must_use]
pub fn refusals() -> String {
    let mut text = String::from(
        "| reason | status | challenge | what the caller reads |\n|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let row = reason.row();
        let challenge = match row.challenge {
            Challenge::None => "–",
            Challenge::Bare => "`Bearer`",
            Challenge::InvalidRequest => "`invalid_request`",
            Challenge::InvalidToken => "`invalid_token`",
            Challenge::InsufficientScope => "`insufficient_scope`",
        };
        text.push_str(&format!(
            "| `{}` | {} | {challenge} | {} |\n",
            reason.label(),
            row.status,
            row.detail
        ));
    }
    text
}

/// The steps of the decision as a table in Markdown: what each judges, and what it refuses.
#[must_use]
pub fn steps() -> String {
    let mut text = String::from("| # | step | refusal |\n|---|---|---|\n");
    for step in Step::ALL {
        let (number, about) = step.about();
        if step == Step::Credential {
            text.push_str(
                "| 3 | `public: true`: permit; identity headers are stripped all the same | – |\n",
            );
        }
        let mut refusals = String::new();
        let mut last = 0;
        for reason in Reason::ALL.iter().filter(|reason| reason.step() == step) {
            let status = reason.row().status;
            let between = match (last, last == status) {
                (0, _) => "",
                (_, true) => ", ",
                (_, false) => "; ",
            };
            refusals.push_str(between);
            if last != status {
                refusals.push_str(&format!("{status} "));
            }
            refusals.push_str(&format!("`{}`", reason.label()));
            last = status;
        }
        text.push_str(&format!("| {number} | {about} | {refusals} |\n"));
    }
    text
}
