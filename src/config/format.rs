//! Texts with a form of their own: durations, sizes, dates, networks, URLs, references to secrets.
//! One parser each, used by the shape check (for the place of the fault), by the reading of values,
//! and by the schema (for editors).

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::Timestamp;
use crate::policy::definition::RateLimit;

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident($target:ty) = $format:literal, $parse:expr, $pattern:literal,
        $about:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name {
                /// The parsed value.
                pub value: $target,
                text: String,
            }

            impl $name {
                /// The text as it was written.
                #[must_use]
                pub fn text(&self) -> &str {
                    &self.text
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    let value = $parse(text.as_str()).map_err(serde::de::Error::custom)?;
                    Ok(Self { value, text })
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(&self.text)
                }
            }

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    Cow::Borrowed(stringify!($name))
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": "string", "x-format": $format, "pattern": $pattern,
                        "description": $about })
                }
            }
        )*

        /// Checks a text against a format of the schema (`x-format`).
        ///
        /// # Errors
        /// What is wrong, and what would be right.
        pub fn check(format: &str, text: &str) -> Result<(), String> {
            match format {
                $($format => $parse(text).map(|_| ()),)*
                _ => Ok(()),
            }
        }
    };
}

formats! {
    /// A length of time.
    Duration(std::time::Duration) = "duration", parse_duration, "^([0-9]+(ms|s|m|h|d)|env:.*)$",
        "A duration: a whole number and ms, s, m, h or d.";
    /// A time that may be none, for instance `10s` or `0s`.
    Grace(std::time::Duration) = "grace", parse_grace, "^([0-9]+(ms|s|m|h|d)|env:.*)$", "A \
        duration, which may be 0s: a whole number and ms, s, m, h or d.";
    /// A number of bytes.
    Size(u64) = "size", parse_size, "^([0-9]+(B|KiB|MiB|GiB)|env:.*)$", "A size: a whole number \
        and B, KiB, MiB or GiB.";
    /// The beginning of a day in UTC.
    Date(Timestamp) = "date", parse_date, "^([0-9]{4}-[0-9]{2}-[0-9]{2}|env:.*)$", "A date, \
        YYYY-MM-DD; its first second in UTC.";
    /// A moment.
    Instant(Timestamp) = "instant", parse_instant, "^([0-9]{4}-.*|env:.*)$", "A moment, RFC 3339, \
        for instance 2026-11-22T10:00:00Z.";
    /// An address.
    Address(std::net::IpAddr) = "address", parse_address, "^([0-9a-fA-F.:]+|env:.*)$", "An IP \
        address.";
    /// A network.
    Network(ipnet::IpNet) = "network", crate::request::address::parse_network,
        "^([0-9a-fA-F.:]+(/[0-9]{1,3})?|env:.*)$", "A network in CIDR notation, or one address.";
    /// An address to listen on.
    Listen(std::net::SocketAddr) = "listen", parse_listen, "^(.+:[0-9]+|env:.*)$", "An address to \
        listen on: IP:PORT.";
    /// An address to listen on, or the path of a Unix socket.
    ListenAt(crate::config::ListenAddress) = "listen_at", parse_listen_at,
        "^(.+:[0-9]+|unix:/.+|env:.*)$", "An address to listen on: IP:PORT, or unix:PATH for a \
        listener that decides.";
    /// An absolute http or https URL without query, fragment and credentials.
    HttpUrl(url::Url) = "url", parse_url, "^(https?://.+|env:.*)$", "An http or https URL.";
    /// What a token calls its issuer.
    IssuerText(String) = "issuer", parse_issuer, "^.+$", "An issuer, as its tokens write it: a \
        URL, another URI, or a text without colon.";
    /// A reference to a secret; never the secret.
    SecretRef(SecretSource) = "secret", parse_secret, "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$", "A \
        secret: env:NAME or file:PATH, never the secret itself.";
    /// A rate.
    Rate((u32, u32)) = "rate", parse_rate, "^([0-9]+/(s|m|h|d)|env:.*)$", "A rate: a whole number, \
        a slash, and s, m, h or d.";
    /// A scope token.
    ScopeText(String) = "scope", parse_scope, "^[!#-\\[\\]-~]+$", "One scope (RFC 6749 §3.3).";
    /// A SHA-256 digest.
    Sha256Text([u8; 32]) = "sha256", crate::client::secret::parse_sha256,
        "^([0-9a-fA-F]{64}|env:.*)$", "A SHA-256 digest as 64 hex digits.";
    /// An Argon2id digest.
    Argon2idText(String) = "argon2id", parse_argon2id, "^(\\$argon2id\\$.*|env:.*)$", "An Argon2id \
        digest as a PHC string.";
    /// A host name.
    HostText(String) = "host", parse_host, "^[^/]+$", "A host name, without port.";
    /// Where a server listens.
    HostPort((String, u16)) = "host_port", parse_host_port, "^(.+:[0-9]+|env:.*)$", "A server: \
        HOST:PORT.";
    /// A base path.
    BasePath(String) = "base_path", parse_base_path, "^/.*$", "A path that begins with a slash; \
        `/` alone is the root.";
    /// A path template.
    Template(String) = "template", parse_template, "^(/.*)?$", "A path template: literals, {name}, \
        {name}:literal, and {*rest} at the end; \"\" is the base path itself.";
    /// A version segment.
    VersionText(String) = "version", parse_version, "^[A-Za-z0-9._~-]+$", "A version: one path \
        segment, for instance v1.";
}

/// Where a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file; one trailing line end is not part of the secret.
    File(PathBuf),
}

impl Rate {
    /// The limit with its burst; without one, as many at once as in one period.
    #[must_use]
    pub fn limit(&self, burst: Option<u32>) -> RateLimit {
        RateLimit {
            count: self.value.0,
            period: self.value.1,
            burst: burst.unwrap_or(self.value.0),
        }
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// A duration that may be nothing.
fn parse_grace(text: &str) -> Result<std::time::Duration, String> {
    if matches!(number_and_unit(text), Some((0, "ms" | "s" | "m" | "h" | "d"))) {
        return Ok(std::time::Duration::ZERO);
    }
    parse_duration(text)
}

/// A length of time as the YAML writes it.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text)
}

fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || {
        format!(
            "`{text}` is not a duration; write a whole number and a unit, for instance 500ms, 30s, \
                15m, 12h or 90d"
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    if unit.is_empty() {
        return Err(format!("`{text}` is a number without a unit; did you mean `{text}s`?"));
    }
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    // A century is beyond every use; it keeps all sums of seconds far from overflow.
    match number.checked_mul(milliseconds) {
        Some(total) if (1..=3_153_600_000_000).contains(&total) => {
            Ok(std::time::Duration::from_millis(total))
        }
        Some(0) => {
            Err(format!("`{text}`: a duration of nothing; leave the key out for its default"))
        }
        _ => Err(format!("`{text}` is longer than a hundred years")),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{text}` is not a size; write a whole number and a unit, for instance 512B, 32KiB, \
                10MiB or 1GiB"
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(bytes)
        .filter(|size| *size <= 1 << 40)
        .ok_or_else(|| format!("`{text}` is more than 1024GiB"))
}

fn parse_date(text: &str) -> Result<Timestamp, String> {
    let date: jiff::civil::Date =
        text.parse().ok().filter(|_| text.len() == 10).ok_or_else(|| {
            format!("`{text}` is not a date; write YYYY-MM-DD, for instance 2027-01-31")
        })?;
    let instant =
        date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| format!("`{text}` is out of range"))?;
    Ok(Timestamp(instant.timestamp().as_second()))
}

fn parse_instant(text: &str) -> Result<Timestamp, String> {
    let instant = text.parse::<jiff::Timestamp>();
    let wrong = |_| format!("`{text}` is not a moment; write for instance 2026-11-22T10:00:00Z");
    instant.map(|instant| Timestamp(instant.as_second())).map_err(wrong)
}

fn parse_address(text: &str) -> Result<std::net::IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IP address; write for instance 10.20.1.1"))
}

fn parse_listen(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not an address to listen on; write IP:PORT, for instance \
            127.0.0.1:8080 or [::]:8080"
        )
    })
}

fn parse_listen_at(text: &str) -> Result<crate::config::ListenAddress, String> {
    text.parse()
}

fn parse_host_port(text: &str) -> Result<(String, u16), String> {
    let parts = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(format!("`{text}` is no server; write HOST:PORT, for instance 10.0.0.5:6379")),
    }
}

fn parse_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("`{text}` is not an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "a URL with credentials in it; secrets are given as env:NAME or file:PATH".to_owned()
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` has a query or a fragment; leave them out"));
    }
    Ok(url)
}

/// A `StringOrURI` (RFC 7519 §2): what has a colon is a URI (RFC 3986 §3, §2).
fn parse_issuer(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 512 || text.chars().any(char::is_control) {
        return Err("an issuer is a text of 1 to 512 bytes without control characters".to_owned());
    }
    // Braces are for the place of the tenant.
    let Some((scheme, _)) = text.split_once(':') else { return Ok(text.to_owned()) };
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%{}".contains(&byte);
    let has_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if has_scheme && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` has a colon and is no URI: no token says it (RFC 7519 §2)"))
}

/// Whether a URL leads to this machine alone.
#[must_use]
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn parse_secret(text: &str) -> Result<SecretSource, String> {
    if let Some(name) = text.strip_prefix("env:") {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !name.is_empty() && name.bytes().all(valid) {
            return Ok(SecretSource::Env(name.to_owned()));
        }
        return Err("a secret from the environment is env:NAME, without a default".to_owned());
    }
    match text.strip_prefix("file:") {
        Some(path) if !path.is_empty() => Ok(SecretSource::File(PathBuf::from(path))),
        // The text is not repeated: it may be the secret.
        _ => Err("a secret stands here in the open; write env:NAME or file:PATH".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}` is not a rate; write for instance 100/s, 600/m or 1000/h");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count: u32 = count.parse().map_err(|_| wrong())?;
    let period = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    match count {
        0 => Err(format!("`{text}` would let nothing through; use a block for that")),
        count if count / period > 1_000_000 => {
            Err(format!("`{text}` is more than a million a second; leave the limit out"))
        }
        count => Ok((count, period)),
    }
}

fn parse_scope(text: &str) -> Result<String, String> {
    if crate::scope::is_scope_token(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a scope: visible ASCII without space, double quote and backslash (RFC \
                6749 §3.3)"
        ))
    }
}

fn parse_argon2id(text: &str) -> Result<String, String> {
    crate::client::secret::check_argon2id(text).map(|()| text.to_owned())
}

fn parse_host(text: &str) -> Result<String, String> {
    match crate::request::head::host_name(text) {
        Some(host) if host.eq_ignore_ascii_case(text) => Ok(host),
        _ => Err(format!(
            "`{text}` is not a host name; write for instance api.example.com, without port"
        )),
    }
}

fn parse_base_path(text: &str) -> Result<String, String> {
    if text == "/" {
        return Ok(String::new());
    }
    if text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains(['{', '}'])
        && crate::request::target::is_canonical_path(text)
    {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is not a base path; write for instance /api/now, without a slash at the end"
    ))
}

fn parse_template(text: &str) -> Result<String, String> {
    crate::policy::route::parse_template(text).map(|_| text.to_owned())
}

fn parse_version(text: &str) -> Result<String, String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'~' | b'.');
    if !text.is_empty() && text != "." && text != ".." && text.bytes().all(valid) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a version: one path segment of letters, digits, `-`, `_`, `.` and `~`"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_exact() {
        for (format, good, bad) in [
            (
                "duration",
                &["1ms", "30s", "15m", "12h", "90d", "8640000s"][..],
                &["30", "s", "1.5s", "-1s", "30 s", "1w", "0s", "99999999d", ""][..],
            ),
            ("size", &["1B", "32KiB", "10MiB", "1GiB"], &["32", "32KB", "32kib", "2000GiB", "-1B"]),
            (
                "date",
                &["2027-01-31"],
                &["2027-02-30", "31.01.2027", "2027-01-31T00:00:00Z", "2027-1-31"],
            ),
            (
                "listen",
                &["127.0.0.1:80", "[::]:80"],
                &["localhost:80", ":80", "127.0.0.1", "1.1.1.1:99999"],
            ),
            (
                "url",
                &["https://a.example/x", "http://127.0.0.1:80"],
                &["ftp://a", "a.example", "https://u:p@a/", "https://a/?x", "https://a/#x"],
            ),
            ("rate", &["100/s", "1/d"], &["0/s", "100", "100/w", "-1/s", "1.5/s"]),
            ("secret", &["env:A_1", "file:secrets/x"], &["hunter2", "env:", "env:A:-b", "file:"]),
            ("host", &["a.example", "127.0.0.1", "[::1]"], &["a.example:80", "a/b", "", "a b"]),
            (
                "base_path",
                &["/", "/api/now"],
                &["api", "/api/", "/a//b", "/a/../b", "/{x}", "/a?b", "/a#b"],
            ),
            ("version", &["v1", "2024-01-01"], &["", "v/1", "..", "v1;"]),
        ] {
            for text in good {
                assert_eq!(check(format, text), Ok(()), "{format} {text}");
            }
            for text in bad {
                assert!(check(format, text).is_err(), "{format} {text}");
            }
        }
    }

    #[test]
    fn a_secret_in_the_open_is_not_repeated_in_the_message() {
        assert!(!check("secret", "hunter2").unwrap_err().contains("hunter2"));
    }
}
