//! One issuer with many tenants: the tenant is a claim of its own and a part of `iss`, and both
//! must say the same (decisions.md, "Tenants").

use std::collections::BTreeSet;

/// What stands for the tenant in an issuer.
pub const PLACEHOLDER: &str = "{tenant}";
/// The same in the `issuer` of published keys, as Entra ID writes it.
const PLACEHOLDER_OF_KEYS: &str = "{tenantid}";
/// Longest tenant, in bytes.
const MAX_TENANT: usize = 64;

/// The tenants of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    /// The claim that names the tenant.
    pub claim: String,
    /// Those whose tokens are taken.
    pub allowed: Allowed,
}

/// Tenants whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// These.
    OneOf(BTreeSet<String>),
    /// Any: written out by the operator as `allow: any`.
    Any,
}

impl Tenants {
    /// Whether a tenant's tokens are taken.
    #[must_use]
    pub fn allow(&self, tenant: &str) -> bool {
        is_tenant(tenant)
            && match &self.allowed {
                Allowed::OneOf(tenants) => tenants.contains(tenant),
                Allowed::Any => true,
            }
    }

    /// Those that are listed; none where any is allowed.
    pub fn listed(&self) -> impl Iterator<Item = &str> {
        let listed = match &self.allowed {
            Allowed::OneOf(tenants) => Some(tenants),
            Allowed::Any => None,
        };
        listed.into_iter().flatten().map(String::as_str)
    }
}

/// Whether a text can be a tenant: it goes into names, headers and records as it is.
#[must_use]
pub fn is_tenant(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !text.is_empty() && text.len() <= MAX_TENANT && text.bytes().all(fits)
}

/// The issuer of one tenant.
#[must_use]
pub fn issuer_of(template: &str, tenant: &str) -> String {
    template.replace(PLACEHOLDER, tenant)
}

/// The tenant whose issuer this is; `None` for a text that is no tenant's.
#[must_use]
pub fn tenant_of<'a>(template: &str, issuer: &'a str) -> Option<&'a str> {
    between(template, PLACEHOLDER, issuer)
}

/// Whether a key that names an issuer serves this one: the same text, or one of the tenants that a
/// template stands for.
#[must_use]
pub fn serves(named: &str, issuer: &str) -> bool {
    named == issuer
        || [PLACEHOLDER, PLACEHOLDER_OF_KEYS]
            .into_iter()
            .any(|placeholder| between(named, placeholder, issuer).is_some())
}

fn between<'a>(template: &str, placeholder: &str, issuer: &'a str) -> Option<&'a str> {
    let (before, after) = template.split_once(placeholder)?;
    let tenant = issuer.strip_prefix(before)?.strip_suffix(after)?;
    is_tenant(tenant).then_some(tenant)
}

/// Whether some issuer is a tenant's of both templates.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let (Some((before, after)), Some((other_before, other_after))) =
        (one.split_once(PLACEHOLDER), other.split_once(PLACEHOLDER))
    else {
        return false;
    };
    // What one has more than the other is then a part of the other's tenant.
    let more = |long: &str, short: &str| long.strip_prefix(short).map(str::to_owned);
    let more_behind = |long: &str, short: &str| long.strip_suffix(short).map(str::to_owned);
    let first = more(before, other_before).or_else(|| more(other_before, before));
    let last = more_behind(after, other_after).or_else(|| more_behind(other_after, after));
    let fits = |text: String| text.is_empty() || is_tenant(&text);
    first.is_some_and(fits) && last.is_some_and(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_found_in_its_issuer_alone() {
        let template = "https://login.example/{tenant}/v2.0";
        for (issuer, tenant) in [
            ("https://login.example/9f/v2.0", Some("9f")),
            ("https://login.example/a.b-C/v2.0", Some("a.b-C")),
            ("https://login.example//v2.0", None),
            ("https://login.example/9f/v2.0/", None),
            ("https://login.example/9f/x/v2.0", None),
            ("https://login.example/{tenant}/v2.0", None),
            ("https://login.example/9f%2F/v2.0", None),
            ("https://login.example/v2.0", None),
            ("https://other.example/9f/v2.0", None),
        ] {
            assert_eq!(tenant_of(template, issuer), tenant, "{issuer}");
        }
        let long = "a".repeat(MAX_TENANT);
        assert!(is_tenant(&long) && !is_tenant(&format!("{long}a")));
        // The parts of the template must not share a byte of the issuer.
        assert_eq!(tenant_of("aba{tenant}bab", "abab"), None);
    }

    #[test]
    fn a_key_serves_the_issuer_that_it_names() {
        for (named, serves_it) in [
            ("https://login.example/9f/v2.0", true),
            ("https://login.example/71/v2.0", false),
            ("https://login.example/{tenantid}/v2.0", true),
            ("https://login.example/{tenant}/v2.0", true),
            ("https://login.example/{tenantid}/", false),
            ("", false),
        ] {
            assert_eq!(serves(named, "https://login.example/9f/v2.0"), serves_it, "{named}");
        }
    }

    #[test]
    fn templates_overlap_where_an_issuer_is_of_both() {
        for (one, other, both) in [
            ("https://a/{tenant}", "https://a/{tenant}", true),
            ("https://a/{tenant}", "https://a/x{tenant}", true),
            ("https://a/{tenant}", "https://a/{tenant}.x", true),
            ("https://a/{tenant}", "https://a/{tenant}/v2", false),
            ("https://a/{tenant}/v1", "https://a/{tenant}/v2", false),
            ("https://a/{tenant}", "https://b/{tenant}", false),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (both, both), "{one} {other}");
        }
    }
}
