//! What serves a request of HTTP/2: the proxy library's loop, or the answer to a host that asks by
//! gRPC.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use super::driver::Gateway;
use crate::server::edge::conn::Conn;

/// Serves requests of HTTP/2.
pub struct Streams {
    gateway: Gateway,
    library: Arc<HttpProxy<Gateway>>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams {
    /// What serves them over a gateway, with the library's loop over the same one.
    #[must_use]
    pub const fn new(gateway: Gateway, library: Arc<HttpProxy<Gateway>>) -> Self {
        Self { gateway, library }
    }
}

#[async_trait]
impl HttpServerApp for Streams {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if Conn::of(&session).is_some_and(|conn| conn.decides.is_some()) {
            // A stream is used once.
            self.gateway.check(&mut session).await;
            return None;
        }
        self.library.process_new_http(session, shutdown).await
    }

    async fn http_cleanup(&self) {
        self.library.http_cleanup().await;
    }
}
