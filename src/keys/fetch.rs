//! The only outgoing HTTP clients: key sets, issuer metadata, and requests to others as their
//! client; traces for a collector. Limited in time and size, on the way and unpacked.

pub mod collector;

use std::io::Read as _;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use url::Url;

use crate::config::Outbound;
use crate::system::environment;

/// Largest answer accepted, in bytes, packed as well as unpacked.
pub const MAX_BYTES: usize = 150_000;
/// Time to connect.
const CONNECT: Duration = Duration::from_millis(1_500);
/// Total time per request, with its redirects.
const TOTAL: Duration = Duration::from_secs(5);
/// Redirects followed.
const MAX_REDIRECTS: usize = 3;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// The connection failed, broke, or had no answer in time.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// Another status than 200.
    #[error("status {0} instead of 200")]
    Status(u16),
    /// More than [`MAX_BYTES`].
    #[error("an answer over 150,000 bytes")]
    TooLarge,
    /// A redirect that is not followed.
    #[error("a redirect that is not followed: {0}")]
    Redirect(&'static str),
    /// A content coding that was not asked for, or an answer that is not what its coding says.
    #[error("an answer that cannot be unpacked: {0}")]
    Coding(&'static str),
}

/// The client.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Of requests without credentials.
    open: reqwest::Client,
    /// Of those with: a proxy that could read them is not used.
    confidential: reqwest::Client,
}

impl Fetch {
    /// Builds the client that reaches servers in this way.
    ///
    /// # Errors
    /// Certificates cannot be read, or a proxy of the environment is none.
    pub fn new(outbound: &Outbound) -> Result<Self, String> {
        Ok(Self { open: client(outbound, false)?, confidential: client(outbound, true)? })
    }

    /// Fetches a URL; returns the body of a 200 answer. At most three redirects are followed, to
    /// the same host and port, or from http to https on that host.
    ///
    /// # Errors
    /// The answer is missing, too large, or not a 200.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, FetchFault> {
        let fetched = tokio::time::timeout(TOTAL, self.follow(url)).await;
        fetched.unwrap_or_else(|_| Err(FetchFault::Unreachable("it takes too long".to_owned())))
    }

    async fn follow(&self, url: &str) -> Result<Vec<u8>, FetchFault> {
        let mut url = Url::parse(url)
            .map_err(|fault| FetchFault::Unreachable(format!("not a URL: {fault}")))?;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.open.get(url.clone()).header("accept", "application/json");
            let answer = request.header("accept-encoding", "gzip").send().await;
            let answer = answer.map_err(unreachable)?;
            match answer.status().as_u16() {
                200 => return body(answer).await,
                301 | 302 | 303 | 307 | 308 => url = target(&url, location(&answer)?)?,
                status => return Err(FetchFault::Status(status)),
            }
        }
        Err(FetchFault::Redirect("more than three in a row"))
    }

    /// Posts a form, with credentials (RFC 6749 §2.3.1) if given; returns status and body. No
    /// redirect is followed.
    ///
    /// # Errors
    /// There is no answer, or it is too large.
    pub async fn post_form(
        &self,
        url: &str,
        credentials: Option<(&str, &str)>,
        form: &str,
    ) -> Result<(u16, Vec<u8>), FetchFault> {
        let mut request = self
            .confidential
            .post(url)
            .header("accept", "application/json")
            .header("accept-encoding", "gzip")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        if let Some((id, secret)) = credentials {
            let encode = |text: &str| {
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
            };
            request = request.basic_auth(encode(id), Some(encode(secret)));
        }
        let answer = request.send().await.map_err(unreachable)?;
        Ok((answer.status().as_u16(), body(answer).await?))
    }
}

/// A client; a proxy is asked to connect to https servers (RFC 9110 §9.3.6), and sees no more than
/// their names. One that the configuration names fetches documents from plain servers too.
fn client(outbound: &Outbound, is_confidential: bool) -> Result<reqwest::Client, String> {
    let builder = builder(outbound, is_confidential)?;
    let builder = builder.timeout(TOTAL).pool_max_idle_per_host(0).http1_only();
    builder.build().map_err(|error| chain(&error))
}

/// What all clients have in common: how servers are reached and verified.
fn builder(outbound: &Outbound, is_confidential: bool) -> Result<reqwest::ClientBuilder, String> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("scopegate/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = proxy(outbound, is_confidential)? {
        builder = builder.proxy(proxy);
    }
    let authorities = outbound.ca.iter().flatten();
    let authorities = authorities.map(|der| reqwest::Certificate::from_der(der));
    let authorities: Vec<_> = authorities.collect::<Result<_, _>>().map_err(|e| chain(&e))?;
    if !authorities.is_empty() {
        builder = builder.tls_certs_merge(authorities);
    }
    Ok(builder)
}

fn proxy(outbound: &Outbound, is_confidential: bool) -> Result<Option<reqwest::Proxy>, String> {
    if let Some(declared) = &outbound.proxy {
        let made = if is_confidential {
            reqwest::Proxy::https(declared)
        } else {
            reqwest::Proxy::all(declared)
        };
        return made.map(Some).map_err(|error| format!("proxy: {}", chain(&error)));
    }
    let Some(found) = environment::https_proxy() else { return Ok(None) };
    // Its text is not repeated: it may hold a password.
    let made = reqwest::Proxy::https(found)
        .map_err(|_| "HTTPS_PROXY in the environment is no URL of a proxy".to_owned())?;
    let except = environment::no_proxy().and_then(|list| reqwest::NoProxy::from_string(&list));
    Ok(Some(made.no_proxy(except)))
}

fn location(answer: &reqwest::Response) -> Result<&str, FetchFault> {
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
    location.ok_or(FetchFault::Redirect("without a Location"))
}

/// Where a redirect leads, if it may: a server that is trusted for a document names no other.
fn target(from: &Url, location: &str) -> Result<Url, FetchFault> {
    let to = from.join(location).map_err(|_| FetchFault::Redirect("its Location is no URL"))?;
    if !to.username().is_empty() || to.password().is_some() {
        return Err(FetchFault::Redirect("its Location has credentials"));
    }
    if to.host_str() != from.host_str() {
        return Err(FetchFault::Redirect("it leads to another host"));
    }
    match (from.scheme(), to.scheme()) {
        ("http", "https") => Ok(to),
        (one, other) if one != other => Err(FetchFault::Redirect("it leads from https elsewhere")),
        _ if to.port_or_known_default() == from.port_or_known_default() => Ok(to),
        _ => Err(FetchFault::Redirect("it leads to another port")),
    }
}

async fn body(answer: reqwest::Response) -> Result<Vec<u8>, FetchFault> {
    let codings = answer.headers().get_all("content-encoding").iter();
    let codings: Vec<String> =
        codings.map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase()).collect();
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreachable)?;
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchFault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    match codings.iter().map(|coding| coding.trim()).collect::<Vec<_>>().as_slice() {
        [] | ["" | "identity"] => Ok(body),
        ["gzip" | "x-gzip"] => unpack(&body),
        _ => Err(FetchFault::Coding("its Content-Encoding is not gzip")),
    }
}

/// Unpacks gzip (RFC 1952), and no more of it than may be accepted.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, FetchFault> {
    let mut body = Vec::new();
    let mut unpacked = MultiGzDecoder::new(packed).take(MAX_BYTES as u64 + 1);
    unpacked.read_to_end(&mut body).map_err(|_| FetchFault::Coding("it is no gzip"))?;
    if body.len() > MAX_BYTES { Err(FetchFault::TooLarge) } else { Ok(body) }
}

fn unreachable(error: reqwest::Error) -> FetchFault {
    FetchFault::Unreachable(chain(&error.without_url()))
}

/// An error with its causes: the outermost has few details.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_redirect_stays_on_its_server_or_becomes_https_there() {
        for (from, location, leads_to) in [
            ("https://a.example/x", "/y", Some("https://a.example/y")),
            ("https://a.example/x/", "y?z", Some("https://a.example/x/y?z")),
            ("https://a.example/x", "https://A.EXAMPLE:443/y", Some("https://a.example/y")),
            ("https://a.example/x", "//a.example/y", Some("https://a.example/y")),
            ("http://a.example/x", "https://a.example/y", Some("https://a.example/y")),
            ("http://a.example:80/x", "https://a.example:8443/y", Some("https://a.example:8443/y")),
            ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/y", Some("http://127.0.0.1:8080/y")),
            ("https://a.example/x", "http://a.example/y", None),
            ("https://a.example/x", "http://a.example:443/y", None),
            ("https://a.example/x", "https://b.example/y", None),
            ("https://a.example/x", "https://a.example.b.example/y", None),
            ("https://a.example/x", "https://a.example@b.example/y", None),
            ("https://a.example/x", "https://u:p@a.example/y", None),
            ("https://a.example/x", "https://a.example:8443/y", None),
            ("https://a.example/x", "//b.example/y", None),
            ("https://a.example/x", "\\\\b.example\\y", None),
            ("https://a.example/x", "https://169.254.169.254/", None),
            ("http://a.example/x", "http://a.example:22/", None),
            ("http://a.example/x", "http://b.example/", None),
            ("http://a.example/x", "https://b.example/", None),
            ("http://127.0.0.1/x", "http://localhost/", None),
            ("https://a.example/x", "file:///etc/passwd", None),
            ("https://a.example/x", "ftp://a.example/y", None),
            ("https://a.example/x", "https://", None),
        ] {
            let found = target(&Url::parse(from).unwrap(), location);
            let found = found.ok().map(String::from);
            assert_eq!(found.as_deref(), leads_to, "{from} -> {location}");
        }
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_bounded_unpacked() {
        assert_eq!(unpack(&packed(b"{}")).unwrap(), b"{}");
        let twice = [packed(b"{"), packed(b"}")].concat();
        assert_eq!(unpack(&twice).unwrap(), b"{}", "several members are one text");
        assert_eq!(unpack(&packed(&vec![b' '; MAX_BYTES])).unwrap().len(), MAX_BYTES);
        let bomb = packed(&vec![b' '; 100_000_000]);
        assert!(bomb.len() < MAX_BYTES);
        assert_eq!(unpack(&bomb), Err(FetchFault::TooLarge));
        let whole = packed(b"{\"keys\":[]}");
        for bad in [&b"{}"[..], &whole[..whole.len() - 4], b"", &whole[..5]] {
            assert!(matches!(unpack(bad), Err(FetchFault::Coding(_))), "{bad:?}");
        }
    }
}
