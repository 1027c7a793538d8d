//! The only outgoing HTTP client: key sets, issuer metadata, and requests to others as their
//! client. Limited in time and size, follows no redirect.

use std::time::Duration;

use futures_util::StreamExt;

/// Largest answer accepted, in bytes.
pub const MAX_BYTES: usize = 150_000;
/// Time to connect.
const CONNECT: Duration = Duration::from_millis(1_500);
/// Total time per request.
const TOTAL: Duration = Duration::from_secs(5);

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
}

/// The client.
#[derive(Clone, Debug)]
pub struct Fetch(reqwest::Client);

impl Fetch {
    /// Builds the client.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new() -> Result<Self, String> {
        reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent(concat!("scopegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Self)
            .map_err(|error| chain(&error))
    }

    /// Fetches a URL; returns the body of a 200 answer.
    ///
    /// # Errors
    /// The answer is missing, too large, or not a 200.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, FetchFault> {
        let request = self.0.get(url).header("accept", "application/json");
        let answer = request.send().await.map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchFault::Status(answer.status().as_u16()));
        }
        body(answer).await
    }

    /// Posts a form, with credentials (RFC 6749 §2.3.1) if given; returns status and body.
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
            .0
            .post(url)
            .header("accept", "application/json")
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

async fn body(answer: reqwest::Response) -> Result<Vec<u8>, FetchFault> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreachable)?;
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchFault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
