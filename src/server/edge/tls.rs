//! TLS of a listener, from what the configuration has read: TLS 1.3 and 1.2 with AEAD suites,
//! HTTP/2 and HTTP/1.1 by ALPN.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};

use crate::config::tls::{HttpVersions, ListenerTls, provider};

/// The name of HTTP/2 in ALPN (RFC 9113 §3.1).
pub const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";

/// TLS of one listener, with the digest of what it was made from.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The library's form of it.
    pub config: Arc<ServerConfig>,
    digest: [u8; 32],
}

/// TLS for each listener. What has not changed is taken over from before: sessions go on that were
/// begun with it.
///
/// # Errors
/// The library refuses what was read, in words for the operator.
pub fn build(
    declared: &[Option<ListenerTls>],
    before: &[Option<Tls>],
) -> Result<Vec<Option<Tls>>, String> {
    let each = declared.iter().enumerate();
    each.map(|(at, declared)| one(declared.as_ref(), before.get(at).and_then(Option::as_ref)))
        .collect()
}

/// TLS of one listener.
///
/// # Errors
/// As [`build`].
pub fn one(declared: Option<&ListenerTls>, before: Option<&Tls>) -> Result<Option<Tls>, String> {
    let Some(declared) = declared else { return Ok(None) };
    let kept = before.filter(|tls| tls.digest == declared.digest);
    kept.map_or_else(|| new(declared), |kept| Ok(kept.clone())).map(Some)
}

fn new(declared: &ListenerTls) -> Result<Tls, String> {
    let said = |fault: &dyn std::fmt::Display| format!("listeners: tls: {fault}");
    let versions: &[_] = if declared.only_13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).map_err(|fault| said(&fault))?;
    let builder = match &declared.client_ca {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
            let verifier =
                if declared.client_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|fault| said(&fault))?)
        }
    };
    let mut config = builder.with_cert_resolver(declared.certificates.clone());
    let offered: &[&[u8]] = match declared.versions {
        HttpVersions::Both => &[H2, HTTP_11],
        HttpVersions::Http1 => &[HTTP_11],
        HttpVersions::Http2 => &[H2],
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    if declared.client_ca.is_some() {
        // A session that is resumed shows no certificate again: one that has expired since would
        // live on.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    } else {
        // Sessions are resumed without memory for each of them.
        config.ticketer =
            rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|fault| said(&fault))?;
    }
    Ok(Tls { config: Arc::new(config), digest: declared.digest })
}
