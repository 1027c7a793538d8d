//! The vocabulary: one type per kind of name, so that a client id can never be passed where a scope
//! is meant.
//!
//! Owns the names and the clock value; knows nothing of what they name.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is: names are compared byte for byte.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name!(
    /// A REST API of the policies (`apis:`).
    ApiName
);
name!(
    /// A version segment of an API, for instance `v1`.
    Version
);
name!(
    /// An auth scope, one `scope-token` of RFC 6749 §3.3.
    ScopeName
);
name!(
    /// An OAuth client in the registry: its `client_id`.
    ClientId
);
name!(
    /// A user of `users.yaml`; shares one namespace with client ids, so that a `sub` is never both
    /// (RFC 9700 §4.15).
    UserName
);
name!(
    /// A role of a user or client, the only thing ACLs look at.
    RoleName
);
/// The name of an issuer: `self`, or a key of `issuers:`; where an issuer has tenants, that key, a
/// slash and the tenant (`entra/9f…`), because a subject is one only with its tenant.
#[derive(Clone)]
pub struct IssuerName {
    text: Arc<str>,
    /// How much of the text is the key.
    declared: usize,
}
name!(
    /// A key of `upstreams:`.
    UpstreamName
);
name!(
    /// A key of `access_policies:`.
    PolicyName
);

impl IssuerName {
    /// The name of our own authorization server.
    pub const OWN: &'static str = "self";

    /// The name of an issuer as the configuration has it. Names are compared byte for byte.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: Arc::from(text), declared: text.len() }
    }

    /// The name of one of its tenants.
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> Self {
        let declared = self.declared();
        Self { text: Arc::from(format!("{declared}/{tenant}")), declared: declared.len() }
    }

    /// The name as text, with the tenant.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key of `issuers:`, without the tenant.
    #[must_use]
    pub fn declared(&self) -> &str {
        self.text.get(..self.declared).unwrap_or_default()
    }

    /// The tenant, where it names one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.text.get(self.declared..)?.strip_prefix('/')
    }

    /// Whether this is our own authorization server.
    #[must_use]
    pub fn is_own(&self) -> bool {
        &*self.text == Self::OWN
    }
}

// Two names are one where their texts are: no issuer has the name of another's tenant.
impl PartialEq for IssuerName {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for IssuerName {}

impl PartialOrd for IssuerName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for IssuerName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl std::hash::Hash for IssuerName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Borrow<str> for IssuerName {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl From<&str> for IssuerName {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl serde::Serialize for IssuerName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Seconds since 1970-01-01T00:00:00Z, the `NumericDate` of RFC 7519 §2 without its fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant moved by `seconds`; saturates, so no date a client sends can overflow.
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// Where a rule stands in the configuration, for logs, `explain` and messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Origin {
    /// File as the operator named it.
    pub file: Arc<str>,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}
