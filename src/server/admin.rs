//! The listeners for those who run the gateway: metrics and probes; and the admin listener with its
//! console, the JSON API behind it, and what scripts ask.

pub mod probes;
mod sessions;
pub mod console;
mod entry;
mod explain;
mod login;
mod acts;
mod draft;
pub mod view;
pub mod api;
mod openapi;
mod pages;

use std::net::TcpListener;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::config::Listener;
use crate::server::edge::serve_side;
use crate::server::edge::side::Side;
use console::Console;

/// Largest body taken.
const MAX_BODY: usize = 64 * 1024;

/// The background service of the admin listener.
#[derive(Debug)]
pub struct Admin {
    console: Arc<Console>,
    listener: TcpListener,
}

impl Admin {
    /// The service on a bound listener.
    #[must_use]
    pub const fn new(console: Arc<Console>, listener: TcpListener) -> Self {
        Self { console, listener }
    }
}

#[async_trait]
impl BackgroundService for Admin {
    async fn start(&self, shutdown: ShutdownWatch) {
        let router = Router::new()
            .route("/revoke", post(acts::revoke))
            .route("/explain", post(explain::explain))
            .route("/login", get(login::show_login))
            .route("/login/accept", post(login::accept_login))
            .route("/login/reject", post(login::reject_login))
            .merge(api::routes())
            .merge(pages::routes())
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(from_fn_with_state(self.console.clone(), entry::guard))
            .with_state(self.console.clone());
        let shared = &self.console.shared;
        let Some(address) = shared.fixed.admin else { return };
        let side = Side::new(shared.edge.clone(), router, MAX_BODY);
        let listener = Listener::side(address, shared.fixed.admin_tls);
        serve_side(&shared.edge, listener, &self.listener, side, shutdown).await;
    }
}
