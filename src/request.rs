//! The facts of a request that decisions look at, parsed once at the edge.
//!
//! Owns the head's grammar, the canonical target, the credential and the client's address; knows
//! nothing of rules.

pub mod address;
pub mod answer;
pub mod body;
pub mod certificate;
pub mod cookie;
pub mod credential;
pub mod subprotocol;
pub mod fields;
pub mod frames;
pub mod method;
pub mod headers;
pub mod head;
pub mod original;
pub mod target;
pub mod trace;

use std::net::IpAddr;
use std::sync::Arc;

use crate::reason::Refusal;
use certificate::CertificateFacts;
use credential::BearerToken;
use head::Head;
use method::Method;
use target::Target;

/// Bytes of a `token` (RFC 9110 §5.6.2).
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// One request, as the decision sees it. Nothing else a client sends reaches the decision.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method it is judged as; `None` for one that no rule can name.
    pub method: Option<Method>,
    /// The method that a header asks it to be taken for, which only some APIs let.
    pub overriding: Option<Method>,
    /// Host without port, lower case.
    pub host: String,
    /// The canonical target.
    pub target: Target,
    /// The client's address, if one is to be believed.
    pub address: Option<IpAddr>,
    /// The one bearer token, or why there is not exactly one (step 4).
    pub credential: Result<BearerToken, Refusal>,
    /// The certificate that the client has shown, verified.
    pub certificate: Option<Arc<CertificateFacts>>,
    /// What a browser asks about in a preflight (Fetch standard, CORS-preflight request).
    pub asked: Asked,
}

/// The method that a preflight asks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// It is no preflight.
    #[default]
    Nothing,
    /// This one.
    Method(Method),
    /// One that no rule can name.
    Unknown,
}

impl Request {
    /// Puts the facts together.
    #[must_use]
    pub fn new(
        head: Head,
        address: Option<IpAddr>,
        credential: Result<BearerToken, Refusal>,
    ) -> Self {
        Self {
            method: Method::judged(&head.method),
            overriding: head.overriding,
            host: head.host,
            target: head.target,
            address,
            credential,
            certificate: None,
            asked: Asked::Nothing,
        }
    }
}
