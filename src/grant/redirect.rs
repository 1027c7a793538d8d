//! Redirect URIs: which may be registered, whether a presented one matches, and how a response is
//! added.

use std::collections::HashSet;

use crate::client::Registry;

/// Schemes that browsers and systems give a meaning of their own; with `ms-…` besides.
const TAKEN: [&str; 21] = [
    "about",
    "blob",
    "chrome",
    "data",
    "file",
    "filesystem",
    "ftp",
    "http",
    "intent",
    "jar",
    "javascript",
    "mailto",
    "res",
    "search-ms",
    "shell",
    "tel",
    "urn",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

/// The scheme of a redirect URI that leads to an application and not to a server (RFC 8252 §7.1).
#[must_use]
pub fn private_scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    (!matches!(scheme, "http" | "https")).then_some(scheme)
}

/// Checks a redirect URI that an operator registers.
///
/// # Errors
/// Says what is wrong, and what would be right (RFC 6749 §3.1.2, RFC 9700 §2.6, RFC 8252 §7).
pub fn check_registered(text: &str, public_client: bool) -> Result<(), String> {
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
        scheme if TAKEN.contains(&scheme) || scheme.starts_with("ms-") => {
            Err(format!("the scheme `{scheme}` leads to no application: use https, or its own"))
        }
        // Of two applications with one scheme the system chooses: only PKCE and the user's consent
        // protect what is sent there, and a secret would not be one (RFC 8252 §7.1, §8.5).
        scheme if !public_client => Err(format!(
            "the scheme `{scheme}` is for public clients: write https://…, or `public_client: true`"
        )),
        // Byte for byte: the parser writes schemes in lower case.
        scheme if !text.starts_with(scheme) => {
            Err(format!("write the scheme in lower case: `{scheme}`"))
        }
        _ if text.split_once(':').is_some_and(|(_, rest)| rest.is_empty()) => {
            Err("nothing stands behind the scheme".to_owned())
        }
        _ => Ok(()),
    }
}

/// Origins of the pages of public clients: what they get by script, they may read.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    origins: HashSet<String>,
    /// Some such client is on loopback, where ports are free.
    has_loopback: bool,
}

impl Pages {
    /// Those of a registry: https origins of redirect URLs of active public clients, and loopback
    /// where such a client's is.
    #[must_use]
    pub fn of(registry: &Registry) -> Self {
        let mut pages = Self::default();
        let clients = registry.clients().into_iter();
        for url in clients.filter(|one| one.active && one.public).flat_map(|one| &one.redirect_urls)
        {
            pages.has_loopback |= split_loopback(url).is_some();
            let parsed = url::Url::parse(url).ok().filter(|url| url.scheme() == "https");
            pages.origins.extend(parsed.map(|url| url.origin().ascii_serialization()));
        }
        pages
    }

    /// Whether a page of this origin, as a browser writes it (RFC 6454 §6.2), is one of theirs.
    #[must_use]
    pub fn have(&self, origin: &str) -> bool {
        let on_loopback = || split_loopback(origin).is_some_and(|(_, _, rest)| rest.is_empty());
        self.origins.contains(origin) || (self.has_loopback && on_loopback())
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
            check_registered(good, true).unwrap();
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
            for public in [false, true] {
                assert!(check_registered(bad, public).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn a_private_scheme_is_a_public_clients_and_has_no_meaning_of_its_own() {
        for good in [
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "vscode://vendor.extension/cb",
            "com.example.app:/cb",
            "postman://app/oauth2/callback?x=1",
            "a+b-c.d:cb",
        ] {
            check_registered(good, true).unwrap();
            assert!(check_registered(good, false).is_err(), "{good} of a client with a secret");
        }
        let taken = TAKEN.map(|scheme| format!("{scheme}://x/cb"));
        let others = ["ms-excel:ofe|u|x", "ms-settings:x", "JavaScript:alert(1)", "DATA:x"];
        let malformed =
            ["Cursor://x/cb", "cursor:", "cursor", "1cursor://x", "cur_sor://x", "://x", ":x"];
        let foreign = ["cursor://u:p@x/cb", "cursor://x/#f", "cursor://*/cb", "cursor://a b/cb"];
        let bad = taken.iter().map(String::as_str).chain(others).chain(malformed).chain(foreign);
        for bad in bad {
            assert!(check_registered(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_of_public_clients_alone_have_origins_that_may_read() {
        let client = |id: &str, public: bool, active: bool, urls: &[&str]| {
            let mut client = crate::client::Client::of_tests(id);
            (client.public, client.active) = (public, active);
            client.redirect_urls = urls.iter().map(|url| (*url).to_owned()).collect();
            client
        };
        let spa = client("spa", true, true, &["https://app.example/cb", "cursor://x.y/cb"]);
        let local = client("local", true, true, &["http://localhost:6274/cb"]);
        let secret = client("secret", false, true, &["https://secret.example/cb"]);
        let asleep = client("asleep", true, false, &["https://asleep.example/cb"]);
        let pages = |clients| Pages::of(&Registry::new(clients, vec![], vec![]));
        let all = pages(vec![spa.clone(), local, secret, asleep]);
        for (origin, may) in [
            ("https://app.example", true),
            ("http://localhost:6274", true),
            ("http://localhost:1", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("https://app.example/", false),
            ("https://app.example:8443", false),
            ("http://app.example", false),
            ("https://evil.example", false),
            ("https://app.example.evil.example", false),
            ("https://secret.example", false),
            ("https://asleep.example", false),
            ("cursor://x.y", false),
            ("null", false),
            ("*", false),
            ("", false),
            ("https://localhost:6274", false),
            ("http://localhost.evil.example", false),
            ("http://localhost:80@evil.example", false),
            ("http://127.0.0.1/", false),
        ] {
            assert_eq!(all.have(origin), may, "{origin}");
        }
        assert!(!pages(vec![spa]).have("http://localhost:6274"), "nobody is on loopback");
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
