//! The form of a token request: bounded, every parameter at most once (RFC 6749 §3.2).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{ErrorCode, GrantError};

/// Most parameters accepted.
const MAX_PARAMETERS: usize = 64;
/// Longest body accepted, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Parameters by name; empty values are absent ones (RFC 6749 §3.1).
pub struct Form(HashMap<String, String>);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Form {
    /// Parses a body.
    ///
    /// # Errors
    /// `invalid_request` for a repeated parameter, too many of them, or text that is not UTF-8.
    pub fn parse(body: &[u8]) -> Result<Self, GrantError> {
        match Self::read(body) {
            (form, None) => Ok(form),
            (_, Some((_, error))) => Err(error),
        }
    }

    /// Parses as far as possible, and returns the first fault with its parameter (empty if none):
    /// the parameters of an authorization request determine where its fault is reported.
    #[must_use]
    pub fn read(body: &[u8]) -> (Self, Option<(String, GrantError)>) {
        let mut parameters = HashMap::new();
        let fault = Self::collect(body, &mut parameters).err();
        let fault =
            fault.map(|(name, text)| (name, GrantError::new(ErrorCode::InvalidRequest, text)));
        (Self(parameters), fault)
    }

    fn collect(
        body: &[u8],
        parameters: &mut HashMap<String, String>,
    ) -> Result<(), (String, &'static str)> {
        let whole = |text| Err((String::new(), text));
        if body.len() > MAX_BODY {
            return whole("the body is longer than 64 KiB");
        }
        let mut fault = Ok(());
        for (name, value) in url::form_urlencoded::parse(body) {
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') || value.contains('\0') {
                return whole("a parameter is not UTF-8 text");
            }
            if parameters.len() >= MAX_PARAMETERS {
                return whole("too many parameters");
            }
            match parameters.entry(name.into_owned()) {
                Entry::Vacant(place) => drop(place.insert(value.into_owned())),
                // A repeated parameter that determines where faults are reported takes precedence.
                Entry::Occupied(taken)
                    if fault.is_ok()
                        || matches!(taken.key().as_str(), "client_id" | "redirect_uri") =>
                {
                    fault = Err((taken.key().clone(), "a parameter occurs twice"));
                }
                Entry::Occupied(_) => {}
            }
        }
        fault
    }

    /// The value of a parameter, unless it is empty.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once_and_may_not_repeat() {
        let form = Form::parse(b"a=b%2520c&d=&e=x+y&f").unwrap();
        assert_eq!(form.value("a"), Some("b%20c"));
        assert_eq!(form.value("d"), None);
        assert_eq!(form.value("e"), Some("x y"));
        assert_eq!(form.value("f"), None);
        for bad in [&b"a=1&a=1"[..], b"a=1&%61=2", b"a=&a=", b"a=%ff", b"a=%00"] {
            assert_eq!(Form::parse(bad).unwrap_err().code, ErrorCode::InvalidRequest, "{bad:?}");
        }
        assert!(Form::parse(&vec![b'a'; MAX_BODY + 1]).is_err());
    }
}
