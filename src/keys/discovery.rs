//! An issuer's metadata (OpenID Connect Discovery §4, RFC 8414 §3).

use serde_json::{Map, Value};

use super::fetch::{Fetch, FetchFault};

/// Why an issuer's metadata is not available.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DiscoveryFault {
    /// The issuer cannot be reached now.
    #[error("{0}")]
    Unreachable(String),
    /// It answers, and its answer stays wrong until it is changed.
    #[error("{0}")]
    Unusable(String),
}

/// The metadata of an issuer.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// The URL of the document.
    url: String,
    /// Its issuer.
    issuer: String,
    document: Map<String, Value>,
}

impl Discovered {
    /// Fetches the metadata. The document must name exactly this issuer.
    ///
    /// # Errors
    /// Says what was wrong, for the operator.
    pub async fn fetch(fetch: &Fetch, issuer: &str) -> Result<Self, DiscoveryFault> {
        let unreachable = |url: &str, fault: &FetchFault| {
            let text = format!("{url}: {fault}");
            // A server repeats its answer, unless it reports an outage of its own.
            let answered = matches!(fault, FetchFault::Status(..=428 | 430..=499)
                    | FetchFault::TooLarge
                    | FetchFault::Redirect(_)
                    | FetchFault::Coding(_));
            if answered {
                DiscoveryFault::Unusable(text)
            } else {
                DiscoveryFault::Unreachable(text)
            }
        };
        let base = issuer.trim_end_matches('/');
        let openid = format!("{base}/.well-known/openid-configuration");
        let (url, body) = match fetch.get(&openid).await {
            Ok(body) => (openid, body),
            Err(FetchFault::Status(404 | 410)) => {
                let url = oauth_metadata_url(base)
                    .ok_or_else(|| wrong(format!("{issuer}: not a URL")))?;
                let body = fetch.get(&url).await.map_err(|fault| unreachable(&url, &fault))?;
                (url, body)
            }
            Err(fault) => return Err(unreachable(&openid, &fault)),
        };
        let document = crate::token::json::Object::parse(&body)
            .map_err(|_| wrong(format!("{url}: not a JSON object")))?
            .to_map();
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(wrong(format!("{url}: the document is of another issuer than {issuer}")));
        }
        Ok(Self { url, issuer: issuer.to_owned(), document })
    }

    /// The `jwks_uri`, which must be on the issuer's own host unless its document may name others.
    ///
    /// # Errors
    /// It is missing, or on another host.
    pub fn jwks_uri(&self, any_host: bool) -> Result<String, DiscoveryFault> {
        let jwks = self.endpoint("jwks_uri")?;
        let host =
            |url: &str| url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
        if !any_host && host(&jwks) != host(&self.issuer) {
            return Err(wrong(format!(
                "{}: jwks_uri {jwks} is not on the issuer's host; configure it with `keys: {{ \
                    jwks_url: … }}`",
                self.url
            )));
        }
        Ok(jwks)
    }

    /// The URL of an endpoint. An issuer on https never names an http endpoint.
    ///
    /// # Errors
    /// It is missing, not a URL, or not secure.
    pub fn endpoint(&self, name: &str) -> Result<String, DiscoveryFault> {
        let text = self.document.get(name).and_then(Value::as_str);
        let text = text.ok_or_else(|| wrong(format!("{}: no {name}", self.url)))?;
        let parsed = url::Url::parse(text)
            .map_err(|_| wrong(format!("{}: {name} is not a URL", self.url)))?;
        let secure = parsed.scheme() == "https"
            || (parsed.scheme() == "http" && self.issuer.starts_with("http://"));
        if secure {
            Ok(text.to_owned())
        } else {
            Err(wrong(format!("{}: {name} {text} is not https", self.url)))
        }
    }

    /// A list of texts; `None` if the document lacks it.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.document.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.document.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

const fn wrong(text: String) -> DiscoveryFault {
    DiscoveryFault::Unusable(text)
}

/// RFC 8414 §3.1: the well-known part goes between host and path.
fn oauth_metadata_url(issuer: &str) -> Option<String> {
    let mut url = url::Url::parse(issuer).ok()?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    Some(url.into())
}
