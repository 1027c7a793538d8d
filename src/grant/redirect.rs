//! Redirect URIs: which may be registered, whether a presented one matches, and how a response is
//! added.

/// Checks a redirect URI that an operator registers.
///
/// # Errors
/// Says what is wrong, and what would be right (RFC 6749 §3.1.2, RFC 9700 §2.6, RFC 8252 §7).
pub fn check_registered(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|_| format!("`{text}` is not an absolute URL"))?;
    if text.contains('#') {
        return Err("a redirect URL has no fragment (RFC 6749 §3.1.2)".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic())
        || text.contains(['*', '\\', '"', '<', '>'])
    {
        return Err(
            "a redirect URL is compared byte for byte: no wildcards, spaces or quotes".to_owned()
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a redirect URL names no user".to_owned());
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if split_loopback(text).is_some() => Ok(()),
        "http" => {
            Err("plain http is for loopback alone: write https://… (RFC 9700 §2.6)".to_owned())
        }
        // Private-use schemes are reversed domain names (RFC 8252 §7.1): this also keeps
        // javascript: and data: out.
        scheme if scheme.contains('.') => Ok(()),
        scheme => Err(format!(
            "the scheme `{scheme}` belongs to nobody: use https, or a reversed domain such as \
                com.example.app"
        )),
    }
}

/// Whether a presented redirect URI is a registered one: byte for byte (RFC 9700 §2.1). Only the
/// port of a public client's loopback address is free: a native application does not know it in
/// advance (RFC 8252 §7.3), and a client with a secret is not native.
#[must_use]
pub fn is_same(registered: &str, presented: &str, public_client: bool) -> bool {
    if registered == presented || !public_client {
        return registered == presented;
    }
    match (split_loopback(registered), split_loopback(presented)) {
        (Some((host, _, rest)), Some((other_host, _, other_rest))) => {
            host == other_host && rest == other_rest
        }
        _ => false,
    }
}

/// Host, port and the rest of an `http` URI on a loopback address.
fn split_loopback(text: &str) -> Option<(&str, &str, &str)> {
    let after = text.strip_prefix("http://")?;
    let host =
        ["127.0.0.1", "[::1]", "localhost"].into_iter().find(|host| after.starts_with(host))?;
    let rest = after.get(host.len()..)?;
    let (port, rest) = match rest.strip_prefix(':') {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
    };
    let port_ok =
        rest.len() == after.len() - host.len() || port.parse::<u16>().is_ok_and(|port| port > 0);
    // The rest must not continue the host: `http://127.0.0.1.evil.example`,
    // `http://127.0.0.1:80@evil.example`.
    (port_ok && (rest.is_empty() || rest.starts_with(['/', '?']))).then_some((host, port, rest))
}

/// Adds response parameters to the query of a redirect URI (RFC 6749 §4.1.2). Its own query is
/// kept.
#[must_use]
pub fn with_response(redirect: &str, parameters: &[(&str, &str)]) -> String {
    let mut text = redirect.to_owned();
    let mut separator = if redirect.contains('?') { '&' } else { '?' };
    if redirect.ends_with(['?', '&']) {
        text.pop();
        separator = if text.contains('?') { '&' } else { '?' };
    }
    for (name, value) in parameters {
        text.push(separator);
        text.push_str(name);
        text.push('=');
        encode(value, &mut text);
        separator = '&';
    }
    text
}

/// Percent-encodes all but unreserved characters, also spaces: some clients do not decode plus
/// signs.
fn encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_the_registered_one_byte_for_byte() {
        let registered = "https://app.example/cb?x=1";
        assert!(is_same(registered, registered, true));
        for variant in [
            "https://app.example/cb",
            "https://app.example/cb?x=1&y=2",
            "https://app.example/cb?x=1#f",
            "https://app.example/cb/?x=1",
            "https://app.example/CB?x=1",
            "https://APP.example/cb?x=1",
            "https://app.example:443/cb?x=1",
            "https://app.example:8443/cb?x=1",
            "http://app.example/cb?x=1",
            "https://app.example.evil.example/cb?x=1",
            "https://evil.example/cb?x=1",
            "https://app.example@evil.example/cb?x=1",
            "https://app.example/cb?x=%31",
            "https://app.example/./cb?x=1",
            "https://app.example/cb/../cb?x=1",
            "https://app.example//cb?x=1",
            "https:/app.example/cb?x=1",
            "//app.example/cb?x=1",
            "/cb?x=1",
            "javascript:alert(1)",
            "data:text/html,x",
            "",
            " https://app.example/cb?x=1",
            "https://app.example/cb?x=1 ",
            "https://app.example/cb?x=1\r\nLocation: https://evil.example",
            "https://app.example\\@evil.example/cb?x=1",
            "https://app%2eexample/cb?x=1",
        ] {
            for public in [false, true] {
                assert!(!is_same(registered, variant, public), "{variant}");
            }
        }
    }

    #[test]
    fn only_the_port_of_a_loopback_address_of_a_public_client_is_free() {
        let is_same = |registered: &str, presented: &str| {
            assert_eq!(
                is_same(registered, presented, false),
                registered == presented,
                "{presented}"
            );
            is_same(registered, presented, true)
        };
        for registered in ["http://127.0.0.1/cb", "http://127.0.0.1:7777/cb"] {
            for good in
                ["http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb"]
            {
                assert!(is_same(registered, good), "{registered} {good}");
            }
            for bad in [
                "http://127.0.0.1:65536/cb",
                "http://127.0.0.1:0/cb",
                "http://127.0.0.1:/cb",
                "http://127.0.0.1:80:81/cb",
                "http://127.0.0.1:+80/cb",
                "http://127.0.0.2/cb",
                "http://localhost/cb",
                "http://[::1]/cb",
                "https://127.0.0.1/cb",
                "http://127.0.0.1/cb?x=1",
                "http://127.0.0.1/cb/",
                "http://127.0.0.1.evil.example/cb",
                "http://127.0.0.1:80@evil.example/cb",
                "http://127.0.0.1:80.evil.example/cb",
                "http://127.1/cb",
                "http://2130706433/cb",
            ] {
                assert!(!is_same(registered, bad), "{registered} {bad}");
            }
        }
        assert!(
            is_same("http://[::1]/cb", "http://[::1]:5/cb")
                && is_same("http://localhost:1/cb", "http://localhost/cb")
        );
        assert!(!is_same("https://app.example/cb", "https://app.example:444/cb"));
    }

    #[test]
    fn what_may_be_registered() {
        for good in [
            "https://app.example/cb",
            "https://app.example/cb?x=1",
            "http://127.0.0.1/cb",
            "http://localhost:3000/cb",
            "http://[::1]/cb",
            "com.example.app:/cb",
        ] {
            check_registered(good).unwrap();
        }
        for bad in [
            "",
            "/cb",
            "https://app.example/cb#f",
            "http://app.example/cb",
            "http://127.0.0.1.evil.example/",
            "https://*.example/cb",
            "https://user@app.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://app.example/a b",
        ] {
            assert!(check_registered(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn response_parameters_join_the_query_and_cannot_leave_it() {
        let parameters = [("code", "a b&c=d#e"), ("state", "\u{e4}+%")];
        let expect = "code=a%20b%26c%3Dd%23e&state=%C3%A4%2B%25";
        assert_eq!(
            with_response("https://a.example/cb", &parameters),
            format!("https://a.example/cb?{expect}")
        );
        assert_eq!(
            with_response("https://a.example/cb?x=1", &parameters),
            format!("https://a.example/cb?x=1&{expect}")
        );
        assert_eq!(
            with_response("https://a.example/cb?", &parameters),
            format!("https://a.example/cb?{expect}")
        );
    }
}
