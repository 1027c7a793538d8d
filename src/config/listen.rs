//! Addresses that are listened on: an IP address with a port, or the path of a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// What a path goes behind.
const UNIX: &str = "unix:";
/// Longest path of a Unix socket, in bytes (`sun_path` of unix(7), without its zero).
const LONGEST: usize = 107;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(Arc<Path>),
}

impl ListenAddress {
    /// The path of a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "`{text}` is not an address to listen on; write IP:PORT, for instance \
                     127.0.0.1:8080 or [::]:8080, or unix:PATH"
                )
            });
        };
        // It goes into configurations of hosts as it is.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-@+".contains(&byte);
        let is_plain = path.bytes().all(plain);
        if !path.starts_with('/') || path.ends_with('/') || !is_plain {
            return Err(format!(
                "`{text}` is no Unix socket; write unix: and an absolute path of letters, digits \
                 and /._-@+, for instance unix:/run/scopegate/decide.sock"
            ));
        }
        if path.len() > LONGEST {
            return Err(format!(
                "the path of a Unix socket has {LONGEST} bytes at most, and this one has {}",
                path.len()
            ));
        }
        Ok(Self::Unix(PathBuf::from(path).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "unix:/run/scopegate/decide.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        let longest = format!("unix:/{}", "a".repeat(LONGEST - 1));
        assert!(longest.parse::<ListenAddress>().is_ok());
        for wrong in [
            "8080",
            "localhost:80",
            "unix:",
            "unix:run/x",
            "unix:/",
            "unix:/a b",
            "unix:/a;b",
            &format!("{longest}a"),
        ] {
            assert!(wrong.parse::<ListenAddress>().is_err(), "{wrong}");
        }
    }
}
