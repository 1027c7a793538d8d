//! Where the lines of a head that leaves us are written: the bytes of HTTP/1, or the library's map.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use pingora::{Error, ErrorType, OrErr, Result};

/// A head that is being written.
pub trait Lines {
    /// A line as it came and was read strictly, its name in lower case.
    ///
    /// # Errors
    /// It cannot be one of a header.
    fn keep(&mut self, name: &str, value: &[u8]) -> Result<()>;

    /// A line of our own, behind those of the same name.
    ///
    /// # Errors
    /// The value cannot be one of a header.
    fn put(&mut self, name: &HeaderName, value: &[u8]) -> Result<()>;

    /// A line of our own whose value is a secret.
    ///
    /// # Errors
    /// As [`Lines::put`].
    fn put_secret(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        self.put(name, value)
    }
}

/// A head as the bytes of HTTP/1 (RFC 9112 §5).
#[derive(Debug)]
pub struct Wire<'a>(pub &'a mut Vec<u8>);

impl Lines for Wire<'_> {
    fn keep(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.0.reserve(name.len() + value.len() + 4);
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn put(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "a value of ours");
        }
        self.keep(name.as_str(), value)
    }
}

impl Lines for HeaderMap {
    fn keep(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .or_err(ErrorType::InvalidHTTPHeader, "a name")?;
        self.append(name, value_of(value)?);
        Ok(())
    }

    fn put(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        self.append(name.clone(), value_of(value)?);
        Ok(())
    }

    fn put_secret(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        let mut value = value_of(value)?;
        value.set_sensitive(true);
        self.append(name.clone(), value);
        Ok(())
    }
}

/// The lines of an answer of our own, before it is known how they are written.
#[derive(Debug, Default)]
pub struct OwnLines(pub Vec<(HeaderName, Vec<u8>)>);

impl Lines for OwnLines {
    fn keep(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .or_err(ErrorType::InvalidHTTPHeader, "a name")?;
        self.put(&name, value)
    }

    fn put(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        self.0.push((name.clone(), value.to_vec()));
        Ok(())
    }
}

fn value_of(value: &[u8]) -> Result<HeaderValue> {
    HeaderValue::from_bytes(value).or_err(ErrorType::InvalidHTTPHeader, "a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_ours_ends_its_line() {
        let (name, mut bytes) = (HeaderName::from_static("x-auth-client"), Vec::new());
        for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0"] {
            assert!(Wire(&mut bytes).put(&name, value.as_bytes()).is_err(), "{value:?}");
            assert!(HeaderMap::new().put(&name, value.as_bytes()).is_err(), "{value:?}");
        }
        Wire(&mut bytes).put(&name, b"a").unwrap();
        assert_eq!(bytes, b"x-auth-client: a\r\n");
    }
}
