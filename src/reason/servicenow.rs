//! The texts of ServiceNow's REST API for our reasons, for callers that look for them
//! (`error_format: servicenow`). The status stays ours.

use super::{Reason, Refusal, Remedy};

/// What it says to a caller that did not prove who it is.
const UNAUTHENTICATED: (&str, &str) =
    ("User Not Authenticated", "Required to provide Auth information");
/// What its refusals for lack of rights begin with.
const UNAUTHORIZED: &str = "User Not Authorized";

/// `error.message` and `error.detail`. Where ServiceNow has no text of its own, ours is the detail.
#[must_use]
pub fn texts(refusal: &Refusal) -> (&'static str, String) {
    let (message, detail) = fixed(refusal);
    let detail = match &refusal.remedy {
        // Only `scope.missing` has them.
        Remedy::Scopes(scopes) if !scopes.is_empty() => {
            let names: Vec<&str> = scopes.iter().map(crate::names::ScopeName::as_str).collect();
            format!("{detail}: {}", names.join(", "))
        }
        Remedy::None
        | Remedy::Allow(_)
        | Remedy::Scopes(_)
        | Remedy::RetryAfter(_)
        | Remedy::Advice(_) => detail.to_owned(),
    };
    (message, detail)
}

const fn fixed(refusal: &Refusal) -> (&'static str, &'static str) {
    match refusal.reason {
        Reason::TokenMissing
        | Reason::TokenMalformed
        | Reason::TokenInvalid
        | Reason::ClientUnknown
        | Reason::ClientInactive
        | Reason::UserInactive => UNAUTHENTICATED,
        Reason::ScopeMissing => (UNAUTHORIZED, "Missing required API access scope"),
        Reason::ScopeUnscoped => (UNAUTHORIZED, "Access to unscoped api is not allowed"),
        Reason::AclRole | Reason::AclNone => (UNAUTHORIZED, "Failed API level ACL Validation"),
        Reason::BlockedNetwork
        | Reason::BlockedClient
        | Reason::BlockedUser
        | Reason::BlockedToken
        | Reason::PolicyNone
        | Reason::PolicyProfile
        | Reason::ScopeLimited => (UNAUTHORIZED, refusal.detail()),
        Reason::LimitAddress | Reason::LimitRate | Reason::LimitQuota => {
            ("Rate limit exceeded", refusal.detail())
        }
        Reason::OperationUnknown => {
            ("Requested URI does not represent any resource", refusal.detail())
        }
        Reason::RequestMalformed
        | Reason::PathAmbiguous
        | Reason::RequestBody
        | Reason::RequestTarget
        | Reason::RequestHeaders
        | Reason::OperationMethod
        | Reason::OperationMaintenance
        | Reason::TokenSeveral
        | Reason::TokenInQuery
        | Reason::IssuerUnavailable
        | Reason::StoreUnavailable
        | Reason::UpstreamFailed
        | Reason::UpstreamProtocol
        | Reason::UpstreamUnavailable
        | Reason::UpstreamTimeout
        | Reason::GatewayBroken => (refusal.reason.row().title, refusal.detail()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ScopeName;

    #[test]
    fn refusals_have_the_texts_that_callers_look_for() {
        for (refusal, message, detail) in [
            (
                Refusal::new(Reason::TokenMissing),
                "User Not Authenticated",
                "Required to provide Auth information",
            ),
            (
                Refusal::new(Reason::ScopeMissing)
                    .with(Remedy::Scopes(vec![ScopeName::new("a"), ScopeName::new("b")])),
                "User Not Authorized",
                "Missing required API access scope: a, b",
            ),
            (
                Refusal::new(Reason::ScopeUnscoped),
                "User Not Authorized",
                "Access to unscoped api is not allowed",
            ),
            (
                Refusal::new(Reason::AclRole),
                "User Not Authorized",
                "Failed API level ACL Validation",
            ),
        ] {
            assert_eq!(texts(&refusal), (message, detail.to_owned()));
        }
        for reason in Reason::ALL {
            let (message, _) = texts(&Refusal::new(*reason));
            let expect = match reason.row().status {
                401 => "User Not Authenticated",
                403 => "User Not Authorized",
                429 => "Rate limit exceeded",
                _ => continue,
            };
            assert_eq!(message, expect, "{reason:?}");
        }
    }
}
