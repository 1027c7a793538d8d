//! What the environment says of the way out.

#[expect(clippy::disallowed_methods, reason = "one of the places that read the environment")]
fn first_of(names: [&str; 2]) -> Option<String> {
    names.into_iter().filter_map(|name| std::env::var(name).ok()).find(|text| !text.is_empty())
}

/// The proxy for https servers (`HTTPS_PROXY`, also in lower case).
#[must_use]
pub fn https_proxy() -> Option<String> {
    first_of(["HTTPS_PROXY", "https_proxy"])
}

/// Hosts that are reached without it (`NO_PROXY`, also in lower case).
#[must_use]
pub fn no_proxy() -> Option<String> {
    first_of(["NO_PROXY", "no_proxy"])
}
