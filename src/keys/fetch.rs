//! The one outgoing HTTP client: key sets and issuer metadata. Bounded in time and size, follows no redirect, sends no
//! credentials.

use std::time::Duration;

use futures_util::StreamExt;

/// Largest answer read, in bytes.
pub const MAX_BYTES: usize = 150_000;
/// Time to connect.
const CONNECT: Duration = Duration::from_millis(1_500);
/// Time for everything.
const TOTAL: Duration = Duration::from_secs(5);

/// Why an answer was not got.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// No connection, no answer in time, or a broken one.
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

    /// The body of a 200 answer.
    ///
    /// # Errors
    /// Everything else.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, FetchFault> {
        let unreachable = |error: reqwest::Error| FetchFault::Unreachable(chain(&error.without_url()));
        let answer = self.0.get(url).header("accept", "application/json").send().await.map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchFault::Status(answer.status().as_u16()));
        }
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
}

/// An error with its causes: the outermost alone says little.
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
