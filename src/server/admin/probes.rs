//! The listener for those who run the gateway: /metrics, /healthz, /readyz, nothing else.

use std::net::TcpListener;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::config::Listener;
use crate::server::edge::serve_side;
use crate::server::edge::side::Side;
use crate::server::state::Shared;
use crate::telemetry::metrics::Scrape;

/// Largest body of a request, which nothing here reads.
const MAX_BODY: usize = 1024;

/// How long the store may take to answer for the gateway to be ready.
const STORE: std::time::Duration = std::time::Duration::from_secs(1);

/// The background service.
#[derive(Debug)]
pub struct Operations {
    shared: Arc<Shared>,
    listener: TcpListener,
}

impl Operations {
    /// The service on a bound listener.
    #[must_use]
    pub const fn new(shared: Arc<Shared>, listener: TcpListener) -> Self {
        Self { shared, listener }
    }
}

#[async_trait]
impl BackgroundService for Operations {
    async fn start(&self, shutdown: ShutdownWatch) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(self.shared.clone());
        let Some(address) = self.shared.fixed.metrics else { return };
        let side = Side::new(self.shared.edge.clone(), router, MAX_BODY);
        serve_side(
            &self.shared.edge,
            Listener::side(address, false),
            &self.listener,
            side,
            shutdown,
        )
        .await;
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let snapshot = shared.snapshot();
    let scrape = Scrape {
        cache_entries: shared.tokens.cache.len(),
        connections: shared.edge.connections.open(),
        revocations: shared.tokens.revocations.len(),
        revocations_age: shared.tokens.revocations.age(),
        servers: snapshot
            .all_servers()
            .map(|servers| (servers.declared.name.clone(), servers.count()))
            .collect(),
        certificates: snapshot.expiries().map(|(at, expiry)| (at.clone(), expiry)).collect(),
        jwks: snapshot.all_keys().map(|keys| (keys.name().clone(), keys.age())).collect(),
    };
    match shared.metrics.render(&scrape) {
        Ok(text) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        ),
        Err(error) => {
            let text = error.to_string().into_bytes();
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
                text,
            )
        }
    }
}

/// Ready means configuration, store and our own keys; the first and the last are there since the
/// start. And that requests can come in: listeners accept, and will go on to.
async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    if !shared.process.life.is_serving() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned());
    }
    if shared.process.life.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let asked = shared.clone();
    let ping = tokio::task::spawn_blocking(move || asked.store.ping());
    match tokio::time::timeout(STORE, ping).await {
        Ok(Ok(Ok(()))) => {
            // Which set of files is in force: that a change has arrived can be proven.
            let text = format!("ready\nset {}\n", shared.snapshot().config.version);
            (StatusCode::OK, text)
        }
        Ok(Ok(Err(fault))) => (StatusCode::SERVICE_UNAVAILABLE, format!("store: {fault}\n")),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "store: no answer\n".to_owned()),
    }
}
