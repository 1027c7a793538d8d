//! What helps against each refusal, for the people who run the gateway. The caller is told less
//! (`reason/table.rs`).

use crate::grant::ErrorCode;
use crate::reason::{Reason, TokenFault};

/// What helps against the reason and the fault of a record: a reason of the closed list, or an
/// error code of the token endpoint (RFC 6749 §5.2). `None` for a permit.
#[must_use]
pub fn remedy(reason: &str, fault: &str) -> Option<&'static str> {
    if let Some(reason) = Reason::from_label(reason) {
        let of_token = || TokenFault::from_label(fault.split(':').next().unwrap_or_default());
        return Some(match (reason, of_token()) {
            (Reason::TokenInvalid, Some(fault)) => of_fault(fault),
            (reason, _) => of_reason(reason),
        });
    }
    ErrorCode::ALL.into_iter().find(|code| code.label() == reason).map(of_code)
}

const fn of_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::RequestMalformed => {
            "the caller sends what strict readers of HTTP refuse: mend the \
            client or the proxy before the gateway, by what the fault says"
        }
        Reason::PathAmbiguous => {
            "the caller writes the path in its canonical form; an API that \
            needs such bytes says so with `path: { allow: [...] }`"
        }
        Reason::RequestBody => {
            "send less, or raise `edge.max_body_size` or the API's \
            `max_body_size`"
        }
        Reason::RequestTarget => "send a shorter target, or raise `edge.max_target_size`",
        Reason::RequestHeaders => {
            "send fewer header bytes or lines, or raise \
            `edge.max_header_size` or `edge.max_header_fields`"
        }
        Reason::BlockedNetwork => {
            "take the network out of `blocks`, or `scopegate unblock`, if it \
            may call"
        }
        Reason::LimitAddress => {
            "the caller waits for Retry-After; raise the limit `per: address` if \
            many callers share the address"
        }
        Reason::OperationUnknown => {
            "compare the recorded host and path with `base_path`, `host`, \
            `versions` and `resources` of the APIs; add the resource if it is missing"
        }
        Reason::OperationMethod => "add the method to the resource, or call it with one it has",
        Reason::OperationMaintenance => "take `maintenance` off the API when it is over",
        Reason::TokenMissing => {
            "the caller gets a token and sends `Authorization: Bearer TOKEN`; a \
            proxy before the gateway must let that header through"
        }
        Reason::TokenSeveral => "the caller sends one Authorization line with one token",
        Reason::TokenInQuery => {
            "the caller sends the token in the Authorization header, and \
            replaces this one: it is in logs by now"
        }
        Reason::TokenMalformed => {
            "the caller sends `Bearer` and one token; raise \
            `edge.max_token_size` if its tokens are longer"
        }
        Reason::TokenInvalid => {
            "the caller gets a new token; `scopegate token inspect` says what \
            is wrong with this one"
        }
        Reason::ClientUnknown => {
            "register the client, list its claim under `external`, or give the \
            issuer a `default_client`"
        }
        Reason::ClientInactive => "set `active: true` on the client if it may call",
        Reason::UserInactive => "unlock or activate the user in users.yaml",
        Reason::IssuerUnavailable => {
            "see that the gateway reaches the issuer's keys or \
            introspection: `scopegate key issuers`, and the gateway's own log"
        }
        Reason::StoreUnavailable => "see that the gateway reaches its store",
        Reason::BlockedClient | Reason::BlockedUser | Reason::BlockedToken => {
            "take the entry out \
            of `blocks`, or `scopegate unblock`, if it may call"
        }
        Reason::PolicyNone => {
            "write an access policy on the operation that names the client, or \
            set its `enforce_token_restriction: false`"
        }
        Reason::PolicyProfile => "add a profile to the access policy that covers this caller",
        Reason::ScopeLimited => "add the API to `limit_authorization` of the client",
        Reason::ScopeMissing => {
            "give the client a scope that grants the operation, and let it ask \
            for a token with it"
        }
        Reason::ScopeUnscoped => {
            "write an auth scope that grants the operation, or set the client's \
            `allow_only_selected_scopes: false`"
        }
        Reason::AclRole => "give the acting user a role that the ACL asks for",
        Reason::AclNone => {
            "name the operation for this caller: in a scope, a policy on this API, or \
            an ACL"
        }
        Reason::LimitRate | Reason::LimitQuota => {
            "the caller waits for Retry-After; raise the \
            limit if it is meant to call as often"
        }
        Reason::UpstreamFailed => {
            "a server of the API took the connection and broke it: look at its \
            log at this time, and at its TLS"
        }
        Reason::UpstreamProtocol => {
            "a server of the API answered what is not valid HTTP: mend it, \
            or a proxy before it"
        }
        Reason::UpstreamUnavailable => {
            "no server of the upstream takes connections: start it, or \
            mend its address in `servers`, firewalls and health checks"
        }
        Reason::UpstreamTimeout => {
            "the API was slower than `timeouts`: make it faster, or raise \
            them"
        }
        Reason::GatewayBroken => {
            "a fault of the gateway itself: report it with this id and the \
            gateway's own log"
        }
    }
}

const fn of_fault(fault: TokenFault) -> &'static str {
    match fault {
        TokenFault::Form => "the caller sends a whole token, a JWT of three parts or one of ours",
        TokenFault::Signature => {
            "the token was changed, or signed with a key that is not the \
            issuer's: see where the caller got it"
        }
        TokenFault::Expired => "the caller gets a new token before the old one expires",
        TokenFault::NotYetValid => {
            "set the clocks of issuer and gateway; `leeway` forgives a small \
            difference"
        }
        TokenFault::Issuer => {
            "add the issuer under `issuers`, byte for byte as `iss` has it, if its \
            tokens are to be taken"
        }
        TokenFault::Audience => {
            "the caller asks its issuer for a token for this gateway, or add the \
            value seen to `audience` of the issuer"
        }
        TokenFault::Algorithm => "add the algorithm to `algorithms` of the issuer, if it signs so",
        TokenFault::Type => {
            "the caller sends an access token, not an ID token; or add the type to \
            `token_types` of the issuer"
        }
        TokenFault::KeyUnknown => "see that the issuer publishes the key: `scopegate key issuers`",
        TokenFault::Revoked => "the caller gets a new token; this one was revoked",
        TokenFault::Inactive => {
            "the caller gets a new token; its issuer says that this one is over"
        }
        TokenFault::Binding => "the caller uses a token that is not bound to a key (`cnf`)",
        TokenFault::Claims => {
            "have the issuer write the claim, or name another one under `claims` of \
            the issuer"
        }
    }
}

const fn of_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidRequest => {
            "the client sends the parameters that the grant asks for, in a \
            form, each once"
        }
        ErrorCode::InvalidClient => {
            "the client sends its client_id with its current secret; \
            `scopegate client list` shows which secrets live, `client rotate-secret` makes one"
        }
        ErrorCode::InvalidGrant => {
            "the client begins anew: codes, refresh tokens and assertions \
            work once, for a time, and for the client and redirect URL they were made for"
        }
        ErrorCode::UnauthorizedClient => "add the grant to `grants` of the client",
        ErrorCode::UnsupportedGrantType => {
            "add the grant to `authorization_server.grants`, or use \
            another one"
        }
        ErrorCode::InvalidScope => {
            "give the client the scope under `auth_scopes`, ask for less, or \
            list the name under `ignored_scopes`"
        }
        ErrorCode::InvalidTarget => {
            "the client asks for `public_url`, or an API below it, as \
            `resource`"
        }
        ErrorCode::TemporarilyUnavailable => {
            "the client waits for Retry-After; `scopegate attempts \
            list` shows who has guessed too often"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_every_error_code_has_a_remedy_and_a_permit_has_none() {
        for reason in Reason::ALL {
            assert!(remedy(reason.label(), "").is_some(), "{reason:?}");
        }
        for code in ErrorCode::ALL {
            assert!(remedy(code.label(), "").is_some(), "{code:?}");
        }
        assert_eq!(remedy("", ""), None);
    }

    #[test]
    fn a_token_is_mended_by_its_fault() {
        let of = |fault| remedy("token.invalid", fault).unwrap();
        assert!(of("audience: saw x, wants y").contains("`audience`"));
        assert!(of("expired").contains("expires"));
        assert!(of("something else").contains("token inspect"));
    }
}
