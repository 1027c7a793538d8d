//! Scope values: the space-separated list of RFC 6749 §3.3, with bounds.
//!
//! Owns the grammar and the set; knows nothing of what a scope grants.

use std::fmt;

use crate::names::ScopeName;

/// Longest `scope` parameter taken, in bytes.
pub const MAX_BYTES: usize = 1024;
/// Most scopes in one parameter.
pub const MAX_ITEMS: usize = 64;

/// A set of scopes, sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<ScopeName>);

/// Why a `scope` value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeFault {
    /// A character outside `%x21 / %x23-5B / %x5D-7E` (RFC 6749 §3.3).
    #[error("a scope may contain visible ASCII other than the double quote and the backslash")]
    Character,
    /// Over [`MAX_BYTES`] or [`MAX_ITEMS`].
    #[error("the scope value is longer than 1024 bytes or 64 scopes")]
    TooLong,
}

impl ScopeSet {
    /// Parses a `scope` value. An empty value is an empty set (RFC 6749 §3.1: no value is as if
    /// omitted).
    ///
    /// # Errors
    /// A value over the bounds, or with a character outside the grammar (RFC 6749 §3.3).
    pub fn parse(text: &str) -> Result<Self, ScopeFault> {
        if text.len() > MAX_BYTES
            || text.split(' ').filter(|token| !token.is_empty()).count() > MAX_ITEMS
        {
            return Err(ScopeFault::TooLong);
        }
        Self::parse_unbounded(text)
    }

    /// Parses the `scope` of a token that verified: its length is the token's.
    ///
    /// # Errors
    /// A character outside the grammar (RFC 6749 §3.3).
    pub fn parse_unbounded(text: &str) -> Result<Self, ScopeFault> {
        Self::of(text.split(' '))
    }

    /// The scopes of these names; empty ones are none.
    ///
    /// # Errors
    /// A character outside the grammar (RFC 6749 §3.3).
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, ScopeFault> {
        let mut scopes = Vec::new();
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            if !is_scope_token(name) {
                return Err(ScopeFault::Character);
            }
            scopes.push(ScopeName::new(name));
        }
        Ok(scopes.into_iter().collect())
    }

    /// Whether the set has this scope.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.0.binary_search_by(|held| held.as_str().cmp(scope)).is_ok()
    }

    /// The scopes, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[ScopeName] {
        &self.0
    }

    /// Whether no scope is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many scopes the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The set as a `scope` value, sorted.
    #[must_use]
    pub fn to_value(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name.as_str())?;
        }
        Ok(())
    }
}

impl FromIterator<ScopeName> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = ScopeName>>(scopes: I) -> Self {
        let mut scopes: Vec<ScopeName> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }
}

/// `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )` (RFC 6749 §3.3).
#[must_use]
pub fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_value_is_a_set_whatever_its_order_and_repetitions() {
        let a = ScopeSet::parse("b a a").unwrap();
        assert_eq!(a, ScopeSet::parse("a b").unwrap());
        assert_eq!(a.to_value(), "a b");
        assert!(a.contains("a") && !a.contains("c"));
        assert!(ScopeSet::parse("").unwrap().is_empty());
    }

    #[test]
    fn characters_outside_the_grammar_are_refused() {
        for bad in ["a\"b", "a\\b", "a\tb", "ä", "a\nb"] {
            assert_eq!(ScopeSet::parse(bad), Err(ScopeFault::Character), "{bad:?}");
        }
    }

    #[test]
    fn a_long_value_is_refused_before_it_is_split() {
        assert_eq!(ScopeSet::parse(&"a ".repeat(513)), Err(ScopeFault::TooLong));
        let many: Vec<String> = (0..65).map(|n| format!("s{n}")).collect();
        assert_eq!(ScopeSet::parse(&many.join(" ")), Err(ScopeFault::TooLong));
    }
}
